package store_test

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
)

func TestWhatIsRememberedIsNotReadAgain(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	b.allocate("1")
	b.store.loads.Store(0)
	for range 10 {
		b.allocate("1")
		b.grant("1")
	}
	assert.Zero(t, b.store.loads.Load(), "an engine that is alone reads what it has just written")
}

func TestNoAnswerRestsOnFiguresThatAreStale(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile func(other *book)
		command   func(b *book) credit.Command
		want      error
	}{
		"the pool was emptied":         {func(o *book) { o.allocate("900") }, func(b *book) credit.Command { return b.allocation("1", "") }, credit.ErrInsufficientPool},
		"the pool was filled":          {func(o *book) { o.grant("1000") }, func(b *book) credit.Command { return b.allocation("1500", "") }, nil},
		"the credit was taken back":    {func(o *book) { o.allocate("-100") }, func(b *book) credit.Command { return b.allocation("-1", "") }, credit.ErrExceedsAvailable},
		"the credit was given":         {func(o *book) { o.allocate("50") }, func(b *book) credit.Command { return b.allocation("-150", "") }, nil},
		"the reseller was frozen":      {func(o *book) { o.freeze() }, func(b *book) credit.Command { return b.allocation("1", "") }, credit.ErrNotActive},
		"it is frozen again":           {func(o *book) { o.freeze() }, func(b *book) credit.Command { return credit.Freeze{ResellerID: b.nimbus} }, credit.ErrNotActive},
		"it is not frozen yet":         {func(*book) {}, func(b *book) credit.Command { return credit.Unfreeze{ResellerID: b.nimbus} }, credit.ErrNotFrozen},
		"it was frozen, and now freed": {func(o *book) { o.freeze() }, func(b *book) credit.Command { return credit.Unfreeze{ResellerID: b.nimbus} }, nil},
		"the external id was taken":    {func(o *book) { o.add("2002") }, func(*book) credit.Command { return credit.NewReseller{ExternalID: "2002", Name: "Cirrus"} }, credit.ErrExists},
	} {
		for _, options := range []credit.BulkOptions{{}, {AllOrNothing: true}, {DryRun: true}} {
			t.Run(fmt.Sprintf("%s %+v", name, options), func(t *testing.T) {
				t.Parallel()
				b := newBook(t, store.Options{})
				b.allocate("100")
				other := b.another()
				_, err := other.Pool(t.Context())
				require.NoError(t, err)
				c.meanwhile(other)
				outcomes, err := b.Bulk(t.Context(), []credit.Command{c.command(b)}, options)
				require.NoError(t, err)
				require.ErrorIs(t, outcomes[0].Err, c.want, "an answer rests on stale figures")
				if c.want == nil {
					require.NoError(t, outcomes[0].Err, "an answer rests on stale figures")
				}
				b.sound()
			})
		}
	}
}

func (b *book) freeze() {
	b.t.Helper()
	_, err := b.FreezeReseller(b.t.Context(), credit.Freeze{ResellerID: b.nimbus})
	require.NoError(b.t, err)
}

