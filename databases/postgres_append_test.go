package databases_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

// pgBook decides commands on a state in memory, as the engine would, and knows
// what must be in the store.
type pgBook struct {
	credit.Distributor
	state     *credit.State
	now       time.Time
	records   []credit.Record
	resellers map[uuid.UUID]credit.Reseller
}

// newPgBook returns a book whose ledger is in the store, with a pool of 1,000 and
// two resellers.
func newPgBook(t testing.TB, s store.Store) (b *pgBook, first, second uuid.UUID) {
	t.Helper()
	d := credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}
	b = &pgBook{Distributor: d, state: credit.NewState(d), now: time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC), resellers: map[uuid.UUID]credit.Reseller{}}
	_, err := s.Create(t.Context(), d)
	require.NoError(t, err)
	written := b.write(t, s, credit.Grant{Amount: decimal.New(1000, 0), Key: "grant"},
		credit.NewReseller{Name: "First", ExternalID: "1"}, credit.NewReseller{Name: "Second", ExternalID: "2"})
	return b, written.Added[0].ID, written.Added[1].ID
}

// draft returns the commands as a batch, without remembering them.
func (b *pgBook) draft(t testing.TB, commands ...credit.Command) store.Batch {
	t.Helper()
	state := b.state.Fork()
	var records []credit.Record
	updated := map[uuid.UUID]bool{}
	for _, c := range commands {
		r, err := state.Execute(c, credit.Stamp{Time: b.now, RecordID: uuid.New(), ResellerID: uuid.New()})
		require.NoError(t, err)
		records = append(records, r.Record)
		updated[r.ResellerID] = updated[r.ResellerID] || r.Kind == credit.KindUpdate
	}
	return store.BatchOf(records, func(id uuid.UUID) (credit.Reseller, bool) {
		r, known := state.Reseller(id)
		if before, there := b.resellers[id]; there && !updated[id] {
			r.Profile = before.Profile // which no record holds
		}
		return r, known
	})
}

// enter remembers a batch that was written.
func (b *pgBook) enter(batch store.Batch) {
	for _, r := range batch.Records {
		b.state.Apply(r)
		b.records = append(b.records, r)
	}
	for _, r := range append(batch.Added, batch.Changed...) {
		b.resellers[r.ID] = r
	}
	for _, m := range batch.Moved {
		r := b.resellers[m.ID]
		r.Figures = m.Figures
		b.resellers[m.ID] = r
	}
}

func (b *pgBook) write(t testing.TB, s store.Store, commands ...credit.Command) store.Batch {
	t.Helper()
	batch := b.draft(t, commands...)
	require.NoError(t, s.Append(t.Context(), b.ID, b.state.Head(), batch))
	b.enter(batch)
	return batch
}

// requireStored fails unless the store has what the book has, and no more.
func (b *pgBook) requireStored(t testing.TB, s store.Store) {
	t.Helper()
	asked := credit.ReadSet{Keys: []string{"nobody's"}}
	for _, r := range b.records {
		if r.Key != "" {
			asked.Keys = append(asked.Keys, r.Key)
		}
	}
	for id, r := range b.resellers {
		asked.Resellers, asked.ExternalIDs = append(asked.Resellers, id), append(asked.ExternalIDs, r.ExternalID)
	}
	found, err := s.Load(t.Context(), b.ID, asked)
	require.NoError(t, err)
	require.Equal(t, b.state.Head(), found.Head)
	require.Len(t, found.Resellers, len(b.resellers))
	for _, r := range found.Resellers {
		require.Equal(t, b.resellers[r.ID], r)
	}
	require.Len(t, found.Records, len(asked.Keys)-1)
	for _, r := range found.Records {
		require.Equal(t, b.records[r.Sequence-1], r)
	}
	log, err := s.Records(t.Context(), b.ID, credit.RecordQuery{Limit: credit.MaxPageSize})
	require.NoError(t, err)
	require.Equal(t, b.records, log)
	listed, err := s.Resellers(t.Context(), b.ID, credit.ResellerQuery{
		Statuses: []credit.Status{credit.StatusActive, credit.StatusClosed, credit.StatusFrozen}, Limit: credit.MaxPageSize}, store.ResellerPosition{})
	require.NoError(t, err)
	require.Len(t, listed, len(b.resellers))
}

