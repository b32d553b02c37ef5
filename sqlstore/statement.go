package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"sync"

	"github.com/jmoiron/sqlx"
)

// executor is what statements run on: the pool, a connection, or a transaction.
type executor interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// statement is an SQL text, prepared if the dialect gains by that.
type statement struct {
	text     string
	prepared *sqlx.Stmt
}

// runner is a statement on something: *sqlx.Stmt, or a text.
type runner interface {
	ExecContext(ctx context.Context, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, args ...any) (*sql.Rows, error)
}

// on returns the statement on an executor.
func (s *statement) on(ctx context.Context, on executor) runner {
	if s.prepared != nil {
		switch on := on.(type) {
		case *sqlx.DB:
			return s.prepared
		case *sqlx.Tx:
			return on.StmtxContext(ctx, s.prepared)
		}
	}
	return textRunner{on, s.text}
}

type textRunner struct {
	on   executor
	text string
}

func (r textRunner) ExecContext(ctx context.Context, args ...any) (sql.Result, error) {
	return r.on.ExecContext(ctx, r.text, args...)
}

func (r textRunner) QueryContext(ctx context.Context, args ...any) (*sql.Rows, error) {
	return r.on.QueryContext(ctx, r.text, args...)
}

// selectAll reads all rows into a slice of structs.
func selectAll(ctx context.Context, r runner, to any, args ...any) error {
	rows, err := r.QueryContext(ctx, args...) //nolint:rowserrcheck // StructScan returns it
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // StructScan has reported what there is to report
	return sqlx.StructScan(rows, to)
}

// statementKey names a statement: what it is, and its number of rows or values.
type statementKey struct {
	name string
	size int
}

// statementCache holds the statements that were made, a number that is bounded by
// the names and sizes in this package.
type statementCache struct {
	mu    sync.Mutex
	known map[statementKey]*statement
}

// statement returns the statement of this name and size, whose text is made when
// it is first asked for. Preparing needs a connection for a moment, so this must
// not be called while the caller holds one: the pool may have no other.
func (s *Store) statement(ctx context.Context, name string, size int, text func() string) (*statement, error) {
	key := statementKey{name, size}
	s.statements.mu.Lock()
	known := s.statements.known[key]
	s.statements.mu.Unlock()
	if known != nil && (s.tx == nil || known.prepared == nil) {
		return known, nil
	}
	made := &statement{text: sqlx.Rebind(s.dialect.bind(), text())}
	if s.tx != nil {
		return made, nil // the caller's transaction may hold the pool's only connection, or be another pool's
	}
	if s.dialect.prepares() {
		var err error
		if made.prepared, err = s.db.PreparexContext(ctx, made.text); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	s.statements.mu.Lock()
	defer s.statements.mu.Unlock()
	if earlier := s.statements.known[key]; earlier != nil {
		if made.prepared != nil {
			_ = made.prepared.Close() // nobody has used it
		}
		return earlier, nil
	}
	s.statements.known[key] = made
	return made, nil
}
