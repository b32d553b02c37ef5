package store_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
)

// history is a ledger whose records were taken at these seconds after noon: 1 and
// 2 (which newBook writes) at 0, and then one for each.
func history(t testing.TB, seconds ...int) (*book, time.Time) {
	t.Helper()
	c := newClock()
	noon := c.now
	b := newBook(t, c.options())
	for _, s := range seconds {
		c.now = noon.Add(time.Duration(s) * time.Second)
		b.allocate("1")
	}
	return b, noon
}

func TestTheHeadAsOfATimeIsAfterEveryRecordUpToIt(t *testing.T) {
	t.Parallel()
	b, noon := history(t, 1, 5, 5, 5, 9)
	log := b.log()
	for _, tt := range []struct {
		at   time.Time
		want int64
	}{
		{time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC), 0},
		{noon.Add(-time.Microsecond), 0},
		{noon.Add(-1), 0},
		{noon, 2},
		{noon.Add(time.Second - 1), 2},
		{noon.Add(time.Second), 3},
		{noon.Add(5*time.Second - time.Microsecond), 3},
		{noon.Add(5 * time.Second), 6},
		{noon.Add(5*time.Second + 999), 6},
		{noon.Add(5 * time.Second).In(time.FixedZone("east", 5*3600)), 6},
		{noon.Add(9 * time.Second), 7},
		{noon.Add(time.Hour), 7},
		{time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC), 7},
	} {
		head, err := b.HeadAsOf(t.Context(), credit.AsOf{Time: tt.at})
		require.NoError(t, err)
		want := credit.NewState(acme).Head()
		if tt.want > 0 {
			want = log[tt.want-1].Head()
		}
		assert.Equal(t, want, head, "as of %s", tt.at)
	}
	for sequence := range int64(7) {
		head, err := b.HeadAsOf(t.Context(), credit.AsOf{Sequence: sequence + 1})
		require.NoError(t, err)
		assert.Equal(t, log[sequence].Head(), head, "as of a sequence")
	}
	now, err := b.HeadAsOf(t.Context(), credit.AsOf{})
	require.NoError(t, err)
	assert.Equal(t, log[6].Head(), now, "the zero value is now")
}

func TestAnEmptyLedgerHasAPastThatIsEmpty(t *testing.T) {
	t.Parallel()
	l, err := store.Open(t.Context(), memstore.New(), acme, newClock().options())
	require.NoError(t, err)
	for _, a := range []credit.AsOf{{}, {Time: newClock().now}} {
		head, err := l.HeadAsOf(t.Context(), a)
		require.NoError(t, err)
		assert.Equal(t, credit.NewState(acme).Head(), head)
		page, err := l.Resellers(t.Context(), credit.ResellerQuery{AsOf: a})
		require.NoError(t, err)
		assert.Empty(t, page.Items)
	}
	_, err = l.HeadAsOf(t.Context(), credit.AsOf{Sequence: 1})
	require.EqualError(t, err, "credit: as of: is sequence 1, the log ends at 0")
	_, err = l.ResellerAsOf(t.Context(), id(9), credit.AsOf{Time: newClock().now})
	require.ErrorIs(t, err, credit.ErrNotFound)
	records, err := l.Records(t.Context(), credit.RecordQuery{RecordedFrom: newClock().now.Add(-time.Hour), RecordedUntil: newClock().now})
	require.NoError(t, err)
	assert.Empty(t, records.Items)
}

func TestAPointOfThePastThatIsWrongIsNamed(t *testing.T) {
	t.Parallel()
	b, noon := history(t)
	for says, a := range map[string]credit.AsOf{
		"credit: as of: is sequence 3, the log ends at 2":                   {Sequence: 3},
		"credit: as of: is sequence 9223372036854775807, the log ends at 2": {Sequence: math.MaxInt64},
		"credit: as of: is sequence -1, must be positive":                   {Sequence: -1},
		"credit: as of: has a sequence and a time; give one of them":        {Sequence: 1, Time: noon},
		"credit: as of: must be in the years 1 to 9999":                     {Time: noon.AddDate(8000, 0, 0)},
	} {
		_, err := b.HeadAsOf(t.Context(), a)
		require.EqualError(t, err, says)
		_, err = b.ResellerAsOf(t.Context(), b.nimbus, a)
		require.EqualError(t, err, says)
		_, err = b.Resellers(t.Context(), credit.ResellerQuery{AsOf: a})
		require.EqualError(t, err, says)
		require.ErrorIs(t, err, credit.ErrInvalid)
	}
}

