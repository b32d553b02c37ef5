package report

import (
	"context"
	"fmt"
	"iter"

	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
)

// Exposure is what the partner owes, and where its resellers stand, all of them
// as of one record.
type Exposure struct {
	// Head is the end of the log that it is as of.
	Head credit.Head
	// Resellers counts all, closed ones too; Overdrawn those whose available credit
	// is below 0.
	Resellers, Overdrawn int
	// Allocated, Used and Overdraft are the sums over all resellers.
	Allocated, Used, Overdraft decimal.Decimal
	// Owed is the sum of Used over those resellers where it is positive: what is to
	// be paid before anything is refunded.
	Owed decimal.Decimal
}

// NewExposure adds up all resellers as of a point of the log; the zero value of it
// is now. It reads every reseller, and holds one page of them at a time. If they do
// not have what the pool has given, the error is a *credit.CorruptError.
func NewExposure(ctx context.Context, l credit.Ledger, at credit.AsOf) (Exposure, error) {
	zero := credit.FromMillionths(0)
	head, err := l.HeadAsOf(ctx, at)
	if err != nil {
		return Exposure{}, err
	}
	e := Exposure{Head: head, Allocated: zero, Used: zero, Overdraft: zero, Owed: zero}
	for r, err := range e.All(ctx, l) {
		if err != nil {
			return Exposure{}, err
		}
		e.Resellers++
		e.Allocated, e.Used, e.Overdraft = e.Allocated.Add(r.Allocated), e.Used.Add(r.Used), e.Overdraft.Add(r.Overdraft())
		if r.Used.IsPositive() {
			e.Owed = e.Owed.Add(r.Used)
		}
		if r.Available().IsNegative() {
			e.Overdrawn++
		}
	}
	if !e.Allocated.Equal(head.Pool.Allocated) {
		return Exposure{}, &credit.CorruptError{Sequence: head.Sequence, Problem: fmt.Sprintf("the resellers have %s, the pool has allocated %s", e.Allocated, head.Pool.Allocated)}
	}
	return e, nil
}

// All yields the resellers that were added up, with the same figures, the oldest
// first; profiles are as they are now. It is for the ledger that was added up. The
// last yield may be an error, with a zero reseller.
func (e Exposure) All(ctx context.Context, l credit.Ledger) iter.Seq2[credit.Reseller, error] {
	if e.Head.Sequence == 0 { // which as a point of the log would be now
		return func(func(credit.Reseller, error) bool) {}
	}
	return credit.AllResellers(ctx, l, credit.ResellerQuery{
		Statuses: []credit.Status{credit.StatusActive, credit.StatusFrozen, credit.StatusClosed},
		Order:    credit.OrderOldest, AsOf: credit.AsOf{Sequence: e.Head.Sequence}, Limit: credit.MaxPageSize,
	})
}

// Share is the part of [Exposure.Owed] that is one reseller's, 0 to 1, rounded to
// six digits, halves up: it is for people to read, and no rule is decided by it.
// A reseller that owes nothing has 0.
func (e Exposure) Share(f credit.Figures) decimal.Decimal {
	if !f.Used.IsPositive() || !e.Owed.IsPositive() {
		return decimal.Zero
	}
	return f.Used.DivRound(e.Owed, 6)
}
