package databases_test

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/store"
)

// moving is a store whose place another one can take.
type moving struct{ store.Store }

// What an engine remembers of a transaction that was rolled back, or of a server
// that lost it, is worth nothing once somebody else has written a record with the
// same sequence: it is noticed by the record's hash.
func TestRolledBackRecordWhosePlaceIsTaken(t *testing.T) {
	for _, name := range siteNames {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			on := newSite(t, name)
			ledger, first := on.granted(t, 100)
			added, err := ledger.AddReseller(t.Context(), credit.NewReseller{Name: "Cirrus", ExternalID: "2"})
			require.NoError(t, err)
			d := ledger.Distributor()
			s, db := on.store(t)
			tx, err := db.BeginTxx(t.Context(), nil)
			require.NoError(t, err)
			defer func() { _ = tx.Rollback() }()
			place := &moving{s.WithTx(tx)}
			stale, err := store.Open(t.Context(), place, d, store.Options{})
			require.NoError(t, err)
			rolledBack, err := stale.Allocate(t.Context(), credit.Allocation{ResellerID: first, Amount: decimal.NewFromInt(1)})
			require.NoError(t, err)
			known, err := stale.Head(t.Context())
			require.NoError(t, err)
			require.NoError(t, tx.Rollback())

			other := on.engine(t, d, store.Options{})
			taken, err := other.Allocate(t.Context(), credit.Allocation{ResellerID: added.ResellerID, Amount: decimal.NewFromInt(100)})
			require.NoError(t, err)
			require.Equal(t, rolledBack.Sequence, taken.Sequence)

			// The store: the sequence is the expected one, the hash is not.
			place.Store = s
			b := credit.NewState(d)
			for _, r := range requireSound(t, other)[:known.Sequence-1] {
				b.Apply(r)
			}
			b.Apply(rolledBack.Record)
			next, err := b.Execute(credit.Grant{Amount: decimal.NewFromInt(1)}, credit.Stamp{Time: rolledBack.RecordedAt, RecordID: uuid.New()})
			require.NoError(t, err)
			require.ErrorIs(t, s.Append(t.Context(), d.ID, known, store.Batch{Records: []credit.Record{next.Record}}), store.ErrMoved)

			// The engine: as far as it remembers, 99 remain.
			_, err = stale.Allocate(t.Context(), credit.Allocation{ResellerID: first, Amount: decimal.NewFromInt(50)})
			require.ErrorIs(t, err, credit.ErrInsufficientPool)
			r, err := stale.Grant(t.Context(), credit.Grant{Amount: decimal.NewFromInt(5)})
			require.NoError(t, err)
			require.Equal(t, taken.Sequence+1, r.Sequence)
			require.Len(t, requireSound(t, other), 5)
		})
	}
}

// Somebody removes the row with the figures of a reseller that the engine remembers.
func TestMissingResellerRow(t *testing.T) {
	for name, remove := range map[string][]string{
		server.Postgres15: {"ALTER TABLE credit_balances DISABLE TRIGGER USER", "DELETE FROM credit_balances"},
		server.MariaDB:    {"SET SESSION foreign_key_checks = 0", "DELETE FROM credit_resellers"},
		"sqlite":          {"PRAGMA foreign_keys = 0", "DELETE FROM credit_resellers"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			on := newSite(t, name)
			ledger, reseller := on.granted(t, 100)
			_, db := on.store(t)
			conn, err := db.Connx(t.Context())
			require.NoError(t, err)
			defer func() { _ = conn.Close() }()
			for _, statement := range remove {
				_, err := conn.ExecContext(t.Context(), statement)
				require.NoError(t, err, statement)
			}
			before, err := ledger.Head(t.Context())
			require.NoError(t, err)
			_, err = ledger.Allocate(t.Context(), credit.Allocation{ResellerID: reseller, Amount: decimal.NewFromInt(1), Key: "k"})
			requireRejected(t, err)
			require.Equal(t, "internal", credit.Code(err), "%v", err)
			after, err := ledger.Head(t.Context())
			require.NoError(t, err)
			require.Equal(t, before, after, "nothing is committed")
			_, err = ledger.Grant(t.Context(), credit.Grant{Amount: decimal.NewFromInt(1), Key: "k"})
			require.NoError(t, err, "its key is free")
			_, err = ledger.Check(t.Context())
			require.ErrorIs(t, err, credit.ErrCorrupt)
		})
	}
}

