package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

var createClauses = []clause{
	{"a second create returns what is there", func(h Harness, t *testing.T) {
		s := h.Open(t)
		d := newDistributor(h.source(t))
		for range 2 {
			got, err := s.Create(t.Context(), d)
			require.NoError(t, err)
			require.Equal(t, d, got)
		}
	}},
	{"another name or currency does not replace what is there", func(h Harness, t *testing.T) {
		s := h.Open(t)
		b := newBook(t, s, h.source(t))
		for _, other := range []credit.Distributor{
			{ID: b.distributor.ID, Name: "Another name", Currency: "USD"},
			{ID: b.distributor.ID, Name: "Acme Cloud", Currency: "EUR"},
			{ID: b.distributor.ID, Name: "acme cloud ", Currency: "XXX"},
		} {
			got, err := s.Create(t.Context(), other)
			require.NoError(t, err)
			require.Equal(t, b.distributor, got, "the one that is there")
		}
		b.requireStored(t, s, "its head begins with its own currency")
	}},
	{"a create of a ledger with records changes nothing", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		got, err := s.Create(t.Context(), b.distributor)
		require.NoError(t, err)
		require.Equal(t, b.distributor, got)
		b.requireStored(t, s, "after another create")
	}},
	{"names are kept to the last byte", func(h Harness, t *testing.T) {
		s := h.Open(t)
		rng := h.source(t)
		long := ""
		for range credit.MaxName / 4 {
			long += "𝄞"
		}
		for _, name := range append([]string{long, " a ", "A", "a"}, oddTexts...) {
			d := credit.Distributor{ID: random(rng), Name: name, Currency: "CHF"}
			for range 2 {
				got, err := s.Create(t.Context(), d)
				require.NoError(t, err, "name %q", name)
				require.Equal(t, d, got)
			}
		}
	}},
	{"many at once create one ledger", func(h Harness, t *testing.T) {
		s := h.Open(t)
		second := h.second(t, s)
		d := newDistributor(h.source(t))
		const callers = 16
		got, errs := make([]credit.Distributor, callers), make([]error, callers)
		var all sync.WaitGroup
		for i := range callers {
			all.Go(func() {
				on, mine := s, d
				if i%2 == 1 {
					on = second
				}
				mine.Name = fmt.Sprintf("Name %d", i)
				for again := true; again; again = store.Retryable(errs[i]) {
					got[i], errs[i] = on.Create(t.Context(), mine)
				}
			})
		}
		within(t, time.Minute, "creating a ledger", all.Wait)
		for i := range callers {
			require.NoError(t, errs[i])
			require.Equal(t, got[0], got[i], "all get the one that was created")
		}
	}},
}

