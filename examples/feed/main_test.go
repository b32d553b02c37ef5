package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEveryWarningIsPrintedOnceAlsoAfterAStop(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out, t.TempDir()))
	assert.Equal(t, `record 5, usage: Nimbus is at or below 25%, 600 -> 250
stopped after record 6, and started again
record 7, usage: Nimbus is at or below 10%, 150 -> -50
record 7, usage: Nimbus is at or below 0%, 150 -> -50
record 7, usage: Nimbus is overdrawn, 150 -> -50
record 8, allocate: Nimbus is recovered, -50 -> 450
`, out.String())
}
