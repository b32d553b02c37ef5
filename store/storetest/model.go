package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// model runs random sequences of commands through engines over the store, and
// compares every answer, and in the end everything that can be read, with the
// oracle.
func (h Harness) model(t *testing.T) {
	const workers = 4
	for worker := range workers {
		t.Run(fmt.Sprintf("part %d", worker), func(t *testing.T) {
			t.Parallel()
			first := h.Open(t)
			stores := []store.Store{first, h.second(t, first)}
			operations := 0
			for i := worker; i < h.Sequences; i += workers {
				ops := newGenerator(newRand(h.Seed, uint64(i))).sequence()
				operations += len(ops)
				if failed := runSequence(t.Context(), stores, newRand(h.Seed, uint64(i)), ops); failed != nil {
					ops, failed = shrink(ops, failed, func(ops []operation) *failure {
						return runSequence(t.Context(), stores, newRand(h.Seed, uint64(i)), ops)
					})
					require.FailNow(t, "the ledger is not what the rules say", "%s=%d, sequence %d, shortened to %d operations:\n%sfailed: %s",
						seedVariable, h.Seed, i, len(ops), failed.trace, failed.problem)
				}
			}
			t.Logf("%d operations", operations)
		})
	}
}

// failure is what went wrong, and where.
type failure struct {
	at      int // the operation
	problem string
	trace   trace
}

// runner is one sequence on its way.
type runner struct {
	distributor credit.Distributor
	engines     []credit.Ledger
	oracle      *oracle
	issued      map[string]credit.Command
	clock       time.Time
	trace       trace
}

// opener opens the engines of a sequence.
type opener func(ctx context.Context, d credit.Distributor, o store.Options) ([]credit.Ledger, error)

// runSequence runs operations on a ledger of their own, on two engines, one of
// which may remember very little, and on one that remembers nothing.
func runSequence(ctx context.Context, stores []store.Store, rng *rand.Rand, ops []operation) *failure {
	return runOn(ctx, func(ctx context.Context, d credit.Distributor, o store.Options) ([]credit.Ledger, error) {
		if rng.IntN(2) == 0 {
			o.Memory = store.NewMemory(1 + rng.IntN(3))
		}
		var engines []credit.Ledger
		for i := range 3 {
			engine, err := store.Open(ctx, stores[i%len(stores)], d, o)
			if err != nil {
				return nil, err
			}
			o.Memory = nil
			if i == 2 {
				engine = engine.On(stores[i%len(stores)])
			}
			engines = append(engines, engine)
		}
		if rng.IntN(2) == 0 {
			engines = engines[:1]
		}
		return engines, nil
	}, rng, ops)
}

func runOn(ctx context.Context, open opener, rng *rand.Rand, ops []operation) (failed *failure) {
	// The generator's own source was the same, so go on elsewhere.
	r := &runner{oracle: newOracle(), issued: map[string]credit.Command{}, distributor: credit.Distributor{ID: uuid.New(), Name: "Model", Currency: "USD"},
		clock: time.Unix(rng.Int64N(8_000_000_000)-4_000_000_000, rng.Int64N(1_000_000_000))}
	at := 0
	defer func() {
		if p := recover(); p != nil {
			failed = &failure{at, fmt.Sprintf("panic: %v\n%s", p, debug.Stack()), r.trace}
		}
	}()
	var err error
	if r.engines, err = open(ctx, r.distributor, store.Options{Now: func() time.Time { return r.clock }}); err != nil {
		return &failure{0, "open: " + err.Error(), nil}
	}
	for at = range ops {
		if err := r.step(ctx, ops[at]); err != nil {
			return &failure{at, err.Error(), r.trace}
		}
	}
	if err := r.finish(ctx, rng); err != nil {
		return &failure{at, "in the end: " + err.Error(), r.trace}
	}
	return nil
}

// line is one of the trace, written out only if it is needed.
type line struct {
	format string
	args   []any
}

type trace []line

func (r *runner) note(format string, args ...any) { r.trace = append(r.trace, line{format, args}) }

func (t trace) String() string {
	var text strings.Builder
	for i, l := range t {
		_, _ = fmt.Fprintf(&text, "%4d ", i)
		_, _ = fmt.Fprintf(&text, l.format+"\n", l.args...)
	}
	return text.String()
}

