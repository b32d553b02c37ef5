package sqlstore_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// book decides commands on a state in memory, as the engine would, and makes
// batches of the answers.
type book struct {
	credit.Distributor
	state *credit.State
	now   time.Time
}

func newBook() *book {
	d := credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}
	return &book{Distributor: d, state: credit.NewState(d), now: time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)}
}

// draft executes the commands and returns them as a batch on top of a head.
func (b *book) draft(t testing.TB, commands ...credit.Command) (credit.Head, store.Batch) {
	t.Helper()
	expected := b.state.Head()
	var records []credit.Record
	for _, c := range commands {
		b.now = b.now.Add(time.Microsecond)
		r, err := b.state.Execute(c, credit.Stamp{Time: b.now, RecordID: uuid.New(), ResellerID: uuid.New()})
		require.NoError(t, err)
		require.False(t, r.Replayed)
		records = append(records, r.Record)
	}
	return expected, store.BatchOf(records, b.state.Reseller)
}

// write drafts the commands and appends them to the store.
func (b *book) write(t testing.TB, s store.Store, commands ...credit.Command) store.Batch {
	t.Helper()
	expected, batch := b.draft(t, commands...)
	require.NoError(t, s.Append(t.Context(), b.ID, expected, batch))
	return batch
}

// opened returns a book whose ledger is in the store, with a pool and a reseller.
func opened(t testing.TB, s store.Store) (*book, credit.Reseller) {
	t.Helper()
	b := newBook()
	_, err := s.Create(t.Context(), b.Distributor)
	require.NoError(t, err)
	batch := b.write(t, s, credit.Grant{Amount: amount(t, "1000000")}, credit.NewReseller{Name: "Nimbus", ExternalID: "200012345678"})
	return b, batch.Added[0]
}

func amount(t testing.TB, text string) decimal.Decimal {
	t.Helper()
	d, err := credit.ParseAmount(text)
	require.NoError(t, err)
	return d
}