// A figure is that of the newest record up to then, a status that of the newest
// that changed it, and nobody is there before being added.
func TestAResellerAsOfASequenceIsAsItWas(t *testing.T) {
	t.Parallel()
	b := newBook(t, newClock().options())
	ctx, n := t.Context(), b.nimbus
	do := func(_ credit.Receipt, err error) { t.Helper(); require.NoError(t, err) }
	do(b.Allocate(ctx, credit.Allocation{ResellerID: n, Amount: amt("100")}))                               // 3
	do(b.FreezeReseller(ctx, credit.Freeze{ResellerID: n}))                                                 // 4
	do(b.RecordUsage(ctx, credit.Usage{ResellerID: n, Amount: amt("130")}))                                 // 5
	b.grant("1")                                                                                            // 6
	do(b.UnfreezeReseller(ctx, credit.Unfreeze{ResellerID: n}))                                             // 7
	do(b.UpdateReseller(ctx, credit.ProfileUpdate{ResellerID: n, Name: new("New"), Email: new("new@b.c")})) // 8
	later := b.add("2002")                                                                                  // 9
	do(b.CloseReseller(ctx, credit.Close{ResellerID: n}))                                                   // 10
	for i, want := range []string{"", "active 0", "active 100", "frozen 100", "frozen -30", "frozen -30", "active -30", "active -30", "active -30", "closed -30"} {
		a := credit.AsOf{Sequence: int64(i) + 1}
		r, err := b.ResellerAsOf(ctx, n, a)
		if want == "" {
			require.ErrorIs(t, err, credit.ErrNotFound)
			require.ErrorContains(t, err, n.String()+" had not been added at sequence 1")
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, want, fmt.Sprintf("%s %s", r.Status, r.Available()), "as of %d", a.Sequence)
		assert.Equal(t, "New", r.Name, "the profile is as it is now")
		_, err = b.ResellerAsOf(ctx, later, a)
		assert.Equal(t, i+1 >= 9, err == nil, "it was added as record 9")

		page, err := b.Resellers(ctx, credit.ResellerQuery{AsOf: a, Statuses: []credit.Status{r.Status}, ExternalID: "2001"})
		require.NoError(t, err)
		assert.Equal(t, []credit.Reseller{r}, page.Items, "a listing as of %d has the same", a.Sequence)
	}
	now, err := b.ResellerAsOf(ctx, n, credit.AsOf{})
	require.NoError(t, err)
	assert.Equal(t, credit.StatusClosed, now.Status, "the zero value is now")
	_, err = b.ResellerAsOf(ctx, id(99), credit.AsOf{Sequence: 1})
	require.ErrorIs(t, err, credit.ErrNotFound)
}

// The page after one that was read as of a time is of the same moment, also if
// more has been recorded at that time since.
func TestAListingAsOfATimeStaysAtItsMoment(t *testing.T) {
	t.Parallel()
	c := newClock()
	b := newBook(t, c.options())
	for i := range 5 {
		b.add(fmt.Sprint(3000 + i))
	}
	q := credit.ResellerQuery{AsOf: credit.AsOf{Time: c.now.Add(time.Hour)}, Order: credit.OrderOldest, Limit: 4}
	page, err := b.Resellers(t.Context(), q)
	require.NoError(t, err)
	require.Len(t, page.Items, 4)
	for _, r := range b.log() {
		if r.Kind == credit.KindAdd {
			_, err := b.RecordUsage(t.Context(), credit.Usage{ResellerID: r.ResellerID, Amount: amt("7")})
			require.NoError(t, err)
		}
	}
	b.add("4000")
	q.Cursor = page.Next
	page, err = b.Resellers(t.Context(), q)
	require.NoError(t, err)
	require.Len(t, page.Items, 2, "six resellers were there")
	assert.Empty(t, page.Next)
	for _, r := range page.Items {
		assert.True(t, r.Used.IsZero(), "a page shows what was recorded after the page before")
	}
}

