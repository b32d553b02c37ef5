package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
)

// brokenVariable names the broken store that a process of this test is to run the
// suite on.
const brokenVariable = "CREDIT_TEST_BROKEN_STORE"

// TestBrokenStores runs the suite on stores that each break the port in one way,
// in processes of their own, and expects it to fail where it should. A process
// runs only the tests named here; on a store that is whole they must pass.
func TestBrokenStores(t *testing.T) {
	t.Parallel()
	if name := os.Getenv(brokenVariable); name != "" {
		Run(t, brokenStores[name].harness())
		return
	}
	for name, b := range brokenStores {
		for _, path := range b.fails {
			verb := " fails "
			if b.whole {
				verb = " passes "
			}
			t.Run(name+verb+path, func(t *testing.T) {
				t.Parallel()
				pattern := "^TestBrokenStores$"
				for part := range strings.SplitSeq(path, "/") {
					pattern += "/^" + strings.ReplaceAll(part, " ", "_") + "$"
				}
				executable, err := os.Executable()
				require.NoError(t, err)
				command := exec.CommandContext(t.Context(), executable, "-test.run="+pattern, "-test.v", "-test.timeout=3m")
				command.Env = append(os.Environ(), brokenVariable+"="+name)
				output, err := command.CombinedOutput()
				if b.whole {
					require.NoError(t, err, "the suite passes on a store that is whole:\n%s", output)
				} else {
					require.Error(t, err, "the suite must fail:\n%s", output)
				}
				last := "TestBrokenStores/" + strings.ReplaceAll(path, " ", "_")
				if b.whole {
					require.Contains(t, string(output), "--- PASS: "+last)
					return
				}
				require.Contains(t, string(output), "--- FAIL: "+last, "a panic is no finding")
				if part, ok := strings.CutPrefix(path, "port/"); ok {
					name, _, _ := strings.Cut(part, "/")
					require.Contains(t, string(output), "BROKEN, "+name+": ", "the failure says which rule is broken")
				}
			})
		}
	}
}

// brokenStore is a way to break a store, and the tests that must fail, or pass if
// it is whole.
type brokenStore struct {
	whole  bool // it is not broken
	wrap   func(*memstore.Store) store.Store
	reopen func(store.Store) store.Store
	fails  []string
}

func (b brokenStore) harness() Harness {
	return Harness{Sequences: 8, Histories: 8,
		Open: func(testing.TB) store.Store {
			if b.wrap == nil {
				return memstore.New()
			}
			return b.wrap(memstore.New())
		},
		Reopen: func(_ testing.TB, s store.Store) store.Store {
			if b.reopen != nil {
				return b.reopen(s)
			}
			return s
		},
	}
}

// deviant is a store some of whose methods do something else.
type deviant struct {
	*memstore.Store
	create    func(context.Context, credit.Distributor) (credit.Distributor, error)
	load      func(context.Context, uuid.UUID, credit.ReadSet) (credit.Snapshot, error)
	append    func(context.Context, uuid.UUID, credit.Head, store.Batch) error
	resellers func(context.Context, uuid.UUID, credit.ResellerQuery, store.ResellerPosition) ([]credit.Reseller, error)
	count     func(context.Context, uuid.UUID, credit.ResellerQuery) (int, error)
	records   func(context.Context, uuid.UUID, credit.RecordQuery) ([]credit.Record, error)
	latest    func(context.Context, uuid.UUID, []uuid.UUID, []credit.Kind, int64) ([]credit.Record, error)
}

func (d *deviant) Create(ctx context.Context, of credit.Distributor) (credit.Distributor, error) {
	if d.create != nil {
		return d.create(ctx, of)
	}
	return d.Store.Create(ctx, of)
}

func (d *deviant) Load(ctx context.Context, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
	if d.load != nil {
		return d.load(ctx, ledger, asked)
	}
	return d.Store.Load(ctx, ledger, asked)
}

func (d *deviant) Append(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
	if d.append != nil {
		return d.append(ctx, ledger, expected, b)
	}
	return d.Store.Append(ctx, ledger, expected, b)
}

func (d *deviant) Resellers(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery, after store.ResellerPosition) ([]credit.Reseller, error) {
	if d.resellers != nil {
		return d.resellers(ctx, ledger, q, after)
	}
	return d.Store.Resellers(ctx, ledger, q, after)
}

func (d *deviant) Records(ctx context.Context, ledger uuid.UUID, q credit.RecordQuery) ([]credit.Record, error) {
	if d.records != nil {
		return d.records(ctx, ledger, q)
	}
	return d.Store.Records(ctx, ledger, q)
}

func (d *deviant) CountResellers(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery) (int, error) {
	if d.count != nil {
		return d.count(ctx, ledger, q)
	}
	return d.Store.CountResellers(ctx, ledger, q)
}

func (d *deviant) Latest(ctx context.Context, ledger uuid.UUID, resellers []uuid.UUID, kinds []credit.Kind, until int64) ([]credit.Record, error) {
	if d.latest != nil {
		return d.latest(ctx, ledger, resellers, kinds, until)
	}
	return d.Store.Latest(ctx, ledger, resellers, kinds, until)
}

// keeper is a store that can be held: whoever writes to it takes its turn.
type keeper struct {
	*memstore.Store
	turn chan struct{}
	// What may be broken: a hold does not take its turn, it writes at once, or it is
	// another function.
	unlocked, early bool
	hold            func(f func(store.Store) error) error
}

func newKeeper(s *memstore.Store) *keeper { return &keeper{Store: s, turn: make(chan struct{}, 1)} }

func (k *keeper) Holder() store.Store { return k }

func (k *keeper) Append(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
		return k.Store.Append(ctx, ledger, expected, b)
	case <-ctx.Done():
		return store.Retry(ctx.Err())
	}
}

func (k *keeper) Hold(_ context.Context, _ uuid.UUID, f func(store.Store) error) error {
	if k.hold != nil {
		return k.hold(f)
	}
	return k.keep(f)
}

func (k *keeper) keep(f func(store.Store) error) error {
	if !k.unlocked {
		k.turn <- struct{}{}
		defer func() { <-k.turn }()
	}
	var write func() error
	err := f(&deviant{Store: k.Store, append: func(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
		if k.early {
			return k.Store.Append(ctx, ledger, expected, b)
		}
		b = copyOf(b)
		write = func() error { return k.Store.Append(ctx, ledger, expected, b) }
		return nil
	}})
	if err != nil || write == nil {
		return err
	}
	return write()
}

