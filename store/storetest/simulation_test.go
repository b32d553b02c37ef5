package storetest

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
)

// seedsVariable is how many seeds the simulation runs; seedVariable runs one.
const (
	seedsVariable = "CREDIT_SEEDS"
	defaultSeeds  = 100
)

// TestSimulation runs clients on several engines over one store in memory, where
// nothing happens but what a seed decides: which of the calls that wait for the
// store goes on, with which fault, when time passes, who gives up, which engine is
// replaced, and whether the store falls back to an earlier state. What the clients
// were told must be explained by the log.
func TestSimulation(t *testing.T) {
	t.Parallel()
	first, seeds := uint64(1), fromEnvironment(t, seedsVariable, 0, defaultSeeds)
	if text := os.Getenv(seedVariable); text != "" {
		one, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "environment variable %s", seedVariable)
		first, seeds = one, 1
	}
	const workers = 2
	for worker := range uint64(workers) {
		t.Run(fmt.Sprintf("part %d", worker), func(t *testing.T) {
			t.Parallel()
			met, failed := met{}, []uint64(nil)
			for seed := first + worker; seed < first+seeds; seed += workers {
				s, problem := simulate(t, seed)
				met.add(s.met)
				if problem == "" {
					continue
				}
				if failed = append(failed, seed); len(failed) == 1 { // how many fail tells about the fault, too
					assert.Fail(t, "what clients were told is not what happened", "repeat with %s=%d: %s\n\n%s", seedVariable, seed, problem, s.trace)
				}
			}
			t.Log(met)
			require.Empty(t, failed, "%d seeds fail", len(failed))
		})
	}
}

// A failure that cannot be repeated cannot be understood.
func TestASeedOfTheSimulationSaysItAll(t *testing.T) {
	t.Parallel()
	met := met{}
	for seed := range uint64(60) {
		first, problem := simulate(t, seed)
		require.Empty(t, problem)
		again, _ := simulate(t, seed)
		require.Equal(t, first.trace.String(), again.trace.String(), "%s=%d gave two runs that differ", seedVariable, seed)
		met.add(first.met)
	}
	// It is worth what it meets.
	for _, what := range []string{"Append", "Load", "Records", "Resellers", "Hold", "Commit", "accepted", "replayed", "refused", "lost", "failed", "dry run",
		"bulk", "all or nothing", "gave up", "time passed", "over", "another engine", "fell back", "arrived", "too late", "asked again", "without an end"} {
		require.NotZero(t, met[what], "%s is not met; met are %v", what, met)
	}
	for _, fault := range Faults() {
		require.NotZero(t, met[fault.String()], "%s is not met", fault)
	}
}

// met counts what a simulation came to.
type met map[string]int

func (m met) add(other met) {
	for what, n := range other {
		m[what] += n
	}
}

// tick is how far time goes at once. Pauses between attempts are random, and not
// by the seed, but all are shorter; and time limits are whole ticks. So how long a
// pause was makes no difference.
const tick = 500 * time.Millisecond

// longest is how many ticks an engine takes for a commit.
const longest = 8

// most is how many things may happen before a seed counts as endless.
const most = 5000

// simulation is one seed.
type simulation struct {
	rng   *rand.Rand
	trace trace
	met   met
	step  int64 // the clock of the history

	distributor credit.Distributor
	now         time.Time // what engines take for the time, each by a clock of its own
	base        *memstore.Store
	written     []pending // that make the base
	fallen      int64     // the step at which the store last fell back to an earlier state
	onItsWay    []pending // appends that may yet arrive
	keeper      *node     // who holds the ledger
	holds       bool      // the store can be held
	falls       bool      // and may fall back to an earlier state

	faults    int // percent of the calls
	healed    bool
	left      int // ticks until an engine that everybody left is at rest, too
	engines   []*node
	opened    int
	clients   []*client
	calls     int // that are still to be made
	ids       []uuid.UUID
	shared    []credit.Command
	performed []performed
	log       []credit.Record // in the end

	mu     sync.Mutex
	parked []*parked
}

// client makes one call after the other.
type client struct {
	number  int
	seen    int64   // the last head that it read
	unknown []input // calls with keys whose answer was lost
	current *performed
	cancel  context.CancelFunc // nil: it cannot give up
	done    bool               // the call has ended
}

// performed is a call and its answer.
type performed struct {
	engine       int
	in           input
	out          output
	begun, ended int64
	happened     bool
	problem      string
}

