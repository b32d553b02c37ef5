// Package sqlfault makes the statements of a database/sql driver fail, in the ways
// in which real ones do, so that a test can see what becomes of what was being
// written. It wraps any driver:
//
//	db := sqlx.NewDb(sql.OpenDB(sqlfault.New(connector, sqlfault.At(3, sqlfault.Lost))), "pgx")
//
// [Sweep] does so to every statement of every command of a ledger.
package sqlfault

import (
	"context"
	"database/sql/driver"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
)

// Fault is what goes wrong with a statement.
type Fault string

// The faults.
const (
	// None: nothing.
	None Fault = ""
	// Refused: the statement does not run, its error is [ErrInjected].
	Refused Fault = "refused"
	// Failed: the statement runs, and its error is [ErrInjected] all the same.
	Failed Fault = "failed"
	// Lost: the connection is lost before the statement runs. The error does not
	// tell it from Unanswered.
	Lost Fault = "lost"
	// Unanswered: the statement runs, and the connection is lost before its answer
	// arrives. For a commit: the outcome is unknown, and it is committed.
	Unanswered Fault = "unanswered"
	// Canceled: the statement's context ends before it runs. What the driver makes of
	// that is up to the driver.
	Canceled Fault = "canceled"
)

// Faults returns every fault but None.
func Faults() []Fault { return []Fault{Refused, Failed, Lost, Unanswered, Canceled} }

// ErrInjected is the error of a statement that was refused or failed.
var ErrInjected = errors.New("sqlfault: injected")

// Op is what a statement does.
type Op string

// The operations of a driver that can fail.
const (
	Connect  Op = "connect"
	Prepare  Op = "prepare"
	Begin    Op = "begin"
	Exec     Op = "exec"
	Query    Op = "query"
	Commit   Op = "commit"
	Rollback Op = "rollback"
)

// Statement is one use of the driver.
type Statement struct {
	// Number counts all statements of a [New], from 1.
	Number int
	Op     Op
	// Text is that of prepare, exec and query.
	Text string
}

// Chooser chooses the fault of each statement. It may be asked by many at once. To
// delay a statement, it waits before it answers.
type Chooser func(context.Context, Statement) Fault

// At has one statement go wrong, by its number.
func At(number int, f Fault) Chooser {
	return func(_ context.Context, s Statement) Fault {
		if s.Number == number {
			return f
		}
		return None
	}
}

// Random has statements go wrong with a probability of 0 to 1, in one of the ways
// given, or in any if none are. For the same seed and the same statements in the
// same order it chooses the same.
func Random(seed uint64, probability float64, faults ...Fault) Chooser {
	if len(faults) == 0 {
		faults = Faults()
	}
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // to be repeated, not to be secret
	return func(context.Context, Statement) Fault {
		mu.Lock()
		defer mu.Unlock()
		if rng.Float64() < probability {
			return faults[rng.IntN(len(faults))]
		}
		return None
	}
}

// New returns a connector whose connections are those of another one, with
// faults. The connections must have contexts in all their methods, as those of
// every current driver do.
func New(c driver.Connector, choose Chooser) driver.Connector {
	return &connector{Connector: c, choose: choose}
}

type connector struct {
	driver.Connector
	choose Chooser
	mu     sync.Mutex
	number int
}

func (c *connector) next(ctx context.Context, op Op, text string) Fault {
	c.mu.Lock()
	c.number++
	s := Statement{c.number, op, text}
	c.mu.Unlock()
	return c.choose(ctx, s)
}

func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	switch c.next(ctx, Connect, "") {
	case None:
	case Canceled:
		return nil, context.Canceled
	case Refused, Failed:
		return nil, ErrInjected
	default:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	inner, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	all, ok := inner.(fullConn)
	if !ok {
		_ = inner.Close() // it was never used
		return nil, errors.New("sqlfault: the driver's connections have no contexts")
	}
	return &conn{fullConn: all, connector: c}, nil
}

// fullConn is what a connection must have.
type fullConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
}

// conn is used by one at a time, as database/sql promises.
type conn struct {
	fullConn
	connector *connector
	lost      bool
}

