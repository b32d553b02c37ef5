package sqlstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// The columns of each table, in the order in which they are written.
var (
	ledgerColumns = []string{"id", "name", "currency", "sequence", "hash", "recorded_at", "granted", "allocated"}

	// The first fixedColumns of a reseller never change, and those from profileColumns
	// on hardly ever.
	resellerColumns = []string{"ledger", "id", "external_id", "bound_at", "allocated", "used",
		"name", "email", "mobile", "remark", "customers", "status"}
	// foldedColumns are written beside them, for searching and ordering, and never
	// read back.
	foldedColumns  = []string{"name_folded", "mobile_folded", "remark_folded"}
	writtenColumns = slices.Concat(resellerColumns, foldedColumns)

	recordColumns = []string{"ledger", "sequence", "id", "kind", "reseller", "external_id", "amount",
		"allocated_before", "used_before", "allocated_after", "used_after", "pool_granted", "pool_allocated",
		"operator", "remark", "idempotency_key", "fingerprint", "reference", "customer", "corrects", "metadata", "changed",
		"occurred_at", "recorded_at", "hash"}

	keyColumns = []string{"ledger", "idempotency_key", "sequence"}
)

const (
	fixedColumns   = 4
	profileColumns = 6 // where they begin; before them are the figures
)

// millionths converts the amounts of one row; the first that does not fit is kept.
type millionths struct{ err error }

func (m *millionths) of(d decimal.Decimal) int64 {
	v, err := credit.Millionths(d)
	if err != nil && m.err == nil {
		m.err = errors.New(err.Error()) // what is wrong here is no caller's input
	}
	return v
}

// hashValue is NULL for none.
func hashValue(h *credit.Hash) any {
	if h.IsZero() {
		return nil
	}
	return h[:]
}

