package credit_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

func TestResellerQuery_Normalize(t *testing.T) {
	t.Parallel()
	q, err := credit.ResellerQuery{Cursor: "c", Order: "oldest"}.Normalize()
	require.NoError(t, err)
	assert.Equal(t, credit.ResellerQuery{Statuses: []credit.Status{"active", "frozen"}, Order: credit.OrderOldest, Limit: credit.DefaultPageSize, Cursor: "c"}, q,
		"closed resellers are hidden from the default listing")

	asked := []credit.Status{"frozen", "closed", "frozen", "active"}
	q, err = credit.ResellerQuery{Statuses: asked, Limit: credit.MaxPageSize}.Normalize()
	require.NoError(t, err)
	assert.Equal(t, credit.ResellerQuery{Statuses: []credit.Status{"active", "closed", "frozen"}, Order: credit.OrderNewest, Limit: credit.MaxPageSize}, q, "one form for one question")
	assert.Equal(t, []credit.Status{"frozen", "closed", "frozen", "active"}, asked, "a slice handed over is not changed")

	least, greatest, low := decimal.New(-5, -1), amt("1.50"), thresholds(t, "12.5%")[0]
	q, err = credit.ResellerQuery{MinAvailable: &least, MaxAvailable: &greatest, Low: &low, AsOf: credit.AsOf{Time: noon.Add(999).In(time.FixedZone("east", 3600))}}.Normalize()
	require.NoError(t, err)
	assert.Equal(t, credit.FromMillionths(-500_000), *q.MinAvailable, "an amount has one form")
	assert.Equal(t, credit.FromMillionths(1_500_000), *q.MaxAvailable)
	assert.Equal(t, credit.AsOf{Time: noon}, q.AsOf, "UTC and whole microseconds")
	least, greatest, low = amt("7"), amt("7"), credit.Threshold{}
	assert.Equal(t, "-0.5 1.5 12.5%", q.MinAvailable.String()+" "+q.MaxAvailable.String()+" "+q.Low.String(), "a pointer handed over is not kept")

	for _, o := range credit.Orders() {
		q, err := credit.ResellerQuery{Order: o, MinAvailable: new(decimal.Zero), MaxAvailable: new(decimal.Zero), Total: true}.Normalize()
		require.NoError(t, err, "a range of one amount; every order")
		assert.Equal(t, o, q.Order)
	}
}

func TestRecordQuery_Normalize(t *testing.T) {
	t.Parallel()
	q, err := credit.RecordQuery{}.Normalize()
	require.NoError(t, err)
	assert.Equal(t, credit.RecordQuery{Limit: credit.DefaultPageSize}, q, "the zero value reads the whole log")
	q, err = credit.RecordQuery{ResellerID: nimbus, Kinds: []credit.Kind{"repossess", "allocate", "allocate"}, After: 3, Before: 4, NewestFirst: true, Limit: 1, Cursor: "c"}.Normalize()
	require.NoError(t, err)
	assert.Equal(t, credit.RecordQuery{ResellerID: nimbus, Kinds: credit.AllocationKinds(), After: 3, Before: 4, NewestFirst: true, Limit: 1, Cursor: "c"}, q)

	west := time.FixedZone("west", -3600)
	q, err = credit.RecordQuery{RecordedFrom: noon.In(west), RecordedUntil: noon.Add(1).In(west), OccurredFrom: noon.Add(1), OccurredUntil: noon.Add(1001)}.Normalize()
	require.NoError(t, err)
	assert.Equal(t, credit.RecordQuery{RecordedFrom: noon, RecordedUntil: noon.Add(1000), OccurredFrom: noon.Add(1000), OccurredUntil: noon.Add(2000), Limit: credit.DefaultPageSize}, q,
		"a bound between two microseconds is the later one")
	again, err := q.Normalize()
	require.NoError(t, err)
	assert.Equal(t, q, again, "a normalized query is normal")
}

