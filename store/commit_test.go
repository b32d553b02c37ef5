package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
)

// The tests of this file run in bubbles of testing/synctest, which fails a test
// when everybody waits for ever.

// held blocks the first call of a store's method until it is let go.
type held struct {
	first sync.Once
	pass  chan struct{}
}

func newHeld() *held { return &held{pass: make(chan struct{})} }

func (h *held) here() { h.first.Do(func() { <-h.pass }) }

func (h *held) letGo() { close(h.pass) }

// behindLeader starts a caller whose Append is held, so that all who call now queue.
func (b *book) behindLeader() (leader caller, h *held) {
	h = newHeld()
	b.store.append = func(_ context.Context, _ credit.Head, _ store.Batch, next func() error) error {
		h.here()
		return next()
	}
	leader = b.start(context.Background(), b.allocation("1", "leader")) // has no Done, so it leads in its own goroutine
	synctest.Wait()
	return leader, h
}

func TestACallerThatIsCancelledBeforeItQueuesHadNothingHappen(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Allocate(ctx, b.allocation("5", "k"))
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, credit.ErrOutcomeUnknown, "nothing happened, so the outcome is known")
	assert.Empty(t, b.withKey("k"), "a cancelled caller's command was written")
	b.allocate("1")
}

func TestACallerThatIsCancelledWhileItQueuesHadNothingHappen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{})
		leader, h := b.behindLeader()
		ctx, cancel := context.WithCancel(t.Context())
		before, gone, after := b.start(t.Context(), b.allocation("2", "before")), b.start(ctx, b.allocation("3", "gone")), b.start(t.Context(), b.allocation("4", "after"))
		synctest.Wait()

		cancel()
		synctest.Wait()
		a := gone.get()
		require.ErrorIs(t, a.err, context.Canceled)
		require.NotErrorIs(t, a.err, credit.ErrOutcomeUnknown, "it was removed from the queue, so the outcome is known")

		h.letGo()
		for key, w := range map[string]caller{"leader": leader, "before": before, "after": after} {
			a := w.get()
			require.NoError(t, a.err)
			assert.Equal(t, key, a.Key, "a caller got somebody else's answer")
		}
		assert.Empty(t, b.withKey("gone"), "a caller that was told that nothing happened finds a record")
		b.allocate("1")
		b.sound()
	})
}

// A deadline is a cancellation, and a caller that leaves leaves the others alone.
func TestADeadlineInTheQueueHadNothingHappen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{})
		leader, h := b.behindLeader()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		a := b.start(ctx, b.allocation("3", "late")).get()
		require.ErrorIs(t, a.err, context.DeadlineExceeded)
		require.NotErrorIs(t, a.err, credit.ErrOutcomeUnknown)
		h.letGo()
		require.NoError(t, leader.get().err)
		assert.Empty(t, b.withKey("late"))
	})
}

// commitPoints are where a commit can be while its caller leaves. Each function
// makes the next commit stop there until it is let go, or for the time of a back-off.
var commitPoints = map[string]func(s *hooked, h *held){
	"load": func(s *hooked, h *held) {
		s.load = func(_ context.Context, _ credit.ReadSet, next func() (credit.Snapshot, error)) (credit.Snapshot, error) {
			h.here()
			return next()
		}
	},
	"before the append": func(s *hooked, h *held) {
		s.append = func(_ context.Context, _ credit.Head, _ store.Batch, next func() error) error {
			h.here()
			return next()
		}
	},
	"after the append": func(s *hooked, h *held) {
		s.append = func(_ context.Context, _ credit.Head, _ store.Batch, next func() error) error {
			err := next()
			h.here()
			return err
		}
	},
	"back-off": func(s *hooked, _ *held) {
		s.append = func(_ context.Context, _ credit.Head, _ store.Batch, next func() error) error {
			if s.appends.Load() == 1 {
				return store.Retry(errTemporary)
			}
			return next()
		}
	},
	"finding out": func(s *hooked, h *held) {
		s.append = func(_ context.Context, _ credit.Head, _ store.Batch, next func() error) error {
			if err := next(); err != nil {
				return err
			}
			return errLost
		}
		s.records = func(_ context.Context, _ credit.RecordQuery, next func() ([]credit.Record, error)) ([]credit.Record, error) {
			h.here()
			return next()
		}
	},
}