// step performs one operation and compares.
func (r *runner) step(ctx context.Context, op operation) error {
	r.clock = r.clock.Add(op.clock)
	l := r.engines[op.engine%len(r.engines)]
	if op.bulk != nil {
		return r.bulk(ctx, l, op)
	}
	c := op.resolve(r.oracle, r.issued)
	want := r.oracle.decide(c, r.clock)
	receipt, err := send(ctx, l, c)
	r.note("engine %d: %s → %s", op.engine%len(r.engines), described{c}, answered{receipt, err})
	if problem := r.compare(want, receipt, err, false, false); problem != "" {
		return errors.New(problem)
	}
	if want.refusal == nil && !want.replayed {
		r.oracle.accept(want, receipt.Record, false)
	}
	return r.compareReads(ctx, l, want.request.reseller, receipt.ResellerID)
}

func (r *runner) bulk(ctx context.Context, l credit.Ledger, op operation) error {
	// What each command must be answered with, folded in order.
	folded := r.oracle.copy()
	commands, wants := make([]credit.Command, len(op.bulk)), make([]verdict, len(op.bulk))
	refused := false
	for i, item := range op.bulk {
		if item.command != nil {
			commands[i] = item.resolve(folded, r.issued)
		}
		wants[i] = folded.decide(commands[i], r.clock)
		refused = refused || wants[i].refusal != nil
		if wants[i].refusal == nil && !wants[i].replayed {
			folded.accept(wants[i], wants[i].record, true)
		}
	}
	nothing := op.options.AllOrNothing && refused
	outcomes, err := l.Bulk(ctx, commands, op.options)
	r.note("engine %d: bulk of %d, %+v → %v", op.engine%len(r.engines), len(commands), op.options, err)
	if err != nil {
		return fmt.Errorf("a bulk call failed: %w", err)
	}
	if len(outcomes) != len(commands) {
		return fmt.Errorf("%d outcomes of %d commands", len(outcomes), len(commands))
	}
	for i, o := range outcomes {
		r.note("     %s → %s", described{commands[i]}, answered{o.Receipt, o.Err})
	}
	var touched []uuid.UUID
	for i, o := range outcomes {
		if nothing && wants[i].refusal == nil {
			if !errors.Is(o.Err, credit.ErrNotApplied) || !reflect.DeepEqual(o.Receipt, credit.Receipt{}) {
				return fmt.Errorf("command %d of the bulk call: not applied is expected, because another one is refused; got %s", i, answered{o.Receipt, o.Err})
			}
			continue
		}
		if wants[i].replayed && !op.options.DryRun && !nothing {
			// It may repeat one of this call, whose id is only known now.
			wants[i].record = r.oracle.log[wants[i].record.Sequence-1]
		}
		if problem := r.compare(wants[i], o.Receipt, o.Err, op.options.DryRun, nothing); problem != "" {
			return fmt.Errorf("command %d of the bulk call: %s", i, problem)
		}
		if wants[i].refusal == nil && !wants[i].replayed && !op.options.DryRun {
			r.oracle.accept(wants[i], o.Receipt.Record, false)
		}
		touched = append(touched, wants[i].request.reseller, o.Receipt.ResellerID)
	}
	return r.compareReads(ctx, l, touched...)
}

// refusals are all of them, to tell that an error is one and no other.
var refusals = []error{credit.ErrInvalid, credit.ErrKeyConflict, credit.ErrNotFound, credit.ErrExists, credit.ErrNotActive, credit.ErrNotFrozen, credit.ErrNotEmpty,
	credit.ErrInsufficientPool, credit.ErrExceedsAvailable, credit.ErrExceedsUsed, credit.ErrOutOfRange,
	credit.ErrNotApplied, credit.ErrOutcomeUnknown, credit.ErrBusy, credit.ErrMismatch, credit.ErrCorrupt}

