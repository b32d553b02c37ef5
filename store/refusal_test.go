package store_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

func TestAStoreThatAnswersWithARefusalIsNotTakenForARule(t *testing.T) {
	t.Parallel()
	for _, refusal := range []error{credit.ErrInsufficientPool, credit.ErrInvalid, credit.ErrBusy} {
		b := newBook(t, store.Options{})
		b.store.append = func(context.Context, credit.Head, store.Batch, func() error) error { return store.Reject(refusal) }
		_, err := b.Allocate(t.Context(), b.allocation("1", ""))
		require.EqualError(t, err, refusal.Error(), "the text is lost")
		assert.NotErrorIs(t, err, refusal, "an error of the store matched a refusal")
		assert.Equal(t, "internal", credit.Code(err))
	}
}

func TestAReadThatIsCancelledWithACauseIsStillCancelled(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("shutting down"))
	_, err := b.Pool(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "shutting down")
}
