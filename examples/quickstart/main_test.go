package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write testdata/output.txt anew")

func TestTheOutputIsTheOneThatIsKept(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out, ""))
	if *update {
		require.NoError(t, os.WriteFile("testdata/output.txt", out.Bytes(), 0o600))
	}
	want, err := os.ReadFile("testdata/output.txt")
	require.NoError(t, err)
	require.Equal(t, string(want), out.String())
}

func TestRunningItAgainOnTheSameFileChangesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "credit.db")
	var first, second bytes.Buffer
	require.NoError(t, run(t.Context(), &first, path))
	require.NoError(t, run(t.Context(), &second, path))
	log := []byte("At the end of the day:")
	require.Equal(t, string(first.Bytes()[bytes.Index(first.Bytes(), log):]), string(second.Bytes()[bytes.Index(second.Bytes(), log):]))
}
