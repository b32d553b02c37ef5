package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// SQLite is the dialect of SQLite, 3.37 or newer. [New] wants what [SQLiteDSN]
// sets: write-ahead logging, so that readers and the writer do not stop each
// other; a busy timeout, so that writers wait for each other; full
// synchronization, so that an answered commit survives a power failure; and
// foreign keys.
//
// A database in memory is accepted if the pool has exactly one connection
// (SetMaxOpenConns(1)), because every further connection would be a database of
// its own; it is gone when that connection is closed.
//
// Writers of one file exclude each other, also those of different ledgers; readers
// wait for nobody. The writers of one [Store] queue. Whoever else writes, another
// process, another Store on the same file or a transaction of the caller's, looks
// every now and then whether it can, for as long as the busy timeout; so make one
// Store in a process.
//
// Any driver will do whose errors have SQLite's result code in a method or a field
// Code. With github.com/mattn/go-sqlite3 the settings are
// _busy_timeout=5000&_foreign_keys=1&_journal_mode=WAL&_synchronous=FULL; leave
// out _txlock there, because it would make readers wait for the writer.
var SQLite Dialect = sqlite{}

type sqlite struct{}

func (sqlite) folder() string                             { return "sqlite" }
func (sqlite) migrationLock() (lock.SessionLocker, error) { return nil, nil }
func (sqlite) bind() int                                  { return sqlx.QUESTION }
func (sqlite) id(id uuid.UUID) any                        { return id[:] }

func (sqlite) schema(table string) (database.Store, error) {
	return database.NewStore(goose.DialectSQLite3, table)
}

// snapshot reads. That it is read-only also keeps the driver from taking the
// write lock, whatever _txlock says.
func (sqlite) snapshot() *sql.TxOptions { return &sql.TxOptions{ReadOnly: true} }

func (sqlite) create(prefix string) string {
	return insertText(prefix+"ledgers", ledgerColumns, 1) + " ON CONFLICT (id) DO NOTHING"
}

func (sqlite) beyond(ascending bool, column string, value, id any) (condition string, args []any) {
	return beyondRow(ascending, column, value, id)
}

func (sqlite) contains(column string) string { return "instr(" + column + ", ?) > 0" }
func (sqlite) div() string                   { return "/" }

func (d sqlite) resellers(prefix, index string, _ parts) string {
	if index != "" {
		index = prefix + index
	}
	return prefix + "resellers AS r" + d.using(index)
}

// join keeps the order of the tables.
func (sqlite) join(_, source, key string) string { return " CROSS JOIN " + source + " ON " + key }

func (sqlite) prepares() bool { return true }

func (sqlite) transaction() (begin, commit string) { return "", "" }

// using names the index, because without statistics, which few databases of
// SQLite have, the planner thinks that all of a ledger's rows are ten.
func (sqlite) using(index string) string {
	if index == "" {
		return "" // it has no name
	}
	return " INDEXED BY " + index
}

// errSQLiteGone: begun says so.
var errSQLiteGone = errors.New("SQLite has taken the transaction back, for a statement that failed in it before")

// begun asks for another transaction, which cannot be had within one. SQLite takes
// a whole transaction back for ON CONFLICT ROLLBACK, an interrupt or a full disk;
// a savepoint then begins another one, which its release commits.
func (sqlite) begun(ctx context.Context, tx executor) error {
	_, err := tx.ExecContext(ctx, "BEGIN")
	if err == nil {
		_, err = tx.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		return errors.Join(errSQLiteGone, err)
	}
	if code, ok := sqliteCode(err); ok && code == 1 || strings.Contains(err.Error(), "within a transaction") {
		return nil
	}
	return err
}

// lock writes, so that the transaction has the lock of the writer; nothing else
// is a lock here.
func (d sqlite) lock(prefix string, ledger uuid.UUID) (text string, args []any) {
	return "UPDATE " + prefix + "ledgers SET sequence = sequence WHERE id = ? RETURNING " + columnsText("", distributorColumns), []any{d.id(ledger)}
}

