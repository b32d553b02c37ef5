package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
)

// summary writes what the run posted to whom, how many lines ended how, and what
// rounding did.
func (p *posting) summary() error {
	t := tabwriter.NewWriter(p.report, 0, 0, 2, ' ', tabwriter.AlignRight)
	cells(t, "account", "posted", "already", "usage", "corrections", "available before", "after", "  reseller")
	var used, corrections decimal.Decimal
	for _, number := range slices.Sorted(maps.Keys(p.accounts)) {
		a := p.accounts[number]
		if a.posted+a.already == 0 {
			continue
		}
		name := "  " + a.Name
		if a.after.Overdraft().IsPositive() {
			name += ", overdrawn"
		}
		cells(t, number, fmt.Sprint(a.posted), fmt.Sprint(a.already), fixed(a.used), fixed(a.corrections), fixed(a.Available()), fixed(a.after.Available()), name)
		used, corrections = used.Add(a.used), corrections.Add(a.corrections)
	}
	cells(t, "total", fmt.Sprint(p.posted), fmt.Sprint(p.already), fixed(used), fixed(corrections), "", "")
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(p.report, `
%d lines: %d posted, %d posted already, %d below a millionth, %d changed, %d refused
rounding: each fee by itself to %d decimals, half to even; that added %s to what was posted
below a millionth: fees that round to nothing, which cannot be posted; they come to %s

`, p.posted+p.already+p.below+p.changed+p.refused, p.posted, p.already, p.below, p.changed, p.refused, credit.FractionalDigits, p.rounding, p.dust)
	return err
}

// cells writes one line of a table; Flush reports its error.
func cells(t *tabwriter.Writer, cells ...string) { _, _ = fmt.Fprintln(t, strings.Join(cells, "\t")) }

func fixed(d decimal.Decimal) string { return d.StringFixed(credit.FractionalDigits) }