// Of thousands of records, a point in time is found by reading a few.
func TestATimeIsFoundByReadingFewRecords(t *testing.T) {
	t.Parallel()
	c := newClock()
	noon := c.now
	b := newBook(t, c.options())
	const n = 4096
	for range 64 {
		commands := make([]credit.Command, n/64)
		for i := range commands {
			commands[i] = credit.Grant{Amount: amt("1")}
		}
		c.now = c.now.Add(time.Second)
		_, err := b.Bulk(t.Context(), commands, credit.BulkOptions{})
		require.NoError(t, err)
	}
	for s := -1; s <= 65; s++ {
		b.store.looks.Store(0)
		head, err := b.HeadAsOf(t.Context(), credit.AsOf{Time: noon.Add(time.Duration(s) * time.Second)})
		require.NoError(t, err)
		assert.EqualValues(t, max(0, min(2+s*n/64, 2+n))*min(1, s+1), head.Sequence, "as of %d s", s)
		assert.LessOrEqual(t, b.store.looks.Load(), int64(14), "as of %d s: one look for each bit of the sequence, and one for the head", s)
		b.store.looks.Store(0)
		_, err = b.Records(t.Context(), credit.RecordQuery{RecordedFrom: noon.Add(time.Duration(s) * time.Second), RecordedUntil: noon.Add(time.Duration(s+1) * time.Second), Limit: 1})
		require.NoError(t, err)
		assert.LessOrEqual(t, b.store.looks.Load(), int64(27), "two bounds and a page")
	}
	b.store.looks.Store(0)
	_, err := b.Records(t.Context(), credit.RecordQuery{})
	require.NoError(t, err)
	assert.EqualValues(t, 1, b.store.looks.Load(), "without a range of time a page is one look")
}

func TestARangeOfRecordedAtIsReadPageByPage(t *testing.T) {
	t.Parallel()
	b, noon := history(t, 1, 2, 2, 2, 3, 5, 5, 8)
	us := time.Microsecond
	sec := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	for _, tt := range []struct {
		from, until time.Time
		q           credit.RecordQuery
		want        []int64
	}{
		{time.Time{}, sec(0), credit.RecordQuery{}, nil},
		{time.Time{}, sec(0).Add(us), credit.RecordQuery{}, []int64{1, 2}},
		{sec(0), sec(1), credit.RecordQuery{}, []int64{1, 2}},
		{sec(1), sec(2), credit.RecordQuery{}, []int64{3}},
		{sec(2), sec(3), credit.RecordQuery{}, []int64{4, 5, 6}},
		{sec(2).Add(us), sec(3).Add(us), credit.RecordQuery{}, []int64{7}},
		{sec(2), sec(2).Add(us), credit.RecordQuery{}, []int64{4, 5, 6}},
		{sec(4), sec(5), credit.RecordQuery{}, nil},
		{sec(5), time.Time{}, credit.RecordQuery{}, []int64{8, 9, 10}},
		{sec(8), time.Time{}, credit.RecordQuery{}, []int64{10}},
		{sec(9), time.Time{}, credit.RecordQuery{}, nil},
		{sec(9), sec(10), credit.RecordQuery{}, nil},
		{sec(2), sec(9), credit.RecordQuery{After: 5, Before: 9}, []int64{6, 7, 8}},
		{sec(1), sec(2), credit.RecordQuery{After: 5}, nil},
		{sec(5), sec(9), credit.RecordQuery{Before: 4}, nil},
		{sec(2), sec(3), credit.RecordQuery{Before: 6}, []int64{4, 5}}, // the range ends where the other one has its last
		{sec(0), sec(9), credit.RecordQuery{Kinds: []credit.Kind{credit.KindAdd}}, []int64{2}},
		{sec(1).Add(1), sec(3), credit.RecordQuery{}, []int64{4, 5, 6}},
	} {
		for _, backwards := range []bool{false, true} {
			for limit := 1; limit <= 4; limit++ {
				q := tt.q
				q.RecordedFrom, q.RecordedUntil, q.NewestFirst, q.Limit = tt.from, tt.until, backwards, limit
				var got []int64
				for r, err := range credit.AllRecords(t.Context(), b, q) {
					require.NoError(t, err)
					got = append(got, r.Sequence)
				}
				if backwards {
					for i, j := 0, len(got)-1; i < j; i, j = i+1, j-1 {
						got[i], got[j] = got[j], got[i]
					}
				}
				assert.Equal(t, tt.want, got, "from %s until %s, %+v, pages of %d", tt.from, tt.until, tt.q, limit)
			}
		}
	}
}

