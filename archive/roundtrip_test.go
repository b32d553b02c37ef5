package archive_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/archive"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
	"github.com/resellerkit/credit/store/storetest"
)

func TestAnExportIsImportedHashForHashOnEveryStore(t *testing.T) {
	t.Parallel()
	for seed, n := range []int64{0, 1, 2, 10, 80, 400, 2500} {
		t.Run(fmt.Sprint(n, " records"), func(t *testing.T) {
			t.Parallel()
			l := filled(t, uint64(seed), n)
			head, err := l.Head(t.Context())
			require.NoError(t, err)
			export := exported(t, l)
			summary, err := archive.Verify(strings.NewReader(export), head)
			require.NoError(t, err)
			assert.Equal(t, archive.Summary{Distributor: acme, Head: head, Resellers: len(everyone(t, l))}, summary)

			for name, s := range map[string]store.Store{"memstore": memstore.New(), "sqlite": newSQLite(t)} {
				imported, err := archive.Import(t.Context(), s, strings.NewReader(export), head)
				require.NoError(t, err, name)
				assert.Equal(t, summary, imported, name)
				copied := openLedger(t, s, imported.Distributor, store.Options{})
				checked, err := copied.Check(t.Context())
				require.NoError(t, err, "%s: the log explains what was imported", name)
				assert.Equal(t, head, checked.Head, "%s: the head is the same", name)
				assert.Equal(t, everyone(t, l), everyone(t, copied), "%s: so are the resellers", name)
				assert.Equal(t, export, exported(t, copied), "%s: and its export, to the byte", name)
			}
		})
	}
}

func TestAnImportedLedgerGoesOn(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	l := openLedger(t, memstore.New(), acme, store.Options{})
	order := credit.Grant{Amount: decimal.NewFromInt(100), Key: "contract"}
	first, err := l.Grant(t.Context(), order)
	require.NoError(t, err)
	_, err = archive.Import(t.Context(), s, strings.NewReader(exported(t, l)))
	require.NoError(t, err)
	copied := openLedger(t, s, acme, store.Options{})
	again, err := copied.Grant(t.Context(), order)
	require.NoError(t, err)
	assert.True(t, again.Replayed, "a key that was used stays used")
	assert.Equal(t, first.Record, again.Record)
	next, err := copied.Grant(t.Context(), credit.Grant{Amount: decimal.NewFromInt(1)})
	require.NoError(t, err)
	assert.EqualValues(t, 2, next.Sequence)
}

// beside is a ledger to which something happens whenever it is read.
type beside struct {
	credit.Ledger
	happen func()
}

func (l beside) Resellers(ctx context.Context, q credit.ResellerQuery) (credit.Page[credit.Reseller], error) {
	l.happen()
	page, err := l.Ledger.Resellers(ctx, q)
	l.happen()
	return page, err
}

func (l beside) Records(ctx context.Context, q credit.RecordQuery) (credit.Page[credit.Record], error) {
	l.happen()
	page, err := l.Ledger.Records(ctx, q)
	l.happen()
	return page, err
}

func TestWhatIsWrittenMeanwhileIsNotInTheExport(t *testing.T) {
	t.Parallel()
	s := newSource(7)
	l := openLedger(t, memstore.New(), acme, s.options())
	for i := range 2500 { // several pages of resellers
		_, err := l.AddReseller(t.Context(), credit.NewReseller{ExternalID: fmt.Sprint(i), Name: "R", BoundAt: time.Unix(int64(s.IntN(1_000_000)), 0)})
		require.NoError(t, err)
	}
	before := exported(t, l)
	added := 0
	export := exported(t, withHead(t, beside{l, func() {
		for range 3 { // bound before, among and after the others
			_, err := l.AddReseller(t.Context(), credit.NewReseller{ExternalID: fmt.Sprint("later ", added), Name: "R", BoundAt: time.Unix(int64(s.IntN(1_000_002)-1), 0)})
			require.NoError(t, err)
			added++
		}
		_, err := l.Grant(t.Context(), credit.Grant{Amount: decimal.NewFromInt(1)})
		require.NoError(t, err)
	}}))
	require.Greater(t, added, 20)
	assert.Equal(t, before, export, "the export is the ledger at the head that was read first")
}

