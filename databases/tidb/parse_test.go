// Package tidb_test has TiDB's own parser read every statement of the MySQL
// dialect. That a statement parses is all it says: nothing runs on TiDB here.
package tidb_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/pingcap/tidb/pkg/parser"
	"github.com/pingcap/tidb/pkg/parser/format"
	_ "github.com/pingcap/tidb/pkg/parser/test_driver" // the values of literals
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

func TestStatementsParseOnTiDB(t *testing.T) {
	server := &server{sent: map[string]bool{}}
	db := sqlx.NewDb(sql.OpenDB(server), "mysql")
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	s, err := sqlstore.New(db, sqlstore.MySQL)
	require.NoError(t, err)
	ctx := t.Context()
	_ = s.Migrate(ctx) // the answers of this server get it nowhere
	_, _ = s.Status(ctx)

	d := credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}
	_, _ = s.Create(ctx, d)
	state := credit.NewState(d)
	write := func(commands ...credit.Command) (added []uuid.UUID) {
		expected := state.Head()
		var records []credit.Record
		for _, c := range commands {
			r, err := state.Execute(c, credit.Stamp{Time: time.Unix(1, 0), RecordID: uuid.New(), ResellerID: uuid.New()})
			require.NoError(t, err)
			records = append(records, r.Record)
			if r.Kind == credit.KindAdd {
				added = append(added, r.ResellerID)
			}
		}
		b := store.BatchOf(records, state.Reseller)
		require.NoError(t, s.Append(ctx, d.ID, expected, b))
		for _, server.refuse = range []string{"UPDATE credit_ledgers", "INSERT INTO credit_records"} {
			require.Error(t, s.Append(ctx, d.ID, expected, b))
		}
		server.refuse = ""
		tx, err := db.BeginTxx(ctx, nil)
		require.NoError(t, err)
		require.NoError(t, s.WithTx(tx).Append(ctx, d.ID, expected, b))
		require.NoError(t, tx.Commit())
		return added
	}
	write(credit.Grant{Amount: decimal.New(1, 0), Key: "k"})
	ids := write(credit.NewReseller{Name: "A", ExternalID: "a"}, credit.NewReseller{Name: "B", ExternalID: "b"})
	write(credit.Usage{ResellerID: ids[0], Amount: decimal.New(1, 0)})
	write(credit.Usage{ResellerID: ids[0], Amount: decimal.New(1, 0)}, credit.Usage{ResellerID: ids[1], Amount: decimal.New(1, 0)})
	write(credit.Freeze{ResellerID: ids[0]})
	write(credit.Freeze{ResellerID: ids[1]}, credit.Unfreeze{ResellerID: ids[0]})

	asked := credit.ReadSet{Resellers: ids, ExternalIDs: []string{"a"}, Keys: []string{"k"}}
	_, _ = s.Load(ctx, d.ID, asked)
	tx, err := db.BeginTxx(ctx, nil)
	require.NoError(t, err)
	_, _ = s.WithTx(tx).Load(ctx, d.ID, asked)
	_, _ = s.WithTx(tx).Create(ctx, d)
	require.NoError(t, tx.Rollback())
	low, err := credit.PercentThreshold(decimal.New(1, 0))
	require.NoError(t, err)
	statuses := []credit.Status{credit.StatusActive, credit.StatusClosed, credit.StatusFrozen}
	tx, err = db.BeginTxx(ctx, nil)
	require.NoError(t, err)
	for _, s := range []store.Store{s, s.WithTx(tx)} {
		for _, order := range credit.Orders() {
			for _, after := range []store.ResellerPosition{{}, {BoundAt: time.Unix(1, 0), Name: "a", Available: 1, ID: ids[0]}} {
				for n := range statuses {
					for _, q := range []credit.ResellerQuery{{}, {Email: "e"}, {ExternalID: "x"}, {Name: "n", Mobile: "m", Remark: "r"},
						{MinAvailable: new(decimal.Zero), MaxAvailable: new(decimal.Zero), Low: &low}, {Low: new(credit.Threshold)}} {
						q.Statuses, q.Order, q.Limit = statuses[:n+1], order, 1
						_, _ = s.Resellers(ctx, d.ID, q, after)
						_, _ = s.CountResellers(ctx, d.ID, q)
					}
				}
			}
		}
		for _, newest := range []bool{false, true} {
			for _, q := range []credit.RecordQuery{{}, {ResellerID: ids[0]}, {Kinds: credit.Kinds()}, {Kinds: credit.Kinds()[:1]}, {ResellerID: ids[0], Kinds: credit.Kinds()},
				{Operator: "o"}, {Key: "k"}, {Reference: "r"}, {Customer: "c"}, {OccurredFrom: time.Unix(1, 0), OccurredUntil: time.Unix(2, 0), Before: 9}} {
				q.NewestFirst, q.Limit = newest, 1
				_, _ = s.Records(ctx, d.ID, q)
			}
		}
		_, _ = s.Latest(ctx, d.ID, ids, nil, 1)
		_, _ = s.Latest(ctx, d.ID, ids, credit.Kinds()[:2], 1)
	}
	require.NoError(t, tx.Rollback())

	files, err := fs.Glob(s.Migrations(), "*.sql")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := fs.ReadFile(s.Migrations(), file)
		require.NoError(t, err)
		server.sent[string(text)] = true
	}
	for _, begin := range []string{"UPDATE credit_ledgers", "UPDATE credit_resellers", "INSERT INTO credit_resellers", "INSERT INTO credit_records",
		"INSERT INTO credit_ledgers", "SELECT GET_LOCK", "CREATE TABLE IF NOT EXISTS credit_schema", "SHOW SESSION", "SAVEPOINT", "START TRANSACTION", "/*M! BEGIN NOT ATOMIC", "ROLLBACK",
		"SELECT sequence FROM credit_records", "SELECT sequence, hash FROM credit_ledgers", "SELECT id, external_id", "SELECT r.id, r.external_id", "SELECT r.sequence",
		"SELECT count(*)", "SELECT sequence, id"} {
		require.True(t, server.saw(begin), "%s… was sent", begin)
	}
	p := parser.New()
	parsed := 0
	for text := range server.sent {
		statements, warnings, err := p.Parse(text, "", "")
		require.NoError(t, err, text)
		require.Empty(t, warnings, text)
		for _, statement := range statements {
			var read strings.Builder
			require.NoError(t, statement.Restore(format.NewRestoreCtx(format.DefaultRestoreFlags, &read)))
			require.NotContains(t, read.String(), "in_transaction", "what only MariaDB knows is a comment")
			if strings.Contains(text, "COMMIT") {
				require.Equal(t, "COMMIT", read.String())
			}
		}
		parsed += len(statements)
	}
	t.Logf("%d statements", parsed)
}