// Triggers of somebody else's, on MariaDB, where none can drop a row: they can
// fail, or take a change back.
func TestMySQLTriggersOfSomebodyElses(t *testing.T) {
	for name, trigger := range map[string]string{
		"refuses to move the head":         "BEFORE UPDATE ON credit_ledgers FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'",
		"finds something missing":          "BEFORE INSERT ON credit_records FOR EACH ROW SIGNAL SQLSTATE '02000' SET MESSAGE_TEXT = 'no'",
		"refuses a record":                 "BEFORE INSERT ON credit_records FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'",
		"refuses it when it is there":      "AFTER INSERT ON credit_records FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'",
		"refuses the change of a reseller": "BEFORE UPDATE ON credit_resellers FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'",
		"takes the change of a reseller back": "BEFORE UPDATE ON credit_resellers FOR EACH ROW SET NEW.allocated = OLD.allocated, NEW.used = OLD.used, NEW.name = OLD.name," +
			" NEW.last_sequence = OLD.last_sequence",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			on := newSite(t, server.MariaDB)
			ledger, reseller := on.granted(t, 100)
			_, db := on.store(t)
			_, err := db.ExecContext(t.Context(), "CREATE TRIGGER somebody "+trigger)
			require.NoError(t, err)
			_, err = ledger.Bulk(t.Context(), []credit.Command{credit.Allocation{ResellerID: reseller, Amount: decimal.NewFromInt(1), Key: "k"},
				credit.NewReseller{Name: "New", ExternalID: "new"}}, credit.BulkOptions{})
			requireRejected(t, err)
			_, err = db.ExecContext(t.Context(), "DROP TRIGGER somebody")
			require.NoError(t, err)
			require.Len(t, requireSound(t, ledger), 2, "nothing is committed")
		})
	}
}

// The disk gets full in the middle of appends. What was answered is there, what
// failed is not, and once there is room the ledger goes on.
func TestFullDisk(t *testing.T) {
	for _, name := range serverNames {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := server.OnSmallDisk(t, name)
			on := siteOn(t, name, srv.DSN())
			s, _ := on.store(t)
			ledger, err := store.Open(t.Context(), s, acme(), store.Options{CommitTimeout: 2 * time.Second})
			require.NoError(t, err)
			_, err = ledger.Grant(t.Context(), credit.Grant{Amount: decimal.NewFromInt(1)})
			require.NoError(t, err)
			// As much in each record as there may be.
			metadata := map[string]string{}
			for i := range credit.MaxMetadata {
				metadata[fmt.Sprint(i)] = strings.Repeat("x", credit.MaxMetadataValue)
			}
			commands := make([]credit.Command, 100)
			send := func(n int) error {
				for i := range commands {
					commands[i] = credit.Grant{Amount: decimal.NewFromInt(1), Key: fmt.Sprintf("%d/%d", n, i), Metadata: metadata}
				}
				outcomes, err := ledger.Bulk(t.Context(), commands, credit.BulkOptions{AllOrNothing: true})
				for _, o := range outcomes {
					require.NoError(t, o.Err)
				}
				return err
			}
			require.NoError(t, send(0))
			srv.FillDisk(t, 1<<20)
			n := 1
			for ; err == nil; n++ {
				require.Less(t, n, 1000, "the disk does not get full")
				err = send(n)
			}
			n--
			t.Logf("full after %d records: %v", n*len(commands), err)
			require.Contains(t, []string{"internal", "outcome_unknown"}, credit.Code(err), "%v", err)
			srv.FreeDisk(t)
			srv.Restart(t)
			for range 60 { // the server may still be recovering
				if err = send(n); err == nil {
					break
				}
			}
			require.NoError(t, err, "there is room again")
			log := requireSound(t, ledger)
			require.Len(t, log, 1+(n+1)*len(commands), "every batch is there once and as a whole")
		})
	}
}

// A server turns read-only under a load of appends, and back: nobody is told
// anything wrong, and everything happens once.
func TestServerTurnsReadOnlyUnderLoad(t *testing.T) {
	for _, name := range serverNames {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := server.Private(t, name)
			on := siteOn(t, name, srv.DSN())
			ledger, reseller := on.granted(t, 1_000_000)
			impatient := on.engine(t, ledger.Distributor(), store.Options{CommitTimeout: 300 * time.Millisecond})
			const callers, each = 8, 100
			var all sync.WaitGroup
			answered := make(chan struct{}, callers*each)
			for i := range callers {
				all.Go(func() {
					for n := range each {
						_, err := insist(t.Context(), ledger, credit.Allocation{ResellerID: reseller, Amount: decimal.NewFromInt(1), Key: fmt.Sprintf("%d/%d", i, n)})
						assert.NoError(t, err)
						answered <- struct{}{}
					}
				})
			}
			for range 3 {
				for range callers * each / 5 {
					<-answered
				}
				srv.ReadOnly(t, true)
				_, err := impatient.Grant(t.Context(), credit.Grant{Amount: decimal.NewFromInt(1)})
				require.Error(t, err, "it is read-only")
				require.True(t, store.Retryable(err), "%v", err)
				srv.ReadOnly(t, false)
			}
			all.Wait()
			require.Len(t, requireSound(t, ledger), 2+callers*each)
		})
	}
}

