package archive_test

import (
	"bytes"
	"testing"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/archive"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
)

// What is written of a ledger holds nothing of another one, and what is imported
// changes nothing of it.
func TestAnotherLedgerIsNeitherExportedNorImportedOver(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	open := func(on store.Store, n byte) *store.Ledger {
		return openLedger(t, on, credit.Distributor{ID: uuid.UUID{6: 0x40, 8: 0x80, 15: n}, Name: "N", Currency: "USD"}, store.Options{})
	}
	mine, theirs := open(s, 1), open(s, 2)
	_, err := theirs.AddReseller(t.Context(), credit.NewReseller{ExternalID: "canary", Name: "canary", Email: "canary", Remark: "canary", Key: "key"})
	require.NoError(t, err)
	_, err = mine.AddReseller(t.Context(), credit.NewReseller{ExternalID: "2001", Name: "Nimbus", Key: "key"})
	require.NoError(t, err)
	before := exported(t, theirs)
	require.Contains(t, before, "canary")

	var out bytes.Buffer
	out.WriteString(exported(t, mine))
	require.NoError(t, archive.RecordsCSV(t.Context(), mine, credit.RecordQuery{}, &out))
	require.NoError(t, archive.ResellersCSV(t.Context(), mine, credit.ResellerQuery{}, &out))
	require.NotContains(t, out.String(), "canary", "an export of one ledger holds what is in another")

	other := open(memstore.New(), 3) // with what both have, keys and external ids
	for _, external := range []string{"canary", "2001"} {
		_, err = other.AddReseller(t.Context(), credit.NewReseller{ExternalID: external, Name: "N", Key: "key" + external})
		require.NoError(t, err)
	}
	_, err = other.Grant(t.Context(), credit.Grant{Amount: decimal.NewFromInt(1), Key: "key"})
	require.NoError(t, err)
	_, err = archive.Import(t.Context(), s, bytes.NewReader([]byte(exported(t, other))))
	require.NoError(t, err, "what exists in another ledger is free in this one")
	require.Equal(t, before, exported(t, theirs), "an import changed another ledger")
}
