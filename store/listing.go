package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
)

// Resellers implements credit.Ledger.
func (l *Ledger) Resellers(ctx context.Context, q credit.ResellerQuery) (credit.Page[credit.Reseller], error) {
	q, err := q.Normalize()
	if err != nil {
		return credit.Page[credit.Reseller]{}, err
	}
	at, err := l.resellerPlace(q)
	if err != nil {
		return credit.Page[credit.Reseller]{}, err
	}
	list := l.listResellers
	if !q.AsOf.IsZero() {
		if q.Cursor == "" {
			head, err := l.HeadAsOf(ctx, q.AsOf)
			if err != nil {
				return credit.Page[credit.Reseller]{}, err
			}
			if at.asOf = head.Sequence; at.asOf == 0 { // nobody had been added
				return credit.Page[credit.Reseller]{Items: []credit.Reseller{}}, nil
			}
		}
		list = func(ctx context.Context, q credit.ResellerQuery, after ResellerPosition) ([]credit.Reseller, error) {
			return l.listAsOf(ctx, q, after, at.asOf)
		}
	}
	page, err := page(q.Limit, func(limit int) ([]credit.Reseller, error) {
		q := q
		q.Limit = limit
		return list(ctx, q, at.position)
	}, func(last credit.Reseller) credit.Cursor {
		return l.resellerCursor(q, resellerPlace{PositionOf(last, q.Order), at.asOf})
	})
	if err != nil || !q.Total {
		return page, err
	}
	total, err := read(ctx, func(ctx context.Context) (int, error) { return l.store.CountResellers(ctx, l.distributor.ID, q) })
	if err != nil {
		return credit.Page[credit.Reseller]{}, err
	}
	page.Total = &total
	return page, nil
}

func (l *Ledger) listResellers(ctx context.Context, q credit.ResellerQuery, after ResellerPosition) ([]credit.Reseller, error) {
	return read(ctx, func(ctx context.Context) ([]credit.Reseller, error) {
		return l.store.Resellers(ctx, l.distributor.ID, q, after)
	})
}

// listAsOf lists as of a sequence. Bound-at never changes, so the order is that of
// today; what may have been different then is looked at here.
func (l *Ledger) listAsOf(ctx context.Context, q credit.ResellerQuery, after ResellerPosition, sequence int64) ([]credit.Reseller, error) {
	today := q
	today.AsOf, today.Limit = credit.AsOf{}, min(q.Limit, credit.MaxPageSize)
	today.Statuses = []credit.Status{credit.StatusActive, credit.StatusClosed, credit.StatusFrozen}
	today.MinAvailable, today.MaxAvailable, today.Low = nil, nil, nil
	var found []credit.Reseller
	for {
		some, err := l.listResellers(ctx, today, after)
		if err != nil {
			return nil, err
		}
		last := len(some) < today.Limit
		if !last {
			after = PositionOf(some[len(some)-1], q.Order)
		}
		then, err := l.asOf(ctx, some, sequence)
		if err != nil {
			return nil, err
		}
		for _, r := range then {
			if q.Matches(r) {
				found = append(found, r)
			}
		}
		if last || len(found) >= q.Limit {
			return found[:min(len(found), q.Limit)], nil
		}
		today.Limit = min(2*today.Limit, credit.MaxPageSize) // few of them match
	}
}

// asOf returns the resellers as they were, without those that had not been added.
func (l *Ledger) asOf(ctx context.Context, today []credit.Reseller, sequence int64) ([]credit.Reseller, error) {
	if len(today) == 0 {
		return nil, nil
	}
	ids := make([]uuid.UUID, len(today))
	for i := range today {
		ids[i] = today[i].ID
	}
	latest := func(kinds ...credit.Kind) (map[uuid.UUID]credit.Record, error) {
		records, err := read(ctx, func(ctx context.Context) ([]credit.Record, error) {
			return l.store.Latest(ctx, l.distributor.ID, ids, kinds, sequence)
		})
		of := make(map[uuid.UUID]credit.Record, len(records))
		for _, r := range records {
			of[r.ResellerID] = r
		}
		return of, err
	}
	figures, err := latest()
	if err != nil || len(figures) == 0 {
		return nil, err
	}
	statuses, err := latest(credit.KindFreeze, credit.KindUnfreeze, credit.KindClose)
	if err != nil {
		return nil, err
	}
	then := make([]credit.Reseller, 0, len(today))
	for _, r := range today {
		newest, added := figures[r.ID]
		if !added {
			continue
		}
		r.Figures, r.Status = newest.After, credit.StatusActive
		switch statuses[r.ID].Kind {
		case credit.KindFreeze:
			r.Status = credit.StatusFrozen
		case credit.KindClose:
			r.Status = credit.StatusClosed
		}
		then = append(then, r)
	}
	return then, nil
}

// ResellerAsOf implements credit.Ledger.
func (l *Ledger) ResellerAsOf(ctx context.Context, id uuid.UUID, a credit.AsOf) (credit.Reseller, error) {
	if a.IsZero() {
		return l.Reseller(ctx, id)
	}
	head, err := l.HeadAsOf(ctx, a)
	if err != nil {
		return credit.Reseller{}, err
	}
	today, err := l.Reseller(ctx, id)
	if err != nil {
		return credit.Reseller{}, err
	}
	then, err := l.asOf(ctx, []credit.Reseller{today}, head.Sequence)
	if err != nil {
		return credit.Reseller{}, err
	}
	if len(then) == 0 {
		return credit.Reseller{}, fmt.Errorf("%w: %s had not been added at sequence %d", credit.ErrNotFound, id, head.Sequence)
	}
	return then[0], nil
}