var loadClauses = []clause{
	{"a ledger that was never created is ErrNoLedger", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		for _, asked := range []credit.ReadSet{{}, {Resellers: []uuid.UUID{b.reseller(0)}, ExternalIDs: []string{"UIN-0"}, Keys: []string{"start"}}} {
			_, err := s.Load(t.Context(), random(b.rng), asked)
			require.ErrorIs(t, err, store.ErrNoLedger)
		}
	}},
	{"what does not exist is not there, and is no error", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		found, err := s.Load(t.Context(), b.distributor.ID, credit.ReadSet{Resellers: []uuid.UUID{random(b.rng), uuid.Max}, ExternalIDs: []string{"none", "UIN-"}, Keys: []string{"none", "star", "start "}})
		require.NoError(t, err)
		requireSame(t, b.head, found.Head, "the head")
		require.Empty(t, found.Resellers)
		require.Empty(t, found.Records)
	}},
	{"nothing but what was asked for", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		found, err := s.Load(t.Context(), b.distributor.ID, credit.ReadSet{})
		require.NoError(t, err)
		requireSame(t, b.head, found.Head, "the head alone")
		require.Empty(t, found.Resellers)
		require.Empty(t, found.Records)
		found, err = s.Load(t.Context(), b.distributor.ID, credit.ReadSet{
			Resellers: []uuid.UUID{b.reseller(0), random(b.rng), b.reseller(0)}, ExternalIDs: []string{"UIN-0", "UIN-2", "UIN-2", "none"}, Keys: []string{"add-1", "none", "add-1"}})
		require.NoError(t, err)
		requireSameSet(t, []credit.Reseller{b.resellers[b.reseller(0)], b.resellers[b.reseller(2)]}, found.Resellers, func(r credit.Reseller) any { return r.ID }, "resellers asked for by id, by external id, by both and twice")
		requireSameSet(t, []credit.Record{b.records[b.keys["add-1"]-1]}, found.Records, func(r credit.Record) any { return r.Sequence }, "records by key")
	}},
	{"resellers of every status", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		b.write(t, s, credit.Freeze{ResellerID: b.reseller(0)}, credit.RepossessAll{ResellerID: b.reseller(1)}, credit.Close{ResellerID: b.reseller(1)})
		b.requireStored(t, s, "frozen and closed ones are loaded like any other")
	}},
	{"one consistent snapshot beside a writer", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		second := h.second(t, s)
		asked := credit.ReadSet{Resellers: []uuid.UUID{b.reseller(0), b.reseller(1), b.reseller(2)}, Keys: []string{"late-0", "late-25", "late-50", "late-75", "late-99"}}
		var began, readers sync.WaitGroup
		over, done := context.WithCancel(t.Context())
		defer done()
		for i := range 4 {
			on := s
			if i%2 == 1 {
				on = second
			}
			began.Add(1)
			readers.Go(func() {
				begin := sync.OnceFunc(began.Done)
				defer begin()
				var last int64
				for more := true; more; {
					more = over.Err() == nil // one more after the last write
					found, err := on.Load(t.Context(), b.distributor.ID, asked)
					begin()
					if store.Retryable(err) {
						continue
					}
					if !assert.NoError(t, err) {
						return
					}
					sum := credit.FromMillionths(0)
					for _, r := range found.Resellers {
						sum = sum.Add(r.Allocated)
					}
					ok := assert.True(t, sum.Equal(found.Head.Pool.Allocated), "resellers and head are of one moment: allocated to resellers %s, in the pool at head %d %s", sum, found.Head.Sequence, found.Head.Pool.Allocated)
					for _, r := range found.Records {
						ok = assert.LessOrEqual(t, r.Sequence, found.Head.Sequence, "records and head are of one moment") && ok
					}
					ok = assert.GreaterOrEqual(t, found.Head.Sequence, last, "the head never goes back") && ok
					if last = found.Head.Sequence; !ok {
						return
					}
				}
			})
		}
		within(t, time.Minute, "the first reads", began.Wait)
		for i := range 100 {
			b.write(t, s, credit.Allocation{ResellerID: b.reseller(i % 3), Amount: units(2), Key: fmt.Sprintf("late-%d", i)},
				credit.Repossession{ResellerID: b.reseller((i + 1) % 3), Amount: units(1)})
		}
		done()
		within(t, time.Minute, "the readers", readers.Wait)
	}},
}

