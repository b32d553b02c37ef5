package store_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
)

// holding is a store in memory that can be held. Whenever it is not, somebody
// else writes first, as often as rivals says.
type holding struct {
	store.Store
	rivals, holds, appends int
	// end takes the place of how a held append is written; nil leaves it alone.
	end func(write func() error) error
}

func (s *holding) Append(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
	s.appends++
	if s.rivals > 0 {
		s.rivals--
		other, err := store.Open(ctx, s.Store, acme, store.Options{Memory: store.NewMemory(1)})
		if err != nil {
			return err
		}
		if _, err := other.Grant(ctx, credit.Grant{Amount: amt("1"), Operator: "rival"}); err != nil {
			return err
		}
	}
	return s.Store.Append(ctx, ledger, expected, b)
}

func (s *holding) Holder() store.Store { return s }

func (s *holding) Hold(ctx context.Context, ledger uuid.UUID, f func(store.Store) error) error {
	s.holds++
	inside := &pending{Store: s.Store}
	if err := f(inside); err != nil {
		return err
	}
	write := func() error {
		if inside.write == nil {
			return nil
		}
		return inside.write(ctx)
	}
	if s.end != nil {
		return s.end(write)
	}
	return write()
}

// pending is a store whose append waits for the end of a hold.
type pending struct {
	store.Store
	write func(ctx context.Context) error
}

func (s *pending) Append(_ context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
	s.write = func(ctx context.Context) error { return s.Store.Append(ctx, ledger, expected, b) }
	return nil
}

func openHolding(t *testing.T) (*holding, *store.Ledger) {
	t.Helper()
	s := &holding{Store: memstore.New()}
	l, err := store.Open(t.Context(), s, acme, store.Options{})
	require.NoError(t, err)
	_, err = l.Grant(t.Context(), credit.Grant{Amount: amt("1")})
	require.NoError(t, err)
	return s, l
}

func TestWhoeverIsAlwaysLateHoldsTheLedger(t *testing.T) {
	t.Parallel()
	s, l := openHolding(t)
	s.rivals, s.appends = 1_000_000, 0
	for range 10 {
		_, err := l.Grant(t.Context(), credit.Grant{Amount: amt("1")})
		require.NoError(t, err)
	}
	assert.Equal(t, 2, s.appends, "what is tried in vain")
	assert.Equal(t, 10, s.holds, "from then on it is held at once")

	s.rivals = 0
	for range 100 {
		_, err := l.Grant(t.Context(), credit.Grant{Amount: amt("1")})
		require.NoError(t, err)
	}
	assert.Less(t, s.holds, 30, "an engine that is alone again holds nothing")
	_, err := l.Withdraw(t.Context(), credit.Withdrawal{Amount: amt("1000")})
	require.ErrorIs(t, err, credit.ErrInsufficientPool)
	checked, err := l.Check(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 1+10+100+2, checked.Records)
}

func TestARefusalWhileTheLedgerIsHeldWritesNothing(t *testing.T) {
	t.Parallel()
	s, l := openHolding(t)
	s.rivals = 2
	_, err := l.Grant(t.Context(), credit.Grant{Amount: amt("1")})
	require.NoError(t, err)
	_, err = l.Withdraw(t.Context(), credit.Withdrawal{Amount: amt("1000")})
	require.ErrorIs(t, err, credit.ErrInsufficientPool)
	require.Equal(t, 2, s.holds)
}

// The answer to the end of a hold is lost, marked or not, and whether it was
// written or not.
func TestTheEndOfAHoldThatIsNotAnswered(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(write func() error) error{
		"written and lost": func(write func() error) error { return errors.Join(write(), errLost) },
		"lost":             func(func() error) error { return errLost },
		"taken back":       func(func() error) error { return store.Retry(errTemporary) },
		"overtaken":        func(func() error) error { return store.ErrMoved },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, l := openHolding(t)
			s.rivals = 2
			s.end = func(write func() error) error {
				s.end = nil // once
				return answer(write)
			}
			r, err := l.Grant(t.Context(), credit.Grant{Amount: amt("5")})
			require.NoError(t, err)
			assert.EqualValues(t, 4, r.Sequence, "after the first one and two of a rival")
			checked, err := l.Check(t.Context())
			require.NoError(t, err)
			assert.EqualValues(t, 4, checked.Records, "it is there once")
		})
	}
	s, l := openHolding(t)
	s.rivals = 2
	s.end = func(func() error) error { return store.Reject(errFinal) }
	_, err := l.Grant(t.Context(), credit.Grant{Amount: amt("5")})
	require.ErrorIs(t, err, errFinal)
	require.False(t, store.Retryable(err))
}

// What was refused or replayed is answered, whatever becomes of a hold in which
// nothing was to be written.
func TestTheEndOfAHoldForNothingDoesNotMatter(t *testing.T) {
	t.Parallel()
	s, l := openHolding(t)
	grant := credit.Grant{Amount: amt("1"), Key: "k"}
	s.rivals = 2
	first, err := l.Grant(t.Context(), grant)
	require.NoError(t, err)
	held := s.holds
	s.end = func(write func() error) error { return errors.Join(write(), errLost) }
	_, err = l.Withdraw(t.Context(), credit.Withdrawal{Amount: amt("1000")})
	require.ErrorIs(t, err, credit.ErrInsufficientPool)
	again, err := l.Grant(t.Context(), grant)
	require.NoError(t, err)
	assert.True(t, again.Replayed)
	assert.Equal(t, first.Record, again.Record)
	assert.Equal(t, held+2, s.holds, "nothing was asked for again")
}

// auditing is a store that embeds one that can be held, and sees what is written.
type auditing struct {
	*holding
	appends int
}

func (s *auditing) Append(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
	s.appends++
	return s.holding.Append(ctx, ledger, expected, b)
}

// uncomparable is a store that cannot be compared, and says that it never waits.
type uncomparable struct {
	*holding
	_ []int
}

func (s uncomparable) Holder() store.Store    { return s }
func (s uncomparable) Immediate() store.Store { return s }

func TestAStoreThatEmbedsAHolderIsNotHeldPastItsOwnAppend(t *testing.T) {
	t.Parallel()
	inner := &holding{Store: memstore.New()}
	s := &auditing{holding: inner}
	l, err := store.Open(t.Context(), s, acme, store.Options{})
	require.NoError(t, err)
	inner.rivals = 3
	for range 5 {
		_, err := l.Grant(t.Context(), credit.Grant{Amount: amt("1")})
		require.NoError(t, err)
	}
	assert.Zero(t, inner.holds)
	assert.Equal(t, inner.appends, s.appends, "nothing is written past it")

	inner = &holding{Store: memstore.New()}
	l, err = store.Open(t.Context(), uncomparable{holding: inner}, acme, store.Options{})
	require.NoError(t, err)
	inner.rivals = 3
	_, err = l.Grant(t.Context(), credit.Grant{Amount: amt("1")})
	require.NoError(t, err)
	assert.Zero(t, inner.holds, "whether it embeds another one cannot be told")
}
