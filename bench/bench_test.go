package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

// TestMain lets this test binary be one of several processes on a ledger, as the
// program does.
func TestMain(m *testing.M) {
	if asked := os.Getenv(jobVariable); asked != "" {
		if err := work(context.Background(), asked, os.Stdin, os.Stdout); err != nil {
			_, _ = io.WriteString(os.Stderr, err.Error()+"\n")
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func TestTheMedianIsTheMiddleOrTheMeanOfTheMiddleTwo(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{7}, 7}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 100}, 3}} {
		assert.InDelta(t, c.want, median(c.values), 0, "the median of %v", c.values)
	}
	values := []float64{3, 1, 2}
	median(values)
	assert.Equal(t, []float64{3, 1, 2}, values, "median changed the order of what it was given")
}

func TestAQuantileIsReachedByAtLeastThatShare(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	assert.Equal(t, time.Duration(99), quantile(hundred, 0.99), "of 1 to 100 the 99th percentile is 99")
	assert.Equal(t, time.Duration(50), quantile(hundred, 0.5))
	assert.Equal(t, time.Duration(10), quantile(hundred[:10], 0.99), "of ten values the 99th percentile is the largest")
	assert.Equal(t, time.Duration(1), quantile(hundred[:1], 0.99), "one value is every quantile")
	assert.Zero(t, quantile([]time.Duration{}, 0.5))
}

func TestTheRatioIsTheMedianOfRatiosAndNotTheRatioOfMedians(t *testing.T) {
	c := comparison{group: "hand", action: "allocate", against: "hand-written", detail: "100,000 resellers", store: "sqlite", callers: 64, size: 100_000,
		views: []view{rate(goal{least: 4}), tail(goal{most: 0.4}), latency(goal{})}}
	ms := time.Millisecond
	rows := c.rows([]round{
		{sample{rate: 10, median: 1 * ms, p99: 2 * ms}, sample{rate: 10, median: 2 * ms, p99: 4 * ms}}, // 1
		{sample{rate: 80, median: 1 * ms, p99: 1 * ms}, sample{rate: 20, median: 2 * ms, p99: 5 * ms}}, // 4
		{sample{rate: 50, median: 3 * ms, p99: 3 * ms}, sample{rate: 5, median: 2 * ms, p99: 3 * ms}},  // 10
	})
	require.Len(t, rows, 3)
	assert.Equal(t, Row{Name: "allocate vs hand-written, 100,000 resellers", Store: "sqlite", Callers: 64, Ours: 50, Baseline: 10, Ratio: 4, Unit: "/s",
		RatioMin: 1, RatioMax: 10, Repetitions: 3, Goal: "≥ 4", Reached: new(true), Group: "hand", Size: 100_000}, rows[0])
	assert.Equal(t, "allocate, p99 latency vs hand-written, 100,000 resellers", rows[1].Name)
	assert.InDelta(t, 0.5, rows[1].Ratio, 1e-9)
	assert.Equal(t, new(false), rows[1].Reached, "0.5 is not ≤ 0.4")
	assert.Nil(t, rows[2].Reached, "a row without a goal reached it")
}

func TestNumbersAreWrittenForPeople(t *testing.T) {
	for v, want := range map[float64]string{0.0333: "0.0333", 1.5: "1.50", 12.34: "12.3", 999.6: "1,000", 1234567: "1,234,567"} {
		assert.Equal(t, want, digits(v))
	}
	assert.Equal(t, "≤ 0.03333", goal{most: 1.0 / 30}.String())
}

func TestEveryNameIsGivenOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range everyComparison(t) {
		for _, v := range c.views {
			name := fmt.Sprint(c.name(v), c.store, c.callers)
			assert.False(t, seen[name], "two rows are called %s", name)
			seen[name] = true
		}
	}
}

func everyComparison(t *testing.T) []comparison {
	t.Helper()
	r := &run{settings: settings{hold: time.Second, resellers: []int{10, 100}, records: []int{10, 100}}}
	var all []comparison
	for _, group := range groups {
		for _, b := range group(r) {
			all = append(all, b.comparisons...)
		}
	}
	require.NotEmpty(t, all)
	return all
}

// ran runs the program and returns what it printed.
func ran(t *testing.T, arguments ...string) string {
	t.Helper()
	var printed, said bytes.Buffer
	require.NoError(t, bench(t.Context(), append(arguments, "-folder", t.TempDir()), &printed, &said), "the program failed: %s", &said)
	return printed.String()
}

func TestJSONIsOneRowALine(t *testing.T) {
	out := ran(t, "-short", "-json", "-stores", "memory,sqlite", "-repetitions", "2", "-only", "raw|bare loop memory 1|hand-written sqlite 64")
	names := map[string]Row{}
	for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
		var row Row
		decoder := json.NewDecoder(strings.NewReader(lines.Text()))
		decoder.DisallowUnknownFields()
		require.NoError(t, decoder.Decode(&row), "a line is not a row: %s", lines.Text())
		names[row.Name] = row
		var keys map[string]any
		require.NoError(t, json.Unmarshal([]byte(lines.Text()), &keys))
		for _, key := range []string{"name", "store", "callers", "ours", "baseline", "ratio"} {
			assert.Contains(t, keys, key, "a row has no %s", key)
		}
		assert.Positive(t, row.Ours, row.Name)
		assert.Positive(t, row.Baseline, row.Name)
		assert.Positive(t, row.Ratio, row.Name)
		assert.Equal(t, 2, row.Repetitions, row.Name)
	}
	for name, store := range map[string]string{"allocate, time per call vs bare loop": "memory", "allocate vs hand-written": "sqlite",
		"allocate, p99 latency vs hand-written": "sqlite", "bulk of 1,000 vs raw multi-row statements": "sqlite"} {
		assert.Equal(t, store, names[name].Store, "there is no row %q", name)
	}
}

