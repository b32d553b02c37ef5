package credit_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

// vectors are a ledger's log with all its hashes, for implementers in any language.
type vectors struct {
	Distributor credit.Distributor `json:"distributor"`
	Genesis     credit.Hash        `json:"genesis"`
	Records     []credit.Record    `json:"records"`
}

func TestChain_goldenVectors(t *testing.T) {
	t.Parallel()
	text, err := json.MarshalIndent(vectors{acme, credit.Genesis(acme), story(t).log}, "", "  ")
	require.NoError(t, err)
	golden(t, "chain.golden.json", append(text, '\n'))
}

// An implementation of the chain from the comments of Genesis and ChainHash,
// with nothing but the JSON form.
func TestChain_canBeVerifiedWithoutThisPackage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/chain.golden.json")
	require.NoError(t, err)
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var golden struct {
		Distributor map[string]string
		Genesis     string
		Records     []map[string]any
	}
	require.NoError(t, decoder.Decode(&golden))
	hash := func(fields ...string) string {
		var all []byte
		for _, f := range fields {
			all = append(binary.BigEndian.AppendUint32(all, uint32(len(f))), f...)
		}
		sum := sha256.Sum256(all)
		return hex.EncodeToString(sum[:])
	}
	previous := hash("credit/genesis/1", golden.Distributor["id"], golden.Distributor["currency"])
	assert.Equal(t, golden.Genesis, previous)

	for _, record := range golden.Records {
		text := func(name string) string {
			s, _ := record[name].(string)
			return s
		}
		number := func(name string) string {
			if n, ok := record[name].(json.Number); ok {
				return n.String()
			}
			return "0"
		}
		inner := func(name, of string) string { return record[name].(map[string]any)[of].(string) }
		micros := func(name string) string {
			at, err := time.Parse(time.RFC3339Nano, text(name))
			require.NoError(t, err)
			return strconv.FormatInt(at.UnixMicro(), 10)
		}
		raw, err := hex.DecodeString(previous)
		require.NoError(t, err)
		fields := []string{"credit/record/1", string(raw), number("sequence"), text("id"), text("kind"), text("reseller_id"), text("external_id"),
			text("amount"), inner("before", "allocated"), inner("before", "used"), inner("after", "allocated"), inner("after", "used"),
			inner("pool", "granted"), inner("pool", "allocated"), text("operator"), text("remark"), text("key"), text("fingerprint"),
			text("reference"), text("customer"), number("corrects")}
		metadata, _ := record["metadata"].(map[string]any)
		fields = append(fields, strconv.Itoa(len(metadata)))
		var keys []string
		for k := range metadata {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			fields = append(fields, k, metadata[k].(string))
		}
		changed, _ := record["changed"].([]any)
		fields = append(fields, strconv.Itoa(len(changed)))
		for _, c := range changed {
			fields = append(fields, c.(string))
		}
		fields = append(fields, micros("occurred_at"), micros("recorded_at"))
		require.Equal(t, text("hash"), hash(fields...), "record %s", number("sequence"))
		previous = text("hash")
	}
}

func TestGenesis(t *testing.T) {
	t.Parallel()
	genesis := credit.Genesis(acme)
	assert.Equal(t, genesis, credit.Genesis(credit.Distributor{ID: acme.ID, Currency: acme.Currency}), "a name is never compared")
	assert.NotEqual(t, genesis, credit.Genesis(credit.Distributor{ID: nimbus, Currency: acme.Currency}), "another ledger is another chain")
	assert.NotEqual(t, genesis, credit.Genesis(credit.Distributor{ID: acme.ID, Currency: "EUR"}), "another currency is another chain")
}

func TestChainHash_saysTheSameForWhatAStoreReturns(t *testing.T) {
	t.Parallel()
	for _, r := range story(t).log {
		back := r.Clone()
		back.OccurredAt, back.RecordedAt = back.OccurredAt.Local().Add(999), back.RecordedAt.Local().Add(999)
		if len(back.Metadata) == 0 {
			back.Metadata, back.Changed = map[string]string{}, []string{}
		}
		back.Amount = amt(back.Amount.StringFixed(10))
		assert.Equal(t, r.ChainHash(credit.Hash{1}), back.ChainHash(credit.Hash{1}), "zones, nanoseconds, empty maps and zeros at the end change no hash")
	}
}

func TestHash_text(t *testing.T) {
	t.Parallel()
	var zero credit.Hash
	assert.True(t, zero.IsZero())
	assert.Empty(t, zero.String())
	h := credit.Genesis(acme)
	assert.False(t, h.IsZero())
	for _, h := range []credit.Hash{zero, h} {
		text, err := h.MarshalText()
		require.NoError(t, err)
		back := credit.Hash{7}
		require.NoError(t, back.UnmarshalText(text))
		assert.Equal(t, h, back)
	}
	for _, bad := range []string{"0", strings.Repeat("0", 63), strings.Repeat("0", 65), strings.Repeat("0", 63) + "g", strings.Repeat("0", 200)} {
		assert.EqualError(t, h.UnmarshalText([]byte(bad)), "credit: hash: is not 64 hexadecimal digits")
	}
}

// fingerprint is that of a command, or none if its shape is refused.
func fingerprint(t *testing.T, c credit.Command) credit.Hash {
	t.Helper()
	receipt, err := credit.Decide(accepting(c), c, stamp(1))
	if err != nil {
		require.ErrorIs(t, err, credit.ErrInvalid)
	}
	return receipt.Fingerprint
}