// parked is a call of the store that waits until it is told what to do.
type parked struct {
	ctx    context.Context //nolint:containedctx // whether it is over matters while it waits
	node   *node
	client int // who reads, or nobody: an engine commits
	method string
	inside bool // by who holds the ledger
	detail line
	told   chan Fault
	answer error
	ended  bool
}

// simulate runs a seed and says what is wrong.
func simulate(t *testing.T, seed uint64) (*simulation, string) {
	t.Helper()
	s := &simulation{rng: newRand(seed, 0x51), met: met{}, base: memstore.New(), now: time.UnixMicro(1_750_000_000_000_000)}
	problem := ""
	synctest.Test(t, func(t *testing.T) { problem = s.run(t.Context()) })
	if problem == "" {
		problem = s.judge(seed)
	}
	return s, problem
}

func (s *simulation) note(format string, args ...any) {
	s.trace = append(s.trace, line{format, args})
}

func (s *simulation) run(ctx context.Context) string {
	s.distributor = credit.Distributor{ID: random(s.rng), Name: "Simulated", Currency: "USD"}
	s.faults = pickOne(s.rng, []int{0, 5, 15, 15, 40})
	s.holds, s.falls = s.rng.IntN(2) == 0, s.rng.IntN(3) == 0
	s.calls = 10 + s.rng.IntN(40)
	steady, err := store.Open(ctx, s.base, s.distributor, s.options())
	if err != nil {
		return err.Error()
	}
	begin := []credit.Command{credit.Grant{Amount: units(50 + s.rng.Int64N(100))}}
	for i := range 1 + s.rng.IntN(3) {
		begin = append(begin, credit.NewReseller{ExternalID: fmt.Sprintf("UIN-%d", i), Name: nameOf(fmt.Sprintf("UIN-%d", i))})
	}
	for _, c := range begin {
		p := performed{in: input{commands: []credit.Command{c}}}
		if p.out, p.happened, p.problem = call(ctx, steady, p.in); p.problem != "" || p.out.outcomes[0].Err != nil {
			return fmt.Sprintf("%s: %s%v", described{c}, p.problem, p.out.outcomes)
		}
		s.performed = append(s.performed, p)
		if id := p.out.outcomes[0].Receipt.ResellerID; id != uuid.Nil {
			s.ids = append(s.ids, id)
		}
	}
	s.remember(ctx)
	s.shared = sharedCommands(s.rng, s.ids)
	for range 1 + s.rng.IntN(3) {
		s.open(ctx, len(s.engines))
	}
	for i := range 1 + s.rng.IntN(6) {
		s.clients = append(s.clients, &client{number: i})
	}
	for s.act(ctx) {
		if s.step > most {
			return "it does not come to an end"
		}
	}
	return s.finish(ctx)
}

// remember keeps what the base holds, so that a store can fall back to it.
func (s *simulation) remember(ctx context.Context) {
	log, _ := s.base.Records(ctx, s.distributor.ID, credit.RecordQuery{Limit: credit.MaxPageSize})
	expected := credit.NewState(s.distributor).Head()
	found, _ := s.base.Load(ctx, s.distributor.ID, credit.ReadSet{Resellers: s.ids})
	s.written = []pending{{s.distributor.ID, expected, store.Batch{Records: log, Added: found.Resellers}, false}}
}

func nameOf(external string) string { return "Reseller " + external }

// options of an engine, whose ids are by the seed and whose clock may be wrong.
func (s *simulation) options() store.Options {
	wrong := time.Duration(s.rng.Int64N(int64(4*time.Second))) - 2*time.Second
	ids := newRand(s.rng.Uint64(), 0)
	var mu sync.Mutex
	o := store.Options{
		Now: func() time.Time { return s.now.Add(wrong) },
		NewID: func() uuid.UUID {
			mu.Lock()
			defer mu.Unlock()
			return random(ids)
		},
		CommitTimeout: tick * time.Duration(1+s.rng.IntN(longest)),
		Memory:        store.NewMemory(pickOne(s.rng, []int{1, 2, 100})),
	}
	switch s.rng.IntN(3) {
	case 0:
		o.MaxBatch = 1 + s.rng.IntN(4)
	case 1:
		o.MaxQueue = 1 + s.rng.IntN(6) // a bulk call that waits for nobody is let in all the same
	}
	return o
}