var scopeClauses = []clause{
	{"two ledgers with the same reseller ids, keys and external ids", func(h Harness, t *testing.T) {
		s := h.Open(t)
		rng := h.source(t)
		one := newBook(t, s, rng)
		two := newBook(t, s, rng)
		one.start(t, s)
		// The other ledger gets the same, with other amounts and record ids.
		two.write(t, s, credit.Grant{Amount: units(77), Key: "start"})
		for i := range 3 {
			batch := two.draft(credit.NewReseller{ExternalID: fmt.Sprintf("UIN-%d", i), Name: "Another", Key: fmt.Sprintf("add-%d", i)})
			batch.Added[0].ID, batch.Records[0].ResellerID = one.reseller(i), one.reseller(i)
			batch.Records[0].Hash = batch.Records[0].ChainHash(two.head.Hash)
			expected := two.head
			two.enter(copyOf(batch))
			require.NoError(t, s.Append(t.Context(), two.distributor.ID, expected, batch), "a reseller, external id and key that only another ledger has")
			two.write(t, s, credit.Allocation{ResellerID: two.reseller(i), Amount: units(int64(1 + i)), Key: fmt.Sprintf("allocate-%d", i)})
		}
		one.requireStored(t, s, "beside another ledger with the same ids and keys")
		two.requireStored(t, s, "beside another ledger with the same ids and keys")
		two.write(t, s, credit.Freeze{ResellerID: two.reseller(0)}, credit.Usage{ResellerID: two.reseller(1), Amount: units(500)})
		one.write(t, s, credit.Usage{ResellerID: one.reseller(0), Amount: units(1)})
		one.requireStored(t, s, "after writes to the other ledger")
		two.requireStored(t, s, "after writes to the other ledger")
		for _, b := range []*book{one, two} {
			for _, q := range []credit.RecordQuery{{Key: "start"}, {Key: "add-1"}, {ResellerID: one.reseller(0), Kinds: []credit.Kind{credit.KindFreeze}}} {
				q.Limit = 10
				b.requireRead(t, s, q)
			}
			b.requireLatest(t, s, []uuid.UUID{one.reseller(0), one.reseller(1)}, []credit.Kind{credit.KindUsage, credit.KindFreeze}, 100, "of the same ids in another ledger")
			b.requireCount(t, s, credit.ResellerQuery{Statuses: []credit.Status{credit.StatusActive}, Name: "another", Order: credit.OrderName, Limit: 1}, "of the same ids in another ledger")
			b.requireListing(t, s, credit.ResellerQuery{Statuses: everyStatus(), ExternalID: "UIN-1", Order: credit.OrderName, Limit: 2}, "of the same ids in another ledger")
		}
	}},
	{"nothing of another ledger is found", func(h Harness, t *testing.T) {
		s, full := h.started(t)
		empty := newBook(t, s, full.rng)
		found, err := s.Load(t.Context(), empty.distributor.ID, credit.ReadSet{Resellers: []uuid.UUID{full.reseller(0)}, ExternalIDs: []string{"UIN-1"}, Keys: []string{"start", "add-0"}})
		require.NoError(t, err)
		requireSame(t, empty.head, found.Head, "the head of the empty ledger")
		require.Empty(t, found.Resellers, "resellers of another ledger")
		require.Empty(t, found.Records, "records of another ledger")
		records, err := s.Records(t.Context(), empty.distributor.ID, credit.RecordQuery{ResellerID: full.reseller(0), Limit: 10})
		require.NoError(t, err)
		require.Empty(t, records, "records of another ledger's reseller")
		for _, q := range []credit.RecordQuery{{Key: "start"}, {Operator: "ops"}, {Reference: "r"}, {Customer: "c"}, {OccurredUntil: full.now.AddDate(1, 0, 0)}} {
			q.Limit = 10
			empty.requireRead(t, s, q)
		}
		latest, err := s.Latest(t.Context(), empty.distributor.ID, []uuid.UUID{full.reseller(0), full.reseller(1)}, nil, full.head.Sequence)
		require.NoError(t, err)
		require.Empty(t, latest, "the latest records of another ledger's resellers")
		for _, q := range []credit.ResellerQuery{{}, {Name: "Reseller"}, {ExternalID: "UIN-0"}, {Email: "ops@example.com"}, {MinAvailable: new(units(0))}, {Low: threshold("100%")}} {
			q.Statuses, q.Limit = everyStatus(), 10
			for _, order := range credit.Orders() {
				q.Order = order
				empty.requireListing(t, s, q, "resellers of another ledger")
			}
			empty.requireCount(t, s, q, "resellers of another ledger")
		}
		empty.requireStored(t, s, "an empty ledger beside a full one")
		full.requireStored(t, s, "a full ledger beside an empty one")
	}},
	{"another ledger's head is not the expected one", func(h Harness, t *testing.T) {
		s, one := h.started(t)
		two := newBook(t, s, one.rng)
		two.start(t, s)
		require.Equal(t, one.head.Sequence, two.head.Sequence)
		batch := one.draft(credit.Grant{Amount: units(1)})
		require.ErrorIs(t, s.Append(t.Context(), two.distributor.ID, one.head, batch), store.ErrMoved)
		one.requireStored(t, s, "nothing was written")
		two.requireStored(t, s, "nothing was written")
	}},
	{"ledgers that were never created stay so", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		other := random(b.rng)
		records, err := s.Records(t.Context(), other, credit.RecordQuery{Limit: 10})
		require.True(t, err == nil || errors.Is(err, store.ErrNoLedger), "nothing, or ErrNoLedger: %v", err)
		require.Empty(t, records)
		resellers, err := s.Resellers(t.Context(), other, credit.ResellerQuery{Statuses: everyStatus(), Order: credit.OrderNewest, Limit: 10}, store.ResellerPosition{})
		require.True(t, err == nil || errors.Is(err, store.ErrNoLedger), "nothing, or ErrNoLedger: %v", err)
		require.Empty(t, resellers)
		count, err := s.CountResellers(t.Context(), other, credit.ResellerQuery{Statuses: everyStatus(), Order: credit.OrderNewest, Limit: 10})
		require.True(t, err == nil || errors.Is(err, store.ErrNoLedger), "nobody, or ErrNoLedger: %v", err)
		require.Zero(t, count)
		latest, err := s.Latest(t.Context(), other, []uuid.UUID{b.reseller(0)}, nil, 10)
		require.True(t, err == nil || errors.Is(err, store.ErrNoLedger), "nothing, or ErrNoLedger: %v", err)
		require.Empty(t, latest)
	}},
}

