package storetest

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// many returns a ledger of 30 resellers, of all statuses, most of which are bound
// at the same time, are called the same but for the case, or have the same
// available credit as others.
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
		commands[i] = credit.NewReseller{ExternalID: fmt.Sprintf("UIN-%d", i), Name: pickOne(b.rng, []string{"Nimbus", "nimbus", "NIMBUS", "nim", "Ä", "ä", "\U00010400"}), BoundAt: at}
	}
	for part := range slices.Chunk(commands, 7) {
		b.write(t, s, part...)
	}
	for i := range n {
		id := b.reseller(i)
		var change []credit.Command
		switch b.rng.IntN(4) {
		case 0:
			change = append(change, credit.Freeze{ResellerID: id})
		case 1:
			change = append(change, credit.Close{ResellerID: id})
		}
		if v := b.rng.Int64N(4); v > 0 {
			change = append(change, credit.Usage{ResellerID: id, Amount: credit.FromMillionths(v)})
		}
		if change != nil {
			b.write(t, s, change...)
		}
	}
	return s, b
}

// requireListing reads all pages of a query, and counts them.
func (b *book) requireListing(t *testing.T, s store.Store, q credit.ResellerQuery, why string) {
	t.Helper()
	requireSameList(t, b.listed(q), listResellers(t.Context(), t, s, b.distributor.ID, q), fmt.Sprintf("%s: %s, pages of %d", why, show(q), q.Limit))
}

// requireAfter reads the page of a query that begins after a position.
func (b *book) requireAfter(t *testing.T, s store.Store, q credit.ResellerQuery, after store.ResellerPosition) {
	t.Helper()
	var want []credit.Reseller
	for _, r := range b.listed(q) {
		at := placed(q.Order, r)
		place := cmp.Or(at.BoundAt.Compare(after.BoundAt), strings.Compare(at.Name, after.Name), cmp.Compare(at.Available, after.Available), bytes.Compare(at.ID[:], after.ID[:]))
		if len(want) < q.Limit && (descending(q.Order) && place < 0 || !descending(q.Order) && place > 0) {
			want = append(want, r)
		}
	}
	got, err := s.Resellers(t.Context(), b.distributor.ID, q, after)
	require.NoError(t, err)
	requireSameList(t, want, got, fmt.Sprintf("strictly after %s %q %d %s: %s", after.BoundAt, after.Name, after.Available, after.ID, show(q)))
}

