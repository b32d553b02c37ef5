package credit_test

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

// exampleLedger opens a ledger in memory with a pool of 1,000 and one reseller, Nimbus,
// that has 300 of it.
func exampleLedger() (context.Context, credit.Ledger, uuid.UUID) {
	ctx := context.Background()
	acme := credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}
	ledger, err := store.Open(ctx, memstore.New(), acme, store.Options{})
	if err != nil {
		panic(err)
	}
	must(ledger.Grant(ctx, credit.Grant{Amount: usd("1000")}))
	nimbus := must(ledger.AddReseller(ctx, credit.NewReseller{Name: "Nimbus", ExternalID: "200012345678"})).ResellerID
	must(ledger.Allocate(ctx, credit.Allocation{ResellerID: nimbus, Amount: usd("300")}))
	return ctx, ledger, nimbus
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func usd(s string) decimal.Decimal { return decimal.RequireFromString(s) }

func ExampleLedger_Grant() {
	ctx, ledger, _ := exampleLedger()
	r := must(ledger.Grant(ctx, credit.Grant{Amount: usd("500"), Operator: "channel@example.com", Remark: "contract 2026"}))
	fmt.Println(r.Kind, r.Amount, "remaining", r.Pool.Remaining())
	// Output: grant 500 remaining 1200
}

func ExampleLedger_Withdraw() {
	ctx, ledger, _ := exampleLedger()
	r := must(ledger.Withdraw(ctx, credit.Withdrawal{Amount: usd("100")}))
	fmt.Println(r.Kind, r.Amount, "remaining", r.Pool.Remaining())
	_, err := ledger.Withdraw(ctx, credit.Withdrawal{Amount: usd("700")})
	fmt.Println(err)
	// Output:
	// withdraw -100 remaining 600
	// credit: withdraw: 700 exceeds the pool's remaining 600
}

func ExampleLedger_AddReseller() {
	ctx, ledger, _ := exampleLedger()
	added := must(ledger.AddReseller(ctx, credit.NewReseller{Name: "Cirrus", ExternalID: "200087654321", Customers: 7}))
	cirrus := must(ledger.Reseller(ctx, added.ResellerID))
	fmt.Println(cirrus.Name, cirrus.Status, cirrus.Available())
	_, err := ledger.AddReseller(ctx, credit.NewReseller{Name: "Cirrus again", ExternalID: "200087654321"})
	fmt.Println(errors.Is(err, credit.ErrExists))
	// Output:
	// Cirrus active 0
	// true
}

func ExampleLedger_UpdateReseller() {
	ctx, ledger, nimbus := exampleLedger()
	name := "Nimbus Ltd"
	r := must(ledger.UpdateReseller(ctx, credit.ProfileUpdate{ResellerID: nimbus, Name: &name, Operator: "ops@example.com"}))
	fmt.Println(r.Changed, must(ledger.Reseller(ctx, nimbus)).Name)
	// Output: [name] Nimbus Ltd
}

func ExampleLedger_FreezeReseller() {
	ctx, ledger, nimbus := exampleLedger()
	must(ledger.FreezeReseller(ctx, credit.Freeze{ResellerID: nimbus, Remark: "under review"}))
	_, err := ledger.Allocate(ctx, credit.Allocation{ResellerID: nimbus, Amount: usd("1")})
	fmt.Println(err)
	r := must(ledger.RecordUsage(ctx, credit.Usage{ResellerID: nimbus, Amount: usd("20")}))
	fmt.Println(r.After.Available())
	// Output:
	// credit: reseller not active: allocate: it is frozen
	// 280
}

func ExampleLedger_UnfreezeReseller() {
	ctx, ledger, nimbus := exampleLedger()
	_, err := ledger.UnfreezeReseller(ctx, credit.Unfreeze{ResellerID: nimbus})
	fmt.Println(err)
	must(ledger.FreezeReseller(ctx, credit.Freeze{ResellerID: nimbus}))
	must(ledger.UnfreezeReseller(ctx, credit.Unfreeze{ResellerID: nimbus}))
	fmt.Println(must(ledger.Reseller(ctx, nimbus)).Status)
	// Output:
	// credit: reseller not frozen: unfreeze: it is active
	// active
}

