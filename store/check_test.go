package store_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// goodBook is a ledger with records of every kind.
func goodBook(t testing.TB) *book {
	b := newBook(t, newClock().options())
	n := b.nimbus
	outcomes, err := b.Bulk(t.Context(), []credit.Command{
		credit.NewReseller{ExternalID: "2002", Name: "Cirrus", Key: "add", Metadata: map[string]string{"a": "b"}},
		credit.Withdrawal{Amount: amt("1")},
		credit.Allocation{ResellerID: n, Amount: amt("100"), Key: "po-1", Operator: "ops", Remark: "first", Reference: "r"},
		credit.Usage{ResellerID: n, Amount: amt("30"), Customer: "c", Key: "u-1"},
		credit.Correction{ResellerID: n, Amount: amt("10"), Corrects: 6},
		credit.Settlement{ResellerID: n, Amount: amt("5")},
		credit.ProfileUpdate{ResellerID: n, Name: new("New")},
		credit.Repossession{ResellerID: n, Amount: amt("3")},
		credit.Freeze{ResellerID: n}, credit.Unfreeze{ResellerID: n},
		credit.RepossessAll{ResellerID: n}, credit.Close{ResellerID: n},
		credit.Grant{Amount: amt("7"), OccurredAt: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)},
	}, credit.BulkOptions{})
	require.NoError(t, err)
	for _, o := range outcomes {
		require.NoError(t, o.Err)
	}
	return b
}

// corrupt asks Check for its complaint.
func (b *book) corrupt(msg string) *credit.CorruptError {
	b.t.Helper()
	_, err := b.Check(b.t.Context())
	var corrupt *credit.CorruptError
	require.ErrorAs(b.t, err, &corrupt, msg)
	require.ErrorIs(b.t, err, credit.ErrCorrupt)
	return corrupt
}

func TestCheckPassesAGoodLedger(t *testing.T) {
	t.Parallel()
	b := goodBook(t)
	checked, err := b.Check(t.Context())
	require.NoError(t, err)
	head, err := b.Head(t.Context())
	require.NoError(t, err)
	assert.Equal(t, store.Checked{Head: head, Records: 15, Resellers: 2}, checked)

	empty, err := store.Open(t.Context(), b.store, credit.Distributor{ID: id(2), Name: "Empty", Currency: "EUR"}, store.Options{})
	require.NoError(t, err)
	checked, err = empty.Check(t.Context())
	require.NoError(t, err)
	assert.Equal(t, credit.Genesis(empty.Distributor()), checked.Head.Hash)
	assert.Zero(t, checked.Records)
}

func TestCheckReadsLedgersOfManyPages(t *testing.T) {
	t.Parallel()
	b := newBook(t, store.Options{})
	commands := make([]credit.Command, 2500)
	for i := range commands {
		commands[i] = credit.NewReseller{ExternalID: fmt.Sprint("many-", i), Name: "Reseller", Key: fmt.Sprint(i)}
	}
	_, err := b.Bulk(t.Context(), commands, credit.BulkOptions{})
	require.NoError(t, err)
	checked, err := b.Check(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 2502, checked.Records)
	assert.Equal(t, 2501, checked.Resellers)
}

// tamper changes one field, or element, of a record or a reseller.
func tamper(v reflect.Value, change func(path string)) { tamperAt(v, v.Type().Name(), change) }

func tamperAt(v reflect.Value, path string, change func(path string)) {
	old := reflect.New(v.Type()).Elem()
	old.Set(v)
	defer v.Set(old)
	switch x := v.Addr().Interface().(type) {
	case *decimal.Decimal:
		*x = x.Add(amt("0.000001"))
	case *time.Time:
		*x = x.Add(time.Microsecond)
	case *map[string]string:
		*x = map[string]string{"added": ""}
	case *[]string:
		*x = append(slices.Clone(*x), "added")
	case *int64:
		*x++
	case *int:
		*x++
	case *uuid.UUID:
		x[3]++
	case *credit.Hash:
		x[3]++
	case *credit.Kind:
		*x += "x"
	case *credit.Status:
		*x = map[credit.Status]credit.Status{credit.StatusActive: credit.StatusFrozen, credit.StatusFrozen: credit.StatusClosed, credit.StatusClosed: credit.StatusActive}[*x]
	case *string:
		*x += "x"
	default:
		for i := range v.NumField() {
			tamperAt(v.Field(i), path+"."+v.Type().Field(i).Name, change)
		}
		return
	}
	change(path)
}

