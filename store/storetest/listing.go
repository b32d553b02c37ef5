package storetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// many returns a ledger of 30 resellers, of all statuses, most of them bound at
// the same time as others.
func (h Harness) many(t *testing.T) (store.Store, *book) {
	t.Helper()
	const n = 30
	s := h.Open(t)
	b := newBook(t, s, h.source(t))
	commands := make([]credit.Command, n)
	for i := range commands {
		at := time.Date(1969, 12, 31, 23, 59, 59, 999998000, time.UTC).Add(time.Duration(b.rng.IntN(8)) * time.Microsecond)
		if i%10 == 9 {
			at = time.Time{}
		}
		commands[i] = credit.NewReseller{ExternalID: fmt.Sprintf("UIN-%d", i), Name: fmt.Sprint(i), BoundAt: at}
	}
	for part := range slices.Chunk(commands, 7) {
		b.write(t, s, part...)
	}
	for i := range n {
		switch b.rng.IntN(4) {
		case 0:
			b.write(t, s, credit.Freeze{ResellerID: b.reseller(i)})
		case 1:
			b.write(t, s, credit.Close{ResellerID: b.reseller(i)})
		}
	}
	return s, b
}

func position(r credit.Reseller) store.ResellerPosition {
	return store.ResellerPosition{BoundAt: r.BoundAt, ID: r.ID}
}

