package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// Neighbours are ledgers in one store whose owners must learn nothing of each
// other. Two ledgers that are the same are asked the same, one with what exists in
// a neighbour's ledger and one with what exists nowhere: the answers must not
// differ, errors to the letter.

// named is what a caller can name: something of a ledger, or of none.
type named struct {
	Ledger, Reseller, Record                             uuid.UUID
	External, Key                                        string
	Name, Email, Mobile, Remark                          string
	Operator, Reason, Reference, Customer, Label, Detail string // Reason is a record's remark, Label and Detail are metadata
	Sequence                                             int64
	Head                                                 credit.Head
	RecordCursor, ResellerCursor                         credit.Cursor
}

// names makes things up; the word is in every text, so that none exists twice.
func names(word string, rng *rand.Rand, sequence int64) named {
	n := named{Ledger: random(rng), Reseller: random(rng), Record: random(rng), Sequence: sequence}
	for of, f := range reflect.ValueOf(&n).Elem().Fields() {
		if f.Kind() == reflect.String {
			f.SetString(word + " " + strings.ToLower(of.Name))
		}
	}
	return n
}

// anonymous is a text without what the caller named, without hashes, which cover
// the ledger's id, and without the id of the ledger itself.
func (n named) anonymous(text string, self uuid.UUID) string {
	text = hashes.ReplaceAllString(text, "HASH")
	text = strings.ReplaceAll(text, self.String(), "SELF")
	text = regexp.MustCompile(fmt.Sprintf(`\b%d\b`, n.Sequence)).ReplaceAllString(text, "SEQUENCE")
	for _, f := range reflect.ValueOf(n).Fields() {
		if given, ok := reflect.TypeAssert[fmt.Stringer](f); ok {
			text = strings.ReplaceAll(text, given.String(), "GIVEN")
		} else if given := f.String(); f.Kind() == reflect.String && given != "" {
			text = strings.ReplaceAll(text, given, "GIVEN")
		}
	}
	return text
}

var hashes = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

// asker asks a ledger about what was named, and notes the answers.
type asker struct {
	named

	t       *testing.T
	ctx     context.Context //nolint:containedctx // that of one case
	store   store.Store
	ledger  *store.Ledger
	own     uuid.UUID // a reseller of the ledger
	answers []string
}

// tell notes an answer.
func (a *asker) tell(v any, err error) {
	a.t.Helper()
	text := "nothing"
	if v != nil && err == nil {
		body, failed := json.Marshal(v)
		require.NoError(a.t, failed)
		text = string(body)
	}
	if err != nil {
		text = fmt.Sprintf("%s: %v", credit.Code(err), err)
	}
	a.answers = append(a.answers, a.anonymous(text, a.ledger.Distributor().ID))
}

func (a *asker) id() uuid.UUID { return a.ledger.Distributor().ID }

// neighbourOptions make two ledgers that are asked the same answer with the same
// ids and times. They share what engines remember.
func neighbourOptions(m *store.Memory) store.Options {
	ids, now := rand.New(rand.NewPCG(1, 2)), time.Date(2024, 5, 17, 12, 0, 0, 0, time.UTC) //nolint:gosec // the same every time
	return store.Options{Memory: m, NewID: func() uuid.UUID { return random(ids) }, Now: func() time.Time { return now }}
}

// neighbour opens a ledger with everything in it that can be named.
func neighbour(t *testing.T, s store.Store, m *store.Memory, n *named) *store.Ledger {
	t.Helper()
	ctx := t.Context()
	l, err := store.Open(ctx, s, credit.Distributor{ID: n.Ledger, Name: n.Name, Currency: "EUR"}, store.Options{Memory: m})
	require.NoError(t, err)
	added, err := l.AddReseller(ctx, credit.NewReseller{ExternalID: n.External, Name: n.Name, Email: n.Email, Mobile: n.Mobile, ResellerRemark: n.Remark})
	require.NoError(t, err)
	n.Reseller = added.ResellerID
	_, err = l.AddReseller(ctx, credit.NewReseller{ExternalID: "another " + n.External, Name: "another " + n.Name})
	require.NoError(t, err)
	commands := []credit.Command{credit.Grant{Amount: units(5000)}, credit.Allocation{ResellerID: n.Reseller, Amount: units(700)}}
	for range n.Sequence {
		commands = append(commands, credit.Grant{Amount: units(1)})
	}
	commands = commands[:n.Sequence-3]
	_, err = l.Bulk(ctx, commands, credit.BulkOptions{})
	require.NoError(t, err)
	last, err := l.RecordUsage(ctx, credit.Usage{ResellerID: n.Reseller, Amount: units(900), Customer: n.Customer, Key: n.Key, Operator: n.Operator, Remark: n.Reason,
		Reference: n.Reference, Metadata: map[string]string{n.Label: n.Detail}})
	require.NoError(t, err)
	require.Equal(t, n.Sequence, last.Sequence)
	n.Record, n.Head = last.ID, last.Head()
	n.cursors(t, l)
	return l
}

