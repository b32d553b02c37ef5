package sqlstore

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// executor is what a connection and a transaction have in common.
type pgExecutor interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

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
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return s.certain(ctx, what(d.advised(err)))
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
			return store.Reject(s.explained(what(d.advised(err))))
		}
		return store.Retry(s.explained(what(d.advised(err))))
	}
	return s.explained(what(d.advised(err)))
}

// settled tells whether the error is the server's word that it took the
// statement back. It is not, if nobody answered, and for those codes with which
// a server or a pooler ends a connection, maybe in the middle of a commit.
func (d postgres) settled(err error) bool { return sqlState(err) != "" && d.class(err) != temporary }

// compareAndAppend runs the statement to its end, because a commit comes after
// the answer.
func (postgres) compareAndAppend(ctx context.Context, on pgExecutor, text string, args []any) error {
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

// The types of keyColumns, resellerColumns and recordColumns.
var (
	pgKeyTypes = []string{"uuid", "text", "bigint"}

	pgResellerTypes = []string{"uuid", "uuid", "text", "bigint",
		"text", "text", "text", "text", "bigint", "text", "bigint", "bigint"}

	pgRecordTypes = []string{"uuid", "bigint", "uuid", "text", "uuid", "text", "bigint",
		"bigint", "bigint", "bigint", "bigint", "bigint", "bigint",
		"text", "text", "text", "bytea", "text", "text", "bigint", "jsonb", "jsonb",
		"bigint", "bigint", "bytea"}
)

// appendStatement returns the statement that compares and appends.
//
// Its first branch, head, locks the ledger's row if that is the expected one and
// no key is taken. A row that another append has locked is waited for, and then
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
	keyed := make([]*credit.Record, 0, len(b.Records))
	for i := range b.Records {
		if r := &b.Records[i]; r.Key != "" {
			keyed = append(keyed, r)
		}
	}

	var q pgStatement
	id := q.bind(ledger, "uuid")
	q.text("WITH head AS (UPDATE ", s.prefix, "ledgers SET sequence = ", q.bind(head.Sequence, "bigint"), ", hash = ", q.bind(head.Hash[:], "bytea"),
		", recorded_at = ", q.bind(head.RecordedAt.UnixMicro(), "bigint"),
		", granted = ", q.bind(granted, "bigint"), ", allocated = ", q.bind(allocated, "bigint"),
		" WHERE id = ", id, " AND sequence = ", q.bind(expected.Sequence, "bigint"), " AND hash = ", q.bind(expected.Hash[:], "bytea"))
	var keys pgTable
	if len(keyed) > 0 {
		if keys, err = q.table(keyColumns, pgKeyTypes, len(keyed), func(args []any, i int) ([]any, error) {
			return append(args, nil, keyed[i].Key, keyed[i].Sequence), nil
		}); err != nil {
			return "", nil, err
		}
		q.text(" AND NOT EXISTS (SELECT FROM ", s.prefix, "keys WHERE ledger = ", id, " AND idempotency_key = ANY (", keys.arrays[0], "))")
	}
	q.text(" RETURNING id)")

	// Every branch is counted; what is not sent has no branch.
	branches := []pgBranch{{"head", 1}}
	insert := func(branch, into string, columns []string, t pgTable, rows int) {
		branches = append(branches, pgBranch{branch, rows})
		q.text(", ", branch, " AS (INSERT INTO ", s.prefix, into, " (", strings.Join(columns, ", "), ")",
			" SELECT head.id, ", columnsText("v", columns[1:]), " FROM head CROSS JOIN ", t.unnest, " RETURNING 1)")
	}
	reseller := func(of []credit.Reseller) func(args []any, i int) ([]any, error) {
		return func(args []any, i int) ([]any, error) { return appendReseller(args, d, nil, &of[i]) }
	}
	if len(b.Added) > 0 {
		t, err := q.table(resellerColumns, pgResellerTypes, len(b.Added), reseller(b.Added))
		if err != nil {
			return "", nil, err
		}
		insert("added", "resellers", resellerColumns, t, len(b.Added))
	}
	if len(b.Changed) > 0 {
		t, err := q.table(resellerColumns, pgResellerTypes, len(b.Changed), reseller(b.Changed))
		if err != nil {
			return "", nil, err
		}
		branches = append(branches, pgBranch{"changed", len(b.Changed)})
		const fixed = 4 // ledger, id, external_id and bound_at
		var set []string
		for _, column := range resellerColumns[fixed:] {
			set = append(set, column+" = v."+column)
		}
		q.text(", changed AS (UPDATE ", s.prefix, "resellers AS r SET ", strings.Join(set, ", "),
			" FROM head CROSS JOIN ", t.unnest, " WHERE r.ledger = head.id AND r.id = v.id RETURNING 1)")
	}
	records, err := q.table(recordColumns, pgRecordTypes, len(b.Records), func(args []any, i int) ([]any, error) {
		return appendRecord(args, d, nil, &b.Records[i])
	})
	if err != nil {
		return "", nil, err
	}
	insert("written", "records", recordColumns, records, len(b.Records))
	if len(keyed) > 0 {
		insert("taken", "keys", keyColumns, keys, len(keyed))
	}

	var right, sum, said, from []string
	for _, branch := range branches {
		count := branch.name + ".n"
		right = append(right, count+" = "+q.bind(branch.rows, "bigint"))
		sum = append(sum, count)
		said = append(said, "' "+branch.name+" ' || "+count)
		from = append(from, "(SELECT count(*) AS n FROM "+branch.name+") AS "+branch.name)
	}
	q.text(" SELECT CASE WHEN ", strings.Join(right, " AND "), " THEN ", strconv.Itoa(pgWritten),
		" WHEN ", strings.Join(sum, " + "), " = 0 THEN CASE WHEN EXISTS (SELECT FROM ", s.prefix, "ledgers WHERE id = ", id, ")",
		" THEN ", strconv.Itoa(pgMoved), " ELSE ", strconv.Itoa(pgNoLedger), " END",
		" ELSE CAST('", pgMiscount, "' || ", strings.Join(said, " || "), " AS integer) END FROM ", strings.Join(from, " CROSS JOIN "))
	return q.sql.String(), q.args, nil
}

