package databases_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
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
)

// New refuses what would lose or change something, and says what to do.
func TestMySQLRefuses(t *testing.T) {
	dsn := server.Start(t, server.MariaDB)
	for _, refusal := range []struct {
		name   string
		change func(*mysql.Config)
		says   []string
	}{
		{"server-side prepared statements", func(c *mysql.Config) { c.InterpolateParams = false }, []string{"interpolateParams=true"}},
		{"prepared statements for what is large", func(c *mysql.Config) { c.MaxAllowedPacket = 1 << 16 }, []string{"maxAllowedPacket", "or more"}},
		{"a mode that cuts what does not fit", session("sql_mode", "'ANSI'"), []string{"sql_mode", "STRICT_TRANS_TABLES"}},
		{"a mode that takes an empty text for NULL", session("sql_mode", "'STRICT_TRANS_TABLES,EMPTY_STRING_IS_NULL'"), []string{"sql_mode", "EMPTY_STRING_IS_NULL"}},
		{"three-byte UTF-8", session("charset", "utf8mb3"), []string{"character_set", "utf8mb3", "utf8mb4"}},
		{"three-byte texts from the client", session("character_set_client", "utf8mb3"), []string{"character_set_client", "utf8mb4"}},
		{"three-byte literals", session("character_set_connection", "utf8mb3"), []string{"character_set_connection", "utf8mb4"}},
		{"three-byte results", session("character_set_results", "utf8mb3"), []string{"character_set_results", "utf8mb4"}},
		{"dirty reads", isolation("READ-UNCOMMITTED"), []string{"tx_isolation", "READ-COMMITTED"}},
		{"no autocommit", session("autocommit", "0"), []string{"autocommit", "ON"}},
		{"a read-only session", session("tx_read_only", "1"), []string{"tx_read_only", "OFF"}},
		{"no database", func(c *mysql.Config) { c.DBName = "" }, []string{"no database", "DSN"}},
	} {
		t.Run(refusal.name, func(t *testing.T) {
			_, err := sqlstore.New(openMySQL(t, dsn, refusal.change), sqlstore.MySQL)
			require.Error(t, err)
			for _, text := range refusal.says {
				require.ErrorContains(t, err, text)
			}
		})
	}
	t.Run("a driver whose transactions do nothing", func(t *testing.T) {
		db := openHooked(t, dsn, &hooks{begin: func() (driver.Tx, error) { return noTx{}, nil }})
		_, err := sqlstore.New(db, sqlstore.MySQL)
		require.ErrorContains(t, err, "does not begin transactions")
	})
	t.Run("a driver that does not roll back", func(t *testing.T) {
		h := &hooks{}
		db := openHooked(t, dsn, h)
		h.after = func(c driver.Conn, text string, _ []driver.NamedValue) {
			if text == "SELECT 'begin'" {
				require.NoError(t, rawExec(c, "START TRANSACTION"))
			}
		}
		conn, err := db.Connx(t.Context())
		require.NoError(t, err)
		_, err = conn.ExecContext(t.Context(), "SELECT 'begin'")
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		h.begin = func() (driver.Tx, error) { return noTx{}, nil }
		db.SetMaxOpenConns(1) // the one with a transaction that nobody ends
		_, err = sqlstore.New(db, sqlstore.MySQL)
		require.ErrorContains(t, err, "does not roll back")
	})
	t.Run("nothing of what is as it should be", func(t *testing.T) {
		for _, change := range []func(*mysql.Config){
			func(c *mysql.Config) { c.MaxAllowedPacket = 0 },
			func(c *mysql.Config) { c.ClientFoundRows = true },
			func(c *mysql.Config) { c.ParseTime = true },
			func(c *mysql.Config) { c.MultiStatements = true },
			isolation("SERIALIZABLE"),
			session("time_zone", "'-09:30'"),
			session("sql_mode", "'TRADITIONAL,NO_BACKSLASH_ESCAPES,ANSI_QUOTES,PIPES_AS_CONCAT'"),
		} {
			db := openMySQL(t, dsn, change)
			db.SetMaxOpenConns(1)
			s := newMySQL(t, db)
			b, resellers := newDraftBook(t, s, 3)
			b.write(t, s, usage(resellers[0], `it's "a" \key\`), usage(resellers[1], ""), usage(resellers[2], "?"))
			found, err := s.Load(t.Context(), b.ID, credit.ReadSet{Keys: []string{`it's "a" \key\`, "?"}})
			require.NoError(t, err)
			require.Len(t, found.Records, 2)
			status, err := s.Status(t.Context())
			require.NoError(t, err)
			require.True(t, status[0].Applied)
		}
	})
}

// noTx is a transaction in name only.
type noTx struct{}

func (noTx) Commit() error   { return nil }
func (noTx) Rollback() error { return nil }

// What is missing is found by the number of rows, whatever the driver counts.
func TestMySQLCountsChangedResellers(t *testing.T) {
	dsn := server.Start(t, server.MariaDB)
	for _, found := range []bool{false, true} {
		for _, n := range []int{1, 2, 5} {
			t.Run(fmt.Sprintf("clientFoundRows=%t, %d resellers", found, n), func(t *testing.T) {
				s := newMySQL(t, openMySQL(t, dsn, func(c *mysql.Config) { c.ClientFoundRows = found }))
				b, resellers := newDraftBook(t, s, n)
				var commands []credit.Command
				for _, r := range resellers {
					commands = append(commands, usage(r, ""), credit.Correction{ResellerID: r.ID, Amount: decimal.New(1, 0)})
				}
				b.write(t, s, commands...) // changes nothing in the end, and is no missing reseller

				head := b.state.Head()
				_, batch := b.draft(t, commands...)
				batch.Moved[n-1].ID = uuid.New()
				err := s.Append(t.Context(), b.ID, head, batch)
				require.ErrorContains(t, err, "move resellers")
				require.False(t, store.Retryable(err))
				requireHead(t, s, b.ID, head, "an append that misses a reseller writes nothing")
			})
		}
	}
}

// A time-out of a lock leaves the transaction open, with its first half in it. It
// must be gone before the connection is used again, because what comes next would
// commit it.
func TestMySQLRollsBackAfterALockTimeOut(t *testing.T) {
	dsn := server.Start(t, server.MariaDB)
	db := openMySQL(t, dsn, session("innodb_lock_wait_timeout", "1"))
	s := newMySQL(t, db)
	db.SetMaxOpenConns(1)
	b, resellers := newDraftBook(t, s, 2)
	head := b.state.Head()
	_, batch := b.draft(t, usage(resellers[0], "k"), usage(resellers[1], ""))

	other, err := openMySQL(t, dsn).BeginTxx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { _ = other.Rollback() }()
	_, err = other.ExecContext(t.Context(), "SELECT id FROM credit_resellers WHERE id = ? FOR UPDATE", resellers[1].ID[:])
	require.NoError(t, err)

	err = s.Append(t.Context(), b.ID, head, batch) // after it has moved the head
	require.ErrorContains(t, err, "1205")
	require.True(t, store.Retryable(err))
	_, err = db.ExecContext(t.Context(), "START TRANSACTION") // commits what is open
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	requireHead(t, s, b.ID, head, "the first half is gone")

	require.NoError(t, other.Rollback())
	require.NoError(t, s.Append(t.Context(), b.ID, head, batch))
}

// A transaction that is gone without anybody saying so: what follows would be
// committed by itself.
func TestMySQLWritesNothingOutsideItsTransaction(t *testing.T) {
	dsn := server.Start(t, server.MariaDB)
	between := func(h *hooks, lost string) {
		h.after = func(c driver.Conn, text string, _ []driver.NamedValue) {
			if strings.HasPrefix(text, lost) {
				require.NoError(t, rawExec(c, "ROLLBACK"))
			}
		}
	}
	within := func(h *hooks, lost string) {
		h.rewrite = func(text string) string {
			before, rest, found := strings.Cut(text, lost)
			end := "; END IF;"
			if lost == "START TRANSACTION" {
				end = ";"
			}
			statement, after, ended := strings.Cut(rest, end)
			if !found || !ended {
				return text
			}
			return before + lost + statement + end + " ROLLBACK;" + after
		}
	}
	for _, way := range []struct {
		name    string
		rewrite func(string) string         // until the store is open
		loses   func(h *hooks, lost string) // the transaction, after a statement
	}{{"in a block", nil, within}, {"each statement by itself", asMySQL, between}} {
		for _, lost := range []string{"START TRANSACTION", "UPDATE credit_ledgers", "INSERT INTO credit_resellers", "UPDATE credit_resellers", "INSERT INTO credit_records"} {
			t.Run(way.name+", after "+lost, func(t *testing.T) {
				h := &hooks{rewrite: way.rewrite}
				s := newMySQL(t, openHooked(t, dsn, h))
				h.rewrite = nil
				for _, changed := range []int{1, 3} {
					b, resellers := newDraftBook(t, s, 3)
					commands := []credit.Command{credit.NewReseller{Name: "New", ExternalID: "new"}, credit.Grant{Amount: decimal.New(1, 0), Key: "k"}}
					for _, r := range resellers[:changed] {
						commands = append(commands, usage(r, ""))
					}
					head := b.state.Head()
					_, batch := b.draft(t, commands...)
					way.loses(h, lost)
					err := s.Append(t.Context(), b.ID, head, batch)
					h.after, h.rewrite = nil, nil
					require.Error(t, err)
					require.True(t, store.Retryable(err), "%v", err)
					requireHead(t, s, b.ID, head, "nothing is written")
					found, err := s.Load(t.Context(), b.ID, credit.ReadSet{Resellers: []uuid.UUID{resellers[0].ID}, ExternalIDs: []string{"new"}, Keys: []string{"k"}})
					require.NoError(t, err)
					require.Len(t, found.Resellers, 1)
					require.Zero(t, found.Resellers[0].Used.Sign())
					require.Empty(t, found.Records)
					require.NoError(t, s.Append(t.Context(), b.ID, head, batch))
				}
			})
		}
	}
}

// In a transaction that has read before others wrote, the ledger is seen as it is
// now, or the transaction fails and says so; it never decides on what it was.
func TestMySQLCallersTransaction(t *testing.T) {
	for _, name := range mysqlServers {
		for _, level := range mysqlLevels {
			t.Run(name+" "+level, func(t *testing.T) {
				dsn := server.Start(t, name)
				db := openMySQL(t, dsn, isolation(level))
				s := newMySQL(t, db)
				d := credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}
				ledger, err := store.Open(t.Context(), s, d, store.Options{})
				require.NoError(t, err)
				_, err = ledger.Grant(t.Context(), credit.Grant{Amount: decimal.New(100, 0)})
				require.NoError(t, err)
				added, err := ledger.AddReseller(t.Context(), credit.NewReseller{Name: "Nimbus", ExternalID: "1"})
				require.NoError(t, err)
				allocate := credit.Allocation{ResellerID: added.ResellerID, Amount: decimal.New(60, 0), Key: "po-1"}

				tx, err := db.BeginTxx(t.Context(), nil)
				require.NoError(t, err)
				defer func() { _ = tx.Rollback() }()
				_, err = tx.ExecContext(t.Context(), "SELECT r.id FROM credit_resellers r, credit_ledgers, credit_records")
				require.NoError(t, err)
				first, err := ledger.Allocate(t.Context(), allocate) // by somebody else
				require.NoError(t, err)

				inside := ledger.On(s.WithTx(tx))
				other := allocate
				other.Key = "po-2"
				_, err = inside.Allocate(t.Context(), other)
				if name == server.MariaDBSnapshot && level == "REPEATABLE-READ" {
					var failed *sqlstore.TxError
					require.ErrorAs(t, err, &failed)
					require.True(t, failed.Temporary)
					require.ErrorContains(t, err, "1020")
					return
				}
				require.ErrorIs(t, err, credit.ErrInsufficientPool, "only 40 remain")
				again, err := inside.Allocate(t.Context(), allocate)
				require.NoError(t, err)
				require.True(t, again.Replayed, "the key is seen")
				require.Equal(t, first.Record, again.Record)
				other.Amount = decimal.New(40, 0)
				last, err := inside.Allocate(t.Context(), other)
				require.NoError(t, err)
				require.Equal(t, decimal.New(60_000_000, -6), last.Before.Allocated, "the reseller is seen")
				require.NoError(t, tx.Commit())
				_, err = ledger.Check(t.Context())
				require.NoError(t, err)
				found, err := ledger.Head(t.Context())
				require.NoError(t, err)
				require.Equal(t, last.Hash, found.Hash)
			})
		}
	}
}

// An append that fails in the caller's transaction leaves nothing in it, although
// it had moved the head.
func TestMySQLFailedAppendInTheCallersTransaction(t *testing.T) {
	dsn := server.Start(t, server.MariaDB)
	db := openMySQL(t, dsn)
	s := newMySQL(t, db)
	_, err := db.ExecContext(t.Context(), "CREATE TABLE orders (id INT PRIMARY KEY)")
	require.NoError(t, err)
	b, resellers := newDraftBook(t, s, 2)
	b.write(t, s, usage(resellers[0], "taken"))
	for i, broken := range []struct {
		name  string
		spoil func(*store.Batch)
		says  error
	}{
		{"a key that is taken", func(batch *store.Batch) { batch.Records[1].Key = "taken" }, store.ErrMoved},
		{"a reseller that is missing", func(batch *store.Batch) { batch.Moved[1].ID = uuid.New() }, nil},
		{"an external id that is taken", func(batch *store.Batch) { batch.Added[0].ExternalID = resellers[0].ExternalID }, nil},
	} {
		t.Run(broken.name, func(t *testing.T) {
			head := b.state.Head()
			fork := *b
			fork.state = b.state.Fork()
			_, batch := fork.draft(t, usage(resellers[0], "free"), usage(resellers[1], "free too"), credit.NewReseller{Name: "New", ExternalID: "new"})
			broken.spoil(&batch)
			tx, err := db.BeginTxx(t.Context(), nil)
			require.NoError(t, err)
			defer func() { _ = tx.Rollback() }()
			_, err = tx.ExecContext(t.Context(), "INSERT INTO orders VALUES (?)", i)
			require.NoError(t, err)
			err = s.WithTx(tx).Append(t.Context(), b.ID, head, batch)
			require.Error(t, err)
			if broken.says != nil {
				require.ErrorIs(t, err, broken.says)
			}
			require.NoError(t, tx.Commit())
			requireHead(t, s, b.ID, head, "nothing of the append is committed")
			var orders int
			require.NoError(t, db.GetContext(t.Context(), &orders, "SELECT count(*) FROM orders"))
			require.Equal(t, i+1, orders, "what the caller wrote is")
		})
	}
}

// What an append compares with is what is committed, also in a transaction that
// sees an older state.
func TestMySQLComparesWithWhatIsCommitted(t *testing.T) {
	dsn := server.Start(t, server.MariaDB)
	db := openMySQL(t, dsn, isolation("REPEATABLE-READ"))
	s := newMySQL(t, db)
	// stale is a transaction of the caller's that has read everything.
	stale := func(t *testing.T) (inside store.Store) {
		tx, err := db.BeginTxx(t.Context(), nil)
		require.NoError(t, err)
		t.Cleanup(func() { _ = tx.Rollback() })
		_, err = tx.ExecContext(t.Context(), "SELECT r.id FROM credit_resellers r, credit_ledgers, credit_records")
		require.NoError(t, err)
		return s.WithTx(tx)
	}
	t.Run("a head that has moved since", func(t *testing.T) {
		b, resellers := newDraftBook(t, s, 1)
		late := *b
		late.state = b.state.Fork()
		head, batch := late.draft(t, usage(resellers[0], "late"))
		inside := stale(t)
		b.write(t, s, usage(resellers[0], "early"))
		require.ErrorIs(t, inside.Append(t.Context(), b.ID, head, batch), store.ErrMoved)
	})
	t.Run("a ledger that was created since", func(t *testing.T) {
		b, resellers := newDraftBook(t, s, 1)
		head, batch := b.draft(t, usage(resellers[0], "k"))
		inside := stale(t)
		created, _ := newDraftBook(t, s, 1)
		require.ErrorIs(t, inside.Append(t.Context(), created.ID, head, batch), store.ErrMoved)
	})
	t.Run("a key that was taken since", func(t *testing.T) {
		b, resellers := newDraftBook(t, s, 1)
		inside := stale(t)
		b.write(t, s, usage(resellers[0], "taken"))
		head, batch := b.draft(t, usage(resellers[0], "free"))
		batch.Records[0].Key = "taken"
		require.ErrorIs(t, inside.Append(t.Context(), b.ID, head, batch), store.ErrMoved)
	})
}

// A deadlock takes back the caller's whole transaction, savepoint included; the
// error says that running it again may help.
func TestMySQLDeadlockInTheCallersTransaction(t *testing.T) {
	dsn := server.Start(t, server.MariaDB)
	db := openMySQL(t, dsn)
	s := newMySQL(t, db)
	_, err := db.ExecContext(t.Context(), "CREATE TABLE orders (id INT PRIMARY KEY)")
	require.NoError(t, err)
	b, resellers := newDraftBook(t, s, 1)
	begin := func() *sqlx.Tx {
		tx, err := db.BeginTxx(t.Context(), nil)
		require.NoError(t, err)
		t.Cleanup(func() { _ = tx.Rollback() })
		return tx
	}
	mine, other := begin(), begin()
	_, err = other.ExecContext(t.Context(), "INSERT INTO orders SELECT seq FROM seq_1_to_1000") // too much to be the victim
	require.NoError(t, err)
	_, err = other.ExecContext(t.Context(), "SELECT id FROM credit_resellers WHERE id = ? FOR UPDATE", resellers[0].ID[:])
	require.NoError(t, err)
	_, err = s.WithTx(mine).Load(t.Context(), b.ID, credit.ReadSet{})
	require.NoError(t, err)
	waits := make(chan error)
	go func() {
		_, err := other.ExecContext(t.Context(), "SELECT id FROM credit_ledgers WHERE id = ? FOR UPDATE", b.ID[:])
		waits <- err
	}()
	head, batch := b.draft(t, usage(resellers[0], "k"))
	err = s.WithTx(mine).Append(t.Context(), b.ID, head, batch)
	var failed *sqlstore.TxError
	require.ErrorAs(t, err, &failed)
	require.ErrorContains(t, err, "1213")
	require.True(t, failed.Temporary)
	require.NoError(t, <-waits)
	require.NoError(t, other.Commit())
	require.NoError(t, s.Append(t.Context(), b.ID, head, batch))
}

// Appends to different ledgers of one database, with keys that come next to each
// other in the index, do not wait for each other.
func TestMySQLLedgersDoNotWaitForEachOther(t *testing.T) {
	for _, level := range mysqlLevels {
		t.Run(level, func(t *testing.T) {
			dsn := server.Start(t, server.MariaDB)
			h := &hooks{}
			s := newMySQL(t, openHooked(t, change(t, dsn, isolation(level), session("innodb_lock_wait_timeout", "1")), h))
			var books []*draftBook
			var changes [][]credit.Command
			for range 3 {
				b, resellers := newDraftBook(t, s, 5)
				commands := []credit.Command{credit.NewReseller{Name: "New", ExternalID: "new"}}
				for i, r := range resellers { // all of them: the planner would rather read the whole table
					commands = append(commands, usage(r, fmt.Sprint("a", i)))
				}
				books, changes = append(books, b), append(changes, commands)
			}
			// While each waits before its commit, the next one writes.
			var nest func(i int)
			nest = func(i int) {
				if i == len(books) {
					return
				}
				h.after = func(_ driver.Conn, text string, _ []driver.NamedValue) {
					if strings.Contains(text, "INSERT INTO credit_records") {
						h.after = nil
						nest(i + 1)
					}
				}
				books[i].write(t, s, changes[i]...)
			}
			nest(0)
		})
	}
}

// While one ledger is held, others are held and written, although each has looked
// for what is not there, next to what the others add.
func TestMySQLHoldsOfLedgersDoNotWaitForEachOther(t *testing.T) {
	for _, level := range mysqlLevels {
		t.Run(level, func(t *testing.T) {
			dsn := server.Start(t, server.MariaDB)
			s := newMySQL(t, openMySQL(t, dsn, isolation(level), session("innodb_lock_wait_timeout", "1")))
			asked := credit.ReadSet{ExternalIDs: []string{"new"}, Keys: []string{"a"}, Resellers: []uuid.UUID{uuid.New()}}
			var books []*draftBook
			for range 5 {
				b, _ := newDraftBook(t, s, 0)
				books = append(books, b)
			}
			var hold func(i int)
			hold = func(i int) {
				if i == len(books) {
					return
				}
				require.NoError(t, s.Hold(t.Context(), books[i].ID, func(inside store.Store) error {
					_, err := inside.Load(t.Context(), books[i].ID, asked)
					require.NoError(t, err)
					hold(i + 1)
					books[i].write(t, inside, credit.NewReseller{Name: "New", ExternalID: "new", Key: "a"})
					return nil
				}))
			}
			hold(0)
		})
	}
}

// The errors of one context that ends while a lock is waited for.
func TestMySQLWaitsNoLongerThanItsContext(t *testing.T) {
	dsn := server.Start(t, server.MariaDB)
	db := openMySQL(t, dsn)
	s := newMySQL(t, db)
	b, resellers := newDraftBook(t, s, 1)
	other, err := db.BeginTxx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { _ = other.Rollback() }()
	_, err = other.ExecContext(t.Context(), "SELECT id FROM credit_ledgers WHERE id = ? FOR UPDATE", b.ID[:])
	require.NoError(t, err)
	head := b.state.Head()
	_, batch := b.draft(t, usage(resellers[0], "k"))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	err = s.Append(ctx, b.ID, head, batch)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.True(t, store.Retryable(err), "nothing was written")
	require.Less(t, time.Since(begin), 5*time.Second)
	require.NoError(t, other.Rollback())
	require.NoError(t, s.Append(t.Context(), b.ID, head, batch))
}

// A batch of the largest records that the library allows is cut into statements
// that a server takes.
func TestMySQLCutsLargeBatches(t *testing.T) {
	rec := &recorder{}
	dsn := server.Start(t, server.MariaDB)
	s := newMySQL(t, openHooked(t, dsn, &hooks{after: rec.after}))
	b, resellers := newDraftBook(t, s, 1)
	metadata := map[string]string{}
	for i := range credit.MaxMetadata {
		metadata[fmt.Sprintf("%0*d", credit.MaxMetadataKey, i)] = strings.Repeat("\x01", credit.MaxMetadataValue)
	}
	var commands []credit.Command
	for i := range 60 {
		commands = append(commands, credit.Usage{ResellerID: resellers[0].ID, Amount: decimal.New(1, 0), Metadata: metadata, Key: fmt.Sprint(i),
			Remark: strings.Repeat(`'`, credit.MaxRemark), Operator: strings.Repeat(`\`, credit.MaxOperator)})
	}
	rec.take()
	b.write(t, s, commands...)
	most := 0
	inserts := 0
	for _, sent := range rec.take() {
		size := len(sent.text)
		for _, arg := range sent.args {
			if v, ok := arg.(string); ok {
				size += 2*len(v) + 3
			}
		}
		most = max(most, size)
		if strings.Contains(sent.text, "INSERT INTO credit_records") {
			inserts++
		}
	}
	require.Less(t, most, 5<<18, "what New requires of max_allowed_packet")
	require.Greater(t, inserts, 1)
	found, err := s.Load(t.Context(), b.ID, credit.ReadSet{Keys: []string{"59"}})
	require.NoError(t, err)
	require.Equal(t, metadata, found.Records[0].Metadata)
}

// otherDriversError is an error of a driver, as far as it has a number.
type otherDriversError struct{ Number uint16 }

func (e *otherDriversError) Error() string { return fmt.Sprint("Error ", e.Number) }

// Errors are told apart by number, also for a driver that only looks like the
// usual one.
func TestMySQLErrorsByNumber(t *testing.T) {
	dsn := server.Start(t, server.MariaDB)
	for number, retry := range map[uint16]bool{
		1213: true, 1205: true, 1020: true, 1402: true, 3572: true, 9007: true, 8002: true, 8022: true,
		1047: true, 1040: true, 1053: true, 1290: true, 2006: true, 2013: true, 1317: true,
		1062: false, 4025: false, 3819: false, 1264: false, 1406: false, 1452: false, 1142: false, 1146: false,
	} {
		for _, at := range []string{mysqlBlock, "START TRANSACTION", "INSERT", mysqlCommits} {
			f := &failing{at: at, err: fmt.Errorf("wrapped: %w", &otherDriversError{number})}
			if at != mysqlBlock {
				f.hooks.rewrite = asMySQL
			}
			s := newMySQL(t, openFailing(t, dsn, f))
			b, resellers := newDraftBook(t, s, 1)
			head := b.state.Head()
			_, batch := b.draft(t, usage(resellers[0], "k"))
			f.armed.Store(true)
			err := s.Append(t.Context(), b.ID, head, batch)
			f.armed.Store(false)
			require.ErrorIs(t, err, f.err)
			want := retry
			if at == mysqlCommits { // only these say that it took everything back
				want = slices.Contains([]uint16{1213, 1020, 1402, 9007, 8002, 8022}, number)
			}
			require.Equal(t, want, store.Retryable(err), "%d from %s", number, at)
			require.NotErrorIs(t, err, store.ErrMoved)
			requireHead(t, s, b.ID, head, "nothing is written")
		}
	}
	for _, broken := range []error{driver.ErrBadConn, mysql.ErrInvalidConn, errors.New("wrapped: " + mysql.ErrInvalidConn.Error()), io.ErrUnexpectedEOF,
		&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}} {
		for _, at := range []string{mysqlBlock, "START TRANSACTION", "INSERT", mysqlCommits} {
			f := &failing{at: at, err: broken}
			if at != mysqlBlock {
				f.hooks.rewrite = asMySQL
			}
			s := newMySQL(t, openFailing(t, dsn, f))
			b, resellers := newDraftBook(t, s, 1)
			head := b.state.Head()
			_, batch := b.draft(t, usage(resellers[0], "k"))
			f.armed.Store(true)
			err := s.Append(t.Context(), b.ID, head, batch)
			f.armed.Store(false)
			require.Error(t, err)
			require.Equal(t, at != mysqlCommits, store.Retryable(err), "%v from %s", err, at)
		}
	}
}

// A record that is there beyond the head, past which nobody can write: what is in
// the way is not taken for a key that somebody took, although the append has by
// then written keys of its own.
func TestMySQLRecordBeyondTheHead(t *testing.T) {
	db := openMySQL(t, server.Start(t, server.MariaDB))
	s := newMySQL(t, db)
	b, _ := newDraftBook(t, s, 0)
	const n = 1200 // more than one statement
	var commands []credit.Command
	for i := range n {
		commands = append(commands, credit.Grant{Amount: decimal.New(1, 0), Key: fmt.Sprint(i)})
	}
	head, batch := b.draft(t, commands...)
	_, err := db.ExecContext(t.Context(), "INSERT INTO credit_records (ledger, sequence, id, kind, amount, allocated_before, used_before, allocated_after,"+
		" used_after, pool_granted, pool_allocated, occurred_at, recorded_at, hash) SELECT ledger, ?, id, kind, amount, 0, 0, 0, 0,"+
		" pool_granted, pool_allocated, occurred_at, recorded_at, hash FROM credit_records WHERE ledger = ?", head.Sequence+n, b.ID[:])
	require.NoError(t, err)
	err = s.Append(t.Context(), b.ID, head, batch)
	require.ErrorContains(t, err, "1062")
	require.NotErrorIs(t, err, store.ErrMoved)
	require.False(t, store.Retryable(err))
	requireHead(t, s, b.ID, head, "nothing is written")
}
