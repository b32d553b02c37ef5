package store_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
)

// sent collects the batches that reach Append, and answers the n-th by the n-th
// function; after the last, and where a function is nil, the store answers.
type sent struct {
	expected []credit.Head
	batches  []store.Batch
	times    []time.Time
}

func (s *sent) answer(script ...func(next func() error) error) func(context.Context, credit.Head, store.Batch, func() error) error {
	return func(_ context.Context, expected credit.Head, b store.Batch, next func() error) error {
		n := len(s.batches)
		s.expected, s.batches, s.times = append(s.expected, expected), append(s.batches, b), append(s.times, time.Now())
		if n < len(script) && script[n] != nil {
			return script[n](next)
		}
		return next()
	}
}

// writtenButLost and lost lose the answer; the first after the batch was written.
func writtenButLost(next func() error) error { _ = next(); return errLost }
func lost(func() error) error                { return errLost }

func TestAnAnswerThatWasLostIsFoundOut(t *testing.T) {
	t.Parallel()
	type attempts = []func(next func() error) error
	var late func() error // the first attempt, still on its way
	for name, c := range map[string]struct {
		answers attempts
		look    func(b *book) // before Records answers
		appends int
	}{
		"it was written":                             {answers: attempts{writtenButLost}, appends: 1},
		"it was not written":                         {answers: attempts{lost}, appends: 2},
		"nor the second time":                        {answers: attempts{lost, lost, lost}, appends: 4},
		"written the second time, and lost again":    {answers: attempts{lost, writtenButLost}, appends: 2},
		"the second time it failed for certain":      {answers: attempts{lost, func(func() error) error { return store.Reject(errFinal) }}, appends: 3},
		"the second time it failed for now":          {answers: attempts{lost, func(func() error) error { return store.Retry(errTemporary) }}, appends: 3},
		"it is written between the look and the try": {answers: attempts{func(next func() error) error { late = next; return errLost }, func(next func() error) error { _ = late(); return next() }}, appends: 2},
		"it is written after the look, before that":  {answers: attempts{func(next func() error) error { late = next; return errLost }, func(func() error) error { _ = late(); return errLost }}, appends: 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, store.Options{})
				var s sent
				b.store.append = s.answer(c.answers...)
				r, err := b.Allocate(t.Context(), b.allocation("5", "k"))
				require.NoError(t, err)
				assert.False(t, r.Replayed, "its own record was taken for an earlier one")
				assert.Equal(t, []credit.Record{r.Record}, b.withKey("k"), "the answer is not what was written")
				assert.Len(t, s.batches, c.appends)
				for i := range s.batches {
					assert.Equal(t, s.batches[0], s.batches[i], "what was sent again is not the same: ids, sequence and hash exclude each other only if it is")
					assert.Equal(t, s.expected[0], s.expected[i])
				}
				b.allocate("1")
				b.sound()
			})
		})
	}
}

func TestALostAnswerIsLookedForWhileTheStoreCannotBeRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{})
		var s sent
		b.store.append = s.answer(writtenButLost)
		b.store.records = func(_ context.Context, _ credit.RecordQuery, next func() ([]credit.Record, error)) ([]credit.Record, error) {
			if b.store.looks.Load() < 5 {
				return nil, errLost
			}
			return next()
		}
		r, err := b.Allocate(t.Context(), b.allocation("5", "k"))
		require.NoError(t, err)
		assert.Equal(t, []credit.Record{r.Record}, b.withKey("k"))
		assert.Len(t, s.batches, 1, "a batch was sent again although nobody knew that it was not there")
	})
}

func TestAfterALostAnswerAnothersRecordAtItsPlaceMeansThatItIsNotThere(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "k", "other"} {
		t.Run("whose key is "+key, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, store.Options{})
				other := b.another()
				var s sent
				var theirs credit.Receipt
				b.store.append = s.answer(func(func() error) error {
					var err error
					theirs, err = other.Allocate(t.Context(), b.allocation("5", key))
					require.NoError(t, err)
					return errLost
				})
				r, err := b.Allocate(t.Context(), b.allocation("5", "k"))
				require.NoError(t, err)
				if key == "k" {
					assert.True(t, r.Replayed, "the key was taken by another engine")
					assert.Equal(t, theirs.Record, r.Record)
				} else {
					assert.Equal(t, theirs.Sequence+1, r.Sequence)
					assert.Equal(t, s.batches[0].Records[0].ID, r.ID, "a command changes its id from one try to the next")
				}
				require.Len(t, b.withKey("k"), 1)
				b.sound()
			})
		})
	}
}

