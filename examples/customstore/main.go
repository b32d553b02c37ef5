// Customstore runs a ledger on a store of its own: journal.go, a file of JSON
// lines. Its test runs the conformance suite, which is all it takes to know that
// a store for another database is correct.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

func main() {
	dir, err := os.MkdirTemp("", "credit-customstore-")
	if err == nil {
		err = run(context.Background(), os.Stdout, filepath.Join(dir, "credit.journal"))
		_ = os.RemoveAll(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run writes to the journal, and then reads it again as a new process would.
func run(ctx context.Context, w io.Writer, path string) error {
	acme := credit.Distributor{ID: uuid.MustParse("6f0f7c1e-5f5a-4f0e-9d3b-0c8f6a3f2a02"), Name: "Acme Cloud", Currency: "EUR"}
	first, err := open(ctx, path, acme)
	if err != nil {
		return err
	}
	if _, err := first.Grant(ctx, credit.Grant{Amount: decimal.NewFromInt(1000), Operator: "channel@provider.example"}); err != nil {
		return err
	}
	added, err := first.AddReseller(ctx, credit.NewReseller{Name: "Nimbus Ltd", ExternalID: "200012345678"})
	if err != nil {
		return err
	}
	if _, err := first.Allocate(ctx, credit.Allocation{ResellerID: added.ResellerID, Amount: decimal.NewFromInt(250)}); err != nil {
		return err
	}

	again, err := open(ctx, path, acme)
	if err != nil {
		return err
	}
	checked, err := again.Check(ctx)
	if err != nil {
		return err
	}
	reseller, err := again.Reseller(ctx, added.ResellerID)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%d records read from the journal and checked; %s has %s %s available\n",
		checked.Records, reseller.Name, reseller.Available(), acme.Currency)
	return err
}

func open(ctx context.Context, path string, d credit.Distributor) (*store.Ledger, error) {
	journal, err := OpenJournal(path)
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, journal, d, store.Options{})
}
