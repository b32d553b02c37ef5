package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/report"
)

const (
	// readResellers is how many resellers the ledger has that is read, and
	// readMovements how many allocations one of them has.
	readResellers = 100_000
	readMovements = 1000
	// pageSize is the default.
	pageSize = credit.DefaultPageSize
)

// reading compares pages with the first one, the past with the present, and
// reading all with a bare SELECT.
func reading(*run) []batch {
	var batches []batch
	for _, t := range databases() {
		b := batch{target: t}
		for _, order := range credit.Orders() {
			for _, place := range []place{middle, final} {
				b.comparisons = append(b.comparisons, page(t, "resellers by "+string(order), place, func(ctx context.Context, l credit.Ledger, c credit.Cursor, limit int) (credit.Cursor, int, error) {
					p, err := l.Resellers(ctx, credit.ResellerQuery{Order: order, Cursor: c, Limit: limit})
					return p.Next, len(p.Items), err
				}))
			}
		}
		for _, newestFirst := range []bool{false, true} {
			name := map[bool]string{false: "records, oldest first", true: "records, newest first"}[newestFirst]
			for _, place := range []place{middle, final} {
				b.comparisons = append(b.comparisons, page(t, name, place, func(ctx context.Context, l credit.Ledger, c credit.Cursor, limit int) (credit.Cursor, int, error) {
					p, err := l.Records(ctx, credit.RecordQuery{NewestFirst: newestFirst, Cursor: c, Limit: limit})
					return p.Next, len(p.Items), err
				}))
			}
		}
		b.comparisons = append(b.comparisons, past(t)...)
		b.comparisons = append(b.comparisons, statement(t), export(t), check(t))
		batches = append(batches, b)
	}
	return batches
}

// readBook is a ledger whose resellers differ in what they have, the first of
// them with many records.
func (s *scope) readBook(ctx context.Context) (*book, error) {
	const prefix = "read_"
	if books, ok := s.books[prefix]; ok {
		return books[0], nil
	}
	b, err := s.ledger(ctx, prefix, readResellers)
	if err != nil {
		return nil, err
	}
	for first := 0; first < readResellers; first += most {
		commands := make([]credit.Command, most)
		for i := range commands {
			n := first + i
			commands[i] = credit.Allocation{ResellerID: b.ids[n], Amount: decimal.New(int64(n*scatter%readResellers)+1, -2), Operator: operator}
		}
		if _, err := b.all(ctx, commands); err != nil {
			return nil, err
		}
	}
	commands := make([]credit.Command, readMovements)
	for i := range commands {
		commands[i] = credit.Allocation{ResellerID: b.ids[0], Amount: cent, Operator: operator, Key: fmt.Sprintf("read-%d", i)}
	}
	if _, err := b.all(ctx, commands); err != nil {
		return nil, err
	}
	return b, s.settle(ctx, b.db)
}

// place is where in a listing a page is.
type place string

const (
	middle place = "middle"
	final  place = "last"
)

// list reads a page, and returns the next cursor and the number of items.
type list func(ctx context.Context, l credit.Ledger, c credit.Cursor, limit int) (next credit.Cursor, items int, err error)

func page(t target, name string, at place, read list) comparison {
	c := comparison{group: "pages", action: fmt.Sprintf("%s page of %d", at, pageSize), against: "first page", detail: name, store: t.name, callers: 1,
		size: readResellers, label: name, views: []view{latency(goal{}), tail(goal{})}}
	if at == final {
		c.views = []view{latency(goal{most: 1.5}), tail(goal{})}
	}
	c.prepare = func(ctx context.Context, s *scope) (ours, baseline side, err error) {
		b, err := s.readBook(ctx)
		if err != nil {
			return nil, nil, err
		}
		cursor, err := seek(ctx, b, at, read)
		if err != nil {
			return nil, nil, err
		}
		one := func(c credit.Cursor) side {
			return byCallers(1, 1, func(ctx context.Context) error {
				_, items, err := read(ctx, b, c, pageSize)
				if err == nil && items != pageSize {
					err = fmt.Errorf("a page has %d items instead of %d", items, pageSize)
				}
				return err
			})
		}
		return one(cursor), one(""), nil
	}
	return c
}

// seek walks through a listing to the middle or to its last full page.
func seek(ctx context.Context, l credit.Ledger, at place, read list) (credit.Cursor, error) {
	// Marks are the cursors after every thousand items, and then after every page.
	var marks []credit.Cursor
	var c credit.Cursor
	for _, limit := range []int{credit.MaxPageSize, pageSize} {
		for {
			next, _, err := read(ctx, l, c, limit)
			if err != nil {
				return "", err
			}
			if next == "" {
				break
			}
			if len(marks) > readResellers/pageSize {
				return "", errors.New("the listing does not end")
			}
			c = next
			marks = append(marks, c)
		}
		if limit == pageSize || len(marks) < 3 {
			break
		}
		if at == middle {
			return marks[len(marks)/2], nil
		}
		// The last thousand may be fewer than a page.
		c = marks[len(marks)-2]
		marks = marks[:len(marks)-1]
	}
	if len(marks) < 2 {
		return "", fmt.Errorf("the listing has hardly %d items", pageSize)
	}
	return marks[len(marks)-2], nil
}