func TestACallerThatLeavesDuringTheCommitIsToldThatTheOutcomeIsUnknown(t *testing.T) {
	t.Parallel()
	for point, stopAt := range commitPoints {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, store.Options{}).forgetful()
				h := newHeld()
				b.store.appends.Store(0)
				stopAt(b.store, h)
				ctx, cancel := context.WithCancel(t.Context())
				leaving := b.start(ctx, b.allocation("5", "k"))
				synctest.Wait()
				leaving.waits("it is being committed")

				cancel()
				synctest.Wait()
				a := leaving.get()
				require.ErrorIs(t, a.err, credit.ErrOutcomeUnknown)
				require.ErrorIs(t, a.err, context.Canceled, "the error does not tell why the caller left")
				unmatched(t, a.err)

				// The commit goes on without it; the retry waits its turn and replays.
				retry := b.start(t.Context(), b.allocation("5", "k"))
				synctest.Wait()
				retry.waits("the commit still holds the token")
				h.letGo()
				again := retry.get()
				require.NoError(t, again.err)
				assert.True(t, again.Replayed, "the retry was not answered with the original record")
				assert.Equal(t, b.withKey("k")[0], again.Record)
				b.allocate("1")
				b.sound()
			})
		})
	}
}

func TestACallerThatLeavesABatchTakesNobodyWithIt(t *testing.T) {
	t.Parallel()
	for point, stopAt := range commitPoints {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, store.Options{}).forgetful()
				first, gate := b.behindLeader()
				ctx, cancel := context.WithCancel(t.Context())
				leaving := b.start(ctx, b.allocation("2", "leaving"))
				var others []caller
				for i := range 8 {
					background := context.Background() //nolint:usetesting // has no Done, so it leads in its own goroutine
					if i%2 == 0 {
						background = t.Context()
					}
					others = append(others, b.start(background, b.allocation("3", fmt.Sprint(i))))
				}
				synctest.Wait()
				h := newHeld()
				b.store.appends.Store(0)
				stopAt(b.store, h)
				if point == "back-off" || point == "load" { // the first one's append must pass
					b.store.appends.Store(-1)
				}
				gate.letGo()
				if point == "back-off" {
					b.store.appends.Store(0)
				}
				synctest.Wait()
				require.NoError(t, first.get().err)

				cancel()
				synctest.Wait()
				require.ErrorIs(t, leaving.get().err, credit.ErrOutcomeUnknown)
				for _, w := range others {
					w.waits("its commit is not finished")
				}
				h.letGo()
				for i, w := range others {
					a := w.get()
					require.NoError(t, a.err, "a caller that stayed was not answered")
					assert.Equal(t, fmt.Sprint(i), a.Key, "a caller got somebody else's answer")
				}
				require.Len(t, b.withKey("leaving"), 1)
				b.store.append = nil
				b.allocate("1")
				b.sound()
			})
		})
	}
}

func TestAnAnswerThatIsThereIsGivenToACallerThatLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var leave context.CancelFunc
		// The hook runs after the answers, so the caller is cancelled with its answer ready.
		b := newBook(t, store.Options{OnCommit: func(store.Commit) {
			if leave != nil {
				leave()
			}
		}})
		synctest.Wait()
		for range 50 {
			var ctx context.Context
			ctx, leave = context.WithCancel(t.Context())
			_, err := b.Allocate(ctx, b.allocation("1", ""))
			require.NoError(t, err, "the answer was there before the caller left")
			synctest.Wait()
		}
		leave = nil
	})
}

