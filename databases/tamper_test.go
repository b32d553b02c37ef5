package databases_test

import (
	"database/sql"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
	"github.com/resellerkit/credit/store/storetest/sqltamper"
)

// What is changed past the library is found on every database alike.
func TestTampering(t *testing.T) {
	for _, c := range []struct {
		name, server, driver string
		dialect              sqlstore.Dialect
	}{
		{"postgres", server.Postgres15, "pgx", sqlstore.Postgres},
		{"mysql", server.MariaDB, "mysql", sqlstore.MySQL},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db, err := sqlx.Open(c.driver, server.Start(t, c.server))
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, db.Close()) })
			s, err := sqlstore.New(db, c.dialect)
			require.NoError(t, err)
			require.NoError(t, s.Migrate(t.Context()))
			sqltamper.Run(t, sqltamper.Target{Dialect: c.name, DB: db.DB, Store: s, Within: func(tx *sql.Tx) store.Store { return s.WithTx(tx) }})
		})
	}
}
