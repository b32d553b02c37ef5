package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/sqlstore"
)

func Example() {
	dir, err := os.MkdirTemp("", "credit-hello-")
	must(0, err)
	defer func() { must(0, os.RemoveAll(dir)) }()
	hello(context.Background(), filepath.Join(dir, "credit.db"))
	// Output:
	// available 1200 of the pool 48800 remaining
	// record 3 replayed: true
	// credit: repossess: 2000 exceeds the repossessable 1200 (allocated 1200, used 0)
	// available -150.75
}

func TestREADMEShowsThisProgramAndItsOutput(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	program, err := os.ReadFile("main.go")
	require.NoError(t, err)
	test, err := os.ReadFile("main_test.go")
	require.NoError(t, err)

	_, body, _ := strings.Cut(string(program), "func hello(ctx context.Context, path string) {\n")
	body, _, _ = strings.Cut(body, "\n}\n")
	body = strings.ReplaceAll("\n"+body, "\n\t", "\n")[1:]
	require.Contains(t, string(readme), "```go\n"+body+"\n```\n", "the README's program is not examples/hello")

	_, output, _ := strings.Cut(string(test), "\t// Output:\n")
	output, _, _ = strings.Cut(output, "}\n")
	output = strings.ReplaceAll("\n"+output, "\n\t// ", "\n")[1:]
	require.Contains(t, string(readme), "```text\n"+output+"```\n", "the README's output is not that of examples/hello")
}

func TestTheViewsAndLimitsOfTheREADMEAreTheRealOnes(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	db, err := sqlx.Open("sqlite", sqlstore.SQLiteDSN(filepath.Join(t.TempDir(), "credit.db")))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	s, err := sqlstore.New(db, sqlstore.SQLite)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	var views []string
	require.NoError(t, db.SelectContext(t.Context(), &views, "SELECT name FROM sqlite_master WHERE type = 'view'"))
	require.NotEmpty(t, views)
	for _, view := range views {
		require.Contains(t, string(readme), "`"+view+"`")
	}
	for _, row := range []string{
		fmt.Sprintf("magnitude below 10^%d, at most %d digits", credit.IntegerDigits, credit.FractionalDigits),
		fmt.Sprintf("| external id; e-mail; mobile; remark | %d; %d; %d; 1,000 bytes |", credit.MaxExternalID, credit.MaxEmail, credit.MaxMobile),
		fmt.Sprintf("| metadata | %d pairs, keys up to %d bytes, values up to %d bytes |", credit.MaxMetadata, credit.MaxMetadataKey, credit.MaxMetadataValue),
		fmt.Sprintf("1,000 items, %d by default", credit.DefaultPageSize),
	} {
		require.Contains(t, string(readme), row)
	}
	for _, size := range []int{credit.MaxKey, credit.MaxOperator, credit.MaxName, credit.MaxReference, credit.MaxCustomer} {
		require.Equal(t, 200, size)
	}
	require.Equal(t, []int{1000, 1000, 1_000_000_000}, []int{credit.MaxRemark, credit.MaxPageSize, credit.MaxCustomers})
}
