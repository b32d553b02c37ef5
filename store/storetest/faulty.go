package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// Fault is what a [Faulty] store does instead of, or besides, what it is asked.
type Fault int

// The faults. Those that only an Append or a Create can have are plain errors on
// the other methods.
const (
	// NoFault does what is asked.
	NoFault Fault = iota
	// Moved writes nothing and answers store.ErrMoved, as if another writer had
	// come first.
	Moved
	// Temporary does nothing and answers an error marked by store.Retry.
	Temporary
	// Final does nothing and answers an error marked by store.Reject.
	Final
	// LostBefore does nothing and answers an error without a mark: the outcome is
	// unknown to the caller.
	LostBefore
	// LostAfter does what is asked, and answers an error without a mark.
	LostAfter
	// Late answers an error without a mark, and writes the batch after the ledger
	// was next read: the caller looks, sees nothing, and then it is there.
	Late
	// Stranded answers an error without a mark, and writes the batch when
	// [Faulty.Release] is called.
	Stranded
	// Panic does nothing and panics.
	Panic
	// PanicAfter does what is asked, and panics.
	PanicAfter
)

var faultNames = [...]string{"NoFault", "Moved", "Temporary", "Final", "LostBefore", "LostAfter", "Late", "Stranded", "Panic", "PanicAfter"}

// String returns the name of the constant.
func (f Fault) String() string {
	if f < 0 || int(f) >= len(faultNames) {
		return fmt.Sprintf("Fault(%d)", int(f))
	}
	return faultNames[f]
}

// Faults returns every fault but NoFault.
func Faults() []Fault {
	return []Fault{Moved, Temporary, Final, LostBefore, LostAfter, Late, Stranded, Panic, PanicAfter}
}

// errFault is in every error that Faulty makes up.
var errFault = errors.New("storetest: injected fault")

// FaultyCall is one call of a method of a [Faulty] store.
type FaultyCall struct {
	// Method is that of the port: Create, Load, Append …
	Method string
	// Ledger is the ledger that is asked for.
	Ledger uuid.UUID
	// Number counts the calls of the method, from 1.
	Number int
}

// Faulty is a store that fails as databases and networks do. It wraps another one
// and is otherwise as good as that. It is safe for concurrent use.
type Faulty struct {
	store store.Store

	mu      sync.Mutex
	choose  func(FaultyCall) Fault
	calls   map[string]int
	pending []pending
}

// pending is an append that has yet to arrive.
type pending struct {
	ledger   uuid.UUID
	expected credit.Head
	batch    store.Batch
	stranded bool
}

var _ store.Store = (*Faulty)(nil)

// NewFaulty returns a store that behaves like s, except for the faults that choose
// picks, call by call; see [Script] and [Chance]. Choose may be called at once from
// many goroutines, and may block.
func NewFaulty(s store.Store, choose func(FaultyCall) Fault) *Faulty {
	return &Faulty{store: s, choose: choose, calls: map[string]int{}}
}

// Script picks the faults of each method in the order given, and none once they
// are used up.
func Script(faults map[string][]Fault) func(FaultyCall) Fault {
	return func(c FaultyCall) Fault {
		if script := faults[c.Method]; c.Number <= len(script) {
			return script[c.Number-1]
		}
		return NoFault
	}
}

// Chance picks one of the faults in so many percent of the calls, the same ones for
// the same seed and order of calls.
func Chance(seed uint64, percent int, faults ...Fault) func(FaultyCall) Fault {
	var mu sync.Mutex
	rng := newRand(seed, 0)
	return func(FaultyCall) Fault {
		mu.Lock()
		defer mu.Unlock()
		if rng.IntN(100) >= percent {
			return NoFault
		}
		return pickOne(rng, faults)
	}
}

// Heal ends all faults from now on. What was held back stays so until
// [Faulty.Release] or, for Late, the next read.
func (f *Faulty) Heal() { f.become(nil) }

// become replaces what picks the faults, and counts calls from 1 again.
func (f *Faulty) become(choose func(FaultyCall) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.choose, f.calls = choose, map[string]int{}
}

// Release lets everything arrive that was held back, in its order, and returns how
// many batches were written; the others came too late.
func (f *Faulty) Release() int {
	return f.arrive(func(pending) bool { return true })
}

