package credit_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

func TestReadSetOf(t *testing.T) {
	t.Parallel()
	set := credit.ReadSetOf(
		credit.Grant{Amount: amt("1"), Key: "a"},
		credit.Usage{ResellerID: nobody, Key: "the amount is missing"}, nil,
		credit.Usage{ResellerID: nimbus, Amount: amt("1"), Key: "a"},
		credit.Usage{ResellerID: nimbus, Amount: amt("1"), Key: "b"},
		credit.Freeze{ResellerID: cirrus},
		addNimbus, addNimbus, addCirrus,
	)
	assert.Equal(t, credit.ReadSet{Resellers: []uuid.UUID{nimbus, cirrus}, ExternalIDs: []string{"2001", "2002"}, Keys: []string{"a", "b"}}, set,
		"what is needed, once, and nothing for a command that will not be decided")
}

func TestLoadState(t *testing.T) {
	t.Parallel()
	head := credit.Head{Sequence: 4, Hash: credit.Hash{4}, RecordedAt: noon, Pool: credit.Pool{Granted: amt("9")}}
	is := credit.Reseller{ID: nimbus, ExternalID: "2001", Status: credit.StatusFrozen, Figures: figures("3", "2")}
	s := credit.LoadState(
		credit.ReadSet{Resellers: []uuid.UUID{nimbus, cirrus}, ExternalIDs: []string{"2002"}, Keys: []string{"known", "new"}},
		credit.Snapshot{Head: head, Resellers: []credit.Reseller{is}, Records: []credit.Record{{Key: "known", Fingerprint: credit.Hash{1}}}})
	assert.Equal(t, head, s.Head())

	got, ok := s.Reseller(nimbus)
	assert.True(t, ok)
	assert.Equal(t, is, got)
	_, ok = s.Reseller(cirrus)
	assert.False(t, ok, "asked for and absent is not found")
	assert.PanicsWithValue(t, "credit: the state was asked for reseller "+nobody.String()+", which was not loaded", func() { s.Reseller(nobody) })

	_, err := credit.Decide(s, credit.NewReseller{ExternalID: "2001", Name: "n"}, stamp(1))
	require.ErrorIs(t, err, credit.ErrExists, "the external id of a loaded reseller is known")
	_, err = credit.Decide(s, addCirrus, stamp(1))
	require.NoError(t, err)
	assert.PanicsWithValue(t, "credit: the state was asked for external id 2003, which was not loaded",
		func() { _, _ = credit.Decide(s, credit.NewReseller{ExternalID: "2003", Name: "n"}, stamp(1)) })

	_, err = credit.Decide(s, credit.Grant{Amount: amt("1"), Key: "known"}, stamp(1))
	require.ErrorIs(t, err, credit.ErrKeyConflict)
	_, err = credit.Decide(s, credit.Grant{Amount: amt("1"), Key: "new"}, stamp(1))
	require.NoError(t, err)
	assert.PanicsWithValue(t, "credit: the state was asked for key forgotten, which was not loaded",
		func() { _, _ = credit.Decide(s, credit.Grant{Amount: amt("1"), Key: "forgotten"}, stamp(1)) })
	_, err = credit.Decide(s, credit.Usage{ResellerID: nobody}, stamp(1))
	require.ErrorIs(t, err, credit.ErrInvalid, "a wrong shape looks at nothing")

	s = credit.LoadState(credit.ReadSet{Resellers: []uuid.UUID{nimbus}}, credit.Snapshot{Head: head, Resellers: []credit.Reseller{is}})
	assert.PanicsWithValue(t, "credit: the state was asked for external id 2001, which was not loaded",
		func() { _, _ = credit.Decide(s, credit.NewReseller{ExternalID: "2001", Name: "n"}, stamp(1)) }, "no external id was asked for")
}

func TestState_figuresThatAreNoAmountsAreABug(t *testing.T) {
	t.Parallel()
	c := credit.Withdrawal{Amount: amt("1")}
	assert.PanicsWithValue(t, "credit: a figure in the state is not an amount: amount: has more than 12 digits before or 6 after the point; round it explicitly first",
		func() { _, _ = credit.Decide(given{granted: "1000000000000"}.state(c), c, stamp(1)) })
}

