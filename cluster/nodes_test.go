// Package cluster_test runs the library on clusters of database servers, and kills
// their servers while it writes. cluster.sh runs the servers, on loopback, and ends
// them with the test, however that ends. One that cannot be had fails the test.
//
// CREDIT_CLUSTER_ROUNDS is how often each failure happens, 2 by default, and
// CREDIT_CLUSTER_RECORDS how many records are written between one event and the next,
// 500 by default.
package cluster_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	roundsVariable  = "CREDIT_CLUSTER_ROUNDS"
	recordsVariable = "CREDIT_CLUSTER_RECORDS"
)

// nodes is a cluster of three servers, numbered from 1. Its methods are not to be
// called at the same time.
type nodes struct {
	// node are the DSNs of each node alone.
	node [3]string
	// cluster and pooler are PostgreSQL's: the DSN that finds the primary, and the
	// one of a PgBouncer before it.
	cluster, pooler string

	supervisor *exec.Cmd
	lifeline   io.WriteCloser
	answers    *bufio.Reader
}

// startNodes starts a cluster for this test alone: galera or postgres.
func startNodes(t testing.TB, kind string) *nodes {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	dir, err := os.MkdirTemp("", "credit-"+kind+"-") //nolint:usetesting // a short name, for the sockets in it, and it is the script's to remove
	require.NoError(t, err)
	n := &nodes{}
	n.supervisor = exec.CommandContext(context.WithoutCancel(t.Context()), "bash", filepath.Join(filepath.Dir(here), "cluster.sh"), "serve", kind, dir)
	// In a session of its own, a signal to this process's group does not reach it.
	n.supervisor.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	n.supervisor.Stderr = os.Stderr
	n.lifeline, err = n.supervisor.StdinPipe()
	require.NoError(t, err)
	answers, err := n.supervisor.StdoutPipe()
	require.NoError(t, err)
	n.answers = bufio.NewReader(answers)
	require.NoError(t, n.supervisor.Start())
	t.Cleanup(func() {
		require.NoError(t, errors.Join(n.lifeline.Close(), n.supervisor.Wait()), "the cluster ends")
		require.NoDirExists(t, dir)
	})
	created := n.answer(t, "create "+kind)
	found := 0
	for line := range strings.Lines(created) {
		if dsn, ok := strings.CutPrefix(strings.TrimSpace(line), "node="); ok {
			n.node[found] = dsn
			found++
		}
		_, _ = fmt.Sscanf(line, "cluster=%s pgbouncer=%s", &n.cluster, &n.pooler) // other lines are other things
	}
	require.Equal(t, 3, found, created)
	return n
}

// do has the supervisor run a verb on some nodes, and returns what was printed.
func (n *nodes) do(t testing.TB, verb string, on ...int) string {
	t.Helper()
	for _, node := range on {
		verb += " " + strconv.Itoa(node)
	}
	t.Log(verb)
	_, err := io.WriteString(n.lifeline, verb+"\n")
	require.NoError(t, err, "the supervisor is gone")
	return n.answer(t, verb)
}

func (n *nodes) answer(t testing.TB, verb string) string {
	t.Helper()
	var said strings.Builder
	for {
		line, err := n.answers.ReadString('\n')
		require.NoError(t, err, "%s: the supervisor is gone: %s", verb, said.String())
		switch line {
		case "ok\n":
			return said.String()
		case "failed\n":
			require.FailNow(t, verb+" failed", said.String())
		}
		said.WriteString(line)
	}
}

// fromEnvironment is a positive number.
func fromEnvironment(t testing.TB, variable string, or int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return or
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, "environment variable %s", variable)
	require.Positive(t, n, "environment variable %s", variable)
	return n
}
