package archive_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/archive"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
)

// requireBad fails unless Verify finds the export to be bad.
func requireBad(t *testing.T, export string, head credit.Head, format string, args ...any) *archive.LineError {
	t.Helper()
	_, err := archive.Verify(strings.NewReader(export), head)
	var line *archive.LineError
	require.ErrorAsf(t, err, &line, format, args...)
	return line
}

func TestEveryByteCounts(t *testing.T) {
	t.Parallel()
	l := filled(t, 21, 12)
	export := exported(t, l)
	head, err := l.Head(t.Context())
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range len(export) {
		changed := []byte(export)
		changed[i] ^= 1 << rng.IntN(8)
		bad := requireBad(t, string(changed), head, "byte %d, %q instead of %q", i, changed[i], export[i])
		// A line end that is gone makes one line of two.
		at := int64(strings.Count(export[:i], "\n")) + 1
		if at <= 1+int64(len(everyone(t, l))) { // a profile is found by the sum
			require.GreaterOrEqual(t, bad.Line, at)
			continue
		}
		require.Equal(t, at, bad.Line, "byte %d is in line %d: %v", i, at, bad)
	}
}

func TestEveryLineCounts(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		l := filled(t, 30+seed, 40)
		head, err := l.Head(t.Context())
		require.NoError(t, err)
		all := lines(exported(t, l))
		all[len(all)-1] += "\n"
		join := func(some ...[]string) string { return strings.Join(slices.Concat(some...), "") }
		_, err = archive.Verify(strings.NewReader(join(all)), head)
		require.NoError(t, err)
		rng := rand.New(rand.NewPCG(seed, 0))
		for i := range all {
			requireBad(t, join(all[:i]), head, "cut off before line %d", i+1)
			requireBad(t, join(all[:i])+all[i][:rng.IntN(len(all[i]))], head, "cut off in line %d", i+1)
			requireBad(t, join(all[:i], all[i+1:]), head, "without line %d", i+1)
			requireBad(t, join(all[:i+1], all[i:]), head, "line %d twice", i+1)
			requireBad(t, join(all[:i], []string{"\n"}, all[i:]), head, "an empty line before line %d", i+1)
			requireBad(t, join(all[:i], []string{" " + all[i]}, all[i+1:]), head, "a blank before line %d", i+1)
			requireBad(t, join(all[:i], []string{strings.TrimSuffix(all[i], "\n") + "\r\n"}, all[i+1:]), head, "line %d ends like a line of Windows", i+1)
			if j := rng.IntN(len(all)); j != i {
				swapped := slices.Clone(all)
				swapped[i], swapped[j] = swapped[j], swapped[i]
				requireBad(t, join(swapped), head, "lines %d and %d exchanged", i+1, j+1)
				moved := slices.Insert(slices.Delete(slices.Clone(all), i, i+1), j, all[i])
				requireBad(t, join(moved), head, "line %d moved to %d", i+1, j+1)
			}
		}
		requireBad(t, join(all)+"\n", head, "an empty line after the end")
		requireBad(t, join(all)+"x", head, "something after the end")
	}
}