// Whatever the statement cannot write in full, it does not write at all.
func TestPostgresMiscount(t *testing.T) {
	p := postgresWay{server: server.Postgres15, driver: "pgx"}.start(t)
	for _, c := range []struct{ name, trigger string }{
		{"a trigger drops a record", "BEFORE INSERT ON %srecords FOR EACH ROW WHEN (NEW.remark = 'drop')"},
		{"a trigger drops a key", "BEFORE INSERT ON %skeys FOR EACH ROW WHEN (NEW.idempotency_key = 'drop')"},
		{"a trigger drops a new reseller", "BEFORE INSERT ON %sresellers FOR EACH ROW WHEN (NEW.name = 'drop')"},
		{"a trigger drops the change of a reseller", "BEFORE UPDATE ON %sresellers FOR EACH ROW WHEN (NEW.name = 'Changed')"},
		{"a trigger drops the figures of a new reseller", "BEFORE INSERT ON %sbalances FOR EACH ROW"},
		{"a trigger drops the figures that moved", "BEFORE UPDATE ON %sbalances FOR EACH ROW WHEN (NEW.status = 'active')"},
		{"a trigger drops the figures of a changed reseller", "BEFORE UPDATE ON %sbalances FOR EACH ROW WHEN (NEW.status = 'frozen')"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := p.open(t)
			b, first, second := newPgBook(t, s)
			prefix := p.prefixOf(t, s)
			p.db.MustExec("CREATE FUNCTION " + prefix + "drop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
			p.db.MustExec("CREATE TRIGGER dropping " + fmt.Sprintf(c.trigger, prefix) + " EXECUTE FUNCTION " + prefix + "drop()")
			batch := b.draft(t, credit.Allocation{ResellerID: first, Amount: decimal.New(1, 0), Key: "a"},
				credit.Grant{Amount: decimal.New(1, 0), Key: "drop", Remark: "drop"},
				credit.NewReseller{Name: "drop", ExternalID: "3"},
				credit.ProfileUpdate{ResellerID: second, Name: new("Changed")}, credit.Freeze{ResellerID: second})
			err := s.Append(t.Context(), b.ID, b.state.Head(), batch)
			requireRejected(t, err)
			require.ErrorContains(t, err, "not all rows were written")
			b.requireStored(t, s)
		})
	}
}

// requireRejected fails unless the error is certain and final.
func requireRejected(t testing.TB, err error) {
	t.Helper()
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrMoved)
	require.False(t, store.Retryable(err), "%v", err)
	require.Equal(t, fmt.Sprintf("%T", store.Reject(err)), fmt.Sprintf("%T", err), "not marked as final: %v", err)
}

// requireUnknown fails unless the error says nothing about the outcome.
func requireUnknown(t testing.TB, err error) {
	t.Helper()
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrMoved)
	require.NotEqual(t, fmt.Sprintf("%T", store.Reject(err)), fmt.Sprintf("%T", err), "marked as certain: %v", err)
}