// withHead is a ledger that answers its head of this moment.
func withHead(t *testing.T, l credit.Ledger) credit.Ledger {
	t.Helper()
	head, err := l.Head(t.Context())
	require.NoError(t, err)
	return stopped{l, head}
}

type stopped struct {
	credit.Ledger
	head credit.Head
}

func (l stopped) Head(context.Context) (credit.Head, error) { return l.head, nil }

func TestExportsBesideWritersAreTheBeginningOfTheLog(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]store.Store{"memstore": memstore.New(), "sqlite": newSQLite(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := openLedger(t, s, acme, store.Options{})
			var stop atomic.Bool
			var written atomic.Int64
			var writers sync.WaitGroup
			for w := range 3 {
				writers.Go(func() {
					for n := 0; !stop.Load(); n++ {
						_, err := l.AddReseller(context.WithoutCancel(t.Context()), credit.NewReseller{ExternalID: fmt.Sprint(w, "/", n), Name: "R", BoundAt: time.Unix(int64(n%7), 0)})
						assert.NoError(t, err)
						written.Add(1)
					}
				})
			}
			var exports []string
			for i := range int64(8) {
				for written.Load() < i*40 {
					runtime.Gosched()
				}
				var out strings.Builder
				_, err := archive.Write(t.Context(), l, &out)
				require.NoError(t, err)
				exports = append(exports, out.String())
			}
			stop.Store(true)
			writers.Wait()
			exports = append(exports, exported(t, l))
			log := recordLines(exports[8])
			for _, export := range exports {
				_, err := archive.Verify(strings.NewReader(export))
				require.NoError(t, err)
				require.True(t, strings.HasPrefix(log, recordLines(export)))
			}
		})
	}
}

// recordLines are the lines of an export that are records.
func recordLines(export string) string {
	var some strings.Builder
	for _, line := range lines(export) {
		if strings.HasPrefix(line, `{"record":`) {
			some.WriteString(line)
		}
	}
	return some.String()
}

func TestAnImportThatWasInterruptedIsCompletedByRunningItAgain(t *testing.T) {
	t.Parallel()
	export := exported(t, filled(t, 3, 2005))
	const appends = 3 // 1,000 records each
	for _, fault := range storetest.Faults() {
		for at := 1; at <= appends; at++ {
			t.Run(fmt.Sprint(fault, " at append ", at), func(t *testing.T) {
				t.Parallel()
				s := memstore.New()
				faulty := storetest.NewFaulty(s, func(c storetest.FaultyCall) storetest.Fault {
					if c.Method == "Append" && c.Number == at {
						return fault
					}
					return storetest.NoFault
				})
				run := func() (err error) {
					defer func() {
						if p := recover(); p != nil {
							err = fmt.Errorf("panic: %v", p)
						}
					}()
					_, err = archive.Import(t.Context(), faulty, strings.NewReader(export))
					return err
				}
				require.Error(t, run(), "an import that failed says so")
				checked, err := openLedger(t, s, acme, store.Options{}).Check(t.Context())
				require.NoError(t, err, "what is written is a ledger")
				require.Less(t, checked.Head.Sequence, int64(2600))
				faulty.Heal()
				if fault == storetest.Stranded {
					faulty.Release()
				}
				// A batch that arrives late can come in between once.
				if err := run(); fault == storetest.Late && err != nil {
					require.ErrorIs(t, err, store.ErrMoved)
					err = run()
					require.NoError(t, err)
				} else {
					require.NoError(t, err, "the same import completes it")
				}
				require.Equal(t, export, exported(t, openLedger(t, s, acme, store.Options{})))
			})
		}
	}
}

func TestAnImportGoesOnAfterTheRecordsThatAreThere(t *testing.T) {
	t.Parallel()
	s := newSource(11)
	l := openLedger(t, memstore.New(), acme, s.options())
	target := newSQLite(t)
	for _, n := range []int64{0, 1, 30, 1500, 1500, 1600} {
		s.fill(t, l, n)
		export := exported(t, l)
		_, err := archive.Import(t.Context(), target, strings.NewReader(export))
		require.NoError(t, err, "a newer export continues an older one")
		require.Equal(t, export, exported(t, openLedger(t, target, acme, store.Options{})))
		require.Equal(t, everyone(t, l), everyone(t, openLedger(t, target, acme, store.Options{})))
	}
}

