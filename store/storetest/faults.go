package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

func (h Harness) faults(t *testing.T) {
	for _, c := range []clause{
		{"a passing fault is not noticed", passingFaults},
		{"two faults in a row are not noticed", doubleFaults},
		{"an all-or-nothing call happens once and as a whole", faultsOnBulk},
		{"a final failure writes nothing and passes", finalFailure},
		{"a panic loses the answer, and the key finds it", panics},
		{"an append that never answers and is not written", strandedForGood},
		{"an append that is written after the engine gave up", strandedAndReleased},
		{"an append that comes after another one took its place", strandedAndOvertaken},
		{"a caller that leaves during the commit", leavingCaller},
		{"reads fail, and recover", failingReads},
		{"a storm of faults", storm},
		{"histories under faults", faultyHistories},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(h, t)
		})
	}
}

// bystanders are the faults that an engine must get over by itself.
var bystanders = []Fault{Moved, Temporary, LostBefore, LostAfter, Late, Stranded}

// prepared is a ledger with a pool of 100 and one reseller, without faults so far.
func prepared(t *testing.T, rng *rand.Rand, s store.Store) (credit.Distributor, credit.Receipt) {
	t.Helper()
	d := newDistributor(rng)
	l, err := store.Open(t.Context(), s, d, store.Options{})
	require.NoError(t, err)
	must(t, l, credit.Grant{Amount: units(100), Key: "grant"})
	return d, must(t, l, credit.NewReseller{ExternalID: "x", Name: "X", Key: "add"})
}

// faulty opens an engine of d over a faulty store.
func faulty(t *testing.T, s store.Store, d credit.Distributor, o store.Options, choose func(FaultyCall) Fault) (*Faulty, *store.Ledger) {
	t.Helper()
	f := NewFaulty(s, nil)
	l, err := store.Open(t.Context(), f, d, o)
	require.NoError(t, err)
	f.become(choose)
	return f, l
}

// persist is insist for an engine that is given little time, on a store that makes
// errors up: anything but the answer of a rule is tried again, within reason.
func persist(ctx context.Context, l credit.Ledger, c credit.Command) (receipt credit.Receipt, err error) {
	for range 1000 {
		receipt, err = send(ctx, l, c)
		if code := credit.Code(err); code != "internal" && code != "outcome_unknown" && code != "busy" {
			break
		}
	}
	return receipt, err
}

// littleTime is what engines are given that are to give up. It should be more than
// a commit takes; where it is not, what they are asked is asked again.
const littleTime = 250 * time.Millisecond

// requireLost sends a command until its answer is lost. On a machine that is busy,
// the engine's time may be over before it has appended anything.
func requireLost(t *testing.T, l credit.Ledger, c credit.Command) {
	t.Helper()
	for range 100 {
		_, err := send(t.Context(), l, c)
		require.Error(t, err, "no append is ever answered")
		if errors.Is(err, credit.ErrOutcomeUnknown) {
			return
		}
		require.Equal(t, "internal", credit.Code(err), "%v", err)
	}
	require.Fail(t, "the answer is never lost")
}

// requireOnce fails unless exactly the records with these remarks follow the two
// that were there, once each, and the ledger checks.
func requireOnce(t *testing.T, s store.Store, d credit.Distributor, remarks ...string) {
	t.Helper()
	l, err := store.Open(t.Context(), s, d, store.Options{})
	require.NoError(t, err)
	var found []string
	for _, r := range requireSound(t, l)[2:] {
		found = append(found, r.Remark)
	}
	require.ElementsMatch(t, remarks, found, "what was acknowledged happened exactly once, and nothing else")
}

func passingFaults(h Harness, t *testing.T) {
	s, rng := h.Open(t), h.source(t)
	for _, fault := range bystanders {
		for _, key := range []string{"", "key"} {
			for _, cold := range []bool{false, true} {
				d, added := prepared(t, rng, s)
				f, l := faulty(t, s, d, store.Options{}, nil)
				var remarks []string
				if !cold { // the engine remembers what it saw
					must(t, l, credit.Usage{ResellerID: added.ResellerID, Amount: units(1), Remark: "before", Key: "before"})
					remarks = append(remarks, "before")
				}
				f.become(Script(map[string][]Fault{"Append": {fault}}))
				receipt, err := l.Allocate(t.Context(), credit.Allocation{ResellerID: added.ResellerID, Amount: units(60), Key: key, Remark: "now"})
				require.NoError(t, err, "%s at an append", fault)
				require.False(t, receipt.Replayed, "%s: it happened now, and that is the answer", fault)
				f.Release()
				// What is remembered must be what is there: 60 more do not fit.
				_, err = l.Allocate(t.Context(), credit.Allocation{ResellerID: added.ResellerID, Amount: units(60)})
				require.ErrorIs(t, err, credit.ErrInsufficientPool, "%s: the next decision sees the effect", fault)
				requireOnce(t, s, d, append(remarks, "now")...)
			}
		}
	}
}

