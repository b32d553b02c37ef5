package store_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a program gets when it imports the library: no driver that it did not
// choose, and nothing that belongs into tests.
func TestTheLibraryBringsNoDriverAndNoTestCode(t *testing.T) {
	t.Parallel()
	const module = "github.com/resellerkit/credit"
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", module, module+"/store", module+"/memstore", module+"/sqlstore", module+"/archive")
	list.Env = append(list.Environ(), "GOWORK=off")
	out, err := list.Output()
	require.NoError(t, err)
	packages := strings.Fields(string(out))
	require.Contains(t, packages, module+"/store")
	unwanted := []string{"modernc.org/sqlite", "github.com/mattn/go-sqlite3", "github.com/ncruces/go-sqlite3", "github.com/jackc/pgx",
		"github.com/lib/pq", "github.com/go-sql-driver/mysql", "testing", "github.com/stretchr/testify", "github.com/anishathalye/porcupine"}
	for _, pkg := range packages {
		for _, no := range unwanted {
			assert.False(t, pkg == no || strings.HasPrefix(pkg, no+"/"), "the library brings %s along", pkg)
		}
	}
}