// The first and the last microsecond that a record can have are in every range
// that reaches that far.
func TestRecordQuery_atTheEndsOfTime(t *testing.T) {
	t.Parallel()
	first, last := time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
	for _, tt := range []struct {
		from, until time.Time
		want        []bool // first, noon, last
	}{
		{time.Time{}, time.Time{}, []bool{true, true, true}},
		{time.Time{}.Add(1), last, []bool{true, true, false}},
		{time.Time{}.Add(1), last.Add(1), []bool{true, true, true}},
		{first, last.Add(999), []bool{true, true, true}},
		{first.Add(1), time.Time{}, []bool{false, true, true}},
		{last, time.Time{}, []bool{false, false, true}},
		{time.Time{}, time.Time{}.Add(1), []bool{false, false, false}},
		{time.Time{}, first, []bool{false, false, false}},
	} {
		recorded, err := credit.RecordQuery{RecordedFrom: tt.from, RecordedUntil: tt.until}.Normalize()
		require.NoError(t, err)
		occurred, err := credit.RecordQuery{OccurredFrom: tt.from, OccurredUntil: tt.until}.Normalize()
		require.NoError(t, err)
		for _, at := range []time.Time{recorded.RecordedFrom, recorded.RecordedUntil, occurred.OccurredUntil} {
			assert.LessOrEqual(t, at.Year(), 9999, "JSON and databases have no later year")
		}
		for i, at := range []time.Time{first, noon, last} {
			assert.Equal(t, tt.want[i], recorded.Matches(credit.Record{Sequence: 1, RecordedAt: at}), "recorded at %s, from %s until %s", at, tt.from, tt.until)
			assert.Equal(t, tt.want[i], occurred.Matches(credit.Record{Sequence: 1, OccurredAt: at}), "occurred at %s, from %s until %s", at, tt.from, tt.until)
		}
	}
}

// What is wrong with a query is named, with what would be right.
func TestQueries_thatAreWrongAreNamed(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("x", n+1) }
	year := func(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }
	type (
		resellers = credit.ResellerQuery
		records   = credit.RecordQuery
	)
	for says, q := range map[string]any{
		`statuses: "gone" is unknown; known are [active frozen closed]`:                                                           resellers{Statuses: []credit.Status{"active", "gone"}},
		`statuses: "" is unknown; known are [active frozen closed]`:                                                               resellers{Statuses: []credit.Status{""}},
		`order: "Name" is unknown; known are [newest oldest name name_down available available_down]`:                             resellers{Order: "Name"},
		`order: "` + strings.Repeat("x", 40) + `…" is unknown; known are [newest oldest name name_down available available_down]`: resellers{Order: credit.Order(long(1000))},
		`limit: is -1, must be 1 to 1000 (0 means 100)`:                                                                           resellers{Limit: -1},
		`name: has 201 bytes, at most 200 are allowed`:                                                                            resellers{Name: long(credit.MaxName)},
		`mobile: has 51 bytes, at most 50 are allowed`:                                                                            resellers{Mobile: long(credit.MaxMobile)},
		`remark: has 1001 bytes, at most 1000 are allowed`:                                                                        resellers{Remark: long(credit.MaxRemark)},
		`email: has 255 bytes, at most 254 are allowed`:                                                                           resellers{Email: long(credit.MaxEmail)},
		`external id: has 101 bytes, at most 100 are allowed`:                                                                     resellers{ExternalID: long(credit.MaxExternalID)},
		`name: is not UTF-8`:               resellers{Name: "a\xff"},
		`remark: contains a NUL character`: resellers{Remark: "a\x00"},
		`min available: has more than 12 digits before or 6 after the point; round it explicitly first`:                                                                resellers{MinAvailable: new(amt("0.0000001"))},
		`max available: has more than 12 digits before or 6 after the point; round it explicitly first`:                                                                resellers{MaxAvailable: new(decimal.New(1, 2_000_000_000))},
		`available range: from 1 to 0.999999 leaves nothing; the minimum must not exceed the maximum`:                                                                  resellers{MinAvailable: new(amt("1")), MaxAvailable: new(amt("0.999999"))},
		`as of: has a sequence and a time; give one of them`:                                                                                                           resellers{AsOf: credit.AsOf{Sequence: 1, Time: noon}},
		`as of: is sequence -1, must be positive`:                                                                                                                      resellers{AsOf: credit.AsOf{Sequence: -1}},
		`as of: must be in the years 1 to 9999`:                                                                                                                        resellers{AsOf: credit.AsOf{Time: year(10_000)}},
		`as of: is within the first microsecond of the year 1, before which nothing can be`:                                                                            resellers{AsOf: credit.AsOf{Time: time.Time{}.Add(999)}},
		`as of: can be listed newest or oldest first, without a total`:                                                                                                 resellers{AsOf: credit.AsOf{Sequence: 1}, Order: credit.OrderName},
		`kinds: "gone" is unknown; known are [grant withdraw allocate repossess usage correction settle add update freeze unfreeze close]`:                             records{Kinds: []credit.Kind{"gone"}},
		`kinds: "` + strings.Repeat("ö", 20) + `…" is unknown; known are [grant withdraw allocate repossess usage correction settle add update freeze unfreeze close]`: records{Kinds: []credit.Kind{credit.Kind(strings.Repeat("ö", 50))}},
		`operator: has 201 bytes, at most 200 are allowed`:                                                                                                             records{Operator: long(credit.MaxOperator)},
		`key: has 201 bytes, at most 200 are allowed`:                                                                                                                  records{Key: long(credit.MaxKey)},
		`reference: is not UTF-8`:            records{Reference: "\xff"},
		`customer: contains a NUL character`: records{Customer: "\x00"},
		`sequence range: after -1 and before 0 leave nothing; after must be below before, and neither negative`:                        records{After: -1},
		`sequence range: after 0 and before -1 leave nothing; after must be below before, and neither negative`:                        records{Before: -1},
		`sequence range: after 4 and before 4 leave nothing; after must be below before, and neither negative`:                         records{After: 4, Before: 4},
		`recorded range: from 2026-03-01T12:00:00Z until 2026-03-01T12:00:00Z leaves nothing; from must be before until`:               records{RecordedFrom: noon, RecordedUntil: noon},
		`occurred range: from 2026-03-01T12:00:00.000001Z until 2026-03-01T12:00:00.000001Z leaves nothing; from must be before until`: records{OccurredFrom: noon.Add(1), OccurredUntil: noon.Add(2)},
		`recorded range: must be in the years 1 to 9999`:                                                                               records{RecordedUntil: year(0)},
		`occurred range: must be in the years 1 to 9999`:                                                                               records{OccurredFrom: year(10_000)},
		`occurred range: begins after the last microsecond of the year 9999 and leaves nothing`:                                        records{OccurredFrom: year(10_000).Add(-1)},
		`limit: is 1001, must be 1 to 1000 (0 means 100)`:                                                                              records{Limit: credit.MaxPageSize + 1},
	} {
		var err error
		switch q := q.(type) {
		case resellers:
			_, err = q.Normalize()
		case records:
			_, err = q.Normalize()
		}
		assert.EqualError(t, err, "credit: "+says)
		assert.ErrorIs(t, err, credit.ErrInvalid)
	}
	_, err := resellers{AsOf: credit.AsOf{Sequence: 1}, Total: true}.Normalize()
	assert.EqualError(t, err, "credit: as of: can be listed newest or oldest first, without a total")
	_, err = records{RecordedUntil: time.Date(0, 12, 31, 23, 59, 59, 999_999_999, time.UTC)}.Normalize()
	assert.EqualError(t, err, "credit: recorded range: must be in the years 1 to 9999", "rounding up does not reach the year 1")
}

