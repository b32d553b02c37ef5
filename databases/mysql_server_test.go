package databases_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

// Servers that are killed in the middle of appends, by processes of two engines:
// what was answered is there once, and what was not is found by its key.
func TestMySQLKilledServer(t *testing.T) {
	for _, name := range mysqlServers {
		t.Run(name, func(t *testing.T) {
			srv := server.Private(t, name)
			d := credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}
			var engines []*store.Ledger
			for _, patience := range []time.Duration{50 * time.Millisecond, 5 * time.Second} {
				s := newMySQL(t, openMySQL(t, srv.DSN()))
				l, err := store.Open(t.Context(), s, d, store.Options{CommitTimeout: patience})
				require.NoError(t, err)
				engines = append(engines, l)
			}
			_, err := engines[0].Grant(t.Context(), credit.Grant{Amount: decimal.New(1, 9)})
			require.NoError(t, err)
			added, err := engines[0].AddReseller(t.Context(), credit.NewReseller{Name: "Nimbus", ExternalID: "1"})
			require.NoError(t, err)

			const kills, callers = 5, 16
			var stop atomic.Bool
			var acknowledged, unknown, failed sync.Map // by key
			var answers atomic.Int64
			var all sync.WaitGroup
			for i := range callers {
				all.Go(func() {
					for n := 0; !stop.Load(); n++ {
						c := credit.Allocation{ResellerID: added.ResellerID, Amount: decimal.New(1, 0), Key: fmt.Sprintf("%d-%d", i, n)}
						switch r, err := engines[i%2].Allocate(t.Context(), c); {
						case err == nil:
							acknowledged.Store(c.Key, r.Record)
							answers.Add(1)
						case errors.Is(err, credit.ErrOutcomeUnknown):
							unknown.Store(c.Key, c)
						default:
							failed.Store(c.Key, c)
						}
					}
				})
			}
			for range kills {
				for before := answers.Load(); answers.Load() < before+100; {
					time.Sleep(time.Millisecond)
				}
				srv.Kill(t)
				srv.Restart(t)
			}
			for before := answers.Load(); answers.Load() < before+100; {
				time.Sleep(time.Millisecond)
			}
			stop.Store(true)
			all.Wait()

			_, err = engines[1].Check(t.Context())
			require.NoError(t, err)
			records := map[string]credit.Record{}
			for after := int64(0); ; {
				page, err := engines[1].Records(t.Context(), credit.RecordQuery{After: after, Kinds: []credit.Kind{credit.KindAllocate}, Limit: credit.MaxPageSize})
				require.NoError(t, err)
				for _, r := range page.Items {
					_, twice := records[r.Key]
					require.False(t, twice, "%s is there twice", r.Key)
					records[r.Key] = r
					after = r.Sequence
				}
				if page.Next == "" {
					break
				}
			}
			there := 0
			acknowledged.Range(func(key, r any) bool {
				require.Equal(t, r, records[key.(string)], "%s was answered", key)
				there++
				return true
			})
			failed.Range(func(key, _ any) bool {
				require.NotContains(t, records, key, "it was said that nothing happened")
				return true
			})
			lost, late := 0, 0
			unknown.Range(func(key, c any) bool {
				r, err := engines[1].Allocate(t.Context(), c.(credit.Allocation))
				require.NoError(t, err)
				_, written := records[key.(string)]
				require.Equal(t, written, r.Replayed, "%s is found by its key, or written now", key)
				if written {
					late++
				}
				lost++
				return true
			})
			require.Len(t, records, there+late)
			t.Logf("%d kills: %d answered, %d unknown of which %d were written", kills, there, lost, late)
		})
	}
}

// A server that turns read-only is a passing failure, and New names it.
func TestMySQLReadOnlyServer(t *testing.T) {
	srv := server.Private(t, server.MariaDB)
	db := openMySQL(t, srv.DSN())
	s := newMySQL(t, db)
	b, resellers := newDraftBook(t, s, 1)
	srv.ReadOnly(t, true)
	head := b.state.Head()
	_, batch := b.draft(t, usage(resellers[0], "k"))
	err := s.Append(t.Context(), b.ID, head, batch)
	require.ErrorContains(t, err, "1290")
	require.True(t, store.Retryable(err))
	requireHead(t, s, b.ID, head, "reading goes on")
	_, err = sqlstore.New(db, sqlstore.MySQL)
	require.ErrorContains(t, err, "read_only")
	srv.ReadOnly(t, false)
	require.NoError(t, s.Append(t.Context(), b.ID, head, batch))
}

