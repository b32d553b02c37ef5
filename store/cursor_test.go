package store_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// listings is a ledger of 12 resellers, and one more ledger of the same store.
func listings(t testing.TB) (b, other *book) {
	b = newBook(t, newClock().options())
	for i := range 11 {
		_, err := b.AddReseller(t.Context(), credit.NewReseller{ExternalID: fmt.Sprint(3000 + i), Name: "Reseller",
			BoundAt: time.Date(2025, 1, 1+i/3, 0, 0, 0, 0, time.UTC)}) // some are bound at the same time
		require.NoError(t, err)
	}
	o := newClock().options()
	l, err := store.Open(t.Context(), b.store, credit.Distributor{ID: id(2), Name: "Other", Currency: "USD"}, o)
	require.NoError(t, err)
	other = &book{Ledger: l, t: t, store: b.store}
	other.grant("1")
	return b, other
}

// invalidCursor says that the cursor was turned down, and by its name.
func invalidCursor(t testing.TB, err error, msg string) {
	t.Helper()
	var invalid *credit.InvalidError
	require.ErrorAs(t, err, &invalid, msg)
	assert.Equal(t, "cursor", invalid.Field)
}

func TestPagesJoinToTheWholeListing(t *testing.T) {
	t.Parallel()
	b, _ := listings(t)
	for _, backwards := range []bool{false, true} {
		whole, err := b.Records(t.Context(), credit.RecordQuery{NewestFirst: backwards})
		require.NoError(t, err)
		assert.Empty(t, whole.Next)
		assert.Len(t, whole.Items, 13)
		var joined []credit.Record
		q := credit.RecordQuery{NewestFirst: backwards, Limit: 1}
		for {
			page, err := b.Records(t.Context(), q)
			require.NoError(t, err)
			require.Len(t, page.Items, min(q.Limit, 13-len(joined)))
			joined = append(joined, page.Items...)
			if q.Cursor = page.Next; q.Cursor == "" {
				break
			}
			q.Limit++ // the page size may change on the way
		}
		assert.Equal(t, whole.Items, joined)

		resellers, err := b.Resellers(t.Context(), credit.ResellerQuery{Order: orders[backwards]})
		require.NoError(t, err)
		assert.Empty(t, resellers.Next)
		var some []credit.Reseller
		r := credit.ResellerQuery{Order: orders[backwards], Limit: 4}
		for {
			page, err := b.Resellers(t.Context(), r)
			require.NoError(t, err)
			some = append(some, page.Items...)
			if r.Cursor = page.Next; r.Cursor == "" {
				break
			}
			r.Limit = max(1, r.Limit-1)
		}
		assert.Equal(t, resellers.Items, some)
		assert.Len(t, some, 12)
	}
}

// A page that is full and the last one has no next page.
func TestTheLastPageSaysSo(t *testing.T) {
	t.Parallel()
	b, _ := listings(t)
	page, err := b.Records(t.Context(), credit.RecordQuery{Limit: 13})
	require.NoError(t, err)
	assert.Len(t, page.Items, 13)
	assert.Empty(t, page.Next)
	resellers, err := b.Resellers(t.Context(), credit.ResellerQuery{Limit: 12})
	require.NoError(t, err)
	assert.Len(t, resellers.Items, 12)
	assert.Empty(t, resellers.Next)
}

func TestQueriesThatAreWrongAreInvalid(t *testing.T) {
	t.Parallel()
	b, _ := listings(t)
	_, err := b.Records(t.Context(), credit.RecordQuery{Limit: -1})
	require.ErrorIs(t, err, credit.ErrInvalid)
	_, err = b.Resellers(t.Context(), credit.ResellerQuery{Limit: credit.MaxPageSize + 1})
	require.ErrorIs(t, err, credit.ErrInvalid)
}

