package memstore_test

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
)

func distributor() credit.Distributor {
	return credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}
}

func TestTheZeroValueIsAnEmptyStore(t *testing.T) {
	t.Parallel()
	var s memstore.Store
	d := distributor()
	_, err := s.Load(t.Context(), d.ID, credit.ReadSet{})
	require.ErrorIs(t, err, store.ErrNoLedger)
	got, err := s.Create(t.Context(), d)
	require.NoError(t, err)
	require.Equal(t, d, got)
	_, err = s.Load(t.Context(), d.ID, credit.ReadSet{})
	require.NoError(t, err)
}

// grants are n records that continue the head.
func grants(head credit.Head, n int) store.Batch {
	var b store.Batch
	for range n {
		r := credit.Record{Sequence: head.Sequence + 1, ID: uuid.New(), Kind: credit.KindGrant, Amount: credit.FromMillionths(1), RecordedAt: time.UnixMicro(1)}
		r.Hash = r.ChainHash(head.Hash)
		b.Records = append(b.Records, r)
		head = b.Head()
	}
	return b
}

// What the constraints of a database refuse, the store refuses, too, and says that
// nothing was written.
func TestContradictionsAreRejected(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, d := memstore.New(), distributor()
	_, err := s.Create(ctx, d)
	require.NoError(t, err)
	head := credit.Head{Hash: credit.Genesis(d)}
	first := grants(head, 1)
	known := credit.Reseller{ID: uuid.New(), ExternalID: "known", BoundAt: time.UnixMicro(7)}
	first.Added = []credit.Reseller{known}
	require.NoError(t, s.Append(ctx, d.ID, head, first))
	head = first.Head()

	otherID, otherTime := known, known
	otherID.ExternalID, otherTime.BoundAt = "another", time.UnixMicro(8)
	for name, change := range map[string]func(*store.Batch){
		"no records":                 func(b *store.Batch) { b.Records = nil },
		"a gap":                      func(b *store.Batch) { b.Records[1].Sequence++ },
		"an amount that is too fine": func(b *store.Batch) { b.Records[1].Amount = decimal.New(1, -7) },
		"a figure that is too large": func(b *store.Batch) { b.Records[1].Pool.Granted = decimal.New(1_000_000_000_000_000_000, -6) },
		"a balance that is too large": func(b *store.Batch) {
			b.Added = []credit.Reseller{{ID: uuid.New(), Figures: credit.Figures{Used: decimal.New(1, 12)}}}
		},
		"a key twice": func(b *store.Batch) { b.Records[0].Key, b.Records[2].Key = "k", "k" },
		"an id that exists": func(b *store.Batch) {
			b.Added = []credit.Reseller{{ID: uuid.New(), ExternalID: "x"}, {ID: known.ID, ExternalID: "y"}}
		},
		"an external id that exists": func(b *store.Batch) {
			b.Added = []credit.Reseller{{ID: uuid.New(), ExternalID: "x"}, {ID: uuid.New(), ExternalID: "known"}}
		},
		"an external id added twice": func(b *store.Batch) {
			b.Added = []credit.Reseller{{ID: uuid.New(), ExternalID: "x"}, {ID: uuid.New(), ExternalID: "x"}}
		},
		"a move of nobody": func(b *store.Batch) { b.Moved = []store.Balance{{ID: uuid.New()}} },
		"a move to a figure that is none": func(b *store.Batch) {
			b.Moved = []store.Balance{{ID: known.ID, Figures: credit.Figures{Used: decimal.New(1, 12)}}}
		},
		"a change of nobody":                func(b *store.Batch) { b.Changed = []credit.Reseller{{ID: uuid.New()}} },
		"a change of an external id":        func(b *store.Batch) { b.Changed = []credit.Reseller{otherID} },
		"a change of the time it was bound": func(b *store.Batch) { b.Changed = []credit.Reseller{otherTime} },
	} {
		t.Run(name, func(t *testing.T) {
			b := grants(head, 3)
			b.Records[1].Key = "other"
			change(&b)
			err := s.Append(ctx, d.ID, head, b)
			require.Error(t, err)
			require.NotErrorIs(t, err, store.ErrMoved)
			require.False(t, store.Retryable(err), "it would fail again")
			found, err := s.Load(ctx, d.ID, credit.ReadSet{Resellers: []uuid.UUID{known.ID}, ExternalIDs: []string{"x", "y"}, Keys: []string{"k", "other"}})
			require.NoError(t, err)
			require.Equal(t, head.Hash, found.Head.Hash)
			require.Len(t, found.Resellers, 1)
			require.Empty(t, found.Records)
		})
	}
}

