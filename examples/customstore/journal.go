package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
)

// Journal is a store for one process: a file of JSON lines, one for each write
// and synced before it is answered. What it holds is also in memory, where it is
// compared and searched.
type Journal struct {
	mu     sync.RWMutex // held while memory is ahead of the file
	file   *os.File
	memory *memstore.Store
	broken error // once a write has failed, the journal answers nothing else
}

var _ store.Store = (*Journal)(nil)

// line is one write: a new ledger, or a batch on top of a head.
type line struct {
	Create   *credit.Distributor `json:"create,omitempty"`
	Ledger   uuid.UUID           `json:"ledger,omitzero"`
	Expected credit.Head         `json:"expected,omitzero"`
	Batch    store.Batch         `json:"batch,omitzero"`
}

// OpenJournal reads the file, if it exists. A last line without an end is a write
// that was never answered, and is cut off.
func OpenJournal(path string) (*Journal, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	j := &Journal{memory: memstore.New()}
	for d := json.NewDecoder(bytes.NewReader(text)); d.More(); {
		var l line
		if err := d.Decode(&l); err != nil {
			return nil, err
		}
		if err := j.apply(context.Background(), l); err != nil {
			return nil, err
		}
	}
	if j.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	return j, j.file.Truncate(int64(len(text)))
}

// apply writes to memory, which refuses what the rules of the port refuse.
func (j *Journal) apply(ctx context.Context, l line) error {
	if l.Create != nil {
		_, err := j.memory.Create(ctx, *l.Create)
		return err
	}
	return j.memory.Append(ctx, l.Ledger, l.Expected, l.Batch)
}

// write writes to memory and then to the file. If the file fails, nobody knows
// what is in it: the error has no mark, and the journal is at its end.
func (j *Journal) write(ctx context.Context, l line) error {
	if err := j.apply(ctx, l); err != nil {
		return err
	}
	text, err := json.Marshal(l)
	if err == nil {
		_, err = j.file.Write(append(text, '\n'))
	}
	if err == nil {
		err = j.file.Sync()
	}
	j.broken = err
	return err
}

// Create implements store.Store.
func (j *Journal) Create(ctx context.Context, d credit.Distributor) (credit.Distributor, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != nil {
		return d, j.broken
	}
	if _, err := j.memory.Load(ctx, d.ID, credit.ReadSet{}); !errors.Is(err, store.ErrNoLedger) {
		return j.memory.Create(ctx, d) // what is there
	}
	return d, j.write(ctx, line{Create: &d})
}

// Append implements store.Store.
func (j *Journal) Append(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != nil {
		return j.broken
	}
	return j.write(ctx, line{Ledger: ledger, Expected: expected, Batch: b})
}

// Load implements store.Store.
func (j *Journal) Load(ctx context.Context, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
	return read(j, func() (credit.Snapshot, error) { return j.memory.Load(ctx, ledger, asked) })
}

// Resellers implements store.Store.
func (j *Journal) Resellers(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery, after store.ResellerPosition) ([]credit.Reseller, error) {
	return read(j, func() ([]credit.Reseller, error) { return j.memory.Resellers(ctx, ledger, q, after) })
}

// CountResellers implements store.Store.
func (j *Journal) CountResellers(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery) (int, error) {
	return read(j, func() (int, error) { return j.memory.CountResellers(ctx, ledger, q) })
}

// Records implements store.Store.
func (j *Journal) Records(ctx context.Context, ledger uuid.UUID, q credit.RecordQuery) ([]credit.Record, error) {
	return read(j, func() ([]credit.Record, error) { return j.memory.Records(ctx, ledger, q) })
}

// Latest implements store.Store.
func (j *Journal) Latest(ctx context.Context, ledger uuid.UUID, resellers []uuid.UUID, kinds []credit.Kind, until int64) ([]credit.Record, error) {
	return read(j, func() ([]credit.Record, error) { return j.memory.Latest(ctx, ledger, resellers, kinds, until) })
}

// read reads what the file holds, too.
func read[T any](j *Journal, from func() (T, error)) (T, error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.broken != nil {
		var none T
		return none, j.broken
	}
	return from()
}