func TestCheckNamesARecordThatWasTamperedWith(t *testing.T) {
	t.Parallel()
	b := goodBook(t)
	log := b.log()
	var at int
	b.store.records = func(_ context.Context, q credit.RecordQuery, _ func() ([]credit.Record, error)) ([]credit.Record, error) {
		return slices.DeleteFunc(slices.Clone(log), func(r credit.Record) bool { return !q.Matches(r) }), nil
	}
	_, err := b.Check(t.Context())
	require.NoError(t, err)
	fields := map[string]bool{}
	for at = range log {
		want := log[at].Sequence
		tamper(reflect.ValueOf(&log[at]).Elem(), func(path string) {
			fields[path] = true
			corrupt := b.corrupt(fmt.Sprintf("record %d: a changed %s passed", want, path))
			if path != "Record.Sequence" {
				assert.Equal(t, want, corrupt.Sequence, "a changed %s is blamed on another record", path)
			}
		})
		// The same, and everything after it hashed again by somebody who knows how.
		tamper(reflect.ValueOf(&log[at]).Elem(), func(path string) {
			whole := slices.Clone(log)
			defer copy(log, whole)
			previous := credit.Genesis(acme)
			for i := range log {
				if i >= at {
					log[i].Hash = log[i].ChainHash(previous)
				}
				previous = log[i].Hash
			}
			if path != "Record.Hash" { // that is made anew
				_ = b.corrupt(fmt.Sprintf("record %d: a changed %s passed once all hashes were made anew", want, path))
			}
		})
	}
	assert.Len(t, fields, 24, "fields: %v", fields)
	_, err = b.Check(t.Context())
	require.NoError(t, err, "this test left something behind")

	for at := range log {
		whole := log
		log = slices.Delete(slices.Clone(whole), at, at+1)
		corrupt := b.corrupt("a record is missing, and nobody noticed")
		assert.Contains(t, []int64{int64(at) + 1, int64(at) + 2}, corrupt.Sequence)
		log = slices.Insert(slices.Clone(whole), at, whole[at])
		_ = b.corrupt("a record is there twice, and nobody noticed")
		log = whole
	}
	// The last two change places.
	log[13], log[14] = log[14], log[13]
	_ = b.corrupt("records changed places, and nobody noticed")
}

func TestCheckNamesARecordAfterTheHead(t *testing.T) {
	t.Parallel()
	b := goodBook(t)
	log := b.log()
	for _, extra := range []int64{1, 2, 1000} {
		b.store.records = func(_ context.Context, q credit.RecordQuery, next func() ([]credit.Record, error)) ([]credit.Record, error) {
			page, err := next()
			stranger := log[14]
			if stranger.Sequence += extra; len(page) < q.Limit && q.Matches(stranger) {
				page = append(page, stranger)
			}
			return page, err
		}
		corrupt := b.corrupt("a record stands where the head does not reach, and nobody noticed")
		assert.Equal(t, 15+extra, corrupt.Sequence)
	}
}

func TestCheckNamesAResellerThatWasTamperedWith(t *testing.T) {
	t.Parallel()
	b := goodBook(t)
	var change func(found *credit.Snapshot)
	b.store.load = func(_ context.Context, asked credit.ReadSet, next func() (credit.Snapshot, error)) (credit.Snapshot, error) {
		found, err := next()
		if len(asked.Resellers) > 0 && change != nil {
			change(&found)
		}
		return found, err
	}
	unchecked := []string{"Reseller.Profile.Name", "Reseller.Profile.Email", "Reseller.Profile.Mobile", "Reseller.Profile.Remark",
		"Reseller.Profile.Customers", "Reseller.BoundAt"}
	var r credit.Reseller
	var paths []string
	tamper(reflect.ValueOf(&r).Elem(), func(path string) { paths = append(paths, path) })
	for _, path := range paths {
		for n := range 2 {
			var name string
			change = func(found *credit.Snapshot) {
				name = found.Resellers[n].ID.String()
				changed := found.Resellers[n]
				tamper(reflect.ValueOf(&found.Resellers[n]).Elem(), func(p string) {
					if p == path {
						changed = found.Resellers[n]
					}
				})
				found.Resellers[n] = changed
			}
			if slices.Contains(unchecked, path) {
				_, err := b.Check(t.Context())
				require.NoError(t, err, "%s is in no record", path)
				continue
			}
			corrupt := b.corrupt(fmt.Sprintf("a changed %s passed", path))
			assert.Contains(t, corrupt.Problem, name, "the reseller is not named")
		}
	}
	change = func(found *credit.Snapshot) { found.Resellers = found.Resellers[1:] }
	assert.Contains(t, b.corrupt("a reseller is missing, and nobody noticed").Problem, b.nimbus.String())
}