// pgMiscount begins the text of the failure that the statement makes when its
// rows are not as many as were sent.
const pgMiscount = "credit: rows written:"

// pgBranch is a part of the statement and how many rows it must write.
type pgBranch struct {
	name string
	rows int
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

// pgTable is a table of values: the parameters of its columns, and all together
// as a source of rows named v.
type pgTable struct {
	arrays []string
	unnest string
}

// table binds a table of values, each of its columns as one array, but for the
// first, which is the ledger.
func (q *pgStatement) table(columns, types []string, rows int, values func(args []any, i int) ([]any, error)) (pgTable, error) {
	columns, types = columns[1:], types[1:]
	arrays := make([]pgArray, len(columns))
	var row []any
	var err error
	for i := range rows {
		if row, err = values(row[:0], i); err != nil {
			return pgTable{}, err
		}
		for column, value := range row[1:] {
			if err := arrays[column].add(value); err != nil {
				return pgTable{}, fmt.Errorf("%s: %w", columns[column], err)
			}
		}
	}
	var t pgTable
	for column := range arrays {
		t.arrays = append(t.arrays, q.bind(arrays[column].String(), types[column]+"[]"))
	}
	t.unnest = "unnest(" + strings.Join(t.arrays, ", ") + ") AS v (" + strings.Join(columns, ", ") + ")"
	return t, nil
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

func (a *pgArray) add(value any) error {
	if len(a.text) == 0 {
		a.text = append(a.text, '{')
	} else {
		a.text = append(a.text, ',')
	}
	switch v := value.(type) {
	case nil:
		a.text = append(a.text, "NULL"...)
	case int64:
		a.text = strconv.AppendInt(a.text, v, 10)
	case uuid.UUID:
		a.text = hex.AppendEncode(a.text, v[:])
	case []byte:
		a.text = append(a.text, `"\\x`...)
		a.text = hex.AppendEncode(a.text, v)
		a.text = append(a.text, '"')
	case string:
		a.text = append(a.text, '"')
		for rest := v; ; {
			i := strings.IndexAny(rest, `"\`)
			if i < 0 {
				a.text = append(a.text, rest...)
				break
			}
			a.text = append(a.text, rest[:i]...)
			a.text = append(a.text, '\\', rest[i])
			rest = rest[i+1:]
		}
		a.text = append(a.text, '"')
	default:
		return fmt.Errorf("a value of type %T", value)
	}
	return nil
}