// open puts an engine in a place. What the one before was asked goes on there, as
// in a process that is being replaced.
func (s *simulation) open(ctx context.Context, place int) {
	n := &node{simulation: s, number: s.opened}
	s.opened++
	var on store.Store = n
	if s.holds {
		on = &keptNode{n}
	}
	n.ledger, _ = store.Open(ctx, on, s.distributor, s.options()) // asks for nothing but Create, which has no faults
	if place == len(s.engines) {
		s.engines = append(s.engines, n)
	} else {
		s.engines[place] = n
	}
}

// act does one thing, and is false when there is nothing left to do.
func (s *simulation) act(ctx context.Context) bool {
	s.settle()
	s.step++
	var idle, busy []*client
	for _, c := range s.clients {
		switch {
		case c.current == nil:
			idle = append(idle, c)
		case c.cancel != nil:
			busy = append(busy, c)
		}
	}
	ready := s.ready()
	working := len(idle) < len(s.clients) || s.waiting() > 0
	if s.calls == 0 && !working {
		// An engine whose callers all left may be between two attempts.
		s.left--
		if s.left < 0 {
			return false
		}
		s.pass()
		return true
	}
	for {
		switch n := s.rng.IntN(100); {
		case n < 55 && len(ready) > 0:
			s.release(pickOne(s.rng, ready))
		case n < 55 && working && len(idle) == 0 || n < 59 && working && !s.healed:
			s.pass()
		case n < 85 && s.calls > 0 && len(idle) > 0:
			s.calls--
			s.begin(ctx, pickOne(s.rng, idle))
		case n < 89 && len(busy) > 0 && s.faults > 0:
			c := pickOne(s.rng, busy)
			s.note("%d: client %d gives up", s.step, c.number)
			s.met["gave up"]++
			c.cancel()
			c.cancel, s.left = nil, longest+1
		case n < 95 && len(s.onItsWay) > 0 && s.keeper == nil:
			s.arrive()
		case n == 95 && s.faults > 0:
			place := s.rng.IntN(len(s.engines))
			s.note("%d: engine %d is replaced by engine %d", s.step, s.engines[place].number, s.opened)
			s.met["another engine"]++
			s.open(ctx, place)
		case n > 95 && s.falls && s.faults > 0 && s.keeper == nil && len(s.written) > 1:
			s.fallBack(ctx)
		default:
			if s.calls == 0 && len(ready) == 0 && working {
				s.pass() // only time helps
				return true
			}
			continue
		}
		return true
	}
}

// pass lets time go on by a tick.
func (s *simulation) pass() {
	s.note("%d: time passes", s.step)
	s.met["time passed"]++
	s.now = s.now.Add(tick)
	time.Sleep(tick)
}

// settle waits until everything waits, and notes what has come to an end.
func (s *simulation) settle() {
	synctest.Wait()
	s.now = s.now.Add(time.Microsecond)
	for _, c := range s.clients {
		if c.current == nil || !c.done {
			continue
		}
		p := c.current
		p.ended = s.step
		s.note("%d: client %d is answered: %s", s.step, c.number, *p)
		if p.happened && p.in.read == "head" {
			c.seen = p.out.head.Sequence
		}
		keyed := slices.ContainsFunc(p.in.commands, func(c credit.Command) bool { return keyOf(c) != "" })
		if p.in.read == "" && !p.in.options.DryRun && p.out.lost && keyed {
			c.unknown = append(c.unknown, p.in)
		}
		s.count(*p)
		s.performed = append(s.performed, *p)
		c.current, c.cancel, c.done = nil, nil, false
	}
}

func (s *simulation) count(p performed) {
	switch {
	case !p.happened:
		s.met["failed"]++
	case p.out.lost:
		s.met["lost"]++
	case p.in.options.DryRun:
		s.met["dry run"]++
	case p.in.options.AllOrNothing:
		s.met["all or nothing"]++
	case p.in.bulk:
		s.met["bulk"]++
	}
	for _, o := range p.out.outcomes {
		switch {
		case o.Err != nil:
			s.met["refused"]++
		case o.Receipt.Replayed:
			s.met["replayed"]++
		default:
			s.met["accepted"]++
		}
	}
}

func keyOf(c credit.Command) string {
	return reflect.ValueOf(c).FieldByName("Key").String()
}