func TestAnErrorRepeatsAtMost40BytesOfAWord(t *testing.T) {
	t.Parallel()
	for n, says := range map[int]string{40: `"` + strings.Repeat("x", 40) + `"`, 41: `"` + strings.Repeat("x", 40) + `…"`} {
		_, err := credit.ResellerQuery{Order: credit.Order(strings.Repeat("x", n))}.Normalize()
		assert.ErrorContains(t, err, "credit: order: "+says+" is unknown")
	}
}

func TestOrders(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []credit.Order{"newest", "oldest", "name", "name_down", "available", "available_down"}, credit.Orders())
	for _, o := range credit.Orders() {
		assert.Equal(t, slices.Contains([]credit.Order{"oldest", "name", "available"}, o), o.Ascending(), o)
	}
}

func TestAsOf(t *testing.T) {
	t.Parallel()
	assert.True(t, credit.AsOf{}.IsZero(), "the zero value is now")
	assert.True(t, credit.AsOf{Time: time.Time{}.In(time.FixedZone("east", 3600))}.IsZero(), "in whatever zone")
	for _, a := range []credit.AsOf{{Sequence: 1}, {Time: noon}, {Sequence: -1}} {
		assert.False(t, a.IsZero())
	}
	got, err := credit.AsOf{Time: time.Date(1969, 12, 31, 23, 59, 59, 999_999_999, time.UTC)}.Normalize()
	require.NoError(t, err)
	assert.Equal(t, time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC), got.Time, "truncated, before 1970 too")
	got, err = credit.AsOf{Sequence: 7}.Normalize()
	require.NoError(t, err)
	assert.Equal(t, credit.AsOf{Sequence: 7}, got)
}

