package databases_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/store"
)

// fromEnvironment is the number in a variable, or else the given one.
func fromEnvironment(t testing.TB, variable string, or uint64) uint64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return or
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, variable)
	return n
}

// killCallers is how many callers there are when something is killed.
const killCallers = 64

// The process that writes, or the server, is killed with SIGKILL at any moment,
// again and again, under one ledger that outlives them all. What was acknowledged
// is there, once and where the answer said; of what was not, all of a call is there
// or nothing, and nothing if its caller was told so; and whoever sends it once more
// with the same key finds it or does it. CREDIT_KILLS is how often, CREDIT_SEED
// repeats the moments and the ways.
func TestWhateverIsKilledTheLedgerIsWhole(t *testing.T) {
	kills := int(fromEnvironment(t, "CREDIT_KILLS", 6))
	seed := fromEnvironment(t, "CREDIT_SEED", uint64(time.Now().UnixNano()))
	t.Logf("CREDIT_KILLS=%d CREDIT_SEED=%d", kills, seed)
	for _, name := range siteNames {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := &killer{rng: rand.New(rand.NewPCG(seed, uint64(len(name)))), keys: map[string]place{}}
			if name == "sqlite" {
				k.site = emptySite(t, name)
			} else {
				k.server = server.OnDisk(t, name)
				k.site = site{server.Driver(name), k.server.DSN()}
			}
			k.begin(t)
			for n := range kills {
				if k.server != nil && n%2 == 1 {
					k.killServer(t, n)
				} else {
					k.killProcess(t, n)
				}
				require.False(t, t.Failed())
				if n%50 == 49 || n == kills-1 {
					l, end := k.open(t, store.Options{})
					checked, err := l.Check(t.Context())
					end()
					require.NoError(t, err)
					require.Equal(t, k.state.Head(), checked.Head, "the figures are those that the records give")
				}
			}
			t.Logf("%d kills: %d records, of which %d were not acknowledged and found by their key, %d of them later than the first look; %d were told that nothing was written",
				kills, k.state.Head().Sequence, k.found, k.late, k.nothing)
		})
	}
}

// killer kills, and knows the ledger.
type killer struct {
	site     site
	server   *server.Server // nil if there is none to kill
	rng      *rand.Rand
	d        credit.Distributor
	reseller uuid.UUID

	state                *credit.State // what the records give that were read
	keys                 map[string]place
	found, late, nothing int
}

// place is where a record is.
type place struct {
	sequence int64
	id       uuid.UUID
}

// unanswered is a call whose caller was killed or told by no rule what became of it.
type unanswered struct {
	commands []credit.Command
	nothing  bool // the caller was told that nothing was written
}

// begin creates the ledger, with a pool that nothing uses up and a reseller.
func (k *killer) begin(t *testing.T) {
	t.Helper()
	db, err := k.site.open()
	require.NoError(t, err)
	defer func() { assert.NoError(t, db.Close()) }()
	s, err := k.site.on(db)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	k.d = acme()
	k.state = credit.NewState(k.d)
	l, err := store.Open(t.Context(), s, k.d, store.Options{})
	require.NoError(t, err)
	_, err = l.Grant(t.Context(), credit.Grant{Amount: decimal.NewFromInt(900_000_000_000)})
	require.NoError(t, err)
	added, err := l.AddReseller(t.Context(), credit.NewReseller{Name: "Nimbus", ExternalID: "200012345678"})
	require.NoError(t, err)
	k.reseller = added.ResellerID
	k.read(t, l)
}

// open opens an engine on a pool of its own.
func (k *killer) open(t *testing.T, o store.Options) (ledger *store.Ledger, end func()) {
	t.Helper()
	db, err := k.site.open()
	require.NoError(t, err)
	s, err := k.site.on(db)
	require.NoError(t, err)
	ledger, err = store.Open(t.Context(), s, k.d, o)
	require.NoError(t, err)
	return ledger, func() { _ = db.Close() } // a lost connection has no good end
}

