// Package memstore keeps ledgers in memory: the store to test your own code with,
// and to try the library out.
//
//	ledger, err := store.Open(ctx, memstore.New(), credit.Distributor{…}, store.Options{})
//
// It is not a mock. The ledger that runs on it has every rule, and the store gives
// the same promises as a database, held to them by the same test suite (package
// storetest): atomic batches, compare and append, keys, any number of ledgers,
// and any number of ledgers opened on one Store, which then behave like as many
// processes on one database. Only durability is missing: the data ends with the
// process.
package memstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// Store is a [store.Store] in memory. The zero value is an empty store, ready for
// use. It is safe for concurrent use and must not be copied.
//
// Append costs the size of its batch and Load that of its read set, whatever the
// ledger has grown to. A page of records costs its own length, plus the records
// that the filter on kinds passes over; a page of resellers, those that the filter
// on statuses passes over. Resellers are put in order by the first listing after
// they were added: it sorts the new ones, and moves those that were bound later
// than the earliest of them. A record with a key takes some 600 bytes of memory.
type Store struct {
	mu      sync.RWMutex
	ledgers map[uuid.UUID]*ledger
}

var _ store.Immediate = (*Store)(nil)

// New returns an empty store.
func New() *Store { return &Store{} }

// Immediate implements [store.Immediate].
func (s *Store) Immediate() store.Store { return s }

// ledger is one ledger's data, under its own lock.
type ledger struct {
	distributor credit.Distributor

	mu        sync.RWMutex
	head      credit.Head
	pages     [][]record            // the log, pageSize records in each but the last
	touching  map[uuid.UUID][]int64 // the sequences of a reseller's records, ascending
	keys      map[string]int64      // the sequence of the record that has the key
	resellers map[uuid.UUID]*credit.Reseller
	externals map[string]*credit.Reseller
	bound     []*credit.Reseller // in the order of a listing, oldest first …
	unplaced  []*credit.Reseller // … without these
}

// record is a credit.Record without its amounts, which are beside it in
// millionths: a decimal is two more objects for the garbage collector to visit.
type record struct {
	credit.Record
	amounts [7]int64
}

// amounts are those of the record, in the order of the struct.
func amounts(r *credit.Record) [7]*decimal.Decimal {
	return [...]*decimal.Decimal{&r.Amount, &r.Before.Allocated, &r.Before.Used, &r.After.Allocated, &r.After.Used, &r.Pool.Granted, &r.Pool.Allocated}
}

// Clone returns the record in the one form in which it is read, sharing nothing.
func (r *record) Clone() credit.Record {
	c := r.Record.Clone()
	for i, amount := range amounts(&c) {
		*amount = credit.FromMillionths(r.amounts[i])
	}
	return c
}

// pageSize is how many records lie together. A log that grows is never copied.
const pageSize = 256

// record is the one with that sequence.
func (l *ledger) record(sequence int64) *record {
	return &l.pages[(sequence-1)/pageSize][(sequence-1)%pageSize]
}

// add takes the record in, or returns an error for the amount that is none.
func (l *ledger) add(r *credit.Record) error {
	last := len(l.pages) - 1
	switch {
	case last < 0:
		l.pages, last = append(l.pages, nil), 0 // grows as needed, because many ledgers stay small
	case len(l.pages[last]) == pageSize:
		l.pages, last = append(l.pages, make([]record, 0, pageSize)), last+1
	}
	l.pages[last] = append(l.pages[last], record{Record: *r})
	own := &l.pages[last][len(l.pages[last])-1]
	own.Metadata, own.Changed = maps.Clone(r.Metadata), slices.Clone(r.Changed)
	if len(r.Metadata) == 0 {
		own.Metadata = nil
	}
	if len(r.Changed) == 0 {
		own.Changed = nil
	}
	own.OccurredAt, own.RecordedAt = normalTime(r.OccurredAt), normalTime(r.RecordedAt)
	for i, amount := range amounts(&own.Record) {
		v, err := credit.Millionths(*amount)
		if err != nil {
			return fmt.Errorf("memstore: record %d: %w", r.Sequence, err)
		}
		own.amounts[i], *amount = v, decimal.Decimal{}
	}
	return nil
}

// cut takes back what was added after the head.
func (l *ledger) cut() {
	whole, rest := l.head.Sequence/pageSize, l.head.Sequence%pageSize
	if rest == 0 {
		l.pages = l.pages[:whole]
		return
	}
	l.pages = l.pages[:whole+1]
	l.pages[whole] = l.pages[whole][:rest]
}