// selected are the names of the resellers that a query selects.
func selected(t *testing.T, q credit.ResellerQuery, all ...credit.Reseller) string {
	t.Helper()
	q, err := q.Normalize()
	require.NoError(t, err)
	var names []string
	for _, r := range all {
		if q.Matches(r) {
			names = append(names, r.ExternalID)
		}
	}
	return strings.Join(names, " ")
}

func TestResellerQuery_Matches(t *testing.T) {
	t.Parallel()
	reseller := func(external, name, mobile, remark, email string, status credit.Status, allocated, used string) credit.Reseller {
		return credit.Reseller{ExternalID: external, Profile: credit.Profile{Name: name, Mobile: mobile, Remark: remark, Email: email}, Status: status, Figures: figures(allocated, used)}
	}
	all := []credit.Reseller{
		reseller("a", "Ärger & Söhne", "+49 30", "100% new", "a@b", "active", "100", "0"),
		reseller("b", "ärger", "+49 40", "", "A@b", "frozen", "100", "75"),
		reseller("c", "Straße 1_2", "", `back\slash`, "", "closed", "0", "0"),
		reseller("d", "STRASSE 112", "0049", "line\nline", "a@b ", "active", "0", "0.000001"),
		reseller("e", "Kelvin", "", "🏳️‍🌈", "", "active", most, "-"+most),
	}
	every := []credit.Status{"active", "frozen", "closed"}
	for want, queries := range map[string][]credit.ResellerQuery{
		"a b d e":   {{}},
		"a b c d e": {{Statuses: every}},
		"b c":       {{Statuses: []credit.Status{"frozen", "closed"}}},
		"a b":       {{Name: "ÄRGER"}, {Name: "ärGer"}, {Mobile: "49 "}, {Statuses: every, Name: "ä"}},
		"a":         {{Name: "&"}, {Remark: "%"}, {Remark: "0% N"}, {Email: "a@b"}, {ExternalID: "a"}, {Name: "ärger", Mobile: "30"}},
		"b":         {{Email: "A@b"}, {MinAvailable: new(amt("0")), MaxAvailable: new(amt("99.999999"))}, {Low: new(thresholds(t, "25%")[0]), MinAvailable: new(amt("25"))}},
		"c":         {{Statuses: every, Name: "_"}, {Statuses: every, Name: "ß"}, {Statuses: every, Name: "ẞ"}, {Statuses: every, Remark: `\S`}, {Statuses: every, Name: "straße"}},
		"d":         {{Name: "ss"}, {Remark: "E\nL"}, {Email: "a@b "}, {MaxAvailable: new(amt("-0.000001"))}, credit.Overdrawn(), credit.LowCredit(thresholds(t, "0%")[0])},
		"e":         {{Name: "\u212aELV"}, {Remark: "🏳️‍🌈"}, {MinAvailable: new(amt(most))}},
		"":          {{Name: "a\u0308"}, {Name: "argé"}, {ExternalID: "A"}, {Email: "a@"}, {Name: "ärger", Remark: "nothing"}, {MaxAvailable: new(amt("-0.000002"))}},
	} {
		for _, q := range queries {
			assert.Equal(t, want, selected(t, q, all...), "%+v", q)
		}
	}
}

// Low is what a warning takes for low: nothing is rounded, whatever the magnitude.
func TestResellerQuery_lowIsExact(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		threshold, allocated, used string
		low                        bool
	}{
		{"25%", "100", "75", true},
		{"25%", "100", "74.999999", false},
		{"25%", "999999999999.999999", "749999999999.999999", false},       // available 250000000000, a quarter is 249999999999.99999975
		{"25%", "999999999999.999999", "750000000000", true},               // available 249999999999.999999
		{"33.333333%", "300", "200.000001", true},                          // 99.999999 is exactly that
		{"33.333333%", "300", "200", false},                                // 100
		{"0.000001%", "999999999999.999999", "999999989999.999999", false}, // 10000 to 9999.99999999999999
		{"0.000001%", "999999999999.999999", "999999990000", true},
		{"100%", "5", "0", true},
		{"100%", "5", "-0.000001", false},
		{"0%", "0", "0", true},
		{"50%", "0", "-0.000001", false},
		{"0", "5", "5", true},
		{"-1", "5", "5.999999", false},
		{"-1", "5", "6", true},
		{most, most, "0", true},
		{most, most, "-0.000001", false},
		{"-" + most, "0", most, true},
		{"100%", most, "-" + most, false},
		{"100%", "0", most, true},
	} {
		r := credit.Reseller{ExternalID: "r", Status: "active", Figures: figures(tt.allocated, tt.used)}
		assert.Equal(t, tt.low, selected(t, credit.LowCredit(thresholds(t, tt.threshold)[0]), r) == "r", "available %s of %s, threshold %s", r.Available(), r.Allocated, tt.threshold)
	}
}

