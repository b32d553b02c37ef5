// Feed follows a ledger and prints each warning as its record is written: by
// this process, which it sees at once, or by another, which it sees when it
// looks again. It keeps the sequence that it has dealt with in a file, so that
// the next run goes on where this one stopped.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"
	_ "modernc.org/sqlite"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

func main() {
	dir, err := os.MkdirTemp("", "credit-feed-")
	if err == nil {
		err = run(context.Background(), os.Stdout, dir)
		_ = os.RemoveAll(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer, dir string) error {
	db, err := sqlx.Open("sqlite", sqlstore.SQLiteDSN(filepath.Join(dir, "credit.db")))
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
	acme := credit.Distributor{ID: uuid.MustParse("6f0f7c1e-5f5a-4f0e-9d3b-0c8f6a3f2a04"), Name: "Acme Cloud", Currency: "USD"}
	ledger, err := store.Open(ctx, s, acme, store.Options{})
	if err != nil {
		return err
	}
	alarm := &alarm{ledger: ledger, file: filepath.Join(dir, "seen"), out: w}

	// The distributor's day.
	nimbus, err := open(ctx, ledger)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- alarm.watch(ctx, 6) }()
	for _, fee := range []int64{400, 350, 100, 200} { // records 4 to 7
		if _, err := ledger.RecordUsage(ctx, credit.Usage{ResellerID: nimbus, Amount: decimal.NewFromInt(fee)}); err != nil {
			return err
		}
	}
	if err := <-done; err != nil {
		return err
	}
	_, _ = fmt.Fprintln(w, "stopped after record 6, and started again")
	if _, err := ledger.Allocate(ctx, credit.Allocation{ResellerID: nimbus, Amount: decimal.NewFromInt(500)}); err != nil {
		return err
	}
	return alarm.watch(ctx, 8)
}

// open gives a first reseller its credit.
func open(ctx context.Context, ledger credit.Ledger) (uuid.UUID, error) {
	if _, err := ledger.Grant(ctx, credit.Grant{Amount: decimal.NewFromInt(50_000)}); err != nil {
		return uuid.Nil, err
	}
	nimbus, err := ledger.AddReseller(ctx, credit.NewReseller{Name: "Nimbus", ExternalID: "200012345678"})
	if err != nil {
		return uuid.Nil, err
	}
	_, err = ledger.Allocate(ctx, credit.Allocation{ResellerID: nimbus.ResellerID, Amount: decimal.NewFromInt(1_000)})
	return nimbus.ResellerID, err
}

// alarm prints warnings. What is in its file was printed.
type alarm struct {
	ledger *store.Ledger
	file   string
	out    io.Writer
}

// watch goes on from the last record that was dealt with, until one. A service
// would go on until its context ends.
func (a *alarm) watch(ctx context.Context, until int64) error {
	seen, err := a.seen()
	if err != nil {
		return err
	}
	for change, err := range a.ledger.Follow(ctx, seen, store.FollowOptions{}) {
		if err != nil {
			return err
		}
		for _, warning := range change.Warnings {
			if err := a.tell(ctx, warning); err != nil {
				return err
			}
		}
		// After the warnings: whoever is stopped in between warns again, rather than not at all.
		if err := a.keep(change.Record.Sequence); err != nil {
			return err
		}
		if change.Record.Sequence == until {
			return nil
		}
	}
	return nil
}

func (a *alarm) seen() (int64, error) {
	text, err := os.ReadFile(a.file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

// keep writes a file of its own and puts it in the place of the last one: who is
// stopped in between leaves one of the two, whole.
func (a *alarm) keep(sequence int64) error {
	f, err := os.OpenFile(a.file+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.FormatInt(sequence, 10))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), a.file)
}

// tell would send a message; the name is looked up here, because records hold none.
func (a *alarm) tell(ctx context.Context, w credit.Warning) error {
	who := "the pool"
	if w.ResellerID != uuid.Nil {
		r, err := a.ledger.Reseller(ctx, w.ResellerID)
		if err != nil {
			return err
		}
		who = r.Name
	}
	what := string(w.Crossing)
	if w.Crossing == credit.CrossingLow {
		what = "at or below " + w.Threshold.String()
	}
	_, err := fmt.Fprintf(a.out, "record %d, %s: %s is %s, %s -> %s\n", w.Sequence, w.Kind, who, what, w.Before, w.After)
	return err
}
