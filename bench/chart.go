package main

import (
	"fmt"
	"image/color"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	_ "gonum.org/v1/plot/vg/vgsvg" // writes SVG
)

// chart is one picture.
type chart struct {
	file, title string
	across, up  string // the axes
	logarithmic bool   // both axes
	lines       []line
	names       []string // of the places across, if they are not numbers
	limit       float64  // a goal, drawn across; 0 is none
}

// line is a series of points, drawn with a colour, and dashed for a baseline.
type line struct {
	name   string
	colour int
	dashed bool
	points plotter.XYs
}

// charts are the pictures of a report. One without lines is not drawn.
func charts(rows []Row) []chart {
	found := []chart{throughput(rows)}
	for _, what := range []string{"resellers", "records"} {
		found = append(found, grown(rows, what))
	}
	return append(found, paged(rows))
}

// throughput is allocations per second by callers, of the engine and by hand.
func throughput(rows []Row) chart {
	c := chart{file: "throughput.svg", title: "Allocations from one pool, committed durably", across: "callers", up: "per second", logarithmic: true}
	for i, t := range targets() {
		ours, byHand := line{name: t.name, colour: i}, line{name: t.name + ", by hand", colour: i, dashed: true}
		for _, r := range rows {
			if r.Group == "hand" && r.Store == t.name && r.Size == fewResellers && r.Unit == "/s" {
				ours.points = append(ours.points, plotter.XY{X: float64(r.Callers), Y: r.Ours})
				byHand.points = append(byHand.points, plotter.XY{X: float64(r.Callers), Y: r.Baseline})
			}
		}
		c.add(ours, byHand)
	}
	return c
}

// grown is the latency by the size of the ledger, against the smallest.
func grown(rows []Row, what string) chart {
	c := chart{file: "growth-" + what + ".svg", title: "Median latency of an allocation, by " + what, across: what, up: "milliseconds", logarithmic: true}
	for i, t := range targets() {
		l := line{name: t.name, colour: i}
		for _, r := range rows {
			if r.Group != "growth in "+what || r.Store != t.name || r.Callers != 1 || !strings.Contains(r.Name, "median") {
				continue
			}
			if least, ok := smallest(r); ok && len(l.points) == 0 {
				l.points = append(l.points, plotter.XY{X: least, Y: r.Baseline})
			}
			l.points = append(l.points, plotter.XY{X: float64(r.Size), Y: r.Ours})
		}
		c.add(l)
	}
	return c
}

// smallest reads the size of the smallest ledger from the end of a row's name.
func smallest(r Row) (float64, bool) {
	_, after, found := strings.Cut(r.Name, "vs with ")
	var n float64
	_, err := fmt.Sscan(strings.ReplaceAll(after, ",", ""), &n)
	return n, found && err == nil
}

// paged is the latency of the last page against the first.
func paged(rows []Row) chart {
	c := chart{file: "pages.svg", title: "Latency of the last page against the first", up: "ratio of medians", limit: 1.5}
	for i, t := range targets() {
		l := line{name: t.name, colour: i}
		for _, r := range rows {
			if r.Group != "pages" || r.Store != t.name || !strings.HasPrefix(r.Name, string(final)) || !strings.Contains(r.Name, "median") {
				continue
			}
			at := slices.Index(c.names, r.Label)
			if at < 0 {
				at = len(c.names)
				c.names = append(c.names, r.Label)
			}
			l.points = append(l.points, plotter.XY{X: float64(at), Y: r.Ratio})
		}
		c.add(l)
	}
	return c
}

// add adds the lines that have points.
func (c *chart) add(lines ...line) {
	for _, l := range lines {
		if len(l.points) > 0 {
			slices.SortFunc(l.points, func(a, b plotter.XY) int { return int(math.Copysign(1, a.X-b.X)) })
			c.lines = append(c.lines, l)
		}
	}
}

// palette tells stores apart also for those who do not see all colours (Okabe and
// Ito), in the order of targets.
var palette = []color.RGBA{{0, 0, 0, 255}, {230, 159, 0, 255}, {0, 114, 178, 255}, {0, 158, 115, 255}}

// save writes the chart as SVG.
func (c chart) save(path string) error {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = c.title, c.across, c.up
	p.BackgroundColor = color.White
	p.Legend.Top = true
	p.Legend.Left = true
	p.Add(plotter.NewGrid())
	top := c.limit
	for _, l := range c.lines {
		for _, at := range l.points {
			top = max(top, at.Y)
		}
		drawn, marks, err := plotter.NewLinePoints(l.points)
		if err != nil {
			return err
		}
		drawn.Color, marks.Color = palette[l.colour], palette[l.colour]
		drawn.Width, marks.Radius = vg.Points(1.5), vg.Points(2.5)
		if l.dashed {
			drawn.Dashes = []vg.Length{vg.Points(5), vg.Points(3)}
		}
		if len(c.names) > 0 {
			p.Add(marks)
			p.Legend.Add(l.name, marks)
		} else {
			p.Add(drawn, marks)
			p.Legend.Add(l.name, drawn, marks)
		}
	}
	if c.logarithmic {
		p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
		p.X.Tick.Marker, p.Y.Tick.Marker = c.places(), plot.LogTicks{Prec: -1}
		p.Legend.Left = false
		p.Y.Max = 10 * top // room for the legend
	} else {
		p.Y.Min, p.Y.Max = 0, 1.5*top
	}
	if c.limit > 0 {
		goal := plotter.NewFunction(func(float64) float64 { return c.limit })
		goal.Dashes = []vg.Length{vg.Points(2), vg.Points(2)}
		p.Add(goal)
		p.Legend.Add("goal", goal)
	}
	width := 16 * vg.Centimeter
	if len(c.names) > 0 {
		p.NominalX(c.names...)
		p.X.Tick.Label.Rotation = math.Pi / 6
		p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = draw.XRight, draw.YCenter
		width = 20 * vg.Centimeter
	}
	return p.Save(width, 10*vg.Centimeter, path)
}

// places are marks at the points that were measured.
func (c chart) places() plot.ConstantTicks {
	var marks plot.ConstantTicks
	for _, l := range c.lines {
		for _, at := range l.points {
			marks = append(marks, plot.Tick{Value: at.X, Label: grouped(int64(at.X))})
		}
	}
	slices.SortFunc(marks, func(a, b plot.Tick) int { return int(a.Value - b.Value) })
	return slices.CompactFunc(marks, func(a, b plot.Tick) bool { return a.Value == b.Value })
}
