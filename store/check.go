package store

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

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

// CheckOptions adjust a check. The zero value checks the whole ledger.
type CheckOptions struct {
	// After is a head that is trusted, such as [Checked.Head] of an earlier check,
	// kept where nobody who can write the ledger can write. The log must go through
	// it, and records up to it are not replayed again; only its sequence and its hash
	// are looked at. Sequence 0 is the beginning.
	After credit.Head
	// Progress hears, after every page, what was found in order so far, and up to
	// which record the log is being checked. It runs in the caller's goroutine.
	Progress func(so Checked, of int64)
}

// Check checks the whole ledger; see [Ledger.CheckWith].
func (l *Ledger) Check(ctx context.Context) (Checked, error) {
	return l.CheckWith(ctx, CheckOptions{})
}

// CheckWith replays the ledger from its first record, or from one that is trusted:
// every record is decided again by the rules and must come out the same, hash
// included; every key and every external id must lead to its record; no record may
// be after the head; and head, figures and status of every stored reseller must be
// what the records give. The first thing that is wrong is a *credit.CorruptError.
//
// It takes no lock, may run beside writers, and reads in pages, the next ones while
// one is replayed: up to four queries are under way at once, but one at a time in a
// transaction of the caller's (see [Ledger.On]). In memory it holds a few pages and the figures and
// status of at most 500,000 resellers, 48 bytes each (BenchmarkCheckMemory), however
// many there are; those that it forgot it takes from their newest records again.
//
// After a trusted head, what is before it is believed: that its keys and external
// ids lead to their records is not checked again, and what resellers had there is
// taken from records that are not replayed. A wrong one shows all the same if the
// reseller was touched since, or if it is not what is stored.
//
// A reseller's profile and bound-at are in no record, so they are not checked. Nor
// is it seen whether a store holds keys that no record has. docs/check.md goes
// through the tables of package sqlstore.
func (l *Ledger) CheckWith(ctx context.Context, o CheckOptions) (Checked, error) {
	return newChecker(l, o, checkerMemory).run(ctx)
}

// checkerMemory is how many resellers a check remembers.
const checkerMemory = 500_000

type checker struct {
	ledger  *Ledger
	options CheckOptions
	head    credit.Head // up to which the records are verified
	// known are some of the resellers as they are there.
	known   *standings
	checked int // resellers
	// reading are the queries that run beside the checker.
	reading sync.WaitGroup
}

func newChecker(l *Ledger, o CheckOptions, remembers int) *checker {
	return &checker{ledger: l, options: o, known: newStandings(remembers), head: credit.NewState(l.distributor).Head()}
}

func (c *checker) run(ctx context.Context) (Checked, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer c.reading.Wait()
	defer cancel() // nobody wants to know any more
	head, err := c.ledger.Head(ctx)
	if err != nil {
		return Checked{}, err
	}
	for _, part := range []func() error{
		func() error { return c.trust(ctx, head) },
		func() error { return c.replay(ctx, head) },
		func() error { return c.resellers(ctx) },
		func() error { return c.strangers(ctx) },
		func() error { return c.beyond(ctx) },
	} {
		if err := part(); err != nil {
			return Checked{}, err
		}
	}
	return c.sound(), nil
}

// sound is what was found in order so far.
func (c *checker) sound() Checked {
	return Checked{Head: c.head, Records: c.head.Sequence - c.options.After.Sequence, Resellers: c.checked}
}

func (c *checker) progress(of int64) {
	if c.options.Progress != nil {
		c.options.Progress(c.sound(), of)
	}
}

