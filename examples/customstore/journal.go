package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// Journal is a store for one process: a file of JSON lines, one for each append
// and synced before it returns. All of it is also held in memory.
type Journal struct {
	mu     sync.Mutex
	file   *os.File
	broken error // once writing has failed, nothing more is written
	books  map[uuid.UUID]*book
}

// book is one ledger in memory.
type book struct {
	distributor credit.Distributor
	head        credit.Head
	records     []credit.Record // record n at n-1
	keys        map[string]int64
	resellers   map[uuid.UUID]credit.Reseller
}

// line is what the file holds of one append.
type line struct {
	Distributor credit.Distributor `json:"distributor"`
	Records     []credit.Record    `json:"records,omitempty"`
	Resellers   []credit.Reseller  `json:"resellers,omitempty"`
}

// OpenJournal reads the file, if it exists. A last line without an end is an
// append that was never acknowledged, and is cut off.
func OpenJournal(path string) (*Journal, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	j := &Journal{books: map[uuid.UUID]*book{}}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	for d := json.NewDecoder(bytes.NewReader(text)); d.More(); {
		var l line
		if err := d.Decode(&l); err != nil {
			return nil, err
		}
		j.apply(l)
	}
	if j.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	return j, j.file.Truncate(int64(len(text)))
}

func (j *Journal) write(l line) error {
	text, err := json.Marshal(l)
	if err != nil {
		return store.Reject(err)
	}
	if j.broken == nil {
		_, err = j.file.Write(append(text, '\n'))
		j.broken = errors.Join(err, j.file.Sync())
	}
	if j.broken == nil {
		j.apply(l)
	}
	return j.broken // unmarked: the line may be in the file or not
}

func (j *Journal) apply(l line) {
	b := j.books[l.Distributor.ID]
	if b == nil {
		b = &book{l.Distributor, credit.Head{Hash: credit.Genesis(l.Distributor)}, nil, map[string]int64{}, map[uuid.UUID]credit.Reseller{}}
		j.books[l.Distributor.ID] = b
	}
	for _, r := range l.Records {
		b.records = append(b.records, r.Clone())
		b.keys[r.Key] = r.Sequence
		b.head = credit.Head{Sequence: r.Sequence, Hash: r.Hash, RecordedAt: r.RecordedAt, Pool: r.Pool}
	}
	for _, r := range l.Resellers {
		b.resellers[r.ID] = r
	}
}

// lock returns the ledger's book with the journal locked.
func (j *Journal) lock(ctx context.Context, ledger uuid.UUID) (*book, error) {
	j.mu.Lock()
	if b, ok := j.books[ledger]; ok {
		return b, ctx.Err()
	}
	return nil, store.ErrNoLedger
}

// Create implements store.Store.
func (j *Journal) Create(_ context.Context, d credit.Distributor) (credit.Distributor, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if b, ok := j.books[d.ID]; ok {
		return b.distributor, nil
	}
	return d, j.write(line{Distributor: d})
}

// Load implements store.Store.
func (j *Journal) Load(ctx context.Context, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
	b, err := j.lock(ctx, ledger)
	defer j.mu.Unlock()
	if err != nil {
		return credit.Snapshot{}, err
	}
	found := credit.Snapshot{Head: b.head}
	for _, r := range b.resellers {
		if slices.Contains(asked.Resellers, r.ID) || slices.Contains(asked.ExternalIDs, r.ExternalID) {
			found.Resellers = append(found.Resellers, r)
		}
	}
	for _, key := range asked.Keys {
		if n, ok := b.keys[key]; ok {
			found.Records = append(found.Records, b.records[n-1].Clone())
		}
	}
	return found, nil
}

// Append implements store.Store.
func (j *Journal) Append(ctx context.Context, ledger uuid.UUID, expected credit.Head, batch store.Batch) error {
	b, err := j.lock(ctx, ledger)
	defer j.mu.Unlock()
	if err != nil {
		return store.Reject(err)
	}
	taken := func(r credit.Record) bool { return r.Key != "" && b.keys[r.Key] > 0 }
	if b.head.Sequence != expected.Sequence || b.head.Hash != expected.Hash || slices.ContainsFunc(batch.Records, taken) {
		return store.ErrMoved
	}
	return j.write(line{b.distributor, batch.Records, slices.Concat(batch.Added, batch.Changed)})
}

// Resellers implements store.Store.
func (j *Journal) Resellers(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery, after store.ResellerPosition) ([]credit.Reseller, error) {
	b, err := j.lock(ctx, ledger)
	defer j.mu.Unlock()
	if err != nil {
		return nil, err
	}
	order := func(r credit.Reseller, p store.ResellerPosition) int {
		c := cmp.Or(r.BoundAt.Compare(p.BoundAt), bytes.Compare(r.ID[:], p.ID[:]))
		if q.OldestFirst {
			return c
		}
		return -c
	}
	var found []credit.Reseller
	for _, r := range b.resellers {
		if slices.Contains(q.Statuses, r.Status) && (after == store.ResellerPosition{} || order(r, after) > 0) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b credit.Reseller) int { return order(a, store.ResellerPosition{BoundAt: b.BoundAt, ID: b.ID}) })
	return found[:min(q.Limit, len(found))], nil
}

// Records implements store.Store.
func (j *Journal) Records(ctx context.Context, ledger uuid.UUID, q credit.RecordQuery) ([]credit.Record, error) {
	b, err := j.lock(ctx, ledger)
	defer j.mu.Unlock()
	if err != nil {
		return nil, err
	}
	records := slices.Clone(b.records)
	if q.NewestFirst {
		slices.Reverse(records)
	}
	var found []credit.Record
	for _, r := range records {
		if len(found) < q.Limit && r.Sequence > q.After && (q.Before == 0 || r.Sequence < q.Before) &&
			(q.ResellerID == uuid.Nil || q.ResellerID == r.ResellerID) && (len(q.Kinds) == 0 || slices.Contains(q.Kinds, r.Kind)) {
			found = append(found, r.Clone())
		}
	}
	return found, nil
}
