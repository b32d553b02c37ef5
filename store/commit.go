package store

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
)

// Group commit. Callers queue; one of them takes the token and with it what is
// queued, commits it as one Append, and gives everybody their own answer, while
// the next batch gathers. The token is waited for beside one's own answer and
// one's own context, and is never handed to a particular waiter, who may be
// about to leave.

// call is one caller's commands on their way through the queue.
type call struct {
	commands []credit.Command // prepared
	stamps   []credit.Stamp
	one      struct { // room for a single command
		commands [1]credit.Command
		stamps   [1]credit.Stamp
	}
	asked   credit.ReadSet
	options credit.BulkOptions

	// The answer, to be read once done is closed.
	outcomes []credit.Outcome
	err      error
	answered bool
	done     chan struct{}
}

func (c *call) answer(outcomes []credit.Outcome, err error) {
	c.outcomes, c.err, c.answered = outcomes, err, true
}

// newCall takes the commands over, so that nothing of the caller's is looked at
// later, and gives each its ids, which every attempt to commit it will use.
func (l *Ledger) newCall(commands []credit.Command, o credit.BulkOptions) *call {
	c := &call{options: o, done: make(chan struct{})}
	c.commands, c.stamps = slices.Grow(c.one.commands[:0], len(commands)), slices.Grow(c.one.stamps[:0], len(commands))
	for _, command := range commands {
		c.commands = append(c.commands, credit.Prepare(command))
		c.stamps = append(c.stamps, credit.Stamp{RecordID: l.options.NewID()})
	}
	c.asked = credit.ReadSetOf(c.commands...)
	if len(c.asked.ExternalIDs) > 0 {
		// Resellers are added. By which commands, their types do not tell: there are
		// values, pointers, prepared and embedded ones.
		for i := range c.stamps {
			c.stamps[i].ResellerID = l.options.NewID()
		}
	}
	return c
}

// commands counts those of the calls.
func commands(calls []*call) int {
	n := 0
	for _, c := range calls {
		n += len(c.commands)
	}
	return n
}

// queue holds the calls that no leader has taken.
type queue struct {
	mu       sync.Mutex
	calls    []*call
	commands int
}

// push appends the call, unless that would exceed the limit and the queue is not
// empty.
func (q *queue) push(c *call, limit int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.calls) > 0 && q.commands+len(c.commands) > limit {
		return false
	}
	q.calls = append(q.calls, c)
	q.commands += len(c.commands)
	return true
}

// length is how many calls are queued.
func (q *queue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.calls)
}

// take removes the first calls, up to so many commands, but at least one call.
func (q *queue) take(limit int) []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, commands := 0, 0
	for n < len(q.calls) && (n == 0 || commands+len(q.calls[n].commands) <= limit) {
		commands += len(q.calls[n].commands)
		n++
	}
	taken := q.calls[:n:n]
	if q.calls = q.calls[n:]; len(q.calls) == 0 {
		q.calls = nil
	}
	q.commands -= commands
	return taken
}

// remove takes the call back, and is false if a leader has it.
func (q *queue) remove(c *call) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.calls, c)
	if i < 0 {
		return false
	}
	q.calls = slices.Delete(q.calls, i, i+1) // what was taken lies before and stays
	q.commands -= len(c.commands)
	return true
}

