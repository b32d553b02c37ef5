package main

import (
	"context"
	"fmt"
)

// batch is what is measured in one scope.
type batch struct {
	target      target
	comparisons []comparison
}

// handGoals are what allocating should reach against hand-written SQL, by store
// and callers.
var handGoals = map[string]map[int]goal{
	"sqlite":   {1: {least: 0.9}, 64: {least: 8}},
	"postgres": {1: {least: 1.5}, 8: {least: 4}, 64: {least: 25}, 256: {least: 25}},
	"mariadb":  {1: {least: 1.3}, 64: {least: 15}},
}

var (
	handTailGoals = map[string]map[int]goal{"postgres": {64: {most: 1.0 / 30}}}
	rawGoals      = map[string]goal{"sqlite": {least: 0.8}, "postgres": {least: 0.85}, "mariadb": {least: 0.7}}
)

// fewResellers is how many resellers a ledger has, unless the row says otherwise.
const fewResellers = 1000

// allocations compares allocating with hand-written SQL and with the raw limit.
func allocations(r *run) []batch {
	var batches []batch
	for _, t := range databases() {
		b := batch{target: t}
		for _, resellers := range []int{fewResellers, 100_000} {
			for _, callers := range []int{1, 8, 64, 256} {
				b.comparisons = append(b.comparisons, againstHand(t, resellers, callers))
			}
		}
		if t.name == postgres.name {
			b.comparisons = append(b.comparisons, againstOneStatement(t))
		}
		b.comparisons = append(b.comparisons, moreCallers(t), againstRaw(t))
		batches = append(batches, b)
	}
	return batches
}

func againstHand(t target, resellers, callers int) comparison {
	c := comparison{group: "hand", action: "allocate", against: "hand-written", store: t.name, callers: callers, size: int64(resellers),
		views: []view{rate(handGoals[t.name][callers]), tail(handTailGoals[t.name][callers])},
		short: resellers == fewResellers && (callers == 1 || callers == 64)}
	if resellers != fewResellers {
		c.detail = grouped(int64(resellers)) + " resellers"
	}
	c.prepare = func(ctx context.Context, s *scope) (ours, baseline side, err error) {
		b, err := s.ledger(ctx, fmt.Sprintf("ours%d_", resellers), resellers)
		if err != nil {
			return nil, nil, err
		}
		h, err := s.byHand(ctx, fmt.Sprintf("hand%d_", resellers), resellers, callers)
		if err != nil {
			return nil, nil, err
		}
		return byCallers(callers, 1, b.allocate), byCallers(callers, 1, h.allocate), nil
	}
	return c
}

func againstOneStatement(t target) comparison {
	const callers = 64
	return comparison{group: "one", action: "allocate", against: "one hand-written CTE statement", store: t.name, callers: callers, size: fewResellers,
		views: []view{rate(goal{least: 12}), tail(goal{})}, short: true,
		prepare: func(ctx context.Context, s *scope) (ours, baseline side, err error) {
			b, err := s.ledger(ctx, fmt.Sprintf("ours%d_", fewResellers), fewResellers)
			if err != nil {
				return nil, nil, err
			}
			h, err := s.byHand(ctx, fmt.Sprintf("hand%d_", fewResellers), fewResellers, callers)
			if err != nil {
				return nil, nil, err
			}
			return byCallers(callers, 1, b.allocate), byCallers(callers, 1, h.allocateAtOnce), nil
		}}
}

// moreCallers compares 256 callers with 64, both through the engine.
func moreCallers(t target) comparison {
	return comparison{group: "more", action: "allocate with 256 callers", against: "with 64 callers", store: t.name, callers: 256, size: fewResellers,
		views: []view{rate(goal{least: 1})},
		prepare: func(ctx context.Context, s *scope) (ours, baseline side, err error) {
			b, err := s.ledger(ctx, fmt.Sprintf("ours%d_", fewResellers), fewResellers)
			if err != nil {
				return nil, nil, err
			}
			return byCallers(256, 1, b.allocate), byCallers(64, 1, b.allocate), nil
		}}
}

func againstRaw(t target) comparison {
	return comparison{group: "raw", action: "bulk of 1,000", against: "raw multi-row statements", store: t.name, callers: 1, size: fewResellers,
		views: []view{rate(rawGoals[t.name]), latency(goal{})}, short: true,
		prepare: func(ctx context.Context, s *scope) (ours, baseline side, err error) {
			b, err := s.ledger(ctx, fmt.Sprintf("ours%d_", fewResellers), fewResellers)
			if err != nil {
				return nil, nil, err
			}
			r, err := s.raw(ctx, "raw_", fewResellers)
			if err != nil {
				return nil, nil, err
			}
			return byCallers(1, bulkSize, b.bulk), byCallers(1, bulkSize, r.bulk), nil
		}}
}
