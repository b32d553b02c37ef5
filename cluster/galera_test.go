package cluster_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/sqlstore"
)

func TestMain(m *testing.M) {
	_ = mysql.SetLogger(&mysql.NopLogger{}) // broken connections are what some tests are about
	os.Exit(server.Main(m))
}

const galeraOrder order = "INSERT INTO orders (id) VALUES (?) ON DUPLICATE KEY UPDATE id = id"

// galeraOutlets are so many on each node, the nodes in turn.
func galeraOutlets(t testing.TB, n *nodes, each int, d credit.Distributor) []outlet {
	t.Helper()
	var outlets []outlet
	for range each {
		for _, dsn := range n.node {
			outlets = append(outlets, newOutlet(t, "mysql", dsn, sqlstore.MySQL, d, commitTimeout))
		}
	}
	return outlets
}

// start has callers write: so many on each outlet, and one with transactions of its
// own.
func (b *book) start(t testing.TB, outlets []outlet, callers int, own sender) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	var all sync.WaitGroup
	for at := range outlets {
		for i := range callers {
			all.Go(func() { b.write(t, ctx, fmt.Sprint("caller ", at, ".", i), at, outlets, plainly) })
		}
		all.Go(func() { b.write(t, ctx, fmt.Sprint("order ", at), at, outlets, own) })
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			b.close()
			all.Wait()
			cancel()
		})
	}
	t.Cleanup(stop)
	return stop
}

// Galera, with writers to one ledger on all three nodes: nodes are killed, the
// cluster loses its quorum, and all of it is killed. What was acknowledged is there
// once, on every node, and nothing else is.
func TestGaleraLosesNodesUnderWriters(t *testing.T) {
	rounds, records := fromEnvironment(t, roundsVariable, 2), fromEnvironment(t, recordsVariable, 500)
	n := startNodes(t, "galera")
	outlets := galeraOutlets(t, n, 2, acme())
	b := newBook(t, outlets[0])
	orders(t, outlets[0])
	stop := b.start(t, outlets, 3, galeraOrder.inTransaction)
	b.progress(t, records)

	kills := 0
	for round := range rounds {
		// One of three: the others go on.
		dead := round%3 + 1
		n.do(t, "kill", dead)
		b.progress(t, records)
		n.do(t, "start", dead)
		b.spread()
		b.progress(t, records)

		// Two of three, which leaves no quorum, until somebody says that it is one.
		left, gone := (round+1)%3+1, []int{(round+2)%3 + 1, round%3 + 1}
		n.do(t, "kill", gone...)
		b.trouble(t, 20)
		repair(t, n.node[left-1])
		b.progress(t, records)
		for _, node := range gone {
			n.do(t, "start", node)
		}
		b.spread()
		b.progress(t, records)
		kills += 3
	}

	// All of them: the one that has the most goes first.
	n.do(t, "kill", 1, 2, 3)
	b.trouble(t, 20)
	first, most := 0, -1
	for node := 1; node <= 3; node++ {
		_, text, _ := strings.Cut(strings.TrimSpace(n.do(t, "position", node)), "position=")
		position, err := strconv.Atoi(text)
		require.NoError(t, err)
		if position > most {
			first, most = node, position
		}
	}
	n.do(t, "bootstrap", first)
	for node := 1; node <= 3; node++ {
		if node != first {
			n.do(t, "start", node)
		}
	}
	b.spread()
	b.progress(t, records)
	stop()
	t.Logf("%d kills of nodes, quorum lost %d times", kills+3, rounds+1)
	b.requireEverywhere(t, outlets[:3]...)
	b.requireOrders(t, "order", outlets[:3]...)
}