// cursors takes the cursors of listings that the ledger has more than a page of.
func (n *named) cursors(t *testing.T, l *store.Ledger) {
	t.Helper()
	records, err := l.Records(t.Context(), credit.RecordQuery{Limit: 1})
	require.NoError(t, err)
	resellers, err := l.Resellers(t.Context(), credit.ResellerQuery{Order: credit.OrderName, Limit: 1})
	require.NoError(t, err)
	n.RecordCursor, n.ResellerCursor = records.Next, resellers.Next
	require.NotEmpty(t, n.RecordCursor)
	require.NotEmpty(t, n.ResellerCursor)
}

// allOf is all that can be read of a ledger.
func allOf(t *testing.T, s store.Store, ledger uuid.UUID) string {
	t.Helper()
	found, err := s.Load(t.Context(), ledger, credit.ReadSet{})
	require.NoError(t, err)
	records, err := s.Records(t.Context(), ledger, credit.RecordQuery{Limit: credit.MaxPageSize})
	require.NoError(t, err)
	resellers, err := s.Resellers(t.Context(), ledger, credit.ResellerQuery{Statuses: everyStatus(), Order: credit.OrderName, Limit: credit.MaxPageSize}, store.ResellerPosition{})
	require.NoError(t, err)
	text, err := json.Marshal([]any{found, records, resellers})
	require.NoError(t, err)
	return string(text)
}

// The sequences that are named. Both are beyond the end of the ledgers that are
// asked.
const (
	neighbourSequence = 137
	nowhereSequence   = 919
)

// estate is a store with a neighbour's ledger in it.
type estate struct {
	store          store.Store
	rng            *rand.Rand
	memory         *store.Memory
	there, nowhere named
}

func (h Harness) estate(t *testing.T) *estate {
	t.Helper()
	rng := h.source(t)
	e := &estate{store: h.Open(t), rng: rng, memory: store.NewMemory(1000), there: names("canary", rng, neighbourSequence), nowhere: names("nobody", rng, nowhereSequence)}
	e.nowhere.Head = credit.Head{Sequence: nowhereSequence, Hash: credit.Hash{1}, RecordedAt: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), Pool: credit.Pool{Granted: units(5000), Allocated: units(700)}}
	neighbour(t, e.store, e.memory, &e.there)
	gone := e.nowhere // whose cursors are good ones of a ledger that is in another store
	neighbour(t, h.Open(t), e.memory, &gone)
	e.nowhere.RecordCursor, e.nowhere.ResellerCursor = gone.RecordCursor, gone.ResellerCursor
	return e
}

// requireIgnorant asks two ledgers that are the same. Inside is a way to ask
// through another store.
func (e *estate) requireIgnorant(t *testing.T, ask func(*asker), inside func(store.Store, func(store.Store))) {
	t.Helper()
	before := allOf(t, e.store, e.there.Ledger)
	var answers [2][]string
	for i, n := range []named{e.there, e.nowhere} {
		l, err := store.Open(t.Context(), e.store, credit.Distributor{ID: random(e.rng), Name: "Mine", Currency: "USD"}, neighbourOptions(e.memory))
		require.NoError(t, err)
		_, err = l.Grant(t.Context(), credit.Grant{Amount: units(1000)})
		require.NoError(t, err)
		added, err := l.AddReseller(t.Context(), credit.NewReseller{ExternalID: "mine", Name: "Mine", Email: "mine@example.com"})
		require.NoError(t, err)
		_, err = l.Allocate(t.Context(), credit.Allocation{ResellerID: added.ResellerID, Amount: units(100), Key: "mine"})
		require.NoError(t, err)
		a := &asker{named: n, t: t, ctx: t.Context(), own: added.ResellerID}
		inside(e.store, func(on store.Store) {
			a.store, a.ledger = on, l
			if on != e.store {
				a.ledger = l.On(on)
			}
			ask(a)
		})
		answers[i] = a.answers
		_, err = l.Check(t.Context())
		require.NoError(t, err, "the ledger that was asked is in order")
	}
	require.NotEmpty(t, answers[0], "the case asks nothing")
	require.Equal(t, answers[1], answers[0], "an answer tells what exists in another ledger, or its error is another one than for what exists nowhere")
	require.NotContains(t, strings.Join(answers[0], "\n"), "canary", "an answer holds what only another ledger has")
	require.Equal(t, before, allOf(t, e.store, e.there.Ledger), "another ledger was changed")
}

