package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

const (
	granted   = 1_000_000
	resellers = 5
	// commitTimeout is that of the engines, and impatience of those that do not wait
	// for a fail-over and leave outcomes unknown.
	commitTimeout = 3 * time.Second
	impatience    = 200 * time.Millisecond
	// patience is how long nothing may happen where something must.
	patience = 2 * time.Minute
)

// outlet is a pool and an engine on it, as a process of its own would have.
type outlet struct {
	db     *sqlx.DB
	store  *sqlstore.Store
	ledger *store.Ledger
}

func newOutlet(t testing.TB, driver, dsn string, dialect sqlstore.Dialect, d credit.Distributor, timeout time.Duration) outlet {
	t.Helper()
	db, err := sqlx.Open(driver, dsn)
	require.NoError(t, err)
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	t.Cleanup(func() { _ = db.Close() }) // a lost connection has no good end
	s, err := sqlstore.New(db, dialect)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	l, err := store.Open(t.Context(), s, d, store.Options{CommitTimeout: timeout, Memory: store.NewMemory(100)})
	require.NoError(t, err)
	return outlet{db, s, l}
}

// acme returns a new distributor.
func acme() credit.Distributor {
	return credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}
}

// book is what the callers of one ledger were told, and nothing else.
type book struct {
	distributor credit.Distributor
	resellers   []uuid.UUID

	mu           sync.Mutex
	changed      *sync.Cond
	acknowledged map[string]credit.Record // by key
	refused      map[string]bool
	asked        map[string]credit.Command
	errors       int // answers that were none: try again
	unknown      int // of them, whose outcome was unknown
	abandoned    int // of refused, which no rule has answered
	replayed     int // what had happened although the answer was an error
	spreads      int
	stopped      bool
}

// newBook grants a pool and adds resellers.
func newBook(t testing.TB, on outlet) *book {
	t.Helper()
	b := &book{distributor: on.ledger.Distributor(), acknowledged: map[string]credit.Record{}, refused: map[string]bool{},
		asked: map[string]credit.Command{}}
	b.changed = sync.NewCond(&b.mu)
	r, err := on.ledger.Grant(t.Context(), credit.Grant{Amount: decimal.NewFromInt(granted), Key: "grant"})
	require.NoError(t, err)
	b.acknowledged["grant"] = r.Record
	for i := range resellers {
		key := fmt.Sprint("reseller ", i)
		r, err := on.ledger.AddReseller(t.Context(), credit.NewReseller{Name: key, ExternalID: key, Key: key})
		require.NoError(t, err)
		b.acknowledged[key] = r.Record
		b.resellers = append(b.resellers, r.ResellerID)
	}
	return b
}

// sender sends one command in some way.
type sender func(context.Context, outlet, credit.Command) (credit.Receipt, error)

// plainly calls the engine.
func plainly(ctx context.Context, o outlet, c credit.Command) (credit.Receipt, error) {
	outcomes, err := o.ledger.Bulk(ctx, []credit.Command{c}, credit.BulkOptions{})
	if err != nil {
		return credit.Receipt{}, err
	}
	return outcomes[0].Receipt, outcomes[0].Err
}

// command is the n-th of a caller: credit that is given, taken back, and used.
func (b *book) command(caller string, n int) (key string, c credit.Command) {
	key = fmt.Sprint(caller, " ", n)
	reseller := b.resellers[(len(caller)+n)%len(b.resellers)]
	amount := decimal.NewFromInt(int64(1 + n%3))
	switch n % 4 {
	case 0, 1:
		return key, credit.Allocation{ResellerID: reseller, Amount: amount, Key: key}
	case 2:
		return key, credit.Repossession{ResellerID: reseller, Amount: amount, Key: key}
	default:
		return key, credit.Usage{ResellerID: reseller, Amount: amount, Key: key}
	}
}

// write sends commands until the book is closed. What is answered with an error
// goes, with the same key, to the next outlet, until a rule has answered; what comes
// after goes there, too, until spread. Every other command is given up instead, if
// the error says that nothing happened: then nothing may have.
func (b *book) write(t testing.TB, ctx context.Context, caller string, first int, outlets []outlet, send sender) {
	at, spread := first, 0
	for n := 0; ; n++ {
		key, c := b.command(caller, n)
		b.mu.Lock()
		if b.spreads != spread {
			at, spread = first, b.spreads
		}
		if b.stopped {
			b.mu.Unlock()
			return
		}
		b.asked[key] = c
		b.mu.Unlock()
		giveUp := n/2%2 == 1
		for failures := 0; ; failures++ {
			r, err := send(ctx, outlets[at%len(outlets)], c)
			done, unknown := b.note(t, key, r, err, failures > 0)
			if done {
				break
			}
			if !assert.NoError(t, ctx.Err(), "%s was never answered: %v", key, err) {
				return
			}
			at++
			giveUp = giveUp && !unknown
			if giveUp {
				b.abandon(key)
				break
			}
		}
	}
}

