package storetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// recordedHash is the SHA-256 of the pages of all recorded queries.
const recordedHash = "a2f8099181662d9156ff4224356cae01548b828fde4822e0bc1d182ac95a2603"

// recorded writes a ledger that is the same in every run: ids, times and all.
func (h Harness) recorded(t *testing.T) (*store.Ledger, *book) {
	t.Helper()
	s, rng := h.Open(t), newRand(2026, 3)
	b := newBook(t, s, rng)
	// All is drawn from one source, so the ids are those of this order of calls.
	figures := directoryFigures
	some := make([]credit.Reseller, len(directoryNames))
	for i, name := range directoryNames {
		f := figures[i%len(figures)]
		some[i] = credit.Reseller{ExternalID: fmt.Sprintf("UIN-%d", i), BoundAt: b.now.Add(-time.Duration(i%9) * time.Hour), Status: everyStatus()[i%5%3],
			Profile: credit.Profile{Name: name, Mobile: directoryMobiles[i%len(directoryMobiles)], Remark: directoryRemarks[i%len(directoryRemarks)], Email: directoryEmails[i%len(directoryEmails)]},
			Figures: credit.Figures{Allocated: credit.FromMillionths(f[0]), Used: credit.FromMillionths(f[1])}}
	}
	b.place(t, s, some)
	b.now = b.now.Add(time.Minute)
	b.write(t, s, credit.Grant{Amount: units(100_000), Operator: "channel@example.com"})
	for i := range 40 {
		b.now = b.now.Add(time.Duration(i%3) * time.Second) // some at the same time
		added := b.write(t, s, credit.NewReseller{ExternalID: fmt.Sprintf("late-%d", i), Name: fmt.Sprintf("Late %d", i%4), Key: fmt.Sprintf("late-%d", i), Operator: "ops"})
		id := added[0].ResellerID
		b.write(t, s, credit.Allocation{ResellerID: id, Amount: units(int64(100 + i)), Operator: "ops", Reference: fmt.Sprintf("po-%d", i%5)},
			credit.Usage{ResellerID: id, Amount: units(int64(1 + 3*i)), Customer: fmt.Sprintf("C-%d", i%3), OccurredAt: b.now.Add(-time.Duration(i) * time.Hour)})
		switch i % 4 {
		case 1:
			b.write(t, s, credit.Freeze{ResellerID: id, Remark: "under review"})
		case 2:
			b.write(t, s, credit.ProfileUpdate{ResellerID: id, Name: new(fmt.Sprintf("LATE %d", i)), Mobile: new("+49 30 1234")})
		case 3:
			b.write(t, s, credit.RepossessAll{ResellerID: id}, credit.Close{ResellerID: id})
		}
	}
	l, err := store.Open(t.Context(), s, b.distributor, store.Options{Now: func() time.Time { return b.now }, NewID: func() uuid.UUID { return random(rng) }})
	require.NoError(t, err)
	return l, b
}

// recordedPages is a query whose pages are recorded: the beginning of the SHA-256
// of their JSON, one page a line.
type recordedPages struct {
	query any
	hash  string
}

