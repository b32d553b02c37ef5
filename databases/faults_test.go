package databases_test

import (
	"database/sql"
	"database/sql/driver"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
	"github.com/resellerkit/credit/store/storetest/sqlfault"
)

// Every fault at every statement of every command, with each driver.
func TestFaultsEverywhere(t *testing.T) {
	for _, c := range []struct {
		name, server, driver string
		dialect              sqlstore.Dialect
		connector            func(dsn string) (driver.Connector, error)
	}{
		{"postgres pgx", server.Postgres15, "pgx", sqlstore.Postgres, func(dsn string) (driver.Connector, error) {
			config, err := pgx.ParseConfig(dsn)
			if err != nil {
				return nil, err
			}
			return stdlib.GetConnector(*config), nil
		}},
		{"postgres pq", server.Postgres15, "postgres", sqlstore.Postgres, func(dsn string) (driver.Connector, error) { return pq.NewConnector(dsn) }},
		{"mariadb", server.MariaDB, "mysql", sqlstore.MySQL, func(dsn string) (driver.Connector, error) {
			config, err := mysql.ParseDSN(dsn)
			if err != nil {
				return nil, err
			}
			return mysql.NewConnector(config)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			connector, err := c.connector(server.Start(t, c.server))
			require.NoError(t, err)
			open := func(connector driver.Connector) *sqlstore.Store {
				db := sqlx.NewDb(sql.OpenDB(connector), c.driver)
				t.Cleanup(func() { _ = db.Close() }) // a lost connection has no good end
				s, err := sqlstore.New(db, c.dialect)
				require.NoError(t, err)
				return s
			}
			made := sqlfault.Sweep(t, func(t testing.TB, choose sqlfault.Chooser) (faulty, sound store.Store) {
				s := open(connector)
				require.NoError(t, s.Migrate(t.Context()))
				return open(sqlfault.New(connector, choose)), s
			})
			require.Greater(t, made, 500)
			t.Logf("%d faults", made)
		})
	}
}