// A server that turns read-only between the statements of an append: nothing of
// it is committed, and whether the commit was refused is not taken for granted.
func TestMySQLServerTurnsReadOnlyInTheMiddleOfAnAppend(t *testing.T) {
	srv := server.Private(t, server.MariaDB)
	for _, after := range []string{"START TRANSACTION", "UPDATE credit_ledgers", "INSERT INTO credit_records"} {
		t.Run("after "+after, func(t *testing.T) {
			h := &hooks{rewrite: asMySQL}
			s := newMySQL(t, openHooked(t, srv.DSN(), h))
			b, resellers := newDraftBook(t, s, 1)
			head := b.state.Head()
			_, batch := b.draft(t, usage(resellers[0], "k"))
			h.after = func(_ driver.Conn, text string, _ []driver.NamedValue) {
				if strings.HasPrefix(text, after) {
					srv.ReadOnly(t, true)
				}
			}
			err := s.Append(t.Context(), b.ID, head, batch)
			h.after = nil
			require.ErrorContains(t, err, "1290")
			require.NotErrorIs(t, err, store.ErrMoved)
			require.Equal(t, after != "INSERT INTO credit_records", store.Retryable(err), "%v", err)
			requireHead(t, s, b.ID, head, "nothing is committed")
			srv.ReadOnly(t, false)
			require.NoError(t, s.Append(t.Context(), b.ID, head, batch))
		})
	}
}

// The server of PostgreSQL turns read-only while an append waits for the ledger:
// it began before, and is written as a whole; the next one is not.
func TestPostgresServerTurnsReadOnlyInTheMiddleOfAnAppend(t *testing.T) {
	srv := server.Private(t, server.Postgres15)
	p := postgresWay{driver: "pgx"}.connect(t, srv.DSN())
	s := p.open(t)
	b, first, _ := newPgBook(t, s)
	tx, err := p.db.BeginTxx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	_, err = tx.ExecContext(t.Context(), "SELECT 1 FROM "+p.prefixOf(t, s)+"ledgers FOR UPDATE")
	require.NoError(t, err)
	batch := b.draft(t, credit.Allocation{ResellerID: first, Amount: decimal.NewFromInt(10), Key: "k"})
	waiting := background(func() error { return s.Append(context.WithoutCancel(t.Context()), b.ID, b.state.Head(), batch) })
	p.awaitWaiting(t)
	srv.ReadOnly(t, true)
	require.NoError(t, tx.Rollback())
	require.NoError(t, waiting())
	b.enter(batch)
	b.requireStored(t, s)
	next := b.draft(t, credit.Grant{Amount: decimal.NewFromInt(1)})
	requireRetryable(t, s.Append(t.Context(), b.ID, b.state.Head(), next))
	b.requireStored(t, s)
	srv.ReadOnly(t, false)
}

// A server that has taken a transaction back may answer its commit with success.
func TestAHoldInWhichSomethingFailedWritesNothing(t *testing.T) {
	for _, name := range serverNames {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := newSite(t, name).store(t)
			b, resellers := newDraftBook(t, s, 1)
			head, batch := b.draft(t, usage(resellers[0], "k"))
			next, wrong := b.draft(t, credit.NewReseller{Name: "New", ExternalID: "new"})
			wrong.Added[0].ExternalID = resellers[0].ExternalID // which is taken
			var failure error
			err := s.Hold(t.Context(), b.ID, func(inside store.Store) error {
				require.NoError(t, inside.Append(t.Context(), b.ID, head, batch))
				failure = inside.Append(t.Context(), b.ID, next, wrong)
				return nil
			})
			require.Error(t, failure)
			require.Equal(t, failure, err)
			require.False(t, store.Retryable(err))
			requireHead(t, s, b.ID, head, "nothing is written")
			require.NoError(t, s.Append(t.Context(), b.ID, head, batch), "the ledger is let go")
		})
	}
}
