package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"slices"
	"time"
)

// comparison is a measurement of two sides in turns.
type comparison struct {
	group string // chooses the chart
	// The name of a row is made of these, and of what its view looks at.
	action, against, detail string

	store   string
	callers int
	size    int64
	label   string
	views   []view
	// short: it is one of the most telling.
	short bool
	// long: it sets its own length, so there is no round for warming up.
	long bool
	// prepare makes what is to be compared, in the database of the scope.
	prepare func(ctx context.Context, s *scope) (ours, baseline side, err error)
}

// settings are what a run was asked for.
type settings struct {
	short       bool
	only        *regexp.Regexp // of what describe returns
	stores      []string
	repetitions int
	length      time.Duration // of one side's part of a round
	// budget is when a short run must be done, counted from its start; 0 is
	// whenever.
	budget    time.Duration
	hold      time.Duration // of a snapshot
	resellers []int         // growth; the first is the smallest
	records   []int
	folder    string // for the files of SQLite
}

// run measures, and hands out each row as soon as it is there.
type run struct {
	settings
	began    time.Time
	progress io.Writer
	row      func(Row)
	failed   int
}

// describe is what -only is matched with.
func (c comparison) describe() string {
	return fmt.Sprintf("%s %s %d", c.name(c.views[0]), c.store, c.callers)
}

func (r *run) wanted(c comparison) bool {
	return slices.Contains(r.stores, c.store) && (!r.short || c.short) && r.only.MatchString(c.describe())
}

// choose leaves in the batches what is wanted, and returns the stores for which
// there is something.
func (r *run) choose(batches []batch) []string {
	var used []string
	for i := range batches {
		b := &batches[i]
		b.comparisons = slices.DeleteFunc(b.comparisons, func(c comparison) bool { return !r.wanted(c) })
		if len(b.comparisons) > 0 && !slices.Contains(used, b.target.name) {
			used = append(used, b.target.name)
		}
	}
	return used
}

// measure makes the comparisons of each batch in a scope of its own. One that
// fails is reported and does not stop the others.
func (r *run) measure(ctx context.Context, batches []batch) {
	left := 0
	for _, b := range batches {
		left += len(b.comparisons)
	}
	for _, b := range batches {
		if len(b.comparisons) == 0 {
			continue
		}
		s := newScope(b.target, r.folder)
		for _, c := range b.comparisons {
			if ctx.Err() != nil {
				break
			}
			fmt.Fprintf(r.progress, "%4.0f s, %d to go: %s\n", time.Since(r.began).Seconds(), left, c.describe())
			if err := errors.Join(r.compare(ctx, s, c, left), s.finish()); err != nil {
				r.failed++
				fmt.Fprintf(r.progress, "FAILED: %s: %v\n", c.describe(), err)
			}
			left--
		}
		if err := s.close(); err != nil {
			r.failed++
			fmt.Fprintf(r.progress, "FAILED: end of %s: %v\n", b.target.name, err)
		}
	}
}

// compare warms both sides up and has them take turns, the other one first in
// every second repetition.
func (r *run) compare(ctx context.Context, s *scope, c comparison, left int) error {
	ours, baseline, err := c.prepare(ctx, s)
	if err != nil {
		return err
	}
	length := r.pace(left)
	if !c.long {
		for _, warm := range []side{ours, baseline} {
			if _, err := warm(ctx, length/2); err != nil {
				return err
			}
		}
	}
	var rounds []round
	for i := range r.repetitions {
		var now round
		turns := []func() error{
			func() (err error) { now.ours, err = turn(ctx, "ours", ours, length); return err },
			func() (err error) { now.baseline, err = turn(ctx, "the baseline", baseline, length); return err },
		}
		for j := range turns {
			if err := turns[(i+j)%2](); err != nil {
				return err
			}
		}
		rounds = append(rounds, now)
	}
	for _, row := range c.rows(rounds) {
		r.row(row)
	}
	return nil
}

// turn begins with what the other side left collected.
func turn(ctx context.Context, name string, s side, length time.Duration) (sample, error) {
	runtime.GC()
	got, err := s(ctx, length)
	if err != nil {
		return got, fmt.Errorf("%s: %w", name, err)
	}
	return got, nil
}

// The shortest and the longest part of a round in a run with a budget.
const (
	leastLength = 30 * time.Millisecond
	mostLength  = 300 * time.Millisecond
)

// pace is how long a part of a round may be, with so many comparisons left.
func (r *run) pace(left int) time.Duration {
	if r.budget == 0 {
		return r.length
	}
	parts := time.Duration(left * 2 * (r.repetitions + 1))
	return min(max((r.budget-time.Since(r.began))/parts, leastLength), mostLength)
}
