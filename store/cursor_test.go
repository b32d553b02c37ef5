package store_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
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
	resellers, err := b.Resellers(t.Context(), credit.ResellerQuery{Limit: 3})
	require.NoError(t, err)
	for _, listing := range []struct {
		cursor credit.Cursor
		read   func(credit.Cursor) error
	}{
		{records.Next, func(c credit.Cursor) error {
			_, err := b.Records(t.Context(), credit.RecordQuery{Limit: 3, Cursor: c})
			return err
		}},
		{resellers.Next, func(c credit.Cursor) error {
			_, err := b.Resellers(t.Context(), credit.ResellerQuery{Limit: 3, Cursor: c})
			return err
		}},
	} {
		good := string(listing.cursor)
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
	for _, q := range []credit.ResellerQuery{{Order: credit.OrderOldest}, {Statuses: []credit.Status{credit.StatusActive}}} {
		q.Cursor = resellers.Next
		_, err := b.Resellers(t.Context(), q)
		invalidCursor(t, err, "a cursor of another query was taken")
	}
	_, err = other.Resellers(t.Context(), credit.ResellerQuery{Cursor: resellers.Next})
	invalidCursor(t, err, "a cursor of another ledger was taken")
	_, err = b.Records(t.Context(), credit.RecordQuery{Cursor: resellers.Next})
	invalidCursor(t, err, "a cursor of resellers was taken for records")

	// The same query in other words.
	_, err = b.Resellers(t.Context(), credit.ResellerQuery{Statuses: []credit.Status{credit.StatusFrozen, credit.StatusActive, credit.StatusActive}, Limit: 7, Cursor: resellers.Next})
	require.NoError(t, err)
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
			if err != nil {
				invalidCursor(t, err, "a forged cursor is an error of another sort")
				continue
			}
			for _, r := range page.Items {
				assert.Greater(t, r.Sequence, q.After, "a forged cursor reads what the query excludes")
				assert.True(t, q.Before == 0 || r.Sequence < q.Before, "a forged cursor reads what the query excludes")
			}
		}
	}
	page, err := b.Records(t.Context(), credit.RecordQuery{Limit: 2})
	require.NoError(t, err)
	assert.Equal(t, forge(acme.ID, credit.RecordQuery{}, binary.BigEndian.AppendUint64(nil, 2)), page.Next, "this test forges cursors of another form")

	normal, err := credit.ResellerQuery{}.Normalize()
	require.NoError(t, err)
	normal.Limit = 0
	for _, bound := range []int64{math.MinInt64, -1, 0, 1, math.MaxInt64} {
		for _, last := range []uuid.UUID{uuid.Nil, uuid.Max} {
			position := binary.BigEndian.AppendUint64(append(make([]byte, 8, 32), last[:]...), uint64(bound))
			_, err := b.Resellers(t.Context(), credit.ResellerQuery{Cursor: forge(acme.ID, normal, position)})
			if err != nil {
				invalidCursor(t, err, "a forged cursor is an error of another sort")
			}
		}
	}
}

func FuzzCursor(f *testing.F) {
	b, _ := listings(f)
	records, err := b.Records(f.Context(), credit.RecordQuery{Limit: 3})
	require.NoError(f, err)
	resellers, err := b.Resellers(f.Context(), credit.ResellerQuery{Limit: 3})
	require.NoError(f, err)
	good := map[credit.Cursor]bool{records.Next: true, resellers.Next: true}
	f.Add(string(records.Next), false)
	f.Add(string(resellers.Next), true)
	f.Add("", false)
	f.Add(strings.Repeat("\n", len(records.Next)), true)
	f.Add(strings.Repeat("\r\n", len(resellers.Next)/2), false)
	f.Add(string(forge(acme.ID, credit.RecordQuery{}, binary.BigEndian.AppendUint64(nil, math.MaxUint64))), true)
	f.Fuzz(func(t *testing.T, cursor string, backwards bool) {
		c := credit.Cursor(cursor)
		_, err := b.Records(t.Context(), credit.RecordQuery{Cursor: c, NewestFirst: backwards})
		if err != nil {
			invalidCursor(t, err, "not an invalid cursor")
		} else if !backwards && c != "" && !good[c] {
			// Whoever knows the digest may make one. It must be in the one form.
			raw, err := base64.RawURLEncoding.DecodeString(cursor)
			require.NoError(t, err)
			require.Equal(t, forge(acme.ID, credit.RecordQuery{}, raw[17:]), c, "a cursor that no query gave was taken")
		}
		_, err = b.Resellers(t.Context(), credit.ResellerQuery{Cursor: c, Order: orders[backwards]})
		if err != nil {
			invalidCursor(t, err, "not an invalid cursor")
		}
	})
}