func doubleFaults(h Harness, t *testing.T) {
	s, rng := h.Open(t), h.source(t)
	for _, first := range bystanders {
		for _, second := range bystanders {
			d, added := prepared(t, rng, s)
			f, l := faulty(t, s, d, store.Options{}, Script(map[string][]Fault{"Append": {first, second}}))
			_, err := l.Allocate(t.Context(), credit.Allocation{ResellerID: added.ResellerID, Amount: units(60), Remark: "now"})
			require.NoError(t, err, "%s, then %s", first, second)
			f.Release()
			_, err = l.Allocate(t.Context(), credit.Allocation{ResellerID: added.ResellerID, Amount: units(60)})
			require.ErrorIs(t, err, credit.ErrInsufficientPool)
			requireOnce(t, s, d, "now")
		}
	}
}

func faultsOnBulk(h Harness, t *testing.T) {
	s, rng := h.Open(t), h.source(t)
	for _, fault := range Faults() {
		d, added := prepared(t, rng, s)
		f, l := faulty(t, s, d, store.Options{}, Script(map[string][]Fault{"Append": {fault}}))
		commands := []credit.Command{
			credit.Allocation{ResellerID: added.ResellerID, Amount: units(30), Key: "1", Remark: "1"},
			credit.NewReseller{ExternalID: "y", Name: "Y", Key: "2", Remark: "2"},
			credit.RepossessAll{ResellerID: added.ResellerID, Key: "3", Remark: "3"}}
		tries := 0
		for again := true; again; tries++ {
			outcomes, err := l.Bulk(t.Context(), commands, credit.BulkOptions{AllOrNothing: true})
			again = err != nil
			if again {
				require.True(t, errors.Is(err, credit.ErrOutcomeUnknown) || errors.Is(err, errFault), "%s: %v", fault, err)
				require.Less(t, tries, 3, "%s: %v", fault, err)
			}
			for _, o := range outcomes {
				require.NoError(t, o.Err, "%s", fault)
			}
		}
		f.Release()
		requireOnce(t, s, d, "1", "2", "3")
	}
}

func finalFailure(h Harness, t *testing.T) {
	s, rng := h.Open(t), h.source(t)
	d, added := prepared(t, rng, s)
	f, l := faulty(t, s, d, store.Options{}, Script(map[string][]Fault{"Append": {Final, NoFault, Final, Final}}))
	c := credit.Allocation{ResellerID: added.ResellerID, Amount: units(60), Key: "k", Remark: "now"}
	_, err := l.Allocate(t.Context(), c)
	requirePlain(t, err)
	_, err = l.Allocate(t.Context(), c)
	require.NoError(t, err, "a failed command does not consume its key")
	for range 2 {
		_, err = l.RecordUsage(t.Context(), credit.Usage{ResellerID: added.ResellerID, Amount: units(1), Remark: "failed"})
		requirePlain(t, err)
	}
	f.Heal()
	_, err = l.RecordUsage(t.Context(), credit.Usage{ResellerID: added.ResellerID, Amount: units(1), Remark: "later"})
	require.NoError(t, err)
	requireOnce(t, s, d, "now", "later")

	// Beside others, only those fail that are at fault.
	var bad atomic.Int64
	bad.Store(1)
	f.become(func(c FaultyCall) Fault {
		if c.Method == "Append" && bad.Add(-1) >= 0 {
			return Final
		}
		return NoFault
	})
	errs := make([]error, 8)
	together(t, len(errs), "calls beside a failure", func(i int) {
		_, errs[i] = l.RecordUsage(t.Context(), credit.Usage{ResellerID: added.ResellerID, Amount: units(1), Remark: fmt.Sprint(i), Key: fmt.Sprint(i)})
	})
	want := []string{"now", "later"}
	for i, err := range errs {
		if err == nil {
			want = append(want, fmt.Sprint(i))
		} else {
			requirePlain(t, err)
		}
	}
	require.GreaterOrEqual(t, len(want), 2+len(errs)-1, "one failure fails at most one call")
	requireOnce(t, s, d, want...)
}

