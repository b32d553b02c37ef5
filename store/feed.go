package store

import (
	"context"
	"fmt"
	"iter"
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
	Record   credit.Record
	Warnings []credit.Warning
}

// Follow yields every record after a sequence, in order, and then waits for new
// ones, whoever writes them, until the caller stops or the context ends. Nothing
// is held in the store meanwhile. The last yield is an error, with a zero Change:
// that of the context, or of the store when its retries are used up. To go on,
// follow after the last sequence that was dealt with; 0 is the beginning. A
// sequence that is negative or beyond the head is a *credit.InvalidError; with the
// latter the log is not the one that was followed.
func (l *Ledger) Follow(ctx context.Context, after int64, o FollowOptions) iter.Seq2[Change, error] {
	if o.Thresholds == nil {
		o.Thresholds = credit.DefaultThresholds()
	}
	if o.Poll <= 0 {
		o.Poll = time.Second
	}
	return func(yield func(Change, error) bool) {
		head, err := l.Head(ctx)
		if err == nil && (after < 0 || after > head.Sequence) {
			err = &credit.InvalidError{Field: "after", Problem: fmt.Sprintf("is sequence %d, must be 0 to %d, where the log ends", after, head.Sequence)}
		}
		for err == nil {
			written := l.written.next() // before reading, so that nothing falls between
			var page credit.Page[credit.Record]
			if page, err = l.Records(ctx, credit.RecordQuery{After: after, Limit: credit.MaxPageSize}); err != nil {
				break
			}
			for _, r := range page.Items {
				if !yield(Change{r, r.Warnings(o.Thresholds)}, nil) {
					return
				}
				after = r.Sequence
			}
			if page.Next != "" {
				continue
			}
			timer := time.NewTimer(o.Poll)
			select {
			case <-written:
			case <-timer.C:
			case <-ctx.Done():
				err = ctx.Err()
			}
			timer.Stop()
		}
		yield(Change{}, err)
	}
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
