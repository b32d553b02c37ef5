package databases_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // the driver sqlite

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

// site is a migrated database, as another process is told of it.
type site struct{ Driver, DSN string }

// siteNames are the databases on which what concerns all of them is tested.
var siteNames = []string{"sqlite", server.Postgres15, server.MariaDB}

// serverNames are those of them that are servers.
var serverNames = siteNames[1:]

// newSite returns a new database of that name: a file, or on the server.
func newSite(t testing.TB, name string) site {
	t.Helper()
	return migrated(t, emptySite(t, name))
}

// emptySite returns one without tables.
func emptySite(t testing.TB, name string) site {
	t.Helper()
	if name == "sqlite" {
		return site{"sqlite", sqlstore.SQLiteDSN(filepath.Join(t.TempDir(), "credit.db"))}
	}
	return site{server.Driver(name), server.Start(t, name)}
}

// siteOn returns the site on a database of a server.
func siteOn(t testing.TB, name, dsn string) site {
	t.Helper()
	return migrated(t, site{server.Driver(name), dsn})
}

func migrated(t testing.TB, s site) site {
	t.Helper()
	on, _ := s.store(t)
	require.NoError(t, on.Migrate(t.Context()))
	return s
}

// open opens a pool, which is the caller's to close.
func (s site) open() (*sqlx.DB, error) {
	db, err := sqlx.Open(s.Driver, s.DSN)
	if err == nil && s.Driver != "sqlite" {
		db.SetMaxOpenConns(16)
		db.SetMaxIdleConns(16)
	}
	return db, err
}

// on makes a store on a pool.
func (s site) on(db *sqlx.DB) (*sqlstore.Store, error) {
	return sqlstore.New(db, map[string]sqlstore.Dialect{"sqlite": sqlstore.SQLite, "pgx": sqlstore.Postgres, "mysql": sqlstore.MySQL}[s.Driver])
}

// store opens a pool of the test's, and a store on it.
func (s site) store(t testing.TB) (*sqlstore.Store, *sqlx.DB) {
	t.Helper()
	db, err := s.open()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	on, err := s.on(db)
	require.NoError(t, err)
	return on, db
}

// acme returns a new distributor.
func acme() credit.Distributor {
	return credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}
}

// engine opens an engine on a pool of its own.
func (s site) engine(t testing.TB, d credit.Distributor, o store.Options) *store.Ledger {
	t.Helper()
	on, _ := s.store(t)
	l, err := store.Open(t.Context(), on, d, o)
	require.NoError(t, err)
	return l
}

// granted opens a ledger with a pool of so much and one reseller.
func (s site) granted(t testing.TB, pool int64) (ledger *store.Ledger, reseller uuid.UUID) {
	t.Helper()
	ledger = s.engine(t, acme(), store.Options{})
	_, err := ledger.Grant(t.Context(), credit.Grant{Amount: decimal.NewFromInt(pool)})
	require.NoError(t, err)
	added, err := ledger.AddReseller(t.Context(), credit.NewReseller{Name: "Nimbus", ExternalID: "200012345678"})
	require.NoError(t, err)
	return ledger, added.ResellerID
}

// insideOf runs with a store inside a transaction on the pool.
func insideOf(db *sqlx.DB) func(testing.TB, store.Store, func(store.Store)) {
	return func(t testing.TB, s store.Store, f func(store.Store)) {
		t.Helper()
		tx, err := db.BeginTxx(t.Context(), nil)
		require.NoError(t, err)
		defer func() { _ = tx.Rollback() }()
		f(s.(*sqlstore.Store).WithTx(tx))
		require.NoError(t, tx.Commit())
	}
}

// requireSound fails unless the ledger checks, and returns its records.
func requireSound(t testing.TB, ledger *store.Ledger) []credit.Record {
	t.Helper()
	checked, err := ledger.Check(t.Context())
	require.NoError(t, err)
	var log []credit.Record
	for q := (credit.RecordQuery{Limit: credit.MaxPageSize}); ; {
		page, err := ledger.Records(t.Context(), q)
		require.NoError(t, err)
		log = append(log, page.Items...)
		if q.Cursor = page.Next; q.Cursor == "" {
			break
		}
	}
	require.Len(t, log, int(checked.Records))
	return log
}

