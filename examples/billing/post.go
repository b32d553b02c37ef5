package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/sethvargo/go-retry"
	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

const (
	operator = "billing"
	chunk    = 1_000 // lines in one call, which are committed together
	often    = 5_000 // lines from one report of progress to the next
)

// posting is one run: what it posts to, and what came of it. However long the
// bills are, it holds a chunk of lines and the figures of every reseller.
type posting struct {
	ledger   credit.Ledger
	report   io.Writer // of problems, warnings and the summary
	progress io.Writer
	accounts map[string]*account // by account number
	last     int64               // the sequence of the newest record seen

	posted, already, below, changed, refused int             // how each line ended
	rounding                                 decimal.Decimal // what was posted less what was billed for it
	dust                                     decimal.Decimal // what was billed below a millionth
}

// account is a reseller as it was when the run began, and what the run posted.
type account struct {
	credit.Reseller
	posted, already   int
	used, corrections decimal.Decimal
	after             credit.Figures
}

// begin reads who there is to post to, closed resellers too: fees arrive late.
func begin(ctx context.Context, ledger credit.Ledger, report, progress io.Writer) (*posting, error) {
	head, err := ledger.Head(ctx)
	if err != nil {
		return nil, err
	}
	p := &posting{ledger: ledger, report: report, progress: progress, accounts: map[string]*account{}, last: head.Sequence}
	q := credit.ResellerQuery{Statuses: []credit.Status{credit.StatusActive, credit.StatusFrozen, credit.StatusClosed}}
	for {
		page, err := ledger.Resellers(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, r := range page.Items {
			p.accounts[r.ExternalID] = &account{Reseller: r, after: r.Figures}
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return p, nil
		}
	}
}

// bill posts a bill. A line that cannot be posted is reported, and the others go
// on. After an error the bill can be posted again from its beginning.
func (p *posting) bill(ctx context.Context, files fs.FS, name string) error {
	f, err := files.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	read := 0
	waiting := make([]line, 0, chunk)
	for l, err := range lines(f) {
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if waiting = append(waiting, l); len(waiting) == chunk {
			if err := p.post(ctx, name, waiting); err != nil {
				return err
			}
			waiting = waiting[:0]
		}
		if read++; read%often == 0 {
			fmt.Fprintf(p.progress, "%s: %d lines, %d %% of the file\n", name, read, min(100*l.end/max(info.Size(), 1), 100))
		}
	}
	return p.post(ctx, name, waiting)
}

// post posts some lines and takes down what became of each, in their order.
func (p *posting) post(ctx context.Context, name string, lines []line) error {
	var commands []credit.Command
	for _, l := range lines {
		if l.err == nil {
			commands = append(commands, p.command(l))
		}
	}
	outcomes, err := p.send(ctx, commands)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, l := range lines {
		o := credit.Outcome{Err: l.err}
		if l.err == nil {
			o, outcomes = outcomes[0], outcomes[1:]
		}
		if err := p.take(ctx, fmt.Sprintf("%s:%d:%d", name, l.number, l.column), l, o); err != nil {
			return err
		}
	}
	return nil
}

// command is what a line asks of the ledger. A fee that rounds to nothing, and one
// of an unknown reseller, cannot be posted, but the line may have been posted when
// it was another. Only its key can tell: so the command names no reseller, and is
// refused unless the key is known; if it is, it answers first, with a conflict.
func (p *posting) command(l line) credit.Command {
	if a := p.accounts[l.reseller]; a != nil && !l.amount().IsZero() {
		return l.command(a.ID)
	}
	return credit.Usage{Amount: credit.FromMillionths(1), Key: l.key}
}

// send executes the commands in one call. If the answer is lost, or the store
// cannot answer for a while, it sends them again: what has happened already comes
// back as it happened.
func (p *posting) send(ctx context.Context, commands []credit.Command) ([]credit.Outcome, error) {
	return retry.DoValue(ctx, retry.WithMaxRetries(4, retry.NewExponential(time.Second)), func(ctx context.Context) ([]credit.Outcome, error) {
		outcomes, err := p.ledger.Bulk(ctx, commands, credit.BulkOptions{})
		if errors.Is(err, credit.ErrOutcomeUnknown) || errors.Is(err, credit.ErrBusy) || store.Retryable(err) {
			err = retry.RetryableError(err)
		}
		return outcomes, err
	})
}

// take counts what became of a line, and reports what somebody has to know.
func (p *posting) take(ctx context.Context, where string, l line, o credit.Outcome) error {
	a, r := p.accounts[l.reseller], o.Receipt
	conflict, changed := errors.AsType[*credit.ConflictError](o.Err)
	switch {
	case changed:
		p.changed++
		return p.compare(ctx, where, l, conflict.EarlierSequence)
	case l.err == nil && a == nil:
		p.refused++
		fmt.Fprintf(p.report, "%s: refused: no reseller has the account number %s\n", where, l.reseller)
	case l.err == nil && l.amount().IsZero():
		p.below++
		p.dust = p.dust.Add(l.billed())
	case o.Err != nil:
		p.refused++
		fmt.Fprintf(p.report, "%s: refused: %v\n", where, o.Err)
	case r.Sequence <= p.last: // of an earlier run, or a line that the bill repeats
		p.already++
		a.already++
	default:
		// Of this run, even if it is a replay: because a first answer was lost, or because
		// another run posts the same lines at once. Then both count the line as theirs; it
		// is in the ledger once, and a run alone afterwards counts it as posted already.
		p.posted++
		a.posted++
		p.last, a.after = r.Sequence, r.After
		p.rounding = p.rounding.Add(r.Amount).Sub(l.billed())
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

// compare reports what a line said when it was posted, and what it says now.
func (p *posting) compare(ctx context.Context, where string, l line, sequence int64) error {
	page, err := p.ledger.Records(ctx, credit.RecordQuery{After: sequence - 1, Limit: 1})
	if err != nil {
		return err
	}
	r := page.Items[0]
	reseller, err := p.ledger.Reseller(ctx, r.ResellerID)
	if err != nil {
		return err
	}
	was := []string{reseller.ExternalID, r.Customer, r.Metadata["product"], string(r.Kind), r.Metadata["corrects"], r.Metadata["fee"], r.OccurredAt.Format(time.RFC3339Nano)}
	is := []string{l.reseller, l.customer, l.product, string(l.kind), l.corrects, l.fee.String(), l.occurredAt.Format(time.RFC3339Nano)}
	var differences []string
	for i, c := range columns[2:] {
		if was[i] != is[i] {
			differences = append(differences, fmt.Sprintf("%s was %q and is %q", c.name, was[i], is[i]))
		}
	}
	fmt.Fprintf(p.report, "%s: changed since it was posted as record %d: %s\n", where, r.Sequence, strings.Join(differences, ", "))
	return nil
}