func TestAfterALostAnswerAHeadThatMovedMeanwhileIsLookedAtAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{})
		b.store.append = new(sent).answer(lost, func(next func() error) error {
			_ = next() // the first attempt arrives
			return store.ErrMoved
		})
		start := time.Now()
		r, err := b.Allocate(t.Context(), b.allocation("5", "k"))
		require.NoError(t, err)
		assert.Equal(t, []credit.Record{r.Record}, b.withKey("k"))
		assert.Zero(t, time.Since(start), "it pauses although the next look will tell")
	})
}

// A store that was restored from a backup while an answer was awaited.
func TestAfterALostAnswerAHeadThatWasSetBackIsReadAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClock()
		b := newBook(t, c.options())
		backup := newBook(t, newClock().options()).store.Store
		require.Equal(t, b.log(), func() []credit.Record { b := *b; b.store = &hooked{Store: backup}; return b.log() }(), "the backup differs")
		b.allocate("900")
		var s sent
		b.store.append = s.answer(func(func() error) error {
			b.store.Store = backup
			return errLost
		})
		r, err := b.Allocate(t.Context(), b.allocation("100", "k"))
		require.NoError(t, err)
		assert.EqualValues(t, 3, r.Sequence, "it is not appended to the head that is there now")
		assert.Equal(t, "100", r.Pool.Allocated.String(), "figures of before the restore took part")
		b.sound()
	})
}

func TestAnAnswerThatStaysLostIsUnknownAtTheTimeLimit(t *testing.T) {
	t.Parallel()
	for name, records := range map[string]func(context.Context, credit.RecordQuery, func() ([]credit.Record, error)) ([]credit.Record, error){
		"the record is not there": nil,
		"the record cannot be read": func(context.Context, credit.RecordQuery, func() ([]credit.Record, error)) ([]credit.Record, error) {
			return nil, errLost
		},
		"the store answers no more": func(ctx context.Context, _ credit.RecordQuery, _ func() ([]credit.Record, error)) ([]credit.Record, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		"the reader gives up at once": func(context.Context, credit.RecordQuery, func() ([]credit.Record, error)) ([]credit.Record, error) {
			return nil, context.Canceled
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, store.Options{CommitTimeout: 90 * time.Second})
				var first func() error
				b.store.append = func(_ context.Context, _ credit.Head, _ store.Batch, next func() error) error {
					if first == nil {
						first = next
					}
					return errLost
				}
				b.store.records = records
				start := time.Now()
				other := b.start(t.Context(), b.allocation("1", "other"))
				synctest.Wait() // so that they are two batches
				_, err := b.Allocate(t.Context(), b.allocation("5", "k"))
				require.ErrorIs(t, err, credit.ErrOutcomeUnknown)
				require.ErrorIs(t, err, errLost, "the error does not tell what happened")
				assert.False(t, store.Retryable(err), "an unknown outcome was called certain")
				unmatched(t, err)
				require.ErrorIs(t, other.get().err, credit.ErrOutcomeUnknown)
				elapsed := time.Since(start)
				assert.GreaterOrEqual(t, elapsed, 90*time.Second)
				assert.LessOrEqual(t, elapsed, 180*time.Second, "two batches took longer than their time limits")
				assert.Less(t, b.store.appends.Load(), int64(2*90*5+20), "the store is asked without a pause")

				// The first attempt arrives at last; a retry finds it.
				b.store.append, b.store.records = nil, nil
				require.NoError(t, first())
				written := append(b.withKey("k"), b.withKey("other")...)
				require.Len(t, written, 1)
				r, err := b.Allocate(t.Context(), b.allocation(written[0].Amount.String(), written[0].Key))
				require.NoError(t, err)
				assert.True(t, r.Replayed)
				assert.Equal(t, written[0], r.Record)
				b.sound()
			})
		})
	}
}