func ExampleLedger_CloseReseller() {
	ctx, ledger, nimbus := exampleLedger()
	_, err := ledger.CloseReseller(ctx, credit.Close{ResellerID: nimbus})
	fmt.Println(err)
	must(ledger.RepossessAll(ctx, credit.RepossessAll{ResellerID: nimbus}))
	must(ledger.CloseReseller(ctx, credit.Close{ResellerID: nimbus}))
	fmt.Println(len(must(ledger.Resellers(ctx, credit.ResellerQuery{})).Items), "in the default listing")
	// Output:
	// credit: close: 300 can still be repossessed; repossess it first
	// 0 in the default listing
}

func ExampleLedger_Allocate() {
	ctx, ledger, nimbus := exampleLedger()
	order := credit.Allocation{ResellerID: nimbus, Amount: usd("250.50"), Operator: "ops@example.com", Key: "po-4711"}
	r := must(ledger.Allocate(ctx, order))
	fmt.Println("available", r.Before.Available(), "to", r.After.Available(), "replayed:", r.Replayed)
	r = must(ledger.Allocate(ctx, order))
	fmt.Println("available", r.Before.Available(), "to", r.After.Available(), "replayed:", r.Replayed)
	_, err := ledger.Allocate(ctx, credit.Allocation{ResellerID: nimbus, Amount: usd("500")})
	fmt.Println(err)
	// Output:
	// available 300 to 550.5 replayed: false
	// available 300 to 550.5 replayed: true
	// credit: allocate: 500 exceeds the pool's remaining 449.5
}

func ExampleLedger_Repossess() {
	ctx, ledger, nimbus := exampleLedger()
	must(ledger.RecordUsage(ctx, credit.Usage{ResellerID: nimbus, Amount: usd("120")}))
	_, err := ledger.Repossess(ctx, credit.Repossession{ResellerID: nimbus, Amount: usd("200")})
	fmt.Println(err)
	if limit, ok := errors.AsType[*credit.LimitError](err); ok {
		r := must(ledger.Repossess(ctx, credit.Repossession{ResellerID: nimbus, Amount: limit.Allowed}))
		fmt.Println(r.Amount, "leaves", r.After.Available(), "and the pool", r.Pool.Remaining())
	}
	// Output:
	// credit: repossess: 200 exceeds the repossessable 180 (allocated 300, used 120)
	// -180 leaves 0 and the pool 880
}

func ExampleLedger_RepossessAll() {
	ctx, ledger, nimbus := exampleLedger()
	r := must(ledger.RepossessAll(ctx, credit.RepossessAll{ResellerID: nimbus}))
	fmt.Println(r.Amount)
	_, err := ledger.RepossessAll(ctx, credit.RepossessAll{ResellerID: nimbus})
	fmt.Println(err)
	// Output:
	// -300
	// credit: repossess: all exceeds the repossessable 0 (allocated 0, used 0)
}

func ExampleLedger_RecordUsage() {
	ctx, ledger, nimbus := exampleLedger()
	r := must(ledger.RecordUsage(ctx, credit.Usage{ResellerID: nimbus, Amount: usd("450.75"), Customer: "C-17", Key: "bill-2026-10"}))
	fmt.Println("available", r.After.Available(), "overdraft", r.After.Overdraft())
	// Output: available -150.75 overdraft 150.75
}

func ExampleLedger_CorrectUsage() {
	ctx, ledger, nimbus := exampleLedger()
	fee := must(ledger.RecordUsage(ctx, credit.Usage{ResellerID: nimbus, Amount: usd("100")}))
	r := must(ledger.CorrectUsage(ctx, credit.Correction{ResellerID: nimbus, Amount: usd("30"), Corrects: fee.Sequence, Remark: "price was lowered"}))
	fmt.Println(r.Amount, "used", r.After.Used)
	// Output: -30 used 70
}

func ExampleLedger_Settle() {
	ctx, ledger, nimbus := exampleLedger()
	must(ledger.RecordUsage(ctx, credit.Usage{ResellerID: nimbus, Amount: usd("100")}))
	r := must(ledger.Settle(ctx, credit.Settlement{ResellerID: nimbus, Amount: usd("60")}))
	fmt.Println("used", r.After.Used, "available", r.After.Available())
	_, err := ledger.Settle(ctx, credit.Settlement{ResellerID: nimbus, Amount: usd("60")})
	fmt.Println(err)
	// Output:
	// used 40 available 260
	// credit: settle: 60 exceeds the used 40
}