func TestFingerprint_coversEveryFieldOfEveryCommand(t *testing.T) {
	t.Parallel()
	seen := map[credit.Hash]string{}
	unlike := func(h credit.Hash, what string) {
		require.Empty(t, seen[h], "the fingerprint of %s is that of %s", what, seen[h])
		seen[h] = what
	}
	for i := range commands() {
		base := commands()[i]
		fill(base)
		unlike(fingerprint(t, base), name(base))
		for f := range fieldOf(base, "").NumField() {
			c := commands()[i]
			fill(c)
			field, what := fieldOf(c, "").Field(f), name(c)+"."+fieldOf(c, "").Type().Field(f).Name
			if strings.HasSuffix(what, ".Key") {
				continue // it is what the fingerprint is found by
			}
			if strings.HasSuffix(what, ".ResellerID") {
				set(field, cirrus)
			} else {
				vary(field, 1)
			}
			changed := fingerprint(t, c)
			require.False(t, changed.IsZero(), what)
			unlike(changed, what+" changed")
			if field.Kind() == reflect.Pointer {
				field.Elem().SetZero()
				if h := fingerprint(t, c); !h.IsZero() { // a name cannot be empty
					unlike(h, what+" empty")
				}
			}
			if strings.HasSuffix(what, ".ResellerID") {
				continue // a reseller that is not given is not found
			}
			field.SetZero()
			if h := fingerprint(t, c); !h.IsZero() {
				unlike(h, what+" not given")
			}
		}
	}
}

func TestFingerprint_isOfWhatTheCommandMeans(t *testing.T) {
	t.Parallel()
	c := credit.Allocation{ResellerID: nimbus, Amount: amt("-1.5"), Key: "x", OccurredAt: noon}
	same, other := c, c

	same.Amount = amt("-1.500")
	assert.Equal(t, fingerprint(t, c), fingerprint(t, same), "1.5 is 1.500")
	same.OccurredAt = noon.Add(999).In(time.FixedZone("", 3600))
	assert.Equal(t, fingerprint(t, c), fingerprint(t, same), "a time counts by its microseconds, in any zone")
	same.Metadata = map[string]string{}
	assert.Equal(t, fingerprint(t, c), fingerprint(t, same), "an empty map is none")
	assert.Equal(t, fingerprint(t, c), fingerprint(t, credit.Repossession{ResellerID: nimbus, Amount: amt("1.5"), Key: "x", OccurredAt: noon}), "to allocate -x is to repossess x")

	other.OccurredAt = noon.Add(time.Microsecond)
	assert.NotEqual(t, fingerprint(t, c), fingerprint(t, other))
	other.OccurredAt = stamp(1).Time
	given := fingerprint(t, other)
	other.OccurredAt = time.Time{}
	assert.NotEqual(t, given, fingerprint(t, other), "a time that is given differs from the default, be it the same")
	assert.NotEqual(t, fingerprint(t, credit.Repossession{ResellerID: nimbus, Amount: amt("30"), Key: "x"}), fingerprint(t, credit.RepossessAll{ResellerID: nimbus, Key: "x"}),
		"all is another command than the amount that it comes to")
}

// The hash is over the plain decimal, whatever representation the amount has.
func TestChain_amountsAreHashedAsPlainDecimals(t *testing.T) {
	t.Parallel()
	hashed := func(d decimal.Decimal) credit.Hash { return credit.Record{Amount: d}.ChainHash(credit.Hash{}) }
	texts := map[credit.Hash]string{}
	random := rand.New(rand.NewPCG(1, 2))
	values := []int64{0, 1, 9, 10, 100_000, 999_999, 1_000_000, 1_000_001, 1_500_000, 999_999_999_999_999_999}
	for range 5_000 {
		values = append(values, random.Int64N(1_000_000_000_000_000_000)>>random.IntN(60))
	}
	for _, v := range values {
		for _, v := range []int64{v, -v} {
			d := credit.FromMillionths(v)
			text := d.String()
			require.Equal(t, hashOfAmount(text), hashed(d), "%s is not hashed as it is written", text)
			require.Equal(t, hashed(d), hashed(amt(text)), "%s has two hashes", text)
			require.Equal(t, hashed(d), hashed(d.Mul(decimal.New(1_000, -3))), "%s has another hash with zeros at its end", text)
			if other, there := texts[hashed(d)]; there {
				require.Equal(t, text, other, "two amounts have one hash")
			}
			texts[hashed(d)] = text
		}
	}
	for _, text := range []string{"0.0000001", "-1234567890123.5", "1.00000015"} {
		require.Equal(t, hashOfAmount(text), hashed(amt(text)), "what is no amount has a hash, too")
	}
}

// hashOfAmount is the hash of a record that has nothing but this amount.
func hashOfAmount(text string) credit.Hash {
	none := credit.Record{}
	number := strconv.FormatInt(none.OccurredAt.UnixMicro(), 10)
	var all []byte
	for _, f := range []string{"credit/record/1", string(make([]byte, 32)), "0", "", "", "", "", text, "0", "0", "0", "0", "0", "0",
		"", "", "", "", "", "", "0", "0", "0", number, number} {
		all = append(binary.BigEndian.AppendUint32(all, uint32(len(f))), f...)
	}
	return sha256.Sum256(all)
}
