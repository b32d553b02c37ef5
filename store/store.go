// Package store runs a credit ledger durably: [Open] joins the rules of package
// credit to a [Store], a place that keeps records, and returns a [Ledger].
//
// A store knows no rule, keeps no memory and runs no loop. Deciding, remembering,
// retrying and finding out about lost answers live once, in the engine, so that a
// store for another database is small. Package storetest defines a correct one.
package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
)

// Store is the port that a database implements. The rules:
//
//  1. Everything is scoped to one ledger; no call reads or writes another one.
//  2. What a successful Append wrote is seen by every later read, from every
//     process.
//  3. Append writes all of its batch or nothing: nothing, if any of it does not fit
//     what is there (a key twice, an added id or external id that exists, a changed
//     or moved reseller that does not).
//  4. Append writes only if the ledger's head is still the expected one, by
//     sequence and by hash, and none of the batch's keys is taken. Otherwise it
//     answers ErrMoved.
//  5. Records are never changed or removed.
//  6. What is read equals what was written, to the last bit: amounts through
//     credit.FromMillionths, times in UTC with microseconds, nil for an empty map
//     or slice.
//  7. Keys and external ids are compared byte by byte.
//  8. Slices and maps handed over are not kept; those returned are the caller's.
//  9. An error of Append or Create says what it knows about the outcome: see
//     ErrMoved, [Retry] and [Reject]. Any other error means that the outcome is
//     unknown.
//  10. Every method is safe for concurrent use and ends soon after its context does.
type Store interface {
	// Create creates a ledger without records, or returns the distributor of the
	// one that is there, whatever its name and currency.
	Create(ctx context.Context, d credit.Distributor) (credit.Distributor, error)

	// Load returns the head and what exists of the read set, as one consistent
	// snapshot of committed state. The head of a ledger without records is that of
	// credit.NewState. A ledger that was never created is ErrNoLedger.
	Load(ctx context.Context, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error)

	// Append writes a batch on top of the expected head.
	Append(ctx context.Context, ledger uuid.UUID, expected credit.Head, batch Batch) error

	// Resellers returns at most q.Limit resellers that match the normalized query,
	// in its order, strictly after the position; the zero position is the
	// beginning. q.AsOf is zero; q.Cursor and q.Total are to be ignored.
	Resellers(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery, after ResellerPosition) ([]credit.Reseller, error)

	// CountResellers counts all that match the query, whatever its limit and its
	// order.
	CountResellers(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery) (int, error)

	// Records returns at most q.Limit records that match the normalized query, in
	// its order. The range of recorded-at is unbounded, because the engine has made
	// one of sequences of it; q.Cursor is to be ignored.
	Records(ctx context.Context, ledger uuid.UUID, q credit.RecordQuery) ([]credit.Record, error)

	// Latest returns, of each reseller that has one, the newest record of the kinds
	// whose sequence is at most until, in any order; no kinds are all. Resellers come
	// once each, and are at most credit.MaxPageSize.
	Latest(ctx context.Context, ledger uuid.UUID, resellers []uuid.UUID, kinds []credit.Kind, until int64) ([]credit.Record, error)
}

// Immediate is a [Store] that never waits, neither for a network nor for a disk,
// because it is in the memory of the process: a caller has no reason to leave
// while it works, which saves a goroutine for every batch.
type Immediate interface {
	Store
	// Immediate returns the store itself. A store that embeds another one, and may
	// well wait, inherits the method but does not equal what it returns.
	Immediate() Store
}

// Holder is a Store that can keep everybody else from writing to a ledger for a
// moment. When others keep writing between the engine's Load and its Append, it
// holds the ledger for both, so that no process keeps another one from writing. A
// store that serves only one process needs none.
type Holder interface {
	Store
	// Holder returns the store itself. A store that embeds another one inherits the
	// method but does not equal what it returns, and is not held: Hold would go past
	// whatever it does.
	Holder() Store
	// Hold runs f with a store whose first Load waits until nobody else writes to
	// the ledger, and keeps it so until Hold returns. What f appends is written
	// when Hold returns nil. An error of f is returned as it is, and nothing is
	// written; any other error says what it knows, as one of Append does. What f
	// writes with any other store of the database may wait for the hold itself.
	Hold(ctx context.Context, ledger uuid.UUID, f func(Store) error) error
}

// Confirmer is a Store in which a commit can be seen before it is as durable as
// Append's answer: on the disk, or on a standby. A store whose reads show only what
// is durable needs none.
type Confirmer interface {
	Store
	// Confirm returns nil once what could be read of the ledger when it was called
	// is as durable as what Append has acknowledged. In a transaction of the caller's
	// the transaction's own commit may be what waits. The engine confirms what it only
	// read before it answers that a command happened. An error is as one of Load.
	Confirm(ctx context.Context, ledger uuid.UUID) error
}