// lists lists and counts resellers with another filter or another order; nil is
// the right one.
func lists(match func(credit.ResellerQuery, credit.Reseller) bool, place func(credit.Reseller, credit.Order) store.ResellerPosition) func(*memstore.Store) store.Store {
	if match == nil {
		match = credit.ResellerQuery.Matches
	}
	if place == nil {
		place = store.PositionOf
	}
	return func(s *memstore.Store) store.Store {
		all := func(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery) ([]credit.Reseller, error) {
			found, err := s.Resellers(ctx, ledger, credit.ResellerQuery{Statuses: everyStatus(), Order: credit.OrderOldest, Limit: 100_000}, store.ResellerPosition{})
			return slices.DeleteFunc(found, func(r credit.Reseller) bool { return !match(q, r) }), err
		}
		return &deviant{Store: s,
			resellers: func(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery, after store.ResellerPosition) ([]credit.Reseller, error) {
				found, err := all(ctx, ledger, q)
				compare := func(a, b store.ResellerPosition) int {
					if q.Order.Ascending() {
						return a.Compare(b)
					}
					return b.Compare(a)
				}
				slices.SortFunc(found, func(a, b credit.Reseller) int { return compare(place(a, q.Order), place(b, q.Order)) })
				found = slices.DeleteFunc(found, func(r credit.Reseller) bool {
					return after != store.ResellerPosition{} && compare(place(r, q.Order), after) <= 0
				})
				return found[:min(len(found), q.Limit)], err
			},
			count: func(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery) (int, error) {
				found, err := all(ctx, ledger, q)
				return len(found), err
			},
		}
	}
}

// asks changes the queries for resellers.
func asks(change func(*credit.ResellerQuery)) func(*memstore.Store) store.Store {
	return lists(func(q credit.ResellerQuery, r credit.Reseller) bool {
		change(&q)
		return q.Matches(r)
	}, nil)
}

// searches looks for names, mobiles and remarks in another way.
func searches(contains func(text, part string) bool) func(*memstore.Store) store.Store {
	return lists(func(q credit.ResellerQuery, r credit.Reseller) bool {
		found := (q.Name == "" || contains(r.Name, q.Name)) && (q.Mobile == "" || contains(r.Mobile, q.Mobile)) && (q.Remark == "" || contains(r.Remark, q.Remark))
		q.Name, q.Mobile, q.Remark = "", "", ""
		return found && q.Matches(r)
	}, nil)
}

// like is the operator of SQL, whose % and _ stand for something.
func like(text, part string) bool {
	pattern := strings.NewReplacer(`%`, `.*`, `_`, `.`).Replace(regexp.QuoteMeta(credit.Fold(part)))
	return regexp.MustCompile(`(?s)` + pattern).MatchString(credit.Fold(text))
}

// low takes another view of what is low.
func low(below func(available, allocated int64, t credit.Threshold) bool) func(*memstore.Store) store.Store {
	return lists(func(q credit.ResellerQuery, r credit.Reseller) bool {
		t := q.Low
		q.Low = nil
		return q.Matches(r) && (t == nil || below(fine(r.Available()), fine(r.Allocated), *t))
	}, nil)
}

func fine(d decimal.Decimal) int64 { return d.Shift(credit.FractionalDigits).IntPart() }

// readsRecords changes the queries for records.
func readsRecords(change func(*credit.RecordQuery)) func(*memstore.Store) store.Store {
	return func(s *memstore.Store) store.Store {
		return &deviant{Store: s, records: func(ctx context.Context, ledger uuid.UUID, q credit.RecordQuery) ([]credit.Record, error) {
			change(&q)
			return s.Records(ctx, ledger, q)
		}}
	}
}

// recordsWithout finds records by one text as a collation compares it.
func recordsWithout(same func(asked, has string) bool, field func(*credit.RecordQuery, *credit.Record) (*string, string)) func(*memstore.Store) store.Store {
	return func(s *memstore.Store) store.Store {
		return &deviant{Store: s, records: func(ctx context.Context, ledger uuid.UUID, q credit.RecordQuery) ([]credit.Record, error) {
			limit, of := q.Limit, &q
			asked, _ := field(of, &credit.Record{})
			text := *asked
			*asked, q.Limit = "", 100_000
			found, err := s.Records(ctx, ledger, q)
			found = slices.DeleteFunc(found, func(r credit.Record) bool {
				_, has := field(of, &r)
				return text != "" && !same(text, has)
			})
			return found[:min(len(found), limit)], err
		}}
	}
}

// latest changes what Latest is asked.
func latest(change func(resellers *[]uuid.UUID, kinds *[]credit.Kind, until *int64)) func(*memstore.Store) store.Store {
	return func(s *memstore.Store) store.Store {
		return &deviant{Store: s, latest: func(ctx context.Context, ledger uuid.UUID, resellers []uuid.UUID, kinds []credit.Kind, until int64) ([]credit.Record, error) {
			change(&resellers, &kinds, &until)
			return s.Latest(ctx, ledger, resellers, kinds, until)
		}}
	}
}

// batches changes what is appended.
func batches(change func(*store.Batch)) func(*memstore.Store) store.Store {
	return func(s *memstore.Store) store.Store {
		return &deviant{Store: s, append: func(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
			b = copyOf(b)
			change(&b)
			return s.Append(ctx, ledger, expected, b)
		}}
	}
}

// reads changes what is read.
func reads(record func(*credit.Record), reseller func(*credit.Reseller)) func(*memstore.Store) store.Store {
	return func(s *memstore.Store) store.Store {
		all := func(records []credit.Record, resellers []credit.Reseller) {
			for i := range records {
				record(&records[i])
			}
			for i := range resellers {
				reseller(&resellers[i])
			}
		}
		return &deviant{Store: s,
			load: func(ctx context.Context, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
				found, err := s.Load(ctx, ledger, asked)
				all(found.Records, found.Resellers)
				return found, err
			},
			resellers: func(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery, after store.ResellerPosition) ([]credit.Reseller, error) {
				page, err := s.Resellers(ctx, ledger, q, after)
				all(nil, page)
				return page, err
			},
			records: func(ctx context.Context, ledger uuid.UUID, q credit.RecordQuery) ([]credit.Record, error) {
				page, err := s.Records(ctx, ledger, q)
				all(page, nil)
				return page, err
			},
		}
	}
}

