package store_test

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// What went wrong in other people's ledgers, as far as it is the engine's to
// prevent. Each comment names the report.

// laravel-wallet #124, double_entry #114, playsms #522: the balance was read
// before the lock was taken.
func TestElsewhere_concurrent_calls_spent_the_same_balance(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	engines := []*book{b, b.another(), b.another()}
	var all sync.WaitGroup
	var mu sync.Mutex
	given, taken := 0, 0
	for i := range 60 {
		all.Go(func() {
			_, err := engines[i%3].Allocate(context.WithoutCancel(t.Context()), b.allocation("30", ""))
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				given++
				return
			}
			assert.ErrorIs(t, err, credit.ErrInsufficientPool)
		})
	}
	all.Wait()
	assert.Equal(t, 33, given, "more was allocated than the pool had, or less")
	for i := range 60 {
		all.Go(func() {
			_, err := engines[i%3].Repossess(context.WithoutCancel(t.Context()), credit.Repossession{ResellerID: b.nimbus, Amount: amt("70")})
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				taken++
				return
			}
			assert.ErrorIs(t, err, credit.ErrExceedsAvailable)
		})
	}
	all.Wait()
	assert.Equal(t, 14, taken, "more was taken back than was there, or less")
	b.sound()
}

// OpenXC-Resellers #9: taking back more than is available minted credit for the master.
func TestElsewhere_taking_back_too_much_minted_credit(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	b.allocate("100")
	_, err := b.RecordUsage(t.Context(), credit.Usage{ResellerID: b.nimbus, Amount: amt("80")})
	require.NoError(t, err)
	_, err = b.Allocate(t.Context(), b.allocation("-21", ""))
	var limit *credit.LimitError
	require.ErrorAs(t, err, &limit)
	assert.Equal(t, "20", limit.Allowed.String())
	pool, err := b.Pool(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "1000", pool.Granted.String())
	assert.Equal(t, "100", pool.Allocated.String())
	_, err = b.Allocate(t.Context(), b.allocation("-"+limit.Allowed.String(), ""))
	require.NoError(t, err, "exactly what the error allows is refused")
}

// midaz-sdk-golang #236: a reused key with other content returned the old result as success.
func TestElsewhere_a_reused_key_with_other_content_was_a_success(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	_, err := b.Allocate(t.Context(), b.allocation("5", "k"))
	require.NoError(t, err)
	for _, engine := range []*book{b, b.another(), b.forgetful()} {
		_, err = engine.Allocate(t.Context(), b.allocation("6", "k"))
		require.ErrorIs(t, err, credit.ErrKeyConflict)
		_, err = engine.Grant(t.Context(), credit.Grant{Amount: amt("5"), Key: "k"})
		require.ErrorIs(t, err, credit.ErrKeyConflict)
	}
	assert.Len(t, b.log(), 3)
}

// flexprice-front #1422: a failed attempt burned the key.
func TestElsewhere_a_failed_attempt_burned_the_key(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	_, err := b.Allocate(t.Context(), b.allocation("1500", "k"))
	require.ErrorIs(t, err, credit.ErrInsufficientPool)
	b.store.append = func(context.Context, credit.Head, store.Batch, func() error) error { return store.Reject(errFinal) }
	_, err = b.Allocate(t.Context(), b.allocation("900", "k"))
	require.ErrorIs(t, err, errFinal)
	b.store.append = nil
	b.grant("1000")
	r, err := b.Allocate(t.Context(), b.allocation("1500", "k"))
	require.NoError(t, err, "a refused or failed attempt consumed its key")
	assert.False(t, r.Replayed)
}

// five-bells-ledger #402: serialization failures were reported as "insufficient funds".
func TestElsewhere_a_serialization_failure_was_called_insufficient_funds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{CommitTimeout: time.Second})
		b.store.append = func(context.Context, credit.Head, store.Batch, func() error) error { return store.Retry(errTemporary) }
		_, err := b.Allocate(t.Context(), b.allocation("5", ""))
		require.ErrorIs(t, err, errTemporary)
		unmatched(t, err)
		assert.True(t, store.Retryable(err))
		assert.NotContains(t, err.Error(), "insufficient")
	})
}

// AutoGPT #13043: refusing usage after the fact gave it away free.
func TestElsewhere_usage_was_refused_after_the_fact(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	_, err := b.CloseReseller(t.Context(), credit.Close{ResellerID: b.nimbus})
	require.NoError(t, err)
	r, err := b.RecordUsage(t.Context(), credit.Usage{ResellerID: b.nimbus, Amount: amt("123.45")})
	require.NoError(t, err)
	assert.Equal(t, "-123.45", r.After.Available().String())
}

