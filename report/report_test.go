package report_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/report"
	"github.com/resellerkit/credit/store"
)

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// book is a ledger whose clock stands still until it is told to go on.
type book struct {
	*store.Ledger
	t   testing.TB
	now time.Time
}

func newBook(t testing.TB) *book {
	t.Helper()
	b := &book{t: t, now: begin}
	var err error
	b.Ledger, err = store.Open(t.Context(), memstore.New(), credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"},
		store.Options{Now: func() time.Time { return b.now }})
	require.NoError(t, err)
	return b
}

func (b *book) do(commands ...credit.Command) []credit.Outcome {
	b.t.Helper()
	outcomes, err := b.Bulk(b.t.Context(), commands, credit.BulkOptions{})
	require.NoError(b.t, err)
	return outcomes
}

func (b *book) add(name string) uuid.UUID {
	b.t.Helper()
	o := b.do(credit.NewReseller{Name: name, ExternalID: name})[0]
	require.NoError(b.t, o.Err)
	return o.Receipt.ResellerID
}

func usd(amount string) decimal.Decimal { return decimal.RequireFromString(amount) }

// A ledger of 400 random commands over 10 hours, several at the same microsecond.
func random(t testing.TB, rng *rand.Rand) (b *book, resellers []uuid.UUID) {
	t.Helper()
	b = newBook(t)
	b.do(credit.Grant{Amount: usd("100000")})
	for range 400 {
		if rng.IntN(3) > 0 {
			b.now = b.now.Add(time.Duration(rng.IntN(3)) * time.Minute)
		}
		if len(resellers) < 2 || rng.IntN(40) == 0 {
			resellers = append(resellers, b.add(fmt.Sprint("r", len(resellers))))
			continue
		}
		id, amount := resellers[rng.IntN(len(resellers))], decimal.New(rng.Int64N(1e8)+1, -6)
		b.do([]credit.Command{credit.Allocation{ResellerID: id, Amount: amount}, credit.Usage{ResellerID: id, Amount: amount}, credit.Usage{ResellerID: id, Amount: amount},
			credit.Correction{ResellerID: id, Amount: amount}, credit.Settlement{ResellerID: id, Amount: amount}, credit.RepossessAll{ResellerID: id},
			credit.Freeze{ResellerID: id}, credit.Unfreeze{ResellerID: id}, credit.Close{ResellerID: id}, credit.Grant{Amount: amount}}[rng.IntN(10)])
	}
	return b, resellers
}

// history is the naive answer: every record of the log, one after the other.
func history(t testing.TB, l credit.Ledger) (all []credit.Record) {
	t.Helper()
	for r, err := range credit.AllRecords(t.Context(), l, credit.RecordQuery{}) {
		require.NoError(t, err)
		all = append(all, r)
	}
	return all
}

func TestStatement_isWhatTheLogSaysOfThePeriod(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		b, resellers := random(t, rng)
		log := history(t, b)
		for range 30 {
			id := resellers[rng.IntN(len(resellers))]
			from := begin.Add(time.Duration(rng.IntN(700)-20) * time.Minute)
			until := from.Add(time.Duration(1+rng.IntN(300)) * time.Minute)
			s, err := report.NewStatement(t.Context(), b, id, from, until)
			require.NoError(t, err, "seed %d", seed)

			opening := report.Balance{Figures: credit.Figures{Allocated: credit.FromMillionths(0), Used: credit.FromMillionths(0)}}
			closing := opening
			movements, before, through := []credit.Record{}, int64(0), int64(0)
			for _, r := range log {
				if r.RecordedAt.Before(from) {
					before = r.Sequence
				}
				if r.RecordedAt.Before(until) {
					through = r.Sequence
				}
				if r.ResellerID != id || !r.RecordedAt.Before(until) {
					continue
				}
				closing.Figures = r.After
				switch r.Kind {
				case credit.KindAdd, credit.KindUnfreeze:
					closing.Status = credit.StatusActive
				case credit.KindFreeze:
					closing.Status = credit.StatusFrozen
				case credit.KindClose:
					closing.Status = credit.StatusClosed
				}
				if r.RecordedAt.Before(from) {
					opening = closing
				} else {
					movements = append(movements, r)
				}
			}
			require.Equal(t, movements, s.Movements, "the movements are the reseller's records of the period")
			require.Equal(t, opening, s.Opening, "the opening balance is what the records before the period left")
			require.Equal(t, closing, s.Closing, "the closing balance is what the records until the end of the period left")
			require.Equal(t, before, s.Before.Sequence)
			require.Equal(t, through, s.Through.Sequence)
			require.Equal(t, !log[len(log)-1].RecordedAt.Before(until), s.Final, "a period is final once the log has gone past it")
			count, sum := 0, s.Opening.Figures.Allocated
			for _, total := range s.Totals {
				count += total.Count
				if total.Kind == credit.KindAllocate || total.Kind == credit.KindRepossess {
					sum = sum.Add(total.Amount)
				}
			}
			require.Equal(t, len(movements), count, "every movement is in one total")
			require.True(t, sum.Equal(s.Closing.Figures.Allocated), "opening and totals give the closing figure")
		}
	}
}

