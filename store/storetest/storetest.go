// Package storetest is the test suite that defines a correct [store.Store].
// Whoever writes one for another database calls it from one test:
//
//	func TestConformance(t *testing.T) {
//		storetest.Run(t, storetest.Harness{
//			Open:   func(t testing.TB) store.Store { … a fresh, empty one … },
//			Reopen: func(t testing.TB, s store.Store) store.Store { … the same data, through another connection … },
//		})
//	}
//
// The suite has these parts, each a subtest that -run can select:
//
//   - port: every numbered rule of the port, on the store itself. When one fails,
//     the rule is printed.
//   - pages: the pages of a recorded ledger, cursors included, byte for byte the
//     same on every store.
//   - model: random commands through the engine, every answer compared with a
//     naive ledger written straight from the domain's rules.
//   - recording: one stream of commands that is always the same; every receipt,
//     refusal, record and reseller must be what it is on every other store, to the
//     last byte, and so must the hash of the head.
//   - histories: concurrent clients on one and two engines; what they saw must be
//     explained by some order of the calls, one at a time (linearizability).
//   - contention: many goroutines on one pool and on one idempotency key, and a
//     bank whose sums hold in whatever is read beside its writers.
//   - faults: a store that loses answers, delays commits, refuses and panics (see
//     [Faulty]); every acknowledged command must have happened exactly once.
//
// Everything random comes from one seed, which is printed. Nothing sleeps, and
// nothing depends on order or time zone.
package storetest

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// The defaults of a [Harness].
const (
	defaultSequences = 200
	defaultHistories = 20
	defaultBank      = 2_000
	defaultStorms    = 10
)

// The environment variables that override a harness, for longer runs of the same
// test and for repeating one.
const (
	sequencesVariable = "CREDIT_SEQUENCES"
	historiesVariable = "CREDIT_HISTORIES"
	bankVariable      = "CREDIT_BANK"
	stormsVariable    = "CREDIT_STORMS"
	seedVariable      = "CREDIT_SEED"
)

// Harness tells the suite how to get at the store that is tested.
type Harness struct {
	// Open returns a store without ledgers that shares nothing with any other; it
	// is cleaned up by t.Cleanup. It is called many times, also at once. Required.
	Open func(t testing.TB) store.Store

	// Reopen returns another handle on the same data, such as another process would
	// have: another connection pool, another node. Nil declares that the store
	// lives in one process; the tests that need a second handle are then skipped,
	// visibly, and those of two engines run both on one handle.
	Reopen func(t testing.TB, s store.Store) store.Store

	// Inside runs f with the store as it is inside a transaction of the caller's on
	// the same data, and commits the transaction. Nil declares that there is no such
	// thing; what is seen inside is then not tested, visibly.
	Inside func(t testing.TB, s store.Store, f func(inside store.Store))

	// Sequences is how many random sequences of commands the model test runs, and
	// Histories how many concurrent histories are checked; 0 means 200 and 20. The
	// environment variables CREDIT_SEQUENCES and CREDIT_HISTORIES override them.
	Sequences, Histories int

	// Bank is how many commands the writers of the bank send, and Storms how often
	// many callers send one key at the same moment; 0 means 2,000 and 10. The
	// environment variables CREDIT_BANK and CREDIT_STORMS override them.
	Bank, Storms int

	// Seed makes a run repeatable, as far as the order of goroutines permits; 0
	// takes one from the clock. CREDIT_SEED overrides it.
	Seed uint64
}

// Run runs the suite, as subtests of t that run in parallel.
func Run(t *testing.T, h Harness) {
	t.Helper()
	require.NotNil(t, h.Open, "Harness.Open is required")
	h.Sequences = int(fromEnvironment(t, sequencesVariable, uint64(max(h.Sequences, 0)), defaultSequences))
	h.Histories = int(fromEnvironment(t, historiesVariable, uint64(max(h.Histories, 0)), defaultHistories))
	h.Bank = int(fromEnvironment(t, bankVariable, uint64(max(h.Bank, 0)), defaultBank))
	h.Storms = int(fromEnvironment(t, stormsVariable, uint64(max(h.Storms, 0)), defaultStorms))
	h.Seed = fromEnvironment(t, seedVariable, h.Seed, uint64(time.Now().UnixNano()))
	t.Logf("%s=%d %s=%d %s=%d %s=%d %s=%d", seedVariable, h.Seed, sequencesVariable, h.Sequences, historiesVariable, h.Histories, bankVariable, h.Bank, stormsVariable, h.Storms)
	t.Run("port", h.port)
	t.Run("pages", h.pages)
	t.Run("model", h.model)
	t.Run("recording", h.recording)
	t.Run("histories", h.histories)
	t.Run("contention", h.contention)
	t.Run("faults", h.faults)
}

// fromEnvironment is the variable's value, else the given one, else the default.
func fromEnvironment(t *testing.T, variable string, given, or uint64) uint64 {
	t.Helper()
	if text, set := os.LookupEnv(variable); set && text != "" {
		v, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "environment variable %s", variable)
		return v
	}
	if given != 0 {
		return given
	}
	return or
}

// source returns the random source of one test or one part of it.
func (h Harness) source(t *testing.T, part ...any) *rand.Rand {
	t.Helper()
	name := fnv.New64a()
	_, _ = fmt.Fprint(name, append([]any{t.Name()}, part...)...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat with %s=%d", seedVariable, h.Seed)
		}
	})
	return newRand(h.Seed, name.Sum64())
}

func newRand(seed, stream uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, stream)) //nolint:gosec // a run must be repeatable from its seed
}

// second returns another handle on s if the harness has one, else s itself.
func (h Harness) second(t *testing.T, s store.Store) store.Store {
	t.Helper()
	if h.Reopen == nil {
		return s
	}
	return h.Reopen(t, s)
}

// needSecond is second for tests that mean nothing on one handle.
func (h Harness) needSecond(t *testing.T, s store.Store) store.Store {
	t.Helper()
	if h.Reopen == nil {
		t.Skip("capability not declared: Harness.Reopen is nil, so what a second handle on the same data sees was NOT checked")
	}
	return h.Reopen(t, s)
}

// random is a version 4 id from a seed.
func random(rng *rand.Rand) uuid.UUID {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(rng.UintN(256))
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

func newDistributor(rng *rand.Rand) credit.Distributor {
	return credit.Distributor{ID: random(rng), Name: "Acme Cloud", Currency: "USD"}
}

// within runs f and fails unless it ends in a time that is generous for any one
// step of a test. It waits for f and never sleeps.
func within(t *testing.T, limit time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		require.FailNow(t, what+" did not end", "waited %s", limit)
	}
}

// cancelled is a context that is over.
func cancelled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
