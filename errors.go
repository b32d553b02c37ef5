package credit

import (
	"errors"
	"fmt"
	"strings"

	"github.com/shopspring/decimal"
)

// Refusals: what a rule answers. Test for them with [errors.Is]. A refusal never
// wraps an error of a store, and an error of a store never matches a refusal.
var (
	// ErrInvalid is bad input of any sort; errors.As with [*InvalidError] names the field.
	ErrInvalid = errors.New("credit: invalid input")
	// ErrKeyConflict is an idempotency key that was used for something else;
	// errors.As with [*ConflictError] tells for what.
	ErrKeyConflict = errors.New("credit: idempotency key conflict")
	// ErrNotFound is a reseller that this ledger does not have, or a command that
	// names none.
	ErrNotFound = errors.New("credit: no such reseller")
	// ErrExists is an external id that this ledger has already given to a
	// reseller, be it closed.
	ErrExists = errors.New("credit: external id exists")
	// ErrNotActive is a reseller that is frozen or closed.
	ErrNotActive = errors.New("credit: reseller not active")
	// ErrNotFrozen is an unfreeze of a reseller that is not frozen.
	ErrNotFrozen = errors.New("credit: reseller not frozen")
	// ErrNotEmpty is a close of a reseller whose credit can still be repossessed.
	ErrNotEmpty = errors.New("credit: reseller not empty")
	// ErrInsufficientPool is an allocation or withdrawal above the pool's remaining credit.
	ErrInsufficientPool = errors.New("credit: insufficient pool")
	// ErrExceedsAvailable is a repossession of more than is repossessable.
	ErrExceedsAvailable = errors.New("credit: exceeds available")
	// ErrExceedsUsed is a settlement of more than was used.
	ErrExceedsUsed = errors.New("credit: exceeds used")
	// ErrOutOfRange is a figure that would reach a magnitude of 10^12.
	ErrOutOfRange = errors.New("credit: out of range")
)

// Answers that are not refusals.
var (
	// ErrNotApplied stands on the items of an all-or-nothing call that were not
	// at fault: another item was refused, so nothing was written.
	ErrNotApplied = errors.New("credit: not applied: another command of the same all-or-nothing call was refused")
	// ErrOutcomeUnknown is an answer that was lost: the command may have been
	// committed or not. Retrying it with the same idempotency key is safe.
	ErrOutcomeUnknown = errors.New("credit: outcome unknown; retry with the same idempotency key")
	// ErrBusy is a full queue. Nothing happened; try again later.
	ErrBusy = errors.New("credit: too many calls are waiting for this ledger")
	// ErrMismatch is a ledger that exists with another currency.
	ErrMismatch = errors.New("credit: the ledger exists with another currency")
	// ErrCorrupt is a stored record or figure that the log does not explain;
	// errors.As with [*CorruptError] names it.
	ErrCorrupt = errors.New("credit: corrupt ledger")
)

var codes = []struct {
	err  error
	code string
}{
	{ErrInvalid, "invalid"}, {ErrKeyConflict, "key_conflict"}, {ErrNotFound, "not_found"}, {ErrExists, "exists"},
	{ErrNotActive, "not_active"}, {ErrNotFrozen, "not_frozen"}, {ErrNotEmpty, "not_empty"},
	{ErrInsufficientPool, "insufficient_pool"}, {ErrExceedsAvailable, "exceeds_available"},
	{ErrExceedsUsed, "exceeds_used"}, {ErrOutOfRange, "out_of_range"}, {ErrNotApplied, "not_applied"},
	{ErrOutcomeUnknown, "outcome_unknown"}, {ErrBusy, "busy"}, {ErrMismatch, "mismatch"}, {ErrCorrupt, "corrupt"},
}

// Code returns the stable machine-readable name of an error of this package, for
// use in an API answer; "" for nil, and "internal" for any other error, such as a
// context's or a store's. The codes, and the HTTP statuses that suit them:
//
//	400 invalid
//	404 not_found
//	409 key_conflict exists not_active not_frozen not_empty
//	422 insufficient_pool exceeds_available exceeds_used out_of_range
//	503 busy outcome_unknown (retry with the same idempotency key)
//	500 mismatch corrupt internal
//
// and not_applied, for an item of a bulk call.
func Code(err error) string {
	if err == nil {
		return ""
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return "internal"
}

// InvalidError says which input is wrong and what would be right. It unwraps to
// [ErrInvalid].
type InvalidError struct {
	// Field names the input, in the words of the API: "amount", "key", "cursor" …
	Field string
	// Problem is the rest of the sentence.
	Problem string
}

func (e *InvalidError) Error() string { return "credit: " + e.Field + ": " + e.Problem }

// Unwrap returns [ErrInvalid].
func (e *InvalidError) Unwrap() error { return ErrInvalid }

// LimitError says what was asked and what is allowed. It unwraps to the refusal:
// [ErrInsufficientPool], [ErrExceedsAvailable], [ErrExceedsUsed],
// [ErrNotEmpty] or [ErrOutOfRange].
type LimitError struct {
	// Kind is the kind of record that was asked for.
	Kind Kind
	// Requested is the amount asked for, positive (0 when all was asked for); for
	// ErrOutOfRange the figure that would have resulted; for ErrNotEmpty what is
	// still repossessable.
	Requested decimal.Decimal
	// Allowed is the most that would have been accepted; for ErrOutOfRange the
	// largest magnitude a figure may have.
	Allowed decimal.Decimal

	problem string
	refusal error
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("credit: %s: %s", e.Kind, e.problem)
}

// Unwrap returns the refusal.
func (e *LimitError) Unwrap() error { return e.refusal }

// ConflictError says what an idempotency key was used for before. It unwraps to
// [ErrKeyConflict].
type ConflictError struct {
	// Key is the idempotency key.
	Key string
	// Kind is the kind of the command that was refused.
	Kind Kind
	// EarlierKind and EarlierSequence are those of the record that has the key.
	// The sequence is 0 if that record was never written: it is of the same dry run,
	// or of the same refused all-or-nothing call.
	EarlierKind     Kind
	EarlierSequence int64
}

func (e *ConflictError) Error() string {
	earlier := fmt.Sprintf("record %d", e.EarlierSequence)
	if e.EarlierSequence == 0 {
		earlier = "of the same call"
	}
	return fmt.Sprintf("credit: %s: key %q belongs to a different %s (%s); use a new key for a new command", e.Kind, e.Key, e.EarlierKind, earlier)
}

// Unwrap returns [ErrKeyConflict].
func (e *ConflictError) Unwrap() error { return ErrKeyConflict }

// CorruptError names the first record, or the stored figure, that the rules do
// not explain. It unwraps to [ErrCorrupt].
type CorruptError struct {
	// Sequence is the record at fault, or the last one replayed when a stored
	// figure is at fault.
	Sequence int64
	// Problem says what was found and what was expected.
	Problem string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("credit: corrupt ledger: record %d: %s", e.Sequence, e.Problem)
}

// Unwrap returns [ErrCorrupt].
func (e *CorruptError) Unwrap() error { return ErrCorrupt }

// reason is an error of this package as part of another's sentence.
func reason(err error) string { return strings.TrimPrefix(err.Error(), "credit: ") }