// micros is NULL for the zero time.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// jsonText is NULL for an empty map or slice.
func jsonText[V map[string]string | []string](v V) (any, error) {
	if len(v) == 0 {
		return nil, nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return string(text), nil
}

// hashColumn reads a hash; NULL is none.
type hashColumn credit.Hash

// Scan implements sql.Scanner.
func (h *hashColumn) Scan(src any) error {
	switch b := src.(type) {
	case nil:
		*h = hashColumn{}
		return nil
	case []byte:
		if len(b) == len(h) {
			copy(h[:], b)
			return nil
		}
	}
	return fmt.Errorf("a hash is not %d bytes", len(h))
}

// amountColumn reads millionths.
type amountColumn int64

func (a amountColumn) decimal() decimal.Decimal { return credit.FromMillionths(int64(a)) }

func fromMicros(v int64) time.Time { return time.UnixMicro(v).UTC() }

// headRow is the head of a ledger as it is stored.
type headRow struct {
	Sequence   int64        `db:"sequence"`
	Hash       hashColumn   `db:"hash"`
	RecordedAt *int64       `db:"recorded_at"`
	Granted    amountColumn `db:"granted"`
	Allocated  amountColumn `db:"allocated"`
}

func (r headRow) head() credit.Head {
	head := credit.Head{Sequence: r.Sequence, Hash: credit.Hash(r.Hash),
		Pool: credit.Pool{Granted: r.Granted.decimal(), Allocated: r.Allocated.decimal()}}
	if r.RecordedAt != nil {
		head.RecordedAt = fromMicros(*r.RecordedAt)
	}
	return head
}

// resellerRow is a reseller as it is stored.
type resellerRow struct {
	ID         uuid.UUID    `db:"id"`
	ExternalID string       `db:"external_id"`
	BoundAt    int64        `db:"bound_at"`
	Name       string       `db:"name"`
	Email      string       `db:"email"`
	Mobile     string       `db:"mobile"`
	Remark     string       `db:"remark"`
	Customers  int          `db:"customers"`
	Status     string       `db:"status"`
	Allocated  amountColumn `db:"allocated"`
	Used       amountColumn `db:"used"`
}

func (r resellerRow) reseller() credit.Reseller {
	return credit.Reseller{ID: r.ID, ExternalID: r.ExternalID, BoundAt: fromMicros(r.BoundAt), Status: credit.Status(r.Status),
		Profile: credit.Profile{Name: r.Name, Email: r.Email, Mobile: r.Mobile, Remark: r.Remark, Customers: r.Customers},
		Figures: credit.Figures{Allocated: r.Allocated.decimal(), Used: r.Used.decimal()}}
}

// appendReseller appends the values of writtenColumns.
func appendReseller(args []any, d Dialect, ledger any, r *credit.Reseller) ([]any, error) {
	var m millionths
	args = append(args, ledger, d.id(r.ID), r.ExternalID, r.BoundAt.UnixMicro(), m.of(r.Allocated), m.of(r.Used),
		r.Name, r.Email, r.Mobile, r.Remark, int64(r.Customers), string(r.Status),
		credit.Fold(r.Name), credit.Fold(r.Mobile), credit.Fold(r.Remark))
	if m.err != nil {
		return nil, fmt.Errorf("reseller %s: %w", r.ID, m.err)
	}
	return args, nil
}

// appendFigures appends the figures.
func appendFigures(args []any, of *store.Balance) ([]any, error) {
	var m millionths
	if args = append(args, m.of(of.Figures.Allocated), m.of(of.Figures.Used)); m.err != nil {
		return nil, fmt.Errorf("reseller %s: %w", of.ID, m.err)
	}
	return args, nil
}

// recordRow is a record as it is stored.
type recordRow struct {
	Sequence        int64        `db:"sequence"`
	ID              uuid.UUID    `db:"id"`
	Kind            string       `db:"kind"`
	Reseller        uuid.UUID    `db:"reseller"`
	ExternalID      string       `db:"external_id"`
	Amount          amountColumn `db:"amount"`
	AllocatedBefore amountColumn `db:"allocated_before"`
	UsedBefore      amountColumn `db:"used_before"`
	AllocatedAfter  amountColumn `db:"allocated_after"`
	UsedAfter       amountColumn `db:"used_after"`
	PoolGranted     amountColumn `db:"pool_granted"`
	PoolAllocated   amountColumn `db:"pool_allocated"`
	Operator        string       `db:"operator"`
	Remark          string       `db:"remark"`
	Key             string       `db:"idempotency_key"`
	Fingerprint     hashColumn   `db:"fingerprint"`
	Reference       string       `db:"reference"`
	Customer        string       `db:"customer"`
	Corrects        int64        `db:"corrects"`
	Metadata        *string      `db:"metadata"`
	Changed         *string      `db:"changed"`
	OccurredAt      int64        `db:"occurred_at"`
	RecordedAt      int64        `db:"recorded_at"`
	Hash            hashColumn   `db:"hash"`
}

func (r recordRow) record() (credit.Record, error) {
	record := credit.Record{
		Sequence: r.Sequence, ID: r.ID, Kind: credit.Kind(r.Kind), ResellerID: r.Reseller, ExternalID: r.ExternalID,
		Amount:   r.Amount.decimal(),
		Before:   credit.Figures{Allocated: r.AllocatedBefore.decimal(), Used: r.UsedBefore.decimal()},
		After:    credit.Figures{Allocated: r.AllocatedAfter.decimal(), Used: r.UsedAfter.decimal()},
		Pool:     credit.Pool{Granted: r.PoolGranted.decimal(), Allocated: r.PoolAllocated.decimal()},
		Operator: r.Operator, Remark: r.Remark, Key: r.Key, Fingerprint: credit.Hash(r.Fingerprint),
		Reference: r.Reference, Customer: r.Customer, Corrects: r.Corrects,
		OccurredAt: fromMicros(r.OccurredAt), RecordedAt: fromMicros(r.RecordedAt), Hash: credit.Hash(r.Hash),
	}
	if r.Metadata != nil {
		if err := json.Unmarshal([]byte(*r.Metadata), &record.Metadata); err != nil {
			return record, &credit.CorruptError{Sequence: r.Sequence, Problem: "its metadata cannot be read: " + err.Error()}
		}
	}
	if r.Changed != nil {
		if err := json.Unmarshal([]byte(*r.Changed), &record.Changed); err != nil {
			return record, &credit.CorruptError{Sequence: r.Sequence, Problem: "its changed fields cannot be read: " + err.Error()}
		}
	}
	return record, nil
}

// appendRecord appends the values of recordColumns.
func appendRecord(args []any, d Dialect, ledger any, r *credit.Record) ([]any, error) {
	metadata, err := jsonText(r.Metadata)
	if err != nil {
		return nil, err
	}
	changed, err := jsonText(r.Changed)
	if err != nil {
		return nil, err
	}
	var reseller any
	if r.ResellerID != uuid.Nil {
		reseller = d.id(r.ResellerID)
	}
	var m millionths
	args = append(args, ledger, r.Sequence, d.id(r.ID), string(r.Kind), reseller, r.ExternalID, m.of(r.Amount),
		m.of(r.Before.Allocated), m.of(r.Before.Used), m.of(r.After.Allocated), m.of(r.After.Used),
		m.of(r.Pool.Granted), m.of(r.Pool.Allocated),
		r.Operator, r.Remark, r.Key, hashValue(&r.Fingerprint), r.Reference, r.Customer, r.Corrects, metadata, changed,
		r.OccurredAt.UnixMicro(), r.RecordedAt.UnixMicro(), r.Hash[:])
	if m.err != nil {
		return nil, fmt.Errorf("record %d: %w", r.Sequence, m.err)
	}
	return args, nil
}