// wait waits for the moment to kill, which is any between 50 and 500 ms from now.
func (k *killer) wait() {
	<-time.NewTimer(50*time.Millisecond + time.Duration(k.rng.Int64N(int64(450*time.Millisecond)))).C
}

// killProcess kills a process whose callers write.
func (k *killer) killProcess(t *testing.T, n int) {
	j := job{Site: k.site, Ledger: k.d, Reseller: k.reseller, Name: fmt.Sprint("process ", n), Callers: killCallers}
	p := startProcess(t, j)
	p.begin()
	answered, acknowledged := make([]int, killCallers), map[string]place{}
	var reading sync.WaitGroup
	reading.Go(func() {
		for a, more := p.next(t); more; a, more = p.next(t) { // what it had said before it was killed, too
			assert.Empty(t, a.Code)
			assert.Equal(t, answered[a.Caller], a.N)
			acknowledged[j.command(a.Caller, a.N).Key] = place{a.Sequence, a.ID}
			answered[a.Caller]++
		}
	})
	k.wait()
	require.NoError(t, p.cmd.Process.Kill())
	reading.Wait()
	require.Error(t, p.cmd.Wait(), "it was killed")
	left := make([]unanswered, killCallers)
	for caller := range left {
		left[caller].commands = []credit.Command{j.command(caller, answered[caller])}
	}
	fresh, end := k.open(t, store.Options{})
	defer end()
	k.settle(t, fresh, fresh, acknowledged, left)
}

// commands are the n-th call of a caller of this process: one command, or now and
// then an all-or-nothing call of three.
func (k *killer) commands(kill, caller, n int) []credit.Command {
	key := fmt.Sprintf("server %d/%d/%d", kill, caller, n)
	one := decimal.NewFromInt(1)
	if (caller+n)%5 != 0 {
		return []credit.Command{credit.Allocation{ResellerID: k.reseller, Amount: one, Key: key}}
	}
	return []credit.Command{credit.Usage{ResellerID: k.reseller, Amount: one, Key: key + "/1"}, credit.Allocation{ResellerID: k.reseller, Amount: one, Key: key + "/2"},
		credit.Correction{ResellerID: k.reseller, Amount: one, Key: key + "/3"}}
}

