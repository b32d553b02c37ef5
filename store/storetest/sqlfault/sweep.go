package sqlfault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// Sweep runs every kind of command, a bulk call and a replay, each once for every
// fault at every statement that it takes, with an engine that remembers the
// ledger, with one that does not, and, if the store is a [store.Holder], with one
// that holds it because others write. Whatever the answer, nothing may be half
// done, the same command with the same key must succeed afterwards and be in the
// log once, and the ledger must pass its check.
//
// Open returns two stores on the same tables: one whose statements get the faults
// that the chooser chooses, and one that is left alone. Amounts, and what is in the
// ledger beforehand, come from a seed, which is printed and which the environment
// variable CREDIT_SEED sets. Sweep returns how many faults it made.
func Sweep(t *testing.T, open func(t testing.TB, choose Chooser) (faulty, sound store.Store)) int {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("CREDIT_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("environment variable CREDIT_SEED: %v", err)
		}
	}
	t.Logf("CREDIT_SEED=%d", seed)
	s := &sweep{rng: rand.New(rand.NewPCG(seed, 0))} //nolint:gosec // a run must be repeatable from its seed
	s.faulty, s.sound = open(t, s.choose)
	ways := []way{remembered, forgotten}
	if holder, ok := s.faulty.(store.Holder); ok && holder.Holder() == s.faulty {
		s.holds = &counter{Store: holder, holder: holder}
		s.faulty = s.holds
		ways = append(ways, held)
	}
	for _, c := range cases(credit.FromMillionths(1 + s.rng.Int64N(5_000_000))) {
		for _, w := range ways {
			t.Run(fmt.Sprintf("%s, %s", c.name, w), func(t *testing.T) {
				statements := s.visit(t, c, w, 0, None)
				if statements == 0 {
					t.Fatal("it takes no statement, so no fault can be made")
				}
				for number := 1; number <= statements; number++ {
					for _, fault := range Faults() {
						s.visit(t, c, w, number, fault)
						s.made++
					}
				}
			})
		}
	}
	return s.made
}

// way is how the engine comes to what it decides on.
type way string

const (
	remembered way = "remembered"
	forgotten  way = "not remembered"
	held       way = "held"
)

// counter counts how often a store is held.
type counter struct {
	store.Store
	holder store.Holder
	holds  int
}

func (c *counter) Holder() store.Store { return c }

func (c *counter) Hold(ctx context.Context, ledger uuid.UUID, f func(store.Store) error) error {
	c.holds++
	return c.holder.Hold(ctx, ledger, f)
}

type sweep struct {
	faulty, sound store.Store
	holds         *counter // nil if it cannot be held
	made          int
	rng           *rand.Rand

	armed atomic.Bool
	seen  atomic.Int64
	at    int64
	fault Fault
}

// choose makes the fault at one of the statements since it was armed.
func (s *sweep) choose(context.Context, Statement) Fault {
	if s.armed.Load() && s.seen.Add(1) == s.at {
		return s.fault
	}
	return None
}

