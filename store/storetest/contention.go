package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// goroutines is how many callers a contention test has.
const goroutines = 64

func (h Harness) contention(t *testing.T) {
	for _, c := range []clause{
		{"one hot pool, one engine", func(h Harness, t *testing.T) {
			s := h.Open(t)
			hotPool(t, h.source(t), s)
		}},
		{"one hot pool, two engines", func(h Harness, t *testing.T) {
			s := h.Open(t)
			hotPool(t, h.source(t), s, h.second(t, s))
		}},
		{"one hot pool, engines on two handles", func(h Harness, t *testing.T) {
			s := h.Open(t)
			hotPool(t, h.source(t), s, h.needSecond(t, s))
		}},
		{"one key from all at once happens once", func(h Harness, t *testing.T) {
			s := h.Open(t)
			oneKey(t, h.source(t), (h.Storms+1)/2, s, h.second(t, s))
		}},
		{"one key with two contents happens once, and conflicts", func(h Harness, t *testing.T) {
			s := h.Open(t)
			twoContents(t, h.source(t), (h.Storms+1)/2, s, h.second(t, s))
		}},
		{"keys within one bulk call", func(h Harness, t *testing.T) { keysInBulk(t, h.source(t), h.Open(t)) }},
		{"transfers move all or nothing", func(h Harness, t *testing.T) {
			s := h.Open(t)
			transfers(t, h.source(t), s, h.second(t, s))
		}},
		{"a bank whose sums hold in whatever is read", func(h Harness, t *testing.T) {
			s := h.Open(t)
			bankTest(t, h.source(t), h.Bank, s, h.second(t, s))
		}},
		{"pages neither skip nor repeat what is there, when somebody writes between them", func(h Harness, t *testing.T) {
			s := h.Open(t)
			pagesAndWrites(t, h.source(t), s, h.second(t, s))
		}},
		{"pages neither skip nor repeat what is there, while writers run", func(h Harness, t *testing.T) {
			s := h.Open(t)
			pagesBesideWriters(t, h.source(t), s, h.second(t, s))
		}},
		{"a full queue refuses and nothing happens", func(h Harness, t *testing.T) { fullQueue(t, h.source(t), h.Open(t)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(h, t)
		})
	}
}

// open opens an engine on each store, for one new ledger.
func open(t *testing.T, rng *rand.Rand, o store.Options, stores ...store.Store) []*store.Ledger {
	t.Helper()
	d := newDistributor(rng)
	var engines []*store.Ledger
	for _, s := range stores {
		engine, err := store.Open(t.Context(), s, d, o)
		require.NoError(t, err, "open a ledger")
		engines = append(engines, engine)
	}
	return engines
}

// insist sends a command that has a key until it is answered by a rule. What
// failed for a while, or lost its answer, is safe to send again.
func insist(ctx context.Context, l credit.Ledger, c credit.Command) (credit.Receipt, error) {
	for {
		receipt, err := send(ctx, l, c)
		if !uncertain(err) || ctx.Err() != nil {
			return receipt, err
		}
	}
}

// uncertain tells whether an error is no rule's answer, and the command is to be
// sent again.
func uncertain(err error) bool {
	return store.Retryable(err) || errors.Is(err, credit.ErrOutcomeUnknown)
}

// must is insist for what the rules accept.
func must(t *testing.T, l credit.Ledger, c credit.Command) credit.Receipt {
	t.Helper()
	receipt, err := insist(t.Context(), l, c)
	require.NoError(t, err, "%s", described{c})
	return receipt
}

// together runs f in many goroutines that begin at the same time.
func together(t *testing.T, n int, what string, f func(i int)) {
	t.Helper()
	var all sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-begin
			f(i)
		})
	}
	within(t, 3*time.Minute, what, func() { close(begin); all.Wait() })
}

// requireSound has every engine check the ledger, and returns its log.
func requireSound(t *testing.T, engines ...*store.Ledger) []credit.Record {
	t.Helper()
	for _, l := range engines {
		_, err := l.Check(t.Context())
		require.NoError(t, err, "the ledger checks")
	}
	log, err := pages(credit.MaxPageSize, func(c credit.Cursor) (credit.Page[credit.Record], error) {
		return engines[0].Records(t.Context(), credit.RecordQuery{Limit: credit.MaxPageSize, Cursor: c})
	})
	require.NoError(t, err)
	return log
}

