package databases_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/sqlstore"
)

// Two stores with one prefix, in a schema each.
func TestPostgresSchemas(t *testing.T) {
	for _, name := range []string{server.Postgres15, server.PgBouncer} {
		t.Run(name, func(t *testing.T) {
			p := postgresWay{server: name, driver: "pgx"}.start(t)
			books := map[*sqlstore.Store]*pgBook{}
			for _, schema := range []string{"east", "west"} {
				p.db.MustExec("CREATE SCHEMA " + schema)
				s, err := sqlstore.New(p.db, sqlstore.Postgres, sqlstore.WithSchema(schema))
				require.NoError(t, err)
				require.NoError(t, s.Migrate(t.Context()))
				require.NoError(t, s.Migrate(t.Context()))
				books[s], _, _ = newPgBook(t, s)
			}
			for s, b := range books {
				b.requireStored(t, s)
			}
			var n int
			require.NoError(t, p.db.Get(&n, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"))
			require.Zero(t, n)
			_, err := sqlstore.New(p.db, sqlstore.Postgres, sqlstore.WithSchema("a.b"))
			require.ErrorContains(t, err, "schema")
		})
	}
}
