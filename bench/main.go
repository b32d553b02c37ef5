// Command bench measures the library against what one would write without it.
// Every row is a ratio of two sides that take turns in the same run.
//
//	go run . [-short] [-json] [-only regexp] [-out ../docs/benchmarks]
//	go run . -charts -out ../docs/benchmarks     draw again what was measured
//
// It starts the servers that it needs with databases/servers.sh, and ends them.
// Progress goes to standard error; standard output has the table, or with -json
// one object a line and nothing else. The exit code is 1 if something could not
// be measured, whatever the ratios are.
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
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/resellerkit/credit/databases/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := errors.Join(begin(ctx), server.Close())
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// begin is another process on a ledger, if this program was run as one.
func begin(ctx context.Context) error {
	if asked := os.Getenv(jobVariable); asked != "" {
		return work(ctx, asked, os.Stdin, os.Stdout)
	}
	return bench(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

// shortBudget is when a short run is done, with its servers' start, but without
// ending them.
const shortBudget = 34 * time.Second

// bench does what the arguments say.
func bench(ctx context.Context, arguments []string, out, progress io.Writer) error {
	began := time.Now()
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(progress)
	short := flags.Bool("short", false, "the most telling rows, in less than 50 s")
	asJSON := flags.Bool("json", false, "print one JSON object a line")
	only := flags.String("only", "", "measure the comparisons whose name, store and callers match this regular `expression`")
	stores := flags.String("stores", "memory,sqlite,postgres,mariadb", "the stores to measure")
	repetitions := flags.Int("repetitions", 5, "how often both sides take turns")
	length := flags.Duration("length", time.Second, "how long one side's turn is")
	hold := flags.Duration("hold", time.Minute, "how long a snapshot is held open")
	resellers := flags.String("resellers", "1000,100000,1000000", "growth: numbers of resellers, the smallest first")
	records := flags.String("records", "10000,1000000,10000000", "growth: numbers of records, the smallest first")
	folder := flags.String("folder", os.TempDir(), "where files of SQLite are made; servers follow TMPDIR")
	output := flags.String("out", "", "the `folder` for results.json, README.md and the charts; empty writes none")
	again := flags.Bool("charts", false, "measure nothing; draw what is in results.json in the folder -out")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *again {
		report, err := readReport(*output)
		if err != nil {
			return err
		}
		return report.draw(*output)
	}
	if *repetitions < 1 || *length <= 0 {
		return errors.New("-repetitions and -length must be positive")
	}
	r := &run{settings: settings{short: *short, stores: strings.Split(*stores, ","), repetitions: *repetitions, length: *length, hold: *hold, folder: *folder},
		began: began, progress: progress}
	if *short {
		r.budget = shortBudget
	}
	var err error
	if r.only, err = regexp.Compile(*only); err != nil {
		return err
	}
	if r.resellers, err = sizes(*resellers); err != nil {
		return err
	}
	if r.records, err = sizes(*records); err != nil {
		return err
	}
	for _, name := range r.stores {
		if !slices.ContainsFunc(targets(), func(t target) bool { return t.name == name }) {
			return fmt.Errorf("no store %q; there are memory, sqlite, postgres and mariadb", name)
		}
	}
	return r.all(ctx, arguments, *asJSON, *output, out)
}

// sizes reads numbers that are separated by commas.
func sizes(text string) ([]int, error) {
	var found []int
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not a list of positive numbers, like 1000,100000", text)
		}
		found = append(found, n)
	}
	return found, nil
}

// groups are the rows, in the order of the table.
var groups = []func(*run) []batch{inMemory, allocations, inTransaction, ledgers, processes, reading, growth, indexes, headOrTail}

// all measures every row that is wanted.
func (r *run) all(ctx context.Context, arguments []string, asJSON bool, output string, out io.Writer) error {
	report := Report{Conditions: newConditions(r.folder, arguments)}
	conditions := &report.Conditions
	if busy(conditions.LoadBefore) {
		fmt.Fprintf(r.progress, "WARNING: the machine is busy (load %s): ratios are of this run alone, and uncertain\n", conditions.LoadBefore)
	}
	var encoded error
	r.row = func(row Row) {
		report.Rows = append(report.Rows, row)
		if asJSON {
			encoded = errors.Join(encoded, json.NewEncoder(out).Encode(row))
		}
	}
	var batches []batch
	for _, group := range groups {
		batches = append(batches, group(r)...)
	}
	used := r.choose(batches)
	if err := startServers(ctx, used); err != nil {
		return err
	}
	if err := conditions.ask(ctx, used, r.folder); err != nil {
		return err
	}
	r.measure(ctx, batches)
	conditions.LoadAfter = load()
	if output != "" {
		if err := report.write(output); err != nil {
			return err
		}
	}
	if !asJSON {
		if err := report.table(out); err != nil {
			return err
		}
	}
	fmt.Fprintf(r.progress, "%s; done in %.0f s; load before %s, after %s\n", goals(report.Rows), time.Since(r.began).Seconds(), conditions.LoadBefore, conditions.LoadAfter)
	if r.failed > 0 {
		encoded = errors.Join(encoded, fmt.Errorf("%d comparisons failed", r.failed))
	}
	return errors.Join(encoded, ctx.Err())
}