// The bounds of a range of time are found for the first page; the cursor knows them.
func TestARangeOfRecordedAtIsLookedUpOnceForAllItsPages(t *testing.T) {
	t.Parallel()
	seconds := make([]int, 60)
	for i := range seconds {
		seconds[i] = i + 1
	}
	b, noon := history(t, seconds...)
	b = b.forgetful() // so that every head is loaded
	for name, q := range map[string]credit.RecordQuery{
		"both bounds": {RecordedFrom: noon.Add(10 * time.Second), RecordedUntil: noon.Add(50 * time.Second)},
		"from":        {RecordedFrom: noon.Add(10 * time.Second)},
		"until":       {RecordedUntil: noon.Add(50 * time.Second)},
		"from before": {RecordedFrom: noon.Add(-time.Hour)},
	} {
		for _, q.NewestFirst = range []bool{false, true} {
			q.Limit, q.Cursor = 9, ""
			page, err := b.Records(t.Context(), q)
			require.NoError(t, err)
			for pages := 1; page.Next != ""; pages++ {
				require.Less(t, pages, 9)
				b.store.looks.Store(0)
				b.store.loads.Store(0)
				q.Cursor = page.Next
				page, err = b.Records(t.Context(), q)
				require.NoError(t, err)
				assert.EqualValues(t, 1, b.store.looks.Load(), "%s, newest first %t: a later page is one look", name, q.NewestFirst)
				assert.Zero(t, b.store.loads.Load(), "%s, newest first %t: a later page needs no head", name, q.NewestFirst)
			}
		}
	}
}

// As long as the log has not come to the end of a range, the range grows with it.
func TestARangeOfRecordedAtThatIsNotOverGrowsFromPageToPage(t *testing.T) {
	t.Parallel()
	c := newClock()
	b := newBook(t, c.options())
	q := credit.RecordQuery{RecordedUntil: c.now.Add(time.Second), Limit: 1}
	page, err := b.Records(t.Context(), q)
	require.NoError(t, err)
	b.grant("1") // 3, in the range
	var got []int64
	q.Cursor = page.Next
	for r, err := range credit.AllRecords(t.Context(), b, q) {
		require.NoError(t, err)
		if got = append(got, r.Sequence); len(got) == 1 {
			c.now = c.now.Add(time.Second)
			b.grant("1") // 4, after the range
		}
	}
	assert.Equal(t, []int64{2, 3}, got)
}

func TestAListingAsOfTheBeginningIsEmptyAtOnce(t *testing.T) {
	t.Parallel()
	b, noon := history(t)
	b.store.resellers = func(credit.ResellerQuery, func() ([]credit.Reseller, error)) ([]credit.Reseller, error) {
		return nil, errors.New("a store was asked who was there before the first record")
	}
	page, err := b.Resellers(t.Context(), credit.ResellerQuery{AsOf: credit.AsOf{Time: noon.Add(-time.Hour)}})
	require.NoError(t, err)
	assert.Equal(t, credit.Page[credit.Reseller]{Items: []credit.Reseller{}}, page)
}

// What is written while a page is read, and recorded before the range begins, is
// no part of it.
func TestARangeOfRecordedAtThatIsToComeHasNothingOfThePresent(t *testing.T) {
	t.Parallel()
	b, noon := history(t)
	writer := b.another()
	b.store.load = func(_ context.Context, asked credit.ReadSet, next func() (credit.Snapshot, error)) (credit.Snapshot, error) {
		found, err := next()
		if len(asked.Resellers) == 0 {
			_, granted := writer.Grant(t.Context(), credit.Grant{Amount: amt("1")}) // after the head was read
			require.NoError(t, granted)
		}
		return found, err
	}
	for _, q := range []credit.RecordQuery{{RecordedFrom: noon.AddDate(5000, 0, 0)}, {RecordedFrom: noon.AddDate(5000, 0, 0), NewestFirst: true, Limit: 1}, {RecordedUntil: noon}} {
		page, err := b.Records(t.Context(), q)
		require.NoError(t, err)
		assert.Empty(t, page.Items, "a record of another time")
	}
	assert.Len(t, b.log(), 5, "the test writes while it reads")
}

func TestATotalIsCountedOnlyIfAskedFor(t *testing.T) {
	t.Parallel()
	b, _ := listings(t)
	page, err := b.Resellers(t.Context(), credit.ResellerQuery{Limit: 5})
	require.NoError(t, err)
	assert.Nil(t, page.Total)
	assert.Zero(t, b.store.counts.Load(), "a total that nobody asked for was counted")
	page, err = b.Resellers(t.Context(), credit.ResellerQuery{Limit: 5, Total: true, Cursor: page.Next})
	require.NoError(t, err, "a total may be asked for on the way")
	assert.Equal(t, 12, *page.Total, "the total is of all pages")
	page, err = b.Resellers(t.Context(), credit.ResellerQuery{Name: "RESELLER 2001", Total: true})
	require.NoError(t, err)
	assert.Equal(t, 1, *page.Total)
	page, err = b.Resellers(t.Context(), credit.ResellerQuery{Name: "nobody", Total: true})
	require.NoError(t, err)
	require.NotNil(t, page.Total, "0 is a total")
	assert.Zero(t, *page.Total)
}

