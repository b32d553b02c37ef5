// Package sqltamper changes the tables of a ledger past the library, one thing at a
// time, and expects store.Ledger.Check to find it: every column of every table, in
// every row; rows removed, added and swapped; the tail of the log cut off. The columns
// come from the database itself, and each must have a declared expectation, so
// that a new one cannot be forgotten.
//
// Every change is made in a transaction that is rolled back, and checked inside it.
// Constraints and triggers are out of the way: who tampers removes them first.
package sqltamper

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// Target is a database with the tables of package sqlstore, whose names begin with
// credit_ and in which nothing else is of value: its constraints are removed.
type Target struct {
	// Dialect is sqlite, postgres or mysql.
	Dialect string
	// DB is the database, and Store a store in it.
	DB    *sql.DB
	Store store.Store
	// Within returns a store inside a transaction.
	Within func(*sql.Tx) store.Store
}

// expectation says what becomes of a column that is changed.
type expectation string

const (
	// found: Check names it.
	found expectation = "found"
	// lost: there is no such ledger any more.
	lost expectation = "the ledger is not found"
	// uncovered: it is in no record, and Check passes.
	uncovered expectation = "not covered"
	// generated: the database computes it from other columns.
	generated expectation = "generated"
)

// expectations are those of the columns of all dialects.
var expectations = map[string]expectation{
	"ledgers.id":          lost,
	"ledgers.name":        uncovered, // no record holds it
	"ledgers.currency":    found,
	"ledgers.sequence":    found,
	"ledgers.hash":        found,
	"ledgers.recorded_at": found,
	"ledgers.granted":     found,
	"ledgers.allocated":   found,

	"resellers.ledger":      found,
	"resellers.id":          found,
	"resellers.external_id": found,
	"resellers.status":      found,
	"resellers.allocated":   found,
	"resellers.used":        found,
	"resellers.available":   generated,
	// The profile and what is made of it, for searching: personal data is in no record.
	"resellers.name":          uncovered,
	"resellers.email":         uncovered,
	"resellers.mobile":        uncovered,
	"resellers.remark":        uncovered,
	"resellers.customers":     uncovered,
	"resellers.bound_at":      uncovered,
	"resellers.name_folded":   uncovered,
	"resellers.mobile_folded": uncovered,
	"resellers.remark_folded": uncovered,
	"ledgers.confirmed":       uncovered, // counts flushes
	"resellers.last_sequence": uncovered, // makes the server count a changed row

	"balances.ledger":    found,
	"balances.id":        found,
	"balances.status":    uncovered, // the reseller's, again, for an index; a listing by available uses it
	"balances.allocated": found,
	"balances.used":      found,
	"balances.available": generated,

	"records.ledger":           found,
	"records.sequence":         found,
	"records.id":               found,
	"records.kind":             found,
	"records.reseller":         found,
	"records.external_id":      found,
	"records.amount":           found,
	"records.allocated_before": found,
	"records.used_before":      found,
	"records.allocated_after":  found,
	"records.used_after":       found,
	"records.pool_granted":     found,
	"records.pool_allocated":   found,
	"records.operator":         found,
	"records.remark":           found,
	"records.idempotency_key":  found,
	"records.fingerprint":      found,
	"records.reference":        found,
	"records.customer":         found,
	"records.corrects":         found,
	"records.metadata":         found,
	"records.changed":          found,
	"records.occurred_at":      found,
	"records.recorded_at":      found,
	"records.hash":             found,
	"records.taken_key":        generated,

	"keys.ledger":          found,
	"keys.idempotency_key": found,
	"keys.sequence":        found,
}

// Run tampers.
func Run(t *testing.T, target Target) {
	t.Helper()
	s := &suite{Target: target}
	s.fill(t)
	s.columns(t)
	s.unguard(t)
	t.Run("a ledger that nobody touched is sound", func(t *testing.T) {
		s.within(t, func(*sql.Tx) {}, func(err error) { require.NoError(t, err) })
	})
	t.Run("columns", s.everyColumn)
	t.Run("rows", s.rows)
	t.Run("a tail that was cut off shows against a head that was kept", s.tail)
}

// suite is a run.
type suite struct {
	Target
	distributor credit.Distributor
	other       uuid.UUID // another ledger, without records
	log         []credit.Record
	resellers   []uuid.UUID
	keys        []string
	tables      []string
	of          map[string][]column
}

