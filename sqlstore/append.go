package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// Append implements [store.Store].
func (s *Store) Append(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
	return s.dialect.append(ctx, s, ledger, expected, b)
}

// rows are rows to write with statements of at most so many rows each: values
// appends those of row i, text makes the statement for a number of rows.
type rows struct {
	what   string
	count  int
	most   int // a power of two
	values func(args []any, i int) ([]any, error)
	text   func(count int) string
}

// write is one statement of a transaction and the number of rows that it must
// change: any other number takes the whole transaction back.
type write struct {
	what string
	stmt *statement
	args []any
	rows int64
}

// plan appends to the plan what writes the rows. Their number is cut into powers
// of two, so that few statements have to be prepared.
func (s *Store) plan(ctx context.Context, plan []write, r rows) ([]write, error) {
	plan = slices.Grow(plan, (r.count+r.most-1)/r.most)
	columns := 0
	for size, next := r.most, 0; next < r.count; {
		for size > r.count-next {
			size /= 2
		}
		stmt, err := s.statement(ctx, r.what, size, func() string { return r.text(size) })
		if err != nil {
			return nil, err
		}
		w := write{what: r.what, stmt: stmt, args: make([]any, 0, columns*size), rows: int64(size)}
		for end := next + size; next < end; next++ {
			if w.args, err = r.values(w.args, next); err != nil {
				return nil, fmt.Errorf("%s: %w", r.what, err)
			}
		}
		columns = len(w.args) / size
		plan = append(plan, w)
	}
	return plan, nil
}

// runPlan runs the statements in order. They do not get the context: what each
// does is too short to be cut off, and watching a context costs as much as
// writing a row.
func runPlan(ctx context.Context, on executor, plan []write) error {
	unwatched := context.WithoutCancel(ctx)
	var stmt runner
	for i, w := range plan {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s: %w", w.what, err)
		}
		if i == 0 || w.stmt != plan[i-1].stmt {
			stmt = w.stmt.on(unwatched, on)
		}
		changed, err := affected(stmt.ExecContext(unwatched, w.args...))
		if err == nil && changed != w.rows {
			err = fmt.Errorf("%d rows changed instead of %d", changed, w.rows)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", w.what, err)
		}
	}
	return nil
}

func affected(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// inTransaction runs f in a transaction and commits it, or in the caller's. Every
// error is one of the port's: what went wrong before the commit was sent is
// certain.
func (s *Store) inTransaction(ctx context.Context, f func(executor) error) error {
	if s.tx != nil {
		if err := s.savepoint(ctx, f); err != nil {
			return s.certain(ctx, err)
		}
		return nil
	}
	if begin, commit := s.dialect.transaction(); begin != "" {
		return s.inServerTransaction(ctx, begin, commit, f)
	}
	// The writers of this store wait here, in the order in which they come, before
	// they have a connection: those who hold one and wait would keep it from the one
	// whose turn it is. A caller's transaction takes no turn: it has the database's
	// lock, or waits for it, and so does whoever has the turn.
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return s.certain(ctx, fmt.Errorf("wait for the writers before: %w", ctx.Err()))
	}
	conn, err := s.db.Connx(ctx)
	if err != nil {
		return s.certain(ctx, err)
	}
	defer func() { _ = conn.Close() }() // back into the pool
	tx, err := conn.BeginTxx(ctx, nil)
	if err != nil {
		return s.certain(ctx, err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit there is nothing left to do
	if err := f(tx); err != nil {
		return s.certain(ctx, err)
	}
	if err := ctx.Err(); err != nil {
		return s.certain(ctx, err)
	}
	if err := tx.Commit(); err != nil {
		// The transaction may still be open, and in the pool it would show what it has
		// written to whoever gets its connection.
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		return s.uncertain(fmt.Errorf("commit: %w", err))
	}
	return nil
}

// inServerTransaction does without sql.Tx, whose commit does not end with the
// context: a server that hangs would hold everybody who waits for the ledger.
// Without a begin, f begins.
func (s *Store) inServerTransaction(ctx context.Context, begin, commit string, f func(executor) error) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return s.certain(ctx, err)
	}
	ended := false
	defer func() {
		if !ended {
			// An open transaction, with its locks, must not get back into the pool.
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		}
		_ = conn.Close() // it has ended
	}()
	if begin != "" {
		_, err = conn.ExecContext(ctx, begin)
	}
	if err == nil {
		err = f(conn)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		// Always: a lock time-out leaves the transaction open.
		brief, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_, rollbackErr := conn.ExecContext(brief, "ROLLBACK")
		ended = rollbackErr == nil
		return s.certain(ctx, err)
	}
	if _, err := conn.ExecContext(ctx, commit); err != nil {
		return s.uncertain(fmt.Errorf("commit: %w", err))
	}
	ended = true
	if err := ctx.Err(); err != nil {
		// A commit that waits for a standby of PostgreSQL and is cancelled answers
		// success, although no standby has it.
		return s.explained(fmt.Errorf("commit: %w", err))
	}
	return nil
}

// certain marks an error from before the commit was sent: nothing was written.
func (s *Store) certain(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		err = fmt.Errorf("%w: %w", ended, err) // whatever else it is, that is why
	}
	err = s.marked(err)
	if held, ok := s.tx.(*heldTx); ok {
		held.failed.CompareAndSwap(nil, &err)
	}
	return err
}

// marked marks a certain error.
func (s *Store) marked(err error) error {
	switch {
	case errors.Is(err, store.ErrMoved), errors.Is(err, store.ErrNoLedger):
		return err
	case s.callers():
		return store.Reject(s.explained(&TxError{Temporary: temporaryInTx(s.dialect, err), Err: err}))
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrTxDone):
		return store.Retry(s.explained(err))
	case s.dialect.class(err) != failed:
		return store.Retry(s.explained(err))
	}
	return store.Reject(s.explained(err))
}

// uncertain marks an error of the commit, or of a statement that commits by
// itself, if the database said that it took everything back.
func (s *Store) uncertain(err error) error {
	if s.dialect.class(err) == rolledBack {
		return store.Retry(s.explained(err))
	}
	return s.explained(err)
}

// explained adds what to do, where that is known.
func (s *Store) explained(err error) error {
	err = s.dialect.advised(err)
	if s.dialect.unmigrated(err) {
		return fmt.Errorf("sqlstore: the tables %s… are missing or of another version, run Migrate: %w", s.prefix, err)
	}
	return fmt.Errorf("sqlstore: %w", err)
}

// insertText is the statement that inserts a number of rows.
func insertText(table string, columns []string, rows int) string {
	return "INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") VALUES " + valuesText(len(columns), rows)
}

// valuesText is (?, ?), (?, ?) for 2 columns and 2 rows.
func valuesText(columns, rows int) string {
	row := marks(columns)
	return row + strings.Repeat(", "+row, rows-1)
}

// marks is (?, ?, ?) for 3.
func marks(n int) string { return "(?" + strings.Repeat(", ?", n-1) + ")" }