// Batch is what one Append writes, never empty of records.
type Batch struct {
	// Records continue the expected head: their sequences follow it without a gap.
	// A record with a key takes that key.
	Records []credit.Record `json:"records"`
	// Added are new resellers. Of the existing ones, Changed are those that a record
	// of the batch updates, freezes, unfreezes or closes, and Moved all others: of
	// them nothing but the figures changed, as of nearly all. A reseller that the
	// records touch is once in one of the three, as it is after the last of them.
	Added   []credit.Reseller `json:"added,omitempty"`
	Changed []credit.Reseller `json:"changed,omitempty"`
	Moved   []Balance         `json:"moved,omitempty"`
}

// Balance is a reseller's id and figures.
type Balance struct {
	ID      uuid.UUID      `json:"id"`
	Figures credit.Figures `json:"figures"`
}

// BatchOf returns the batch that writes the records. After is asked once for each
// reseller that they touch, and tells how it is after the last of them, as
// [credit.State.Reseller] does; of one of which only figures changed nothing else is
// looked at. BatchOf panics if after does not know a reseller.
func BatchOf(records []credit.Record, after func(id uuid.UUID) (credit.Reseller, bool)) Batch {
	b := Batch{Records: records}
	var added, changed map[uuid.UUID]bool
	note := func(of *map[uuid.UUID]bool, id uuid.UUID) {
		if *of == nil {
			*of = map[uuid.UUID]bool{}
		}
		(*of)[id] = true
	}
	for i := range records {
		switch r := &records[i]; r.Kind {
		case credit.KindAdd:
			note(&added, r.ResellerID)
		case credit.KindUpdate, credit.KindFreeze, credit.KindUnfreeze, credit.KindClose:
			note(&changed, r.ResellerID)
		}
	}
	seen := map[uuid.UUID]bool{uuid.Nil: true}
	for i := range records {
		id := records[i].ResellerID
		if seen[id] {
			continue
		}
		seen[id] = true
		r, known := after(id)
		switch {
		case !known:
			panic(fmt.Sprintf("store: reseller %s of a record is not known", id))
		case added[id]:
			b.Added = append(b.Added, r)
		case changed[id]:
			b.Changed = append(b.Changed, r)
		default:
			b.Moved = append(b.Moved, Balance{id, r.Figures})
		}
	}
	return b
}

// Head is the ledger's head once the batch is written.
func (b Batch) Head() credit.Head { return b.Records[len(b.Records)-1].Head() }

// ResellerPosition is a place in an order of resellers: that of a reseller with
// this id and, of the other fields, the one that the order compares. The others
// are zero.
type ResellerPosition struct {
	BoundAt   time.Time
	Name      string // folded
	Available int64  // millionths
	ID        uuid.UUID
}

// PositionOf returns the place of a reseller in an order.
func PositionOf(r credit.Reseller, o credit.Order) ResellerPosition {
	p := ResellerPosition{ID: r.ID}
	switch o {
	case credit.OrderName, credit.OrderNameDown:
		p.Name = credit.Fold(r.Name)
	case credit.OrderAvailable, credit.OrderAvailableDown:
		p.Available = r.Available().Shift(credit.FractionalDigits).IntPart()
	default:
		p.BoundAt = r.BoundAt
	}
	return p
}

// Compare orders positions of one order, ascending: negative if p comes first.
func (p ResellerPosition) Compare(q ResellerPosition) int {
	return cmp.Or(p.BoundAt.Compare(q.BoundAt), strings.Compare(p.Name, q.Name), cmp.Compare(p.Available, q.Available), bytes.Compare(p.ID[:], q.ID[:]))
}

// The answers of a store that the engine acts on.
var (
	// ErrMoved: nothing was written, because the head is not the expected one or a
	// key is taken. The engine loads and decides again.
	ErrMoved = errors.New("store: the head moved or a key is taken")
	// ErrNoLedger: the ledger was never created.
	ErrNoLedger = errors.New("store: no such ledger")
)

// Retry marks an error of a store as temporary and certain: nothing was written,
// and the same call may succeed later (a serialization failure, a lock time-out,
// a lost connection before anything was committed).
func Retry(err error) error { return mark(err, outcomeRetry) }

// Reject marks an error of a store as final and certain: nothing was written, and
// the same call would fail again.
func Reject(err error) error { return mark(err, outcomeRejected) }

func mark(err error, o outcome) error {
	if err == nil {
		return nil
	}
	return &outcomeError{err, o}
}

type outcome int

const (
	outcomeUnknown outcome = iota
	outcomeRetry
	outcomeRejected
	outcomeMoved
)

type outcomeError struct {
	err     error
	outcome outcome
}

func (e *outcomeError) Error() string { return e.err.Error() }
func (e *outcomeError) Unwrap() error { return e.err }

// outcomeOf classifies an error of Append.
func outcomeOf(err error) outcome {
	if e, ok := errors.AsType[*outcomeError](err); ok {
		return e.outcome
	}
	if errors.Is(err, ErrMoved) {
		return outcomeMoved
	}
	if errors.Is(err, ErrNoLedger) {
		return outcomeRejected
	}
	return outcomeUnknown
}

// Retryable tells whether the error is of a store, is temporary, and nothing was
// written: the same call may succeed later.
func Retryable(err error) bool {
	return outcomeOf(err) == outcomeRetry || errors.Is(err, credit.ErrBusy)
}
