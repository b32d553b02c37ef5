package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sethvargo/go-retry"
	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

const (
	operator = "billing"
	chunk    = 1_000 // lines in one call, all of which are committed together
	often    = 5_000 // lines from one report of progress to the next
)

// posting is one run: what it posts to, and what came of it. It holds a chunk of
// lines and the figures of every reseller, however long the bills are.
type posting struct {
	ledger   credit.Ledger
	report   io.Writer // of problems, warnings and the summary
	progress io.Writer
	accounts map[string]*account // by account number
	last     int64               // the sequence of the newest record seen

	lines, posted, already, changed, refused int
	rounding                                 decimal.Decimal // what was posted less what was billed for it
	below                                    int             // fees that round to nothing, which no record can hold
	lost                                     decimal.Decimal // their sum
}

// account is a reseller, as it was when the run began, and what it posted.
type account struct {
	credit.Reseller
	posted, already   int
	used, corrections decimal.Decimal
}

// begin reads whose lines can be posted.
func begin(ctx context.Context, ledger credit.Ledger, report, progress io.Writer) (*posting, error) {
	head, err := ledger.Head(ctx)
	if err != nil {
		return nil, err
	}
	p := &posting{ledger: ledger, report: report, progress: progress, accounts: map[string]*account{}, last: head.Sequence}
	return p, resellers(ctx, ledger, func(r credit.Reseller) { p.accounts[r.ExternalID] = &account{Reseller: r} })
}

// resellers calls f with every reseller, closed ones too, because fees arrive late.
func resellers(ctx context.Context, ledger credit.Ledger, f func(credit.Reseller)) error {
	q := credit.ResellerQuery{Statuses: []credit.Status{credit.StatusActive, credit.StatusFrozen, credit.StatusClosed}, Limit: credit.MaxPageSize}
	for {
		page, err := ledger.Resellers(ctx, q)
		if err != nil {
			return err
		}
		for _, r := range page.Items {
			f(r)
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return nil
		}
	}
}

