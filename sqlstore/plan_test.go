package sqlstore

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // the driver of the tests

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// Every statement of the port finds its rows by an index, in the order of the
// answer: no scan of a table, nothing sorted afterwards, whatever statistics the
// database has.
func TestEveryStatementUsesAnIndex(t *testing.T) {
	t.Parallel()
	db, err := sqlx.Open("sqlite", SQLiteDSN(filepath.Join(t.TempDir(), "credit.db")))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	s, err := New(db, SQLite)
	require.NoError(t, err)
	ctx := t.Context()
	require.NoError(t, s.Migrate(ctx))

	// A ledger with some contents, through all that an append does.
	d := credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}
	_, err = s.Create(ctx, d)
	require.NoError(t, err)
	state := credit.NewState(d)
	write := func(n int, command func(i int) credit.Command) store.Batch {
		expected := state.Head()
		var b store.Batch
		for i := range n {
			r, err := state.Execute(command(i), credit.Stamp{Time: time.UnixMicro(int64(i)), RecordID: uuid.New(), ResellerID: uuid.New()})
			require.NoError(t, err)
			b.Records = append(b.Records, r.Record)
			if reseller := r.ResellerID; r.Kind == credit.KindAdd {
				added, _ := state.Reseller(reseller)
				b.Added = append(b.Added, added)
			} else {
				changed, _ := state.Reseller(reseller)
				b.Changed = append(b.Changed, changed)
			}
		}
		require.NoError(t, s.Append(ctx, d.ID, expected, b))
		return b
	}
	resellers := write(70, func(i int) credit.Command {
		return credit.NewReseller{Name: "Nimbus", ExternalID: fmt.Sprint(i), Key: fmt.Sprint(i), BoundAt: time.UnixMicro(int64(i % 7))}
	}).Added
	for range 3 {
		write(70, func(i int) credit.Command {
			return credit.Usage{ResellerID: resellers[i].ID, Amount: credit.FromMillionths(1)}
		})
	}
	require.ErrorIs(t, s.Append(ctx, uuid.New(), credit.Head{}, store.Batch{Records: []credit.Record{{}}}), store.ErrNoLedger)

	// Every form of every query.
	for _, n := range []int{1, 8, 64, 70} {
		var asked credit.ReadSet
		for i := range n {
			asked.Resellers = append(asked.Resellers, resellers[i].ID)
			asked.ExternalIDs, asked.Keys = append(asked.ExternalIDs, fmt.Sprint(i)), append(asked.Keys, fmt.Sprint(i))
		}
		found, err := s.Load(ctx, d.ID, asked)
		require.NoError(t, err)
		require.Len(t, found.Records, n)
	}
	statuses := []credit.Status{credit.StatusActive, credit.StatusFrozen, credit.StatusClosed}
	for n := 1; n <= len(statuses); n++ {
		for _, oldest := range []bool{false, true} {
			for _, after := range []store.ResellerPosition{{}, {BoundAt: time.UnixMicro(3).UTC(), ID: resellers[3].ID}} {
				_, err := s.Resellers(ctx, d.ID, credit.ResellerQuery{Statuses: statuses[:n], Order: map[bool]credit.Order{true: credit.OrderOldest, false: credit.OrderNewest}[oldest], Limit: 10}, after)
				require.NoError(t, err)
			}
		}
	}
	for n := 0; n <= len(credit.Kinds()); n++ {
		for _, newest := range []bool{false, true} {
			for _, reseller := range []uuid.UUID{uuid.Nil, resellers[0].ID} {
				_, err := s.Records(ctx, d.ID, credit.RecordQuery{ResellerID: reseller, Kinds: credit.Kinds()[:n], NewestFirst: newest, After: 5, Limit: 10})
				require.NoError(t, err)
			}
		}
	}

	require.Greater(t, len(s.statements.known), 30, "all statements have been seen")
	for _, statistics := range []string{"none", "ANALYZE"} {
		if statistics == "ANALYZE" {
			db.MustExec(statistics)
			db.SetMaxIdleConns(0) // which makes every connection read them
		}
		for key, statement := range s.statements.known {
			requireIndexed(t, db, key, statement.text, statistics)
		}
	}
}

// The columns by which each sort of statement finds its rows.
var searched = map[string]string{
	"move the head":                                "(id=?)",
	"look for the ledger":                          "(id=?)",
	"read the head":                                "(id=?)",
	"change a reseller":                            "(ledger=? AND id=?)",
	"read resellers":                               "(ledger=? AND id=?)",
	"read resellers by external id":                "(ledger=? AND external_id=?)",
	"look for taken keys":                          "(ledger=? AND idempotency_key=?)",
	"read the records of keys":                     "(ledger=? AND idempotency_key=?) (ledger=? AND sequence=?)",
	"list resellers":                               "(ledger=?)",
	"list resellers, oldest first":                 "(ledger=?)",
	"list resellers from a position":               "(ledger=? AND (bound_at,id)<(?,?))",
	"list resellers from a position, oldest first": "(ledger=? AND (bound_at,id)>(?,?))",
	"list records":                                 "(ledger=? AND sequence>? AND sequence<?)",
	"list records of a reseller":                   "(ledger=? AND reseller=? AND sequence>? AND sequence<?)",
}

func requireIndexed(t *testing.T, db *sqlx.DB, key statementKey, text, statistics string) {
	t.Helper()
	name := strings.NewReplacer(" of some kinds", "", ", newest first", "").Replace(key.name)
	if strings.HasPrefix(text, "INSERT") {
		return
	}
	var steps []struct {
		ID, Parent, Notused int
		Detail              string
	}
	require.NoError(t, db.Select(&steps, "EXPLAIN QUERY PLAN "+text, make([]any, strings.Count(text, "?"))...), text)
	var by []string
	for _, step := range steps {
		assert.Regexp(t, `^SEARCH \w+ USING (PRIMARY KEY|INDEX|COVERING INDEX) `, step.Detail, "statistics: %s\n%s", statistics, text)
		by = append(by, step.Detail[max(0, strings.Index(step.Detail, "(")):])
	}
	assert.Equal(t, searched[name], strings.Join(by, " "), "%s, %d values, statistics: %s\n%s", key.name, key.size, statistics, text)
}
