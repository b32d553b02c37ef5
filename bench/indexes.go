package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"
)

// indexed are the indexes for queries that an allocation writes, without their prefix,
// and the statement that drops one where it is not dropIndex.
var indexed = map[string][]index{
	"sqlite": {{name: "records_reseller"}, {name: "records_kind"}, {name: "records_operator"}, {name: "records_reference"},
		{name: "records_customer"}, {name: "resellers_available"}},
	"postgres": {{name: "records_of_reseller"}, {name: "records_kind"}, {name: "records_operator"}, {name: "records_reference"},
		{name: "records_customer"}, {name: "balances_available"}},
	"mariadb": {{"records_reseller", "ALTER TABLE {{prefix}}records DROP FOREIGN KEY {{index}}, DROP KEY {{index}}"}, {"records_kind", dropKey},
		{"records_operator", dropKey}, {"records_reference", dropKey}, {"records_customer", dropKey},
		{"resellers_available", "ALTER TABLE {{prefix}}resellers DROP KEY {{index}}"}},
}

type index struct{ name, drop string }

const (
	dropIndex = "DROP INDEX {{index}}"
	dropKey   = "ALTER TABLE {{prefix}}records DROP KEY {{index}}"
)

// indexes compares tables that have all indexes with tables that have all but one.
func indexes(*run) []batch {
	var batches []batch
	for _, t := range databases() {
		b := batch{target: t, comparisons: []comparison{onDisk(t)}}
		for n, i := range indexed[t.name] {
			b.comparisons = append(b.comparisons, withoutIndex(t, n, i))
		}
		batches = append(batches, b)
	}
	return batches
}

// withoutIndex compares raw rows, of which the index is a larger part than of what
// the library does.
func withoutIndex(t target, n int, i index) comparison {
	return comparison{group: "indexes", action: "raw rows", against: "without the index " + i.name, store: t.name, callers: 1, size: fewResellers,
		views: []view{rate(goal{}), both("on disk", "B/record", bytesOf, goal{})},
		prepare: func(ctx context.Context, s *scope) (ours, baseline side, err error) {
			with, err := s.raw(ctx, fmt.Sprintf("with%d_", n), fewResellers)
			if err != nil {
				return nil, nil, err
			}
			without, err := s.raw(ctx, fmt.Sprintf("less%d_", n), fewResellers)
			if err != nil {
				return nil, nil, err
			}
			drop := strings.ReplaceAll(cmp.Or(i.drop, dropIndex), "{{index}}", "{{prefix}}"+i.name)
			if _, err := without.db.ExecContext(ctx, text(without.book.prefix, drop)); err != nil {
				return nil, nil, fmt.Errorf("drop %s: %w", i.name, err)
			}
			return with.weighed(), without.weighed(), nil
		}}
}

// weighed is a side that writes in bulk, and then looks how much disk a record takes.
func (r *rawLedger) weighed() side {
	write := byCallers(1, bulkSize, r.bulk)
	return func(ctx context.Context, length time.Duration) (got sample, err error) {
		if got, err = write(ctx, length); err != nil {
			return got, err
		}
		got.bytes, err = r.book.onDisk(ctx, r.hand.statistics, r.hand.size)
		return got, err
	}
}

// onDisk compares a record of the library, its indexes and its key included, with its
// row.
func onDisk(t target) comparison {
	const records = 100_000
	return comparison{group: "indexes", action: "a record, its indexes and its key", against: "its row", detail: grouped(records) + " records", store: t.name, callers: 1,
		size: records, views: []view{both("on disk", "B/record", bytesOf, goal{})}, long: true,
		prepare: func(ctx context.Context, s *scope) (ours, baseline side, err error) {
			b, err := s.shaped(ctx, shape{fewResellers, records})
			if err != nil {
				return nil, nil, err
			}
			weigh := func(query string) side {
				return func(ctx context.Context, _ time.Duration) (got sample, err error) {
					got.bytes, err = b.onDisk(ctx, s.hand.statistics, query)
					return got, err
				}
			}
			return weigh(s.hand.size), weigh(s.hand.rowSize), nil
		}}
}

// onDisk is how many bytes a record takes, by a query that sums them up for all.
func (b *book) onDisk(ctx context.Context, statistics, query string) (float64, error) {
	var bytes, records float64
	if statistics != "" {
		if _, err := b.db.ExecContext(ctx, text(b.prefix, statistics)); err != nil {
			return 0, fmt.Errorf("%s: %w", statistics, err)
		}
	}
	for _, one := range []struct {
		query string
		into  *float64
	}{{query, &bytes}, {"SELECT count(*) FROM {{prefix}}records", &records}} {
		if err := b.db.GetContext(ctx, one.into, text(b.prefix, one.query)); err != nil {
			return 0, fmt.Errorf("%s: %w", one.query, err)
		}
	}
	return bytes / records, nil
}
