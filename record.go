package credit

import (
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// Kind says what a record did.
type Kind string

// The kinds of record. [Record.Amount] is the signed change of the one figure
// that the kind moves.
const (
	KindGrant      Kind = "grant"      // Pool.Granted, +
	KindWithdraw   Kind = "withdraw"   // Pool.Granted, −
	KindAllocate   Kind = "allocate"   // Allocated, +
	KindRepossess  Kind = "repossess"  // Allocated, −
	KindUsage      Kind = "usage"      // Used, +
	KindCorrection Kind = "correction" // Used, −
	KindSettle     Kind = "settle"     // Used, −
	KindAdd        Kind = "add"
	KindUpdate     Kind = "update"
	KindFreeze     Kind = "freeze"
	KindUnfreeze   Kind = "unfreeze"
	KindClose      Kind = "close"
)

// AllocationKinds are the kinds that the provider calls allocation records:
// [KindAllocate] and [KindRepossess].
func AllocationKinds() []Kind { return []Kind{KindAllocate, KindRepossess} }

// Kinds returns every kind, in the order of the constants.
func Kinds() []Kind {
	return []Kind{KindGrant, KindWithdraw, KindAllocate, KindRepossess, KindUsage, KindCorrection, KindSettle,
		KindAdd, KindUpdate, KindFreeze, KindUnfreeze, KindClose}
}

// sign is the sign that the amount of every record of this kind has; 0 for the
// kinds that move no figure.
func (k Kind) sign() int {
	switch k {
	case KindGrant, KindAllocate, KindUsage:
		return 1
	case KindWithdraw, KindRepossess, KindCorrection, KindSettle:
		return -1
	}
	return 0
}

// Record is one entry of a ledger's log: what changed, from what to what, who
// did it and why. Records are never changed or removed. Amounts are in units of
// the ledger's currency; times are UTC with whole microseconds.
type Record struct {
	// Sequence counts the ledger's records: 1, 2, 3 … without a gap.
	Sequence int64
	// ID identifies the record everywhere.
	ID   uuid.UUID
	Kind Kind
	// ResellerID is [uuid.Nil] for grant and withdraw.
	ResellerID uuid.UUID
	// ExternalID is set on add only: the external id that the record takes.
	ExternalID string
	// Amount is the signed change; zero for kinds that move no figure.
	Amount decimal.Decimal
	// Before and After are the reseller's figures around the record; zero for
	// grant and withdraw.
	Before, After Figures
	// Pool is the pool after the record; [Record.PoolBefore] is the one before.
	Pool Pool
	// Operator, Remark, Key, Reference, Corrects and Metadata are as the command
	// gave them; see [Command].
	Operator, Remark, Key string
	// Fingerprint is the SHA-256 over what the caller gave; zero without a Key.
	Fingerprint Hash
	Reference   string
	// Customer labels usage and correction records.
	Customer string
	Corrects int64
	Metadata map[string]string
	// Changed names the profile fields that an update changed: name, email,
	// mobile, remark, customers. Never their contents.
	Changed []string
	// OccurredAt is when it happened, by the caller; else RecordedAt.
	OccurredAt time.Time
	// RecordedAt is when the ledger took it, by the engine's clock, never earlier
	// than the record before.
	RecordedAt time.Time
	// Hash chains the record to the one before it; see [Record.ChainHash].
	Hash Hash
}

// PoolBefore is the pool before the record.
func (r Record) PoolBefore() Pool {
	p := r.Pool
	switch r.Kind {
	case KindGrant, KindWithdraw:
		p.Granted = p.Granted.Sub(r.Amount)
	case KindAllocate, KindRepossess:
		p.Allocated = p.Allocated.Sub(r.Amount)
	}
	return p
}

// Head is the ledger's head after the record.
func (r Record) Head() Head {
	return Head{Sequence: r.Sequence, Hash: r.Hash, RecordedAt: r.RecordedAt, Pool: r.Pool}
}

// Clone returns a copy that shares nothing with r.
func (r Record) Clone() Record {
	r.Metadata, r.Changed = maps.Clone(r.Metadata), slices.Clone(r.Changed)
	return r
}

// Receipt is the answer to a command: its record, and whether the record is that
// of an earlier call with the same idempotency key. Its ID is the record's; the
// reseller's is ResellerID, also that of a reseller just added.
type Receipt struct {
	Record
	// Replayed: nothing happened now; the record is the original one.
	Replayed bool
}