// tiny has every row of SQLite measured, as briefly as can be.
var tiny = []string{"-stores", "sqlite", "-repetitions", "1", "-length", "1ms", "-hold", "1ms", "-resellers", "10,100", "-records", "20,200"}

func TestARunWritesItsReport(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "results")
	out := ran(t, append(tiny, "-only", "hand-written sqlite (1|8)$|with [0-9]+ rec|with [0-9]+ res|process|snapshot|order and|ledgers", "-out", folder)...)
	assert.Contains(t, out, "goals reached", "the table does not count the goals")

	report, err := readReport(folder)
	require.NoError(t, err)
	groups := map[string]bool{}
	for _, row := range report.Rows {
		groups[row.Group] = true
	}
	for _, group := range []string{"hand", "growth in resellers", "growth in records", "processes", "transaction", "snapshot"} {
		assert.True(t, groups[group], "no row is of the group %s", group)
	}
	c := report.Conditions
	assert.NotEmpty(t, c.Versions)
	assert.Contains(t, c.Settings, Setting{"sqlite synchronous", "2"}, "SQLite does not flush each commit")

	page, err := os.ReadFile(filepath.Join(folder, "README.md"))
	require.NoError(t, err)
	for _, part := range []string{"allocate vs hand-written | sqlite | 8 |", "](throughput.svg)", "](growth-resellers.svg)", "sqlite synchronous | 2", c.Go} {
		assert.Contains(t, string(page), part)
	}

	t.Run("and draws it again, to the byte", func(t *testing.T) {
		before := contents(t, folder)
		require.NoError(t, report.draw(folder))
		assert.Equal(t, before, contents(t, folder))
	})
}

func contents(t *testing.T, folder string) map[string]string {
	t.Helper()
	found := map[string]string{}
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(folder, e.Name()))
		require.NoError(t, err)
		found[e.Name()] = string(content)
	}
	require.Contains(t, found, "throughput.svg")
	return found
}

func TestAComparisonThatFailsFailsTheRunAndNotTheOthers(t *testing.T) {
	r := &run{settings: settings{repetitions: 1, folder: t.TempDir()}, progress: io.Discard}
	var rows []Row
	r.row = func(row Row) { rows = append(rows, row) }
	one := func(err error) comparison {
		return comparison{action: "x", against: "y", views: []view{rate(goal{})}, prepare: func(context.Context, *scope) (ours, baseline side, _ error) {
			s := wholly(func(context.Context) (int, error) { return 1, err })
			return s, s, nil
		}}
	}
	r.measure(t.Context(), []batch{{memory, []comparison{one(io.ErrUnexpectedEOF), one(nil)}}})
	assert.Equal(t, 1, r.failed)
	assert.Len(t, rows, 1)
}

func TestWhatIsKeptWithoutTheLibraryAddsUp(t *testing.T) {
	s := newScope(sqlite, t.TempDir())
	h, err := s.byHand(t.Context(), "hand_", 10, 1)
	require.NoError(t, err)
	r, err := s.raw(t.Context(), "raw_", 10)
	require.NoError(t, err)
	for range 20 {
		require.NoError(t, h.allocate(t.Context()))
	}
	require.NoError(t, r.bulk(t.Context()))
	for b, each := range map[*book]string{h.book: "0.02", r.book: "1"} {
		page, err := b.Resellers(t.Context(), credit.ResellerQuery{})
		require.NoError(t, err)
		require.Len(t, page.Items, 10)
		for _, reseller := range page.Items {
			assert.Equal(t, each, reseller.Allocated.String(), "%s: the resellers do not take turns", b.prefix)
		}
	}
	_, err = h.db.ExecContext(t.Context(), "UPDATE hand_resellers SET allocated = allocated + 1 WHERE external_id = '200000000003'")
	require.NoError(t, err)
	assert.ErrorContains(t, s.close(), "hand_ does not add up", "an allocation that no record explains was not seen")
}

func TestWhatIsAskedForMustExist(t *testing.T) {
	for _, arguments := range [][]string{{"-stores", "oracle"}, {"-repetitions", "0"}, {"-only", "("}, {"-records", "many"}, {"-charts", "-out", "nowhere"}} {
		assert.Error(t, bench(t.Context(), arguments, io.Discard, io.Discard), "%v was accepted", arguments)
	}
}

func TestTheCommandCanBeTypedAgain(t *testing.T) {
	t.Parallel()
	require.Equal(t, `go run . -only 'bulk|it'\''s' -length 1s -out ../docs`, command([]string{"-only", "bulk|it's", "-length", "1s", "-out", "../docs"}))
}

func TestWhatAnIndexCostsIsMeasuredWithoutIt(t *testing.T) {
	out := ran(t, append(tiny, "-only", "without the index records_kind|its row", "-json")...)
	found := map[string]Row{}
	for line := range strings.Lines(out) {
		var row Row
		require.NoError(t, json.Unmarshal([]byte(line), &row))
		found[row.Name] = row
	}
	require.Len(t, found, 3)
	for _, name := range []string{"raw rows, on disk vs without the index records_kind", "a record, its indexes and its key, on disk vs its row, 100,000 records"} {
		assert.Greater(t, found[name].Ratio, 1.02, "%s: an index takes no room", name)
		assert.Greater(t, found[name].Baseline, 150.0, "%s: a record takes less room than its columns", name)
	}
}