// fail runs a statement with the fault that is chosen for it.
func fail[T any](ctx context.Context, c *conn, op Op, text string, run func(context.Context) (T, error), drop func(T)) (T, error) {
	var none T
	if c.lost {
		return none, driver.ErrBadConn
	}
	fault := c.connector.next(ctx, op, text)
	if op == Rollback && fault != None {
		fault = Lost // a driver whose rollback fails has lost the connection
	}
	switch fault {
	case Refused:
		return none, ErrInjected
	case Lost:
		return none, c.lose()
	case Canceled:
		ended, cancel := context.WithCancel(ctx)
		cancel()
		ctx = ended
	}
	v, err := run(ctx)
	if err != nil || fault == None || fault == Canceled {
		return v, err
	}
	drop(v)
	if fault == Unanswered {
		return none, c.lose()
	}
	return none, ErrInjected
}

// lose has the database take back what is open on the connection, as it does when
// it finds it lost, and returns the error of a network. What is left of it is
// closed by database/sql.
func (c *conn) lose() error {
	c.lost = true
	_, _ = c.fullConn.ExecContext(context.Background(), "ROLLBACK", nil) // there may be no transaction
	return &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
}

func (c *conn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	return fail(ctx, c, Exec, text, func(ctx context.Context) (driver.Result, error) {
		return c.fullConn.ExecContext(ctx, text, args)
	}, func(driver.Result) {})
}

func (c *conn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	return fail(ctx, c, Query, text, func(ctx context.Context) (driver.Rows, error) {
		return c.fullConn.QueryContext(ctx, text, args)
	}, closeRows)
}

func closeRows(r driver.Rows) { _ = r.Close() } // nobody reads them

func (c *conn) PrepareContext(ctx context.Context, text string) (driver.Stmt, error) {
	s, err := fail(ctx, c, Prepare, text, func(ctx context.Context) (driver.Stmt, error) {
		return c.fullConn.PrepareContext(ctx, text)
	}, func(s driver.Stmt) { _ = s.Close() })
	if err != nil {
		return nil, err
	}
	full, ok := s.(fullStmt)
	if !ok {
		_ = s.Close() // it was never used
		return nil, errors.New("sqlfault: the driver's statements have no contexts")
	}
	return &stmt{full, c, text}, nil
}

func (c *conn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	tx, err := fail(ctx, c, Begin, "", func(ctx context.Context) (driver.Tx, error) {
		return c.fullConn.BeginTx(ctx, o)
	}, func(tx driver.Tx) { _ = tx.Rollback() })
	if err != nil {
		return nil, err
	}
	return &transaction{tx, c}, nil
}

// Ping, ResetSession, IsValid and CheckNamedValue are for drivers that have them.

func (c *conn) Ping(ctx context.Context) error {
	if p, ok := c.fullConn.(driver.Pinger); ok && !c.lost {
		return p.Ping(ctx)
	}
	return nil
}

func (c *conn) ResetSession(ctx context.Context) error {
	if c.lost {
		return driver.ErrBadConn
	}
	if r, ok := c.fullConn.(driver.SessionResetter); ok {
		return r.ResetSession(ctx)
	}
	return nil
}

func (c *conn) IsValid() bool {
	v, ok := c.fullConn.(driver.Validator)
	return !c.lost && (!ok || v.IsValid())
}

func (c *conn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.fullConn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

// fullStmt is what a prepared statement must have.
type fullStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type stmt struct {
	fullStmt
	conn *conn
	text string
}

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return fail(ctx, s.conn, Exec, s.text, func(ctx context.Context) (driver.Result, error) {
		return s.fullStmt.ExecContext(ctx, args)
	}, func(driver.Result) {})
}

func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return fail(ctx, s.conn, Query, s.text, func(ctx context.Context) (driver.Rows, error) {
		return s.fullStmt.QueryContext(ctx, args)
	}, closeRows)
}

type transaction struct {
	driver.Tx
	conn *conn
}

// A driver is not told of the end of a commit's context, so Canceled is Refused.
func (tx *transaction) end(op Op, run func() error) error {
	_, err := fail(context.Background(), tx.conn, op, "", func(ctx context.Context) (struct{}, error) {
		if ctx.Err() != nil {
			return struct{}{}, ctx.Err()
		}
		return struct{}{}, run()
	}, func(struct{}) {})
	return err
}

func (tx *transaction) Commit() error   { return tx.end(Commit, tx.Tx.Commit) }
func (tx *transaction) Rollback() error { return tx.end(Rollback, tx.Tx.Rollback) }
