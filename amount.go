package credit

import (
	"fmt"
	"math/big"
	"strconv"
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

var (
	maxFigure = decimal.New(amountLimit-1, -FractionalDigits)
	minFigure = maxFigure.Neg()
)

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
	switch {
	case exp < finest || exp >= IntegerDigits:
		return 0, outsideAmount()
	case exp == -FractionalDigits && d.LessThanOrEqual(maxFigure) && d.GreaterThanOrEqual(minFigure):
		return d.CoefficientInt64(), nil // without a copy
	}
	c, shift := d.Coefficient(), exp+FractionalDigits
	if c.BitLen() > 128 {
		return 0, outsideAmount()
	}
	if shift < 0 && !c.IsInt64() {
		power, rest := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(-shift)), nil), new(big.Int)
		if c.QuoRem(c, power, rest); rest.Sign() != 0 {
			return 0, outsideAmount()
		}
		shift = 0
	}
	v := c.Int64()
	for ; shift < 0 && v%10 == 0; shift++ {
		v /= 10
	}
	for ; shift > 0 && v < amountLimit/10 && v > -amountLimit/10; shift-- {
		v *= 10
	}
	if !c.IsInt64() || shift != 0 || v >= amountLimit || v <= -amountLimit {
		return 0, outsideAmount()
	}
	return v, nil
}

// FromMillionths returns v millionths as a decimal. It is the one form in which
// the library returns amounts, so equal amounts are also deeply equal.
func FromMillionths(v int64) decimal.Decimal { return decimal.New(v, -FractionalDigits) }

// millionths is Millionths of a figure that the ledger itself holds.
func millionths(d decimal.Decimal) int64 {
	v, err := Millionths(d)
	if err != nil {
		panic("credit: a figure in the state is not an amount: " + reason(err))
	}
	return v
}

// normal is millionths, and d in the form of FromMillionths.
func normal(d decimal.Decimal) (int64, decimal.Decimal) {
	v := millionths(d)
	if v == 0 || d.Exponent() != -FractionalDigits {
		d = FromMillionths(v)
	}
	return v, d
}

// appendMillionths appends v millionths as a plain decimal without trailing zeros.
func appendMillionths(to []byte, v int64) []byte {
	if v < 0 {
		to, v = append(to, '-'), -v
	}
	to = strconv.AppendInt(to, v/1_000_000, 10)
	if v %= 1_000_000; v == 0 {
		return to
	}
	to = append(to, '.')
	for unit := int64(100_000); v > 0; unit /= 10 {
		to = append(to, '0'+byte(v/unit))
		v %= unit
	}
	return to
}

func invalidAmount(s string) error {
	return &InvalidError{"amount", fmt.Sprintf("%q is not plain digits, at most %d before and %d after the point", excerpt(s), IntegerDigits, FractionalDigits)}
}

func outsideAmount() error {
	return &InvalidError{"amount", fmt.Sprintf("has more than %d digits before or %d after the point; round it explicitly first", IntegerDigits, FractionalDigits)}
}

// excerpt bounds what of somebody's input an error repeats.
func excerpt(s string) string { return cut(s, 40) }

// cut is s, or its first bytes.
func cut(s string, most int) string {
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