// begin lets a client make its next call.
func (s *simulation) begin(ctx context.Context, c *client) {
	in := s.input(c)
	n := pickOne(s.rng, s.engines)
	c.current = &performed{engine: n.number, in: in, begun: s.step}
	p := c.current
	s.note("%d: client %d asks engine %d: %s", s.step, c.number, n.number, in)
	ctx = context.WithValue(ctx, clientKey{}, c.number+1)
	if s.rng.IntN(4) == 0 {
		ctx = context.WithoutCancel(ctx)
		s.met["without an end"]++
	} else {
		ctx, c.cancel = context.WithCancel(ctx)
	}
	go func() {
		p.out, p.happened, p.problem = call(ctx, n.ledger, in)
		c.done = true
	}()
}

type clientKey struct{}

// input is what a client asks next.
func (s *simulation) input(c *client) input {
	if len(c.unknown) > 0 && (s.healed || s.rng.IntN(10) < 6) {
		i := s.rng.IntN(len(c.unknown))
		in := c.unknown[i]
		c.unknown = slices.Delete(c.unknown, i, i+1)
		s.met["asked again"]++
		return in
	}
	in := input{client: c.number}
	label := fmt.Sprintf("%d/%d", c.number, s.rng.Uint64())
	own := func() credit.Command {
		id, amount, key := pickOne(s.rng, s.ids), units(1+s.rng.Int64N(40)), ""
		if s.rng.IntN(2) == 0 {
			key = "own " + label
		}
		switch s.rng.IntN(5) {
		case 0:
			return labelled(credit.Usage{ResellerID: id, Amount: amount, Key: key}, label)
		case 1:
			return labelled(credit.Repossession{ResellerID: id, Amount: amount, Key: key}, label)
		case 2:
			external := fmt.Sprintf("UIN-%d", s.rng.IntN(8))
			return labelled(credit.NewReseller{ExternalID: external, Name: nameOf(external), Key: key}, label)
		}
		return labelled(credit.Allocation{ResellerID: id, Amount: amount, Key: key}, label)
	}
	switch n := s.rng.IntN(20); {
	case n < 8:
		return nextInput(s.rng, c.number, s.ids, s.shared, c.seen)
	case n < 14:
		in.commands = []credit.Command{own()}
	case n < 16:
		in.commands = []credit.Command{pickOne(s.rng, s.shared)}
	default:
		in.bulk, in.options = true, credit.BulkOptions{AllOrNothing: s.rng.IntN(3) == 0, DryRun: s.rng.IntN(3) == 0}
		for i := range 1 + s.rng.IntN(4) {
			label = fmt.Sprintf("%s-%d", label, i)
			if s.rng.IntN(3) == 0 {
				in.commands = append(in.commands, pickOne(s.rng, s.shared))
			} else {
				in.commands = append(in.commands, own())
			}
		}
	}
	return in
}

// waiting is how many calls of the store there are.
func (s *simulation) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.parked)
}

// ready are the calls of the store that can go on, in an order of their own: that
// in which they came is not by the seed.
func (s *simulation) ready() []*parked {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortFunc(s.parked, func(a, b *parked) int {
		return cmp.Or(cmp.Compare(a.node.number, b.node.number), cmp.Compare(a.client, b.client))
	})
	var ready []*parked
	for _, p := range s.parked {
		// Who writes has to wait for the one who holds the ledger.
		if s.keeper == nil || p.inside || p.method != "Append" && p.method != "Hold" || p.ctx.Err() != nil {
			ready = append(ready, p)
		}
	}
	return ready
}

// release tells a call what to do, and waits until it has been done.
func (s *simulation) release(p *parked) {
	fault := NoFault
	over := p.ctx.Err() != nil
	switch {
	case over: // it must end, one way or the other
		fault = pickOne(s.rng, []Fault{Temporary, LostBefore, LostBefore, LostAfter, Stranded})
		if s.keeper != nil && !p.inside {
			fault = pickOne(s.rng, []Fault{Temporary, LostBefore})
		}
		s.met["over"]++
	case !s.healed && s.rng.IntN(100) < s.faults:
		fault = pickOne(s.rng, Faults())
		// That somebody came first would be a lie, and what is on its way would then
		// be written although it was excluded.
		if fault == Moved && len(s.onItsWay) > 0 {
			fault = Temporary
		}
	}
	s.mu.Lock()
	s.parked = slices.DeleteFunc(s.parked, func(other *parked) bool { return other == p })
	s.mu.Unlock()
	p.told <- fault
	synctest.Wait()
	s.met[p.method]++
	s.met[fault.String()]++
	what := "commit"
	if p.client > 0 {
		what = fmt.Sprintf("client %d", p.client-1)
	}
	answer := "panic"
	if p.ended {
		answer = fmt.Sprint(p.answer)
	}
	s.note("%d: engine %d: %s: %s %s: %s, over %t → %s", s.step, p.node.number, what, p.method, fmt.Sprintf(p.detail.format, p.detail.args...), fault, over, answer)
}

