package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit/store"
	"github.com/resellerkit/credit/store/storetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Harness{Open: func(t testing.TB) store.Store {
		journal, err := OpenJournal(filepath.Join(t.TempDir(), "credit.journal"))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, journal.file.Close()) })
		return journal
	}})
}

func TestTheOutputIsThatOfAReplayedJournal(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out, filepath.Join(t.TempDir(), "credit.journal")))
	require.Equal(t, "3 records read from the journal and checked; Nimbus Ltd has 250 EUR available\n", out.String())
}

func TestAnAppendThatWasCutOffIsForgotten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "credit.journal")
	require.NoError(t, run(t.Context(), &strings.Builder{}, path))
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, append(whole, whole[:len(whole)/2]...)[:len(whole)+20], 0o600))

	_, err = OpenJournal(path)
	require.NoError(t, err)
	again, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, whole, again)
}
