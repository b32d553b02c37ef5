package sqlstore

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"
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
		var records []credit.Record
		for i := range n {
			r, err := state.Execute(command(i), credit.Stamp{Time: time.UnixMicro(int64(i)), RecordID: uuid.New(), ResellerID: uuid.New()})
			require.NoError(t, err)
			records = append(records, r.Record)
		}
		b := store.BatchOf(records, state.Reseller)
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
	require.Greater(t, len(s.statements.known), 15, "all statements have been seen")
	for _, statistics := range []string{"none", "ANALYZE"} {
		if statistics == "ANALYZE" {
			db.MustExec(statistics)
			db.SetMaxIdleConns(0) // which makes every connection read them
		}
		for key, statement := range s.statements.known {
			requireIndexed(t, db, key, statement.text, statistics)
		}
		for _, l := range everyListing(t, s, d.ID, resellers[3]) {
			l.requireIndexed(t, db, statistics)
		}
	}
}

// The columns by which each sort of statement finds its rows.
var searched = map[string]string{
	"move the head":                 "(id=?)",
	"look for the ledger":           "(id=?)",
	"read the head":                 "(id=?)",
	"move a reseller":               "(ledger=? AND id=?)",
	"change a reseller":             "(ledger=? AND id=?)",
	"read resellers":                "(ledger=? AND id=?)",
	"read resellers by external id": "(ledger=? AND external_id=?)",
	"look for taken keys":           "(ledger=? AND idempotency_key=?)",
	"read the records of keys":      "(ledger=? AND idempotency_key=?) (ledger=? AND sequence=?)",
}

func requireIndexed(t *testing.T, db *sqlx.DB, key statementKey, text, statistics string) {
	t.Helper()
	if strings.HasPrefix(text, "INSERT") {
		return
	}
	var by []string
	for _, step := range planOf(t, db, text) {
		assert.Regexp(t, `^SEARCH \w+ USING (PRIMARY KEY|INDEX|COVERING INDEX) `, step, "statistics: %s\n%s", statistics, text)
		by = append(by, step[max(0, strings.Index(step, "(")):])
	}
	assert.Equal(t, searched[key.name], strings.Join(by, " "), "%s, %d values, statistics: %s\n%s", key.name, key.size, statistics, text)
}

// planOf returns the steps of a statement.
func planOf(t *testing.T, db *sqlx.DB, text string) []string {
	t.Helper()
	var steps []struct {
		ID, Parent, Notused int
		Detail              string
	}
	require.NoError(t, db.Select(&steps, "EXPLAIN QUERY PLAN "+text, make([]any, strings.Count(text, "?"))...), text)
	details := make([]string, len(steps))
	for i, step := range steps {
		details[i] = step.Detail
	}
	return details
}

// planned is a listing and how it is to be run.
type planned struct {
	*listing
	// by are the indexes that are searched, and by which columns.
	by []string
	// sorts is how often rows are sorted: keys of branches, each up to its limit, or
	// the few that one email address has.
	sorts int
}

