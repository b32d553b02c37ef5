package store_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

func TestABulkCallAnswersEveryCommandAtItsPlace(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	b.store.appends.Store(0)
	outcomes, err := b.Bulk(t.Context(), []credit.Command{
		b.allocation("10", "a"),
		credit.Allocation{ResellerID: b.nimbus, Amount: amt("2000")},
		nil,
		credit.NewReseller{ExternalID: "2002", Name: "Cirrus"},
		b.allocation("10", "a"),
		b.allocation("11", "a"),
		&credit.Usage{ResellerID: b.nimbus, Amount: amt("4")},
		credit.RepossessAll{ResellerID: b.nimbus},
		credit.Allocation{ResellerID: id(99), Amount: amt("1")},
		credit.Prepare(credit.Grant{Amount: amt("1")}),
		credit.NewReseller{ExternalID: "2002", Name: "Cirrus again"},
	}, credit.BulkOptions{})
	require.NoError(t, err)
	require.Len(t, outcomes, 11)
	require.NoError(t, outcomes[0].Err)
	require.ErrorIs(t, outcomes[1].Err, credit.ErrInsufficientPool)
	require.ErrorIs(t, outcomes[2].Err, credit.ErrInvalid)
	require.NoError(t, outcomes[3].Err)
	assert.NotEqual(t, uuid.Nil, outcomes[3].Receipt.ResellerID)
	require.NoError(t, outcomes[4].Err)
	assert.True(t, outcomes[4].Receipt.Replayed, "a key that is repeated in one call replays")
	assert.Equal(t, outcomes[0].Receipt.Record, outcomes[4].Receipt.Record)
	require.ErrorIs(t, outcomes[5].Err, credit.ErrKeyConflict, "a key that is reused in one call is a conflict")
	require.NoError(t, outcomes[6].Err)
	require.NoError(t, outcomes[7].Err)
	assert.Equal(t, "-6", outcomes[7].Receipt.Amount.String(), "commands do not see those before them")
	require.ErrorIs(t, outcomes[8].Err, credit.ErrNotFound)
	require.NoError(t, outcomes[9].Err)
	require.ErrorIs(t, outcomes[10].Err, credit.ErrExists)
	for i, o := range outcomes {
		if o.Err != nil {
			assert.Equal(t, credit.Receipt{}, o.Receipt, "outcome %d has an error and a receipt", i)
		}
	}
	assert.EqualValues(t, 1, b.store.appends.Load(), "a bulk call is one append")
	var written []credit.Record
	for _, i := range []int{0, 3, 6, 7, 9} {
		written = append(written, outcomes[i].Receipt.Record)
	}
	assert.Equal(t, b.log()[2:], written, "the records are not in the order of the commands")
	b.sound()
}

func TestAKeyIsDecidedAfreshAfterARefusalInTheSameCall(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	outcomes, err := b.Bulk(t.Context(), []credit.Command{
		b.allocation("1500", "k"),
		credit.Grant{Amount: amt("1000")},
		b.allocation("1500", "k"),
		b.allocation("1500", "k"),
	}, credit.BulkOptions{})
	require.NoError(t, err)
	require.ErrorIs(t, outcomes[0].Err, credit.ErrInsufficientPool)
	require.NoError(t, outcomes[2].Err, "a refused command consumed its key")
	assert.False(t, outcomes[2].Receipt.Replayed)
	assert.True(t, outcomes[3].Receipt.Replayed)
	b.sound()
}