// HeadAsOf implements credit.Ledger.
func (l *Ledger) HeadAsOf(ctx context.Context, a credit.AsOf) (credit.Head, error) {
	a, err := a.Normalize()
	if err != nil {
		return credit.Head{}, err
	}
	head, err := l.Head(ctx)
	if err != nil || a.IsZero() {
		return head, err
	}
	sequence := a.Sequence
	if sequence == 0 {
		// Times are whole microseconds.
		if sequence, err = l.recordedBefore(ctx, head, a.Time.Add(time.Microsecond)); err != nil {
			return credit.Head{}, err
		}
	}
	switch {
	case sequence > head.Sequence:
		return credit.Head{}, &credit.InvalidError{Field: "as of", Problem: fmt.Sprintf("is sequence %d, the log ends at %d", sequence, head.Sequence)}
	case sequence == head.Sequence:
		return head, nil
	case sequence == 0:
		return credit.NewState(l.distributor).Head(), nil
	}
	r, err := l.record(ctx, sequence)
	return r.Head(), err
}

// Records implements credit.Ledger.
func (l *Ledger) Records(ctx context.Context, q credit.RecordQuery) (credit.Page[credit.Record], error) {
	q, err := q.Normalize()
	if err != nil {
		return credit.Page[credit.Record]{}, err
	}
	rest, err := l.recordsAfter(q)
	if err != nil {
		return credit.Page[credit.Record]{}, err
	}
	rest, final, err := l.bySequence(ctx, rest)
	if err != nil {
		return credit.Page[credit.Record]{}, err
	}
	end := int64(-1)
	if q.NewestFirst && !q.RecordedFrom.IsZero() {
		end = rest.After
	} else if !q.NewestFirst && !q.RecordedUntil.IsZero() && final {
		end = rest.Before
	}
	found, err := page(q.Limit, func(limit int) ([]credit.Record, error) {
		if rest.Before > 0 && rest.Before <= rest.After+1 {
			return nil, nil // there is no sequence between
		}
		rest.Limit = limit
		return read(ctx, func(ctx context.Context) ([]credit.Record, error) {
			return l.store.Records(ctx, l.distributor.ID, rest)
		})
	}, func(last credit.Record) credit.Cursor { return l.recordCursor(q, last, end) })
	if q.Cursor != "" && slices.ContainsFunc(found.Items, func(r credit.Record) bool { return !q.Matches(r) }) {
		return credit.Page[credit.Record]{}, badCursor() // forged: a bound of it is not that of the time
	}
	return found, err
}

// bySequence makes a range of sequences of the range of recorded-at, which never
// falls as the sequence grows: no index of times has to be written with every
// record. It is final if the next record cannot be in the range.
func (l *Ledger) bySequence(ctx context.Context, q credit.RecordQuery) (_ credit.RecordQuery, final bool, err error) {
	if q.RecordedFrom.IsZero() && q.RecordedUntil.IsZero() {
		return q, true, nil
	}
	head, err := l.Head(ctx)
	if err != nil {
		return q, false, err
	}
	if !q.RecordedFrom.IsZero() {
		before, err := l.recordedBefore(ctx, head, q.RecordedFrom)
		if err != nil {
			return q, false, err
		}
		q.After = max(q.After, before)
		if before == head.Sequence {
			q.Before = 1 // all is earlier, and so may be what is written by now
		}
	}
	if !q.RecordedUntil.IsZero() {
		before, err := l.recordedBefore(ctx, head, q.RecordedUntil)
		if err != nil {
			return q, false, err
		}
		if q.Before == 0 || before+1 < q.Before {
			q.Before = before + 1
		}
		final = before < head.Sequence
	}
	q.RecordedFrom, q.RecordedUntil = time.Time{}, time.Time{}
	return q, final, nil
}

// recordedBefore returns how many records up to the head have a recorded-at
// before t: the sequence of the last of them.
func (l *Ledger) recordedBefore(ctx context.Context, head credit.Head, t time.Time) (int64, error) {
	if head.Sequence == 0 || head.RecordedAt.Before(t) {
		return head.Sequence, nil
	}
	low, high := int64(0), head.Sequence-1 // the answer is one of low to high
	for low < high {
		middle := high - (high-low)/2
		r, err := l.record(ctx, middle)
		if err != nil {
			return 0, err
		}
		if r.RecordedAt.Before(t) {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return low, nil
}

// record returns the record with a sequence of the log.
func (l *Ledger) record(ctx context.Context, sequence int64) (credit.Record, error) {
	found, err := read(ctx, func(ctx context.Context) ([]credit.Record, error) {
		return l.store.Records(ctx, l.distributor.ID, credit.RecordQuery{After: sequence - 1, Before: sequence + 1, Limit: 1})
	})
	if err == nil && len(found) == 0 {
		err = &credit.CorruptError{Sequence: sequence, Problem: "is missing"}
	}
	if err != nil {
		return credit.Record{}, err
	}
	return found[0], nil
}

// page reads one more than the page, to know whether there is a next one.
func page[T any](limit int, list func(int) ([]T, error), cursor func(T) credit.Cursor) (credit.Page[T], error) {
	items, err := list(limit + 1)
	if err != nil {
		return credit.Page[T]{}, err
	}
	if len(items) == 0 {
		return credit.Page[T]{Items: []T{}}, nil // not null in JSON
	}
	if len(items) <= limit {
		return credit.Page[T]{Items: items}, nil
	}
	return credit.Page[T]{Items: slices.Clip(items[:limit]), Next: cursor(items[limit-1])}, nil
}