// abandon takes down that a command is not asked for again and did not happen.
func (b *book) abandon(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused[key] = true
	b.abandoned++
}

// note takes an answer down: whether it is one of a rule, or else whether the outcome
// is unknown.
func (b *book) note(t testing.TB, key string, r credit.Receipt, err error, again bool) (done, unknown bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.changed.Broadcast()
	switch {
	case err == nil:
		if again && r.Replayed {
			b.replayed++
		}
		assert.NotContains(t, b.acknowledged, key, "it is answered once")
		b.acknowledged[key] = r.Record
	case errors.Is(err, credit.ErrExceedsAvailable):
		// The answer of a rule is true when it is given; what an earlier attempt does
		// later would be another record of the same key, which the audit looks for.
		b.refused[key] = true
	default:
		b.errors++
		if errors.Is(err, credit.ErrOutcomeUnknown) || errors.Is(err, errCommit) {
			b.unknown++
			return false, true
		}
		failed := new(sqlstore.TxError)
		assert.True(t, store.Retryable(err) || errors.As(err, &failed) && failed.Temporary || errors.Is(err, errBegin),
			"a failure of a server is neither a refusal nor final: %v", err)
		return false, false
	}
	return true, false
}

// errBegin and errCommit are of callers that use transactions of their own: what was
// before the commit, in statements of theirs, and the commit.
var (
	errBegin  = errors.New("begin")
	errCommit = errors.New("commit")
)

// order is the statement with which a caller notes an order, unless it is there.
type order string

// orders creates the table of orders, beside those of the ledger.
func orders(t testing.TB, o outlet) {
	t.Helper()
	_, err := o.db.ExecContext(t.Context(), "CREATE TABLE orders (id VARCHAR(100) NOT NULL PRIMARY KEY)")
	require.NoError(t, err)
}

// inTransaction sends a command in a transaction of the caller's, whose order is
// there if and only if the record is.
func (text order) inTransaction(ctx context.Context, o outlet, c credit.Command) (r credit.Receipt, err error) {
	err = transact(ctx, o, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, string(text), keyOf(c))
		return err
	}, c, &r)
	return r, err
}

// transact does something and a command in one transaction; only the command, if that
// has happened before. It commits even then: what it has read may not be durable yet.
func transact(ctx context.Context, o outlet, something func(context.Context, *sqlx.Tx) error, c credit.Command, r *credit.Receipt) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	tx, err := o.db.BeginTxx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", errBegin, err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if something != nil {
		if err := something(ctx, tx); err != nil {
			return fmt.Errorf("%w: %w", errBegin, err)
		}
	}
	outcomes, err := o.ledger.On(o.store.WithTx(tx)).Bulk(ctx, []credit.Command{c}, credit.BulkOptions{})
	if err != nil {
		return err
	}
	if err := outcomes[0].Err; err != nil {
		return err
	}
	*r = outcomes[0].Receipt
	if r.Replayed && something != nil {
		_ = tx.Rollback() // a connection that cannot is given up
		return transact(ctx, o, nil, c, r)
	}
	if err := errors.Join(tx.Commit(), ctx.Err()); err != nil {
		return fmt.Errorf("%w: %w", errCommit, err)
	}
	return nil
}

func keyOf(c credit.Command) string {
	switch c := c.(type) {
	case credit.Allocation:
		return c.Key
	case credit.Repossession:
		return c.Key
	case credit.Usage:
		return c.Key
	}
	panic(fmt.Sprintf("no key: %T", c))
}

// requireOrders fails unless there is an order for each record of the callers of that
// name, and for nothing else.
func (b *book) requireOrders(t testing.TB, callers string, outlets ...outlet) {
	t.Helper()
	for i, o := range outlets {
		var found []string
		require.NoError(t, o.db.SelectContext(t.Context(), &found, "SELECT id FROM orders"))
		require.ElementsMatch(t, b.keys(callers), found, "node %d: an order is there if and only if its credit is", i+1)
	}
}