// forge changes a log, computes every hash and sum that follows anew, and returns
// the export: what somebody can do who knows the format and writes all of it.
func forge(t *testing.T, export string, change func(*credit.Record), profile func(map[string]any)) string {
	t.Helper()
	var out strings.Builder
	sum := sha256.New()
	hash := credit.Genesis(acme)
	var records []credit.Record
	for _, line := range lines(export) {
		if body, ok := strings.CutPrefix(line, `{"record":`); ok {
			var r credit.Record
			require.NoError(t, json.Unmarshal([]byte(strings.TrimSuffix(strings.TrimSpace(body), "}")), &r))
			change(&r)
			r.Hash = r.ChainHash(hash)
			hash = r.Hash
			records = append(records, r)
		}
	}
	last := records[len(records)-1]
	head, err := json.Marshal(credit.Head{Sequence: last.Sequence, Hash: last.Hash, RecordedAt: last.RecordedAt, Pool: last.Pool})
	require.NoError(t, err)
	distributor, err := json.Marshal(acme)
	require.NoError(t, err)
	fmt.Fprintf(&out, "{\"export\":{\"version\":\"credit/export/1\",\"distributor\":%s,\"head\":%s}}\n", distributor, head)
	resellers := 0
	for _, line := range lines(export) {
		if body, ok := strings.CutPrefix(line, `{"reseller":`); ok {
			var p struct {
				ID         string `json:"id"`
				ExternalID string `json:"external_id"`
				credit.Profile
				BoundAt string `json:"bound_at"`
			}
			body = strings.TrimSuffix(strings.TrimSpace(body), "}")
			var m map[string]any
			require.NoError(t, json.Unmarshal([]byte(body), &m))
			profile(m)
			again, err := json.Marshal(m)
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(again, &p))
			again, err = json.Marshal(p)
			require.NoError(t, err)
			fmt.Fprintf(&out, "{\"reseller\":%s}\n", again)
			resellers++
		}
	}
	sum.Write([]byte(out.String()))
	fmt.Fprintf(&out, "{\"resellers\":{\"count\":%d,\"sha256\":\"%s\"}}\n", resellers, hex.EncodeToString(sum.Sum(nil)))
	for _, r := range records {
		text, err := json.Marshal(r)
		require.NoError(t, err)
		fmt.Fprintf(&out, "{\"record\":%s}\n", text)
	}
	fmt.Fprintf(&out, "{\"end\":{\"records\":%d,\"resellers\":%d,\"head\":%s}}\n", len(records), resellers, head)
	return out.String()
}

func nothing[T any](T) {}

func TestAForgedLogIsFoundAtTheFirstBadRecord(t *testing.T) {
	t.Parallel()
	l := filled(t, 40, 80)
	export := exported(t, l)
	head, err := l.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, export, forge(t, export, nothing, nothing), "the forger knows the format")
	page, err := l.Records(t.Context(), credit.RecordQuery{Limit: credit.MaxPageSize})
	require.NoError(t, err)

	one := credit.FromMillionths(1)
	for name, change := range map[string]func(*credit.Record){
		"amount":                func(r *credit.Record) { r.Amount = r.Amount.Add(one) },
		"allocated before":      func(r *credit.Record) { r.Before.Allocated = r.Before.Allocated.Add(one) },
		"used after":            func(r *credit.Record) { r.After.Used = r.After.Used.Add(one) },
		"granted":               func(r *credit.Record) { r.Pool.Granted = r.Pool.Granted.Add(one) },
		"kind":                  func(r *credit.Record) { r.Kind = "gift" },
		"sequence":              func(r *credit.Record) { r.Sequence++ },
		"reseller":              func(r *credit.Record) { r.ResellerID[0]++ },
		"fingerprint":           func(r *credit.Record) { r.Key, r.Fingerprint = "", credit.Hash{1} },
		"a record yet to come":  func(r *credit.Record) { r.Corrects = 1000 },
		"time before the last":  func(r *credit.Record) { r.RecordedAt = r.RecordedAt.AddDate(-1, 0, 0) },
		"a time zone":           func(r *credit.Record) { r.OccurredAt = r.OccurredAt.In(zone) },
		"a time of nanoseconds": func(r *credit.Record) { r.OccurredAt = r.OccurredAt.Add(1) },
		"metadata of nothing":   func(r *credit.Record) { r.Metadata = map[string]string{"": ""} },
	} {
		for _, at := range []int64{2, 17, int64(len(page.Items))} {
			forged := forge(t, export, func(r *credit.Record) {
				if r.Sequence == at {
					change(r)
				}
			}, nothing)
			_, err := archive.Verify(strings.NewReader(forged))
			var corrupt *credit.CorruptError
			if assert.ErrorAs(t, err, &corrupt, "%s of record %d, with no head kept", name, at) {
				assert.Equal(t, at, corrupt.Sequence, "%s of record %d: %v", name, at, err)
			}
		}
	}

	// What the rules allow only a head that was kept can find.
	forged := forge(t, export, func(r *credit.Record) {
		if r.Sequence == 17 {
			r.Operator = "somebody else"
		}
	}, nothing)
	_, err = archive.Verify(strings.NewReader(forged))
	require.NoError(t, err)
	for _, kept := range []int64{17, 30, head.Sequence} {
		bad := requireBad(t, forged, credit.Head{Sequence: kept, Hash: page.Items[kept-1].Hash}, "a head kept at record %d", kept)
		var corrupt *credit.CorruptError
		require.ErrorAs(t, bad, &corrupt)
		require.Equal(t, kept, corrupt.Sequence, "the record of the head is the first that is known to be wrong")
	}
	_, err = archive.Verify(strings.NewReader(forged), credit.Head{Sequence: 16, Hash: page.Items[15].Hash})
	require.NoError(t, err, "the log is true up to record 16")
}