func TestNewState_isAnEmptyLedger(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	zero := credit.FromMillionths(0)
	assert.Equal(t, credit.Head{Hash: credit.Genesis(acme), Pool: credit.Pool{Granted: zero, Allocated: zero}}, b.Head())
	_, ok := b.Reseller(nimbus)
	assert.False(t, ok, "what a whole state does not have does not exist")
	assert.EqualValues(t, 1, b.do(credit.Grant{Amount: amt("1"), Key: "never seen"}).Sequence)
}

func TestState_Execute(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	added := b.do(credit.NewReseller{ExternalID: "2001", Name: "Nimbus", Email: "a@b", Mobile: "1", ResellerRemark: "r", Customers: 2})
	assert.Equal(t, credit.Reseller{ID: nimbus, ExternalID: "2001", Profile: credit.Profile{Name: "Nimbus", Email: "a@b", Mobile: "1", Remark: "r", Customers: 2},
		Status: credit.StatusActive, BoundAt: added.RecordedAt, Figures: added.After}, b.nimbus(), "bound-at is by default when the ledger recorded it")
	assert.Equal(t, credit.Head{Sequence: 1, Hash: added.Hash, RecordedAt: added.RecordedAt, Pool: added.Pool}, b.Head())

	b.do(credit.NewReseller{ExternalID: "2002", Name: "Cirrus", BoundAt: noon.AddDate(-1, 0, 0).Add(999).Local()})
	second, _ := b.Reseller(cirrus)
	assert.Equal(t, noon.AddDate(-1, 0, 0), second.BoundAt, "bound-at is as given, UTC, in microseconds")

	b.do(credit.Freeze{ResellerID: nimbus})
	assert.Equal(t, credit.StatusFrozen, b.nimbus().Status)
	b.do(credit.Unfreeze{ResellerID: nimbus})
	assert.Equal(t, credit.StatusActive, b.nimbus().Status)
	b.do(credit.Close{ResellerID: nimbus})
	assert.Equal(t, credit.StatusClosed, b.nimbus().Status)
}

func TestState_Fork(t *testing.T) {
	t.Parallel()
	start := func() *book {
		b := newBook(t)
		b.do(addNimbus, credit.Grant{Amount: amt("100"), Key: "grant"})
		return b
	}
	b, untouched := start(), start()
	fork := &book{State: b.Fork(), t: t, now: b.now}
	assert.Equal(t, b.Head(), fork.Head())
	added := fork.do(addCirrus).ResellerID
	fork.do(credit.Allocation{ResellerID: nimbus, Amount: amt("10"), Key: "po-1"}, credit.ProfileUpdate{ResellerID: nimbus, Name: new("N")},
		credit.Freeze{ResellerID: nimbus}, credit.Usage{ResellerID: added, Amount: amt("1")})
	_, err := fork.try(credit.NewReseller{ExternalID: "2001", Name: "n"})
	require.ErrorIs(t, err, credit.ErrExists, "a fork knows what its parent knows")
	replay, err := fork.try(credit.Grant{Amount: amt("100"), Key: "grant"})
	require.NoError(t, err)
	assert.True(t, replay.Replayed)
	assert.Equal(t, untouched, b, "a fork leaves its parent alone")

	b.Join(fork.State)
	assert.Equal(t, fork.Head(), b.Head())
	assert.Equal(t, fork.nimbus(), b.nimbus())
	replay, err = b.try(credit.Allocation{ResellerID: nimbus, Amount: amt("10"), Key: "po-1"})
	require.NoError(t, err)
	assert.True(t, replay.Replayed, "joined, all that happened on the fork has happened")
	_, err = b.try(addCirrus)
	require.ErrorIs(t, err, credit.ErrExists)

	loaded := credit.LoadState(credit.ReadSet{Resellers: []uuid.UUID{nimbus}}, credit.Snapshot{}).Fork()
	_, ok := loaded.Reseller(nimbus)
	assert.False(t, ok)
	assert.Panics(t, func() { loaded.Reseller(cirrus) }, "what a parent did not load is not loaded for its fork")
}

