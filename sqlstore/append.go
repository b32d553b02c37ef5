package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// Append implements [store.Store].
func (s *Store) Append(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
	return s.dialect.append(ctx, s, ledger, expected, b)
}

// write is one statement of a transaction and the number of rows that it must
// change: any other number takes the whole transaction back.
type write struct {
	what string
	stmt *sqlx.Stmt
	args []any
	rows int64
}

func (w write) run(ctx context.Context, tx *sqlx.Tx) error {
	rows, err := w.affected(ctx, tx)
	if err == nil && rows != w.rows {
		err = fmt.Errorf("%s: %d rows instead of %d", w.what, rows, w.rows)
	}
	return err
}

func (w write) affected(ctx context.Context, tx *sqlx.Tx) (int64, error) {
	result, err := tx.StmtxContext(ctx, w.stmt).ExecContext(ctx, w.args...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", w.what, err)
	}
	return result.RowsAffected()
}

// maxRows is how many rows one statement writes at most. Any number is cut into
// powers of two, so that few statements have to be prepared.
const maxRows = 1

// rows is a number of rows to write: values appends those of row i, text makes
// the statement for a number of rows.
type rows struct {
	what   string
	count  int
	values func(args []any, i int) ([]any, error)
	text   func(count int) string
}

// plan appends to the plan what writes the rows.
func (s *Store) plan(ctx context.Context, plan []write, r rows) ([]write, error) {
	for next := 0; next < r.count; {
		size := maxRows
		for size > r.count-next {
			size /= 2
		}
		stmt, err := s.prepared(ctx, r.what, size, func() string { return r.text(size) })
		if err != nil {
			return nil, err
		}
		w := write{what: r.what, stmt: stmt, rows: int64(size)}
		for end := next + size; next < end; next++ {
			if w.args, err = r.values(w.args, next); err != nil {
				return nil, fmt.Errorf("%s: %w", r.what, err)
			}
			if w.args != nil && next == end-size {
				w.args = slices.Grow(w.args, len(w.args)*(size-1))
			}
		}
		plan = append(plan, w)
	}
	return plan, nil
}

// inTransaction runs f in a transaction and commits it. Every error is one of
// the port's: what went wrong before the commit was sent is certain.
func (s *Store) inTransaction(ctx context.Context, f func(tx *sqlx.Tx) error) error {
	tx, err := s.db.BeginTxx(ctx, nil)
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
		return s.uncertain(fmt.Errorf("commit: %w", err))
	}
	return nil
}

// certain marks an error from before the commit was sent: nothing was written.
func (s *Store) certain(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		err = fmt.Errorf("%w: %w", ended, err) // whatever else it is, that is why
	}
	switch {
	case errors.Is(err, store.ErrMoved), errors.Is(err, store.ErrNoLedger):
		return err
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
	row := "(" + strings.TrimSuffix(strings.Repeat("?, ", columns), ", ") + ")"
	return strings.TrimSuffix(strings.Repeat(row+", ", rows), ", ")
}
