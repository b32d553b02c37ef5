package sqlstore

import (
	"context"
	"database/sql"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// Dialect is a sort of database: [SQLite], [Postgres] or [MySQL]. It is opaque;
// the set is this package's.
type Dialect interface {
	// folder is where its migrations are, below migrations/.
	folder() string
	// schema is the table of the migration tool, and migrationLock keeps two
	// migrations from running at the same time; nil if a migration is one
	// transaction, so that the second one finds the work done.
	schema(table string) (database.Store, error)
	migrationLock() (lock.SessionLocker, error)

	// check refuses a pool that does not have what the store needs, and returns the
	// dialect as the server behind it speaks it.
	check(ctx context.Context, db *sqlx.DB) (Dialect, error)

	// bind is how parameters are written, in the terms of sqlx: sqlx.QUESTION …
	bind() int
	// prepares tells whether statements are prepared and kept. Through a pooler, or
	// on a cluster, a prepared statement does harm.
	prepares() bool
	// transaction are the statements that begin and commit a transaction which ends
	// with its context; empty if there is no server: none that can hang, so that an
	// [sql.Tx] does, and none where writers queue, so that they take turns in the store.
	transaction() (begin, commit string)
	// id is how an id is passed to the driver.
	id(uuid.UUID) any
	// snapshot is the sort of transaction that reads one consistent state.
	snapshot() *sql.TxOptions
	// create inserts a ledger unless it is there.
	create(prefix string) string
	// beyond is the condition that a row comes strictly after a position in the
	// order of (column, id), or in the reverse one, and its parameters.
	beyond(ascending bool, column string, value, id any) (condition string, args []any)
	// contains is the condition that a column contains its parameter, byte by byte,
	// whatever signs there are in it.
	contains(column string) string
	// div is the operator that divides whole numbers and drops the rest.
	div() string

	// using is what makes a statement use an index, after the name of the table; an
	// empty index is the primary key. It is empty for a database that finds the index
	// by itself.
	using(index string) string
	// resellers is the source of rows of resellers, r, that an index finds. Their
	// profiles and figures are there only if they are asked for, or if the index has
	// some of them.
	resellers(prefix, index string, p parts) string
	// join adds to each row of what stands before it these columns of the one row of a
	// source, r, that has a key.
	join(columns, source, key string) string

	// begun fails unless the caller's transaction is there, on a database that takes
	// one back by itself and goes on without.
	begun(ctx context.Context, tx executor) error
	// lock is a statement that holds a ledger until the transaction ends, and returns
	// its distributorColumns, and the statement's parameters.
	lock(prefix string, ledger uuid.UUID) (text string, args []any)

	// current ends every SELECT of a table in the caller's transaction, so that it
	// reads what is committed now and not what the transaction has begun with. Empty,
	// if whoever sees an older state cannot write.
	current() string
	// load reads the head and what is asked for in one snapshot; in the caller's
	// transaction the ledger is locked.
	load(ctx context.Context, s *Store, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error)
	// confirm makes durable what was read; see [store.Confirmer].
	confirm(ctx context.Context, s *Store, ledger uuid.UUID) error
	// append writes a batch; see [store.Store]. It classifies its errors.
	append(ctx context.Context, s *Store, ledger uuid.UUID, expected credit.Head, b store.Batch) error

	// class says what an error of the driver means. A context error and
	// [driver.ErrBadConn] are not asked for.
	class(err error) class
	// advised adds what to do to an error whose text does not tell.
	advised(err error) error
	// unmigrated tells whether the error is a table or a column that is missing.
	unmigrated(err error) bool
}

// class is what the code of a database's error means for the transaction.
type class int

const (
	// failed: the statement cannot succeed. Before the commit was sent, nothing
	// was written; from then on the outcome is unknown.
	failed class = iota
	// temporary: it may succeed later. Before the commit was sent, nothing was
	// written; from then on the outcome is unknown.
	temporary
	// rolledBack: it may succeed later, and nothing was written, even if it is the
	// commit that says so.
	rolledBack
)

// parts are what of a reseller a statement needs, besides id and status.
type parts struct{ profiles, figures bool }

// beyondRow compares rows.
func beyondRow(ascending bool, column string, value, id any) (condition string, args []any) {
	if ascending {
		return "(" + column + ", id) > (?, ?)", []any{value, id}
	}
	return "(" + column + ", id) < (?, ?)", []any{value, id}
}
