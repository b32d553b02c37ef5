package credit_test

import (
	"encoding/json"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

// The grammar of amounts is exactly this, and what is read is written so that it
// is read again.
func FuzzParseAmount(f *testing.F) {
	for _, s := range []string{"0", "-0", "1.5", "000000000001.500000", most, "-" + most, "", "-", ".", "1.", ".5", "+1", "1e3", "0e20000000",
		"NaN", " 1", "0.0000001", "1000000000000", "１", "1\x00"} {
		f.Add(s)
	}
	grammar := regexp.MustCompile(`^-?[0-9]{1,12}(\.[0-9]{1,6})?$`)
	f.Fuzz(func(t *testing.T, s string) {
		d, err := credit.ParseAmount(s)
		require.Equal(t, grammar.MatchString(s) && !strings.HasSuffix(s, "\n"), err == nil, "%q", s)
		if err != nil {
			require.ErrorIs(t, err, credit.ErrInvalid)
			return
		}
		require.True(t, amt(s).Equal(d), "%q is read as %s", s, d)
		again, err := credit.ParseAmount(d.String())
		require.NoError(t, err)
		require.Equal(t, d, again)
		v, err := credit.Millionths(d)
		require.NoError(t, err)
		require.Equal(t, d, credit.FromMillionths(v))
	})
}

// No byte can move from one field of a command to the next unseen, and text that
// a database could not keep is refused.
func FuzzKeyAndFingerprint(f *testing.F) {
	f.Add("po-4711", "ops@example.com", "remark", "reference", "customer", "meta", "data", uint8(1))
	f.Add("", "", "", "", "", "", "", uint8(0))
	f.Add("k", "ab", "", "", "", "", "", uint8(1))
	f.Add("k\x00", "a\xff", "é", "日本", "", "", "", uint8(2))
	f.Add(strings.Repeat("k", credit.MaxKey+1), "", "", "", "", "", "", uint8(0))
	f.Fuzz(func(t *testing.T, key, operator, remark, reference, customer, metaKey, metaValue string, shift uint8) {
		fields := []string{customer, operator, remark, reference, metaKey, metaValue}
		usage := func(fields []string) credit.Usage {
			return credit.Usage{ResellerID: nimbus, Amount: amt("1"), Key: key, Customer: fields[0], Operator: fields[1], Remark: fields[2],
				Reference: fields[3], Metadata: map[string]string{fields[4]: fields[5]}}
		}
		good := metaKey != ""
		for _, s := range append(fields, key) {
			good = good && utf8.ValidString(s) && !strings.Contains(s, "\x00")
		}
		for i, most := range []int{credit.MaxCustomer, credit.MaxOperator, credit.MaxRemark, credit.MaxReference, credit.MaxMetadataKey, credit.MaxMetadataValue} {
			good = good && len(fields[i]) <= most
		}
		good = good && len(key) <= credit.MaxKey
		c := usage(fields)
		first, err := credit.Decide(given{}.state(c), c, stamp(1))
		if !good {
			require.ErrorIs(t, err, credit.ErrInvalid)
			return
		}
		require.NoError(t, err)
		require.Equal(t, key == "", first.Fingerprint.IsZero())
		require.Equal(t, key, first.Key)
		if key == "" {
			return
		}
		again, err := credit.Decide(given{earlier: []credit.Record{first.Record}}.state(c), c, stamp(2))
		require.NoError(t, err)
		require.True(t, again.Replayed)

		for i := range len(fields) - 1 {
			n := min(int(shift), len(fields[i]))
			moved := append([]string(nil), fields...)
			moved[i], moved[i+1] = fields[i][:len(fields[i])-n], fields[i][len(fields[i])-n:]+fields[i+1]
			shifted := usage(moved)
			other, err := credit.Decide(given{}.state(shifted), shifted, stamp(1))
			if err != nil {
				continue // a character was torn, or a field became too long
			}
			require.Equal(t, n == 0, first.Fingerprint == other.Fingerprint, "%q and %q", fields, moved)
			require.Equal(t, n == 0, first.Hash == other.Hash, "%q and %q", fields, moved)
		}
	})
}

// Whatever is asked of a ledger, its invariants hold and its log verifies.
func FuzzCommandStream(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte("\x00\x3f\x00\x00\x20\x00"))
	f.Add([]byte(strings.Repeat("add, grant, allocate, use, repossess; ", 20)))
	f.Fuzz(func(t *testing.T, script []byte) {
		const each = 8 // a command takes no more bytes
		checkStream(t, min(len(script)/each, 200), func(n int) int {
			if len(script) == 0 {
				return 0
			}
			next := int(script[0])
			script = script[1:]
			return next % n
		})
	})
}