// trust goes on from the trusted head, which the log must go through.
func (c *checker) trust(ctx context.Context, head credit.Head) error {
	after := c.options.After
	switch {
	case after.Sequence < 0:
		return &credit.InvalidError{Field: "trusted head", Problem: fmt.Sprintf("has the sequence %d, must be 0 or more", after.Sequence)}
	case after.Sequence == 0:
		if !after.Hash.IsZero() && after.Hash != c.head.Hash {
			return &credit.CorruptError{Problem: "the trusted head is that of another ledger"}
		}
		return nil
	case after.Sequence > head.Sequence:
		return &credit.CorruptError{Sequence: head.Sequence + 1, Problem: fmt.Sprintf("is missing; the head that is trusted is record %d", after.Sequence)}
	}
	page, err := c.ledger.Records(ctx, credit.RecordQuery{After: max(0, after.Sequence-2), Before: after.Sequence + 1})
	if err != nil {
		return err
	}
	previous := c.head.Hash
	for _, r := range page.Items {
		if r.Sequence < after.Sequence {
			previous = r.Hash
			continue
		}
		if r.Hash != after.Hash || r.ChainHash(previous) != after.Hash {
			return &credit.CorruptError{Sequence: r.Sequence, Problem: fmt.Sprintf("it is not the record that is trusted, whose hash is %s, or does not follow the one before", after.Hash)}
		}
		c.head = r.Head()
	}
	if c.head.Sequence != after.Sequence {
		return &credit.CorruptError{Sequence: after.Sequence, Problem: "is missing, though it is the head that is trusted"}
	}
	return nil
}

// beside begins to read, and returns what waits for it. In a transaction of the
// caller's, which runs one statement at a time, it is read when it is waited for.
func beside[T any](c *checker, read func() (T, error)) func() (T, error) {
	if c.ledger.joined {
		return read
	}
	var v T
	var err error
	var panicked any
	done := make(chan struct{})
	c.reading.Go(func() {
		defer close(done)
		defer func() { panicked = recover() }()
		v, err = read()
	})
	return func() (T, error) {
		<-done
		if panicked != nil { // where the caller can recover it
			panic(panicked)
		}
		return v, err
	}
}

// pages are the records of a range, by pages; the next one is read beside what is
// done with the last. It ends after a page that reaches the end of the range, is
// empty or is an error.
func (c *checker) pages(ctx context.Context, q credit.RecordQuery) iter.Seq2[[]credit.Record, error] {
	read := func() func() (credit.Page[credit.Record], error) {
		q := q
		q.Limit = credit.MaxPageSize
		return beside(c, func() (credit.Page[credit.Record], error) { return c.ledger.Records(ctx, q) })
	}
	return func(yield func([]credit.Record, error) bool) {
		if q.After+1 >= q.Before {
			return
		}
		for next := read(); next != nil; {
			page, err := next()
			next = nil
			if n := len(page.Items); err == nil && n > 0 && page.Items[n-1].Sequence+1 < q.Before {
				q.After = page.Items[n-1].Sequence
				next = read()
			}
			if !yield(page.Items, err) {
				return
			}
		}
	}
}

// replay verifies the records up to a head that was read before.
func (c *checker) replay(ctx context.Context, to credit.Head) error {
	for page, err := range c.pages(ctx, credit.RecordQuery{After: c.head.Sequence, Before: to.Sequence + 1}) {
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return &credit.CorruptError{Sequence: c.head.Sequence + 1, Problem: fmt.Sprintf("is missing; the head says that there are %d", to.Sequence)}
		}
		led := beside(c, func() (credit.Snapshot, error) { return c.led(ctx, page) })
		if err := c.verify(ctx, page); err != nil {
			return err
		}
		if err := leads(page, led); err != nil {
			return err
		}
		c.progress(to.Sequence)
	}
	if !sameHead(c.head, to) {
		return &credit.CorruptError{Sequence: c.head.Sequence, Problem: fmt.Sprintf("the stored head (record %d, %s granted, %s allocated) is not what it gives (%s granted, %s allocated), or has another hash or time",
			to.Sequence, to.Pool.Granted, to.Pool.Allocated, c.head.Pool.Granted, c.head.Pool.Allocated)}
	}
	return nil
}