func TestAllOrNothingWritesNothingWhenOneIsRefused(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	r, err := b.Allocate(t.Context(), b.allocation("10", "earlier"))
	require.NoError(t, err)
	before := b.log()
	outcomes, err := b.Bulk(t.Context(), []credit.Command{
		b.allocation("1", "one"),
		credit.NewReseller{ExternalID: "2002", Name: "Cirrus"},
		b.allocation("10", "earlier"),
		b.allocation("11", "earlier"),
		b.allocation("5000", "two"),
		credit.Freeze{ResellerID: b.nimbus},
		b.allocation("1", "three"),
	}, credit.BulkOptions{AllOrNothing: true})
	require.NoError(t, err)
	for i, want := range []error{credit.ErrNotApplied, credit.ErrNotApplied, credit.ErrNotApplied, credit.ErrKeyConflict,
		credit.ErrInsufficientPool, credit.ErrNotApplied, credit.ErrNotActive} {
		require.ErrorIs(t, outcomes[i].Err, want, "outcome %d", i)
		assert.Equal(t, credit.Receipt{}, outcomes[i].Receipt)
	}
	assert.Equal(t, before, b.log(), "a refused all-or-nothing call wrote something")

	outcomes, err = b.Bulk(t.Context(), []credit.Command{b.allocation("10", "earlier"), b.allocation("1", "one")}, credit.BulkOptions{AllOrNothing: true})
	require.NoError(t, err)
	require.NoError(t, outcomes[0].Err, "a replay counts as satisfied")
	assert.Equal(t, credit.Receipt{Record: r.Record, Replayed: true}, outcomes[0].Receipt)
	require.NoError(t, outcomes[1].Err, "the key of a command that was not applied is still free")
	assert.False(t, outcomes[1].Receipt.Replayed)

	before = b.log()
	outcomes, err = b.Bulk(t.Context(), []credit.Command{b.allocation("10", "earlier"), b.allocation("1", "one")}, credit.BulkOptions{AllOrNothing: true})
	require.NoError(t, err)
	assert.True(t, outcomes[0].Receipt.Replayed)
	assert.True(t, outcomes[1].Receipt.Replayed)
	assert.Equal(t, before, b.log(), "replays wrote something")
	b.sound()
}

// A refused all-or-nothing call leaves nothing behind for the calls of its batch.
func TestARefusedCallLeavesTheOthersOfItsBatchAlone(t *testing.T) {
	t.Parallel()
	for _, o := range []credit.BulkOptions{{AllOrNothing: true}, {DryRun: true}, {AllOrNothing: true, DryRun: true}} {
		t.Run(fmt.Sprintf("%+v", o), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, store.Options{})
				leader, h := b.behindLeader()
				last := credit.Allocation{ResellerID: id(99), Amount: amt("1")} // refused
				if o.DryRun {
					last = b.allocation("1", "")
				}
				unit := make(chan []credit.Outcome, 1)
				go func() {
					outcomes, err := b.Bulk(t.Context(), []credit.Command{b.allocation("900", "k"), credit.Freeze{ResellerID: b.nimbus},
						credit.NewReseller{ExternalID: "2002", Name: "Cirrus"}, credit.Withdrawal{Amount: amt("50")}, last}, o)
					assert.NoError(t, err)
					unit <- outcomes
				}()
				synctest.Wait()
				other := b.start(t.Context(), b.allocation("999", "k"))
				synctest.Wait()
				h.letGo()
				require.NoError(t, leader.get().err)
				outcomes := <-unit
				a := other.get()
				require.NoError(t, a.err, "a call met what was never written")
				assert.False(t, a.Replayed)
				if o.DryRun {
					require.ErrorIs(t, outcomes[4].Err, credit.ErrNotActive)
				}
				b.add("2002")
				b.sound()
			})
		})
	}
}

func TestADryRunTellsWhatTheRealCallDoes(t *testing.T) {
	t.Parallel()
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprintf("all or nothing %t", all), func(t *testing.T) {
			t.Parallel()
			b := newBook(t, newClock().options())
			_, err := b.Allocate(t.Context(), b.allocation("10", "earlier"))
			require.NoError(t, err)
			commands := []credit.Command{
				b.allocation("10", "earlier"),
				credit.NewReseller{ExternalID: "2002", Name: "Cirrus", Key: "add"},
				b.allocation("30", "new"),
				b.allocation("30", "new"),
				credit.Usage{ResellerID: b.nimbus, Amount: amt("12"), Metadata: map[string]string{"a": "b"}},
				credit.RepossessAll{ResellerID: b.nimbus},
				credit.ProfileUpdate{ResellerID: b.nimbus, Name: new("New name")},
			}
			if !all {
				commands = append(commands, b.allocation("5000", "refused"), b.allocation("31", "new"))
			}
			before, appends := b.log(), b.store.appends.Load()
			dry, err := b.Bulk(t.Context(), commands, credit.BulkOptions{DryRun: true, AllOrNothing: all})
			require.NoError(t, err)
			assert.Equal(t, before, b.log(), "a dry run wrote something")
			assert.Equal(t, appends, b.store.appends.Load())
			again, err := b.Bulk(t.Context(), commands, credit.BulkOptions{DryRun: true, AllOrNothing: all})
			require.NoError(t, err)
			assert.Equal(t, dry, again, "a dry run changed what the next one sees")

			real, err := b.Bulk(t.Context(), commands, credit.BulkOptions{AllOrNothing: all})
			require.NoError(t, err)
			require.Len(t, dry, len(real))
			assert.Equal(t, real[0], dry[0], "a replay of what was written is the original record, in a dry run too")
			for i := 1; i < len(real); i++ {
				d, r := dry[i], real[i]
				assert.Equal(t, r.Err == nil, d.Err == nil)
				assert.Equal(t, credit.Code(r.Err), credit.Code(d.Err))
				assert.Zero(t, d.Receipt.Sequence, "a draft has a sequence")
				assert.Equal(t, uuid.Nil, d.Receipt.ID, "a draft has an id")
				assert.True(t, d.Receipt.Hash.IsZero(), "a draft has a hash")
				if r.Receipt.Kind == credit.KindAdd {
					assert.Equal(t, uuid.Nil, d.Receipt.ResellerID, "a reseller that was not added has an id")
					d.Receipt.ResellerID = r.Receipt.ResellerID
				}
				d.Receipt.Sequence, d.Receipt.ID, d.Receipt.Hash = r.Receipt.Sequence, r.Receipt.ID, r.Receipt.Hash
				assert.Equal(t, r.Receipt, d.Receipt, "the real call does something else than the dry run said")
			}
			b.sound()
		})
	}
}

