package store_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// confirming is a store that shows commits before they are durable.
type confirming struct {
	*holding
	confirmed int
	failures  []error // of the next confirmations
}

func (s *confirming) Confirm(context.Context, uuid.UUID) error {
	s.confirmed++
	if len(s.failures) == 0 {
		return nil
	}
	err := s.failures[0]
	s.failures = s.failures[1:]
	return err
}

func (s *confirming) Holder() store.Store { return s }

func openConfirming(t *testing.T) (*confirming, *store.Ledger) {
	t.Helper()
	s, _ := openHolding(t)
	c := &confirming{holding: s}
	l, err := store.Open(t.Context(), c, acme, store.Options{})
	require.NoError(t, err)
	return c, l
}

// That a command happened is answered once the record that says so is durable, and
// nothing else waits for that.
func TestAReplayIsAnsweredOnceItIsDurable(t *testing.T) {
	t.Parallel()
	s, l := openConfirming(t)
	grant := credit.Grant{Amount: amt("1"), Key: "k"}
	first, err := l.Grant(t.Context(), grant)
	require.NoError(t, err)
	_, err = l.Withdraw(t.Context(), credit.Withdrawal{Amount: amt("1000"), Key: "w"})
	require.ErrorIs(t, err, credit.ErrInsufficientPool)
	_, err = l.Head(t.Context())
	require.NoError(t, err)
	_, err = l.Check(t.Context())
	require.NoError(t, err)
	require.Zero(t, s.confirmed, "a commit, a refusal or a read waited")

	s.failures = []error{store.Retry(errTemporary)}
	again, err := l.Grant(t.Context(), grant)
	require.NoError(t, err)
	assert.True(t, again.Replayed)
	assert.Equal(t, first.Record, again.Record)
	assert.Equal(t, 2, s.confirmed, "the first time it failed")

	s.failures = []error{store.Reject(errFinal)}
	_, err = l.Grant(t.Context(), grant)
	require.ErrorIs(t, err, errFinal, "a replay was answered though it is not known to be durable")
}

// The same, while others write and the ledger is held.
func TestAReplayInAHoldIsAnsweredOnceItIsDurable(t *testing.T) {
	t.Parallel()
	s, l := openConfirming(t)
	grant := credit.Grant{Amount: amt("1"), Key: "k"}
	s.rivals = 1
	_, err := l.Grant(t.Context(), grant)
	require.NoError(t, err)
	before := s.confirmed
	_, err = l.Grant(t.Context(), grant)
	require.NoError(t, err)
	assert.Equal(t, before+1, s.confirmed)
}

// An append whose answer was lost and whose record is found is answered once that is
// durable, with a key and without.
func TestWhatIsFoundIsAnsweredOnceItIsDurable(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "k"} {
		s, _ := openConfirming(t)
		lossy := &losing{confirming: s}
		l, err := store.Open(t.Context(), lossy, acme, store.Options{})
		require.NoError(t, err)
		lossy.lose = 1
		s.failures = []error{store.Retry(errTemporary)}
		r, err := l.Grant(t.Context(), credit.Grant{Amount: amt("1"), Key: key})
		require.NoError(t, err)
		assert.False(t, r.Replayed)
		assert.Equal(t, 2, s.confirmed, "the first time it failed")
		checked, err := l.Check(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 2, checked.Records, "the first one, and it once")
	}
}

// losing writes, and loses the answers.
type losing struct {
	*confirming
	lose int
}

func (s *losing) Append(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
	err := s.confirming.Append(ctx, ledger, expected, b)
	if s.lose--; s.lose >= 0 {
		return errors.Join(err, errLost)
	}
	return err
}
