package sqlstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/resellerkit/credit"
)

// Create implements [store.Store].
func (s *Store) Create(ctx context.Context, d credit.Distributor) (credit.Distributor, error) {
	what := func(err error) error { return fmt.Errorf("create ledger %s: %w", d.ID, err) }
	read := s.distributor
	if s.tx == nil {
		found, err := read(ctx, d.ID)
		if err != nil {
			return credit.Distributor{}, s.certain(ctx, what(err))
		}
		if found != nil {
			return *found, nil
		}
	} else {
		// What the caller's transaction sees may be older than the ledger, and holding
		// what is not there yet would make two that create it deadlock.
		read = s.lock
	}
	if err := s.create(ctx, d); err != nil {
		return credit.Distributor{}, err
	}
	// Another caller may have been first, with another name.
	found, err := read(ctx, d.ID)
	if err == nil && found == nil {
		err = errors.New("what was written is not there; does the pool read from a replica?")
	}
	switch {
	case err == nil:
		return *found, nil
	case s.tx != nil:
		return credit.Distributor{}, s.certain(ctx, what(err))
	}
	return credit.Distributor{}, s.explained(what(err))
}

func (s *Store) create(ctx context.Context, d credit.Distributor) error {
	genesis := credit.Genesis(d)
	text := sqlx.Rebind(s.dialect.bind(), s.dialect.create(s.prefix))
	return s.inTransaction(ctx, func(tx executor) error {
		_, err := tx.ExecContext(ctx, text, s.dialect.id(d.ID), d.Name, d.Currency, 0, genesis[:], nil, 0, 0)
		if err != nil {
			return fmt.Errorf("create ledger %s: %w", d.ID, err)
		}
		return nil
	})
}

// distributorColumns are what of a ledger never changes.
var distributorColumns = ledgerColumns[:3]

// distributor returns nil for a ledger that is not there.
func (s *Store) distributor(ctx context.Context, ledger uuid.UUID) (*credit.Distributor, error) {
	return s.readDistributor(ctx, "read the distributor",
		"SELECT "+columnsText("", distributorColumns)+" FROM "+s.prefix+"ledgers WHERE id = ?", s.dialect.id(ledger))
}

func (s *Store) readDistributor(ctx context.Context, what, text string, args ...any) (*credit.Distributor, error) {
	var rows []struct {
		ID       uuid.UUID `db:"id"`
		Name     string    `db:"name"`
		Currency string    `db:"currency"`
	}
	on := textRunner{s.base(), sqlx.Rebind(s.dialect.bind(), text)}
	if err := selectAll(ctx, on, &rows, args...); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if len(rows) == 0 {
		return nil, nil //nolint:nilnil // see distributor
	}
	return &credit.Distributor{ID: rows[0].ID, Name: rows[0].Name, Currency: rows[0].Currency}, nil
}
