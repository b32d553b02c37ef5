package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
)

// handConnections is the most that the pool of the hand-written form has.
const handConnections = 64

// wording is the hand-written SQL of one database, on the library's own tables:
// the same columns and indexes. {{prefix}} is what their names begin with.
type wording struct {
	// figures is the table, without its prefix, of what resellers have.
	figures string
	// key makes a key unique where the library has a table of its own for that;
	// an index saves the hand-written form a statement.
	key string
	// pool takes an amount from the pool if it is there, reseller gives it to a
	// reseller if it is active, record writes the record. returning: the first two
	// answer with what is there afterwards.
	pool, reseller, record string
	returning              bool
	// raw writes many records with as few statements as the database likes.
	raw func(ctx context.Context, tx *sql.Tx, prefix string, rows []rawRow) error
	// size asks for the bytes on disk of records with their indexes and keys, rowSize for
	// those of their rows alone. statistics, if it is there, is to run before.
	size, rowSize, statistics string
	// connections bounds the pool; 0 is handConnections.
	connections int
}

// text fills the prefix in.
func text(prefix, pattern string) string { return strings.ReplaceAll(pattern, "{{prefix}}", prefix) }

// recordColumns are all columns of a record.
const recordColumns = "ledger, sequence, id, kind, reseller, external_id, amount, allocated_before, used_before, allocated_after, used_after," +
	" pool_granted, pool_allocated, operator, remark, idempotency_key, fingerprint, reference, customer, corrects, metadata, changed," +
	" occurred_at, recorded_at, hash"

const keyIndex = "CREATE UNIQUE INDEX {{prefix}}by_hand ON {{prefix}}records (ledger, idempotency_key) WHERE idempotency_key <> ''"

var sqliteByHand = wording{
	figures: "resellers",
	key:     keyIndex,
	pool: "UPDATE {{prefix}}ledgers SET allocated = allocated + ?1, sequence = sequence + 1, recorded_at = ?3" +
		" WHERE id = ?2 AND allocated + ?1 <= granted RETURNING sequence, granted, allocated",
	reseller: "UPDATE {{prefix}}resellers SET allocated = allocated + ?1" +
		" WHERE ledger = ?2 AND id = ?3 AND status = 'active' RETURNING allocated, used",
	record: "INSERT INTO {{prefix}}records (" + recordColumns + ")" +
		" VALUES (?, ?, ?, 'allocate', ?, '', ?, ?, ?, ?, ?, ?, ?, ?, '', ?, ?, '', '', 0, NULL, NULL, ?, ?, ?)",
	returning: true,
	raw:       rawSQLite,
	size: "SELECT sum(pgsize) FROM dbstat WHERE name IN" +
		" (SELECT name FROM sqlite_schema WHERE tbl_name IN ('{{prefix}}records', '{{prefix}}keys'))",
	rowSize: "SELECT sum(pgsize) FROM dbstat WHERE name = '{{prefix}}records'",
	// There is one writer at a time: with a pool of one they queue in the program
	// and not with sleeps in the driver.
	connections: 1,
}

var postgresByHand = wording{
	figures: "balances",
	key:     keyIndex,
	pool: "UPDATE {{prefix}}ledgers SET allocated = allocated + $1, sequence = sequence + 1, recorded_at = $3" +
		" WHERE id = $2 AND allocated + $1 <= granted RETURNING sequence, granted, allocated",
	reseller: "UPDATE {{prefix}}balances SET allocated = allocated + $1" +
		" WHERE ledger = $2 AND id = $3 AND status = 'active' RETURNING allocated, used",
	record: "INSERT INTO {{prefix}}records (" + recordColumns + ")" +
		" VALUES ($1, $2, $3, 'allocate', $4, '', $5, $6, $7, $8, $9, $10, $11, $12, '', $13, $14, '', '', 0, NULL, NULL, $15, $16, $17)",
	returning: true,
	raw:       rawPostgres,
	size:      "SELECT pg_total_relation_size('{{prefix}}records') + pg_total_relation_size('{{prefix}}keys')",
	rowSize:   "SELECT pg_relation_size('{{prefix}}records')",
}