func TestADryRunOnAnEmptyLedgerHasDraftsOnly(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	l, err := store.Open(t.Context(), b.store, credit.Distributor{ID: id(2), Name: "Empty", Currency: "EUR"}, store.Options{})
	require.NoError(t, err)
	outcomes, err := l.Bulk(t.Context(), []credit.Command{credit.Grant{Amount: amt("1"), Key: "k"}, credit.Grant{Amount: amt("1"), Key: "k"}}, credit.BulkOptions{DryRun: true})
	require.NoError(t, err)
	for _, o := range outcomes {
		require.NoError(t, o.Err)
		assert.Zero(t, o.Receipt.Sequence)
		assert.Equal(t, "1", o.Receipt.Pool.Granted.String())
	}
	assert.True(t, outcomes[1].Receipt.Replayed)
}

// Calls of one batch behave as if executed one at a time: a dry run replays what
// a call before it wrote, although neither was committed when it was decided.
func TestADryRunReplaysWhatItsBatchWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{})
		leader, h := b.behindLeader()
		real := b.start(t.Context(), b.allocation("5", "k"))
		synctest.Wait()
		dry := make(chan []credit.Outcome, 1)
		go func() {
			outcomes, err := b.Bulk(t.Context(), []credit.Command{b.allocation("5", "k"), b.allocation("6", "")}, credit.BulkOptions{DryRun: true})
			assert.NoError(t, err)
			dry <- outcomes
		}()
		synctest.Wait()
		h.letGo()
		require.NoError(t, leader.get().err)
		a := real.get()
		require.NoError(t, a.err)
		outcomes := <-dry
		assert.Equal(t, credit.Receipt{Record: a.Record, Replayed: true}, outcomes[0].Receipt, "the replayed record is not the original one")
		assert.Zero(t, outcomes[1].Receipt.Sequence)
	})
}

func TestBulkLimits(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{MaxBulk: 3})
	for n := range 4 {
		outcomes, err := b.Bulk(t.Context(), make([]credit.Command, n), credit.BulkOptions{})
		require.NoError(t, err)
		assert.NotNil(t, outcomes)
		require.Len(t, outcomes, n)
		for _, o := range outcomes {
			require.ErrorIs(t, o.Err, credit.ErrInvalid, "a command that is nil is invalid")
		}
	}
	outcomes, err := b.Bulk(t.Context(), make([]credit.Command, 4), credit.BulkOptions{})
	require.ErrorIs(t, err, credit.ErrInvalid)
	assert.Nil(t, outcomes)
	invalid, ok := err.(*credit.InvalidError) //nolint:errorlint // documented as this very type
	require.True(t, ok)
	assert.Equal(t, "commands", invalid.Field)
	assert.Len(t, b.log(), 2)
}

func TestACommandThatIsANilPointerPanicsInItsCallerOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{})
		leader, h := b.behindLeader()
		other := b.start(t.Context(), b.allocation("1", ""))
		synctest.Wait()
		var nothing *credit.Grant
		assert.Panics(t, func() {
			_, _ = b.Bulk(t.Context(), []credit.Command{b.allocation("1", ""), nothing}, credit.BulkOptions{})
		})
		h.letGo()
		require.NoError(t, leader.get().err)
		require.NoError(t, other.get().err)
		assert.Len(t, b.log(), 4)
	})
}

