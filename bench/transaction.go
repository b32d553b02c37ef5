package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/jmoiron/sqlx"

	"github.com/resellerkit/credit/sqlstore"
)

const (
	orders   = "CREATE TABLE orders (id BIGINT PRIMARY KEY, reference VARCHAR(200) NOT NULL)"
	newOrder = "INSERT INTO orders (id, reference) VALUES (?, ?)"
)

// inTransaction compares an order and its credit in one transaction of the
// caller's with the same by hand.
func inTransaction(*run) []batch {
	var batches []batch
	for _, t := range databases() {
		b := batch{target: t}
		var n atomic.Int64
		for i, callers := range []int{1, 8} {
			b.comparisons = append(b.comparisons, comparison{group: "transaction", action: "an order and its credit in the caller's transaction", against: "hand-written",
				store: t.name, callers: callers, size: fewResellers, views: []view{rate(goal{}), tail(goal{})},
				prepare: func(ctx context.Context, s *scope) (ours, baseline side, err error) {
					b, err := s.ledger(ctx, "tx_", fewResellers)
					if err != nil {
						return nil, nil, err
					}
					h, err := s.byHand(ctx, "txhand_", fewResellers, callers)
					if err != nil {
						return nil, nil, err
					}
					db, err := s.pool(ctx, h.db.Stats().MaxOpenConnections)
					if err != nil {
						return nil, nil, err
					}
					if i == 0 {
						if _, err := db.ExecContext(ctx, orders); err != nil {
							return nil, nil, err
						}
					}
					return byCallers(callers, 1, func(ctx context.Context) error {
							return s.ordered(ctx, db, &n, func(tx *sqlx.Tx) error {
								_, err := b.On(b.sql.WithTx(tx)).Allocate(ctx, b.allocation())
								return err
							})
						}), byCallers(callers, 1, func(ctx context.Context) error {
							return s.ordered(ctx, h.db, &n, func(tx *sqlx.Tx) error { return h.inside(ctx, tx.Tx) })
						}), nil
				}})
		}
		batches = append(batches, b)
	}
	return batches
}

// ordered inserts an order and does the rest in the same transaction, again if the
// database says that this may help.
func (s *scope) ordered(ctx context.Context, db *sqlx.DB, n *atomic.Int64, rest func(*sqlx.Tx) error) error {
	for {
		err := s.orderedOnce(ctx, db, n.Add(1), rest)
		if failed, ok := errors.AsType[*sqlstore.TxError](err); !ok || !failed.Temporary {
			return err
		}
	}
}

func (s *scope) orderedOnce(ctx context.Context, db *sqlx.DB, n int64, rest func(*sqlx.Tx) error) error {
	tx, err := db.BeginTxx(ctx, &sql.TxOptions{})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit there is nothing left to do
	if _, err := tx.ExecContext(ctx, tx.Rebind(newOrder), n, fmt.Sprint("order-", n)); err != nil {
		return err
	}
	if err := rest(tx); err != nil {
		return err
	}
	return tx.Commit()
}