// Whatever moment a caller leaves at, its error tells the truth.
func TestErrorsOfLeavingCallersTellTheTruth(t *testing.T) {
	t.Parallel()
	var answers []answer
	var b *book
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			b = newBook(t, store.Options{MaxBatch: 5})
			b.store.append = func(_ context.Context, _ credit.Head, batch store.Batch, next func() error) error {
				time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
				switch rand.IntN(6) {
				case 0:
					return store.Retry(errTemporary)
				case 1:
					return errLost
				case 2:
					_ = next()
					return errLost
				}
				return next()
			}
			var callers []caller
			for i := range 32 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(30))*time.Millisecond)
				defer cancel()
				callers = append(callers, b.start(ctx, b.allocation("1", fmt.Sprint(i))))
			}
			answers = nil
			for _, w := range callers {
				answers = append(answers, w.get())
			}
			time.Sleep(time.Minute) // for the last commit to finish
			synctest.Wait()
			b.store.append = nil
			b.allocate("1")
			for i, a := range answers {
				written := b.withKey(fmt.Sprint(i))
				switch {
				case a.err == nil:
					require.Len(t, written, 1, "a caller was told of a record that is not there")
					assert.Equal(t, written[0], a.Record)
				case errors.Is(a.err, credit.ErrOutcomeUnknown):
					r, err := b.Allocate(t.Context(), b.allocation("1", fmt.Sprint(i)))
					require.NoError(t, err)
					assert.Equal(t, len(written) == 1, r.Replayed)
				default:
					require.ErrorIs(t, a.err, context.DeadlineExceeded)
					assert.Empty(t, written, "a caller was told that nothing happened, and there is a record")
				}
			}
			b.sound()
		})
	}
}

type contextKey struct{}

func TestACommitRunsUnderNoCallersContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{CommitTimeout: 7 * time.Second}).forgetful()
		look := func(ctx context.Context) {
			assert.Nil(t, ctx.Value(contextKey{}), "a value of the caller's context reached the store")
			deadline, ok := ctx.Deadline()
			assert.True(t, ok, "a commit has no time limit")
			assert.Equal(t, time.Now().Add(7*time.Second), deadline, "the time limit is not CommitTimeout")
		}
		b.store.load = func(ctx context.Context, _ credit.ReadSet, next func() (credit.Snapshot, error)) (credit.Snapshot, error) {
			look(ctx)
			return next()
		}
		b.store.append = func(ctx context.Context, _ credit.Head, _ store.Batch, _ func() error) error {
			look(ctx)
			return errLost
		}
		b.store.records = func(ctx context.Context, _ credit.RecordQuery, next func() ([]credit.Record, error)) ([]credit.Record, error) {
			look(ctx)
			b.store.append = nil
			return next()
		}
		ctx := context.WithValue(t.Context(), contextKey{}, "secret")
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := b.Allocate(short, b.allocation("1", ""))
		require.NoError(t, err)
		for _, inline := range []context.Context{context.WithoutCancel(ctx), context.WithoutCancel(short)} {
			_, err = b.Allocate(inline, b.allocation("1", ""))
			require.NoError(t, err)
		}
	})
}

// A caller that has its answer must not be kept to commit the calls of others.
func TestAnAnsweredCallerNeverLeadsForOthers(t *testing.T) {
	t.Parallel()
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			b := newBook(t, store.Options{})
			first, gate := b.behindLeader()
			inline := context.Background() //nolint:usetesting // has no Done, so it leads in its own goroutine
			second := newHeld()
			var together []caller
			for i := range 5 {
				together = append(together, b.start(inline, b.allocation("1", fmt.Sprint(i))))
			}
			synctest.Wait()
			third := newHeld()
			held := map[string]*held{"0": second, "last": third}
			b.store.append = func(_ context.Context, _ credit.Head, batch store.Batch, next func() error) error {
				for _, r := range batch.Records {
					if h := held[r.Key]; h != nil {
						h.here()
					}
				}
				return next()
			}
			gate.letGo()
			synctest.Wait()
			last := b.start(inline, b.allocation("1", "last"))
			synctest.Wait()
			second.letGo()
			synctest.Wait()
			for _, w := range append(together, first) {
				select {
				case a := <-w.answer:
					require.NoError(t, a.err)
				default:
					assert.Fail(t, "a caller whose command is committed waits for the commit of another")
				}
			}
			last.waits("its append is held")
			third.letGo()
			require.NoError(t, last.get().err)
		})
	}
}