// A record that was read is written and read to the same.
func FuzzRecordJSON(f *testing.F) {
	for _, r := range story(f).log {
		text, err := json.Marshal(r)
		require.NoError(f, err)
		f.Add(text)
	}
	f.Add([]byte(`{"amount":"1e20000000"}`))
	f.Add([]byte(`{"metadata":{},"changed":[],"occurred_at":"2026-03-01T12:00:00.123456789+05:45"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var first credit.Record
		if json.Unmarshal(text, &first) != nil {
			return
		}
		written, err := json.Marshal(first)
		require.NoError(t, err)
		var second credit.Record
		require.NoError(t, json.Unmarshal(written, &second))
		require.Equal(t, first.ChainHash(credit.Hash{}), second.ChainHash(credit.Hash{}), "the hash survives")
		again, err := json.Marshal(second)
		require.NoError(t, err)
		require.Equal(t, string(written), string(again))
		_ = credit.NewState(acme).Verify(second) // no record makes it panic
	})
}

// everyForm has one of every type that reads JSON of somebody else.
func everyForm() []any {
	return []any{new(credit.Grant), new(credit.Withdrawal), new(credit.Allocation), new(credit.Repossession), new(credit.RepossessAll), new(credit.Usage), new(credit.Correction),
		new(credit.Settlement), new(credit.NewReseller), new(credit.ProfileUpdate), new(credit.Freeze), new(credit.Unfreeze), new(credit.Close),
		new(credit.ResellerQuery), new(credit.RecordQuery), new(credit.BulkOptions), new(credit.AsOf), new(credit.Distributor),
		new(credit.Receipt), new(credit.Outcome), new(credit.Reseller), new(credit.Profile), new(credit.Figures), new(credit.Pool), new(credit.Head), new(credit.Warning),
		new(credit.Page[credit.Record]), new(credit.Page[credit.Reseller])}
}

// What was read is written and read to the same, and what a command or a query is
// not is refused in few words.
func FuzzJSON(f *testing.F) {
	for _, text := range []string{`{"amount":"1.5","key":"k","metadata":{"a":"b"},"occurred_at":"2026-03-01T12:00:00.1234567+05:45"}`, `{"amount":"0e20000000"}`, `{"amount":1e400}`,
		`{"reseller_id":"00000000-0000-4000-8000-00000000000b","amount":"-1","corrects":7}`, `{"external_id":"2001","name":"Nimbus","customers":3,"bound_at":"0001-01-01T00:00:00Z"}`,
		`{"name":null,"email":"","customers":0}`, `{"low":"25%","min_available":"0","statuses":["closed"],"as_of":{"sequence":3},"order":"oldest"}`, `{"kinds":["usage"],"recorded_from":"9999-12-31T23:59:59.9999999Z","newest_first":true}`,
		`{"receipt":{"record":{"sequence":1,"amount":"1"},"replayed":true}}`, `{"error":{"code":"not_found","message":"m"}}`, `{"allocated":"1","used":"-1","available":"7"}`, `{"crossing":"low","threshold":"0","before":"1999999999999.999998","after":"-1"}`,
		`{"items":[{"amount":"1"}],"next":"x","total":3}`, `{"` + strings.Repeat("x", 1000) + `":1}`, `{"Amount":"1","AMOUNT":"2"}`, `{"amount":"1"}{"amount":"2"}`, "[]", "null", "{", ""} {
		for n := range everyForm() {
			f.Add([]byte(text), byte(n))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, which byte) {
		n := int(which) % len(everyForm())
		first := everyForm()[n]
		if err := json.Unmarshal(text, first); err != nil {
			_, syntax := err.(*json.SyntaxError) //nolint:errorlint // json.Unmarshal returns it as it is
			if _, command := first.(credit.Command); command && !syntax {
				require.ErrorIs(t, err, credit.ErrInvalid, "what is no command is an invalid one")
				require.Less(t, len(err.Error()), 300, "an error does not repeat what is as long as one likes")
			}
			return
		}
		written, err := json.Marshal(first)
		if err != nil {
			require.ErrorContains(t, err, "year", "only a time can be read and not written")
			return
		}
		second := everyForm()[n]
		require.NoError(t, json.Unmarshal(written, second), "%s", written)
		again, err := json.Marshal(second)
		require.NoError(t, err)
		require.Equal(t, string(written), string(again))
		switch first := first.(type) {
		case credit.Command:
			requireSameCommand(t, first, second)
		case *credit.ResellerQuery:
			normal, err := first.Normalize()
			if err == nil {
				twice, err := normal.Normalize()
				require.NoError(t, err)
				require.Equal(t, normal, twice, "the one form of a query is its own")
			}
		case *credit.RecordQuery:
			normal, err := first.Normalize()
			if err == nil {
				twice, err := normal.Normalize()
				require.NoError(t, err)
				require.Equal(t, normal, twice, "the one form of a query is its own")
			}
		}
	})
}

// requireSameCommand fails unless the second command is a replay of the first.
func requireSameCommand(t *testing.T, first credit.Command, second any) {
	t.Helper()
	again, ok := second.(credit.Command)
	require.True(t, ok)
	require.Equal(t, credit.Validate(first), credit.Validate(again))
	r, err := credit.Decide(given{granted: "1000", allocated: "100", used: "10"}.state(first), first, stamp(1))
	if err != nil || r.Key == "" {
		return
	}
	replay, err := credit.Decide(given{granted: "1000", allocated: "100", used: "10", earlier: []credit.Record{r.Record}}.state(again), again, stamp(2))
	require.NoError(t, err, "a command that was written and read is the same one")
	require.True(t, replay.Replayed)
}

// The text of a threshold has a grammar of its own, and its text is read to itself.
func FuzzThreshold(f *testing.F) {
	for _, s := range []string{"25%", "0%", "100%", "100.000001%", "-1%", "-1", "1000.5", "0", "-0", "%", "25 %", "25%%", "1e3%", "", "999999999999.999999", "999999999999.999999%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var first credit.Threshold
		if err := first.UnmarshalText([]byte(s)); err != nil {
			require.ErrorIs(t, err, credit.ErrInvalid)
			require.Less(t, len(err.Error()), 200)
			return
		}
		number, percent := strings.CutSuffix(s, "%")
		require.Equal(t, percent, first.IsPercent())
		require.True(t, amt(number).Equal(first.Value()), "%q is read as %s", s, first)
		require.True(t, !percent || !first.Value().IsNegative() && first.Value().LessThanOrEqual(amt("100")), "%s", first)
		var second credit.Threshold
		require.NoError(t, second.UnmarshalText([]byte(first.String())))
		require.Equal(t, first, second)
	})
}

// A hash has one text.
func FuzzHash(f *testing.F) {
	for _, s := range []string{"", credit.Genesis(acme).String(), strings.ToUpper(credit.Genesis(acme).String()), strings.Repeat("0", 64), strings.Repeat("g", 64), "ab"} {
		f.Add(s)
	}
	one := regexp.MustCompile(`\A[0-9a-f]{64}\z`)
	f.Fuzz(func(t *testing.T, s string) {
		var h credit.Hash
		err := h.UnmarshalText([]byte(s))
		none := s == strings.Repeat("0", 64) // is the empty text
		require.Equal(t, s == "" || one.MatchString(s) && !none, err == nil, "%q", s)
		if err == nil {
			require.Equal(t, s, h.String())
		}
	})
}

// Whatever a decimal is made of, its millionths are exact or refused, and neither
// takes long.
func FuzzMillionths(f *testing.F) {
	for _, c := range [][]byte{{0}, {1}, {0xff}, []byte("\x0d\xe0\xb6\xb3\xa7\x63\xff\xff"), []byte(strings.Repeat("\xff", 17)), []byte(strings.Repeat("\xff", 1000))} {
		for _, exp := range []int32{0, -6, -7, -24, -25, 11, 12, 1 << 30, -1 << 31} {
			f.Add(c, exp, false)
			f.Add(c, exp, true)
		}
	}
	f.Fuzz(func(t *testing.T, coefficient []byte, exp int32, negative bool) {
		c := new(big.Int).SetBytes(coefficient)
		if negative {
			c.Neg(c)
		}
		d := decimal.NewFromBigInt(c, exp)
		v, err := credit.Millionths(d)
		if err != nil {
			require.ErrorIs(t, err, credit.ErrInvalid)
			return
		}
		if c.Sign() == 0 {
			require.Zero(t, v)
			return
		}
		require.True(t, exp >= -24 && exp < 12, "the exponent %d", exp)
		require.True(t, credit.FromMillionths(v).Equal(d), "%s has %d millionths", d, v)
		require.True(t, v < 1e18 && v > -1e18, "%s is an amount", d)
	})
}