var mariadbByHand = wording{
	figures: "resellers",
	pool: "UPDATE {{prefix}}ledgers SET allocated = allocated + ?, sequence = sequence + 1, recorded_at = ?" +
		" WHERE id = ? AND allocated + ? <= granted",
	reseller: "UPDATE {{prefix}}resellers SET allocated = allocated + ? WHERE ledger = ? AND id = ? AND status = 'active'",
	// What the two updates left is read by the statement that needs it.
	record: "INSERT INTO {{prefix}}records (" + recordColumns + ")" +
		" SELECT l.id, l.sequence, ?, 'allocate', r.id, '', ?, r.allocated - ?, r.used, r.allocated, r.used, l.granted, l.allocated," +
		" ?, '', ?, ?, '', '', 0, NULL, NULL, ?, ?, ?" +
		" FROM {{prefix}}ledgers l JOIN {{prefix}}resellers r ON r.ledger = l.id WHERE l.id = ? AND r.id = ?",
	raw:        rawMariaDB,
	size:       innodbSize,
	rowSize:    innodbSize + " AND index_name = 'PRIMARY'",
	statistics: "ANALYZE TABLE {{prefix}}records",
}

const innodbSize = "SELECT sum(stat_value) * @@innodb_page_size FROM mysql.innodb_index_stats" +
	" WHERE database_name = DATABASE() AND table_name = '{{prefix}}records' AND stat_name = 'size'"

// oneStatement is the best hand-written form on PostgreSQL: all of it in one round
// trip, which commits by itself.
const oneStatement = "WITH pool AS (UPDATE {{prefix}}ledgers SET allocated = allocated + $1, sequence = sequence + 1, recorded_at = $2" +
	" WHERE id = $3 AND allocated + $1 <= granted RETURNING id, sequence, granted, allocated)," +
	" reseller AS (UPDATE {{prefix}}balances AS r SET allocated = r.allocated + $1 FROM pool" +
	" WHERE r.ledger = $3 AND r.id = $4 AND r.status = 'active' RETURNING r.id, r.allocated, r.used)" +
	" INSERT INTO {{prefix}}records (" + recordColumns + ")" +
	" SELECT pool.id, pool.sequence, $5, 'allocate', reseller.id, '', $1, reseller.allocated - $1, reseller.used," +
	" reseller.allocated, reseller.used, pool.granted, pool.allocated, $6, '', $7, $8, '', '', 0, NULL, NULL, $2, $2, $9" +
	" FROM pool, reseller"

// byHand is a ledger that is kept without the library.
type byHand struct {
	target
	book                   *book
	db                     *sqlx.DB
	pool, reseller, record *sql.Stmt
	combined               *sql.Stmt // PostgreSQL alone
}

// What the library computes and hand-written SQL does not.
var (
	noPrint = make([]byte, 32)
	noHash  = make([]byte, 32)
)

// byHand returns a ledger that is kept by hand, in tables with the prefix.
func (s *scope) byHand(ctx context.Context, prefix string, resellers, callers int) (*byHand, error) {
	several, err := s.severalByHand(ctx, prefix, 1, resellers, callers)
	if err != nil {
		return nil, err
	}
	return several[0], nil
}

// severalByHand returns ledgers in the same tables, with one pool.
func (s *scope) severalByHand(ctx context.Context, prefix string, count, resellers, callers int) ([]*byHand, error) {
	books, err := s.ledgers(ctx, prefix, count, resellers)
	if err != nil {
		return nil, err
	}
	if !s.keyed[prefix] && s.hand.key != "" {
		if _, err := books[0].db.ExecContext(ctx, text(prefix, s.hand.key)); err != nil {
			return nil, err
		}
	}
	if !s.keyed[prefix] {
		s.keyed[prefix] = true
		s.atEnd(func() error { return s.addsUp(ctx, prefix) })
	}
	connections := min(callers, handConnections)
	if most := s.hand.connections; most > 0 {
		connections = most
	}
	db, err := s.pool(ctx, connections)
	if err != nil {
		return nil, err
	}
	h := byHand{target: s.target, db: db}
	patterns := map[**sql.Stmt]string{&h.pool: s.hand.pool, &h.reseller: s.hand.reseller, &h.record: s.hand.record}
	if s.name == postgres.name {
		patterns[&h.combined] = oneStatement
	}
	for stmt, pattern := range patterns {
		if *stmt, err = db.PrepareContext(ctx, text(prefix, pattern)); err != nil {
			return nil, fmt.Errorf("prepare %s: %w", pattern, err)
		}
	}
	var several []*byHand
	for _, b := range books {
		h.book = b
		several = append(several, new(h))
	}
	return several, nil
}

