package sqlstore_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

// Texts that databases take for others: letters of other alphabets and cases, the
// signs of patterns, and spaces at the end.
var awkward = []string{"a", "A", "ä", "Ä", "ÄÖ", "äö", "ß", "SS", "ı", "İ", "i", "I", "k", "K", "K", "ſ", "s", "😀", "e\u0301", "é", "%", "_", `\`, "'", `"`,
	"''", "a ", " a", "ж", "Ж", "σ", "ς", "Σ", "\x01", "\u00a0", "a%b", "x'00'", "?", "$1", "--"}

// twin is a store in SQL beside one that looks at everything.
type twin struct {
	*book
	rng  *rand.Rand
	sql  *sqlstore.Store
	mem  *memstore.Store
	ids  []uuid.UUID
	said string
}

func newTwin(t *testing.T, seed uint64) *twin {
	t.Helper()
	s, _ := newStore(t)
	w := &twin{book: newBook(), rng: rand.New(rand.NewPCG(seed, 2)), sql: s, mem: memstore.New(), said: fmt.Sprintf("seed %d", seed)}
	for _, s := range []store.Store{w.sql, w.mem} {
		_, err := s.Create(t.Context(), w.Distributor)
		require.NoError(t, err)
	}
	return w
}

func (w *twin) append(t *testing.T, expected credit.Head, batch store.Batch) {
	t.Helper()
	for _, r := range batch.Added {
		w.ids = append(w.ids, r.ID)
	}
	for _, s := range []store.Store{w.sql, w.mem} {
		require.NoError(t, s.Append(t.Context(), w.ID, expected, batch), w.said)
	}
}

func (w *twin) do(t *testing.T, commands ...credit.Command) {
	t.Helper()
	expected, batch := w.draft(t, commands...)
	w.append(t, expected, batch)
}

// one is one of the values; sometimes is the value, and zero most of the time.
func one[T any](w *twin, values ...T) T { return values[w.rng.IntN(len(values))] }

func sometimes[T any](w *twin, value T) (result T) {
	if w.rng.IntN(4) == 0 {
		return value
	}
	return result
}

func (w *twin) text(parts int) (text string) {
	for range w.rng.IntN(parts + 1) {
		text += one(w, awkward...)
	}
	return text
}

// requireSameResellers compares all pages, and the count.
func (w *twin) requireSameResellers(t *testing.T, q credit.ResellerQuery) {
	t.Helper()
	q, err := q.Normalize()
	require.NoError(t, err)
	said := fmt.Sprintf("%s: %+v", w.said, q)
	var after store.ResellerPosition
	counted := 0
	for page := 0; ; page++ {
		want, err := w.mem.Resellers(t.Context(), w.ID, q, after)
		require.NoError(t, err)
		got, err := w.sql.Resellers(t.Context(), w.ID, q, after)
		require.NoError(t, err, said)
		require.Len(t, got, len(want), "%s, page %d", said, page)
		for i := range want {
			require.Equal(t, want[i], got[i], "%s, page %d, item %d", said, page, i)
		}
		counted += len(got)
		if len(got) < q.Limit {
			break
		}
		after = store.PositionOf(got[len(got)-1], q.Order)
	}
	n, err := w.sql.CountResellers(t.Context(), w.ID, q)
	require.NoError(t, err, said)
	require.Equal(t, counted, n, "counted, %s", said)
}

func (w *twin) requireSameRecords(t *testing.T, q credit.RecordQuery) {
	t.Helper()
	q, err := q.Normalize()
	require.NoError(t, err)
	want, err := w.mem.Records(t.Context(), w.ID, q)
	require.NoError(t, err)
	got, err := w.sql.Records(t.Context(), w.ID, q)
	require.NoError(t, err, "%+v", q)
	require.Len(t, got, len(want), "%s: %+v", w.said, q)
	for i := range want {
		require.Equal(t, want[i], got[i], "%s: %+v", w.said, q)
	}
}

func (w *twin) amount(v decimal.Decimal) *decimal.Decimal { return sometimes(w, &v) }

