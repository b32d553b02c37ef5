package store_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
)

// BenchmarkAllocate compares an allocation with a key, through the engine on
// memstore, with the least that any ledger must do: take a lock, find the reseller,
// add decimals, make an id, keep a record. Both take turns in rounds, each on a
// fresh ledger.
//
//	go test -run '^$' -bench BenchmarkAllocate -benchtime 20x ./store
func BenchmarkAllocate(b *testing.B) {
	background := context.Background() //nolint:usetesting // the commonest context of a job has no Done
	for _, resellers := range []int{100, 10_000} {
		for _, callers := range []int{1, 64} {
			for _, c := range []struct {
				name string
				ctx  context.Context
			}{{"", background}, {"/cancellable", b.Context()}} {
				b.Run(fmt.Sprintf("resellers=%d/callers=%d%s", resellers, callers, c.name), func(b *testing.B) {
					inTurns(b, callers, 50_000, func() func() error {
						l, ids := benchmarkLedger(b, resellers)
						var n atomic.Int64
						return func() error {
							_, err := l.Allocate(c.ctx, allocation(ids, n.Add(1)))
							return err
						}
					}, func() func() error { return bareLoop(resellers) })
				})
			}
		}
		b.Run(fmt.Sprintf("resellers=%d/bulk=1000", resellers), func(b *testing.B) {
			inTurns(b, 1, 50, func() func() error {
				l, ids := benchmarkLedger(b, resellers)
				commands, n := make([]credit.Command, 1000), int64(0)
				return func() error {
					for i := range commands {
						n++
						commands[i] = allocation(ids, n)
					}
					_, err := l.Bulk(background, commands, credit.BulkOptions{})
					return err
				}
			}, func() func() error {
				one := bareLoop(resellers)
				return func() error {
					for range 1000 {
						if err := one(); err != nil {
							return err
						}
					}
					return nil
				}
			})
		})
	}
}

func allocation(ids []uuid.UUID, n int64) credit.Allocation {
	return credit.Allocation{ResellerID: ids[n%int64(len(ids))], Amount: decimal.New(125, -2), Operator: "ops@example.com", Key: fmt.Sprintf("po-%d", n)}
}

func benchmarkLedger(b *testing.B, resellers int) (*store.Ledger, []uuid.UUID) {
	b.Helper()
	l, err := store.Open(b.Context(), memstore.New(), acme, store.Options{Memory: store.NewMemory(resellers), MaxBulk: max(resellers, 10_000)})
	require.NoError(b, err)
	_, err = l.Grant(b.Context(), credit.Grant{Amount: decimal.NewFromInt(999_999_999_999)})
	require.NoError(b, err)
	commands := make([]credit.Command, resellers)
	for i := range commands {
		commands[i] = credit.NewReseller{ExternalID: fmt.Sprintf("2000%08d", i), Name: fmt.Sprintf("Reseller %d", i)}
	}
	outcomes, err := l.Bulk(b.Context(), commands, credit.BulkOptions{AllOrNothing: true})
	require.NoError(b, err)
	ids := make([]uuid.UUID, resellers)
	for i, o := range outcomes {
		ids[i] = o.Receipt.ResellerID
	}
	return l, ids
}

func bareLoop(count int) func() error {
	type record struct {
		id, reseller      uuid.UUID
		sequence          int64
		amount, allocated decimal.Decimal
		pool              decimal.Decimal
		operator, key     string
	}
	var mu sync.Mutex
	var log []record
	ids, resellers := make([]uuid.UUID, count), make(map[uuid.UUID]decimal.Decimal, count)
	for n := range ids {
		ids[n] = id(n)
		resellers[ids[n]] = decimal.Zero
	}
	pool := decimal.NewFromInt(999_999_999_999)
	var n atomic.Int64
	return func() error {
		c := allocation(ids, n.Add(1))
		mu.Lock()
		defer mu.Unlock()
		if pool.LessThan(c.Amount) {
			return credit.ErrInsufficientPool
		}
		pool = pool.Sub(c.Amount)
		resellers[c.ResellerID] = resellers[c.ResellerID].Add(c.Amount)
		log = append(log, record{uuid.Must(uuid.NewV7()), c.ResellerID, int64(len(log)) + 1, c.Amount, resellers[c.ResellerID], pool, c.Operator, c.Key})
		return nil
	}
}