func noRecord(*credit.Record)     {}
func noReseller(*credit.Reseller) {}

// amounts changes every amount that is read.
func amounts(change func(decimal.Decimal) decimal.Decimal) func(*memstore.Store) store.Store {
	return reads(func(r *credit.Record) {
		for _, d := range []*decimal.Decimal{&r.Amount, &r.Before.Allocated, &r.Before.Used, &r.After.Allocated, &r.After.Used, &r.Pool.Granted, &r.Pool.Allocated} {
			*d = change(*d)
		}
	}, func(r *credit.Reseller) { r.Allocated, r.Used = change(r.Allocated), change(r.Used) })
}

// times changes every time that is read.
func times(change func(time.Time) time.Time) func(*memstore.Store) store.Store {
	return reads(func(r *credit.Record) { r.OccurredAt, r.RecordedAt = change(r.OccurredAt), change(r.RecordedAt) },
		func(r *credit.Reseller) { r.BoundAt = change(r.BoundAt) })
}

// collated treats keys, or external ids, as equal that a collation takes for equal.
func collated(fold func(string) string, keys bool) func(*memstore.Store) store.Store {
	return func(s *memstore.Store) store.Store {
		var mu sync.Mutex
		kept := map[string]string{} // folded: as written first
		known := func(text string) string {
			if first, ok := kept[fold(text)]; ok {
				return first
			}
			return text
		}
		return &deviant{Store: s,
			load: func(ctx context.Context, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
				mu.Lock()
				defer mu.Unlock()
				of := &asked.ExternalIDs
				if keys {
					of = &asked.Keys
				}
				*of = slices.Clone(*of)
				for i, text := range *of {
					(*of)[i] = known(text)
				}
				return s.Load(ctx, ledger, asked)
			},
			append: func(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
				mu.Lock()
				defer mu.Unlock()
				if keys {
					for _, r := range b.Records {
						if r.Key != "" && known(r.Key) != r.Key {
							return store.ErrMoved
						}
					}
				}
				err := s.Append(ctx, ledger, expected, b)
				if err == nil && keys {
					for _, r := range b.Records {
						kept[fold(r.Key)] = r.Key
					}
				} else if err == nil {
					for _, r := range b.Added {
						kept[fold(r.ExternalID)] = r.ExternalID
					}
				}
				return err
			},
		}
	}
}

