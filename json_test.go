package credit_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

// form is a value whose JSON form is promised.
type form struct {
	name   string
	value  any
	oneWay bool // it is only written
}

// forms has every type that has a JSON form, with all its fields and without.
func forms(t *testing.T) []form {
	b := story(t)
	usage := b.log[8]
	require.Equal(t, credit.KindUsage, usage.Kind)
	dry := b.log[2]
	dry.Sequence, dry.ID, dry.Hash = 0, uuid.Nil, credit.Hash{}
	_, refusal := b.try(credit.Withdrawal{Amount: amt("1000")})
	_, conflict := b.try(&credit.Grant{Amount: amt("1"), Key: "Grant"})
	b.do(credit.Usage{ResellerID: cirrus, Amount: amt("5")})
	_, far := b.try(credit.Usage{ResellerID: cirrus, Amount: amt(most)})
	warnings := usage.Warnings(thresholds(t, "98%"))
	require.Len(t, warnings, 1)
	pool := credit.Warning{Sequence: 7, Kind: credit.KindWithdraw, RecordedAt: noon, Crossing: credit.CrossingLow, Threshold: thresholds(t, "0")[0], Before: amt("2"), After: amt("0")}
	overdrawn := credit.Warning{Sequence: 7, Kind: credit.KindUsage, RecordedAt: noon, ResellerID: nimbus, Crossing: credit.CrossingOverdrawn, After: amt("-1999999999999.999998")}
	nimbus := credit.Reseller{ID: nimbus, ExternalID: "2001", Profile: credit.Profile{Name: "Nimbus", Email: "a@b", Mobile: "1", Remark: "r", Customers: 3},
		Status: credit.StatusActive, BoundAt: noon, Figures: b.log[8].After}
	all := []form{
		{name: "Distributor", value: acme},
		{name: "Pool", value: b.log[9].Pool},
		{name: "Head", value: b.Head()},
		{name: "Head, of an empty ledger", value: credit.NewState(acme).Head()},
		{name: "Figures", value: b.log[9].After},
		{name: "Profile", value: nimbus.Profile},
		{name: "Profile, the name only", value: credit.Profile{Name: "Nimbus"}},
		{name: "Reseller", value: nimbus},
		{name: "Record", value: usage},
		{name: "Record, of an update", value: b.log[16]},
		{name: "Record, of the pool", value: b.log[2]},
		{name: "Record, of a dry run", value: dry},
		{name: "Receipt", value: credit.Receipt{Record: b.log[2], Replayed: true}},
		{name: "Outcome", value: credit.Outcome{Receipt: credit.Receipt{Record: b.log[2]}}, oneWay: true},
		{name: "Outcome, a limit", value: credit.Outcome{Err: refusal}, oneWay: true},
		{name: "Outcome, a conflict", value: credit.Outcome{Err: conflict}, oneWay: true},
		{name: "Outcome, out of range", value: credit.Outcome{Err: far}, oneWay: true},
		{name: "Outcome, not applied", value: credit.Outcome{Err: credit.ErrNotApplied}, oneWay: true},
		{name: "Outcome, of a store", value: credit.Outcome{Err: errors.New("password=secret")}, oneWay: true},
		{name: "Warning", value: warnings[0], oneWay: true},
		{name: "Warning, of the pool", value: pool, oneWay: true},
		{name: "Warning, overdrawn", value: overdrawn, oneWay: true},
		{name: "Threshold", value: credit.DefaultThresholds()},
		{name: "Hash", value: []credit.Hash{{}, usage.Hash}},
		{name: "BulkOptions", value: credit.BulkOptions{AllOrNothing: true, DryRun: true}},
		{name: "BulkOptions, the default", value: credit.BulkOptions{}},
		{name: "ResellerQuery", value: credit.ResellerQuery{Name: "n", Mobile: "1", Remark: "r", Email: "a@b", ExternalID: "x", Statuses: []credit.Status{credit.StatusClosed},
			MinAvailable: new(credit.FromMillionths(-500_000)), MaxAvailable: new(credit.FromMillionths(0)), Low: new(credit.DefaultThresholds()[0]), Order: credit.OrderOldest,
			AsOf: credit.AsOf{Sequence: 7}, Total: true, Limit: 1, Cursor: "c"}},
		{name: "AsOf, a time", value: credit.AsOf{Time: usage.RecordedAt}},
		{name: "ResellerQuery, the default", value: credit.ResellerQuery{}},
		{name: "RecordQuery", value: credit.RecordQuery{ResellerID: nimbus.ID, Kinds: credit.AllocationKinds(),
			Operator: "o", Key: "k", Reference: "r", Customer: "c", RecordedFrom: usage.RecordedAt, RecordedUntil: usage.RecordedAt.Add(time.Hour),
			OccurredFrom: usage.RecordedAt, OccurredUntil: usage.RecordedAt.Add(time.Hour), After: 1, Before: 9, NewestFirst: true, Limit: 1, Cursor: "c"}},
		{name: "RecordQuery, the default", value: credit.RecordQuery{}},
		{name: "Page", value: credit.Page[credit.Status]{Items: []credit.Status{credit.StatusActive}, Next: "c", Total: new(2)}},
		{name: "Page, the last", value: credit.Page[credit.Status]{Items: []credit.Status{}}},
	}
	for _, c := range commands() {
		all = append(all, form{name: name(c) + ", nothing given", value: reflect.ValueOf(c).Elem().Interface()})
		fill(c)
		all = append(all, form{name: name(c), value: reflect.ValueOf(c).Elem().Interface()})
	}
	return all
}

