package sqlstore_test

import (
	"path/filepath"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // the driver of the tests; the library has none

	"github.com/resellerkit/credit/sqlstore"
)

// openFile opens a pool on a database file with all that New wants.
func openFile(t testing.TB, path string, connections int) *sqlx.DB {
	t.Helper()
	db, err := sqlx.Open("sqlite", sqlstore.SQLiteDSN(path))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	db.SetMaxOpenConns(connections)
	return db
}

// newStore returns a migrated store on a new file.
func newStore(t testing.TB) (*sqlstore.Store, *sqlx.DB) {
	t.Helper()
	db := openFile(t, filepath.Join(t.TempDir(), "credit.db"), 0)
	s, err := sqlstore.New(db, sqlstore.SQLite)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	return s, db
}
