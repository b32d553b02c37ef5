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
// to fit; and utf8mb4. Any isolation but READ UNCOMMITTED will do; under
// SERIALIZABLE, ledgers of one database may wait for each other. A DSN with all that
// is
//
//	credit:secret@tcp(db.example.com:3306)/credit?interpolateParams=true&timeout=5s
//
// On a Galera cluster it wants wsrep_sync_wait=7 as well, so that each node sees
// what was written on the others.
//
// How durable an answered commit is the server decides: with
// innodb_flush_log_at_trx_commit=1, its default, it survives a power failure. A
// command that comes again with its key is answered once the record that it finds is
// as durable.
var MySQL Dialect = mysql{}

// blocks: the server takes several statements, with conditions between them, in
// one text, as MariaDB does.
type mysql struct{ blocks bool }

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

// confirm commits a change, whose flush is that of everything before it. InnoDB shows
// a commit to others before it is on the disk: an answer that was only read could be
// lost by a crash.
func (d mysql) confirm(ctx context.Context, s *Store, ledger uuid.UUID) error {
	_, err := s.base().ExecContext(ctx, "UPDATE "+s.prefix+"ledgers SET confirmed = confirmed + 1 WHERE id = ?", d.id(ledger))
	return err
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
	run := func(tx executor) error {
		if err := p.run(ctx, tx); err != nil {
			return fmt.Errorf("append to ledger %s: %w", ledger, err)
		}
		return nil
	}
	if d.blocks && s.tx == nil {
		begin, commit := d.transaction()
		p.begin = begin + "; "
		return s.inServerTransaction(ctx, "", commit, run)
	}
	return s.inTransaction(ctx, run)
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

// mysqlPlan is all that one append sends, made before anything is locked. The
// first of the writes moves the head.
type mysqlPlan struct {
	prefix        string
	blocks        bool
	begin         string // what the first block begins with
	ledger        any
	before, after mysqlHead
	keys          []any
	writes        []mysqlWrite
}

func (d mysql) plan(prefix string, ledger uuid.UUID, expected credit.Head, b store.Batch) (mysqlPlan, error) {
	head, id := b.Head(), d.id(ledger)
	p := mysqlPlan{prefix: prefix, blocks: d.blocks, ledger: id, before: mysqlHeadOf(expected), after: mysqlHeadOf(head)}
	var m millionths
	p.add(mysqlWrite{what: "move the head", rows: 1,
		text: "UPDATE " + prefix + "ledgers SET sequence = ?, hash = ?, recorded_at = ?, granted = ?, allocated = ?" +
			" WHERE id = ? AND sequence = ? AND hash = ?" + mysqlGuard,
		args: []any{head.Sequence, head.Hash[:], micros(head.RecordedAt), m.of(head.Pool.Granted), m.of(head.Pool.Allocated),
			id, expected.Sequence, expected.Hash[:]}})
	if m.err != nil {
		return p, m.err
	}
	for i := range b.Records {
		if key := b.Records[i].Key; key != "" {
			p.keys = append(p.keys, key)
		}
	}
	// Parents before children, for the foreign keys.
	if err := p.insert("add resellers", "resellers", writtenColumns, len(b.Added), func(args []any, i int) ([]any, error) {
		return appendReseller(args, d, id, &b.Added[i])
	}); err != nil {
		return p, err
	}
	if err := p.change("move resellers", resellerColumns[fixedColumns:profileColumns], head.Sequence, len(b.Moved), func(i int) (uuid.UUID, []any, error) {
		values, err := appendFigures(nil, &b.Moved[i])
		return b.Moved[i].ID, values, err
	}); err != nil {
		return p, err
	}
	if err := p.change("change resellers", writtenColumns[fixedColumns:], head.Sequence, len(b.Changed), func(i int) (uuid.UUID, []any, error) {
		values, err := appendReseller(nil, d, nil, &b.Changed[i])
		return b.Changed[i].ID, values[min(fixedColumns, len(values)):], err
	}); err != nil {
		return p, err
	}
	columns, records, err := d.records(id, b.Records)
	if err != nil {
		return p, err
	}
	return p, p.insert("insert records", "records", columns, len(records), func(args []any, i int) ([]any, error) {
		return append(args, records[i]...), nil
	})
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

func (p *mysqlPlan) run(ctx context.Context, tx executor) error {
	if p.blocks {
		return p.runBlocks(ctx, tx)
	}
	for i, w := range p.writes {
		changed, err := affected(tx.ExecContext(ctx, w.text, w.args...))
		if err == nil && changed != w.rows {
			err = fmt.Errorf("%w: %d instead of %d", mysqlMiscounts[min(i, 1)].err, changed, w.rows)
		}
		if err != nil {
			return p.failed(ctx, tx, fmt.Errorf("%s: %w", w.what, err))
		}
	}
	return nil
}

// runBlocks sends as many statements as fit in one text, which ends at the first
// that fails, or that does not change the rows that it must.
//
// A round trip takes longer than the server needs for a record, and everybody
// else waits for the ledger meanwhile.
func (p *mysqlPlan) runBlocks(ctx context.Context, tx executor) error {
	begin := p.begin
	for next := 0; next < len(p.writes); begin = "" {
		var text strings.Builder
		var args []any
		text.WriteString("BEGIN NOT ATOMIC " + begin)
		for size := 0; next < len(p.writes) && (size == 0 || size+p.writes[next].size <= mysqlMaxText); next++ {
			w := p.writes[next]
			size += w.size
			args = append(args, w.args...)
			fmt.Fprintf(&text, "%s; IF ROW_COUNT() <> %d THEN SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = %d, MESSAGE_TEXT = '%s'; END IF; ",
				w.text, w.rows, mysqlMiscounts[min(next, 1)].number, w.what)
		}
		text.WriteString("END")
		if _, err := tx.ExecContext(ctx, text.String(), args...); err != nil {
			for _, miscount := range mysqlMiscounts {
				if mysqlIs(err, miscount.number) {
					err = fmt.Errorf("%w: %w", miscount.err, err)
				}
			}
			return p.failed(ctx, tx, err)
		}
	}
	return nil
}

// failed finds out what the error of a write means.
func (p *mysqlPlan) failed(ctx context.Context, tx executor, err error) error {
	switch {
	case mysqlIs(err, mysqlDuplicate):
		if taken, lookErr := p.taken(ctx, tx); lookErr != nil {
			return errors.Join(lookErr, err)
		} else if taken {
			return fmt.Errorf("%w: %w", store.ErrMoved, err)
		}
	case errors.Is(err, errMySQLHead):
		switch head, headErr := p.current(ctx, tx); {
		case headErr != nil:
			return errors.Join(headErr, err)
		case head == p.before:
			return errors.Join(errMySQLGone, err)
		}
		return fmt.Errorf("%w: %w", store.ErrMoved, err)
	case errors.Is(err, errMySQLRows):
		if head, headErr := p.current(ctx, tx); headErr != nil || head != p.after {
			return errors.Join(errMySQLGone, headErr, err)
		}
	}
	return err
}

// current reads the sequence and the hash of the head. It locks, in order to see
// what is committed.
func (p *mysqlPlan) current(ctx context.Context, tx executor) (head mysqlHead, err error) {
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

// taken tells whether one of the keys was, before the append, after a duplicate was
// refused.
func (p *mysqlPlan) taken(ctx context.Context, tx executor) (bool, error) {
	for keys := range slices.Chunk(p.keys, mysqlMaxRows) {
		rows, err := tx.QueryContext(ctx, "SELECT sequence FROM "+p.prefix+"records WHERE ledger = ? AND taken_key IN "+marks(len(keys))+" AND sequence <= ? LIMIT 1 FOR UPDATE",
			append(append([]any{p.ledger}, keys...), p.before.sequence)...)
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

var (
	// errMySQLGone: the server took the transaction back, or a proxy lost it, and
	// nobody said so.
	errMySQLGone = errors.New("the transaction is gone: a statement ran outside it, and was without effect")
	errMySQLHead = errors.New("the head is not the expected one")
	errMySQLRows = errors.New("not the number of rows changed that must be")
)

// mysqlMiscounts are the errors of the write that moves the head, and of the
// others, when they do not change the rows that they must, and the numbers under
// which a block reports them. They are not those of a SIGNAL without a number, as
// triggers have them.
var mysqlMiscounts = [2]struct {
	number int
	err    error
}{{45643, errMySQLHead}, {45644, errMySQLRows}}

// mysqlWrite is one statement of a transaction and the number of rows that it
// must change: any other number takes the whole transaction back.
type mysqlWrite struct {
	what, text string
	args       []any
	rows       int64
	size       int // the most bytes that it takes
}

// The limits of one statement. A statement's text holds its values; mysqlMaxText
// bounds it before the last row is added, mysqlMaxRow is more than any row has.
const (
	mysqlMaxRows = 1000
	mysqlMaxText = 1 << 20
	mysqlMaxRow  = 1 << 18
	// mysqlMaxChanges: the server compares the id of each row that it changes with the
	// others of the statement.
	mysqlMaxChanges = 64
	// mysqlMaxCheck is more than what stands around a statement in a block.
	mysqlMaxCheck = 1 << 8
)

func (p *mysqlPlan) add(w mysqlWrite) {
	w.size = len(w.text) + mysqlMaxCheck
	for _, arg := range w.args {
		w.size += mysqlSize(arg)
	}
	p.writes = append(p.writes, w)
}

// insert adds to the plan the statements that insert rows, none of them larger
// than a server takes; values appends those of row i.
func (p *mysqlPlan) insert(what, table string, columns []string, count int, values func(args []any, i int) ([]any, error)) error {
	for next := 0; next < count; {
		w := mysqlWrite{what: what}
		for size := 0; next < count && w.rows < mysqlMaxRows && size < mysqlMaxText; next++ {
			seen := len(w.args)
			var err error
			if w.args, err = values(w.args, next); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			for _, arg := range w.args[seen:] {
				size += mysqlSize(arg)
			}
			if w.rows == 0 {
				w.args = slices.Grow(w.args, len(w.args)*(min(count-next, mysqlMaxRows)-1))
			}
			w.rows++
		}
		w.text = mysqlInsert(p.prefix+table, columns, int(w.rows))
		p.add(w)
	}
	return nil
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

// change adds to the plan the statements that set columns of resellers. They never
// add a row, and count every row that is there, because the last sequence is new
// each time.
//
// Compared before choosing, for 1 to 500 resellers: a join with the rows as a
// derived table takes a third longer, because the server plans each row; a statement
// for each costs a round trip or a plan each; INSERT ON DUPLICATE KEY UPDATE would add
// what is missing. The time of CASE grows with the square, hence mysqlMaxChanges.
func (p *mysqlPlan) change(what string, columns []string, sequence int64, count int, values func(i int) (uuid.UUID, []any, error)) error {
	for first := 0; first < count; first += mysqlMaxChanges {
		some := min(mysqlMaxChanges, count-first)
		ids, set := make([]any, some), make([][]any, some)
		for i := range some {
			id, row, err := values(first + i)
			if err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			ids[i], set[i] = mysql{}.id(id), row
		}
		args := make([]any, 0, some*(2*len(columns)+1)+2)
		for c := range columns {
			for i := range some {
				args = append(args, ids[i], set[i][c])
			}
		}
		args = append(append(args, sequence, p.ledger), ids...)
		p.add(mysqlWrite{what: what, args: args, rows: int64(some), text: mysqlChange(p.prefix, columns, some)})
	}
	return nil
}

// mysqlChange names the index, because of few rows the planner would rather read,
// and lock, all of the table, other ledgers' included.
func mysqlChange(prefix string, columns []string, rows int) string {
	values := " = CASE id" + strings.Repeat(" WHEN ? THEN ?", rows) + " END, "
	return "UPDATE " + prefix + "resellers" + mysql{}.using("") + " SET " + strings.Join(columns, values) + values + "last_sequence = ?" +
		" WHERE ledger = ? AND id IN " + marks(rows) + mysqlGuard
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
	1305: temporary, // no such savepoint, for the same reason
}

// class is the one that knows most of all numbers in the error: going back to a
// savepoint fails too after the server has taken back the whole transaction.
func (mysql) class(err error) class {
	best := failed
	numbers := mysqlNumbers(err)
	for _, n := range numbers {
		best = max(best, mysqlClasses[n])
	}
	if errors.Is(err, errMySQLGone) {
		return max(best, temporary)
	}
	if len(numbers) > 0 {
		return best
	}
	var network net.Error
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network) {
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
