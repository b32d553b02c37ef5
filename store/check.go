package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
)

// Checked is what [Ledger.Check] found in order.
type Checked struct {
	// Head is the end of the log that was checked. Compare it with one kept
	// elsewhere: a chain alone cannot tell that its tail was cut.
	Head credit.Head `json:"head"`
	// Records and Resellers are how many were checked.
	Records   int64 `json:"records"`
	Resellers int   `json:"resellers"`
}

// Check replays the ledger from its first record: every record is decided again
// by the rules and must come out the same, hash included; every key must lead to
// its record; no record may be after the head; and head, figures and status of
// every stored reseller must be what the records give. The first thing that is
// wrong is a *credit.CorruptError.
//
// It takes no lock, may run beside writers, and holds every reseller's figures,
// but only a page of records, in memory. A reseller's profile and bound-at are
// in no record, so they are not checked.
func (l *Ledger) Check(ctx context.Context) (Checked, error) {
	c := &checker{ledger: l, state: credit.NewState(l.distributor)}
	head, err := l.Head(ctx)
	if err != nil {
		return Checked{}, err
	}
	if err := c.replay(ctx, head); err != nil {
		return Checked{}, err
	}
	resellers, err := c.resellers(ctx)
	if err != nil {
		return Checked{}, err
	}
	if err := c.strangers(ctx); err != nil {
		return Checked{}, err
	}
	if err := c.beyond(ctx); err != nil {
		return Checked{}, err
	}
	return Checked{Head: c.state.Head(), Records: c.state.Head().Sequence, Resellers: resellers}, nil
}

type checker struct {
	ledger *Ledger
	state  *credit.State
	ids    []uuid.UUID // of the resellers that the records added
}

// replay verifies the records up to a head that was read before.
func (c *checker) replay(ctx context.Context, to credit.Head) error {
	for c.state.Head().Sequence < to.Sequence {
		last := c.state.Head().Sequence
		page, err := c.ledger.Records(ctx, credit.RecordQuery{After: last, Before: to.Sequence + 1, Limit: credit.MaxPageSize})
		if err != nil {
			return err
		}
		if len(page.Items) == 0 {
			return &credit.CorruptError{Sequence: last + 1, Problem: fmt.Sprintf("is missing; the head says that there are %d", to.Sequence)}
		}
		for _, r := range page.Items {
			if err := c.state.Verify(r); err != nil {
				return err
			}
			if r.Kind == credit.KindAdd {
				c.ids = append(c.ids, r.ResellerID)
			}
		}
		if err := c.keys(ctx, page.Items); err != nil {
			return err
		}
	}
	if have := c.state.Head(); !sameHead(have, to) {
		return &credit.CorruptError{Sequence: have.Sequence, Problem: fmt.Sprintf("the stored head (record %d, %s granted, %s allocated) is not what it gives (%s granted, %s allocated), or has another hash or time",
			to.Sequence, to.Pool.Granted, to.Pool.Allocated, have.Pool.Granted, have.Pool.Allocated)}
	}
	return nil
}

func sameHead(a, b credit.Head) bool {
	return a.Sequence == b.Sequence && a.Hash == b.Hash && a.RecordedAt.Equal(b.RecordedAt) &&
		a.Pool.Granted.Equal(b.Pool.Granted) && a.Pool.Allocated.Equal(b.Pool.Allocated)
}

// keys checks that every key of the page leads to its record.
func (c *checker) keys(ctx context.Context, page []credit.Record) error {
	var asked credit.ReadSet
	for _, r := range page {
		if r.Key != "" {
			asked.Keys = append(asked.Keys, r.Key)
		}
	}
	if len(asked.Keys) == 0 {
		return nil
	}
	found, err := c.ledger.load(ctx, asked)
	if err != nil {
		return err
	}
	sequences := make(map[string]int64, len(found.Records))
	for _, r := range found.Records {
		sequences[r.Key] = r.Sequence
	}
	for _, r := range page {
		if r.Key != "" && sequences[r.Key] != r.Sequence {
			return &credit.CorruptError{Sequence: r.Sequence, Problem: fmt.Sprintf("its key leads to record %d", sequences[r.Key])}
		}
	}
	return nil
}

// resellers compares the stored resellers with what the records give, some at a
// time, each lot at a head of its own, and returns how many.
func (c *checker) resellers(ctx context.Context) (checked int, err error) {
	for checked < len(c.ids) { // replaying may find more
		lot := c.ids[checked:min(checked+credit.MaxPageSize, len(c.ids))]
		found, err := c.ledger.load(ctx, credit.ReadSet{Resellers: lot})
		if err != nil {
			return checked, err
		}
		if err := c.replay(ctx, found.Head); err != nil {
			return checked, err
		}
		stored := make(map[uuid.UUID]credit.Reseller, len(found.Resellers))
		for _, r := range found.Resellers {
			stored[r.ID] = r
		}
		for _, id := range lot {
			want, _ := c.state.Reseller(id)
			have, ok := stored[id]
			switch {
			case !ok:
				return checked, c.corrupt("reseller %s is missing", id)
			case have.Status != want.Status || have.ExternalID != want.ExternalID:
				return checked, c.corrupt("reseller %s is stored as %s with external id %q; the records give %s and %q", id, have.Status, have.ExternalID, want.Status, want.ExternalID)
			case !have.Allocated.Equal(want.Allocated) || !have.Used.Equal(want.Used):
				return checked, c.corrupt("reseller %s is stored with allocated %s, used %s; the records give %s and %s", id, have.Allocated, have.Used, want.Allocated, want.Used)
			}
		}
		checked += len(lot)
	}
	return checked, nil
}

// strangers looks for stored resellers that no record added.
func (c *checker) strangers(ctx context.Context) error {
	q := credit.ResellerQuery{Statuses: []credit.Status{credit.StatusActive, credit.StatusFrozen, credit.StatusClosed}, Limit: credit.MaxPageSize}
	for {
		page, err := c.ledger.Resellers(ctx, q)
		if err != nil {
			return err
		}
		unknown := func(r credit.Reseller) bool { _, ok := c.state.Reseller(r.ID); return !ok }
		if slices.ContainsFunc(page.Items, unknown) { // perhaps added since
			head, err := c.ledger.Head(ctx)
			if err != nil {
				return err
			}
			if err := c.replay(ctx, head); err != nil {
				return err
			}
		}
		if i := slices.IndexFunc(page.Items, unknown); i >= 0 {
			return c.corrupt("reseller %s is stored, but no record added it", page.Items[i].ID)
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return nil
		}
	}
}

// beyond looks for records that the head does not reach.
func (c *checker) beyond(ctx context.Context) error {
	page, err := c.ledger.Records(ctx, credit.RecordQuery{After: c.state.Head().Sequence, NewestFirst: true, Limit: 1})
	if err != nil || len(page.Items) == 0 {
		return err
	}
	head, err := c.ledger.Head(ctx) // perhaps written since
	if err != nil {
		return err
	}
	if last := page.Items[0].Sequence; last > head.Sequence {
		return &credit.CorruptError{Sequence: last, Problem: fmt.Sprintf("is after the head, which is record %d", head.Sequence)}
	}
	return nil
}

func (c *checker) corrupt(format string, args ...any) error {
	return &credit.CorruptError{Sequence: c.state.Head().Sequence, Problem: fmt.Sprintf(format, args...)}
}
