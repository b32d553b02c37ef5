package credit

import (
	"context"
	"iter"

	"github.com/google/uuid"
)

// Ledger is one distributor's book of reseller credit. Its calls are safe for
// concurrent use and behave as if executed one at a time, in record order; when a
// call returns, every later read sees its effect.
//
// A command answers with its [Receipt], or with the refusal of the first check
// that failed (see the package documentation), or with an error that is not a
// refusal: [ErrOutcomeUnknown], [ErrBusy], an error of the store, or that of the
// context. After any of these, retrying with the same idempotency key is safe.
type Ledger interface {
	// Distributor is whose ledger this is, as stored.
	Distributor() Distributor

	// Grant adds to the pool what the channel manager approved.
	Grant(context.Context, Grant) (Receipt, error)
	// Withdraw takes from the pool what is not allocated.
	Withdraw(context.Context, Withdrawal) (Receipt, error)

	// AddReseller adds a reseller; its id is the receipt's ResellerID.
	AddReseller(context.Context, NewReseller) (Receipt, error)
	// UpdateReseller changes a reseller's profile.
	UpdateReseller(context.Context, ProfileUpdate) (Receipt, error)
	// FreezeReseller stops allocations to a reseller.
	FreezeReseller(context.Context, Freeze) (Receipt, error)
	// UnfreezeReseller allows allocations again.
	UnfreezeReseller(context.Context, Unfreeze) (Receipt, error)
	// CloseReseller ends a reseller for good.
	CloseReseller(context.Context, Close) (Receipt, error)

	// Allocate gives a reseller credit, or repossesses by a negative amount.
	Allocate(context.Context, Allocation) (Receipt, error)
	// Repossess takes credit back, never more than is repossessable.
	Repossess(context.Context, Repossession) (Receipt, error)
	// RepossessAll takes back whatever is repossessable at that moment.
	RepossessAll(context.Context, RepossessAll) (Receipt, error)

	// RecordUsage takes a fee, be there credit or not.
	RecordUsage(context.Context, Usage) (Receipt, error)
	// CorrectUsage lowers usage that was recorded too high.
	CorrectUsage(context.Context, Correction) (Receipt, error)
	// Settle takes a confirmed payment of a bill.
	Settle(context.Context, Settlement) (Receipt, error)

	// Bulk executes many commands in order, each with its own outcome at the same
	// place in the answer. The error is of the call as a whole, never the refusal of
	// a command: too many commands are an [*InvalidError], and for the others the
	// same is to be done as for a single command. With an error the outcomes are nil.
	Bulk(context.Context, []Command, BulkOptions) ([]Outcome, error)

	// Pool returns the pool.
	Pool(context.Context) (Pool, error)
	// Head returns the end of the log. Kept elsewhere, it is what the chain can be
	// verified against.
	Head(context.Context) (Head, error)
	// Reseller returns one reseller, or [ErrNotFound].
	Reseller(context.Context, uuid.UUID) (Reseller, error)
	// Resellers returns one page of resellers.
	Resellers(context.Context, ResellerQuery) (Page[Reseller], error)
	// Records returns one page of records.
	Records(context.Context, RecordQuery) (Page[Record], error)

	// HeadAsOf returns the end of the log as it was, and with it the pool. Before the
	// first record it is that of an empty ledger: sequence 0 and the genesis hash.
	HeadAsOf(context.Context, AsOf) (Head, error)
	// ResellerAsOf returns a reseller with the status and the figures that it had,
	// or [ErrNotFound] if it had not been added. Its profile is as it is now, because
	// records do not hold it. The whole list is [ResellerQuery.AsOf].
	ResellerAsOf(context.Context, uuid.UUID, AsOf) (Reseller, error)
}

// AllRecords returns what all pages of a query hold, beginning at its cursor; Limit
// is how many are read at a time. A page is read when the one before has been
// yielded, so nothing of the store is held while the caller works. After an error,
// which comes with a zero record, it ends. It may be ranged over again, and then
// begins at the same place.
func AllRecords(ctx context.Context, l Ledger, q RecordQuery) iter.Seq2[Record, error] {
	return all(func(c Cursor) (Page[Record], error) {
		q := q // of this round; another may be on its way
		q.Cursor = c
		return l.Records(ctx, q)
	}, q.Cursor)
}

// AllResellers does for resellers what [AllRecords] does for records. It has no
// use for a total and asks for none.
func AllResellers(ctx context.Context, l Ledger, q ResellerQuery) iter.Seq2[Reseller, error] {
	return all(func(c Cursor) (Page[Reseller], error) {
		q := q
		q.Cursor, q.Total = c, false
		return l.Resellers(ctx, q)
	}, q.Cursor)
}

func all[T any](page func(Cursor) (Page[T], error), at Cursor) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for next := at; ; {
			p, err := page(next)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range p.Items {
				if !yield(item, nil) {
					return
				}
			}
			if next = p.Next; next == "" {
				return
			}
		}
	}
}

// BulkOptions say how [Ledger.Bulk] executes. The zero value writes what is
// accepted and refuses the rest, one by one.
type BulkOptions struct {
	// AllOrNothing writes nothing if any command is refused: the refused ones
	// answer with their refusal, all others with [ErrNotApplied]. A replay counts
	// as satisfied.
	AllOrNothing bool `json:"all_or_nothing,omitempty"`
	// DryRun answers what would happen and writes nothing. New records come
	// without id, sequence and hash, and an added reseller without its id.
	DryRun bool `json:"dry_run,omitempty"`
}

// Outcome is what became of one command of a bulk call.
type Outcome struct {
	// Receipt is set when Err is nil.
	Receipt Receipt
	// Err is the refusal, or [ErrNotApplied].
	Err error
}
