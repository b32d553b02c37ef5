package storetest

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// reader reads all pages of a listing beside somebody who writes, and tells what
// is wrong with them; "" if nothing is.
type reader struct {
	name string
	read func(l credit.Ledger, limit int, between func()) (problem string, err error)
}

// busy is a ledger that somebody writes to: what was in it before, and how many
// of its resellers are left alone.
type busy struct {
	engines []*store.Ledger
	before  []credit.Reseller
	head    credit.Head
	log     []credit.Record
	others  []uuid.UUID // those that are not left alone
}

func newBusy(t *testing.T, rng *rand.Rand, stores ...store.Store) *busy {
	t.Helper()
	const still, others = 40, 6
	b := &busy{engines: open(t, rng, store.Options{}, stores...)}
	l := b.engines[0]
	commands := []credit.Command{credit.Grant{Amount: units(1000), Key: "grant"}}
	for i := range still + others {
		commands = append(commands, credit.NewReseller{ExternalID: fmt.Sprintf("start-%d", i), Name: fmt.Sprintf("%c", 'a'+i%9), BoundAt: time.Unix(rng.Int64N(60), 0), Key: fmt.Sprintf("start-%d", i)})
	}
	outcomes, err := l.Bulk(t.Context(), commands, credit.BulkOptions{AllOrNothing: true})
	require.NoError(t, err)
	for i, o := range outcomes[1:] {
		require.NoError(t, o.Err)
		if i >= still {
			b.others = append(b.others, o.Receipt.ResellerID)
		} else if i%2 == 0 {
			must(t, l, credit.Usage{ResellerID: o.Receipt.ResellerID, Amount: units(int64(i % 5)).Add(units(1)), Key: fmt.Sprintf("use-%d", i)})
		}
	}
	page, err := l.Resellers(t.Context(), credit.ResellerQuery{Limit: credit.MaxPageSize})
	require.NoError(t, err)
	b.before = page.Items
	b.head, err = l.Head(t.Context())
	require.NoError(t, err)
	b.log = requireSound(t, l)
	return b
}

// write writes the n-th of what is written meanwhile: resellers are added at every
// place of an order, renamed and charged.
func (b *busy) write(t *testing.T, l credit.Ledger, rng *rand.Rand, n int) error {
	key, id := fmt.Sprintf("busy-%d", n), pickOne(rng, b.others)
	var c credit.Command = credit.NewReseller{ExternalID: key, Name: fmt.Sprintf("%c%d", 'a'+rng.IntN(9), rng.IntN(9)), BoundAt: time.Unix(rng.Int64N(60), 1000), Key: key}
	switch n % 5 {
	case 1:
		c = credit.Usage{ResellerID: id, Amount: units(1 + rng.Int64N(8)), Key: key}
	case 2:
		c = credit.ProfileUpdate{ResellerID: id, Name: new(fmt.Sprintf("%c", 'A'+rng.IntN(9))), Key: key}
	case 3:
		c = credit.Correction{ResellerID: id, Amount: units(1 + rng.Int64N(8)), Key: key}
	}
	_, err := insist(t.Context(), l, c)
	return err
}