// What TiDB does not know is not accepted by this parser, so the test means
// something.
func TestTheParserIsTiDBs(t *testing.T) {
	for _, text := range []string{
		"INSERT INTO x VALUES (1) RETURNING id",
		"INSERT INTO x VALUES (1) AS n ON DUPLICATE KEY UPDATE id = n.id",
		"CREATE TRIGGER x BEFORE UPDATE ON y FOR EACH ROW SET @a = 1",
	} {
		_, _, err := parser.New().Parse(text, "", "")
		require.Error(t, err, text)
	}
}

// server is a driver that keeps what it is sent, and answers as far as the store
// needs in order to go on.
type server struct {
	sent map[string]bool
	// refuse begins a statement that fails: an UPDATE finds nothing, an INSERT finds
	// a duplicate.
	refuse string
}

func (s *server) saw(begin string) bool {
	for text := range s.sent {
		if strings.HasPrefix(text, begin) {
			return true
		}
	}
	return false
}

func (s *server) Connect(context.Context) (driver.Conn, error) { return &conn{server: s}, nil }
func (s *server) Driver() driver.Driver                        { return nil }

type conn struct {
	server    *server
	savepoint bool
}

func (*conn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("prepared") }
func (*conn) Close() error                        { return nil }
func (*conn) Begin() (driver.Tx, error)           { return nil, errors.New("begun without a context") }