// blnk #181: two checks of the balance disagreed.
func TestElsewhere_the_preview_and_the_rule_disagreed(t *testing.T) {
	t.Parallel()
	for _, usage := range []string{"0.000001", "40", "99.999999", "100", "250"} {
		b := newBook(t, store.Options{})
		b.allocate("100")
		_, err := b.RecordUsage(t.Context(), credit.Usage{ResellerID: b.nimbus, Amount: amt(usage)})
		require.NoError(t, err)
		reseller, err := b.Reseller(t.Context(), b.nimbus)
		require.NoError(t, err)
		preview := reseller.Repossessable()
		dry, err := b.Bulk(t.Context(), []credit.Command{credit.RepossessAll{ResellerID: b.nimbus}}, credit.BulkOptions{DryRun: true})
		require.NoError(t, err)
		r, err := b.RepossessAll(t.Context(), credit.RepossessAll{ResellerID: b.nimbus})
		if preview.IsZero() {
			require.ErrorIs(t, dry[0].Err, credit.ErrExceedsAvailable)
			require.ErrorIs(t, err, credit.ErrExceedsAvailable)
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, preview.Neg().String(), r.Amount.String())
		assert.Equal(t, preview.Neg().String(), dry[0].Receipt.Amount.String())
	}
}

// bike4mind #890: adjustments lost their operator and reason.
func TestElsewhere_adjustments_lost_their_operator(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	_, err := b.Allocate(t.Context(), credit.Allocation{ResellerID: b.nimbus, Amount: amt("5"), Operator: "ops@example.com", Remark: "for the fair", Reference: "po-4711"})
	require.NoError(t, err)
	r := b.log()[2]
	assert.Equal(t, []string{"ops@example.com", "for the fair", "po-4711"}, []string{r.Operator, r.Remark, r.Reference})
}

// elizaOS #22681: a price of −1 minted 31,348.80 credits.
func TestElsewhere_a_negative_price_minted_credit(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	b.allocate("10")
	outcomes, err := b.Bulk(t.Context(), []credit.Command{
		credit.Usage{ResellerID: b.nimbus, Amount: amt("-31348.8")}, credit.Grant{Amount: amt("-1")}, credit.Withdrawal{Amount: amt("-1")},
		credit.Repossession{ResellerID: b.nimbus, Amount: amt("-1")}, credit.Correction{ResellerID: b.nimbus, Amount: amt("-1")},
		credit.Settlement{ResellerID: b.nimbus, Amount: amt("-1")}, b.allocation("0", ""),
	}, credit.BulkOptions{})
	require.NoError(t, err)
	for _, o := range outcomes {
		require.ErrorIs(t, o.Err, credit.ErrInvalid)
	}
}

// Containarium #1326: a hash chain never verified, because Go hashed nanoseconds
// and the database kept microseconds.
func TestElsewhere_the_chain_hashed_what_the_database_did_not_keep(t *testing.T) {
	t.Parallel()
	c := newClock()
	b := newBook(t, c.options())
	c.now = c.now.Add(123456789)
	r, err := b.Allocate(t.Context(), credit.Allocation{ResellerID: b.nimbus, Amount: amt("1"),
		OccurredAt: time.Date(2026, 1, 1, 0, 0, 0, 999999999, time.FixedZone("far", -9*3600))})
	require.NoError(t, err)
	assert.Equal(t, b.log()[2], r.Record, "the receipt is not what is kept")
	assert.Equal(t, r.Hash, b.log()[2].ChainHash(b.log()[1].Hash))
	b.sound()
}

// watermill #311: polling a serial column skipped events, because sequences
// commit out of order.
func TestElsewhere_polling_skipped_events(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{MaxBatch: 5})
	engines := []*book{b, b.another()}
	var writers sync.WaitGroup
	for g := range 8 {
		writers.Go(func() {
			for i := range 25 {
				_, err := engines[g%2].Allocate(context.WithoutCancel(t.Context()), b.allocation("0.1", fmt.Sprint(g, "/", i)))
				assert.NoError(t, err)
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	var last int64
	for finished := false; ; {
		select {
		case <-done:
			finished = true
		default:
		}
		page, err := b.Records(t.Context(), credit.RecordQuery{After: last, Limit: 7})
		require.NoError(t, err)
		for _, r := range page.Items {
			require.Equal(t, last+1, r.Sequence, "a reader that follows the log misses a record")
			last = r.Sequence
		}
		if finished && len(page.Items) == 0 {
			break
		}
	}
	assert.EqualValues(t, 2+8*25, last)
}

// shopspring/decimal #427: 1e20000000 parses in a microsecond, and one addition
// to it takes seconds. It must reach neither a queue nor a store.
func TestElsewhere_a_short_number_took_seconds(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	start := time.Now()
	for _, exponent := range []int32{20_000_000, -20_000_000, math.MaxInt32, math.MinInt32} {
		_, err := b.Allocate(t.Context(), credit.Allocation{ResellerID: b.nimbus, Amount: decimal.New(1, exponent)})
		require.ErrorIs(t, err, credit.ErrInvalid)
	}
	assert.Less(t, time.Since(start), time.Second)
	b.allocate("1")
}
