package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

// opening returns a ledger with a pool of 1,000 and one reseller.
func opening(t *testing.T, s store.Store) (*store.Ledger, uuid.UUID) {
	t.Helper()
	ledger, err := store.Open(t.Context(), s, credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}, store.Options{})
	require.NoError(t, err)
	_, err = ledger.Grant(t.Context(), credit.Grant{Amount: amount(t, "1000")})
	require.NoError(t, err)
	added, err := ledger.AddReseller(t.Context(), credit.NewReseller{Name: "Nimbus", ExternalID: "200012345678"})
	require.NoError(t, err)
	return ledger, added.ResellerID
}

// onFile returns the path of a new file, and the store and the ledger in it.
func onFile(t *testing.T) (string, *sqlstore.Store, *store.Ledger, uuid.UUID) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credit.db")
	s, err := sqlstore.New(openFile(t, path, 0), sqlstore.SQLite)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	ledger, nimbus := opening(t, s)
	return path, s, ledger, nimbus
}

func requireSound(t *testing.T, ledger *store.Ledger, records int) {
	t.Helper()
	checked, err := ledger.Check(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, records, checked.Records)
}

func TestWhatACallersTransactionDoesTakesEffectWhenItCommitsOrNotAtAll(t *testing.T) {
	t.Parallel()
	for _, connections := range []int{0, 1} {
		for _, extended := range []bool{false, true} {
			for _, commit := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d connections, sqlx %t, commit %t", connections, extended, commit), func(t *testing.T) {
					t.Parallel()
					db := openFile(t, filepath.Join(t.TempDir(), "credit.db"), connections)
					s, err := sqlstore.New(db, sqlstore.SQLite)
					require.NoError(t, err)
					require.NoError(t, s.Migrate(t.Context()))
					ledger, nimbus := opening(t, s)

					var tx sqlstore.Tx
					if extended {
						tx, err = db.BeginTxx(t.Context(), nil)
					} else {
						tx, err = db.DB.BeginTx(t.Context(), nil)
					}
					require.NoError(t, err)
					inside := ledger.On(s.WithTx(tx))
					order := credit.Allocation{ResellerID: nimbus, Amount: amount(t, "600"), Key: "po-1"}
					_, err = inside.Allocate(t.Context(), order)
					require.NoError(t, err)
					again, err := inside.Allocate(t.Context(), order)
					require.NoError(t, err)
					assert.True(t, again.Replayed, "the transaction sees its own records")
					_, err = inside.Allocate(t.Context(), credit.Allocation{ResellerID: nimbus, Amount: amount(t, "600")})
					require.ErrorIs(t, err, credit.ErrInsufficientPool, "a refusal leaves the transaction as it was")
					pool, err := inside.Pool(t.Context())
					require.NoError(t, err)
					assert.Equal(t, "400", pool.Remaining().String())

					if commit {
						require.NoError(t, tx.Commit())
						requireSound(t, ledger, 3)
					} else {
						require.NoError(t, tx.Rollback())
						requireSound(t, ledger, 2)
					}
					// The engine that serves the others has not been misled.
					_, err = ledger.Allocate(t.Context(), credit.Allocation{ResellerID: nimbus, Amount: amount(t, "600")})
					if commit {
						require.ErrorIs(t, err, credit.ErrInsufficientPool)
					} else {
						require.NoError(t, err)
					}
				})
			}
		}
	}
}