// A store that breaks its promise in the worst ways.
var violence = map[string]func(){
	"panics":              func() { panic("out of cheese") },
	"panics with nothing": func() { panic(nil) },
	"ends the goroutine":  runtime.Goexit,
}

// deeds is what the error says of each.
var deeds = map[string]string{
	"panics":              "the store panicked: out of cheese",
	"panics with nothing": "the store panicked: panic called with nil",
	"ends the goroutine":  "the store ended its goroutine",
}

func TestAStoreThatPanicsOrEndsItsGoroutineStopsNobody(t *testing.T) {
	t.Parallel()
	points := map[string]func(s *hooked, blow func()){
		"in Load": func(s *hooked, blow func()) {
			s.load = func(context.Context, credit.ReadSet, func() (credit.Snapshot, error)) (credit.Snapshot, error) {
				blow()
				return credit.Snapshot{}, nil
			}
		},
		"before Append": func(s *hooked, blow func()) {
			s.append = func(context.Context, credit.Head, store.Batch, func() error) error {
				blow()
				return nil
			}
		},
		"after Append": func(s *hooked, blow func()) {
			s.append = func(_ context.Context, _ credit.Head, _ store.Batch, next func() error) error {
				defer blow()
				return next()
			}
		},
		"in Records": func(s *hooked, blow func()) {
			s.append = func(_ context.Context, _ credit.Head, _ store.Batch, next func() error) error {
				_ = next()
				return errLost
			}
			s.records = func(context.Context, credit.RecordQuery, func() ([]credit.Record, error)) ([]credit.Record, error) {
				blow()
				return nil, nil
			}
		},
	}
	for how, blow := range violence {
		for where, install := range points {
			t.Run(how+" "+where, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var told commits
					b := newBook(t, store.Options{OnCommit: told.add})
					if where == "in Load" {
						b = b.forgetful()
					}
					first, gate := b.behindLeader()
					var callers []caller
					for i := range 6 {
						callers = append(callers, b.start(t.Context(), b.allocation("1", fmt.Sprint(i))))
					}
					synctest.Wait()
					install(b.store, blow)
					told.take()
					gate.letGo()
					synctest.Wait()
					require.NoError(t, first.get().err)
					for _, w := range callers {
						err := w.get().err
						require.ErrorIs(t, err, credit.ErrOutcomeUnknown, "a caller was not told of what the store did")
						require.ErrorContains(t, err, deeds[how], "a caller was told that the store did something else")
					}
					reports := told.take()
					require.Len(t, reports, 2)
					require.NoError(t, reports[0].Err)
					require.ErrorIs(t, reports[1].Err, credit.ErrOutcomeUnknown, "OnCommit was not told of what the store did")

					b.store.load, b.store.append, b.store.records = nil, nil, nil
					loads := b.store.loads.Load()
					b.allocate("1")
					assert.Greater(t, b.store.loads.Load(), loads, "what was remembered survived")
					for i := range callers {
						r, err := b.Allocate(t.Context(), b.allocation("1", fmt.Sprint(i)))
						require.NoError(t, err)
						assert.Equal(t, where == "after Append" || where == "in Records", r.Replayed)
					}
					b.sound()
				})
			})
		}
	}
}