// byKey are the records of each key.
func byKey(t *testing.T, log []credit.Record) map[string]credit.Record {
	t.Helper()
	found := map[string]credit.Record{}
	for _, r := range log {
		if r.Key != "" {
			require.NotContains(t, found, r.Key, "a key has one record")
			found[r.Key] = r
		}
	}
	return found
}

// hotPool has callers allocate far more than the pool has: exactly what fits is
// granted, and the rest refused.
func hotPool(t *testing.T, rng *rand.Rand, stores ...store.Store) {
	const each, fits = 25, 1000
	engines := open(t, rng, store.Options{}, stores...)
	must(t, engines[0], credit.Grant{Amount: units(fits), Key: "grant"})
	reseller := must(t, engines[0], credit.NewReseller{ExternalID: "hot", Name: "Hot", Key: "add"}).ResellerID
	accepted, problems := make([]int, goroutines), make([]error, goroutines)
	together(t, goroutines, "allocating from one pool", func(i int) {
		for j := range each {
			_, err := insist(t.Context(), engines[i%len(engines)], credit.Allocation{ResellerID: reseller, Amount: units(1), Key: fmt.Sprintf("%d/%d", i, j)})
			switch {
			case err == nil:
				accepted[i]++
			case !errors.Is(err, credit.ErrInsufficientPool):
				problems[i] = err
				return
			}
		}
	})
	sum := 0
	for i := range goroutines {
		require.NoError(t, problems[i], "an allocation is accepted or refused for lack of pool")
		sum += accepted[i]
	}
	require.Equal(t, fits, sum, "as many allocations are accepted as the pool has units")
	for _, l := range engines {
		pool, err := l.Pool(t.Context())
		require.NoError(t, err)
		require.True(t, pool.Remaining().IsZero() && pool.Allocated.Equal(units(fits)), "the pool is used up exactly: %s", show(pool))
		r, err := l.Reseller(t.Context(), reseller)
		require.NoError(t, err)
		require.True(t, r.Allocated.Equal(units(fits)), "the reseller has what the pool has lost: %s", r.Allocated)
	}
	require.Len(t, requireSound(t, engines...), fits+2, "a record for each accepted allocation, and no other")
}

// keyedCommand is a command whose sums are known, of any kind that moves a figure or
// adds a reseller.
func keyedCommand(rng *rand.Rand, reseller uuid.UUID, key string) credit.Command {
	amount := units(7)
	switch rng.IntN(5) {
	case 0:
		return credit.Usage{ResellerID: reseller, Amount: amount, Key: key, Customer: "c"}
	case 1:
		return credit.Grant{Amount: amount, Key: key, Operator: "o"}
	case 2:
		return credit.Withdrawal{Amount: amount, Key: key}
	case 3:
		return credit.NewReseller{ExternalID: key, Name: "Y", Key: key}
	}
	return credit.Allocation{ResellerID: reseller, Amount: amount, Key: key, Metadata: map[string]string{"a": "b"}}
}

// stormy opens a ledger with a pool for so many storms, and a reseller.
func stormy(t *testing.T, rng *rand.Rand, storms int, stores []store.Store) ([]*store.Ledger, uuid.UUID) {
	t.Helper()
	engines := open(t, rng, store.Options{}, stores...)
	must(t, engines[0], credit.Grant{Amount: units(int64(20 * storms)), Key: "grant"})
	return engines, must(t, engines[0], credit.NewReseller{ExternalID: "x", Name: "X", Key: "add"}).ResellerID
}

// oneKey has all callers send one command with one key, again and again.
func oneKey(t *testing.T, rng *rand.Rand, storms int, stores ...store.Store) {
	engines, reseller := stormy(t, rng, storms, stores)
	for n := range storms {
		c := keyedCommand(rng, reseller, fmt.Sprintf("once-%d", n))
		receipts, errs := make([]credit.Receipt, goroutines), make([]error, goroutines)
		var again atomic.Bool
		together(t, goroutines, "sending one key", func(i int) {
			l := engines[i%len(engines)]
			if receipts[i], errs[i] = send(t.Context(), l, c); uncertain(errs[i]) {
				again.Store(true)
				receipts[i], errs[i] = insist(t.Context(), l, c)
			}
		})
		fresh := 0
		for i := range goroutines {
			require.NoError(t, errs[i], "the same command with the same key is accepted")
			requireSame(t, receipts[0].Record, receipts[i].Record, "all get the same record")
			if !receipts[i].Replayed {
				fresh++
			}
		}
		if !again.Load() || fresh > 1 { // or that answer was lost
			require.Equal(t, 1, fresh, "one caller is told that it happened now, and all others that it had happened")
		}
	}
	require.Len(t, requireSound(t, engines...), 2+storms, "it happened once")
}