var resellersClauses = []clause{
	{"pages of every size, in both orders, ties by id", func(h Harness, t *testing.T) {
		s, b := h.many(t)
		for _, order := range credit.Orders()[:2] {
			for limit := 1; limit <= len(b.resellers)+1; limit++ {
				q := credit.ResellerQuery{Statuses: everyStatus(), Order: order, Limit: limit}
				requireSameList(t, b.listed(q), listResellers(t.Context(), t, s, b.distributor.ID, q), fmt.Sprintf("pages of %d, %s", limit, order))
			}
		}
	}},
	{"newest first is oldest first reversed", func(h Harness, t *testing.T) {
		s, b := h.many(t)
		q := credit.ResellerQuery{Statuses: everyStatus(), Order: credit.OrderNewest, Limit: credit.MaxPageSize}
		newest := listResellers(t.Context(), t, s, b.distributor.ID, q)
		q.Order = credit.OrderOldest
		oldest := listResellers(t.Context(), t, s, b.distributor.ID, q)
		slices.Reverse(oldest)
		requireSameList(t, oldest, newest, "the same order, turned round, ties included")
	}},
	{"every choice of statuses", func(h Harness, t *testing.T) {
		s, b := h.many(t)
		for set := 1; set < 8; set++ {
			var statuses []credit.Status
			for i, status := range everyStatus() {
				if set&(1<<i) != 0 {
					statuses = append(statuses, status)
				}
			}
			for _, order := range credit.Orders()[:2] {
				for _, limit := range []int{1, 4, 50, credit.MaxPageSize + 1} {
					q := credit.ResellerQuery{Statuses: statuses, Order: order, Limit: limit, Cursor: "to be ignored"}
					requireSameList(t, b.listed(q), listResellers(t.Context(), t, s, b.distributor.ID, q), fmt.Sprintf("statuses %v, pages of %d, %s", statuses, limit, order))
				}
			}
		}
	}},
	{"strictly after any position, be there a reseller or not", func(h Harness, t *testing.T) {
		s, b := h.many(t)
		positions := []store.ResellerPosition{{BoundAt: b.now.AddDate(1000, 0, 0), ID: random(b.rng)}, {BoundAt: time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC), ID: random(b.rng)}}
		for _, r := range b.resellers {
			positions = append(positions, position(r), store.ResellerPosition{BoundAt: r.BoundAt, ID: random(b.rng)}, store.ResellerPosition{BoundAt: r.BoundAt.Add(time.Microsecond), ID: r.ID})
		}
		for _, after := range positions {
			for _, order := range credit.Orders()[:2] {
				q := credit.ResellerQuery{Statuses: []credit.Status{credit.StatusActive, credit.StatusFrozen}, Order: order, Limit: 5}
				var want []credit.Reseller
				for _, r := range b.listed(q) {
					place := byBound(r, credit.Reseller{ID: after.ID, BoundAt: after.BoundAt})
					if len(want) < q.Limit && (q.Order.Ascending() == (place > 0) && place != 0) {
						want = append(want, r)
					}
				}
				got, err := s.Resellers(t.Context(), b.distributor.ID, q, after)
				require.NoError(t, err)
				requireSameList(t, want, got, fmt.Sprintf("after %s %s, %s", after.BoundAt, after.ID, order))
			}
		}
	}},
	{"a listing shows what was added and changed since", func(h Harness, t *testing.T) {
		s, b := h.many(t)
		q := credit.ResellerQuery{Statuses: everyStatus(), Order: credit.OrderNewest, Limit: 3}
		for i := range 10 {
			b.write(t, s, credit.NewReseller{ExternalID: fmt.Sprintf("more-%d", i), Name: "N", BoundAt: time.UnixMicro(int64(b.rng.IntN(20) - 10))},
				credit.Usage{ResellerID: b.reseller(i), Amount: units(1)}, credit.ProfileUpdate{ResellerID: b.reseller(i + 1), Name: new(fmt.Sprintf("Changed %d", i))})
			q.Order = credit.Orders()[i%2]
			requireSameList(t, b.listed(q), listResellers(t.Context(), t, s, b.distributor.ID, q), "a listing right after Append")
		}
	}},
	{"a page shows one moment beside a writer", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		second := h.second(t, s)
		var writer sync.WaitGroup
		batches := make([]store.Batch, 100)
		heads := make([]credit.Head, len(batches))
		for i := range batches {
			batches[i] = b.draft(credit.Repossession{ResellerID: b.reseller(i % 3), Amount: units(1)}, credit.Allocation{ResellerID: b.reseller((i + 1) % 3), Amount: units(1)})
			heads[i] = b.head
			b.enter(copyOf(batches[i]))
		}
		errs := make([]error, len(batches))
		begin, done := make(chan struct{}), make(chan struct{})
		beginOnce := sync.OnceFunc(func() { close(begin) })
		defer beginOnce()
		writer.Go(func() {
			defer close(done)
			<-begin
			for i := range batches {
				for again := true; again; again = store.Retryable(errs[i]) {
					errs[i] = s.Append(t.Context(), b.distributor.ID, heads[i], copyOf(batches[i]))
				}
			}
		})
		for more := true; more; {
			select {
			case <-done:
				more = false
			default:
			}
			page, err := second.Resellers(t.Context(), b.distributor.ID, credit.ResellerQuery{Statuses: everyStatus(), Order: credit.OrderNewest, Limit: 10}, store.ResellerPosition{})
			beginOnce()
			if store.Retryable(err) {
				continue
			}
			require.NoError(t, err)
			sum := credit.FromMillionths(0)
			for _, r := range page {
				sum = sum.Add(r.Allocated)
			}
			require.True(t, sum.Equal(units(300)), "credit that moves between resellers in one batch is seen neither twice nor not at all: %s", sum)
		}
		writer.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		b.requireStored(t, s, "after all")
	}},
	{"an empty ledger", func(h Harness, t *testing.T) {
		s := h.Open(t)
		b := newBook(t, s, h.source(t))
		for _, after := range []store.ResellerPosition{{}, {BoundAt: time.Unix(0, 0).UTC(), ID: random(b.rng)}} {
			got, err := s.Resellers(t.Context(), b.distributor.ID, credit.ResellerQuery{Statuses: everyStatus(), Order: credit.OrderNewest, Limit: 10}, after)
			require.NoError(t, err)
			require.Empty(t, got)
		}
	}},
}