// methodsOf are the names of the methods of the types.
func methodsOf(types ...reflect.Type) map[string]bool {
	all := map[string]bool{}
	for _, of := range types {
		for method := range of.Methods() {
			all[method.Name] = true
		}
	}
	return all
}

// neighbours are the clauses of all methods, each way that there is to ask.
func neighbours(sort string, types []reflect.Type, cases map[string]func(*asker)) []clause {
	all := func(h Harness, t *testing.T, inside func(store.Store, func(store.Store))) {
		e := h.estate(t)
		for _, name := range slices.Sorted(maps.Keys(cases)) {
			t.Run(name, func(t *testing.T) { e.requireIgnorant(t, cases[name], inside) })
		}
	}
	return []clause{
		{"none of " + sort + " is left out", func(_ Harness, t *testing.T) {
			asked := map[string]bool{}
			for name := range cases {
				asked[name] = true
			}
			require.Equal(t, methodsOf(types...), asked, "a method that is never asked about another ledger, or a case of no method")
		}},
		{"to " + sort + " another ledger is as if it were not there", func(h Harness, t *testing.T) {
			all(h, t, func(s store.Store, f func(store.Store)) { f(s) })
		}},
		{"to " + sort + " in a transaction of the caller's as well", func(h Harness, t *testing.T) {
			if h.Inside == nil {
				t.Skip("capability not declared: Harness.Inside is nil, so what is seen in a caller's transaction was NOT checked")
			}
			all(h, t, func(s store.Store, f func(store.Store)) { h.Inside(t, s, f) })
		}},
	}
}

var neighbourClauses = append(
	neighbours("a ledger's methods", []reflect.Type{reflect.TypeFor[*store.Ledger](), reflect.TypeFor[credit.Ledger]()}, ledgerCases),
	neighbours("the methods of the port", []reflect.Type{reflect.TypeFor[store.Store](), reflect.TypeFor[store.Holder](), reflect.TypeFor[store.Confirmer](), reflect.TypeFor[store.Immediate]()}, portCases)...)