func TestStatement_ofAFinalPeriodIsTheSameToTheByteWhateverComesLater(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(7, 7))
	b, resellers := random(t, rng)
	from, until := begin.Add(time.Hour), begin.Add(3*time.Hour)
	text := func() string {
		s, err := report.NewStatement(t.Context(), b, resellers[0], from, until)
		require.NoError(t, err)
		require.True(t, s.Final)
		text, err := json.Marshal(s)
		require.NoError(t, err)
		return string(text)
	}
	first := text()
	b.do(credit.ProfileUpdate{ResellerID: resellers[0], Name: new("Another Name"), Email: new("new@example.com")},
		credit.Usage{ResellerID: resellers[0], Amount: usd("1"), OccurredAt: from.Add(time.Minute)}, credit.Freeze{ResellerID: resellers[0]},
		credit.Close{ResellerID: resellers[0]})
	assert.Equal(t, first, text(), "a statement changed after the event")
}

func TestStatement_isNotFinalWhileARecordMayStillFallIntoThePeriod(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	id := b.add("Nimbus")
	s, err := report.NewStatement(t.Context(), b, id, begin, begin.Add(time.Hour))
	require.NoError(t, err)
	assert.False(t, s.Final)
	assert.Len(t, s.Movements, 1)
	b.now = begin.Add(time.Hour)
	b.do(credit.Usage{ResellerID: id, Amount: usd("3")})
	s, err = report.NewStatement(t.Context(), b, id, begin, begin.Add(time.Hour))
	require.NoError(t, err)
	assert.True(t, s.Final, "until is exclusive, so a record at its time is past the period")
	assert.Len(t, s.Movements, 1)
}

func TestStatement_refusesWhatItCannotAnswer(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	id := b.add("Nimbus")
	for says, period := range map[string][2]time.Time{
		"credit: recorded range: from 2026-01-01T00:00:00Z until 2026-01-01T00:00:00Z leaves nothing; from must be before until": {begin, begin},
		"credit: period: needs a beginning and an end": {{}, begin},
		"credit: recorded range: from 2026-01-01T00:00:00Z until 2025-12-31T23:00:00Z leaves nothing; from must be before until": {begin, begin.Add(-time.Hour)},
		"credit: recorded range: must be in the years 1 to 9999":                                                                 {begin, begin.AddDate(9000, 0, 0)},
	} {
		_, err := report.NewStatement(t.Context(), b, id, period[0], period[1])
		require.ErrorIs(t, err, credit.ErrInvalid)
		assert.EqualError(t, err, says)
	}
	_, err := report.NewStatement(t.Context(), b, id, begin, time.Time{})
	require.EqualError(t, err, "credit: period: needs a beginning and an end")
	_, err = report.NewStatement(t.Context(), b, id, begin, time.Date(9999, 12, 31, 23, 59, 59, 999_999_001, time.UTC))
	require.EqualError(t, err, "credit: period: needs a beginning and an end", "an end after every time of a record is none")
	_, err = report.NewStatement(t.Context(), b, uuid.New(), begin, begin.Add(time.Hour))
	require.ErrorIs(t, err, credit.ErrNotFound)
}

func TestStatement_holdsAtMostMaxMovements(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	id := b.add("Nimbus")
	fees := make([]credit.Command, 10_000)
	for i := range fees {
		fees[i] = credit.Usage{ResellerID: id, Amount: usd("0.01")}
	}
	for range report.MaxMovements/len(fees) - 1 {
		b.do(fees...)
	}
	b.do(fees[1:]...)
	s, err := report.NewStatement(t.Context(), b, id, begin, begin.Add(time.Hour))
	require.NoError(t, err)
	assert.Len(t, s.Movements, report.MaxMovements, "one of them is the addition")
	b.do(fees[0])
	_, err = report.NewStatement(t.Context(), b, id, begin, begin.Add(time.Hour))
	assert.EqualError(t, err, "credit: period: has more than 100000 movements; choose a shorter one")
}

// forged answers with other records than the ledger has.
type forged struct {
	credit.Ledger
	change func([]credit.Record) []credit.Record
}

func (f forged) Records(ctx context.Context, q credit.RecordQuery) (credit.Page[credit.Record], error) {
	page, err := f.Ledger.Records(ctx, q)
	page.Items = f.change(page.Items)
	return page, err
}

func TestStatement_thatDoesNotAddUpIsCorrupt(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	id := b.add("Nimbus")
	b.do(credit.Usage{ResellerID: id, Amount: usd("1")}, credit.Usage{ResellerID: id, Amount: usd("2")})
	for says, change := range map[string]func([]credit.Record) []credit.Record{
		"credit: corrupt ledger: record 3: begins with allocated 0, used 1, the record before it left 0, 0": func(r []credit.Record) []credit.Record { return append(r[:1:1], r[2:]...) },
		"reseller " + id.String() + " lead to allocated 0, used 1, not to 0, 3":                             func(r []credit.Record) []credit.Record { return r[:2] },
	} {
		s, err := report.NewStatement(t.Context(), forged{b, change}, id, begin, begin.Add(time.Hour))
		assert.Equal(t, report.Statement{}, s, "an error comes alone")
		var corrupt *credit.CorruptError
		require.ErrorAs(t, err, &corrupt)
		assert.ErrorContains(t, err, says)
	}
}

