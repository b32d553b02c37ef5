package credit_test

import (
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

func TestParseAmount(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		rule, in string
		want     int64
	}{
		{"zero", "0", 0},
		{"minus zero is zero", "-0", 0},
		{"digits", "1200", 1_200_000_000},
		{"a millionth", "0.000001", 1},
		{"a minus sign", "-0.5", -500_000},
		{"zeros at the end", "1.500000", 1_500_000},
		{"zeros at the start", "000000000001.5", 1_500_000},
		{"the largest amount", most, 999_999_999_999_999_999},
		{"the smallest amount", "-" + most, -999_999_999_999_999_999},
	} {
		got, err := credit.ParseAmount(tt.in)
		require.NoError(t, err, tt.rule)
		assert.Equal(t, credit.FromMillionths(tt.want), got, "%s: equal amounts are deeply equal", tt.rule)
	}
	for rule, in := range map[string]string{
		"nothing": "", "a sign alone": "-", "a point alone": ".", "no digit after the point": "1.", "no digit before the point": ".5",
		"a sign and a point": "-.", "two points": "1.2.3", "two signs": "--1", "a plus sign": "+1", "a plus after a minus": "-+1",
		"a blank before": " 1", "a blank after": "1 ", "a line end": "1\n", "a blank inside": "1 000", "a thousands separator": "1,000",
		"an exponent": "1e3", "a capital exponent": "1E3", "a huge exponent": "1e20000000", "a huge exponent of zero": "0e20000000",
		"hexadecimal": "0x10", "an underscore": "1_000", "not a number": "NaN", "infinity": "Inf", "other digits": "１", "a typographic minus": "−1",
		"7 digits after the point": "0.0000001", "7 digits after the point, the last a zero": "1.0000000",
		"13 digits before the point": "1000000000000", "13 digits, the first a zero": "0000000000001",
		"NUL": "1\x00", "not UTF-8": "1\xff", "20 characters without a point": strings.Repeat("1", 20),
		"200,000 digits": strings.Repeat("9", 200_000), "200,000 digits after the point": "0." + strings.Repeat("9", 200_000),
	} {
		got, err := credit.ParseAmount(in)
		require.ErrorIs(t, err, credit.ErrInvalid, "%s is refused, never rounded", rule)
		assert.True(t, got.IsZero(), rule)
		assert.Less(t, len(err.Error()), 200, "%s: an error repeats only the beginning of long input", rule)
	}
	_, err := credit.ParseAmount("1e3")
	assert.EqualError(t, err, `credit: amount: "1e3" is not plain digits, at most 12 before and 6 after the point`)
	_, err = credit.ParseAmount(strings.Repeat("ö", 100))
	assert.EqualError(t, err, `credit: amount: "`+strings.Repeat("ö", 20)+`…" is not plain digits, at most 12 before and 6 after the point`)
}

func TestMillionths(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		rule string
		in   decimal.Decimal
		want int64
	}{
		{"the zero value", decimal.Decimal{}, 0},
		{"zero of any exponent", decimal.New(0, 20_000_000), 0},
		{"zero of any negative exponent", decimal.New(0, -20_000_000), 0},
		{"zeros at the end beyond 6 digits", amt("1.500000000"), 1_500_000},
		{"24 digits, all that exact arithmetic on amounts leaves", amt("-1." + strings.Repeat("0", 24)), -1_000_000},
		{"a positive exponent", decimal.New(5, 11), 500_000_000_000_000_000},
		{"the exponent of millions", decimal.New(7, 6), 7_000_000_000_000},
		{"the largest amount", amt(most), 999_999_999_999_999_999},
		{"the smallest amount", amt("-" + most), -999_999_999_999_999_999},
	} {
		got, err := credit.Millionths(tt.in)
		require.NoError(t, err, tt.rule)
		assert.Equal(t, tt.want, got, tt.rule)
	}
	// Neither of the last four could be added to anything within this test's life.
	for rule, in := range map[string]decimal.Decimal{
		"a tenth of a millionth":              decimal.New(1, -7),
		"7 digits":                            amt("1.0000001"),
		"10^12":                               decimal.New(1, 12),
		"-10^12":                              decimal.New(-1, 12),
		"10^12 in digits":                     amt("1000000000000"),
		"-10^12 in digits":                    amt("-1000000000000"),
		"10^12 in millionths":                 decimal.New(1_000_000_000_000_000_000, -6),
		"-10^12 in millionths":                decimal.New(-1_000_000_000_000_000_000, -6),
		"beyond 64 bits":                      decimal.New(9_000_000_000_000, 11),
		"beyond 64 bits once shifted":         decimal.New(math.MinInt64, 1),
		"a fraction beyond 64 bits":           amt("1.10000000000000000000001"),
		"25 digits after the point":           amt("1." + strings.Repeat("0", 25)),
		"an exponent that wraps around":       decimal.New(1, -2147483648),
		"a huge exponent":                     decimal.New(1, 20_000_000),
		"a huge negative exponent":            decimal.New(1, -20_000_000),
		"200,000 digits":                      amt(strings.Repeat("9", 200_000)),
		"200,000 digits with a fine exponent": decimal.NewFromBigInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(200_000), nil), -6),
	} {
		_, err := credit.Millionths(in)
		require.ErrorIs(t, err, credit.ErrInvalid, "%s is refused before any arithmetic", rule)
		assert.EqualError(t, err, "credit: amount: has more than 12 digits before or 6 after the point; round it explicitly first", rule)
	}
}

func TestFromMillionths(t *testing.T) {
	t.Parallel()
	for text, v := range map[string]int64{"0": 0, "0.000001": 1, "-0.000001": -1, "-1": -1_000_000, most: 999_999_999_999_999_999} {
		d := credit.FromMillionths(v)
		assert.Equal(t, text, d.String())
		back, err := credit.Millionths(d)
		require.NoError(t, err)
		assert.Equal(t, v, back)
	}
}

// Every command refuses what is not an amount before any arithmetic on it.
func TestAmount_ofEveryCommand(t *testing.T) {
	t.Parallel()
	for _, c := range commands() {
		fill(c)
		field := fieldOf(c, "Amount")
		if !field.IsValid() {
			continue
		}
		for rule, tt := range map[string]struct {
			amount decimal.Decimal
			says   string
		}{
			"zero":              {decimal.Zero, "credit: amount: is zero; a change of nothing is an error"},
			"a fine amount":     {decimal.New(1, -7), "credit: amount: has more than 12 digits before or 6 after the point; round it explicitly first"},
			"a huge exponent":   {decimal.New(1, 20_000_000), "credit: amount: has more than 12 digits before or 6 after the point; round it explicitly first"},
			"a huge fraction":   {decimal.New(-1, -20_000_000), "credit: amount: has more than 12 digits before or 6 after the point; round it explicitly first"},
			"a negative amount": {amt("-1"), map[string]string{"Grant": "grant", "Withdrawal": "withdraw", "Repossession": "repossess", "Usage": "usage", "Correction": "correction", "Settlement": "settle"}[name(c)]},
		} {
			set(field, tt.amount)
			_, err := credit.Decide(accepting(c), c, stamp(1))
			switch {
			case rule != "a negative amount":
				require.EqualError(t, err, tt.says, "%s of %s", rule, name(c))
			case name(c) == "Allocation":
				require.NoError(t, err, "a negative allocation repossesses")
			default:
				require.EqualError(t, err, "credit: amount: of "+tt.says+" must be positive; the method gives the direction", "%s of %s", rule, name(c))
			}
		}
	}
}
