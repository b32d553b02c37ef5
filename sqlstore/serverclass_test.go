package sqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/resellerkit/credit/store"
)

// The shapes in which drivers tell the code of a server.
type (
	stateError  struct{ state string }  // pgx and lib/pq
	numberError struct{ Number uint16 } // go-sql-driver/mysql
)

func (e *stateError) Error() string     { return "server says " + e.state }
func (e *stateError) SQLState() string  { return e.state }
func (e *numberError) Error() string    { return fmt.Sprint("Error ", e.Number) }
func code(state string) error           { return &stateError{state} }
func number(n uint16) error             { return &numberError{n} }
func closed(op string, err error) error { return &net.OpError{Op: op, Net: "tcp", Err: err} }

// What a server's error means before the commit was sent, and for the commit
// itself. Of the latter only what the server says that it took back is certain.
func TestClassesOfServerErrors(t *testing.T) {
	t.Parallel()
	type row struct {
		err            error
		before, commit bool // retryable
	}
	network := []row{
		{io.EOF, true, false},
		{io.ErrUnexpectedEOF, true, false},
		{driver.ErrBadConn, true, false},
		{net.ErrClosed, true, false},
		{os.ErrDeadlineExceeded, true, false},
		{syscall.ECONNREFUSED, true, false},
		{syscall.ECONNRESET, true, false},
		{syscall.EPIPE, true, false},
		{closed("dial", os.NewSyscallError("connect", syscall.ECONNREFUSED)), true, false},
		{closed("read", os.NewSyscallError("read", syscall.ECONNRESET)), true, false},
		{closed("write", io.ErrClosedPipe), true, false},
		{&net.DNSError{Err: "no such host", Name: "db.example.com"}, true, false},
		{context.DeadlineExceeded, true, false},
		{context.Canceled, true, false},
		{errors.New("anything else"), false, false},
	}
	for _, of := range []struct {
		dialect Dialect
		rows    []row
	}{
		{Postgres, []row{
			// The whole transaction again.
			{code("40001"), true, true},
			{code("40P01"), true, true},
			{code("55P03"), true, true},
			{code("57014"), true, true},
			// Connect again.
			{code("57P01"), true, false},
			{code("57P02"), true, false},
			{code("57P03"), true, false},
			{code("08000"), true, false},
			{code("08001"), true, false},
			{code("08003"), true, false},
			{code("08006"), true, false},
			{code("08P01"), true, false},
			{code("53300"), true, false},
			{code("53100"), true, false},
			{code("40003"), true, false},
			{code("25006"), true, true}, // which no commit answers
			// Never.
			{code("23505"), false, false},
			{code("23514"), false, false},
			{code("22003"), false, false},
			{code("42P05"), false, false},
			{code("26000"), false, false},
			{code("42501"), false, false},
			{code("25P02"), false, false},
		}},
		{MySQL, []row{
			{number(1213), true, true},
			{number(1020), true, true},
			{number(9007), true, true},
			{number(8002), true, true},
			{number(8022), true, true},
			{number(1205), true, false},
			{number(3572), true, false},
			{number(1047), true, false},
			{number(1040), true, false},
			{number(1053), true, false},
			{number(1290), true, false},
			{number(2006), true, false},
			{number(2013), true, false},
			{number(1180), true, false},
			{number(1927), true, false},
			{number(1021), true, false},
			{number(1305), true, false}, // no savepoint: the transaction is gone
			{errors.New("invalid connection"), true, false},
			{number(1062), false, false},
			{number(3819), false, false},
			{number(4025), false, false},
			{number(1264), false, false},
			{number(1142), false, false},
		}},
	} {
		s := &Store{dialect: of.dialect, prefix: defaultPrefix}
		for _, r := range append(of.rows, network...) {
			for _, err := range []error{r.err, fmt.Errorf("append: %w", r.err), errors.Join(errors.New("roll back"), r.err)} {
				assert.Equal(t, r.before, store.Retryable(s.certain(t.Context(), err)), "%T, before the commit: %v", of.dialect, err)
				assert.Equal(t, r.commit, store.Retryable(s.uncertain(err)), "%T, from the commit: %v", of.dialect, err)
			}
		}
	}
}

// On PostgreSQL an append is one statement that commits by itself: only what the
// server says is settled, and not when it ends the connection with that.
func TestWhatPostgresSettles(t *testing.T) {
	t.Parallel()
	for state, settled := range map[string]bool{
		"40001": true, "40P01": true, "55P03": true, "57014": true, "25006": true, "23505": true, "23514": true, "22003": true, "22P02": true, "42P05": true, "26000": true,
		"57P01": false, "57P02": false, "57P03": false, "08006": false, "08P01": false, "53300": false, "53100": false, "58030": false, "XX000": false, "40003": false,
	} {
		assert.Equal(t, settled, postgres{}.settled(fmt.Errorf("append: %w", code(state))), state)
	}
	for _, err := range []error{io.EOF, io.ErrUnexpectedEOF, driver.ErrBadConn, syscall.ECONNRESET, context.DeadlineExceeded, errors.New("anything else")} {
		assert.False(t, postgres{}.settled(err), "%v", err)
	}
}
