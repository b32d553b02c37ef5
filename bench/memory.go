package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
)

// inMemory compares the engine on memstore with the least that any ledger must do,
// and many callers with one.
func inMemory(*run) []batch {
	b := batch{target: memory}
	for _, callers := range []int{1, 64} {
		for _, resellers := range []int{fewResellers, 100_000} {
			c := comparison{group: "memory", action: "allocate", against: "bare loop", store: memory.name, callers: callers, size: int64(resellers),
				views: []view{cost(goal{})}, short: resellers == fewResellers,
				prepare: func(context.Context, *scope) (ours, baseline side, err error) {
					return inMemoryBy(callers, freshEngine(resellers)), inMemoryBy(callers, freshLoop(resellers)), nil
				}}
			if callers == 1 && resellers == fewResellers {
				c.views = []view{cost(goal{most: 1.5})}
			}
			if resellers != fewResellers {
				c.detail = grouped(int64(resellers)) + " resellers"
			}
			b.comparisons = append(b.comparisons, c)
		}
	}
	b.comparisons = append(b.comparisons, comparison{group: "memory", action: "allocate with 64 callers", against: "with 1 caller", store: memory.name, callers: 64,
		size: fewResellers, views: []view{rate(goal{least: 1})}, short: true,
		prepare: func(context.Context, *scope) (ours, baseline side, err error) {
			return inMemoryBy(64, freshEngine(fewResellers)), inMemoryBy(1, freshEngine(fewResellers)), nil
		}})
	return []batch{b}
}

func freshEngine(resellers int) func(context.Context) (func(context.Context) error, error) {
	return func(ctx context.Context) (func(context.Context) error, error) {
		b, err := newBook(ctx, memstore.New(), resellers)
		if err != nil {
			return nil, err
		}
		return b.allocate, nil
	}
}

// looped is what the bare loop keeps of an allocation.
type looped struct {
	id, reseller            uuid.UUID
	sequence                int64
	amount, allocated, pool decimal.Decimal
	operator, key           string
}

// freshLoop is the least that a ledger in memory must do: take a lock, find the
// reseller, add decimals, make an id, keep a record.
func freshLoop(resellers int) func(context.Context) (func(context.Context) error, error) {
	return func(context.Context) (func(context.Context) error, error) {
		var mu sync.Mutex
		var log []looped
		var n atomic.Int64
		ids, allocated := make([]uuid.UUID, resellers), make(map[uuid.UUID]decimal.Decimal, resellers)
		for i := range ids {
			ids[i] = uuid.Must(uuid.NewV7())
			allocated[ids[i]] = decimal.Zero
		}
		pool := decimal.NewFromInt(999_999_999_999)
		return func(context.Context) error {
			i := n.Add(1)
			c := credit.Allocation{ResellerID: ids[i*scatter%int64(len(ids))], Amount: cent, Operator: operator, Key: fmt.Sprintf("po-%d", i)}
			mu.Lock()
			defer mu.Unlock()
			if pool.LessThan(c.Amount) {
				return credit.ErrInsufficientPool
			}
			pool = pool.Sub(c.Amount)
			allocated[c.ResellerID] = allocated[c.ResellerID].Add(c.Amount)
			log = append(log, looped{uuid.Must(uuid.NewV7()), c.ResellerID, int64(len(log)) + 1, c.Amount, allocated[c.ResellerID], pool, c.Operator, c.Key})
			return nil
		}, nil
	}
}
