package store_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
)

var (
	acme = credit.Distributor{ID: id(1), Name: "Acme Cloud", Currency: "USD"}

	// errLost is an error that says nothing about the outcome.
	errLost = errors.New("connection reset by peer")
	// errTemporary and errFinal are what is inside an error that a store marks.
	errTemporary = errors.New("could not serialize access")
	errFinal     = errors.New("value violates a constraint")
)

// refusals are all that a rule can answer.
var refusals = []error{credit.ErrInvalid, credit.ErrKeyConflict, credit.ErrNotFound, credit.ErrExists, credit.ErrNotActive,
	credit.ErrNotFrozen, credit.ErrNotEmpty, credit.ErrInsufficientPool, credit.ErrExceedsAvailable, credit.ErrExceedsUsed,
	credit.ErrOutOfRange, credit.ErrNotApplied}

// id is the n-th id.
func id(n int) uuid.UUID { return uuid.UUID{6: 0x40, 8: 0x80, 14: byte(n >> 8), 15: byte(n)} }

func amt(s string) decimal.Decimal { return decimal.RequireFromString(s) }

// hooked is a store whose calls pass through the test's functions. A function
// that is nil lets them pass; next is the store itself.
type hooked struct {
	store.Store
	create    func(next func() (credit.Distributor, error)) (credit.Distributor, error)
	load      func(ctx context.Context, asked credit.ReadSet, next func() (credit.Snapshot, error)) (credit.Snapshot, error)
	append    func(ctx context.Context, expected credit.Head, b store.Batch, next func() error) error
	records   func(ctx context.Context, q credit.RecordQuery, next func() ([]credit.Record, error)) ([]credit.Record, error)
	resellers func(q credit.ResellerQuery, next func() ([]credit.Reseller, error)) ([]credit.Reseller, error)
	count     func(next func() (int, error)) (int, error)
	latest    func(next func() ([]credit.Record, error)) ([]credit.Record, error)

	loads, appends, looks atomic.Int64 // how often Load, Append and Records were called
	counts                atomic.Int64 // and CountResellers
}

func (s *hooked) Create(ctx context.Context, d credit.Distributor) (credit.Distributor, error) {
	next := func() (credit.Distributor, error) { return s.Store.Create(ctx, d) }
	if s.create == nil {
		return next()
	}
	return s.create(next)
}

func (s *hooked) Load(ctx context.Context, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
	s.loads.Add(1)
	next := func() (credit.Snapshot, error) { return s.Store.Load(ctx, ledger, asked) }
	if s.load == nil {
		return next()
	}
	return s.load(ctx, asked, next)
}

func (s *hooked) Append(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
	s.appends.Add(1)
	late := context.WithoutCancel(ctx) // next may be called when the time is over: an attempt that was on its way
	next := func() error { return s.Store.Append(late, ledger, expected, b) }
	if s.append == nil {
		return next()
	}
	return s.append(ctx, expected, b, next)
}

func (s *hooked) Records(ctx context.Context, ledger uuid.UUID, q credit.RecordQuery) ([]credit.Record, error) {
	s.looks.Add(1)
	next := func() ([]credit.Record, error) { return s.Store.Records(ctx, ledger, q) }
	if s.records == nil {
		return next()
	}
	return s.records(ctx, q, next)
}

func (s *hooked) Resellers(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery, after store.ResellerPosition) ([]credit.Reseller, error) {
	next := func() ([]credit.Reseller, error) { return s.Store.Resellers(ctx, ledger, q, after) }
	if s.resellers == nil {
		return next()
	}
	return s.resellers(q, next)
}

func (s *hooked) CountResellers(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery) (int, error) {
	s.counts.Add(1)
	next := func() (int, error) { return s.Store.CountResellers(ctx, ledger, q) }
	if s.count == nil {
		return next()
	}
	return s.count(next)
}

func (s *hooked) Latest(ctx context.Context, ledger uuid.UUID, resellers []uuid.UUID, kinds []credit.Kind, until int64) ([]credit.Record, error) {
	next := func() ([]credit.Record, error) { return s.Store.Latest(ctx, ledger, resellers, kinds, until) }
	if s.latest == nil {
		return next()
	}
	return s.latest(next)
}

// book is a ledger whose store is hooked. It has one reseller, nimbus, without
// credit, and a pool of 1,000.
type book struct {
	*store.Ledger
	t      testing.TB
	store  *hooked
	nimbus uuid.UUID
}

func newBook(t testing.TB, o store.Options) *book {
	t.Helper()
	if o.Memory == nil {
		o.Memory = store.NewMemory(100)
	}
	b := &book{t: t, store: &hooked{Store: memstore.New()}}
	var err error
	b.Ledger, err = store.Open(t.Context(), b.store, acme, o)
	require.NoError(t, err)
	b.grant("1000")
	b.nimbus = b.add("2001")
	return b
}