func TestACursorThatWasChangedIsTurnedDown(t *testing.T) {
	t.Parallel()
	b, _ := listings(t)
	records, err := b.Records(t.Context(), credit.RecordQuery{Limit: 3})
	require.NoError(t, err)
	type listing struct {
		cursor credit.Cursor
		read   func(credit.Cursor) error
	}
	all := []listing{{records.Next, func(c credit.Cursor) error {
		_, err := b.Records(t.Context(), credit.RecordQuery{Limit: 3, Cursor: c})
		return err
	}}}
	for _, q := range everyListing() {
		q.Limit = 3
		page, err := b.Resellers(t.Context(), q)
		require.NoError(t, err)
		all = append(all, listing{page.Next, func(c credit.Cursor) error {
			q := q
			q.Cursor = c
			_, err := b.Resellers(t.Context(), q)
			return err
		}})
	}
	for _, listing := range all {
		good := string(listing.cursor)
		require.NotEmpty(t, good)
		require.NoError(t, listing.read(listing.cursor))
		for i := range good {
			for _, c := range []byte("A_-0z+/=\n\r \x00\xff") {
				if c == good[i] {
					continue
				}
				changed := good[:i] + string([]byte{c}) + good[i+1:]
				invalidCursor(t, listing.read(credit.Cursor(changed)), "a cursor with another byte was taken")
			}
			if i > 0 {
				invalidCursor(t, listing.read(credit.Cursor(good[:i])), "a cursor that was cut was taken")
			}
			invalidCursor(t, listing.read(credit.Cursor(good[:i]+"\n"+good[i:])), "a cursor with a blank was taken")
		}
		invalidCursor(t, listing.read(listing.cursor+"A"), "a cursor that was lengthened was taken")
		// Base64 decoders pass over line ends, so the length of the text is not that of the content.
		for n := range good {
			invalidCursor(t, listing.read(credit.Cursor(good[:n]+strings.Repeat("\n", len(good)-n))), "a cursor of blanks was taken")
		}
	}
}

func TestACursorIsGoodForItsOwnQueryOnly(t *testing.T) {
	t.Parallel()
	b, other := listings(t)
	page, err := b.Records(t.Context(), credit.RecordQuery{Limit: 3})
	require.NoError(t, err)
	for name, q := range map[string]credit.RecordQuery{
		"of a reseller":  {ResellerID: b.nimbus},
		"of some kinds":  {Kinds: credit.AllocationKinds()},
		"after a record": {After: 1},
		"before one":     {Before: 9},
		"turned round":   {NewestFirst: true},
		"of an operator": {Operator: "o"},
		"of a key":       {Key: "k"},
		"of a reference": {Reference: "r"},
		"of a customer":  {Customer: "c"},
		"from a time":    {RecordedFrom: time.Unix(0, 0)},
		"until a time":   {RecordedUntil: time.Unix(4e9, 0)},
		"since":          {OccurredFrom: time.Unix(0, 0)},
		"earlier than":   {OccurredUntil: time.Unix(4e9, 0)},
	} {
		q.Cursor = page.Next
		_, err := b.Records(t.Context(), q)
		invalidCursor(t, err, "a listing "+name+" took a cursor of the whole log")
	}
	_, err = other.Records(t.Context(), credit.RecordQuery{Cursor: page.Next})
	invalidCursor(t, err, "a cursor of another ledger was taken")
	_, err = b.Resellers(t.Context(), credit.ResellerQuery{Cursor: page.Next})
	invalidCursor(t, err, "a cursor of records was taken for resellers")

	resellers, err := b.Resellers(t.Context(), credit.ResellerQuery{Limit: 3})
	require.NoError(t, err)
	for _, q := range append(everyListing()[1:], credit.ResellerQuery{Statuses: []credit.Status{credit.StatusActive}}, credit.ResellerQuery{Name: "r"}, credit.ResellerQuery{Mobile: "1"},
		credit.ResellerQuery{Remark: "r"}, credit.ResellerQuery{Email: "e"}, credit.ResellerQuery{ExternalID: "e"}, credit.ResellerQuery{MinAvailable: new(amt("0"))},
		credit.ResellerQuery{MaxAvailable: new(amt("0"))}, credit.ResellerQuery{Low: new(credit.Threshold{})}) {
		q.Cursor = resellers.Next
		_, err := b.Resellers(t.Context(), q)
		invalidCursor(t, err, "a cursor of another query was taken")
	}
	for _, one := range everyListing() {
		one.Limit = 3
		page, err := b.Resellers(t.Context(), one)
		require.NoError(t, err)
		for _, two := range everyListing() {
			two.Cursor = page.Next
			if _, err := b.Resellers(t.Context(), two); one.Order == two.Order && one.AsOf == two.AsOf {
				require.NoError(t, err)
			} else {
				invalidCursor(t, err, "a cursor of another order was taken")
			}
		}
	}
	_, err = other.Resellers(t.Context(), credit.ResellerQuery{Cursor: resellers.Next})
	invalidCursor(t, err, "a cursor of another ledger was taken")
	_, err = b.Records(t.Context(), credit.RecordQuery{Cursor: resellers.Next})
	invalidCursor(t, err, "a cursor of resellers was taken for records")

	// The same query in other words.
	_, err = b.Resellers(t.Context(), credit.ResellerQuery{Statuses: []credit.Status{credit.StatusFrozen, credit.StatusActive, credit.StatusActive}, Limit: 7, Total: true, Cursor: resellers.Next})
	require.NoError(t, err)
	low, err := b.Resellers(t.Context(), credit.ResellerQuery{MaxAvailable: new(amt("100.00")), Low: new(credit.DefaultThresholds()[0]), Limit: 1})
	require.NoError(t, err)
	var same credit.Threshold
	require.NoError(t, same.UnmarshalText([]byte("25.00%")))
	_, err = b.Resellers(t.Context(), credit.ResellerQuery{MaxAvailable: new(amt("1e2")), Low: &same, Limit: 1, Cursor: low.Next})
	require.NoError(t, err)
}