// TestPostgresTwoSessions has an append wait for another transaction that holds
// the ledger's row.
func TestPostgresTwoSessions(t *testing.T) {
	for _, level := range []string{"read committed", "repeatable read", "serializable"} {
		for _, c := range []struct {
			name string
			// holder does something to the row in a transaction and returns how it ends.
			holder func(t *testing.T, b *pgBook, s *sqlstore.Store, tx *sqlx.Tx, prefix string) func() error
			want   error // under READ COMMITTED
		}{
			{"another append that is committed", func(t *testing.T, b *pgBook, s *sqlstore.Store, tx *sqlx.Tx, _ string) func() error {
				batch := b.draft(t, credit.Grant{Amount: decimal.New(7, 0), Key: "other"})
				require.NoError(t, s.WithTx(tx).Append(t.Context(), b.ID, b.state.Head(), batch))
				return func() error { b.enter(batch); return tx.Commit() }
			}, store.ErrMoved},
			{"another append that is rolled back", func(t *testing.T, b *pgBook, s *sqlstore.Store, tx *sqlx.Tx, _ string) func() error {
				require.NoError(t, s.WithTx(tx).Append(t.Context(), b.ID, b.state.Head(), b.draft(t, credit.Grant{Amount: decimal.New(7, 0)})))
				return tx.Rollback
			}, nil},
			{"another append with the same key that is committed", func(t *testing.T, b *pgBook, s *sqlstore.Store, tx *sqlx.Tx, _ string) func() error {
				batch := b.draft(t, credit.Grant{Amount: decimal.New(7, 0), Key: "waiting"})
				require.NoError(t, s.WithTx(tx).Append(t.Context(), b.ID, b.state.Head(), batch))
				return func() error { b.enter(batch); return tx.Commit() }
			}, store.ErrMoved},
			{"a lock", func(t *testing.T, b *pgBook, _ *sqlstore.Store, tx *sqlx.Tx, prefix string) func() error {
				_, err := tx.ExecContext(t.Context(), "SELECT 1 FROM "+prefix+"ledgers WHERE id = $1 FOR UPDATE", b.ID)
				require.NoError(t, err)
				return tx.Commit
			}, nil},
			{"a change that leaves the head alone", func(t *testing.T, b *pgBook, _ *sqlstore.Store, tx *sqlx.Tx, prefix string) func() error {
				_, err := tx.ExecContext(t.Context(), "UPDATE "+prefix+"ledgers SET name = 'Renamed' WHERE id = $1", b.ID)
				require.NoError(t, err)
				return tx.Commit
			}, nil},
		} {
			t.Run(level+"/"+c.name, func(t *testing.T) {
				p := postgresWay{server: server.Postgres15, driver: "pgx", parameter: "default_transaction_isolation=" + level}.start(t)
				s := p.open(t).(*sqlstore.Store)
				b, first, second := newPgBook(t, s)
				tx, err := p.db.BeginTxx(t.Context(), nil)
				require.NoError(t, err)
				defer func() { _ = tx.Rollback() }()
				end := c.holder(t, b, s, tx, p.prefixOf(t, s))

				head := b.state.Head()
				batch := b.draft(t, credit.Allocation{ResellerID: first, Amount: decimal.New(10, 0), Key: "waiting"},
					credit.NewReseller{Name: "Third", ExternalID: "3"}, credit.Usage{ResellerID: second, Amount: decimal.New(3, 0)})
				waiting := background(func() error { return s.Append(t.Context(), b.ID, head, batch) })
				p.awaitWaiting(t)
				require.NoError(t, end())
				err = waiting()
				if level != "read committed" && store.Retryable(err) {
					// What these levels answer instead. Nothing was written.
					b.requireStored(t, s)
					err = s.Append(t.Context(), b.ID, head, batch)
				}
				require.ErrorIs(t, err, c.want)
				if err == nil {
					b.enter(batch)
				}
				b.requireStored(t, s)
			})
		}
	}
}

// background starts f and returns a function that waits for its answer.
func background(f func() error) func() error {
	answer := make(chan error, 1)
	go func() { answer <- f() }()
	return func() error { return <-answer }
}

// awaitWaiting waits until a session of the database waits for a lock, and
// returns its process.
func (p *postgresDatabase) awaitWaiting(t testing.TB) (pid int) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for range 4000 {
		var pids []int
		require.NoError(t, p.db.SelectContext(t.Context(), &pids,
			"SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%head AS (%'"))
		if len(pids) > 0 {
			return pids[0]
		}
		<-ticker.C
	}
	require.FailNow(t, "nobody waits for a lock")
	return 0
}