// A caller without a Done leads in its own goroutine, which the store then ends.
func TestAStoreThatEndsTheCallersGoroutineLeavesTheOthersTheirAnswers(t *testing.T) {
	t.Parallel()
	for how, blow := range violence {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, store.Options{})
				first, gate := b.behindLeader()
				inline := context.Background() //nolint:usetesting // has no Done, so it leads in its own goroutine
				callers := []caller{b.start(inline, b.allocation("1", "")), b.start(inline, b.allocation("1", "")), b.start(inline, b.allocation("1", ""))}
				synctest.Wait()
				b.store.append = func(context.Context, credit.Head, store.Batch, func() error) error {
					blow()
					return nil
				}
				gate.letGo()
				require.NoError(t, first.get().err)
				ended := 0
				for _, w := range callers {
					if a, ok := <-w.answer; ok {
						require.ErrorIs(t, a.err, credit.ErrOutcomeUnknown)
					} else {
						ended++
					}
				}
				if how == "ends the goroutine" {
					assert.Equal(t, 1, ended, "only the goroutine that the store ended is gone")
				} else {
					assert.Zero(t, ended, "a panic of the store reached a caller")
				}
				b.store.append = nil
				b.allocate("1")
			})
		})
	}
}

func TestAnOnCommitThatMisbehavesStopsNobody(t *testing.T) {
	t.Parallel()
	for how, blow := range violence {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				armed := false
				b := newBook(t, store.Options{OnCommit: func(store.Commit) {
					if armed {
						blow()
					}
				}})
				synctest.Wait()
				armed = true
				for range 5 {
					a := b.start(t.Context(), b.allocation("1", "")).get()
					require.NoError(t, a.err, "a hook took a caller's answer away")
				}
				assert.Len(t, b.log(), 7)
			})
		})
	}
}

func TestAnOnCommitMayUseTheLedger(t *testing.T) {
	t.Parallel()
	var book atomic.Pointer[book]
	var once sync.Once
	b := newBook(t, store.Options{OnCommit: func(store.Commit) {
		if b := book.Load(); b != nil {
			once.Do(func() { b.allocate("7") })
		}
	}})
	book.Store(b)
	_, err := b.Allocate(context.Background(), b.allocation("1", "")) //nolint:usetesting // has no Done, so the hook runs in this goroutine
	require.NoError(t, err)
	b.allocate("1")
	r, err := b.Reseller(t.Context(), b.nimbus)
	require.NoError(t, err)
	assert.Equal(t, "9", r.Allocated.String())
}

func TestALogThatPanicsLosesNoToken(t *testing.T) {
	t.Parallel()
	for name, cancellable := range map[string]bool{"inline": false, "in a goroutine of its own": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, store.Options{Logger: panickingLogger(), OnCommit: func(store.Commit) { panic("no metrics") }})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if !cancellable {
					ctx = context.WithoutCancel(ctx)
				}
				b.store.append = func(context.Context, credit.Head, store.Batch, func() error) error { panic("out of cheese") }
				_, err := b.Allocate(ctx, b.allocation("1", ""))
				require.ErrorIs(t, err, credit.ErrOutcomeUnknown)
				b.store.append = nil
				_, err = b.Allocate(ctx, b.allocation("1", ""))
				require.NoError(t, err, "the engine stopped")
			})
		})
	}
}

// The ids are asked for in the caller's goroutine, before it queues.
func TestASourceOfIDsThatPanicsPanicsInItsCallerOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		b := newBook(t, store.Options{
			NewID: func() uuid.UUID {
				if broken.Load() {
					panic("no ids")
				}
				return uuid.New()
			},
		})
		leader, h := b.behindLeader()
		other := b.start(t.Context(), b.allocation("1", ""))
		synctest.Wait()
		broken.Store(true)
		assert.Panics(t, func() { b.allocate("1") })
		broken.Store(false)
		h.letGo()
		require.NoError(t, leader.get().err)
		require.NoError(t, other.get().err)
		assert.Len(t, b.log(), 4)
	})
}

