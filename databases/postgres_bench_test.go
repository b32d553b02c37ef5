package databases_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/store"
)

// BenchmarkPostgres compares allocations from one hot pool to 100 resellers with
// the transaction that one would write by hand for each: update the pool, update
// the reseller, insert the record. Both take turns in rounds of one second.
//
//	go test -run '^$' -bench BenchmarkPostgres -benchtime 5x ./databases
func BenchmarkPostgres(b *testing.B) {
	p := postgresWay{server: server.Postgres15, driver: "pgx"}.start(b)
	ledger, err := store.Open(b.Context(), p.open(b), credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}, store.Options{})
	require.NoError(b, err)
	_, err = ledger.Grant(b.Context(), credit.Grant{Amount: decimal.New(1, 9)})
	require.NoError(b, err)
	var resellers []uuid.UUID
	for i := range 100 {
		r, err := ledger.AddReseller(b.Context(), credit.NewReseller{Name: fmt.Sprintf("Reseller %d", i), ExternalID: fmt.Sprintf("2000%08d", i)})
		require.NoError(b, err)
		resellers = append(resellers, r.ResellerID)
	}
	byHand := newPostgresByHand(b, p.pool(b), resellers)

	var n atomic.Int64
	for _, callers := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			var ours, theirs float64
			for b.Loop() {
				ours += perSecond(b, callers, func(ctx context.Context) error {
					i := n.Add(1)
					_, err := ledger.Allocate(ctx, credit.Allocation{ResellerID: resellers[i%100], Amount: decimal.New(1, -2),
						Operator: "ops@example.com", Key: fmt.Sprintf("po-%d", i)})
					return err
				})
				theirs += perSecond(b, callers, func(ctx context.Context) error { return byHand(ctx, n.Add(1)) })
			}
			b.ReportMetric(ours/float64(b.N), "records/s")
			b.ReportMetric(theirs/float64(b.N), "by-hand/s")
			b.ReportMetric(ours/theirs, "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
	b.Run("bulk=1000", func(b *testing.B) {
		commands := make([]credit.Command, 1000)
		for b.Loop() {
			for i := range commands {
				commands[i] = credit.Allocation{ResellerID: resellers[i%100], Amount: decimal.New(1, -2), Operator: "ops@example.com", Key: fmt.Sprintf("po-%d", n.Add(1))}
			}
			_, err := ledger.Bulk(b.Context(), commands, credit.BulkOptions{})
			require.NoError(b, err)
		}
		b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "records/s")
	})
}

func newPostgresByHand(b *testing.B, db *sqlx.DB, resellers []uuid.UUID) func(context.Context, int64) error {
	b.Helper()
	db.SetMaxOpenConns(64)
	db.SetMaxIdleConns(64)
	_, err := db.ExecContext(b.Context(), `
		CREATE TABLE pool (id integer PRIMARY KEY, granted bigint NOT NULL, allocated bigint NOT NULL);
		CREATE TABLE reseller (id uuid PRIMARY KEY, allocated bigint NOT NULL);
		CREATE TABLE record (id bigserial PRIMARY KEY, reseller uuid NOT NULL, amount bigint NOT NULL, operator text NOT NULL,
			request text NOT NULL UNIQUE, at timestamptz NOT NULL);
		CREATE INDEX ON record (reseller);
		INSERT INTO pool VALUES (1, 1000000000000000, 0)`)
	require.NoError(b, err)
	for _, id := range resellers {
		_, err := db.ExecContext(b.Context(), "INSERT INTO reseller VALUES ($1, 0)", id)
		require.NoError(b, err)
	}
	return func(ctx context.Context, i int64) error {
		tx, err := db.BeginTxx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		id := resellers[i%int64(len(resellers))]
		if _, err := tx.ExecContext(ctx, "UPDATE pool SET allocated = allocated + $1 WHERE id = 1 AND allocated + $1 <= granted", int64(10_000)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE reseller SET allocated = allocated + $1 WHERE id = $2", int64(10_000), id); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO record (reseller, amount, operator, request, at) VALUES ($1, $2, $3, $4, now())", id, int64(10_000), "ops@example.com", fmt.Sprint("po-", i)); err != nil {
			return err
		}
		return tx.Commit()
	}
}
