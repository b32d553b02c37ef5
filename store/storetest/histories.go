package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// histories runs concurrent clients and checks that what they saw is explained by
// some order of their calls, one at a time, that respects who finished before whom
// began.
func (h Harness) histories(t *testing.T) {
	const workers = 2
	for worker := range workers {
		t.Run(fmt.Sprintf("part %d", worker), func(t *testing.T) {
			t.Parallel()
			s := h.Open(t)
			second := h.second(t, s)
			var done tally
			for i := worker; i < h.Histories; i += workers {
				stores := []store.Store{s}
				if i%4 >= 2 { // every other one of a worker, on two engines
					stores = append(stores, second)
				}
				done.requireLinearizable(t, fmt.Sprintf("%s=%d, history %d", seedVariable, h.Seed, i), setting{stores: stores}, newRand(h.Seed, uint64(i)+1<<32))
			}
			done.log(t)
		})
	}
}

// tally is what histories came to.
type tally struct{ histories, calls, lost, missed, undecided int }

func (s *tally) log(t *testing.T) {
	t.Helper()
	t.Logf("%d histories of %d calls; besides these %d answers were lost and %d calls did not happen; porcupine had to be shown the order of %d",
		s.histories, s.calls-s.lost, s.lost, s.missed, s.undecided)
}

// requireLinearizable runs one history and checks it.
func (s *tally) requireLinearizable(t *testing.T, which string, set setting, rng *rand.Rand) {
	t.Helper()
	var problem string
	var hist *history
	// Far more than a history needs on a database that syncs to disk.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	within(t, 5*time.Minute, "a history", func() {
		if hist, problem = runHistory(ctx, set, rng); problem == "" {
			problem = hist.check()
		}
	})
	if problem != "" {
		require.FailNow(t, "calls did not behave as if executed one at a time", "%s: %s", which, problem)
	}
	s.histories++
	s.calls += len(hist.operations)
	s.lost += hist.lost
	s.missed += hist.missed
	if hist.undecided {
		s.undecided++
	}
}

// What clients ask for, and what they are answered.
type (
	// input is one call: commands, or a read.
	input struct {
		client   int
		commands []credit.Command // one, or those of a bulk call
		bulk     bool
		options  credit.BulkOptions
		read     string    // pool, head, reseller, resellers, records; log for all of it, in the end
		id       uuid.UUID // of the reseller that is read
		after    int64     // of the records that are read
	}
	// output is the answer. Of a lost answer nothing is known.
	output struct {
		outcomes  []credit.Outcome
		lost      bool
		pool      credit.Pool
		head      credit.Head
		reseller  credit.Reseller
		resellers []credit.Reseller
		records   []credit.Record
	}
)

// setting is where a history happens: an engine over each of the stores. Begin is
// called before the clients begin, and end when they have ended. A tolerant one
// takes every error of a store for a call that did not happen; otherwise only a
// call that was cancelled, or may be tried again, may fail.
type setting struct {
	tolerant   bool
	stores     []store.Store
	options    store.Options
	begin, end func()
}