func TestCheckNamesAResellerThatNoRecordAdded(t *testing.T) {
	t.Parallel()
	b := goodBook(t)
	b.store.resellers = func(_ credit.ResellerQuery, next func() ([]credit.Reseller, error)) ([]credit.Reseller, error) {
		page, err := next()
		return append(page, credit.Reseller{ID: id(77), ExternalID: "77", Status: credit.StatusClosed}), err
	}
	assert.Contains(t, b.corrupt("a reseller came from nowhere, and nobody noticed").Problem, id(77).String())
}

func TestCheckNamesAKeyThatLeadsElsewhere(t *testing.T) {
	t.Parallel()
	b := goodBook(t)
	log := b.log()
	for name, change := range map[string]func(found *credit.Snapshot){
		"to another record": func(found *credit.Snapshot) { found.Records[0].Sequence++ },
		"nowhere":           func(found *credit.Snapshot) { found.Records = found.Records[1:] },
	} {
		b.store.load = func(_ context.Context, _ credit.ReadSet, next func() (credit.Snapshot, error)) (credit.Snapshot, error) {
			found, err := next()
			if len(found.Records) > 0 {
				change(&found)
			}
			return found, err
		}
		corrupt := b.corrupt("a key leads " + name + ", and nobody noticed")
		assert.Equal(t, "add", log[corrupt.Sequence-1].Key)
		assert.Contains(t, corrupt.Problem, "key")
	}
}

func TestCheckNamesAHeadThatTheRecordsDoNotGive(t *testing.T) {
	t.Parallel()
	b := goodBook(t)
	var path string
	b.store.load = func(_ context.Context, _ credit.ReadSet, next func() (credit.Snapshot, error)) (credit.Snapshot, error) {
		found, err := next()
		changed := found.Head
		tamper(reflect.ValueOf(&found.Head).Elem(), func(p string) {
			if p == path {
				changed = found.Head
			}
		})
		found.Head = changed
		return found, err
	}
	for _, path = range []string{"Head.Sequence", "Head.Hash", "Head.RecordedAt", "Head.Pool.Granted", "Head.Pool.Allocated"} {
		_ = b.corrupt("a changed " + path + " passed")
	}
	path = ""
	_, err := b.Check(t.Context())
	require.NoError(t, err)
}

func TestCheckReportsErrorsOfTheStoreAsTheyAre(t *testing.T) {
	t.Parallel()
	// Whatever call it is that fails, it is not a corrupt ledger.
	for failing := range 20 {
		b := goodBook(t)
		var mu sync.Mutex // queries run beside each other
		calls := 0
		fail := func() error {
			mu.Lock()
			defer mu.Unlock()
			if calls++; calls-1 == failing {
				return errLost
			}
			return nil
		}
		other := b.another()
		added := map[string]bool{}
		meanwhile := func(where string) { // so that the log must be read on
			mu.Lock()
			defer mu.Unlock()
			if !added[where] {
				added[where] = true
				other.add(where)
			}
		}
		b.store.load = func(_ context.Context, asked credit.ReadSet, next func() (credit.Snapshot, error)) (credit.Snapshot, error) {
			if err := fail(); err != nil {
				return credit.Snapshot{}, err
			}
			if len(asked.Resellers) > 0 {
				meanwhile("comparing resellers")
			}
			return next()
		}
		b.store.records = func(_ context.Context, q credit.RecordQuery, next func() ([]credit.Record, error)) ([]credit.Record, error) {
			if err := fail(); err != nil {
				return nil, err
			}
			if q.NewestFirst {
				meanwhile("looking beyond the head")
			}
			return next()
		}
		b.store.resellers = func(_ credit.ResellerQuery, next func() ([]credit.Reseller, error)) ([]credit.Reseller, error) {
			if err := fail(); err != nil {
				return nil, err
			}
			meanwhile("listing resellers")
			return next()
		}
		_, err := b.Check(t.Context())
		if failing >= calls {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, errLost)
		require.NotErrorIs(t, err, credit.ErrCorrupt)
	}
}