var resellersClauses = []clause{
	{"pages of every size, in every order, ties by id", func(h Harness, t *testing.T) {
		s, b := h.many(t)
		for _, order := range credit.Orders() {
			for limit := 1; limit <= len(b.resellers)+1; limit++ {
				b.requireListing(t, s, credit.ResellerQuery{Statuses: everyStatus(), Order: order, Limit: limit}, "all of them")
			}
		}
	}},
	{"each order down is the one up reversed", func(h Harness, t *testing.T) {
		s, b := h.many(t)
		for down, up := range map[credit.Order]credit.Order{credit.OrderNewest: credit.OrderOldest, credit.OrderNameDown: credit.OrderName, credit.OrderAvailableDown: credit.OrderAvailable} {
			q := credit.ResellerQuery{Statuses: everyStatus(), Order: down, Limit: credit.MaxPageSize}
			one := listResellers(t.Context(), t, s, b.distributor.ID, q)
			q.Order = up
			other := listResellers(t.Context(), t, s, b.distributor.ID, q)
			slices.Reverse(other)
			requireSameList(t, other, one, "the same order, turned round, ties included: "+string(down))
		}
	}},
	{"names in the order of the bytes of their folded form", func(h Harness, t *testing.T) {
		s, b := h.directory(t)
		for _, order := range []credit.Order{credit.OrderName, credit.OrderNameDown} {
			for _, limit := range []int{1, 7, credit.MaxPageSize} {
				b.requireListing(t, s, credit.ResellerQuery{Statuses: everyStatus(), Order: order, Limit: limit}, "names of every sort")
			}
		}
	}},
	{"available credit in the order of numbers, to the last millionth", func(h Harness, t *testing.T) {
		s, b := h.directory(t)
		for _, order := range []credit.Order{credit.OrderAvailable, credit.OrderAvailableDown} {
			for _, limit := range []int{1, 7, credit.MaxPageSize} {
				b.requireListing(t, s, credit.ResellerQuery{Statuses: everyStatus(), Order: order, Limit: limit}, "negative, zero and extreme figures")
			}
		}
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
			for _, order := range credit.Orders() {
				for _, limit := range []int{4, credit.MaxPageSize + 1} {
					b.requireListing(t, s, credit.ResellerQuery{Statuses: statuses, Order: order, Limit: limit, Cursor: "to be ignored", Total: true}, "by status")
				}
			}
		}
	}},
	{"strictly after any position, be there a reseller or not", func(h Harness, t *testing.T) {
		s, b := h.many(t)
		for _, order := range credit.Orders() {
			far := []store.ResellerPosition{{BoundAt: b.now.AddDate(1000, 0, 0)}, {BoundAt: time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC)}}
			switch order {
			case credit.OrderName, credit.OrderNameDown:
				far = []store.ResellerPosition{{Name: ""}, {Name: "%"}, {Name: strings.Repeat("\U0010FFFF", credit.MaxName/4)}}
			case credit.OrderAvailable, credit.OrderAvailableDown:
				far = []store.ResellerPosition{{Available: 0}, {Available: math.MinInt64}, {Available: math.MaxInt64}}
			}
			for _, p := range far {
				p.ID = random(b.rng)
				b.requireAfter(t, s, credit.ResellerQuery{Statuses: everyStatus(), Order: order, Limit: 5}, p)
			}
			for _, r := range b.resellers {
				at, tie, beside := placed(order, r), placed(order, r), placed(order, r)
				tie.ID = random(b.rng)
				switch order {
				case credit.OrderName, credit.OrderNameDown:
					beside.Name += "\x01"
				case credit.OrderAvailable, credit.OrderAvailableDown:
					beside.Available++
				default:
					beside.BoundAt = beside.BoundAt.Add(time.Microsecond)
				}
				for _, p := range []store.ResellerPosition{at, tie, beside} {
					b.requireAfter(t, s, credit.ResellerQuery{Statuses: []credit.Status{credit.StatusActive, credit.StatusFrozen}, Order: order, Limit: 5}, p)
				}
			}
		}
	}},
	{"name, mobile and remark by part, whatever the case", func(h Harness, t *testing.T) {
		s, b := h.directory(t)
		ask := func(set func(*credit.ResellerQuery)) {
			q := credit.ResellerQuery{Statuses: everyStatus(), Order: pickOne(b.rng, credit.Orders()), Limit: credit.MaxPageSize}
			set(&q)
			b.requireListing(t, s, q, "text by part")
		}
		for _, text := range slices.Concat(directoryNames, []string{"k", "K", "s", "ß", "ss", "SS", "i", "I", "ı", "İ", "\u0307", "Ä", "a", "%%", "__", "a%b", "a__b", `\\%`, "NIMBUS LTD", "\t", "🏳", "\u200d", "nothing like it"}) {
			ask(func(q *credit.ResellerQuery) { q.Name = text })
		}
		for _, text := range slices.Concat(directoryMobiles[2:], []string{"9", "+", "ExT", "__", "1%2"}) {
			ask(func(q *credit.ResellerQuery) { q.Mobile = text })
		}
		for _, text := range slices.Concat(directoryRemarks[2:], []string{"e\nL", "'", "ß", "ẞ", "ss", "%", "0%"}) {
			ask(func(q *credit.ResellerQuery) { q.Remark = text })
		}
	}},
	{"e-mail and external id byte by byte", func(h Harness, t *testing.T) {
		s, b := h.directory(t)
		for _, text := range slices.Concat(directoryEmails[1:], []string{"ops@example", "ops%", "ops@example.com\t", "none"}) {
			b.requireListing(t, s, credit.ResellerQuery{Statuses: everyStatus(), Email: text, Order: pickOne(b.rng, credit.Orders()), Limit: 3}, "e-mail")
		}
		for _, text := range []string{"UIN-0", "UIN-7", "uin-7", "UIN-7 ", "UIN-", "UIN-%", "none"} {
			b.requireListing(t, s, credit.ResellerQuery{Statuses: everyStatus(), ExternalID: text, Order: pickOne(b.rng, credit.Orders()), Limit: 3}, "external id")
		}
	}},
	{"a range of available credit, both ends included", func(h Harness, t *testing.T) {
		s, b := h.directory(t)
		ask := func(least, most *decimal.Decimal) {
			b.requireListing(t, s, credit.ResellerQuery{Statuses: everyStatus(), MinAvailable: least, MaxAvailable: most, Order: pickOne(b.rng, credit.Orders()), Limit: credit.MaxPageSize}, "available credit")
		}
		for _, f := range directoryFigures {
			for _, v := range []int64{f[0] - f[1] - 1, f[0] - f[1], f[0] - f[1] + 1} {
				if v < -mostMillionths || v > mostMillionths {
					continue
				}
				at := credit.FromMillionths(v)
				ask(&at, nil)
				ask(nil, &at)
				ask(&at, &at)
			}
		}
	}},
	{"low credit by amount and by percentage, exactly", func(h Harness, t *testing.T) {
		s, b := h.directory(t)
		for _, text := range directoryLows {
			b.requireListing(t, s, credit.ResellerQuery{Statuses: everyStatus(), Low: threshold(text), Order: pickOne(b.rng, credit.Orders()), Limit: credit.MaxPageSize}, "at or below "+text)
		}
		// A share of what was allocated, just at and beside each that there is.
		for _, f := range directoryFigures {
			if f[0] <= 0 || f[1] < 0 || f[1] > f[0] {
				continue
			}
			share := new(big.Int).Mul(big.NewInt(f[0]-f[1]), big.NewInt(100_000_000))
			v := share.Quo(share, big.NewInt(f[0])).Int64()
			for _, v := range []int64{v - 1, v, v + 1} {
				if p, err := credit.PercentThreshold(credit.FromMillionths(v)); err == nil {
					b.requireListing(t, s, credit.ResellerQuery{Statuses: everyStatus(), Low: &p, Order: credit.OrderAvailable, Limit: credit.MaxPageSize}, "at or below "+p.String())
				}
			}
		}
	}},
	{"filters in every combination, in every order, counted", func(h Harness, t *testing.T) {
		s, b := h.directory(t)
		found := 0
		for range 100 + h.Sequences {
			q := question(b.rng)
			b.requireListing(t, s, q, "a combination of filters")
			b.requireCount(t, s, q, "a combination of filters")
			b.requireAfter(t, s, q, placed(q.Order, pickOne(b.rng, slices.Collect(maps.Values(b.resellers)))))
			found += len(b.listed(q))
		}
		require.Positive(t, found, "the test asks for something")
	}},
	{"a listing shows what was added and changed since", func(h Harness, t *testing.T) {
		s, b := h.many(t)
		q := credit.ResellerQuery{Statuses: everyStatus(), Order: credit.OrderNewest, Limit: 3}
		for i := range 10 {
			b.write(t, s, credit.NewReseller{ExternalID: fmt.Sprintf("more-%d", i), Name: "N", BoundAt: time.UnixMicro(int64(b.rng.IntN(20) - 10))},
				credit.Usage{ResellerID: b.reseller(i), Amount: units(1)}, credit.ProfileUpdate{ResellerID: b.reseller(i + 1), Name: new(fmt.Sprintf("Changed %d", i))})
			for _, order := range credit.Orders() {
				q.Order = order
				b.requireListing(t, s, q, "right after Append")
			}
			b.requireListing(t, s, credit.ResellerQuery{Statuses: everyStatus(), Name: fmt.Sprintf("CHANGED %d", i), Order: credit.OrderName, Limit: 2}, "a new name is found")
			b.requireListing(t, s, credit.ResellerQuery{Statuses: everyStatus(), MaxAvailable: new(units(-1)), Order: credit.OrderAvailable, Limit: 2}, "credit that changed is found")
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
			for _, order := range credit.Orders() {
				if order != credit.OrderNewest && order != credit.OrderOldest {
					after.BoundAt = time.Time{}
				}
				got, err := s.Resellers(t.Context(), b.distributor.ID, credit.ResellerQuery{Statuses: everyStatus(), Order: order, Limit: 10}, after)
				require.NoError(t, err)
				require.Empty(t, got)
			}
		}
	}},
}

