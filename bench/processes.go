package main

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
	"time"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

const (
	// jobVariable tells this program, run again, that it is one of several processes
	// on a ledger, and what it is to do.
	jobVariable = "CREDIT_BENCH_JOB"
	// processCallers is how many callers each process has.
	processCallers = 64
)

// job is what another process is to work on.
type job struct {
	Target, DSN, Prefix string
	Ledger              credit.Distributor
	Resellers           []uuid.UUID
	Name                string // of the process, for its keys
	Callers             int
}

// answer is what a process did in one round.
type answer struct {
	Rate  float64
	P99   time.Duration
	Error string
}

// processes compares several processes on one ledger with one of them alone.
func processes(*run) []batch {
	var batches []batch
	for _, t := range databases() {
		b := batch{target: t}
		for _, count := range []int{2, 4} {
			together, alone, fair := goal{}, goal{}, goal{}
			if t.name == postgres.name && count == 2 {
				together, alone, fair = goal{least: 0.5}, goal{least: 0.25}, goal{least: 0.25}
			}
			slowest := func(r round) float64 { return r.ours.slowest }
			b.comparisons = append(b.comparisons, comparison{group: "processes", action: fmt.Sprintf("allocate from %d processes", count), against: "from one process",
				store: t.name, callers: count * processCallers, size: int64(count), views: []view{
					both("together", "/s", perSecond, together),
					{"the slowest", "/s", slowest, func(r round) float64 { return r.baseline.rate }, alone, ""},
					{"the slowest", "/s", slowest, func(r round) float64 { return r.ours.rate }, fair, "all of them together"},
					tail(goal{}),
				},
				prepare: func(ctx context.Context, s *scope) (ours, baseline side, err error) {
					workers, err := s.workers(ctx, count)
					if err != nil {
						return nil, nil, err
					}
					return atOnce(workers), atOnce(workers[:1]), nil
				}})
		}
		batches = append(batches, b)
	}
	return batches
}

// worker is another process.
type worker struct {
	in  io.Writer
	out *bufio.Reader
}

// workers starts processes on a ledger; those that are there are used again.
func (s *scope) workers(ctx context.Context, count int) ([]*worker, error) {
	b, err := s.ledger(ctx, "shared_", fewResellers)
	if err != nil {
		return nil, err
	}
	for len(s.started) < count {
		w, err := s.start(ctx, job{Target: s.name, DSN: s.dsn, Prefix: b.prefix, Ledger: b.Distributor(), Resellers: b.ids,
			Name: uuid.NewString(), Callers: processCallers})
		if err != nil {
			return nil, err
		}
		s.started = append(s.started, w)
	}
	return s.started[:count], nil
}

// start runs this program again. The process ends when its standard input does.
func (s *scope) start(ctx context.Context, j job) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	asked, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self) //nolint:gosec // this very program
	cmd.Env = append(os.Environ(), jobVariable+"="+string(asked))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s.atEnd(func() error { return errors.Join(in.Close(), cmd.Wait()) })
	return &worker{in, bufio.NewReader(out)}, nil
}

// atOnce has all of the processes work at the same time.
func atOnce(workers []*worker) side {
	return func(_ context.Context, length time.Duration) (sample, error) {
		for _, w := range workers {
			if err := json.NewEncoder(w.in).Encode(length); err != nil {
				return sample{}, err
			}
		}
		var total sample
		var rates []float64
		for _, w := range workers {
			line, err := w.out.ReadBytes('\n')
			if err != nil {
				return sample{}, fmt.Errorf("the process ended: %w", err)
			}
			var a answer
			if err := json.Unmarshal(line, &a); err != nil {
				return sample{}, err
			}
			if a.Error != "" {
				return sample{}, errors.New(a.Error)
			}
			total.rate += a.Rate
			total.p99 = max(total.p99, a.P99)
			rates = append(rates, a.Rate)
		}
		total.slowest = slices.Min(rates)
		return total, nil
	}
}

// work is the life of one of several processes: it reads how long to work, and
// answers what it did, until its input ends.
func work(ctx context.Context, asked string, in io.Reader, out io.Writer) error {
	var j job
	if err := json.Unmarshal([]byte(asked), &j); err != nil {
		return err
	}
	at := slices.IndexFunc(databases(), func(t target) bool { return t.name == j.Target })
	if at < 0 {
		return fmt.Errorf("no store %q", j.Target)
	}
	t := databases()[at]
	db, err := openPool(t.driver, j.DSN, engineConnections)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // the process ends
	s, err := sqlstore.New(db, t.dialect, sqlstore.WithPrefix(j.Prefix))
	if err != nil {
		return err
	}
	l, err := store.Open(ctx, s, j.Ledger, store.Options{})
	if err != nil {
		return err
	}
	b := &book{Ledger: l, ids: j.Resellers, name: j.Name}
	side := byCallers(j.Callers, 1, b.allocate)
	lengths, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var length time.Duration
		if err := lengths.Decode(&length); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		got, err := side(ctx, length)
		a := answer{Rate: got.rate, P99: got.p99}
		if err != nil {
			a.Error = err.Error()
		}
		if err := answers.Encode(a); err != nil {
			return err
		}
	}
}