// everyListing is every order, choice of statuses, position and filter.
func everyListing(t *testing.T, s *Store, ledger uuid.UUID, at credit.Reseller) []planned {
	t.Helper()
	var all []planned
	statuses := []credit.Status{credit.StatusActive, credit.StatusClosed, credit.StatusFrozen}
	low, err := credit.PercentThreshold(decimal.NewFromInt(25))
	require.NoError(t, err)
	for _, order := range credit.Orders() {
		column, index := orderOf(order).column, "INDEX credit_"+orderOf(order).index
		for _, after := range []store.ResellerPosition{{}, store.PositionOf(at, order)} {
			beyond := ""
			if after != (store.ResellerPosition{}) {
				beyond = " AND (" + column + ",id)" + map[bool]string{true: ">", false: "<"}[order.Ascending()] + "(?,?)"
			}
			for n := 1; n <= len(statuses); n++ {
				for _, q := range []credit.ResellerQuery{{}, {Name: "n", Mobile: "m", Remark: "r"}, {Low: &low}} {
					q.Statuses, q.Order = statuses[:n], order
					l, err := s.resellerPage(ledger, q, after)
					require.NoError(t, err)
					branches := planned{listing: l, by: slices.Repeat([]string{index + " (ledger=? AND status=?" + beyond + ")"}, n)}
					if n > 1 {
						branches.by, branches.sorts = append(branches.by, "PRIMARY KEY (ledger=? AND id=?)"), n
					}
					all = append(all, branches)
				}
				l, err := s.resellerPage(ledger, credit.ResellerQuery{Statuses: statuses[:n], Order: order, ExternalID: "x", Email: "e"}, after)
				require.NoError(t, err)
				all = append(all, planned{l, []string{"INDEX credit_resellers_external_id (ledger=? AND external_id=?)"}, 0})
				l, err = s.resellerPage(ledger, credit.ResellerQuery{Statuses: statuses[:n], Order: order, Email: "e"}, after)
				require.NoError(t, err)
				email := planned{l, []string{"INDEX credit_resellers_email (ledger=? AND email=?)"}, 1}
				if column == "bound_at" {
					email = planned{l, []string{"INDEX credit_resellers_email (ledger=? AND email=?" + beyond + ")"}, 0}
				}
				all = append(all, email)
			}
		}
		if order != credit.OrderAvailable && order != credit.OrderAvailableDown {
			continue
		}
		for _, q := range []credit.ResellerQuery{{MinAvailable: new(decimal.Zero)}, {MaxAvailable: new(decimal.Zero)}} {
			q.Statuses, q.Order = statuses[:1], order
			l, err := s.resellerPage(ledger, q, store.ResellerPosition{})
			require.NoError(t, err)
			by := map[bool]string{true: ">", false: "<"}[q.MinAvailable != nil]
			all = append(all, planned{l, []string{index + " (ledger=? AND status=? AND available" + by + "?)"}, 0})
		}
	}
	for _, c := range []struct {
		q  credit.ResellerQuery
		by string
	}{
		{credit.ResellerQuery{}, "COVERING INDEX credit_resellers_bound (ledger=? AND status=?)"},
		{credit.ResellerQuery{Email: "e"}, "INDEX credit_resellers_email (ledger=? AND email=?)"},
		{credit.ResellerQuery{ExternalID: "e"}, "INDEX credit_resellers_external_id (ledger=? AND external_id=?)"},
		{credit.ResellerQuery{MaxAvailable: new(decimal.Zero)}, "INDEX credit_resellers_available (ledger=? AND status=? AND available<?)"},
	} {
		c.q.Statuses = statuses
		l, err := s.resellerCount(ledger, c.q)
		require.NoError(t, err)
		all = append(all, planned{l, []string{c.by}, 0})
	}

	for _, newest := range []bool{false, true} {
		for _, before := range []int64{0, 9} {
			bounds := " AND sequence>?"
			if before > 0 {
				bounds += " AND sequence<?"
			}
			for _, c := range []struct {
				q     credit.RecordQuery
				index string
			}{
				{credit.RecordQuery{}, "PRIMARY KEY (ledger=?"},
				{credit.RecordQuery{ResellerID: at.ID}, "INDEX credit_records_reseller (ledger=? AND reseller=?"},
				{credit.RecordQuery{ResellerID: at.ID, Operator: "o", Kinds: credit.AllocationKinds()}, "INDEX credit_records_reseller (ledger=? AND reseller=?"},
				{credit.RecordQuery{Operator: "o", Kinds: credit.AllocationKinds()}, "INDEX credit_records_operator (ledger=? AND operator=?"},
				{credit.RecordQuery{Reference: "r", ResellerID: at.ID}, "INDEX credit_records_reference (ledger=? AND reference=?"},
				{credit.RecordQuery{Customer: "c", ResellerID: at.ID}, "INDEX credit_records_customer (ledger=? AND customer=?"},
				{credit.RecordQuery{Kinds: credit.Kinds()[:1]}, "INDEX credit_records_kind (ledger=? AND kind=?"},
				{credit.RecordQuery{OccurredFrom: time.UnixMicro(1)}, "PRIMARY KEY (ledger=?"},
			} {
				c.q.NewestFirst, c.q.Before = newest, before
				all = append(all, planned{s.recordPage(ledger, c.q), []string{c.index + bounds + ")"}, 0})
			}
			all = append(all, planned{s.recordPage(ledger, credit.RecordQuery{Key: "k", NewestFirst: newest, Before: before}),
				[]string{"PRIMARY KEY (ledger=? AND sequence=?)", "PRIMARY KEY (ledger=? AND idempotency_key=?)"}, 0})
			for n := 2; n <= len(credit.Kinds()); n++ {
				all = append(all, planned{s.recordPage(ledger, credit.RecordQuery{Kinds: credit.Kinds()[:n], NewestFirst: newest, Before: before}),
					append(slices.Repeat([]string{"COVERING INDEX credit_records_kind (ledger=? AND kind=?" + bounds + ")"}, n), "PRIMARY KEY (ledger=? AND sequence=?)"), n})
			}
		}
	}
	for _, size := range lookupSizes {
		for _, kinds := range [][]credit.Kind{nil, {credit.KindFreeze, credit.KindUnfreeze, credit.KindClose}} {
			all = append(all, planned{s.latest(ledger, []uuid.UUID{at.ID}, size, kinds, 9), []string{"PRIMARY KEY (ledger=? AND id=?)", "PRIMARY KEY (ledger=? AND sequence=?)",
				"COVERING INDEX credit_records_reseller (ledger=? AND reseller=? AND sequence<?)"}, 0})
		}
	}
	return all
}

func (p planned) requireIndexed(t *testing.T, db *sqlx.DB, statistics string) {
	t.Helper()
	text := p.text.String()
	var by []string
	sorts := 0
	for _, step := range planOf(t, db, text) {
		switch {
		case strings.HasPrefix(step, "SEARCH "):
			_, index, _ := strings.Cut(step, " USING ")
			if n := len(by); n < len(p.by) && !strings.HasPrefix(p.by[n], "COVERING ") {
				index = strings.TrimPrefix(index, "COVERING ") // even better
			}
			by = append(by, index)
		case strings.HasPrefix(step, "USE TEMP B-TREE"):
			sorts++
		default: // rows that were found before
			require.NotRegexp(t, `^SCAN (?:r|v|credit_\w+)\b`, step, "statistics: %s\n%s", statistics, text)
		}
	}
	require.Equal(t, p.by, by, "statistics: %s\n%s", statistics, text)
	require.LessOrEqual(t, sorts, p.sorts, "statistics: %s\n%s", statistics, text)
}