// repair waits until a node has noticed that it lost the others, declares that it is
// the cluster, and waits until it is.
func repair(t *testing.T, dsn string) {
	t.Helper()
	c, err := mysql.ParseDSN(dsn)
	require.NoError(t, err)
	c.Params = nil // without a quorum a read that waits for the others is refused
	db, err := sqlx.Open("mysql", c.FormatDSN())
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	awaitStatus := func(want string) {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		late := time.After(patience)
		for {
			var name, status string
			require.NoError(t, db.QueryRowContext(t.Context(), "SHOW STATUS LIKE 'wsrep_cluster_status'").Scan(&name, &status))
			if status == want {
				return
			}
			select {
			case <-tick.C:
			case <-late:
				require.FailNow(t, "the node is not "+want, "but %s", status)
			}
		}
	}
	awaitStatus("non-Primary")
	_, err = db.ExecContext(t.Context(), "SET GLOBAL wsrep_provider_options = 'pc.bootstrap=YES'")
	require.NoError(t, err)
	awaitStatus("Primary")
}

// On a cluster, a statement that the driver prepares in the server can hide that the
// transaction was taken back, so that the rest of it is committed alone. A pool that
// prepares is refused. In a transaction of such a pool, which nobody can check, the
// ledger is written as a whole or not at all; what else the caller writes in it is not.
func TestGaleraHalfTransactions(t *testing.T) {
	records := fromEnvironment(t, recordsVariable, 500)
	n := startNodes(t, "galera")
	for _, way := range []string{"interpolated", "prepared"} {
		t.Run(way, func(t *testing.T) {
			var pools [3]*sqlx.DB // that the callers use
			for i, dsn := range n.node {
				c, err := mysql.ParseDSN(dsn)
				require.NoError(t, err)
				c.InterpolateParams = way == "interpolated"
				db, err := sqlx.Open("mysql", c.FormatDSN())
				require.NoError(t, err)
				t.Cleanup(func() { _ = db.Close() }) // whatever state its connections are in
				pools[i] = db
				if _, err = sqlstore.New(db, sqlstore.MySQL); !c.InterpolateParams {
					require.ErrorContains(t, err, "interpolateParams=true", "a pool that prepares statements is refused")
				}
			}
			// Transactions meet in what the callers write, and not in their ledgers.
			var books []*book
			var outlets [][]outlet
			var stops []func()
			for i := range 9 {
				everywhere := galeraOutlets(t, n, 1, acme())
				books, outlets = append(books, newBook(t, everywhere[0])), append(outlets, everywhere)
				if i == 0 {
					tallies(t, everywhere[0])
				}
			}
			for i, b := range books {
				own := outlets[i][i%3]
				own.db = pools[i%3]
				stops = append(stops, b.start(t, []outlet{own}, 0, tally))
			}
			for _, b := range books[:3] { // of each node
				b.progress(t, records/2)
			}
			credits := 0
			for _, stop := range stops {
				stop()
			}
			for i, b := range books {
				b.requireEverywhere(t, outlets[i]...)
				credits += len(b.keys("order"))
			}
			for _, o := range outlets[0] {
				var counted int
				require.NoError(t, o.db.GetContext(t.Context(), &counted, "SELECT SUM(n) FROM tallies"))
				t.Logf("%d credits, of which the callers counted %d", credits, counted)
				if way == "interpolated" {
					require.Equal(t, credits, counted, "what the caller writes is there if and only if the credit is")
				}
			}
		})
	}
}

// tallies makes the rows in which callers count what they do.
func tallies(t *testing.T, o outlet) {
	t.Helper()
	for _, text := range []string{"DROP TABLE IF EXISTS tallies", "CREATE TABLE tallies (id INT NOT NULL PRIMARY KEY, n INT NOT NULL)",
		"INSERT INTO tallies (id, n) VALUES (0, 0), (1, 0), (2, 0), (3, 0)"} {
		_, err := o.db.ExecContext(t.Context(), text)
		require.NoError(t, err)
	}
}

// tally sends a command in a transaction in which it counts it.
func tally(ctx context.Context, o outlet, c credit.Command) (r credit.Receipt, err error) {
	err = transact(ctx, o, func(ctx context.Context, tx *sqlx.Tx) error {
		var before int
		id := len(keyOf(c)) % 4
		if err := tx.GetContext(ctx, &before, "SELECT n FROM tallies WHERE id = ? FOR UPDATE", id); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "UPDATE tallies SET n = ? WHERE id = ?", before+1, id)
		return err
	}, c, &r)
	return r, err
}
