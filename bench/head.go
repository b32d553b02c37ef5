package main

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Where the head of a log is kept: in a row of its own, which every append changes,
// as the library does, or nowhere, so that the last record is looked up under the
// lock of a row that never changes. Both append a record with one statement that
// commits by itself and waits for no disk, so that what is compared is the work.
const (
	headRow = "WITH head AS (UPDATE {{prefix}}ledgers SET sequence = sequence + 1, recorded_at = $2" +
		" WHERE id = $1 RETURNING id, sequence, granted, allocated)" + headRecord
	// Alone it is right. With others it is not: what it reads after waiting for the
	// lock is from before, so that a second statement would be needed.
	tailOfTheLog = "WITH held AS (SELECT id, granted, allocated FROM {{prefix}}ledgers WHERE id = $1 FOR NO KEY UPDATE)," +
		" head AS (SELECT held.id, last.sequence + 1 AS sequence, held.granted, held.allocated FROM held CROSS JOIN" +
		" (SELECT sequence FROM {{prefix}}records WHERE ledger = $1 ORDER BY sequence DESC LIMIT 1) AS last)" + headRecord
	headRecord = " INSERT INTO {{prefix}}records (" + recordColumns + ")" +
		" SELECT head.id, head.sequence, $3, 'grant', NULL, '', 1, 0, 0, 0, 0, head.granted, head.allocated, $4, '', '', NULL, '', '', 0, NULL, NULL, $2, $2, $5 FROM head"
)

// headOrTail compares the two, with and without a snapshot that is held open.
func headOrTail(r *run) []batch {
	b := batch{target: postgres}
	for _, hold := range []time.Duration{0, r.hold} {
		c := comparison{group: "head", action: "append with a head row", against: "to the tail of the log", store: postgres.name, callers: 1,
			views: []view{latency(goal{}), tail(goal{})}, long: hold > 0}
		if hold > 0 {
			c.detail = fmt.Sprintf("under a snapshot open for %s", hold)
		}
		c.prepare = func(ctx context.Context, s *scope) (ours, baseline side, err error) {
			if ours, err = s.appending(ctx, "head_", headRow, hold); err != nil {
				return nil, nil, err
			}
			baseline, err = s.appending(ctx, "tail_", tailOfTheLog, hold)
			return ours, baseline, err
		}
		b.comparisons = append(b.comparisons, c)
	}
	return []batch{b}
}

// appending is a side that appends to a ledger with a statement, after having done
// so for some time under a snapshot.
func (s *scope) appending(ctx context.Context, prefix, statement string, hold time.Duration) (side, error) {
	b, err := s.ledger(ctx, prefix, 1)
	if err != nil {
		return nil, err
	}
	readers, err := s.pool(ctx, 1)
	if err != nil {
		return nil, err
	}
	db, err := s.pool(ctx, 1)
	if err != nil {
		return nil, err
	}
	// A table that was just made is too small for the planner to look for an index.
	for _, setting := range []string{"SET synchronous_commit = off", "SET enable_seqscan = off", "SET enable_sort = off"} {
		if _, err := db.ExecContext(ctx, setting); err != nil {
			return nil, err
		}
	}
	stmt, err := db.PrepareContext(ctx, text(prefix, statement))
	if err != nil {
		return nil, err
	}
	one := byCallers(1, 1, func(ctx context.Context) error {
		_, err := stmt.ExecContext(ctx, b.id, time.Now().UnixMicro(), uuid.Must(uuid.NewV7()), operator, noHash)
		return err
	})
	if hold == 0 {
		return one, nil
	}
	return s.held(readers, b, hold, one, one), nil
}
