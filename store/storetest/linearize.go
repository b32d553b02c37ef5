package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"

	"github.com/resellerkit/credit"
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

	mu       sync.Mutex
	possible []map[int]bool // by operation and state: is the answer possible there?
}

// version is a reseller from some record on.
type version struct {
	from     int
	reseller credit.Reseller
}

// prepare replays the log, and checks that every record is somebody's.
func (h *history) prepare() string {
	h.members, h.keys = map[uuid.UUID][]version{}, map[string]int64{}
	state := credit.NewState(h.distributor)
	h.heads = []credit.Head{state.Head()}
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
		in, _ := op.Input.(input)
		out, _ := op.Output.(output)
		for _, o := range out.outcomes {
			if in.wrote(o) {
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
	h.mu.Lock() // porcupine may still be about to notice that its time is over
	ok, known := h.possible[op][n]
	if !known {
		ok = h.explains(n, in, out)
		h.possible[op][n] = ok
	}
	h.mu.Unlock()
	if !ok {
		return false, n
	}
	if out.lost {
		return true, n + h.wrote(n, in)
	}
	for _, o := range out.outcomes {
		if in.wrote(o) {
			n++
		}
	}
	return true, n
}

// wrote tells whether the outcome of one of the commands is a new record.
func (in input) wrote(o credit.Outcome) bool {
	return o.Err == nil && !o.Receipt.Replayed && !in.options.DryRun
}

// wrote is how many of the log's records, after the first n, are what the commands
// of a lost answer give there; 0 if they cannot have taken effect there.
func (h *history) wrote(n int, in input) int {
	if in.options.DryRun {
		return 0
	}
	state, written := h.stateAt(n, in.commands), 0
	for _, c := range in.commands {
		var r credit.Record // none, if there is none
		if n+written < len(h.log) {
			r = h.log[n+written]
		}
		receipt, err := state.Execute(c, credit.Stamp{Time: r.RecordedAt, RecordID: r.ID, ResellerID: cmp.Or(r.ResellerID, drafted)})
		switch {
		case err != nil && in.bulk && !in.options.AllOrNothing: // refused alone
		case err != nil:
			return 0
		case receipt.Replayed:
		case !reflect.DeepEqual(receipt.Record, r), !slices.Contains(h.unowned, n+written):
			return 0 // it is another's, perhaps of the same commands sent again
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
		slices.SortFunc(want, func(a, b credit.Reseller) int { return compare(credit.OrderOldest, b, a) })
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
		at := credit.Stamp{ResellerID: drafted}
		switch got := out.outcomes[i]; {
		case got.Err == nil && in.options.DryRun:
			at.Time = got.Receipt.RecordedAt
		case in.wrote(got):
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
		case in.options.AllOrNothing && refused:
			if !errors.Is(got.Err, credit.ErrNotApplied) {
				return false
			}
		case got.Err != nil || !reflect.DeepEqual(in.answer(receipts[i], n), got.Receipt):
			return false
		case in.wrote(got) && !reflect.DeepEqual(h.log[got.Receipt.Sequence-1], got.Receipt.Record):
			return false
		}
	}
	return true
}

// drafted is the id of a reseller that has none.
var drafted = uuid.UUID{15: 1}

// answer is the receipt of a command as it is told: that of a dry run, after n
// records, lacks what only a written record has.
func (in input) answer(r credit.Receipt, n int) credit.Receipt {
	if in.options.DryRun && r.Sequence > int64(n) {
		r.Sequence, r.ID, r.Hash = 0, uuid.Nil, credit.Hash{}
		if r.Kind == credit.KindAdd {
			r.ResellerID = uuid.Nil
		}
	}
	return r
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
// not between two records of one all-or-nothing call, and one at which its answer
// is possible. Calls that write have only one. Places depend on those of earlier
// calls only, in one direction, so taking each as early as possible is never wrong.
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
	inside := h.inside()
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
			if ok, then := h.step(i, n, in.input, out); ok && !inside[n] {
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

// inside are the places between two records of one call.
func (h *history) inside() map[int]bool {
	inside := map[int]bool{}
	within := func(n, written int) {
		for i := 1; i < written; i++ {
			inside[n+i] = true
		}
	}
	for _, op := range h.operations {
		in, _ := op.Input.(numbered)
		out, _ := op.Output.(output)
		first, written := 0, 0
		for _, o := range out.outcomes {
			if in.input.wrote(o) {
				if written++; written == 1 {
					first = int(o.Receipt.Sequence) - 1
				}
			}
		}
		within(first, written)
	}
	for _, n := range h.unowned {
		within(n, h.leastWrote(n))
	}
	return inside
}

// leastWrote is the least that one of the calls whose answer was lost can have
// written after n records: of several with the same command nobody knows which it was.
func (h *history) leastWrote(n int) (least int) {
	for _, op := range h.operations {
		in, _ := op.Input.(numbered)
		if out, _ := op.Output.(output); out.lost {
			if written := h.wrote(n, in.input); written > 0 && (least == 0 || written < least) {
				least = written
			}
		}
	}
	return least
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