func TestAnAttemptThatArrivesTooLateIsExcluded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{})
		var first func() error
		b.store.append = func(_ context.Context, _ credit.Head, _ store.Batch, next func() error) error {
			first = next
			return errLost
		}
		_, err := b.Allocate(t.Context(), b.allocation("5", "k"))
		require.ErrorIs(t, err, credit.ErrOutcomeUnknown)
		b.store.append = nil
		r, err := b.Allocate(t.Context(), b.allocation("5", "k"))
		require.NoError(t, err)
		assert.False(t, r.Replayed)
		require.ErrorIs(t, first(), store.ErrMoved, "both attempts were written")
		require.Len(t, b.withKey("k"), 1)
	})
}

// A lost answer of a batch must not lead to trying its calls one by one.
func TestALostBatchIsNeverTakenApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{})
		leader, h := b.behindLeader()
		var callers []caller
		for i := range 5 {
			callers = append(callers, b.start(t.Context(), b.allocation("1", fmt.Sprint(i))))
		}
		synctest.Wait()
		var s sent
		b.store.append = s.answer(lost, func(func() error) error { return store.Reject(errFinal) }, lost)
		h.letGo()
		require.NoError(t, leader.get().err)
		for _, w := range callers {
			require.NoError(t, w.get().err)
		}
		for _, batch := range s.batches {
			assert.Len(t, batch.Records, 5, "a batch whose outcome is unknown was taken apart")
		}
		b.sound()
	})
}

func TestACallThatTheStoreRejectsFailsAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{})
		leader, h := b.behindLeader()
		var good []caller
		for i := range 3 {
			good = append(good, b.start(t.Context(), b.allocation("1", fmt.Sprint(i))))
			synctest.Wait()
			if i == 1 {
				go func() { _, _ = b.Allocate(t.Context(), b.allocation("1", "poison")) }()
				synctest.Wait()
			}
		}
		poison := b.start(t.Context(), b.allocation("1", "poison"))
		type result struct {
			outcomes []credit.Outcome
			err      error
		}
		bulk := make(chan result, 2)
		for _, commands := range [][]credit.Command{
			{b.allocation("1", "unit 1"), b.allocation("1", "unit 2")},
			{b.allocation("1", "poisoned unit"), b.allocation("1", "poison"), b.allocation("1", "poisoned too")},
		} {
			go func() {
				outcomes, err := b.Bulk(t.Context(), commands, credit.BulkOptions{AllOrNothing: true})
				bulk <- result{outcomes, err}
			}()
		}
		synctest.Wait()
		var units [][]string
		b.store.append = func(_ context.Context, _ credit.Head, batch store.Batch, next func() error) error {
			var keys []string
			poisoned := false
			for _, r := range batch.Records {
				keys, poisoned = append(keys, r.Key), poisoned || r.Key == "poison"
			}
			units = append(units, keys)
			if poisoned {
				return store.Reject(errFinal)
			}
			return next()
		}
		h.letGo()
		require.NoError(t, leader.get().err)
		for i, w := range good {
			a := w.get()
			require.NoError(t, a.err, "a call failed by another's fault")
			assert.Equal(t, fmt.Sprint(i), a.Key)
		}
		a := poison.get()
		require.ErrorIs(t, a.err, errFinal)
		unmatched(t, a.err)
		assert.False(t, store.Retryable(a.err))
		failed := 0
		for range 2 {
			r := <-bulk
			if r.err != nil {
				require.ErrorIs(t, r.err, errFinal)
				assert.Nil(t, r.outcomes)
				failed++
				continue
			}
			require.Len(t, r.outcomes, 2)
			assert.Equal(t, "unit 1", r.outcomes[0].Receipt.Key)
			assert.Equal(t, "unit 2", r.outcomes[1].Receipt.Key)
		}
		assert.Equal(t, 1, failed)
		assert.Contains(t, units, []string{"unit 1", "unit 2"}, "an all-or-nothing call is one unit")
		assert.Contains(t, units, []string{"poisoned unit", "poison", "poisoned too"}, "an all-or-nothing call is one unit")
		assert.Empty(t, b.withKey("poison"))
		assert.Empty(t, b.withKey("poisoned unit"))
		b.store.append = nil
		b.allocate("1")
		b.sound()
	})
}

