package report_test

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/report"
	"github.com/resellerkit/credit/store"
)

// november is a ledger that was used in November 2026, and its one reseller.
func november() (credit.Ledger, uuid.UUID) {
	ctx, now := context.Background(), time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC)
	acme := credit.Distributor{ID: uuid.MustParse("6f0f7c1e-5f5a-4f0e-9d3b-0c8f6a3f2a01"), Name: "Acme Cloud", Currency: "USD"}
	ledger, err := store.Open(ctx, memstore.New(), acme, store.Options{Now: func() time.Time {
		now = now.Add(24 * time.Hour)
		return now
	}})
	must(err)
	_, err = ledger.Grant(ctx, credit.Grant{Amount: usd("50000")})
	must(err)
	nimbus, err := ledger.AddReseller(ctx, credit.NewReseller{Name: "Nimbus", ExternalID: "200012345678"})
	must(err)
	_, err = ledger.Allocate(ctx, credit.Allocation{ResellerID: nimbus.ResellerID, Amount: usd("1200"), Reference: "po-4711"})
	must(err)
	_, err = ledger.RecordUsage(ctx, credit.Usage{ResellerID: nimbus.ResellerID, Amount: usd("1350.75"), Reference: "bill-2026-10"})
	must(err)
	return ledger, nimbus.ResellerID
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func ExampleNewStatement() {
	ledger, nimbus := november()
	from := time.Date(2026, 11, 4, 0, 0, 0, 0, time.UTC)
	s, err := report.NewStatement(context.Background(), ledger, nimbus, from, from.AddDate(0, 0, 7))
	must(err)
	fmt.Println("opening", s.Opening.Figures.Available())
	for _, r := range s.Movements {
		fmt.Println(r.RecordedAt.Format(time.DateOnly), r.Kind, r.Amount, r.Reference)
	}
	fmt.Println("closing", s.Closing.Figures.Available(), "final:", s.Final)
	// Output:
	// opening 0
	// 2026-11-04 allocate 1200 po-4711
	// 2026-11-05 usage 1350.75 bill-2026-10
	// closing -150.75 final: false
}

func ExampleNewExposure() {
	ctx := context.Background()
	ledger, _ := november()
	e, err := report.NewExposure(ctx, ledger, credit.AsOf{})
	must(err)
	fmt.Println("owed", e.Owed, "overdraft", e.Overdraft, "as of record", e.Head.Sequence)
	for r, err := range e.All(ctx, ledger) {
		must(err)
		fmt.Println(r.Name, "used", r.Used, "share", e.Share(r.Figures))
	}
	// Output:
	// owed 1350.75 overdraft 150.75 as of record 4
	// Nimbus used 1350.75 share 1
}