func TestAnImportLeavesOtherRecordsAlone(t *testing.T) {
	t.Parallel()
	export := exported(t, filled(t, 4, 50))
	for name, c := range map[string]struct {
		distributor credit.Distributor
		seed        uint64
		records     int64
		want        error
	}{
		"other records":  {acme, 5, 20, archive.ErrDiffers},
		"as many others": {acme, 5, 50, archive.ErrDiffers},
		"more records":   {acme, 4, 300, archive.ErrDiffers},
		"other currency": {credit.Distributor{ID: acme.ID, Name: "Acme", Currency: "EUR"}, 4, 0, credit.ErrMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, src := memstore.New(), newSource(c.seed)
			l := openLedger(t, s, c.distributor, src.options())
			src.fill(t, l, c.records)
			before := exported(t, l)
			_, err := archive.Import(t.Context(), s, strings.NewReader(export))
			require.ErrorIs(t, err, c.want)
			require.Equal(t, before, exported(t, l), "nothing was written")
		})
	}
}

// appended notes the batches of an import.
type appended struct {
	store.Store
	batches []store.Batch
}

func (s *appended) Append(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
	b.Records = slices.Clone(b.Records)
	s.batches = append(s.batches, b)
	return s.Store.Append(ctx, ledger, expected, b)
}

func TestABatchIsBoundedByRecordsAndByBytes(t *testing.T) {
	t.Parallel()
	small := &appended{Store: memstore.New()}
	_, err := archive.Import(t.Context(), small, strings.NewReader(exported(t, filled(t, 9, 1500))))
	require.NoError(t, err)
	require.Len(t, small.batches, 2)
	require.Len(t, small.batches[0].Records, 1000)

	l := openLedger(t, memstore.New(), acme, store.Options{})
	full := map[string]string{}
	for i := range credit.MaxMetadata {
		full[fmt.Sprint(i)] = strings.Repeat("\x01", credit.MaxMetadataValue)
	}
	for range 200 { // of 48 KiB each
		_, err := l.Grant(t.Context(), credit.Grant{Amount: decimal.NewFromInt(1), Metadata: full})
		require.NoError(t, err)
	}
	large := &appended{Store: memstore.New()}
	_, err = archive.Import(t.Context(), large, strings.NewReader(exported(t, l)))
	require.NoError(t, err)
	assert.Len(t, large.batches, 3, "9.6 MiB in batches of 4")
}

// Whoever stores a batch gets the resellers as they are after its last record.
func TestABatchHasEachResellerOnceAndAsItIsAtItsEnd(t *testing.T) {
	t.Parallel()
	l := filled(t, 10, 2500)
	s := &appended{Store: memstore.New()}
	_, err := archive.Import(t.Context(), s, strings.NewReader(exported(t, l)))
	require.NoError(t, err)
	last := map[uuid.UUID]credit.Reseller{}
	state := credit.NewState(acme)
	for _, b := range s.batches {
		touched := map[uuid.UUID]credit.Kind{}
		for _, r := range b.Records {
			state.Apply(r)
			if _, seen := touched[r.ResellerID]; !seen && r.ResellerID != uuid.Nil {
				touched[r.ResellerID] = r.Kind
			}
		}
		for i, r := range slices.Concat(b.Added, b.Changed) {
			want, _ := state.Reseller(r.ID)
			require.Equal(t, i < len(b.Added), touched[r.ID] == credit.KindAdd, "%s is added once, and changed afterwards", r.ID)
			require.Equal(t, want.Status, r.Status)
			require.Equal(t, want.Figures, r.Figures)
			delete(touched, r.ID)
			last[r.ID] = r
		}
		for _, m := range b.Moved {
			want, _ := state.Reseller(m.ID)
			require.NotEqual(t, credit.KindAdd, touched[m.ID])
			require.Equal(t, want.Figures, m.Figures)
			delete(touched, m.ID)
			r := last[m.ID]
			r.Figures = m.Figures
			last[m.ID] = r
		}
		require.Empty(t, touched, "each reseller of the batch's records is in it")
	}
	for _, r := range everyone(t, l) {
		require.Equal(t, r, last[r.ID])
	}
}

