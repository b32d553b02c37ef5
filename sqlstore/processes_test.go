package sqlstore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

// job is what another process is to do: so many callers allocate, so many times
// each, 1 to a reseller.
type job struct {
	Path           string
	Ledger         credit.Distributor
	Reseller       uuid.UUID
	Name           string
	Callers, Times int
}

// jobVariable tells this test binary, run again, that it is such a process.
const jobVariable = "CREDIT_TEST_JOB"

func TestMain(m *testing.M) {
	if text := os.Getenv(jobVariable); text != "" {
		if err := work(context.Background(), text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// work does the job and prints what each call answered.
func work(ctx context.Context, text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	db, err := sqlx.Open("sqlite", sqlstore.SQLiteDSN(j.Path))
	if err != nil {
		return err
	}
	s, err := sqlstore.New(db, sqlstore.SQLite)
	if err != nil {
		return err
	}
	ledger, err := store.Open(ctx, s, j.Ledger, store.Options{})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var wait sync.WaitGroup
	out := json.NewEncoder(os.Stdout)
	for caller := range j.Callers {
		wait.Go(func() {
			for i := range j.Times {
				r, err := ledger.Allocate(ctx, credit.Allocation{ResellerID: j.Reseller, Amount: credit.FromMillionths(1_000_000),
					Operator: j.Name, Key: fmt.Sprintf("%s-%d-%d", j.Name, caller, i)})
				mu.Lock()
				_ = out.Encode(credit.Outcome{Receipt: r, Err: err})
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	return db.Close()
}

func TestTwoProcessesWriteToOneLedgerAsIfOneAtATime(t *testing.T) {
	t.Parallel()
	const callers, times, granted = 8, 25, 300 // 400 are asked for
	path := filepath.Join(t.TempDir(), "credit.db")
	s, err := sqlstore.New(openFile(t, path, 0), sqlstore.SQLite)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	acme := credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}
	ledger, err := store.Open(t.Context(), s, acme, store.Options{})
	require.NoError(t, err)
	_, err = ledger.Grant(t.Context(), credit.Grant{Amount: amount(t, fmt.Sprint(granted))})
	require.NoError(t, err)
	added, err := ledger.AddReseller(t.Context(), credit.NewReseller{Name: "Nimbus", ExternalID: "200012345678"})
	require.NoError(t, err)

	self, err := os.Executable()
	require.NoError(t, err)
	type answer struct {
		Receipt *credit.Receipt
		Error   *struct{ Code, Message string }
	}
	var outputs [2]bytes.Buffer
	var processes [2]*exec.Cmd
	for i := range processes {
		text, err := json.Marshal(job{path, acme, added.ResellerID, fmt.Sprintf("process-%d", i), callers, times})
		require.NoError(t, err)
		processes[i] = exec.CommandContext(t.Context(), self)
		processes[i].Env = append(os.Environ(), jobVariable+"="+string(text))
		processes[i].Stdout, processes[i].Stderr = &outputs[i], os.Stderr
		require.NoError(t, processes[i].Start())
	}
	acknowledged := map[int64]uuid.UUID{}
	refused := 0
	for i := range processes {
		require.NoError(t, processes[i].Wait())
		d := json.NewDecoder(&outputs[i])
		for range callers * times {
			var a answer
			require.NoError(t, d.Decode(&a))
			if a.Error != nil {
				require.Equal(t, "insufficient_pool", a.Error.Code, a.Error.Message)
				refused++
				continue
			}
			require.NotContains(t, acknowledged, a.Receipt.Sequence, "two calls were given the same record")
			acknowledged[a.Receipt.Sequence] = a.Receipt.ID
		}
	}
	assert.Len(t, acknowledged, granted, "the pool is handed out to the last unit")
	assert.Equal(t, 2*callers*times-granted, refused, "and not beyond")

	by := map[string]int{}
	q := credit.RecordQuery{Kinds: credit.AllocationKinds(), Limit: credit.MaxPageSize}
	page, err := ledger.Records(t.Context(), q)
	require.NoError(t, err)
	for _, r := range page.Items {
		by[r.Operator]++
		assert.Equal(t, acknowledged[r.Sequence], r.ID, "record %d was acknowledged to nobody", r.Sequence)
	}
	assert.Len(t, page.Items, granted)
	assert.Len(t, by, 2, "one process kept the other from writing: %v", by)
	checked, err := ledger.Check(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, granted+2, checked.Records)
}

// Measured: of 800 transactions of 8 writers that read before they wrote, 700
// failed; of those that wrote first, none.
func TestElsewhere_EightWritersNeverFailForHavingReadFirst(t *testing.T) {
	t.Parallel()
	const writers, times = 8, 25
	path, _, ledger, nimbus := onFile(t)
	var wait sync.WaitGroup
	for range writers {
		own, err := sqlstore.New(openFile(t, path, 0), sqlstore.SQLite)
		require.NoError(t, err)
		engine, err := store.Open(t.Context(), own, ledger.Distributor(), store.Options{CommitTimeout: time.Minute})
		require.NoError(t, err)
		wait.Go(func() {
			for range times {
				_, err := engine.Allocate(t.Context(), credit.Allocation{ResellerID: nimbus, Amount: credit.FromMillionths(1)})
				assert.NoError(t, err)
			}
		})
	}
	wait.Wait()
	requireSound(t, ledger, 2+writers*times)
}