// embedded and prepared commands are commands, too.
type embedded struct{ credit.NewReseller }

func TestEveryFormOfACommandAddsAReseller(t *testing.T) {
	t.Parallel()
	for name, form := range map[string]func(credit.NewReseller) credit.Command{
		"a value":    func(c credit.NewReseller) credit.Command { return c },
		"a pointer":  func(c credit.NewReseller) credit.Command { return &c },
		"prepared":   func(c credit.NewReseller) credit.Command { return credit.Prepare(c) },
		"embedded":   func(c credit.NewReseller) credit.Command { return embedded{c} },
		"both":       func(c credit.NewReseller) credit.Command { return credit.Prepare(&embedded{c}) },
		"a relative": func(c credit.NewReseller) credit.Command { return struct{ credit.Command }{c} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBook(t, store.Options{})
			outcomes, err := b.Bulk(t.Context(), []credit.Command{
				credit.Grant{Amount: amt("1")},
				form(credit.NewReseller{ExternalID: "2002", Name: "Cirrus"}),
				form(credit.NewReseller{ExternalID: "2003", Name: "Stratus"}),
			}, credit.BulkOptions{})
			require.NoError(t, err)
			seen := map[uuid.UUID]bool{uuid.Nil: true}
			for _, o := range outcomes[1:] {
				require.NoError(t, o.Err)
				assert.False(t, seen[o.Receipt.ResellerID], "the new reseller has no id of its own")
				seen[o.Receipt.ResellerID] = true
				r, err := b.Reseller(t.Context(), o.Receipt.ResellerID)
				require.NoError(t, err, "a record says that it added a reseller, and there is none")
				assert.Equal(t, o.Receipt.ExternalID, r.ExternalID)
			}
			b.sound()
		})
	}
}

// The race detector watches this one.
func TestWhatTheCallerDoesToItsCommandsLaterIsNotSeen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, store.Options{})
		leader, h := b.behindLeader()
		metadata := map[string]string{"a": "b"}
		name := "New name"
		usage := &credit.Usage{ResellerID: b.nimbus, Amount: amt("4"), Metadata: metadata, Key: "u"}
		update := &credit.ProfileUpdate{ResellerID: b.nimbus, Name: &name}
		commands := []credit.Command{usage, update}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		left := make(chan error, 1)
		go func() {
			_, err := b.Bulk(ctx, commands, credit.BulkOptions{})
			left <- err
		}()
		synctest.Wait()
		commands[0], commands[1] = nil, nil // while it queues
		metadata["a"], name, usage.Key = "changed", "Changed", "changed"
		second := newHeld()
		b.store.append = func(_ context.Context, _ credit.Head, _ store.Batch, next func() error) error {
			second.here()
			return next()
		}
		h.letGo()
		require.NoError(t, leader.get().err)
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-left, credit.ErrOutcomeUnknown)
		metadata["c"], name, usage.Amount = "d", "Changed again", amt("77") // after it returned
		second.letGo()
		synctest.Wait()
		time.Sleep(time.Second)
		written := b.withKey("u")
		require.Len(t, written, 1)
		assert.Equal(t, map[string]string{"a": "b"}, written[0].Metadata)
		assert.Equal(t, "4", written[0].Amount.String())
		r, err := b.Reseller(t.Context(), b.nimbus)
		require.NoError(t, err)
		assert.Equal(t, "New name", r.Name)
	})
}

func TestAReceiptIsTheCallersOwn(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	c := credit.Usage{ResellerID: b.nimbus, Amount: amt("4"), Metadata: map[string]string{"a": "b"}, Key: "u"}
	outcomes, err := b.Bulk(t.Context(), []credit.Command{c, c}, credit.BulkOptions{})
	require.NoError(t, err)
	outcomes[0].Receipt.Metadata["a"] = "changed"
	assert.Equal(t, "b", outcomes[1].Receipt.Metadata["a"], "two receipts share their metadata")
	r, err := b.RecordUsage(t.Context(), c)
	require.NoError(t, err)
	assert.Equal(t, "b", r.Metadata["a"], "the stored record shares its metadata with a receipt")
	r.Metadata["a"] = "changed again"
	b.sound()
}