var visibilityClauses = []clause{
	{"the writer sees every batch at once", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		b.requireEverySeen(t, s, s)
	}},
	{"a second handle sees every batch at once", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		b.requireEverySeen(t, s, h.needSecond(t, s))
	}},
	{"two handles write in turn", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		second := h.needSecond(t, s)
		for i := range 10 {
			b.write(t, s, credit.Usage{ResellerID: b.reseller(i % 3), Amount: units(1), Key: fmt.Sprintf("a-%d", i)})
			b.write(t, second, credit.Usage{ResellerID: b.reseller(i % 3), Amount: units(1), Key: fmt.Sprintf("b-%d", i)})
		}
		b.requireStored(t, s, "on the first handle")
		b.requireStored(t, second, "on the second handle")
	}},
	{"a ledger created on one handle is there on a second", func(h Harness, t *testing.T) {
		s := h.Open(t)
		second := h.needSecond(t, s)
		b := newBook(t, s, h.source(t))
		b.requireStored(t, second, "right after Create")
		got, err := second.Create(t.Context(), credit.Distributor{ID: b.distributor.ID, Name: "Other", Currency: "EUR"})
		require.NoError(t, err)
		require.Equal(t, b.distributor, got)
	}},
	{"readers beside a writer see what was acknowledged before", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		second := h.second(t, s)
		var mu sync.Mutex
		acknowledged := b.head.Sequence
		seen := func() int64 { mu.Lock(); defer mu.Unlock(); return acknowledged }
		var began, readers sync.WaitGroup
		over, done := context.WithCancel(t.Context())
		defer done()
		for i := range 4 {
			on := s
			if i%2 == 1 {
				on = second
			}
			began.Add(1)
			readers.Go(func() {
				begin := sync.OnceFunc(began.Done)
				defer begin()
				for more := true; more; {
					more = over.Err() == nil
					least := seen()
					newest, err := on.Records(t.Context(), b.distributor.ID, credit.RecordQuery{NewestFirst: true, Limit: 1})
					begin()
					if store.Retryable(err) {
						continue
					}
					if !assert.NoError(t, err) || !assert.Len(t, newest, 1) || !assert.GreaterOrEqual(t, newest[0].Sequence, least, "an acknowledged record is seen") {
						return
					}
				}
			})
		}
		within(t, time.Minute, "the first reads", began.Wait)
		for i := range 100 {
			b.write(t, s, credit.Usage{ResellerID: b.reseller(i % 3), Amount: units(1)})
			mu.Lock()
			acknowledged = b.head.Sequence
			mu.Unlock()
		}
		done()
		within(t, time.Minute, "the readers", readers.Wait)
	}},
}

