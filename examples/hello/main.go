// Hello is the first program of the README: a ledger in an SQLite file.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"
	_ "modernc.org/sqlite"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

var (
	acme = credit.Distributor{ID: uuid.MustParse("6f0f7c1e-5f5a-4f0e-9d3b-0c8f6a3f2a00"), Name: "Acme Cloud", Currency: "USD"}
	usd  = decimal.RequireFromString
)

func main() {
	dir := must(os.MkdirTemp("", "credit-hello-"))
	hello(context.Background(), filepath.Join(dir, "credit.db"))
	must(0, os.RemoveAll(dir))
}

func hello(ctx context.Context, path string) {
	db := must(sqlx.Open("sqlite", sqlstore.SQLiteDSN(path))) // any driver; the library imports none
	defer func() { _ = db.Close() }()
	s := must(sqlstore.New(db, sqlstore.SQLite))
	must(0, s.Migrate(ctx))
	ledger := must(store.Open(ctx, s, acme, store.Options{}))

	must(ledger.Grant(ctx, credit.Grant{Amount: usd("50000"), Operator: "channel@example.com", Key: "contract-2026"}))
	nimbus := must(ledger.AddReseller(ctx, credit.NewReseller{Name: "Nimbus", ExternalID: "200012345678", Key: "nimbus"})).ResellerID

	order := credit.Allocation{ResellerID: nimbus, Amount: usd("1200"), Operator: "ops@example.com", Key: "po-4711"}
	first := must(ledger.Allocate(ctx, order))
	fmt.Println("available", first.After.Available(), "of the pool", first.Pool.Remaining(), "remaining")
	again := must(ledger.Allocate(ctx, order)) // the answer was lost, say; the key makes the retry safe
	fmt.Println("record", again.Sequence, "replayed:", again.Replayed)

	_, err := ledger.Repossess(ctx, credit.Repossession{ResellerID: nimbus, Amount: usd("2000"), Operator: "ops@example.com"})
	fmt.Println(err)
	late := must(ledger.RecordUsage(ctx, credit.Usage{ResellerID: nimbus, Amount: usd("1350.75"), Key: "bill-2026-10"}))
	fmt.Println("available", late.After.Available())
}

// must stops the program on an error.
func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