// runHistory lets clients loose.
func runHistory(ctx context.Context, set setting, rng *rand.Rand) (*history, string) {
	h := &history{distributor: credit.Distributor{ID: uuid.New(), Name: "History", Currency: "USD"}, added: map[uuid.UUID]credit.NewReseller{}}
	var engines []*store.Ledger
	// What comes before and after the clients has all the time it needs.
	steady, err := store.Open(ctx, set.stores[0], h.distributor, store.Options{})
	if err != nil {
		return h, "open: " + err.Error()
	}
	o := set.options
	for _, s := range set.stores {
		if rng.IntN(2) == 0 {
			o.MaxBatch = 1 + rng.IntN(5)
		}
		engine, err := store.Open(ctx, s, h.distributor, o)
		if err != nil {
			return h, "open: " + err.Error()
		}
		engines = append(engines, engine)
	}
	// Before the clients begin, some resellers and a small pool.
	start := time.Now()
	now := func() int64 { return int64(time.Since(start)) }
	perform := func(in input, l *store.Ledger, cancelSoon bool) (porcupine.Operation, string) {
		op := porcupine.Operation{ClientId: in.client, Input: in, Call: now()}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		if cancelSoon && in.read == "" {
			go func() {
				for range 3 {
					runtime.Gosched()
				}
				cancel()
			}()
		}
		out, happened, problem := call(ctx, l, in)
		if set.tolerant && !happened {
			problem = ""
		}
		op.Return, op.Output = now(), out
		if !happened {
			op.Input = nil
		}
		return op, problem
	}
	var ids []uuid.UUID
	first := []credit.Command{credit.Grant{Amount: units(100 + rng.Int64N(100))}}
	for i := range 2 + rng.IntN(3) {
		first = append(first, credit.NewReseller{ExternalID: fmt.Sprintf("UIN-%d", i), Name: fmt.Sprintf("Reseller %d", i), BoundAt: time.UnixMicro(int64(i % 2))})
	}
	for _, c := range first {
		op, problem := perform(input{commands: []credit.Command{c}}, steady, false)
		out, _ := op.Output.(output)
		if problem != "" || len(out.outcomes) != 1 || out.outcomes[0].Err != nil {
			return h, fmt.Sprintf("%s: %s%+v", described{c}, problem, out.outcomes)
		}
		h.operations = append(h.operations, op)
		if added, ok := c.(credit.NewReseller); ok {
			id := out.outcomes[0].Receipt.ResellerID
			ids = append(ids, id)
			h.added[id] = added
		}
	}

	clients := 8 + rng.IntN(25)
	each := 1 + 320/clients
	shared := sharedCommands(rng, ids)
	performed, problems := make([][]porcupine.Operation, clients), make([]string, clients)
	var missed atomic.Int64
	var all sync.WaitGroup
	begin := make(chan struct{})
	for client := range clients {
		rng := newRand(rng.Uint64(), uint64(client))
		all.Go(func() {
			<-begin
			var seen int64
			for range each {
				in := nextInput(rng, client, ids, shared, seen)
				op, problem := perform(in, engines[rng.IntN(len(engines))], rng.IntN(25) == 0)
				if problem != "" {
					problems[client] = problem
					return
				}
				if op.Input == nil {
					missed.Add(1)
					continue
				}
				performed[client] = append(performed[client], op)
				if out, _ := op.Output.(output); in.read == "head" {
					seen = out.head.Sequence
				}
			}
		})
	}
	if set.begin != nil {
		set.begin()
	}
	close(begin)
	all.Wait()
	if set.end != nil {
		set.end()
	}
	h.missed = int(missed.Load())
	for client := range clients {
		if problems[client] != "" {
			return h, fmt.Sprintf("client %d: %s", client, problems[client])
		}
		h.operations = append(h.operations, performed[client]...)
	}

	// A commit whose callers all left may still be on its way. What an engine is
	// asked now waits for it.
	for _, l := range engines {
		_, _ = l.Bulk(ctx, []credit.Command{credit.Grant{Amount: units(1)}}, credit.BulkOptions{DryRun: true})
	}
	op, problem := perform(input{commands: []credit.Command{credit.Grant{Amount: units(1), Reference: "the end"}}}, steady, false)
	if problem != "" || op.Input == nil {
		return h, "the last grant failed: " + problem
	}
	h.operations = append(h.operations, op)
	if _, err := steady.Check(ctx); err != nil {
		return h, "check: " + err.Error()
	}
	h.log, err = pages(credit.MaxPageSize, func(c credit.Cursor) (credit.Page[credit.Record], error) {
		return steady.Records(ctx, credit.RecordQuery{Limit: credit.MaxPageSize, Cursor: c})
	})
	if err != nil {
		return h, "read the log: " + err.Error()
	}
	end := now()
	h.operations = append(h.operations, porcupine.Operation{Input: input{read: "log"}, Call: end, Output: output{}, Return: end})
	for i := range h.operations {
		if out, _ := h.operations[i].Output.(output); out.lost {
			h.operations[i].Return = end
			h.lost++
		}
	}
	return h, h.prepare()
}

// sharedCommands are commands with keys that several clients send: each key with
// two contents, so that there are replays and conflicts.
func sharedCommands(rng *rand.Rand, ids []uuid.UUID) []credit.Command {
	var shared []credit.Command
	for i := range 10 {
		key := fmt.Sprintf("shared-%d", i)
		for range 2 {
			shared = append(shared, credit.Allocation{ResellerID: pickOne(rng, ids), Amount: units(1 + rng.Int64N(30)), Key: key},
				credit.Usage{ResellerID: pickOne(rng, ids), Amount: units(1 + rng.Int64N(30)), Key: key})
		}
	}
	return shared
}

