package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// MySQL is the dialect of MariaDB, 10.6 or newer, and of servers that speak the
// same language: MySQL, 8.0.16 or newer. It is tested on MariaDB 10.11 with the
// driver github.com/go-sql-driver/mysql.
//
// [New] wants the DSN parameter interpolateParams=true, because a server-side
// prepared statement can hide that a cluster has taken a transaction back, and
// what follows is then committed alone; a strict sql_mode, so that nothing is cut
// to fit; and utf8mb4. Any isolation but READ UNCOMMITTED will do. A DSN with all
// that is
//
//	credit:secret@tcp(db.example.com:3306)/credit?interpolateParams=true&timeout=5s
//
// On a Galera cluster it wants wsrep_sync_wait=7 as well, so that each node sees
// what was written on the others.
//
// How durable an answered commit is the server decides: with
// innodb_flush_log_at_trx_commit=1, its default, it survives a power failure.
var MySQL Dialect = mysql{}

type mysql struct{}

func (mysql) folder() string      { return "mysql" }
func (mysql) bind() int           { return sqlx.QUESTION }
func (mysql) id(id uuid.UUID) any { return id[:] }

// snapshot is taken by the first read and kept for the others.
func (mysql) snapshot() *sql.TxOptions {
	return &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
}

func (mysql) create(prefix string) string {
	return insertText(prefix+"ledgers", ledgerColumns, 1) + " ON DUPLICATE KEY UPDATE id = id"
}

// beyond does without a comparison of rows, for which no index would be used.
func (mysql) beyond(ascending bool, column string, value, id any) (condition string, args []any) {
	if ascending {
		return "(" + column + " > ? OR " + column + " = ? AND id > ?)", []any{value, value, id}
	}
	return "(" + column + " < ? OR " + column + " = ? AND id < ?)", []any{value, value, id}
}

func (mysql) contains(column string) string { return "LOCATE(?, " + column + ") > 0" }
func (mysql) div() string                   { return "DIV" }

func (d mysql) resellers(prefix, index string, _ parts) string {
	if index != "" {
		index = prefix + index
	}
	return prefix + "resellers AS r" + d.using(index)
}

// join keeps the order of the tables.
func (mysql) join(_, source, key string) string { return " STRAIGHT_JOIN " + source + " ON " + key }

func (mysql) prepares() bool { return false }

func (mysql) transaction() (begin, commit string) { return "START TRANSACTION", mysqlCommit }

// using names the index, because the planner rather reads another one and sorts.
func (mysql) using(index string) string {
	if index == "" {
		index = "PRIMARY"
	}
	return " FORCE INDEX (" + index + ")"
}

func (mysql) begun(context.Context, executor) error { return nil }

func (d mysql) lock(prefix string, ledger uuid.UUID) (text string, args []any) {
	return "SELECT " + columnsText("", distributorColumns) + " FROM " + prefix + "ledgers WHERE id = ? FOR UPDATE", []any{d.id(ledger)}
}

func (mysql) current() string { return " FOR UPDATE" }

func (mysql) load(ctx context.Context, s *Store, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
	return s.loadParts(ctx, ledger, asked)
}

// append reads nothing. The update of the head is the comparison, and holds the
// ledger's row until the end; the number of changed rows tells whether a reseller
// is missing; and an index refuses the keys that are taken. All of that sees what
// is committed, also in a transaction whose snapshot is older, and locks no gap
// between rows, which would make the appends of different ledgers deadlock.
func (d mysql) append(ctx context.Context, s *Store, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
	p, err := d.plan(s.prefix, ledger, expected, b)
	if err != nil {
		return s.certain(ctx, fmt.Errorf("append to ledger %s: %w", ledger, err))
	}
	return s.inTransaction(ctx, func(tx executor) error {
		if err := p.run(ctx, tx); err != nil {
			return fmt.Errorf("append to ledger %s: %w", ledger, err)
		}
		return nil
	})
}