func TestAKeyThatIsThereTwiceIsFoundByAnImport(t *testing.T) {
	t.Parallel()
	export := exported(t, filled(t, 41, 1300))
	for _, second := range []int64{900, 1200} { // in one batch, and in two
		first := credit.Record{}
		forged := forge(t, export, func(r *credit.Record) {
			switch {
			case r.Key != "" && first.Key == "":
				first = *r
			case r.Sequence == second:
				r.Key, r.Fingerprint = first.Key, credit.Hash{1}
			}
		}, nothing)
		_, err := archive.Verify(strings.NewReader(forged))
		require.NoError(t, err, "Verify does not remember keys, as its documentation says")
		s := memstore.New()
		_, err = archive.Import(t.Context(), s, strings.NewReader(forged))
		require.ErrorContains(t, err, "key", "record %d has the key of record %d", second, first.Sequence)
		_, err = openLedger(t, s, acme, store.Options{}).Check(t.Context())
		require.NoError(t, err, "what was written before is a ledger")
	}
}

func TestHeadsThatWereKept(t *testing.T) {
	t.Parallel()
	s := newSource(50)
	l := openLedger(t, memstore.New(), acme, s.options())
	var kept []credit.Head
	for n := range int64(6) {
		s.fill(t, l, n*10)
		head, err := l.Head(t.Context())
		require.NoError(t, err)
		text, err := json.Marshal(head)
		require.NoError(t, err)
		var read credit.Head
		require.NoError(t, json.Unmarshal(text, &read))
		kept = append(kept, read)
	}
	export := exported(t, l)
	_, err := archive.Verify(strings.NewReader(export), kept...)
	require.NoError(t, err, "a log goes through all of its heads, also that of the empty ledger")
	for i := range kept {
		changed := slices.Clone(kept)
		changed[i].Hash[31]++
		_, err := archive.Verify(strings.NewReader(export), changed...)
		var corrupt *credit.CorruptError
		require.ErrorAs(t, err, &corrupt)
		require.Equal(t, kept[i].Sequence, corrupt.Sequence)
		_, err = archive.Import(t.Context(), memstore.New(), strings.NewReader(export), changed...)
		require.ErrorIs(t, err, credit.ErrCorrupt, "an import looks at them, too")
	}
	s.fill(t, l, kept[5].Sequence+1)
	head, err := l.Head(t.Context())
	require.NoError(t, err)
	var corrupt *credit.CorruptError
	require.ErrorAs(t, requireBad(t, export, head, "a log whose end was cut off"), &corrupt)
	assert.Equal(t, kept[5].Sequence+1, corrupt.Sequence)
	requireBad(t, export, credit.Head{}, "a head that was never set")
	requireBad(t, export, credit.Head{Sequence: -1}, "a head that cannot be")
}

// A profile is in no record: who changes one, and the sum, is not found.
func TestProfilesArePlainWords(t *testing.T) {
	t.Parallel()
	l := filled(t, 60, 80)
	export := exported(t, l)
	head, err := l.Head(t.Context())
	require.NoError(t, err)
	for name, change := range map[string]func(map[string]any){
		"name":     func(p map[string]any) { p["name"] = "Another" },
		"bound at": func(p map[string]any) { p["bound_at"] = "9998" + p["bound_at"].(string)[4:] },
	} {
		done := 0
		forged := forge(t, export, nothing, func(p map[string]any) {
			if done++; done == len(everyone(t, l)) { // the last one, so that the order remains
				change(p)
			}
		})
		require.NotEqual(t, export, forged)
		_, err := archive.Verify(strings.NewReader(forged), head)
		assert.NoError(t, err, "the %s is not in a record, as the documentation says", name)
	}
	for name, change := range map[string]func(map[string]any){
		"external id":      func(p map[string]any) { p["external_id"] = "stolen" },
		"id":               func(p map[string]any) { p["id"] = "00000000-0000-4000-8000-000000000fff" },
		"order":            func(p map[string]any) { p["bound_at"] = "0001-01-01T00:00:01Z" },
		"no name":          func(p map[string]any) { p["name"] = "" },
		"too many":         func(p map[string]any) { p["customers"] = credit.MaxCustomers + 1 },
		"NUL":              func(p map[string]any) { p["remark"] = "\x00" },
		"a time zone":      func(p map[string]any) { p["bound_at"] = "9998-01-01T00:00:00+02:00" },
		"nanoseconds":      func(p map[string]any) { p["bound_at"] = "9998-01-01T00:00:00.000000001Z" },
		"a very long name": func(p map[string]any) { p["name"] = strings.Repeat("x", 1<<18) },
	} {
		done := 0
		forged := forge(t, export, nothing, func(p map[string]any) {
			if done++; done == len(everyone(t, l)) {
				change(p)
			}
		})
		bad := requireBad(t, forged, head, "%s", name)
		assert.Less(t, len(bad.Error()), 500, "%s: an error is short", name)
	}
	done := 0
	unbound := forge(t, export, nothing, func(p map[string]any) {
		if done++; done == 1 {
			p["bound_at"] = "0001-01-01T00:00:00Z"
		}
	})
	requireBad(t, unbound, head, "a reseller that was never bound")
}