// A server that takes only small packets is refused, with the setting's name.
func TestMySQLSmallPackets(t *testing.T) {
	srv := server.Private(t, server.MariaDB)
	admin := openMySQL(t, srv.Admin())
	_, err := admin.ExecContext(t.Context(), "SET GLOBAL max_allowed_packet = 1048576")
	require.NoError(t, err)
	_, err = sqlstore.New(openMySQL(t, srv.DSN()), sqlstore.MySQL)
	require.ErrorContains(t, err, "max_allowed_packet")
}

// A commit whose answer does not come: it ends with its context, and says that it
// does not know.
func TestMySQLCommitWithoutAnswer(t *testing.T) {
	dsn := server.Start(t, server.MariaDB)
	for name, arrives := range map[string]bool{"the commit gets lost": false, "the answer gets lost": true} {
		t.Run(name, func(t *testing.T) {
			p := newProxy(t, dsn)
			s := newMySQL(t, openMySQL(t, dsn, func(c *mysql.Config) { c.Addr = p.address }))
			b, resellers := newDraftBook(t, s, 1)
			head := b.state.Head()
			_, batch := b.draft(t, usage(resellers[0], "k"))
			p.swallow(arrives)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			begin := time.Now()
			err := s.Append(ctx, b.ID, head, batch)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Less(t, time.Since(begin), 5*time.Second, "it ends with its context")
			require.False(t, store.Retryable(err), "what became of it is not known")
			require.NotErrorIs(t, err, store.ErrMoved)
			p.restore()
			err = s.Append(t.Context(), b.ID, head, batch) // waits for the first one
			if arrives {
				require.ErrorIs(t, err, store.ErrMoved)
			} else {
				require.NoError(t, err)
			}
			requireHead(t, s, b.ID, b.state.Head(), "it is there once")
		})
	}
}

// The engine finds out what became of commits whose answers get lost.
func TestMySQLEngineFindsLostAnswers(t *testing.T) {
	dsn := server.Start(t, server.MariaDB)
	p := newProxy(t, dsn)
	s := newMySQL(t, openMySQL(t, dsn, func(c *mysql.Config) { c.Addr = p.address }))
	ledger, err := store.Open(t.Context(), s, credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}, store.Options{})
	require.NoError(t, err)
	_, err = ledger.Grant(t.Context(), credit.Grant{Amount: decimal.New(100, 0)})
	require.NoError(t, err)
	for i := range 10 {
		p.cut(i%2 == 0)
		_, err := ledger.Grant(t.Context(), credit.Grant{Amount: decimal.New(1, 0)})
		require.NoError(t, err)
	}
	p.restore()
	checked, err := ledger.Check(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 11, checked.Records)
}

// proxy stands between a pool and its server, and loses commits or their answers.
type proxy struct {
	address, server string
	mu              sync.Mutex
	armed           bool // until the next commit
	arrives         bool // the commit gets to the server
	breaks          bool // the connection breaks, rather than go silent
}

func newProxy(t *testing.T, dsn string) *proxy {
	t.Helper()
	c, err := mysql.ParseDSN(dsn)
	require.NoError(t, err)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{address: listener.Addr().String(), server: c.Addr}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(client)
		}
	}()
	return p
}

// swallow has the next commit or its answer vanish, cut has the connection break.
func (p *proxy) swallow(arrives bool) { p.arm(true, arrives, false) }
func (p *proxy) cut(arrives bool)     { p.arm(true, arrives, true) }
func (p *proxy) restore()             { p.arm(false, false, false) }

func (p *proxy) arm(armed, arrives, breaks bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed, p.arrives, p.breaks = armed, arrives, breaks
}

func (p *proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	upstream, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.server)
	if err != nil {
		return
	}
	defer func() { _ = upstream.Close() }()
	var mute atomic.Bool
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		buffer := make([]byte, 1<<16)
		for {
			n, err := upstream.Read(buffer)
			if mute.Load() {
				return // the answer to the commit
			}
			if _, writeErr := client.Write(buffer[:n]); err != nil || writeErr != nil {
				_ = client.Close()
				return
			}
		}
	}()
	buffer := make([]byte, 1<<16)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		if bytes.Contains(buffer[:n], []byte("\x03"+mysqlCommits)) {
			p.mu.Lock()
			armed, arrives, breaks := p.armed, p.arrives, p.breaks
			p.armed = false
			p.mu.Unlock()
			if armed {
				mute.Store(true)
				if arrives {
					_, _ = upstream.Write(buffer[:n])
					<-answered
				}
				if !breaks {
					_, _ = io.Copy(io.Discard, client) // until it gives up
				}
				return
			}
		}
		if _, err := upstream.Write(buffer[:n]); err != nil {
			return
		}
	}
}