// arrive lets an append that was lost on its way be written, or come too late.
func (s *simulation) arrive() {
	i := s.rng.IntN(len(s.onItsWay))
	p := s.onItsWay[i]
	s.onItsWay = slices.Delete(s.onItsWay, i, i+1)
	err := s.append(p.expected, p.batch)
	s.note("%d: an append of %d records after record %d arrives → %v", s.step, len(p.batch.Records), p.expected.Sequence, err)
	if err == nil {
		s.met["arrived"]++
	} else {
		s.met["too late"]++
	}
}

// append writes to the base, and remembers that it did.
func (s *simulation) append(expected credit.Head, batch store.Batch) error {
	err := s.base.Append(context.Background(), s.distributor.ID, expected, batch)
	if err == nil {
		s.written = append(s.written, pending{s.distributor.ID, expected, copyOf(batch), false})
	}
	return err
}

// fallBack loses the last writes: a fail-over to a node that lagged behind.
func (s *simulation) fallBack(ctx context.Context) {
	last := s.written[len(s.written)-1].batch.Head()
	lost := 1 + s.rng.IntN(min(3, len(s.written)-1))
	s.written = s.written[:len(s.written)-lost]
	base := memstore.New()
	_, _ = base.Create(ctx, s.distributor)
	for _, p := range s.written {
		if err := base.Append(ctx, p.ledger, p.expected, p.batch); err != nil {
			panic(err)
		}
	}
	s.base, s.fallen, s.onItsWay = base, s.step, nil // what was on its way was on its way to the other
	s.note("%d: the store falls back by %d writes", s.step, lost)
	s.met["fell back"]++
	if s.rng.IntN(2) == 0 {
		s.refill(ctx, int(last.Sequence-s.written[len(s.written)-1].batch.Head().Sequence))
	}
}

// refill has somebody else write as many records as were lost: the head has the
// same sequence again, and is another.
func (s *simulation) refill(ctx context.Context, records int) {
	s.step++ // after the fall
	p := performed{in: input{client: len(s.clients), bulk: true}, begun: s.step, ended: s.step}
	for range records {
		p.in.commands = append(p.in.commands, labelled(credit.Usage{ResellerID: pickOne(s.rng, s.ids), Amount: units(1 + s.rng.Int64N(40))}, fmt.Sprint(s.rng.Uint64())))
	}
	other, err := store.Open(ctx, elsewhere{s.base, s}, s.distributor, s.options())
	if err != nil {
		panic(err)
	}
	p.out, p.happened, p.problem = call(ctx, other, p.in)
	s.note("%d: somebody else writes: %s → %s", s.step, p.in, p)
	s.performed = append(s.performed, p)
}

// elsewhere is the base without faults, for who writes at once.
type elsewhere struct {
	*memstore.Store
	simulation *simulation
}

func (e elsewhere) Append(_ context.Context, _ uuid.UUID, expected credit.Head, batch store.Batch) error {
	return e.simulation.append(expected, batch)
}

// finish heals everything: then what was never answered is asked again, and
// everybody is served, one by one and at the first try.
func (s *simulation) finish(ctx context.Context) string {
	for len(s.onItsWay) > 0 {
		s.arrive()
	}
	s.healed, s.faults = true, 0
	for _, c := range s.clients {
		for range len(c.unknown) + 1 {
			s.begin(ctx, c)
			for s.act(ctx) {
				if s.step > most {
					return "after everything healed, it does not come to an end"
				}
			}
			if p := s.performed[len(s.performed)-1]; !p.happened || p.out.lost {
				return fmt.Sprintf("after everything healed, client %d was not served: %s", c.number, p)
			}
		}
	}
	return s.readAll(ctx)
}

