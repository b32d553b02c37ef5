package store_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

func TestBatchOf_hasEachResellerOnce(t *testing.T) {
	t.Parallel()
	after := map[uuid.UUID]credit.Reseller{}
	for n := range 5 {
		after[id(n)] = credit.Reseller{ID: id(n), ExternalID: "x", Figures: credit.Figures{Used: amt("7")}}
	}
	var asked []uuid.UUID
	known := func(id uuid.UUID) (credit.Reseller, bool) {
		asked = append(asked, id)
		r, known := after[id]
		return r, known
	}
	record := func(kind credit.Kind, reseller uuid.UUID) credit.Record {
		return credit.Record{Kind: kind, ResellerID: reseller}
	}
	records := []credit.Record{
		record(credit.KindGrant, uuid.Nil),
		record(credit.KindUsage, id(1)),
		record(credit.KindAdd, id(2)), record(credit.KindFreeze, id(2)), record(credit.KindUsage, id(2)),
		record(credit.KindUsage, id(3)), record(credit.KindUpdate, id(3)), record(credit.KindUsage, id(3)),
		record(credit.KindAllocate, id(1)), record(credit.KindRepossess, id(4)),
	}
	assert.Equal(t, store.Batch{Records: records, Added: []credit.Reseller{after[id(2)]}, Changed: []credit.Reseller{after[id(3)]},
		Moved: []store.Balance{{ID: id(1), Figures: after[id(1)].Figures}, {ID: id(4), Figures: after[id(4)].Figures}}}, store.BatchOf(records, known))
	assert.Equal(t, []uuid.UUID{id(1), id(2), id(3), id(4)}, asked, "each is asked for once, and none for the pool")

	for kind, changed := range map[credit.Kind]bool{credit.KindUpdate: true, credit.KindFreeze: true, credit.KindUnfreeze: true, credit.KindClose: true,
		credit.KindAllocate: false, credit.KindRepossess: false, credit.KindUsage: false, credit.KindCorrection: false, credit.KindSettle: false} {
		b := store.BatchOf([]credit.Record{record(kind, id(1))}, known)
		assert.Equal(t, changed, len(b.Changed) == 1, "%s", kind)
		assert.Equal(t, !changed, len(b.Moved) == 1, "%s", kind)
	}
	assert.PanicsWithValue(t, "store: reseller "+id(9).String()+" of a record is not known", func() {
		store.BatchOf([]credit.Record{record(credit.KindUsage, id(9))}, known)
	}, "its figures would be written as zero")
}

// What an engine remembers of a reseller is no profile, and must never be written as
// one.
func TestNoProfileIsLostThroughWhatIsRemembered(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	added, err := b.AddReseller(t.Context(), credit.NewReseller{ExternalID: "2002", Name: "Cirrus", Email: "a@example.com", Mobile: "1", Remark: "note", Customers: 3})
	require.NoError(t, err)
	id := added.ResellerID
	want, err := b.Reseller(t.Context(), id)
	require.NoError(t, err)
	for _, c := range []credit.Command{
		credit.Allocation{ResellerID: id, Amount: amt("5")},
		credit.ProfileUpdate{ResellerID: id, Name: new("Cirrus Inc.")},
		credit.Usage{ResellerID: id, Amount: amt("2")},
		credit.Freeze{ResellerID: id},
		credit.Usage{ResellerID: id, Amount: amt("3")},
		credit.Unfreeze{ResellerID: id},
		credit.ProfileUpdate{ResellerID: id, Name: new("Cirrus Inc."), Email: new("b@example.com")},
		credit.Usage{ResellerID: id, Amount: amt("1")},
		credit.Close{ResellerID: id},
	} {
		outcomes, err := b.Bulk(t.Context(), []credit.Command{c}, credit.BulkOptions{})
		require.NoError(t, err)
		require.NoError(t, outcomes[0].Err)
		if u, ok := c.(credit.ProfileUpdate); ok && u.Email != nil {
			assert.Equal(t, []string{"email"}, outcomes[0].Receipt.Changed, "compared with a profile that was not there")
		}
	}
	got, err := b.Reseller(t.Context(), id)
	require.NoError(t, err)
	want.Name, want.Email, want.Status = "Cirrus Inc.", "b@example.com", credit.StatusClosed
	want.Allocated, want.Used = amt("5.000000"), amt("6.000000")
	assert.Equal(t, want, got)
	b.sound()
}

// A store that returns what no record may have is asked again each time.
func TestWhatNoRecordMayHaveIsNotRemembered(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(r *credit.Reseller){
		"a status":  func(r *credit.Reseller) { r.Status = "dormant" },
		"no status": func(r *credit.Reseller) { r.Status = "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBook(t, store.Options{})
			b.store.load = func(_ context.Context, _ credit.ReadSet, next func() (credit.Snapshot, error)) (credit.Snapshot, error) {
				found, err := next()
				for i := range found.Resellers {
					spoil(&found.Resellers[i])
				}
				return found, err
			}
			use := credit.Usage{ResellerID: b.nimbus, Amount: amt("1")}
			_, err := b.Bulk(t.Context(), []credit.Command{use}, credit.BulkOptions{DryRun: true}) // which reads
			require.NoError(t, err)
			b.store.loads.Store(0)
			for range 3 {
				_, err := b.RecordUsage(t.Context(), use)
				require.NoError(t, err)
			}
			assert.EqualValues(t, 3, b.store.loads.Load())
		})
	}
}
