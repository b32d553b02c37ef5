package sqlfault_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"modernc.org/sqlite"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
	"github.com/resellerkit/credit/store/storetest/sqlfault"
)

// file is a connector for one SQLite file.
type file string

func (f file) Driver() driver.Driver { return nil }

func (f file) Connect(context.Context) (driver.Conn, error) {
	return (&sqlite.Driver{}).Open(sqlstore.SQLiteDSN(string(f)))
}

func open(t testing.TB, f file, choose sqlfault.Chooser) *sqlx.DB {
	t.Helper()
	db := sqlx.NewDb(sql.OpenDB(sqlfault.New(f, choose)), "sqlite")
	t.Cleanup(func() { _ = db.Close() }) // a lost connection has no good end
	return db
}

func none(context.Context, sqlfault.Statement) sqlfault.Fault { return sqlfault.None }

func TestSQLite_everyFaultAtEveryStatement(t *testing.T) {
	t.Parallel()
	made := sqlfault.Sweep(t, func(t testing.TB, choose sqlfault.Chooser) (faulty, sound store.Store) {
		f := file(filepath.Join(t.TempDir(), "credit.db"))
		s, err := sqlstore.New(open(t, f, none), sqlstore.SQLite)
		require.NoError(t, err)
		require.NoError(t, s.Migrate(t.Context()))
		wrong, err := sqlstore.New(open(t, f, choose), sqlstore.SQLite)
		require.NoError(t, err)
		return wrong, s
	})
	t.Logf("%d faults", made)
	assert.Greater(t, made, 2000)
}

func TestEachFaultIsWhatItSays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault     sqlfault.Fault
		is        error
		ran, lost bool
	}{
		{sqlfault.None, nil, true, false},
		{sqlfault.Refused, sqlfault.ErrInjected, false, false},
		{sqlfault.Failed, sqlfault.ErrInjected, true, false},
		{sqlfault.Lost, syscall.ECONNRESET, false, true},
		{sqlfault.Unanswered, syscall.ECONNRESET, true, true},
		{sqlfault.Canceled, context.Canceled, false, false},
	} {
		t.Run(string(c.fault), func(t *testing.T) {
			t.Parallel()
			fault, armed := c.fault, false
			db := open(t, file(filepath.Join(t.TempDir(), "t.db")), func(context.Context, sqlfault.Statement) sqlfault.Fault {
				if armed {
					armed = false
					return fault
				}
				return sqlfault.None
			})
			db.SetMaxOpenConns(1)
			ctx := t.Context()
			_, err := db.ExecContext(ctx, "CREATE TABLE t (v INTEGER)")
			require.NoError(t, err)
			conn, err := db.Connx(ctx)
			require.NoError(t, err)
			armed = true
			_, err = conn.ExecContext(ctx, "INSERT INTO t VALUES (1)")
			if c.is == nil {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, c.is)
			}
			err = conn.PingContext(ctx)
			_ = conn.Close() // it may be lost
			assert.Equal(t, c.lost, errors.Is(err, driver.ErrBadConn) || errors.Is(conn.Raw(func(any) error { return nil }), sql.ErrConnDone) && c.lost, "a lost connection stays lost")
			var n int
			require.NoError(t, db.GetContext(ctx, &n, "SELECT COUNT(*) FROM t"), "another connection takes its place")
			assert.Equal(t, c.ran, n == 1, "a statement that runs has its effect, and one that does not has none")
		})
	}
}

func TestALostTransactionIsTakenBack(t *testing.T) {
	t.Parallel()
	for _, op := range []sqlfault.Op{sqlfault.Exec, sqlfault.Commit, sqlfault.Rollback} {
		db := open(t, file(filepath.Join(t.TempDir(), "t.db")), func(_ context.Context, s sqlfault.Statement) sqlfault.Fault {
			if s.Op == op && s.Text != "CREATE TABLE t (v INTEGER)" && s.Text != "INSERT INTO t VALUES (1)" {
				return sqlfault.Lost
			}
			return sqlfault.None
		})
		ctx := t.Context()
		_, err := db.ExecContext(ctx, "CREATE TABLE t (v INTEGER)")
		require.NoError(t, err)
		tx, err := db.BeginTxx(ctx, nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(ctx, "INSERT INTO t VALUES (1)")
		require.NoError(t, err)
		switch op {
		case sqlfault.Exec:
			_, err = tx.ExecContext(ctx, "INSERT INTO t VALUES (2)")
			require.ErrorIs(t, err, syscall.ECONNRESET)
			_ = tx.Rollback() // it is lost
		case sqlfault.Commit:
			require.ErrorIs(t, tx.Commit(), syscall.ECONNRESET)
		default:
			require.Error(t, tx.Rollback())
		}
		var n int
		require.NoError(t, db.GetContext(ctx, &n, "SELECT COUNT(*) FROM t"))
		assert.Zero(t, n, "what was open when the connection was lost in %s is taken back", op)
	}
}

func TestRandomRepeatsItself(t *testing.T) {
	t.Parallel()
	draw := func(seed uint64) (all []sqlfault.Fault) {
		choose := sqlfault.Random(seed, 0.5)
		for i := range 100 {
			all = append(all, choose(t.Context(), sqlfault.Statement{Number: i}))
		}
		return all
	}
	first, again := draw(7), draw(7)
	assert.Equal(t, first, again)
	assert.NotEqual(t, first, draw(8))
	assert.Subset(t, first, sqlfault.Faults())
	assert.Contains(t, first, sqlfault.None)
	choose := sqlfault.Random(1, 1, sqlfault.Lost)
	assert.Equal(t, sqlfault.Lost, choose(t.Context(), sqlfault.Statement{}))
	assert.Equal(t, sqlfault.Lost, sqlfault.At(3, sqlfault.Lost)(t.Context(), sqlfault.Statement{Number: 3}))
	assert.Equal(t, sqlfault.None, sqlfault.At(3, sqlfault.Lost)(t.Context(), sqlfault.Statement{Number: 4}))
}

// Seen in SQLite when a commit meets a lock or a full disk: the transaction stays
// open, and its connection, back in the pool, showed the engine its own record.
func TestSQLite_aCommitThatDidNotRunIsNotTakenForDoneBecauseItsConnectionStillShowsIt(t *testing.T) {
	t.Parallel()
	ctx, f := t.Context(), file(filepath.Join(t.TempDir(), "credit.db"))
	refuse := false
	db := open(t, f, func(_ context.Context, s sqlfault.Statement) sqlfault.Fault {
		if refuse && s.Op == sqlfault.Commit {
			refuse = false
			return sqlfault.Refused
		}
		return sqlfault.None
	})
	db.SetMaxOpenConns(1)
	s, err := sqlstore.New(db, sqlstore.SQLite)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(ctx))
	ledger, err := store.Open(ctx, s, credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}, store.Options{})
	require.NoError(t, err)
	refuse = true
	receipt, err := ledger.Grant(ctx, credit.Grant{Amount: decimal.New(1, 0)})
	require.NoError(t, err, "it is sent again")
	require.False(t, refuse)

	other, err := sqlstore.New(open(t, f, none), sqlstore.SQLite)
	require.NoError(t, err)
	records, err := other.Records(ctx, ledger.Distributor().ID, credit.RecordQuery{Limit: 10})
	require.NoError(t, err)
	require.Len(t, records, 1, "what was answered is there for everybody")
	assert.Equal(t, receipt.ID, records[0].ID)
}