func ExampleLedger_Bulk() {
	ctx, ledger, nimbus := exampleLedger()
	commands := []credit.Command{
		credit.Usage{ResellerID: nimbus, Amount: usd("100"), Key: "bill-1"},
		credit.Repossession{ResellerID: nimbus, Amount: usd("250"), Key: "back-1"},
		credit.Allocation{ResellerID: nimbus, Amount: usd("50"), Key: "po-1"},
	}
	print := func(outcomes []credit.Outcome) {
		for i, o := range outcomes {
			if o.Err != nil {
				fmt.Println(i, credit.Code(o.Err))
			} else {
				fmt.Println(i, o.Receipt.Kind, o.Receipt.After.Available())
			}
		}
	}
	print(must(ledger.Bulk(ctx, commands, credit.BulkOptions{AllOrNothing: true})))
	print(must(ledger.Bulk(ctx, commands, credit.BulkOptions{})))
	// Output:
	// 0 not_applied
	// 1 exceeds_available
	// 2 not_applied
	// 0 usage 200
	// 1 exceeds_available
	// 2 allocate 250
}

func ExampleLedger_Bulk_dryRun() {
	ctx, ledger, nimbus := exampleLedger()
	outcomes := must(ledger.Bulk(ctx, []credit.Command{credit.RepossessAll{ResellerID: nimbus}}, credit.BulkOptions{DryRun: true}))
	fmt.Println("would take", outcomes[0].Receipt.Amount.Neg())
	fmt.Println("still there:", must(ledger.Reseller(ctx, nimbus)).Available())
	// Output:
	// would take 300
	// still there: 300
}

func ExampleLedger_Pool() {
	ctx, ledger, _ := exampleLedger()
	pool := must(ledger.Pool(ctx))
	fmt.Println(pool.Granted, pool.Allocated, pool.Remaining())
	// Output: 1000 300 700
}

func ExampleLedger_Head() {
	ctx, ledger, _ := exampleLedger()
	head := must(ledger.Head(ctx))
	fmt.Println(head.Sequence, "records, hash of", len(head.Hash.String()), "digits")
	// Output: 3 records, hash of 64 digits
}

func ExampleLedger_Reseller() {
	ctx, ledger, nimbus := exampleLedger()
	r := must(ledger.Reseller(ctx, nimbus))
	fmt.Println(r.Name, r.ExternalID, r.Available(), r.Repossessable())
	_, err := ledger.Reseller(ctx, uuid.UUID{1})
	fmt.Println(errors.Is(err, credit.ErrNotFound))
	// Output:
	// Nimbus 200012345678 300 300
	// true
}

func ExampleLedger_Resellers() {
	ctx, ledger, _ := exampleLedger()
	must(ledger.AddReseller(ctx, credit.NewReseller{Name: "Cirrus", ExternalID: "200087654321"}))
	q := credit.ResellerQuery{Order: credit.OrderOldest, Limit: 1}
	for {
		page := must(ledger.Resellers(ctx, q))
		for _, r := range page.Items {
			fmt.Println(r.Name, r.Available())
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			break
		}
	}
	// Output:
	// Nimbus 300
	// Cirrus 0
}

func ExampleLedger_HeadAsOf() {
	ctx, ledger, nimbus := exampleLedger()
	kept := must(ledger.Head(ctx))
	must(ledger.Allocate(ctx, credit.Allocation{ResellerID: nimbus, Amount: usd("200")}))
	then := must(ledger.HeadAsOf(ctx, credit.AsOf{Sequence: kept.Sequence}))
	fmt.Println("remaining", then.Pool.Remaining(), "same hash:", then.Hash == kept.Hash)
	now := must(ledger.HeadAsOf(ctx, credit.AsOf{}))
	fmt.Println("remaining", now.Pool.Remaining())
	_, err := ledger.HeadAsOf(ctx, credit.AsOf{Sequence: 99})
	fmt.Println(err)
	// Output:
	// remaining 700 same hash: true
	// remaining 500
	// credit: as of: is sequence 99, the log ends at 4
}