func TestState_Apply_replayingTheRecordsGivesEveryFigureAndStatus(t *testing.T) {
	t.Parallel()
	b := story(t)
	replayed := credit.NewState(acme)
	for _, r := range b.log {
		replayed.Apply(r)
	}
	assert.Equal(t, b.Head(), replayed.Head())
	for _, id := range []uuid.UUID{nimbus, cirrus} {
		want, _ := b.Reseller(id)
		got, ok := replayed.Reseller(id)
		require.True(t, ok)
		assert.Equal(t, want.Figures, got.Figures)
		assert.Equal(t, want.Status, got.Status)
		assert.Equal(t, want.ExternalID, got.ExternalID)
		assert.Zero(t, got.Profile, "a profile is in no record")
	}
	_, err := credit.Decide(replayed, addNimbus, stamp(99))
	assert.ErrorIs(t, err, credit.ErrExists)
}

// verify reads a log from the beginning.
func verify(log []credit.Record) error {
	s := credit.NewState(acme)
	for _, r := range log {
		if err := s.Verify(r); err != nil {
			return err
		}
	}
	return nil
}

// rehash is a log whose chain somebody computed again.
func rehash(log []credit.Record) []credit.Record {
	log = slices.Clone(log)
	previous := credit.Genesis(acme)
	for i := range log {
		log[i].Hash = log[i].ChainHash(previous)
		previous = log[i].Hash
	}
	return log
}

// alter changes a field of a record.
func alter(r *credit.Record, path []string) {
	*r = r.Clone()
	field := reflect.ValueOf(r).Elem()
	for _, p := range path {
		field = field.FieldByName(p)
	}
	switch v := field.Interface().(type) {
	case int64:
		set(field, v+1)
	case string:
		set(field, v+"x")
	case credit.Kind:
		set(field, v+"x")
	case uuid.UUID:
		set(field, id(77))
	case decimal.Decimal:
		set(field, v.Add(amt("0.000001")))
	case credit.Hash:
		v[0] ^= 1
		set(field, v)
	case time.Time:
		set(field, v.Add(time.Microsecond))
	case map[string]string:
		set(field, map[string]string{"a": "forged"})
	case []string:
		set(field, append(v, "forged"))
	default:
		panic(fmt.Sprintf("no way to alter %T", v))
	}
}

// paths are those of every field of a record, the figures' own included.
func paths(of reflect.Type) [][]string {
	var all [][]string
	for f := range of.Fields() {
		if f.Type != reflect.TypeFor[credit.Figures]() && f.Type != reflect.TypeFor[credit.Pool]() {
			all = append(all, []string{f.Name})
			continue
		}
		for _, p := range paths(f.Type) {
			all = append(all, append([]string{f.Name}, p...))
		}
	}
	return all
}

func TestState_Verify_acceptsAnUntouchedLog(t *testing.T) {
	t.Parallel()
	assert.NoError(t, verify(story(t).log))
}

// What no rule determines: it can be what the record says or anything else, and
// only the chain, against a head kept elsewhere, tells.
var onlyTheChainCovers = map[string]func(credit.Record) bool{
	"ID": always, "Operator": always, "Remark": always, "Reference": always, "Metadata": always,
	"OccurredAt":  always,
	"RecordedAt":  always, // between those of its neighbours
	"Key":         keyed,
	"Fingerprint": keyed,
	"Corrects":    func(r credit.Record) bool { return r.Corrects+1 < r.Sequence },
	"ResellerID":  func(r credit.Record) bool { return r.Kind == credit.KindAdd },
	"ExternalID":  func(r credit.Record) bool { return r.Kind == credit.KindAdd },
	"Customer":    func(r credit.Record) bool { return r.Kind == credit.KindUsage || r.Kind == credit.KindCorrection },
}

func always(credit.Record) bool  { return true }
func keyed(r credit.Record) bool { return r.Key != "" }