// compare says how the answer differs from the verdict; "" if it does not. The
// answer may be of a dry run, or of a call that came to nothing.
func (r *runner) compare(want verdict, got credit.Receipt, err error, dry, nothing bool) string {
	if want.refusal != nil {
		return compareRefusal(want, got, err, dry || nothing)
	}
	if err != nil {
		return fmt.Sprintf("refused with %q; the rules accept it", err)
	}
	if got.Replayed != want.replayed {
		return fmt.Sprintf("replayed %t, expected %t", got.Replayed, want.replayed)
	}
	expected := want.record
	fresh := expected.Hash.IsZero() // not written yet
	switch {
	case fresh && dry:
		expected.Sequence = 0
		if expected.Kind == credit.KindAdd {
			expected.ResellerID = uuid.Nil
		}
		expected.Fingerprint = got.Fingerprint
	case fresh:
		if got.ID == uuid.Nil || r.oracle.ids[got.ID] {
			return fmt.Sprintf("the record's id %s is not a new one", got.ID)
		}
		r.oracle.ids[got.ID] = true
		if expected.Kind == credit.KindAdd {
			if got.ResellerID == uuid.Nil || r.oracle.ids[got.ResellerID] {
				return fmt.Sprintf("the reseller's id %s is not a new one", got.ResellerID)
			}
			r.oracle.ids[got.ResellerID] = true
			expected.ResellerID = got.ResellerID
		}
		expected.ID, expected.Hash, expected.Fingerprint = got.ID, got.Hash, got.Fingerprint
		if got.Hash.IsZero() {
			return "the record has no hash"
		}
	}
	if (expected.Key == "") != got.Fingerprint.IsZero() {
		return "a key and a fingerprint go together"
	}
	if !reflect.DeepEqual(expected, got.Record) {
		return fmt.Sprintf("another record:\nwant %s\ngot  %s", show(expected), show(got.Record))
	}
	return ""
}

func compareRefusal(want verdict, got credit.Receipt, err error, unwritten bool) string {
	for _, other := range refusals {
		if errors.Is(err, other) != errors.Is(want.refusal, other) {
			return fmt.Sprintf("answered with %v; the rules refuse it with %q (%s)", err, want.refusal, want.why)
		}
	}
	if !reflect.DeepEqual(got, credit.Receipt{}) {
		return "a refusal with a receipt"
	}
	limit, ok := errors.AsType[*credit.LimitError](err)
	if ok != (want.limits != nil) {
		return fmt.Sprintf("%v: as *LimitError %t, expected %t", err, ok, want.limits != nil)
	}
	if ok && (limit.Requested.Rat().Cmp(want.limits[0]) != 0 || limit.Allowed.Rat().Cmp(want.limits[1]) != 0) {
		return fmt.Sprintf("%v: requested %s, allowed %s; expected %s", err, limit.Requested, limit.Allowed, want.why)
	}
	conflict, ok := errors.AsType[*credit.ConflictError](err)
	if ok != (want.conflict != nil) {
		return fmt.Sprintf("%v: as *ConflictError %t, expected %t", err, ok, want.conflict != nil)
	}
	if ok {
		_, kind := want.request.change()
		sequence := want.conflict.sequence
		if want.conflict.drawn && unwritten {
			sequence = 0
		}
		if conflict.Key != want.request.key || conflict.Kind != kind || conflict.EarlierKind != want.conflict.kind || conflict.EarlierSequence != sequence {
			return fmt.Sprintf("%v: %+v; expected key %q, kind %s, earlier %s at %d", err, conflict, want.request.key, kind, want.conflict.kind, sequence)
		}
	}
	return ""
}