// Listings stay in order however resellers come in: one by one and in lots, early
// and late ones, before and after listings.
func TestListingsAreInOrder(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	rng := rand.New(rand.NewPCG(1, 2))
	s, d := memstore.New(), distributor()
	_, err := s.Create(ctx, d)
	require.NoError(t, err)
	head := credit.Head{Hash: credit.Genesis(d)}
	var all []credit.Reseller
	for range 200 {
		b := grants(head, 1)
		for range 1 + rng.IntN(9) {
			r := credit.Reseller{ID: uuid.New(), Status: credit.StatusActive, BoundAt: time.UnixMicro(rng.Int64N(300)).UTC()}
			if r.ExternalID = fmt.Sprint(len(all)); rng.IntN(2) == 0 {
				r.BoundAt = time.UnixMicro(int64(1000 + len(all))).UTC() // in order, as most are
			}
			b.Added = append(b.Added, r)
			all = append(all, r)
		}
		require.NoError(t, s.Append(ctx, d.ID, head, b))
		head = b.Head()
		if rng.IntN(3) > 0 {
			continue
		}
		slices.SortFunc(all, func(a, b credit.Reseller) int {
			return cmp.Or(a.BoundAt.Compare(b.BoundAt), bytes.Compare(a.ID[:], b.ID[:]))
		})
		page, err := s.Resellers(ctx, d.ID, credit.ResellerQuery{Statuses: []credit.Status{credit.StatusActive}, Order: credit.OrderOldest, Limit: len(all) + 1}, store.ResellerPosition{})
		require.NoError(t, err)
		require.Len(t, page, len(all))
		for i := range page {
			require.Equal(t, all[i].ID, page[i].ID)
		}
	}
}

// An allocation on one hot pool: through the engine on this store, and as little as
// a program without a library could do, a mutex, a map and an append.
func BenchmarkAllocate(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("ledger/callers=%d", callers), func(b *testing.B) {
			ctx := b.Context()
			l, err := store.Open(ctx, memstore.New(), distributor(), store.Options{})
			require.NoError(b, err)
			_, err = l.Grant(ctx, credit.Grant{Amount: decimal.NewFromInt(999_999_999_999)})
			require.NoError(b, err)
			r, err := l.AddReseller(ctx, credit.NewReseller{ExternalID: "1", Name: "R"})
			require.NoError(b, err)
			one := decimal.NewFromInt(1)
			parallel(b, callers, func() error {
				_, err := l.Allocate(ctx, credit.Allocation{ResellerID: r.ResellerID, Amount: one})
				return err
			})
		})
		b.Run(fmt.Sprintf("mutex/callers=%d", callers), func(b *testing.B) {
			type entry struct {
				id       uuid.UUID
				reseller string
				amount   decimal.Decimal
				at       time.Time
			}
			var mu sync.Mutex
			remaining, balances, log := decimal.NewFromInt(999_999_999_999), map[string]decimal.Decimal{}, []entry(nil)
			one := decimal.NewFromInt(1)
			parallel(b, callers, func() error {
				mu.Lock()
				defer mu.Unlock()
				if remaining.LessThan(one) {
					return credit.ErrInsufficientPool
				}
				remaining = remaining.Sub(one)
				balances["1"] = balances["1"].Add(one)
				log = append(log, entry{uuid.New(), "1", one, time.Now()})
				return nil
			})
		})
	}
}