// killServer kills the server while callers of this process write, and starts it
// again. Their engine has time enough to get over it by itself, or has not.
func (k *killer) killServer(t *testing.T, n int) {
	survivor, end := k.open(t, store.Options{CommitTimeout: []time.Duration{0, 300 * time.Millisecond}[k.rng.IntN(2)]})
	defer end()
	acknowledged, left := map[string]place{}, []unanswered{}
	var mu sync.Mutex
	var enough atomic.Bool
	var writing sync.WaitGroup
	for caller := range killCallers {
		writing.Go(func() {
			for i := 0; !enough.Load(); i++ {
				commands := k.commands(n, caller, i)
				outcomes, err := survivor.Bulk(t.Context(), commands, credit.BulkOptions{AllOrNothing: true})
				mu.Lock()
				for i, o := range outcomes {
					assert.NoError(t, o.Err)
					acknowledged[keyOf(commands[i])] = place{o.Receipt.Sequence, o.Receipt.ID}
				}
				if err != nil {
					left = append(left, unanswered{commands, credit.Code(err) != "outcome_unknown"})
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	k.wait()
	k.server.Kill(t)
	k.server.Restart(t)
	enough.Store(true)
	writing.Wait()
	fresh, endFresh := k.open(t, store.Options{})
	defer endFresh()
	if k.rng.IntN(2) == 0 {
		survivor = fresh
	}
	k.settle(t, fresh, survivor, acknowledged, left)
}

// settle looks at what is there after a kill, and has the callers that were left
// without an answer ask once more.
func (k *killer) settle(t *testing.T, fresh, again *store.Ledger, acknowledged map[string]place, left []unanswered) {
	t.Helper()
	there := k.read(t, fresh)
	for key, want := range acknowledged {
		require.Equal(t, want, there[key], "what was acknowledged is there, where the answer said: %s", key)
	}
	strangers := len(there) - len(acknowledged)
	first := make([]int, len(left))
	for i, call := range left {
		for _, c := range call.commands {
			if _, ok := there[keyOf(c)]; ok {
				first[i]++
			}
		}
		require.True(t, first[i] == 0 || first[i] == len(call.commands), "all of a call is there, or nothing: %d of %d", first[i], len(call.commands))
		if call.nothing {
			require.Zero(t, first[i], "its caller was told that nothing was written")
			k.nothing++
		}
		strangers -= first[i]
	}
	require.Zero(t, strangers, "nothing is there that nobody asked for")

	receipts := make([][]credit.Outcome, len(left))
	var all sync.WaitGroup
	for i, call := range left {
		all.Go(func() { receipts[i] = insistOn(t.Context(), t, again, call.commands) })
	}
	all.Wait()
	k.read(t, fresh)
	for i, call := range left {
		require.Len(t, receipts[i], len(call.commands))
		for j, o := range receipts[i] {
			require.NoError(t, o.Err)
			require.Equal(t, place{o.Receipt.Sequence, o.Receipt.ID}, k.keys[keyOf(call.commands[j])], "what was not answered is found by its key, or done")
			require.Equal(t, receipts[i][0].Receipt.Sequence+int64(j), o.Receipt.Sequence, "nothing comes between the records of one call")
			require.True(t, o.Receipt.Replayed || first[i] == 0, "what was there is replayed")
		}
		if receipts[i][0].Receipt.Replayed {
			k.found++
			if first[i] == 0 {
				k.late++ // the server finished what a process had begun that is dead
			}
		}
	}
	head, err := fresh.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, k.state.Head(), head)
	have, err := fresh.Reseller(t.Context(), k.reseller)
	require.NoError(t, err)
	want, _ := k.state.Reseller(k.reseller)
	require.True(t, have.Allocated.Equal(want.Allocated) && have.Used.Equal(want.Used), "the figures are those that the records give: %v, not %v", have.Figures, want.Figures)
}

// insistOn is insist for an all-or-nothing call.
func insistOn(ctx context.Context, t *testing.T, l *store.Ledger, commands []credit.Command) (outcomes []credit.Outcome) {
	var err error
	for range 100 {
		outcomes, err = l.Bulk(ctx, commands, credit.BulkOptions{AllOrNothing: true})
		if err == nil {
			return outcomes
		}
	}
	assert.NoError(t, err, "asking again with the same keys is answered")
	return outcomes
}

// read verifies the records that were not read yet, and returns where those are that
// have a key.
func (k *killer) read(t *testing.T, l *store.Ledger) map[string]place {
	t.Helper()
	fresh := map[string]place{}
	for q := (credit.RecordQuery{After: k.state.Head().Sequence, Limit: credit.MaxPageSize}); ; {
		page, err := l.Records(t.Context(), q)
		require.NoError(t, err)
		for _, r := range page.Items {
			require.NoError(t, k.state.Verify(r))
			if r.Key == "" {
				continue
			}
			_, taken := k.keys[r.Key]
			require.False(t, taken, "a key has one record: %s", r.Key)
			k.keys[r.Key] = place{r.Sequence, r.ID}
			fresh[r.Key] = k.keys[r.Key]
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return fresh
		}
	}
}

// keyOf returns the key of the commands that are sent here.
func keyOf(c credit.Command) string {
	switch c := c.(type) {
	case credit.Allocation:
		return c.Key
	case credit.Usage:
		return c.Key
	case credit.Correction:
		return c.Key
	}
	panic(fmt.Sprintf("%T is not sent", c))
}