// forgetful is the same ledger through an engine that remembers nothing, so that
// it always loads.
func (b *book) forgetful() *book {
	c := *b
	c.Ledger = b.Forgetful(b.store)
	return &c
}

// another is a second engine on the same ledger, like another process.
func (b *book) another() *book {
	b.t.Helper()
	l, err := store.Open(b.t.Context(), b.store.Store, acme, store.Options{Memory: store.NewMemory(100)})
	require.NoError(b.t, err)
	return &book{Ledger: l, t: b.t, store: &hooked{Store: b.store.Store}, nimbus: b.nimbus}
}

func (b *book) grant(amount string) {
	b.t.Helper()
	_, err := b.Grant(b.t.Context(), credit.Grant{Amount: amt(amount)})
	require.NoError(b.t, err)
}

func (b *book) add(externalID string) uuid.UUID {
	b.t.Helper()
	r, err := b.AddReseller(b.t.Context(), credit.NewReseller{ExternalID: externalID, Name: "Reseller " + externalID})
	require.NoError(b.t, err)
	return r.ResellerID
}

// allocation is one to nimbus, with a key.
func (b *book) allocation(amount, key string) credit.Allocation {
	return credit.Allocation{ResellerID: b.nimbus, Amount: amt(amount), Key: key}
}

// allocate gives nimbus credit.
func (b *book) allocate(amount string) credit.Receipt {
	b.t.Helper()
	r, err := b.Allocate(b.t.Context(), b.allocation(amount, ""))
	require.NoError(b.t, err)
	return r
}

// log is every record.
func (b *book) log() []credit.Record {
	b.t.Helper()
	page, err := b.store.Store.Records(context.WithoutCancel(b.t.Context()), acme.ID, credit.RecordQuery{Limit: 1_000_000})
	require.NoError(b.t, err)
	return page
}

// withKey is the record that has the key, if there is one. Two are never.
func (b *book) withKey(key string) (found []credit.Record) {
	b.t.Helper()
	for _, r := range b.log() {
		if r.Key == key {
			found = append(found, r)
		}
	}
	require.LessOrEqual(b.t, len(found), 1, "two records have the key %q", key)
	return found
}

// sound asks for every invariant at once: each record follows from the rules,
// and every figure from the records.
func (b *book) sound() {
	b.t.Helper()
	untouched := b.On(b.store.Store)
	checked, err := untouched.Check(context.WithoutCancel(b.t.Context()))
	require.NoError(b.t, err, "the log does not explain the ledger")
	assert.Len(b.t, b.log(), int(checked.Records))
}

// answer is what a caller was told.
type answer struct {
	credit.Receipt
	err error
}

// caller waits in a goroutine of its own.
type caller struct {
	t      testing.TB
	answer chan answer
}

// start lets somebody else make a call.
func (b *book) start(ctx context.Context, c credit.Allocation) caller {
	w := caller{b.t, make(chan answer, 1)}
	go func() {
		defer close(w.answer)
		r, err := b.Allocate(ctx, c)
		w.answer <- answer{r, err}
	}()
	return w
}

// waits says that there is no answer yet.
func (w caller) waits(msg string) {
	w.t.Helper()
	select {
	case a := <-w.answer:
		require.Failf(w.t, msg, "answered %+v", a)
	default:
	}
}

// get waits for the answer.
func (w caller) get() answer {
	w.t.Helper()
	a, ok := <-w.answer
	require.True(w.t, ok, "the caller's goroutine ended without an answer")
	return a
}

// unmatched says that an error is not a refusal.
func unmatched(t testing.TB, err error) {
	t.Helper()
	for _, refusal := range refusals {
		require.NotErrorIs(t, err, refusal, "an error of a store matches a refusal")
	}
}

// clock is a source of times and ids that gives the same ones in every run.
type clock struct {
	now time.Time
	ids atomic.Int64
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) options() store.Options {
	return store.Options{Now: func() time.Time { return c.now }, NewID: func() uuid.UUID { return id(int(c.ids.Add(1)) + 1000) },
		Memory: store.NewMemory(100)}
}

// commits collects what OnCommit tells. The hooks of two commits may run at once.
type commits struct {
	mu   sync.Mutex
	some []store.Commit
}

func (c *commits) add(one store.Commit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.some = append(c.some, one)
}

// take returns what was told since the last time, by number of calls.
func (c *commits) take() []store.Commit {
	c.mu.Lock()
	defer c.mu.Unlock()
	some := c.some
	c.some = nil
	slices.SortStableFunc(some, func(a, b store.Commit) int { return a.Calls - b.Calls })
	return some
}