// requirePlain fails unless the error is of the store, and certain.
func requirePlain(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, errFault, "an error of the store passes through")
	for _, refusal := range refusals {
		require.NotErrorIs(t, err, refusal, "an error of the store never matches a refusal, and its outcome is known")
	}
}

func panics(h Harness, t *testing.T) {
	s, rng := h.Open(t), h.source(t)
	for _, fault := range []Fault{Panic, PanicAfter} {
		for _, method := range []string{"Append", "Load"} {
			d, added := prepared(t, rng, s)
			_, l := faulty(t, s, d, store.Options{}, Script(map[string][]Fault{method: {fault}}))
			c := credit.Allocation{ResellerID: added.ResellerID, Amount: units(60), Key: "k", Remark: "now"}
			var err error
			// In a goroutine, so that a context without an end is tried, too, where the
			// engine may run the commit in the caller's own.
			for _, ctx := range []context.Context{context.WithoutCancel(t.Context()), t.Context()} {
				within(t, time.Minute, "a call whose store panics", func() { _, err = l.Allocate(ctx, c) })
				if err != nil {
					require.ErrorIs(t, err, credit.ErrOutcomeUnknown, "a %s in %s", fault, method)
				}
			}
			require.NoError(t, err, "the engine goes on after a %s in %s", fault, method)
			requireOnce(t, s, d, "now")
		}
	}
}

func strandedForGood(h Harness, t *testing.T) {
	s, rng := h.Open(t), h.source(t)
	d, added := prepared(t, rng, s)
	f, l := faulty(t, s, d, store.Options{CommitTimeout: littleTime}, func(c FaultyCall) Fault {
		if c.Method == "Append" {
			return LostBefore
		}
		return NoFault
	})
	c := credit.Allocation{ResellerID: added.ResellerID, Amount: units(60), Key: "k", Remark: "now"}
	requireLost(t, l, c)
	requireOnce(t, s, d)
	f.Heal()
	receipt, err := persist(t.Context(), l, c)
	require.NoError(t, err, "retrying with the same key is safe")
	require.False(t, receipt.Replayed)
	requireOnce(t, s, d, "now")
}

// strandOne opens an engine whose first append is stranded and that gets no other
// through, and sends it the command.
func strandOne(t *testing.T, s store.Store, d credit.Distributor, c credit.Allocation) (*Faulty, *store.Ledger) {
	t.Helper()
	f, l := faulty(t, s, d, store.Options{CommitTimeout: littleTime}, func(c FaultyCall) Fault {
		switch {
		case c.Method == "Append" && c.Number == 1:
			return Stranded
		case c.Method == "Append":
			return LostBefore
		}
		return NoFault
	})
	requireLost(t, l, c)
	f.Heal()
	return f, l
}

func strandedAndReleased(h Harness, t *testing.T) {
	s, rng := h.Open(t), h.source(t)
	for _, sameEngine := range []bool{true, false} {
		d, added := prepared(t, rng, s)
		c := credit.Allocation{ResellerID: added.ResellerID, Amount: units(60), Key: "k", Remark: "now"}
		f, l := strandOne(t, s, d, c)
		require.Equal(t, 1, f.Release(), "the append is written after all")
		if !sameEngine {
			var err error
			l, err = store.Open(t.Context(), s, d, store.Options{})
			require.NoError(t, err)
		}
		_, err := persist(t.Context(), l, credit.Allocation{ResellerID: added.ResellerID, Amount: units(60), Key: "more"})
		require.ErrorIs(t, err, credit.ErrInsufficientPool, "nothing from before the unknown outcome is remembered")
		receipt, err := persist(t.Context(), l, c)
		require.NoError(t, err)
		require.True(t, receipt.Replayed, "the key finds what happened")
		requireOnce(t, s, d, "now")
	}
}

func strandedAndOvertaken(h Harness, t *testing.T) {
	s, rng := h.Open(t), h.source(t)
	d, added := prepared(t, rng, s)
	c := credit.Allocation{ResellerID: added.ResellerID, Amount: units(60), Key: "k", Remark: "now"}
	f, l := strandOne(t, s, d, c)
	_, err := persist(t.Context(), l, credit.Usage{ResellerID: added.ResellerID, Amount: units(1), Remark: "other", Key: "other"})
	require.NoError(t, err)
	require.Zero(t, f.Release(), "another record is where the late append wanted to be")
	requireOnce(t, s, d, "other")
	receipt, err := persist(t.Context(), l, c)
	require.NoError(t, err)
	require.False(t, receipt.Replayed, "it did not happen before")
	requireOnce(t, s, d, "other", "now")
}

