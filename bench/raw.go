package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
)

// rawRow is a record as the raw limit writes it, of what differs from row to row.
type rawRow struct {
	sequence      int64
	id, reseller  uuid.UUID
	key           string
	before, after int64
	taken         int64
	at            int64
	ledger        uuid.UUID
	granted       int64
	bytes         func(uuid.UUID) any
}

// values are those of all columns of a record.
func (r *rawRow) values() []any {
	return []any{r.bytes(r.ledger), r.sequence, r.bytes(r.id), "allocate", r.bytes(r.reseller), "", r.after - r.before,
		r.before, 0, r.after, 0, r.granted, r.taken, operator, "", r.key, noPrint, "", "", 0, nil, nil, r.at, r.at, noHash}
}

// rawLedger writes rows in bulk: no rule, no hash, no idempotency. What the
// figures are it knows from memory, being alone.
type rawLedger struct {
	target
	book           *book
	db             *sqlx.DB
	sequence       int64
	granted, taken int64
	allocated      map[uuid.UUID]int64
}

func (s *scope) raw(ctx context.Context, prefix string, resellers int) (*rawLedger, error) {
	b, err := s.ledger(ctx, prefix, resellers)
	if err != nil {
		return nil, err
	}
	s.atEnd(func() error { return s.addsUp(ctx, prefix) })
	db, err := s.pool(ctx, 1)
	if err != nil {
		return nil, err
	}
	head, err := b.Head(ctx)
	if err != nil {
		return nil, err
	}
	r := &rawLedger{target: s.target, book: b, db: db, sequence: head.Sequence,
		granted: head.Pool.Granted.Shift(6).IntPart(), allocated: map[uuid.UUID]int64{}}
	return r, nil
}

// bulk writes a thousand records, the resellers that they change and the pool, in
// one transaction.
func (r *rawLedger) bulk(ctx context.Context) error {
	amount, at := cent.Shift(6).IntPart(), time.Now().UnixMicro()
	rows := make([]rawRow, bulkSize)
	for i := range rows {
		n := r.book.keys.Add(1)
		id := r.book.reseller(n)
		r.sequence++
		r.taken += amount
		r.allocated[id] += amount
		rows[i] = rawRow{sequence: r.sequence, id: uuid.Must(uuid.NewV7()), reseller: id, key: fmt.Sprint("po-", n),
			before: r.allocated[id] - amount, after: r.allocated[id], taken: r.taken, at: at, ledger: r.book.id, granted: r.granted, bytes: r.bytes}
	}
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit there is nothing left to do
	if err := r.hand.raw(ctx, tx, r.book.prefix, rows); err != nil {
		return err
	}
	return tx.Commit()
}

// exactly runs a statement that must change so many rows.
func exactly(ctx context.Context, tx *sql.Tx, rows int, statement string, args ...any) error {
	result, err := tx.ExecContext(ctx, statement, args...)
	if err != nil {
		return err
	}
	if changed, err := result.RowsAffected(); err != nil || changed != int64(rows) {
		return fmt.Errorf("%d rows changed instead of %d (%w)", changed, rows, err)
	}
	return nil
}

// last returns the last row of each reseller, in the order of their first.
func last(rows []rawRow) []*rawRow {
	at := map[uuid.UUID]int{}
	var found []*rawRow
	for i := range rows {
		if j, ok := at[rows[i].reseller]; ok {
			found[j] = &rows[i]
			continue
		}
		at[rows[i].reseller] = len(found)
		found = append(found, &rows[i])
	}
	return found
}