// column is one of a table, without the prefix.
type column struct {
	table, name, kind string
	generated         bool
}

func (c column) String() string { return c.table + "." + c.name }

// fill makes a ledger with records of every kind, and every field in some.
func (s *suite) fill(t *testing.T) {
	ctx := t.Context()
	s.distributor = credit.Distributor{ID: uuid.New(), Name: "Tampered", Currency: "USD"}
	l, err := store.Open(ctx, s.Store, s.distributor, store.Options{})
	require.NoError(t, err)
	s.other = uuid.New()
	_, err = store.Open(ctx, s.Store, credit.Distributor{ID: s.other, Name: "Other", Currency: "USD"}, store.Options{})
	require.NoError(t, err)
	units := func(n int64) decimal.Decimal { return decimal.NewFromInt(n) }
	bulk := func(commands ...credit.Command) {
		outcomes, err := l.Bulk(ctx, commands, credit.BulkOptions{})
		require.NoError(t, err)
		for _, o := range outcomes {
			require.NoError(t, o.Err)
			s.log = append(s.log, o.Receipt.Record)
			if o.Receipt.Kind == credit.KindAdd {
				s.resellers = append(s.resellers, o.Receipt.ResellerID)
			}
			if o.Receipt.Key != "" {
				s.keys = append(s.keys, o.Receipt.Key)
			}
		}
	}
	bulk(credit.Grant{Amount: units(1000), Key: "grant", Operator: "channel", Remark: "first", Reference: "contract", Metadata: map[string]string{"a": "b"},
		OccurredAt: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)},
		credit.NewReseller{ExternalID: "2001", Name: "Nimbus", Email: "n@example.com", Mobile: "1", ResellerRemark: "r", Customers: 3, Key: "add"},
		credit.NewReseller{ExternalID: "2002", Name: "Cirrus"})
	n, c := s.resellers[0], s.resellers[1]
	bulk(credit.Withdrawal{Amount: units(1)},
		credit.Allocation{ResellerID: n, Amount: units(100), Key: "po-1", Operator: "ops"}, credit.Allocation{ResellerID: c, Amount: units(7)},
		credit.Usage{ResellerID: n, Amount: units(30), Customer: "customer", Key: "bill"},
		credit.Correction{ResellerID: n, Amount: units(10), Corrects: 7, Customer: "customer"}, credit.Settlement{ResellerID: n, Amount: units(5)},
		credit.ProfileUpdate{ResellerID: n, Name: new("New"), Customers: new(4)}, credit.Repossession{ResellerID: n, Amount: units(3)},
		credit.Freeze{ResellerID: c}, credit.Freeze{ResellerID: n}, credit.Unfreeze{ResellerID: n},
		credit.RepossessAll{ResellerID: n}, credit.Close{ResellerID: n}, credit.Grant{Amount: units(7)})
}

// catalog asks each database what tables and columns it has: table, column, type,
// whether it is generated.
var catalog = map[string]string{
	"sqlite": `SELECT m.name, c.name, c.type, c.hidden <> 0 FROM sqlite_master m JOIN pragma_table_xinfo(m.name) c
		WHERE m.type = 'table' AND m.name LIKE 'credit!_%' ESCAPE '!' ORDER BY m.name, c.cid`,
	"postgres": `SELECT c.table_name, c.column_name, c.data_type, c.is_generated = 'ALWAYS' FROM information_schema.columns c
		JOIN information_schema.tables t USING (table_schema, table_name)
		WHERE t.table_type = 'BASE TABLE' AND c.table_schema = current_schema() AND c.table_name LIKE 'credit!_%' ESCAPE '!' ORDER BY c.table_name, c.ordinal_position`,
	"mysql": `SELECT c.table_name, c.column_name, c.data_type, c.extra LIKE '%GENERATED%' FROM information_schema.columns c
		JOIN information_schema.tables t USING (table_schema, table_name)
		WHERE t.table_type = 'BASE TABLE' AND c.table_schema = DATABASE() AND c.table_name LIKE 'credit!_%' ESCAPE '!' ORDER BY c.table_name, c.ordinal_position`,
}

