package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// book is what a ledger in a store should hold. It drafts batches as the engine
// would, without one, and compares everything that can be read with itself.
type book struct {
	distributor credit.Distributor
	head        credit.Head
	records     []credit.Record
	resellers   map[uuid.UUID]credit.Reseller
	externals   map[string]uuid.UUID
	keys        map[string]int64
	rng         *rand.Rand
	now         time.Time
}

// newBook creates a ledger in the store.
func newBook(t testing.TB, s store.Store, rng *rand.Rand) *book {
	t.Helper()
	b := blankBook(rng, newDistributor(rng))
	got, err := s.Create(t.Context(), b.distributor)
	require.NoError(t, err, "create a ledger")
	require.Equal(t, b.distributor, got, "Create answers what it created")
	return b
}

func blankBook(rng *rand.Rand, d credit.Distributor) *book {
	return &book{distributor: d, rng: rng, now: time.Date(2024, 5, 17, 12, 0, 0, 123456000, time.UTC),
		head:      credit.NewState(d).Head(),
		resellers: map[uuid.UUID]credit.Reseller{}, externals: map[string]uuid.UUID{}, keys: map[string]int64{}}
}

// fork is an independent copy: another writer who has seen the same.
func (b *book) fork() *book {
	c := *b
	c.records = slices.Clone(b.records)
	c.resellers, c.externals, c.keys = maps.Clone(b.resellers), maps.Clone(b.externals), maps.Clone(b.keys)
	return &c
}

// draft decides the commands on top of the book and returns them as a batch. The
// book itself does not change.
func (b *book) draft(commands ...credit.Command) store.Batch {
	asked := credit.ReadSetOf(commands...)
	found := credit.Snapshot{Head: b.head}
	for _, id := range asked.Resellers {
		if r, ok := b.resellers[id]; ok {
			found.Resellers = append(found.Resellers, r)
		}
	}
	for _, external := range asked.ExternalIDs {
		if id, ok := b.externals[external]; ok {
			found.Resellers = append(found.Resellers, b.resellers[id])
		}
	}
	for _, key := range asked.Keys {
		if sequence, ok := b.keys[key]; ok {
			found.Records = append(found.Records, b.records[sequence-1])
		}
	}
	state := credit.LoadState(asked, found)
	for i, c := range commands {
		at := credit.Stamp{Time: b.now.Add(time.Duration(i) * time.Microsecond), RecordID: random(b.rng), ResellerID: random(b.rng)}
		receipt, err := state.Execute(c, at)
		if err != nil || receipt.Replayed {
			panic(fmt.Sprintf("storetest: command %d of a draft %+v: %v, replayed %t", i, c, err, receipt.Replayed))
		}
	}
	return store.BatchOf(state.Executed(), state.Reseller)
}

// enter takes a batch that was written into the book.
func (b *book) enter(batch store.Batch) {
	b.head = batch.Head()
	for _, r := range batch.Records {
		b.records = append(b.records, r.Clone())
		if r.Key != "" {
			b.keys[r.Key] = r.Sequence
		}
	}
	for _, some := range [][]credit.Reseller{batch.Added, batch.Changed} {
		for _, r := range some {
			b.resellers[r.ID] = r
			b.externals[r.ExternalID] = r.ID
		}
	}
	for _, m := range batch.Moved {
		r := b.resellers[m.ID]
		r.Figures = m.Figures
		b.resellers[m.ID] = r
	}
}

// write appends the commands as one batch, which must succeed, and returns their
// records.
func (b *book) write(t testing.TB, s store.Store, commands ...credit.Command) []credit.Record {
	t.Helper()
	return b.append(t, s, b.draft(commands...))
}

// append writes a batch, which must succeed, and returns its records.
func (b *book) append(t testing.TB, s store.Store, batch store.Batch) []credit.Record {
	t.Helper()
	expected := b.head
	b.enter(copyOf(batch))
	require.NoError(t, s.Append(t.Context(), b.distributor.ID, expected, batch), "append %d records on top of the head", len(batch.Records))
	return b.records[expected.Sequence:]
}

