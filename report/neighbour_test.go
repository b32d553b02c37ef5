package report_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/report"
	"github.com/resellerkit/credit/store"
)

// A report for what exists in another ledger answers as for what exists nowhere.
func TestReports_knowNothingOfAnotherLedger(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	open := func(name string) *store.Ledger {
		l, err := store.Open(t.Context(), s, credit.Distributor{ID: uuid.New(), Name: name, Currency: "USD"}, store.Options{})
		require.NoError(t, err)
		_, err = l.Grant(t.Context(), credit.Grant{Amount: usd("100")})
		require.NoError(t, err)
		return l
	}
	mine, theirs := open("mine"), open("theirs")
	added, err := theirs.AddReseller(t.Context(), credit.NewReseller{ExternalID: "2001", Name: "Nimbus"})
	require.NoError(t, err)
	_, err = theirs.RecordUsage(t.Context(), credit.Usage{ResellerID: added.ResellerID, Amount: usd("7")})
	require.NoError(t, err)

	var answers []string
	for _, id := range []uuid.UUID{added.ResellerID, uuid.New()} {
		_, err := report.NewStatement(t.Context(), mine, id, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
		require.ErrorIs(t, err, credit.ErrNotFound)
		answers = append(answers, strings.ReplaceAll(err.Error(), id.String(), "ID"))
	}
	require.Equal(t, answers[1], answers[0], "the error tells that the reseller exists elsewhere")

	exposure, err := report.NewExposure(t.Context(), mine, credit.AsOf{})
	require.NoError(t, err)
	require.Zero(t, exposure.Resellers, "resellers of another ledger are counted")
	for r, err := range exposure.All(t.Context(), mine) {
		require.NoError(t, err)
		require.Fail(t, "a reseller of another ledger is listed", "%s", r.ID)
	}
}