func leavingCaller(h Harness, t *testing.T) {
	s, rng := h.Open(t), h.source(t)
	d, added := prepared(t, rng, s)
	entered, gate := make(chan struct{}, 1), make(chan struct{})
	f, l := faulty(t, s, d, store.Options{}, func(c FaultyCall) Fault {
		if c.Method == "Append" && c.Number == 1 {
			entered <- struct{}{}
			<-gate
		}
		return NoFault
	})
	c := credit.Allocation{ResellerID: added.ResellerID, Amount: units(60), Key: "k", Remark: "now"}
	ctx, cancel := context.WithCancel(t.Context())
	var err, waiting error
	within(t, time.Minute, "a caller that leaves during the commit, and one that leaves the queue", func() {
		left := make(chan struct{})
		go func() { defer close(left); _, err = l.Allocate(ctx, c) }()
		<-entered
		// This one waits behind the first, and leaves, too.
		also := make(chan struct{})
		go func() {
			defer close(also)
			_, waiting = l.RecordUsage(ctx, credit.Usage{ResellerID: added.ResellerID, Amount: units(1), Remark: "never"})
		}()
		cancel()
		<-left
		<-also
	})
	require.ErrorIs(t, err, credit.ErrOutcomeUnknown, "it left while its command was being committed")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, waiting, context.Canceled, "it left the queue")
	require.NotErrorIs(t, waiting, credit.ErrOutcomeUnknown, "and nothing happened")
	close(gate)
	f.Heal()
	receipt, err := insist(t.Context(), l, c)
	require.NoError(t, err)
	require.True(t, receipt.Replayed, "the commit went on without its caller")
	requireOnce(t, s, d, "now")
}

func failingReads(h Harness, t *testing.T) {
	s, rng := h.Open(t), h.source(t)
	d, added := prepared(t, rng, s)
	all := map[string][]Fault{"Load": {Temporary, Temporary}, "Resellers": {Temporary, Temporary}, "Records": {Temporary, Temporary}}
	_, l := faulty(t, s, d, store.Options{}, Script(all))
	_, err := l.Pool(t.Context())
	require.NoError(t, err, "a read is repeated after a temporary failure")
	page, err := l.Resellers(t.Context(), credit.ResellerQuery{})
	require.NoError(t, err)
	require.Len(t, page.Items, 1)
	records, err := l.Records(t.Context(), credit.RecordQuery{})
	require.NoError(t, err)
	require.Len(t, records.Items, 2)

	for _, fault := range []Fault{Final, LostBefore, LostAfter} {
		_, l := faulty(t, s, d, store.Options{}, Script(map[string][]Fault{"Load": {fault, fault}, "Resellers": {fault}, "Records": {fault}}))
		_, err = l.Reseller(t.Context(), added.ResellerID)
		requirePlain(t, err)
		_, err = l.Resellers(t.Context(), credit.ResellerQuery{})
		requirePlain(t, err)
		_, err = l.Records(t.Context(), credit.RecordQuery{})
		requirePlain(t, err)
		_, err = l.Allocate(t.Context(), credit.Allocation{ResellerID: added.ResellerID, Amount: units(1), Remark: "never"})
		requirePlain(t, err)
	}
	requireOnce(t, s, d)

	// While a lost answer is looked for, looking fails, too.
	for _, fault := range []Fault{Temporary, Final, LostBefore} {
		for _, lost := range []Fault{LostBefore, LostAfter, Late} {
			d, added := prepared(t, rng, s)
			_, l := faulty(t, s, d, store.Options{}, Script(map[string][]Fault{"Append": {lost}, "Records": {fault, fault}}))
			_, err := l.Allocate(t.Context(), credit.Allocation{ResellerID: added.ResellerID, Amount: units(1), Remark: "now"})
			require.NoError(t, err, "append %s, records %s", lost, fault)
			requireOnce(t, s, d, "now")
		}
	}
	f := NewFaulty(s, Script(map[string][]Fault{"Create": {Temporary, Temporary}}))
	_, err = store.Open(t.Context(), f, d, store.Options{})
	require.NoError(t, err, "opening is repeated after a temporary failure")
}

