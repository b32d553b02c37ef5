package archive_test

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit/archive"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
)

// recordsVariable says how many records the benchmarks work on; default 10,000,
// 1,000 of which add a reseller.
//
//	CREDIT_RECORDS=1000000 go test -run '^$' -bench . -benchtime 1x ./archive
const recordsVariable = "CREDIT_RECORDS"

func benchmarkRecords(b *testing.B) int64 {
	b.Helper()
	text, set := os.LookupEnv(recordsVariable)
	if !set {
		return 10_000
	}
	n, err := strconv.ParseInt(text, 10, 64)
	require.NoError(b, err, recordsVariable)
	return n
}

// heap samples the heap after every MiB that passes through it.
type heap struct {
	sample []metrics.Sample
	passed int
	base   uint64
	peak   uint64
}

func newHeap() *heap {
	runtime.GC()
	h := &heap{sample: []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}}
	metrics.Read(h.sample)
	h.base = h.sample[0].Value.Uint64()
	return h
}

func (h *heap) pass(n int) {
	if h.passed += n; h.passed < 1<<20 {
		return
	}
	h.passed = 0
	metrics.Read(h.sample)
	h.peak = max(h.peak, h.sample[0].Value.Uint64())
}

// report gives the peak above what was there before; garbage counts.
func (h *heap) report(b *testing.B, records int64) {
	h.pass(1 << 20)
	b.ReportMetric(float64(records)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(max(h.peak, h.base)-h.base)/(1<<20), "peak-heap-MiB")
	b.ReportMetric(0, "ns/op")
}

type passReader struct {
	io.Reader
	heap *heap
}

func (r passReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.heap.pass(n)
	return n, err
}

type passWriter struct {
	io.Writer
	heap *heap
}

func (w passWriter) Write(p []byte) (int, error) {
	w.heap.pass(len(p))
	return w.Writer.Write(p)
}

// exportFile writes the export of an invented ledger.
func exportFile(b *testing.B, records int64) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "export.jsonl")
	f, err := os.Create(path)
	require.NoError(b, err)
	invent(b, records, min(records/2, 1000)).writeTo(b, f)
	require.NoError(b, f.Close())
	return path
}

func openFile(b *testing.B, path string) io.Reader {
	b.Helper()
	f, err := os.Open(path)
	require.NoError(b, err)
	b.Cleanup(func() { _ = f.Close() })
	return f
}

func stores(b *testing.B) map[string]func() store.Store {
	return map[string]func() store.Store{
		"memstore": func() store.Store { return memstore.New() },
		"sqlite":   func() store.Store { return newSQLite(b) },
	}
}

// BenchmarkWrite exports from a SQLite file, so that the heap is that of Write.
func BenchmarkWrite(b *testing.B) {
	n := benchmarkRecords(b)
	s := newSQLite(b)
	_, err := archive.Import(b.Context(), s, openFile(b, exportFile(b, n)))
	require.NoError(b, err)
	l := openLedger(b, s, acme, store.Options{})
	h := newHeap()
	for b.Loop() {
		_, err := archive.Write(b.Context(), l, passWriter{io.Discard, h})
		require.NoError(b, err)
	}
	h.report(b, n)
}

func BenchmarkVerify(b *testing.B) {
	n := benchmarkRecords(b)
	path := exportFile(b, n)
	h := newHeap()
	for b.Loop() {
		_, err := archive.Verify(passReader{openFile(b, path), h})
		require.NoError(b, err)
	}
	h.report(b, n)
}

// BenchmarkImport imports into a store; in memory the heap is that of the store.
func BenchmarkImport(b *testing.B) {
	n := benchmarkRecords(b)
	path := exportFile(b, n)
	for name, open := range stores(b) {
		b.Run(name, func(b *testing.B) {
			h := newHeap()
			for b.Loop() {
				b.StopTimer()
				s := open()
				b.StartTimer()
				_, err := archive.Import(b.Context(), s, passReader{openFile(b, path), h})
				require.NoError(b, err)
			}
			h.report(b, n)
		})
	}
}