func TestAFullQueueRefusesAtOnceAndNothingHappens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{MaxQueue: 3})
		leader, h := b.behindLeader()
		waiting := []caller{b.start(t.Context(), b.allocation("1", "")), b.start(t.Context(), b.allocation("1", ""))}
		synctest.Wait()
		_, err := b.Bulk(t.Context(), []credit.Command{b.allocation("1", "busy"), b.allocation("1", "")}, credit.BulkOptions{})
		require.ErrorIs(t, err, credit.ErrBusy, "four commands wait where three may")
		assert.True(t, store.Retryable(err))
		unmatched(t, err)
		waiting = append(waiting, b.start(t.Context(), b.allocation("1", "")))
		synctest.Wait()
		_, err = b.Allocate(t.Context(), b.allocation("1", "busy"))
		require.ErrorIs(t, err, credit.ErrBusy, "a fourth command waits where three may")

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = b.Allocate(ctx, b.allocation("1", "busy"))
		require.ErrorIs(t, err, context.Canceled)

		h.letGo()
		for _, w := range append(waiting, leader) {
			require.NoError(t, w.get().err)
		}
		assert.Empty(t, b.withKey("busy"), "a call that was turned away left a record")
		b.allocate("1")
	})
}

func TestACallerThatLeavesTheQueueMakesRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{MaxQueue: 1})
		leader, h := b.behindLeader()
		for range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			w := b.start(ctx, b.allocation("1", "gone"))
			synctest.Wait()
			_, err := b.Allocate(t.Context(), b.allocation("1", ""))
			require.ErrorIs(t, err, credit.ErrBusy)
			cancel()
			require.ErrorIs(t, w.get().err, context.Canceled)
		}
		stays := b.start(t.Context(), b.allocation("1", "stays"))
		synctest.Wait()
		h.letGo()
		require.NoError(t, leader.get().err)
		require.NoError(t, stays.get().err)
		assert.Empty(t, b.withKey("gone"))
	})
}

func TestACallerThatLeavesTheQueueMakesRoomForNoMoreThanItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{MaxQueue: 3})
		leader, h := b.behindLeader()
		ctx, cancel := context.WithCancel(t.Context())
		gone := b.start(ctx, b.allocation("1", "gone"))
		waiting := []caller{b.start(t.Context(), b.allocation("1", "")), b.start(t.Context(), b.allocation("1", ""))}
		synctest.Wait()
		cancel()
		require.ErrorIs(t, gone.get().err, context.Canceled)
		waiting = append(waiting, b.start(t.Context(), b.allocation("1", "")))
		synctest.Wait()
		_, err := b.Allocate(t.Context(), b.allocation("1", "busy"))
		require.ErrorIs(t, err, credit.ErrBusy, "a fourth command waits where three may")
		h.letGo()
		for _, w := range append(waiting, leader) {
			require.NoError(t, w.get().err, "who left takes room from those who stay")
		}
	})
}

func TestABulkLargerThanTheQueueIsTakenWhenNobodyWaits(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{MaxQueue: 2, MaxBatch: 2})
	b.store.appends.Store(0)
	outcomes, err := b.Bulk(t.Context(), []credit.Command{b.allocation("1", ""), b.allocation("2", ""), b.allocation("3", "")}, credit.BulkOptions{})
	require.NoError(t, err)
	require.Len(t, outcomes, 3)
	assert.EqualValues(t, 1, b.store.appends.Load(), "a bulk call larger than a batch was split")
}

func TestABatchGathersNoMoreThanItsLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{MaxBatch: 4})
		leader, h := b.behindLeader()
		var callers []caller
		for range 10 {
			callers = append(callers, b.start(t.Context(), b.allocation("1", "")))
		}
		synctest.Wait()
		var sizes []int
		b.store.append = func(_ context.Context, _ credit.Head, batch store.Batch, next func() error) error {
			sizes = append(sizes, len(batch.Records))
			return next()
		}
		h.letGo()
		for _, w := range append(callers, leader) {
			require.NoError(t, w.get().err)
		}
		assert.Equal(t, []int{4, 4, 2}, sizes, "calls that arrive together are committed together, up to MaxBatch")
	})
}

