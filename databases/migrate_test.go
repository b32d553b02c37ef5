package databases_test

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// A database of any earlier schema is brought up to date while it is written to, by
// two processes at once and by one that has nothing left to do: no writer waits for
// longer than a second, and nothing is lost. CREDIT_MIGRATED_RECORDS is how many
// records there are beforehand.
func TestMigratingHoldsNoWriterUp(t *testing.T) {
	const writers, longest = 8, time.Second
	records := int(fromEnvironment(t, "CREDIT_MIGRATED_RECORDS", 10_000))
	for _, name := range siteNames {
		empty, _ := emptySite(t, name).store(t)
		files, err := fs.Glob(empty.Migrations(), "*.sql")
		require.NoError(t, err)
		for n, file := range files {
			t.Run(name+" from "+strings.TrimSuffix(file, ".sql"), func(t *testing.T) {
				on := newSiteAt(t, name, int64(n+1))
				ledger, reseller := on.granted(t, 900_000_000_000)
				for i := 0; i < records; i += 1_000 {
					var commands []credit.Command
					for j := range min(1_000, records-i) {
						commands = append(commands, credit.Usage{ResellerID: reseller, Amount: decimal.NewFromInt(1), Key: fmt.Sprint("before ", i+j)})
					}
					outcomes, err := ledger.Bulk(t.Context(), commands, credit.BulkOptions{AllOrNothing: true})
					require.NoError(t, err)
					require.NoError(t, outcomes[0].Err)
				}

				var written atomic.Int64
				var waited [2]atomic.Int64 // the longest of before and meanwhile, ns
				var phase atomic.Int32
				var done atomic.Bool
				var writing sync.WaitGroup
				for writer := range writers {
					writing.Go(func() {
						for i := 0; !done.Load(); i++ {
							of := &waited[phase.Load()]
							begun := time.Now()
							_, err := ledger.Allocate(t.Context(), credit.Allocation{ResellerID: reseller, Amount: decimal.NewFromInt(1), Key: fmt.Sprint(writer, "/", i)})
							took := int64(time.Since(begun))
							if !assert.NoError(t, err) {
								return
							}
							written.Add(1)
							for had := of.Load(); took > had && !of.CompareAndSwap(had, took); had = of.Load() {
								continue
							}
						}
					})
				}
				// The writers are asked how far they are, not the clock.
				until := func(n int64) {
					for tick := time.NewTicker(time.Millisecond); written.Load() < n && !t.Failed(); <-tick.C {
						continue
					}
				}
				const each = 50 * writers
				until(each)
				phase.Store(1)
				begun := time.Now()
				process := startProcess(t, job{Site: on, Ledger: ledger.Distributor(), Migrate: true})
				process.begin()
				here, _ := on.store(t)
				assert.NoError(t, here.Migrate(t.Context()))
				assert.NoError(t, process.cmd.Wait())
				assert.NoError(t, here.Migrate(t.Context()), "there is nothing left to do")
				took := time.Since(begun)
				until(written.Load() + each)
				done.Store(true)
				writing.Wait()

				usual, most := time.Duration(waited[0].Load()), time.Duration(waited[1].Load())
				t.Logf("migrating %d records took %s; %d commands meanwhile and around it, the longest %s, before that %s", records, took, written.Load(), most, usual)
				require.LessOrEqual(t, most, longest+usual, "a writer waited for the migration")
				state, err := here.Status(t.Context())
				require.NoError(t, err)
				for _, m := range state {
					require.True(t, m.Applied, m.File)
				}
				require.Len(t, requireSound(t, on.engine(t, ledger.Distributor(), store.Options{})), 2+records+int(written.Load()), "what was acknowledged is there, and nothing else")
			})
		}
	}
}

// newSiteAt returns a new database with an earlier schema.
func newSiteAt(t testing.TB, name string, version int64) site {
	t.Helper()
	s := emptySite(t, name)
	on, db := s.store(t)
	dialect := map[string]goose.Dialect{"sqlite": goose.DialectSQLite3, "pgx": goose.DialectPostgres, "mysql": goose.DialectMySQL}[s.Driver]
	table, err := database.NewStore(dialect, "credit_schema")
	require.NoError(t, err)
	tool, err := goose.NewProvider(goose.DialectCustom, db.DB, on.Migrations(), goose.WithStore(table))
	require.NoError(t, err)
	_, err = tool.UpTo(context.WithoutCancel(t.Context()), version)
	require.NoError(t, err)
	return s
}
