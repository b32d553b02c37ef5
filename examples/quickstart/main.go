// Quickstart is a distributor's day with reseller credit, kept in an embedded
// SQLite file: a grant, two resellers, allocations, a late fee that takes one of
// them below zero, a repossession that is refused, a settlement, a repossession
// of everything, and the records of it all.
//
// Without flags it works on a temporary file. With -db it keeps the file, and
// running it again changes nothing, because every command has a key.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"
	_ "modernc.org/sqlite"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

func main() {
	path := flag.String("db", "", "the SQLite file to keep; empty means a temporary one")
	flag.Parse()
	if err := run(context.Background(), os.Stdout, *path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer, path string) error {
	if path == "" {
		dir, err := os.MkdirTemp("", "credit-quickstart-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		path = filepath.Join(dir, "credit.db")
	}
	db, err := sqlx.Open("sqlite", sqlstore.SQLiteDSN(path))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	s, err := sqlstore.New(db, sqlstore.SQLite)
	if err != nil {
		return err
	}
	if err := s.Migrate(ctx); err != nil {
		return err
	}
	acme := credit.Distributor{ID: uuid.MustParse("6f0f7c1e-5f5a-4f0e-9d3b-0c8f6a3f2a01"), Name: "Acme Cloud", Currency: "USD"}
	ledger, err := store.Open(ctx, s, acme, store.Options{})
	if err != nil {
		return err
	}
	return day(ctx, w, ledger)
}

const operator = "ops@acme.example"

func day(ctx context.Context, w io.Writer, ledger credit.Ledger) error {
	fmt.Fprintf(w, "%s, in %s\n\n", ledger.Distributor().Name, ledger.Distributor().Currency)

	// The channel manager approves a pool.
	if _, err := ledger.Grant(ctx, credit.Grant{Amount: usd("50000"), Operator: "channel@provider.example", Remark: "contract 2026", Key: "grant-2026"}); err != nil {
		return err
	}

	// Two resellers; their ids come with the receipts.
	nimbus, err := ledger.AddReseller(ctx, credit.NewReseller{Name: "Nimbus Ltd", ExternalID: "200012345678", Email: "it@nimbus.example", Customers: 42, Key: "add-nimbus"})
	if err != nil {
		return err
	}
	cirrus, err := ledger.AddReseller(ctx, credit.NewReseller{Name: "Cirrus GmbH", ExternalID: "200087654321", Email: "it@cirrus.example", Customers: 7, Key: "add-cirrus"})
	if err != nil {
		return err
	}

	// Allocations take effect at once.
	for _, a := range []credit.Allocation{
		{ResellerID: nimbus.ResellerID, Amount: usd("1200"), Operator: operator, Remark: "first order", Key: "po-4711"},
		{ResellerID: cirrus.ResellerID, Amount: usd("800.50"), Operator: operator, Remark: "first order", Key: "po-4712"},
	} {
		if _, err := ledger.Allocate(ctx, a); err != nil {
			return err
		}
	}
	fmt.Fprintln(w, "After the allocations:")
	if err := balances(ctx, w, ledger); err != nil {
		return err
	}

	// A late fee is a fact: it is taken, and available goes below zero.
	usage, err := ledger.RecordUsage(ctx, credit.Usage{ResellerID: nimbus.ResellerID, Amount: usd("1350.75"), Customer: "C-17", Reference: "bill 2026-10", Key: "bill-2026-10-nimbus"})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "A late fee of %s leaves Nimbus with %s:\n", usage.Amount, usage.After.Available())
	for _, warning := range usage.Warnings(credit.DefaultThresholds()) {
		if warning.Crossing == credit.CrossingLow {
			fmt.Fprintf(w, "  warning: available sank to %s or below\n", warning.Threshold)
		} else {
			fmt.Fprintf(w, "  warning: %s\n", warning.Crossing)
		}
	}

	// More than is available cannot be taken back, and the error says what could.
	_, err = ledger.Repossess(ctx, credit.Repossession{ResellerID: cirrus.ResellerID, Amount: usd("2000"), Operator: operator, Key: "back-1"})
	limit, refused := errors.AsType[*credit.LimitError](err)
	if !refused {
		return fmt.Errorf("a repossession above the limit was not refused: %w", err)
	}
	fmt.Fprintf(w, "\nRefused (%s): %v\nUp to %s would be accepted.\n", credit.Code(err), err, limit.Allowed)

	// The bill is paid.
	settled, err := ledger.Settle(ctx, credit.Settlement{ResellerID: nimbus.ResellerID, Amount: usd("1350.75"), Operator: operator, Remark: "bill 2026-10 paid", Key: "paid-2026-10-nimbus"})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\nSettled: Nimbus has %s again.\n", settled.After.Available())

	// Take back whatever there is.
	back, err := ledger.RepossessAll(ctx, credit.RepossessAll{ResellerID: cirrus.ResellerID, Operator: operator, Remark: "contract ended", Key: "back-2"})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "Repossessed all that Cirrus had: %s.\n\n", back.Amount.Neg())

	fmt.Fprintln(w, "At the end of the day:")
	if err := balances(ctx, w, ledger); err != nil {
		return err
	}
	return records(ctx, w, ledger)
}

// balances prints the resellers and the pool.
func balances(ctx context.Context, w io.Writer, ledger credit.Ledger) error {
	page, err := ledger.Resellers(ctx, credit.ResellerQuery{Order: credit.OrderOldest})
	if err != nil {
		return err
	}
	t := table(w, "reseller", "account", "status", "allocated", "used", "available")
	for _, r := range page.Items {
		row(t, r.Name, r.ExternalID, string(r.Status), r.Allocated.StringFixed(2), r.Used.StringFixed(2), r.Available().StringFixed(2))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	pool, err := ledger.Pool(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "  pool: %s granted, %s allocated, %s remaining\n\n", pool.Granted, pool.Allocated, pool.Remaining())
	return err
}

// records prints the whole log, page by page.
func records(ctx context.Context, w io.Writer, ledger credit.Ledger) error {
	fmt.Fprintln(w, "Records:")
	t := table(w, "seq", "kind", "amount", "available before", "after", "pool remaining", "operator", "remark")
	q := credit.RecordQuery{Limit: 5}
	for {
		page, err := ledger.Records(ctx, q)
		if err != nil {
			return err
		}
		for _, r := range page.Items {
			row(t, fmt.Sprint(r.Sequence), string(r.Kind), r.Amount.StringFixed(2), r.Before.Available().StringFixed(2),
				r.After.Available().StringFixed(2), r.Pool.Remaining().StringFixed(2), r.Operator, r.Remark)
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return t.Flush()
		}
	}
}

func table(w io.Writer, columns ...string) *tabwriter.Writer {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, columns...)
	return t
}

// row writes one line; Flush reports its error.
func row(t *tabwriter.Writer, cells ...string) {
	for i, cell := range cells {
		cells[i] = cmp.Or(cell, "-")
	}
	_, _ = fmt.Fprintln(t, "  "+strings.Join(cells, "\t"))
}

func usd(s string) decimal.Decimal { return decimal.RequireFromString(s) }