// readAll reads everything on an engine that knows nothing, past all faults.
func (s *simulation) readAll(ctx context.Context) string {
	fresh, err := store.Open(ctx, s.base, s.distributor, store.Options{Memory: store.NewMemory(1)})
	if err != nil {
		return err.Error()
	}
	if _, err := fresh.Check(ctx); err != nil {
		return "check: " + err.Error()
	}
	s.step++
	for _, read := range []string{"pool", "head", "resellers"} {
		p := performed{in: input{read: read}, begun: s.step, ended: s.step}
		if p.out, p.happened, p.problem = call(ctx, fresh, p.in); !p.happened {
			return p.problem
		}
		s.performed = append(s.performed, p)
	}
	s.log, err = s.base.Records(ctx, s.distributor.ID, credit.RecordQuery{Limit: credit.MaxPageSize})
	if err != nil {
		return err.Error()
	}
	return ""
}

// judge says what is wrong with what was seen.
func (s *simulation) judge(seed uint64) string {
	stored := map[uuid.UUID]credit.Hash{}
	h := &history{distributor: s.distributor, log: s.log, added: map[uuid.UUID]credit.NewReseller{}}
	for _, r := range s.log {
		stored[r.ID] = r.Hash
		if r.Kind == credit.KindAdd {
			h.added[r.ResellerID] = credit.NewReseller{Name: nameOf(r.ExternalID), BoundAt: r.RecordedAt}
		}
	}
	end := s.step + 1
	for _, p := range s.performed {
		keep, problem := s.survives(p, stored)
		if problem != "" {
			return problem
		}
		if !keep {
			continue
		}
		if p.out.lost {
			p.ended = end
			h.lost++
		}
		h.operations = append(h.operations, porcupine.Operation{ClientId: p.in.client, Input: p.in, Call: p.begun, Output: p.out, Return: p.ended})
	}
	h.operations = append(h.operations, porcupine.Operation{Input: input{read: "log"}, Call: end, Output: output{}, Return: end})
	if problem := h.prepare(); problem != "" {
		return problem
	}
	if seed%32 == 0 { // the word of place is tested elsewhere
		return h.check()
	}
	return h.place()
}

// survives tells whether an answer still has to be explained: of what was asked
// before the store fell back, only records that are still there.
func (s *simulation) survives(p performed, stored map[uuid.UUID]credit.Hash) (keep bool, problem string) {
	if !p.happened {
		return false, ""
	}
	if s.fallen == 0 || p.begun > s.fallen || p.out.lost {
		return true, ""
	}
	there, wrote := 0, 0
	for _, o := range p.out.outcomes {
		if p.in.wrote(o) {
			wrote++
			if stored[o.Receipt.ID] == o.Receipt.Hash {
				there++
			}
		}
	}
	if there > 0 && there < wrote {
		return false, fmt.Sprintf("of the %d records of one call, %d are there: %s", wrote, there, p)
	}
	return there > 0, ""
}

// String is for the trace, so it holds everything.
func (p performed) String() string {
	if !p.happened {
		return "nothing happened: " + p.problem
	}
	if p.out.lost {
		return "the answer is lost"
	}
	var text strings.Builder
	for _, o := range p.out.outcomes {
		_, _ = fmt.Fprintf(&text, "\n    %s %s %s", answered{o.Receipt, o.Err}, o.Receipt.ID, o.Receipt.Hash)
	}
	switch p.in.read {
	case "pool":
		return show(p.out.pool)
	case "head":
		return show(p.out.head)
	case "reseller":
		return show(p.out.reseller)
	case "resellers":
		return show(p.out.resellers)
	case "records":
		return show(p.out.records)
	}
	return text.String()
}

// String is for the trace.
func (in input) String() string {
	if in.read != "" {
		return fmt.Sprintf("%s %s after %d", in.read, in.id, in.after)
	}
	var text strings.Builder
	if in.bulk {
		_, _ = fmt.Fprintf(&text, "%+v", in.options)
	}
	for _, c := range in.commands {
		_, _ = fmt.Fprintf(&text, "\n    %s", described{c})
	}
	return text.String()
}

// node is the store as one engine has it: nothing is done before the simulation
// says so.
type node struct {
	simulation *simulation
	number     int
	ledger     *store.Ledger
}

// ask waits for its turn, and does as it is told.
func (n *node) ask(ctx context.Context, method string, inside bool, detail line, do func() error, hold func(bool)) error {
	s := n.simulation
	client, _ := ctx.Value(clientKey{}).(int)
	p := &parked{ctx: ctx, node: n, client: client, method: method, inside: inside, detail: detail, told: make(chan Fault)}
	s.mu.Lock()
	s.parked = append(s.parked, p)
	s.mu.Unlock()
	fault := <-p.told
	p.answer = inject(fault, FaultyCall{Method: method, Ledger: s.distributor.ID, Number: int(s.step)}, do, hold)
	p.ended = true
	return p.answer
}