// twoContents has half of the callers use a key for one command, and half for
// another.
func twoContents(t *testing.T, rng *rand.Rand, storms int, stores ...store.Store) {
	engines, reseller := stormy(t, rng, storms, stores)
	for n := range storms {
		key := fmt.Sprintf("two-%d", n)
		contents := []credit.Command{credit.Usage{ResellerID: reseller, Amount: units(1), Key: key}, keyedCommand(rng, reseller, key)}
		receipts, errs := make([]credit.Receipt, goroutines), make([]error, goroutines)
		together(t, goroutines, "sending one key with two contents", func(i int) { receipts[i], errs[i] = insist(t.Context(), engines[i/2%len(engines)], contents[i%2]) })
		winner := 0
		if errs[0] != nil {
			winner = 1
		}
		for i := range goroutines {
			if i%2 == winner {
				require.NoError(t, errs[i], "the command that came first is accepted, and replayed")
				requireSame(t, receipts[winner].Record, receipts[i].Record, "all get the same record")
				continue
			}
			conflict, ok := errors.AsType[*credit.ConflictError](errs[i])
			require.True(t, ok, "the other command is a conflict: %v", errs[i])
			require.Equal(t, receipts[winner].Sequence, conflict.EarlierSequence, "the conflict names the record that has the key")
		}
	}
	require.Len(t, requireSound(t, engines...), 2+storms)
}

// keysInBulk repeats keys within one call: the items fold in order.
func keysInBulk(t *testing.T, rng *rand.Rand, s store.Store) {
	l := open(t, rng, store.Options{}, s)[0]
	must(t, l, credit.Grant{Amount: units(10), Key: "grant"})
	id := must(t, l, credit.NewReseller{ExternalID: "x", Name: "X", Key: "add"}).ResellerID
	a, b := credit.Allocation{ResellerID: id, Amount: units(4), Key: "k"}, credit.Allocation{ResellerID: id, Amount: units(5), Key: "k"}
	tooMuch := credit.Allocation{ResellerID: id, Amount: units(8), Key: "later"}
	outcomes, err := l.Bulk(t.Context(), []credit.Command{a, a, b, tooMuch, credit.Grant{Amount: units(10)}, tooMuch, tooMuch}, credit.BulkOptions{})
	require.NoError(t, err)
	require.NoError(t, outcomes[0].Err)
	require.NoError(t, outcomes[1].Err)
	require.True(t, !outcomes[0].Receipt.Replayed && outcomes[1].Receipt.Replayed, "a repeated key replays an earlier success of the same call")
	requireSame(t, outcomes[0].Receipt.Record, outcomes[1].Receipt.Record, "the replayed record")
	require.ErrorIs(t, outcomes[2].Err, credit.ErrKeyConflict, "the same key with another content")
	require.ErrorIs(t, outcomes[3].Err, credit.ErrInsufficientPool)
	require.NoError(t, outcomes[5].Err, "a refused command does not consume its key")
	require.True(t, !outcomes[5].Receipt.Replayed && outcomes[6].Receipt.Replayed, "after a refusal it is decided afresh, and then replayed")

	outcomes, err = l.Bulk(t.Context(), []credit.Command{a, credit.Usage{ResellerID: id, Amount: units(1), Key: "new"}, b}, credit.BulkOptions{AllOrNothing: true})
	require.NoError(t, err)
	require.ErrorIs(t, outcomes[0].Err, credit.ErrNotApplied, "beside a conflict")
	require.ErrorIs(t, outcomes[1].Err, credit.ErrNotApplied, "beside a conflict")
	require.ErrorIs(t, outcomes[2].Err, credit.ErrKeyConflict)
	outcomes, err = l.Bulk(t.Context(), []credit.Command{a, credit.Usage{ResellerID: id, Amount: units(1), Key: "new"}}, credit.BulkOptions{AllOrNothing: true})
	require.NoError(t, err)
	require.True(t, outcomes[0].Err == nil && outcomes[0].Receipt.Replayed, "a replay counts as satisfied")
	require.True(t, outcomes[1].Err == nil && !outcomes[1].Receipt.Replayed, "the key of a call that came to nothing is free")
	require.Len(t, requireSound(t, l), 6)
}

