package databases_test

import (
	"database/sql"
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

// While a snapshot is open, every version of a row stays: an append that visits them
// takes longer and longer. It looked at each of them twice, to find the newest and to
// see that the next one is not there.
func TestPostgresASnapshotLeavesNothingToVisit(t *testing.T) {
	t.Parallel()
	const appends = 300
	p := postgresWay{"pgx", server.Postgres15, "pgx", ""}.start(t)
	p.db.SetMaxOpenConns(2) // of which the snapshot has one
	s := p.open(t)
	ctx := t.Context()
	l, reseller := granted(t, s, 1_000_000)
	_, err := l.AddReseller(ctx, credit.NewReseller{Name: "Stratus", ExternalID: "2"})
	require.NoError(t, err)
	p.db.MustExec("VACUUM ANALYZE")
	snapshot, err := p.db.BeginTxx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	require.NoError(t, err)
	defer func() { _ = snapshot.Rollback() }() // it has only read
	var ledgers int
	require.NoError(t, snapshot.GetContext(ctx, &ledgers, "SELECT count(*) FROM "+p.prefixOf(t, s)+"ledgers"))

	for range appends {
		_, err := l.Allocate(ctx, credit.Allocation{ResellerID: reseller, Amount: decimal.New(1, 0)})
		require.NoError(t, err)
	}
	p.db.MustExec("SELECT pg_stat_force_next_flush()")
	var visited, sequence int
	require.NoError(t, p.db.GetContext(ctx, &visited, "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = $1", p.prefixOf(t, s)+"balances_pkey"))
	require.Less(t, visited, 2*appends, "each append looks at one version of the %d", appends)
	require.NoError(t, p.db.GetContext(ctx, &sequence, "SELECT sequence FROM "+p.prefixOf(t, s)+"balances WHERE id = $1", reseller))
	require.Equal(t, 3+appends, sequence, "no two versions have the same key, so that none is compared with the next one")
}