// inTurns times so many calls of what each of the two makes, by so many callers at
// once: one round of each for every iteration.
func inTurns(b *testing.B, callers, calls int, ours, theirs func() func() error) {
	b.Helper()
	var took [2]time.Duration
	var allocs [2]uint64
	for b.Loop() {
		for i, one := range []func() func() error{ours, theirs} {
			f := one()
			var before, after runtime.MemStats
			runtime.GC() // what the other one left
			runtime.ReadMemStats(&before)
			begin := time.Now()
			divide(b, callers, calls, f)
			took[i] += time.Since(begin)
			runtime.ReadMemStats(&after)
			allocs[i] += after.Mallocs - before.Mallocs
		}
	}
	n := float64(b.N) * float64(calls)
	b.ReportMetric(float64(took[0].Nanoseconds())/n, "ns/call")
	b.ReportMetric(float64(allocs[0])/n, "allocs/call")
	b.ReportMetric(float64(took[1].Nanoseconds())/n, "bare-ns/call")
	b.ReportMetric(float64(took[0])/float64(took[1]), "ratio")
	b.ReportMetric(0, "ns/op")
}

// divide runs f so often, by so many callers at once.
func divide(b *testing.B, callers, calls int, f func() error) {
	b.Helper()
	var all sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(calls))
	for range callers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := f(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkRemembered reports the bytes that a reseller takes in a Memory that has as
// many as it was made for.
func BenchmarkRemembered(b *testing.B) {
	const n = 100_000
	var before, between, after runtime.MemStats
	for range b.N {
		runtime.GC()
		runtime.ReadMemStats(&before)
		memory := store.NewMemory(n)
		s := memstore.New()
		l, err := store.Open(b.Context(), s, acme, store.Options{Memory: memory})
		require.NoError(b, err)
		for i := range n / 1000 {
			commands := make([]credit.Command, 1000)
			for j := range commands {
				commands[j] = credit.NewReseller{ExternalID: fmt.Sprintf("2000%08d", i*1000+j), Name: fmt.Sprintf("Reseller %d", i*1000+j)}
			}
			_, err := l.Bulk(b.Context(), commands, credit.BulkOptions{AllOrNothing: true})
			require.NoError(b, err)
		}
		runtime.GC()
		runtime.ReadMemStats(&between)
		runtime.KeepAlive(l)
		runtime.KeepAlive(memory) // the last that is seen of either
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(s)
		b.ReportMetric(float64(between.HeapAlloc-after.HeapAlloc)/n, "bytes/reseller")
	}
}

// BenchmarkCheckMemory reports what a check holds once it has replayed the log, besides what
// the store holds: for each reseller that it may remember, and for as many again.
//
//	go test -run '^$' -bench BenchmarkCheckMemory -benchtime 1x ./store
func BenchmarkCheckMemory(b *testing.B) {
	const remembered = 100_000
	for _, resellers := range []int{remembered / 2, remembered, 2 * remembered, 4 * remembered} {
		b.Run(fmt.Sprintf("resellers=%d", resellers), func(b *testing.B) {
			l, _ := benchmarkLedger(b, resellers)
			for b.Loop() {
				runtime.GC()
				var before, within runtime.MemStats
				runtime.ReadMemStats(&before)
				_, err := l.CheckRemembering(b.Context(), store.CheckOptions{Progress: func(so store.Checked, _ int64) {
					if so.Resellers == resellers {
						runtime.GC()
						runtime.ReadMemStats(&within)
					}
				}}, remembered)
				require.NoError(b, err)
				held := float64(within.HeapAlloc) - float64(before.HeapAlloc)
				b.ReportMetric(held, "bytes")
				b.ReportMetric(held/float64(min(resellers, remembered)), "bytes/remembered")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}
