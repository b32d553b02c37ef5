package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// follower is somebody who follows a feed in a goroutine of its own.
type follower struct {
	mu      sync.Mutex
	changes []store.Change
	times   []time.Time // when each was seen
	err     error
	ended   bool
}

func follow(feed iter.Seq2[store.Change, error]) *follower {
	f := &follower{}
	go func() {
		for c, err := range feed {
			f.mu.Lock()
			if err != nil {
				f.err = err
			} else {
				f.changes, f.times = append(f.changes, c), append(f.times, time.Now())
			}
			f.mu.Unlock()
		}
		f.mu.Lock()
		f.ended = true
		f.mu.Unlock()
	}()
	return f
}

// sequences are those that were seen, once nobody has anything left to do.
func (f *follower) sequences() (all []int64) {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.changes {
		all = append(all, c.Record.Sequence)
	}
	return all
}

func TestAFeedBeginsAtTheBeginningAndSeesAtOnceWhatThisEngineWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		b := newBook(t, store.Options{})
		began := time.Now()
		f := follow(b.Follow(ctx, 0, store.FollowOptions{Poll: 1000 * time.Hour}))
		assert.Equal(t, []int64{1, 2}, f.sequences(), "what was there before")
		looks := b.store.looks.Load()
		synctest.Wait()
		assert.Equal(t, looks, b.store.looks.Load(), "who waits does not look")
		for i := range 5 {
			b.allocate("1")
			assert.Len(t, f.sequences(), 3+i, "a record of this engine is seen at once")
		}
		_, err := b.Bulk(ctx, []credit.Command{b.allocation("1", ""), b.allocation("1", ""), credit.Grant{Amount: amt("1")}}, credit.BulkOptions{})
		require.NoError(t, err)
		assert.Equal(t, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, f.sequences())
		assert.Equal(t, began, time.Now(), "nobody waited for a clock")
		for i, r := range b.log() {
			assert.Equal(t, r, f.changes[i].Record, "the record as it was written")
		}
		cancel()
		synctest.Wait()
		require.ErrorIs(t, f.err, context.Canceled)
		assert.True(t, f.ended)
	})
}

func TestAFeedSeesWhatOtherEnginesWriteAtTheNextLook(t *testing.T) {
	t.Parallel()
	for poll, want := range map[time.Duration]time.Duration{0: time.Second, -1: time.Second, 20 * time.Second: 20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			b := newBook(t, store.Options{})
			other := b.another()
			f := follow(b.Follow(ctx, 2, store.FollowOptions{Poll: poll}))
			assert.Empty(t, f.sequences())
			began := time.Now()
			other.allocate("1")
			time.Sleep(want - time.Nanosecond)
			assert.Empty(t, f.sequences(), "it looks only as often as it was told")
			time.Sleep(time.Nanosecond)
			assert.Equal(t, []int64{3}, f.sequences())
			assert.Equal(t, began.Add(want), f.times[0])
			other.allocate("2")
			b.allocate("3")
			assert.Equal(t, []int64{3, 4, 5}, f.sequences(), "what was written elsewhere comes before what this engine wrote later")
			looks := b.store.looks.Load()
			time.Sleep(10*want + 1)
			synctest.Wait()
			assert.Equal(t, looks+10, b.store.looks.Load(), "one look each time")
			cancel()
			synctest.Wait()
		})
	}
}

func TestAFeedGoesOnAfterTheLastSequenceThatWasSeen(t *testing.T) {
	t.Parallel()
	b, _ := history(t, 1, 2, 3, 4, 5)
	var got []int64
	for last := int64(0); last < 7; {
		for c, err := range b.Follow(t.Context(), last, store.FollowOptions{}) {
			require.NoError(t, err)
			got = append(got, c.Record.Sequence)
			if last = c.Record.Sequence; last%3 == 0 || last == 7 {
				break // the caller stops
			}
		}
	}
	assert.Equal(t, []int64{1, 2, 3, 4, 5, 6, 7}, got)
}

// More than a page of records was written before.
func TestAFeedReadsALongLogPageByPage(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	commands := make([]credit.Command, 2*credit.MaxPageSize+10)
	for i := range commands {
		commands[i] = credit.Grant{Amount: amt("1")}
	}
	_, err := b.Bulk(t.Context(), commands, credit.BulkOptions{})
	require.NoError(t, err)
	b.store.looks.Store(0)
	next := int64(1)
	for c, err := range b.Follow(t.Context(), 0, store.FollowOptions{}) {
		require.NoError(t, err)
		require.Equal(t, next, c.Record.Sequence)
		if next++; next > int64(len(commands))+2 {
			break
		}
	}
	assert.EqualValues(t, 3, b.store.looks.Load())
}

func TestAFeedEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{})
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		f := follow(b.Follow(ctx, 0, store.FollowOptions{Poll: time.Minute}))
		time.Sleep(time.Hour)
		assert.Equal(t, []int64{1, 2}, f.sequences())
		require.ErrorIs(t, f.err, context.DeadlineExceeded)
		assert.True(t, f.ended, "the last yield is the error")

		over, cancel := context.WithCancel(t.Context())
		cancel()
		n := 0
		for c, err := range b.Follow(over, 0, store.FollowOptions{}) {
			n++
			require.ErrorIs(t, err, context.Canceled)
			assert.Equal(t, store.Change{}, c, "an error comes with a zero change")
		}
		assert.Equal(t, 1, n)
	})
}