// bill posts a bill of so many bytes. A line that cannot be posted is reported,
// and the others go on. After an error the bill can be posted again from its
// beginning: nothing is posted twice.
func (p *posting) bill(ctx context.Context, name string, in io.Reader, size int64) error {
	read := 0
	waiting := make([]line, 0, chunk)
	for l, err := range lines(in) {
		if err == nil {
			read++
			if waiting = append(waiting, l); len(waiting) == chunk {
				err = p.post(ctx, name, waiting)
				waiting = waiting[:0]
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if read%often == 0 {
			_, _ = fmt.Fprintf(p.progress, "%s: %d lines, %d %% of the file\n", name, read, 100*l.end/max(size, 1))
		}
	}
	if err := p.post(ctx, name, waiting); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// post posts some lines and takes down what became of each, in their order.
//
// The ledger does not take an amount of 0, so a fee that rounds to nothing is not
// posted; but it may have been lowered to that since. Only its key can tell: a dry
// run of something else with the same key is a conflict if the line was posted.
func (p *posting) post(ctx context.Context, name string, lines []line) error {
	outcomes := make([]credit.Outcome, len(lines))
	var fees, nothings batch
	for i, l := range lines {
		switch a := p.accounts[l.reseller]; {
		case l.err != nil:
			outcomes[i].Err = l.err
		case a == nil:
			outcomes[i].Err = fmt.Errorf("no reseller has the account number %s", l.reseller)
		case l.amount().IsZero():
			nothings.add(i, credit.Grant{Amount: credit.FromMillionths(1), Key: l.key()})
		default:
			fees.add(i, l.command(a.ID))
		}
	}
	if err := fees.send(ctx, p.ledger, credit.BulkOptions{}, outcomes); err != nil {
		return err
	}
	if err := nothings.send(ctx, p.ledger, credit.BulkOptions{DryRun: true}, outcomes); err != nil {
		return err
	}
	for i, l := range lines {
		if err := p.take(ctx, fmt.Sprintf("%s:%d:%d", name, l.number, max(l.column, 1)), l, outcomes[i]); err != nil {
			return err
		}
	}
	return nil
}

// batch is the commands of some lines.
type batch struct {
	commands []credit.Command
	lines    []int // where each belongs
}

func (b *batch) add(i int, c credit.Command) {
	b.commands, b.lines = append(b.commands, c), append(b.lines, i)
}

// send executes the commands in one call and puts their outcomes in their places.
// If the answer is lost, or the store cannot answer for a while, it sends them
// again: what has happened already comes back as it happened.
func (b *batch) send(ctx context.Context, ledger credit.Ledger, o credit.BulkOptions, outcomes []credit.Outcome) error {
	if len(b.commands) == 0 {
		return nil
	}
	answers, err := retry.DoValue(ctx, retry.WithMaxRetries(4, retry.NewExponential(time.Second)), func(ctx context.Context) ([]credit.Outcome, error) {
		answers, err := ledger.Bulk(ctx, b.commands, o)
		if errors.Is(err, credit.ErrOutcomeUnknown) || errors.Is(err, credit.ErrBusy) || store.Retryable(err) {
			err = retry.RetryableError(err)
		}
		return answers, err
	})
	for j, answer := range answers {
		outcomes[b.lines[j]] = answer
	}
	return err
}

// take counts what became of a line, and reports what somebody has to know.
func (p *posting) take(ctx context.Context, where string, l line, o credit.Outcome) error {
	p.lines++
	a, r := p.accounts[l.reseller], o.Receipt.Record
	conflict, changed := errors.AsType[*credit.ConflictError](o.Err)
	switch {
	case changed:
		p.changed++
		return p.conflict(ctx, where, l, conflict)
	case l.err == nil && a != nil && l.amount().IsZero():
		p.below++
		p.lost = p.lost.Add(l.signed(l.fee))
	case o.Err != nil:
		p.refused++
		fmt.Fprintf(p.report, "%s: refused: %v\n", where, o.Err)
	case r.Sequence <= p.last: // of an earlier run, or a line that the bill repeats
		p.already++
		a.already++
	default: // of this run, even if it is a replay because a first answer was lost
		p.posted++
		a.posted++
		p.last = r.Sequence
		p.rounding = p.rounding.Add(r.Amount).Sub(l.signed(l.fee))
		if r.Kind == credit.KindCorrection {
			a.corrections = a.corrections.Sub(r.Amount)
		} else {
			a.used = a.used.Add(r.Amount)
		}
		for _, w := range r.Warnings(credit.DefaultThresholds()) {
			what := string(w.Crossing)
			if w.Crossing == credit.CrossingLow {
				what += ", " + w.Threshold.String() + " or less"
			}
			fmt.Fprintf(p.report, "%s: warning: %s: %s: %s of %s available\n", where, a.Name, what, w.After, r.After.Allocated)
		}
	}
	return nil
}

// conflict reports what a line said when it was posted, and what it says now.
func (p *posting) conflict(ctx context.Context, where string, l line, c *credit.ConflictError) error {
	page, err := p.ledger.Records(ctx, credit.RecordQuery{After: c.EarlierSequence - 1, Limit: 1})
	if err != nil {
		return err
	}
	r := page.Items[0]
	var reseller string
	for number, a := range p.accounts {
		if a.ID == r.ResellerID {
			reseller = number
		}
	}
	var differences []string
	for _, d := range []struct{ column, was, is string }{
		{"reseller_uin", reseller, l.reseller},
		{"customer_uin", r.Customer, l.customer},
		{"product", r.Metadata["product"], l.product},
		{"type", string(r.Kind), string(l.kind())},
		{"corrects_line", r.Metadata["corrects"], l.corrects},
		{"fee", r.Metadata["fee"], l.fee.String()},
		{"occurred_at", r.OccurredAt.Format(time.RFC3339Nano), l.occurredAt.UTC().Format(time.RFC3339Nano)},
	} {
		if d.was != d.is {
			differences = append(differences, fmt.Sprintf("%s was %q and is %q", d.column, d.was, d.is))
		}
	}
	fmt.Fprintf(p.report, "%s: changed since it was posted as record %d: %s\n", where, r.Sequence, strings.Join(differences, ", "))
	return nil
}
