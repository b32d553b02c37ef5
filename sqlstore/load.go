package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// Confirm implements [store.Confirmer].
func (s *Store) Confirm(ctx context.Context, ledger uuid.UUID) error {
	if err := s.dialect.confirm(ctx, s, ledger); err != nil {
		return s.certain(ctx, fmt.Errorf("wait until ledger %s is durable: %w", ledger, err))
	}
	return nil
}

// Load implements [store.Store].
func (s *Store) Load(ctx context.Context, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
	var err error
	if s.tx != nil {
		_, err = s.lock(ctx, ledger)
	}
	var found credit.Snapshot
	if err == nil {
		found, err = s.dialect.load(ctx, s, ledger, asked)
	}
	if err != nil {
		return credit.Snapshot{}, s.certain(ctx, fmt.Errorf("load ledger %s: %w", ledger, err))
	}
	return found, nil
}

// loadParts loads with one statement for each sort of thing, all in one snapshot:
// that of a transaction of its own, or what is committed while the ledger is
// locked, in the caller's. A hold begins with the lock, so its snapshot is no older,
// and needs no locks of rows, nor of gaps between them, where holds of different
// ledgers would meet.
func (s *Store) loadParts(ctx context.Context, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
	locked := s.current()
	// All statements are prepared before the transaction takes what may be the
	// pool's only connection.
	head, err := s.statement(ctx, "read the head"+locked, 1, func() string { return s.headText() + locked })
	if err != nil {
		return credit.Snapshot{}, err
	}
	byID, err := s.lookups(ctx, "read resellers"+locked, ledger, values(asked.Resellers, s.dialect.id), func(n int) string {
		return s.resellersText() + " WHERE ledger = ? AND id IN " + marks(n) + locked
	})
	if err != nil {
		return credit.Snapshot{}, err
	}
	byExternalID, err := s.lookups(ctx, "read resellers by external id"+locked, ledger, values(asked.ExternalIDs, asIs), func(n int) string {
		return s.resellersText() + s.dialect.using(s.prefix+"resellers_external_id") + " WHERE ledger = ? AND external_id IN " + marks(n) + locked
	})
	if err != nil {
		return credit.Snapshot{}, err
	}
	byKey, err := s.lookups(ctx, "read the records of keys"+locked, ledger, values(asked.Keys, asIs), func(n int) string {
		return "SELECT " + columnsText("r", recordColumns[1:]) + " FROM " + s.prefix + "keys k JOIN " + s.prefix + "records r" +
			" ON r.ledger = k.ledger AND r.sequence = k.sequence WHERE k.ledger = ? AND k.idempotency_key IN " + marks(n) + locked
	})
	if err != nil {
		return credit.Snapshot{}, err
	}
	on := s.base()
	if s.tx == nil && len(byID)+len(byExternalID)+len(byKey) > 0 {
		tx, err := s.db.BeginTxx(ctx, s.dialect.snapshot())
		if err != nil {
			return credit.Snapshot{}, err
		}
		defer func() { _ = tx.Rollback() }() // it only reads
		on = tx
	}
	found, err := loadHead(ctx, head.on(ctx, on), s.dialect.id(ledger))
	if err != nil {
		return credit.Snapshot{}, err
	}
	known := map[uuid.UUID]bool{} // a reseller may be asked for both ways
	for _, l := range append(byID, byExternalID...) {
		var page []resellerRow
		if err := l.read(ctx, on, &page); err != nil {
			return credit.Snapshot{}, err
		}
		for _, row := range page {
			if !known[row.ID] {
				known[row.ID] = true
				found.Resellers = append(found.Resellers, row.reseller())
			}
		}
	}
	taken := map[int64]bool{}
	for _, l := range byKey {
		var page []recordRow
		if err := l.read(ctx, on, &page); err != nil {
			return credit.Snapshot{}, err
		}
		for _, row := range page {
			if taken[row.Sequence] {
				continue
			}
			taken[row.Sequence] = true
			record, err := row.record()
			if err != nil {
				return credit.Snapshot{}, err
			}
			found.Records = append(found.Records, record)
		}
	}
	return found, nil
}

func loadHead(ctx context.Context, r runner, ledger any) (credit.Snapshot, error) {
	var rows []headRow
	if err := selectAll(ctx, r, &rows, ledger); err != nil {
		return credit.Snapshot{}, fmt.Errorf("read the head: %w", err)
	}
	if len(rows) == 0 {
		return credit.Snapshot{}, store.ErrNoLedger
	}
	return credit.Snapshot{Head: rows[0].head()}, nil
}

// lookup is one statement that reads the rows of some of the values asked for.
type lookup struct {
	what string
	stmt *statement
	args []any
}

func (l lookup) read(ctx context.Context, on executor, to any) error {
	if err := selectAll(ctx, l.stmt.on(ctx, on), to, l.args...); err != nil {
		return fmt.Errorf("%s: %w", l.what, err)
	}
	return nil
}

// any tells whether there is a row.
func (l lookup) any(ctx context.Context, on executor) (bool, error) {
	rows, err := l.stmt.on(ctx, on).QueryContext(ctx, l.args...)
	if err != nil {
		return false, fmt.Errorf("%s: %w", l.what, err)
	}
	there := rows.Next()
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return false, fmt.Errorf("%s: %w", l.what, err)
	}
	return there, nil
}

// lookupSizes are how many values one statement asks for; the rest of a list is
// filled up with its last value, so that few statements have to be prepared.
var lookupSizes = []int{1, 8, 64, 512}

// lookups cuts a list of values into statements: text makes the one for n values,
// whose first parameter is the ledger.
func (s *Store) lookups(ctx context.Context, what string, ledger uuid.UUID, list []any, text func(n int) string) ([]lookup, error) {
	var all []lookup
	for len(list) > 0 {
		size := lookupSize(len(list))
		stmt, err := s.statement(ctx, what, size, func() string { return text(size) })
		if err != nil {
			return nil, err
		}
		part := list[:min(size, len(list))]
		list = list[len(part):]
		args := append(make([]any, 0, size+1), s.dialect.id(ledger))
		all = append(all, lookup{what, stmt, filled(append(args, part...), size+1)})
	}
	return all, nil
}

// lookupSize is the smallest size that holds n values, or else the largest.
func lookupSize(n int) int {
	for _, size := range lookupSizes {
		if n <= size {
			return size
		}
	}
	return lookupSizes[len(lookupSizes)-1]
}

// filled repeats the last value until there are n.
func filled(args []any, n int) []any {
	for len(args) < n {
		args = append(args, args[len(args)-1])
	}
	return args
}

func values[T any](list []T, value func(T) any) []any {
	args := make([]any, len(list))
	for i, v := range list {
		args[i] = value(v)
	}
	return args
}

func asIs(s string) any { return s }

func (s *Store) headText() string {
	return "SELECT " + columnsText("", ledgerColumns[3:]) + " FROM " + s.prefix + "ledgers WHERE id = ?"
}

func (s *Store) resellersText() string {
	return "SELECT " + columnsText("", resellerColumns[1:]) + " FROM " + s.prefix + "resellers"
}

// columnsText is a.x, a.y for the alias a, else x, y.
func columnsText(alias string, columns []string) string {
	if alias == "" {
		return strings.Join(columns, ", ")
	}
	return alias + "." + strings.Join(columns, ", "+alias+".")
}