func TestAFeedOutlastsWhatFailsForNowAndReportsTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var mu sync.Mutex
		failures, failure := 0, store.Retry(errTemporary)
		b.store.records = func(_ context.Context, _ credit.RecordQuery, next func() ([]credit.Record, error)) ([]credit.Record, error) {
			mu.Lock()
			defer mu.Unlock()
			if failures--; failures >= 0 {
				return nil, failure
			}
			return next()
		}
		set := func(n int, err error) { mu.Lock(); defer mu.Unlock(); failures, failure = n, err }
		set(3, failure)
		f := follow(b.Follow(ctx, 0, store.FollowOptions{Poll: time.Minute}))
		time.Sleep(time.Minute)
		assert.Equal(t, []int64{1, 2}, f.sequences(), "what failed for now is tried again")
		set(100, store.Retry(errTemporary))
		b.allocate("1")
		time.Sleep(time.Hour)
		assert.Equal(t, []int64{1, 2}, f.sequences())
		require.ErrorIs(t, f.err, errTemporary, "until the retries are used up")
		assert.True(t, f.ended)

		set(1, errLost)
		f = follow(b.Follow(ctx, 2, store.FollowOptions{}))
		assert.Empty(t, f.sequences())
		require.ErrorIs(t, f.err, errLost)
		unmatched(t, f.err)

		broken := errors.New("disk on fire")
		b.store.load = func(context.Context, credit.ReadSet, func() (credit.Snapshot, error)) (credit.Snapshot, error) {
			return credit.Snapshot{}, broken
		}
		f = follow(b.Follow(ctx, 2, store.FollowOptions{}))
		assert.Empty(t, f.sequences())
		require.ErrorIs(t, f.err, broken)
	})
}

func TestAFeedAfterASequenceThatIsNotThereIsInvalid(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	for after, says := range map[int64]string{
		3:             "credit: after: is sequence 3, must be 0 to 2, where the log ends",
		math.MaxInt64: "credit: after: is sequence 9223372036854775807, must be 0 to 2, where the log ends",
		-1:            "credit: after: is sequence -1, must not be negative; 0 is the beginning",
	} {
		n := 0
		for c, err := range b.Follow(t.Context(), after, store.FollowOptions{}) {
			n++
			require.EqualError(t, err, says)
			require.ErrorIs(t, err, credit.ErrInvalid)
			assert.Equal(t, store.Change{}, c)
		}
		assert.Equal(t, 1, n)
	}
}

func TestAFeedTellsTheWarningsOfEachRecord(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	b.allocate("100")
	for _, used := range []string{"74", "1", "26"} { // 26, 25 and -1 are left
		_, err := b.RecordUsage(t.Context(), credit.Usage{ResellerID: b.nimbus, Amount: amt(used)})
		require.NoError(t, err)
	}
	var half credit.Threshold
	require.NoError(t, half.UnmarshalText([]byte("50%")))
	for _, tt := range []struct {
		thresholds []credit.Threshold
		want       []string
	}{
		{nil, []string{"5 low 25%", "6 low 10%", "6 low 0%", "6 overdrawn 0"}},
		{[]credit.Threshold{}, []string{"6 overdrawn 0"}},
		{[]credit.Threshold{half}, []string{"4 low 50%", "6 overdrawn 0"}},
	} {
		var got []string
		for c, err := range b.Follow(t.Context(), 0, store.FollowOptions{Thresholds: tt.thresholds}) {
			require.NoError(t, err)
			thresholds := tt.thresholds
			if thresholds == nil {
				thresholds = credit.DefaultThresholds()
			}
			assert.Equal(t, c.Record.Warnings(thresholds), c.Warnings)
			for _, w := range c.Warnings {
				if w.ResellerID == b.nimbus {
					got = append(got, fmt.Sprintf("%d %s %s", w.Sequence, w.Crossing, w.Threshold))
				}
			}
			if c.Record.Sequence == 6 {
				break
			}
		}
		assert.Equal(t, tt.want, got)
	}
}

// Many write on two engines while some follow each of them: everybody sees every
// record once, in order.
func TestAFeedMissesNothingAndRepeatsNothingWhileManyWrite(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	other := b.another()
	const writers, each, last = 16, 20, 2 + 16*20
	var all sync.WaitGroup
	for i := range writers {
		on := []*book{b, other}[i%2]
		all.Go(func() {
			for range each {
				_, err := on.RecordUsage(t.Context(), credit.Usage{ResellerID: b.nimbus, Amount: amt("1")})
				assert.NoError(t, err)
			}
		})
	}
	for i := range 8 {
		on, after := []*book{b, other}[i%2], int64(i/4)
		all.Go(func() {
			next := after + 1
			for c, err := range on.Follow(t.Context(), after, store.FollowOptions{Poll: time.Millisecond}) {
				if !assert.NoError(t, err) || !assert.Equal(t, next, c.Record.Sequence, "the next record") {
					return
				}
				if next++; next > last {
					return
				}
			}
		})
	}
	all.Wait()
	assert.Len(t, b.log(), last)
}

