// Billing posts a provider's usage bills to the resellers that they are about.
//
// A bill is CSV, one fee of a reseller's customer on each line, with up to 8
// decimals: see columns in bill.go. The ledger takes 6 and rounds nothing by
// itself, so this program does: each fee by itself, half to even, and it says what
// that came to. Every line is posted under a key of its own, a thousand lines in a
// call, so a bill may be posted again at any time, whole or after an interruption,
// and no line is posted twice. A line that differs from what was posted under its
// key is reported as changed, one that cannot be posted as refused; both are left
// out, the rest goes on, and the program ends with status 1.
//
// Without arguments it posts the sample in testdata, twice, and then a bill with
// changes and mistakes in it:
//
//	go run ./examples/billing
//	go run ./examples/billing -db credit.db examples/billing/testdata/bill-2026-07.csv
package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"
	_ "modernc.org/sqlite"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

//go:generate go run ./generate

//go:embed testdata/*.csv
var testdata embed.FS

func main() {
	db := flag.String("db", "", "the SQLite file to keep; empty means a temporary one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, os.Stderr, *db, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run posts the bills, or the sample if none is named, to the ledger in the file.
func run(ctx context.Context, report, progress io.Writer, file string, bills []string) error {
	if file == "" {
		dir, err := os.MkdirTemp("", "credit-billing-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		file = filepath.Join(dir, "credit.db")
	}
	db, err := sqlx.Open("sqlite", sqlstore.SQLiteDSN(file))
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
	ledger, err := open(ctx, s)
	if err != nil {
		return err
	}
	if len(bills) == 0 {
		return sample(ctx, ledger, report, progress)
	}
	return post(ctx, ledger, report, progress, disk{}, bills...)
}

// disk opens any path, as [os.DirFS] does not.
type disk struct{}

func (disk) Open(name string) (fs.File, error) { return os.Open(name) }

// open opens the distributor's ledger, with the resellers of the sample and their
// credit in it. All of it has keys, so it happens the first time only.
func open(ctx context.Context, s store.Store) (credit.Ledger, error) {
	acme := credit.Distributor{ID: uuid.MustParse("6f0f7c1e-5f5a-4f0e-9d3b-0c8f6a3f2a04"), Name: "Acme Cloud", Currency: "USD"}
	ledger, err := store.Open(ctx, s, acme, store.Options{})
	if err != nil {
		return nil, err
	}
	if _, err := ledger.Grant(ctx, credit.Grant{Amount: decimal.NewFromInt(50_000), Operator: "channel@provider.example", Key: "contract-2026"}); err != nil {
		return nil, err
	}
	text, err := testdata.ReadFile("testdata/resellers.csv")
	if err != nil {
		return nil, err
	}
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		return nil, err
	}
	for _, row := range rows[1:] {
		amount, err := credit.ParseAmount(row[2])
		if err != nil {
			return nil, err
		}
		added, err := ledger.AddReseller(ctx, credit.NewReseller{ExternalID: row[0], Name: row[1], Operator: operator, Key: "reseller/" + row[0]})
		if err != nil {
			return nil, err
		}
		if _, err := ledger.Allocate(ctx, credit.Allocation{ResellerID: added.ResellerID, Amount: amount, Operator: operator, Key: "first-credit/" + row[0]}); err != nil {
			return nil, err
		}
	}
	return ledger, nil
}

// sample posts the sample of three months, the same again, and a bill of which
// lines have changed.
func sample(ctx context.Context, ledger credit.Ledger, report, progress io.Writer) error {
	files, err := fs.Sub(testdata, "testdata")
	if err != nil {
		return err
	}
	months := []string{"bill-2026-07.csv", "bill-2026-08.csv", "bill-2026-09.csv"}
	for _, title := range []string{"Three months:", "The same again:"} {
		fmt.Fprintln(report, title)
		if err := post(ctx, ledger, report, progress, files, months...); err != nil {
			return err
		}
	}
	fmt.Fprintln(report, "The first lines of July, changed:")
	if err := post(ctx, ledger, report, progress, files, "changed-2026-07.csv"); !errors.Is(err, errLeftOut) {
		return err
	}
	_, err = fmt.Fprintln(report, errLeftOut)
	return err
}

var errLeftOut = errors.New("billing: changed or refused lines were left out")

// post posts bills as one run, with a summary also if it is cut short.
func post(ctx context.Context, ledger credit.Ledger, report, progress io.Writer, files fs.FS, names ...string) error {
	p, err := begin(ctx, ledger, report, progress)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := p.bill(ctx, files, name); err != nil {
			return errors.Join(fmt.Errorf("billing: %w; post it again: no line is posted twice", err), p.summary())
		}
	}
	if err := p.summary(); err != nil {
		return err
	}
	if p.changed+p.refused > 0 {
		return errLeftOut
	}
	return nil
}
