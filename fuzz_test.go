package credit_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

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
