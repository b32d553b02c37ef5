package archive_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/archive"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

var acme = credit.Distributor{ID: uuid.UUID{6: 0x40, 8: 0x80, 15: 1}, Name: "Acme <Cloud> & Söhne", Currency: "USD"}

// texts are what a careless writer or reader of lines changes.
var texts = []string{"", "", "", "ops@example.com", "späte Gebühr", "=1+1", `"quoted", \escaped`, "two\nlines\r\n", "\u2028\u2029", "<script>&", "\x01\x1f\x7f", "𝄞", "\ufeff\ufffd"}

// source makes times, ids and commands that are the same in every run.
type source struct {
	*rand.Rand
	now       time.Time
	resellers []uuid.UUID
	keys      int
}

func newSource(seed uint64) *source {
	return &source{Rand: rand.New(rand.NewPCG(seed, 1)), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

func (s *source) id() (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:], s.Uint64())
	binary.BigEndian.PutUint64(id[8:], s.Uint64())
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

func (s *source) stamp() credit.Stamp {
	s.now = s.now.Add(time.Duration(s.IntN(3)) * time.Microsecond)
	return credit.Stamp{Time: s.now, RecordID: s.id(), ResellerID: s.id()}
}

func (s *source) options() store.Options {
	return store.Options{Now: func() time.Time { return s.stamp().Time }, NewID: s.id, Memory: store.NewMemory(1000)}
}

func (s *source) text() string { return texts[s.IntN(len(texts))] }

// command is any command; a rule may refuse it.
func (s *source) command() credit.Command {
	amount := credit.FromMillionths(1 + s.Int64N(200_000_000))
	var id uuid.UUID
	if len(s.resellers) > 0 {
		id = s.resellers[s.IntN(len(s.resellers))]
	}
	key, meta, at := "", map[string]string(nil), time.Time{}
	if s.IntN(2) == 0 {
		s.keys++
		key = fmt.Sprintf("key %d%s", s.keys, s.text())
	}
	if s.IntN(5) == 0 {
		meta = map[string]string{"b": s.text(), "a" + s.text(): "1"}
	}
	if s.IntN(4) == 0 {
		at = time.Unix(s.Int64N(2_000_000_000), s.Int64N(1_000_000_000))
	}
	switch s.IntN(16) {
	case 0, 1:
		return credit.Grant{Amount: amount.Mul(decimal.NewFromInt(10)), Operator: s.text(), Remark: s.text(), Key: key, Metadata: meta, OccurredAt: at}
	case 2:
		return credit.Withdrawal{Amount: amount, Corrects: s.Int64N(3), Reference: s.text()}
	case 3, 4:
		return credit.NewReseller{ExternalID: fmt.Sprintf("%s%d", s.text(), s.Uint32()), Name: "N" + s.text(), Email: s.text(), Mobile: s.text(),
			ResellerRemark: s.text(), Customers: s.IntN(9), BoundAt: at, Key: key, Metadata: meta}
	case 5:
		return credit.ProfileUpdate{ResellerID: id, Name: new("U" + s.text()), Email: new(s.text()), Key: key}
	case 6:
		return credit.Freeze{ResellerID: id, Operator: s.text()}
	case 7:
		return credit.Unfreeze{ResellerID: id, Remark: s.text(), OccurredAt: at}
	case 8:
		return credit.Close{ResellerID: id, Key: key}
	case 9:
		return credit.RepossessAll{ResellerID: id, Key: key}
	case 10:
		return credit.Allocation{ResellerID: id, Amount: amount.Neg(), Key: key}
	case 11:
		return credit.Settlement{ResellerID: id, Amount: amount, Metadata: meta}
	case 12:
		return credit.Correction{ResellerID: id, Amount: amount, Customer: s.text(), Corrects: s.Int64N(9)}
	case 13:
		return credit.Usage{ResellerID: id, Amount: amount, Customer: s.text(), Key: key, OccurredAt: at, Metadata: meta}
	}
	return credit.Allocation{ResellerID: id, Amount: amount, Operator: s.text(), Key: key, Metadata: meta}
}

// fill brings a ledger to n records.
func (s *source) fill(t testing.TB, l *store.Ledger, n int64) {
	t.Helper()
	for {
		head, err := l.Head(t.Context())
		require.NoError(t, err)
		if head.Sequence >= n {
			return
		}
		commands := make([]credit.Command, 1+s.Int64N(min(n-head.Sequence, 500)))
		for i := range commands {
			commands[i] = s.command()
		}
		outcomes, err := l.Bulk(t.Context(), commands, credit.BulkOptions{})
		require.NoError(t, err)
		for _, o := range outcomes {
			if o.Err == nil && o.Receipt.Kind == credit.KindAdd {
				s.resellers = append(s.resellers, o.Receipt.ResellerID)
			}
		}
	}
}

// filled is a ledger of n random records.
func filled(t testing.TB, seed uint64, n int64) *store.Ledger {
	t.Helper()
	s := newSource(seed)
	l := openLedger(t, memstore.New(), acme, s.options())
	s.fill(t, l, n)
	return l
}

func openLedger(t testing.TB, s store.Store, d credit.Distributor, o store.Options) *store.Ledger {
	t.Helper()
	l, err := store.Open(t.Context(), s, d, o)
	require.NoError(t, err)
	return l
}

func newSQLite(t testing.TB) store.Store {
	t.Helper()
	db, err := sqlx.Open("sqlite", sqlstore.SQLiteDSN(filepath.Join(t.TempDir(), "credit.db")))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	s, err := sqlstore.New(db, sqlstore.SQLite)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	return s
}

// exported is the export of a ledger.
func exported(t testing.TB, l credit.Ledger) string {
	t.Helper()
	var out strings.Builder
	s, err := archive.Write(t.Context(), l, &out)
	require.NoError(t, err)
	head, err := l.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, head, s.Head)
	return out.String()
}