// copyOf is a batch that shares nothing with b.
func copyOf(b store.Batch) store.Batch {
	b.Records = slices.Clone(b.Records)
	for i := range b.Records {
		b.Records[i] = b.Records[i].Clone()
	}
	b.Added, b.Changed, b.Moved = slices.Clone(b.Added), slices.Clone(b.Changed), slices.Clone(b.Moved)
	return b
}

// listed are the book's resellers as a listing should have them.
func (b *book) listed(q credit.ResellerQuery) []credit.Reseller {
	return listing(q, slices.Collect(maps.Values(b.resellers)))
}

// latest are the book's newest records of some resellers.
func (b *book) latest(resellers []uuid.UUID, kinds []credit.Kind, until int64) []credit.Record {
	var list []credit.Record
	for _, id := range resellers {
		if r, ok := newest(b.records, id, kinds, until); ok {
			list = append(list, r)
		}
	}
	return list
}

func everyStatus() []credit.Status {
	return []credit.Status{credit.StatusActive, credit.StatusClosed, credit.StatusFrozen}
}

// requireStored reads all of the ledger, in every way there is, and compares it
// with the book.
func (b *book) requireStored(t testing.TB, s store.Store, why string) {
	t.Helper()
	ctx := t.Context()
	asked := credit.ReadSet{Resellers: slices.Collect(maps.Keys(b.resellers)),
		ExternalIDs: slices.Collect(maps.Keys(b.externals)), Keys: slices.Collect(maps.Keys(b.keys))}
	found, err := s.Load(ctx, b.distributor.ID, asked)
	require.NoError(t, err, "load everything: %s", why)
	requireSame(t, b.head, found.Head, "the head: %s", why)
	requireSameSet(t, slices.Collect(maps.Values(b.resellers)), found.Resellers, func(r credit.Reseller) any { return r.ID }, "the loaded resellers: "+why)
	var keyed []credit.Record
	for _, sequence := range b.keys {
		keyed = append(keyed, b.records[sequence-1])
	}
	requireSameSet(t, keyed, found.Records, func(r credit.Record) any { return r.Sequence }, "the records of the keys: "+why)
	b.requireRecords(ctx, t, s, why)
	// Both orders by bound-at, and in turn one of the others.
	for _, order := range append(credit.Orders()[:2:2], credit.Orders()[2+len(b.records)%4]) {
		q := credit.ResellerQuery{Statuses: everyStatus(), Order: order, Limit: credit.MaxPageSize}
		requireSameList(t, b.listed(q), listResellers(ctx, t, s, b.distributor.ID, q), "the listing of resellers: "+why)
	}
	b.requireCount(t, s, credit.ResellerQuery{Statuses: everyStatus(), Order: credit.OrderNewest, Limit: 1}, why)
	ids := slices.Collect(maps.Keys(b.resellers))
	b.requireLatest(t, s, ids[:min(len(ids), credit.MaxPageSize)], nil, b.head.Sequence, why)
}

func (b *book) requireCount(t testing.TB, s store.Store, q credit.ResellerQuery, why string) {
	t.Helper()
	count, err := s.CountResellers(t.Context(), b.distributor.ID, q)
	require.NoError(t, err, "count resellers: %s", why)
	require.Equal(t, len(b.listed(q)), count, "CountResellers of %s: %s", show(q), why)
}

func (b *book) requireLatest(t testing.TB, s store.Store, resellers []uuid.UUID, kinds []credit.Kind, until int64, why string) {
	t.Helper()
	got, err := s.Latest(t.Context(), b.distributor.ID, resellers, kinds, until)
	require.NoError(t, err, "read the latest records: %s", why)
	what := fmt.Sprintf("the latest records of kinds %v until %d: %s", kinds, until, why)
	requireSameSet(t, b.latest(resellers, kinds, until), got, func(r credit.Record) any { return r.Sequence }, what)
	require.Len(t, got, len(b.latest(resellers, kinds, until)), "one of each: %s", what)
}

