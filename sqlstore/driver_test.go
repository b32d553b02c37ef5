package sqlstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"
	"modernc.org/sqlite"

	"github.com/resellerkit/credit/sqlstore"
)

// faultyDriver is SQLite behind a driver whose transactions misbehave.
type faultyDriver struct {
	dsn string
	// connect may refuse a connection; nil refuses none.
	connect func() error
	// begin and commit take the place of the driver's own; nil leaves it alone.
	begin  func() (driver.Tx, error)
	commit func(commit func() error) error
}

// openFaulty opens a pool on a database file.
func openFaulty(t testing.TB, d *faultyDriver, path string) *sqlx.DB {
	t.Helper()
	d.dsn = sqlstore.SQLiteDSN(path)
	db := sqlx.NewDb(sql.OpenDB(d), "sqlite")
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// codedError is an error of SQLite with this result code.
type codedError int

func (e codedError) Error() string { return fmt.Sprintf("refused with code %d", int(e)) }
func (e codedError) Code() int     { return int(e) }

func (d *faultyDriver) Driver() driver.Driver { return nil }

func (d *faultyDriver) Connect(context.Context) (driver.Conn, error) {
	if d.connect != nil {
		if err := d.connect(); err != nil {
			return nil, err
		}
	}
	conn, err := (&sqlite.Driver{}).Open(d.dsn)
	if err != nil {
		return nil, err
	}
	all, ok := conn.(sqliteConn)
	if !ok {
		return nil, errors.New("the driver lacks an interface that the test forwards")
	}
	return faultyConn{all, d}, nil
}

// sqliteConn is what database/sql looks for on a connection.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

type faultyConn struct {
	sqliteConn
	d *faultyDriver
}

func (c faultyConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	if c.d.begin != nil {
		return c.d.begin()
	}
	tx, err := c.sqliteConn.BeginTx(ctx, o)
	if err != nil || c.d.commit == nil {
		return tx, err
	}
	return faultyTx{tx, c.d}, nil
}

type faultyTx struct {
	driver.Tx
	d *faultyDriver
}

func (tx faultyTx) Commit() error { return tx.d.commit(tx.Tx.Commit) }

// idleTx is a transaction that does nothing.
type idleTx struct{}

func (idleTx) Commit() error   { return nil }
func (idleTx) Rollback() error { return nil }
