package main

import (
	"cmp"
	"fmt"
	"slices"
)

// Row is one line of the table: the medians of one comparison.
type Row struct {
	// Name says what is done and against which baseline.
	Name    string `json:"name"`
	Store   string `json:"store"`
	Callers int    `json:"callers"`
	// Ours and Baseline are medians over the repetitions, in Unit. Ratio is the
	// median of the ratios Ours : Baseline, each of one repetition; RatioMin and
	// RatioMax are the outermost of them.
	Ours        float64 `json:"ours"`
	Baseline    float64 `json:"baseline"`
	Ratio       float64 `json:"ratio"`
	Unit        string  `json:"unit"`
	RatioMin    float64 `json:"ratio_min"`
	RatioMax    float64 `json:"ratio_max"`
	Repetitions int     `json:"repetitions"`
	// Goal is what the ratio should be, empty if there is none, and Reached whether
	// it is.
	Goal    string `json:"goal,omitempty"`
	Reached *bool  `json:"reached,omitempty"`
	// Group and Size place the row in a chart: Size is a number of resellers or
	// records, and Label a place in a listing.
	Group string `json:"group"`
	Size  int64  `json:"size,omitempty"`
	Label string `json:"label,omitempty"`
}

// view is one way to look at the rounds of a comparison; each makes a row.
type view struct {
	// what comes between the action and the baseline in the row's name.
	what, unit     string
	ours, baseline func(round) float64
	goal           goal
	// against names another baseline than the comparison's.
	against string
}

// both looks at both sides in the same way.
func both(what, unit string, at func(sample) float64, g goal) view {
	return view{what, unit, func(r round) float64 { return at(r.ours) }, func(r round) float64 { return at(r.baseline) }, g, ""}
}

// goal bounds a ratio, from below or from above. The zero value is no goal.
type goal struct{ least, most float64 }

func (g goal) String() string {
	switch {
	case g.least > 0:
		return fmt.Sprintf("≥ %.4g", g.least)
	case g.most > 0:
		return fmt.Sprintf("≤ %.4g", g.most)
	}
	return ""
}

func (g goal) reached(ratio float64) *bool {
	if g == (goal{}) {
		return nil
	}
	return new(ratio >= g.least && (g.most == 0 || ratio <= g.most))
}

func perSecond(s sample) float64 { return s.rate }
func medianOf(s sample) float64  { return s.median.Seconds() * 1e3 }
func p99Of(s sample) float64     { return s.p99.Seconds() * 1e3 }
func bytesOf(s sample) float64   { return s.bytes }
func perCall(s sample) float64   { return 1e6 / s.rate }

// rate compares how much is done in a second: more is better.
func rate(g goal) view { return both("", "/s", perSecond, g) }

// latency compares the median latency, tail the 99th percentile: less is better.
func latency(g goal) view { return both("median latency", "ms", medianOf, g) }
func tail(g goal) view    { return both("p99 latency", "ms", p99Of, g) }

// cost compares the time that a call takes of all callers together.
func cost(g goal) view { return both("time per call", "µs", perCall, g) }

// round is what both sides did in one repetition.
type round struct{ ours, baseline sample }

// rows makes the rows of a comparison.
func (c comparison) rows(rounds []round) []Row {
	var rows []Row
	for _, v := range c.views {
		var ours, baseline, ratios []float64
		for _, r := range rounds {
			a, b := v.ours(r), v.baseline(r)
			ours, baseline, ratios = append(ours, a), append(baseline, b), append(ratios, a/b)
		}
		row := Row{Name: c.name(v), Store: c.store, Callers: c.callers, Unit: v.unit,
			Ours: median(ours), Baseline: median(baseline), Ratio: median(ratios),
			RatioMin: slices.Min(ratios), RatioMax: slices.Max(ratios), Repetitions: len(rounds),
			Goal: v.goal.String(), Group: c.group, Size: c.size, Label: c.label}
		row.Reached = v.goal.reached(row.Ratio)
		rows = append(rows, row)
	}
	return rows
}

// name is "allocate, p99 latency, vs hand-written, 1,000 resellers".
func (c comparison) name(v view) string {
	name := c.action
	if v.what != "" {
		name += ", " + v.what
	}
	if name += " vs " + cmp.Or(v.against, c.against); c.detail != "" {
		name += ", " + c.detail
	}
	return name
}

// grouped writes a number with commas: 1,000,000.
func grouped(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
