package credit_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
)

// A rule is tested with no store: a state, a command, and the figures after it.
func Example() {
	ledger := credit.NewState(credit.Distributor{ID: uuid.MustParse("6f9619ff-8b86-4d01-b42d-00cf4fc964ff"), Name: "Acme Cloud", Currency: "USD"})
	nimbus := uuid.MustParse("f81d4fae-7dec-41d0-a765-00a0c91e6bf6")

	for _, c := range []credit.Command{
		credit.Grant{Amount: decimal.NewFromInt(1000)},
		credit.NewReseller{ExternalID: "200012345678", Name: "Nimbus"},
		credit.Allocation{ResellerID: nimbus, Amount: decimal.NewFromInt(300)},
		credit.Usage{ResellerID: nimbus, Amount: decimal.NewFromInt(120)},
		credit.Repossession{ResellerID: nimbus, Amount: decimal.NewFromInt(200)},
		credit.RepossessAll{ResellerID: nimbus},
	} {
		receipt, err := ledger.Execute(c, credit.Stamp{Time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), ResellerID: nimbus})
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(receipt.Sequence, receipt.Kind, receipt.Amount, "leaves", receipt.After.Available(), "and in the pool", receipt.Pool.Remaining())
	}
	// Output:
	// 1 grant 1000 leaves 0 and in the pool 1000
	// 2 add 0 leaves 0 and in the pool 1000
	// 3 allocate 300 leaves 300 and in the pool 700
	// 4 usage 120 leaves 180 and in the pool 700
	// credit: repossess: 200 exceeds the repossessable 180 (allocated 300, used 120)
	// 5 repossess -180 leaves 0 and in the pool 880
}

func ExampleDecide() {
	nimbus := uuid.MustParse("f81d4fae-7dec-41d0-a765-00a0c91e6bf6")
	state := credit.LoadState(credit.ReadSet{Resellers: []uuid.UUID{nimbus}}, credit.Snapshot{
		Head: credit.Head{Sequence: 41, Pool: credit.Pool{Granted: decimal.NewFromInt(1000), Allocated: decimal.NewFromInt(300)}},
		Resellers: []credit.Reseller{{ID: nimbus, Status: credit.StatusFrozen,
			Figures: credit.Figures{Allocated: decimal.NewFromInt(300), Used: decimal.NewFromInt(120)}}},
	})

	_, err := credit.Decide(state, credit.Allocation{ResellerID: nimbus, Amount: decimal.NewFromInt(10)}, credit.Stamp{})
	fmt.Println(err)
	receipt, err := credit.Decide(state, credit.Allocation{ResellerID: nimbus, Amount: decimal.NewFromInt(-10)}, credit.Stamp{})
	fmt.Println(receipt.Sequence, receipt.Kind, receipt.After.Allocated, err)
	fmt.Println("the state is still at", state.Head().Sequence)
	// Output:
	// credit: reseller not active: allocate: it is frozen
	// 42 repossess 290 <nil>
	// the state is still at 41
}

func ExampleParseAmount() {
	for _, s := range []string{"1200.50", "-0.000001", "1e3", "0.0000001"} {
		amount, err := credit.ParseAmount(s)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(amount)
	}
	// Output:
	// 1200.5
	// -0.000001
	// credit: amount: "1e3" is not plain digits, at most 12 before and 6 after the point
	// credit: amount: "0.0000001" is not plain digits, at most 12 before and 6 after the point
}

func ExampleFigures_Repossessable() {
	allocated := decimal.NewFromInt(300)
	for _, used := range []int64{120, 300, 310, -50} {
		f := credit.Figures{Allocated: allocated, Used: decimal.NewFromInt(used)}
		fmt.Printf("used %d: available %s, repossessable %s, overdraft %s\n", used, f.Available(), f.Repossessable(), f.Overdraft())
	}
	// Output:
	// used 120: available 180, repossessable 180, overdraft 0
	// used 300: available 0, repossessable 0, overdraft 0
	// used 310: available -10, repossessable 0, overdraft 10
	// used -50: available 350, repossessable 300, overdraft 0
}

func ExampleRecord_Warnings() {
	var record credit.Record
	err := json.Unmarshal([]byte(`{
		"sequence": 7, "kind": "usage", "reseller_id": "f81d4fae-7dec-41d0-a765-00a0c91e6bf6", "amount": "80",
		"before": {"allocated": "100", "used": "10"}, "after": {"allocated": "100", "used": "90"}
	}`), &record)
	if err != nil {
		panic(err)
	}
	deep, err := credit.AmountThreshold(decimal.NewFromInt(-1000))
	if err != nil {
		panic(err)
	}
	for _, w := range record.Warnings(append(credit.DefaultThresholds(), deep)) {
		fmt.Printf("record %d, %s: %s %s, from %s to %s\n", w.Sequence, w.Kind, w.Crossing, w.Threshold, w.Before, w.After)
	}
	// Output:
	// record 7, usage: low 25%, from 90 to 10
	// record 7, usage: low 10%, from 90 to 10
}

func ExampleState_Verify() {
	acme := credit.Distributor{ID: uuid.MustParse("6f9619ff-8b86-4d01-b42d-00cf4fc964ff"), Name: "Acme Cloud", Currency: "USD"}
	var log []credit.Record
	ledger := credit.NewState(acme)
	for _, amount := range []int64{1000, 500} {
		receipt, err := ledger.Execute(credit.Grant{Amount: decimal.NewFromInt(amount), Operator: "channel@example.com"},
			credit.Stamp{Time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), RecordID: uuid.New()})
		if err != nil {
			panic(err)
		}
		log = append(log, receipt.Record)
	}
	kept := ledger.Head() // somewhere else

	audit := credit.NewState(acme)
	for _, r := range log {
		if err := audit.Verify(r); err != nil {
			panic(err)
		}
	}
	fmt.Println("complete:", audit.Head().Hash == kept.Hash)

	log[1].Operator = "nobody@example.com"
	audit = credit.NewState(acme)
	for _, r := range log {
		if err := audit.Verify(r); err != nil {
			corrupt, ok := errors.AsType[*credit.CorruptError](err)
			fmt.Println("altered: record", corrupt.Sequence, ok)
		}
	}
	// Output:
	// complete: true
	// altered: record 2 true
}

func ExampleLimitError() {
	ledger := credit.NewState(credit.Distributor{})
	_, err := ledger.Execute(credit.Withdrawal{Amount: decimal.NewFromInt(5)}, credit.Stamp{})
	if limit, ok := errors.AsType[*credit.LimitError](err); ok {
		fmt.Println("asked for", limit.Requested, "allowed", limit.Allowed)
	}
	fmt.Println(errors.Is(err, credit.ErrInsufficientPool))
	fmt.Println(err)
	// Output:
	// asked for 5 allowed 0
	// true
	// credit: withdraw: 5 exceeds the pool's remaining 0
}

func ExampleCode() {
	_, err := credit.Decide(credit.NewState(credit.Distributor{}), credit.Freeze{ResellerID: uuid.Max}, credit.Stamp{})
	fmt.Println(credit.Code(err))
	fmt.Println(credit.Code(errors.New("the database is gone")))
	// Output:
	// not_found
	// internal
}
