package credit

import (
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// Threshold is a level that a balance can sink to: a percentage of what was
// allocated (for the pool: granted), or an amount. The zero value is the amount
// 0, which is a threshold like any other. The text and JSON form is "25%" or
// "1000.5".
type Threshold struct {
	value   decimal.Decimal
	percent bool
}

// PercentThreshold is p percent of Allocated, or of Granted for the pool; p is 0
// to 100 with at most [FractionalDigits] digits after the point.
func PercentThreshold(p decimal.Decimal) (Threshold, error) {
	v, err := Millionths(p)
	if err != nil || v < 0 || v > 100_000_000 {
		return Threshold{}, &InvalidError{"threshold", "a percentage must be 0 to 100"}
	}
	return Threshold{value: FromMillionths(v), percent: true}, nil
}

// AmountThreshold is an amount in units of the ledger's currency; it may be
// negative, to be told of deep overdrafts.
func AmountThreshold(amount decimal.Decimal) (Threshold, error) {
	v, err := Millionths(amount)
	if err != nil {
		return Threshold{}, &InvalidError{"threshold", "is not an amount"}
	}
	return Threshold{value: FromMillionths(v)}, nil
}

// DefaultThresholds are 25 %, 10 % and 0 %.
func DefaultThresholds() []Threshold {
	return []Threshold{{FromMillionths(25_000_000), true}, {FromMillionths(10_000_000), true}, {FromMillionths(0), true}}
}

// Value is the amount, or the percentage if [Threshold.IsPercent].
func (t Threshold) Value() decimal.Decimal { return t.value }

// IsPercent tells a percentage from an amount.
func (t Threshold) IsPercent() bool { return t.percent }

// String returns the text form.
func (t Threshold) String() string {
	if t.percent {
		return t.value.String() + "%"
	}
	return t.value.String()
}

// MarshalText returns the text form.
func (t Threshold) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads the text form; anything else is an [*InvalidError].
func (t *Threshold) UnmarshalText(text []byte) error {
	number, percent := strings.CutSuffix(string(text), "%")
	v, err := ParseAmount(number)
	if err == nil && percent {
		*t, err = PercentThreshold(v)
	} else if err == nil {
		*t, err = AmountThreshold(v)
	}
	if err != nil {
		return &InvalidError{"threshold", "must be like 25% or 1000.5, a percentage 0 to 100"}
	}
	return nil
}

// above tells whether balance is above the threshold. A share is compared by
// multiplication, because a division would round it.
func (t Threshold) above(balance, of decimal.Decimal) bool {
	if t.percent {
		return balance.Mul(decimal.NewFromInt(100)).GreaterThan(t.value.Mul(of))
	}
	return balance.GreaterThan(t.value)
}

// Crossing says what a balance did.
type Crossing string

// The crossings.
const (
	// CrossingLow: it was above the warning's threshold and is at or below it.
	CrossingLow Crossing = "low"
	// CrossingOverdrawn: available was 0 or more and is negative, whatever was allocated.
	CrossingOverdrawn Crossing = "overdrawn"
	// CrossingRecovered: available was negative and is 0 or more.
	CrossingRecovered Crossing = "recovered"
)

// Warning tells that one record took a balance across a level. The ledger itself
// does nothing about it.
type Warning struct {
	// Sequence, Kind and RecordedAt are those of the record.
	Sequence   int64
	Kind       Kind
	RecordedAt time.Time
	// ResellerID is whose available credit crossed; [uuid.Nil] for the pool's
	// remaining credit.
	ResellerID uuid.UUID
	Crossing   Crossing
	// Threshold is what was crossed; the zero value unless Crossing is low.
	Threshold Threshold
	// Before and After are the balance around the record: available, or remaining.
	Before, After decimal.Decimal
}

// Warnings returns what the record crossed: first of its reseller, then of the
// pool, thresholds in the given order. It needs nothing but the record, so
// reading a log again gives the same warnings. One record may cross several
// thresholds, and any kind can cross. Overdrawn and recovered are always told,
// whatever the thresholds.
func (r Record) Warnings(thresholds []Threshold) []Warning {
	var warnings []Warning
	warn := func(reseller uuid.UUID, c Crossing, t Threshold, before, after decimal.Decimal) {
		warnings = append(warnings, Warning{r.Sequence, r.Kind, r.RecordedAt, reseller, c, t, before, after})
	}
	low := func(reseller uuid.UUID, before, beforeOf, after, afterOf decimal.Decimal) {
		for _, t := range thresholds {
			if t.above(before, beforeOf) && !t.above(after, afterOf) {
				warn(reseller, CrossingLow, t, before, after)
			}
		}
	}
	if r.ResellerID != uuid.Nil {
		before, after := r.Before.Available(), r.After.Available()
		low(r.ResellerID, before, r.Before.Allocated, after, r.After.Allocated)
		switch {
		case before.Sign() >= 0 && after.Sign() < 0:
			warn(r.ResellerID, CrossingOverdrawn, Threshold{}, before, after)
		case before.Sign() < 0 && after.Sign() >= 0:
			warn(r.ResellerID, CrossingRecovered, Threshold{}, before, after)
		}
	}
	pool := r.PoolBefore()
	low(uuid.Nil, pool.Remaining(), pool.Granted, r.Pool.Remaining(), r.Pool.Granted)
	return warnings
}