const (
	rawPoolQuestion = "UPDATE {{prefix}}ledgers SET sequence = ?, allocated = ?, recorded_at = ? WHERE id = ?"
	rawPoolDollar   = "UPDATE {{prefix}}ledgers SET sequence = $1, allocated = $2, recorded_at = $3 WHERE id = $4"
	recordValues    = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

// sqliteRows is how many records a statement of SQLite has. From 1 to 50 made no
// difference, and 500 was slower.
const sqliteRows = 50

func rawSQLite(ctx context.Context, tx *sql.Tx, prefix string, rows []rawRow) error {
	end := &rows[len(rows)-1]
	if err := exactly(ctx, tx, 1, text(prefix, rawPoolQuestion), end.sequence, end.taken, end.at, end.bytes(end.ledger)); err != nil {
		return err
	}
	update, err := tx.PrepareContext(ctx, text(prefix, "UPDATE {{prefix}}resellers SET allocated = ? WHERE ledger = ? AND id = ?"))
	if err != nil {
		return err
	}
	defer func() { _ = update.Close() }() // with the transaction
	for _, r := range last(rows) {
		if _, err := update.ExecContext(ctx, r.after, r.bytes(r.ledger), r.bytes(r.reseller)); err != nil {
			return err
		}
	}
	insert, err := tx.PrepareContext(ctx, text(prefix, "INSERT INTO {{prefix}}records ("+recordColumns+") VALUES "+recordValues+strings.Repeat(", "+recordValues, sqliteRows-1)))
	if err != nil {
		return err
	}
	defer func() { _ = insert.Close() }() // with the transaction
	for ; len(rows) > 0; rows = rows[sqliteRows:] {
		var args []any
		for i := range sqliteRows {
			args = append(args, rows[i].values()...)
		}
		if _, err := insert.ExecContext(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

func rawMariaDB(ctx context.Context, tx *sql.Tx, prefix string, rows []rawRow) error {
	end := &rows[len(rows)-1]
	if err := exactly(ctx, tx, 1, text(prefix, rawPoolQuestion), end.sequence, end.taken, end.at, end.bytes(end.ledger)); err != nil {
		return err
	}
	changed := last(rows)
	var args []any
	for _, r := range changed {
		args = append(args, r.after, r.bytes(r.reseller))
	}
	if err := exactly(ctx, tx, len(changed), text(prefix, "UPDATE (SELECT ? AS allocated, ? AS id"+strings.Repeat(" UNION ALL SELECT ?, ?", len(changed)-1)+") v"+
		" STRAIGHT_JOIN {{prefix}}resellers r ON r.id = v.id SET r.allocated = v.allocated WHERE r.ledger = ?"), append(args, end.bytes(end.ledger))...); err != nil {
		return err
	}
	args = args[:0]
	for i := range rows {
		args = append(args, rows[i].values()...)
	}
	return exactly(ctx, tx, len(rows), text(prefix, "INSERT INTO {{prefix}}records ("+recordColumns+") VALUES "+recordValues+strings.Repeat(", "+recordValues, len(rows)-1)), args...)
}

// rawPostgres sends each column that differs from row to row as an array, which
// was faster than a parameter for each value.
func rawPostgres(ctx context.Context, tx *sql.Tx, prefix string, rows []rawRow) error {
	end := &rows[len(rows)-1]
	if err := exactly(ctx, tx, 1, text(prefix, rawPoolDollar), end.sequence, end.taken, end.at, end.ledger); err != nil {
		return err
	}
	changed := last(rows)
	ids, after := make([]string, len(changed)), make([]int64, len(changed))
	for i, r := range changed {
		ids[i], after[i] = r.reseller.String(), r.after
	}
	if err := exactly(ctx, tx, len(changed), text(prefix, "UPDATE {{prefix}}balances AS r SET allocated = v.allocated"+
		" FROM unnest($1::uuid[], $2::bigint[]) AS v (id, allocated) WHERE r.ledger = $3 AND r.id = v.id"), ids, after, end.ledger); err != nil {
		return err
	}
	n := len(rows)
	sequences, records, resellers, keys := make([]int64, n), make([]string, n), make([]string, n), make([]string, n)
	amounts, befores, afters, takens := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i := range rows {
		r := &rows[i]
		sequences[i], records[i], resellers[i], keys[i] = r.sequence, r.id.String(), r.reseller.String(), r.key
		amounts[i], befores[i], afters[i], takens[i] = r.after-r.before, r.before, r.after, r.taken
	}
	return exactly(ctx, tx, n, text(prefix, "INSERT INTO {{prefix}}records ("+recordColumns+")"+
		" SELECT $1, v.sequence, v.id, 'allocate', v.reseller, '', v.amount, v.before, 0, v.after, 0, $2, v.taken, $3, '', v.key, $4, '', '', 0, NULL, NULL, $5, $5, $6"+
		" FROM unnest($7::bigint[], $8::uuid[], $9::uuid[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[])"+
		" AS v (sequence, id, reseller, key, amount, before, after, taken)"),
		end.ledger, end.granted, operator, noPrint, end.at, noHash,
		sequences, records, resellers, keys, amounts, befores, afters, takens)
}