func TestCheckMayRunBesideWriters(t *testing.T) {
	t.Parallel()
	b := goodBook(t)
	cirrus := b.log()[2].ResellerID
	writers := []*book{b, b.another()}
	var all sync.WaitGroup
	for n, w := range writers {
		all.Go(func() {
			for i := range 100 {
				_, err := w.Bulk(context.WithoutCancel(t.Context()), []credit.Command{
					credit.Allocation{ResellerID: cirrus, Amount: amt("1"), Key: fmt.Sprint(n, "/", i)},
					credit.RepossessAll{ResellerID: cirrus},
					credit.NewReseller{ExternalID: fmt.Sprint("new ", n, "/", i), Name: "New"},
				}, credit.BulkOptions{})
				assert.NoError(t, err)
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	for writing := true; writing; {
		select {
		case <-done:
			writing = false
		default:
		}
		checked, err := b.Check(t.Context())
		require.NoError(t, err, "a good ledger is called corrupt while it is written to")
		assert.Equal(t, checked.Head.Sequence, checked.Records)
	}
	b.sound()
}

// What is added while Check runs is checked or not counted.
func TestCheckChecksWhatItCounts(t *testing.T) {
	t.Parallel()
	b := goodBook(t)
	other := b.another()
	var late uuid.UUID
	seen := map[uuid.UUID]bool{}
	b.store.load = func(_ context.Context, asked credit.ReadSet, next func() (credit.Snapshot, error)) (credit.Snapshot, error) {
		for _, r := range asked.Resellers {
			seen[r] = true
		}
		if len(asked.Resellers) > 0 && late == uuid.Nil {
			late = other.add("late")
		}
		return next()
	}
	checked, err := b.Check(t.Context())
	require.NoError(t, err)
	assert.Len(t, seen, checked.Resellers, "resellers are counted as checked that nobody looked at")
}

// busyBook is a ledger of some pages, in which most resellers are touched again.
func busyBook(t *testing.T, resellers int) *book {
	t.Helper()
	b := newBook(t, store.Options{})
	var commands []credit.Command
	for i := range resellers {
		commands = append(commands, credit.NewReseller{ExternalID: fmt.Sprint("busy-", i), Name: "Reseller", Key: fmt.Sprint("add-", i)})
	}
	b.all(commands)
	page, err := b.store.Records(t.Context(), acme.ID, credit.RecordQuery{Kinds: []credit.Kind{credit.KindAdd}, Limit: resellers + 1})
	require.NoError(t, err)
	for round := range 3 {
		commands = nil
		for i, r := range page {
			commands = append(commands, credit.Usage{ResellerID: r.ResellerID, Amount: amt("1"), Key: fmt.Sprint("use-", round, i)})
			if i%10 == 0 {
				commands = append(commands, []credit.Command{credit.Freeze{ResellerID: r.ResellerID}, credit.Unfreeze{ResellerID: r.ResellerID}, credit.Close{ResellerID: r.ResellerID}}[round])
			}
		}
		b.all(commands)
	}
	return b
}

// all are commands that are accepted.
func (b *book) all(commands []credit.Command) {
	b.t.Helper()
	outcomes, err := b.Bulk(b.t.Context(), commands, credit.BulkOptions{})
	require.NoError(b.t, err)
	for _, o := range outcomes {
		require.NoError(b.t, o.Err)
	}
}

func TestCheckMayForgetResellers(t *testing.T) {
	t.Parallel()
	b := busyBook(t, 1500)
	want, err := b.Check(t.Context())
	require.NoError(t, err)
	for _, remembered := range []int{1, 700} {
		got, err := b.CheckRemembering(t.Context(), store.CheckOptions{}, remembered)
		require.NoError(t, err, "a check that remembers %d resellers", remembered)
		assert.Equal(t, want, got)
	}
	// What it forgot it takes from records, and those must not lead it astray.
	b.store.latest = func(next func() ([]credit.Record, error)) ([]credit.Record, error) {
		found, err := next()
		for i := range found {
			found[i].After.Used = amt("77")
		}
		return found, err
	}
	_, err = b.CheckRemembering(t.Context(), store.CheckOptions{}, 1)
	require.ErrorIs(t, err, credit.ErrCorrupt, "a newest record that is another than the verified one passed")
	b.store.latest = func(func() ([]credit.Record, error)) ([]credit.Record, error) { return nil, errLost }
	_, err = b.CheckRemembering(t.Context(), store.CheckOptions{}, 1)
	require.ErrorIs(t, err, errLost)
}

func TestCheckRefusesANewestRecordWithAFigureThatIsNoAmount(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(f *credit.Figures){
		"allocated": func(f *credit.Figures) { f.Allocated = amt("1000000000000") },
		"used":      func(f *credit.Figures) { f.Used = amt("-1000000000000") },
	} {
		b := goodBook(t)
		trusted := b.log()[4].Head()
		b.store.latest = func(next func() ([]credit.Record, error)) ([]credit.Record, error) {
			found, err := next()
			for i := range found {
				change(&found[i].After)
			}
			return found, err
		}
		_, err := b.CheckWith(t.Context(), store.CheckOptions{After: trusted})
		require.ErrorIs(t, err, credit.ErrCorrupt, name)
		require.ErrorContains(t, err, b.nimbus.String(), name)
	}
}

// What was never forgotten need not be asked for.
func TestCheckAsksForNoResellerThatItRemembers(t *testing.T) {
	t.Parallel()
	b := busyBook(t, 1500)
	b.store.latest = func(func() ([]credit.Record, error)) ([]credit.Record, error) { return nil, errLost }
	_, err := b.Check(t.Context())
	require.NoError(t, err)
	_, err = b.CheckWith(t.Context(), store.CheckOptions{After: b.log()[0].Head()})
	require.ErrorIs(t, err, errLost, "who was added before the trusted head is in no record that is replayed")
}

// slow is a store whose queries take a while, and that tells how many were under way
// at once.
type slow struct {
	store.Store
	mu          sync.Mutex
	under, most int
}

func (s *slow) call() (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.under++
	s.most = max(s.most, s.under)
	return func() {
		time.Sleep(time.Millisecond) // of a clock that costs nothing
		s.mu.Lock()
		defer s.mu.Unlock()
		s.under--
	}
}

func (s *slow) Load(ctx context.Context, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
	defer s.call()()
	return s.Store.Load(ctx, ledger, asked)
}

func (s *slow) Records(ctx context.Context, ledger uuid.UUID, q credit.RecordQuery) ([]credit.Record, error) {
	defer s.call()()
	return s.Store.Records(ctx, ledger, q)
}

func (s *slow) Latest(ctx context.Context, ledger uuid.UUID, resellers []uuid.UUID, kinds []credit.Kind, until int64) ([]credit.Record, error) {
	defer s.call()()
	return s.Store.Latest(ctx, ledger, resellers, kinds, until)
}

func TestCheckReadsBesideReplayingButOneAtATimeInATransaction(t *testing.T) {
	t.Parallel()
	b := busyBook(t, 1500)
	synctest.Test(t, func(t *testing.T) {
		s := &slow{Store: b.store.Store}
		l, err := store.Open(t.Context(), s, acme, store.Options{Memory: store.NewMemory(1)})
		require.NoError(t, err)
		began := time.Now()
		want, err := l.CheckRemembering(t.Context(), store.CheckOptions{}, 100)
		require.NoError(t, err)
		beside := time.Since(began)
		assert.Equal(t, 3, s.most, "a page, what another one leads to, and whom it touches are read at once")
		s.most = 0
		began = time.Now()
		got, err := l.On(s).CheckRemembering(t.Context(), store.CheckOptions{}, 100)
		require.NoError(t, err)
		assert.Equal(t, want, got)
		assert.Equal(t, 1, s.most, "a transaction of the caller's runs two statements at once")
		assert.Greater(t, time.Since(began), beside)
	})
}

// What is wrong with a page comes before what is wrong with the next one, and
// nothing is read any more when the answer is there.
func TestCheckNamesTheFirstThatIsWrongAlthoughItReadsAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := busyBook(t, 1500)
		var under atomic.Int64
		b.store.load = func(_ context.Context, asked credit.ReadSet, next func() (credit.Snapshot, error)) (credit.Snapshot, error) {
			if len(asked.Keys) > 0 {
				return credit.Snapshot{}, errLost
			}
			return next()
		}
		b.store.records = func(ctx context.Context, q credit.RecordQuery, next func() ([]credit.Record, error)) ([]credit.Record, error) {
			if q.After > 0 {
				under.Add(1)
				defer under.Add(-1)
				<-ctx.Done()
				time.Sleep(time.Millisecond) // a database takes a while to notice, on this clock, too
				return nil, ctx.Err()
			}
			page, err := next()
			page[500].Remark = "another"
			return page, err
		}
		corrupt := b.corrupt("a changed remark passed")
		assert.EqualValues(t, 501, corrupt.Sequence, "what was read ahead comes first")
		assert.Zero(t, under.Load(), "a query is under way though the check has ended")
	})
}

func TestCheckGoesOnFromAHeadThatIsTrusted(t *testing.T) {
	t.Parallel()
	b := busyBook(t, 1200)
	log := b.log()
	end := log[len(log)-1].Head()
	for _, at := range []int{0, 1, 2, 3, 1199, 1200, 1201, 2500, len(log) - 1, len(log)} {
		trusted := credit.NewState(acme).Head()
		if at > 0 {
			trusted = log[at-1].Head()
		}
		// Its sequence and hash are enough.
		trusted.Pool, trusted.RecordedAt = credit.Pool{}, time.Time{}
		read := map[int64]bool{}
		b.store.records = func(_ context.Context, q credit.RecordQuery, next func() ([]credit.Record, error)) ([]credit.Record, error) {
			page, err := next()
			if len(q.Kinds) == 0 {
				for _, r := range page {
					read[r.Sequence] = true
				}
			}
			return page, err
		}
		checked, err := b.CheckWith(t.Context(), store.CheckOptions{After: trusted})
		require.NoError(t, err, "after record %d", at)
		assert.Equal(t, store.Checked{Head: end, Records: end.Sequence - int64(at), Resellers: 1201}, checked)
		assert.LessOrEqual(t, len(read), len(log)-at+2, "what is trusted is not read again")
		assert.GreaterOrEqual(t, len(read), len(log)-at)
		b.store.records = nil
	}
	_, err := b.CheckWith(t.Context(), store.CheckOptions{After: credit.Head{Sequence: -1}})
	require.ErrorIs(t, err, credit.ErrInvalid)
}

func TestCheckSaysThatTheLogDoesNotGoThroughTheTrustedHead(t *testing.T) {
	t.Parallel()
	b := goodBook(t)
	log := b.log()
	for name, trusted := range map[string]credit.Head{
		"another record":   {Sequence: 7, Hash: log[7].Hash},
		"no hash":          {Sequence: 7},
		"a tail cut off":   {Sequence: 20, Hash: log[3].Hash},
		"another ledger's": {Hash: credit.Genesis(credit.Distributor{ID: id(9), Name: "X", Currency: "USD"})},
	} {
		_, err := b.CheckWith(t.Context(), store.CheckOptions{After: trusted})
		var corrupt *credit.CorruptError
		require.ErrorAs(t, err, &corrupt, name)
		assert.Equal(t, min(trusted.Sequence, 16), corrupt.Sequence, "%s: the first that is wrong, or missing, is named", name)
	}
	// The record has the hash, but is not what it was made of.
	for _, change := range []func(*credit.Record){
		func(r *credit.Record) { r.Pool.Granted = r.Pool.Granted.Add(amt("1")) },
		func(r *credit.Record) { r.Sequence = 0 },
	} {
		b.store.records = func(_ context.Context, _ credit.RecordQuery, next func() ([]credit.Record, error)) ([]credit.Record, error) {
			page, err := next()
			for i := range page {
				if page[i].Sequence == 7 {
					change(&page[i])
				}
			}
			return page, err
		}
		_, err := b.CheckWith(t.Context(), store.CheckOptions{After: log[6].Head()})
		var corrupt *credit.CorruptError
		require.ErrorAs(t, err, &corrupt)
		assert.EqualValues(t, 7, corrupt.Sequence, "the trusted record itself is at fault")
	}
	b.store.records = func(context.Context, credit.RecordQuery, func() ([]credit.Record, error)) ([]credit.Record, error) {
		return nil, errLost
	}
	_, err := b.CheckWith(t.Context(), store.CheckOptions{After: log[6].Head()})
	require.ErrorIs(t, err, errLost)
}

// Figures from before the trusted head are believed only as far as nothing says
// otherwise.
func TestCheckFindsAStoredFigureThatIsOlderThanTheTrustedHead(t *testing.T) {
	t.Parallel()
	b := goodBook(t)
	log := b.log()
	b.store.load = func(_ context.Context, asked credit.ReadSet, next func() (credit.Snapshot, error)) (credit.Snapshot, error) {
		found, err := next()
		for i := range found.Resellers {
			found.Resellers[i].Used = amt("1")
		}
		return found, err
	}
	_, err := b.CheckWith(t.Context(), store.CheckOptions{After: log[len(log)-1].Head()})
	require.ErrorIs(t, err, credit.ErrCorrupt, "a changed figure passed because its record is old")
}

func TestCheckNamesAnAddedResellerWhoseExternalIDLeadsElsewhere(t *testing.T) {
	t.Parallel()
	b := goodBook(t)
	b.store.load = func(_ context.Context, asked credit.ReadSet, next func() (credit.Snapshot, error)) (credit.Snapshot, error) {
		found, err := next()
		if len(asked.ExternalIDs) > 0 {
			found.Resellers[0].ID = id(99)
		}
		return found, err
	}
	assert.Contains(t, b.corrupt("two resellers with one external id passed").Problem, id(99).String())
}

func TestCheckTellsHowFarItIs(t *testing.T) {
	t.Parallel()
	b := busyBook(t, 1200)
	var told []store.Checked
	checked, err := b.CheckWith(t.Context(), store.CheckOptions{Progress: func(so store.Checked, of int64) {
		assert.Equal(t, int64(len(b.log())), of)
		if len(told) > 0 {
			last := told[len(told)-1]
			assert.True(t, so.Records >= last.Records && so.Resellers >= last.Resellers && so != last, "it goes on")
		}
		told = append(told, so)
	}})
	require.NoError(t, err)
	assert.GreaterOrEqual(t, len(told), 7, "once a page")
	assert.Equal(t, checked, told[len(told)-1])
}

// prolific is a store in which, at each listing of records, somebody has just added
// a reseller.
type prolific struct {
	store.Store
	adder *store.Ledger
	left  atomic.Int64
}

func (s *prolific) Records(ctx context.Context, ledger uuid.UUID, q credit.RecordQuery) ([]credit.Record, error) {
	if left := s.left.Add(-1); left >= 0 {
		if _, err := s.adder.AddReseller(ctx, credit.NewReseller{Name: "Another", ExternalID: fmt.Sprint("another-", left)}); err != nil {
			return nil, err
		}
	}
	return s.Store.Records(ctx, ledger, q)
}

func TestCheckEndsWhileResellersAreAdded(t *testing.T) {
	t.Parallel()
	b := goodBook(t)
	const many = 1000
	s := &prolific{Store: b.store, adder: b.Ledger}
	s.left.Store(many)
	l, err := store.Open(t.Context(), s, b.Distributor(), store.Options{})
	require.NoError(t, err)
	_, err = l.Check(t.Context())
	require.NoError(t, err)
	assert.Greater(t, s.left.Load(), int64(many-100), "the check followed those who write")
}

func TestCheckReadsTheHeadAgainForNoResellerThatItKnows(t *testing.T) {
	t.Parallel()
	b := goodBook(t)
	b.store.loads.Store(0)
	_, err := b.Check(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 3, b.store.loads.Load(), "the head, what the keys lead to and the resellers with their head, once each")
}

// twice is a store that lists its first reseller twice.
type twice struct{ store.Store }

func (s twice) Resellers(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery, after store.ResellerPosition) ([]credit.Reseller, error) {
	found, err := s.Store.Resellers(ctx, ledger, q, after)
	if len(found) > 0 {
		found = append(found[:1:1], found...)
	}
	return found, err
}

func TestCheckFindsAResellerThatIsStoredTwice(t *testing.T) {
	t.Parallel()
	b := goodBook(t)
	l, err := store.Open(t.Context(), twice{b.store}, b.Distributor(), store.Options{})
	require.NoError(t, err)
	_, err = l.Check(t.Context())
	require.ErrorIs(t, err, credit.ErrCorrupt)
	require.ErrorContains(t, err, "twice")
}

// A store that panics does so where the caller of Check can recover it, and ends no
// process.
func TestAStoreThatPanicsBesideACheckIsTheCallersToRecover(t *testing.T) {
	b := goodBook(t)
	b.store.records = func(context.Context, credit.RecordQuery, func() ([]credit.Record, error)) ([]credit.Record, error) {
		panic("the store panics")
	}
	require.PanicsWithValue(t, "the store panics", func() { _, _ = b.Check(t.Context()) })
}
