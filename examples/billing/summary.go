package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
)

// summary writes what the run did to whom, and how every line ended.
func (p *posting) summary(ctx context.Context) error {
	after := map[string]credit.Figures{}
	if err := resellers(ctx, p.ledger, func(r credit.Reseller) { after[r.ExternalID] = r.Figures }); err != nil {
		return err
	}
	t := tabwriter.NewWriter(p.report, 0, 0, 2, ' ', tabwriter.AlignRight)
	cells(t, "account", "posted", "already", "usage", "corrections", "available before", "after", "  reseller")
	var total account
	for _, number := range slices.Sorted(maps.Keys(p.accounts)) {
		a, name := p.accounts[number], "  "+p.accounts[number].Name
		if f := after[number]; f.Overdraft().IsPositive() {
			name += ", overdrawn"
		}
		cells(t, number, fmt.Sprint(a.posted), fmt.Sprint(a.already), fixed(a.used), fixed(a.corrections), fixed(a.Available()), fixed(after[number].Available()), name)
		total.posted, total.already = total.posted+a.posted, total.already+a.already
		total.used, total.corrections = total.used.Add(a.used), total.corrections.Add(a.corrections)
	}
	cells(t, "total", fmt.Sprint(total.posted), fmt.Sprint(total.already), fixed(total.used), fixed(total.corrections), "", "", "")
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(p.report, `%d lines: %d posted, %d posted already, %d below a millionth, %d changed, %d refused
rounding: each fee by itself to %d decimals, half to even; what was posted differs from what was billed for it by %s
below a millionth: fees that round to nothing and cannot be posted; they come to %s
`, p.lines, p.posted, p.already, p.below, p.changed, p.refused, credit.FractionalDigits, p.rounding, p.lost)
	return err
}

// cells writes one line of a table; Flush reports its error.
func cells(t *tabwriter.Writer, cells ...string) { _, _ = fmt.Fprintln(t, strings.Join(cells, "\t")) }

func fixed(d decimal.Decimal) string { return d.StringFixed(credit.FractionalDigits) }