// lines are the lines of an export, each with its end.
func lines(export string) []string { return strings.SplitAfter(strings.TrimSuffix(export, "\n"), "\n") }

// everyone lists all resellers of a ledger.
func everyone(t testing.TB, l credit.Ledger) (all []credit.Reseller) {
	t.Helper()
	q := credit.ResellerQuery{Statuses: []credit.Status{credit.StatusActive, credit.StatusFrozen, credit.StatusClosed}, Limit: credit.MaxPageSize}
	for {
		page, err := l.Resellers(t.Context(), q)
		require.NoError(t, err)
		all = append(all, page.Items...)
		if q.Cursor = page.Next; q.Cursor == "" {
			return all
		}
	}
}

// invented is a ledger that makes its records while they are read, in order, so
// that it takes no more memory for a million than for one. It begins with a grant
// and its resellers; everything after that is an allocation or a usage with a key.
type invented struct {
	credit.Ledger
	count, resellers int64
	source           *source
	state            *credit.State
	head             credit.Head
	profiles         []credit.Reseller
}

func invent(t testing.TB, records, resellers int64) *invented {
	t.Helper()
	l := &invented{count: records, resellers: resellers}
	l.rewind()
	for l.state.Head().Sequence < records {
		l.next()
	}
	l.head = l.state.Head()
	for _, id := range l.source.resellers {
		r, _ := l.state.Reseller(id)
		r.Name, r.Email = "Reseller "+r.ExternalID, "mail@example.com"
		l.profiles = append(l.profiles, r)
	}
	slices.SortFunc(l.profiles, func(a, b credit.Reseller) int {
		return cmp.Or(a.BoundAt.Compare(b.BoundAt), bytes.Compare(a.ID[:], b.ID[:]))
	})
	l.rewind()
	return l
}

func (l *invented) rewind() { l.source, l.state = newSource(1), credit.NewState(acme) }

func (l *invented) next() credit.Record {
	s, n := l.source, l.state.Head().Sequence
	var c credit.Command
	switch {
	case n == 0:
		c = credit.Grant{Amount: decimal.New(1, 11)}
	case n <= l.resellers:
		c = credit.NewReseller{ExternalID: fmt.Sprintf("2000%08d", n), Name: "Reseller"}
	case n%3 == 0:
		c = credit.Usage{ResellerID: s.resellers[n%l.resellers], Amount: decimal.New(n%1000+1, -2), Customer: "customer", Key: fmt.Sprintf("bill-%d", n)}
	default:
		c = credit.Allocation{ResellerID: s.resellers[n%l.resellers], Amount: decimal.New(n%1000+1, -2), Operator: "ops@example.com", Key: fmt.Sprintf("po-%d", n)}
	}
	// As the engine does, and without remembering the key.
	r, err := credit.Decide(credit.LoadState(credit.ReadSetOf(c), l.snapshot(c)), c, s.stamp())
	if err != nil {
		panic(err)
	}
	l.state.Apply(r.Record)
	if r.Kind == credit.KindAdd {
		s.resellers = append(s.resellers, r.ResellerID)
	}
	return r.Record
}

func (l *invented) snapshot(c credit.Command) credit.Snapshot {
	found := credit.Snapshot{Head: l.state.Head()}
	for _, id := range credit.ReadSetOf(c).Resellers {
		if r, ok := l.state.Reseller(id); ok {
			found.Resellers = append(found.Resellers, r)
		}
	}
	return found
}

func (l *invented) Distributor() credit.Distributor { return acme }

func (l *invented) Head(context.Context) (credit.Head, error) { return l.head, nil }

func (l *invented) Resellers(_ context.Context, q credit.ResellerQuery) (page credit.Page[credit.Reseller], _ error) {
	var from int
	_, _ = fmt.Sscan(string(q.Cursor), &from)
	to := min(from+q.Limit, len(l.profiles))
	page.Items = slices.Clone(l.profiles[from:to])
	if to < len(l.profiles) {
		page.Next = credit.Cursor(fmt.Sprint(to))
	}
	return page, nil
}

func (l *invented) Records(_ context.Context, q credit.RecordQuery) (page credit.Page[credit.Record], _ error) {
	if q.After == l.head.Sequence {
		return page, nil
	}
	if q.After == 0 {
		l.rewind()
	}
	for range min(int64(q.Limit), l.count-q.After) {
		page.Items = append(page.Items, l.next())
	}
	return page, nil
}

// writeTo exports an invented ledger.
func (l *invented) writeTo(t testing.TB, w io.Writer) archive.Summary {
	t.Helper()
	s, err := archive.Write(t.Context(), l, w)
	require.NoError(t, err)
	return s
}
