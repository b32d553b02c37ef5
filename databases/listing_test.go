package databases_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// everyListing asks a store for a page in every order, of every choice of
// statuses, with every filter that an index finds, from the beginning and from the
// place of a reseller; and for what else is listed.
func everyListing(t testing.TB, s store.Store, ledger uuid.UUID, at credit.Reseller) {
	t.Helper()
	statuses := []credit.Status{credit.StatusActive, credit.StatusClosed, credit.StatusFrozen}
	low, err := credit.PercentThreshold(decimal.NewFromInt(25))
	require.NoError(t, err)
	list := func(q credit.ResellerQuery, after store.ResellerPosition) {
		q.Limit = 101
		_, err := s.Resellers(t.Context(), ledger, q, after)
		require.NoError(t, err)
		_, err = s.CountResellers(t.Context(), ledger, q)
		require.NoError(t, err)
	}
	for _, order := range credit.Orders() {
		for _, after := range []store.ResellerPosition{{}, store.PositionOf(at, order)} {
			for n := 1; n <= len(statuses); n++ {
				for _, q := range []credit.ResellerQuery{{}, {Email: "e"}, {ExternalID: at.ExternalID}, {Name: "n", Low: &low}} {
					q.Order, q.Statuses = order, statuses[:n]
					list(q, after)
				}
			}
			if order == credit.OrderAvailable || order == credit.OrderAvailableDown {
				list(credit.ResellerQuery{Order: order, Statuses: statuses[:2], MinAvailable: new(decimal.Zero)}, after)
				list(credit.ResellerQuery{Order: order, Statuses: statuses[:2], MaxAvailable: new(decimal.Zero)}, after)
			}
		}
	}
	for _, newest := range []bool{false, true} {
		for _, bounds := range [][2]int64{{0, 0}, {1, 0}, {0, 4}, {1, 4}} {
			for _, q := range []credit.RecordQuery{
				{}, {ResellerID: at.ID}, {ResellerID: at.ID, Kinds: credit.AllocationKinds()},
				{Kinds: credit.Kinds()[:1]}, {Kinds: credit.AllocationKinds()}, {Kinds: credit.Kinds()},
				{Operator: "o"}, {Reference: "r"}, {Customer: "c"}, {Key: "k"}, {OccurredFrom: time.UnixMicro(1), OccurredUntil: time.UnixMicro(9)},
				{Operator: "o", ResellerID: at.ID}, {Reference: "r", ResellerID: at.ID, Kinds: credit.AllocationKinds()},
			} {
				q.NewestFirst, q.After, q.Before, q.Limit = newest, bounds[0], bounds[1], 101
				_, err := s.Records(t.Context(), ledger, q)
				require.NoError(t, err)
			}
		}
	}
	for _, n := range []int{1, 8} {
		for _, kinds := range [][]credit.Kind{nil, {credit.KindFreeze, credit.KindUnfreeze, credit.KindClose}} {
			ids := make([]uuid.UUID, n)
			for i := range ids {
				ids[i] = at.ID
			}
			_, err := s.Latest(t.Context(), ledger, ids[:1:1], kinds, 9)
			require.NoError(t, err)
		}
	}
}