func TestState_Verify_namesTheRecordOfWhichAnyFieldWasChanged(t *testing.T) {
	t.Parallel()
	honest := story(t).log
	kept := honest[len(honest)-1].Hash
	for _, path := range paths(reflect.TypeFor[credit.Record]()) {
		for i := range honest {
			forged := slices.Clone(honest)
			alter(&forged[i], path)
			what := fmt.Sprintf("%s of record %d, %s", strings.Join(path, "."), honest[i].Sequence, honest[i].Kind)
			var corrupt *credit.CorruptError
			require.ErrorAs(t, verify(forged), &corrupt, what)
			assert.Equal(t, forged[i].Sequence, corrupt.Sequence, what)

			if path[0] == "Hash" {
				continue
			}
			forged = rehash(forged)
			err := verify(forged)
			if free := onlyTheChainCovers[path[0]]; free != nil && free(honest[i]) {
				assert.NotEqual(t, kept, forged[len(forged)-1].Hash, "%s: the head kept elsewhere tells", what)
				if err != nil {
					require.ErrorAs(t, err, &corrupt)
					assert.Greater(t, corrupt.Sequence, honest[i].Sequence, "%s: take it off the list of what only the chain covers", what)
				}
				continue
			}
			require.ErrorAs(t, err, &corrupt, "%s, the chain computed again", what)
			assert.Equal(t, forged[i].Sequence, corrupt.Sequence, "%s, the chain computed again", what)
		}
	}
}