func (w *twin) low(t *testing.T) *credit.Threshold {
	t.Helper()
	threshold, err := credit.AmountThreshold(credit.FromMillionths(w.rng.Int64N(100_000) - 30_000))
	if w.rng.IntN(2) == 0 {
		threshold, err = credit.PercentThreshold(credit.FromMillionths(one(w, 0, 1, w.rng.Int64N(100_000_001), 50_000_000, 99_999_999, 100_000_000)))
	}
	require.NoError(t, err)
	return sometimes(w, &threshold)
}

var everyStatus = []credit.Status{credit.StatusActive, credit.StatusFrozen, credit.StatusClosed}

// Whatever is asked for, the answer is that of a store that looks at everything.
func TestListsAreThoseOfMemstore(t *testing.T) {
	t.Parallel()
	w := newTwin(t, 1)
	w.do(t, credit.Grant{Amount: decimal.New(1, 9)})
	for i := range 60 {
		w.do(t, credit.NewReseller{Name: "n" + w.text(3), Mobile: w.text(2), ResellerRemark: w.text(5),
			Email: one(w, "", "a@b", "A@b", "a@b "), ExternalID: one(w, "", "x", "X", "x ") + fmt.Sprint(i), BoundAt: time.UnixMicro(int64(w.rng.IntN(20) - 10))})
	}
	for range 500 {
		id, cents := one(w, w.ids...), decimal.New(int64(1+w.rng.IntN(5)), -2)
		operator, reference, customer := one(w, "", "op", "Op", "op "), one(w, "", "r", "R"), one(w, "", "c", "c ")
		reseller, _ := w.state.Reseller(id)
		occurred := time.UnixMicro(int64(w.rng.IntN(9)))
		name, remark := "n"+w.text(3), w.text(5)
		switch n := w.rng.IntN(12); {
		case reseller.Status == credit.StatusClosed:
		case n == 0 && reseller.Status == credit.StatusFrozen:
			w.do(t, credit.Unfreeze{ResellerID: id, Operator: operator})
		case n == 0:
			w.do(t, credit.Freeze{ResellerID: id, Reference: reference})
		case n == 1 && reseller.Used.IsZero() && reseller.Allocated.IsZero():
			w.do(t, credit.Close{ResellerID: id})
		case n == 2:
			w.do(t, credit.ProfileUpdate{ResellerID: id, Name: &name, ResellerRemark: &remark, Operator: operator})
		case n < 8 && reseller.Status == credit.StatusActive:
			w.do(t, credit.Allocation{ResellerID: id, Amount: cents, Operator: operator, Reference: reference, OccurredAt: occurred, Key: one(w, "", fmt.Sprint("k", w.rng.Int64()))})
		default:
			w.do(t, credit.Usage{ResellerID: id, Amount: cents, Customer: customer, Operator: operator, OccurredAt: occurred})
		}
	}

	keys := []string{"k"}
	all, err := w.mem.Records(t.Context(), w.ID, credit.RecordQuery{Limit: credit.MaxPageSize})
	require.NoError(t, err)
	for _, r := range all {
		if r.Key != "" {
			keys = append(keys, r.Key)
		}
	}
	for range 700 {
		q := credit.ResellerQuery{Name: sometimes(w, w.text(1)), Mobile: sometimes(w, w.text(1)), Remark: sometimes(w, w.text(1)),
			Email: sometimes(w, one(w, "a@b", "A@b", "a@b ", "b")), ExternalID: sometimes(w, sometimes(w, one(w, "x", "X", "x ")+fmt.Sprint(w.rng.IntN(60)))),
			MinAvailable: w.amount(decimal.New(-w.rng.Int64N(5), -2)), MaxAvailable: w.amount(decimal.New(w.rng.Int64N(5), -2)),
			Low: w.low(t), Order: one(w, credit.Orders()...), Limit: one(w, 1, 3, 10, 100)}
		for _, status := range everyStatus {
			if w.rng.IntN(2) == 0 {
				q.Statuses = append(q.Statuses, status)
			}
		}
		w.requireSameResellers(t, q)
	}
	for range 1500 {
		q := credit.RecordQuery{ResellerID: sometimes(w, one(w, w.ids...)), Operator: sometimes(w, one(w, "op", "Op", "op ", "OP")), Key: sometimes(w, sometimes(w, one(w, keys...))),
			Reference: sometimes(w, one(w, "r", "R", "r ")), Customer: sometimes(w, one(w, "c", "c ", "C")),
			OccurredFrom: sometimes(w, time.UnixMicro(int64(1+w.rng.IntN(4)))), OccurredUntil: sometimes(w, time.UnixMicro(int64(5+w.rng.IntN(9)))),
			After: sometimes(w, w.rng.Int64N(200)), Before: sometimes(w, 201+w.rng.Int64N(500)), NewestFirst: w.rng.IntN(2) == 0, Limit: one(w, 1, 5, 50, 1000)}
		for range sometimes(w, w.rng.IntN(12)) {
			q.Kinds = append(q.Kinds, one(w, credit.Kinds()...))
		}
		w.requireSameRecords(t, q)
	}
	for range 300 {
		var kinds []credit.Kind
		for range sometimes(w, w.rng.IntN(5)) {
			kinds = append(kinds, one(w, credit.Kinds()...))
		}
		w.rng.Shuffle(len(w.ids), func(i, j int) { w.ids[i], w.ids[j] = w.ids[j], w.ids[i] })
		asked, until := append(w.ids[:w.rng.IntN(len(w.ids)):len(w.ids)-1], uuid.New()), w.rng.Int64N(700)
		want, err := w.mem.Latest(t.Context(), w.ID, asked, kinds, until)
		require.NoError(t, err)
		got, err := w.sql.Latest(t.Context(), w.ID, asked, kinds, until)
		require.NoError(t, err)
		require.ElementsMatch(t, want, got, "kinds %v until %d", kinds, until)
	}
}

