package store

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/resellerkit/credit"
)

// FollowOptions adjust [Ledger.Follow]. The zero value is the documented default
// of each.
type FollowOptions struct {
	// Thresholds are those of the warnings; nil means credit.DefaultThresholds.
	// Overdrawn and recovered are always told.
	Thresholds []credit.Threshold
	// Poll is how long to wait before looking whether another engine has written;
	// default 1 s. What this engine writes is seen at once.
	Poll time.Duration
}

// Change is one record of a feed, and the warnings that it gives.
type Change struct {
	Record   credit.Record    `json:"record"`
	Warnings []credit.Warning `json:"warnings,omitempty"`
}

// Follow yields every record after a sequence, in order, and then waits for new
// ones, whoever writes them, until the caller stops or the context ends. Nothing
// is held in the store meanwhile. The last yield is an error, with a zero Change:
// that of the context, or of the store when its retries are used up. To go on,
// follow after the last sequence that was dealt with; 0 is the beginning. What is
// returned may be ranged over again, and then begins at the same place.
//
// A sequence that is negative or beyond the head is a *credit.InvalidError; with the
// latter the log is not the one that was followed. A log that is cut or replaced
// while it is followed is a *credit.CorruptError at its next record. Whoever begins
// again knows it by keeping the hash of the last record, too: HeadAsOf its sequence
// must have it.
func (l *Ledger) Follow(ctx context.Context, after int64, o FollowOptions) iter.Seq2[Change, error] {
	if o.Thresholds == nil {
		o.Thresholds = credit.DefaultThresholds()
	}
	o.Thresholds = slices.Clone(o.Thresholds)
	if o.Poll <= 0 {
		o.Poll = time.Second
	}
	return func(yield func(Change, error) bool) {
		if err := l.follow(ctx, after, o, func(c Change) bool { return yield(c, nil) }); err != nil {
			yield(Change{}, err)
		}
	}
}

// follow returns nil only when the caller has had enough.
func (l *Ledger) follow(ctx context.Context, after int64, o FollowOptions, yield func(Change) bool) error {
	last, err := l.followed(ctx, after)
	if err != nil {
		return err
	}
	for {
		written := l.written.next() // before reading, so that nothing falls between
		page, err := l.Records(ctx, credit.RecordQuery{After: last.Sequence, Limit: credit.MaxPageSize})
		if err != nil {
			return err
		}
		if len(page.Items) > 0 {
			if err := follows(last, page.Items[0]); err != nil {
				return err
			}
		}
		for _, r := range page.Items {
			if err := ctx.Err(); err != nil {
				return err
			}
			if !yield(Change{r, r.Warnings(o.Thresholds)}) {
				return nil
			}
			last = r.Head()
		}
		if page.Next == "" {
			timer := time.NewTimer(o.Poll)
			select {
			case <-written:
			case <-timer.C:
			case <-ctx.Done():
				return ctx.Err()
			}
			timer.Stop()
		}
	}
}

// followed returns the head after the record with the sequence; without a hash, if
// that is not at hand.
func (l *Ledger) followed(ctx context.Context, after int64) (credit.Head, error) {
	if after < 0 {
		return credit.Head{}, &credit.InvalidError{Field: "after", Problem: fmt.Sprintf("is sequence %d, must not be negative; 0 is the beginning", after)}
	}
	head, err := l.Head(ctx)
	switch {
	case err != nil:
		return credit.Head{}, err
	case after > head.Sequence:
		return credit.Head{}, &credit.InvalidError{Field: "after", Problem: fmt.Sprintf("is sequence %d, must be 0 to %d, where the log ends", after, head.Sequence)}
	case after == head.Sequence:
		return head, nil
	case after == 0:
		return credit.NewState(l.distributor).Head(), nil
	}
	return credit.Head{Sequence: after}, nil
}

// follows tells whether a record is the one after a head.
func follows(last credit.Head, r credit.Record) error {
	if !last.Hash.IsZero() && r.Hash != r.ChainHash(last.Hash) {
		return &credit.CorruptError{Sequence: r.Sequence, Problem: fmt.Sprintf("does not follow record %d as it was read before: the log was cut or replaced", last.Sequence)}
	}
	return nil
}

// signal wakes all who wait for the next of something.
type signal struct {
	mu      sync.Mutex
	waiting chan struct{} // nil if nobody waits
}

// next returns a channel that is closed by the next fire.
func (s *signal) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == nil {
		s.waiting = make(chan struct{})
	}
	return s.waiting
}

func (s *signal) fire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting != nil {
		close(s.waiting)
		s.waiting = nil
	}
}
