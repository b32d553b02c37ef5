package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
)

var _ credit.Ledger = (*store.Ledger)(nil)

func TestOpenRefusesADistributorThatIsWrong(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*credit.Distributor){
		"distributor id":   func(d *credit.Distributor) { d.ID = uuid.Nil },
		"distributor name": func(d *credit.Distributor) { d.Name = "" },
		"currency":         func(d *credit.Distributor) { d.Currency = "usd" },
	} {
		d := acme
		change(&d)
		_, err := store.Open(t.Context(), memstore.New(), d, store.Options{})
		var invalid *credit.InvalidError
		require.ErrorAs(t, err, &invalid, field)
		assert.Equal(t, field, invalid.Field)
	}
}

func TestOpenRefusesOptionsThatAreWrong(t *testing.T) {
	t.Parallel()
	for field, o := range map[string]store.Options{
		"option MaxQueue":      {MaxQueue: -1},
		"option MaxBatch":      {MaxBatch: -1},
		"option MaxBulk":       {MaxBulk: math.MinInt},
		"option CommitTimeout": {CommitTimeout: -1},
	} {
		s := &hooked{Store: memstore.New()}
		created := false
		s.create = func(next func() (credit.Distributor, error)) (credit.Distributor, error) {
			created = true
			return next()
		}
		_, err := store.Open(t.Context(), s, acme, o)
		var invalid *credit.InvalidError
		require.ErrorAs(t, err, &invalid, field)
		assert.Equal(t, field, invalid.Field)
		assert.False(t, created, "a ledger was created for an engine that could not be opened")
	}
}

func TestOpenAgainFindsTheSameLedger(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	head, err := b.Head(t.Context())
	require.NoError(t, err)

	renamed := acme
	renamed.Name = "Acme Cloud International"
	l, err := store.Open(t.Context(), b.store, renamed, store.Options{})
	require.NoError(t, err)
	assert.Equal(t, acme, l.Distributor(), "the stored name counts")
	again, err := l.Head(t.Context())
	require.NoError(t, err)
	assert.Equal(t, head, again)

	other := acme
	other.Currency = "EUR"
	_, err = store.Open(t.Context(), b.store, other, store.Options{})
	require.ErrorIs(t, err, credit.ErrMismatch)
	unmatched(t, err)
}

func TestOpenRepeatsWhatFailedForNowAndReportsTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &hooked{Store: memstore.New()}
		failures := 5
		s.create = func(next func() (credit.Distributor, error)) (credit.Distributor, error) {
			if failures--; failures >= 0 {
				return credit.Distributor{}, store.Retry(errTemporary)
			}
			return next()
		}
		_, err := store.Open(t.Context(), s, acme, store.Options{})
		require.NoError(t, err)
		failures = 100
		_, err = store.Open(t.Context(), s, acme, store.Options{})
		require.ErrorIs(t, err, errTemporary)
		assert.True(t, store.Retryable(err))
		assert.ErrorContains(t, err, acme.ID.String())

		calls := 0
		s.create = func(func() (credit.Distributor, error)) (credit.Distributor, error) {
			calls++
			return credit.Distributor{}, errLost
		}
		_, err = store.Open(t.Context(), s, acme, store.Options{})
		require.ErrorIs(t, err, errLost)
		unmatched(t, err)
		assert.Equal(t, 1, calls, "an error that is not known to be temporary is repeated")

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = store.Open(ctx, s, acme, store.Options{})
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestTheClockMayBeOfAnyZoneAndGoBackwards(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("somewhere", 5*3600+45*60)
	c := newClock()
	b := newBook(t, c.options())
	c.now = time.Date(2026, 3, 1, 20, 30, 0, 123456789, zone)
	r := b.allocate("1")
	want := time.Date(2026, 3, 1, 14, 45, 0, 123456000, time.UTC)
	assert.Equal(t, want, r.RecordedAt, "recorded-at is not UTC with whole microseconds")
	assert.Equal(t, want, r.OccurredAt)
	c.now = c.now.Add(-time.Hour)
	assert.Equal(t, want, b.allocate("1").RecordedAt, "recorded-at is earlier than that of the record before")
	c.now = time.Time{}
	assert.Equal(t, want, b.allocate("1").RecordedAt)
	c.now = want.Add(time.Microsecond + 999)
	assert.Equal(t, want.Add(time.Microsecond), b.allocate("1").RecordedAt)
	for _, r := range b.log() {
		assert.Equal(t, time.UTC, r.RecordedAt.Location())
	}
	b.sound()
}