// verify decides a page of records again, on the resellers that it touches.
func (c *checker) verify(ctx context.Context, page []credit.Record) error {
	asked, seen := credit.ReadSet{}, map[uuid.UUID]bool{uuid.Nil: true}
	for _, r := range page {
		if !seen[r.ResellerID] {
			seen[r.ResellerID] = true
			asked.Resellers = append(asked.Resellers, r.ResellerID)
		}
		if r.Kind == credit.KindAdd { // whether it was given out on an earlier page, the store is asked
			asked.ExternalIDs = append(asked.ExternalIDs, r.ExternalID)
		}
	}
	found, err := c.resellersAt(ctx, asked.Resellers)
	if err != nil {
		return err
	}
	asked.Resellers = append(asked.Resellers, uuid.Nil)
	state := credit.LoadState(asked, credit.Snapshot{Head: c.head, Resellers: slices.Collect(maps.Values(found))})
	for _, r := range page {
		if err := state.Verify(r); err != nil {
			return err
		}
	}
	c.head = state.Head()
	for id := range seen {
		if r, ok := state.Reseller(id); ok {
			if err := c.remember(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// remember refuses a figure that no record may have: what was verified has none.
func (c *checker) remember(r credit.Reseller) error {
	s, err := standingOf(0, 0, r)
	if err != nil {
		return c.corrupt("the newest record of reseller %s up to here has a figure that is no amount: %v", r.ID, err)
	}
	c.known.put(s)
	return nil
}

// resellersAt are those of the resellers that were added by the records verified
// so far, as they were then: remembered, or by their newest records.
func (c *checker) resellersAt(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]credit.Reseller, error) {
	at := make(map[uuid.UUID]credit.Reseller, len(ids))
	var forgotten []credit.Reseller
	for _, id := range ids {
		if s := c.known.get(owned{id: id}); s != nil {
			at[id] = s.reseller()
		} else {
			forgotten = append(forgotten, credit.Reseller{ID: id})
		}
	}
	if c.known.whole && c.options.After.Sequence == 0 {
		return at, nil // none was forgotten
	}
	found, err := c.ledger.asOf(ctx, forgotten, c.head.Sequence)
	if err != nil {
		return nil, err
	}
	for _, r := range found {
		if err := c.remember(r); err != nil {
			return nil, err
		}
		at[r.ID] = r
	}
	return at, nil
}

func sameHead(a, b credit.Head) bool {
	return a.Sequence == b.Sequence && a.Hash == b.Hash && a.RecordedAt.Equal(b.RecordedAt) &&
		a.Pool.Granted.Equal(b.Pool.Granted) && a.Pool.Allocated.Equal(b.Pool.Allocated)
}

// led is what the keys and the external ids of the page lead to.
func (c *checker) led(ctx context.Context, page []credit.Record) (credit.Snapshot, error) {
	var asked credit.ReadSet
	for _, r := range page {
		if r.Key != "" {
			asked.Keys = append(asked.Keys, r.Key)
		}
		if r.Kind == credit.KindAdd {
			asked.ExternalIDs = append(asked.ExternalIDs, r.ExternalID)
		}
	}
	if len(asked.Keys)+len(asked.ExternalIDs) == 0 {
		return credit.Snapshot{}, nil
	}
	return c.ledger.load(ctx, asked)
}

// leads checks that every key and external id of the page leads to its record.
func leads(page []credit.Record, led func() (credit.Snapshot, error)) error {
	found, err := led()
	if err != nil {
		return err
	}
	sequences, holders := make(map[string]int64, len(found.Records)), make(map[string]uuid.UUID, len(found.Resellers))
	for _, r := range found.Records {
		sequences[r.Key] = r.Sequence
	}
	for _, r := range found.Resellers {
		holders[r.ExternalID] = r.ID
	}
	for _, r := range page {
		switch {
		case r.Key != "" && sequences[r.Key] != r.Sequence:
			return &credit.CorruptError{Sequence: r.Sequence, Problem: fmt.Sprintf("its key leads to record %d", sequences[r.Key])}
		case r.Kind == credit.KindAdd && holders[r.ExternalID] != r.ResellerID:
			return &credit.CorruptError{Sequence: r.Sequence, Problem: fmt.Sprintf("the reseller %s that it adds is missing, or its external id leads to another, %s", r.ResellerID, holders[r.ExternalID])}
		}
	}
	return nil
}

// resellers compares the stored resellers with what the records give, some at a
// time, each lot at a head of its own.
func (c *checker) resellers(ctx context.Context) error {
	// Comparing moves the head, and those who write might move it for ever.
	for added, err := range c.pages(ctx, credit.RecordQuery{Kinds: []credit.Kind{credit.KindAdd}, Before: c.head.Sequence + 1}) {
		if err != nil {
			return err
		}
		if len(added) == 0 {
			return nil
		}
		if err := c.compare(ctx, added); err != nil {
			return err
		}
		c.checked += len(added)
		c.progress(c.head.Sequence)
	}
	return nil
}

// compare compares the resellers that the records added with the stored ones.
func (c *checker) compare(ctx context.Context, added []credit.Record) error {
	ids := make([]uuid.UUID, len(added))
	for i, r := range added {
		ids[i] = r.ResellerID
	}
	found, err := c.ledger.load(ctx, credit.ReadSet{Resellers: ids})
	if err != nil {
		return err
	}
	if err := c.replay(ctx, found.Head); err != nil {
		return err
	}
	wanted, err := c.resellersAt(ctx, ids)
	if err != nil {
		return err
	}
	stored := make(map[uuid.UUID]credit.Reseller, len(found.Resellers))
	for _, r := range found.Resellers {
		stored[r.ID] = r
	}
	for _, r := range added {
		id := r.ResellerID
		want, have := wanted[id], stored[id]
		switch _, ok := stored[id]; {
		case !ok:
			return c.corrupt("reseller %s is missing", id)
		case have.Status != want.Status || have.ExternalID != r.ExternalID:
			return c.corrupt("reseller %s is stored as %s with external id %q; the records give %s and %q", id, have.Status, have.ExternalID, want.Status, r.ExternalID)
		case !have.Allocated.Equal(want.Allocated) || !have.Used.Equal(want.Used):
			return c.corrupt("reseller %s is stored with allocated %s, used %s; the records give %s and %s", id, have.Allocated, have.Used, want.Allocated, want.Used)
		}
	}
	return nil
}

// strangers looks for stored resellers that no record added.
func (c *checker) strangers(ctx context.Context) error {
	q := credit.ResellerQuery{Statuses: []credit.Status{credit.StatusActive, credit.StatusFrozen, credit.StatusClosed}, Limit: credit.MaxPageSize}
	for {
		page, err := c.ledger.Resellers(ctx, q)
		if err != nil {
			return err
		}
		seen := make(map[uuid.UUID]bool, len(page.Items))
		for _, r := range page.Items {
			if seen[r.ID] {
				return c.corrupt("reseller %s is stored twice", r.ID)
			}
			seen[r.ID] = true
		}
		unknown, err := c.unknown(ctx, page.Items)
		if err != nil {
			return err
		}
		if len(unknown) > 0 { // perhaps added since
			head, err := c.ledger.Head(ctx)
			if err != nil {
				return err
			}
			if err := c.replay(ctx, head); err != nil {
				return err
			}
			if unknown, err = c.unknown(ctx, unknown); err != nil {
				return err
			}
		}
		if len(unknown) > 0 {
			return c.corrupt("reseller %s is stored, but no record added it", unknown[0].ID)
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return nil
		}
	}
}

// unknown are those of the resellers that no record added.
func (c *checker) unknown(ctx context.Context, stored []credit.Reseller) ([]credit.Reseller, error) {
	ids := make([]uuid.UUID, len(stored))
	for i, r := range stored {
		ids[i] = r.ID
	}
	known, err := c.resellersAt(ctx, ids)
	return slices.DeleteFunc(slices.Clone(stored), func(r credit.Reseller) bool { _, ok := known[r.ID]; return ok }), err
}

// beyond looks for records that the head does not reach.
func (c *checker) beyond(ctx context.Context) error {
	page, err := c.ledger.Records(ctx, credit.RecordQuery{After: c.head.Sequence, NewestFirst: true, Limit: 1})
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
	return &credit.CorruptError{Sequence: c.head.Sequence, Problem: fmt.Sprintf(format, args...)}
}