func TestAResellerIsThereOnce(t *testing.T) {
	t.Parallel()
	l := filled(t, 60, 80)
	all := lines(exported(t, l))
	all[len(all)-1] += "\n"
	count := len(everyone(t, l))
	for name, line := range map[string]string{
		"the same line":  all[count],
		"bound later":    all[1][:strings.Index(all[1], `"bound_at"`)] + `"bound_at":"9999-01-01T00:00:00Z"}}` + "\n",
		"in other words": strings.Replace(all[count], `"name":"`, `"name":"Another `, 1),
	} {
		forged := slices.Insert(slices.Clone(all), count+1, line)
		sum := sha256.Sum256([]byte(strings.Join(forged[:count+2], "")))
		forged[count+2] = fmt.Sprintf("{\"resellers\":{\"count\":%d,\"sha256\":\"%x\"}}\n", count, sum)
		_, err := archive.Verify(strings.NewReader(strings.Join(forged, "")))
		assert.ErrorContains(t, err, "is there twice", name)
	}
	stranger := strings.NewReplacer(all[count][len(`{"reseller":{"id":"`):][:36], "ffffffff-0000-4000-8000-000000000000").Replace(all[count])
	forged := slices.Insert(slices.Clone(all), count+1, stranger)
	forged[count+2] = fmt.Sprintf("{\"resellers\":{\"count\":%d,\"sha256\":\"%x\"}}\n", count+1, sha256.Sum256([]byte(strings.Join(forged[:count+2], ""))))
	text := strings.Replace(strings.Join(forged, ""), fmt.Sprintf(`"resellers":%d,`, count), fmt.Sprintf(`"resellers":%d,`, count+1), 1)
	_, err := archive.Verify(strings.NewReader(text))
	assert.ErrorContains(t, err, fmt.Sprintf("there are %d resellers, records add %d", count+1, count))
	for name, n := range map[string]int{"one too many": count + 1, "one too few": count - 1} {
		forged := strings.Replace(strings.Join(all, ""), fmt.Sprintf(`{"resellers":{"count":%d,`, count), fmt.Sprintf(`{"resellers":{"count":%d,`, n), 1)
		_, err := archive.Verify(strings.NewReader(forged))
		assert.ErrorContains(t, err, fmt.Sprintf("says %d resellers; there are %d", n, count), name)
	}
}

func TestTheFirstLineSaysWhatIsThere(t *testing.T) {
	t.Parallel()
	l := filled(t, 61, 5)
	export := exported(t, l)
	all := lines(export)
	all[len(all)-1] += "\n"
	// resum makes the sum that of the changed lines.
	resum := func(first string) string {
		lines := slices.Clone(all)
		lines[0] = first
		i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, `{"resellers":`) })
		lines[i] = fmt.Sprintf("{\"resellers\":{\"count\":%d,\"sha256\":\"%x\"}}\n", i-1, sha256.Sum256([]byte(strings.Join(lines[:i], ""))))
		return strings.Join(lines, "")
	}
	_, err := archive.Verify(strings.NewReader(resum(all[0])))
	require.NoError(t, err)
	for from, to := range map[string]string{
		"credit/export/1":      "credit/export/2",
		`"currency":"USD"`:     `"currency":"EUR"`,
		acme.ID.String():       "00000000-0000-4000-8000-000000000002",
		`"currency":"USD"}`:    `"currency":"usd"}`,
		`"sequence":5`:         `"sequence":4`,
		`"sequence":5,`:        `"sequence":6,`,
		`"sequence":5,"`:       `"sequence":-5,"`,
		`"granted":"`:          `"granted":"1`,
		`"recorded_at":"2026`:  `"recorded_at":"2027`,
		`{"export":{`:          `{"export":{ `,
		`{"export":{"version"`: `{"export":{"Version"`,
		"}}\n":                 "}}}\n",
	} {
		first := strings.Replace(all[0], from, to, 1)
		require.NotEqual(t, all[0], first, from)
		_, err := archive.Verify(strings.NewReader(resum(first)))
		var line *archive.LineError
		assert.ErrorAs(t, err, &line, "%s became %s", from, to)
	}
}