// readers read all listings, each with what it promises.
func (b *busy) readers(t *testing.T) []reader {
	ctx := t.Context()
	records := func(q credit.RecordQuery, problem func([]credit.Record) string) func(credit.Ledger, int, func()) (string, error) {
		return func(l credit.Ledger, limit int, between func()) (string, error) {
			q := q
			q.Limit = limit
			got, err := pages(limit, func(c credit.Cursor) (credit.Page[credit.Record], error) {
				q.Cursor = c
				defer between()
				return l.Records(ctx, q)
			})
			return problem(got), err
		}
	}
	resellers := func(q credit.ResellerQuery, problem func([]credit.Reseller) string) func(credit.Ledger, int, func()) (string, error) {
		return func(l credit.Ledger, limit int, between func()) (string, error) {
			q := q
			q.Limit = limit
			got, err := pages(limit, func(c credit.Cursor) (credit.Page[credit.Reseller], error) {
				q.Cursor = c
				defer between()
				return l.Resellers(ctx, q)
			})
			return problem(got), err
		}
	}
	contiguous := func(got []credit.Record) string {
		for i, r := range got {
			if r.Sequence != int64(i)+1 {
				return fmt.Sprintf("record %d stands where %d is expected", r.Sequence, i+1)
			}
		}
		if len(got) < len(b.log) {
			return fmt.Sprintf("%d records, there were %d before", len(got), len(b.log))
		}
		return ""
	}
	once := func(of []credit.Reseller, all bool) func([]credit.Reseller) string {
		return func(got []credit.Reseller) string {
			times := map[uuid.UUID]int{}
			for _, r := range got {
				if times[r.ID]++; all && times[r.ID] > 1 {
					return fmt.Sprintf("reseller %s twice", r.ID)
				}
			}
			for _, r := range of {
				if times[r.ID] != 1 {
					return fmt.Sprintf("reseller %s, which was there before, %d times", r.ID, times[r.ID])
				}
			}
			return ""
		}
	}
	exactly := func(q credit.ResellerQuery) reader {
		q.AsOf.Sequence = b.head.Sequence
		want := listing(q, b.before)
		return reader{"as of a sequence, " + string(q.Order), resellers(q, func(got []credit.Reseller) string {
			for i := range got {
				// The profile is as it is now.
				got[i].Profile = credit.Profile{}
			}
			expected := slices.Clone(want)
			for i := range expected {
				expected[i].Profile = credit.Profile{}
			}
			if len(got) != len(expected) || len(got) > 0 && !reflect.DeepEqual(expected, got) {
				return "is not what was there: " + show(got)
			}
			return ""
		})}
	}
	var still []credit.Reseller
	for _, r := range b.before {
		if !slices.Contains(b.others, r.ID) {
			still = append(still, r)
		}
	}
	var earlier []credit.Record
	for _, r := range b.log {
		if r.RecordedAt.Before(b.head.RecordedAt) {
			earlier = append(earlier, r)
		}
	}
	all := []reader{
		{"records", records(credit.RecordQuery{}, contiguous)},
		{"records, newest first", records(credit.RecordQuery{NewestFirst: true}, func(got []credit.Record) string { slices.Reverse(got); return contiguous(got) })},
		{"records of an earlier time", records(credit.RecordQuery{RecordedUntil: b.head.RecordedAt}, func(got []credit.Record) string {
			if len(got) != len(earlier) || len(got) > 0 && !reflect.DeepEqual(earlier, got) {
				return "is not what was there: " + show(got)
			}
			return ""
		})},
		{"records of a time to come", records(credit.RecordQuery{RecordedFrom: time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)}, func(got []credit.Record) string {
			if len(got) > 0 {
				return "has records: " + show(got)
			}
			return ""
		})},
		exactly(credit.ResellerQuery{Order: credit.OrderNewest}),
		exactly(credit.ResellerQuery{Order: credit.OrderOldest, MaxAvailable: new(units(-2))}),
	}
	for _, order := range credit.Orders() {
		if order == credit.OrderNewest || order == credit.OrderOldest {
			all = append(all, reader{string(order), resellers(credit.ResellerQuery{Order: order}, once(b.before, true))})
		} else {
			all = append(all, reader{string(order), resellers(credit.ResellerQuery{Order: order}, once(still, false))})
		}
	}
	return all
}

// pagesAndWrites has somebody write after every page.
func pagesAndWrites(t *testing.T, rng *rand.Rand, stores ...store.Store) {
	b := newBusy(t, rng, stores...)
	n := 0
	for _, r := range b.readers(t) {
		problem, err := r.read(b.engines[0], 3+rng.IntN(5), func() {
			require.NoError(t, b.write(t, b.engines[n%len(b.engines)], rng, n))
			n++
		})
		require.NoError(t, err, r.name)
		require.Empty(t, problem, r.name)
	}
	requireSound(t, b.engines...)
}

// pagesBesideWriters has some write while others read.
func pagesBesideWriters(t *testing.T, rng *rand.Rand, stores ...store.Store) {
	const writers, each = 4, 10
	b := newBusy(t, rng, stores...)
	readers := b.readers(t)
	problems := make([]string, writers+len(readers))
	seeds := make([]uint64, len(problems))
	for i := range seeds {
		seeds[i] = rng.Uint64()
	}
	var writing sync.WaitGroup
	writing.Add(writers)
	written := make(chan struct{})
	go func() { writing.Wait(); close(written) }()
	together(t, len(problems), "readers beside writers", func(i int) {
		rng := newRand(seeds[i], uint64(i))
		l := b.engines[i%len(b.engines)]
		if i < writers {
			defer writing.Done()
			for j := range each {
				if err := b.write(t, l, rng, i*each+j); err != nil {
					problems[i] = err.Error()
					return
				}
			}
			return
		}
		for more := true; more; {
			select {
			case <-written:
				more = false // once more, when all is quiet
			default:
			}
			r := readers[i-writers]
			problem, err := r.read(l, 1+rng.IntN(9), func() {})
			switch {
			case store.Retryable(err):
			case err != nil:
				problems[i] = r.name + ": " + err.Error()
				return
			case problem != "":
				problems[i] = r.name + ": " + problem
				return
			}
		}
	})
	for _, problem := range problems {
		require.Empty(t, problem)
	}
	requireSound(t, b.engines...)
}
