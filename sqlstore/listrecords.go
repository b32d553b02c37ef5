package sqlstore

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
)

// Records implements [store.Store].
func (s *Store) Records(ctx context.Context, ledger uuid.UUID, q credit.RecordQuery) ([]credit.Record, error) {
	records, err := s.listRecords(ctx, ledger, s.recordPage(ledger, q))
	if err != nil {
		return nil, s.certain(ctx, fmt.Errorf("list records of ledger %s: %w", ledger, err))
	}
	return records, nil
}

// Latest implements [store.Store]. Records are never changed, so several statements
// see what one would.
func (s *Store) Latest(ctx context.Context, ledger uuid.UUID, resellers []uuid.UUID, kinds []credit.Kind, until int64) ([]credit.Record, error) {
	var found []credit.Record
	for len(resellers) > 0 {
		size := lookupSize(len(resellers))
		part := resellers[:min(size, len(resellers))]
		resellers = resellers[len(part):]
		records, err := s.listRecords(ctx, ledger, s.latest(ledger, part, size, kinds, until))
		if err != nil {
			return nil, s.certain(ctx, fmt.Errorf("list the latest records of resellers of ledger %s: %w", ledger, err))
		}
		found = append(found, records...)
	}
	return found, nil
}

func (s *Store) listRecords(ctx context.Context, ledger uuid.UUID, l *listing) ([]credit.Record, error) {
	var rows []recordRow
	if err := s.list(ctx, ledger, &rows, l); err != nil {
		return nil, err
	}
	records := make([]credit.Record, len(rows))
	for i, row := range rows {
		var err error
		if records[i], err = row.record(); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// recordPage returns the statement for a page.
//
// The records are found by the filter that leaves the fewest, as a rule, along
// an index that has them by sequence; the other filters are looked at along the
// way. For several kinds each has a branch of its own, which stops at the limit.
func (s *Store) recordPage(ledger uuid.UUID, q credit.RecordQuery) *listing {
	order := " ORDER BY sequence"
	if q.NewestFirst {
		order += " DESC"
	}
	kinds, columns := q.Kinds, columnsText("", recordColumns[1:])
	page := &listing{name: recordPageName(q), size: len(kinds)}
	index := recordIndex(q)
	if index != "records_kind" {
		page.add("SELECT "+columns+" FROM "+s.records(index)+" WHERE ledger = ?", s.dialect.id(ledger))
		if len(kinds) > 0 {
			page.add(" AND kind IN "+marks(len(kinds)), values(kinds, kindText)...)
		}
		s.addRecordFilters(page, ledger, q)
		page.add(order+" LIMIT ?"+s.current(), q.Limit)
		return page
	}
	addOfKind := func(to *listing, kind credit.Kind, columns string) {
		to.add("SELECT "+columns+" FROM "+s.records(index)+" WHERE ledger = ? AND kind = ?", s.dialect.id(ledger), string(kind))
		s.addRecordFilters(to, ledger, q)
		to.add(order+" LIMIT ?"+s.current(), q.Limit)
	}
	if len(kinds) == 1 {
		addOfKind(page, kinds[0], columns)
		return page
	}
	branches := make([]*listing, len(kinds))
	for i, kind := range kinds {
		branches[i] = new(listing)
		addOfKind(branches[i], kind, "sequence")
	}
	page.add("SELECT " + columnsText("r", recordColumns[1:]) + " FROM ")
	page.first("sequence", branches, order, q.Limit)
	page.add(s.dialect.join(columnsText("", recordColumns[1:]), s.records(""), "r.ledger = ? AND r.sequence = page.sequence"), s.dialect.id(ledger))
	page.add(" ORDER BY page.sequence")
	if q.NewestFirst {
		page.add(" DESC")
	}
	page.add(s.current())
	return page
}

// recordPageName is empty for a query with filters that few ask for.
func recordPageName(q credit.RecordQuery) string {
	if q.Operator != "" || q.Key != "" || q.Reference != "" || q.Customer != "" || !q.OccurredFrom.IsZero() || !q.OccurredUntil.IsZero() {
		return ""
	}
	name := "list records"
	if q.ResellerID != uuid.Nil {
		name += " of a reseller"
	}
	if q.Before > 0 {
		name += " up to a sequence"
	}
	if q.NewestFirst {
		name += ", newest first"
	}
	return name
}

// recordIndex names the index by which a query finds its records; empty for the
// primary key.
func recordIndex(q credit.RecordQuery) string {
	switch {
	case q.Key != "":
		return ""
	case q.Reference != "":
		return "records_reference"
	case q.Customer != "":
		return "records_customer"
	case q.ResellerID != uuid.Nil:
		return "records_reseller"
	case q.Operator != "":
		return "records_operator"
	case len(q.Kinds) > 0:
		return "records_kind"
	}
	return ""
}

// addRecordFilters adds the conditions of all filters but that of the kinds.
func (s *Store) addRecordFilters(to *listing, ledger uuid.UUID, q credit.RecordQuery) {
	if q.Key != "" {
		to.add(" AND sequence = (SELECT sequence FROM "+s.prefix+"keys WHERE ledger = ? AND idempotency_key = ?"+s.current()+")", s.dialect.id(ledger), q.Key)
	}
	to.add(" AND sequence > ?", q.After)
	if q.Before > 0 {
		to.add(" AND sequence < ?", q.Before)
	}
	if q.ResellerID != uuid.Nil {
		to.add(" AND reseller = ?", s.dialect.id(q.ResellerID))
	}
	for _, exact := range []struct{ column, text string }{{"operator", q.Operator}, {"reference", q.Reference}, {"customer", q.Customer}} {
		if exact.text != "" {
			to.add(" AND "+exact.column+" = ? AND "+exact.column+" <> ''", exact.text) // the latter, because that is what the index has
		}
	}
	if !q.OccurredFrom.IsZero() {
		to.add(" AND occurred_at >= ?", q.OccurredFrom.UnixMicro())
	}
	if !q.OccurredUntil.IsZero() {
		to.add(" AND occurred_at < ?", q.OccurredUntil.UnixMicro())
	}
}

// latest returns the statement for the newest record of each reseller. The ids
// are filled up with the last one to the size.
//
// For each reseller it goes down the index of the reseller's records, which has
// their kinds, to the first that fits.
func (s *Store) latest(ledger uuid.UUID, resellers []uuid.UUID, size int, kinds []credit.Kind, until int64) *listing {
	l := &listing{name: fmt.Sprintf("list the latest records, %d kinds", len(kinds)), size: size}
	id := s.dialect.id(ledger)
	l.add("SELECT " + columnsText("r", recordColumns[1:]) + " FROM (SELECT (SELECT sequence FROM " + s.records("records_reseller"))
	l.add(" WHERE ledger = ? AND reseller = v.id AND sequence <= ?", id, until)
	if len(kinds) > 0 {
		l.add(" AND kind IN "+marks(len(kinds)), values(kinds, kindText)...)
	}
	l.add(" ORDER BY sequence DESC LIMIT 1"+s.current()+") AS sequence FROM "+s.prefix+"resellers AS v WHERE v.ledger = ?", id)
	l.add(" AND v.id IN "+marks(size)+s.current()+") AS newest", filled(values(resellers, s.dialect.id), size)...)
	l.add(s.dialect.join(columnsText("", recordColumns[1:]), s.records(""), "r.ledger = ? AND r.sequence = newest.sequence")+s.current(), id)
	return l
}

func kindText(k credit.Kind) any { return string(k) }
