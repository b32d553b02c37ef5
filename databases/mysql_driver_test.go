package databases_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"
)

// hooks is the driver of MySQL with somebody in between.
type hooks struct {
	driver.Connector
	// after runs after every statement that succeeded, on its connection.
	after func(c driver.Conn, text string, args []driver.NamedValue)
	// rewrite changes a statement before it is sent; nil leaves it alone.
	rewrite func(text string) string
	// begin takes the place of the driver's own; nil leaves it alone.
	begin func() (driver.Tx, error)
}

// openHooked opens a pool on a DSN.
func openHooked(t testing.TB, dsn string, h *hooks) *sqlx.DB {
	t.Helper()
	c, err := mysql.ParseDSN(dsn)
	require.NoError(t, err)
	h.Connector, err = mysql.NewConnector(c)
	require.NoError(t, err)
	db := sqlx.NewDb(sql.OpenDB(h), "mysql")
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	return db
}

func (h *hooks) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := h.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &hookedConn{c, h}, nil
}

type hookedConn struct {
	driver.Conn
	hooks *hooks
}

func (c *hookedConn) ran(err error, text string, args []driver.NamedValue) {
	if err == nil && c.hooks.after != nil {
		c.hooks.after(c.Conn, text, args)
	}
}

func (c *hookedConn) rewritten(text string) string {
	if c.hooks.rewrite == nil {
		return text
	}
	return c.hooks.rewrite(text)
}

// asMySQL makes MariaDB say that it is MySQL, which takes each statement by itself.
func asMySQL(text string) string {
	return strings.Replace(text, "SELECT VERSION()", "SELECT '8.0.40'", 1)
}

func (c *hookedConn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	text = c.rewritten(text)
	r, err := c.Conn.(driver.ExecerContext).ExecContext(ctx, text, args)
	c.ran(err, text, args)
	return r, err
}

func (c *hookedConn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	text = c.rewritten(text)
	r, err := c.Conn.(driver.QueryerContext).QueryContext(ctx, text, args)
	c.ran(err, text, args)
	return r, err
}

func (c *hookedConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	if c.hooks.begin != nil {
		return c.hooks.begin()
	}
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
}

func (c *hookedConn) ResetSession(ctx context.Context) error {
	return c.Conn.(driver.SessionResetter).ResetSession(ctx)
}
func (c *hookedConn) IsValid() bool { return c.Conn.(driver.Validator).IsValid() }
func (c *hookedConn) CheckNamedValue(v *driver.NamedValue) error {
	return c.Conn.(driver.NamedValueChecker).CheckNamedValue(v)
}

// rawExec runs a statement past the hooks.
func rawExec(c driver.Conn, text string) error {
	_, err := c.(driver.ExecerContext).ExecContext(context.Background(), text, nil)
	return err
}

// mysqlCommits is how the statement begins that commits, and mysqlBlock the one
// that does all the rest.
const (
	mysqlCommits = "/*M! BEGIN NOT ATOMIC"
	mysqlBlock   = "BEGIN NOT ATOMIC"
)

// recorded is what was sent.
type recorded struct {
	text string
	args []any
}

// recorder keeps every statement of a pool.
type recorder struct {
	mu   sync.Mutex
	sent []recorded
}

func (r *recorder) after(_ driver.Conn, text string, args []driver.NamedValue) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := recorded{text: text}
	for _, a := range args {
		s.args = append(s.args, a.Value)
	}
	r.sent = append(r.sent, s)
}

// take returns what was sent since the last time.
func (r *recorder) take() []recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent := r.sent
	r.sent = nil
	return sent
}

// failing is the driver of MySQL with one sort of statement that fails.
type failing struct {
	driver.Connector
	at    string // how the statement begins
	hooks hooks
	err   error
	armed atomic.Bool
}

func openFailing(t testing.TB, dsn string, f *failing) *sqlx.DB {
	t.Helper()
	c, err := mysql.ParseDSN(dsn)
	require.NoError(t, err)
	f.Connector, err = mysql.NewConnector(c)
	require.NoError(t, err)
	db := sqlx.NewDb(sql.OpenDB(f), "mysql")
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func (f *failing) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := f.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &failingConn{hookedConn{c, &f.hooks}, f}, nil
}

type failingConn struct {
	hookedConn
	failing *failing
}

func (c *failingConn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	if c.failing.armed.Load() && strings.HasPrefix(text, c.failing.at) {
		return nil, c.failing.err
	}
	return c.hookedConn.ExecContext(ctx, text, args)
}
