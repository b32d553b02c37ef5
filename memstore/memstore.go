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
	"slices"
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
// than the earliest of them.
type Store struct {
	mu      sync.RWMutex
	ledgers map[uuid.UUID]*ledger
}

var _ store.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store { return &Store{} }

// ledger is one ledger's data, under its own lock.
type ledger struct {
	distributor credit.Distributor

	mu        sync.RWMutex
	head      credit.Head
	records   []credit.Record         // the one with sequence n at n-1
	touching  map[uuid.UUID][]int64   // a reseller's sequences, ascending
	keys      map[string]int64        // sequence of the record that has the key
	resellers map[uuid.UUID]*reseller // as after the last record
	externals map[string]*reseller
	bound     []*reseller // in the order of a listing, oldest first …
	unplaced  []*reseller // … without these
}

type reseller = credit.Reseller

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
		head:        normalHead(credit.Head{Hash: credit.Genesis(d)}),
		touching:    map[uuid.UUID][]int64{},
		keys:        map[string]int64{},
		resellers:   map[uuid.UUID]*reseller{},
		externals:   map[string]*reseller{},
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
			found.Records = append(found.Records, l.records[sequence-1].Clone())
		}
	}
	return found, nil
}

// Append implements [store.Store]. Nothing of it is ever unknown: its errors are
// store.ErrMoved, store.ErrNoLedger, one marked by store.Retry when the context
// was over, or one marked by store.Reject when the batch contradicts itself or
// the ledger, which the engine's batches never do.
func (s *Store) Append(ctx context.Context, id uuid.UUID, expected credit.Head, batch store.Batch) error {
	l, err := s.ledger(ctx, id)
	if errors.Is(err, store.ErrNoLedger) {
		return err
	} else if err != nil {
		return store.Retry(err)
	}
	// The copies are made before the lock is taken.
	if batch, err = normalBatch(batch); err != nil {
		return store.Reject(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head.Sequence != expected.Sequence || l.head.Hash != expected.Hash {
		return store.ErrMoved
	}
	if err := l.checkBatch(batch); err != nil {
		return store.Reject(err)
	}
	if err := l.takeKeys(batch.Records); err != nil {
		return err
	}
	for _, r := range batch.Records {
		l.records = append(l.records, r)
		if r.ResellerID != uuid.Nil {
			l.touching[r.ResellerID] = append(l.touching[r.ResellerID], r.Sequence)
		}
	}
	for i := range batch.Added {
		r := &batch.Added[i]
		l.resellers[r.ID], l.externals[r.ExternalID] = r, r
		l.unplaced = append(l.unplaced, r)
	}
	for _, r := range batch.Changed {
		*l.resellers[r.ID] = r
	}
	l.head = batch.Head()
	return nil
}

// checkBatch refuses what the constraints of a database would refuse, before
// anything is written.
func (l *ledger) checkBatch(batch store.Batch) error {
	for i, r := range batch.Records {
		if want := l.head.Sequence + int64(i) + 1; r.Sequence != want {
			return fmt.Errorf("memstore: record %d stands where %d must follow", r.Sequence, want)
		}
	}
	for i, r := range batch.Added {
		if l.resellers[r.ID] != nil || l.externals[r.ExternalID] != nil {
			return fmt.Errorf("memstore: the added reseller %s, external id %q, exists", r.ID, r.ExternalID)
		}
		// Few are added at once, but for imports; those have many.
		if i > 0 && len(batch.Added) <= 8 && slices.ContainsFunc(batch.Added[:i], func(other reseller) bool { return same(r, other) }) {
			return fmt.Errorf("memstore: the reseller %s, external id %q, is added twice", r.ID, r.ExternalID)
		}
	}
	for _, r := range batch.Changed {
		old := l.resellers[r.ID]
		if old == nil {
			return fmt.Errorf("memstore: the changed reseller %s does not exist", r.ID)
		}
		if old.ExternalID != r.ExternalID || !old.BoundAt.Equal(r.BoundAt) {
			return fmt.Errorf("memstore: reseller %s: external id and bound-at never change", r.ID)
		}
	}
	return nil
}