// parallel shares b.N calls of f among callers.
func parallel(b *testing.B, callers int, f func() error) {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for n := i; n < b.N; n += callers {
				if err := f(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// Append alone, on a ledger of growing length: the cost of one must not grow.
func BenchmarkAppend(b *testing.B) {
	for _, length := range []int{0, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("length=%d", length), func(b *testing.B) {
			ctx := b.Context()
			s, d := memstore.New(), distributor()
			_, err := s.Create(ctx, d)
			require.NoError(b, err)
			head := credit.Head{Hash: credit.Genesis(d)}
			at, zero := time.UnixMicro(1).UTC(), credit.FromMillionths(0)
			next := func(n int) store.Batch {
				batch := store.Batch{Records: make([]credit.Record, n)}
				for i := range batch.Records {
					figures := credit.Figures{Allocated: zero, Used: zero}
					batch.Records[i] = credit.Record{Sequence: head.Sequence + int64(i) + 1, Kind: credit.KindGrant, Amount: zero, Before: figures, After: figures,
						Pool: credit.Pool{Granted: zero, Allocated: zero}, OccurredAt: at, RecordedAt: at, Hash: credit.Hash{1}}
				}
				return batch
			}
			write := func(n int) {
				batch := next(n)
				if err := s.Append(ctx, d.ID, head, batch); err != nil {
					b.Fatal(err)
				}
				head = batch.Head()
			}
			for head.Sequence < int64(length) {
				write(1000)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				write(1)
			}
		})
	}
}

// BenchmarkMemory reports the bytes that 200,000 allocations take, each with a
// key and an operator, to a thousand resellers.
func BenchmarkMemory(b *testing.B) {
	const n = 200_000
	for range b.N {
		ctx := b.Context()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		s := memstore.New()
		l, err := store.Open(ctx, s, distributor(), store.Options{})
		require.NoError(b, err)
		_, err = l.Grant(ctx, credit.Grant{Amount: decimal.NewFromInt(999_999_999)})
		require.NoError(b, err)
		var ids []uuid.UUID
		for i := range 1000 {
			r, err := l.AddReseller(ctx, credit.NewReseller{ExternalID: fmt.Sprint(i), Name: fmt.Sprintf("Reseller %d", i)})
			require.NoError(b, err)
			ids = append(ids, r.ResellerID)
		}
		commands := make([]credit.Command, 1000)
		for i := 0; i < n; i += len(commands) {
			for j := range commands {
				commands[j] = credit.Allocation{ResellerID: ids[j], Amount: decimal.NewFromInt(1), Key: fmt.Sprintf("purchase-order-%d", i+j), Operator: "ops@example.com"}
			}
			_, err := l.Bulk(ctx, commands, credit.BulkOptions{})
			require.NoError(b, err)
		}
		clear(commands)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "bytes/record")
		runtime.KeepAlive(l)
	}
}

func TestARejectedBatchLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*credit.Record){
		"an amount that is none": func(r *credit.Record) { r.Amount = decimal.New(1, -7) },
		"a key twice":            func(r *credit.Record) { r.Key = "key 1" },
	} {
		for _, there := range []int64{0, 1, 255, 256, 300} {
			s, d := memstore.New(), distributor()
			_, err := s.Create(t.Context(), d)
			require.NoError(t, err)
			head := credit.Head{Hash: credit.Genesis(d)}
			at := time.UnixMicro(1).UTC()
			batch := func(n int64) store.Batch {
				var b store.Batch
				for i := range n {
					b.Records = append(b.Records, credit.Record{Sequence: head.Sequence + i + 1, Kind: credit.KindGrant, Key: fmt.Sprintf("key %d", head.Sequence+i+1),
						Hash: credit.Hash{1}, OccurredAt: at, RecordedAt: at})
				}
				return b
			}
			write := func(b store.Batch) {
				require.NoError(t, s.Append(t.Context(), d.ID, head, b), name)
				head = b.Head()
			}
			if there > 0 {
				write(batch(there))
			}
			bad := batch(300)
			for i := range bad.Records {
				bad.Records[i].Hash = credit.Hash{2}
			}
			bad.Records[0].Key = "key 1 of the bad batch"
			spoil(&bad.Records[299])
			if there == 0 {
				bad.Records[0].Key = "key 1"
			}
			require.Error(t, s.Append(t.Context(), d.ID, head, bad), name)
			write(batch(2))
			last, err := s.Records(t.Context(), d.ID, credit.RecordQuery{NewestFirst: true, Limit: 1})
			require.NoError(t, err)
			require.Equal(t, head.Sequence, last[0].Sequence)
			require.Equal(t, head.Hash, last[0].Hash, "%s: what was rejected after record %d is still there", name, there)
		}
	}
}