// askFor is ask for what is read.
func askFor[T any](n *node, ctx context.Context, method string, inside bool, detail line, read func(context.Context) (T, error)) (T, error) {
	var v, none T
	err := n.ask(ctx, method, inside, detail, func() (err error) { v, err = read(context.Background()); return err }, nil)
	if err != nil {
		return none, err
	}
	return v, nil
}

func (n *node) Create(ctx context.Context, d credit.Distributor) (credit.Distributor, error) {
	return n.simulation.base.Create(ctx, d)
}

func (n *node) Load(ctx context.Context, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
	return n.load(ctx, ledger, asked, false)
}

func (n *node) load(ctx context.Context, ledger uuid.UUID, asked credit.ReadSet, inside bool) (credit.Snapshot, error) {
	return askFor(n, ctx, "Load", inside, line{"%v", []any{asked}}, func(ctx context.Context) (credit.Snapshot, error) {
		return n.simulation.base.Load(ctx, ledger, asked)
	})
}

func (n *node) Append(ctx context.Context, ledger uuid.UUID, expected credit.Head, batch store.Batch) error {
	s, batch := n.simulation, copyOf(batch)
	return n.ask(ctx, "Append", false, line{"of %d after record %d", []any{len(batch.Records), expected.Sequence}},
		func() error { return s.append(expected, batch) },
		func(bool) { s.onItsWay = append(s.onItsWay, pending{ledger, expected, batch, true}) })
}

func (n *node) Records(ctx context.Context, ledger uuid.UUID, q credit.RecordQuery) ([]credit.Record, error) {
	return askFor(n, ctx, "Records", false, line{"after %d before %d", []any{q.After, q.Before}}, func(ctx context.Context) ([]credit.Record, error) {
		return n.simulation.base.Records(ctx, ledger, q)
	})
}

func (n *node) Resellers(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery, after store.ResellerPosition) ([]credit.Reseller, error) {
	return askFor(n, ctx, "Resellers", false, line{"", nil}, func(ctx context.Context) ([]credit.Reseller, error) {
		return n.simulation.base.Resellers(ctx, ledger, q, after)
	})
}

func (n *node) CountResellers(context.Context, uuid.UUID, credit.ResellerQuery) (int, error) {
	panic("no client counts resellers")
}

func (n *node) Latest(context.Context, uuid.UUID, []uuid.UUID, []credit.Kind, int64) ([]credit.Record, error) {
	panic("no client asks for the past")
}

// keptNode is a node that can be held.
type keptNode struct{ *node }

func (k *keptNode) Holder() store.Store { return k }

func (k *keptNode) Hold(ctx context.Context, _ uuid.UUID, f func(store.Store) error) error {
	s := k.simulation
	defer func() {
		if s.keeper == k.node {
			s.keeper = nil
		}
	}()
	if err := k.ask(ctx, "Hold", false, line{}, func() error { s.keeper = k.node; return nil }, nil); err != nil {
		return err
	}
	held := &heldNode{node: k.node}
	if err := f(held); err != nil || len(held.batch.Records) == 0 {
		return err
	}
	return k.ask(ctx, "Commit", true, line{"of %d after record %d", []any{len(held.batch.Records), held.expected.Sequence}},
		func() error { return s.append(held.expected, held.batch) }, nil)
}

// heldNode is a node while it holds the ledger.
type heldNode struct {
	*node
	expected credit.Head
	batch    store.Batch
}

func (h *heldNode) Load(ctx context.Context, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
	return h.load(ctx, ledger, asked, true)
}

func (h *heldNode) Append(ctx context.Context, ledger uuid.UUID, expected credit.Head, batch store.Batch) error {
	batch = copyOf(batch)
	return h.ask(ctx, "Append", true, line{"of %d after record %d, held", []any{len(batch.Records), expected.Sequence}}, func() error {
		found, err := h.simulation.base.Load(context.Background(), ledger, credit.ReadSet{})
		if err != nil {
			return err
		}
		if found.Head.Sequence != expected.Sequence || found.Head.Hash != expected.Hash {
			return store.ErrMoved
		}
		h.expected, h.batch = expected, batch
		return nil
	}, nil)
}
