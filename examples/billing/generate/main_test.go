package main

import (
	"bytes"
	"encoding/csv"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheCommittedSampleIsWhatTheGeneratorWrites(t *testing.T) {
	t.Parallel()
	files := sample()
	require.Equal(t, []string{"bill-2026-07.csv", "bill-2026-08.csv", "bill-2026-09.csv", "changed-2026-07.csv", "resellers.csv"}, slices.Sorted(maps.Keys(files)))
	committed, err := filepath.Glob("../testdata/*.csv")
	require.NoError(t, err)
	require.Len(t, committed, len(files), "testdata holds a file that the generator does not write")
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("../testdata", name))
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), "%s is not what the generator writes; run go generate ./examples/billing", name)
	}
}

func TestTheSampleHasTheSizesThatItsReadersAreTold(t *testing.T) {
	t.Parallel()
	files := sample()
	resellers := map[string]bool{}
	for _, row := range rows(t, files["resellers.csv"]) {
		resellers[row[0]] = true
	}
	require.Len(t, resellers, 12)
	delete(files, "resellers.csv")
	delete(files, "changed-2026-07.csv")

	lines := map[string][]string{} // by month and line id
	corrections, fine := 0, 0
	seen := [4]map[string]bool{{}, {}, {}, {}}
	for _, content := range files {
		for _, row := range rows(t, content) {
			lines[row[0]+"/"+row[1]] = row
			for i := range seen {
				seen[i][row[i]] = true
			}
			if !strings.HasSuffix(row[7], "0") {
				fine++
			}
			if row[5] == "correction" {
				corrections++
			}
		}
	}
	require.Len(t, lines, 20_000, "lines, each with an id of its own in its month")
	require.Len(t, seen[0], 3, "months")
	require.Equal(t, resellers, seen[2], "resellers in the bills and in resellers.csv")
	require.Len(t, seen[3], 300, "customers")
	require.Greater(t, fine, len(lines)/2, "fees with 8 decimals")
	require.Greater(t, corrections, 300, "corrections")

	for id, row := range lines {
		if row[5] != "correction" {
			continue
		}
		earlier := lines[row[6]]
		require.NotNil(t, earlier, "%s corrects a line that does not exist", id)
		require.Equal(t, earlier[2:5], row[2:5], "%s corrects a line of somebody or something else", id)
		require.Less(t, earlier[8], row[8], "%s corrects a line that came later", id)
	}
}

// rows are those below the header.
func rows(t *testing.T, content []byte) [][]string {
	t.Helper()
	rows, err := csv.NewReader(bytes.NewReader(content)).ReadAll()
	require.NoError(t, err)
	return rows[1:]
}