// everyListing is each order, and the past; the first is the default.
func everyListing() []credit.ResellerQuery {
	var all []credit.ResellerQuery
	for _, o := range credit.Orders() {
		all = append(all, credit.ResellerQuery{Order: o})
	}
	return append(all, credit.ResellerQuery{Order: credit.OrderNewest, AsOf: credit.AsOf{Sequence: 13}}, credit.ResellerQuery{Order: credit.OrderOldest, AsOf: credit.AsOf{Sequence: 13}},
		credit.ResellerQuery{Order: credit.OrderOldest, AsOf: credit.AsOf{Time: newClock().now}})
}

// The longest name, and the greatest and the least figures, fit into a cursor.
func TestACursorHoldsThePlaceOfAnyReseller(t *testing.T) {
	t.Parallel()
	b := newBook(t, newClock().options())
	b.grant("999999998999.999999")
	for i, name := range []string{strings.Repeat("x", credit.MaxName), strings.Repeat("𝄞", credit.MaxName/4), strings.Repeat("Ä", credit.MaxName/2)} {
		r, err := b.AddReseller(t.Context(), credit.NewReseller{ExternalID: name[:8], Name: name, BoundAt: []time.Time{time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC), {}}[i]})
		require.NoError(t, err)
		switch i {
		case 0:
			_, err = b.Allocate(t.Context(), credit.Allocation{ResellerID: r.ResellerID, Amount: amt("999999999999.999999")})
			require.NoError(t, err)
			_, err = b.CorrectUsage(t.Context(), credit.Correction{ResellerID: r.ResellerID, Amount: amt("999999999999.999999")})
		case 1:
			_, err = b.RecordUsage(t.Context(), credit.Usage{ResellerID: r.ResellerID, Amount: amt("999999999999.999999")})
		}
		require.NoError(t, err)
	}
	for _, order := range credit.Orders() {
		var names []string
		for r, err := range credit.AllResellers(t.Context(), b, credit.ResellerQuery{Order: order, Limit: 1}) {
			require.NoError(t, err)
			names = append(names, r.Name)
		}
		assert.Len(t, names, 4, order)
	}
}

// forge makes a cursor as somebody would who knows how: its digest has no secret.
func forge(ledger uuid.UUID, query any, position []byte) credit.Cursor {
	text, err := json.Marshal(query)
	if err != nil {
		panic(err)
	}
	length := binary.BigEndian.AppendUint32(nil, uint32(len(position)))
	digest := sha256.Sum256([]byte(string(ledger[:]) + string(length) + string(position) + string(text)))
	return credit.Cursor(base64.RawURLEncoding.EncodeToString([]byte("\x02" + string(digest[:16]) + string(position))))
}

var orders = map[bool]credit.Order{false: credit.OrderNewest, true: credit.OrderOldest}

