package credit

import (
	"fmt"
	"math/big"
	"strings"

	"github.com/shopspring/decimal"
)

// Amounts are exact decimals. Input that is finer or larger is refused, never
// rounded. The limits are those of the weakest database that stores a ledger,
// so that millionths of every figure fit a 64-bit integer anywhere.
const (
	// FractionalDigits is how many digits an amount may have after the point.
	FractionalDigits = 6
	// IntegerDigits is how many digits an amount or a figure may have before the
	// point: its magnitude is below 10^12.
	IntegerDigits = 12

	amountLimit = 1_000_000_000_000_000_000 // millionths; 10^12 units
)

var maxFigure = decimal.New(amountLimit-1, -FractionalDigits)

// ParseAmount reads an amount: an optional minus sign, 1 to [IntegerDigits]
// digits and, after a point, 1 to [FractionalDigits] more. Anything else
// (exponents, plus signs, blanks, finer or longer numbers) is an [*InvalidError].
// The length is checked before anything is parsed.
func ParseAmount(s string) (decimal.Decimal, error) {
	digits := strings.TrimPrefix(s, "-")
	if len(digits) > IntegerDigits+1+FractionalDigits {
		return decimal.Decimal{}, invalidAmount(s)
	}
	whole, fraction, point := strings.Cut(digits, ".")
	if len(whole) < 1 || len(whole) > IntegerDigits || point && len(fraction) < 1 || len(fraction) > FractionalDigits {
		return decimal.Decimal{}, invalidAmount(s)
	}
	var v int64
	for _, c := range []byte(whole + fraction + "000000"[len(fraction):]) {
		if c < '0' || c > '9' {
			return decimal.Decimal{}, invalidAmount(s)
		}
		v = v*10 + int64(c-'0')
	}
	if len(digits) < len(s) {
		v = -v
	}
	return FromMillionths(v), nil
}

// Millionths returns d as a whole number of millionths, the form in which stores
// keep amounts. A value finer than [FractionalDigits] (zeros at its end do not
// count, up to 24 digits) or with more than [IntegerDigits] digits is an
// [*InvalidError], found by exponent and size before any arithmetic.
func Millionths(d decimal.Decimal) (int64, error) {
	if d.Sign() == 0 {
		return 0, nil
	}
	const finest = -24 // what exact arithmetic on amounts leaves behind, and no more
	exp := d.Exponent()
	if exp < finest || exp >= IntegerDigits {
		return 0, outsideAmount()
	}
	c := d.Coefficient()
	if c.BitLen() > 128 {
		return 0, outsideAmount()
	}
	switch shift := int64(exp) + FractionalDigits; {
	case shift > 0:
		c.Mul(c, power10(shift))
	case shift < 0:
		var rest big.Int
		if c.QuoRem(c, power10(-shift), &rest); rest.Sign() != 0 {
			return 0, outsideAmount()
		}
	}
	if !c.IsInt64() || c.Int64() >= amountLimit || c.Int64() <= -amountLimit {
		return 0, outsideAmount()
	}
	return c.Int64(), nil
}

// FromMillionths returns v millionths as a decimal. It is the one form in which
// the library returns amounts, so equal amounts are also deeply equal.
func FromMillionths(v int64) decimal.Decimal { return decimal.New(v, -FractionalDigits) }

func power10(n int64) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(n), nil) }

// millionths is Millionths of a figure that the ledger itself holds.
func millionths(d decimal.Decimal) int64 {
	v, err := Millionths(d)
	if err != nil {
		panic("credit: a figure in the state is not an amount: " + reason(err))
	}
	return v
}

func invalidAmount(s string) error {
	return &InvalidError{"amount", fmt.Sprintf("%q is not plain digits, at most %d before and %d after the point", excerpt(s), IntegerDigits, FractionalDigits)}
}

func outsideAmount() error {
	return &InvalidError{"amount", fmt.Sprintf("has more than %d digits before or %d after the point; round it explicitly first", IntegerDigits, FractionalDigits)}
}

// excerpt bounds what of somebody's input an error repeats.
func excerpt(s string) string {
	const most = 40
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