func TestIDsComeFromTheirSource(t *testing.T) {
	t.Parallel()
	b := newBook(t, newClock().options())
	assert.Equal(t, id(1001), b.log()[0].ID)
	assert.Equal(t, id(1002), b.log()[1].ID)
	assert.Equal(t, id(1003), b.nimbus)
	assert.Equal(t, id(1004), b.allocate("1").ID)

	byDefault, err := store.Open(t.Context(), memstore.New(), acme, store.Options{})
	require.NoError(t, err)
	r, err := byDefault.Grant(t.Context(), credit.Grant{Amount: amt("1")})
	require.NoError(t, err)
	assert.EqualValues(t, 7, r.ID.Version(), "ids are not in the order of time")
	assert.WithinDuration(t, time.Now(), r.RecordedAt, time.Minute)
}

// Every verb of the interface, once.
func TestEveryVerbReachesItsRule(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	ctx, n := t.Context(), b.nimbus
	var kinds []credit.Kind
	do := func(r credit.Receipt, err error) {
		t.Helper()
		require.NoError(t, err)
		kinds = append(kinds, r.Kind)
	}
	do(b.Withdraw(ctx, credit.Withdrawal{Amount: amt("1")}))
	do(b.UpdateReseller(ctx, credit.ProfileUpdate{ResellerID: n, Name: new("New")}))
	do(b.Allocate(ctx, credit.Allocation{ResellerID: n, Amount: amt("100")}))
	do(b.FreezeReseller(ctx, credit.Freeze{ResellerID: n}))
	do(b.UnfreezeReseller(ctx, credit.Unfreeze{ResellerID: n}))
	do(b.RecordUsage(ctx, credit.Usage{ResellerID: n, Amount: amt("30")}))
	do(b.CorrectUsage(ctx, credit.Correction{ResellerID: n, Amount: amt("10")}))
	do(b.Settle(ctx, credit.Settlement{ResellerID: n, Amount: amt("5")}))
	do(b.Repossess(ctx, credit.Repossession{ResellerID: n, Amount: amt("3")}))
	do(b.RepossessAll(ctx, credit.RepossessAll{ResellerID: n}))
	do(b.CloseReseller(ctx, credit.Close{ResellerID: n}))
	assert.Equal(t, []credit.Kind{credit.KindWithdraw, credit.KindUpdate, credit.KindAllocate, credit.KindFreeze, credit.KindUnfreeze,
		credit.KindUsage, credit.KindCorrection, credit.KindSettle, credit.KindRepossess, credit.KindRepossess, credit.KindClose}, kinds)
	pool, err := b.Pool(ctx)
	require.NoError(t, err)
	assert.Equal(t, "999", pool.Granted.String())
	assert.Equal(t, "15", pool.Allocated.String())
	r, err := b.Reseller(ctx, n)
	require.NoError(t, err)
	assert.Equal(t, credit.StatusClosed, r.Status)
	assert.Equal(t, "New", r.Name)
	_, err = b.Reseller(ctx, id(99))
	require.ErrorIs(t, err, credit.ErrNotFound)
	b.sound()
}

func TestAReadEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{})
		b.store.load = func(context.Context, credit.ReadSet, func() (credit.Snapshot, error)) (credit.Snapshot, error) {
			return credit.Snapshot{}, store.Retry(errTemporary)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Microsecond)
		defer cancel()
		_, err := b.Pool(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestAReadRunsUnderItsCallersContext(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	b.store.load = func(ctx context.Context, _ credit.ReadSet, next func() (credit.Snapshot, error)) (credit.Snapshot, error) {
		assert.Equal(t, "trace", ctx.Value(contextKey{}))
		return next()
	}
	_, err := b.Pool(context.WithValue(t.Context(), contextKey{}, "trace"))
	require.NoError(t, err)
}

func TestAnErrorOfTheStoreIsNeverARefusal(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{}).forgetful()
	failure := errors.New("insufficient funds in the connection pool")
	b.store.load = func(context.Context, credit.ReadSet, func() (credit.Snapshot, error)) (credit.Snapshot, error) {
		return credit.Snapshot{}, failure
	}
	_, err := b.Allocate(t.Context(), b.allocation("1", ""))
	require.ErrorIs(t, err, failure)
	unmatched(t, err)
	assert.Equal(t, "internal", credit.Code(err))
	assert.Equal(t, 1, strings.Count(err.Error(), failure.Error()))
}

func TestAnEmptyPageIsAnEmptyListInJSON(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	records, err := b.Records(t.Context(), credit.RecordQuery{ResellerID: uuid.Max})
	require.NoError(t, err)
	text, err := json.Marshal(records)
	require.NoError(t, err)
	assert.JSONEq(t, `{"items":[]}`, string(text))
	resellers, err := b.Resellers(t.Context(), credit.ResellerQuery{Statuses: []credit.Status{credit.StatusClosed}})
	require.NoError(t, err)
	text, err = json.Marshal(resellers)
	require.NoError(t, err)
	assert.JSONEq(t, `{"items":[]}`, string(text))
}