func TestATemporaryFailureIsRepeatedAfterAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{})
		temporary := func(func() error) error { return fmt.Errorf("append: %w", store.Retry(errTemporary)) }
		var s sent
		b.store.append = s.answer(temporary, temporary, temporary, temporary)
		r, err := b.Allocate(t.Context(), b.allocation("5", "k"))
		require.NoError(t, err)
		assert.Equal(t, []credit.Record{r.Record}, b.withKey("k"))
		require.Len(t, s.times, 5)
		for i, pause := 1, time.Millisecond; i < len(s.times); i, pause = i+1, 2*pause {
			assert.InDelta(t, pause, s.times[i].Sub(s.times[i-1]), float64(pause)/2, "the pauses do not grow")
		}
	})
}

func TestAHeadThatMovedIsLoadedAtOnceTheFirstTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{})
		moved := func(func() error) error { return store.ErrMoved }
		var s sent
		b.store.append = s.answer(moved, moved)
		b.allocate("5")
		require.Len(t, s.times, 3)
		assert.Equal(t, s.times[0], s.times[1], "a commit pauses although nothing says that others keep writing")
		assert.True(t, s.times[2].After(s.times[1]), "the head that moves again is loaded without a pause")
	})
}

func TestALoadThatFailsForSureIsNotTakenForOneThatWasLate(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		late bool
	}{
		"an unmarked error in time":    {err: errLost},
		"a rejection in time":          {err: store.Reject(errFinal)},
		"a rejection as the time ends": {err: store.Reject(errFinal), late: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, store.Options{}).forgetful()
				b.store.load = func(ctx context.Context, _ credit.ReadSet, _ func() (credit.Snapshot, error)) (credit.Snapshot, error) {
					if c.late {
						<-ctx.Done()
					}
					return credit.Snapshot{}, c.err
				}
				_, err := b.Allocate(t.Context(), b.allocation("5", "k"))
				require.ErrorIs(t, err, c.err)
				assert.False(t, store.Retryable(err), "time would not help, but the error says so: %v", err)
			})
		})
	}
}

func TestAReadThatFailsForAWhileIsRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{})
		failures := 0
		fail := func() error {
			if failures--; failures >= 0 {
				return store.Retry(errTemporary)
			}
			return nil
		}
		b.store.load = func(_ context.Context, _ credit.ReadSet, next func() (credit.Snapshot, error)) (credit.Snapshot, error) {
			if err := fail(); err != nil {
				return credit.Snapshot{}, err
			}
			return next()
		}
		b.store.records = func(_ context.Context, _ credit.RecordQuery, next func() ([]credit.Record, error)) ([]credit.Record, error) {
			if err := fail(); err != nil {
				return nil, err
			}
			return next()
		}
		failures = 5
		_, err := b.Pool(t.Context())
		require.NoError(t, err)
		failures = 5
		_, err = b.Records(t.Context(), credit.RecordQuery{})
		require.NoError(t, err)
		failures = 6
		_, err = b.Pool(t.Context())
		require.ErrorIs(t, err, errTemporary, "a read is repeated for ever")
		assert.True(t, store.Retryable(err))
		failures = 20
		r, err := b.forgetful().Allocate(t.Context(), b.allocation("5", "k"))
		require.NoError(t, err, "a commit repeats its Load until its time is over")
		assert.Equal(t, "5", r.Amount.String())
	})
}