// An error of the store while listing comes alone, and what failed for now is
// tried again.
func TestAListingThatFailsReturnsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, noon := history(t, 1, 2, 3)
		var failure error
		fail := func() error { err := failure; failure = nil; return err }
		once := errors.New("too many connections")
		b.store.count = func(next func() (int, error)) (int, error) {
			if err := fail(); err != nil {
				return 0, err
			}
			return next()
		}
		b.store.latest = func(next func() ([]credit.Record, error)) ([]credit.Record, error) {
			if err := fail(); err != nil {
				return nil, err
			}
			return next()
		}
		b.store.records = func(_ context.Context, _ credit.RecordQuery, next func() ([]credit.Record, error)) ([]credit.Record, error) {
			if err := fail(); err != nil {
				return nil, err
			}
			return next()
		}
		for name, call := range map[string]func() (any, any, error){
			"a total": func() (any, any, error) {
				page, err := b.Resellers(t.Context(), credit.ResellerQuery{Total: true})
				return page, credit.Page[credit.Reseller]{}, err
			},
			"a listing as of a time": func() (any, any, error) {
				page, err := b.Resellers(t.Context(), credit.ResellerQuery{AsOf: credit.AsOf{Time: noon}})
				return page, credit.Page[credit.Reseller]{}, err
			},
			"a listing as of a sequence": func() (any, any, error) {
				page, err := b.Resellers(t.Context(), credit.ResellerQuery{AsOf: credit.AsOf{Sequence: 5}})
				return page, credit.Page[credit.Reseller]{}, err
			},
			"a reseller as of a sequence": func() (any, any, error) {
				r, err := b.ResellerAsOf(t.Context(), b.nimbus, credit.AsOf{Sequence: 5})
				return r, credit.Reseller{}, err
			},
			"a head as of a time": func() (any, any, error) {
				h, err := b.HeadAsOf(t.Context(), credit.AsOf{Time: noon})
				return h, credit.Head{}, err
			},
			"a head as of a sequence": func() (any, any, error) {
				h, err := b.HeadAsOf(t.Context(), credit.AsOf{Sequence: 2})
				return h, credit.Head{}, err
			},
			"records from a time": func() (any, any, error) {
				page, err := b.Records(t.Context(), credit.RecordQuery{RecordedFrom: noon.Add(time.Second)})
				return page, credit.Page[credit.Record]{}, err
			},
			"records until a time": func() (any, any, error) {
				page, err := b.Records(t.Context(), credit.RecordQuery{RecordedUntil: noon.Add(time.Second)})
				return page, credit.Page[credit.Record]{}, err
			},
		} {
			failure = once
			got, nothing, err := call()
			require.ErrorIs(t, err, once, name)
			unmatched(t, err)
			assert.Equal(t, nothing, got, name)
			require.NoError(t, failure, "the test fails at something")
			failure = store.Retry(errTemporary)
			_, _, err = call()
			require.NoError(t, err, name)
			assert.NoError(t, failure)
		}
	})
}

// A log with a hole is not passed over in silence.
func TestARecordThatIsMissingIsNamed(t *testing.T) {
	t.Parallel()
	b, _ := history(t, 1, 2, 3)
	b.store.records = func(context.Context, credit.RecordQuery, func() ([]credit.Record, error)) ([]credit.Record, error) {
		return nil, nil
	}
	_, err := b.HeadAsOf(t.Context(), credit.AsOf{Sequence: 2})
	require.ErrorIs(t, err, credit.ErrCorrupt)
	var corrupt *credit.CorruptError
	require.ErrorAs(t, err, &corrupt)
	assert.EqualValues(t, 2, corrupt.Sequence)
}