// visit runs the case in a ledger of its own with one fault, and returns how many
// statements it took.
func (s *sweep) visit(t *testing.T, c sweepCase, w way, number int, fault Fault) int {
	t.Helper()
	ctx := t.Context()
	where := fmt.Sprintf("statement %d %s", number, fault)
	check := func(err error, what string) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %s: %v", where, what, err)
		}
	}
	d := credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}
	memory := store.NewMemory(100)
	sound, err := store.Open(ctx, s.sound, d, store.Options{Memory: memory})
	check(err, "open the ledger")
	reseller := s.prepare(ctx, t, sound, c)
	commands := c.commands(reseller)
	if c.replay {
		_, err := sound.Bulk(ctx, commands, credit.BulkOptions{AllOrNothing: true})
		check(err, "the first time")
	}
	faulty, err := store.Open(ctx, s.faulty, d, store.Options{Memory: memory})
	check(err, "open the ledger through the faulty driver")
	var earlier []*store.Ledger
	switch w {
	case remembered:
		earlier = []*store.Ledger{faulty}
	case held:
		earlier = []*store.Ledger{faulty, sound, faulty} // which then finds that somebody wrote
	}
	for _, l := range earlier {
		_, err := l.RecordUsage(ctx, credit.Usage{ResellerID: reseller, Amount: decimal.New(1, 0)})
		check(err, "write beforehand")
	}
	before, err := sound.Head(ctx)
	check(err, "read the head")
	holds := 0
	if s.holds != nil {
		holds = s.holds.holds
	}

	s.at, s.fault = int64(number), fault
	s.seen.Store(0)
	s.armed.Store(true)
	outcomes, err := faulty.Bulk(ctx, commands, credit.BulkOptions{AllOrNothing: true})
	s.armed.Store(false)
	statements := int(s.seen.Load())
	if s.holds != nil && (s.holds.holds > holds) != (w == held) && fault == None {
		t.Fatalf("%s: the ledger was held %d times", w, s.holds.holds-holds)
	}

	after, headErr := sound.Head(ctx)
	check(headErr, "read the head")
	wrote := after.Sequence - before.Sequence
	expected := int64(len(commands))
	if c.replay {
		expected = 0
	}
	switch {
	case err == nil && wrote != expected:
		t.Fatalf("%s: it was answered, and %d of %d records are there", where, wrote, expected)
	case err == nil:
		for _, o := range outcomes {
			check(o.Err, "an outcome")
			if o.Receipt.Replayed != c.replay {
				t.Fatalf("%s: replayed is %t", where, o.Receipt.Replayed)
			}
		}
	case wrote != 0 && wrote != expected:
		t.Fatalf("%s: %d of %d records are there after %v", where, wrote, expected, err)
	case wrote != 0 && !errors.Is(err, credit.ErrOutcomeUnknown):
		t.Fatalf("%s: the records are there, and the error does not say that this is possible: %v", where, err)
	case refusal(err):
		t.Fatalf("%s: an error of the database is told as a refusal: %v", where, err)
	}

	again, retryErr := sound.Bulk(ctx, commands, credit.BulkOptions{AllOrNothing: true})
	check(retryErr, "the same call with the same keys")
	for i, o := range again {
		check(o.Err, "an outcome of the same call with the same keys")
		if err == nil && (o.Receipt.ID != outcomes[i].Receipt.ID || !o.Receipt.Replayed) {
			t.Fatalf("%s: what was answered is not what is replayed", where)
		}
	}
	end, headErr := sound.Head(ctx)
	check(headErr, "read the head")
	if end.Sequence != before.Sequence+expected {
		t.Fatalf("%s: %d records at the end instead of %d", where, end.Sequence-before.Sequence, expected)
	}
	_, err = sound.Check(ctx)
	check(err, "check the ledger")
	return statements
}

// refusal tells whether the error is a rule's answer.
func refusal(err error) bool {
	switch credit.Code(err) {
	case "internal", "outcome_unknown", "busy":
		return false
	}
	return true
}

// sweepCase is a call: commands for a reseller, whose ledger is made ready first.
type sweepCase struct {
	name     string
	ready    func(reseller uuid.UUID) []credit.Command
	commands func(reseller uuid.UUID) []credit.Command
	replay   bool
}