// bytes is how an id is passed: PostgreSQL has a type for it.
func (t target) bytes(id uuid.UUID) any {
	if t.name == postgres.name {
		return id
	}
	return id[:]
}

var errHandRefused = errors.New("refused: the pool is used up, or the reseller is not active")

// allocateByHand is one transaction.
func (h *byHand) allocate(ctx context.Context) error {
	tx, err := h.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit there is nothing left to do
	if err := h.inside(ctx, tx); err != nil {
		return err
	}
	return tx.Commit()
}

// inside does in a transaction what comes before its commit.
func (h *byHand) inside(ctx context.Context, tx *sql.Tx) error {
	n := h.book.keys.Add(1)
	ledger, reseller, id := h.bytes(h.book.id), h.bytes(h.book.reseller(n)), h.bytes(uuid.Must(uuid.NewV7()))
	key, amount, now := fmt.Sprint("po-", n), cent.Shift(6).IntPart(), time.Now().UnixMicro()
	if !h.hand.returning {
		for _, step := range []struct {
			stmt *sql.Stmt
			args []any
		}{
			{h.pool, []any{amount, now, ledger, amount}},
			{h.reseller, []any{amount, ledger, reseller}},
			{h.record, []any{id, amount, amount, operator, key, noPrint, now, now, noHash, ledger, reseller}},
		} {
			result, err := tx.StmtContext(ctx, step.stmt).ExecContext(ctx, step.args...)
			if err != nil {
				return err
			}
			if changed, err := result.RowsAffected(); err != nil || changed != 1 {
				return errors.Join(err, errHandRefused)
			}
		}
		return nil
	}
	var sequence, granted, taken, allocated, used int64
	if err := tx.StmtContext(ctx, h.pool).QueryRowContext(ctx, amount, ledger, now).Scan(&sequence, &granted, &taken); err != nil {
		return refusedByHand(err)
	}
	if err := tx.StmtContext(ctx, h.reseller).QueryRowContext(ctx, amount, ledger, reseller).Scan(&allocated, &used); err != nil {
		return refusedByHand(err)
	}
	_, err := tx.StmtContext(ctx, h.record).ExecContext(ctx, ledger, sequence, id, reseller, amount,
		allocated-amount, used, allocated, used, granted, taken, operator, key, noPrint, now, now, noHash)
	return err
}

func refusedByHand(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return errHandRefused
	}
	return err
}

// allocateAtOnce is the one statement.
func (h *byHand) allocateAtOnce(ctx context.Context) error {
	n := h.book.keys.Add(1)
	result, err := h.combined.ExecContext(ctx, cent.Shift(6).IntPart(), time.Now().UnixMicro(), h.book.id, h.book.reseller(n),
		uuid.Must(uuid.NewV7()), operator, fmt.Sprint("po-", n), noPrint, noHash)
	if err != nil {
		return err
	}
	if written, err := result.RowsAffected(); err != nil || written != 1 {
		return errors.Join(err, errHandRefused)
	}
	return nil
}

// addsUp is an error if what was written without the library is not what the
// library would have written: if not every allocation is in a record, in the pool
// and in a reseller.
func (s *scope) addsUp(ctx context.Context, prefix string) error {
	var pools, resellers, records int64
	if err := s.books[prefix][0].db.QueryRowContext(ctx, text(prefix, "SELECT (SELECT COALESCE(sum(allocated), 0) FROM {{prefix}}ledgers),"+
		" (SELECT COALESCE(sum(allocated), 0) FROM {{prefix}}"+s.hand.figures+"), (SELECT COALESCE(sum(amount), 0) FROM {{prefix}}records WHERE kind = 'allocate')")).Scan(&pools, &resellers, &records); err != nil {
		return fmt.Errorf("add up %s: %w", prefix, err)
	}
	if pools != resellers || pools != records {
		return fmt.Errorf("%s does not add up: %d is allocated from the pools, %d to the resellers, %d in the records", prefix, pools, resellers, records)
	}
	return nil
}
