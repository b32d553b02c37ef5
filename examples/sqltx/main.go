// Sqltx writes an order of the application's own and an allocation of credit in
// one transaction: both are there, or neither.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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

func main() {
	dir, err := os.MkdirTemp("", "credit-sqltx-")
	if err == nil {
		err = run(context.Background(), os.Stdout, filepath.Join(dir, "shop.db"))
		_ = os.RemoveAll(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// shop is the application: its orders, and the ledger beside them.
type shop struct {
	db     *sqlx.DB
	store  *sqlstore.Store
	ledger *store.Ledger
}

func run(ctx context.Context, w io.Writer, path string) error {
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
	if _, err := db.ExecContext(ctx, "CREATE TABLE orders (number TEXT PRIMARY KEY, amount TEXT NOT NULL)"); err != nil {
		return err
	}
	acme := credit.Distributor{ID: uuid.MustParse("6f0f7c1e-5f5a-4f0e-9d3b-0c8f6a3f2a03"), Name: "Acme Cloud", Currency: "USD"}
	ledger, err := store.Open(ctx, s, acme, store.Options{})
	if err != nil {
		return err
	}
	if _, err := ledger.Grant(ctx, credit.Grant{Amount: decimal.NewFromInt(1000)}); err != nil {
		return err
	}
	nimbus, err := ledger.AddReseller(ctx, credit.NewReseller{Name: "Nimbus", ExternalID: "200012345678"})
	if err != nil {
		return err
	}

	app := shop{db, s, ledger}
	for _, o := range []struct {
		number string
		amount int64
	}{
		{"po-1", 600}, // enough in the pool
		{"po-2", 600}, // not enough: no order either
		{"po-1", 200}, // the number is taken: no credit either
		{"po-3", 400},
	} {
		err := app.order(ctx, nimbus.ResellerID, o.number, decimal.NewFromInt(o.amount))
		fmt.Fprintf(w, "order %s of %d: %s\n", o.number, o.amount, answer(err))
	}
	var orders int
	if err := db.GetContext(ctx, &orders, "SELECT count(*) FROM orders"); err != nil {
		return err
	}
	reseller, err := ledger.Reseller(ctx, nimbus.ResellerID)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%d orders, %s allocated\n", orders, reseller.Allocated)
	return err
}

var errTaken = errors.New("the order number is taken")

// order is the application's transaction, with the ledger in it. The allocation
// comes late, because from then on others wait for the ledger.
func (s shop) order(ctx context.Context, reseller uuid.UUID, number string, amount decimal.Decimal) error {
	tx, err := s.db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit there is nothing left to do
	result, err := tx.ExecContext(ctx, "INSERT INTO orders (number, amount) VALUES (?, ?) ON CONFLICT DO NOTHING", number, amount.String())
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, errTaken)
	}
	_, err = s.ledger.On(s.store.WithTx(tx)).Allocate(ctx, credit.Allocation{ResellerID: reseller, Amount: amount, Reference: number})
	if err != nil {
		return err
	}
	return tx.Commit()
}

func answer(err error) string {
	if err != nil {
		return err.Error()
	}
	return "done"
}