var countClauses = []clause{
	{"as many as the listing has, whatever its limit and order", func(h Harness, t *testing.T) {
		s, b := h.directory(t)
		for _, order := range credit.Orders() {
			for _, statuses := range [][]credit.Status{everyStatus(), {credit.StatusActive}, {credit.StatusActive, credit.StatusFrozen}} {
				for _, limit := range []int{1, credit.MaxPageSize + 1} {
					b.requireCount(t, s, credit.ResellerQuery{Statuses: statuses, Order: order, Limit: limit, Cursor: "to be ignored", Total: true}, "by status")
				}
			}
		}
	}},
	{"each filter alone", func(h Harness, t *testing.T) {
		s, b := h.directory(t)
		for i := range 12 {
			with := question(b.rng)
			with.Name, with.Mobile, with.Remark = part(b.rng, pickOne(b.rng, directoryNames)), directoryMobiles[i%len(directoryMobiles)], part(b.rng, pickOne(b.rng, directoryRemarks))
			with.Email, with.ExternalID = pickOne(b.rng, directoryEmails), fmt.Sprintf("UIN-%d", b.rng.IntN(100))
			with.MinAvailable, with.MaxAvailable, with.Low = around(b.rng), around(b.rng), threshold(pickOne(b.rng, directoryLows))
			for _, q := range []credit.ResellerQuery{{Name: with.Name}, {Mobile: with.Mobile}, {Remark: with.Remark}, {Email: with.Email}, {ExternalID: with.ExternalID},
				{MinAvailable: with.MinAvailable}, {MaxAvailable: with.MaxAvailable}, {Low: with.Low}} {
				if show(q) == show(credit.ResellerQuery{}) {
					continue
				}
				q.Statuses, q.Order, q.Limit = everyStatus(), with.Order, 1
				b.requireCount(t, s, q, "one filter")
			}
		}
	}},
	{"an empty ledger", func(h Harness, t *testing.T) {
		s := h.Open(t)
		b := newBook(t, s, h.source(t))
		b.requireCount(t, s, credit.ResellerQuery{Statuses: everyStatus(), Order: credit.OrderNewest, Limit: 10}, "nobody")
	}},
}