func TestACallerWhoseTimeIsUpCommitsNoHalfOfABatch(t *testing.T) {
	t.Parallel()
	s, db := newStore(t)
	ledger, _ := opening(t, s)
	tx, err := db.BeginTxx(t.Context(), nil)
	require.NoError(t, err)
	commands := make([]credit.Command, 5000)
	for i := range commands {
		commands[i] = credit.Grant{Amount: amount(t, "1")}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err = ledger.On(s.WithTx(tx)).Bulk(ctx, commands, credit.BulkOptions{AllOrNothing: true})
	if err != nil {
		require.NotErrorIs(t, err, credit.ErrOutcomeUnknown, "inside a transaction the outcome is known")
	}
	errCommit := tx.Commit() // whether that is wise or not
	if err != nil {
		// Nothing is left to commit if the time was up within a statement, because SQLite
		// takes back the transaction of a write that it interrupts.
		requireSound(t, ledger, 2)
	} else {
		require.NoError(t, errCommit)
		requireSound(t, ledger, 2+len(commands))
	}
}

func TestATransactionOfAnotherPoolOnTheSameFileWorks(t *testing.T) {
	t.Parallel()
	path, s, ledger, nimbus := onFile(t)
	_, err := ledger.Reseller(t.Context(), nimbus) // the statement is prepared, on the first pool
	require.NoError(t, err)

	tx, err := openFile(t, path, 0).BeginTxx(t.Context(), nil)
	require.NoError(t, err)
	_, err = ledger.On(s.WithTx(tx)).Allocate(t.Context(), credit.Allocation{ResellerID: nimbus, Amount: amount(t, "1")})
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	requireSound(t, ledger, 3)
}

// SQLite 517, BUSY_SNAPSHOT.
func TestATransactionThatReadBeforeSomebodyElseWroteIsATxError(t *testing.T) {
	t.Parallel()
	path, s, ledger, nimbus := onFile(t)

	deferred, err := sqlx.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(1000)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, deferred.Close()) })
	tx, err := deferred.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	var n int
	require.NoError(t, tx.QueryRowContext(t.Context(), "SELECT count(*) FROM credit_records").Scan(&n))
	_, err = ledger.Grant(t.Context(), credit.Grant{Amount: amount(t, "1")})
	require.NoError(t, err)

	_, err = ledger.On(s.WithTx(tx)).Allocate(t.Context(), credit.Allocation{ResellerID: nimbus, Amount: amount(t, "1")})
	var failed *sqlstore.TxError
	require.ErrorAs(t, err, &failed)
	assert.True(t, failed.Temporary, "running the transaction again may succeed")
	assert.False(t, store.Retryable(err), "running the call again in the same transaction may not")
	require.NoError(t, tx.Rollback())
	requireSound(t, ledger, 3)
}

func TestAWriterThatCannotBeWaitedForIsATemporaryTxError(t *testing.T) {
	t.Parallel()
	path, s, ledger, nimbus := onFile(t)
	brief, err := sqlx.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(1)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, brief.Close()) })

	writer, err := openFile(t, path, 0).BeginTxx(t.Context(), nil) // an immediate one
	require.NoError(t, err)
	tx, err := brief.BeginTx(t.Context(), &sql.TxOptions{})
	require.NoError(t, err)
	_, err = ledger.On(s.WithTx(tx)).Allocate(t.Context(), credit.Allocation{ResellerID: nimbus, Amount: amount(t, "1")})
	var failed *sqlstore.TxError
	require.ErrorAs(t, err, &failed)
	assert.True(t, failed.Temporary)
	assert.False(t, store.Retryable(err))
	require.NoError(t, tx.Rollback())
	require.NoError(t, writer.Rollback())
	requireSound(t, ledger, 2)
}

