package sqlstore_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/archive"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

// silentVariable tells a process of this test that it is to be silent.
const silentVariable = "CREDIT_TEST_SILENT"

// Without a logger nothing is written to one, nor to standard output or error:
// whatever fails.
func TestNothingIsLoggedUnlessALoggerIsGiven(t *testing.T) {
	t.Parallel()
	if os.Getenv(silentVariable) != "" {
		toil(t)
		return
	}
	executable, err := os.Executable()
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), executable, "-test.run=^"+t.Name()+"$")
	command.Env = append(os.Environ(), silentVariable+"=1")
	var output, errs bytes.Buffer
	command.Stdout, command.Stderr = &output, &errs
	require.NoError(t, command.Run(), "%s%s", output.String(), errs.String())
	said, _, _ := strings.Cut(output.String(), "coverage: ") // which is said if it is measured
	require.Equal(t, "PASS\n", said, "something was written to standard output")
	require.Empty(t, errs.String(), "something was written to standard error, where the default loggers write")
}

// toil does a little of everything, and much of it fails.
func toil(t *testing.T) {
	failing := &faultyDriver{}
	db := openFaulty(t, failing, filepath.Join(t.TempDir(), "credit.db"))
	s, err := sqlstore.New(db, sqlstore.SQLite)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	require.NoError(t, s.Migrate(t.Context()))
	_, err = s.Status(t.Context())
	require.NoError(t, err)
	ledger, err := store.Open(t.Context(), s, credit.Distributor{ID: [16]byte{1}, Name: "Acme Cloud", Currency: "USD"},
		store.Options{CommitTimeout: time.Second, OnCommit: func(c store.Commit) {
			if c.Err != nil {
				panic("a hook that fails")
			}
		}})
	require.NoError(t, err)
	_, err = ledger.Grant(t.Context(), credit.Grant{Amount: amount(t, "1000"), Key: "k"})
	require.NoError(t, err)
	added, err := ledger.AddReseller(t.Context(), credit.NewReseller{Name: "Nimbus", ExternalID: "200012345678", Email: "ops@example.com"})
	require.NoError(t, err)
	_, err = ledger.Allocate(t.Context(), credit.Allocation{ResellerID: added.ResellerID, Amount: amount(t, "5000"), Remark: "too much"})
	require.ErrorIs(t, err, credit.ErrInsufficientPool)
	_, err = ledger.Grant(t.Context(), credit.Grant{Amount: amount(t, "1"), Key: "k"})
	require.ErrorIs(t, err, credit.ErrKeyConflict)
	for _, commit := range []func(func() error) error{
		func(commit func() error) error { _ = commit(); return errors.New("the answer is lost") },
	} {
		failing.commit = commit
		_, err = ledger.RecordUsage(t.Context(), credit.Usage{ResellerID: added.ResellerID, Amount: amount(t, "1"), Customer: "c", Operator: "o"})
		failing.commit = nil
		if err != nil {
			require.ErrorIs(t, err, credit.ErrOutcomeUnknown)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = ledger.Pool(ctx)
	require.ErrorIs(t, err, context.Canceled)
	var export bytes.Buffer
	_, err = archive.Write(t.Context(), ledger, &export)
	require.NoError(t, err)
	_, err = archive.Verify(bytes.NewReader(export.Bytes()[:export.Len()/2]))
	require.Error(t, err)
	require.NoError(t, archive.ResellersCSV(t.Context(), ledger, credit.ResellerQuery{}, &export))
	_, err = ledger.Check(t.Context())
	require.NoError(t, err)
}