func nextInput(rng *rand.Rand, client int, ids []uuid.UUID, shared []credit.Command, seen int64) input {
	in := input{client: client}
	id, other := pickOne(rng, ids), pickOne(rng, ids)
	amount := units(1 + rng.Int64N(40))
	// Commands that are nobody else's say so, so that each record is somebody's.
	label := fmt.Sprintf("%d/%d", client, rng.Uint64())
	one := func(c credit.Command) input { in.commands = []credit.Command{labelled(c, label)}; return in }
	switch n := rng.IntN(100); {
	case n < 18:
		return one(credit.Allocation{ResellerID: id, Amount: amount})
	case n < 26:
		return one(credit.Repossession{ResellerID: id, Amount: amount})
	case n < 30:
		return one(credit.RepossessAll{ResellerID: id})
	case n < 37:
		return one(credit.Usage{ResellerID: id, Amount: amount})
	case n < 41:
		return one(credit.Settlement{ResellerID: id, Amount: amount})
	case n < 43:
		return one(credit.Correction{ResellerID: id, Amount: amount})
	case n < 46:
		return one(credit.Grant{Amount: amount})
	case n < 49:
		return one(credit.Withdrawal{Amount: amount})
	case n < 52:
		return one(credit.Freeze{ResellerID: id})
	case n < 56:
		return one(credit.Unfreeze{ResellerID: id})
	case n < 57:
		return one(credit.Close{ResellerID: id})
	case n < 67:
		in.commands = []credit.Command{pickOne(rng, shared)}
		return in
	case n < 73:
		in.bulk, in.options.AllOrNothing = true, true
		in.commands = []credit.Command{labelled(credit.Repossession{ResellerID: id, Amount: amount}, label), labelled(credit.Allocation{ResellerID: other, Amount: amount}, label)}
		if rng.IntN(3) == 0 {
			in.commands = append(in.commands, pickOne(rng, shared), labelled(credit.Usage{ResellerID: id, Amount: amount}, label))
		}
		return in
	case n < 80:
		in.read = "pool"
	case n < 85:
		in.read = "head"
	case n < 92:
		in.read, in.id = "reseller", id
	case n < 95:
		in.read = "resellers"
	default:
		in.read, in.after = "records", seen
	}
	return in
}

// labelled is the command with an external reference.
func labelled(c credit.Command, reference string) credit.Command {
	v := reflect.New(reflect.TypeOf(c)).Elem()
	v.Set(reflect.ValueOf(c))
	v.FieldByName("Reference").SetString(reference)
	c, _ = reflect.TypeAssert[credit.Command](v)
	return c
}

// recordsAtOnce is how many records a client reads.
const recordsAtOnce = 3

// call makes one call. It did not happen if the ledger says so: a full queue, or a
// caller that gave up while it waited.
func call(ctx context.Context, l *store.Ledger, in input) (out output, happened bool, problem string) {
	if in.read != "" {
		// A read runs in the caller's goroutine, and so does a panic of the store.
		defer func() {
			if p := recover(); p != nil {
				if err, ok := p.(error); !ok || !errors.Is(err, errFault) {
					panic(p)
				}
			}
		}()
	}
	var err error
	switch in.read {
	case "":
		if in.bulk {
			out.outcomes, err = l.Bulk(ctx, in.commands, in.options)
			break
		}
		var receipt credit.Receipt
		receipt, err = send(ctx, l, in.commands[0])
		if code := credit.Code(err); code != "internal" && code != "busy" && code != "outcome_unknown" {
			out.outcomes, err = []credit.Outcome{{Receipt: receipt, Err: err}}, nil
		}
	case "pool":
		out.pool, err = l.Pool(ctx)
	case "head":
		out.head, err = l.Head(ctx)
	case "reseller":
		out.reseller, err = l.Reseller(ctx, in.id)
	case "resellers":
		var page credit.Page[credit.Reseller]
		page, err = l.Resellers(ctx, credit.ResellerQuery{Statuses: everyStatus()})
		out.resellers = page.Items
	case "records":
		var page credit.Page[credit.Record]
		page, err = l.Records(ctx, credit.RecordQuery{After: in.after, Limit: recordsAtOnce})
		out.records = page.Items
	}
	switch {
	case err == nil:
		return out, true, ""
	case errors.Is(err, credit.ErrOutcomeUnknown):
		out.lost = true
		return out, true, ""
	case errors.Is(err, credit.ErrBusy), errors.Is(err, context.Canceled), store.Retryable(err):
		return out, false, "" // nothing happened; the log must not have it
	}
	return out, false, fmt.Sprintf("%v: %v", in, err)
}
