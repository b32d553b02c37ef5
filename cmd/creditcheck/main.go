// Command creditcheck checks a ledger in an SQL database: it replays every record,
// and compares what is stored with what the records give, as store.Ledger.Check
// does. It changes no row, and may run beside writers. On SQLite it needs write
// access to the file and its folder, and waits at its start for whoever writes.
//
//	creditcheck -driver sqlite -dsn credit.db -ledger 0198c5f0-…
//	CREDIT_DSN='postgres://…' creditcheck -driver postgres -ledger 0198c5f0-… -after '{"sequence":1042,"hash":"…"}'
//
// Progress goes to standard error, and the head of a sound ledger to standard output,
// as one line of JSON. Keep it where nobody who can write the database can write,
// and give it to the next check with -after: the log must go through it, which
// tells if its tail was cut, and only what came later is replayed.
//
// The exit status is 0 if the ledger is sound, 1 if something is wrong with it, and
// 2 if it could not be checked. Of names and figures it prints what a finding needs.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver mysql
	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite" // the driver sqlite

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

// What the program ends with.
const (
	statusSound     = 0
	statusFinding   = 1
	statusUnchecked = 2
)

// dsnVariable holds the data source name, so that a password need not be in the
// list of processes.
const dsnVariable = "CREDIT_DSN"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	status := run(ctx, os.Args[1:], os.Getenv(dsnVariable), os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// asked is what the command line says.
type asked struct {
	driver, dsn    string
	prefix, schema string
	ledger         uuid.UUID
	after          kept
	every          time.Duration
}

// kept is a head as it is printed and given back. More fields of a credit.Head do
// no harm.
type kept struct {
	Sequence int64       `json:"sequence"`
	Hash     credit.Hash `json:"hash"`
}

func run(ctx context.Context, args []string, dsn string, stdout, stderr io.Writer) int {
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(stderr, "creditcheck: "+format+"\n", args...) }
	a, err := parse(args, dsn, stderr)
	if err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return statusSound
		}
		if !errors.Is(err, errSaid) {
			say("%v", err)
		}
		return statusUnchecked
	}
	checked, err := check(ctx, a, say)
	switch {
	case errors.Is(err, credit.ErrCorrupt):
		say("FINDING: %v", err)
		return statusFinding
	case err != nil:
		say("not checked: %s", strings.ReplaceAll(err.Error(), a.dsn, "<dsn>"))
		return statusUnchecked
	}
	say("sound: %d records, %d resellers", checked.Records, checked.Resellers)
	if err := json.NewEncoder(stdout).Encode(kept{checked.Head.Sequence, checked.Head.Hash}); err != nil {
		say("%v", err)
		return statusUnchecked
	}
	return statusSound
}

// errSaid: package flag has said what is wrong.
var errSaid = errors.New("the flags are wrong")

func parse(args []string, dsn string, stderr io.Writer) (asked, error) {
	var a asked
	var after *string // nil, if it was not given: an empty one is a head that got lost
	f := flag.NewFlagSet("creditcheck", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&a.driver, "driver", "", "the database: sqlite, postgres or mysql")
	f.StringVar(&a.dsn, "dsn", "", "the data source name, or the file of sqlite; else the environment variable "+dsnVariable)
	f.StringVar(&a.prefix, "prefix", "", "what the names of tables begin with (default credit_)")
	f.StringVar(&a.schema, "schema", "", "the schema of PostgreSQL that the tables are in")
	f.TextVar(&a.ledger, "ledger", uuid.Nil, "the ledger's `id`")
	f.Func("after", "a `head` that is trusted, as JSON; only what came later is replayed", func(text string) error {
		after = &text
		return nil
	})
	f.DurationVar(&a.every, "every", 5*time.Second, "how often progress is printed at most")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return a, err
	case err != nil:
		return a, errSaid
	}
	if a.dsn == "" {
		a.dsn = dsn
	}
	switch {
	case f.NArg() > 0:
		return a, fmt.Errorf("%q: there are no arguments, only flags", f.Arg(0))
	case a.ledger == uuid.Nil:
		return a, errors.New("-ledger is missing")
	case a.dsn == "":
		return a, fmt.Errorf("neither -dsn nor %s says where the database is", dsnVariable)
	}
	if after != nil {
		if err := json.Unmarshal([]byte(*after), &a.after); err != nil {
			return a, fmt.Errorf("-after: %w", err)
		}
		if a.after.Sequence < 0 || a.after.Hash.IsZero() {
			return a, errors.New("-after: a sequence of 0 or more and a hash are needed")
		}
	}
	return a, nil
}

// open opens what the command line names.
func open(a asked) (*sqlx.DB, *sqlstore.Store, error) {
	var dialect sqlstore.Dialect
	driver, dsn := a.driver, a.dsn
	switch a.driver {
	case "sqlite":
		dialect = sqlstore.SQLite
		if !strings.HasPrefix(dsn, "file:") {
			if _, err := os.Stat(dsn); err != nil { // it would be created
				return nil, nil, err
			}
			dsn = sqlstore.SQLiteDSN(dsn)
		}
	case "postgres":
		dialect, driver = sqlstore.Postgres, "pgx"
	case "mysql":
		dialect = sqlstore.MySQL
	default:
		return nil, nil, fmt.Errorf("-driver %q: it must be sqlite, postgres or mysql", a.driver)
	}
	var options []sqlstore.Option
	if a.prefix != "" {
		options = append(options, sqlstore.WithPrefix(a.prefix))
	}
	if a.schema != "" {
		options = append(options, sqlstore.WithSchema(a.schema))
	}
	db, err := sqlx.Open(driver, dsn)
	if err != nil {
		return nil, nil, err
	}
	s, err := sqlstore.New(db, dialect, options...)
	if err != nil {
		_ = db.Close()
	}
	return db, s, err
}

func check(ctx context.Context, a asked, say func(string, ...any)) (store.Checked, error) {
	db, s, err := open(a)
	if err != nil {
		return store.Checked{}, err
	}
	defer func() { _ = db.Close() }()
	// Opening a ledger that is not there would create it.
	if _, err := s.Load(ctx, a.ledger, credit.ReadSet{}); err != nil {
		return store.Checked{}, err
	}
	distributor, err := s.Create(ctx, credit.Distributor{ID: a.ledger, Name: "there already", Currency: "XXX"})
	if err != nil {
		return store.Checked{}, err
	}
	ledger, err := store.Open(ctx, s, distributor, store.Options{})
	if err != nil {
		return store.Checked{}, err
	}
	began := time.Now()
	told := began
	return ledger.CheckWith(ctx, store.CheckOptions{
		After: credit.Head{Sequence: a.after.Sequence, Hash: a.after.Hash},
		Progress: func(so store.Checked, of int64) {
			if now := time.Now(); now.Sub(told) >= a.every {
				told = now
				say("record %d of %d, %d resellers, after %s", so.Head.Sequence, of, so.Resellers, now.Sub(began).Round(time.Second))
			}
		},
	})
}