// Create implements [store.Store].
func (s *Store) Create(ctx context.Context, d credit.Distributor) (credit.Distributor, error) {
	if err := ctx.Err(); err != nil {
		return credit.Distributor{}, store.Retry(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.ledgers[d.ID]; l != nil {
		return l.distributor, nil
	}
	if s.ledgers == nil {
		s.ledgers = map[uuid.UUID]*ledger{}
	}
	s.ledgers[d.ID] = &ledger{
		distributor: d,
		head:        credit.NewState(d).Head(),
		touching:    map[uuid.UUID][]int64{},
		keys:        map[string]int64{},
		resellers:   map[uuid.UUID]*credit.Reseller{},
		externals:   map[string]*credit.Reseller{},
	}
	return d, nil
}

// ledger returns the ledger, unless the context is over or there is none.
func (s *Store) ledger(ctx context.Context, id uuid.UUID) (*ledger, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	l := s.ledgers[id]
	if l == nil {
		return nil, fmt.Errorf("%w: %s", store.ErrNoLedger, id)
	}
	return l, nil
}

// Load implements [store.Store].
func (s *Store) Load(ctx context.Context, id uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
	l, err := s.ledger(ctx, id)
	if err != nil {
		return credit.Snapshot{}, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	found := credit.Snapshot{Head: l.head}
	for _, id := range asked.Resellers {
		if r := l.resellers[id]; r != nil {
			found.Resellers = append(found.Resellers, *r)
		}
	}
	for _, external := range asked.ExternalIDs {
		if r := l.externals[external]; r != nil {
			found.Resellers = append(found.Resellers, *r)
		}
	}
	for _, key := range asked.Keys {
		if sequence := l.keys[key]; sequence > 0 {
			found.Records = append(found.Records, l.record(sequence).Clone())
		}
	}
	return found, nil
}

// Append implements [store.Store]. Nothing about its outcome is ever unknown: the
// error is store.ErrMoved, store.ErrNoLedger, one marked by store.Retry if the
// context was over, or one marked by store.Reject if the batch contradicts itself
// or the ledger, which a batch of the engine never does.
func (s *Store) Append(ctx context.Context, id uuid.UUID, expected credit.Head, batch store.Batch) error {
	l, err := s.ledger(ctx, id)
	if errors.Is(err, store.ErrNoLedger) {
		return err
	} else if err != nil {
		return store.Retry(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head.Sequence != expected.Sequence || l.head.Hash != expected.Hash {
		return store.ErrMoved
	}
	if err := l.check(batch); err != nil {
		return store.Reject(err)
	}
	for i := range batch.Records {
		if err := l.add(&batch.Records[i]); err != nil {
			l.cut()
			return store.Reject(err)
		}
	}
	batch.Added = slices.Clone(batch.Added)
	if err := l.take(batch); err != nil {
		l.cut()
		return err
	}
	for i := range batch.Records {
		if r := &batch.Records[i]; r.ResellerID != uuid.Nil {
			l.touching[r.ResellerID] = append(l.touching[r.ResellerID], r.Sequence)
		}
	}
	for i := range batch.Added {
		r := &batch.Added[i]
		normalize(r)
		l.unplaced = append(l.unplaced, r)
	}
	for i := range batch.Changed {
		r := l.resellers[batch.Changed[i].ID]
		*r = batch.Changed[i]
		normalize(r)
	}
	for i := range batch.Moved {
		r := l.resellers[batch.Moved[i].ID]
		r.Figures = batch.Moved[i].Figures
		normalize(r)
	}
	l.head = batch.Head()
	return nil
}

// check finds what the constraints of a database would find, before anything is
// written.
func (l *ledger) check(batch store.Batch) error {
	if len(batch.Records) == 0 {
		return errors.New("memstore: a batch without records")
	}
	for i := range batch.Records {
		r := &batch.Records[i]
		if follows := l.head.Sequence + int64(i) + 1; r.Sequence != follows {
			return fmt.Errorf("memstore: record %d stands where %d follows", r.Sequence, follows)
		}
	}
	for i := range batch.Added {
		if err := checkFigures(batch.Added[i].ID, batch.Added[i].Figures); err != nil {
			return err
		}
	}
	for i := range batch.Moved {
		m := &batch.Moved[i]
		if err := checkFigures(m.ID, m.Figures); err != nil {
			return err
		}
		if l.resellers[m.ID] == nil {
			return fmt.Errorf("memstore: the moved reseller %s does not exist", m.ID)
		}
	}
	for i := range batch.Changed {
		r := &batch.Changed[i]
		if err := checkFigures(r.ID, r.Figures); err != nil {
			return err
		}
		old := l.resellers[r.ID]
		switch {
		case old == nil:
			return fmt.Errorf("memstore: the changed reseller %s does not exist", r.ID)
		case old.ExternalID != r.ExternalID || !old.BoundAt.Equal(r.BoundAt):
			return fmt.Errorf("memstore: external id and bound-at of reseller %s never change", r.ID)
		}
	}
	return nil
}

func checkFigures(reseller uuid.UUID, f credit.Figures) error {
	_, errAllocated := credit.Millionths(f.Allocated)
	_, errUsed := credit.Millionths(f.Used)
	if err := cmp.Or(errAllocated, errUsed); err != nil {
		return fmt.Errorf("memstore: reseller %s: %w", reseller, err)
	}
	return nil
}

// take enters the batch's keys and new resellers, all of them or, with an error,
// none.
func (l *ledger) take(batch store.Batch) error {
	undo := func(records []credit.Record, added []credit.Reseller) {
		for _, r := range records {
			delete(l.keys, r.Key)
		}
		for _, r := range added {
			delete(l.resellers, r.ID)
			delete(l.externals, r.ExternalID)
		}
	}
	for i := range batch.Records {
		r := &batch.Records[i]
		if r.Key == "" {
			continue
		}
		if earlier := l.keys[r.Key]; earlier != 0 {
			undo(batch.Records[:i], nil)
			if earlier > l.head.Sequence {
				return store.Reject(fmt.Errorf("memstore: records %d and %d have the same key", earlier, r.Sequence))
			}
			return store.ErrMoved
		}
		l.keys[r.Key] = r.Sequence
	}
	for i := range batch.Added {
		r := &batch.Added[i]
		if l.resellers[r.ID] != nil || l.externals[r.ExternalID] != nil {
			undo(batch.Records, batch.Added[:i])
			return store.Reject(fmt.Errorf("memstore: the added reseller %s, external id %q, exists", r.ID, r.ExternalID))
		}
		l.resellers[r.ID], l.externals[r.ExternalID] = r, r
	}
	return nil
}

// Resellers implements [store.Store]. In the orders newest and oldest, the cost of
// a page depends on the page; in the others, and for counting, on how many
// resellers there are.
func (s *Store) Resellers(ctx context.Context, id uuid.UUID, q credit.ResellerQuery, after store.ResellerPosition) ([]credit.Reseller, error) {
	l, err := s.ledger(ctx, id)
	if err != nil {
		return nil, err
	}
	beginning := after == (store.ResellerPosition{})
	if q.Order != credit.OrderNewest && q.Order != credit.OrderOldest {
		l.mu.RLock()
		defer l.mu.RUnlock()
		return l.first(q, func(p store.ResellerPosition) bool {
			place := p.Compare(after)
			return beginning || place != 0 && place > 0 == q.Order.Ascending()
		}), nil
	}
	defer l.lockPlaced()()
	// The one at the position is the last that was seen, if it is there.
	next, seen := slices.BinarySearchFunc(l.bound, after, func(r *credit.Reseller, p store.ResellerPosition) int {
		return store.PositionOf(*r, q.Order).Compare(p)
	})
	step := 1
	switch ascending := q.Order.Ascending(); {
	case !ascending && beginning:
		next, step = len(l.bound)-1, -1
	case !ascending:
		next, step = next-1, -1
	case seen:
		next++
	}
	var page []credit.Reseller
	for ; next >= 0 && next < len(l.bound) && len(page) < q.Limit; next += step {
		if q.Matches(*l.bound[next]) {
			page = append(page, *l.bound[next])
		}
	}
	return page, nil
}

// first returns the first of the resellers that match and whose place is in the
// rest of the order.
func (l *ledger) first(q credit.ResellerQuery, rest func(store.ResellerPosition) bool) []credit.Reseller {
	type placed struct {
		at store.ResellerPosition
		r  *credit.Reseller
	}
	var found []placed
	shorten := func() {
		slices.SortFunc(found, func(a, b placed) int {
			if q.Order.Ascending() {
				return a.at.Compare(b.at)
			}
			return b.at.Compare(a.at)
		})
		found = found[:min(len(found), q.Limit)]
	}
	for _, r := range l.resellers {
		if at := store.PositionOf(*r, q.Order); rest(at) && q.Matches(*r) {
			if found = append(found, placed{at, r}); len(found) == 4*q.Limit {
				shorten()
			}
		}
	}
	shorten()
	page := make([]credit.Reseller, len(found))
	for i, f := range found {
		page[i] = *f.r
	}
	return page
}

// CountResellers implements [store.Store].
func (s *Store) CountResellers(ctx context.Context, id uuid.UUID, q credit.ResellerQuery) (int, error) {
	l, err := s.ledger(ctx, id)
	if err != nil {
		return 0, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	n := 0
	for _, r := range l.resellers {
		if q.Matches(*r) {
			n++
		}
	}
	return n, nil
}

// Latest implements [store.Store].
func (s *Store) Latest(ctx context.Context, id uuid.UUID, resellers []uuid.UUID, kinds []credit.Kind, until int64) ([]credit.Record, error) {
	l, err := s.ledger(ctx, id)
	if err != nil {
		return nil, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	var found []credit.Record
	for _, id := range resellers {
		touching := l.touching[id]
		end := sort.Search(len(touching), func(i int) bool { return touching[i] > until })
		for _, sequence := range slices.Backward(touching[:end]) {
			if r := l.record(sequence); len(kinds) == 0 || slices.Contains(kinds, r.Kind) {
				found = append(found, r.Clone())
				break
			}
		}
	}
	return found, nil
}

// lockPlaced locks the ledger for a listing of resellers, with all of them in
// their place, and returns what unlocks it.
func (l *ledger) lockPlaced() func() {
	l.mu.RLock()
	if len(l.unplaced) == 0 {
		return l.mu.RUnlock
	}
	l.mu.RUnlock()
	l.mu.Lock()
	slices.SortFunc(l.unplaced, byBound)
	placed, left := len(l.bound), len(l.unplaced)
	l.bound = append(l.bound, l.unplaced...)
	for to := placed + left - 1; left > 0; to-- {
		if placed > 0 && byBound(l.bound[placed-1], l.unplaced[left-1]) > 0 {
			placed--
			l.bound[to] = l.bound[placed]
		} else {
			left--
			l.bound[to] = l.unplaced[left]
		}
	}
	l.unplaced = nil
	return l.mu.Unlock
}

func byBound(a, b *credit.Reseller) int {
	return cmp.Or(a.BoundAt.Compare(b.BoundAt), bytes.Compare(a.ID[:], b.ID[:]))
}

// Records implements [store.Store].
func (s *Store) Records(ctx context.Context, id uuid.UUID, q credit.RecordQuery) ([]credit.Record, error) {
	l, err := s.ledger(ctx, id)
	if err != nil {
		return nil, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	// What the filters leave is the n records at(0), at(1) … in ascending order.
	from, to := min(q.After, l.head.Sequence), l.head.Sequence
	if q.Before > 0 {
		to = max(from, min(to, q.Before-1))
	}
	if q.Key != "" {
		from = max(from, min(to, l.keys[q.Key]-1))
		to = max(from, min(to, l.keys[q.Key]))
	}
	n, at := int(to-from), func(i int) *record { return l.record(from + int64(i) + 1) }
	if q.ResellerID != uuid.Nil {
		touching := l.touching[q.ResellerID]
		first, _ := slices.BinarySearch(touching, from+1)
		end, _ := slices.BinarySearch(touching, to+1)
		n, at = end-first, func(i int) *record { return l.record(touching[first+i]) }
	}
	var page []credit.Record
	for i := 0; i < n && len(page) < q.Limit; i++ {
		r := at(i)
		if q.NewestFirst {
			r = at(n - 1 - i)
		}
		if q.Matches(r.Record) { // no filter is about an amount
			page = append(page, r.Clone())
		}
	}
	return page, nil
}

// normalize brings a reseller that was checked into the one form in which it is
// read.
func normalize(r *credit.Reseller) {
	r.BoundAt = normalTime(r.BoundAt)
	for _, amount := range []*decimal.Decimal{&r.Allocated, &r.Used} {
		if amount.Exponent() != -credit.FractionalDigits {
			v, _ := credit.Millionths(*amount)
			*amount = credit.FromMillionths(v)
		}
	}
}

func normalTime(t time.Time) time.Time { return time.UnixMicro(t.UnixMicro()).UTC() }
