package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"
)

// little is how much slower an allocation may be on a large ledger.
var little = goal{most: 1.3}

// growth compares allocating on a large ledger, and under a snapshot that is held
// open, with the smallest ledger of the run.
func growth(r *run) []batch {
	var batches []batch
	for _, t := range databases() {
		// A database for each way to grow, so that the disk holds one at a time.
		var byResellers, byRecords []comparison
		for _, callers := range []int{1, 64} {
			for _, n := range r.resellers[1:] {
				byResellers = append(byResellers, larger(t, "resellers", callers, shape{n, 0}, shape{r.resellers[0], 0}))
			}
			for _, n := range r.records[1:] {
				byRecords = append(byRecords, larger(t, "records", callers, shape{fewResellers, n}, shape{fewResellers, r.records[0]}))
			}
		}
		batches = append(batches, batch{t, byResellers}, batch{t, byRecords}, batch{t, []comparison{underSnapshot(t, r.hold)}})
	}
	return batches
}

// shape is how large a ledger is; records counts at least its resellers.
type shape struct{ resellers, records int }

func (s *scope) shaped(ctx context.Context, of shape) (*book, error) {
	prefix := fmt.Sprintf("g%d_%d_", of.resellers, of.records)
	if books, ok := s.books[prefix]; ok {
		return books[0], nil
	}
	b, err := s.ledger(ctx, prefix, of.resellers)
	if err != nil {
		return nil, err
	}
	if err := b.fill(ctx, of.records); err != nil {
		return nil, err
	}
	return b, s.settle(ctx, b.db)
}

func larger(t target, what string, callers int, large, small shape) comparison {
	size, least := large.resellers, small.resellers
	if what == "records" {
		size, least = large.records, small.records
	}
	return comparison{group: "growth in " + what, action: fmt.Sprintf("allocate with %s %s", grouped(int64(size)), what), against: "with " + grouped(int64(least)),
		store: t.name, callers: callers, size: int64(size), views: []view{latency(little), tail(goal{})},
		prepare: func(ctx context.Context, s *scope) (ours, baseline side, err error) {
			a, err := s.shaped(ctx, large)
			if err != nil {
				return nil, nil, err
			}
			b, err := s.shaped(ctx, small)
			if err != nil {
				return nil, nil, err
			}
			return byCallers(callers, 1, a.allocate), byCallers(callers, 1, b.allocate), nil
		}}
}

// underSnapshot compares allocating while a reader's snapshot has been open for
// some time, in which 64 callers kept allocating, with no snapshot.
func underSnapshot(t target, hold time.Duration) comparison {
	return comparison{group: "snapshot", action: fmt.Sprintf("allocate under a snapshot open for %s", hold), against: "without", store: t.name, callers: 1,
		views: []view{latency(little), tail(goal{})}, long: true,
		prepare: func(ctx context.Context, s *scope) (ours, baseline side, err error) {
			b, err := s.ledger(ctx, "snapshot_", fewResellers)
			if err != nil {
				return nil, nil, err
			}
			readers, err := s.pool(ctx, 1)
			if err != nil {
				return nil, nil, err
			}
			one, busy := byCallers(1, 1, b.allocate), byCallers(64, 1, b.allocate)
			settled := s.settled(b.db, one)
			return s.held(readers, b, hold, busy, settled), settled, nil
		}}
}

// held is a side that is measured after a snapshot has been open for some time, in
// which others were busy.
func (s *scope) held(readers *sqlx.DB, b *book, hold time.Duration, busy, one side) side {
	return func(ctx context.Context, length time.Duration) (got sample, err error) {
		end, err := s.snapshot(ctx, readers, b)
		if err != nil {
			return got, err
		}
		closed := sync.OnceValue(end)
		defer func() { _ = closed() }() // the second time does nothing
		if _, err := busy(ctx, hold); err != nil {
			return got, err
		}
		if got, err = one(ctx, length); err != nil {
			return got, err
		}
		if err := closed(); err != nil {
			return got, err
		}
		// What the snapshot held back is cleared away before the other side begins.
		if _, err := busy(ctx, length); err != nil {
			return got, err
		}
		return got, s.settle(ctx, b.db)
	}
}

// settled is a side that begins once PostgreSQL has written what was changed before,
// which it would else do beside it, longer after a minute of work than after none, and
// has copied into its log the pages that are changed first after that.
func (s *scope) settled(db *sqlx.DB, do side) side {
	if s.name != postgres.name {
		return do
	}
	return func(ctx context.Context, length time.Duration) (sample, error) {
		if _, err := db.ExecContext(ctx, "CHECKPOINT"); err != nil {
			return sample{}, err
		}
		if got, err := do(ctx, length); err != nil {
			return got, err
		}
		return do(ctx, length)
	}
}

// snapshot opens one that has read the ledger, and returns what ends it.
func (s *scope) snapshot(ctx context.Context, db *sqlx.DB, b *book) (end func() error, err error) {
	level := sql.LevelRepeatableRead
	if s.name == sqlite.name {
		level = sql.LevelDefault // the driver knows no other, and every reader has a snapshot
	}
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: level, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	var ledgers int
	if err := tx.QueryRowContext(ctx, text(b.prefix, "SELECT count(*) FROM {{prefix}}ledgers")).Scan(&ledgers); err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return tx.Rollback, nil
}
