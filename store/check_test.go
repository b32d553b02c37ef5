package store_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
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
		return slices.DeleteFunc(slices.Clone(log), func(r credit.Record) bool {
			return r.Sequence <= q.After || q.Before > 0 && r.Sequence >= q.Before
		}), nil
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
			if stranger.Sequence += extra; len(page) < q.Limit && stranger.Sequence > q.After && (q.Before == 0 || stranger.Sequence < q.Before) {
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
		calls := 0
		fail := func() error {
			if calls++; calls-1 == failing {
				return errLost
			}
			return nil
		}
		other := b.another()
		added := map[string]bool{}
		meanwhile := func(where string) { // so that the log must be read on
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