// ledgerCases ask each method of a ledger about what was named.
var ledgerCases = map[string]func(*asker){
	"Distributor": func(a *asker) { a.tell(a.ledger.Distributor(), nil) },
	"Grant": func(a *asker) {
		for _, c := range []credit.Grant{{Key: a.Key, Operator: a.Operator, Remark: a.Reason, Reference: a.Reference, Metadata: map[string]string{a.Label: a.Detail}}, {Corrects: a.Sequence}} {
			c.Amount = units(900)
			a.tell(a.ledger.Grant(a.ctx, c))
		}
	},
	"Withdraw": func(a *asker) {
		for _, c := range []credit.Withdrawal{{Amount: units(1), Key: a.Key}, {Amount: units(1), Corrects: a.Sequence}, {Amount: units(1000)}} {
			a.tell(a.ledger.Withdraw(a.ctx, c))
		}
	},
	"AddReseller": func(a *asker) {
		for _, c := range []credit.NewReseller{
			{ExternalID: a.External, Name: a.Name, Email: a.Email, Mobile: a.Mobile, ResellerRemark: a.Remark, Key: a.Key},
			{ExternalID: a.External, Name: "again"}, {ExternalID: "new", Name: "N", Corrects: a.Sequence}} {
			a.tell(a.ledger.AddReseller(a.ctx, c))
		}
	},
	"UpdateReseller": func(a *asker) {
		for _, c := range []credit.ProfileUpdate{{ResellerID: a.Reseller}, {ResellerID: a.own, Email: &a.Email, Mobile: &a.Mobile, Key: a.Key}, {ResellerID: a.own, Corrects: a.Sequence}, {ResellerID: a.Record}} {
			c.Name = &a.Name
			a.tell(a.ledger.UpdateReseller(a.ctx, c))
		}
	},
	"FreezeReseller": func(a *asker) {
		for _, c := range []credit.Freeze{{ResellerID: a.Reseller}, {ResellerID: a.own, Corrects: a.Sequence}, {ResellerID: a.own, Key: a.Key}} {
			a.tell(a.ledger.FreezeReseller(a.ctx, c))
		}
	},
	"UnfreezeReseller": func(a *asker) {
		for _, c := range []credit.Unfreeze{{ResellerID: a.Reseller}, {ResellerID: a.Reseller, Key: a.Key}, {ResellerID: a.own, Key: a.Key}} {
			a.tell(a.ledger.UnfreezeReseller(a.ctx, c))
		}
	},
	"CloseReseller": func(a *asker) {
		for _, c := range []credit.Close{{ResellerID: a.Reseller}, {ResellerID: a.Reseller, Key: a.Key}, {ResellerID: a.own, Key: a.Key}} {
			a.tell(a.ledger.CloseReseller(a.ctx, c))
		}
	},
	"Allocate": func(a *asker) {
		for _, c := range []credit.Allocation{{ResellerID: a.Reseller, Amount: units(1)}, {ResellerID: a.Reseller, Amount: units(-1)}, {ResellerID: a.own, Amount: units(1), Corrects: a.Sequence},
			{ResellerID: a.own, Amount: units(1), Key: a.Key}, {ResellerID: a.own, Amount: units(2), Key: a.Key}, {ResellerID: a.own, Amount: units(900)}} {
			a.tell(a.ledger.Allocate(a.ctx, c))
		}
	},
	"Repossess": func(a *asker) {
		for _, c := range []credit.Repossession{{ResellerID: a.Reseller}, {ResellerID: a.own, Key: a.Key}, {ResellerID: a.own, Corrects: a.Sequence}} {
			c.Amount = units(1)
			a.tell(a.ledger.Repossess(a.ctx, c))
		}
	},
	"RepossessAll": func(a *asker) {
		for _, c := range []credit.RepossessAll{{ResellerID: a.Reseller}, {ResellerID: a.own, Key: a.Key}, {ResellerID: a.own}} {
			a.tell(a.ledger.RepossessAll(a.ctx, c))
		}
	},
	"RecordUsage": func(a *asker) {
		for _, c := range []credit.Usage{{ResellerID: a.Reseller, Key: a.Key}, {ResellerID: a.own, Customer: a.Customer, Operator: a.Operator, Remark: a.Reason, Key: a.Key,
			Reference: a.Reference, Metadata: map[string]string{a.Label: a.Detail}}, {ResellerID: a.own, Corrects: a.Sequence}} {
			c.Amount = units(900)
			a.tell(a.ledger.RecordUsage(a.ctx, c))
		}
	},
	"CorrectUsage": func(a *asker) {
		for _, c := range []credit.Correction{{ResellerID: a.Reseller}, {ResellerID: a.own, Customer: a.Customer, Key: a.Key}, {ResellerID: a.own, Corrects: a.Sequence}} {
			c.Amount = units(1)
			a.tell(a.ledger.CorrectUsage(a.ctx, c))
		}
	},
	"Settle": func(a *asker) {
		for _, c := range []credit.Settlement{{ResellerID: a.Reseller}, {ResellerID: a.own, Key: a.Key}} {
			c.Amount = units(1)
			a.tell(a.ledger.Settle(a.ctx, c))
		}
	},
	"Bulk": func(a *asker) {
		for _, o := range []credit.BulkOptions{{DryRun: true}, {DryRun: true, AllOrNothing: true}, {AllOrNothing: true}, {}} {
			a.tell(a.ledger.Bulk(a.ctx, []credit.Command{
				credit.Grant{Amount: units(1), Key: a.Key},
				credit.NewReseller{ExternalID: a.External, Name: a.Name},
				credit.Usage{ResellerID: a.Reseller, Amount: units(1)},
				credit.Usage{ResellerID: a.own, Amount: units(1), Corrects: a.Sequence},
				credit.Usage{ResellerID: a.own, Amount: units(1), Key: a.Key},
			}, o))
		}
	},
	"Pool": func(a *asker) { a.tell(a.ledger.Pool(a.ctx)) },
	"Head": func(a *asker) { a.tell(a.ledger.Head(a.ctx)) },
	"Reseller": func(a *asker) {
		for _, id := range []uuid.UUID{a.Reseller, a.Record, a.own} {
			a.tell(a.ledger.Reseller(a.ctx, id))
		}
	},
	"Resellers": func(a *asker) {
		for _, q := range []credit.ResellerQuery{{}, {Name: a.Name}, {Mobile: a.Mobile}, {Remark: a.Remark}, {Email: a.Email}, {ExternalID: a.External}, {MaxAvailable: new(units(0))},
			{Low: threshold("0%")}, credit.Overdrawn(), {Order: credit.OrderName, Limit: 1, Cursor: a.ResellerCursor}, {Cursor: a.RecordCursor},
			{AsOf: credit.AsOf{Sequence: a.Sequence}}, {AsOf: credit.AsOf{Sequence: 3}, Name: a.Name}} {
			q.Total = q.AsOf.IsZero()
			a.tell(a.ledger.Resellers(a.ctx, q))
		}
	},
	"Records": func(a *asker) {
		for _, q := range []credit.RecordQuery{{}, {ResellerID: a.Reseller}, {ResellerID: a.Record}, {Key: a.Key}, {Operator: a.Operator}, {Reference: a.Reference}, {Customer: a.Customer},
			{After: a.Sequence - 1}, {Before: a.Sequence + 1, After: a.Sequence - 1}, {NewestFirst: true}, {Limit: 1, Cursor: a.RecordCursor}, {Cursor: a.ResellerCursor},
			{RecordedFrom: time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC)}, {Kinds: []credit.Kind{credit.KindUsage}}} {
			a.tell(a.ledger.Records(a.ctx, q))
		}
	},
	"HeadAsOf": func(a *asker) {
		for _, at := range []credit.AsOf{{Sequence: a.Sequence}, {Sequence: 2}, {Time: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}, {Time: time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC)}} {
			a.tell(a.ledger.HeadAsOf(a.ctx, at))
		}
	},
	"ResellerAsOf": func(a *asker) {
		for _, id := range []uuid.UUID{a.Reseller, a.own} {
			for _, at := range []credit.AsOf{{}, {Sequence: 1}, {Sequence: 3}, {Sequence: a.Sequence}, {Time: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}} {
				a.tell(a.ledger.ResellerAsOf(a.ctx, id, at))
			}
		}
	},
	"On": func(a *asker) {
		on := a.ledger.On(a.store)
		a.tell(on.Distributor(), nil)
		a.tell(on.Reseller(a.ctx, a.Reseller))
		a.tell(on.RecordUsage(a.ctx, credit.Usage{ResellerID: a.Reseller, Amount: units(1), Key: a.Key}))
		a.tell(on.Grant(a.ctx, credit.Grant{Amount: units(1), Key: a.Key}))
	},
	"Check": func(a *asker) { a.tell(a.ledger.Check(a.ctx)) },
	"CheckWith": func(a *asker) {
		a.tell(a.ledger.CheckWith(a.ctx, store.CheckOptions{}))
		a.tell(a.ledger.CheckWith(a.ctx, store.CheckOptions{After: a.Head}))
	},
	"Follow": func(a *asker) {
		for _, after := range []int64{0, a.Sequence} {
			ctx, stop := context.WithCancel(a.ctx)
			seen := 0
			for change, err := range a.ledger.Follow(ctx, after, store.FollowOptions{}) {
				a.tell(change, err)
				if seen++; seen == 3 { // all that there is
					stop()
				}
			}
			stop()
		}
	},
}

