package sqlstore_test

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Any driver works, and nobody compiles one that is not used, because the library
// imports none.
func TestTheLibraryImportsNoDriver(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	allowed := []string{"github.com/google/uuid", "github.com/jmoiron/sqlx", "github.com/pressly/goose/v3", "github.com/pressly/goose/v3/database",
		"github.com/pressly/goose/v3/lock", "github.com/sethvargo/go-retry", "github.com/shopspring/decimal", "github.com/resellerkit/credit", "github.com/resellerkit/credit/store"}
	checked := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		checked++
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, spec := range parsed.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			if strings.Contains(strings.SplitN(path, "/", 2)[0], ".") {
				assert.Contains(t, allowed, path, file)
			}
		}
	}
	assert.Greater(t, checked, 8)
}