// TestPostgresInterrupted ends an append while it waits for the ledger's row. The
// answer must not claim more than is known, and the store must have all of it or
// nothing.
func TestPostgresInterrupted(t *testing.T) {
	for _, driver := range []string{"pgx", "postgres"} {
		for _, c := range []struct {
			name, parameter string
			interrupt       func(t *testing.T, p *postgresDatabase, pid int, cancel context.CancelFunc)
			requireOutcome  func(t testing.TB, err error)
		}{
			{"the server ends the session", "", func(t *testing.T, p *postgresDatabase, pid int, _ context.CancelFunc) {
				p.db.MustExec("SELECT pg_terminate_backend($1)", pid)
			}, requireUnknown},
			{"the server cancels the statement", "", func(t *testing.T, p *postgresDatabase, pid int, _ context.CancelFunc) {
				p.db.MustExec("SELECT pg_cancel_backend($1)", pid)
			}, requireRetryable},
			{"statement_timeout", "statement_timeout=400", func(*testing.T, *postgresDatabase, int, context.CancelFunc) {}, requireRetryable},
			{"lock_timeout", "lock_timeout=400", func(*testing.T, *postgresDatabase, int, context.CancelFunc) {}, requireRetryable},
			{"the context ends", "", func(_ *testing.T, _ *postgresDatabase, _ int, cancel context.CancelFunc) { cancel() }, func(t testing.TB, err error) {
				require.Error(t, err)
				require.NotErrorIs(t, err, store.ErrMoved)
				if driver == "pgx" { // pq waits for the server's word
					requireUnknown(t, err)
				}
			}},
		} {
			t.Run(driver+"/"+c.name, func(t *testing.T) {
				p := postgresWay{server: server.Postgres15, driver: driver, parameter: c.parameter}.start(t)
				holder := postgresWay{driver: "pgx"}.connect(t, p.plain).db
				s := p.open(t)
				b, first, _ := newPgBook(t, s)
				tx, err := holder.BeginTxx(t.Context(), nil)
				require.NoError(t, err)
				defer func() { _ = tx.Rollback() }()
				_, err = tx.ExecContext(t.Context(), "SELECT 1 FROM "+p.prefixOf(t, s)+"ledgers WHERE id = $1 FOR UPDATE", b.ID)
				require.NoError(t, err)

				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				batch := b.draft(t, credit.Allocation{ResellerID: first, Amount: decimal.New(10, 0), Key: "waiting"})
				waiting := background(func() error { return s.Append(ctx, b.ID, b.state.Head(), batch) })
				c.interrupt(t, p, p.awaitWaiting(t), cancel)
				err = waiting()
				c.requireOutcome(t, err)
				require.NoError(t, tx.Rollback())

				// Sending the same batch again settles it.
				again := s.Append(t.Context(), b.ID, b.state.Head(), batch)
				require.True(t, again == nil || errors.Is(again, store.ErrMoved), "%v", again)
				if again != nil {
					require.False(t, store.Retryable(err), "what was certain not to be written is there: %v", err)
				}
				b.enter(batch)
				b.requireStored(t, s)
			})
		}
	}
}

func requireRetryable(t testing.TB, err error) {
	t.Helper()
	require.Error(t, err)
	require.True(t, store.Retryable(err), "%v", err)
}

