package store_test

import (
	"context"
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

// The context of a batch, as a store sees it before it ends and afterwards.
func TestTheContextOfABatchEndsWithIt(t *testing.T) {
	t.Parallel()
	for name, look := range map[string]func(context.Context){
		"nothing":     func(context.Context) {},
		"an error":    func(ctx context.Context) { assert.NoError(t, ctx.Err()) },
		"a value":     func(ctx context.Context) { assert.Nil(t, ctx.Value(acme)) },
		"the channel": func(ctx context.Context) { assert.NotNil(t, ctx.Done()) },
		"the deadline": func(ctx context.Context) {
			end, limited := ctx.Deadline()
			assert.True(t, limited)
			assert.Equal(t, time.Minute, time.Until(end), "the time of a batch is not that of the option")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, store.Options{CommitTimeout: time.Minute})
				var kept context.Context
				b.store.append = func(ctx context.Context, _ credit.Head, _ store.Batch, next func() error) error {
					look(ctx)
					kept = ctx //nolint:fatcontext // as a store must not
					return next()
				}
				b.allocate("1")
				require.ErrorIs(t, kept.Err(), context.Canceled, "the context goes on after its batch")
				select {
				case <-kept.Done():
				default:
					t.Error("who waits for the context after its batch waits for ever")
				}
			})
		})
	}
}

func TestTheTimeOfABatchIsOverWithOrWithoutATimer(t *testing.T) {
	t.Parallel()
	for name, look := range map[string]func(context.Context) error{
		"asked":   context.Context.Err,
		"waiting": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, store.Options{CommitTimeout: time.Minute})
				b.store.append = func(ctx context.Context, _ credit.Head, _ store.Batch, next func() error) error {
					time.Sleep(time.Minute - time.Nanosecond)
					require.NoError(t, ctx.Err(), "the time is over early")
					time.Sleep(time.Nanosecond)
					require.ErrorIs(t, look(ctx), context.DeadlineExceeded, "the time is not over")
					return next()
				}
				b.allocate("1")
			})
		})
	}
}

// immediate is a store that says that it never waits.
type immediate struct{ *hooked }

func (s immediate) Immediate() store.Store { return s }

// embedding waits, and embeds a store that does not.
type embedding struct {
	*memstore.Store
	*held
}

func (s embedding) Append(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
	s.here()
	return s.Store.Append(ctx, ledger, expected, b)
}

func TestACallerStaysWhileAnImmediateStoreWorks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{})
		l, err := store.Open(t.Context(), immediate{b.store}, acme, store.Options{})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		b.store.append = func(ctx context.Context, _ credit.Head, _ store.Batch, next func() error) error {
			cancel()
			synctest.Wait() // whoever can leave has left
			require.NoError(t, ctx.Err(), "a caller's cancellation reaches the batch")
			return next()
		}
		_, err = l.Allocate(ctx, b.allocation("5", "k"))
		require.NoError(t, err, "a caller left a store that does not wait")
	})
}

func TestAStoreThatEmbedsAnImmediateOneMayWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHeld()
		l, err := store.Open(t.Context(), embedding{memstore.New(), h}, acme, store.Options{Memory: store.NewMemory(1)})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = l.Grant(ctx, credit.Grant{Amount: amt("1")})
		require.ErrorIs(t, err, credit.ErrOutcomeUnknown, "a caller could not leave a store that waits")
		h.letGo()
	})
}
