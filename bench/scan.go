package main

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
)

// scanned is a record as somebody would read it by hand.
type scanned struct {
	Ledger          uuid.UUID
	Sequence        int64
	ID              uuid.UUID
	Kind            string
	Reseller        *uuid.UUID
	ExternalID      string
	Amount          int64
	AllocatedBefore int64
	UsedBefore      int64
	AllocatedAfter  int64
	UsedAfter       int64
	PoolGranted     int64
	PoolAllocated   int64
	Operator        string
	Remark          string
	Key             string
	Fingerprint     []byte
	Reference       string
	Customer        string
	Corrects        int64
	Metadata        *string
	Changed         *string
	OccurredAt      int64
	RecordedAt      int64
	Hash            []byte
}

// scan reads all rows of one query and counts them.
func scan(ctx context.Context, db *sqlx.DB, query string, args ...any) (count int, err error) {
	rows, err := db.QueryxContext(ctx, db.Rebind(query), args...)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var r scanned
		if err := rows.Scan(&r.Ledger, &r.Sequence, &r.ID, &r.Kind, &r.Reseller, &r.ExternalID, &r.Amount, &r.AllocatedBefore, &r.UsedBefore,
			&r.AllocatedAfter, &r.UsedAfter, &r.PoolGranted, &r.PoolAllocated, &r.Operator, &r.Remark, &r.Key, &r.Fingerprint, &r.Reference,
			&r.Customer, &r.Corrects, &r.Metadata, &r.Changed, &r.OccurredAt, &r.RecordedAt, &r.Hash); err != nil {
			return count, err
		}
		count++
	}
	return count, rows.Err()
}
