package cluster_test

import (
	"database/sql"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/sqlstore"
)

const postgresOrder order = "INSERT INTO orders (id) VALUES ($1) ON CONFLICT DO NOTHING"

// follower is a standby, asked directly.
type follower struct{ *sqlx.DB }

func (n *nodes) follower(t testing.TB, node int) follower {
	t.Helper()
	db, err := sqlx.Open("pgx", n.node[node-1])
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return follower{db}
}

// received is the end of the log that a standby has.
func (f follower) received(t testing.TB) (bytes int64) {
	t.Helper()
	require.NoError(t, f.GetContext(t.Context(), &bytes,
		"SELECT CAST(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - pg_lsn '0/0' AS bigint)"))
	return bytes
}

// await waits until a standby has replayed the primary's log up to there.
func (f follower) await(t testing.TB, bytes int64) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		var replayed sql.NullInt64
		require.NoError(t, f.GetContext(t.Context(), &replayed, "SELECT CAST(pg_last_wal_replay_lsn() - pg_lsn '0/0' AS bigint)"))
		if replayed.Int64 >= bytes {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			require.FailNow(t, "the standby does not catch up", "%d of %d", replayed.Int64, bytes)
		}
	}
}

// failOver promotes the standby that has more than the other one, which then follows
// it, and returns the two: a commit that was answered is on one of them at least.
func (n *nodes) failOver(t testing.TB, one, other int) (primary, standby int) {
	t.Helper()
	if n.follower(t, other).received(t) > n.follower(t, one).received(t) {
		one, other = other, one
	}
	n.do(t, "promote", one)
	n.do(t, "route", one)
	n.do(t, "follow", other, one)
	return one, other
}

// requireOnEachNode makes a primary of every node, once all have everything, because
// the store refuses to work on a standby, and audits each.
func (b *book) requireOnEachNode(t testing.TB, n *nodes, primary int) {
	t.Helper()
	var end int64
	require.NoError(t, n.follower(t, primary).GetContext(t.Context(), &end, "SELECT CAST(pg_current_wal_flush_lsn() - pg_lsn '0/0' AS bigint)"))
	var alone []outlet
	for node := 1; node <= 3; node++ {
		if node != primary {
			f := n.follower(t, node)
			f.await(t, end)
			_, err := sqlstore.New(f.DB, sqlstore.Postgres)
			require.ErrorContains(t, err, "standby")
			n.do(t, "promote", node)
		}
	}
	for _, dsn := range n.node {
		// Nobody follows it.
		alone = append(alone, newOutlet(t, "pgx", dsn+"&synchronous_commit=local", sqlstore.Postgres, b.distributor, commitTimeout))
	}
	b.requireEverywhere(t, alone...)
	b.requireOrders(t, "order", alone...)
}

// PostgreSQL with a synchronous standby: the primary is killed under writers, a
// standby takes its place, and the same processes go on with the same pools. What was
// acknowledged is there once, on every node, and nothing else is.
func TestPostgresFailsOverUnderWriters(t *testing.T) {
	for _, way := range []string{"several hosts", "pgbouncer"} {
		t.Run(way, func(t *testing.T) {
			rounds, records := fromEnvironment(t, roundsVariable, 2), fromEnvironment(t, recordsVariable, 500)
			n := startNodes(t, "postgres")
			dsn := map[string]string{"several hosts": n.cluster, "pgbouncer": n.pooler}[way]
			d := acme()
			var outlets []outlet
			for _, timeout := range []time.Duration{commitTimeout, impatience, commitTimeout} {
				outlets = append(outlets, newOutlet(t, "pgx", dsn, sqlstore.Postgres, d, timeout))
			}
			b := newBook(t, outlets[0])
			orders(t, outlets[0])
			stop := b.start(t, outlets, 6, postgresOrder.inTransaction)
			b.progress(t, records)

			primary, standbys := 1, [2]int{2, 3}
			for range rounds {
				dead := primary
				n.do(t, "kill", dead)
				b.trouble(t, 3)
				primary, standbys[0] = n.failOver(t, standbys[0], standbys[1])
				b.progress(t, records)
				n.do(t, "rejoin", dead, primary)
				standbys[1] = dead
				b.progress(t, records)
			}
			stop()
			t.Logf("%s: %d primaries killed", strings.ReplaceAll(way, " ", "-"), rounds)
			b.requireOnEachNode(t, n, primary)
		})
	}
}

// A commit that no standby has is not acknowledged, neither at once nor to whoever
// asks again, although the primary shows it: it may be lost with the primary.
func TestPostgresAcknowledgesOnlyWhatAStandbyHas(t *testing.T) {
	n := startNodes(t, "postgres")
	patient := newOutlet(t, "pgx", n.cluster, sqlstore.Postgres, acme(), commitTimeout)
	b := newBook(t, patient)
	orders(t, patient)
	var outlets []outlet
	for range 2 {
		outlets = append(outlets, newOutlet(t, "pgx", n.cluster, sqlstore.Postgres, b.distributor, impatience))
	}
	for i, o := range slices.Concat(outlets, outlets) { // which then hold the ledger against each other
		key, c := b.command("before", 4*i)
		b.asked[key] = c
		for done := false; !done; {
			r, err := plainly(t.Context(), o, c)
			done, _ = b.note(t, key, r, err, true)
		}
	}
	head, err := patient.ledger.Head(t.Context())
	require.NoError(t, err)
	n.do(t, "kill", 2, 3)
	key, c := b.command("alone", 0)
	b.asked[key] = c
	for range 3 {
		for i, o := range outlets {
			for _, send := range []sender{plainly, postgresOrder.inTransaction} {
				r, err := send(t.Context(), o, c)
				done, _ := b.note(t, key, r, err, false)
				require.False(t, done, "outlet %d acknowledges what no standby has: %v", i, r)
			}
		}
	}
	// A connection that is lost while its commit waits, and an engine that looks what
	// became of it.
	key, c = b.command("alone", 4)
	b.asked[key] = c
	lost := make(chan error, 1)
	go func() {
		_, err := plainly(t.Context(), patient, c)
		lost <- err
	}()
	f := n.follower(t, 1)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ended := 0; ended == 0; <-tick.C {
		require.NoError(t, f.GetContext(t.Context(), &ended, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))
	}
	require.ErrorIs(t, <-lost, credit.ErrOutcomeUnknown, "what no standby has is acknowledged")
	alone, err := patient.ledger.Head(t.Context())
	require.NoError(t, err)
	require.Greater(t, alone.Sequence, head.Sequence, "the primary shows it")

	n.do(t, "kill", 1)
	n.do(t, "start", 2)
	n.do(t, "start", 3)
	primary, _ := n.failOver(t, 2, 3)
	n.do(t, "rejoin", 1, primary)
	found, err := patient.ledger.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, head, found, "it is lost with the primary")
	for i := range 2 {
		key, c := b.command("alone", 4*i)
		r, err := plainly(t.Context(), patient, c)
		require.NoError(t, err, "and done when it is asked for once more")
		require.False(t, r.Replayed)
		done, _ := b.note(t, key, r, err, true)
		require.True(t, done)
	}
	b.requireOnEachNode(t, n, primary)
}