// transfers moves credit between resellers in all-or-nothing calls.
func transfers(t *testing.T, rng *rand.Rand, stores ...store.Store) {
	engines := open(t, rng, store.Options{}, stores...)
	const resellers, start, each = 4, 50, 10
	must(t, engines[0], credit.Grant{Amount: units(resellers * start), Key: "grant"})
	ids := make([]credit.Receipt, resellers)
	for i := range ids {
		ids[i] = must(t, engines[0], credit.NewReseller{ExternalID: fmt.Sprint(i), Name: "N", Key: fmt.Sprintf("add-%d", i)})
		must(t, engines[0], credit.Allocation{ResellerID: ids[i].ResellerID, Amount: units(start), Key: fmt.Sprintf("start-%d", i)})
	}
	problems, applied := make([]string, goroutines), make([]int, goroutines)
	seeds := make([]uint64, goroutines)
	for i := range seeds {
		seeds[i] = rng.Uint64()
	}
	together(t, goroutines, "transfers", func(i int) {
		rng, l := newRand(seeds[i], uint64(i)), engines[i%len(engines)]
		for j := range each {
			amount := units(1 + rng.Int64N(start))
			from, to := rng.IntN(resellers), rng.IntN(resellers)
			commands := []credit.Command{credit.Repossession{ResellerID: ids[from].ResellerID, Amount: amount, Key: fmt.Sprintf("from-%d-%d", i, j)},
				credit.Allocation{ResellerID: ids[to].ResellerID, Amount: amount, Key: fmt.Sprintf("to-%d-%d", i, j)}}
			outcomes, err := l.Bulk(t.Context(), commands, credit.BulkOptions{AllOrNothing: true})
			for ; store.Retryable(err) || errors.Is(err, credit.ErrOutcomeUnknown); outcomes, err = l.Bulk(t.Context(), commands, credit.BulkOptions{AllOrNothing: true}) {
				continue
			}
			switch {
			case err != nil:
				problems[i] = err.Error()
				return
			case outcomes[0].Err == nil && outcomes[1].Err == nil:
				applied[i]++
				if outcomes[0].Receipt.Sequence+1 != outcomes[1].Receipt.Sequence {
					problems[i] = fmt.Sprintf("something came between records %d and %d of one call", outcomes[0].Receipt.Sequence, outcomes[1].Receipt.Sequence)
				}
			case !errors.Is(outcomes[0].Err, credit.ErrExceedsAvailable),
				// Without the first, the second may be too much for the pool.
				!errors.Is(outcomes[1].Err, credit.ErrNotApplied) && !errors.Is(outcomes[1].Err, credit.ErrInsufficientPool):
				problems[i] = fmt.Sprintf("outcomes %v and %v", outcomes[0].Err, outcomes[1].Err)
			}
		}
	})
	sum := 0
	for i := range goroutines {
		require.Empty(t, problems[i])
		sum += applied[i]
	}
	pool, err := engines[0].Pool(t.Context())
	require.NoError(t, err)
	require.True(t, pool.Remaining().IsZero(), "what is taken from one reseller is given to another: %s", show(pool))
	require.Len(t, requireSound(t, engines...), 1+2*resellers+2*sum, "two records for each transfer, and no others")
}

// fullQueue has more callers than may wait.
func fullQueue(t *testing.T, rng *rand.Rand, s store.Store) {
	l := open(t, rng, store.Options{MaxQueue: 2, MaxBatch: 1}, s)[0]
	accepted, problems := make([]int, goroutines), make([]error, goroutines)
	together(t, goroutines, "a full queue", func(i int) {
		for range 10 {
			switch _, err := l.Grant(t.Context(), credit.Grant{Amount: units(1)}); {
			case err == nil:
				accepted[i]++
			case !errors.Is(err, credit.ErrBusy) && !store.Retryable(err):
				problems[i] = err
			}
		}
	})
	sum := 0
	for i := range goroutines {
		require.NoError(t, problems[i], "a call is answered or the queue is full")
		sum += accepted[i]
	}
	require.Len(t, requireSound(t, l), sum, "what found the queue full did not happen")
}
