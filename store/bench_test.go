package store_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
)

// BenchmarkAllocate compares an allocation through the engine with the least that
// any ledger must do: take a lock, find the reseller, add decimals, make an id,
// keep a record.
func BenchmarkAllocate(b *testing.B) {
	for _, callers := range []struct {
		name  string
		count int
	}{{"1 caller", 1}, {"64 callers", 64}} {
		b.Run("engine/"+callers.name, func(b *testing.B) {
			ctx := context.Background() //nolint:usetesting // the commonest context of a job has no Done
			allocate := benchmarkLedger(b)
			divide(b, callers.count, func() error { return allocate(ctx) })
		})
		b.Run("engine, cancellable/"+callers.name, func(b *testing.B) {
			allocate := benchmarkLedger(b)
			divide(b, callers.count, func() error { return allocate(b.Context()) })
		})
		b.Run("bare loop/"+callers.name, func(b *testing.B) {
			divide(b, callers.count, bareLoop())
		})
	}
}

func benchmarkLedger(b *testing.B) func(context.Context) error {
	b.Helper()
	l, err := store.Open(b.Context(), memstore.New(), acme, store.Options{})
	require.NoError(b, err)
	_, err = l.Grant(b.Context(), credit.Grant{Amount: decimal.NewFromInt(999_999_999_999)})
	require.NoError(b, err)
	var resellers []uuid.UUID
	for _, external := range []string{"1", "2", "3", "4", "5", "6", "7", "8"} {
		r, err := l.AddReseller(b.Context(), credit.NewReseller{ExternalID: external, Name: "Reseller"})
		require.NoError(b, err)
		resellers = append(resellers, r.ResellerID)
	}
	amount := decimal.New(125, -2)
	var n atomic.Int64
	return func(ctx context.Context) error {
		_, err := l.Allocate(ctx, credit.Allocation{ResellerID: resellers[n.Add(1)%int64(len(resellers))], Amount: amount, Operator: "ops"})
		return err
	}
}

func bareLoop() func() error {
	type record struct {
		id, reseller      uuid.UUID
		sequence          int64
		amount, allocated decimal.Decimal
		pool              decimal.Decimal
		operator          string
	}
	var mu sync.Mutex
	var log []record
	resellers := map[uuid.UUID]decimal.Decimal{}
	for n := range 8 {
		resellers[id(n)] = decimal.Zero
	}
	pool, amount := decimal.NewFromInt(999_999_999_999), decimal.New(125, -2)
	var n atomic.Int64
	return func() error {
		mu.Lock()
		defer mu.Unlock()
		reseller := id(int(n.Add(1) % 8))
		if pool.LessThan(amount) {
			return credit.ErrInsufficientPool
		}
		pool = pool.Sub(amount)
		resellers[reseller] = resellers[reseller].Add(amount)
		log = append(log, record{uuid.Must(uuid.NewV7()), reseller, int64(len(log)) + 1, amount, resellers[reseller], pool, "ops"})
		return nil
	}
}

// divide runs f b.N times, by so many callers at once.
func divide(b *testing.B, callers int, f func() error) {
	b.ReportAllocs()
	b.ResetTimer()
	var all sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(b.N))
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