func TestACursorThatWasForgedShowsNothingThatItsQueryDoesNot(t *testing.T) {
	t.Parallel()
	b, _ := listings(t)
	for _, q := range []credit.RecordQuery{{}, {NewestFirst: true}, {After: 3, Before: 8}, {After: 3, Before: 8, NewestFirst: true}} {
		for _, sequence := range []int64{math.MinInt64, -5, -1, 0, 1, 3, 4, 7, 8, 100, math.MaxInt64} {
			c := forge(acme.ID, q, binary.BigEndian.AppendUint64(nil, uint64(sequence)))
			asked := q
			asked.Cursor = c
			page, err := b.Records(t.Context(), asked)
			if sequence <= q.After || q.Before > 0 && sequence >= q.Before {
				invalidCursor(t, err, "a place that no page of the query ends at was taken")
				continue
			}
			require.NoError(t, err)
			for _, r := range page.Items {
				assert.Greater(t, r.Sequence, q.After, "a forged cursor reads what the query excludes")
				assert.True(t, q.Before == 0 || r.Sequence < q.Before, "a forged cursor reads what the query excludes")
			}
		}
	}
	page, err := b.Records(t.Context(), credit.RecordQuery{Limit: 2})
	require.NoError(t, err)
	assert.Equal(t, forge(acme.ID, credit.RecordQuery{}, binary.BigEndian.AppendUint64(nil, 2)), page.Next, "this test forges cursors of another form")

	// Places that no page of the query ends at are turned down, and all others lead
	// to resellers that the query selects.
	for _, q := range everyListing() {
		normal, err := q.Normalize()
		require.NoError(t, err)
		normal.Limit = 0
		named := q.Order == credit.OrderName || q.Order == credit.OrderNameDown
		for _, asOf := range []int64{math.MinInt64, -1, 0, 1, 12, 13, 14, math.MaxInt64} {
			for _, last := range []uuid.UUID{uuid.Nil, id(1010), uuid.Max} {
				fixed := append(binary.BigEndian.AppendUint64(nil, uint64(asOf)), last[:]...)
				keys := map[string]bool{"": named, "\xff": false, "a\x00b": false, "reselle": named, "1234567": named, "123456789": named, strings.Repeat("\U0010FFFF", credit.MaxName/4): named}
				for _, bound := range []int64{math.MinInt64, -1, 0, 1, math.MaxInt64} {
					key := string(binary.BigEndian.AppendUint64(nil, uint64(bound)))
					keys[key] = !named // as a name it has a NUL or is no UTF-8
				}
				for key, good := range keys {
					good = good && last != uuid.Nil && (q.AsOf.IsZero() && asOf == 0 || q.AsOf.Sequence > 0 && asOf == q.AsOf.Sequence || !q.AsOf.Time.IsZero() && asOf > 0)
					asked := q
					asked.Cursor = forge(acme.ID, normal, append(slices.Clip(fixed), key...))
					page, err := b.Resellers(t.Context(), asked)
					if !good {
						invalidCursor(t, err, "a place that no page ends at was taken")
						continue
					}
					require.NoError(t, err, "%s, key %q", q.Order, key)
					for _, r := range page.Items {
						assert.NotEqual(t, credit.StatusClosed, r.Status)
					}
				}
			}
		}
		invalidCursor(t, func() error {
			q.Cursor = forge(acme.ID, normal, make([]byte, 23))
			_, err := b.Resellers(t.Context(), q)
			return err
		}(), "a place that is too short was taken")
		page, err := b.Resellers(t.Context(), credit.ResellerQuery{Order: q.Order, AsOf: q.AsOf, Limit: 5})
		require.NoError(t, err)
		last := page.Items[4]
		asOf := int64(0)
		if !q.AsOf.IsZero() {
			asOf = 13
		}
		place := append(binary.BigEndian.AppendUint64(nil, uint64(asOf)), last.ID[:]...)
		switch q.Order {
		case credit.OrderName, credit.OrderNameDown:
			place = append(place, credit.Fold(last.Name)...)
		case credit.OrderAvailable, credit.OrderAvailableDown:
			place = binary.BigEndian.AppendUint64(place, uint64(last.Available().Shift(6).IntPart()))
		default:
			place = binary.BigEndian.AppendUint64(place, uint64(last.BoundAt.UnixMicro()))
		}
		assert.Equal(t, forge(acme.ID, normal, place), page.Next, "this test forges cursors of another form")
	}
}

