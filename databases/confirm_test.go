package databases_test

import (
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/store"
)

// InnoDB shows a commit before it is on the disk. Whoever is told that a command
// happened has therefore waited for a flush, which only a change brings about.
func TestMySQLReplayWaitsForTheDisk(t *testing.T) {
	srv := server.Private(t, server.MariaDB)
	on := siteOn(t, server.MariaDB, srv.DSN())
	ledger, _ := on.granted(t, 100)
	_, db := on.store(t)
	written := func() (bytes int64) {
		var name string
		require.NoError(t, db.QueryRowContext(t.Context(), "SHOW GLOBAL STATUS LIKE 'Innodb_os_log_written'").Scan(&name, &bytes))
		return bytes
	}
	grant := credit.Grant{Amount: decimal.NewFromInt(1), Key: "k"}
	first, err := ledger.Grant(t.Context(), grant)
	require.NoError(t, err)
	s, _ := on.store(t)
	other, err := store.Open(t.Context(), s, ledger.Distributor(), store.Options{})
	require.NoError(t, err)
	for range 3 {
		before := written()
		again, err := other.Grant(t.Context(), grant)
		require.NoError(t, err)
		require.True(t, again.Replayed)
		require.Equal(t, first.Record, again.Record)
		require.Greater(t, written(), before, "nothing was flushed")
	}
	requireSound(t, ledger)
}

// A commit that waits for a standby is seen when it is given up. It is not answered
// as long as no standby has it, whether or not it has a key.
func TestPostgresAnswersNothingThatNoStandbyHas(t *testing.T) {
	srv := server.Private(t, server.Postgres15)
	on := siteOn(t, server.Postgres15, srv.DSN())
	s, db := on.store(t)
	admin, err := sqlx.Open("pgx", srv.Admin())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, admin.Close()) })
	ledger, err := store.Open(t.Context(), s, acme(), store.Options{CommitTimeout: 2 * time.Second})
	require.NoError(t, err)
	_, err = ledger.Grant(t.Context(), credit.Grant{Amount: decimal.NewFromInt(1)})
	require.NoError(t, err)
	standby := func(names string) {
		for _, text := range []string{"ALTER SYSTEM SET synchronous_standby_names = " + names, "SELECT pg_reload_conf()"} {
			_, err := admin.ExecContext(t.Context(), text)
			require.NoError(t, err)
		}
		require.Eventually(t, func() bool { return setting(t, db) == (names != "''") }, 10*time.Second, 10*time.Millisecond)
	}
	for _, key := range []string{"", "k"} {
		grant := credit.Grant{Amount: decimal.NewFromInt(1), Key: key}
		standby("'nobody'")
		answer := background(func() error { _, err := ledger.Grant(t.Context(), grant); return err })
		require.Eventually(t, func() bool { // its connection breaks while it waits, so that the engine looks for it
			var ended int
			require.NoError(t, admin.GetContext(t.Context(), &ended, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))
			return ended > 0
		}, 10*time.Second, 10*time.Millisecond)
		require.ErrorIs(t, answer(), credit.ErrOutcomeUnknown, "key %q", key)
		standby("''")
		if key != "" {
			again, err := ledger.Grant(t.Context(), grant)
			require.NoError(t, err)
			require.True(t, again.Replayed)
		}
	}
	require.Len(t, requireSound(t, ledger), 3)
}

// setting tells whether commits wait for a standby.
func setting(t *testing.T, db *sqlx.DB) (waits bool) {
	t.Helper()
	require.NoError(t, db.GetContext(t.Context(), &waits, "SELECT current_setting('synchronous_standby_names') <> ''"))
	return waits
}