// storm has many clients work through faults of every sort, on two engines, until
// each of their commands is answered; then what they were told must be what is
// there.
func storm(h Harness, t *testing.T) {
	const clients, each = 16, 20
	s, rng := h.Open(t), h.source(t)
	second := h.second(t, s)
	seed := rng.Uint64()
	d, added := prepared(t, rng, s)
	var engines []*store.Ledger
	var stores []*Faulty
	for i, on := range []store.Store{s, second} {
		f, l := faulty(t, on, d, store.Options{CommitTimeout: littleTime}, Chance(seed+uint64(i), 20, Faults()...))
		stores, engines = append(stores, f), append(engines, l)
	}
	type told struct {
		receipt credit.Receipt
		err     error
		unkeyed bool
	}
	answers, seeds := make([][each]told, clients), make([]uint64, clients)
	for i := range seeds {
		seeds[i] = rng.Uint64()
	}
	together(t, clients, "a storm", func(i int) {
		rng := newRand(seeds[i], uint64(i))
		for j := range each {
			c := stormCommand(rng, added)
			label := fmt.Sprintf("%d/%d", i, j)
			a := told{unkeyed: rng.IntN(4) == 0}
			l := engines[rng.IntN(len(engines))]
			if a.unkeyed {
				a.receipt, a.err = send(t.Context(), l, labelled(c, label))
			} else {
				a.receipt, a.err = persist(t.Context(), l, labelled(completed(c, added.ResellerID, units(1+rng.Int64N(9)), "key "+label), label))
			}
			answers[i][j] = a
		}
	})
	for _, f := range stores {
		f.Heal()
		f.Release()
	}
	clean, err := store.Open(t.Context(), s, d, store.Options{})
	require.NoError(t, err)
	log := requireSound(t, clean)
	byKey(t, log)
	found := map[string][]credit.Record{}
	for _, r := range log[2:] {
		found[r.Reference] = append(found[r.Reference], r)
	}
	accepted, refused, unknown := 0, 0, 0
	for i := range answers {
		for j, a := range answers[i] {
			records := found[fmt.Sprintf("%d/%d", i, j)]
			delete(found, fmt.Sprintf("%d/%d", i, j))
			switch {
			case a.err == nil:
				accepted++
				require.Len(t, records, 1, "an acknowledged command happened exactly once")
				requireSame(t, records[0], a.receipt.Record, "the record that was acknowledged")
			case errors.Is(a.err, credit.ErrOutcomeUnknown):
				unknown++
				require.True(t, a.unkeyed, "with a key, it was sent until it was answered")
				require.LessOrEqual(t, len(records), 1, "a command whose answer was lost happened once, or not at all")
			default:
				refused++
				require.Empty(t, records, "a command that was refused, or failed for certain, did not happen: %v", a.err)
			}
		}
	}
	require.Empty(t, found, "nothing happened that nobody asked for")
	t.Logf("%d accepted, %d refused or failed, %d unknown", accepted, refused, unknown)
}

func stormCommand(rng *rand.Rand, to credit.Receipt) credit.Command {
	amount := units(1 + rng.Int64N(9))
	switch rng.IntN(6) {
	case 0:
		return credit.Usage{ResellerID: to.ResellerID, Amount: amount}
	case 1:
		return credit.Repossession{ResellerID: to.ResellerID, Amount: amount}
	case 2:
		return credit.Settlement{ResellerID: to.ResellerID, Amount: amount}
	case 3:
		return credit.Grant{Amount: amount}
	}
	return credit.Allocation{ResellerID: to.ResellerID, Amount: amount}
}

func faultyHistories(h Harness, t *testing.T) {
	s, rng := h.Open(t), h.source(t)
	second := h.second(t, s)
	var done tally
	for i := range max(2, h.Histories/5) {
		seed := rng.Uint64()
		set := setting{tolerant: true, options: store.Options{CommitTimeout: littleTime}}
		var stores []*Faulty
		for _, on := range []store.Store{s, second}[:1+i%2] {
			f := NewFaulty(on, nil)
			stores, set.stores = append(stores, f), append(set.stores, f)
		}
		set.begin = func() {
			for j, f := range stores {
				f.become(Chance(seed+uint64(j), 15, Faults()...))
			}
		}
		set.end = func() {
			for _, f := range stores {
				f.Heal()
				f.Release()
			}
		}
		done.requireLinearizable(t, fmt.Sprintf("%s=%d, history %d", seedVariable, h.Seed, i), set, newRand(seed, 1))
	}
	done.log(t)
}