func TestABoundOfACursorThatWasForgedShowsNothingThatItsQueryDoesNot(t *testing.T) {
	t.Parallel()
	b, noon := history(t, 1, 2, 3, 4, 5, 6, 7, 8)
	from, until := noon.Add(3*time.Second), noon.Add(6*time.Second) // 5 to 7
	for _, q := range []credit.RecordQuery{{RecordedFrom: from, RecordedUntil: until}, {RecordedFrom: from}, {RecordedUntil: until}, {After: 3, Before: 9, RecordedFrom: from, RecordedUntil: until}, {}} {
		for _, q.NewestFirst = range []bool{false, true} {
			taken := 0
			for _, sequence := range []int64{math.MinInt64, 0, 1, 4, 5, 6, 7, 8, 10, math.MaxInt64} {
				for _, bound := range []int64{math.MinInt64, -1, 0, 1, 3, 4, 5, 6, 7, 8, 9, 10, math.MaxInt64} {
					place := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(sequence)), uint64(bound))
					asked := q
					asked.Cursor = forge(acme.ID, q, place)
					page, err := b.Records(t.Context(), asked)
					if err != nil {
						invalidCursor(t, err, "a forged bound is an error of another sort")
						continue
					}
					taken++
					assert.NotEqual(t, sequence, bound, "a bound was taken that leaves no room for a next page")
					for _, r := range page.Items {
						assert.True(t, q.Matches(r), "after %d to %d a forged cursor reads record %d, which the query excludes", sequence, bound, r.Sequence)
					}
				}
			}
			assert.Equal(t, !q.NewestFirst && !q.RecordedUntil.IsZero() || q.NewestFirst && !q.RecordedFrom.IsZero(), taken > 0, "a bound is taken for a time that the query has")
		}
	}
	q := credit.RecordQuery{RecordedFrom: from, RecordedUntil: until, Limit: 2}
	page, err := b.Records(t.Context(), q)
	require.NoError(t, err)
	q.Limit = 0
	assert.Equal(t, forge(acme.ID, q, []byte("\x00\x00\x00\x00\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00\x08")), page.Next, "this test forges cursors of another form")
}

func FuzzCursor(f *testing.F) {
	b, _ := listings(f)
	records, err := b.Records(f.Context(), credit.RecordQuery{Limit: 3})
	require.NoError(f, err)
	good := map[credit.Cursor]bool{records.Next: true}
	f.Add(string(records.Next), byte(0))
	for i, q := range everyListing() {
		q.Limit = 3
		page, err := b.Resellers(f.Context(), q)
		require.NoError(f, err)
		good[page.Next] = true
		f.Add(string(page.Next), byte(i))
		normal, err := q.Normalize()
		require.NoError(f, err)
		normal.Limit = 0
		for _, bound := range []int64{math.MinInt64, 0, math.MaxInt64} {
			last := id(1010)
			place := append(binary.BigEndian.AppendUint64(nil, uint64(q.AsOf.Sequence)), last[:]...)
			f.Add(string(forge(acme.ID, normal, binary.BigEndian.AppendUint64(place, uint64(bound)))), byte(i))
		}
	}
	f.Add("", byte(0))
	f.Add(strings.Repeat("\n", len(records.Next)), byte(1))
	f.Add(strings.Repeat("\r\n", len(records.Next)/2), byte(2))
	for _, sequence := range []uint64{0, 1, 1 << 62, 1 << 63, math.MaxUint64} {
		for i, backwards := range []bool{false, true} {
			f.Add(string(forge(acme.ID, credit.RecordQuery{NewestFirst: backwards}, binary.BigEndian.AppendUint64(nil, sequence))), byte(i))
		}
	}
	f.Fuzz(func(t *testing.T, cursor string, which byte) {
		c := credit.Cursor(cursor)
		own := func(query any) {
			if c == "" || good[c] {
				return
			}
			// Whoever knows the digest may make one. It must be in the one form.
			raw, err := base64.RawURLEncoding.DecodeString(cursor)
			require.NoError(t, err)
			require.Equal(t, forge(acme.ID, query, raw[17:]), c, "a cursor that no query gave was taken")
		}
		q := credit.RecordQuery{NewestFirst: which%2 == 1}
		asked := q
		asked.Cursor = c
		if _, err := b.Records(t.Context(), asked); err != nil {
			invalidCursor(t, err, "not an invalid cursor")
		} else {
			own(q)
		}
		r := everyListing()[int(which)%len(everyListing())]
		normal, err := r.Normalize()
		require.NoError(t, err)
		normal.Limit = 0
		r.Cursor = c
		if _, err := b.Resellers(t.Context(), r); err != nil {
			invalidCursor(t, err, "not an invalid cursor")
		} else {
			own(normal)
		}
	})
}