// await waits until so much of something has been counted.
func (b *book) await(t testing.TB, what string, count func() int, least int) {
	t.Helper()
	late := false
	timer := time.AfterFunc(patience, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		late = true
		b.changed.Broadcast()
	})
	defer timer.Stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	for count() < least {
		require.False(t, late, "%s: %d of %d in %s", what, count(), least, patience)
		b.changed.Wait()
	}
}

// progress waits until so many more commands have been acknowledged.
func (b *book) progress(t testing.TB, records int) {
	t.Helper()
	b.mu.Lock()
	least := len(b.acknowledged) + records
	b.mu.Unlock()
	b.await(t, "the ledger goes on", func() int { return len(b.acknowledged) }, least)
}

// trouble waits until so many more answers were errors.
func (b *book) trouble(t testing.TB, failures int) {
	t.Helper()
	b.mu.Lock()
	least := b.errors + failures
	b.mu.Unlock()
	b.await(t, "the writers notice", func() int { return b.errors }, least)
}

// spread has every writer go back to the outlet that it began with.
func (b *book) spread() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spreads++
}

// close lets the writers finish what they have begun.
func (b *book) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
}

// requireEverywhere is the audit, on each of the outlets: every command that was
// acknowledged is there once, and as it was acknowledged; nothing else is; figures and
// chain are what the records give; and all see the same.
func (b *book) requireEverywhere(t testing.TB, outlets ...outlet) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for key := range b.asked {
		require.NotEqual(t, b.refused[key], b.acknowledged[key].Key == key, "%s has one answer", key)
	}
	var same []credit.Record
	var head credit.Head
	for i, o := range outlets {
		var log []credit.Record
		for r, err := range credit.AllRecords(t.Context(), o.ledger, credit.RecordQuery{Limit: credit.MaxPageSize}) {
			require.NoError(t, err)
			log = append(log, r)
		}
		there := map[string]bool{}
		allocated, used := map[uuid.UUID]decimal.Decimal{}, map[uuid.UUID]decimal.Decimal{}
		for _, r := range log {
			require.False(t, there[r.Key], "node %d: %s is there twice", i+1, r.Key)
			there[r.Key] = true
			acknowledged, ok := b.acknowledged[r.Key]
			require.True(t, ok, "node %d: record %d, %s, was acknowledged to nobody (refused: %t)", i+1, r.Sequence, r.Key, b.refused[r.Key])
			require.Equal(t, acknowledged.ID, r.ID, "node %d: %s is another record than was acknowledged", i+1, r.Key)
			require.Equal(t, acknowledged.Hash, r.Hash, "node %d: %s is not as it was acknowledged", i+1, r.Key)
			switch r.Kind {
			case credit.KindAllocate, credit.KindRepossess:
				allocated[r.ResellerID] = allocated[r.ResellerID].Add(r.Amount)
			case credit.KindUsage:
				used[r.ResellerID] = used[r.ResellerID].Add(r.Amount)
			}
		}
		for key := range b.acknowledged {
			require.True(t, there[key], "node %d: %s was acknowledged and is not there", i+1, key)
		}
		sum := decimal.Zero
		for _, id := range b.resellers {
			r, err := o.ledger.Reseller(t.Context(), id)
			require.NoError(t, err)
			require.True(t, r.Allocated.Equal(allocated[id]) && r.Used.Equal(used[id]), "node %d: %s has allocated %s, used %s; its records give %s and %s",
				i+1, r.Name, r.Allocated, r.Used, allocated[id], used[id])
			sum = sum.Add(r.Allocated)
		}
		pool, err := o.ledger.Pool(t.Context())
		require.NoError(t, err)
		require.True(t, pool.Remaining().Add(sum).Equal(decimal.NewFromInt(granted)), "node %d: %s in the pool and %s with resellers are not the %d that were granted",
			i+1, pool.Remaining(), sum, granted)
		checked, err := o.ledger.Check(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, len(log), checked.Records)
		if i == 0 {
			same, head = log, checked.Head
		}
		require.Equal(t, head, checked.Head, "node %d has another head", i+1)
		require.Equal(t, same, log, "node %d has other records", i+1)
	}
	t.Logf("%d nodes, %d records, %d refused; %d answers were errors, %d of them of unknown outcome; %d commands had happened all the same, %d had not and were given up",
		len(outlets), len(same), len(b.refused)-b.abandoned, b.errors, b.unknown, b.replayed, b.abandoned)
}

// keys of what was acknowledged to callers whose names begin so.
func (b *book) keys(prefix string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []string
	for _, key := range slices.Sorted(maps.Keys(b.acknowledged)) {
		if len(key) > len(prefix) && key[:len(prefix)] == prefix {
			found = append(found, key)
		}
	}
	return found
}