// arrive appends the held back batches that are chosen.
func (f *Faulty) arrive(chosen func(pending) bool) int {
	f.mu.Lock()
	var now, later []pending
	for _, p := range f.pending {
		if chosen(p) {
			now = append(now, p)
		} else {
			later = append(later, p)
		}
	}
	f.pending = later
	f.mu.Unlock()
	written := 0
	for _, p := range now {
		if f.store.Append(context.Background(), p.ledger, p.expected, p.batch) == nil {
			written++
		}
	}
	return written
}

// next is the fault of the next call.
func (f *Faulty) next(method string, ledger uuid.UUID) (Fault, FaultyCall) {
	f.mu.Lock()
	f.calls[method]++
	c := FaultyCall{Method: method, Ledger: ledger, Number: f.calls[method]}
	choose := f.choose
	f.mu.Unlock()
	if choose == nil {
		return NoFault, c
	}
	return choose(c), c
}

// inject calls do as the fault says. Hold keeps what is to arrive later; nil if the
// method has nothing of the kind.
func inject(fault Fault, c FaultyCall, do func() error, hold func(stranded bool)) error {
	made := func(outcome string) error {
		return fmt.Errorf("%w: %s at %s %d%s", errFault, fault, c.Method, c.Number, outcome)
	}
	switch fault {
	case NoFault:
		return do()
	case Moved:
		if c.Method == "Append" {
			return fmt.Errorf("%w: %w", store.ErrMoved, made(""))
		}
	case Temporary:
		return store.Retry(made(""))
	case Final:
		return store.Reject(made(""))
	case LostAfter:
		if err := do(); err != nil {
			return err
		}
	case Late, Stranded:
		if hold != nil {
			hold(fault == Stranded)
		}
	case Panic:
		panic(made(""))
	case PanicAfter:
		_ = do()
		panic(made(""))
	case LostBefore:
	}
	return made(", and the answer is lost")
}

// Create implements [store.Store].
func (f *Faulty) Create(ctx context.Context, d credit.Distributor) (credit.Distributor, error) {
	var stored credit.Distributor
	fault, c := f.next("Create", d.ID)
	err := inject(fault, c, func() (err error) { stored, err = f.store.Create(ctx, d); return err }, nil)
	return stored, err
}

// Append implements [store.Store].
func (f *Faulty) Append(ctx context.Context, ledger uuid.UUID, expected credit.Head, batch store.Batch) error {
	fault, c := f.next("Append", ledger)
	return inject(fault, c, func() error { return f.store.Append(ctx, ledger, expected, batch) }, func(stranded bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.pending = append(f.pending, pending{ledger, expected, copyOf(batch), stranded})
	})
}

// Load implements [store.Store].
func (f *Faulty) Load(ctx context.Context, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
	return reading(f, "Load", ledger, func() (credit.Snapshot, error) { return f.store.Load(ctx, ledger, asked) })
}

// Resellers implements [store.Store].
func (f *Faulty) Resellers(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery, after store.ResellerPosition) ([]credit.Reseller, error) {
	return reading(f, "Resellers", ledger, func() ([]credit.Reseller, error) { return f.store.Resellers(ctx, ledger, q, after) })
}

// CountResellers implements [store.Store].
func (f *Faulty) CountResellers(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery) (int, error) {
	return reading(f, "CountResellers", ledger, func() (int, error) { return f.store.CountResellers(ctx, ledger, q) })
}

// Latest implements [store.Store].
func (f *Faulty) Latest(ctx context.Context, ledger uuid.UUID, resellers []uuid.UUID, kinds []credit.Kind, until int64) ([]credit.Record, error) {
	return reading(f, "Latest", ledger, func() ([]credit.Record, error) { return f.store.Latest(ctx, ledger, resellers, kinds, until) })
}

// Records implements [store.Store].
func (f *Faulty) Records(ctx context.Context, ledger uuid.UUID, q credit.RecordQuery) ([]credit.Record, error) {
	return reading(f, "Records", ledger, func() ([]credit.Record, error) { return f.store.Records(ctx, ledger, q) })
}

// reading reads, and then lets what is late arrive.
func reading[T any](f *Faulty, method string, ledger uuid.UUID, read func() (T, error)) (T, error) {
	var v, none T
	fault, c := f.next(method, ledger)
	err := inject(fault, c, func() (err error) { v, err = read(); return err }, nil)
	f.arrive(func(p pending) bool { return p.ledger == ledger && !p.stranded })
	if err != nil {
		return none, err
	}
	return v, nil
}