// compareReads reads the pool, the end of the log and the resellers touched.
func (r *runner) compareReads(ctx context.Context, l credit.Ledger, touched ...uuid.UUID) error {
	head, err := l.Head(ctx)
	if err != nil {
		return fmt.Errorf("read the head: %w", err)
	}
	want := credit.Head{Hash: credit.Genesis(r.distributor), Pool: r.oracle.pool()}
	if n := len(r.oracle.log); n > 0 {
		last := r.oracle.log[n-1]
		want.Sequence, want.Hash, want.RecordedAt = last.Sequence, last.Hash, last.RecordedAt
	}
	if !reflect.DeepEqual(want, head) {
		return fmt.Errorf("another head:\nwant %s\ngot  %s", show(want), show(head))
	}
	slices.SortFunc(touched, func(a, b uuid.UUID) int { return strings.Compare(string(a[:]), string(b[:])) })
	for _, id := range slices.Compact(touched) {
		if id == uuid.Nil {
			continue
		}
		if err := r.compareReseller(ctx, l, id); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) compareReseller(ctx context.Context, l credit.Ledger, id uuid.UUID) error {
	got, err := l.Reseller(ctx, id)
	want, exists := r.oracle.reseller(id)
	if !exists {
		if !errors.Is(err, credit.ErrNotFound) {
			return fmt.Errorf("reseller %s is not found, but read as %s, %w", id, show(got), err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read reseller %s: %w", id, err)
	}
	if !reflect.DeepEqual(want, got) {
		return fmt.Errorf("another reseller:\nwant %s\ngot  %s", show(want), show(got))
	}
	m := r.oracle.resellers[id]
	for _, f := range []struct {
		name string
		want *big.Rat
		got  decimal.Decimal
	}{
		{"available", m.available(), got.Available()},
		{"repossessable", m.repossessable(), got.Repossessable()},
	} {
		if f.got.Rat().Cmp(f.want) != 0 {
			return fmt.Errorf("reseller %s: %s is %s, expected %s", id, f.name, f.got, f.want.FloatString(6))
		}
	}
	return nil
}

// finish compares listings and records page by page, has the ledger check itself
// and replays it.
func (r *runner) finish(ctx context.Context, rng *rand.Rand) error {
	l := r.engines[rng.IntN(len(r.engines))]
	if err := r.compareReads(ctx, l, r.oracle.order...); err != nil {
		return err
	}
	pool, err := l.Pool(ctx)
	if err != nil || !reflect.DeepEqual(pool, r.oracle.pool()) || pool.Remaining().Rat().Cmp(r.oracle.remaining()) != 0 {
		return fmt.Errorf("another pool: want %s, got %s, %w", show(r.oracle.pool()), show(pool), err)
	}
	for range 4 {
		if err := r.compareListing(ctx, l, rng); err != nil {
			return err
		}
		if err := r.compareRecords(ctx, l, rng); err != nil {
			return err
		}
	}
	for _, engine := range r.engines {
		checking, ok := engine.(interface {
			Check(context.Context) (store.Checked, error)
		})
		if !ok {
			continue
		}
		checked, err := checking.Check(ctx)
		if err != nil {
			return fmt.Errorf("check: %w", err)
		}
		if checked.Records != int64(len(r.oracle.log)) || checked.Resellers != len(r.oracle.order) {
			return fmt.Errorf("check saw %d records and %d resellers; there are %d and %d", checked.Records, checked.Resellers, len(r.oracle.log), len(r.oracle.order))
		}
	}
	return r.replay()
}

func (r *runner) compareListing(ctx context.Context, l credit.Ledger, rng *rand.Rand) error {
	q := credit.ResellerQuery{Order: credit.Orders()[rng.IntN(2)], Limit: 1 + rng.IntN(len(r.oracle.order)+2)}
	statuses := []credit.Status{credit.StatusActive, credit.StatusFrozen} // the default
	switch rng.IntN(3) {
	case 0:
		q.Statuses, statuses = everyStatus(), everyStatus()
	case 1:
		statuses = []credit.Status{pickOne(rng, everyStatus())}
		q.Statuses = []credit.Status{statuses[0], statuses[0]}
	}
	var want []credit.Reseller
	for _, id := range r.oracle.order {
		if v, _ := r.oracle.reseller(id); slices.Contains(statuses, v.Status) {
			want = append(want, v)
		}
	}
	slices.SortFunc(want, byBound)
	if q.Order == credit.OrderNewest {
		slices.Reverse(want)
	}
	got, err := pages(q.Limit, func(c credit.Cursor) (credit.Page[credit.Reseller], error) {
		q.Cursor = c
		return l.Resellers(ctx, q)
	})
	if err != nil {
		return fmt.Errorf("list resellers %+v: %w", q, err)
	}
	return sameList(want, got, fmt.Sprintf("resellers %+v", q))
}

func (r *runner) compareRecords(ctx context.Context, l credit.Ledger, rng *rand.Rand) error {
	q := credit.RecordQuery{NewestFirst: rng.IntN(2) == 0, Limit: 1 + rng.IntN(len(r.oracle.log)+2)}
	n := int64(len(r.oracle.log))
	switch rng.IntN(4) {
	case 0: // everything
	case 1:
		q.Kinds = credit.AllocationKinds()
	case 2:
		q.Kinds = []credit.Kind{pickOne(rng, credit.Kinds()), pickOne(rng, credit.Kinds())}
	case 3:
		q.After = rng.Int64N(n + 2)
		q.Before = q.After + 1 + rng.Int64N(n+2)
	}
	if len(r.oracle.order) > 0 && rng.IntN(2) == 0 {
		q.ResellerID = pickOne(rng, r.oracle.order)
	}
	asBook := &book{records: r.oracle.log}
	all := q
	all.Limit = len(r.oracle.log)
	got, err := pages(q.Limit, func(c credit.Cursor) (credit.Page[credit.Record], error) {
		q.Cursor = c
		return l.Records(ctx, q)
	})
	if err != nil {
		return fmt.Errorf("list records %+v: %w", q, err)
	}
	return sameList(asBook.selected(all), got, fmt.Sprintf("records %+v", q))
}

// pages follows a listing to its end.
func pages[T any](limit int, next func(credit.Cursor) (credit.Page[T], error)) ([]T, error) {
	var all []T
	for cursor := credit.Cursor(""); ; {
		page, err := next(cursor)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		switch {
		case len(page.Items) > limit:
			return nil, fmt.Errorf("a page of %d, though the limit is %d", len(page.Items), limit)
		case page.Next == "":
			return all, nil
		case len(page.Items) < limit:
			return nil, fmt.Errorf("a page of %d that is not the last, though the limit is %d", len(page.Items), limit)
		}
		cursor = page.Next
	}
}

func sameList[T any](want, got []T, what string) error {
	for i := range min(len(want), len(got)) {
		if !reflect.DeepEqual(want[i], got[i]) {
			return fmt.Errorf("%s: item %d differs:\nwant %s\ngot  %s", what, i, show(want[i]), show(got[i]))
		}
	}
	if len(want) != len(got) {
		return fmt.Errorf("%s: %d items, expected %d", what, len(got), len(want))
	}
	return nil
}

// replay folds the records from the first one: every figure and status must come
// out.
func (r *runner) replay() error {
	verified, folded := credit.NewState(r.distributor), credit.NewState(r.distributor)
	for _, record := range r.oracle.log {
		if err := verified.Verify(record); err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		folded.Apply(record)
	}
	for _, state := range []*credit.State{verified, folded} {
		if !reflect.DeepEqual(state.Head().Pool, r.oracle.pool()) && len(r.oracle.log) > 0 {
			return fmt.Errorf("replaying gives the pool %s, expected %s", show(state.Head().Pool), show(r.oracle.pool()))
		}
		for _, id := range r.oracle.order {
			want, _ := r.oracle.reseller(id)
			got, ok := state.Reseller(id)
			if !ok || got.Status != want.Status || got.ExternalID != want.ExternalID || !reflect.DeepEqual(got.Figures, want.Figures) {
				return fmt.Errorf("replaying gives %s, expected %s", show(got), show(want))
			}
		}
	}
	return nil
}

// described is a command, for people.
type described struct{ credit.Command }

func (d described) String() string {
	if d.Command == nil {
		return "no command"
	}
	text := fmt.Sprintf("%#v", d.Command)
	if marshalled := show(d.Command); strings.HasPrefix(marshalled, "{") {
		text = strings.TrimPrefix(fmt.Sprintf("%T", d.Command), "credit.") + marshalled
	}
	const most = 400
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// answered is the answer to a command, for people.
type answered struct {
	receipt credit.Receipt
	err     error
}

func (a answered) String() string {
	if a.err != nil {
		return a.err.Error()
	}
	r := a.receipt
	return fmt.Sprintf("record %d %s %s: allocated %s, used %s, pool %s of %s, replayed %t", r.Sequence, r.Kind, r.Amount, r.After.Allocated, r.After.Used, r.Pool.Allocated, r.Pool.Granted, r.Replayed)
}
