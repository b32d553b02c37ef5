package databases_test

import (
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
	"github.com/resellerkit/credit/store/storetest"
)

// mysqlServers are the two ways in which MariaDB treats a snapshot, and
// mysqlLevels the isolations that a pool may have.
var (
	mysqlServers = []string{server.MariaDB, server.MariaDBSnapshot}
	mysqlLevels  = []string{"READ-COMMITTED", "REPEATABLE-READ"}
)

// TestMySQLConformance runs the suite that defines a correct store, each way, and
// the random parts of it more briefly than its default, because each commit is
// flushed. CREDIT_SEQUENCES and CREDIT_HISTORIES make them longer.
func TestMySQLConformance(t *testing.T) {
	for _, name := range mysqlServers {
		for _, level := range mysqlLevels {
			t.Run(name+" "+level, func(t *testing.T) {
				t.Parallel()
				dsn := server.Start(t, name)
				changes := []func(*mysql.Config){isolation(level)}
				if name == server.MariaDBSnapshot { // the driver quotes in the other way
					changes = append(changes, session("sql_mode", "'TRADITIONAL,NO_BACKSLASH_ESCAPES'"))
				}
				conformsMySQL(t, func() *sqlx.DB { return openMySQL(t, dsn, changes...) })
			})
		}
	}
	t.Run("each statement by itself", func(t *testing.T) {
		t.Parallel()
		dsn := server.Start(t, server.MariaDB)
		conformsMySQL(t, func() *sqlx.DB { return openHooked(t, dsn, &hooks{rewrite: asMySQL}) })
	})
}

func conformsMySQL(t *testing.T, open func() *sqlx.DB) {
	t.Helper()
	db, second := open(), open()
	var stores atomic.Int64
	var prefixes sync.Map // of each store
	storetest.Run(t, storetest.Harness{
		Sequences: 60,
		Histories: 6,
		Inside:    insideOf(db),
		Open: func(t testing.TB) store.Store {
			prefix := fmt.Sprintf("s%d_", stores.Add(1))
			s := newMySQL(t, db, sqlstore.WithPrefix(prefix))
			prefixes.Store(s, prefix)
			return s
		},
		Reopen: func(t testing.TB, s store.Store) store.Store {
			prefix, _ := prefixes.Load(s)
			again, err := sqlstore.New(second, sqlstore.MySQL, sqlstore.WithPrefix(prefix.(string)))
			require.NoError(t, err)
			return again
		},
	})
}

// change returns a DSN that was changed.
func change(t testing.TB, dsn string, changes ...func(*mysql.Config)) string {
	t.Helper()
	c, err := mysql.ParseDSN(dsn)
	require.NoError(t, err)
	for _, change := range changes {
		change(c)
	}
	return c.FormatDSN()
}

// session sets a variable on every connection.
func session(name, value string) func(*mysql.Config) {
	return func(c *mysql.Config) {
		if c.Params == nil {
			c.Params = map[string]string{}
		}
		c.Params[name] = value
	}
}

func isolation(level string) func(*mysql.Config) { return session("tx_isolation", "'"+level+"'") }

func openMySQL(t testing.TB, dsn string, changes ...func(*mysql.Config)) *sqlx.DB {
	t.Helper()
	c, err := mysql.ParseDSN(change(t, dsn, changes...))
	require.NoError(t, err)
	c.Logger = &mysql.NopLogger{} // broken connections are what some tests are about
	connector, err := mysql.NewConnector(c)
	require.NoError(t, err)
	db := sqlx.NewDb(sql.OpenDB(connector), "mysql")
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	return db
}

// newMySQL returns a migrated store.
func newMySQL(t testing.TB, db *sqlx.DB, options ...sqlstore.Option) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.New(db, sqlstore.MySQL, options...)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	return s
}

// draftBook decides commands on a state in memory, as the engine would, and makes
// batches of the answers.
type draftBook struct {
	credit.Distributor
	state *credit.State
	now   time.Time
}

// newDraftBook returns a book whose ledger is in the store, with a pool of
// 1,000,000 and some resellers.
func newDraftBook(t testing.TB, s store.Store, resellers int) (*draftBook, []credit.Reseller) {
	t.Helper()
	d := credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}
	b := &draftBook{Distributor: d, state: credit.NewState(d), now: time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)}
	_, err := s.Create(t.Context(), d)
	require.NoError(t, err)
	commands := []credit.Command{credit.Grant{Amount: decimal.New(1, 6)}}
	for i := range resellers {
		commands = append(commands, credit.NewReseller{Name: fmt.Sprintf("Reseller %d 𝄞", i), ExternalID: fmt.Sprintf("2000%08d", i)})
	}
	return b, b.write(t, s, commands...).Added
}

// draft executes the commands and returns them as a batch on top of a head.
func (b *draftBook) draft(t testing.TB, commands ...credit.Command) (credit.Head, store.Batch) {
	t.Helper()
	expected := b.state.Head()
	var records []credit.Record
	for _, c := range commands {
		b.now = b.now.Add(time.Microsecond)
		r, err := b.state.Execute(c, credit.Stamp{Time: b.now, RecordID: uuid.New(), ResellerID: uuid.New()})
		require.NoError(t, err)
		records = append(records, r.Record)
	}
	return expected, store.BatchOf(records, b.state.Reseller)
}

// write drafts the commands and appends them to the store.
func (b *draftBook) write(t testing.TB, s store.Store, commands ...credit.Command) store.Batch {
	t.Helper()
	expected, batch := b.draft(t, commands...)
	require.NoError(t, s.Append(t.Context(), b.ID, expected, batch))
	return batch
}

// requireHead fails unless the store has the head, seen from outside.
func requireHead(t testing.TB, s store.Store, ledger uuid.UUID, want credit.Head, why string) {
	t.Helper()
	found, err := s.Load(t.Context(), ledger, credit.ReadSet{})
	require.NoError(t, err)
	require.Equal(t, want.Sequence, found.Head.Sequence, why)
	records, err := s.Records(t.Context(), ledger, credit.RecordQuery{NewestFirst: true, Limit: 1})
	require.NoError(t, err)
	require.Equal(t, want.Hash, records[0].Hash, why)
}

func usage(r credit.Reseller, key string) credit.Usage {
	return credit.Usage{ResellerID: r.ID, Amount: decimal.New(1, 0), Key: key}
}