// past compares what was with what is.
func past(t target) []comparison {
	query := func(action, against string, then, now func(ctx context.Context, b *book, at credit.AsOf) error, point func(h credit.Head) credit.AsOf) comparison {
		return comparison{group: "past", action: action, against: against, store: t.name, callers: 1, size: readResellers, views: []view{latency(goal{}), tail(goal{})},
			prepare: func(ctx context.Context, s *scope) (ours, baseline side, err error) {
				b, err := s.readBook(ctx)
				if err != nil {
					return nil, nil, err
				}
				half, err := b.Head(ctx)
				if err != nil {
					return nil, nil, err
				}
				if half, err = b.HeadAsOf(ctx, credit.AsOf{Sequence: half.Sequence * 3 / 4}); err != nil {
					return nil, nil, err
				}
				at := point(half)
				return byCallers(1, 1, func(ctx context.Context) error { return then(ctx, b, at) }),
					byCallers(1, 1, func(ctx context.Context) error { return now(ctx, b, at) }), nil
			}}
	}
	bySequence := func(h credit.Head) credit.AsOf { return credit.AsOf{Sequence: h.Sequence} }
	byTime := func(h credit.Head) credit.AsOf { return credit.AsOf{Time: h.RecordedAt} }
	headThen := func(ctx context.Context, b *book, at credit.AsOf) error { _, err := b.HeadAsOf(ctx, at); return err }
	headNow := func(ctx context.Context, b *book, _ credit.AsOf) error { _, err := b.Head(ctx); return err }
	return []comparison{
		query("pool as of a sequence", "pool now", headThen, headNow, bySequence),
		query("pool as of a time", "pool now", headThen, headNow, byTime),
		query("reseller as of a time", "reseller now", func(ctx context.Context, b *book, at credit.AsOf) error {
			_, err := b.ResellerAsOf(ctx, b.reseller(b.keys.Add(1)), at)
			return err
		}, func(ctx context.Context, b *book, _ credit.AsOf) error {
			_, err := b.Reseller(ctx, b.reseller(b.keys.Add(1)))
			return err
		}, byTime),
		query("page of resellers as of a sequence", "page of resellers now", func(ctx context.Context, b *book, at credit.AsOf) error {
			_, err := b.Resellers(ctx, credit.ResellerQuery{Order: credit.OrderOldest, AsOf: at})
			return err
		}, func(ctx context.Context, b *book, _ credit.AsOf) error {
			_, err := b.Resellers(ctx, credit.ResellerQuery{Order: credit.OrderOldest})
			return err
		}, bySequence),
	}
}

// statement compares the statement of a reseller with reading its rows by hand.
func statement(t target) comparison {
	return comparison{group: "reading", action: fmt.Sprintf("statement of %s records", grouped(readMovements)), against: "a bare SELECT of them", store: t.name, callers: 1,
		size: readMovements, views: []view{latency(goal{}), tail(goal{})},
		prepare: func(ctx context.Context, s *scope) (ours, baseline side, err error) {
			b, err := s.readBook(ctx)
			if err != nil {
				return nil, nil, err
			}
			first, err := b.HeadAsOf(ctx, credit.AsOf{Sequence: 1})
			if err != nil {
				return nil, nil, err
			}
			db, err := s.pool(ctx, 1)
			if err != nil {
				return nil, nil, err
			}
			pattern := "SELECT " + recordColumns + " FROM {{prefix}}records WHERE ledger = ? AND reseller = ? ORDER BY sequence"
			return byCallers(1, 1, func(ctx context.Context) error {
					st, err := report.NewStatement(ctx, b, b.ids[0], first.RecordedAt, time.Now().Add(time.Hour))
					if err == nil && len(st.Movements) < readMovements {
						err = fmt.Errorf("the statement has %d movements", len(st.Movements))
					}
					return err
				}), byCallers(1, 1, func(ctx context.Context) error {
					n, err := scan(ctx, db, text(b.prefix, pattern), s.bytes(b.id), s.bytes(b.ids[0]))
					if err == nil && n < readMovements {
						err = fmt.Errorf("the reseller has %d records", n)
					}
					return err
				}), nil
		}}
}

// export compares reading the whole log, and check verifying it, with reading its
// rows by hand.
func export(t target) comparison {
	return whole(t, "export of all records", func(ctx context.Context, b *book) (int, error) {
		n := 0
		for _, err := range credit.AllRecords(ctx, b, credit.RecordQuery{Limit: credit.MaxPageSize}) {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	})
}

func check(t target) comparison {
	return whole(t, "verification of the chain", func(ctx context.Context, b *book) (int, error) {
		checked, err := b.Check(ctx)
		return int(checked.Records), err
	})
}

func whole(t target, action string, read func(context.Context, *book) (int, error)) comparison {
	return comparison{group: "reading", action: action, against: "a bare SELECT of them", store: t.name, callers: 1, views: []view{rate(goal{})},
		prepare: func(ctx context.Context, s *scope) (ours, baseline side, err error) {
			b, err := s.readBook(ctx)
			if err != nil {
				return nil, nil, err
			}
			db, err := s.pool(ctx, 1)
			if err != nil {
				return nil, nil, err
			}
			pattern := "SELECT " + recordColumns + " FROM {{prefix}}records WHERE ledger = ? ORDER BY sequence"
			return wholly(func(ctx context.Context) (int, error) { return read(ctx, b) }),
				wholly(func(ctx context.Context) (int, error) { return scan(ctx, db, text(b.prefix, pattern), s.bytes(b.id)) }), nil
		}}
}