func TestState_Verify_refusesWhatNoRuleAllows(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	b.do(addNimbus, credit.Grant{Amount: amt("100")}, credit.Freeze{ResellerID: nimbus}, credit.Unfreeze{ResellerID: nimbus},
		credit.Allocation{ResellerID: nimbus, Amount: amt("40")}, credit.Usage{ResellerID: nimbus, Amount: amt("10"), Customer: "c"},
		credit.Settlement{ResellerID: nimbus, Amount: amt("5")}, credit.Repossession{ResellerID: nimbus, Amount: amt("35")}, addCirrus,
		credit.ProfileUpdate{ResellerID: nimbus, Email: new("a@b"), Customers: new(3)})
	require.Equal(t, []string{"email", "customers"}, b.log[9].Changed)
	changed := func(names ...string) func([]credit.Record) []credit.Record {
		return func(l []credit.Record) []credit.Record { l[9].Changed = names; return l }
	}
	move := func(r *credit.Record, by string) {
		r.Amount = r.Amount.Add(amt(by))
		switch r.Kind { //nolint:exhaustive // the kinds below
		case credit.KindGrant:
			r.Pool.Granted = r.Pool.Granted.Add(amt(by))
		case credit.KindAllocate, credit.KindRepossess:
			r.Pool.Allocated, r.After.Allocated = r.Pool.Allocated.Add(amt(by)), r.After.Allocated.Add(amt(by))
		default:
			r.After.Used = r.After.Used.Add(amt(by))
		}
	}
	for _, tt := range []struct {
		rule  string
		forge func([]credit.Record) []credit.Record
		at    int64
		says  string
	}{
		{"the sequence has no gap", func(l []credit.Record) []credit.Record { return slices.Delete(l, 3, 4) }, 5, "follows record 3"},
		{"the sequence begins with 1", func(l []credit.Record) []credit.Record { return l[1:] }, 2, "follows record 0"},
		{"no record comes twice", func(l []credit.Record) []credit.Record { return slices.Insert(l, 2, l[1]) }, 2, "follows record 2"},
		{"records keep their order", func(l []credit.Record) []credit.Record { l[2], l[3] = l[3], l[2]; return l }, 4, "follows record 2"},
		{"a frozen reseller is allocated nothing", func(l []credit.Record) []credit.Record {
			l = slices.Delete(l, 3, 4)
			for i := range l {
				l[i].Sequence = int64(i) + 1
			}
			return l
		}, 4, "no rule allows it: reseller not active: allocate: it is frozen"},
		{"the pool bounds an allocation", func(l []credit.Record) []credit.Record { move(&l[4], "60.000001"); return l }, 5,
			"no rule allows it: allocate: 100.000001 exceeds the pool's remaining 100"},
		{"the used bounds a settlement", func(l []credit.Record) []credit.Record { move(&l[6], "-5.000001"); return l }, 7,
			"no rule allows it: settle: 10.000001 exceeds the used 10"},
		{"the repossessable bounds a repossession", func(l []credit.Record) []credit.Record { move(&l[7], "-0.000001"); return l }, 8,
			"no rule allows it: repossess: 35.000001 exceeds the repossessable 35 (allocated 40, used 5)"},
		{"an amount has the sign of its kind", func(l []credit.Record) []credit.Record { move(&l[1], "-200"); return l }, 2,
			"its amount -100 has the wrong sign for grant"},
		{"a kind is known", func(l []credit.Record) []credit.Record { l[0].Kind = credit.Kind(strings.Repeat("x", 99)); return l }, 1,
			`its kind "` + strings.Repeat("x", 40) + `…" is unknown`},
		{"time does not go backwards", func(l []credit.Record) []credit.Record {
			l[3].RecordedAt = l[2].RecordedAt.Add(-time.Microsecond)
			l[3].OccurredAt = l[3].RecordedAt
			return l
		}, 4, ""},
		{"a key has a fingerprint", func(l []credit.Record) []credit.Record { l[1].Key = "k"; return l }, 2, "a key and a fingerprint go together"},
		{"a fingerprint has a key", func(l []credit.Record) []credit.Record { l[1].Fingerprint = credit.Hash{1}; return l }, 2, "a key and a fingerprint go together"},
		{"a new reseller has an id", func(l []credit.Record) []credit.Record { l[8].ResellerID = uuid.Nil; return l }, 9,
			"the id 00000000-0000-0000-0000-000000000000 cannot be that of a new reseller"},
		{"no reseller is added twice", func(l []credit.Record) []credit.Record { l[8].ResellerID = nimbus; return l }, 9,
			"the id " + nimbus.String() + " cannot be that of a new reseller"},
		{"an external id is given out once", func(l []credit.Record) []credit.Record { l[8].ExternalID = "2001"; return l }, 9,
			`no rule allows it: external id exists: "2001" belongs to another reseller of this ledger`},
		{"a reseller exists", func(l []credit.Record) []credit.Record { l[5].ResellerID = nobody; return l }, 6, "no rule allows it: no such reseller: " + nobody.String()},
		{"a record corrects none to come", func(l []credit.Record) []credit.Record { l[5].Corrects = 6; return l }, 6,
			"no rule allows it: corrects: 6 is not an earlier record; the last one is 5"},
		{"a record corrects none before the first", func(l []credit.Record) []credit.Record { l[5].Corrects = -1; return l }, 6,
			"no rule allows it: corrects: must be the sequence of an earlier record"},
		{"text has its limits", func(l []credit.Record) []credit.Record { l[5].Operator = "\xff"; return l }, 6, "no rule allows it: operator: is not UTF-8"},
		{"a grant is of no reseller", func(l []credit.Record) []credit.Record { l[1].ResellerID = nimbus; return l }, 2, ""},
		{"only an add takes an external id", func(l []credit.Record) []credit.Record { l[5].ExternalID = "2003"; return l }, 6, ""},
		{"a settlement has no customer", func(l []credit.Record) []credit.Record { l[6].Customer = "c"; return l }, 7, ""},
		{"only an update changes a profile", func(l []credit.Record) []credit.Record { l[6].Changed = []string{"name"}; return l }, 7, ""},
		{"an update changes fields of a profile", changed("colour"), 10, `["colour"] are not names of changed fields in their order`},
		{"an update names no field twice", changed("name", "name"), 10, `["name" "name"] are not names of changed fields in their order`},
		{"an update names fields in their order", changed("customers", "email"), 10, `["customers" "email"] are not names of changed fields in their order`},
		{"every record has an id", func(l []credit.Record) []credit.Record { l[1].ID = uuid.Nil; return l }, 2, "it has no id"},
		{"every record has a time", func(l []credit.Record) []credit.Record { l[0].RecordedAt = time.Time{}; return l[:1] }, 1, "it has no time at which it was recorded"},
		{"the figures before are those after the last record", func(l []credit.Record) []credit.Record { l[5].Before.Used = amt("1"); return l }, 6,
			"the rules give amount 10, allocated 40 to 40, used 0 to 10, pool 40 of 100, reseller " + nimbus.String() + `, occurred 2026-03-01T12:00:06Z, at 2026-03-01T12:00:06Z, ` +
				"not amount 10, allocated 40 to 40, used 1 to 10, pool 40 of 100, reseller " + nimbus.String() + `, occurred 2026-03-01T12:00:06Z, at 2026-03-01T12:00:06Z`},
	} {
		err := verify(rehash(tt.forge(slices.Clone(b.log))))
		require.ErrorIs(t, err, credit.ErrCorrupt, tt.rule)
		var corrupt *credit.CorruptError
		require.ErrorAs(t, err, &corrupt)
		assert.Equal(t, tt.at, corrupt.Sequence, tt.rule)
		if tt.says != "" {
			assert.Equal(t, tt.says, corrupt.Problem, tt.rule)
		}
	}
}

