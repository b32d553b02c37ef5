package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite" // the driver sqlite

	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/sqlstore"
)

// target is a sort of store.
type target struct {
	name    string
	dialect sqlstore.Dialect // nil: in memory
	server  string           // as package server names it; empty: none
	driver  string
	hand    wording
}

var (
	memory   = target{name: "memory"}
	sqlite   = target{name: "sqlite", dialect: sqlstore.SQLite, driver: "sqlite", hand: sqliteByHand}
	postgres = target{name: "postgres", dialect: sqlstore.Postgres, server: server.Postgres15, driver: "pgx", hand: postgresByHand}
	mariadb  = target{name: "mariadb", dialect: sqlstore.MySQL, server: server.MariaDB, driver: "mysql", hand: mariadbByHand}
)

func targets() []target { return []target{memory, sqlite, postgres, mariadb} }

// databases are the targets that are databases.
func databases() []target { return targets()[1:] }

// scope is the life of one throwaway database, with what was made in it.
type scope struct {
	target
	folder string
	dsn    string
	books  map[string][]*book // by the prefix of their tables
	keyed  map[string]bool    // the prefixes whose keys have an index
	db     *sqlx.DB           // shared
	pools  []*sqlx.DB         // of the comparison that is being made
	// started are the processes that work in the database.
	started []*worker
	ends    []func() error
}

func newScope(t target, folder string) *scope {
	return &scope{target: t, folder: folder, books: map[string][]*book{}, keyed: map[string]bool{}}
}

// close ends what was begun, the last first.
func (s *scope) close() error {
	err := s.finish()
	for _, end := range slices.Backward(s.ends) {
		err = errors.Join(err, end())
	}
	s.ends = nil
	return err
}

func (s *scope) atEnd(end func() error) { s.ends = append(s.ends, end) }

// finish closes the pools of one comparison, so that the next one may have as many
// connections.
func (s *scope) finish() error {
	var err error
	for _, db := range s.pools {
		err = errors.Join(err, db.Close())
	}
	s.pools = nil
	return err
}

// address returns the database's data source name, and creates it at the first
// call.
func (s *scope) address(ctx context.Context) (string, error) {
	if s.dsn != "" {
		return s.dsn, nil
	}
	if s.server == "" {
		dir, err := os.MkdirTemp(s.folder, "credit-bench-")
		if err != nil {
			return "", err
		}
		s.atEnd(func() error { return os.RemoveAll(dir) })
		s.dsn = sqlstore.SQLiteDSN(filepath.Join(dir, "credit.db"))
		return s.dsn, nil
	}
	dsn, drop, err := server.Open(ctx, s.server)
	if err != nil {
		return "", err
	}
	s.atEnd(func() error { return drop(context.WithoutCancel(ctx)) })
	s.dsn = dsn
	return dsn, nil
}

// shared is the pool of all ledgers that the library keeps in the database.
func (s *scope) shared(ctx context.Context) (*sqlx.DB, error) {
	if s.db != nil {
		return s.db, nil
	}
	dsn, err := s.address(ctx)
	if err != nil {
		return nil, err
	}
	db, err := openPool(s.driver, dsn, engineConnections)
	if err != nil {
		return nil, err
	}
	s.db = db
	s.atEnd(db.Close)
	return db, nil
}

// pool opens a pool for one comparison, with so many connections, all of them kept.
// Its transactions are READ COMMITTED without a statement that says so in each of
// them. On PostgreSQL that is the default, and SQLite has one isolation.
func (s *scope) pool(ctx context.Context, connections int) (*sqlx.DB, error) {
	dsn, err := s.address(ctx)
	if err != nil {
		return nil, err
	}
	if s.driver == "mysql" {
		config, err := mysql.ParseDSN(dsn)
		if err != nil {
			return nil, err
		}
		config.Params = map[string]string{"tx_isolation": "'READ-COMMITTED'"}
		dsn = config.FormatDSN()
	}
	db, err := openPool(s.driver, dsn, connections)
	if err == nil {
		s.pools = append(s.pools, db)
	}
	return db, err
}

func openPool(driver, dsn string, connections int) (*sqlx.DB, error) {
	db, err := sqlx.Open(driver, dsn)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", driver, err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}