// SQLite takes a transaction back by itself for some errors. A caller who goes on
// all the same, and rolls back in the end, has written nothing.
func TestNothingIsWrittenInATransactionThatSQLiteHasTakenBack(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"Allocate", "Append", "Create"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			s, db := newStore(t)
			ledger, nimbus := opening(t, s)
			_, err := db.ExecContext(t.Context(), "CREATE TABLE orders (id INTEGER PRIMARY KEY ON CONFLICT ROLLBACK)")
			require.NoError(t, err)
			tx, err := db.BeginTxx(t.Context(), nil)
			require.NoError(t, err)
			_, err = tx.ExecContext(t.Context(), "INSERT INTO orders VALUES (1)")
			require.NoError(t, err)
			_, err = tx.ExecContext(t.Context(), "INSERT INTO orders VALUES (1)")
			require.Error(t, err, "the transaction is gone")

			other := credit.Distributor{ID: uuid.New(), Name: "Other", Currency: "USD"}
			switch inside := s.WithTx(tx); call {
			case "Allocate":
				_, err = ledger.On(inside).Allocate(t.Context(), credit.Allocation{ResellerID: nimbus, Amount: amount(t, "1")})
			case "Append":
				expected, batch := batchOn(t, ledger)
				err = inside.Append(t.Context(), ledger.Distributor().ID, expected, batch)
			case "Create":
				_, err = inside.Create(t.Context(), other)
			}
			var failed *sqlstore.TxError
			require.ErrorAs(t, err, &failed)
			require.ErrorContains(t, err, "taken the transaction back")
			assert.False(t, store.Retryable(err))
			_ = tx.Rollback() // there is none
			requireSound(t, ledger, 2)
			_, err = s.Load(t.Context(), other.ID, credit.ReadSet{})
			require.ErrorIs(t, err, store.ErrNoLedger)
		})
	}
}

// stuckTx is a transaction that cannot go back to a savepoint.
type stuckTx struct{ *sqlx.Tx }

func (tx stuckTx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if strings.HasPrefix(query, "ROLLBACK TO") {
		return nil, errors.New("stuck")
	}
	return tx.Tx.ExecContext(ctx, query, args...)
}

// That the head moved, or that there is no ledger, means that nothing was written.
func TestWhatCouldNotBeTakenBackIsNotSaidToBeUnwritten(t *testing.T) {
	t.Parallel()
	s, db := newStore(t)
	ledger, _ := opening(t, s)
	for name, id := range map[string]uuid.UUID{"the head moved": ledger.Distributor().ID, "no such ledger": uuid.New()} {
		tx, err := db.BeginTxx(t.Context(), nil)
		require.NoError(t, err)
		expected, batch := batchOn(t, ledger)
		expected.Hash[0]++
		err = s.WithTx(stuckTx{tx}).Append(t.Context(), id, expected, batch)
		require.NotErrorIs(t, err, store.ErrMoved)
		require.NotErrorIs(t, err, store.ErrNoLedger)
		require.ErrorContains(t, err, name)
		var failed *sqlstore.TxError
		require.ErrorAs(t, err, &failed)
		require.NoError(t, tx.Rollback())
	}
	requireSound(t, ledger, 2)
}

// A hold in which something failed writes nothing, even if its function goes on.
func TestAHoldInWhichSomethingFailedWritesNothing(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ledger, _ := opening(t, s)
	id := ledger.Distributor().ID
	expected, batch := batchOn(t, ledger)
	moved := expected
	moved.Hash[0]++
	err := s.Hold(t.Context(), id, func(inside store.Store) error {
		require.NoError(t, inside.Append(t.Context(), id, expected, batch))
		require.ErrorIs(t, inside.Append(t.Context(), id, moved, batch), store.ErrMoved)
		_, err := inside.Load(t.Context(), id, credit.ReadSet{})
		require.ErrorIs(t, err, store.ErrMoved, "nothing else works")
		return nil
	})
	require.ErrorIs(t, err, store.ErrMoved)
	requireSound(t, ledger, 2)
	require.NoError(t, s.Append(t.Context(), id, expected, batch), "the ledger is let go")
}

// batchOn returns a grant on top of the ledger's head.
func batchOn(t *testing.T, ledger *store.Ledger) (credit.Head, store.Batch) {
	t.Helper()
	head, err := ledger.Head(t.Context())
	require.NoError(t, err)
	r, err := credit.LoadState(credit.ReadSet{}, credit.Snapshot{Head: head}).
		Execute(credit.Grant{Amount: amount(t, "1")}, credit.Stamp{Time: head.RecordedAt, RecordID: uuid.New()})
	require.NoError(t, err)
	return head, store.Batch{Records: []credit.Record{r.Record}}
}
