package main

import (
	"bytes"
	"os"
	"path/filepath"
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

func TestWhatWasDealtWithIsReplacedAndNeverCutOff(t *testing.T) {
	t.Parallel()
	a := &alarm{file: filepath.Join(t.TempDir(), "seen")}
	require.NoError(t, os.WriteFile(a.file+".new", nil, 0o600)) // of a run that was stopped
	seen, err := a.seen()
	require.NoError(t, err)
	assert.Zero(t, seen)
	require.NoError(t, a.keep(41))
	last, err := os.Open(a.file)
	require.NoError(t, err)
	defer func() { _ = last.Close() }()
	require.NoError(t, a.keep(42))
	seen, err = a.seen()
	require.NoError(t, err)
	assert.EqualValues(t, 42, seen)
	text := make([]byte, 2)
	_, err = last.Read(text)
	require.NoError(t, err)
	assert.Equal(t, "41", string(text), "the file was written over, and whoever is stopped meanwhile finds it empty")
}
