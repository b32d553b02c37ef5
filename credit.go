// Package credit keeps one distributor's book of reseller credit.
//
// Cloud providers sell through partners: a channel manager grants a distributor
// a pool of reseller credit, the distributor allocates it to resellers, and the
// resellers pass it on to customers. A [Ledger] is that book: it allocates with
// immediate effect, repossesses (elsewhere: claw back, revoke, reclaim) never
// more than is available, takes late usage without ever refusing it, and
// remembers every change as a [Record] that is never altered.
//
// The package is pure: it does no I/O, starts no goroutine, reads no clock and
// makes no id. Its heart is two functions. [Decide] answers what a [Command]
// does to a [State], and [State.Apply] folds the resulting record in. Package
// store runs them durably; memstore and sqlstore are places to keep the records.
//
// # Figures
//
//	Pool.Granted          grants − withdrawals by the channel manager        never negative
//	Pool.Allocated        sum of Allocated over all resellers                never negative
//	Pool.Remaining        Granted − Allocated: what can still be allocated   never negative
//	Figures.Allocated     sum of the signed allocation amounts               never negative
//	Figures.Used          usage − corrections − settlements                  may be negative
//	Figures.Available     Allocated − Used                                   may be negative
//	Figures.Repossessable max(0, min(Available, Allocated))                  never negative
//	Figures.Overdraft     max(0, −Available)                                 never negative
//
// # Invariants
//
//  1. Pool.Remaining ≥ 0, always.
//  2. A repossession never leaves Available, nor Allocated, below 0.
//  3. Only usage makes Available negative.
//  4. Granted = Remaining + Σ Allocated after every record.
//  5. The check, the new figures and the record become durable together, or not at all.
//  6. Records are never changed or removed; their sequence has no gap; a correction
//     is a new record; replaying the records gives every figure and status.
//  7. When a call returns, its effect is visible to every later read, from every process.
//  8. One ledger's operations behave as if executed one at a time, in record order.
//
// # Order of checks
//
// Every command is checked in one order, and the first check that fails is the
// answer: shape (amounts, lengths, UTF-8), key (a known key answers at once,
// whatever has happened since), the reseller exists, its status, the limit, the
// range of the new figures (and with it that a record named by Corrects is an
// earlier one).
//
// # What the ledger does not do
//
// Credit does not expire, one ledger holds one currency, and a zero or negative
// balance has no consequence inside the ledger: it reports, and the embedding
// application decides. The names of figures and commands, and the rule that a
// negative allocation repossesses, follow the partner console and the published
// partner-management interface of Tencent Cloud International; where those are
// silent the choice is ours and the comment says "choice".
package credit

import (
	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// Distributor names one ledger: whose credit it keeps, and in which currency.
type Distributor struct {
	// ID identifies the ledger and scopes everything in it. Required; the
	// application chooses it once and keeps it.
	ID uuid.UUID `json:"id"`
	// Name is for people; 1 to [MaxName] bytes. It is stored when the ledger is
	// created and never compared afterwards.
	Name string `json:"name"`
	// Currency is three capital letters, ISO 4217. A ledger never changes it and
	// never converts.
	Currency string `json:"currency"`
}

// Validate returns an [*InvalidError] that names the first field that is wrong.
func (d Distributor) Validate() error {
	if d.ID == uuid.Nil {
		return &InvalidError{"distributor id", "is missing; give the ledger an id of its own"}
	}
	if err := checkText("distributor name", d.Name, MaxName, true); err != nil {
		return err
	}
	if len(d.Currency) != 3 {
		return &InvalidError{"currency", "must be three capital letters (ISO 4217), like USD"}
	}
	for _, c := range []byte(d.Currency) {
		if c < 'A' || c > 'Z' {
			return &InvalidError{"currency", "must be three capital letters (ISO 4217), like USD"}
		}
	}
	return nil
}

// Pool is what the channel manager has granted a distributor and what of it is
// allocated, in units of the ledger's currency. The zero value is an empty pool.
type Pool struct {
	// Granted is the sum of grants minus the sum of withdrawals. Never negative.
	Granted decimal.Decimal
	// Allocated is the sum of Allocated over all resellers. Never negative.
	Allocated decimal.Decimal
}

// Remaining is what can still be allocated or withdrawn: Granted − Allocated.
// Never negative.
func (p Pool) Remaining() decimal.Decimal { return p.Granted.Sub(p.Allocated) }
