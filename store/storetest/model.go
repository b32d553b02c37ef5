package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
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
		if err := r.compareAsOf(ctx, l, rng); err != nil {
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

// compareListing asks for resellers with some filters, in any order, at times with
// a total, and at times as they were.
func (r *runner) compareListing(ctx context.Context, l credit.Ledger, rng *rand.Rand) error {
	all := r.oracle.all()
	q := credit.ResellerQuery{Order: pickOne(rng, append(credit.Orders(), "")), Limit: 1 + rng.IntN(len(all)+2), Total: rng.IntN(4) == 0}
	switch rng.IntN(3) {
	case 0:
		q.Statuses = everyStatus()
	case 1:
		status := pickOne(rng, everyStatus())
		q.Statuses = []credit.Status{status, status}
	}
	if len(all) > 0 && rng.IntN(2) == 0 {
		like := pickOne(rng, all)
		switch rng.IntN(7) {
		case 0:
			q.Name = part(rng, like.Name)
		case 1:
			q.Mobile = part(rng, like.Mobile)
		case 2:
			q.Remark = part(rng, like.Remark)
		case 3:
			q.Email = like.Email
		case 4:
			q.ExternalID = like.ExternalID
		case 5:
			q.Low = threshold(pickOne(rng, directoryLows))
		case 6:
			if v := like.Allocated.Sub(like.Used); v.Abs().LessThan(decimal.New(1, 12)) {
				q.MinAvailable, q.MaxAvailable = pickOne(rng, []*decimal.Decimal{nil, &v}), &v
			}
		}
	}
	if rng.IntN(3) == 0 {
		var n int64
		q.AsOf, n = r.past(rng)
		all = r.oracle.asOf(n)
		q.Order, q.Total = pickOne(rng, []credit.Order{credit.OrderNewest, credit.OrderOldest, ""}), false
	}
	sorted := q
	if q.Order == "" {
		sorted.Order = credit.OrderNewest // the default
	}
	want := listing(sorted, all)
	got, err := pages(q.Limit, func(c credit.Cursor) (credit.Page[credit.Reseller], error) {
		q.Cursor = c
		page, err := l.Resellers(ctx, q)
		if err == nil && (q.Total != (page.Total != nil) || q.Total && *page.Total != len(want)) {
			err = fmt.Errorf("a total of %s, expected %t and %d", show(page.Total), q.Total, len(want))
		}
		return page, err
	})
	if err != nil {
		return fmt.Errorf("list resellers %s: %w", show(q), err)
	}
	if err := sameList(want, got, "resellers "+show(q)); err != nil {
		return err
	}
	got, err = collect(credit.AllResellers(ctx, l, sorted))
	if err != nil {
		return fmt.Errorf("all resellers %s: %w", show(q), err)
	}
	return sameList(want, got, "all resellers "+show(q))
}

// past is a point of the past, given by sequence or by time, and how many records
// there were.
func (r *runner) past(rng *rand.Rand) (credit.AsOf, int64) {
	n := int64(len(r.oracle.log))
	if n == 0 {
		return credit.AsOf{Time: r.clock}, 0
	}
	if rng.IntN(2) == 0 {
		sequence := 1 + rng.Int64N(n)
		return credit.AsOf{Sequence: sequence}, sequence
	}
	at := pickOne(rng, r.oracle.log).RecordedAt.Add(time.Duration(rng.IntN(3)-1) * time.Microsecond)
	return credit.AsOf{Time: at}, r.oracle.upTo(at)
}

// compareAsOf asks for the head and for resellers as they were.
func (r *runner) compareAsOf(ctx context.Context, l credit.Ledger, rng *rand.Rand) error {
	at, n := r.past(rng)
	want := credit.Head{Hash: credit.Genesis(r.distributor), Pool: newOracle().pool()}
	if n > 0 {
		last := r.oracle.log[n-1]
		want = credit.Head{Sequence: n, Hash: last.Hash, RecordedAt: last.RecordedAt, Pool: last.Pool}
	}
	head, err := l.HeadAsOf(ctx, at)
	if err != nil || !reflect.DeepEqual(want, head) {
		return fmt.Errorf("another head as of %s:\nwant %s\ngot  %s, %w", show(at), show(want), show(head), err)
	}
	existed := map[uuid.UUID]credit.Reseller{}
	for _, v := range r.oracle.asOf(n) {
		existed[v.ID] = v
	}
	for _, id := range append(slices.Clone(r.oracle.order), uuid.Max) {
		got, err := l.ResellerAsOf(ctx, id, at)
		if want, ok := existed[id]; ok != (err == nil) || err != nil && !errors.Is(err, credit.ErrNotFound) || !reflect.DeepEqual(want, got) {
			return fmt.Errorf("another reseller as of %s, existed %t:\nwant %s\ngot  %s, %w", show(at), ok, show(want), show(got), err)
		}
	}
	if _, err := l.HeadAsOf(ctx, credit.AsOf{Sequence: int64(len(r.oracle.log)) + 1 + rng.Int64N(3)}); !errors.Is(err, credit.ErrInvalid) {
		return fmt.Errorf("a head beyond the end of the log: %w", err)
	}
	return nil
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
	if n > 0 && rng.IntN(2) == 0 {
		like, other := pickOne(rng, r.oracle.log), pickOne(rng, r.oracle.log)
		beside := time.Duration(rng.IntN(3)-1) * time.Microsecond
		switch rng.IntN(6) {
		case 0:
			q.Operator = like.Operator
		case 1:
			q.Key = like.Key
		case 2:
			q.Reference = like.Reference
		case 3:
			q.Customer = like.Customer
		case 4:
			q.RecordedFrom, q.RecordedUntil = between(rng, like.RecordedAt, other.RecordedAt.Add(beside))
		case 5:
			q.OccurredFrom, q.OccurredUntil = between(rng, like.OccurredAt, other.OccurredAt.Add(beside))
		}
	}
	asBook := &book{records: r.oracle.log}
	whole := q
	whole.Limit = len(r.oracle.log)
	want := asBook.selected(whole)
	got, err := pages(q.Limit, func(c credit.Cursor) (credit.Page[credit.Record], error) {
		q.Cursor = c
		return l.Records(ctx, q)
	})
	if err != nil {
		return fmt.Errorf("list records %s: %w", show(q), err)
	}
	if err := sameList(want, got, "records "+show(q)); err != nil {
		return err
	}
	q.Cursor = ""
	got, err = collect(credit.AllRecords(ctx, l, q))
	if err != nil {
		return fmt.Errorf("all records %s: %w", show(q), err)
	}
	return sameList(want, got, "all records "+show(q))
}

// between is a range of time with one or both of its ends.
func between(rng *rand.Rand, a, b time.Time) (from, until time.Time) {
	if b.Before(a) {
		a, b = b, a
	}
	if a.Year() < 1 || a.IsZero() {
		a = b
	}
	if b.Year() > 9999 || !a.Before(b) {
		return a, time.Time{}
	}
	switch rng.IntN(3) {
	case 0:
		return a, time.Time{}
	case 1:
		return time.Time{}, b
	}
	return a, b
}

func collect[T any](all iter.Seq2[T, error]) (list []T, err error) {
	for v, err := range all {
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// pages follows a listing to its end.
func pages[T any](limit int, next func(credit.Cursor) (credit.Page[T], error)) ([]T, error) {
	var all []T
	cursor := credit.Cursor("")
	for range 20_000 {
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
	return nil, errors.New("a listing has no end")
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