func TestJSON_golden(t *testing.T) {
	t.Parallel()
	golden(t, "json.golden.json", document(t))
}

// document is every form, by name.
func document(t *testing.T) []byte {
	all := map[string]any{}
	for _, f := range forms(t) {
		all[f.name] = f.value
	}
	text, err := json.MarshalIndent(all, "", "  ")
	require.NoError(t, err)
	return append(text, '\n')
}

func TestJSON_coversEveryType(t *testing.T) {
	t.Parallel()
	without := map[string]string{
		"Command": "is one of its types", "Ledger": "does things", "State": "is loaded", "ReadSet": "is between engine and store",
		"Snapshot": "is between engine and store", "Stamp": "is between engine and rules", "Kind": "is text", "Status": "is text", "Order": "is text",
		"Crossing": "is text", "Cursor": "is text", "InvalidError": "is in an outcome", "LimitError": "is in an outcome",
		"ConflictError": "is in an outcome", "CorruptError": "is for people",
	}
	covered := map[string]bool{}
	for _, f := range forms(t) {
		before, _, _ := strings.Cut(f.name, ",")
		covered[before] = true
	}
	files, err := os.ReadDir(".")
	require.NoError(t, err)
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.IsExported() && without[spec.Name.Name] == "" {
				assert.True(t, covered[spec.Name.Name], "%s has no promised JSON form", spec.Name.Name)
			}
			return true
		})
	}
}

func TestJSON_whatIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	for _, f := range forms(t) {
		if f.oneWay {
			continue
		}
		text, err := json.Marshal(f.value)
		require.NoError(t, err, f.name)
		back := reflect.New(reflect.TypeOf(f.value))
		require.NoError(t, json.Unmarshal(text, back.Interface()), f.name)
		again, err := json.Marshal(back.Elem().Interface())
		require.NoError(t, err, f.name)
		assert.Equal(t, string(text), string(again), f.name)
		if c, ok := reflect.TypeAssert[credit.Command](back); ok && !strings.HasSuffix(f.name, ", nothing given") {
			assert.Equal(t, fingerprint(t, f.value.(credit.Command)), fingerprint(t, c), "%s: the command means the same", f.name)
		} else if !ok {
			assert.Equal(t, f.value, back.Elem().Interface(), f.name)
		}
	}
	for _, r := range story(t).log {
		text, err := json.Marshal(r)
		require.NoError(t, err)
		var back credit.Record
		require.NoError(t, json.Unmarshal(text, &back))
		assert.Equal(t, r, back, "a record is read to the same hash")
	}
}