func TestAKnownKeyReplaysWhateverHappenedSince(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile func(other *book)
	}{
		"nothing":                 {meanwhile: func(*book) {}},
		"the reseller was frozen": {meanwhile: func(o *book) { o.freeze() }},
		"the pool was emptied":    {meanwhile: func(o *book) { o.allocate("990") }},
		"figures are at their limit": {meanwhile: func(o *book) {
			_, err := o.RecordUsage(t.Context(), credit.Usage{ResellerID: o.nimbus, Amount: amt("999999999999")})
			require.NoError(t, err)
		}},
	} {
		for _, own := range []bool{true, false} {
			for _, options := range []credit.BulkOptions{{}, {AllOrNothing: true}, {DryRun: true}} {
				t.Run(fmt.Sprintf("%s, remembered %t, %+v", name, own, options), func(t *testing.T) {
					t.Parallel()
					b := newBook(t, store.Options{})
					original, err := b.another().Allocate(t.Context(), b.allocation("10", "k"))
					require.NoError(t, err)
					who := b.another()
					if own {
						who = b
					}
					c.meanwhile(who)
					outcomes, err := b.Bulk(t.Context(), []credit.Command{b.allocation("10", "k")}, options)
					require.NoError(t, err)
					require.NoError(t, outcomes[0].Err, "a known key was not answered at once")
					assert.Equal(t, credit.Receipt{Record: original.Record, Replayed: true}, outcomes[0].Receipt)

					outcomes, err = b.Bulk(t.Context(), []credit.Command{b.allocation("11", "k")}, options)
					require.NoError(t, err)
					require.ErrorIs(t, outcomes[0].Err, credit.ErrKeyConflict)
					var conflict *credit.ConflictError
					require.ErrorAs(t, outcomes[0].Err, &conflict)
					assert.Equal(t, credit.ConflictError{Key: "k", Kind: credit.KindAllocate, EarlierKind: credit.KindAllocate, EarlierSequence: original.Sequence}, *conflict)
				})
			}
		}
	}
}

// A rolled-back transaction, a fail-over with loss, a restore: the same sequence
// comes again, with another record.
func TestTheSameSequenceWithAnotherHashIsNoticed(t *testing.T) {
	t.Parallel()
	b := newBook(t, newClock().options())
	restored := newBook(t, newClock().options())
	require.Equal(t, b.log(), restored.log(), "the two begin alike")
	b.allocate("100")
	restored.allocate("900")
	require.Len(t, restored.log(), len(b.log()))

	b.store.Store = restored.store.Store
	_, err := b.Allocate(t.Context(), b.allocation("200", "")) // fits what is remembered only
	require.ErrorIs(t, err, credit.ErrInsufficientPool)
	_, err = b.Allocate(t.Context(), b.allocation("-500", "")) // fits what is there only
	require.NoError(t, err)
	r := b.allocate("600")
	assert.Equal(t, "1000", r.Pool.Allocated.String())
	b.sound()
}

// A load that finds it out clears away the others, which were not loaded, too.
func TestTheSameSequenceWithAnotherHashEndsWhatIsRememberedOfAll(t *testing.T) {
	t.Parallel()
	b, restored := newBook(t, newClock().options()), newBook(t, newClock().options())
	cirrus := credit.Allocation{ResellerID: b.add("2002"), Amount: amt("100")}
	restored.add("2002")
	require.Equal(t, b.log(), restored.log(), "the two begin alike")
	for _, one := range []*book{b, restored} {
		_, err := one.Allocate(t.Context(), cirrus)
		require.NoError(t, err)
		cirrus.Amount = amt("900")
	}
	require.Len(t, restored.log(), len(b.log()))

	b.store.Store = restored.store.Store
	_, err := b.Allocate(t.Context(), b.allocation("-1", "")) // a refusal rests on what was loaded
	require.ErrorIs(t, err, credit.ErrExceedsAvailable)
	cirrus.Amount = amt("1")
	r, err := b.Allocate(t.Context(), cirrus)
	require.NoError(t, err)
	assert.Equal(t, "901", r.After.Allocated.String(), "figures of another log were used")
	b.sound()
}

func TestEveryErrorOfTheStoreEndsWhatIsRemembered(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(next func() error) error{
		"moved":    func(func() error) error { return store.ErrMoved },
		"retry":    func(func() error) error { return store.Retry(errTemporary) },
		"rejected": func(func() error) error { return store.Reject(errFinal) },
		"lost":     lost,
		"written":  writtenButLost,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, store.Options{})
				cirrus := b.add("2002")
				_, err := b.Allocate(t.Context(), credit.Allocation{ResellerID: cirrus, Amount: amt("1")})
				require.NoError(t, err)
				var s sent
				b.store.append = s.answer(fail)
				b.store.loads.Store(0)
				_, err = b.Allocate(t.Context(), b.allocation("1", ""))
				if name != "rejected" {
					require.NoError(t, err)
				}
				_, err = b.Allocate(t.Context(), credit.Allocation{ResellerID: cirrus, Amount: amt("1")})
				require.NoError(t, err)
				if name != "moved" { // it was the head that was asked for again, and it had not moved
					assert.Positive(t, b.store.loads.Load(), "what was remembered survived an error")
				}
				b.sound()
			})
		})
	}
}