// A feed that waits is woken by a write that falls between its look and its wait.
func TestAFeedIsWokenByWhatIsWrittenWhileItLooks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		b := newBook(t, store.Options{})
		written := false
		b.store.records = func(_ context.Context, _ credit.RecordQuery, next func() ([]credit.Record, error)) ([]credit.Record, error) {
			found, err := next()
			if !written {
				written = true
				b.allocate("1") // after the look, before the wait
			}
			return found, err
		}
		f := follow(b.Follow(ctx, 2, store.FollowOptions{Poll: 1000 * time.Hour}))
		assert.Equal(t, []int64{3}, f.sequences(), "a record fell between the look and the wait")
		cancel()
		synctest.Wait()
	})
}

func TestAFeedAfterANegativeSequenceIsInvalidBeforeAnythingIsRead(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	loads, looks := b.store.loads.Load(), b.store.looks.Load()
	for _, err := range b.Follow(t.Context(), -1, store.FollowOptions{}) {
		require.ErrorIs(t, err, credit.ErrInvalid)
	}
	assert.Equal(t, loads, b.store.loads.Load(), "the store was asked")
	assert.Equal(t, looks, b.store.looks.Load(), "the store was asked")
}

func TestAFeedThatIsRangedOverAgainBeginsAtTheSamePlace(t *testing.T) {
	t.Parallel()
	b, _ := history(t, 1, 2, 3)
	thresholds := credit.DefaultThresholds()
	feed := b.Follow(t.Context(), 1, store.FollowOptions{Thresholds: thresholds})
	thresholds[0] = credit.Threshold{} // the caller's own
	var all sync.WaitGroup
	for range 4 { // two of them at once
		for range 2 {
			all.Go(func() {
				next := int64(2)
				for c, err := range feed {
					if !assert.NoError(t, err) || !assert.Equal(t, next, c.Record.Sequence, "the next record") {
						return
					}
					assert.Equal(t, c.Record.Warnings(credit.DefaultThresholds()), c.Warnings)
					if next++; next > 5 {
						return
					}
				}
			})
		}
		all.Wait()
	}
}

func TestAFeedEndsWithinAPageWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	b, _ := history(t, 1, 2, 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []int64
	var last error
	for c, err := range b.Follow(ctx, 0, store.FollowOptions{}) {
		if last = err; err == nil {
			got = append(got, c.Record.Sequence)
			cancel()
		}
	}
	require.ErrorIs(t, last, context.Canceled)
	assert.Equal(t, []int64{1}, got, "what came after the end of the context")
}

// A ledger is put back as it was, and goes on from there in another way.
func TestAFeedNoticesThatTheLogWasReplacedWhileItIsFollowed(t *testing.T) {
	t.Parallel()
	for after := range int64(3) {
		synctest.Test(t, func(t *testing.T) {
			b, other := newBook(t, store.Options{}), newBook(t, store.Options{})
			b.allocate("1")
			for range 3 {
				other.allocate("1")
			}
			var replaced atomic.Bool
			b.store.records = func(ctx context.Context, q credit.RecordQuery, next func() ([]credit.Record, error)) ([]credit.Record, error) {
				if replaced.Load() {
					return other.store.Records(ctx, acme.ID, q)
				}
				return next()
			}
			f := follow(b.Follow(t.Context(), after, store.FollowOptions{}))
			assert.Len(t, f.sequences(), 3-int(after))
			replaced.Store(true)
			time.Sleep(time.Minute)
			assert.Len(t, f.sequences(), 3-int(after), "a record of another log was yielded")
			require.EqualError(t, f.err, "credit: corrupt ledger: record 4: does not follow record 3 as it was read before: the log was cut or replaced")
			require.ErrorIs(t, f.err, credit.ErrCorrupt)
			assert.True(t, f.ended)
		})
	}
	b, other := newBook(t, store.Options{}), newBook(t, store.Options{})
	b.store.records = func(ctx context.Context, q credit.RecordQuery, _ func() ([]credit.Record, error)) ([]credit.Record, error) {
		return other.store.Records(ctx, acme.ID, q)
	}
	other.allocate("1")
	b.allocate("1")
	for c, err := range b.Follow(t.Context(), 2, store.FollowOptions{}) {
		require.NoError(t, err, "the hash of record 2 is not at hand")
		assert.Equal(t, other.log()[2], c.Record)
		break
	}
}

func TestAChangeHasAJSONForm(t *testing.T) {
	t.Parallel()
	b, _ := history(t)
	for c, err := range b.Follow(t.Context(), 1, store.FollowOptions{}) {
		require.NoError(t, err)
		record, err := json.Marshal(c.Record)
		require.NoError(t, err)
		text, err := json.Marshal(c)
		require.NoError(t, err)
		assert.Equal(t, `{"record":`+string(record)+`}`, string(text))
		break
	}
}