func TestLowCreditAndOverdrawn(t *testing.T) {
	t.Parallel()
	low := credit.LowCredit(thresholds(t, "10%")[0])
	assert.Equal(t, credit.OrderAvailable, low.Order, "the least available first")
	assert.Equal(t, "10%", low.Low.String())
	over := credit.Overdrawn()
	assert.Equal(t, credit.OrderAvailable, over.Order, "the largest overdraft first")
	for used, want := range map[string]string{"5": "", "5.000001": "r", "4.999999": ""} {
		assert.Equal(t, want, selected(t, over, credit.Reseller{ExternalID: "r", Status: "active", Figures: figures("5", used)}), "used %s of 5", used)
	}
}

func TestOverdrawn_listsWhoeverOwesWhateverItsStatus(t *testing.T) {
	t.Parallel()
	for _, status := range []credit.Status{credit.StatusActive, credit.StatusFrozen, credit.StatusClosed} {
		r := credit.Reseller{ExternalID: "r", Status: status, Figures: figures("5", "6")}
		assert.Equal(t, "r", selected(t, credit.Overdrawn(), r), "an overdrawn reseller that is %s is not listed", status)
		low := selected(t, credit.LowCredit(thresholds(t, "0%")[0]), r) == "r"
		assert.Equal(t, status != credit.StatusClosed, low, "low credit lists those that can be topped up, %s", status)
	}
}

func TestRecordQuery_Matches(t *testing.T) {
	t.Parallel()
	r := credit.Record{Sequence: 7, Kind: credit.KindUsage, ResellerID: nimbus, Operator: "ops", Key: "k", Reference: "R-1", Customer: "C",
		OccurredAt: noon.Add(-time.Hour), RecordedAt: noon}
	us := time.Microsecond
	for _, tt := range []struct {
		matches bool
		q       credit.RecordQuery
	}{
		{true, credit.RecordQuery{}},
		{true, credit.RecordQuery{ResellerID: nimbus, Kinds: []credit.Kind{"usage", "grant"}, Operator: "ops", Key: "k", Reference: "R-1", Customer: "C",
			RecordedFrom: noon, RecordedUntil: noon.Add(us), OccurredFrom: noon.Add(-time.Hour), OccurredUntil: noon, After: 6, Before: 8}},
		{false, credit.RecordQuery{ResellerID: cirrus}},
		{false, credit.RecordQuery{ResellerID: uuid.Max}},
		{false, credit.RecordQuery{Kinds: credit.AllocationKinds()}},
		{false, credit.RecordQuery{Operator: "Ops"}},
		{false, credit.RecordQuery{Operator: "op"}},
		{false, credit.RecordQuery{Key: "K"}},
		{false, credit.RecordQuery{Key: "k "}},
		{false, credit.RecordQuery{Reference: "R-"}},
		{false, credit.RecordQuery{Customer: "c"}},
		{false, credit.RecordQuery{RecordedFrom: noon.Add(us)}},
		{false, credit.RecordQuery{RecordedFrom: noon.Add(1)}},
		{true, credit.RecordQuery{RecordedFrom: noon}},
		{false, credit.RecordQuery{RecordedUntil: noon}},
		{true, credit.RecordQuery{RecordedUntil: noon.Add(1)}},
		{false, credit.RecordQuery{OccurredFrom: noon.Add(us - time.Hour)}},
		{true, credit.RecordQuery{OccurredFrom: noon.Add(-time.Hour)}},
		{false, credit.RecordQuery{OccurredUntil: noon.Add(-time.Hour)}},
		{true, credit.RecordQuery{OccurredUntil: noon.Add(us - time.Hour)}},
		{false, credit.RecordQuery{After: 7}},
		{false, credit.RecordQuery{Before: 7}},
	} {
		q, err := tt.q.Normalize()
		require.NoError(t, err)
		assert.Equal(t, tt.matches, q.Matches(r), "%+v", tt.q)
	}
	assert.True(t, credit.RecordQuery{}.Matches(credit.Record{Sequence: 1}), "records of the pool are of the whole log")
	assert.False(t, credit.RecordQuery{ResellerID: nimbus}.Matches(credit.Record{Sequence: 1}))
}