// recordedQueries are the queries, with the pages that every store must give.
func recordedQueries(b *book) []recordedPages {
	all := everyStatus()
	at := b.records[len(b.records)/2].RecordedAt
	return []recordedPages{
		{credit.ResellerQuery{}, "6366318ff2fd"},
		{credit.ResellerQuery{Statuses: all, Order: credit.OrderNewest, Limit: 7, Total: true}, "989281743592"},
		{credit.ResellerQuery{Statuses: all, Order: credit.OrderOldest, Limit: 7}, "90153c9e1064"},
		{credit.ResellerQuery{Statuses: all, Order: credit.OrderName, Limit: 7}, "617e33f55b47"},
		{credit.ResellerQuery{Statuses: all, Order: credit.OrderNameDown, Limit: 1, Total: true}, "73106616f801"},
		{credit.ResellerQuery{Statuses: all, Order: credit.OrderAvailable, Limit: 7}, "5f38d8917ea4"},
		{credit.ResellerQuery{Statuses: all, Order: credit.OrderAvailableDown, Limit: 10}, "85a97b30c8d3"},
		{credit.ResellerQuery{Statuses: []credit.Status{credit.StatusClosed, credit.StatusFrozen}, Order: credit.OrderName, Limit: 5}, "facbb9a3b08b"},
		{credit.ResellerQuery{Name: "LATE", Order: credit.OrderAvailable, Limit: 4, Total: true}, "674822b33d5f"},
		{credit.ResellerQuery{Statuses: all, Name: "k", Order: credit.OrderNameDown, Limit: 2}, "151d3f806825"},
		{credit.ResellerQuery{Statuses: all, Name: "_", Limit: 2}, "31c849ca6e50"},
		{credit.ResellerQuery{Statuses: all, Name: "%", Limit: 2}, "d081d50bdb31"},
		{credit.ResellerQuery{Statuses: all, Remark: "ẞ", Limit: 2}, "6c74eed45e1b"},
		{credit.ResellerQuery{Mobile: "+49", Order: credit.OrderName, Limit: 3}, "7d9d341734b4"},
		{credit.ResellerQuery{Statuses: all, Email: "ops@example.com", Order: credit.OrderAvailable, Limit: 2}, "3eb70664da62"},
		{credit.ResellerQuery{ExternalID: "late-7", Statuses: all, Total: true}, "bedd731aba7f"},
		{credit.ResellerQuery{MinAvailable: new(units(0)), MaxAvailable: new(units(100)), Order: credit.OrderAvailableDown, Limit: 3, Total: true}, "8554861f461c"},
		{credit.LowCredit(*threshold("25%")), "f765bca0cae2"},
		{credit.LowCredit(*threshold("66.666666%")), "6d19f0970527"},
		{credit.LowCredit(*threshold("-0.000001")), "52937365ce39"},
		{credit.Overdrawn(), "ed4619e8576a"},
		{credit.ResellerQuery{Statuses: all, AsOf: credit.AsOf{Sequence: b.head.Sequence / 2}, Limit: 9}, "03a47a6fdbbd"},
		{credit.ResellerQuery{AsOf: credit.AsOf{Time: at}, Order: credit.OrderOldest, Limit: 9}, "3041c29ad63b"},
		{credit.ResellerQuery{AsOf: credit.AsOf{Time: at}, MaxAvailable: new(units(90)), MinAvailable: new(units(-90)), Limit: 4}, "12c7024e2789"},
		{credit.RecordQuery{Limit: 50}, "5300a45475bf"},
		{credit.RecordQuery{NewestFirst: true, Limit: 11}, "6c100b33d933"},
		{credit.RecordQuery{Kinds: credit.AllocationKinds(), Limit: 6}, "3aa1db488819"},
		{credit.RecordQuery{ResellerID: b.externals["late-3"], NewestFirst: true, Limit: 2}, "cac69c396078"},
		{credit.RecordQuery{Operator: "ops", Reference: "po-3", Limit: 2}, "84ad5269365e"},
		{credit.RecordQuery{Key: "late-9", Limit: 2}, "b30ae9f23342"},
		{credit.RecordQuery{Customer: "C-1", OccurredFrom: at.Add(-12 * time.Hour), OccurredUntil: at, Limit: 3}, "99a778ed88d6"},
		{credit.RecordQuery{RecordedFrom: at, Limit: 8}, "556a72a5f5b6"},
		{credit.RecordQuery{RecordedFrom: at.Add(-9 * time.Second), RecordedUntil: at, NewestFirst: true, Limit: 4}, "69e760f25183"},
		{credit.RecordQuery{After: 50, Before: 150, Kinds: []credit.Kind{credit.KindFreeze, credit.KindClose, credit.KindGrant}, Limit: 3}, "aaf80a54a7f1"},
	}
}

// pages reads a ledger that was recorded, with queries that were, and compares
// every byte of the pages with those of every other store.
func (h Harness) pages(t *testing.T) {
	t.Parallel()
	l, b := h.recorded(t)
	whole := sha256.New()
	for _, p := range recordedQueries(b) {
		text, err := textOfPages(t.Context(), l, p.query)
		require.NoError(t, err, "%s", show(p.query))
		_, _ = whole.Write(text)
		sum := sha256.Sum256(text)
		if got := hex.EncodeToString(sum[:6]); got != p.hash {
			t.Errorf("the pages of %T %s are not those of other stores: their hash is %s, not %s\n%.3000s", p.query, show(p.query), got, p.hash, text)
		}
	}
	require.Equal(t, recordedHash, hex.EncodeToString(whole.Sum(nil)), "the pages of all queries are the same on every store, byte for byte")
}

// textOfPages is every page of a query in JSON, a line each.
func textOfPages(ctx context.Context, l credit.Ledger, query any) (text []byte, err error) {
	cursor := credit.Cursor("")
	for range 1_000 {
		var page any
		switch q := query.(type) {
		case credit.ResellerQuery:
			var some credit.Page[credit.Reseller]
			q.Cursor = cursor
			some, err = l.Resellers(ctx, q)
			page, cursor = some, some.Next
		case credit.RecordQuery:
			var some credit.Page[credit.Record]
			q.Cursor = cursor
			some, err = l.Records(ctx, q)
			page, cursor = some, some.Next
		}
		if err != nil {
			return nil, err
		}
		line, err := json.Marshal(page)
		if err != nil {
			return nil, err
		}
		if text = append(append(text, line...), '\n'); cursor == "" {
			return text, nil
		}
	}
	return nil, errors.New("a listing has no end")
}
