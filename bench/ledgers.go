package main

import (
	"context"
	"sync/atomic"
)

// manyLedgers is how many distributors are served at once.
const manyLedgers = 100

// ledgers compares a hundred ledgers in the same tables with as many that are kept
// by hand.
func ledgers(*run) []batch {
	var batches []batch
	for _, t := range databases() {
		b := batch{target: t}
		for _, callers := range []int{64, 256} {
			b.comparisons = append(b.comparisons, comparison{group: "ledgers", action: "allocate on 100 ledgers at once", against: "hand-written", store: t.name,
				callers: callers, size: manyLedgers, views: []view{rate(goal{}), tail(goal{})},
				prepare: func(ctx context.Context, s *scope) (ours, baseline side, err error) {
					books, err := s.ledgers(ctx, "many_", manyLedgers, 10)
					if err != nil {
						return nil, nil, err
					}
					byHand, err := s.severalByHand(ctx, "manyhand_", manyLedgers, 10, callers)
					if err != nil {
						return nil, nil, err
					}
					var n atomic.Int64
					return byCallers(callers, 1, func(ctx context.Context) error { return books[n.Add(1)%manyLedgers].allocate(ctx) }),
						byCallers(callers, 1, func(ctx context.Context) error { return byHand[n.Add(1)%manyLedgers].allocate(ctx) }), nil
				}})
		}
		batches = append(batches, b)
	}
	return batches
}
