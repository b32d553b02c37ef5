package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// Tx is a transaction of the caller's: what *sql.Tx and *sqlx.Tx have in common.
// The store neither commits it nor rolls it back; that it could tells it from a
// pool or a connection.
type Tx interface {
	// ExecContext is that of [sql.Tx].
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	// QueryContext is that of [sql.Tx].
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	// Commit is never called.
	Commit() error
	// Rollback is never called.
	Rollback() error
}

// WithTx returns the store inside a transaction of the caller's on the same
// database, for [store.Ledger.On]:
//
//	tx, err := db.BeginTx(ctx, nil)
//	_, err = tx.ExecContext(ctx, "INSERT INTO orders …")
//	_, err = ledger.On(s.WithTx(tx)).Allocate(ctx, allocation)
//	err = tx.Commit()
//
// What the ledger writes takes effect when the caller commits, and not at all if
// the caller rolls back. From the first call on, reading the pool or a reseller
// included, and on MySQL a list, the transaction holds the ledger, and everybody
// else who writes to it waits until the transaction ends: do it late, and end soon.
// On MySQL a list may hold a reseller of the next ledger, too. A transaction that
// only reads cannot hold anything; read with the ledger itself.
//
// Inside the transaction use what On returns. The ledger itself would wait for the
// transaction that its caller holds, until its own time limit.
//
// Nothing is retried inside the transaction. Every failure of the database is a
// [*TxError], after which the transaction is to be rolled back; it says whether
// running it again may help. On PostgreSQL and MySQL, READ COMMITTED is the
// isolation that does not make it fail for what it read before; on SQLite the
// transaction should begin as a writer (_txlock=immediate, which [SQLiteDSN] has).
// A refusal by a rule leaves the transaction as it was; after any other error, also
// that of a context, roll it back.
func (s *Store) WithTx(tx Tx) store.Store {
	inside := *s
	inside.tx = tx
	return &inside
}

// TxError is a failure of the database inside a transaction of the caller's, who
// has to roll it back.
type TxError struct {
	// Temporary: the transaction met another one, or a lost connection, and running
	// all of it again may succeed.
	Temporary bool
	// Err is what the database or the driver said.
	Err error
}

func (e *TxError) Error() string {
	if e.Temporary {
		return fmt.Sprintf("the caller's transaction met another one or has read before it (use READ COMMITTED; on SQLite begin it as a writer):"+
			" roll it back and run it again: %v", e.Err)
	}
	return fmt.Sprintf("the caller's transaction cannot be used, roll it back: %v", e.Err)
}

// Unwrap returns what the database or the driver said.
func (e *TxError) Unwrap() error { return e.Err }

// base is what single statements run on.
func (s *Store) base() executor {
	if s.tx != nil {
		return s.tx
	}
	return s.db
}

// lock holds the ledger for the rest of the caller's transaction, so that what is
// then read is current and stays so. It returns nil for one that is not there.
func (s *Store) lock(ctx context.Context, ledger uuid.UUID) (*credit.Distributor, error) {
	if s.callers() {
		if err := s.dialect.begun(ctx, s.tx); err != nil {
			return nil, err
		}
	}
	text, args := s.dialect.lock(s.prefix, ledger)
	return s.readDistributor(ctx, "lock the ledger", text, args...)
}

// current is the dialect's in a caller's transaction.
func (s *Store) current() string {
	if s.callers() {
		return s.dialect.current()
	}
	return ""
}

// heldTx is a transaction of the store's own, in which a ledger is held. Once
// something has failed in it, everything else fails as well: it may be gone, or
// half of an append be in it.
type heldTx struct {
	on     executor
	failed atomic.Pointer[error]
}

func (h *heldTx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := h.failure(); err != nil {
		return nil, err
	}
	return h.on.ExecContext(ctx, query, args...)
}

func (h *heldTx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := h.failure(); err != nil {
		return nil, err
	}
	return h.on.QueryContext(ctx, query, args...)
}

func (h *heldTx) Commit() error   { return nil }
func (h *heldTx) Rollback() error { return nil }

// failure is the first error in it.
func (h *heldTx) failure() error {
	if first := h.failed.Load(); first != nil {
		return *first
	}
	return nil
}

// Holder implements [store.Holder].
func (s *Store) Holder() store.Store { return s }

// Hold implements [store.Holder]. If f returns nil although a call of the store
// that it was given had failed, nothing is written, and Hold returns that error.
func (s *Store) Hold(ctx context.Context, ledger uuid.UUID, f func(store.Store) error) error {
	if s.tx != nil {
		return f(s) // as the caller's transaction does
	}
	var failed error
	err := s.inTransaction(ctx, func(tx executor) error {
		inside := *s
		held := &heldTx{on: tx}
		inside.tx = held
		if failed = f(&inside); failed == nil {
			failed = held.failure()
		}
		return failed
	})
	if failed != nil {
		return failed
	}
	return err
}

// callers tells whether the store works in a transaction of the caller's.
func (s *Store) callers() bool {
	_, held := s.tx.(*heldTx)
	return s.tx != nil && !held
}

// savepoint runs f in the transaction, a caller's one of which is as before if it
// fails.
func (s *Store) savepoint(ctx context.Context, f func(executor) error) error {
	if !s.callers() {
		return f(s.tx) // what fails in a hold takes all of it back
	}
	if err := s.dialect.begun(ctx, s.tx); err != nil {
		return err
	}
	if _, err := s.tx.ExecContext(ctx, "SAVEPOINT credit_append"); err != nil {
		return err
	}
	if err := f(s.tx); err != nil {
		_, back := s.tx.ExecContext(context.WithoutCancel(ctx), "ROLLBACK TO SAVEPOINT credit_append")
		switch {
		case back == nil:
			return err
		case errors.Is(err, store.ErrMoved), errors.Is(err, store.ErrNoLedger):
			return fmt.Errorf("go back to the savepoint: %w, after: %v", back, err) //nolint:errorlint // half of the append may be there
		}
		return fmt.Errorf("%w: %w", back, err)
	}
	_, err := s.tx.ExecContext(context.WithoutCancel(ctx), "RELEASE SAVEPOINT credit_append")
	return err
}

func temporaryInTx(d Dialect, err error) bool {
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, context.DeadlineExceeded) || d.class(err) != failed
}