func TestExposure_isTheSumOfTheResellersAsOfOneRecord(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 2))
		b, _ := random(t, rng)
		log := history(t, b)
		for range 10 {
			at := 1 + rng.Int64N(int64(len(log)))
			e, err := report.NewExposure(t.Context(), b, credit.AsOf{Sequence: at})
			require.NoError(t, err)

			figures := map[uuid.UUID]credit.Figures{}
			for _, r := range log[:at] {
				if r.ResellerID != uuid.Nil {
					figures[r.ResellerID] = r.After
				}
			}
			var want report.Exposure
			shares := decimal.Zero
			for _, f := range figures {
				want.Allocated, want.Used, want.Overdraft = want.Allocated.Add(f.Allocated), want.Used.Add(f.Used), want.Overdraft.Add(f.Overdraft())
				want.Owed = want.Owed.Add(decimal.Max(decimal.Zero, f.Used))
				if f.Available().IsNegative() {
					want.Overdrawn++
				}
				shares = shares.Add(e.Share(f))
			}
			require.Equal(t, log[at-1].Head(), e.Head)
			require.Equal(t, len(figures), e.Resellers)
			require.Equal(t, want.Overdrawn, e.Overdrawn)
			for what, pair := range map[string][2]decimal.Decimal{"allocated": {want.Allocated, e.Allocated}, "used": {want.Used, e.Used}, "owed": {want.Owed, e.Owed}, "overdraft": {want.Overdraft, e.Overdraft}} {
				require.True(t, pair[0].Equal(pair[1]), "%s is %s, the log gives %s", what, pair[1], pair[0])
			}
			require.True(t, e.Allocated.Equal(e.Head.Pool.Allocated), "the resellers have what the pool has given")
			if e.Owed.IsPositive() {
				require.True(t, shares.Sub(decimal.New(1, 0)).Abs().LessThanOrEqual(decimal.New(int64(len(figures)), -6)), "the shares make a whole: %s", shares)
			}
			listed := map[uuid.UUID]credit.Figures{}
			for r, err := range e.All(t.Context(), b) {
				require.NoError(t, err)
				listed[r.ID] = r.Figures
			}
			require.Equal(t, figures, listed, "the list has the figures that were added up")
		}
	}
}

func TestExposure_beforeTheFirstRecordIsNothing(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	e, err := report.NewExposure(t.Context(), b, credit.AsOf{})
	require.NoError(t, err)
	text, err := json.Marshal(e)
	require.NoError(t, err)
	assert.Contains(t, string(text), `"resellers":0,"overdrawn":0,"allocated":"0","used":"0","owed":"0","overdraft":"0"}`)
	assert.True(t, e.Share(credit.Figures{Used: usd("5")}).IsZero(), "nothing is divided by nothing")
	b.add("Nimbus")
	e, err = report.NewExposure(t.Context(), b, credit.AsOf{Time: begin.Add(-time.Hour)})
	require.NoError(t, err)
	assert.Zero(t, e.Resellers)
	for r, err := range e.All(t.Context(), b) {
		require.NoError(t, err)
		assert.Fail(t, "the list has a reseller that was not added up", "%s", r.Name)
	}
}

// hiding answers without one of its resellers.
type hiding struct {
	credit.Ledger
}

func (h hiding) Resellers(ctx context.Context, q credit.ResellerQuery) (credit.Page[credit.Reseller], error) {
	page, err := h.Ledger.Resellers(ctx, q)
	page.Items = page.Items[1:]
	return page, err
}

func TestExposure_thatIsNotWhatThePoolHasGivenIsCorrupt(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	for i, name := range []string{"Nimbus", "Cirrus"} {
		id := b.add(name)
		b.do(credit.Grant{Amount: usd("100")}, credit.Allocation{ResellerID: id, Amount: decimal.NewFromInt(int64(40 + i))})
	}
	e, err := report.NewExposure(t.Context(), hiding{b}, credit.AsOf{})
	var corrupt *credit.CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.EqualError(t, err, "credit: corrupt ledger: record 6: the resellers have 41, the pool has allocated 81")
	assert.Equal(t, report.Exposure{}, e, "an error comes alone")
}

func TestReports_passOnTheErrorsOfTheLedger(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	id := b.add("Nimbus")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := report.NewStatement(ctx, b, id, begin, begin.Add(time.Hour))
	require.ErrorIs(t, err, context.Canceled)
	_, err = report.NewExposure(ctx, b, credit.AsOf{})
	require.ErrorIs(t, err, context.Canceled)
	e, err := report.NewExposure(t.Context(), b, credit.AsOf{Sequence: 9})
	assert.Equal(t, report.Exposure{}, e, "an error comes alone")
	require.EqualError(t, err, "credit: as of: is sequence 9, the log ends at 1")
}
