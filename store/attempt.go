package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/sethvargo/go-retry"

	"github.com/resellerkit/credit"
)

// commit decides the calls and appends what they give, again and again until it
// is known what became of them or the time is over, and sets every call's
// answer. It returns how many records were written, in how many attempts, and
// why calls got no answer from a rule.
func (l *Ledger) commit(ctx context.Context, calls []*call) (records, attempts int, err error) {
	asked := readSet(calls)
	var backoff retry.Backoff // made by the first wait
	verified := false         // the state must come from the store
	for moved := 0; ; {
		attempts++
		p, loaded, err := l.attempt(ctx, calls, asked, verified)
		if p.unverified && !loaded {
			verified = true
			continue
		}
		if err != nil && !p.writes() {
			if outcomeOf(err) == outcomeRetry && wait(ctx, &backoff) {
				continue
			}
			if ctx.Err() != nil && outcomeOf(err) != outcomeRejected {
				err = Retry(fmt.Errorf("credit: nothing happened: ledger %s could not be read in time: %w", l.distributor.ID, err))
			}
			return 0, attempts, fail(calls, err)
		}
		if !p.writes() {
			p.answer(calls)
			return 0, attempts, nil
		}
		if err != nil && outcomeOf(err) == outcomeUnknown {
			l.log(slog.LevelWarn, "credit: the answer to a commit was lost", "sequence", p.expected.Sequence+1)
			l.memory.forget()
			err = l.find(ctx, p, &backoff, err)
		}
		if err == nil {
			l.memory.follow(p.batch)
			p.answer(calls)
			return len(p.batch.Records), attempts, nil
		}
		verified = true
		switch outcomeOf(err) {
		case outcomeMoved:
			// Somebody else wrote: the first time, go on at once.
			if moved++; moved == 1 || wait(ctx, &backoff) {
				continue
			}
			err = Retry(fmt.Errorf("credit: others kept writing to ledger %s: %w", l.distributor.ID, err))
		case outcomeRetry:
			l.memory.forget()
			l.memory.rivals = rivalry // it may be what a database says instead
			if wait(ctx, &backoff) {
				continue
			}
		case outcomeRejected:
			l.memory.forget()
			if len(calls) > 1 && !l.joined {
				// Whose fault it is shows when each is tried alone; but not in a caller's
				// transaction, which is of no use any more.
				singly, tries, err := l.commitSingly(ctx, calls)
				return singly, attempts + tries, err
			}
		}
		l.log(slog.LevelWarn, "credit: a commit failed", "attempts", attempts)
		return 0, attempts, fail(calls, err)
	}
}

// attempt decides the calls and appends what they give, if anything, once. It
// holds the ledger if others are seen to write: whoever remembers the head is
// faster than whoever has to load it, each time.
func (l *Ledger) attempt(ctx context.Context, calls []*call, asked credit.ReadSet, verified bool) (p plan, loaded bool, err error) {
	if l.memory.rivals > 0 && l.holder != nil {
		decided := false
		err = l.holder.Hold(ctx, l.distributor.ID, func(s Store) error {
			found, err := s.Load(ctx, l.distributor.ID, asked)
			if err != nil {
				return err
			}
			l.memory.rivals--
			l.memory.learn(found.Head, found.Resellers)
			p, decided = decide(credit.LoadState(asked, found), calls, l.options.Now()), true
			if !p.writes() {
				return nil
			}
			return s.Append(ctx, l.distributor.ID, p.expected, p.batch)
		})
		if decided && !p.writes() {
			err = l.confirm(ctx, p) // how the hold ended changes nothing
		}
		return p, true, err
	}
	state, loaded, err := l.state(ctx, asked, verified)
	if err != nil {
		return plan{}, loaded, err
	}
	switch p = decide(state, calls, l.options.Now()); {
	case p.unverified && !loaded:
		return p, loaded, nil
	case !p.writes():
		return p, loaded, l.confirm(ctx, p)
	}
	return p, loaded, l.store.Append(ctx, l.distributor.ID, p.expected, p.batch)
}

