package databases_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/store"
)

// BenchmarkMySQL compares allocations from one hot pool to 100 resellers with the
// transaction that one would write by hand for each: update the pool, update the
// reseller, insert the record. Both take turns in rounds of one second.
//
//	go test -run '^$' -bench BenchmarkMySQL -benchtime 5x ./databases
func BenchmarkMySQL(b *testing.B) {
	dsn := server.Start(b, server.MariaDB)
	db := openMySQL(b, dsn)
	ledger, err := store.Open(b.Context(), newMySQL(b, db), credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}, store.Options{})
	require.NoError(b, err)
	_, err = ledger.Grant(b.Context(), credit.Grant{Amount: decimal.New(1, 9)})
	require.NoError(b, err)
	var resellers []uuid.UUID
	for i := range 100 {
		r, err := ledger.AddReseller(b.Context(), credit.NewReseller{Name: fmt.Sprintf("Reseller %d", i), ExternalID: fmt.Sprintf("2000%08d", i)})
		require.NoError(b, err)
		resellers = append(resellers, r.ResellerID)
	}
	byHand := newByHand(b, openMySQL(b, dsn), resellers)

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

// perSecond has so many callers repeat f for a second.
func perSecond(b *testing.B, callers int, f func(context.Context) error) float64 {
	b.Helper()
	var done atomic.Int64
	var all sync.WaitGroup
	begin := time.Now()
	for range callers {
		all.Go(func() {
			for time.Since(begin) < time.Second {
				if err := f(b.Context()); err != nil {
					b.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	return float64(done.Load()) / time.Since(begin).Seconds()
}

func newByHand(b *testing.B, db *sqlx.DB, resellers []uuid.UUID) func(context.Context, int64) error {
	b.Helper()
	db.SetMaxOpenConns(64)
	db.SetMaxIdleConns(64)
	for text := range strings.SplitSeq(`
		CREATE TABLE pool (id INT PRIMARY KEY, granted BIGINT NOT NULL, allocated BIGINT NOT NULL);
		CREATE TABLE reseller (id BINARY(16) PRIMARY KEY, allocated BIGINT NOT NULL);
		CREATE TABLE record (id BIGINT AUTO_INCREMENT PRIMARY KEY, reseller BINARY(16) NOT NULL, amount BIGINT NOT NULL, operator VARCHAR(200) NOT NULL,
			request VARCHAR(200) NOT NULL UNIQUE, at DATETIME(6) NOT NULL, KEY (reseller));
		INSERT INTO pool VALUES (1, 1000000000000000, 0)`, ";") {
		_, err := db.ExecContext(b.Context(), text)
		require.NoError(b, err)
	}
	for _, id := range resellers {
		_, err := db.ExecContext(b.Context(), "INSERT INTO reseller VALUES (?, 0)", id[:])
		require.NoError(b, err)
	}
	return func(ctx context.Context, i int64) error {
		tx, err := db.BeginTxx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		id := resellers[i%int64(len(resellers))]
		if _, err := tx.ExecContext(ctx, "UPDATE pool SET allocated = allocated + ? WHERE id = 1 AND allocated + ? <= granted", 10_000, 10_000); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE reseller SET allocated = allocated + ? WHERE id = ?", 10_000, id[:]); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO record (reseller, amount, operator, request, at) VALUES (?, ?, ?, ?, UTC_TIMESTAMP(6))", id[:], 10_000, "ops@example.com", fmt.Sprint("po-", i)); err != nil {
			return err
		}
		return tx.Commit()
	}
}