func (b *book) requireRecords(ctx context.Context, t testing.TB, s store.Store, why string) {
	t.Helper()
	var log []credit.Record
	for {
		page, err := s.Records(ctx, b.distributor.ID, credit.RecordQuery{After: int64(len(log)), Limit: credit.MaxPageSize})
		require.NoError(t, err, "read records: %s", why)
		log = append(log, page...)
		if len(page) < credit.MaxPageSize {
			break
		}
	}
	requireSameList(t, b.records, log, "the log: "+why)
}

// listResellers follows a listing to its end.
func listResellers(ctx context.Context, t testing.TB, s store.Store, ledger uuid.UUID, q credit.ResellerQuery) []credit.Reseller {
	t.Helper()
	var list []credit.Reseller
	var after store.ResellerPosition
	for range 2_000 {
		page, err := s.Resellers(ctx, ledger, q, after)
		require.NoError(t, err, "list resellers")
		require.LessOrEqual(t, len(page), q.Limit, "a page is at most its limit")
		list = append(list, page...)
		if len(page) < q.Limit {
			return list
		}
		after = placed(q.Order, page[len(page)-1])
	}
	require.FailNow(t, "a listing has no end")
	return nil
}

// requireSame fails unless the two are deeply equal, and prints what differs.
func requireSame(t testing.TB, want, got any, format string, args ...any) {
	t.Helper()
	if !reflect.DeepEqual(want, got) {
		require.FailNow(t, fmt.Sprintf(format, args...), "want %s\ngot  %s", show(want), show(got))
	}
}

func requireSameList[T any](t testing.TB, want, got []T, what string) {
	t.Helper()
	for i := range min(len(want), len(got)) {
		requireSame(t, want[i], got[i], "%s: item %d of %d", what, i, len(want))
	}
	require.Len(t, got, len(want), what)
}

// requireSameSet compares without regard to order and repetition.
func requireSameSet[T any](t testing.TB, want, got []T, id func(T) any, what string) {
	t.Helper()
	have := map[any]T{}
	for _, v := range got {
		if earlier, twice := have[id(v)]; twice {
			requireSame(t, earlier, v, "%s: returned twice and not the same", what)
		}
		have[id(v)] = v
	}
	for _, v := range want {
		r, ok := have[id(v)]
		require.True(t, ok, "%s: %s is missing", what, show(v))
		requireSame(t, v, r, "%s", what)
	}
	require.Len(t, have, len(want), "%s: no others", what)
}

// show is JSON where that tells the two apart, with the parts that JSON hides.
func show(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%#v", v)
	}
	const most = 3000
	if len(text) > most {
		text = append(text[:most], "…"...)
	}
	switch v := v.(type) {
	case credit.Record:
		return fmt.Sprintf("%s (metadata %#v, changed %#v, exponents %d %d %d %d %d %d %d, times %#v %#v)", text, v.Metadata, v.Changed,
			v.Amount.Exponent(), v.Before.Allocated.Exponent(), v.Before.Used.Exponent(), v.After.Allocated.Exponent(), v.After.Used.Exponent(),
			v.Pool.Granted.Exponent(), v.Pool.Allocated.Exponent(), v.OccurredAt, v.RecordedAt)
	case credit.Reseller:
		return fmt.Sprintf("%s (exponents %d %d, time %#v)", text, v.Allocated.Exponent(), v.Used.Exponent(), v.BoundAt)
	case credit.Head:
		return fmt.Sprintf("%s (exponents %d %d, time %#v)", text, v.Pool.Granted.Exponent(), v.Pool.Allocated.Exponent(), v.RecordedAt)
	}
	return string(text)
}