// Texts may be about people, and errors get into logs.
func TestState_Verify_namesTextsThatDifferAndDoesNotRepeatThem(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	b.do(addNimbus, credit.Grant{Amount: amt("100")}, credit.Allocation{ResellerID: nimbus, Amount: amt("40")},
		credit.Usage{ResellerID: nimbus, Amount: amt("10"), Customer: "secret"}, credit.Settlement{ResellerID: nimbus, Amount: amt("5")})
	const usage, settlement = 3, 4
	for name, forge := range map[string]func([]credit.Record){
		"external id":            func(l []credit.Record) { l[usage].ExternalID = "secret" },
		"customer":               func(l []credit.Record) { l[settlement].Customer = "secret" },
		"list of changed fields": func(l []credit.Record) { l[usage].Changed = []string{"secret"} },
		"external id, and another list of changed fields": func(l []credit.Record) {
			l[usage].ExternalID, l[usage].Changed = "secret", []string{"secret"}
		},
	} {
		forged := slices.Clone(b.log)
		forge(forged)
		err := verify(rehash(forged))
		require.ErrorIs(t, err, credit.ErrCorrupt)
		require.ErrorContains(t, err, ", and another "+name)
		assert.NotContains(t, err.Error(), "secret")
	}
}

// Hashing such a figure takes seconds, so it is refused before.
func TestState_Verify_refusesFiguresThatAreNoAmounts(t *testing.T) {
	t.Parallel()
	for _, path := range paths(reflect.TypeFor[credit.Record]()) {
		r := newBook(t).do(addNimbus)
		field := reflect.ValueOf(&r).Elem()
		for _, p := range path {
			field = field.FieldByName(p)
		}
		if field.Type() == reflect.TypeFor[decimal.Decimal]() {
			set(field, decimal.New(1, 20_000_000))
			assert.EqualError(t, verify([]credit.Record{r}), "credit: corrupt ledger: record 1: "+
				"amount: has more than 12 digits before or 6 after the point; round it explicitly first", path)
		}
	}
}

func TestState_Verify_leavesTheStateAsItWas(t *testing.T) {
	t.Parallel()
	log := story(t).log
	for i := range log {
		s, untouched := credit.NewState(acme), credit.NewState(acme)
		for _, r := range log[:i] {
			require.NoError(t, s.Verify(r))
			untouched.Apply(r)
		}
		forged := log[i]
		forged.Pool.Granted = forged.Pool.Granted.Add(amt("1"))
		require.Error(t, s.Verify(forged))
		forged.Hash = forged.ChainHash(s.Head().Hash)
		require.Error(t, s.Verify(forged))
		assert.Equal(t, untouched, s)
		assert.NoError(t, s.Verify(log[i]), "after a refusal the true record still fits")
	}
	forged := log[0]
	forged.Hash = credit.Hash{1}
	assert.EqualError(t, verify([]credit.Record{forged}), fmt.Sprintf(
		"credit: corrupt ledger: record 1: its hash is %s, its content and the record before it give %s", forged.Hash, log[0].Hash))
}
