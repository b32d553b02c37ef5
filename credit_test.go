package credit_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

func TestDistributor_Validate(t *testing.T) {
	t.Parallel()
	with := func(change func(*credit.Distributor)) credit.Distributor {
		d := acme
		change(&d)
		return d
	}
	assert.NoError(t, acme.Validate())
	assert.NoError(t, with(func(d *credit.Distributor) { d.Name = strings.Repeat("x", credit.MaxName) }).Validate())
	for says, d := range map[string]credit.Distributor{
		"credit: distributor id: is missing; give the ledger an id of its own": with(func(d *credit.Distributor) { d.ID = uuid.Nil }),
		"credit: distributor name: is empty":                                   with(func(d *credit.Distributor) { d.Name = "" }),
		"credit: distributor name: has 201 bytes, at most 200 are allowed":     with(func(d *credit.Distributor) { d.Name = strings.Repeat("x", credit.MaxName+1) }),
		"credit: distributor name: is not UTF-8":                               with(func(d *credit.Distributor) { d.Name = "\xff" }),
	} {
		assert.EqualError(t, d.Validate(), says)
	}
	for _, currency := range []string{"AZA", "ZAZ"} {
		assert.NoError(t, with(func(d *credit.Distributor) { d.Currency = currency }).Validate(), "%q", currency)
	}
	for _, currency := range []string{"", "US", "US@", "US[", "USDT", "usd", "US1", "U D", "ÖS", "US€"} {
		err := with(func(d *credit.Distributor) { d.Currency = currency }).Validate()
		assert.EqualError(t, err, "credit: currency: must be three capital letters (ISO 4217), like USD", "%q", currency)
	}
}

func TestPool_Remaining(t *testing.T) {
	t.Parallel()
	assert.True(t, credit.Pool{}.Remaining().IsZero(), "the zero value is an empty pool")
	assert.Equal(t, "0.000001", credit.Pool{Granted: amt("10"), Allocated: amt("9.999999")}.Remaining().String())
}

// The root package does no I/O, starts no goroutine, reads no clock and makes no
// random id; what it needs beside the standard library is amounts and ids.
func TestPackage_isPure(t *testing.T) {
	t.Parallel()
	list, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"github.com/resellerkit/credit", "github.com/google/uuid", "github.com/shopspring/decimal"}, strings.Fields(string(list)))

	imports := []string{"bytes", "context", "crypto/sha256", "encoding/binary", "encoding/hex", "encoding/json", "errors", "fmt", "iter", "maps", "math/big",
		"slices", "strconv", "strings", "time", "unicode", "unicode/utf8", "github.com/google/uuid", "github.com/shopspring/decimal"}
	impure := map[string][]string{
		"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Local"},
		"uuid": {"New", "NewString", "NewRandom", "NewRandomFromReader", "NewUUID", "NewV6", "NewV7", "NewV7FromReader", "Must"},
		"fmt":  {"Print", "Println", "Printf", "Scan", "Scanln", "Scanf"},
	}
	files, err := os.ReadDir(".")
	require.NoError(t, err)
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, 0)
		require.NoError(t, err)
		for _, i := range file.Imports {
			assert.Contains(t, imports, strings.Trim(i.Path.Value, `"`), "%s: a new import may bring I/O along", f.Name())
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				assert.Fail(t, "the package starts no goroutine", f.Name())
			case *ast.SelectorExpr:
				if p, ok := n.X.(*ast.Ident); ok {
					assert.NotContains(t, impure[p.Name], n.Sel.Name, "%s: %s.%s is not pure", f.Name(), p.Name, n.Sel.Name)
				}
			}
			return true
		})
	}
}
