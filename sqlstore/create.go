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
	found, err := s.distributor(ctx, d.ID)
	if err != nil {
		return credit.Distributor{}, s.certain(ctx, what(err))
	}
	if found != nil {
		return *found, nil
	}
	if err := s.create(ctx, d); err != nil {
		return credit.Distributor{}, err
	}
	// Another caller may have been first, with another name.
	if found, err = s.distributor(ctx, d.ID); err == nil && found == nil {
		err = errors.New("what was written is not there; does the pool read from a replica?")
	}
	if err != nil {
		return credit.Distributor{}, s.explained(what(err))
	}
	return *found, nil
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

// distributor returns nil for a ledger that is not there.
func (s *Store) distributor(ctx context.Context, ledger uuid.UUID) (*credit.Distributor, error) {
	var rows []struct {
		ID       uuid.UUID `db:"id"`
		Name     string    `db:"name"`
		Currency string    `db:"currency"`
	}
	text := "SELECT " + columnsText("", ledgerColumns[:3]) + " FROM " + s.prefix + "ledgers WHERE id = ?"
	if err := selectAll(ctx, textRunner{s.base(), sqlx.Rebind(s.dialect.bind(), text)}, &rows, s.dialect.id(ledger)); err != nil || len(rows) == 0 {
		return nil, err
	}
	return &credit.Distributor{ID: rows[0].ID, Name: rows[0].Name, Currency: rows[0].Currency}, nil
}
