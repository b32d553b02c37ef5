package sqlstore

import (
	"context"
	"fmt"
	"math"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// Resellers implements [store.Store].
func (s *Store) Resellers(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery, after store.ResellerPosition) ([]credit.Reseller, error) {
	name, text, args := s.resellerPage(ledger, q, after)
	var page []resellerRow
	if err := s.list(ctx, &page, name, lookupSize(len(q.Statuses)), text, args); err != nil {
		return nil, s.certain(ctx, fmt.Errorf("list resellers of ledger %s: %w", ledger, err))
	}
	resellers := make([]credit.Reseller, len(page))
	for i, row := range page {
		resellers[i] = row.reseller()
	}
	return resellers, nil
}

// resellerPage returns the name of a statement, its text and its parameters.
func (s *Store) resellerPage(ledger uuid.UUID, q credit.ResellerQuery, after store.ResellerPosition) (name string, text func() string, args []any) {
	statuses := lookupSize(len(q.Statuses))
	args = []any{s.dialect.id(ledger)}
	for _, status := range q.Statuses {
		args = append(args, string(status))
	}
	args = filled(args, statuses+1)
	name = "list resellers"
	var beyond string
	if after != (store.ResellerPosition{}) {
		name += " from a position"
		var position []any
		beyond, position = s.dialect.beyond(q.Order.Ascending(), after.BoundAt.UnixMicro(), s.dialect.id(after.ID))
		beyond, args = " AND "+beyond, append(args, position...)
	}
	if q.Order.Ascending() {
		name += ", oldest first"
	}
	return name, func() string {
		text := s.resellersText() + s.dialect.using(s.prefix+"resellers_bound") + " WHERE ledger = ? AND status IN " + marks(statuses) + beyond
		if q.Order.Ascending() {
			return text + " ORDER BY bound_at, id LIMIT ?"
		}
		return text + " ORDER BY bound_at DESC, id DESC LIMIT ?"
	}, append(args, q.Limit)
}

// Records implements [store.Store].
func (s *Store) Records(ctx context.Context, ledger uuid.UUID, q credit.RecordQuery) ([]credit.Record, error) {
	name, text, args := s.recordPage(ledger, q)
	var page []recordRow
	if err := s.list(ctx, &page, name, lookupSize(len(q.Kinds)), text, args); err != nil {
		return nil, s.certain(ctx, fmt.Errorf("list records of ledger %s: %w", ledger, err))
	}
	records := make([]credit.Record, len(page))
	for i, row := range page {
		var err error
		if records[i], err = row.record(); err != nil {
			return nil, s.certain(ctx, fmt.Errorf("list records of ledger %s: %w", ledger, err))
		}
	}
	return records, nil
}

// recordPage returns the name of a statement, its text and its parameters.
func (s *Store) recordPage(ledger uuid.UUID, q credit.RecordQuery) (name string, text func() string, args []any) {
	before := q.Before
	if before == 0 {
		before = math.MaxInt64
	}
	args = []any{s.dialect.id(ledger), q.After, before}
	name = "list records"
	if q.ResellerID != uuid.Nil {
		name += " of a reseller"
		args = append(args, s.dialect.id(q.ResellerID))
	}
	kinds := lookupSize(len(q.Kinds))
	if len(q.Kinds) > 0 {
		name += " of some kinds"
		n := len(args)
		for _, kind := range q.Kinds {
			args = append(args, string(kind))
		}
		args = filled(args, n+kinds)
	}
	if q.NewestFirst {
		name += ", newest first"
	}
	return name, func() string {
		text := "SELECT " + columnsText("", recordColumns[1:]) + " FROM " + s.prefix + "records"
		if q.ResellerID != uuid.Nil {
			text += s.dialect.using(s.prefix + "records_reseller")
		}
		text += " WHERE ledger = ? AND sequence > ? AND sequence < ?"
		if q.ResellerID != uuid.Nil {
			text += " AND reseller = ?"
		}
		if len(q.Kinds) > 0 {
			text += " AND kind IN " + marks(kinds)
		}
		if q.NewestFirst {
			return text + " ORDER BY sequence DESC LIMIT ?"
		}
		return text + " ORDER BY sequence LIMIT ?"
	}, append(args, q.Limit)
}

func (s *Store) list(ctx context.Context, to any, name string, size int, text func() string, args []any) error {
	stmt, err := s.statement(ctx, name, size, text)
	if err != nil {
		return err
	}
	return selectAll(ctx, stmt.on(ctx, s.base()), to, args...)
}

// CountResellers implements [store.Store].
func (s *Store) CountResellers(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery) (int, error) {
	panic("to be written")
}

// Latest implements [store.Store].
func (s *Store) Latest(ctx context.Context, ledger uuid.UUID, resellers []uuid.UUID, kinds []credit.Kind, until int64) ([]credit.Record, error) {
	panic("to be written")
}
