package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"text/template"

	_ "embed"
)

// Report is all that a run found, as it stands in results.json.
type Report struct {
	Conditions Conditions `json:"conditions"`
	Rows       []Row      `json:"rows"`
}

const resultsFile = "results.json"

// readReport reads the report of an earlier run from its folder.
func readReport(folder string) (Report, error) {
	var r Report
	content, err := os.ReadFile(filepath.Join(folder, resultsFile)) //nolint:gosec // the folder that was asked for
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(content, &r)
}

// write writes the report, the page that shows it, and its charts.
func (r Report) write(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // documentation is for everybody
		return err
	}
	content, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, resultsFile), append(content, '\n'), 0o644); err != nil { //nolint:gosec // as above
		return err
	}
	return r.draw(folder)
}

//go:embed page.md.tmpl
var pageText string

// draw makes the page and the charts of a report.
func (r Report) draw(folder string) error {
	var drawn []chart
	for _, c := range charts(r.Rows) {
		if len(c.lines) == 0 {
			continue
		}
		if err := c.save(filepath.Join(folder, c.file)); err != nil {
			return fmt.Errorf("%s: %w", c.file, err)
		}
		drawn = append(drawn, c)
	}
	page, err := template.New("page").Funcs(template.FuncMap{"cells": func(row Row) string { return strings.Join(cells(row), " | ") },
		"heads": func() string { return strings.Join(heads, " | ") }, "title": func(c chart) string { return c.title }, "file": func(c chart) string { return c.file },
		"goals": func() string { return goals(r.Rows) }, "busy": busy}).Parse(pageText)
	if err != nil {
		return err
	}
	var text strings.Builder
	if err := page.Execute(&text, map[string]any{"Conditions": r.Conditions, "Rows": r.Rows, "Charts": drawn}); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "README.md"), []byte(text.String()), 0o644) //nolint:gosec // as above
}

// table prints the rows for people.
func (r Report) table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range append([][]string{heads}, every(r.Rows)...) {
		if _, err := fmt.Fprintln(t, strings.Join(line, "\t")); err != nil {
			return err
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, goals(r.Rows))
	return err
}

var heads = []string{"row", "store", "callers", "ours", "baseline", "unit", "ratio", "spread", "goal", "reached"}

func every(rows []Row) [][]string {
	var lines [][]string
	for _, row := range rows {
		lines = append(lines, cells(row))
	}
	return lines
}

func cells(r Row) []string {
	reached := ""
	if r.Reached != nil {
		reached = map[bool]string{true: "yes", false: "NO"}[*r.Reached]
	}
	return []string{r.Name, r.Store, fmt.Sprint(r.Callers), digits(r.Ours), digits(r.Baseline), r.Unit,
		digits(r.Ratio), digits(r.RatioMin) + "–" + digits(r.RatioMax), r.Goal, reached}
}

// digits writes a number with three digits that count.
func digits(v float64) string {
	switch {
	case v >= 100:
		return grouped(int64(v + 0.5))
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// goals counts those that were reached.
func goals(rows []Row) string {
	set, reached := 0, 0
	for _, r := range rows {
		if r.Reached != nil {
			set++
			if *r.Reached {
				reached++
			}
		}
	}
	return fmt.Sprintf("%d of %d goals reached", reached, set)
}
