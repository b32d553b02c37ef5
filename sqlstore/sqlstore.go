// Package sqlstore keeps credit ledgers in an SQL database. It is a [store.Store]
// on a pool of connections that the application opens, with the driver of its
// choice; the package imports none.
//
//	db, err := sqlx.Open("sqlite", sqlstore.SQLiteDSN("credit.db")) // modernc.org/sqlite
//	s, err := sqlstore.New(db, sqlstore.SQLite)
//	err = s.Migrate(ctx)
//	ledger, err := store.Open(ctx, s, distributor, store.Options{})
//
// Amounts are kept as whole millionths, times as whole microseconds. The views
// <prefix>pool_view, <prefix>reseller_view and <prefix>record_view show them as
// exact decimals and ISO times to people who look with SQL. Only the library
// writes: rows that are changed by other means break the chain, and
// [store.Ledger.Check] finds out.
package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// Store keeps ledgers in one database. It implements [store.Store], is safe for
// concurrent use, and is made by [New]. It holds prepared statements for as long
// as the pool is open: make one for each pool and keep it.
type Store struct {
	db         *sqlx.DB
	tx         Tx // nil unless made by WithTx or Hold
	dialect    Dialect
	prefix     string // of every table in a statement, with the schema before it
	names      string // the prefix alone
	schema     string // "" is the search path's
	statements *statementCache
	turn       chan struct{} // full while somebody writes, where one writes at a time
}

var (
	_ store.Store     = (*Store)(nil)
	_ store.Holder    = (*Store)(nil)
	_ store.Confirmer = (*Store)(nil)
)

// Option changes how [New] makes a store.
type Option func(*Store) error

const (
	defaultPrefix = "credit_"
	maxPrefix     = 20
	checkTime     = 10 * time.Second
)

// WithPrefix sets what the names of all tables, views and indexes begin with, so
// that several stores fit in one database. The default is "credit_". A prefix is
// a lower-case letter, followed by lower-case letters, digits and underscores, at
// most 20 bytes together; anything else is a [*credit.InvalidError].
func WithPrefix(prefix string) Option {
	return func(s *Store) error {
		if !validPrefix(prefix) {
			return &credit.InvalidError{Field: "table prefix", Problem: fmt.Sprintf(
				"must be a lower-case letter and then lower-case letters, digits and underscores, at most %d bytes, like %s", maxPrefix, defaultPrefix)}
		}
		s.prefix = prefix
		return nil
	}
}

// WithSchema names the schema of PostgreSQL that the tables are in, which must
// exist. The default is the first of the search path, which is a setting of the
// session and so does not survive a pooler in transaction mode, unless it is set
// for the role or the database. A name is made like a prefix.
func WithSchema(name string) Option {
	return func(s *Store) error {
		if !validPrefix(name) {
			return &credit.InvalidError{Field: "schema", Problem: fmt.Sprintf(
				"must be a lower-case letter and then lower-case letters, digits and underscores, at most %d bytes", maxPrefix)}
		}
		s.schema = name
		return nil
	}
}

// validPrefix is the one gate between a name and the text of a statement.
func validPrefix(s string) bool {
	if len(s) < 1 || len(s) > maxPrefix || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

// New returns a store on the pool db, which stays the application's to configure
// and to close. Within ten seconds it looks at two connections (one, if the pool
// has no more) and checks the settings that the dialect needs; what does not fit
// is an error that names the setting, what it is, what it must be, and how to get
// there. New changes nothing, neither in the database nor on a connection, and
// creates no table; that is [Store.Migrate]. It begins a transaction and rolls it
// back, to see that this works, and so may wait for a writer; while a file of SQLite is
// busy, it tries for five seconds to get each connection. An *sql.DB becomes an *sqlx.DB
// by sqlx.NewDb(db, "the driver's name").
func New(db *sqlx.DB, dialect Dialect, options ...Option) (*Store, error) {
	if db == nil || dialect == nil {
		return nil, errors.New("sqlstore: a database and a dialect are needed")
	}
	s := &Store{db: db, dialect: dialect, prefix: defaultPrefix, statements: &statementCache{known: map[statementKey]*statement{}},
		turn: make(chan struct{}, 1)}
	for _, option := range options {
		if err := option(s); err != nil {
			return nil, err
		}
	}
	s.names = s.prefix
	if s.schema != "" {
		if dialect != Postgres {
			return nil, &credit.InvalidError{Field: "schema", Problem: "is an option of PostgreSQL only"}
		}
		s.schema += "."
		s.prefix = s.schema + s.names
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkTime)
	defer cancel()
	var err error
	if s.dialect, err = dialect.check(ctx, db); err != nil {
		return nil, fmt.Errorf("sqlstore: %w", dialect.advised(err))
	}
	return s, nil
}