// prepare adds a reseller of 500, used 100 or somewhat more, to a pool of 1,000.
func (s *sweep) prepare(ctx context.Context, t *testing.T, l *store.Ledger, c sweepCase) uuid.UUID {
	t.Helper()
	added, err := l.AddReseller(ctx, credit.NewReseller{Name: "Nimbus", ExternalID: "200012345678"})
	if err != nil {
		t.Fatal(err)
	}
	reseller := added.ResellerID
	commands := []credit.Command{credit.Grant{Amount: decimal.New(1000, 0)},
		credit.Allocation{ResellerID: reseller, Amount: decimal.New(500, 0)}, credit.Usage{ResellerID: reseller, Amount: decimal.New(100, 0)}}
	for range s.rng.IntN(4) {
		commands = append(commands, credit.Usage{ResellerID: reseller, Amount: credit.FromMillionths(1 + s.rng.Int64N(50_000_000))})
	}
	if c.ready != nil {
		commands = append(commands, c.ready(reseller)...)
	}
	outcomes, err := l.Bulk(ctx, commands, credit.BulkOptions{AllOrNothing: true})
	for _, o := range outcomes {
		err = errors.Join(err, o.Err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return reseller
}

func cases(amount decimal.Decimal) []sweepCase {
	one := func(name string, c func(r uuid.UUID) credit.Command, ready ...func(r uuid.UUID) credit.Command) sweepCase {
		return sweepCase{name: name,
			ready: func(r uuid.UUID) (all []credit.Command) {
				for _, c := range ready {
					all = append(all, c(r))
				}
				return all
			},
			commands: func(r uuid.UUID) []credit.Command { return []credit.Command{c(r)} }}
	}
	freeze := func(r uuid.UUID) credit.Command { return credit.Freeze{ResellerID: r} }
	empty := func(r uuid.UUID) credit.Command { return credit.RepossessAll{ResellerID: r} }
	mixed := func(r uuid.UUID) []credit.Command {
		return []credit.Command{
			credit.Allocation{ResellerID: r, Amount: amount, Key: "k1"}, credit.NewReseller{Name: "Second", ExternalID: "2", Key: "k2"},
			credit.Usage{ResellerID: r, Amount: amount, Customer: "c", Metadata: map[string]string{"a": "b"}, Key: "k3"},
			credit.ProfileUpdate{ResellerID: r, Name: new("Cirrus"), Key: "k4"}, credit.Freeze{ResellerID: r, Key: "k5"}}
	}
	return []sweepCase{
		one("grant", func(uuid.UUID) credit.Command { return credit.Grant{Amount: amount, Key: "k"} }),
		one("withdraw", func(uuid.UUID) credit.Command { return credit.Withdrawal{Amount: amount, Key: "k"} }),
		one("allocate", func(r uuid.UUID) credit.Command { return credit.Allocation{ResellerID: r, Amount: amount, Key: "k"} }),
		one("repossess", func(r uuid.UUID) credit.Command {
			return credit.Repossession{ResellerID: r, Amount: amount, Key: "k"}
		}),
		one("repossess all", func(r uuid.UUID) credit.Command { return credit.RepossessAll{ResellerID: r, Key: "k"} }),
		one("usage", func(r uuid.UUID) credit.Command { return credit.Usage{ResellerID: r, Amount: amount, Key: "k"} }),
		one("correction", func(r uuid.UUID) credit.Command { return credit.Correction{ResellerID: r, Amount: amount, Key: "k"} }),
		one("settle", func(r uuid.UUID) credit.Command { return credit.Settlement{ResellerID: r, Amount: amount, Key: "k"} }),
		one("add", func(uuid.UUID) credit.Command {
			return credit.NewReseller{Name: "Second", ExternalID: "2", Key: "k"}
		}),
		one("update", func(r uuid.UUID) credit.Command {
			return credit.ProfileUpdate{ResellerID: r, Name: new("Cirrus"), Key: "k"}
		}),
		one("freeze", func(r uuid.UUID) credit.Command { return credit.Freeze{ResellerID: r, Key: "k"} }),
		one("unfreeze", func(r uuid.UUID) credit.Command { return credit.Unfreeze{ResellerID: r, Key: "k"} }, freeze),
		one("close", func(r uuid.UUID) credit.Command { return credit.Close{ResellerID: r, Key: "k"} }, empty),
		{name: "bulk of five", commands: mixed},
		{name: "bulk of five, replayed", commands: mixed, replay: true},
	}
}
