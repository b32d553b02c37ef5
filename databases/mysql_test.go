package databases_test

import (
	"os"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
	"github.com/resellerkit/credit/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }

// openMySQL opens a pool on a DSN after it was changed.
func openMySQL(t testing.TB, dsn string, change func(*mysql.Config)) *sqlx.DB {
	t.Helper()
	c, err := mysql.ParseDSN(dsn)
	require.NoError(t, err)
	if change != nil {
		change(c)
	}
	db, err := sqlx.Open("mysql", c.FormatDSN())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	return db
}

func isolation(level string) func(*mysql.Config) {
	return func(c *mysql.Config) {
		if c.Params == nil {
			c.Params = map[string]string{}
		}
		c.Params["tx_isolation"] = "'" + level + "'"
	}
}

func newMySQL(t testing.TB, db *sqlx.DB, options ...sqlstore.Option) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.New(db, sqlstore.MySQL, options...)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	return s
}

func TestMySQLConformance(t *testing.T) {
	for _, name := range []string{server.MariaDB, server.MariaDBSnapshot} {
		for _, level := range []string{"READ-COMMITTED", "REPEATABLE-READ"} {
			t.Run(name+" "+level, func(t *testing.T) {
				dsns := map[store.Store]string{}
				storetest.Run(t, storetest.Harness{
					Open: func(t testing.TB) store.Store {
						dsn := server.Start(t, name)
						s := newMySQL(t, openMySQL(t, dsn, isolation(level)))
						dsns[s] = dsn
						return s
					},
					Reopen: func(t testing.TB, s store.Store) store.Store {
						return newMySQL(t, openMySQL(t, dsns[s], isolation(level)))
					},
				})
			})
		}
	}
}
