package sqlstore_test

import (
	"database/sql"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

const isoMicros = "2006-01-02T15:04:05.000000Z"

// What people see who look with SQL is what the library answers, to the last digit.
func TestViewsShowWhatTheLibraryAnswers(t *testing.T) {
	t.Parallel()
	s, db := newStore(t)
	b, r := opened(t, s)
	b.now = time.Date(2026, 3, 1, 23, 59, 59, 5000, time.UTC)
	batch := b.write(t, s,
		credit.Grant{Amount: amount(t, "999998999999.999999"), Operator: "channel@example.com"},
		credit.Allocation{ResellerID: r.ID, Amount: amount(t, "12345678901.234567"), Key: "po-1", Metadata: map[string]string{"order": "7"}},
		credit.Correction{ResellerID: r.ID, Amount: amount(t, "0.5"), Customer: "c-1", Corrects: 2},
		credit.Repossession{ResellerID: r.ID, Amount: amount(t, "0.000001")},
		credit.Usage{ResellerID: r.ID, Amount: amount(t, "999999999999.999999")},
		credit.Usage{ResellerID: r.ID, Amount: amount(t, "0.5"), OccurredAt: time.Date(1969, 12, 31, 23, 59, 59, 999999000, time.UTC)},
		credit.Correction{ResellerID: r.ID, Amount: amount(t, "999999999999.999999")},
		credit.Correction{ResellerID: r.ID, Amount: amount(t, "999999999999.999999")},
	)

	type shown struct {
		Ledger          string         `db:"ledger"`
		ID              string         `db:"id"`
		Kind            string         `db:"kind"`
		Reseller        sql.NullString `db:"reseller"`
		Amount          string         `db:"amount"`
		AllocatedBefore string         `db:"allocated_before"`
		AllocatedAfter  string         `db:"allocated_after"`
		UsedBefore      string         `db:"used_before"`
		UsedAfter       string         `db:"used_after"`
		AvailableBefore string         `db:"available_before"`
		AvailableAfter  string         `db:"available_after"`
		PoolGranted     string         `db:"pool_granted"`
		PoolAllocated   string         `db:"pool_allocated"`
		PoolRemaining   string         `db:"pool_remaining"`
		Key             string         `db:"idempotency_key"`
		Fingerprint     string         `db:"fingerprint"`
		Corrects        sql.NullInt64  `db:"corrects"`
		Metadata        sql.NullString `db:"metadata"`
		OccurredAt      string         `db:"occurred_at"`
		RecordedAt      string         `db:"recorded_at"`
		Hash            string         `db:"hash"`
	}
	var got []shown
	require.NoError(t, db.Select(&got, `SELECT ledger, id, kind, reseller, amount, allocated_before, allocated_after, used_before, used_after,
		available_before, available_after, pool_granted, pool_allocated, pool_remaining, idempotency_key, fingerprint, corrects, metadata,
		occurred_at, recorded_at, hash FROM credit_record_view WHERE sequence > 2 ORDER BY sequence`))
	var want []shown
	for _, r := range batch.Records {
		row := shown{Ledger: b.ID.String(), ID: r.ID.String(), Kind: string(r.Kind),
			Reseller: sql.NullString{String: r.ResellerID.String(), Valid: r.ResellerID != uuid.Nil},
			Amount:   r.Amount.String(), AllocatedBefore: r.Before.Allocated.String(), AllocatedAfter: r.After.Allocated.String(),
			UsedBefore: r.Before.Used.String(), UsedAfter: r.After.Used.String(),
			AvailableBefore: r.Before.Available().String(), AvailableAfter: r.After.Available().String(),
			PoolGranted: r.Pool.Granted.String(), PoolAllocated: r.Pool.Allocated.String(), PoolRemaining: r.Pool.Remaining().String(),
			Key: r.Key, Fingerprint: r.Fingerprint.String(), Corrects: sql.NullInt64{Int64: r.Corrects, Valid: r.Corrects != 0},
			Metadata:   sql.NullString{String: `{"order":"7"}`, Valid: r.Metadata != nil},
			OccurredAt: r.OccurredAt.Format(isoMicros), RecordedAt: r.RecordedAt.Format(isoMicros), Hash: r.Hash.String()}
		if !row.Reseller.Valid {
			row.Reseller.String = ""
		}
		if !row.Metadata.Valid {
			row.Metadata.String = ""
		}
		want = append(want, row)
	}
	assert.Equal(t, want, got)
	assert.Equal(t, "-0.5", got[2].UsedAfter)
	assert.Equal(t, "-987654321098.265433", got[4].AvailableAfter)

	var pool struct {
		Name, Currency, Granted, Allocated, Remaining, Hash string
		Sequence                                            int64
		RecordedAt                                          sql.NullString `db:"recorded_at"`
	}
	require.NoError(t, db.Get(&pool, "SELECT name, currency, granted, allocated, remaining, sequence, hash, recorded_at FROM credit_pool_view WHERE ledger = ?", b.ID.String()))
	head := batch.Head()
	assert.Equal(t, []any{"Acme Cloud", "USD", "999999999999.999999", "12345678901.234566", "987654321098.765433"},
		[]any{pool.Name, pool.Currency, pool.Granted, pool.Allocated, pool.Remaining})
	assert.Equal(t, []any{head.Sequence, head.Hash.String(), head.RecordedAt.Format(isoMicros)}, []any{pool.Sequence, pool.Hash, pool.RecordedAt.String})

	var reseller struct {
		ID, Name, Status, Allocated, Used, Available string
	}
	require.NoError(t, db.Get(&reseller, "SELECT id, name, status, allocated, used, available FROM credit_reseller_view WHERE ledger = ? AND external_id = ?", b.ID.String(), r.ExternalID))
	f := batch.Moved[0].Figures
	assert.Equal(t, []string{r.ID.String(), "Nimbus", "active", f.Allocated.String(), f.Used.String(), f.Available().String()},
		[]string{reseller.ID, reseller.Name, reseller.Status, reseller.Allocated, reseller.Used, reseller.Available})

	empty := newBook()
	_, err := s.Create(t.Context(), empty.Distributor)
	require.NoError(t, err)
	require.NoError(t, db.Get(&pool, "SELECT name, currency, granted, allocated, remaining, sequence, hash, recorded_at FROM credit_pool_view WHERE ledger = ?", empty.ID.String()))
	assert.Equal(t, []string{"0", "0", "0"}, []string{pool.Granted, pool.Allocated, pool.Remaining})
	assert.False(t, pool.RecordedAt.Valid, "an empty ledger has no time")
}
