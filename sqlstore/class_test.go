package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/resellerkit/credit/store"
)

// The shapes in which drivers of SQLite tell the result code.
type (
	methodError struct{ code int } // modernc.org/sqlite
	errNo       int                // mattn/go-sqlite3
	fieldError  struct {
		Code         errNo
		ExtendedCode int
	}
	structError struct { // go-dqlite
		Code    int
		Message string
	}
)

func (e *methodError) Error() string { return "sqlite" }
func (e *methodError) Code() int     { return e.code }
func (e fieldError) Error() string   { return "sqlite" }
func (e structError) Error() string  { return e.Message }

func TestClassesOfSQLiteErrors(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]class{
		5: rolledBack, 261: rolledBack, 517: rolledBack, 773: rolledBack, 6: rolledBack, 262: rolledBack,
		9: temporary, 15: temporary, 17: temporary,
		1: failed, 8: failed, 10: failed, 11: failed, 13: failed, 19: failed, 275: failed, 787: failed, 1555: failed, 2067: failed, 20: failed, 26: failed,
	} {
		for _, err := range []error{&methodError{code}, fieldError{errNo(code & 0xff), code}, structError{code, "x"}} {
			assert.Equal(t, want, SQLite.class(err), "%T %d", err, code)
			assert.Equal(t, want, SQLite.class(fmt.Errorf("append: %w", err)), "wrapped %T %d", err, code)
			assert.Equal(t, want, SQLite.class(fmt.Errorf("%w: %w", context.Canceled, err)), "joined %T %d", err, code)
		}
	}
	for text, want := range map[string]class{
		"database is locked": rolledBack, "database is locked (5) (SQLITE_BUSY)": rolledBack, "database table is locked: x": rolledBack,
		"UNIQUE constraint failed: credit_records.id": failed, "disk I/O error": failed, "": failed,
	} {
		assert.Equal(t, want, SQLite.class(errors.New(text)), text)
	}
	assert.Equal(t, failed, SQLite.class(fieldless{}))
}

type fieldless map[string]string

func (fieldless) Error() string { return "no struct at all" }

// Before the commit everything is certain; from then on only what the database
// itself calls rolled back.
func TestWhatIsCertain(t *testing.T) {
	t.Parallel()
	s := &Store{dialect: SQLite, prefix: defaultPrefix}
	for _, test := range []struct {
		err            error
		before, commit bool // retryable
	}{
		{&methodError{5}, true, true},
		{&methodError{517}, true, true},
		{&methodError{9}, true, false},
		{&methodError{19}, false, false},
		{&methodError{10}, false, false},
		{context.Canceled, true, false},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), true, false},
		{driver.ErrBadConn, true, false},
		{sql.ErrTxDone, true, false},
		{errors.New("anything else"), false, false},
	} {
		assert.Equal(t, test.before, store.Retryable(s.certain(t.Context(), test.err)), "before the commit: %v", test.err)
		assert.Equal(t, test.commit, store.Retryable(s.uncertain(test.err)), "from the commit: %v", test.err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.certain(ended, errors.New("sql: statement is closed"))
	assert.ErrorIs(t, err, context.Canceled)
	assert.True(t, store.Retryable(err))
	assert.ErrorIs(t, s.certain(ended, store.ErrMoved), store.ErrMoved)
}

func TestSQLiteVersions(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{"3.37.0": true, "3.37": true, "3.50.4": true, "4.0.0": true, "3.36.9": false, "2.99.0": false, "3": false, "": false, "x.y.z": false} {
		assert.Equal(t, want, sqliteAtLeast(version, 3, 37), version)
	}
}