// mysqlGuard makes a statement without effect, or fail, unless it runs in a
// transaction: behind a proxy or on a cluster a transaction can be gone without
// anybody saying so, and what follows would be committed by itself. Only MariaDB
// can tell, and only MariaDB reads these comments. Its cost was too small to be
// measured; asking beforehand would be one more round trip, and too early.
const (
	mysqlGuard       = " /*M! AND @@in_transaction */"
	mysqlGuardBefore = "/*M! IF(@@in_transaction, */ "
	mysqlGuardAfter  = " /*M! , NULL) */"
)

// mysqlCommit fails, with number 1402, unless there is a transaction to commit:
// a plain COMMIT would answer success for what is gone. It is one statement, also
// for a driver that sends no more than one at a time.
const mysqlCommit = "/*M! BEGIN NOT ATOMIC IF @@in_transaction THEN */ COMMIT /*M! ;" +
	" ELSE SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1402, MESSAGE_TEXT = 'the transaction was gone before its commit';" +
	" END IF; END */"

// mysqlPlan is all that one append sends, made before anything is locked.
type mysqlPlan struct {
	prefix        string
	ledger        any
	before, after mysqlHead
	keys          []any
	head          mysqlWrite
	writes        []mysqlWrite
}

func (d mysql) plan(prefix string, ledger uuid.UUID, expected credit.Head, b store.Batch) (mysqlPlan, error) {
	head, id := b.Head(), d.id(ledger)
	p := mysqlPlan{prefix: prefix, ledger: id, before: mysqlHeadOf(expected), after: mysqlHeadOf(head)}
	var m millionths
	p.head = mysqlWrite{what: "move the head", rows: 1,
		text: "UPDATE " + prefix + "ledgers SET sequence = ?, hash = ?, recorded_at = ?, granted = ?, allocated = ?" +
			" WHERE id = ? AND sequence = ? AND hash = ?" + mysqlGuard,
		args: []any{head.Sequence, head.Hash[:], micros(head.RecordedAt), m.of(head.Pool.Granted), m.of(head.Pool.Allocated),
			id, expected.Sequence, expected.Hash[:]}}
	if m.err != nil {
		return p, m.err
	}
	for i := range b.Records {
		if key := b.Records[i].Key; key != "" {
			p.keys = append(p.keys, key)
		}
	}
	columns, records, err := d.records(id, b.Records)
	if err != nil {
		return p, err
	}
	moved, updated := changes(b)
	// Parents before children, for the foreign keys.
	for _, r := range []mysqlRows{
		{"add resellers", len(b.Added),
			func(args []any, i int) ([]any, error) { return appendReseller(args, d, id, &b.Added[i]) },
			func(n int) string { return mysqlInsert(prefix+"resellers", writtenColumns, n) }, nil},
		{"change resellers", len(moved),
			func(args []any, i int) ([]any, error) {
				args, err := appendFigures(args, &moved[i])
				return append(args, head.Sequence, d.id(moved[i].ID)), err
			},
			func(n int) string { return mysqlChange(prefix, mysqlMoved, n) }, id},
		{"update resellers", len(updated),
			func(args []any, i int) ([]any, error) { return d.appendChange(args, &updated[i], head.Sequence) },
			func(n int) string { return mysqlChange(prefix, mysqlChanged, n) }, id},
		{"insert records", len(b.Records),
			func(args []any, i int) ([]any, error) { return append(args, records[i]...), nil },
			func(n int) string { return mysqlInsert(prefix+"records", columns, n) }, nil},
	} {
		if p.writes, err = r.cut(p.writes); err != nil {
			return p, fmt.Errorf("%s: %w", r.what, err)
		}
	}
	return p, nil
}

// mysqlOptional are the columns that a record may leave empty, and the table then
// fills.
var mysqlOptional = []string{"reseller", "external_id", "operator", "remark", "idempotency_key", "fingerprint", "reference", "customer",
	"corrects", "metadata", "changed"}