// Not parallel: the switch is for all that uses the decimal package.
func TestJSON_amountsAreStringsWhateverTheDecimalPackageIsToldTo(t *testing.T) {
	want := document(t)
	decimal.MarshalJSONWithoutQuotes = true                        //nolint:reassign // what an application may do
	t.Cleanup(func() { decimal.MarshalJSONWithoutQuotes = false }) //nolint:reassign // as it was
	assert.Equal(t, string(want), string(document(t)))
}

func TestJSON_refusesBadInput(t *testing.T) {
	t.Parallel()
	targets := map[string]func() any{
		`{"granted":%s}`:           func() any { return new(credit.Pool) },
		`{"used":%s}`:              func() any { return new(credit.Figures) },
		`{"allocated":%s}`:         func() any { return new(credit.Reseller) },
		`{"amount":%s}`:            func() any { return new(credit.Record) },
		`{"record":{"amount":%s}}`: func() any { return new(credit.Receipt) },
		`{"pool":{"granted":%s}}`:  func() any { return new(credit.Head) },
		`{"min_available":%s}`:     func() any { return new(credit.ResellerQuery) },
		`{"max_available":%s}`:     func() any { return new(credit.ResellerQuery) },
	}
	for _, c := range commands() {
		if fieldOf(c, "Amount").IsValid() {
			targets[`{"operator":"`+name(c)+`","amount":%s}`] = func() any { return c }
		}
	}
	for _, amount := range []string{`1.5`, `1`, `0`, `true`, `{}`, `[]`, `""`, `" 1"`, `"1e3"`, `"1e20000000"`, `"0.0000001"`, `"1000000000000"`, `"NaN"`, `"\u0031"`, `"` + strings.Repeat("9", 200_000) + `"`} {
		for text, target := range targets {
			err := json.Unmarshal(fmt.Appendf(nil, text, amount), target())
			assert.ErrorIs(t, err, credit.ErrInvalid, "%.80s", fmt.Sprintf(text, amount))
		}
	}
	assert.EqualError(t, json.Unmarshal([]byte(`{"amount":1.5}`), new(credit.Grant)), "credit: amount: must be a JSON string, so that no reader takes it for a float")
	assert.EqualError(t, json.Unmarshal([]byte(`{"amount":""}`), new(credit.Grant)), `credit: amount: "" is not plain digits, at most 12 before and 6 after the point`)
	for _, target := range targets {
		assert.Error(t, json.Unmarshal([]byte(`[]`), target()))
	}
}

func TestJSON_writesNoAmountThatCouldNotBeRead(t *testing.T) {
	t.Parallel()
	for _, d := range []decimal.Decimal{amt("0.0000001"), decimal.New(1, 20_000_000)} {
		for _, v := range []any{credit.Grant{Amount: d}, credit.Record{Amount: d}, credit.ResellerQuery{MinAvailable: &d}, credit.Outcome{Err: &credit.LimitError{Requested: d}}} {
			_, err := json.Marshal(v)
			assert.ErrorIs(t, err, credit.ErrInvalid)
		}
	}
	text, err := json.Marshal(credit.Usage{Amount: amt("1.50")})
	require.NoError(t, err)
	assert.Contains(t, string(text), `"amount":"1.5"`)
}

func TestAnOutcomeIsReadBackAsWhatItWas(t *testing.T) {
	t.Parallel()
	for _, refusal := range []error{credit.ErrExceedsAvailable, credit.ErrNotApplied, credit.ErrKeyConflict} {
		text, err := json.Marshal(credit.Outcome{Err: fmt.Errorf("%w: because", refusal)})
		require.NoError(t, err)
		var o credit.Outcome
		require.NoError(t, json.Unmarshal(text, &o))
		require.ErrorIs(t, o.Err, refusal, "a refusal was read as something else")
		require.EqualError(t, o.Err, refusal.Error()+": because")
	}

	var o credit.Outcome
	require.NoError(t, json.Unmarshal([]byte(`{"error":{"code":"internal","message":"internal error"}}`), &o))
	require.EqualError(t, o.Err, "internal error")
	require.Equal(t, "internal", credit.Code(o.Err))

	state := credit.NewState(credit.Distributor{ID: uuid.UUID{1}, Name: "Acme", Currency: "USD"})
	receipt, err := state.Execute(credit.Grant{Amount: amt("1")}, credit.Stamp{})
	require.NoError(t, err)
	text, err := json.Marshal(credit.Outcome{Receipt: receipt})
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &o))
	require.NoError(t, o.Err)
	require.Equal(t, receipt.Hash, o.Receipt.Hash)

	for _, bad := range []string{`{}`, `{"receipt":{},"error":{}}`, `[]`} {
		require.Error(t, json.Unmarshal([]byte(bad), &o), bad)
	}
}