// A share of what is allocated is compared exactly, up to the largest figures and
// down to a millionth of a percent.
func TestSharesAreExact(t *testing.T) {
	t.Parallel()
	w := newTwin(t, 3)
	const most = 999_999_999_999_999_999
	figure := func() int64 {
		return one(w, 0, 1, 2, 99, 100_000_000, 100_000_001, most, most-1, w.rng.Int64N(1000), w.rng.Int64N(most))
	}
	expected, batch := w.state.Head(), store.Batch{}
	shares := []int64{0, 1, 100_000_000, 99_999_999, 33_333_333, 33_333_334}
	for i := range 400 {
		r, err := w.state.Execute(credit.NewReseller{Name: "n", ExternalID: fmt.Sprint(i)}, credit.Stamp{Time: w.now, RecordID: uuid.New(), ResellerID: uuid.New()})
		require.NoError(t, err)
		batch.Records = append(batch.Records, r.Record)
		added, _ := w.state.Reseller(r.ResellerID)
		allocated, share := figure(), one(w, shares...)
		// Available is near the share, for which the rule is the decimal one.
		near := credit.FromMillionths(allocated).Mul(credit.FromMillionths(share)).Shift(-2).Shift(credit.FractionalDigits).Floor().IntPart() + one(w, -1, 0, 1, -most, figure())
		added.Allocated = credit.FromMillionths(allocated)
		added.Used = credit.FromMillionths(max(-most, min(most, allocated-near)))
		batch.Added = append(batch.Added, added)
	}
	w.append(t, expected, batch)
	for range 50 {
		shares = append(shares, w.rng.Int64N(100_000_001))
	}
	for _, share := range shares {
		low, err := credit.PercentThreshold(credit.FromMillionths(share))
		require.NoError(t, err)
		for _, order := range []credit.Order{credit.OrderNewest, credit.OrderAvailable} {
			w.requireSameResellers(t, credit.ResellerQuery{Low: &low, Order: order, Limit: 150})
		}
	}
}