// columns reads them, and fails for one about which nothing was decided.
func (s *suite) columns(t *testing.T) {
	rows, err := s.DB.QueryContext(t.Context(), catalog[s.Dialect])
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	s.of = map[string][]column{}
	for rows.Next() {
		var c column
		require.NoError(t, rows.Scan(&c.table, &c.name, &c.kind, &c.generated))
		c.table = strings.TrimPrefix(c.table, "credit_")
		if c.table == "schema" {
			continue // which migrations were applied
		}
		want, declared := expectations[c.String()]
		assert.True(t, declared, "column %s: whether Check finds a change of it was not decided", c)
		assert.Equal(t, want == generated, c.generated, "column %s", c)
		if s.of[c.table] == nil {
			s.tables = append(s.tables, c.table)
		}
		s.of[c.table] = append(s.of[c.table], c)
	}
	require.NoError(t, rows.Err())
	require.GreaterOrEqual(t, len(s.tables), 3, "the catalog shows the tables")
	require.False(t, t.Failed())
}

// unguard removes what would be in the way, as far as that cannot be done inside a
// transaction.
func (s *suite) unguard(t *testing.T) {
	list := map[string]string{
		"sqlite": `SELECT 'DROP TRIGGER ' || name FROM sqlite_master WHERE type = 'trigger'`,
		"postgres": `SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) FROM pg_constraint
			WHERE contype = 'c' AND connamespace = current_schema()::regnamespace
			UNION ALL SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass) FROM pg_trigger t JOIN pg_class r ON r.oid = t.tgrelid
			WHERE NOT tgisinternal AND r.relnamespace = current_schema()::regnamespace`,
		"mysql": `SELECT CONCAT('DROP TRIGGER ', trigger_name) FROM information_schema.triggers WHERE trigger_schema = DATABASE()`,
	}
	rows, err := s.DB.QueryContext(t.Context(), list[s.Dialect])
	require.NoError(t, err)
	var statements []string
	for rows.Next() {
		var statement string
		require.NoError(t, rows.Scan(&statement))
		statements = append(statements, statement)
	}
	require.NoError(t, rows.Err())
	require.NoError(t, rows.Close())
	for _, statement := range statements {
		_, err := s.DB.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
}

// freely are the statements after which a transaction may write what it likes.
var freely = map[string][]string{
	"sqlite": {"PRAGMA ignore_check_constraints = 1", "PRAGMA defer_foreign_keys = 1"},
	"mysql":  {"SET foreign_key_checks = 0", "SET check_constraint_checks = 0"},
}

// within tampers in a transaction, has the ledger checked there, as somebody who
// opens it then, and rolls back.
func (s *suite) within(t *testing.T, tamper func(*sql.Tx), judge func(error)) {
	t.Helper()
	s.withinAfter(t, credit.Head{}, tamper, judge)
}

func (s *suite) withinAfter(t *testing.T, after credit.Head, tamper func(*sql.Tx), judge func(error)) {
	t.Helper()
	tx, err := s.DB.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	for _, statement := range freely[s.Dialect] {
		_, err := tx.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
	tamper(tx)
	judge(check(t.Context(), s.Within(tx), s.distributor.ID, after))
}

func check(ctx context.Context, inside store.Store, id uuid.UUID, after credit.Head) error {
	if _, err := inside.Load(ctx, id, credit.ReadSet{}); err != nil {
		return err
	}
	d, err := inside.Create(ctx, credit.Distributor{ID: id, Name: "there already", Currency: "XXX"})
	if err != nil {
		return err
	}
	l, err := store.Open(ctx, inside, d, store.Options{})
	if err != nil {
		return err
	}
	_, err = l.On(inside).CheckWith(ctx, store.CheckOptions{After: after})
	return err
}

// id is how the dialect takes an id.
func (s *suite) id(id uuid.UUID) any {
	if s.Dialect == "postgres" {
		return id.String()
	}
	return id[:]
}

// mark is the n-th argument of a statement.
func (s *suite) mark(n int) string {
	if s.Dialect == "postgres" {
		return fmt.Sprintf("$%d", n)
	}
	return "?"
}

// exec runs a statement on tables of the suite, whose names and columns are
// constants or the catalog's, and returns how many rows it changed.
func (s *suite) exec(t *testing.T, tx *sql.Tx, statement string, args ...any) int64 {
	t.Helper()
	for n := range args {
		statement = strings.Replace(statement, "{}", s.mark(n+1), 1)
	}
	result, err := tx.ExecContext(t.Context(), statement, args...)
	require.NoError(t, err, statement)
	changed, err := result.RowsAffected()
	require.NoError(t, err)
	return changed
}

// row is which one, as a condition after that on the ledger, and its argument.
type row struct {
	condition string
	arg       any
}

// rowsOf are the ledger's rows in a table.
func (s *suite) rowsOf(table string) (rows []row) {
	switch table {
	case "ledgers":
		return []row{{"1 = {}", 1}}
	case "resellers", "balances":
		for _, id := range s.resellers {
			rows = append(rows, row{"id = {}", s.id(id)})
		}
	case "records":
		for _, r := range s.log {
			rows = append(rows, row{"sequence = {}", r.Sequence})
		}
	case "keys":
		for _, key := range s.keys {
			rows = append(rows, row{"idempotency_key = {}", key})
		}
	}
	return rows
}

// owner is the column that says whose a row is.
func owner(table string) string {
	if table == "ledgers" {
		return "id"
	}
	return "ledger"
}

// everyColumn changes each column in each row.
func (s *suite) everyColumn(t *testing.T) {
	for _, table := range s.tables {
		rows := s.rowsOf(table)
		require.NotEmpty(t, rows, "table %s: which rows are the ledger's was not decided", table)
		for _, c := range s.of[table] {
			want := expectations[c.String()]
			if want == generated {
				continue
			}
			t.Run(c.String()+": "+string(want), func(t *testing.T) {
				for _, r := range rows {
					value, args := s.another(c)
					s.within(t, func(tx *sql.Tx) {
						statement := fmt.Sprintf("UPDATE credit_%s SET %s = %s WHERE %s = {} AND %s", table, c.name, value, owner(table), r.condition)
						require.EqualValues(t, 1, s.exec(t, tx, statement, append(args, s.id(s.distributor.ID), r.arg)...), "%s of the row with %v is changed", c, r)
					}, func(err error) { requireExpected(t, want, err, "%s of the row with %v was changed", c, r) })
				}
			})
		}
	}
}

func requireExpected(t *testing.T, want expectation, err error, format string, args ...any) {
	t.Helper()
	what := fmt.Sprintf(format, args...)
	switch want {
	case found:
		require.ErrorIs(t, err, credit.ErrCorrupt, what)
	case lost:
		require.ErrorIs(t, err, store.ErrNoLedger, what)
	default:
		require.NoError(t, err, "%s, which is declared as not covered", what)
	}
}

// another is an expression for another value of a column, and its arguments.
func (s *suite) another(c column) (expression string, args []any) {
	json := func(v string) string {
		if s.Dialect == "postgres" {
			return "CAST('" + v + "' AS jsonb)"
		}
		return "'" + v + "'"
	}
	switch c.String() {
	case "records.metadata":
		return json(`{"x": "y"}`), nil
	case "records.changed":
		return json(`["email"]`), nil
	case "records.kind":
		return "CASE kind WHEN 'usage' THEN 'allocate' ELSE 'usage' END", nil
	case "ledgers.currency":
		return "'EUR'", nil
	case "resellers.status", "balances.status":
		return "CASE status WHEN 'active' THEN 'frozen' ELSE 'active' END", nil
	case "resellers.ledger", "balances.ledger", "records.ledger", "keys.ledger":
		return "{}", []any{s.id(s.other)}
	case "records.hash", "records.fingerprint", "ledgers.hash":
		return "{}", []any{slices.Repeat([]byte{7}, 32)}
	case "records.sequence", "keys.sequence", "ledgers.sequence":
		return c.name + " + 100", nil // one that is free
	}
	switch kind := strings.ToLower(c.kind); kind {
	case "integer", "bigint":
		return c.name + " + 1", nil
	case "text", "varchar", "varbinary":
		return fmt.Sprintf("CONCAT(%s, 'x')", c.name), nil
	default: // an id
		return "{}", []any{s.id(uuid.New())}
	}
}

// rows removes, adds and swaps rows.
func (s *suite) rows(t *testing.T) {
	for _, table := range []string{"records", "resellers", "balances", "keys"} {
		if s.of[table] == nil {
			continue
		}
		t.Run("one is removed from "+table, func(t *testing.T) {
			for _, r := range s.rowsOf(table) {
				s.within(t, func(tx *sql.Tx) {
					require.EqualValues(t, 1, s.exec(t, tx, fmt.Sprintf("DELETE FROM credit_%s WHERE ledger = {} AND %s", table, r.condition), s.id(s.distributor.ID), r.arg))
				}, func(err error) { requireExpected(t, found, err, "the row of %s with %v was removed", table, r) })
			}
		})
	}
	t.Run("a record is added after the last", func(t *testing.T) {
		for _, distance := range []int{1, 50} {
			s.within(t, func(tx *sql.Tx) {
				s.copyRow(t, tx, "records", row{"sequence = {}", len(s.log)}, map[string]any{"sequence": fmt.Sprintf("sequence + %d", distance)})
			}, func(err error) { requireExpected(t, found, err, "a record was added") })
		}
	})
	t.Run("a reseller is added", func(t *testing.T) {
		s.within(t, func(tx *sql.Tx) {
			id := uuid.New()
			s.copyRow(t, tx, "resellers", row{"id = {}", s.id(s.resellers[1])}, map[string]any{"id": id, "external_id": "'3000'"})
			if s.of["balances"] != nil {
				s.copyRow(t, tx, "balances", row{"id = {}", s.id(s.resellers[1])}, map[string]any{"id": id})
			}
		}, func(err error) { requireExpected(t, found, err, "a reseller was added") })
	})
	if s.of["keys"] != nil {
		t.Run("a key is added that no record has: not covered", func(t *testing.T) {
			s.within(t, func(tx *sql.Tx) {
				s.copyRow(t, tx, "keys", row{"idempotency_key = {}", "po-1"}, map[string]any{"idempotency_key": "'stray'"})
			}, func(err error) { requireExpected(t, uncovered, err, "a key was added") })
		})
	}
	t.Run("two records change places", func(t *testing.T) {
		for n := range len(s.log) - 1 {
			s.within(t, func(tx *sql.Tx) {
				for _, move := range [][2]int{{n + 1, n + 1000}, {n + 2, n + 1}, {n + 1000, n + 2}} {
					require.EqualValues(t, 1, s.exec(t, tx, "UPDATE credit_records SET sequence = {} WHERE ledger = {} AND sequence = {}", move[1], s.id(s.distributor.ID), move[0]))
				}
			}, func(err error) { requireExpected(t, found, err, "records %d and %d changed places", n+1, n+2) })
		}
	})
}

// copyRow copies a row, with other values of some columns: an id or an expression.
func (s *suite) copyRow(t *testing.T, tx *sql.Tx, table string, r row, other map[string]any) {
	t.Helper()
	var names, values []string
	var args []any
	for _, c := range s.of[table] {
		if c.generated {
			continue
		}
		names = append(names, c.name)
		switch v := other[c.name].(type) {
		case uuid.UUID:
			mark := "{}"
			if s.Dialect == "postgres" {
				mark = "CAST({} AS uuid)"
			}
			values, args = append(values, mark), append(args, s.id(v))
		case string:
			values = append(values, v)
		default:
			values = append(values, c.name)
		}
	}
	statement := fmt.Sprintf("INSERT INTO credit_%s (%s) SELECT %s FROM credit_%s WHERE ledger = {} AND %s",
		table, strings.Join(names, ", "), strings.Join(values, ", "), table, r.condition)
	require.EqualValues(t, 1, s.exec(t, tx, statement, append(args, s.id(s.distributor.ID), r.arg)...))
}

// tail cuts off the last record, a grant, and makes everything else fit.
func (s *suite) tail(t *testing.T) {
	end, before := s.log[len(s.log)-1], s.log[len(s.log)-2]
	for after, want := range map[credit.Head]expectation{{}: uncovered, before.Head(): uncovered, end.Head(): found} {
		s.withinAfter(t, after, func(tx *sql.Tx) {
			s.exec(t, tx, "DELETE FROM credit_records WHERE ledger = {} AND sequence = {}", s.id(s.distributor.ID), end.Sequence)
			granted, err := credit.Millionths(before.Pool.Granted)
			require.NoError(t, err)
			require.EqualValues(t, 1, s.exec(t, tx, "UPDATE credit_ledgers SET sequence = {}, hash = {}, recorded_at = {}, granted = {} WHERE id = {}",
				before.Sequence, before.Hash[:], before.RecordedAt.UnixMicro(), granted, s.id(s.distributor.ID)))
		}, func(err error) {
			if want == found {
				var corrupt *credit.CorruptError
				require.ErrorAs(t, err, &corrupt, "a tail was cut off, and nobody noticed")
				assert.Equal(t, end.Sequence, corrupt.Sequence)
				return
			}
			requireExpected(t, want, err, "the tail was cut off, checked after record %d", after.Sequence)
		})
	}
}