// records returns the values of the records, without the columns that all of them
// leave empty: the server reads each value of a statement's text.
func (d mysql) records(ledger any, of []credit.Record) (columns []string, records [][]any, err error) {
	records = make([][]any, len(of))
	for i := range of {
		if records[i], err = appendRecord(make([]any, 0, len(recordColumns)), d, ledger, &of[i]); err != nil {
			return nil, nil, err
		}
	}
	kept := 0
	for c, column := range recordColumns {
		given := func(values []any) bool { return values[c] != nil && values[c] != "" && values[c] != int64(0) }
		if slices.Contains(mysqlOptional, column) && !slices.ContainsFunc(records, given) {
			continue
		}
		columns = append(columns, column)
		for _, values := range records {
			values[kept] = values[c]
		}
		kept++
	}
	for i := range records {
		records[i] = records[i][:kept]
	}
	return columns, records, nil
}

// appendChange appends the values of mysqlChanged, and then the id.
func (d mysql) appendChange(args []any, r *credit.Reseller, sequence int64) ([]any, error) {
	values, err := appendReseller(nil, d, nil, r)
	if err != nil {
		return nil, err
	}
	return append(append(args, values[fixedColumns:]...), sequence, values[1]), nil
}

func (p mysqlPlan) run(ctx context.Context, tx executor) error {
	moved, err := affected(tx.ExecContext(ctx, p.head.text, p.head.args...))
	if err != nil {
		return fmt.Errorf("%s: %w", p.head.what, err)
	}
	if moved == 0 {
		switch head, err := p.current(ctx, tx); {
		case err != nil:
			return err
		case head == p.before:
			return errMySQLGone
		}
		return store.ErrMoved
	}
	for _, w := range p.writes {
		changed, err := affected(tx.ExecContext(ctx, w.text, w.args...))
		switch {
		case mysqlIs(err, mysqlDuplicate):
			if taken, lookErr := p.taken(ctx, tx); lookErr != nil {
				err = errors.Join(lookErr, err)
			} else if taken {
				err = fmt.Errorf("%w: %w", store.ErrMoved, err)
			}
		case err == nil && changed != w.rows:
			err = fmt.Errorf("%d rows changed instead of %d", changed, w.rows)
			if head, headErr := p.current(ctx, tx); headErr != nil || head != p.after {
				err = errors.Join(errMySQLGone, headErr, err)
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", w.what, err)
		}
	}
	return nil
}

// current reads the sequence and the hash of the head. It locks, in order to see
// what is committed.
func (p mysqlPlan) current(ctx context.Context, tx executor) (head mysqlHead, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT sequence, hash FROM "+p.prefix+"ledgers WHERE id = ? FOR UPDATE", p.ledger)
	if err != nil {
		return head, fmt.Errorf("read the head: %w", err)
	}
	defer func() { _ = rows.Close() }() // the second time does nothing
	if !rows.Next() {
		return head, cmp.Or(rows.Err(), store.ErrNoLedger)
	}
	if err := rows.Scan(&head.sequence, &head.hash); err != nil {
		return head, fmt.Errorf("read the head: %w", err)
	}
	return head, rows.Close()
}

// mysqlHead is what of a head is compared.
type mysqlHead struct {
	sequence int64
	hash     hashColumn
}

func mysqlHeadOf(h credit.Head) mysqlHead { return mysqlHead{h.Sequence, hashColumn(h.Hash)} }

// taken tells whether one of the keys is, after a duplicate was refused.
func (p mysqlPlan) taken(ctx context.Context, tx executor) (bool, error) {
	for keys := range slices.Chunk(p.keys, mysqlMaxRows) {
		rows, err := tx.QueryContext(ctx, "SELECT sequence FROM "+p.prefix+"records WHERE ledger = ? AND taken_key IN "+marks(len(keys))+" LIMIT 1 FOR UPDATE",
			append([]any{p.ledger}, keys...)...)
		if err != nil {
			return false, fmt.Errorf("look for taken keys: %w", err)
		}
		taken := rows.Next()
		if err := errors.Join(rows.Err(), rows.Close()); err != nil || taken {
			return taken, err
		}
	}
	return false, nil
}

// errMySQLGone: the server took the transaction back, or a proxy lost it, and
// nobody said so.
var errMySQLGone = errors.New("the transaction is gone: a statement ran outside it, and was without effect")

// mysqlWrite is one statement of a transaction and the number of rows that it
// must change: any other number takes the whole transaction back.
type mysqlWrite struct {
	what, text string
	args       []any
	rows       int64
}

// The limits of one statement. A statement's text holds its values; mysqlMaxText
// bounds it before the last row is added, mysqlMaxRow is more than any row has.
const (
	mysqlMaxRows = 1000
	mysqlMaxText = 1 << 20
	mysqlMaxRow  = 1 << 18
)

// mysqlRows is a number of rows to write: values appends those of row i, text
// makes the statement for a number of rows, and last, if not nil, is its last
// parameter.
type mysqlRows struct {
	what   string
	count  int
	values func(args []any, i int) ([]any, error)
	text   func(rows int) string
	last   any
}

// cut appends to the plan the statements that write the rows, none of them larger
// than a server takes.
func (r mysqlRows) cut(plan []mysqlWrite) ([]mysqlWrite, error) {
	for next := 0; next < r.count; {
		w := mysqlWrite{what: r.what}
		for size := 0; next < r.count && w.rows < mysqlMaxRows && size < mysqlMaxText; next++ {
			seen := len(w.args)
			var err error
			if w.args, err = r.values(w.args, next); err != nil {
				return nil, err
			}
			for _, arg := range w.args[seen:] {
				size += mysqlSize(arg)
			}
			if w.rows == 0 {
				w.args = slices.Grow(w.args, len(w.args)*(min(r.count-next, mysqlMaxRows)-1))
			}
			w.rows++
		}
		w.text = r.text(int(w.rows))
		if r.last != nil {
			w.args = append(w.args, r.last)
		}
		plan = append(plan, w)
	}
	return plan, nil
}

// mysqlSize is the most that a value takes in the text of a statement, where
// every byte may be escaped.
func mysqlSize(arg any) int {
	const around = 24 // quotes, separators and what stands before bytes; or a number
	switch v := arg.(type) {
	case string:
		return around + 2*len(v)
	case []byte:
		return around + 2*len(v)
	}
	return around
}

// mysqlInsert is insertText whose first value is NULL outside a transaction, and
// no first column can be NULL.
func mysqlInsert(table string, columns []string, rows int) string {
	before, after, _ := strings.Cut(insertText(table, columns, rows), "?")
	return before + mysqlGuardBefore + "?" + mysqlGuardAfter + after
}

// mysqlChanged and mysqlMoved are the columns that a change sets, of everything
// and of the figures. The last is new each time, so that the server counts every
// row that is there.
var (
	mysqlChanged = append(slices.Clone(writtenColumns[fixedColumns:]), "last_sequence")
	mysqlMoved   = append(slices.Clone(resellerColumns[fixedColumns:profileColumns]), "last_sequence")
)

// mysqlChange takes, for each reseller, what changes and the id, and then the
// ledger. It never adds a row, and joins in its order.
//
// Compared before choosing, for 1 to 500 resellers: statements for one each cost
// a round trip each, CASE expressions a time that grows with the square, joining
// the update of the head as well more than the round trip that it saves. INSERT
// ON DUPLICATE KEY UPDATE is the fastest for many, and would add what is missing.
func mysqlChange(prefix string, columns []string, rows int) string {
	if rows == 1 {
		return "UPDATE " + prefix + "resellers SET " + strings.Join(columns, " = ?, ") + " = ? WHERE id = ? AND ledger = ?" + mysqlGuard
	}
	var set []string
	for _, column := range columns {
		set = append(set, "r."+column+" = v."+column)
	}
	more := " UNION ALL SELECT ?" + strings.Repeat(", ?", len(columns))
	return "UPDATE (SELECT ? AS " + strings.Join(columns, ", ? AS ") + ", ? AS id" + strings.Repeat(more, rows-1) + ") v" +
		" STRAIGHT_JOIN " + prefix + "resellers r ON r.id = v.id SET " + strings.Join(set, ", ") + " WHERE r.ledger = ?" + mysqlGuard
}

// mysqlDuplicate is the number of "duplicate entry".
const mysqlDuplicate = 1062

// The numbers of errors that say more than "the statement failed":
// https://mariadb.com/kb/en/mariadb-error-codes/ and, from 8000 on,
// https://docs.pingcap.com/tidb/stable/error-codes.
var mysqlClasses = map[int]class{
	1213: rolledBack, // deadlock; on a cluster also a conflict with another node
	1020: rolledBack, // the row changed since the snapshot
	9007: rolledBack, // TiDB: write conflict
	8002: rolledBack, // TiDB: the same, with FOR UPDATE
	8022: rolledBack, // TiDB: the commit failed and was taken back
	8028: rolledBack, // TiDB: the schema changed
	1402: rolledBack, // mysqlCommit: the transaction was gone

	1205: temporary, // lock wait time-out
	3572: temporary, // the lock is taken and NOWAIT was asked for
	1047: temporary, // Galera: the node is not part of a quorum
	1180: temporary, // the commit failed
	1040: temporary, // too many connections
	1203: temporary, // too many connections of the user
	1226: temporary, // another limit of the user
	1053: temporary, // the server is shutting down
	1290: temporary, // the server is read-only
	1836: temporary, // the same
	1792: temporary, // the same, for this transaction
	1317: temporary, // the statement was killed
	1927: temporary, // the connection was killed
	3169: temporary, // the same
	4031: temporary, // the same, for having been idle
	1969: temporary, // the statement took longer than max_statement_time
	3024: temporary, // the same
	1158: temporary, // 1158 to 1161: the network
	1159: temporary,
	1160: temporary,
	1161: temporary,
	2006: temporary, // the server has gone away
	2013: temporary, // the connection was lost
	1021: temporary, // the disk is full
	1114: temporary, // the same
	1412: temporary, // the schema changed
	1048: temporary, // NULL, which only mysqlGuard makes: the transaction is gone
}

// class is the one that knows most of all numbers in the error: going back to a
// savepoint fails too after the server has taken back the whole transaction.
func (mysql) class(err error) class {
	best := failed
	numbers := mysqlNumbers(err)
	for _, n := range numbers {
		best = max(best, mysqlClasses[n])
	}
	if len(numbers) > 0 {
		return best
	}
	var network net.Error
	if errors.Is(err, errMySQLGone) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network) {
		return temporary
	}
	// What the driver makes of a connection that broke.
	for _, sign := range []string{"invalid connection", "bad connection", "busy buffer"} {
		if strings.Contains(err.Error(), sign) {
			return temporary
		}
	}
	return failed
}

// mysqlNumbers finds the server's numbers in an error of any driver: a field
// Number, as github.com/go-sql-driver/mysql has it.
func mysqlNumbers(err error) []int {
	if v := reflect.Indirect(reflect.ValueOf(err)); v.Kind() == reflect.Struct {
		if f := v.FieldByName("Number"); f.IsValid() && f.CanUint() {
			return []int{int(f.Uint())}
		}
	}
	var numbers []int
	switch e := err.(type) { //nolint:errorlint // this is the walk along the chain
	case interface{ Unwrap() error }:
		return mysqlNumbers(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			numbers = append(numbers, mysqlNumbers(err)...)
		}
	}
	return numbers
}

func mysqlIs(err error, number int) bool { return slices.Contains(mysqlNumbers(err), number) }

func (mysql) advised(err error) error { return err }

// unmigrated: no such table, or no such column.
func (mysql) unmigrated(err error) bool { return mysqlIs(err, 1146) || mysqlIs(err, 1054) }