// BeginTx sends what github.com/go-sql-driver/mysql sends.
func (c *conn) BeginTx(_ context.Context, o driver.TxOptions) (driver.Tx, error) {
	if o.Isolation == driver.IsolationLevel(sql.LevelRepeatableRead) {
		c.server.sent["SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"] = true
	}
	c.server.sent["START TRANSACTION"] = true
	if o.ReadOnly {
		c.server.sent["START TRANSACTION READ ONLY"] = true
	}
	return c, nil
}

func (c *conn) Commit() error {
	c.server.sent["COMMIT"] = true
	return nil
}

func (c *conn) Rollback() error {
	c.server.sent["ROLLBACK"] = true
	c.savepoint = false
	return nil
}

// numbered is an error of the server.
type numbered struct{ Number uint16 }

func (e *numbered) Error() string { return fmt.Sprint("error ", e.Number) }

func (c *conn) ExecContext(_ context.Context, text string, _ []driver.NamedValue) (driver.Result, error) {
	c.server.sent[text] = true
	refused := c.server.refuse != "" && strings.HasPrefix(text, c.server.refuse)
	switch {
	case strings.HasPrefix(text, "SAVEPOINT"):
		c.savepoint = true
	case strings.HasPrefix(text, "ROLLBACK TO") && !c.savepoint:
		return nil, &numbered{1305}
	case refused && strings.HasPrefix(text, "UPDATE"):
		return driver.RowsAffected(0), nil
	case refused:
		return nil, &numbered{1062}
	}
	_, ids, _ := strings.Cut(text, " AND id IN ")
	return driver.RowsAffected(max(1+strings.Count(text, "), ("), strings.Count(ids, "?"))), nil
}

func (c *conn) QueryContext(_ context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	c.server.sent[text] = true
	switch {
	case strings.HasPrefix(text, "SELECT VERSION()"):
		return &rows{names: []string{"version"}, row: []driver.Value{"8.0.11-TiDB-v8.5.0"}}, nil
	case strings.HasPrefix(text, "SELECT DATABASE()"):
		return &rows{names: []string{"database"}, row: []driver.Value{"credit"}}, nil
	case strings.HasPrefix(text, "SHOW SESSION VARIABLES"):
		return &rows{names: []string{"Variable_name", "Value"}}, nil
	case strings.HasPrefix(text, "SELECT OCTET_LENGTH"):
		return &rows{names: []string{"length"}, row: []driver.Value{int64(len(args[0].Value.(string)))}}, nil
	case strings.HasPrefix(text, "SELECT GET_LOCK"):
		return &rows{names: []string{"got"}, row: []driver.Value{int64(1)}}, nil
	case strings.HasPrefix(text, "SELECT sequence, hash FROM"):
		return &rows{names: []string{"sequence", "hash"}, row: []driver.Value{int64(-1), make([]byte, 32)}}, nil
	case strings.HasPrefix(text, "SELECT sequence, hash, recorded_at"):
		return &rows{names: []string{"sequence", "hash", "recorded_at", "granted", "allocated"},
			row: []driver.Value{int64(0), make([]byte, 32), nil, int64(0), int64(0)}}, nil
	}
	if strings.HasPrefix(text, "SELECT count(*)") {
		return &rows{names: []string{"n"}, row: []driver.Value{int64(0)}}, nil
	}
	list, _, _ := strings.Cut(strings.TrimPrefix(text, "SELECT "), " FROM ")
	return &rows{names: strings.Split(strings.ReplaceAll(list, "r.", ""), ", ")}, nil
}

// rows are one row or none.
type rows struct {
	names []string
	row   []driver.Value
}

func (r *rows) Columns() []string { return r.names }
func (*rows) Close() error        { return nil }
func (r *rows) Next(to []driver.Value) error {
	if r.row == nil {
		return io.EOF
	}
	copy(to, r.row)
	r.row = nil
	return nil
}
