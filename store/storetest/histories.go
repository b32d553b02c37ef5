package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
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
				done.requireLinearizable(t, fmt.Sprintf("%s=%d, history %d", SeedVariable, h.Seed, i), setting{stores: stores}, newRand(h.Seed, uint64(i)+1<<32))
			}
			done.log(t)
		})
	}
}

// tally is what histories came to.
type tally struct{ histories, calls, lost, missed, undecided int }

func (s *tally) log(t *testing.T) {
	t.Helper()
	t.Logf("%d histories of %d calls; besides these %d answers were lost and %d calls did not happen; porcupine left %d undecided",
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
		commands []credit.Command // one, or an all-or-nothing call
		bulk     bool
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

// history is what the clients did and saw, and the log they left behind.
//
// # The model
//
// A history is linearizable if its calls can be put in one order that respects
// real time and in which every answer is the one that the rules give
// ([credit.State.Execute]) in the state that the calls before it left behind.
//
// The last call of every history, after all others, reads the whole log. In any
// order that explains it, the state after the n-th record is what replaying the
// first n records of that log gives, because a ledger's state is a function of its
// log and the log only grows. So the model's state is a number, n, and nothing is
// lost by it: a call that writes m records is possible at n only if the rules
// answer it, at n, with exactly the records n+1 to n+m of the log, and leads to
// n+m; a refusal, a replay or a read is possible at n if it is the answer at n,
// and leads to n. That keeps the search short without making it less strict.
//
// A lost answer (credit.ErrOutcomeUnknown) may have written or not. If it wrote,
// its records are in the log, by the ids of no other call; the call then takes
// effect there, at any time after it began, also after it was given up. If it did
// not write, it can stand at the very end, where nothing follows.
type history struct {
	distributor credit.Distributor
	operations  []porcupine.Operation
	log         []credit.Record

	// What replaying the first n records gives, at n.
	heads   []credit.Head
	members map[uuid.UUID][]version
	order   []uuid.UUID
	added   map[uuid.UUID]credit.NewReseller
	keys    map[string]int64
	unowned []int // records that were acknowledged to nobody

	lost, missed int  // answers that were lost, and calls that did not happen
	undecided    bool // porcupine ran out of time

	// Where place put each operation: how many records there are before and after it.
	before, after []int

	possible []map[int]bool // by operation and state: is the answer possible there?
}

// version is a reseller from some record on.
type version struct {
	from     int
	reseller credit.Reseller
}

// setting is where a history happens: an engine over each of the stores. Begin is
// called before the clients begin, and end when they have ended.
type setting struct {
	stores     []store.Store
	options    store.Options
	begin, end func()
}

// runHistory lets clients loose.
func runHistory(ctx context.Context, set setting, rng *rand.Rand) (*history, string) {
	h := &history{distributor: credit.Distributor{ID: uuid.New(), Name: "History", Currency: "USD"}, added: map[uuid.UUID]credit.NewReseller{}}
	var engines []*store.Ledger
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
		out, happened, problem := call(ctx, l, in, cancelSoon)
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
		op, problem := perform(input{commands: []credit.Command{c}}, engines[0], false)
		if problem != "" {
			return h, problem
		}
		h.operations = append(h.operations, op)
		out, _ := op.Output.(output)
		if added, ok := c.(credit.NewReseller); ok && out.outcomes[0].Err == nil {
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

	// All is quiet now, but for appends whose callers left. The engine waits for
	// them before it commits the next one.
	op, problem := perform(input{commands: []credit.Command{credit.Grant{Amount: units(1), Reference: "the end"}}}, engines[0], false)
	if problem != "" || op.Input == nil {
		return h, "the last grant failed: " + problem
	}
	h.operations = append(h.operations, op)
	if _, err := engines[len(engines)-1].Check(ctx); err != nil {
		return h, "check: " + err.Error()
	}
	var err error
	h.log, err = pages(credit.MaxPageSize, func(c credit.Cursor) (credit.Page[credit.Record], error) {
		return engines[0].Records(ctx, credit.RecordQuery{Limit: credit.MaxPageSize, Cursor: c})
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
		in.bulk = true
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
func call(ctx context.Context, l *store.Ledger, in input, cancelSoon bool) (out output, happened bool, problem string) {
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
			out.outcomes, err = l.Bulk(ctx, in.commands, credit.BulkOptions{AllOrNothing: true})
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
	case errors.Is(err, credit.ErrBusy), errors.Is(err, context.Canceled), errors.Is(err, errFault), store.Retryable(err):
		return out, false, "" // nothing happened; the log must not have it
	}
	return out, false, fmt.Sprintf("%v: %v", in, err)
}

// prepare replays the log, and checks that every record is somebody's.
func (h *history) prepare() string {
	zero := credit.FromMillionths(0)
	h.heads = []credit.Head{{Hash: credit.Genesis(h.distributor), Pool: credit.Pool{Granted: zero, Allocated: zero}}}
	h.members, h.keys = map[uuid.UUID][]version{}, map[string]int64{}
	state := credit.NewState(h.distributor)
	for i, r := range h.log {
		if err := state.Verify(r); err != nil {
			return "the log: " + err.Error()
		}
		h.heads = append(h.heads, state.Head())
		if r.Key != "" {
			h.keys[r.Key] = r.Sequence
		}
		if r.ResellerID == uuid.Nil {
			continue
		}
		reseller, _ := state.Reseller(r.ResellerID)
		if r.Kind == credit.KindAdd {
			h.order = append(h.order, r.ResellerID)
			added := h.added[r.ResellerID]
			reseller.Profile, reseller.BoundAt = credit.Profile{Name: added.Name}, added.BoundAt.UTC()
		} else {
			earlier := h.members[r.ResellerID][0].reseller
			reseller.Profile, reseller.BoundAt = earlier.Profile, earlier.BoundAt
		}
		h.members[r.ResellerID] = append(h.members[r.ResellerID], version{i + 1, reseller})
	}
	owner := map[uuid.UUID]int{}
	for i, op := range h.operations {
		out, _ := op.Output.(output)
		for _, o := range out.outcomes {
			if o.Err == nil && !o.Receipt.Replayed {
				if other, twice := owner[o.Receipt.ID]; twice {
					return fmt.Sprintf("record %d was acknowledged to two calls, %d and %d", o.Receipt.Sequence, other, i)
				}
				owner[o.Receipt.ID] = i
			}
		}
	}
	for i, r := range h.log {
		if _, acknowledged := owner[r.ID]; !acknowledged {
			h.unowned = append(h.unowned, i)
		}
	}
	h.possible = make([]map[int]bool, len(h.operations))
	for i := range h.operations {
		h.possible[i] = map[int]bool{}
		in, _ := h.operations[i].Input.(input)
		h.operations[i].Input = numbered{i, in}
	}
	return ""
}

// numbered is an input with the number of its operation, to remember answers by.
type numbered struct {
	operation int
	input     input
}

// at is the reseller after n records.
func (h *history) at(id uuid.UUID, n int) (credit.Reseller, bool) {
	versions := h.members[id]
	i, exact := slices.BinarySearchFunc(versions, n, func(v version, n int) int { return v.from - n })
	if exact {
		return versions[i].reseller, true
	}
	if i == 0 {
		return credit.Reseller{}, false
	}
	return versions[i-1].reseller, true
}

// stateAt is what deciding the commands may look at after n records.
func (h *history) stateAt(n int, commands []credit.Command) *credit.State {
	asked := credit.ReadSetOf(commands...)
	found := credit.Snapshot{Head: h.heads[n]}
	for _, id := range asked.Resellers {
		if r, ok := h.at(id, n); ok {
			found.Resellers = append(found.Resellers, r)
		}
	}
	for _, external := range asked.ExternalIDs {
		for _, id := range h.order {
			if r, ok := h.at(id, n); ok && r.ExternalID == external {
				found.Resellers = append(found.Resellers, r)
			}
		}
	}
	for _, key := range asked.Keys {
		if sequence := h.keys[key]; sequence > 0 && sequence <= int64(n) {
			found.Records = append(found.Records, h.log[sequence-1])
		}
	}
	return credit.LoadState(asked, found)
}

// step tells whether the operation's answer is possible after n records, and how
// many there are after it.
func (h *history) step(op, n int, in input, out output) (bool, int) {
	ok, known := h.possible[op][n]
	if !known {
		ok = h.explains(n, in, out)
		h.possible[op][n] = ok
	}
	if !ok {
		return false, n
	}
	if out.lost {
		return true, n + h.wrote(n, in)
	}
	for _, o := range out.outcomes {
		if o.Err == nil && !o.Receipt.Replayed {
			n++
		}
	}
	return true, n
}

// wrote is how many of the log's records, after the first n, are what the commands
// of a lost answer give there; 0 if they cannot have taken effect there.
func (h *history) wrote(n int, in input) int {
	state, written := h.stateAt(n, in.commands), 0
	for _, c := range in.commands {
		if n+written == len(h.log) {
			return 0
		}
		r := h.log[n+written]
		receipt, err := state.Execute(c, credit.Stamp{Time: r.RecordedAt, RecordID: r.ID, ResellerID: r.ResellerID})
		switch {
		case err != nil:
			return 0
		case receipt.Replayed:
		case !reflect.DeepEqual(receipt.Record, r):
			return 0
		default:
			written++
		}
	}
	return written
}

// explains tells whether the answer is the one that the rules give after n records.
func (h *history) explains(n int, in input, out output) bool {
	if out.lost {
		return n == len(h.log) || h.wrote(n, in) > 0
	}
	switch in.read {
	case "log":
		return n == len(h.log)
	case "pool":
		return reflect.DeepEqual(out.pool, h.heads[n].Pool)
	case "head":
		return reflect.DeepEqual(out.head, h.heads[n])
	case "reseller":
		r, ok := h.at(in.id, n)
		return ok && reflect.DeepEqual(out.reseller, r)
	case "resellers":
		var want []credit.Reseller
		for _, id := range h.order {
			if r, ok := h.at(id, n); ok {
				want = append(want, r)
			}
		}
		slices.SortFunc(want, func(a, b credit.Reseller) int { return byBound(b, a) })
		return sameList(want, out.resellers, "") == nil
	case "records":
		from := min(int(in.after), n)
		return sameList(h.log[from:min(n, from+recordsAtOnce)], out.records, "") == nil
	}
	return h.decides(n, in, out)
}

// decides tells whether the rules give the commands, after n records, the outcomes
// that they had.
func (h *history) decides(n int, in input, out output) bool {
	state := h.stateAt(n, in.commands)
	receipts, errs := make([]credit.Receipt, len(in.commands)), make([]error, len(in.commands))
	refused := false
	for i, c := range in.commands {
		var at credit.Stamp
		if got := out.outcomes[i]; got.Err == nil && !got.Receipt.Replayed {
			at = credit.Stamp{Time: got.Receipt.RecordedAt, RecordID: got.Receipt.ID, ResellerID: got.Receipt.ResellerID}
			if next := int(got.Receipt.Sequence) - 1; next < n || next >= len(h.log) || h.log[next].ID != got.Receipt.ID {
				return false // the record has its own place in the log
			}
		}
		receipts[i], errs[i] = state.Execute(c, at)
		refused = refused || errs[i] != nil
	}
	for i, got := range out.outcomes {
		switch {
		case errs[i] != nil:
			if !sameRefusal(errs[i], got.Err) {
				return false
			}
		case in.bulk && refused:
			if !errors.Is(got.Err, credit.ErrNotApplied) {
				return false
			}
		case got.Err != nil || !reflect.DeepEqual(receipts[i], got.Receipt):
			return false
		case !got.Receipt.Replayed && !reflect.DeepEqual(h.log[got.Receipt.Sequence-1], got.Receipt.Record):
			return false
		}
	}
	return true
}

// sameRefusal tells whether two refusals are the same, figures included. The
// sequence of the earlier record of a conflict is left out: within a call that
// came to nothing it never was.
func sameRefusal(want, got error) bool {
	if got == nil || credit.Code(want) != credit.Code(got) {
		return false
	}
	limit, ok := errors.AsType[*credit.LimitError](want)
	other, also := errors.AsType[*credit.LimitError](got)
	return ok == also && (!ok || limit.Requested.Equal(other.Requested) && limit.Allowed.Equal(other.Allowed))
}

// check says why the history is not linearizable; "" if it is.
//
// Porcupine searches, and how long that takes is bounded by nothing but patience.
// Because states are numbers here, the question can also be decided directly (see
// place), and the two must agree. If porcupine finds no order in time, it is shown
// the one that place found, every call shortened to the moment at which it took
// effect, and must accept that. Only where place says that there is none, and
// porcupine does not know, the word of place stands alone.
func (h *history) check() string {
	const patience = 2 * time.Second
	model := porcupine.Model{
		Init: func() any { return 0 },
		Step: func(state, in, out any) (bool, any) {
			n, _ := state.(int)
			call, _ := in.(numbered)
			answer, _ := out.(output)
			return h.step(call.operation, n, call.input, answer)
		},
		Hash: func(state any) uint64 { n, _ := state.(int); return uint64(n) * 0x9e3779b97f4a7c15 },
	}
	problem := h.place()
	found := porcupine.CheckOperationsTimeout(model, h.operations, patience)
	if h.undecided = found == porcupine.Unknown; h.undecided && problem == "" {
		moments, late := h.moments()
		if late != "" {
			return late
		}
		found = porcupine.CheckOperationsTimeout(model, moments, 0)
	}
	switch {
	case found == porcupine.Illegal && problem == "":
		return "porcupine found no order of the calls, but there is one: the test itself is wrong"
	case found == porcupine.Ok && problem != "":
		return "porcupine found an order of the calls, though there is none: the test itself is wrong; " + problem
	}
	return problem
}

// moments is the history in the order that place found, every call shortened to
// one moment between its beginning and its end.
func (h *history) moments() ([]porcupine.Operation, string) {
	order := make([]int, len(h.operations))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		// At the same place, those that leave the log as it is come before the one
		// that does not.
		return cmp.Or(cmp.Compare(h.before[a], h.before[b]), cmp.Compare(h.after[a], h.after[b]), cmp.Compare(h.operations[a].Call, h.operations[b].Call))
	})
	fine := int64(len(order) + 1) // room for all of them between two ticks of the clock
	moments := make([]porcupine.Operation, 0, len(order))
	last := int64(0)
	for _, i := range order {
		op := h.operations[i]
		if last = max(last+1, op.Call*fine); last >= (op.Return+1)*fine {
			return nil, "the test itself is wrong: the order that was found does not respect this call:\n" + h.tell(i)
		}
		op.Call, op.Return = last, last
		moments = append(moments, op)
	}
	return moments, ""
}

// place looks for the earliest place, in number of records, at which each call can
// have taken effect: not before that of any call that had returned when it began,
// and one at which its answer is possible. Calls that write have only one. Places
// depend on those of earlier calls only, in one direction, so taking each as early
// as possible is never wrong.
//
// A lost answer holds nobody up, for it never returned. All that is asked of it is
// that every record that was acknowledged to nobody is one of theirs, of a call
// that had begun; as they have no end, it does not matter which of those it is.
//
// The history is linearizable if and only if all calls and records find a place.
// It says which one does not; "" if all do.
func (h *history) place() string {
	byCall := make([]int, len(h.operations))
	for i := range byCall {
		byCall[i] = i
	}
	slices.SortStableFunc(byCall, func(a, b int) int { return cmp.Compare(h.operations[a].Call, h.operations[b].Call) })
	byReturn := slices.Clone(byCall)
	slices.SortStableFunc(byReturn, func(a, b int) int { return cmp.Compare(h.operations[a].Return, h.operations[b].Return) })
	h.before, h.after = make([]int, len(h.operations)), make([]int, len(h.operations))
	returned, least := 0, 0
	lost := map[int]int{} // the least place of lost ones
	for _, i := range byCall {
		op := h.operations[i]
		for ; returned < len(byReturn) && h.operations[byReturn[returned]].Return < op.Call; returned++ {
			least = max(least, h.after[byReturn[returned]])
		}
		in, _ := op.Input.(numbered)
		out, _ := op.Output.(output)
		if out.lost {
			lost[i] = least
			h.before[i], h.after[i] = len(h.log), len(h.log) // unless it wrote
			continue
		}
		placed := false
		for n := least; n <= len(h.log) && !placed; n++ {
			if ok, then := h.step(i, n, in.input, out); ok {
				placed, h.before[i], h.after[i] = true, n, then
			}
		}
		if !placed {
			return fmt.Sprintf("no moment at or after record %d explains this call:\n%s\nthe log around it:\n%s", least, h.tell(i), h.tellLog(least))
		}
	}
	for next := 0; next < len(h.unowned); {
		n, written := h.unowned[next], 0
		for i, least := range lost {
			in, _ := h.operations[i].Input.(numbered)
			if n < least {
				continue
			}
			if written = h.wrote(n, in.input); written > 0 {
				h.before[i], h.after[i] = n, n+written
				delete(lost, i)
				break
			}
		}
		if written == 0 {
			return fmt.Sprintf("nobody asked for record %d:\n%s", n+1, h.tellLog(n))
		}
		next += written
	}
	return ""
}

func (h *history) tell(i int) string {
	op := h.operations[i]
	in, _ := op.Input.(numbered)
	out, _ := op.Output.(output)
	var text strings.Builder
	_, _ = fmt.Fprintf(&text, "client %d, from %s to %s: ", op.ClientId, time.Duration(op.Call), time.Duration(op.Return))
	for j, c := range in.input.commands {
		answer := "lost"
		if !out.lost {
			answer = answered{out.outcomes[j].Receipt, out.outcomes[j].Err}.String()
		}
		_, _ = fmt.Fprintf(&text, "\n  %s → %s", described{c}, answer)
	}
	switch in.input.read {
	case "pool":
		_, _ = fmt.Fprintf(&text, "pool → %s", show(out.pool))
	case "head":
		_, _ = fmt.Fprintf(&text, "head → %s", show(out.head))
	case "reseller":
		_, _ = fmt.Fprintf(&text, "reseller → %s", show(out.reseller))
	case "resellers":
		_, _ = fmt.Fprintf(&text, "resellers → %s", show(out.resellers))
	case "records":
		_, _ = fmt.Fprintf(&text, "records after %d → %s", in.input.after, show(out.records))
	}
	return text.String()
}

func (h *history) tellLog(around int) string {
	var text strings.Builder
	for _, r := range h.log[max(0, min(around, len(h.log))-5):min(len(h.log), around+15)] {
		_, _ = fmt.Fprintf(&text, "  %s %s\n", answered{credit.Receipt{Record: r}, nil}, r.ResellerID)
	}
	return text.String()
}