// On one processor the others, who are about to call, do so when the leader lets them.
func TestWhoLeadsAfterACrowdLetsItQueueFirst(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for name, before := range map[string]int{"after a crowd": 2, "after one alone": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inline := context.WithoutCancel(t.Context()) // so that the engine starts no goroutine
				const rounds, others = 20, 5
				together := 0
				for range rounds {
					b := newBook(t, store.Options{})
					leader, h := b.behindLeader()
					var callers []caller
					for range before {
						callers = append(callers, b.start(inline, b.allocation("1", "")))
					}
					synctest.Wait()
					h.letGo()
					synctest.Wait()
					b.store.append = func(_ context.Context, _ credit.Head, batch store.Batch, next func() error) error {
						if len(batch.Records) == 1+others {
							together++
						}
						return next()
					}
					for range others {
						callers = append(callers, b.start(inline, b.allocation("1", "")))
					}
					_, err := b.Allocate(inline, b.allocation("1", ""))
					require.NoError(t, err)
					for _, w := range append(callers, leader) {
						require.NoError(t, w.get().err)
					}
				}
				// The system may take the processor from a goroutine at any time, but seldom does.
				if before > 1 {
					assert.Greater(t, together, rounds/2, "the leader leaves the others to the next batch")
				} else {
					assert.Less(t, together, rounds/2, "the leader waits though it was alone the last time")
				}
			})
		})
	}
}

func TestEverybodyIsAnsweredHoweverManyCall(t *testing.T) {
	t.Parallel()
	const callers, each = 64, 20
	b := newBook(t, store.Options{MaxBatch: 7})
	b.grant("10000")
	var all sync.WaitGroup
	for g := range callers {
		all.Go(func() {
			ctx := t.Context()
			if g%2 == 0 {
				ctx = context.WithoutCancel(ctx)
			}
			for i := range each {
				key := fmt.Sprintf("%d/%d", g, i)
				r, err := b.Allocate(ctx, b.allocation("1", key))
				if assert.NoError(t, err) {
					assert.Equal(t, key, r.Key, "a caller got somebody else's answer")
				}
			}
		})
	}
	all.Wait()
	assert.Len(t, b.log(), 3+callers*each)
	b.sound()
}

func TestOnCommitCountsWhatHappened(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told commits
		b := newBook(t, store.Options{OnCommit: told.add})
		leader, h := b.behindLeader()
		refused := b.start(t.Context(), b.allocation("5000", ""))
		good := b.start(t.Context(), b.allocation("2", ""))
		synctest.Wait()
		go func() {
			_, _ = b.Bulk(t.Context(), []credit.Command{b.allocation("1", ""), b.allocation("2", "")}, credit.BulkOptions{DryRun: true})
		}()
		synctest.Wait()
		told.take()
		h.letGo()
		require.NoError(t, leader.get().err)
		require.ErrorIs(t, refused.get().err, credit.ErrInsufficientPool)
		require.NoError(t, good.get().err)
		synctest.Wait()

		reports := told.take()
		require.Len(t, reports, 2)
		assert.Equal(t, store.Commit{Ledger: acme.ID, Calls: 1, Commands: 1, Records: 1, Attempts: 1}, reports[0])
		// Two attempts: a dry run is never answered from what is only remembered.
		assert.Equal(t, store.Commit{Ledger: acme.ID, Calls: 3, Commands: 4, Records: 1, Attempts: 2}, reports[1])

		b.store.append = func(context.Context, credit.Head, store.Batch, func() error) error {
			time.Sleep(3 * time.Second)
			return store.Reject(errFinal)
		}
		_, err := b.Allocate(t.Context(), b.allocation("1", ""))
		require.ErrorIs(t, err, errFinal)
		synctest.Wait()
		reports = told.take()
		require.Len(t, reports, 1)
		assert.Equal(t, 3*time.Second, reports[0].Duration)
		require.ErrorIs(t, reports[0].Err, errFinal)
		assert.Zero(t, reports[0].Records)
	})
}

