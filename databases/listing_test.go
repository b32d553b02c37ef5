package databases_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

// everyListing asks a store for a page in every order, of every choice of
// statuses, with every filter that an index finds, from the beginning and from the
// place of a reseller; and for what else is listed. It returns the answers.
func everyListing(t testing.TB, s store.Store, ledger uuid.UUID, at credit.Reseller) (answers []any) {
	t.Helper()
	statuses := []credit.Status{credit.StatusActive, credit.StatusClosed, credit.StatusFrozen}
	low, err := credit.PercentThreshold(decimal.NewFromInt(25))
	require.NoError(t, err)
	list := func(q credit.ResellerQuery, after store.ResellerPosition) {
		q.Limit = 101
		page, err := s.Resellers(t.Context(), ledger, q, after)
		require.NoError(t, err)
		count, err := s.CountResellers(t.Context(), ledger, q)
		require.NoError(t, err)
		answers = append(answers, page, count)
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
				page, err := s.Records(t.Context(), ledger, q)
				require.NoError(t, err)
				answers = append(answers, page)
			}
		}
	}
	for _, n := range []int{1, 8} {
		for _, kinds := range [][]credit.Kind{nil, {credit.KindFreeze, credit.KindUnfreeze, credit.KindClose}} {
			ids := make([]uuid.UUID, n)
			for i := range ids {
				ids[i] = at.ID
			}
			latest, err := s.Latest(t.Context(), ledger, ids[:1:1], kinds, 9)
			require.NoError(t, err)
			answers = append(answers, latest)
		}
	}
	return answers
}

// In a transaction that has read before others wrote, every list shows what is
// committed and what the transaction itself has written, or the transaction fails
// and says so; never the one without the other.
func TestListsInTheCallersTransaction(t *testing.T) {
	for _, name := range append([]string{server.MariaDBSnapshot}, serverNames...) {
		for _, level := range []sql.IsolationLevel{sql.LevelReadCommitted, sql.LevelRepeatableRead} {
			t.Run(name+" "+level.String(), func(t *testing.T) {
				t.Parallel()
				s, db := newSite(t, name).store(t)
				ledger, err := store.Open(t.Context(), s, acme(), store.Options{})
				require.NoError(t, err)
				_, err = ledger.Grant(t.Context(), credit.Grant{Amount: decimal.New(100, 0)})
				require.NoError(t, err)
				added, err := ledger.AddReseller(t.Context(), credit.NewReseller{Name: "Nimbus", ExternalID: "1", Email: "e"})
				require.NoError(t, err)
				id, nimbus := ledger.Distributor().ID, added.ResellerID

				tx, err := db.BeginTxx(t.Context(), &sql.TxOptions{Isolation: level})
				require.NoError(t, err)
				defer func() { _ = tx.Rollback() }()
				_, err = tx.ExecContext(t.Context(), "SELECT r.id FROM credit_resellers r, credit_ledgers, credit_records")
				require.NoError(t, err)

				// By others.
				_, err = ledger.Allocate(t.Context(), credit.Allocation{ResellerID: nimbus, Amount: decimal.New(60, 0), Key: "k", Operator: "o", Reference: "r"})
				require.NoError(t, err)
				_, err = ledger.RecordUsage(t.Context(), credit.Usage{ResellerID: nimbus, Amount: decimal.New(1, 0), Customer: "c"})
				require.NoError(t, err)
				second, err := ledger.AddReseller(t.Context(), credit.NewReseller{Name: "Cirrus", ExternalID: "2", Email: "e"})
				require.NoError(t, err)
				_, err = ledger.FreezeReseller(t.Context(), credit.Freeze{ResellerID: second.ResellerID})
				require.NoError(t, err)

				inside := s.WithTx(tx)
				_, err = ledger.On(inside).Allocate(t.Context(), credit.Allocation{ResellerID: nimbus, Amount: decimal.New(5, 0)})
				if name != server.MariaDB && level == sql.LevelRepeatableRead {
					var failed *sqlstore.TxError
					require.ErrorAs(t, err, &failed)
					require.True(t, failed.Temporary)
					return
				}
				require.NoError(t, err)
				_, err = ledger.On(inside).Check(t.Context())
				require.NoError(t, err)
				listings := func(s store.Store) (answers []any) {
					for _, of := range []uuid.UUID{nimbus, second.ResellerID} {
						found, err := s.Load(t.Context(), id, credit.ReadSet{Resellers: []uuid.UUID{of}})
						require.NoError(t, err)
						answers = append(answers, everyListing(t, s, id, found.Resellers[0])...)
					}
					return answers
				}
				seen := listings(inside)
				require.NoError(t, tx.Commit())
				for i, answer := range listings(s) {
					require.Equal(t, answer, seen[i], "list %d", i)
				}
				requireSound(t, ledger)
			})
		}
	}
}

// A list that is the first thing that the ledger is asked for in such a
// transaction is current as well.
func TestAListHoldsTheLedgerInTheCallersTransactionOnMariaDB(t *testing.T) {
	s, db := newSite(t, server.MariaDB).store(t)
	b, resellers := newDraftBook(t, s, 1)
	tx, err := db.BeginTxx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	_, err = tx.ExecContext(t.Context(), "SELECT sequence FROM credit_records")
	require.NoError(t, err)
	b.write(t, s, usage(resellers[0], "k"))
	found, err := s.WithTx(tx).Records(t.Context(), b.ID, credit.RecordQuery{Limit: 10})
	require.NoError(t, err)
	require.Len(t, found, 3)

	expected, batch := b.draft(t, usage(resellers[0], ""))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Append(ctx, b.ID, expected, batch), context.DeadlineExceeded)
	require.NoError(t, tx.Commit())
	require.NoError(t, s.Append(t.Context(), b.ID, expected, batch))
}
