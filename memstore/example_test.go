package memstore_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
)

// Bill is what an application of yours might keep.
type Bill struct {
	Number   string
	Reseller uuid.UUID
	Amount   decimal.Decimal
}

// chargeMonth is the function to be tested: it records the month's bills and tells
// which resellers have overdrawn their credit. It may run twice.
func chargeMonth(ctx context.Context, ledger credit.Ledger, bills []Bill) (overdrawn []uuid.UUID, err error) {
	for _, b := range bills {
		receipt, err := ledger.RecordUsage(ctx, credit.Usage{ResellerID: b.Reseller, Amount: b.Amount, Key: b.Number})
		if err != nil {
			return nil, fmt.Errorf("bill %s: %w", b.Number, err)
		}
		if receipt.After.Overdraft().IsPositive() {
			overdrawn = append(overdrawn, b.Reseller)
		}
	}
	return overdrawn, nil
}

// A unit test of a function that works on a ledger: a real ledger over a fresh
// memstore takes the place of the database.
func Example() {
	ctx := context.Background()
	ledger, err := store.Open(ctx, memstore.New(), credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}, store.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	// What the test begins with.
	_, errGrant := ledger.Grant(ctx, credit.Grant{Amount: decimal.NewFromInt(1_000)})
	nimbus, errAdd := ledger.AddReseller(ctx, credit.NewReseller{ExternalID: "200012345678", Name: "Nimbus"})
	_, errAllocate := ledger.Allocate(ctx, credit.Allocation{ResellerID: nimbus.ResellerID, Amount: decimal.NewFromInt(100)})
	if err := errors.Join(errGrant, errAdd, errAllocate); err != nil {
		fmt.Println(err)
		return
	}

	bills := []Bill{
		{Number: "2024-05/1", Reseller: nimbus.ResellerID, Amount: decimal.RequireFromString("60.50")},
		{Number: "2024-05/2", Reseller: nimbus.ResellerID, Amount: decimal.RequireFromString("59.50")},
	}
	for range 2 { // as after a crash: the second run must change nothing
		overdrawn, err := chargeMonth(ctx, ledger, bills)
		fmt.Println(len(overdrawn), "overdrawn,", err)
	}
	r, err := ledger.Reseller(ctx, nimbus.ResellerID)
	fmt.Println(r.Name, "used", r.Used, "of", r.Allocated, "available", r.Available(), err)

	_, err = chargeMonth(ctx, ledger, []Bill{{Number: "2024-05/3", Reseller: uuid.Nil, Amount: decimal.NewFromInt(1)}})
	fmt.Println(errors.Is(err, credit.ErrNotFound))

	// Output:
	// 1 overdrawn, <nil>
	// 1 overdrawn, <nil>
	// Nimbus used 120 of 100 available -20 <nil>
	// true
}