func TestAWarningIsReadBackAsWhatItWas(t *testing.T) {
	t.Parallel()
	nimbus := uuid.UUID{2}
	r := credit.Record{Sequence: 7, Kind: credit.KindUsage, ResellerID: nimbus, RecordedAt: time.UnixMicro(1_700_000_000_000_001).UTC(),
		Before: credit.Figures{Allocated: amt("999999999999.999999"), Used: amt("-999999999999.999999")},
		After:  credit.Figures{Allocated: amt("999999999999.999999"), Used: amt("999999999999.999999")}}
	for _, want := range r.Warnings(credit.DefaultThresholds()) {
		text, err := json.Marshal(want)
		require.NoError(t, err)
		var got credit.Warning
		require.NoError(t, json.Unmarshal(text, &got))
		again, err := json.Marshal(got)
		require.NoError(t, err)
		require.JSONEq(t, string(text), string(again))
		require.Equal(t, nimbus, got.ResellerID)
	}
	var w credit.Warning
	require.NoError(t, json.Unmarshal([]byte(`{"before":"-1999999999999.999998"}`), &w))
	require.Equal(t, "-1999999999999.999998", w.Before.String(), "the longest balance")
	for _, bad := range []string{`"1e9"`, `"x"`, `"-11999999999999.999998"`, `"` + strings.Repeat("9", 200_000) + `"`} {
		require.ErrorIs(t, json.Unmarshal([]byte(`{"before":`+bad+`}`), &w), credit.ErrInvalid)
	}
}

func TestAMisspeltFieldOfACommandIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []any{&credit.Grant{}, &credit.Withdrawal{}, &credit.Allocation{}, &credit.Repossession{}, &credit.RepossessAll{}, &credit.Usage{},
		&credit.Correction{}, &credit.Settlement{}, &credit.NewReseller{}, &credit.ProfileUpdate{}, &credit.Freeze{}, &credit.Unfreeze{}, &credit.Close{}} {
		require.NoError(t, json.Unmarshal([]byte(`{"key":"po-1"}`), c), "%T", c)
		require.ErrorIs(t, json.Unmarshal([]byte(`{"idempotency_key":"po-1"}`), c), credit.ErrInvalid, "%T", c)
		require.ErrorIs(t, json.Unmarshal([]byte(`{"occurred_at":"yesterday"}`), c), credit.ErrInvalid, "%T", c)
	}
}

func TestJSON_aMisspeltFilterIsRefused(t *testing.T) {
	t.Parallel()
	require.EqualError(t, json.Unmarshal([]byte(`{"nam":"x"}`), new(credit.ResellerQuery)), `credit: query: json: unknown field "nam"`)
	require.EqualError(t, json.Unmarshal([]byte(`{"kind":"usage"}`), new(credit.RecordQuery)), `credit: query: json: unknown field "kind"`)
	require.ErrorIs(t, json.Unmarshal([]byte(`{"min_available":5}`), new(credit.ResellerQuery)), credit.ErrInvalid)
	var q credit.RecordQuery
	require.NoError(t, json.Unmarshal([]byte(`{"kinds":["usage"],"customer":"c","limit":7}`), &q))
	assert.Equal(t, credit.RecordQuery{Kinds: []credit.Kind{credit.KindUsage}, Customer: "c", Limit: 7}, q)
}