var brokenStores = map[string]brokenStore{
	"a store that is whole":                 {whole: true, fails: []string{"port/rule 4", "port/Resellers", "port/CountResellers", "port/Records", "port/Latest", "pages", "model", "recording", "histories", "contention", "faults"}},
	"a store that is whole and can be held": {whole: true, wrap: func(s *memstore.Store) store.Store { return newKeeper(s) }, fails: []string{"port/Hold"}},
	"holds without a lock": {
		wrap: func(s *memstore.Store) store.Store {
			k := newKeeper(s)
			k.unlocked = true
			return k
		},
		fails: []string{"port/Hold/nobody else writes meanwhile"},
	},
	"holds without doing anything": {
		wrap: func(s *memstore.Store) store.Store {
			k := newKeeper(s)
			k.hold = func(f func(store.Store) error) error { return f(s) }
			return k
		},
		fails: []string{"port/Hold/nobody else writes meanwhile", "port/Hold/what is appended is written when it returns", "port/Hold/an error is returned as it is, and nothing is written"},
	},
	"swallows the error of who holds": {
		wrap: func(s *memstore.Store) store.Store {
			k := newKeeper(s)
			k.hold = func(f func(store.Store) error) error {
				_ = k.keep(f) // that is what is broken
				return nil
			}
			return k
		},
		fails: []string{"port/Hold/an error is returned as it is, and nothing is written", "port/Hold/a ledger that was never created is ErrNoLedger"},
	},
	"writes before the end of a hold": {
		wrap: func(s *memstore.Store) store.Store {
			k := newKeeper(s)
			k.early = true
			return k
		},
		fails: []string{"port/Hold/what is appended is written when it returns", "port/Hold/an error is returned as it is, and nothing is written"},
	},
	"compares only the sequence": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, append: func(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
				if found, err := s.Load(ctx, ledger, credit.ReadSet{}); err == nil && found.Head.Sequence == expected.Sequence {
					expected = found.Head
				}
				return s.Append(ctx, ledger, expected, b)
			}}
		},
		fails: []string{"port/rule 4/the same sequence with another hash is ErrMoved", "port/rule 4/the first record needs the genesis hash"},
	},
	"compares nothing": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, append: func(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
				b = copyOf(b)
				for {
					found, err := s.Load(ctx, ledger, credit.ReadSet{})
					if err != nil {
						return err
					}
					for i := range b.Records {
						b.Records[i].Sequence = found.Head.Sequence + 1 + int64(i)
					}
					if err := s.Append(ctx, ledger, found.Head, b); !errors.Is(err, store.ErrMoved) || found.Head.Sequence == expected.Sequence {
						return err
					}
				}
			}}
		},
		fails: []string{"port/rule 4/a head that moved on is ErrMoved", "contention/one hot pool, two engines"},
	},
	"keeps the caller's maps": {
		wrap: func(s *memstore.Store) store.Store {
			var mu sync.Mutex
			kept := map[uuid.UUID]map[string]string{}
			d, _ := reads(func(r *credit.Record) {
				mu.Lock()
				defer mu.Unlock()
				if m := kept[r.ID]; m != nil {
					r.Metadata = maps.Clone(m)
				}
			}, noReseller)(s).(*deviant)
			d.append = func(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
				mu.Lock()
				defer mu.Unlock()
				for _, r := range b.Records {
					kept[r.ID] = r.Metadata
				}
				return s.Append(ctx, ledger, expected, b)
			}
			return d
		},
		fails: []string{"port/rule 8/a batch that was handed over is the caller's again"},
	},
	"returns its own maps": {
		wrap: func(s *memstore.Store) store.Store {
			var mu sync.Mutex
			own := map[uuid.UUID]map[string]string{}
			return reads(func(r *credit.Record) {
				mu.Lock()
				defer mu.Unlock()
				if own[r.ID] == nil {
					own[r.ID] = r.Metadata
				}
				r.Metadata = own[r.ID]
			}, noReseller)(s)
		},
		fails: []string{"port/rule 8/what was returned is the caller's"},
	},
	"changes the batch it is given": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, append: func(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
				err := s.Append(ctx, ledger, expected, b)
				slices.Reverse(b.Records)
				return err
			}}
		},
		fails: []string{"port/rule 8/a batch that was handed over is not changed"},
	},
	"loses the last record of a batch": {
		wrap: batches(func(b *store.Batch) {
			if len(b.Records) > 1 {
				b.Records = b.Records[:len(b.Records)-1]
			}
		}),
		fails: []string{"port/rule 3/all of a batch is written", "model"},
	},
	"forgets changed resellers": {
		wrap:  batches(func(b *store.Batch) { b.Changed = nil }),
		fails: []string{"port/rule 3/all of a batch is written", "port/rule 3/a changed reseller that does not exist writes nothing", "model", "histories"},
	},
	"forgets moved resellers": {
		wrap:  batches(func(b *store.Batch) { b.Moved = nil }),
		fails: []string{"port/rule 3/all of a batch is written", "port/rule 3/a changed reseller that does not exist writes nothing", "model", "histories", "contention/one hot pool, one engine", "contention/a bank whose sums hold in whatever is read"},
	},
	"is not atomic": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, append: func(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
				for i, r := range b.Records {
					part := store.Batch{Records: []credit.Record{r}}
					if i == len(b.Records)-1 {
						part.Added, part.Changed, part.Moved = b.Added, b.Changed, b.Moved
					}
					if err := s.Append(ctx, ledger, expected, part); err != nil {
						return err
					}
					expected = part.Head()
				}
				return nil
			}}
		},
		fails: []string{"port/rule 3/a key twice in one batch writes nothing", "port/rule 3/a changed reseller that does not exist writes nothing",
			"port/rule 3/an external id that exists writes nothing", "port/rule 4/a key that is taken is ErrMoved, though the head is the expected one"},
	},
	"folds the case of keys":         {wrap: collated(strings.ToLower, true), fails: []string{"port/rule 7/keys", "recording"}},
	"trims keys":                     {wrap: collated(strings.TrimSpace, true), fails: []string{"port/rule 7/keys", "recording"}},
	"folds the case of external ids": {wrap: collated(strings.ToLower, false), fails: []string{"port/rule 7/external ids", "recording"}},
	"forgets to check keys": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, append: func(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
				err := s.Append(ctx, ledger, expected, b)
				if found, _ := s.Load(ctx, ledger, credit.ReadSet{}); errors.Is(err, store.ErrMoved) && found.Head.Hash == expected.Hash {
					b = copyOf(b)
					for i := range b.Records {
						b.Records[i].Key = ""
					}
					return s.Append(ctx, ledger, expected, b)
				}
				return err
			}}
		},
		fails: []string{"port/rule 4/a key that is taken is ErrMoved, though the head is the expected one", "contention/one key from all at once happens once", "contention/one key with two contents happens once, and conflicts", "model", "histories"},
	},
	"has one space of keys for all ledgers": {
		wrap: func(s *memstore.Store) store.Store {
			var mu sync.Mutex
			owner := map[string]uuid.UUID{}
			return &deviant{Store: s, append: func(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
				mu.Lock()
				defer mu.Unlock()
				for _, r := range b.Records {
					if of, taken := owner[r.Key]; r.Key != "" && taken && of != ledger {
						return store.ErrMoved
					}
				}
				for _, r := range b.Records {
					owner[r.Key] = ledger
				}
				return s.Append(ctx, ledger, expected, b)
			}}
		},
		fails: []string{"port/rule 1/two ledgers with the same reseller ids, keys and external ids"},
	},
	"finds the resellers of every ledger": {
		wrap: func(s *memstore.Store) store.Store {
			var mu sync.Mutex
			var ledgers []uuid.UUID
			return &deviant{Store: s,
				create: func(ctx context.Context, d credit.Distributor) (credit.Distributor, error) {
					mu.Lock()
					defer mu.Unlock()
					ledgers = append(ledgers, d.ID)
					return s.Create(ctx, d)
				},
				load: func(ctx context.Context, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
					mu.Lock()
					defer mu.Unlock()
					found, err := s.Load(ctx, ledger, asked)
					for _, other := range ledgers {
						if more, moreErr := s.Load(ctx, other, asked); other != ledger && moreErr == nil {
							found.Resellers = append(found.Resellers, more.Resellers...)
						}
					}
					return found, err
				},
			}
		},
		fails: []string{"port/rule 1/nothing of another ledger is found", "port/rule 1/to a ledger's methods another ledger is as if it were not there"},
	},
	"says whose head it is": {
		wrap: func(s *memstore.Store) store.Store {
			var heads sync.Map
			return &deviant{Store: s, append: func(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
				err := s.Append(ctx, ledger, expected, b)
				if err == nil {
					heads.Store(b.Head().Hash, true)
				} else if _, known := heads.Load(expected.Hash); known {
					err = fmt.Errorf("%w: it is that of another ledger", err)
				}
				return err
			}}
		},
		fails: []string{"port/rule 1/to the methods of the port another ledger is as if it were not there"},
	},
	"repeats what it was to write": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, append: func(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
				err := s.Append(ctx, ledger, expected, b)
				if err != nil && len(b.Added) > 0 {
					err = fmt.Errorf("%w: failing row contains (%s)", err, b.Added[0].Email)
				}
				return err
			}}
		},
		fails: []string{"port/rule 9/an error holds nothing of what was to be written"},
	},
	"takes quotes for the end": {
		wrap:  reads(noRecord, func(r *credit.Reseller) { r.Remark, _, _ = strings.Cut(r.Remark, "'") }),
		fails: []string{"port/rule 6/hostile text in every field", "port/rule 6/hostile text in every filter"},
	},
	"lists one half after the other": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, resellers: func(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery, after store.ResellerPosition) ([]credit.Reseller, error) {
				first, err := s.Resellers(ctx, ledger, q, after)
				if err != nil || len(first) < 2 {
					return first, err
				}
				runtime.Gosched() // somebody may write
				second, err := s.Resellers(ctx, ledger, q, after)
				return append(first[:len(first)/2], second[min(len(first)/2, len(second)):]...), err
			}}
		},
		fails: []string{"contention/a bank whose sums hold in whatever is read"},
	},
	"orders ties the same way both ways": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, resellers: func(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery, after store.ResellerPosition) ([]credit.Reseller, error) {
				page, err := s.Resellers(ctx, ledger, q, after)
				if !q.Order.Ascending() {
					slices.SortStableFunc(page, func(a, b credit.Reseller) int {
						if c := b.BoundAt.Compare(a.BoundAt); c != 0 {
							return c
						}
						return strings.Compare(string(a.ID[:]), string(b.ID[:]))
					})
				}
				return page, err
			}}
		},
		fails: []string{"port/Resellers/each order down is the one up reversed", "port/Resellers/pages of every size, in every order, ties by id"},
	},
	"begins a page with the last one of the page before": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, resellers: func(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery, after store.ResellerPosition) ([]credit.Reseller, error) {
				if after.ID != uuid.Nil && q.Order.Ascending() {
					after.ID[15]--
				}
				return s.Resellers(ctx, ledger, q, after)
			}}
		},
		fails: []string{"port/Resellers/strictly after any position, be there a reseller or not"},
	},
	"lists closed resellers always": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, resellers: func(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery, after store.ResellerPosition) ([]credit.Reseller, error) {
				q.Statuses = append(slices.Clone(q.Statuses), credit.StatusClosed)
				return s.Resellers(ctx, ledger, q, after)
			}}
		},
		fails: []string{"port/Resellers/every choice of statuses", "model"},
	},
	"takes before as included": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, records: func(ctx context.Context, ledger uuid.UUID, q credit.RecordQuery) ([]credit.Record, error) {
				if q.Before > 0 {
					q.Before++
				}
				return s.Records(ctx, ledger, q)
			}}
		},
		fails: []string{"port/Records/every combination of filters, orders and limits"},
	},
	"keeps milliseconds":   {wrap: times(func(at time.Time) time.Time { return at.Truncate(time.Millisecond) }), fails: []string{"port/rule 6/times from year 1 to 9999, in microseconds", "recording"}},
	"returns local times":  {wrap: times(func(at time.Time) time.Time { return at.In(time.FixedZone("CET", 3600)) }), fails: []string{"port/rule 6/every kind of record", "model"}},
	"keeps 32-bit seconds": {wrap: times(func(at time.Time) time.Time { return time.Unix(int64(int32(at.Unix())), int64(at.Nanosecond())).UTC() }), fails: []string{"port/rule 6/times from year 1 to 9999, in microseconds"}},
	"keeps floats": {wrap: amounts(func(d decimal.Decimal) decimal.Decimal {
		f, _ := strconv.ParseFloat(d.String(), 64)
		v, _ := decimal.NewFromString(strconv.FormatFloat(f, 'f', 6, 64))
		return v
	}), fails: []string{"port/rule 6/amounts that a binary fraction or 15 digits cannot hold"}},
	"returns amounts in another form": {wrap: amounts(func(d decimal.Decimal) decimal.Decimal { return decimal.RequireFromString(d.String()) }), fails: []string{"port/rule 6/every kind of record"}},
	"returns empty maps": {wrap: reads(func(r *credit.Record) {
		if r.Metadata == nil {
			r.Metadata = map[string]string{}
		}
	}, noReseller), fails: []string{"port/rule 6/nil for what is empty"}},
	"cuts texts at 255 bytes": {wrap: reads(func(r *credit.Record) { r.Remark = r.Remark[:min(255, len(r.Remark))] }, noReseller), fails: []string{"port/rule 6/every text at its full length, in characters of four bytes", "recording"}},
	"trims names":             {wrap: reads(noRecord, func(r *credit.Reseller) { r.Name = strings.TrimSpace(r.Name) }), fails: []string{"port/rule 6/text of every sort", "recording"}},
	"escapes metadata": {wrap: reads(func(r *credit.Record) {
		for k, v := range r.Metadata {
			r.Metadata[k] = strings.ReplaceAll(v, "<", `\u003c`)
		}
	}, noReseller), fails: []string{"port/rule 6/metadata round trip"}},
	"writes at times and says that the head moved": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, append: func(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
				err := s.Append(ctx, ledger, expected, b)
				if err == nil && b.Head().Sequence%7 == 0 {
					return store.ErrMoved
				}
				return err
			}}
		},
		fails: []string{"model", "histories", "port/rule 5/later batches leave earlier records as they are"},
	},
	"says that it wrote when the head had moved": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, append: func(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
				if err := s.Append(ctx, ledger, expected, b); !errors.Is(err, store.ErrMoved) {
					return err
				}
				return nil
			}}
		},
		fails: []string{"port/rule 4/a head that moved on is ErrMoved", "port/rule 4/of many appends on one head exactly one is written", "contention/one hot pool, two engines"},
	},
	"does not say why it refused": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, append: func(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
				if s.Append(ctx, ledger, expected, b) != nil {
					return errors.New("UPDATE changed 0 rows")
				}
				return nil
			}}
		},
		fails: []string{"port/rule 4/a head that moved on is ErrMoved", "port/rule 9/ErrMoved is not a temporary failure of the same call"},
	},
	"writes and says that it can be tried again": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, append: func(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
				err := s.Append(context.WithoutCancel(ctx), ledger, expected, b)
				if err == nil && ctx.Err() != nil {
					return store.Retry(ctx.Err())
				}
				return err
			}}
		},
		fails: []string{"port/rule 9/with a context that is over, the error says whether something was written"},
	},
	"reads from a replica that is behind": {
		wrap: func(s *memstore.Store) store.Store {
			var mu sync.Mutex
			behind := map[uuid.UUID]credit.Snapshot{}
			return &deviant{Store: s, load: func(ctx context.Context, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
				mu.Lock()
				defer mu.Unlock()
				found, err := s.Load(ctx, ledger, asked)
				if old, ok := behind[ledger]; ok && old.Head.Sequence < found.Head.Sequence {
					delete(behind, ledger)
					return credit.Snapshot{Head: old.Head, Resellers: found.Resellers, Records: found.Records}, err
				}
				behind[ledger] = found
				return found, err
			}}
		},
		fails: []string{"port/rule 2/the writer sees every batch at once", "histories", "model", "contention/a bank whose sums hold in whatever is read"},
	},
	"has a second handle that sees only what it wrote": {
		wrap:   func(s *memstore.Store) store.Store { return s },
		reopen: func(store.Store) store.Store { return memstore.New() },
		fails:  []string{"port/rule 2/a second handle sees every batch at once", "port/rule 2/a ledger created on one handle is there on a second", "contention/one hot pool, engines on two handles"},
	},
	"loads in two steps": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, load: func(ctx context.Context, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
				found, err := s.Load(ctx, ledger, asked)
				for i := 0; i < 1000 && err == nil; i++ {
					runtime.Gosched()
					var later credit.Snapshot
					if later, err = s.Load(ctx, ledger, credit.ReadSet{}); later.Head.Sequence > found.Head.Sequence {
						found.Head = later.Head
						return found, err
					}
				}
				return found, err
			}}
		},
		fails: []string{"port/Load/one consistent snapshot beside a writer", "contention/a bank whose sums hold in whatever is read"},
	},
	"replaces the distributor": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, create: func(ctx context.Context, d credit.Distributor) (credit.Distributor, error) {
				_, err := s.Create(ctx, d)
				return d, err
			}}
		},
		fails: []string{"port/Create/another name or currency does not replace what is there", "port/Create/many at once create one ledger"},
	},
	"takes every ledger for created": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, load: func(ctx context.Context, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
				found, err := s.Load(ctx, ledger, asked)
				if errors.Is(err, store.ErrNoLedger) {
					return credit.Snapshot{}, nil
				}
				return found, err
			}}
		},
		fails: []string{"port/Load/a ledger that was never created is ErrNoLedger"},
	},
	"updates old records": {
		wrap: func(s *memstore.Store) store.Store {
			var mu sync.Mutex
			heads := map[uuid.UUID]int64{}
			return &deviant{Store: s,
				append: func(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
					mu.Lock()
					defer mu.Unlock()
					heads[ledger] = b.Head().Sequence
					return s.Append(ctx, ledger, expected, b)
				},
				records: func(ctx context.Context, ledger uuid.UUID, q credit.RecordQuery) ([]credit.Record, error) {
					mu.Lock()
					defer mu.Unlock()
					page, err := s.Records(ctx, ledger, q)
					for i := range page {
						if heads[ledger] > page[i].Sequence+10 {
							page[i].Remark = "archived"
						}
					}
					return page, err
				},
			}
		},
		fails: []string{"port/rule 5/later batches leave earlier records as they are", "model"},
	},
	"does not look at its context": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, load: func(ctx context.Context, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
				if ctx.Err() != nil {
					select {} // waits for a lock that nobody returns
				}
				return s.Load(ctx, ledger, asked)
			}}
		},
		fails: []string{"port/rule 10/every method ends when its context is over"},
	},
	"searches with regard to case": {wrap: searches(strings.Contains), fails: []string{"port/Resellers/name, mobile and remark by part, whatever the case", "port/Resellers/filters in every combination, in every order, counted", "pages"}},
	"searches with small letters": {
		wrap:  searches(func(text, part string) bool { return strings.Contains(strings.ToLower(text), strings.ToLower(part)) }),
		fails: []string{"port/Resellers/name, mobile and remark by part, whatever the case"},
	},
	"searches with capitals": {
		wrap:  searches(func(text, part string) bool { return strings.Contains(strings.ToUpper(text), strings.ToUpper(part)) }),
		fails: []string{"port/Resellers/name, mobile and remark by part, whatever the case"},
	},
	"searches in ASCII only": {
		wrap: searches(func(text, part string) bool {
			small := func(s string) string {
				return strings.Map(func(r rune) rune {
					if 'A' <= r && r <= 'Z' {
						return r + 'a' - 'A'
					}
					return r
				}, s)
			}
			return strings.Contains(small(text), small(part))
		}),
		fails: []string{"port/Resellers/name, mobile and remark by part, whatever the case", "pages"},
	},
	"searches with patterns": {wrap: searches(like), fails: []string{"port/Resellers/name, mobile and remark by part, whatever the case", "pages"}},
	"searches at the beginning": {
		wrap:  searches(func(text, part string) bool { return strings.HasPrefix(credit.Fold(text), credit.Fold(part)) }),
		fails: []string{"port/Resellers/name, mobile and remark by part, whatever the case"},
	},
	"forgets the filter on mobile": {wrap: asks(func(q *credit.ResellerQuery) { q.Mobile = "" }), fails: []string{"port/Resellers/name, mobile and remark by part, whatever the case", "port/CountResellers/each filter alone"}},
	"finds e-mails in any case": {
		wrap: lists(func(q credit.ResellerQuery, r credit.Reseller) bool {
			if strings.EqualFold(q.Email, r.Email) {
				q.Email = ""
			}
			return q.Matches(r)
		}, nil),
		fails: []string{"port/Resellers/e-mail and external id byte by byte", "pages"},
	},
	"finds external ids in any case": {
		wrap: lists(func(q credit.ResellerQuery, r credit.Reseller) bool {
			if strings.EqualFold(q.ExternalID, r.ExternalID) {
				q.ExternalID = ""
			}
			return q.Matches(r)
		}, nil),
		fails: []string{"port/Resellers/e-mail and external id byte by byte"},
	},
	"takes the greatest available credit as excluded": {
		wrap: lists(func(q credit.ResellerQuery, r credit.Reseller) bool {
			return q.Matches(r) && (q.MaxAvailable == nil || !q.MaxAvailable.Equal(r.Available()))
		}, nil),
		fails: []string{"port/Resellers/a range of available credit, both ends included"},
	},
	"takes a least of 0 for none": {
		wrap: asks(func(q *credit.ResellerQuery) {
			if q.MinAvailable != nil && q.MinAvailable.IsZero() {
				q.MinAvailable = nil
			}
		}),
		fails: []string{"port/Resellers/a range of available credit, both ends included", "pages"},
	},
	"compares shares as floats": {
		wrap: low(func(available, allocated int64, t credit.Threshold) bool {
			value, _ := strconv.ParseFloat(t.Value().String(), 64)
			level := value * 1e6
			if t.IsPercent() {
				level = value / 100 * float64(allocated)
			}
			return float64(available) <= level
		}),
		fails: []string{"port/Resellers/low credit by amount and by percentage, exactly"},
	},
	"compares shares in 64 bits": {
		wrap: low(func(available, allocated int64, t credit.Threshold) bool {
			if t.IsPercent() {
				return available*100_000_000 <= fine(t.Value())*allocated
			}
			return available <= fine(t.Value())
		}),
		fails: []string{"port/Resellers/low credit by amount and by percentage, exactly"},
	},
	"rounds shares to whole percents": {
		wrap: low(func(available, allocated int64, t credit.Threshold) bool {
			if t.IsPercent() && allocated > 0 {
				return available/allocated*100 <= fine(t.Value())/1_000_000
			}
			return t.IsPercent() && available <= 0 || !t.IsPercent() && available <= fine(t.Value())
		}),
		fails: []string{"port/Resellers/low credit by amount and by percentage, exactly", "pages"},
	},
	"orders names with regard to case": {
		wrap: lists(nil, func(r credit.Reseller, o credit.Order) store.ResellerPosition {
			p := store.PositionOf(r, o)
			if p.Name != "" {
				p.Name = r.Name
			}
			return p
		}),
		fails: []string{"port/Resellers/names in the order of the bytes of their folded form", "port/Resellers/pages of every size, in every order, ties by id", "pages"},
	},
	"orders names as UTF-16": {
		wrap: lists(nil, func(r credit.Reseller, o credit.Order) store.ResellerPosition {
			p := store.PositionOf(r, o)
			units := utf16.Encode([]rune(p.Name))
			p.Name = ""
			for _, u := range units {
				p.Name += string([]byte{byte(u >> 8), byte(u)})
			}
			return p
		}),
		fails: []string{"port/Resellers/names in the order of the bytes of their folded form"},
	},
	"orders names without blanks at their end": {
		wrap: lists(nil, func(r credit.Reseller, o credit.Order) store.ResellerPosition {
			p := store.PositionOf(r, o)
			p.Name = strings.TrimRight(p.Name, " ")
			return p
		}),
		fails: []string{"port/Resellers/names in the order of the bytes of their folded form"},
	},
	"orders available credit as text": {
		wrap: lists(nil, func(r credit.Reseller, o credit.Order) store.ResellerPosition {
			p := store.PositionOf(r, o)
			if o == credit.OrderAvailable || o == credit.OrderAvailableDown {
				p.Name, p.Available = r.Available().String(), 0
			}
			return p
		}),
		fails: []string{"port/Resellers/available credit in the order of numbers, to the last millionth", "pages"},
	},
	"orders available credit as floats": {
		wrap: lists(nil, func(r credit.Reseller, o credit.Order) store.ResellerPosition {
			p := store.PositionOf(r, o)
			p.Available = int64(float64(p.Available))
			return p
		}),
		fails: []string{"port/Resellers/available credit in the order of numbers, to the last millionth"},
	},
	"orders ties by external id": {
		wrap: lists(nil, func(r credit.Reseller, o credit.Order) store.ResellerPosition {
			p := store.PositionOf(r, o)
			p.ID = uuid.NewSHA1(uuid.Nil, []byte(r.ExternalID))
			return p
		}),
		fails: []string{"port/Resellers/pages of every size, in every order, ties by id"},
	},
	"keeps the order by name that it had at first": {
		wrap: func(s *memstore.Store) store.Store {
			var first sync.Map
			return lists(nil, func(r credit.Reseller, o credit.Order) store.ResellerPosition {
				p := store.PositionOf(r, o)
				if p.Name != "" {
					name, _ := first.LoadOrStore(r.ID, p.Name)
					p.Name, _ = name.(string)
				}
				return p
			})(s)
		},
		fails: []string{"port/Resellers/a listing shows what was added and changed since"},
	},
	"turns pages by number": {
		wrap: func(s *memstore.Store) store.Store {
			var before sync.Map // how many were on the pages before the one after a position
			return &deviant{Store: s, resellers: func(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery, after store.ResellerPosition) ([]credit.Reseller, error) {
				type page struct {
					ledger uuid.UUID
					order  credit.Order
					after  store.ResellerPosition
				}
				skip := 0
				if n, ok := before.Load(page{ledger, q.Order, after}); ok {
					skip, _ = n.(int)
				} else if (after != store.ResellerPosition{}) {
					return s.Resellers(ctx, ledger, q, after)
				}
				limit := q.Limit
				q.Limit += skip
				some, err := s.Resellers(ctx, ledger, q, store.ResellerPosition{})
				some = some[min(skip, len(some)):]
				for i, r := range some {
					before.Store(page{ledger, q.Order, store.PositionOf(r, q.Order)}, skip+i+1)
				}
				return some[:min(limit, len(some))], err
			}}
		},
		fails: []string{"contention/pages neither skip nor repeat what is there, when somebody writes between them"},
	},
	"counts a page": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, count: func(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery) (int, error) {
				n, err := s.CountResellers(ctx, ledger, q)
				return min(n, q.Limit), err
			}}
		},
		fails: []string{"port/CountResellers/as many as the listing has, whatever its limit and order", "pages"},
	},
	"counts without filters": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, count: func(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery) (int, error) {
				return s.CountResellers(ctx, ledger, credit.ResellerQuery{Statuses: q.Statuses})
			}}
		},
		fails: []string{"port/CountResellers/each filter alone", "port/Resellers/filters in every combination, in every order, counted"},
	},
	"counts everybody as one in an empty ledger": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, count: func(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery) (int, error) {
				n, err := s.CountResellers(ctx, ledger, q)
				return max(n, 1), err
			}}
		},
		fails: []string{"port/CountResellers/an empty ledger"},
	},
	"counts the resellers of every ledger": {
		wrap: func(s *memstore.Store) store.Store {
			var ledgers sync.Map
			return &deviant{Store: s,
				create: func(ctx context.Context, d credit.Distributor) (credit.Distributor, error) {
					ledgers.Store(d.ID, true)
					return s.Create(ctx, d)
				},
				count: func(ctx context.Context, _ uuid.UUID, q credit.ResellerQuery) (int, error) {
					n := 0
					ledgers.Range(func(id, _ any) bool {
						ledger, _ := id.(uuid.UUID)
						more, err := s.CountResellers(ctx, ledger, q)
						n += more
						return err == nil
					})
					return n, ctx.Err()
				},
			}
		},
		fails: []string{"port/rule 1/nothing of another ledger is found", "port/rule 1/two ledgers with the same reseller ids, keys and external ids"},
	},
	"finds operators in any case": {
		wrap:  recordsWithout(strings.EqualFold, func(q *credit.RecordQuery, r *credit.Record) (*string, string) { return &q.Operator, r.Operator }),
		fails: []string{"port/Records/operator, key, reference and customer byte by byte", "port/Records/every combination of filters, orders and limits"},
	},
	"finds references without blanks at their end": {
		wrap: recordsWithout(func(a, b string) bool { return strings.TrimRight(a, " ") == strings.TrimRight(b, " ") },
			func(q *credit.RecordQuery, r *credit.Record) (*string, string) { return &q.Reference, r.Reference }),
		fails: []string{"port/Records/operator, key, reference and customer byte by byte"},
	},
	"finds customers by their beginning": {
		wrap:  recordsWithout(func(a, b string) bool { return strings.HasPrefix(b, a) }, func(q *credit.RecordQuery, r *credit.Record) (*string, string) { return &q.Customer, r.Customer }),
		fails: []string{"port/Records/operator, key, reference and customer byte by byte"},
	},
	"passes over keys": {wrap: readsRecords(func(q *credit.RecordQuery) { q.Key = "" }), fails: []string{"port/Records/operator, key, reference and customer byte by byte", "port/rule 1/two ledgers with the same reseller ids, keys and external ids", "pages"}},
	"takes until as included": {
		wrap: readsRecords(func(q *credit.RecordQuery) {
			if !q.OccurredUntil.IsZero() {
				q.OccurredUntil = q.OccurredUntil.Add(time.Microsecond)
			}
		}),
		fails: []string{"port/Records/a range of occurred-at, from included and until not, in microseconds"},
	},
	"compares occurred-at in milliseconds": {
		wrap:  readsRecords(func(q *credit.RecordQuery) { q.OccurredFrom = q.OccurredFrom.Truncate(time.Millisecond) }),
		fails: []string{"port/Records/a range of occurred-at, from included and until not, in microseconds"},
	},
	"has an end of time before the year 9999": {
		wrap: readsRecords(func(q *credit.RecordQuery) {
			if last := time.Date(2262, 4, 11, 23, 47, 16, 0, time.UTC); q.OccurredUntil.IsZero() {
				q.OccurredUntil = last
			}
		}),
		fails: []string{"port/Records/a range of occurred-at, from included and until not, in microseconds"},
	},
	"takes the latest record whatever the sequence": {
		wrap:  latest(func(_ *[]uuid.UUID, _ *[]credit.Kind, until *int64) { *until = 1 << 60 }),
		fails: []string{"port/Latest/the newest of each reseller, of any kinds, up to any sequence", "port/Latest/as many resellers as a page may have", "pages", "contention/pages neither skip nor repeat what is there, when somebody writes between them"},
	},
	"takes the sequence of the latest record as excluded": {
		wrap:  latest(func(_ *[]uuid.UUID, _ *[]credit.Kind, until *int64) { *until-- }),
		fails: []string{"port/Latest/the newest of each reseller, of any kinds, up to any sequence", "pages"},
	},
	"takes the latest record of any kind": {
		wrap:  latest(func(_ *[]uuid.UUID, kinds *[]credit.Kind, _ *int64) { *kinds = nil }),
		fails: []string{"port/Latest/the newest of each reseller, of any kinds, up to any sequence", "port/Latest/resellers that are unknown, and those without such a record, are left out"},
	},
	"takes no kinds for none": {
		wrap: latest(func(resellers *[]uuid.UUID, kinds *[]credit.Kind, _ *int64) {
			if len(*kinds) == 0 {
				*resellers = nil
			}
		}),
		fails: []string{"port/Latest/the newest of each reseller, of any kinds, up to any sequence", "port/rule 6/every kind of record"},
	},
	"has no more than 999 parameters": {
		wrap: latest(func(resellers *[]uuid.UUID, _ *[]credit.Kind, _ *int64) {
			*resellers = (*resellers)[:min(len(*resellers), 999)]
		}),
		fails: []string{"port/Latest/as many resellers as a page may have"},
	},
	"answers for resellers without a record": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, latest: func(ctx context.Context, ledger uuid.UUID, resellers []uuid.UUID, kinds []credit.Kind, until int64) ([]credit.Record, error) {
				found, err := s.Latest(ctx, ledger, resellers, kinds, until)
				for _, id := range resellers {
					if !slices.ContainsFunc(found, func(r credit.Record) bool { return r.ResellerID == id }) {
						found = append(found, credit.Record{ResellerID: id})
					}
				}
				return found, err
			}}
		},
		fails: []string{"port/Latest/resellers that are unknown, and those without such a record, are left out", "port/Latest/an empty ledger", "port/rule 1/nothing of another ledger is found"},
	},
	"sorts the resellers that it is handed": {
		wrap: latest(func(resellers *[]uuid.UUID, _ *[]credit.Kind, _ *int64) {
			slices.SortFunc(*resellers, func(a, b uuid.UUID) int { return strings.Compare(string(a[:]), string(b[:])) })
		}),
		fails: []string{"port/rule 8/a read set and a query that were handed over are not changed"},
	},
	"returns its own latest records": {
		wrap: func(s *memstore.Store) store.Store {
			var own sync.Map
			return &deviant{Store: s, latest: func(ctx context.Context, ledger uuid.UUID, resellers []uuid.UUID, kinds []credit.Kind, until int64) ([]credit.Record, error) {
				found, err := s.Latest(ctx, ledger, resellers, kinds, until)
				for i := range found {
					mine, _ := own.LoadOrStore(found[i].ID, found[i])
					found[i], _ = mine.(credit.Record)
				}
				return found, err
			}}
		},
		fails: []string{"port/rule 8/what was returned is the caller's"},
	},
	"counts without regard to its context": {
		wrap: func(s *memstore.Store) store.Store {
			return &deviant{Store: s, count: func(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery) (int, error) {
				if ctx.Err() != nil {
					select {} // waits for a lock that nobody returns
				}
				return s.CountResellers(ctx, ledger, q)
			}}
		},
		fails: []string{"port/rule 10/every method ends when its context is over"},
	},
}
