package sqlstore

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// pgLoadedRow is a row of what is loaded; part says which of its members it is.
type pgLoadedRow struct {
	Part     string      `db:"part"`
	Head     headRow     `db:"head"`
	Reseller resellerRow `db:"reseller"`
	Record   recordRow   `db:"record"`
}

// load reads everything with one statement, because each statement has a
// snapshot of its own under READ COMMITTED, also in the caller's transaction.
func (d postgres) load(ctx context.Context, s *Store, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
	text, args, err := d.loadStatement(s, ledger, asked)
	if err != nil {
		return credit.Snapshot{}, err
	}
	rows, err := s.base().QueryContext(ctx, text, args...) //nolint:rowserrcheck // StructScan returns it
	if err != nil {
		return credit.Snapshot{}, err
	}
	defer func() { _ = rows.Close() }() // StructScan has reported what there is to report
	var page []pgLoadedRow
	if err := sqlx.StructScan(rows, &page); err != nil {
		return credit.Snapshot{}, err
	}
	var found credit.Snapshot
	exists := false
	known := map[uuid.UUID]bool{} // a reseller may be asked for both ways, or twice
	taken := map[int64]bool{}
	for i := range page {
		switch row := &page[i]; row.Part {
		case "head":
			exists = true
			found.Head = row.Head.head()
		case "reseller":
			if !known[row.Reseller.ID] {
				known[row.Reseller.ID] = true
				found.Resellers = append(found.Resellers, row.Reseller.reseller())
			}
		case "record":
			if taken[row.Record.Sequence] {
				continue
			}
			taken[row.Record.Sequence] = true
			record, err := row.Record.record()
			if err != nil {
				return credit.Snapshot{}, err
			}
			found.Records = append(found.Records, record)
		}
	}
	if !exists {
		return credit.Snapshot{}, store.ErrNoLedger
	}
	return found, nil
}

// pgConfirm commits something that is nothing, if commits wait for standbys. Nobody
// needs a right for it.
const pgConfirm = "SELECT CASE WHEN current_setting('synchronous_standby_names') <> '' THEN pg_logical_emit_message(true, 'credit', '') END"

// confirm waits until what was read is on a standby, if there is one that commits
// wait for. A commit that was cut off in that wait is seen all the same, and its
// callers ask for its keys: the answer that it happened must not be lost with the
// primary. In a transaction of somebody's, its own commit waits.
func (postgres) confirm(ctx context.Context, s *Store, _ uuid.UUID) error {
	if s.tx != nil {
		return nil
	}
	if _, err := s.db.ExecContext(ctx, pgConfirm); err != nil {
		return err
	}
	return ctx.Err() // what is cut off answers success
}

func (d postgres) loadStatement(s *Store, ledger uuid.UUID, asked credit.ReadSet) (text string, args []any, err error) {
	var q pgStatement
	id := q.bind(ledger, "uuid")
	heads, resellers, records := ledgerColumns[3:], resellerColumns[1:], recordColumns[1:]
	part := func(name, head, reseller, record string) {
		q.text("SELECT '", name, "' AS part, ", head, ", ", reseller, ", ", record)
	}
	noHead, noReseller, noRecord := pgNothing("head", heads, pgHeadTypes), pgNothing("reseller", resellers, pgResellerTypes), pgNothing("record", records, pgRecordTypes)
	part("head", pgNamed("head", "t", heads), noReseller, noRecord)
	q.text(" FROM ", s.prefix, "ledgers AS t WHERE id = ", id)
	for _, way := range []struct {
		column, as string
		values     []any
	}{{"id", "uuid", values(asked.Resellers, idAsIs)}, {"external_id", "text", values(asked.ExternalIDs, asIs)}} {
		if len(way.values) == 0 {
			continue
		}
		array, err := pgArrayOf(way.values)
		if err != nil {
			return "", nil, err
		}
		q.text(" UNION ALL ")
		part("reseller", noHead, pgNamed("reseller", "t", resellers), noRecord)
		q.text(" FROM ", q.values(array, way.as, len(way.values)), " AS v CROSS JOIN ",
			pgLookup(s.prefix, "t", resellers, d.resellers(s.prefix, "", everything), "ledger = "+id+" AND "+way.column+" = v.value"))
	}
	if len(asked.Keys) > 0 {
		array, err := pgArrayOf(values(asked.Keys, asIs))
		if err != nil {
			return "", nil, err
		}
		q.text(" UNION ALL ")
		part("record", noHead, noReseller, pgNamed("record", "t", records))
		q.text(" FROM ", q.values(array, "text", len(asked.Keys)), " AS v CROSS JOIN ",
			pgLookup(s.prefix, "k", []string{"sequence"}, s.prefix+"keys", "ledger = "+id+" AND idempotency_key = v.value"), " CROSS JOIN ",
			pgLookup(s.prefix, "t", records, s.prefix+"records", "ledger = "+id+" AND sequence = k.sequence"))
	}
	return q.sql.String(), q.args, nil
}

// The types of what is loaded: of ledgerColumns from the sequence on, and of
// resellerColumns and recordColumns after the ledger.
var (
	pgHeadTypes = []string{"bigint", "bytea", "bigint", "bigint", "bigint"}

	pgResellerTypes = []string{"uuid", "text", "bigint", "bigint", "bigint",
		"text", "text", "text", "text", "bigint", "text"}

	pgRecordTypes = []string{"bigint", "uuid", "text", "uuid", "text", "bigint",
		"bigint", "bigint", "bigint", "bigint", "bigint", "bigint",
		"text", "text", "text", "bytea", "text", "text", "bigint", "jsonb", "jsonb",
		"bigint", "bigint", "bytea"}
)

// pgNamed selects columns under names of which sqlx makes a member of pgLoadedRow.
func pgNamed(member, from string, columns []string) string {
	list := make([]string, len(columns))
	for i, column := range columns {
		list[i] = fmt.Sprintf("%s.%s AS \"%s.%s\"", from, column, member, column)
	}
	return strings.Join(list, ", ")
}

// pgNothing stands for the columns of another part: NULL where the member of
// pgLoadedRow can be nothing, which is so for all but text and numbers.
func pgNothing(member string, columns, types []string) string {
	list := make([]string, len(columns))
	for i, column := range columns {
		value := "NULL"
		switch types[i] {
		case "bigint":
			value = "0"
		case "text":
			value = "''"
		}
		list[i] = fmt.Sprintf("CAST(%s AS %s) AS \"%s.%s\"", value, types[i], member, column)
	}
	return strings.Join(list, ", ")
}

func pgArrayOf(list []any) (a pgArray, err error) {
	for _, v := range list {
		if err := a.add(v); err != nil {
			return a, err
		}
	}
	return a, nil
}

func idAsIs(id uuid.UUID) any { return id }