// requireEverySeen writes batches on one handle and reads all after each on
// another.
func (b *book) requireEverySeen(t *testing.T, writer, reader store.Store) {
	t.Helper()
	for _, c := range everyCommand(b.reseller(0)) {
		b.write(t, writer, c)
		b.requireStored(t, reader, "right after Append")
	}
}

var concurrencyClauses = []clause{
	{"many ledgers at once", func(h Harness, t *testing.T) {
		s := h.Open(t)
		books := make([]*book, 8)
		for i := range books {
			books[i] = newBook(t, s, h.source(t, i))
		}
		var all sync.WaitGroup
		for _, b := range books {
			all.Go(func() {
				for i := range 20 {
					batch := b.draft(credit.Grant{Amount: units(1), Key: fmt.Sprintf("k-%d", i)}, credit.NewReseller{ExternalID: fmt.Sprintf("UIN-%d", i), Name: "N"})
					expected := b.head
					b.enter(copyOf(batch))
					var err error
					for again := true; again; again = store.Retryable(err) {
						err = s.Append(t.Context(), b.distributor.ID, expected, copyOf(batch))
					}
					if !assert.NoError(t, err) {
						return
					}
					_, err = s.Load(t.Context(), b.distributor.ID, credit.ReadSet{Resellers: []uuid.UUID{b.reseller(0)}, Keys: []string{"k-0"}})
					assert.NoError(t, err)
					_, err = s.Resellers(t.Context(), b.distributor.ID, credit.ResellerQuery{Statuses: everyStatus(), Order: credit.OrderNewest, Limit: 5}, store.ResellerPosition{})
					assert.NoError(t, err)
				}
			})
		}
		within(t, 2*time.Minute, "writing to many ledgers", all.Wait)
		for _, b := range books {
			b.requireStored(t, s, "a ledger written beside others")
		}
	}},
	{"every method ends when its context is over", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		ctx := cancelled(t)
		batch := b.draft(credit.Grant{Amount: units(1)})
		for name, call := range map[string]func(){
			"Create": func() { _, _ = s.Create(ctx, b.distributor) },
			"Load":   func() { _, _ = s.Load(ctx, b.distributor.ID, credit.ReadSet{Keys: []string{"start"}}) },
			"Resellers": func() {
				_, _ = s.Resellers(ctx, b.distributor.ID, credit.ResellerQuery{Statuses: everyStatus(), Order: credit.OrderNewest, Limit: 10}, store.ResellerPosition{})
			},
			"CountResellers": func() {
				_, _ = s.CountResellers(ctx, b.distributor.ID, credit.ResellerQuery{Statuses: everyStatus(), Order: credit.OrderNewest, Limit: 10})
			},
			"Records": func() { _, _ = s.Records(ctx, b.distributor.ID, credit.RecordQuery{Limit: 10}) },
			"Latest":  func() { _, _ = s.Latest(ctx, b.distributor.ID, []uuid.UUID{b.reseller(0)}, nil, 10) },
			"Append":  func() { _ = s.Append(ctx, b.distributor.ID, b.head, batch) },
		} {
			within(t, 5*time.Second, name+" with a context that is over", call)
		}
	}},
	{"a read that is cancelled meanwhile ends, and later ones work", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		for range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			var all sync.WaitGroup
			all.Go(func() { _, _ = s.Load(ctx, b.distributor.ID, credit.ReadSet{Resellers: []uuid.UUID{b.reseller(0)}}) })
			all.Go(func() { _, _ = s.Records(ctx, b.distributor.ID, credit.RecordQuery{Limit: 10}) })
			all.Go(func() { _, _ = s.Latest(ctx, b.distributor.ID, []uuid.UUID{b.reseller(0), b.reseller(1)}, nil, 10) })
			all.Go(func() {
				_, _ = s.CountResellers(ctx, b.distributor.ID, credit.ResellerQuery{Statuses: everyStatus(), Name: "r", Order: credit.OrderName, Limit: 10})
			})
			all.Go(cancel)
			within(t, 5*time.Second, "reads that were cancelled", all.Wait)
		}
		b.requireStored(t, s, "after cancelled reads")
	}},
}
