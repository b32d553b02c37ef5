package main

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

const (
	// engineConnections is how many connections the library's pool has.
	engineConnections = 16
	// remembered is how many resellers an engine remembers: the default, for each of
	// them alone.
	remembered = 1_000_000
	// most is how many commands one call of Bulk takes.
	most     = 10_000
	operator = "ops@example.com"
)

// cent is what is allocated each time.
var cent = decimal.New(1, -2)

// book is a ledger with its resellers, made by the library.
type book struct {
	*store.Ledger
	db     *sqlx.DB        // nil in memory
	sql    *sqlstore.Store // nil in memory
	prefix string          // of its tables
	id     uuid.UUID
	ids    []uuid.UUID  // of the resellers
	name   string       // what its keys begin with; empty is "po"
	keys   atomic.Int64 // the last one that was used
}

// newBook adds a ledger with so many resellers to a store. Its pool is as large as
// it can be.
func newBook(ctx context.Context, s store.Store, resellers int) (*book, error) {
	d := credit.Distributor{ID: uuid.New(), Name: "Acme Cloud", Currency: "USD"}
	l, err := store.Open(ctx, s, d, store.Options{Memory: store.NewMemory(remembered)})
	if err != nil {
		return nil, err
	}
	b := &book{Ledger: l, id: d.ID}
	if _, err := b.Grant(ctx, credit.Grant{Amount: decimal.NewFromInt(999_999_999_999), Operator: operator}); err != nil {
		return nil, err
	}
	commands := make([]credit.Command, 0, most)
	for len(b.ids) < resellers {
		commands = commands[:0]
		for i := range min(most, resellers-len(b.ids)) {
			n := len(b.ids) + i
			// In the order of names it is not in the order of ids.
			commands = append(commands, credit.NewReseller{Name: fmt.Sprintf("Reseller %07d", n*scatter%resellers), ExternalID: fmt.Sprintf("2000%08d", n)})
		}
		receipts, err := b.all(ctx, commands)
		if err != nil {
			return nil, err
		}
		for _, r := range receipts {
			b.ids = append(b.ids, r.ResellerID)
		}
	}
	return b, nil
}

// all executes the commands, and none may be refused.
func (b *book) all(ctx context.Context, commands []credit.Command) ([]credit.Receipt, error) {
	outcomes, err := b.Bulk(ctx, commands, credit.BulkOptions{})
	if err != nil {
		return nil, err
	}
	receipts := make([]credit.Receipt, len(outcomes))
	for i, o := range outcomes {
		if o.Err != nil {
			return nil, o.Err
		}
		receipts[i] = o.Receipt
	}
	return receipts, nil
}

// ledger returns the ledger whose tables have the prefix, and makes it at the
// first call.
func (s *scope) ledger(ctx context.Context, prefix string, resellers int) (*book, error) {
	several, err := s.ledgers(ctx, prefix, 1, resellers)
	if err != nil {
		return nil, err
	}
	return several[0], nil
}

// ledgers is the same for several in the same tables.
func (s *scope) ledgers(ctx context.Context, prefix string, count, resellers int) ([]*book, error) {
	if books, ok := s.books[prefix]; ok {
		return books, nil
	}
	var on store.Store = memstore.New()
	var db *sqlx.DB
	var tables *sqlstore.Store
	if s.dialect != nil {
		var err error
		if db, err = s.shared(ctx); err != nil {
			return nil, err
		}
		if tables, err = sqlstore.New(db, s.dialect, sqlstore.WithPrefix(prefix)); err != nil {
			return nil, err
		}
		if err := tables.Migrate(ctx); err != nil {
			return nil, err
		}
		on = tables
	}
	var books []*book
	for range count {
		b, err := newBook(ctx, on, resellers)
		if err != nil {
			return nil, fmt.Errorf("fill %s: %w", prefix, err)
		}
		b.db, b.sql, b.prefix = db, tables, prefix
		books = append(books, b)
	}
	s.books[prefix] = books
	return books, s.settle(ctx, db)
}

// settle does once what the database would do by itself some time after it was
// filled, so that it does not do it in the middle of a measurement.
func (s *scope) settle(ctx context.Context, db *sqlx.DB) error {
	if s.name != postgres.name {
		return nil
	}
	for _, text := range []string{"VACUUM ANALYZE", "CHECKPOINT"} {
		if _, err := db.ExecContext(ctx, text); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	return nil
}

// fill allocates in bulk until the log has so many records.
func (b *book) fill(ctx context.Context, records int) error {
	head, err := b.Head(ctx)
	if err != nil {
		return err
	}
	for left := records - int(head.Sequence); left > 0; left -= most {
		if _, err := b.all(ctx, b.next(min(most, left))); err != nil {
			return err
		}
	}
	return nil
}

// scatter has no factor in common with a power of ten, so that its multiples visit
// all resellers, far from each other.
const scatter = 7919

// reseller is the one that the n-th allocation goes to.
func (b *book) reseller(n int64) uuid.UUID { return b.ids[n*scatter%int64(len(b.ids))] }

// allocation is the next one.
func (b *book) allocation() credit.Allocation {
	n := b.keys.Add(1)
	return credit.Allocation{ResellerID: b.reseller(n), Amount: cent, Operator: operator, Key: fmt.Sprintf("%s-%d", cmp.Or(b.name, "po"), n)}
}

// next are the next commands for Bulk.
func (b *book) next(count int) []credit.Command {
	commands := make([]credit.Command, count)
	for i := range commands {
		commands[i] = b.allocation()
	}
	return commands
}

// allocate is one call of the engine.
func (b *book) allocate(ctx context.Context) error {
	_, err := b.Allocate(ctx, b.allocation())
	return err
}

// bulk is one call of the engine with a thousand allocations.
func (b *book) bulk(ctx context.Context) error {
	_, err := b.all(ctx, b.next(bulkSize))
	return err
}

const bulkSize = 1000
