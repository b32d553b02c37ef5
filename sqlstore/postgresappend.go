package sqlstore

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// append writes the batch with one statement that commits by itself.
//
// The connection is taken beforehand, so that a failure to get one is certain,
// and so that database/sql does not send the statement a second time when the
// driver answers driver.ErrBadConn: lib/pq does so also for a connection that
// broke after the statement was sent.
func (d postgres) append(ctx context.Context, s *Store, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
	what := func(err error) error { return fmt.Errorf("append to ledger %s: %w", ledger, err) }
	text, args, err := d.appendStatement(s, ledger, expected, b)
	if err != nil {
		return s.certain(ctx, what(err))
	}
	if s.tx != nil {
		if err := d.compareAndAppend(ctx, s.tx, text, args); err != nil {
			return s.certain(ctx, what(err))
		}
		return nil
	}
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return s.certain(ctx, what(err))
	}
	defer func() { _ = conn.Close() }() // back into the pool
	switch err = d.compareAndAppend(ctx, conn, text, args); {
	case err == nil && ctx.Err() != nil:
		// A commit that waits for a standby and is cancelled answers success,
		// although no standby has it.
		return s.explained(what(ctx.Err()))
	case err == nil, errors.Is(err, store.ErrMoved), errors.Is(err, store.ErrNoLedger):
		return err
	case d.settled(err):
		if d.class(err) == failed {
			return store.Reject(s.explained(what(err)))
		}
		return store.Retry(s.explained(what(err)))
	}
	return s.explained(what(err))
}

// settled tells whether the error is the server's word that it took the
// statement back. It is not, if nobody answered, and for those codes with which
// a server or a pooler ends a connection, maybe in the middle of a commit.
func (d postgres) settled(err error) bool { return sqlState(err) != "" && d.class(err) != temporary }