// An append that was committed and whose answer is lost is neither refused nor
// sent a second time, whatever the driver makes of the lost connection.
func TestPostgresLostAnswer(t *testing.T) {
	plain := server.Start(t, server.Postgres15)
	direct := postgresWay{driver: "pgx"}.connect(t, plain)
	for _, way := range postgresWays {
		if way.server != server.Postgres15 {
			continue
		}
		t.Run(way.name, func(t *testing.T) {
			proxy := newLossyProxy(t, direct.dsn, "needle") // what is only in the record that is appended
			p := way.connect(t, proxy.dsn)
			p.stores.Store(direct.stores.Add(1))
			s := p.open(t)
			reader := direct.on(t, direct.db, p.prefixOf(t, s))
			b, first, _ := newPgBook(t, s)
			batch := b.draft(t, credit.Allocation{ResellerID: first, Amount: decimal.New(10, 0), Remark: "needle"})
			before := b.state.Head().Sequence
			proxy.lose(func() {
				for {
					found, err := reader.Load(t.Context(), b.ID, credit.ReadSet{})
					if err != nil || found.Head.Sequence != before {
						return
					}
				}
			})
			err := s.Append(t.Context(), b.ID, b.state.Head(), batch)
			requireUnknown(t, err)
			require.Equal(t, int32(1), proxy.lost.Load())
			require.ErrorIs(t, s.Append(t.Context(), b.ID, b.state.Head(), batch), store.ErrMoved)
			b.enter(batch)
			b.requireStored(t, reader)
		})
	}
}

// lossyProxy stands between a driver and a server and can lose an answer.
type lossyProxy struct {
	dsn, needle string
	wait        atomic.Pointer[func()] // before the connection is cut
	lost        atomic.Int32
}

// lose has the next connection that sends the needle get no answer: it is cut when
// wait returns.
func (l *lossyProxy) lose(wait func()) { l.wait.Store(&wait) }

func newLossyProxy(t testing.TB, dsn, needle string) *lossyProxy {
	t.Helper()
	address, err := url.Parse(dsn)
	require.NoError(t, err)
	target := address.Host
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address.Host = listener.Addr().String()
	l := &lossyProxy{dsn: address.String(), needle: needle}
	var all sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); all.Wait() })
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			backend, err := (&net.Dialer{}).DialContext(context.WithoutCancel(t.Context()), "tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			muted := &atomic.Bool{}
			all.Go(func() { // answers
				defer func() { _ = client.Close() }()
				buffer := make([]byte, 1<<16)
				for {
					n, err := backend.Read(buffer)
					if err != nil {
						return
					}
					if !muted.Load() {
						_, _ = client.Write(buffer[:n])
					}
				}
			})
			all.Go(func() { // questions
				defer func() { _ = backend.Close() }()
				buffer := make([]byte, 1<<16)
				for {
					n, err := client.Read(buffer)
					if err != nil {
						return
					}
					if wait := l.wait.Load(); wait != nil && bytes.Contains(buffer[:n], []byte(l.needle)) && l.wait.CompareAndSwap(wait, nil) {
						muted.Store(true)
						l.lost.Add(1)
						_, _ = backend.Write(buffer[:n])
						(*wait)()
						_ = client.Close()
						return
					}
					_, _ = backend.Write(buffer[:n])
				}
			})
		}
	})
	return l
}

// TestPostgresRestart kills the server under a load of appends. Every batch that
// was acknowledged is there, none that was certain to have failed, and the engine
// settles the others.
func TestPostgresRestart(t *testing.T) {
	for _, name := range []string{server.Postgres15, server.PgBouncer} {
		t.Run(name, func(t *testing.T) {
			private := server.Private(t, name)
			p := postgresWay{driver: "pgx"}.connect(t, private.DSN())
			s := p.open(t)
			ledger, err := store.Open(t.Context(), s, credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}, store.Options{})
			require.NoError(t, err)
			const callers, each = 8, 100
			acknowledged := make([][]string, callers)
			var all sync.WaitGroup
			half := make(chan struct{}, callers*each)
			for i := range callers {
				all.Go(func() {
					for j := range each {
						key := fmt.Sprintf("%d/%d", i, j)
						for {
							_, err := ledger.Grant(t.Context(), credit.Grant{Amount: decimal.New(1, 0), Key: key})
							if err == nil {
								break
							}
							if !errors.Is(err, credit.ErrOutcomeUnknown) && !store.Retryable(err) {
								t.Errorf("%s: %v", key, err)
								return
							}
						}
						acknowledged[i] = append(acknowledged[i], key)
						half <- struct{}{}
					}
				})
			}
			for range callers * each / 2 {
				<-half
			}
			if name == server.PgBouncer {
				private.KillBehind(t)
			} else {
				private.Kill(t)
				for range 20 { // one for every connection of the pool, and then some
					_, err := s.Load(t.Context(), ledger.Distributor().ID, credit.ReadSet{})
					requireRetryable(t, err)
				}
				_, err := s.Create(t.Context(), credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"})
				requireRetryable(t, err)
			}
			private.Restart(t)
			all.Wait()
			log, err := ledger.Records(t.Context(), credit.RecordQuery{Limit: credit.MaxPageSize})
			require.NoError(t, err)
			require.Len(t, log.Items, callers*each)
			seen := map[string]int{}
			for _, r := range log.Items {
				seen[r.Key]++
			}
			for _, keys := range acknowledged {
				for _, key := range keys {
					require.Equal(t, 1, seen[key], key)
				}
			}
			_, err = ledger.Check(t.Context())
			require.NoError(t, err)
		})
	}
}

