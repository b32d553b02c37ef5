package store

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/google/uuid"
	"github.com/sethvargo/go-retry"

	"github.com/resellerkit/credit"
)

// Ledger is the credit.Ledger of one distributor over one store: the engine. It
// has no background goroutine and nothing to close, so a process may hold
// thousands; it should hold one for each ledger, because calls that arrive at
// the same engine together are committed together. Several engines, in one
// process or many, may serve the same ledger.
type Ledger struct {
	distributor credit.Distributor
	store       Store
	options     Options

	queue queue
	// token is held by whoever commits a batch.
	token chan struct{}
	// memory is what the token's holder knows of the ledger, and crowded whether
	// the last batch was of several callers.
	memory  memory
	crowded bool
	// written fires after a batch was committed.
	written signal
	// joined: the store is inside a transaction of a caller's, who must not be let
	// go while it is in use.
	joined bool
	// immediate: nobody needs to leave while the store is in use.
	immediate bool
	// holder is the store, if it can be held.
	holder Holder
}

var _ credit.Ledger = (*Ledger)(nil)

// Open returns the ledger of d.ID in s, and creates it if it is not there. If it
// is there with another currency, the error is credit.ErrMismatch; if with
// another name, the stored name counts.
func Open(ctx context.Context, s Store, d credit.Distributor, o Options) (*Ledger, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	stored, err := read(ctx, func(ctx context.Context) (credit.Distributor, error) { return s.Create(ctx, d) })
	if err != nil {
		return nil, fmt.Errorf("credit: open ledger %s: %w", d.ID, err)
	}
	if stored.Currency != d.Currency {
		return nil, fmt.Errorf("%w: ledger %s is kept in %s, not %s", credit.ErrMismatch, d.ID, stored.Currency, d.Currency)
	}
	return newLedger(s, stored, o, o.Memory), nil
}

// On returns the same ledger over another store that sees the same data, such as
// one inside a transaction of the caller's. It has the same options, remembers
// nothing from call to call, and works under the caller's context: a call that
// has begun to write returns when the store is at rest again, not before.
func (l *Ledger) On(s Store) *Ledger {
	on := newLedger(s, l.distributor, l.options, nil)
	on.joined = true
	return on
}

// newLedger returns an engine that remembers in m; nil is nothing.
func newLedger(s Store, d credit.Distributor, o Options, m *Memory) *Ledger {
	l := &Ledger{distributor: d, store: s, options: o, token: make(chan struct{}, 1), memory: newMemory(m)}
	if i, ok := s.(Immediate); ok {
		l.immediate = same(i.Immediate(), s)
	}
	if h, ok := s.(Holder); ok && same(h.Holder(), s) {
		l.holder = h
	}
	return l
}

// same tells whether two stores are one. Of a value that cannot be compared that is
// not known, so it is not; one that can be compared can be compared with any.
func same(a, b Store) bool {
	return reflect.ValueOf(a).Comparable() && a == b
}

// Distributor implements credit.Ledger.
func (l *Ledger) Distributor() credit.Distributor { return l.distributor }

// Grant implements credit.Ledger.
func (l *Ledger) Grant(ctx context.Context, c credit.Grant) (credit.Receipt, error) {
	return l.one(ctx, c)
}

// Withdraw implements credit.Ledger.
func (l *Ledger) Withdraw(ctx context.Context, c credit.Withdrawal) (credit.Receipt, error) {
	return l.one(ctx, c)
}

// AddReseller implements credit.Ledger.
func (l *Ledger) AddReseller(ctx context.Context, c credit.NewReseller) (credit.Receipt, error) {
	return l.one(ctx, c)
}

// UpdateReseller implements credit.Ledger.
func (l *Ledger) UpdateReseller(ctx context.Context, c credit.ProfileUpdate) (credit.Receipt, error) {
	return l.one(ctx, c)
}

// FreezeReseller implements credit.Ledger.
func (l *Ledger) FreezeReseller(ctx context.Context, c credit.Freeze) (credit.Receipt, error) {
	return l.one(ctx, c)
}

// UnfreezeReseller implements credit.Ledger.
func (l *Ledger) UnfreezeReseller(ctx context.Context, c credit.Unfreeze) (credit.Receipt, error) {
	return l.one(ctx, c)
}