var recordsClauses = []clause{
	{"every combination of filters, orders and limits", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		for i := range 3 {
			for _, c := range []credit.Command{
				credit.Usage{ResellerID: b.reseller(i), Amount: units(60), Key: fmt.Sprintf("usage-%d", i), Customer: "C", OccurredAt: b.now.Add(-time.Hour)}, credit.Repossession{ResellerID: b.reseller(i), Amount: units(5)},
				credit.Correction{ResellerID: b.reseller(i), Amount: units(10), Operator: "Ann", Customer: "c", Reference: "bill"}, credit.Settlement{ResellerID: b.reseller(i), Amount: units(10)},
				credit.Grant{Amount: units(1), Operator: "ann", OccurredAt: b.now.Add(time.Hour)}, credit.Allocation{ResellerID: b.reseller(i), Amount: units(2)},
				credit.ProfileUpdate{ResellerID: b.reseller(i), Customers: new(i)}, credit.Freeze{ResellerID: b.reseller(i)},
				credit.RepossessAll{ResellerID: b.reseller(i), Operator: "ann", Reference: "Bill", OccurredAt: b.now.Add(-time.Hour)}, credit.Unfreeze{ResellerID: b.reseller(i)}, credit.Close{ResellerID: b.reseller(i)},
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
			text := func(n int, from ...string) string {
				if b.rng.IntN(n) > 0 {
					return ""
				}
				return pickOne(b.rng, from)
			}
			q.Operator, q.Reference, q.Customer = text(5, "ann", "Ann", "ANN", "an"), text(8, "bill", "Bill", "b%"), text(8, "c", "C", "c ")
			q.Key = text(12, "usage-0", "usage-2", "USAGE-0", "start", "add-1", "none")
			moment := func() time.Time {
				return pickOne(b.rng, []time.Time{{}, {}, pickOne(b.rng, b.records).OccurredAt.Add(time.Duration(b.rng.IntN(3)-1) * time.Microsecond)})
			}
			if q.OccurredFrom, q.OccurredUntil = moment(), moment(); !q.OccurredUntil.IsZero() && !q.OccurredFrom.Before(q.OccurredUntil) {
				q.OccurredFrom = time.Time{}
			}
			queries = append(queries, q)
		}
		for _, q := range queries {
			b.requireRead(t, s, q)
		}
	}},
	{"operator, key, reference and customer byte by byte", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		texts := append([]string{"same", "Same", "same ", " same", "ä", "a\u0308", "Ä", "0", "00", strings.Repeat("x", credit.MaxOperator), strings.Repeat("x", credit.MaxOperator-1)}, oddTexts...)
		for i, text := range texts {
			b.write(t, s, credit.Usage{ResellerID: b.reseller(i % 3), Amount: units(1), Operator: text, Key: text, Reference: text, Customer: text})
			b.write(t, s, credit.Correction{ResellerID: b.reseller(i % 2), Amount: units(1), Operator: text, Reference: text, Customer: text})
		}
		for _, text := range append(texts, "none", "SAME", "sam") {
			for _, q := range []credit.RecordQuery{{Operator: text}, {Key: text}, {Reference: text}, {Customer: text}, {Customer: text, Operator: text, Kinds: []credit.Kind{credit.KindUsage}}} {
				q.Limit, q.NewestFirst = credit.MaxPageSize, b.rng.IntN(2) == 0
				b.requireRead(t, s, q)
			}
		}
	}},
	{"a range of occurred-at, from included and until not, in microseconds", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		ends := []time.Time{time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC), time.Date(1969, 12, 31, 23, 59, 59, 999999000, time.UTC), time.Unix(0, 0).UTC(),
			time.Date(2024, 3, 31, 2, 30, 0, 123456000, time.UTC), time.Date(2024, 3, 31, 2, 30, 0, 123457000, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)}
		for i, at := range ends {
			b.write(t, s, credit.Usage{ResellerID: b.reseller(i % 3), Amount: units(1), OccurredAt: at}, credit.Grant{Amount: units(1), OccurredAt: at})
		}
		for _, at := range ends {
			ends = append(ends, at.Add(time.Microsecond), at.Add(-time.Microsecond))
		}
		for _, from := range append(ends, time.Time{}) {
			for _, until := range append(ends, time.Time{}) {
				if from.Year() > 9999 || until.Year() > 9999 || !until.IsZero() && !from.Before(until) {
					continue
				}
				b.requireRead(t, s, credit.RecordQuery{OccurredFrom: from, OccurredUntil: until, NewestFirst: b.rng.IntN(2) == 0, Limit: 1 + b.rng.IntN(20)})
			}
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

// selected are the book's records that a query selects.
func (b *book) selected(q credit.RecordQuery) []credit.Record {
	var list []credit.Record
	for _, r := range b.records {
		if selectsRecord(q, r) {
			list = append(list, r)
		}
	}
	if q.NewestFirst {
		slices.Reverse(list)
	}
	return list[:min(len(list), q.Limit)]
}

// requireRead reads one page of records.
func (b *book) requireRead(t *testing.T, s store.Store, q credit.RecordQuery) {
	t.Helper()
	got, err := s.Records(t.Context(), b.distributor.ID, q)
	require.NoError(t, err, "%s", show(q))
	requireSameList(t, b.selected(q), got, show(q))
}

var latestClauses = []clause{
	{"the newest of each reseller, of any kinds, up to any sequence", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		for i := range 3 {
			b.write(t, s, credit.Freeze{ResellerID: b.reseller(i)}, credit.Grant{Amount: units(1)}, credit.Usage{ResellerID: b.reseller((i + 1) % 3), Amount: units(1), Metadata: map[string]string{"a": "b"}},
				credit.Unfreeze{ResellerID: b.reseller(i)}, credit.ProfileUpdate{ResellerID: b.reseller(i), Name: new("New")})
		}
		b.write(t, s, credit.RepossessAll{ResellerID: b.reseller(2)}, credit.Close{ResellerID: b.reseller(2)})
		kinds := [][]credit.Kind{nil, {credit.KindFreeze, credit.KindUnfreeze, credit.KindClose}, {credit.KindGrant}, {credit.KindAdd}, credit.AllocationKinds(), credit.Kinds(), {credit.KindUsage, credit.KindUpdate}}
		for until := int64(0); until <= b.head.Sequence+1; until++ {
			for _, k := range kinds {
				ids := []uuid.UUID{b.reseller(2), b.reseller(0), b.reseller(1)}[:1+b.rng.IntN(3)]
				b.requireLatest(t, s, ids, k, until, "while it grew")
			}
		}
		b.requireLatest(t, s, []uuid.UUID{b.reseller(0), b.reseller(1)}, nil, math.MaxInt64, "at the end of numbers")
	}},
	{"resellers that are unknown, and those without such a record, are left out", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		for _, ids := range [][]uuid.UUID{nil, {}, {random(b.rng)}, {uuid.Max, b.reseller(1), random(b.rng)}} {
			b.requireLatest(t, s, ids, nil, b.head.Sequence, "unknown resellers")
			b.requireLatest(t, s, ids, []credit.Kind{credit.KindClose}, b.head.Sequence, "none of that kind")
		}
	}},
	{"as many resellers as a page may have", func(h Harness, t *testing.T) {
		s := h.Open(t)
		b := newBook(t, s, h.source(t))
		some := make([]credit.Reseller, credit.MaxPageSize)
		for i := range some {
			some[i] = credit.Reseller{ExternalID: fmt.Sprintf("UIN-%d", i), Profile: credit.Profile{Name: "N"}, Status: credit.StatusActive,
				Figures: credit.Figures{Allocated: credit.FromMillionths(0), Used: credit.FromMillionths(0)}}
			some[i].BoundAt = b.now
		}
		for part := range slices.Chunk(some, 250) {
			b.place(t, s, part)
		}
		b.write(t, s, credit.Usage{ResellerID: b.reseller(7), Amount: units(1)})
		ids := slices.Collect(maps.Keys(b.resellers))
		require.Len(t, ids, credit.MaxPageSize)
		for _, until := range []int64{1, 500, b.head.Sequence - 1, b.head.Sequence} {
			b.requireLatest(t, s, ids, nil, until, "a thousand resellers at once")
		}
		b.requireLatest(t, s, ids, []credit.Kind{credit.KindUsage, credit.KindFreeze}, b.head.Sequence, "a thousand resellers at once")
	}},
	{"an empty ledger", func(h Harness, t *testing.T) {
		s := h.Open(t)
		b := newBook(t, s, h.source(t))
		b.requireLatest(t, s, []uuid.UUID{random(b.rng)}, nil, 10, "an empty ledger")
	}},
}