func ExampleLedger_ResellerAsOf() {
	ctx, ledger, nimbus := exampleLedger()
	fee := must(ledger.RecordUsage(ctx, credit.Usage{ResellerID: nimbus, Amount: usd("120")}))
	must(ledger.FreezeReseller(ctx, credit.Freeze{ResellerID: nimbus}))
	for sequence := int64(2); sequence <= fee.Sequence+1; sequence++ {
		r := must(ledger.ResellerAsOf(ctx, nimbus, credit.AsOf{Sequence: sequence}))
		fmt.Println(sequence, r.Status, r.Allocated, r.Available())
	}
	_, err := ledger.ResellerAsOf(ctx, nimbus, credit.AsOf{Sequence: 1})
	fmt.Println(errors.Is(err, credit.ErrNotFound))
	// Output:
	// 2 active 0 0
	// 3 active 300 300
	// 4 active 300 180
	// 5 frozen 300 180
	// true
}

func ExampleAllRecords() {
	ctx, ledger, nimbus := exampleLedger()
	must(ledger.Repossess(ctx, credit.Repossession{ResellerID: nimbus, Amount: usd("50")}))
	for r, err := range credit.AllRecords(ctx, ledger, credit.RecordQuery{Kinds: credit.AllocationKinds(), Limit: 1}) {
		if err != nil {
			panic(err)
		}
		fmt.Println(r.Sequence, r.Kind, r.Amount)
	}
	// Output:
	// 3 allocate 300
	// 4 repossess -50
}

func ExampleAllResellers() {
	ctx, ledger, _ := exampleLedger()
	must(ledger.AddReseller(ctx, credit.NewReseller{Name: "Cirrus", ExternalID: "200087654321"}))
	must(ledger.AddReseller(ctx, credit.NewReseller{Name: "altus", ExternalID: "200087654322"}))
	for r, err := range credit.AllResellers(ctx, ledger, credit.ResellerQuery{Name: "US", Order: credit.OrderName}) {
		if err != nil {
			panic(err)
		}
		fmt.Println(r.Name)
	}
	// Output:
	// altus
	// Cirrus
	// Nimbus
}

func ExampleLowCredit() {
	ctx, ledger, nimbus := exampleLedger()
	must(ledger.RecordUsage(ctx, credit.Usage{ResellerID: nimbus, Amount: usd("240")}))
	for _, percent := range []string{"10", "20"} {
		threshold := must(credit.PercentThreshold(usd(percent)))
		q := credit.LowCredit(threshold)
		q.Total = true
		page := must(ledger.Resellers(ctx, q))
		fmt.Println("at or below", threshold, "are", *page.Total)
		for _, r := range page.Items {
			fmt.Println(r.Name, r.Available(), "of", r.Allocated)
		}
	}
	// Output:
	// at or below 10% are 0
	// at or below 20% are 1
	// Nimbus 60 of 300
}

func ExampleOverdrawn() {
	ctx, ledger, nimbus := exampleLedger()
	must(ledger.RecordUsage(ctx, credit.Usage{ResellerID: nimbus, Amount: usd("300")}))
	fmt.Println(len(must(ledger.Resellers(ctx, credit.Overdrawn())).Items), "with nothing left")
	must(ledger.RecordUsage(ctx, credit.Usage{ResellerID: nimbus, Amount: usd("0.01")}))
	for _, r := range must(ledger.Resellers(ctx, credit.Overdrawn())).Items {
		fmt.Println(r.Name, r.Overdraft())
	}
	// Output:
	// 0 with nothing left
	// Nimbus 0.01
}

func ExampleFold() {
	fmt.Println(credit.Fold("Nimbus GmbH") == credit.Fold("NIMBUS gmbh"), credit.Fold("ß") == credit.Fold("ss"))
	// Output: true false
}

func ExampleLedger_Records() {
	ctx, ledger, nimbus := exampleLedger()
	must(ledger.Repossess(ctx, credit.Repossession{ResellerID: nimbus, Amount: usd("50"), Operator: "ops@example.com"}))
	page := must(ledger.Records(ctx, credit.RecordQuery{ResellerID: nimbus, Kinds: credit.AllocationKinds(), NewestFirst: true}))
	for _, r := range page.Items {
		fmt.Println(r.Sequence, r.Kind, r.Amount, "available", r.After.Available())
	}
	// Output:
	// 4 repossess -50 available 250
	// 3 allocate 300 available 300
}
