package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
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