// Opening a ledger in the caller's transaction finds what is committed, or the
// transaction fails and says so, also if what it saw first is older than the
// ledger.
func TestCreateInTheCallersTransactionSeesWhatIsCommitted(t *testing.T) {
	for _, name := range append([]string{server.MariaDBSnapshot}, serverNames...) {
		for _, level := range []sql.IsolationLevel{sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable} {
			t.Run(name+" "+level.String(), func(t *testing.T) {
				t.Parallel()
				s, db := newSite(t, name).store(t)
				tx, err := db.BeginTxx(t.Context(), &sql.TxOptions{Isolation: level})
				require.NoError(t, err)
				defer func() { _ = tx.Rollback() }()
				var n int
				if name == server.Postgres15 || level != sql.LevelSerializable {
					require.NoError(t, tx.GetContext(t.Context(), &n, "SELECT count(*) FROM credit_ledgers"))
				} // or else the count holds all of them on MariaDB
				d := acme()
				there, err := s.Create(t.Context(), d) // by somebody else
				require.NoError(t, err)

				d.Name = "Another name"
				found, err := s.WithTx(tx).Create(t.Context(), d)
				if err != nil {
					failed := new(sqlstore.TxError)
					require.ErrorAs(t, err, &failed)
					require.True(t, failed.Temporary, "%v", err)
					require.NotEqual(t, sql.LevelReadCommitted, level, "%v", err)
					return
				}
				require.Equal(t, there, found)
				// It holds the ledger, as a load does.
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				b := credit.NewState(there)
				r, err := b.Execute(credit.Grant{Amount: decimal.New(1, 0)}, credit.Stamp{Time: time.Unix(0, 0), RecordID: uuid.New()})
				require.NoError(t, err)
				err = s.Append(ctx, d.ID, credit.NewState(there).Head(), store.Batch{Records: []credit.Record{r.Record}})
				require.ErrorIs(t, err, context.DeadlineExceeded, "it is waited for")
				require.NoError(t, tx.Commit())
			})
		}
	}
}

// Two transactions that open the same new ledger: one waits for the other, and
// both find the same.
func TestTwoTransactionsCreateOneLedger(t *testing.T) {
	for _, name := range serverNames {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, db := newSite(t, name).store(t)
			d := acme()
			first, err := db.BeginTxx(t.Context(), nil)
			require.NoError(t, err)
			defer func() { _ = first.Rollback() }()
			second, err := db.BeginTxx(t.Context(), &sql.TxOptions{Isolation: sql.LevelReadCommitted})
			require.NoError(t, err)
			defer func() { _ = second.Rollback() }()
			created, err := s.WithTx(first).Create(t.Context(), d)
			require.NoError(t, err)
			var found credit.Distributor
			waiting := background(func() (err error) {
				d.Name = "Another name"
				found, err = s.WithTx(second).Create(t.Context(), d)
				return err
			})
			require.NoError(t, first.Commit())
			require.NoError(t, waiting())
			require.Equal(t, created, found)
			require.NoError(t, second.Commit())
		})
	}
}

// A server that hangs at the commit of a new ledger does not hold its caller
// beyond the context.
func TestCreateEndsWithItsContext(t *testing.T) {
	for _, driver := range []string{"mysql", "pgx"} {
		t.Run(driver, func(t *testing.T) {
			var s *sqlstore.Store
			var hang func()
			if driver == "mysql" {
				dsn := server.Start(t, server.MariaDB)
				p := newProxy(t, dsn)
				s = newMySQL(t, openMySQL(t, dsn, func(c *mysql.Config) { c.Addr = p.address }))
				hang = func() { p.swallow(true) }
			} else {
				direct := postgresWay{driver: driver}.connect(t, server.Start(t, server.Postgres15))
				p := newLossyProxy(t, direct.dsn, "COMMIT\x00") // and not READ COMMITTED
				s = postgresWay{driver: driver}.connect(t, p.dsn).open(t).(*sqlstore.Store)
				hang = func() { p.lose(func() { <-t.Context().Done() }) }
			}
			d := acme()
			hang()
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			begun := time.Now()
			_, err := s.Create(ctx, d)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Less(t, time.Since(begun), 5*time.Second)
			require.False(t, store.Retryable(err), "what became of it is not known")
			found, err := s.Create(t.Context(), d)
			require.NoError(t, err, "and asking again is safe")
			require.Equal(t, d, found)
		})
	}
}
