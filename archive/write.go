package archive

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
)

// Write exports the ledger up to its head at this moment. Others may go on writing
// meanwhile; none of their records is in the export. It reads by pages, takes no
// lock, and holds a page in memory, and the ids of the resellers that are added
// meanwhile.
//
// A record that is missing is a [*credit.CorruptError]; for the rest Write takes
// the ledger as it is, and [Verify] tells what it is worth. With an error, what
// was written is no export.
func Write(ctx context.Context, l credit.Ledger, w io.Writer) (Summary, error) {
	s := Summary{Distributor: l.Distributor()}
	fail := func(err error) (Summary, error) {
		return Summary{}, during(fmt.Sprintf("write export of ledger %s", s.Distributor.ID), err)
	}
	var err error
	if s.Head, err = l.Head(ctx); err != nil {
		return fail(err)
	}
	out, sum := bufio.NewWriterSize(w, 64<<10), sha256.New()
	summed := io.MultiWriter(out, sum)
	if err := writeLine(summed, lineExport, exportLine{version, s.Distributor, s.Head}); err != nil {
		return fail(err)
	}
	if s.Resellers, err = writeResellers(ctx, l, s.Head, summed); err != nil {
		return fail(err)
	}
	if err := writeLine(out, lineResellers, resellersLine{s.Resellers, credit.Hash(sum.Sum(nil))}); err != nil {
		return fail(err)
	}
	if err := writeRecords(ctx, l, s.Head, out); err != nil {
		return fail(err)
	}
	if err := writeLine(out, lineEnd, endLine{s.Head.Sequence, s.Resellers, s.Head}); err != nil {
		return fail(err)
	}
	if err := out.Flush(); err != nil {
		return fail(err)
	}
	return s, nil
}

// writeResellers writes those that the head knows, and returns how many. Id,
// external id and bound-at never change, so a listing meets each of them once.
func writeResellers(ctx context.Context, l credit.Ledger, head credit.Head, w io.Writer) (written int, err error) {
	q := credit.ResellerQuery{Statuses: []credit.Status{credit.StatusActive, credit.StatusFrozen, credit.StatusClosed},
		Order: credit.OrderOldest, Limit: credit.MaxPageSize}
	later, since := map[uuid.UUID]bool{}, head.Sequence
	for {
		page, err := l.Resellers(ctx, q)
		if err != nil {
			return written, err
		}
		// Whoever is listed has a record by now.
		for more := true; more; {
			added, err := l.Records(ctx, credit.RecordQuery{Kinds: []credit.Kind{credit.KindAdd}, After: since, Limit: credit.MaxPageSize})
			if err != nil {
				return written, err
			}
			for _, r := range added.Items {
				later[r.ResellerID], since = true, r.Sequence
			}
			more = added.Next != ""
		}
		for _, r := range page.Items {
			if later[r.ID] {
				continue
			}
			if err := writeLine(w, lineReseller, resellerLine{r.ID, r.ExternalID, r.Profile, r.BoundAt}); err != nil {
				return written, err
			}
			written++
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return written, nil
		}
	}
}

func writeRecords(ctx context.Context, l credit.Ledger, head credit.Head, w io.Writer) error {
	last := credit.Head{Hash: credit.Genesis(l.Distributor())}
	for last.Sequence < head.Sequence {
		page, err := l.Records(ctx, credit.RecordQuery{After: last.Sequence, Before: head.Sequence + 1, Limit: credit.MaxPageSize})
		if err != nil {
			return err
		}
		if len(page.Items) == 0 {
			return &credit.CorruptError{Sequence: last.Sequence + 1, Problem: fmt.Sprintf("is missing; the head says that there are %d", head.Sequence)}
		}
		for _, r := range page.Items {
			if r.Sequence != last.Sequence+1 {
				return &credit.CorruptError{Sequence: last.Sequence + 1, Problem: fmt.Sprintf("is missing: record %d is in its place", r.Sequence)}
			}
			if err := writeLine(w, lineRecord, r); err != nil {
				return err
			}
			last.Sequence, last.Hash = r.Sequence, r.Hash
		}
	}
	if last.Hash != head.Hash {
		return &credit.CorruptError{Sequence: last.Sequence, Problem: fmt.Sprintf("its hash is %s, the head's is %s", last.Hash, head.Hash)}
	}
	return nil
}