func (sqlite) current() string { return "" }

func (sqlite) load(ctx context.Context, s *Store, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
	return s.loadParts(ctx, ledger, asked)
}

// confirm: a commit is seen once it is on the disk.
func (sqlite) confirm(context.Context, *Store, uuid.UUID) error { return nil }

// append moves the head first: the transaction then has the write lock before it
// reads anything, so it cannot fail for having read something that is outdated.
func (d sqlite) append(ctx context.Context, s *Store, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
	p, err := d.plan(ctx, s, ledger, expected, b)
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

// sqlitePlan is all that an append does between BEGIN and COMMIT. Rows are
// written one by one: there is no network to save round trips on, and a statement
// of many rows would keep a journal of its own in order to be undone half-way.
type sqlitePlan struct {
	head   lookup
	exists lookup
	taken  []lookup
	writes []write
}

// plan prepares everything before the transaction takes what may be the pool's
// only connection.
func (d sqlite) plan(ctx context.Context, s *Store, ledger uuid.UUID, expected credit.Head, b store.Batch) (sqlitePlan, error) {
	var p sqlitePlan
	var err error
	id, head := d.id(ledger), b.Head()
	var m millionths
	p.head = lookup{what: "move the head", args: []any{head.Sequence, head.Hash[:], micros(head.RecordedAt),
		m.of(head.Pool.Granted), m.of(head.Pool.Allocated), id, expected.Sequence, expected.Hash[:]}}
	if m.err != nil {
		return p, fmt.Errorf("%s: %w", p.head.what, m.err)
	}
	if p.head.stmt, err = s.statement(ctx, p.head.what, 1, func() string {
		return "UPDATE " + s.prefix + "ledgers SET sequence = ?, hash = ?, recorded_at = ?, granted = ?, allocated = ?" +
			" WHERE id = ? AND sequence = ? AND hash = ?"
	}); err != nil {
		return p, err
	}
	p.exists = lookup{what: "look for the ledger", args: []any{id}}
	if p.exists.stmt, err = s.statement(ctx, p.exists.what, 1, func() string {
		return "SELECT sequence FROM " + s.prefix + "ledgers WHERE id = ?"
	}); err != nil {
		return p, err
	}

	var keyed []*credit.Record
	var keys []any
	for i := range b.Records {
		if r := &b.Records[i]; r.Key != "" {
			keyed, keys = append(keyed, r), append(keys, r.Key)
		}
	}
	if p.taken, err = s.lookups(ctx, "look for taken keys", ledger, keys, func(n int) string {
		return "SELECT sequence FROM " + s.prefix + "keys WHERE ledger = ? AND idempotency_key IN " + marks(n) + " LIMIT 1"
	}); err != nil {
		return p, err
	}

	// Parents before children, for the foreign keys.
	for _, r := range []rows{
		{"add a reseller", len(b.Added), 1,
			func(args []any, i int) ([]any, error) { return appendReseller(args, d, id, &b.Added[i]) },
			func(n int) string { return insertText(s.prefix+"resellers", writtenColumns, n) }},
		{"move a reseller", len(b.Moved), 1,
			func(args []any, i int) ([]any, error) {
				args, err := appendFigures(args, &b.Moved[i])
				return append(args, id, d.id(b.Moved[i].ID)), err
			},
			func(int) string { return d.changeText(s.prefix, resellerColumns[fixedColumns:profileColumns]) }},
		{"change a reseller", len(b.Changed), 1,
			func(args []any, i int) ([]any, error) { return d.appendChange(args, id, &b.Changed[i]) },
			func(int) string { return d.changeText(s.prefix, writtenColumns[fixedColumns:]) }},
		{"insert a record", len(b.Records), 1,
			func(args []any, i int) ([]any, error) { return appendRecord(args, d, id, &b.Records[i]) },
			func(n int) string { return insertText(s.prefix+"records", recordColumns, n) }},
		{"insert a key", len(keyed), 1,
			func(args []any, i int) ([]any, error) {
				return append(args, id, keyed[i].Key, keyed[i].Sequence), nil
			},
			func(n int) string { return insertText(s.prefix+"keys", keyColumns, n) }},
	} {
		if p.writes, err = s.plan(ctx, p.writes, r); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (sqlite) changeText(prefix string, columns []string) string {
	return "UPDATE " + prefix + "resellers SET " + strings.Join(columns, " = ?, ") + " = ? WHERE ledger = ? AND id = ?"
}

// appendChange appends the values that change, then the key of the row.
func (d sqlite) appendChange(args []any, ledger any, r *credit.Reseller) ([]any, error) {
	values, err := appendReseller(nil, d, ledger, r)
	if err != nil {
		return nil, err
	}
	return append(append(args, values[fixedColumns:]...), values[0], values[1]), nil
}

func (p sqlitePlan) run(ctx context.Context, tx executor) error {
	// This is where a writer waits for the others, for as long as its context lets it.
	moved, err := affected(p.head.stmt.on(ctx, tx).ExecContext(ctx, p.head.args...))
	if err != nil {
		return fmt.Errorf("%s: %w", p.head.what, err)
	}
	if moved == 0 {
		if there, err := p.exists.any(ctx, tx); err != nil || there {
			return cmp.Or(err, store.ErrMoved)
		}
		return store.ErrNoLedger
	}
	for _, l := range p.taken {
		if taken, err := l.any(ctx, tx); err != nil || taken {
			return cmp.Or(err, store.ErrMoved)
		}
	}
	return runPlan(ctx, tx, p.writes)
}

// The result codes of SQLite that say more than "the statement failed", without
// their extension: https://www.sqlite.org/rescode.html.
var sqliteClasses = map[int]class{
	5:  rolledBack, // BUSY, also 261 BUSY_RECOVERY and 517 BUSY_SNAPSHOT
	6:  rolledBack, // LOCKED, also 262 LOCKED_SHAREDCACHE
	9:  temporary,  // INTERRUPT
	15: temporary,  // PROTOCOL: a race for the locks of the write-ahead log
	17: temporary,  // SCHEMA: somebody is migrating
}

func (sqlite) class(err error) class {
	if code, ok := sqliteCode(err); ok {
		return sqliteClasses[code&0xff]
	}
	// The last resort, for drivers that hide the code.
	for _, sign := range []string{"SQLITE_BUSY", "SQLITE_LOCKED", "database is locked", "database table is locked"} {
		if strings.Contains(err.Error(), sign) {
			return rolledBack
		}
	}
	return failed
}

// sqliteCode finds the result code in an error of any driver: a method Code, as
// modernc.org/sqlite has it, or a field Code, as mattn/go-sqlite3 and go-dqlite
// have it.
func sqliteCode(err error) (code int, ok bool) {
	var coded interface{ Code() int }
	if errors.As(err, &coded) {
		return coded.Code(), true
	}
	if v := reflect.Indirect(reflect.ValueOf(err)); v.Kind() == reflect.Struct {
		if f := v.FieldByName("Code"); f.IsValid() && f.CanInt() {
			return int(f.Int()), true
		}
	}
	switch e := err.(type) { //nolint:errorlint // this is the walk along the chain
	case interface{ Unwrap() error }:
		return sqliteCode(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if code, ok := sqliteCode(err); ok {
				return code, true
			}
		}
	}
	return 0, false
}

func (sqlite) advised(err error) error { return err }

func (sqlite) unmigrated(err error) bool {
	text := err.Error()
	return strings.Contains(text, "no such table") || strings.Contains(text, "no such column") || strings.Contains(text, "no such index") || strings.Contains(text, "has no column named")
}