func TestAMemoryMayBeSmallOrShared(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 2, 3, 50} {
		t.Run(fmt.Sprintf("%d resellers", size), func(t *testing.T) {
			t.Parallel()
			memory := store.NewMemory(size)
			s := memstore.New()
			const ledgers, resellers = 4, 5
			// The resellers of all ledgers have the same ids.
			var books []*book
			for n := range ledgers {
				var ids int
				l, err := store.Open(t.Context(), s, credit.Distributor{ID: id(100 + n), Name: "Acme", Currency: "USD"}, store.Options{
					Memory: memory, NewID: func() uuid.UUID { ids++; return id(ids) }})
				require.NoError(t, err)
				b := &book{Ledger: l, t: t, store: &hooked{Store: s}}
				b.grant("1000")
				for r := range resellers {
					b.nimbus = b.add(fmt.Sprint(r))
				}
				books = append(books, b)
			}
			require.Equal(t, books[0].nimbus, books[1].nimbus)
			var all sync.WaitGroup
			for n, b := range books {
				all.Go(func() {
					page, err := b.Resellers(t.Context(), credit.ResellerQuery{})
					if !assert.NoError(t, err) {
						return
					}
					want := map[uuid.UUID]int{}
					for i := range 40 {
						r := page.Items[(i*7+n)%resellers].ID
						want[r] += n + 1
						receipt, err := b.Allocate(context.WithoutCancel(t.Context()), credit.Allocation{ResellerID: r, Amount: amt(fmt.Sprint(n + 1))})
						if assert.NoError(t, err) {
							assert.Equal(t, fmt.Sprint(want[r]), receipt.After.Allocated.String(), "figures of another ledger were used")
						}
					}
					_, err = b.Check(t.Context())
					assert.NoError(t, err)
				})
			}
			all.Wait()
		})
	}
}

// Ids that are counted up are as near to each other as the numbers of engines.
func TestEnginesThatShareAMemoryLeaveEachOtherRoom(t *testing.T) {
	t.Parallel()
	const engines, resellers = 64, 64
	memory := store.NewMemory(engines * resellers)
	s := &hooked{Store: memstore.New()}
	var ledgers []*store.Ledger
	allocations := make([]credit.Command, resellers)
	for n := range engines {
		ids := 0
		l, err := store.Open(t.Context(), s, credit.Distributor{ID: id(n + 1), Name: "Acme", Currency: "USD"}, store.Options{
			Memory: memory, NewID: func() uuid.UUID { ids++; return id(ids) }})
		require.NoError(t, err)
		_, err = l.Grant(t.Context(), credit.Grant{Amount: amt("100")})
		require.NoError(t, err)
		added := make([]credit.Command, resellers)
		for i := range added {
			added[i] = credit.NewReseller{ExternalID: fmt.Sprint(i), Name: "Nimbus"}
		}
		outcomes, err := l.Bulk(t.Context(), added, credit.BulkOptions{AllOrNothing: true})
		require.NoError(t, err)
		for i := range outcomes {
			allocations[i] = credit.Allocation{ResellerID: outcomes[i].Receipt.ResellerID, Amount: amt("1")}
		}
		ledgers = append(ledgers, l)
	}
	s.loads.Store(0)
	for _, l := range ledgers {
		_, err := l.Bulk(t.Context(), allocations, credit.BulkOptions{AllOrNothing: true})
		require.NoError(t, err)
	}
	assert.Zero(t, s.loads.Load(), "resellers were driven out of a memory that is for all of them")
}

