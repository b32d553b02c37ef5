// Package report answers what a billing run and an auditor ask of a ledger: the
// [Statement] of a period, and the [Exposure]. It reads any credit.Ledger, in
// pages, as of one sequence, so what others write meanwhile makes no difference.
package report

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
)

// MaxMovements is how many movements a statement holds. For more, narrow the
// period, or read the records themselves. A statement that is full takes 100 pages
// of records to read, and to hold some 70 MiB and the records' texts.
const MaxMovements = 100_000

// Statement is what happened to one reseller's credit in a period. It holds nothing
// that can change later, such as a name; so when it is [Statement.Final], asking
// again gives the same, to the byte of its JSON form.
type Statement struct {
	LedgerID   uuid.UUID `json:"ledger_id"`
	Currency   string    `json:"currency"`
	ResellerID uuid.UUID `json:"reseller_id"`
	ExternalID string    `json:"external_id"`
	// From is inclusive, Until exclusive. Both are times of recorded-at, UTC.
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
	// Final: the log has a record that is not before Until, so no other can be added
	// to the period.
	Final bool `json:"final"`
	// Before and Through are the ends of the log before the period and at its end.
	Before  credit.Head `json:"before"`
	Through credit.Head `json:"through"`
	// Opening and Closing are the figures and the status before and after the
	// movements. A reseller that had not been added has the status "" and no figures.
	Opening Balance `json:"opening"`
	Closing Balance `json:"closing"`
	// Totals are the movements added up by kind, in the order of credit.Kinds, without
	// kinds that do not occur.
	Totals []Total `json:"totals"`
	// Movements are the reseller's records of the period, in order.
	Movements []credit.Record `json:"movements"`
}

// Balance is a reseller's status and figures at one point.
type Balance struct {
	Status  credit.Status  `json:"status"`
	Figures credit.Figures `json:"figures"`
}

// Total is how many movements of a kind there were, and the sum of their signed
// amounts.
type Total struct {
	Kind   credit.Kind
	Count  int
	Amount decimal.Decimal
}

// NewStatement returns the statement of a reseller for the period from, inclusive,
// until, exclusive. A period that is empty, that ends after every time a record can
// have, or that has more than [MaxMovements] is a *credit.InvalidError, a reseller
// that never was credit.ErrNotFound. If the movements do not lead from the opening
// to the closing figures, the error is a *credit.CorruptError.
func NewStatement(ctx context.Context, l credit.Ledger, reseller uuid.UUID, from, until time.Time) (Statement, error) {
	period, err := credit.RecordQuery{RecordedFrom: from, RecordedUntil: until}.Normalize()
	if err != nil {
		return Statement{}, err
	}
	if period.RecordedUntil.IsZero() || !period.RecordedFrom.After(time.Time{}.Add(time.Microsecond)) {
		return Statement{}, &credit.InvalidError{Field: "period", Problem: "needs a beginning and an end"}
	}
	r, err := l.Reseller(ctx, reseller)
	if err != nil {
		return Statement{}, err
	}
	d := l.Distributor()
	s := Statement{LedgerID: d.ID, Currency: d.Currency, ResellerID: r.ID, ExternalID: r.ExternalID,
		From: period.RecordedFrom, Until: period.RecordedUntil, Totals: []Total{}, Movements: []credit.Record{}}
	if err := s.fill(ctx, l); err != nil {
		return Statement{}, err
	}
	return s, nil
}

// fill reads what the log says of the period.
func (s *Statement) fill(ctx context.Context, l credit.Ledger) error {
	now, err := l.Head(ctx)
	if err != nil {
		return err
	}
	s.Final = !now.RecordedAt.Before(s.Until)
	// What is recorded before a time is what is recorded up to a microsecond before it.
	if s.Before, err = l.HeadAsOf(ctx, credit.AsOf{Time: s.From.Add(-time.Microsecond)}); err != nil {
		return err
	}
	if s.Through, err = l.HeadAsOf(ctx, credit.AsOf{Time: s.Until.Add(-time.Microsecond)}); err != nil {
		return err
	}
	if s.Opening, err = balance(ctx, l, s.ResellerID, s.Before); err != nil {
		return err
	}
	if s.Closing, err = balance(ctx, l, s.ResellerID, s.Through); err != nil {
		return err
	}
	return s.move(ctx, l)
}

// balance is that of the reseller at a head of the log.
func balance(ctx context.Context, l credit.Ledger, reseller uuid.UUID, at credit.Head) (Balance, error) {
	none := Balance{Figures: credit.Figures{Allocated: credit.FromMillionths(0), Used: credit.FromMillionths(0)}}
	if at.Sequence == 0 {
		return none, nil
	}
	r, err := l.ResellerAsOf(ctx, reseller, credit.AsOf{Sequence: at.Sequence})
	if errors.Is(err, credit.ErrNotFound) {
		return none, nil
	}
	return Balance{r.Status, r.Figures}, err
}

// move reads the movements, and follows the figures from record to record.
func (s *Statement) move(ctx context.Context, l credit.Ledger) error {
	totals := map[credit.Kind]Total{}
	at := s.Opening.Figures
	if s.Before.Sequence < s.Through.Sequence {
		q := credit.RecordQuery{ResellerID: s.ResellerID, After: s.Before.Sequence, Before: s.Through.Sequence + 1, Limit: credit.MaxPageSize}
		for r, err := range credit.AllRecords(ctx, l, q) {
			switch {
			case err != nil:
				return err
			case !same(at, r.Before):
				return &credit.CorruptError{Sequence: r.Sequence, Problem: fmt.Sprintf("begins with allocated %s, used %s, the record before it left %s, %s",
					r.Before.Allocated, r.Before.Used, at.Allocated, at.Used)}
			case len(s.Movements) == MaxMovements:
				return &credit.InvalidError{Field: "period", Problem: fmt.Sprintf("has more than %d movements; choose a shorter one", MaxMovements)}
			}
			at = r.After
			s.Movements = append(s.Movements, r)
			t := totals[r.Kind]
			totals[r.Kind] = Total{r.Kind, t.Count + 1, t.Amount.Add(r.Amount)}
		}
	}
	if !same(at, s.Closing.Figures) {
		return &credit.CorruptError{Sequence: s.Through.Sequence, Problem: fmt.Sprintf("the movements of reseller %s lead to allocated %s, used %s, not to %s, %s",
			s.ResellerID, at.Allocated, at.Used, s.Closing.Figures.Allocated, s.Closing.Figures.Used)}
	}
	for _, kind := range credit.Kinds() {
		if t, ok := totals[kind]; ok {
			s.Totals = append(s.Totals, t)
		}
	}
	return nil
}

func same(a, b credit.Figures) bool {
	return a.Allocated.Equal(b.Allocated) && a.Used.Equal(b.Used)
}
