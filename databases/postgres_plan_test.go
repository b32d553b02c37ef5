package databases_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/store"
)

// A plan that was made while the table of keys was empty, and known to be, read
// all of it at every append.
func TestPostgresAppendsByIndexAlsoWhereATableWasEmptyWhenItWasAnalyzed(t *testing.T) {
	t.Parallel()
	p := postgresWay{"pgx", server.Postgres15, "pgx", ""}.start(t)
	p.db.SetMaxOpenConns(1) // whose plans stay
	s := p.open(t)
	ctx := t.Context()
	l, err := store.Open(ctx, s, credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}, store.Options{})
	require.NoError(t, err)
	_, err = l.Grant(ctx, credit.Grant{Amount: decimal.New(1, 6)})
	require.NoError(t, err)
	added, err := l.AddReseller(ctx, credit.NewReseller{Name: "Nimbus", ExternalID: "1"})
	require.NoError(t, err)
	p.db.MustExec("VACUUM ANALYZE")
	for i := range 300 {
		_, err := l.Allocate(ctx, credit.Allocation{ResellerID: added.ResellerID, Amount: decimal.New(1, 0), Key: fmt.Sprint("po-", i)})
		require.NoError(t, err)
	}
	p.db.MustExec("SELECT pg_stat_force_next_flush()")
	var read int
	require.NoError(t, p.db.GetContext(ctx, &read, "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = $1", p.prefixOf(t, s)+"keys"))
	require.Less(t, read, 2000, "300 appends look up 300 keys, not all of them each time")
}