// A page as of a sequence reads about as many resellers as it returns.
func TestAListingAsOfReadsNoMoreThanItNeeds(t *testing.T) {
	t.Parallel()
	b, _ := listings(t)
	var limits []int
	b.store.resellers = func(q credit.ResellerQuery, next func() ([]credit.Reseller, error)) ([]credit.Reseller, error) {
		limits = append(limits, q.Limit)
		assert.True(t, q.AsOf.IsZero(), "a store is never asked for the past")
		return next()
	}
	page, err := b.Resellers(t.Context(), credit.ResellerQuery{AsOf: credit.AsOf{Sequence: 13}, Limit: 2})
	require.NoError(t, err)
	assert.Len(t, page.Items, 2)
	assert.Equal(t, []int{3}, limits)
	limits = nil
	page, err = b.Resellers(t.Context(), credit.ResellerQuery{AsOf: credit.AsOf{Sequence: 2}, Order: credit.OrderOldest, Limit: 1})
	require.NoError(t, err)
	assert.Len(t, page.Items, 1, "the one that was there is behind those that were not")
	assert.Empty(t, page.Next)
	assert.Equal(t, []int{2, 4, 8}, limits, "where few match, more are looked at a time")
	limits = nil
	_, err = b.Resellers(t.Context(), credit.ResellerQuery{AsOf: credit.AsOf{Sequence: 2}, Limit: credit.MaxPageSize})
	require.NoError(t, err)
	assert.Equal(t, []int{credit.MaxPageSize}, limits, "a store is asked for no more resellers than Latest takes")

	reads := 0
	limits = nil
	b.store.latest = func(next func() ([]credit.Record, error)) ([]credit.Record, error) {
		reads++
		return next()
	}
	page, err = b.Resellers(t.Context(), credit.ResellerQuery{AsOf: credit.AsOf{Sequence: 1}, Limit: 2})
	require.NoError(t, err)
	assert.Empty(t, page.Items)
	assert.Len(t, limits, reads, "of those who were not there yet the status is not read")
}

// Everything that is wrong with a query is an InvalidError that names it, before
// the store is asked for anything.
func TestBadQueriesAreNamedBeforeAnythingIsRead(t *testing.T) {
	t.Parallel()
	b, _ := listings(t)
	silent := errors.New("the store was asked")
	b.store.load = func(context.Context, credit.ReadSet, func() (credit.Snapshot, error)) (credit.Snapshot, error) {
		return credit.Snapshot{}, silent
	}
	b.store.records = func(context.Context, credit.RecordQuery, func() ([]credit.Record, error)) ([]credit.Record, error) {
		return nil, silent
	}
	b.store.resellers = func(credit.ResellerQuery, func() ([]credit.Reseller, error)) ([]credit.Reseller, error) {
		return nil, silent
	}
	year := func(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }
	for field, q := range map[string]credit.ResellerQuery{
		"name":            {Name: "\xff"},
		"mobile":          {Mobile: "\x00"},
		"remark":          {Remark: string(make([]byte, credit.MaxRemark+1))},
		"email":           {Email: "\xc3"},
		"external id":     {ExternalID: "a\x00"},
		"statuses":        {Statuses: []credit.Status{"gone"}},
		"min available":   {MinAvailable: new(amt("1e12"))},
		"max available":   {MaxAvailable: new(amt("1e-7"))},
		"available range": {MinAvailable: new(amt("1")), MaxAvailable: new(amt("0"))},
		"order":           {Order: "Newest"},
		"as of":           {AsOf: credit.AsOf{Time: year(10_000)}},
		"limit":           {Limit: credit.MaxPageSize + 1},
		"cursor":          {Cursor: "AAAA"},
	} {
		_, err := b.Resellers(t.Context(), q)
		var invalid *credit.InvalidError
		require.ErrorAs(t, err, &invalid, field)
		assert.Equal(t, field, invalid.Field)
	}
	for field, q := range map[string]credit.RecordQuery{
		"kinds":          {Kinds: []credit.Kind{"gone"}},
		"operator":       {Operator: "\xff"},
		"key":            {Key: string(make([]byte, credit.MaxKey+1))},
		"reference":      {Reference: "\x00"},
		"customer":       {Customer: "\xed\xa0\x80"},
		"recorded range": {RecordedFrom: year(2), RecordedUntil: year(1).Add(time.Hour)},
		"occurred range": {OccurredFrom: year(-1)},
		"sequence range": {After: 5, Before: 5},
		"limit":          {Limit: -1},
		"cursor":         {Cursor: "x"},
	} {
		_, err := b.Records(t.Context(), q)
		var invalid *credit.InvalidError
		require.ErrorAs(t, err, &invalid, field)
		assert.Equal(t, field, invalid.Field)
	}
}