// compareAndAppend runs the statement to its end, because a commit comes after
// the answer.
func (postgres) compareAndAppend(ctx context.Context, on executor, text string, args []any) error {
	rows, err := on.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // the second time does nothing
	answer := 0
	for rows.Next() {
		if err := rows.Scan(&answer); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if err := rows.Close(); err != nil {
		return err
	}
	switch answer {
	case pgWritten:
		return nil
	case pgMoved:
		return store.ErrMoved
	case pgNoLedger:
		return store.ErrNoLedger
	}
	return errors.New("the statement gave no answer")
}

// What the statement answers.
const (
	pgWritten  = 1
	pgMoved    = 2
	pgNoLedger = 3
)

// appendStatement returns the statement that compares and appends.
//
// It waits for its turn. Then its first branch, head, locks the ledger's row if that
// is the expected one and no key is taken. A row that another append has locked is waited for, and then
// compared again as that one left it. Since no append changes anything without
// changing the head, a head that passes means that nothing of the ledger has
// changed since the statement's snapshot, in which the other branches look. Each
// of them joins head and so does nothing when head is empty: a branch runs
// whether or not the others found something.
//
// In the end the rows are counted. If there are not as many as were sent (a
// reseller is not there, a trigger drops a row) the last SELECT fails, on
// purpose, inside the statement, so that nothing of it stays. What fails is made
// of the counts; otherwise it would be evaluated when the statement is planned.
func (d postgres) appendStatement(s *Store, ledger uuid.UUID, expected credit.Head, b store.Batch) (text string, args []any, err error) {
	var m millionths
	head := b.Head()
	granted, allocated := m.of(head.Pool.Granted), m.of(head.Pool.Allocated)
	if m.err != nil {
		return "", nil, m.err
	}
	var keys pgArray
	taken := 0
	for i := range b.Records {
		if key := b.Records[i].Key; key != "" {
			taken++
			if err := keys.add(key); err != nil {
				return "", nil, err
			}
		}
	}

	var q pgStatement
	id := q.bind(ledger, "uuid")
	q.text("WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock(", q.bind(pgTurn(ledger), "bigint"), ")),",
		" head AS (UPDATE ", s.prefix, "ledgers SET sequence = ", q.bind(head.Sequence, "bigint"), ", hash = ", q.bind(head.Hash[:], "bytea"),
		", recorded_at = ", q.bind(head.RecordedAt.UnixMicro(), "bigint"),
		", granted = ", q.bind(granted, "bigint"), ", allocated = ", q.bind(allocated, "bigint"),
		" FROM turn WHERE id = ", id, " AND sequence = ", q.bind(expected.Sequence, "bigint"), " AND hash = ", q.bind(expected.Hash[:], "bytea"))
	if taken > 0 {
		q.text(" AND NOT EXISTS (SELECT FROM ", q.values(keys, "text", taken), " AS v CROSS JOIN ",
			pgLookup(s.prefix, "t", []string{"sequence"}, s.prefix+"keys", "ledger = "+id+" AND idempotency_key = v.value"), ")")
	}
	q.text(" RETURNING id)")
	counts := []pgCount{{"head", 1}} // of every branch

	// What is not sent has no branch.
	if n := len(b.Added); n > 0 {
		sent, err := q.rows(s.prefix+"reseller_row", writtenColumns, n, d.resellerValues(b.Added))
		if err != nil {
			return "", nil, err
		}
		q.text(", sent AS (SELECT head.id AS ledger, v.* FROM head CROSS JOIN ", sent, " AS v)",
			", added AS (INSERT INTO ", s.prefix, "resellers (", columnsText("", pgResellerColumns), ")",
			" SELECT ", columnsText("", pgResellerColumns), " FROM sent RETURNING 1)",
			", balanced AS (INSERT INTO ", s.prefix, "balances (", columnsText("", pgBalanceColumns), ")",
			" SELECT ", columnsText("", pgBalanceColumns), " FROM sent RETURNING 1)")
		counts = append(counts, pgCount{"added", n}, pgCount{"balanced", n})
	}
	if n := len(b.Moved); n > 0 {
		sent, err := q.rows(s.prefix+"balance_row", pgBalanceColumns, n, func(args []any, i int) ([]any, error) {
			return appendFigures(append(args, nil, d.id(b.Moved[i].ID), nil), &b.Moved[i]) // without a status
		})
		if err != nil {
			return "", nil, err
		}
		q.text(", moved AS ", d.change(s.prefix, "balances", pgBalanceColumns[3:], sent))
		counts = append(counts, pgCount{"moved", n})
	}
	if n := len(b.Changed); n > 0 {
		sent, err := q.rows(s.prefix+"reseller_row", writtenColumns, n, d.resellerValues(b.Changed))
		if err != nil {
			return "", nil, err
		}
		q.text(", rebalanced AS ", d.change(s.prefix, "balances", pgBalanceColumns[2:], sent),
			", changed AS ", d.change(s.prefix, "resellers", pgResellerColumns[fixedColumns:], sent))
		counts = append(counts, pgCount{"rebalanced", n}, pgCount{"changed", n})
	}
	sent, err := q.rows(s.prefix+"record_row", recordColumns, len(b.Records), func(args []any, i int) ([]any, error) {
		return appendRecord(args, d, nil, &b.Records[i])
	})
	if err != nil {
		return "", nil, err
	}
	q.text(", written AS (INSERT INTO ", s.prefix, "records (", columnsText("", recordColumns), ")",
		" SELECT head.id, ", columnsText("v", recordColumns[1:]), " FROM head CROSS JOIN ", sent, " AS v RETURNING ", columnsText("", keyColumns), ")")
	counts = append(counts, pgCount{"written", len(b.Records)})
	if taken > 0 {
		q.text(", taken AS (INSERT INTO ", s.prefix, "keys (", columnsText("", keyColumns), ")",
			" SELECT ", columnsText("", keyColumns), " FROM written WHERE idempotency_key <> '' RETURNING 1)")
		counts = append(counts, pgCount{"taken", taken})
	}

	var wanted, none pgArray
	var branches, counted []string
	for _, c := range counts {
		wanted.number(int64(c.rows))
		none.number(0)
		branches = append(branches, c.branch)
		counted = append(counted, "(SELECT count(*) FROM "+c.branch+")")
	}
	q.text(" SELECT CASE WHEN n = ", q.bind(wanted.String(), "bigint[]"), " THEN ", strconv.Itoa(pgWritten),
		" WHEN n = '", none.String(), "' THEN CASE WHEN EXISTS (SELECT FROM ", s.prefix, "ledgers WHERE id = ", id, ")",
		" THEN ", strconv.Itoa(pgMoved), " ELSE ", strconv.Itoa(pgNoLedger), " END",
		" ELSE CAST('", pgMiscount, strings.Join(branches, ", "), " ' || CAST(n AS text) AS integer) END",
		" FROM (SELECT ARRAY[", strings.Join(counted, ", "), "] AS n OFFSET 0) AS counted")
	return q.sql.String(), q.args, nil
}

// pgTurn is the number of the advisory lock with which those who are about to
// write to a ledger queue. The lock of its row is no queue: each append makes
// another version of the row, and whoever waits for the one before has to come in
// time for the next.
func pgTurn(ledger uuid.UUID) int64 {
	return int64(binary.BigEndian.Uint64(ledger[:8]) ^ binary.BigEndian.Uint64(ledger[8:]))
}

// change is a branch that changes columns of the rows that were sent.
func (postgres) change(prefix, table string, columns []string, sent string) string {
	set := make([]string, len(columns))
	for i, column := range columns {
		set[i] = column + " = v." + column
	}
	return "(UPDATE " + prefix + table + " AS r SET " + strings.Join(set, ", ") +
		" FROM head CROSS JOIN " + sent + " AS v CROSS JOIN " + pgLookup(prefix, "t", []string{"ctid"}, prefix+table, "ledger = head.id AND id = v.id") +
		" WHERE r.ctid = t.ctid RETURNING 1)"
}

func (d postgres) resellerValues(of []credit.Reseller) func(args []any, i int) ([]any, error) {
	return func(args []any, i int) ([]any, error) { return appendReseller(args, d, nil, &of[i]) }
}

// pgLookup is a source of rows that is joined to others: the one row that has a
// key of the table, found by an index.
//
// For a table that it takes to be small, because it was or because there are no
// statistics, the planner would rather read all of it, and such a plan stays in
// use while the table grows, because drivers keep prepared statements. OFFSET 0 is
// there so that it does not join the table in such a way, and by_index, which is
// true and said to be expensive, so that it looks at no more rows than it must.
func pgLookup(prefix, as string, columns []string, table, key string) string {
	return "LATERAL (SELECT " + columnsText("", columns) + " FROM " + table + " WHERE " + key + " AND " + prefix + "by_index(ledger) OFFSET 0) AS " + as
}

// pgMiscount begins the text of the failure that the statement makes when its
// rows are not as many as were sent.
const pgMiscount = "credit: not all rows were written: "

// pgCount is how many rows a branch of the statement must write.
type pgCount struct {
	branch string
	rows   int
}

// pgStatement is the text of a statement and its parameters, each written once
// and with its type, because not every mode of every driver lets the server
// guess it.
type pgStatement struct {
	sql  strings.Builder
	args []any
}

func (q *pgStatement) text(parts ...string) {
	for _, part := range parts {
		q.sql.WriteString(part)
	}
}

// bind adds a parameter and returns its place in the text.
func (q *pgStatement) bind(value any, as string) string {
	q.args = append(q.args, value)
	return "CAST($" + strconv.Itoa(len(q.args)) + " AS " + as + ")"
}

// rows binds rows of a composite type as one parameter, and returns the source of
// rows that it is. The first column, the ledger, is left out.
//
// Compared before choosing, for 1, 64 and 1,000 records: a parameter for each
// column takes the longest to parse and plan, json the longest to read.
func (q *pgStatement) rows(as string, columns []string, count int, values func(args []any, i int) ([]any, error)) (string, error) {
	var a pgArray
	var row []any
	var err error
	for i := range count {
		if row, err = values(row[:0], i); err != nil {
			return "", err
		}
		if err := a.addRow(row[1:]); err != nil {
			return "", fmt.Errorf("%s: %w", as, err)
		}
	}
	return q.elements(a, as, "", columns[1:], count), nil
}

// values binds values as one parameter and returns the source of rows that it is,
// with one column, value.
func (q *pgStatement) values(a pgArray, as string, count int) string {
	return q.elements(a, as, " AS a (value)", []string{"value"}, count)
}

// elements binds an array as one parameter and returns the source of rows, one
// for each element, that it is.
//
// The limit has no effect on them. But without it the planner expects ten; a plan
// that serves for any number of rows then looks worse than one for a single row,
// and the statement is planned anew each time, which takes longer than running it.
func (q *pgStatement) elements(a pgArray, as, alias string, columns []string, count int) string {
	return "(SELECT " + columnsText("", columns) + " FROM unnest(" + q.bind(a.String(), as+"[]") + ")" + alias +
		" LIMIT " + q.bind(int64(count), "bigint") + ")"
}

// pgArray is an array as PostgreSQL writes it: {1,NULL,"a text"}. Slices of Go
// are not understood by every driver in every mode, a text is.
type pgArray struct{ text []byte }

func (a *pgArray) String() string {
	if len(a.text) == 0 {
		return "{}"
	}
	return string(append(a.text, '}'))
}

func (a *pgArray) next() {
	if len(a.text) == 0 {
		a.text = append(a.text, '{')
	} else {
		a.text = append(a.text, ',')
	}
}

func (a *pgArray) number(n int64) {
	a.next()
	a.text = strconv.AppendInt(a.text, n, 10)
}

// add adds an id or a text.
func (a *pgArray) add(value any) error {
	a.next()
	return a.value(value, `"`, `\"`, `\\`)
}

// addRow adds a row, as PostgreSQL writes it in an array: "(1,,\"a text\")".
func (a *pgArray) addRow(values []any) error {
	a.next()
	a.text = append(a.text, '"', '(')
	for i, v := range values {
		if i > 0 {
			a.text = append(a.text, ',')
		}
		if v == nil {
			continue
		}
		// Once for the row, where a quote is doubled, and once for the array.
		if err := a.value(v, `\"`, `\"\"`, `\\\\`); err != nil {
			return err
		}
	}
	a.text = append(a.text, ')', '"')
	return nil
}

// value adds one value. Text is put between quotes, and in it a quote and a
// backslash are replaced.
func (a *pgArray) value(value any, quote, innerQuote, backslash string) error {
	switch v := value.(type) {
	case int64:
		a.text = strconv.AppendInt(a.text, v, 10)
	case uuid.UUID:
		a.text = hex.AppendEncode(a.text, v[:])
	case []byte:
		a.text = append(a.text, backslash...)
		a.text = append(a.text, 'x')
		a.text = hex.AppendEncode(a.text, v)
	case string:
		a.text = append(a.text, quote...)
		for {
			i := strings.IndexAny(v, `"\`)
			if i < 0 {
				break
			}
			a.text = append(a.text, v[:i]...)
			if v[i] == '"' {
				a.text = append(a.text, innerQuote...)
			} else {
				a.text = append(a.text, backslash...)
			}
			v = v[i+1:]
		}
		a.text = append(a.text, v...)
		a.text = append(a.text, quote...)
	default:
		return fmt.Errorf("a value of type %T", value)
	}
	return nil
}
