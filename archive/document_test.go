package archive_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheDocumentShowsAnExport(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/archive.md")
	require.NoError(t, err)
	_, shown, found := strings.Cut(string(text), "```json\n")
	require.True(t, found, "docs/archive.md has no example")
	shown, _, _ = strings.Cut(shown, "```")
	require.Equal(t, exported(t, example()), shown, "the example in docs/archive.md is not what Write writes")
}
