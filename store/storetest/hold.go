package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// held opens a store that can be held, with a book in it.
func (h Harness) held(t *testing.T) (store.Store, store.Holder, *book) {
	t.Helper()
	s, b := h.started(t)
	holder, ok := s.(store.Holder)
	if !ok || holder.Holder() != s {
		t.Skip("capability not offered: the store is no store.Holder, so what Hold does was NOT checked")
	}
	return s, holder, b
}

// holdPatience is how long somebody waits in vain for a ledger that is held.
const holdPatience = 50 * time.Millisecond

var holdClauses = []clause{
	{"what is appended is written when it returns", func(h Harness, t *testing.T) {
		s, holder, b := h.held(t)
		second := h.second(t, s)
		for range 3 {
			expected, batch := b.head, b.draft(credit.Grant{Amount: units(1)}, credit.NewReseller{ExternalID: random(b.rng).String(), Name: "N"})
			require.NoError(t, holder.Hold(t.Context(), b.distributor.ID, func(inside store.Store) error {
				found, err := inside.Load(t.Context(), b.distributor.ID, credit.ReadSet{Keys: []string{"start"}})
				require.NoError(t, err)
				require.Equal(t, expected, found.Head)
				require.NoError(t, inside.Append(t.Context(), b.distributor.ID, expected, copyOf(batch)))
				ctx, cancel := context.WithTimeout(t.Context(), holdPatience)
				defer cancel()
				if found, err := second.Load(ctx, b.distributor.ID, credit.ReadSet{}); err == nil { // others may have to wait
					require.Equal(t, expected, found.Head, "it is not written before")
				}
				return nil
			}))
			b.enter(batch)
			b.requireStored(t, s, "what was appended while the ledger was held")
		}
		require.NoError(t, holder.Hold(t.Context(), b.distributor.ID, func(store.Store) error { return nil }))
		b.requireStored(t, s, "after a hold for nothing")
	}},
	{"an error is returned as it is, and nothing is written", func(h Harness, t *testing.T) {
		s, holder, b := h.held(t)
		failed := errors.New("no")
		expected, batch := b.head, b.draft(credit.Grant{Amount: units(1), Key: "k"}, credit.NewReseller{ExternalID: "new", Name: "N"})
		for _, writes := range []bool{false, true} {
			require.Equal(t, failed, holder.Hold(t.Context(), b.distributor.ID, func(inside store.Store) error {
				_, err := inside.Load(t.Context(), b.distributor.ID, credit.ReadSet{})
				require.NoError(t, err)
				if writes {
					require.NoError(t, inside.Append(t.Context(), b.distributor.ID, expected, copyOf(batch)))
				}
				return failed
			}))
			b.requireStored(t, s, "after a hold that failed")
		}
		require.NoError(t, s.Append(t.Context(), b.distributor.ID, expected, copyOf(batch)), "the ledger is let go")
	}},
	{"nobody else writes meanwhile", func(h Harness, t *testing.T) {
		s, holder, b := h.held(t)
		second := h.second(t, s)
		expected, mine, other := b.head, b.draft(credit.Grant{Amount: units(1)}), b.draft(credit.Grant{Amount: units(2)})
		done := make(chan error, 1)
		require.NoError(t, holder.Hold(t.Context(), b.distributor.ID, func(inside store.Store) error {
			_, err := inside.Load(t.Context(), b.distributor.ID, credit.ReadSet{})
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), holdPatience)
			defer cancel()
			require.Error(t, second.Append(ctx, b.distributor.ID, expected, copyOf(other)), "somebody else wrote")
			go func() {
				var err error
				for again := true; again; again = store.Retryable(err) {
					err = second.Append(t.Context(), b.distributor.ID, expected, copyOf(other))
				}
				done <- err
			}()
			return inside.Append(t.Context(), b.distributor.ID, expected, copyOf(mine))
		}))
		require.ErrorIs(t, <-done, store.ErrMoved)
		b.enter(mine)
		b.requireStored(t, s, "after a hold beside a writer")
	}},
	{"a ledger that was never created is ErrNoLedger", func(h Harness, t *testing.T) {
		_, holder, b := h.held(t)
		id := random(b.rng)
		require.ErrorIs(t, holder.Hold(t.Context(), id, func(inside store.Store) error {
			_, err := inside.Load(t.Context(), id, credit.ReadSet{})
			return err
		}), store.ErrNoLedger)
	}},
}
