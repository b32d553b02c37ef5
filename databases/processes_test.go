package databases_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/store"
)

// jobVariable tells this test binary, run again, that it is a process with a job.
const jobVariable = "CREDIT_TEST_JOB"

func TestMain(m *testing.M) {
	_ = mysql.SetLogger(&mysql.NopLogger{}) // broken connections are what some tests are about
	if text := os.Getenv(jobVariable); text != "" {
		if err := work(context.Background(), text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(server.Main(m))
}

// job is what another process is to do once it is told to begin: so many callers
// allocate, so many times each or without end, 1 to a reseller. Or it migrates.
type job struct {
	Site           site
	Ledger         credit.Distributor
	Reseller       uuid.UUID
	Name           string
	Callers, Times int
	Migrate        bool // that is all that it does
}

// command is the n-th of a caller.
func (j job) command(caller, n int) credit.Allocation {
	return credit.Allocation{ResellerID: j.Reseller, Amount: decimal.NewFromInt(1), Operator: j.Name, Key: fmt.Sprintf("%s/%d/%d", j.Name, caller, n)}
}

// told is what a caller was answered, and when it asked, by the machine's clock.
type told struct {
	Caller, N        int
	Called, Returned int64
	Sequence         int64
	ID               uuid.UUID
	Code             string
}

// work does a job: it says when it is ready, waits for its standard input to end,
// and prints what each caller is told.
func work(ctx context.Context, text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	db, err := j.Site.open()
	if err != nil {
		return err
	}
	s, err := j.Site.on(db)
	if err != nil {
		return err
	}
	ledger, err := store.Open(ctx, s, j.Ledger, store.Options{})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	if j.Migrate {
		return errors.Join(s.Migrate(ctx), db.Close())
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	for caller := range j.Callers {
		all.Go(func() {
			for n := 0; j.Times == 0 || n < j.Times; n++ {
				answer := told{Caller: caller, N: n, Called: time.Now().UnixNano()}
				r, err := insist(ctx, ledger, j.command(caller, n))
				answer.Returned, answer.Sequence, answer.ID, answer.Code = time.Now().UnixNano(), r.Sequence, r.ID, credit.Code(err)
				mu.Lock()
				_ = out.Encode(answer)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return db.Close()
}

// insist sends a command, with its key, until a rule has answered.
func insist(ctx context.Context, l credit.Ledger, c credit.Allocation) (r credit.Receipt, err error) {
	for range 100 {
		r, err = l.Allocate(ctx, c)
		if !errors.Is(err, credit.ErrOutcomeUnknown) && !store.Retryable(err) {
			break
		}
	}
	return r, err
}

// process is another one that does a job.
type process struct {
	cmd   *exec.Cmd
	begin func()
	lines *bufio.Scanner
}

// startProcess returns once the process is ready.
func startProcess(t *testing.T, j job) *process {
	t.Helper()
	text, err := json.Marshal(j)
	require.NoError(t, err)
	p := &process{cmd: exec.CommandContext(t.Context(), os.Args[0])}
	p.cmd.Env = append(os.Environ(), jobVariable+"="+string(text))
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.begin = func() { require.NoError(t, in.Close()) }
	p.lines = bufio.NewScanner(out)
	require.NoError(t, p.cmd.Start())
	require.True(t, p.lines.Scan() && p.lines.Text() == "ready", "the process did not begin")
	return p
}

// next returns what the next caller was told; false when the process has ended.
func (p *process) next(t *testing.T) (told, bool) {
	var a told
	if !p.lines.Scan() {
		return a, false
	}
	assert.NoError(t, json.Unmarshal(p.lines.Bytes(), &a), p.lines.Text())
	return a, true
}

// Two processes write to one ledger as if one at a time: every answer has its
// record, in an order that the callers could have seen; the pool is handed out to
// the last unit and not beyond.
func TestTwoProcessesOnOneLedger(t *testing.T) {
	for _, name := range siteNames {
		t.Run(name, func(t *testing.T) {
			const callers, times, granted = 8, 150, 2000 // 2,400 are asked for
			on := newSite(t, name)
			ledger, reseller := on.granted(t, granted)
			jobs, processes := make([]job, 2), make([]*process, 2)
			for i := range jobs {
				jobs[i] = job{on, ledger.Distributor(), reseller, fmt.Sprint("process ", i), callers, times, false}
				processes[i] = startProcess(t, jobs[i])
			}
			answers := make([][]told, len(processes))
			var all sync.WaitGroup
			for i, p := range processes {
				p.begin()
				all.Go(func() {
					for a, more := p.next(t); more; a, more = p.next(t) {
						answers[i] = append(answers[i], a)
					}
				})
			}
			all.Wait()
			type answer struct {
				told
				process int
			}
			acknowledged := map[int64]answer{}
			var refused []told
			for i, p := range processes {
				require.NoError(t, p.cmd.Wait())
				require.Len(t, answers[i], callers*times)
				for _, a := range answers[i] {
					if a.Code != "" {
						require.Equal(t, "insufficient_pool", a.Code)
						refused = append(refused, a)
						continue
					}
					require.NotContains(t, acknowledged, a.Sequence, "two calls were given the same record")
					acknowledged[a.Sequence] = answer{a, i}
				}
			}
			log := requireSound(t, ledger)[2:]
			require.Len(t, log, granted)
			require.Len(t, acknowledged, granted)

			// What returned before another was called comes before it.
			earliest := int64(1<<63 - 1)
			for _, r := range slices.Backward(log) {
				a := acknowledged[r.Sequence]
				require.Equal(t, a.ID, r.ID, "record %d was acknowledged to nobody", r.Sequence)
				require.Equal(t, jobs[a.process].command(a.Caller, a.N).Key, r.Key)
				require.LessOrEqual(t, a.Called, earliest, "a record that comes after number %d was acknowledged before that was asked for", r.Sequence)
				earliest = min(earliest, a.Returned)
			}
			last := acknowledged[log[granted-1].Sequence]
			for _, r := range refused {
				require.GreaterOrEqual(t, r.Returned, last.Called, "refused while there was credit")
			}
		})
	}
}

// Two processes that have no end of things to write take turns: leaving out the
// longest turns, in which the machine had stopped the other one, each gets a
// quarter at least. On SQLite nobody queues: a writer looks now and then whether
// the file is free. There the turns are long, and an eighth is enough.
func TestTwoProcessesTakeTurns(t *testing.T) {
	for _, name := range append([]string{server.Postgres15Serializable, server.PgBouncer, server.MariaDBSnapshot}, siteNames...) {
		t.Run(name, func(t *testing.T) {
			least, left, part := int64(1500), 10, 4
			if name == "sqlite" {
				least, left, part = 3000, 0, 8
			}
			on := newSite(t, name)
			ledger, reseller := on.granted(t, 1_000_000)
			var processes [2]*process
			for i := range processes {
				processes[i] = startProcess(t, job{Site: on, Ledger: ledger.Distributor(), Reseller: reseller, Name: fmt.Sprint("process ", i), Callers: 8})
			}
			var answers [2]atomic.Int64
			var all sync.WaitGroup
			for i, p := range processes {
				p.begin()
				all.Go(func() {
					for a, more := p.next(t); more; a, more = p.next(t) {
						assert.Empty(t, a.Code)
						if n := answers[i].Add(1); answers[1-i].Load() >= least && n >= least || n == 50*least {
							for _, p := range processes {
								_ = p.cmd.Process.Kill() // if it is not dead yet
							}
						}
					}
				})
			}
			all.Wait()
			for _, p := range processes {
				require.Error(t, p.cmd.Wait())
			}
			turns := []int{0}
			by := ""
			for _, r := range requireSound(t, ledger)[2:] {
				if r.Operator != by {
					turns, by = append(turns, 0), r.Operator
				}
				turns[len(turns)-1]++
			}
			// Turns alternate, and so do their places.
			shares := [2][]int{}
			for i, records := range turns[1:] {
				shares[i%2] = append(shares[i%2], records)
			}
			var records [2]int
			for i, share := range shares {
				slices.Sort(share)
				for _, n := range share[:max(0, len(share)-left)] {
					records[i] += n
				}
			}
			t.Logf("%d turns; without the longest %d and %d records", len(turns)-1, records[0], records[1])
			require.Greater(t, len(turns), 4*left, "one process keeps the other from writing")
			require.GreaterOrEqual(t, part*min(records[0], records[1]), records[0]+records[1], "one process keeps the other from writing")
		})
	}
}

// The server ends the connection of an append that it is working on. The engine
// finds out by itself what became of it.
func TestKilledConnection(t *testing.T) {
	for _, name := range serverNames {
		t.Run(name, func(t *testing.T) {
			on := newSite(t, name)
			ledger, reseller := on.granted(t, 100)
			_, db := on.store(t)
			list := "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
			kill := "SELECT pg_terminate_backend($1)"
			lock := "SELECT id FROM credit_ledgers WHERE id = $1 FOR UPDATE"
			id := any(ledger.Distributor().ID)
			if name == server.MariaDB {
				list = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND info LIKE '%credit_ledgers%' AND command = 'Query' AND id NOT IN (CONNECTION_ID(), ?)"
				kill = "KILL CONNECTION ?"
				lock = "SELECT id FROM credit_ledgers WHERE id = ? FOR UPDATE"
				d := ledger.Distributor().ID
				id = d[:]
			}
			for i := range 5 {
				tx, err := db.BeginTxx(t.Context(), nil)
				require.NoError(t, err)
				_, err = tx.ExecContext(t.Context(), lock, id)
				require.NoError(t, err)
				var own []any // the connection that holds it
				if name == server.MariaDB {
					var id int64
					require.NoError(t, tx.GetContext(t.Context(), &id, "SELECT CONNECTION_ID()"))
					own = append(own, id)
				}
				var r credit.Receipt
				waiting := background(func() (err error) {
					r, err = ledger.Allocate(t.Context(), credit.Allocation{ResellerID: reseller, Amount: decimal.NewFromInt(10)})
					return err
				})
				// A second time it meets the append that is sent again.
				for range 2 {
					var pids []int64
					for len(pids) == 0 { // until it waits; the server is asked, not the clock
						require.NoError(t, db.SelectContext(t.Context(), &pids, list, own...))
					}
					_, err := db.ExecContext(t.Context(), kill, pids[0])
					require.NoError(t, err)
				}
				require.NoError(t, tx.Rollback())
				require.NoError(t, waiting(), "the engine goes on")
				require.EqualValues(t, 3+i, r.Sequence)
				require.False(t, r.Replayed)
			}
			require.Len(t, requireSound(t, ledger), 2+5)
		})
	}
}