func TestOnCommitCountsABatchThatWasTakenApartAsOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told commits
		b := newBook(t, store.Options{OnCommit: told.add})
		leader, h := b.behindLeader()
		var callers []caller
		for _, key := range []string{"good", "poison", "as good"} {
			callers = append(callers, b.start(t.Context(), b.allocation("1", key)))
			synctest.Wait()
		}
		b.store.append = func(_ context.Context, _ credit.Head, batch store.Batch, next func() error) error {
			if slices.ContainsFunc(batch.Records, func(r credit.Record) bool { return r.Key == "poison" }) {
				return store.Reject(errFinal)
			}
			return next()
		}
		told.take()
		h.letGo()
		require.NoError(t, leader.get().err)
		for _, w := range callers {
			_ = w.get()
		}
		synctest.Wait()
		reports := told.take()
		require.Len(t, reports, 2)
		require.ErrorIs(t, reports[1].Err, errFinal, "OnCommit was not told that a call failed")
		reports[1].Err = nil
		assert.Equal(t, store.Commit{Ledger: acme.ID, Calls: 3, Commands: 3, Records: 2, Attempts: 4}, reports[1])
	})
}

func TestASlowLedgerHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &hooked{Store: memstore.New()}
		hold := make(chan struct{})
		s.append = func(_ context.Context, _ credit.Head, batch store.Batch, next func() error) error {
			if batch.Records[0].Operator == "slow" {
				<-hold
			}
			return next()
		}
		memory := store.NewMemory(1)
		var ledgers []*store.Ledger
		for n := range 2 {
			l, err := store.Open(t.Context(), s, credit.Distributor{ID: id(10 + n), Name: "Acme", Currency: "USD"}, store.Options{Memory: memory})
			require.NoError(t, err)
			ledgers = append(ledgers, l)
		}
		go func() { _, _ = ledgers[0].Grant(t.Context(), credit.Grant{Amount: amt("1"), Operator: "slow"}) }()
		synctest.Wait()
		_, err := ledgers[1].Grant(t.Context(), credit.Grant{Amount: amt("1")})
		require.NoError(t, err)
		close(hold)
		synctest.Wait()
	})
}

// In a caller's transaction a call that has begun to write may not come back
// before the store is at rest: the caller would commit half of it.
func TestNobodyLeavesWhileATransactionIsInUse(t *testing.T) {
	t.Parallel()
	for point, stopAt := range commitPoints {
		if point == "finding out" {
			continue // inside a transaction no answer is lost
		}
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, store.Options{})
				h := newHeld()
				b.store.appends.Store(0)
				stopAt(b.store, h)
				joined := *b
				joined.Ledger = b.On(b.store)
				ctx, cancel := context.WithCancel(t.Context())
				leaving := joined.start(ctx, b.allocation("5", "k"))
				synctest.Wait()
				cancel()
				synctest.Wait()
				if point != "back-off" { // which ends with the context
					leaving.waits("the store is still at work")
				}
				h.letGo()
				_ = leaving.get()
				b.sound()
			})
		})
	}
}

// A certain error leaves a caller's transaction of no use, so no call of the batch
// is tried in it again, where it might be written all the same.
func TestABatchThatFailedInACallersTransactionIsNotTriedCallByCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{})
		joined := *b
		joined.Ledger = b.On(b.store)
		b.store.appends.Store(0)
		gathered := make(chan struct{})
		b.store.append = func(_ context.Context, _ credit.Head, batch store.Batch, next func() error) error {
			switch b.store.appends.Load() {
			case 1:
				<-gathered
				return next()
			case 2:
				require.Len(t, batch.Records, 2)
				return store.Reject(errFinal)
			}
			return next()
		}
		first := joined.start(t.Context(), b.allocation("1", "first"))
		synctest.Wait()
		second, third := joined.start(t.Context(), b.allocation("2", "second")), joined.start(t.Context(), b.allocation("3", "third"))
		synctest.Wait()
		close(gathered)
		require.NoError(t, first.get().err)
		require.ErrorIs(t, second.get().err, errFinal)
		require.ErrorIs(t, third.get().err, errFinal)
		require.EqualValues(t, 2, b.store.appends.Load())
		require.Empty(t, append(b.withKey("second"), b.withKey("third")...))
		b.sound()
	})
}