func TestTheEndIsThatOfTheRecords(t *testing.T) {
	t.Parallel()
	export := exported(t, example())
	const taken, granted = `"recorded_at":"2026-03-01T12:00:03Z","pool"`, `"granted":"50000","allocated":"1200","remaining":"48800"`
	for _, lie := range []*strings.Replacer{
		strings.NewReplacer(taken, `"recorded_at":"2026-03-01T12:00:04Z","pool"`),
		strings.NewReplacer(granted, `"granted":"50001","allocated":"1200","remaining":"48801"`),
	} {
		forged := lines(export)
		last := len(forged) - 1
		forged[0], forged[last] = lie.Replace(forged[0]), lie.Replace(forged[last])+"\n"
		require.NotEqual(t, lines(export)[0], forged[0])
		forged[2] = fmt.Sprintf("{\"resellers\":{\"count\":1,\"sha256\":\"%x\"}}\n", sha256.Sum256([]byte(forged[0]+forged[1])))
		_, err := archive.Verify(strings.NewReader(strings.Join(forged, "")))
		assert.ErrorContains(t, err, "line 7: is not the end that the first line and the records give")
	}

	again := lines(export)
	more := strings.Join(slices.Insert(again, len(again)-1, again[len(again)-2]), "") + "\n"
	_, err := archive.Verify(strings.NewReader(more))
	var corrupt *credit.CorruptError
	require.ErrorAs(t, err, &corrupt, "a record after the last one")
	assert.EqualValues(t, 4, corrupt.Sequence)
}

func TestALineIsNotReadBeyondItsLimit(t *testing.T) {
	t.Parallel()
	for _, start := range []string{"", `{"export":{`, lines(exported(t, filled(t, 61, 5)))[0]} {
		in := &endless{start: start}
		_, err := archive.Verify(in)
		var line *archive.LineError
		require.ErrorAs(t, err, &line)
		assert.ErrorContains(t, err, "longer than 131072 bytes")
		assert.Less(t, in.read, 1<<20)
	}
}

// endless never has a line end.
type endless struct {
	start string
	read  int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.start)
	e.start = e.start[n:]
	if n == 0 {
		n = copy(p, bytes.Repeat([]byte("x"), len(p)))
	}
	e.read += n
	return n, nil
}

// FuzzVerify: whatever is read, the answer is an error or an export that is
// imported and written again as it was.
func FuzzVerify(f *testing.F) {
	for seed, n := range []int64{0, 1, 8, 30} {
		export := exported(f, filled(f, uint64(seed), n))
		f.Add([]byte(export))
		f.Add([]byte(export[:len(export)/2]))
	}
	f.Add([]byte(`{"export":{"version":"credit/export/1","head":{"sequence":9223372036854775807}}}` + "\n"))
	f.Fuzz(func(t *testing.T, export []byte) {
		summary, err := archive.Verify(bytes.NewReader(export))
		s := memstore.New()
		_, errImport := archive.Import(t.Context(), s, bytes.NewReader(export))
		if err != nil {
			require.Error(t, errImport)
			var line *archive.LineError
			require.ErrorAs(t, err, &line)
			return
		}
		if errImport != nil {
			require.ErrorContains(t, errImport, "key", "only a key that is there twice is found by the import alone")
			return
		}
		require.Equal(t, string(export), exported(t, openLedger(t, s, summary.Distributor, store.Options{})))
	})
}

var zone = time.FixedZone("", 2*60*60)