// So many engines that their numbers come again: what another one left there was of
// another head.
func TestAnEngineTakesNothingThatAnotherOneRemembered(t *testing.T) {
	t.Parallel()
	memory := store.NewMemory(100)
	b := newBook(t, store.Options{Memory: memory})
	b.allocate("10")
	b.another().allocate("50")
	memory.ComeAgain()
	l, err := store.Open(t.Context(), b.store, acme, store.Options{Memory: memory})
	require.NoError(t, err)
	later := &book{Ledger: l, t: t, store: b.store, nimbus: b.nimbus}
	later.grant("1") // from now on it knows the head
	assert.Equal(t, "60", later.allocate("1").Before.Allocated.String(), "the figures are those of an older head")
	b.sound()
}

func TestAChangedStatusIsRemembered(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	b.freeze()
	b.store.loads.Store(0)
	outcomes, err := b.Bulk(t.Context(), []credit.Command{credit.Grant{Amount: amt("1")}, b.allocation("1", "")}, credit.BulkOptions{})
	require.NoError(t, err)
	require.NoError(t, outcomes[0].Err)
	require.ErrorIs(t, outcomes[1].Err, credit.ErrNotActive, "the status is the one before")
	assert.Zero(t, b.store.loads.Load())
	b.sound()
}

func TestAMemoryMayBeForAnyNumber(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{Memory: store.NewMemory(math.MaxInt)})
	b.allocate("1")
	b.store.loads.Store(0)
	b.allocate("1")
	assert.Zero(t, b.store.loads.Load())
}

func TestAMemoryOfNothingPanics(t *testing.T) {
	t.Parallel()
	assert.Panics(t, func() { store.NewMemory(0) })
	assert.Panics(t, func() { store.NewMemory(-1) })
}

func TestALedgerOnAnotherStoreRemembersNothing(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	on := b.forgetful()
	for range 3 {
		b.store.loads.Store(0)
		on.allocate("1")
		assert.EqualValues(t, 1, b.store.loads.Load(), "figures were remembered from call to call")
	}
	assert.Equal(t, b.Distributor(), on.Distributor())
	b.store.loads.Store(0)
	b.allocate("1")
	assert.Positive(t, b.store.loads.Load())
	r, err := on.Reseller(t.Context(), b.nimbus)
	require.NoError(t, err)
	assert.Equal(t, "4", r.Allocated.String())
}

// Many engines, tiny memories, failures: the sum is always right.
func TestEnginesThatFightNeverMintCredit(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	cirrus := b.add("2002")
	var all sync.WaitGroup
	for e := range 4 {
		l, err := store.Open(t.Context(), b.store, acme, store.Options{Memory: store.NewMemory(1 + e%2), MaxBatch: 3})
		require.NoError(t, err)
		for g := range 4 {
			all.Go(func() {
				for i := range 15 {
					reseller := b.nimbus
					if (g+i)%2 == 0 {
						reseller = cirrus
					}
					c := []credit.Command{
						credit.Allocation{ResellerID: reseller, Amount: amt("70")},
						credit.Usage{ResellerID: reseller, Amount: amt("30")},
						credit.RepossessAll{ResellerID: reseller},
						credit.Settlement{ResellerID: reseller, Amount: amt("25")},
					}
					_, err := l.Bulk(t.Context(), c, credit.BulkOptions{DryRun: i%5 == 0, AllOrNothing: i%3 == 0})
					assert.NoError(t, err)
				}
			})
		}
	}
	all.Wait()
	b.sound()
}

// The record that is appended beside it proves the head, and says nothing of the key.
func TestARefusalBesideARecordHidesNoKnownKey(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	original, err := b.Allocate(t.Context(), b.allocation("10", "k"))
	require.NoError(t, err)
	b.freeze()
	outcomes, err := b.Bulk(t.Context(), []credit.Command{credit.Grant{Amount: amt("1")}, b.allocation("10", "k")}, credit.BulkOptions{})
	require.NoError(t, err)
	require.NoError(t, outcomes[0].Err)
	require.NoError(t, outcomes[1].Err, "a known key is answered before the status counts")
	assert.Equal(t, credit.Receipt{Record: original.Record, Replayed: true}, outcomes[1].Receipt)
}