// CloseReseller implements credit.Ledger.
func (l *Ledger) CloseReseller(ctx context.Context, c credit.Close) (credit.Receipt, error) {
	return l.one(ctx, c)
}

// Allocate implements credit.Ledger.
func (l *Ledger) Allocate(ctx context.Context, c credit.Allocation) (credit.Receipt, error) {
	return l.one(ctx, c)
}

// Repossess implements credit.Ledger.
func (l *Ledger) Repossess(ctx context.Context, c credit.Repossession) (credit.Receipt, error) {
	return l.one(ctx, c)
}

// RepossessAll implements credit.Ledger.
func (l *Ledger) RepossessAll(ctx context.Context, c credit.RepossessAll) (credit.Receipt, error) {
	return l.one(ctx, c)
}

// RecordUsage implements credit.Ledger.
func (l *Ledger) RecordUsage(ctx context.Context, c credit.Usage) (credit.Receipt, error) {
	return l.one(ctx, c)
}

// CorrectUsage implements credit.Ledger.
func (l *Ledger) CorrectUsage(ctx context.Context, c credit.Correction) (credit.Receipt, error) {
	return l.one(ctx, c)
}

// Settle implements credit.Ledger.
func (l *Ledger) Settle(ctx context.Context, c credit.Settlement) (credit.Receipt, error) {
	return l.one(ctx, c)
}

func (l *Ledger) one(ctx context.Context, c credit.Command) (credit.Receipt, error) {
	call := l.newCall([]credit.Command{c}, credit.BulkOptions{})
	if err := credit.Validate(call.commands[0]); err != nil {
		return credit.Receipt{}, err // whatever the state of the store
	}
	outcomes, err := l.submit(ctx, call)
	if err != nil {
		return credit.Receipt{}, err
	}
	return outcomes[0].Receipt, outcomes[0].Err
}

// Bulk implements credit.Ledger. More commands than Options.MaxBulk are a
// *credit.InvalidError.
func (l *Ledger) Bulk(ctx context.Context, commands []credit.Command, o credit.BulkOptions) ([]credit.Outcome, error) {
	if len(commands) > l.options.MaxBulk {
		return nil, &credit.InvalidError{Field: "commands", Problem: fmt.Sprintf("are %d, at most %d are allowed in one call", len(commands), l.options.MaxBulk)}
	}
	if len(commands) == 0 {
		return []credit.Outcome{}, nil
	}
	return l.submit(ctx, l.newCall(commands, o))
}

// Pool implements credit.Ledger.
func (l *Ledger) Pool(ctx context.Context) (credit.Pool, error) {
	head, err := l.Head(ctx)
	return head.Pool, err
}

// Head implements credit.Ledger.
func (l *Ledger) Head(ctx context.Context) (credit.Head, error) {
	found, err := l.load(ctx, credit.ReadSet{})
	return found.Head, err
}

// Reseller implements credit.Ledger.
func (l *Ledger) Reseller(ctx context.Context, id uuid.UUID) (credit.Reseller, error) {
	found, err := l.load(ctx, credit.ReadSet{Resellers: []uuid.UUID{id}})
	if err != nil {
		return credit.Reseller{}, err
	}
	if len(found.Resellers) == 0 {
		return credit.Reseller{}, fmt.Errorf("%w: %s", credit.ErrNotFound, id)
	}
	return found.Resellers[0], nil
}

func (l *Ledger) load(ctx context.Context, asked credit.ReadSet) (credit.Snapshot, error) {
	return read(ctx, func(ctx context.Context) (credit.Snapshot, error) {
		return l.store.Load(ctx, l.distributor.ID, asked)
	})
}

// read repeats what failed for a while, as long as the caller waits but no more
// than a few times.
func read[T any](ctx context.Context, f func(context.Context) (T, error)) (T, error) {
	v, err := retry.DoValue(ctx, retry.WithMaxRetries(5, newBackoff()), func(ctx context.Context) (T, error) {
		v, err := f(ctx)
		if outcomeOf(err) == outcomeRetry {
			err = retry.RetryableError(err)
		}
		return v, err
	})
	if ended := ctx.Err(); err != nil && ended != nil && !errors.Is(err, ended) {
		err = fmt.Errorf("%w: %v", ended, err) //nolint:errorlint // a cause is the caller's and no error of the ledger
	}
	return v, err
}
