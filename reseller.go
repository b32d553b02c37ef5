package credit

import (
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// Status says what a reseller may still do.
type Status string

// The statuses. Neither a zero nor a negative balance changes a status.
const (
	// StatusActive: everything is allowed.
	StatusActive Status = "active"
	// StatusFrozen: no allocation; repossession, usage, correction and settlement
	// still work.
	StatusFrozen Status = "frozen"
	// StatusClosed: final; otherwise as frozen, because fees arrive late. Hidden
	// from the default listing.
	StatusClosed Status = "closed"
)

// Profile is a reseller's basic information, as the application gives it. None
// of it takes part in a rule.
type Profile struct {
	// Name is for people; 1 to [MaxName] bytes.
	Name string `json:"name"`
	// Email is at most [MaxEmail] bytes; may be empty. Its form is not checked.
	Email string `json:"email,omitempty"`
	// Mobile is at most [MaxMobile] bytes; may be empty.
	Mobile string `json:"mobile,omitempty"`
	// Remark is the distributor's note about the reseller, at most [MaxRemark] bytes.
	Remark string `json:"remark,omitempty"`
	// Customers is the number of the reseller's customers, as told by the
	// application: 0 to [MaxCustomers].
	Customers int `json:"customers"`
}

// Reseller is a partner below the distributor: who it is and what its credit is.
type Reseller struct {
	// ID is given by the ledger when the reseller is added.
	ID uuid.UUID
	// ExternalID is the provider's account number (UIN). Unique in the ledger,
	// compared byte by byte, never changed and never given out again.
	ExternalID string
	Profile
	// Status is active, frozen or closed.
	Status Status
	// BoundAt is when the reseller was bound to the distributor; UTC, microseconds.
	BoundAt time.Time
	Figures
}

// Figures are one reseller's balances, in units of the ledger's currency. The
// zero value is a reseller without credit and without usage.
type Figures struct {
	// Allocated is the sum of the signed allocation amounts ("Credit" in the
	// provider's interface). Never negative.
	Allocated decimal.Decimal
	// Used is usage − corrections − settlements. It may be negative, because a
	// fee may be corrected after its bill was settled.
	Used decimal.Decimal
}

// Available is Allocated − Used ("RemainingCredit", "unconsumed"). It may be
// zero or negative, with no consequence inside the ledger. Choice: no source
// states the formula; usage that is never refused is what makes it negative.
func (f Figures) Available() decimal.Decimal { return f.Allocated.Sub(f.Used) }

// Repossessable is the most that can be taken back: max(0, min(Available,
// Allocated)). It is the figure that the rule itself uses.
func (f Figures) Repossessable() decimal.Decimal {
	return decimal.Max(decimal.Zero, decimal.Min(f.Available(), f.Allocated))
}

// Overdraft is how far usage exceeds the credit: max(0, −Available).
func (f Figures) Overdraft() decimal.Decimal {
	return decimal.Max(decimal.Zero, f.Available().Neg())
}