// A server that becomes read-only is a passing failure that says so, and a store
// is not made on one.
func TestPostgresReadOnly(t *testing.T) {
	private := server.Private(t, server.Postgres15)
	p := postgresWay{driver: "pgx"}.connect(t, private.DSN())
	s := p.open(t)
	b, first, _ := newPgBook(t, s)
	private.ReadOnly(t, true)
	batch := b.draft(t, credit.Allocation{ResellerID: first, Amount: decimal.New(10, 0)})
	err := s.Append(t.Context(), b.ID, b.state.Head(), batch)
	requireRetryable(t, err)
	require.ErrorContains(t, err, "target_session_attrs=read-write")
	b.requireStored(t, s)
	_, err = sqlstore.New(p.pool(t), sqlstore.Postgres)
	require.ErrorContains(t, err, "default_transaction_read_only is on")
	private.ReadOnly(t, false)
	require.NoError(t, s.Append(t.Context(), b.ID, b.state.Head(), batch))
	b.enter(batch)
	b.requireStored(t, s)
}

// FuzzPostgresText writes and reads texts that are parameters of every sort: in a
// row, in an array, and on their own.
func FuzzPostgresText(f *testing.F) {
	for _, text := range []string{"", "NULL", "null", `"`, `""`, `\`, `\\`, `\"`, `"\`, `{`, `}`, `{}`, `,`, `(`, `)`, `(,)`, "'", `''`, `a b`, " ", "\t\n", `\x00`, `\\x`, "$1", "?", ":a", "::text", "é", "\u2028", "😀", "\x01"} {
		f.Add(text, text)
		f.Add(text+"\\", "\""+text)
	}
	p := postgresWay{server: server.Postgres15, driver: "pgx"}.start(f)
	modes := []*postgresDatabase{p}
	for _, mode := range []string{"exec", "simple_protocol"} {
		modes = append(modes, postgresWay{driver: "pgx", parameter: "default_query_exec_mode=" + mode}.connect(f, p.plain))
	}
	s := p.open(f)
	stores := []store.Store{s}
	for _, m := range modes[1:] {
		stores = append(stores, m.on(f, m.db, p.prefixOf(f, s)))
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		one, two = strings.ToValidUTF8(strings.ReplaceAll(one, "\x00", ""), "?"), strings.ToValidUTF8(strings.ReplaceAll(two, "\x00", ""), "?")
		if len(one) > 60 || len(two) > 60 {
			return
		}
		for _, s := range stores {
			b, first, _ := newPgBook(t, s)
			b.write(t, s, credit.NewReseller{Name: "n" + one, ExternalID: "x" + two, Email: two, Mobile: one, ResellerRemark: two, Remark: one, Reference: two, Operator: one, Key: "k" + one},
				credit.Usage{ResellerID: first, Amount: decimal.New(1, 0), Customer: two, Metadata: map[string]string{"m" + one: two, "n": one}},
				credit.ProfileUpdate{ResellerID: first, Name: new("u" + two), Email: new(one)})
			b.requireStored(t, s)
		}
	})
}