// confirm waits until the records are durable with which a plan that writes nothing
// answers. The append of one that writes comes after them, and so does its durability.
func (l *Ledger) confirm(ctx context.Context, p plan) error {
	if !p.replays() {
		return nil
	}
	return l.durable(ctx)
}

// durable waits until what was read is.
func (l *Ledger) durable(ctx context.Context) error {
	if c, ok := l.store.(Confirmer); ok {
		return c.Confirm(ctx, l.distributor.ID)
	}
	return nil
}

func (l *Ledger) commitSingly(ctx context.Context, calls []*call) (records, attempts int, err error) {
	for i := range calls {
		n, tries, failed := l.commit(ctx, calls[i:i+1])
		records, attempts = records+n, attempts+tries
		if failed != nil {
			err = failed
		}
	}
	return records, attempts, err
}

// state returns what the calls may look at, remembered or, if it must be
// verified or is not remembered, loaded.
func (l *Ledger) state(ctx context.Context, asked credit.ReadSet, verified bool) (state *credit.State, loaded bool, err error) {
	if !verified {
		if state, ok := l.memory.recall(asked); ok {
			return state, false, nil
		}
	}
	found, err := l.store.Load(ctx, l.distributor.ID, asked)
	if err != nil {
		l.memory.forget()
		return nil, false, err
	}
	l.memory.learn(found.Head, found.Resellers)
	return credit.LoadState(asked, found), true, nil
}

// find finds out what became of an append whose answer was lost. It returns nil
// if it was committed, ErrMoved if it cannot be any more, and otherwise
// credit.ErrOutcomeUnknown.
//
// The record at the wanted sequence tells, once there is one. As long as there
// is none, the first attempt may still be on its way; so the same batch is sent
// again, which excludes the first attempt as it excludes this one.
func (l *Ledger) find(ctx context.Context, p plan, backoff *retry.Backoff, cause error) error {
	wanted := p.batch.Records[0]
	excluded := false
	for {
		there, err := l.store.Records(ctx, l.distributor.ID, credit.RecordQuery{After: wanted.Sequence - 1, Before: wanted.Sequence + 1, Limit: 1})
		switch {
		case err != nil:
		case len(there) > 0 && there[0].ID == wanted.ID && there[0].Hash == wanted.Hash:
			if err = l.durable(ctx); err == nil {
				return nil
			}
		case len(there) > 0, excluded:
			return ErrMoved
		default:
			switch err = l.store.Append(ctx, l.distributor.ID, p.expected, p.batch); {
			case err == nil:
				return nil
			case outcomeOf(err) == outcomeMoved:
				// Either there is a record by now, or a key is taken, or the head
				// was set back: in the last two cases the batch can never be written.
				excluded = true
				continue
			}
		}
		if !wait(ctx, backoff) {
			return fmt.Errorf("%w: %w", credit.ErrOutcomeUnknown, cause)
		}
	}
}

func (p plan) writes() bool { return len(p.batch.Records) > 0 }

// replays tells whether a call is answered with a record that was there before.
func (p plan) replays() bool {
	for _, outcomes := range p.outcomes {
		if slices.ContainsFunc(outcomes, func(o credit.Outcome) bool { return o.Receipt.Replayed }) {
			return true
		}
	}
	return false
}

func (p plan) answer(calls []*call) {
	for i, c := range calls {
		c.answer(p.outcomes[i], nil)
	}
}

// fail answers all calls with an error, which is never one of the refusals of
// package credit, even if a store took one of those for its own.
func fail(calls []*call, err error) error {
	switch credit.Code(err) {
	case "internal", "outcome_unknown", "corrupt":
	default:
		err = mark(errors.New(err.Error()), outcomeOf(err))
	}
	for _, c := range calls {
		c.answer(nil, err)
	}
	return err
}

// newBackoff waits 1 ms, then twice as long each time up to 250 ms, give or take
// half.
func newBackoff() retry.Backoff {
	return retry.WithJitterPercent(50, retry.WithCappedDuration(250*time.Millisecond, retry.NewExponential(time.Millisecond)))
}

// wait is false if the time is over before the wait is.
func wait(ctx context.Context, b *retry.Backoff) bool {
	if *b == nil {
		*b = newBackoff()
	}
	pause, _ := (*b).Next()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