func TestAWriterToTheLedgerEndsItsImport(t *testing.T) {
	t.Parallel()
	export := exported(t, filled(t, 6, 2200))
	s := memstore.New()
	intruder := openLedger(t, s, acme, store.Options{})
	faulty := storetest.NewFaulty(s, func(c storetest.FaultyCall) storetest.Fault {
		if c.Method == "Append" && c.Number == 2 {
			_, err := intruder.Grant(context.WithoutCancel(t.Context()), credit.Grant{Amount: decimal.NewFromInt(1)})
			assert.NoError(t, err)
		}
		return storetest.NoFault
	})
	_, err := archive.Import(t.Context(), faulty, strings.NewReader(export))
	require.ErrorIs(t, err, store.ErrMoved)
	_, err = intruder.Check(t.Context())
	require.NoError(t, err)
}

func TestAnImportEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := archive.Import(ctx, memstore.New(), strings.NewReader(exported(t, filled(t, 1, 3))))
	require.ErrorIs(t, err, context.Canceled)
}

func TestAnErrorOfTheReaderIsNotOneOfTheExport(t *testing.T) {
	t.Parallel()
	export := exported(t, filled(t, 1, 30))
	broken := errors.New("disk on fire")
	for _, n := range []int{0, 10, len(export) / 2, len(export) - 1, len(export)} {
		part := func() io.Reader {
			return io.MultiReader(strings.NewReader(export[:n]), failing{broken})
		}
		_, err := archive.Verify(part())
		var line *archive.LineError
		assert.NotErrorAs(t, err, &line)
		assert.ErrorIs(t, err, broken)
		_, err = archive.Import(t.Context(), memstore.New(), part())
		assert.NotErrorAs(t, err, &line)
		assert.ErrorIs(t, err, broken)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

// bad is a ledger whose store lost or changed something.
type bad struct {
	credit.Ledger
	head    func(credit.Head) credit.Head
	records func([]credit.Record) []credit.Record
}

func (l bad) Head(ctx context.Context) (credit.Head, error) {
	h, err := l.Ledger.Head(ctx)
	if l.head != nil {
		h = l.head(h)
	}
	return h, err
}

func (l bad) Records(ctx context.Context, q credit.RecordQuery) (credit.Page[credit.Record], error) {
	page, err := l.Ledger.Records(ctx, q)
	if l.records != nil && len(q.Kinds) == 0 {
		page.Items = l.records(page.Items)
	}
	return page, err
}

func TestALogWithGapsIsNotExported(t *testing.T) {
	t.Parallel()
	l := filled(t, 8, 20)
	head, err := l.Head(t.Context())
	require.NoError(t, err)
	for name, c := range map[string]struct {
		ledger   bad
		sequence int64
	}{
		"a record is missing":         {bad{l, nil, func(r []credit.Record) []credit.Record { return append(r[:4:4], r[5:]...) }}, 5},
		"the end is missing":          {bad{l, func(h credit.Head) credit.Head { h.Sequence++; return h }, nil}, head.Sequence + 1},
		"the head has another hash":   {bad{l, func(h credit.Head) credit.Head { h.Hash[0]++; return h }, nil}, head.Sequence},
		"the last one is exchanged":   {bad{l, nil, func(r []credit.Record) []credit.Record { r[len(r)-1].Hash[0]++; return r }}, head.Sequence},
		"two records are exchanged":   {bad{l, nil, func(r []credit.Record) []credit.Record { r[2], r[3] = r[3], r[2]; return r }}, 3},
		"there is nothing but a head": {bad{l, nil, func([]credit.Record) []credit.Record { return nil }}, 1},
	} {
		_, err := archive.Write(t.Context(), c.ledger, io.Discard)
		var corrupt *credit.CorruptError
		if assert.ErrorAs(t, err, &corrupt, name) {
			assert.Equal(t, c.sequence, corrupt.Sequence, name)
		}
	}
}

func TestAnErrorOfTheWriterEndsTheExport(t *testing.T) {
	t.Parallel()
	l := filled(t, 8, 300)
	broken := errors.New("disk full")
	_, err := archive.Write(t.Context(), l, failing{broken})
	require.ErrorIs(t, err, broken)
	require.ErrorIs(t, archive.RecordsCSV(t.Context(), l, credit.RecordQuery{}, failing{broken}), broken)
	require.ErrorIs(t, archive.ResellersCSV(t.Context(), l, credit.ResellerQuery{}, failing{broken}), broken)
}

// The longest line that a ledger can give: every text full of characters that
// JSON escapes.
func TestTheLongestRecordIsExported(t *testing.T) {
	t.Parallel()
	l := openLedger(t, memstore.New(), acme, store.Options{})
	full := func(n int) string { return strings.Repeat("\x01", n) }
	_, err := l.Grant(t.Context(), credit.Grant{Amount: decimal.New(1, 11)})
	require.NoError(t, err)
	r, err := l.AddReseller(t.Context(), credit.NewReseller{ExternalID: full(credit.MaxExternalID), Name: full(credit.MaxName), Email: full(credit.MaxEmail),
		Mobile: full(credit.MaxMobile), ResellerRemark: full(credit.MaxRemark), Customers: credit.MaxCustomers})
	require.NoError(t, err)
	meta := map[string]string{}
	for i := range credit.MaxMetadata {
		meta[full(credit.MaxMetadataKey-2)+fmt.Sprintf("%02d", i)] = full(credit.MaxMetadataValue)
	}
	_, err = l.RecordUsage(t.Context(), credit.Usage{ResellerID: r.ResellerID, Amount: credit.FromMillionths(123_456_789_123_456_789), Customer: full(credit.MaxCustomer),
		Operator: full(credit.MaxOperator), Remark: full(credit.MaxRemark), Key: full(credit.MaxKey), Reference: full(credit.MaxReference), Metadata: maps.Clone(meta), Corrects: 1})
	require.NoError(t, err)
	export := exported(t, l)
	_, err = archive.Verify(strings.NewReader(export))
	require.NoError(t, err)
	longest := 0
	for _, line := range lines(export) {
		longest = max(longest, len(line))
	}
	assert.Greater(t, longest, 64<<10, "the test tests something")
	_, err = archive.Import(t.Context(), memstore.New(), strings.NewReader(export))
	require.NoError(t, err)
}

func TestALineThatCouldNotBeReadBackIsNotWritten(t *testing.T) {
	t.Parallel()
	l := bad{filled(t, 8, 20), nil, func(r []credit.Record) []credit.Record { r[3].Remark = strings.Repeat("x", 200_000); return r }}
	_, err := archive.Write(t.Context(), l, io.Discard)
	require.ErrorContains(t, err, "longer than the 131072 that can be read")
}

// Of 12,000 records some 10 MB would be held if any part of one were.
func TestMemoryDoesNotGrowWithTheRecords(t *testing.T) {
	few, many := livePeaks(t, 2_000), livePeaks(t, 12_000)
	for i, what := range []string{"Write", "Verify"} {
		assert.Less(t, many[i], few[i]+1<<20, "%s holds %d bytes with 2,000 records, %d with 12,000", what, few[i], many[i])
	}
}

// livePeaks is the most live memory, garbage aside, while an export is written to
// a file, and while it is verified.
func livePeaks(t *testing.T, records int64) (peaks [2]int64) {
	t.Helper()
	l := invent(t, records, 100)
	f, err := os.Create(filepath.Join(t.TempDir(), "export.jsonl"))
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	for i, run := range []func(*liveMeter) error{
		func(m *liveMeter) error {
			_, err := archive.Write(t.Context(), l, io.MultiWriter(f, m))
			return err
		},
		func(m *liveMeter) error {
			_, err := archive.Verify(io.TeeReader(f, m))
			return err
		},
	} {
		_, err := f.Seek(0, io.SeekStart)
		require.NoError(t, err)
		m := &liveMeter{}
		base := m.live()
		require.NoError(t, run(m))
		require.NotZero(t, m.peak, "nothing was measured")
		peaks[i] = m.peak - base
	}
	return peaks
}

// liveMeter looks at the live memory after every MiB that is written to it.
type liveMeter struct {
	passed int
	peak   int64
}

func (m *liveMeter) Write(p []byte) (int, error) {
	if m.passed += len(p); m.passed > 1<<20 {
		m.passed, m.peak = 0, max(m.peak, m.live())
	}
	return len(p), nil
}

func (m *liveMeter) live() int64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}