// submit queues the call and waits for its answer, leading when it is its turn.
func (l *Ledger) submit(ctx context.Context, c *call) ([]credit.Outcome, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("credit: nothing happened: %w", err)
	}
	if !l.queue.push(c, l.options.MaxQueue) {
		return nil, fmt.Errorf("%w (at most %d commands); nothing happened", credit.ErrBusy, l.options.MaxQueue)
	}
	for {
		select {
		case <-c.done:
			return c.outcomes, c.err
		case l.token <- struct{}{}:
			// Whoever is answered is answered before the token is free again; so
			// this call has its answer, or it is in the queue.
			select {
			case <-c.done:
				<-l.token
				return c.outcomes, c.err
			default:
			}
			if l.crowded {
				// Those who were just answered are about to call again. Unless they get to
				// queue first, batches alternate between a few calls and all the others.
				for waiting := 0; waiting < l.queue.length(); { // this call is there itself
					waiting = l.queue.length()
					runtime.Gosched()
				}
			}
			batch := l.queue.take(l.options.MaxBatch)
			l.crowded = len(batch) > 1
			if ctx.Done() == nil || l.joined || l.immediate {
				l.run(ctx, batch)
			} else {
				// In a goroutine of its own, so that this caller can leave, too.
				go l.run(ctx, batch)
			}
		case <-ctx.Done():
			if l.queue.remove(c) {
				return nil, fmt.Errorf("credit: nothing happened: %w", ctx.Err())
			}
			if l.joined {
				<-c.done // the transaction is in use until then
			}
			select {
			case <-c.done:
				return c.outcomes, c.err
			default:
				return nil, fmt.Errorf("%w: gave up while it was being committed: %w", credit.ErrOutcomeUnknown, ctx.Err())
			}
		}
	}
}

// run commits a batch, answers everybody and returns the token, whatever happens
// in the store: an error, a panic, or the end of the goroutine.
func (l *Ledger) run(leader context.Context, batch []*call) {
	report := Commit{Ledger: l.distributor.ID, Calls: len(batch)}
	start := time.Now()
	finished := false
	defer func() {
		if !finished {
			l.memory.forget()
			report.Err = fmt.Errorf("%w: the store ended its goroutine", credit.ErrOutcomeUnknown)
			if p := recover(); p != nil {
				report.Err = fmt.Errorf("%w: the store panicked: %v", credit.ErrOutcomeUnknown, p)
			}
			for _, c := range batch {
				if !c.answered {
					c.answer(nil, report.Err)
				}
			}
		}
		report.Commands = commands(batch)
		for _, c := range batch {
			close(c.done)
		}
		l.written.fire()
		<-l.token
		if !finished {
			l.log(slog.LevelError, "credit: commit panicked")
		}
		if l.options.OnCommit != nil {
			report.Duration = time.Since(start)
			l.hook(report)
		}
	}()
	// No caller's context, not even its values: a caller that leaves must not end
	// the commit of the others. In a caller's transaction there are no others, and
	// nobody leaves.
	if !l.joined {
		leader = context.Background()
	}
	ctx := &timeout{parent: leader, end: start.Add(l.options.CommitTimeout)}
	defer ctx.release()
	report.Records, report.Attempts, report.Err = l.commit(ctx, batch)
	finished = true
}

func (l *Ledger) hook(report Commit) {
	defer func() {
		if p := recover(); p != nil {
			l.log(slog.LevelError, "credit: OnCommit panicked")
		}
	}()
	l.options.OnCommit(report)
}

// log survives a handler that panics.
func (l *Ledger) log(level slog.Level, message string, args ...any) {
	defer func() { _ = recover() }()
	l.options.Logger.Log(context.Background(), level, message, append(args, "ledger", l.distributor.ID)...)
}

// readSet is what deciding all calls may look at.
func readSet(calls []*call) credit.ReadSet {
	if len(calls) == 1 {
		return calls[0].asked
	}
	var all credit.ReadSet
	resellers := make(map[uuid.UUID]bool, len(calls))
	externals, keys := map[string]bool{}, make(map[string]bool, len(calls))
	for _, c := range calls {
		all.Resellers = union(all.Resellers, resellers, c.asked.Resellers)
		all.ExternalIDs = union(all.ExternalIDs, externals, c.asked.ExternalIDs)
		all.Keys = union(all.Keys, keys, c.asked.Keys)
	}
	return all
}

func union[T comparable](to []T, seen map[T]bool, from []T) []T {
	for _, v := range from {
		if !seen[v] {
			seen[v] = true
			to = append(to, v)
		}
	}
	return to
}
