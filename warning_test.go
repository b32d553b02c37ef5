package credit_test

import (
	"encoding/json"
	"testing"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

func thresholds(t *testing.T, texts ...string) []credit.Threshold {
	t.Helper()
	all := make([]credit.Threshold, len(texts))
	for i, text := range texts {
		require.NoError(t, all[i].UnmarshalText([]byte(text)))
	}
	return all
}

// tell is what warnings say: whose, what, at which threshold.
func tell(warnings []credit.Warning) []string {
	var told []string
	for _, w := range warnings {
		who := "reseller "
		if w.ResellerID != nimbus {
			who = "pool "
		}
		s := who + string(w.Crossing)
		if w.Crossing == credit.CrossingLow {
			s += " " + w.Threshold.String()
		}
		told = append(told, s)
	}
	return told
}

func TestRecord_Warnings(t *testing.T) {
	t.Parallel()
	usage := func(s string) credit.Command { return credit.Usage{ResellerID: nimbus, Amount: amt(s)} }
	correct := func(s string) credit.Command { return credit.Correction{ResellerID: nimbus, Amount: amt(s)} }
	allocate := func(s string) credit.Command { return credit.Allocation{ResellerID: nimbus, Amount: amt(s)} }
	for _, tt := range []struct {
		rule    string
		given   given
		command credit.Command
		at      []string
		want    []string
	}{
		{"at the threshold is below it", given{allocated: "100"}, usage("75"), []string{"25%"}, []string{"reseller low 25%"}},
		{"a millionth above the threshold is above it", given{allocated: "100"}, usage("74.999999"), []string{"25%"}, nil},
		{"what was at the threshold before does not cross it", given{allocated: "100", used: "75"}, usage("1"), []string{"25%"}, nil},
		{"one record may cross several, told in the given order", given{allocated: "100"}, usage("100"), []string{"0%", "25%", "10%"},
			[]string{"reseller low 0%", "reseller low 25%", "reseller low 10%"}},
		{"an explicit 0 is a threshold, and a balance of 0 is told", given{allocated: "100"}, usage("100"), []string{"0"}, []string{"reseller low 0"}},
		{"an amount is a threshold", given{allocated: "100"}, usage("90"), []string{"10.5", "10", "9.999999"}, []string{"reseller low 10.5", "reseller low 10"}},
		{"a negative amount tells of deep overdrafts", given{allocated: "100", used: "100"}, usage("50"), []string{"-50"}, []string{"reseller low -50", "reseller overdrawn"}},
		{"a repossession crosses, too", given{granted: "100", allocated: "100", used: "50"}, credit.RepossessAll{ResellerID: nimbus}, []string{"25%"}, []string{"reseller low 25%"}},
		{"going up crosses nothing", given{allocated: "100", used: "100"}, correct("75"), []string{"25%"}, nil},
		{"overdrawn is told without a threshold", given{allocated: "100", used: "100"}, usage("0.000001"), nil, []string{"reseller overdrawn"}},
		{"overdrawn is told whatever was allocated", given{}, usage("1"), []string{"25%", "0%", "0"}, []string{"reseller overdrawn"}},
		{"deeper is not overdrawn again", given{used: "1"}, usage("1"), nil, nil},
		{"recovered is the reverse, at 0", given{used: "1"}, correct("1"), nil, []string{"reseller recovered"}},
		{"an allocation recovers, too", given{granted: "5", used: "1"}, allocate("1"), nil, []string{"reseller recovered"}},
		{"less overdrawn is not recovered", given{used: "2"}, correct("1"), nil, nil},
		{"100 % is crossed by the first usage", given{allocated: "100", used: "-0.000001"}, usage("0.000001"), []string{"100%"}, []string{"reseller low 100%"}},
		{"a share of nothing is above every percentage while positive", given{used: "-1"}, usage("1"), []string{"100%", "0%"}, []string{"reseller low 100%", "reseller low 0%"}},
		{"the pool crosses by an allocation", given{granted: "100"}, allocate("75"), []string{"25%"}, []string{"pool low 25%"}},
		{"the pool crosses by a withdrawal", given{granted: "100", allocated: "70"}, credit.Withdrawal{Amount: amt("10")}, []string{"25%", "10%"}, []string{"pool low 25%"}},
		{"the pool tells of its last credit", given{granted: "100", allocated: "90"}, credit.Withdrawal{Amount: amt("10")}, []string{"0%", "0"}, []string{"pool low 0%", "pool low 0"}},
		{"the reseller is told before the pool", given{granted: "100", used: "1"}, allocate("80"), []string{"25%"}, []string{"reseller recovered", "pool low 25%"}},
		{"a freeze crosses nothing", given{granted: "100", allocated: "100", used: "100"}, credit.Freeze{ResellerID: nimbus}, []string{"25%", "0%", "0"}, nil},
		{"a new reseller crosses nothing", given{granted: "100"}, addNimbus, []string{"25%", "0%", "0"}, nil},
	} {
		receipt, err := credit.Decide(tt.given.state(tt.command), tt.command, stamp(1))
		require.NoError(t, err, tt.rule)
		warnings := receipt.Warnings(thresholds(t, tt.at...))
		assert.Equal(t, tt.want, tell(warnings), tt.rule)
		assert.Equal(t, warnings, receipt.Warnings(thresholds(t, tt.at...)), "%s: reading a record again gives the same warnings", tt.rule)
	}
}

func TestRecord_Warnings_hold(t *testing.T) {
	t.Parallel()
	c := credit.Usage{ResellerID: nimbus, Amount: amt("95")}
	receipt, err := credit.Decide(given{granted: "100", allocated: "100"}.state(c), c, stamp(1))
	require.NoError(t, err)
	assert.Equal(t, []credit.Warning{
		{Sequence: 10, Kind: credit.KindUsage, RecordedAt: stamp(1).Time, ResellerID: nimbus, Crossing: credit.CrossingLow,
			Threshold: credit.DefaultThresholds()[0], Before: receipt.Before.Available(), After: receipt.After.Available()},
		{Sequence: 10, Kind: credit.KindUsage, RecordedAt: stamp(1).Time, ResellerID: nimbus, Crossing: credit.CrossingLow,
			Threshold: credit.DefaultThresholds()[1], Before: receipt.Before.Available(), After: receipt.After.Available()},
	}, receipt.Warnings(credit.DefaultThresholds()))
	assert.Empty(t, credit.Record{}.Warnings(credit.DefaultThresholds()), "the zero value crossed nothing")
}

// With a division to 16 digits the share before would be exactly 0.25, and no
// warning would ever come.
// Measured: division rounds this share to exactly 0.25, which it is not.
func TestElsewhere_AShareIsNotRoundedToAThreshold(t *testing.T) {
	t.Parallel()
	c := credit.Usage{ResellerID: nimbus, Amount: amt("0.000001")}
	receipt, err := credit.Decide(given{granted: most, allocated: most, used: "749999999999.999999"}.state(c), c, stamp(1))
	require.NoError(t, err)
	require.Equal(t, "0.25", receipt.Before.Available().Div(receipt.Before.Allocated).String())
	assert.Equal(t, []string{"reseller low 25%"}, tell(receipt.Warnings(credit.DefaultThresholds())))
}

func TestThreshold(t *testing.T) {
	t.Parallel()
	assert.Equal(t, thresholds(t, "25%", "10%", "0%"), credit.DefaultThresholds())
	assert.Equal(t, thresholds(t, "0")[0].String(), credit.Threshold{}.String(), "the zero value is the amount 0")
	for _, p := range []string{"0", "12.5", "100"} {
		got, err := credit.PercentThreshold(amt(p))
		require.NoError(t, err)
		assert.Equal(t, thresholds(t, p+"%")[0], got)
		assert.True(t, got.IsPercent())
		assert.Equal(t, p, got.Value().String())
	}
	for _, p := range []decimal.Decimal{amt("-0.000001"), amt("100.000001"), amt("0.0000001"), decimal.New(1, 20_000_000)} {
		_, err := credit.PercentThreshold(p)
		assert.EqualError(t, err, "credit: threshold: a percentage must be 0 to 100")
	}
	for _, a := range []string{"0", "-50.5", most} {
		got, err := credit.AmountThreshold(amt(a))
		require.NoError(t, err)
		assert.Equal(t, thresholds(t, a)[0], got)
		assert.False(t, got.IsPercent())
		assert.Equal(t, a, got.Value().String())
	}
	for _, a := range []decimal.Decimal{amt("0.0000001"), amt("1000000000000"), decimal.New(1, 20_000_000)} {
		_, err := credit.AmountThreshold(a)
		assert.EqualError(t, err, "credit: threshold: is not an amount")
	}
	for _, text := range []string{"0", "0%", "12.5%", "100%", "1000.5", "-3"} {
		back, err := thresholds(t, text)[0].MarshalText()
		require.NoError(t, err)
		assert.Equal(t, text, string(back))
	}
	for _, text := range []string{"", "%", "25 %", "101%", "-1%", "25%%", "%25", "1e3", "0.0000001", "0.25percent"} {
		var threshold credit.Threshold
		require.EqualError(t, threshold.UnmarshalText([]byte(text)), "credit: threshold: must be like 25% or 1000.5, a percentage 0 to 100", text)
		assert.Zero(t, threshold)
	}
	var threshold credit.Threshold
	assert.Error(t, json.Unmarshal([]byte("25"), &threshold), "a threshold is text")
}
