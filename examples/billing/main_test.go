package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/sqlstore"
)

var update = flag.Bool("update", false, "write testdata/output.txt anew")

func TestTheOutputIsTheOneThatIsKept(t *testing.T) {
	t.Parallel()
	var report, progress bytes.Buffer
	require.NoError(t, run(t.Context(), &report, &progress, "", nil))
	if *update {
		require.NoError(t, os.WriteFile("testdata/output.txt", report.Bytes(), 0o600))
	}
	want, err := os.ReadFile("testdata/output.txt")
	require.NoError(t, err)
	require.Equal(t, string(want), report.String())
	require.Equal(t, strings.Repeat(`bill-2026-07.csv: 5000 lines, 74 % of the file
bill-2026-08.csv: 5000 lines, 75 % of the file
bill-2026-09.csv: 5000 lines, 74 % of the file
`, 2), progress.String(), "progress is not told apart from the report")
}

func TestABillPostedAgainToAKeptFileChangesNothing(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "credit.db")
	bills := []string{filepath.Join(t.TempDir(), "bill.csv")}
	require.NoError(t, os.WriteFile(bills[0], []byte(july(t)), 0o600))
	var first, second bytes.Buffer
	require.NoError(t, run(t.Context(), &first, &bytes.Buffer{}, file, bills))
	before := headIn(t, file)
	require.Positive(t, before.Sequence)
	require.NoError(t, run(t.Context(), &second, &bytes.Buffer{}, file, bills))
	require.Equal(t, before, headIn(t, file), "the second run wrote something")
	require.Contains(t, first.String(), " 0 posted already, ")
	require.Contains(t, second.String(), " 0 posted, ")
}

func headIn(t *testing.T, file string) credit.Head {
	t.Helper()
	db, err := sqlx.Open("sqlite", sqlstore.SQLiteDSN(file))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	s, err := sqlstore.New(db, sqlstore.SQLite)
	require.NoError(t, err)
	ledger, err := open(t.Context(), s)
	require.NoError(t, err)
	head, err := ledger.Head(t.Context())
	require.NoError(t, err)
	return head
}

func TestABillThatIsNotThereIsAnError(t *testing.T) {
	t.Parallel()
	err := run(t.Context(), &bytes.Buffer{}, &bytes.Buffer{}, "", []string{"testdata/absent.csv"})
	require.ErrorIs(t, err, os.ErrNotExist)
}