// portCases ask each method of the port about what was named.
var portCases = map[string]func(*asker){
	"Create": func(a *asker) {
		// What is named by the ledger's own id is the ledger; its other fields are no names.
		a.tell(a.store.Create(a.ctx, credit.Distributor{ID: a.id(), Name: a.Name, Currency: "EUR"}))
	},
	"Load": func(a *asker) {
		for _, asked := range []credit.ReadSet{{Resellers: []uuid.UUID{a.Reseller}}, {ExternalIDs: []string{a.External}}, {Keys: []string{a.Key}},
			{Resellers: []uuid.UUID{a.own, a.Reseller}, ExternalIDs: []string{"mine", a.External}, Keys: []string{"mine", a.Key}}} {
			a.tell(a.store.Load(a.ctx, a.id(), asked))
		}
	},
	"Append": func(a *asker) {
		found, err := a.store.Load(a.ctx, a.id(), credit.ReadSet{Resellers: []uuid.UUID{a.own}})
		require.NoError(a.t, err)
		b := blankBook(newRand(1, 2), a.ledger.Distributor())
		b.head = found.Head
		// What a store says of its own accord is not for another ledger's owner to read
		// anything from, either.
		batch := b.draft(credit.Grant{Amount: units(1), Key: a.Key})
		a.tell(nil, a.store.Append(a.ctx, a.id(), a.Head, copyOf(batch)))
		batch = b.draft(credit.NewReseller{ExternalID: a.External, Name: a.Name, Email: a.Email, Key: a.Key, Operator: a.Operator, Reference: a.Reference})
		batch.Records[0].ID, batch.Records[0].ResellerID, batch.Added[0].ID = a.Record, a.Reseller, a.Reseller
		batch.Records[0].Hash = batch.Records[0].ChainHash(b.head.Hash)
		a.tell(nil, a.store.Append(a.ctx, a.id(), b.head, copyOf(batch)))
		b.enter(batch)
		a.tell(a.store.Load(a.ctx, a.id(), credit.ReadSet{Resellers: []uuid.UUID{a.Reseller}, ExternalIDs: []string{a.External}, Keys: []string{a.Key}}))
	},
	"Resellers": func(a *asker) {
		for _, q := range []credit.ResellerQuery{{}, {Name: a.Name}, {Mobile: a.Mobile}, {Remark: a.Remark}, {Email: a.Email}, {ExternalID: a.External}, {Low: threshold("0%")}} {
			q.Statuses, q.Limit = everyStatus(), 10
			for _, order := range credit.Orders() {
				q.Order = order
				a.tell(a.store.Resellers(a.ctx, a.id(), q, store.ResellerPosition{}))
				a.tell(a.store.Resellers(a.ctx, a.id(), q, store.PositionOf(credit.Reseller{ID: a.Reseller, Profile: credit.Profile{Name: "a"}, BoundAt: time.UnixMicro(1).UTC()}, order)))
			}
		}
	},
	"CountResellers": func(a *asker) {
		for _, q := range []credit.ResellerQuery{{}, {Name: a.Name}, {Mobile: a.Mobile}, {Remark: a.Remark}, {Email: a.Email}, {ExternalID: a.External}, {Low: threshold("0%")}} {
			q.Statuses, q.Order, q.Limit = everyStatus(), credit.OrderNewest, 10
			a.tell(a.store.CountResellers(a.ctx, a.id(), q))
		}
	},
	"Records": func(a *asker) {
		for _, q := range []credit.RecordQuery{{}, {ResellerID: a.Reseller}, {Key: a.Key}, {Operator: a.Operator}, {Reference: a.Reference}, {Customer: a.Customer}, {Kinds: []credit.Kind{credit.KindUsage}},
			{After: a.Sequence - 1}, {After: a.Sequence - 1, Before: a.Sequence + 1}, {NewestFirst: true}, {OccurredFrom: time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC)}} {
			q.Limit = 10
			a.tell(a.store.Records(a.ctx, a.id(), q))
		}
	},
	"Latest": func(a *asker) {
		for _, until := range []int64{2, a.Sequence} {
			a.tell(a.store.Latest(a.ctx, a.id(), []uuid.UUID{a.Reseller, a.own}, nil, until))
			a.tell(a.store.Latest(a.ctx, a.id(), []uuid.UUID{a.Reseller}, []credit.Kind{credit.KindUsage}, until))
		}
	},
	"Hold": func(a *asker) {
		holder, ok := a.store.(store.Holder)
		if !ok || holder.Holder() != a.store {
			a.tell("cannot be held", nil)
			return
		}
		a.tell(nil, holder.Hold(a.ctx, a.id(), func(inside store.Store) error {
			a.tell(inside.Load(a.ctx, a.id(), credit.ReadSet{Resellers: []uuid.UUID{a.Reseller}, ExternalIDs: []string{a.External}, Keys: []string{a.Key}}))
			return nil
		}))
	},
	"Holder": func(a *asker) {
		holder, ok := a.store.(store.Holder)
		a.tell(ok && holder.Holder() == a.store, nil)
	},
	"Confirm": func(a *asker) {
		c, ok := a.store.(store.Confirmer)
		if !ok {
			a.tell("needs no confirmation", nil)
			return
		}
		a.tell("confirmed", c.Confirm(a.ctx, a.id()))
	},
	"Immediate": func(a *asker) {
		immediate, ok := a.store.(store.Immediate)
		a.tell(ok && immediate.Immediate() == a.store, nil)
	},
}