var recordsClauses = []clause{
	{"every combination of filters, orders and limits", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		for i := range 3 {
			for _, c := range []credit.Command{
				credit.Usage{ResellerID: b.reseller(i), Amount: units(60)}, credit.Repossession{ResellerID: b.reseller(i), Amount: units(5)},
				credit.Correction{ResellerID: b.reseller(i), Amount: units(10)}, credit.Settlement{ResellerID: b.reseller(i), Amount: units(10)},
				credit.Grant{Amount: units(1)}, credit.Allocation{ResellerID: b.reseller(i), Amount: units(2)},
				credit.ProfileUpdate{ResellerID: b.reseller(i), Customers: new(i)}, credit.Freeze{ResellerID: b.reseller(i)},
				credit.RepossessAll{ResellerID: b.reseller(i)}, credit.Unfreeze{ResellerID: b.reseller(i)}, credit.Close{ResellerID: b.reseller(i)},
				credit.Withdrawal{Amount: units(1)},
			} {
				b.write(t, s, c)
			}
		}
		last := b.head.Sequence
		kinds := [][]credit.Kind{nil, credit.AllocationKinds(), credit.Kinds(), {credit.KindClose, credit.KindAdd, credit.KindGrant}}
		for _, k := range credit.Kinds() {
			kinds = append(kinds, []credit.Kind{k})
		}
		pick := func(from ...int64) int64 { return from[b.rng.IntN(len(from))] }
		queries := []credit.RecordQuery{{Limit: 1}, {Limit: 1, NewestFirst: true}, {Limit: credit.MaxPageSize + 1}, {Limit: credit.MaxPageSize + 1, NewestFirst: true}}
		for range 600 {
			q := credit.RecordQuery{Kinds: kinds[b.rng.IntN(len(kinds))], NewestFirst: b.rng.IntN(2) == 0, Limit: int(pick(1, 2, 3, 7, last, last+1, credit.MaxPageSize+1)), Cursor: "to be ignored"}
			if b.rng.IntN(2) == 0 {
				q.ResellerID = []uuid.UUID{b.reseller(0), b.reseller(1), b.reseller(2), random(b.rng)}[b.rng.IntN(4)]
			}
			if b.rng.IntN(2) == 0 {
				q.After = pick(1, last/2, last-1, last, last+10, b.rng.Int64N(last))
			}
			if b.rng.IntN(2) == 0 {
				q.Before = q.After + 1 + pick(0, 1, 5, last, 1<<62-1)
			}
			queries = append(queries, q)
		}
		for _, q := range queries {
			got, err := s.Records(t.Context(), b.distributor.ID, q)
			require.NoError(t, err, "%+v", q)
			requireSameList(t, b.selected(q), got, fmt.Sprintf("%+v", q))
		}
	}},
	{"an empty ledger", func(h Harness, t *testing.T) {
		s := h.Open(t)
		b := newBook(t, s, h.source(t))
		for _, q := range []credit.RecordQuery{{Limit: 1}, {Limit: 10, NewestFirst: true}, {Limit: 10, After: 5}, {Limit: 10, ResellerID: random(b.rng)}} {
			got, err := s.Records(t.Context(), b.distributor.ID, q)
			require.NoError(t, err)
			require.Empty(t, got)
		}
	}},
}

// selected are the book's records that a query selects, found naively.
func (b *book) selected(q credit.RecordQuery) []credit.Record {
	var list []credit.Record
	for _, r := range b.records {
		if (q.ResellerID == uuid.Nil || r.ResellerID == q.ResellerID) && (len(q.Kinds) == 0 || slices.Contains(q.Kinds, r.Kind)) &&
			r.Sequence > q.After && (q.Before == 0 || r.Sequence < q.Before) {
			list = append(list, r)
		}
	}
	if q.NewestFirst {
		slices.Reverse(list)
	}
	return list[:min(len(list), q.Limit)]
}