func TestACommitThatNeverSucceedsEndsAtItsTimeLimitAndNothingHappened(t *testing.T) {
	t.Parallel()
	for name, install := range map[string]func(s *hooked){
		"the head moves for ever": func(s *hooked) {
			s.append = func(context.Context, credit.Head, store.Batch, func() error) error { return store.ErrMoved }
		},
		"Append is busy for ever": func(s *hooked) {
			s.append = func(context.Context, credit.Head, store.Batch, func() error) error { return store.Retry(errTemporary) }
		},
		"Load is busy for ever": func(s *hooked) {
			s.load = func(context.Context, credit.ReadSet, func() (credit.Snapshot, error)) (credit.Snapshot, error) {
				return credit.Snapshot{}, store.Retry(errTemporary)
			}
		},
		"Load answers no more": func(s *hooked) {
			s.load = func(ctx context.Context, _ credit.ReadSet, _ func() (credit.Snapshot, error)) (credit.Snapshot, error) {
				<-ctx.Done()
				return credit.Snapshot{}, ctx.Err()
			}
		},
		"others write, slowly, for ever": func(s *hooked) {
			s.append = func(context.Context, credit.Head, store.Batch, func() error) error { return store.ErrMoved }
			s.load = func(ctx context.Context, _ credit.ReadSet, next func() (credit.Snapshot, error)) (credit.Snapshot, error) {
				select {
				case <-time.After(7 * time.Second):
					return next()
				case <-ctx.Done():
					return credit.Snapshot{}, ctx.Err()
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, store.Options{}).forgetful()
				install(b.store)
				start := time.Now()
				_, err := b.Allocate(t.Context(), b.allocation("5", "k"))
				require.Error(t, err)
				assert.LessOrEqual(t, time.Since(start), 10*time.Second, "a commit takes longer than its time limit")
				assert.True(t, store.Retryable(err), "nothing was written and time may help, but the error does not say so: %v", err)
				require.NotErrorIs(t, err, credit.ErrOutcomeUnknown)
				unmatched(t, err)
				assert.Equal(t, "internal", credit.Code(err))
				assert.Empty(t, b.withKey("k"))
				assert.Less(t, b.store.loads.Load()+b.store.appends.Load(), int64(150), "the store is asked without a pause")
				b.store.load, b.store.append = nil, nil
				b.allocate("1")
			})
		})
	}
}

// An hour of retries must not turn into a busy loop.
func TestTheBackOffHoldsHoweverLongItTakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{CommitTimeout: time.Hour})
		b.store.append = func(context.Context, credit.Head, store.Batch, func() error) error { return store.Retry(errTemporary) }
		_, err := b.Allocate(t.Context(), b.allocation("5", ""))
		assert.True(t, store.Retryable(err))
		assert.InDelta(t, 4*3600, b.store.appends.Load(), 1000)
	})
}

func TestALedgerThatIsGoneIsAnErrorOfTheStore(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	b.store.Store = memstore.New()
	for range 2 {
		_, err := b.Allocate(t.Context(), b.allocation("5", ""))
		require.ErrorIs(t, err, store.ErrNoLedger)
		unmatched(t, err)
	}
	_, err := b.Pool(t.Context())
	require.ErrorIs(t, err, store.ErrNoLedger)
	_, err = b.Records(t.Context(), credit.RecordQuery{})
	require.ErrorIs(t, err, store.ErrNoLedger)
	_, err = b.Resellers(t.Context(), credit.ResellerQuery{})
	require.ErrorIs(t, err, store.ErrNoLedger)
	_, err = b.Reseller(t.Context(), b.nimbus)
	require.ErrorIs(t, err, store.ErrNoLedger)
	_, err = b.Check(t.Context())
	require.ErrorIs(t, err, store.ErrNoLedger)
}

func TestMarkedErrorsSayWhatTheyWere(t *testing.T) {
	t.Parallel()
	for _, err := range []error{store.Retry(errTemporary), fmt.Errorf("deep: %w", store.Retry(errTemporary)), fmt.Errorf("full: %w", credit.ErrBusy)} {
		assert.True(t, store.Retryable(err), "%v", err)
	}
	for _, err := range []error{nil, errLost, store.Reject(errFinal), store.ErrMoved, store.ErrNoLedger, credit.ErrOutcomeUnknown, context.Canceled} {
		assert.False(t, store.Retryable(err), "%v", err)
	}
	assert.EqualError(t, store.Retry(errTemporary), errTemporary.Error())
	assert.EqualError(t, store.Reject(errFinal), errFinal.Error())
	require.ErrorIs(t, store.Reject(errFinal), errFinal)
}
