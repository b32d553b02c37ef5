package store_test

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
)

// counting is a store that counts its calls.
type counting struct {
	store.Store
	calls atomic.Int64
}

func (s *counting) Create(ctx context.Context, d credit.Distributor) (credit.Distributor, error) {
	s.calls.Add(1)
	return s.Store.Create(ctx, d)
}

func (s *counting) Load(ctx context.Context, ledger uuid.UUID, asked credit.ReadSet) (credit.Snapshot, error) {
	s.calls.Add(1)
	return s.Store.Load(ctx, ledger, asked)
}

func (s *counting) Append(ctx context.Context, ledger uuid.UUID, expected credit.Head, b store.Batch) error {
	s.calls.Add(1)
	return s.Store.Append(ctx, ledger, expected, b)
}

func (s *counting) Resellers(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery, after store.ResellerPosition) ([]credit.Reseller, error) {
	s.calls.Add(1)
	return s.Store.Resellers(ctx, ledger, q, after)
}

func (s *counting) CountResellers(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery) (int, error) {
	s.calls.Add(1)
	return s.Store.CountResellers(ctx, ledger, q)
}

func (s *counting) Records(ctx context.Context, ledger uuid.UUID, q credit.RecordQuery) ([]credit.Record, error) {
	s.calls.Add(1)
	return s.Store.Records(ctx, ledger, q)
}

func (s *counting) Latest(ctx context.Context, ledger uuid.UUID, resellers []uuid.UUID, kinds []credit.Kind, until int64) ([]credit.Record, error) {
	s.calls.Add(1)
	return s.Store.Latest(ctx, ledger, resellers, kinds, until)
}

// textLimits are the limits of every text that a caller gives, in bytes.
var textLimits = map[string]int{
	"Operator": credit.MaxOperator, "Remark": credit.MaxRemark, "Key": credit.MaxKey, "Reference": credit.MaxReference, "Customer": credit.MaxCustomer,
	"ExternalID": credit.MaxExternalID, "Name": credit.MaxName, "Email": credit.MaxEmail, "Mobile": credit.MaxMobile, "ResellerRemark": credit.MaxRemark,
}

// nonsense is what no text may hold, with the smallest of what comes after it.
var nonsense = map[string]string{
	"NUL": "a\x00b", "a byte that is no character": "a\xffb", "a character that was cut": "日本"[:5], "half of a surrogate pair": "\xed\xa0\x80", "a quote in two bytes": "\xc0\xa7",
	"a quote behind a byte of another encoding": "\xbf'", "a backslash behind one": "\x95\\", "a character beyond the last": "\xf4\x90\x80\x80",
}

// value is what a field can be given.
type value struct {
	name string
	of   any
	good bool
}

// valuesOf are what is within the limit of a field, and next to it.
func valuesOf(t *testing.T, of reflect.StructField, text map[string]int) []value {
	t.Helper()
	texts := func(wrap func(string) any, most int) []value {
		list := []value{{"the limit", wrap(strings.Repeat("x", most)), true}, {"the limit + 1", wrap(strings.Repeat("x", most+1)), false},
			{"the limit in characters, not in bytes", wrap(strings.Repeat("ä", most)), false}, {"a million bytes", wrap(strings.Repeat("x", 1_000_000)), false}}
		for name, s := range nonsense {
			list = append(list, value{name, wrap(s), false})
		}
		return list
	}
	limit := func() int {
		most, known := text[of.Name]
		require.True(t, known, "the text %s has no limit", of.Name)
		return most
	}
	last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	switch reflect.Zero(of.Type).Interface().(type) {
	case string:
		return texts(func(s string) any { return s }, limit())
	case *string:
		return texts(func(s string) any { return &s }, limit())
	case map[string]string:
		pairs := map[string]string{}
		for i := range credit.MaxMetadata {
			pairs[fmt.Sprint(i)] = ""
		}
		more := map[string]string{"one more": ""}
		for k := range pairs {
			more[k] = ""
		}
		list := []value{{"as many pairs as the limit", pairs, true}, {"a pair more", more, false}, {"a key that is empty", map[string]string{"": "x"}, false}}
		list = append(list, texts(func(s string) any { return map[string]string{s: ""} }, credit.MaxMetadataKey)...)
		return append(list, texts(func(s string) any { return map[string]string{"k": s} }, credit.MaxMetadataValue)...)
	case decimal.Decimal:
		return []value{{"the largest amount", amt("999999999999.999999"), true}, {"an amount of 13 digits", amt("1000000000000"), false}, {"an amount of 7 digits after the point", amt("0.0000001"), false},
			{"an exponent of 20 million", decimal.New(1, 20_000_000), false}, {"an exponent of -20 million", decimal.New(1, -20_000_000), false}, {"200,000 digits", amt(strings.Repeat("9", 200_000)), false}}
	case *decimal.Decimal:
		return []value{{"the largest amount", new(amt("999999999999.999999")), true}, {"an amount of 13 digits", new(amt("1000000000000")), false}, {"an exponent of 20 million", new(decimal.New(1, 20_000_000)), false}}
	case time.Time:
		return []value{{"the year 9999", last, true}, {"the year 10000", last.Add(time.Second), false}, {"the year 0", time.Date(0, 12, 31, 23, 59, 59, 0, time.UTC), false}, {"the year -290000000000", time.Unix(-1<<62, 0), false}}
	case int:
		most := credit.MaxCustomers
		if of.Name == "Limit" {
			most = credit.MaxPageSize
		}
		return []value{{"the limit", most, true}, {"the limit + 1", most + 1, false}, {"-1", -1, false}}
	case *int:
		return []value{{"the limit", new(credit.MaxCustomers), true}, {"the limit + 1", new(credit.MaxCustomers + 1), false}, {"-1", new(-1), false}}
	case int64:
		return []value{{"-1", int64(-1), false}}
	case credit.Cursor:
		return []value{{"a million bytes", credit.Cursor(strings.Repeat("A", 1_000_000)), false}, {"NUL", credit.Cursor("\x00"), false}}
	case credit.Order:
		return []value{{"an unknown one", credit.Order(strings.Repeat("x", 1_000_000)), false}}
	case []credit.Status:
		return []value{{"an unknown one", []credit.Status{credit.Status(strings.Repeat("x", 1_000_000))}, false}}
	case []credit.Kind:
		return []value{{"an unknown one", []credit.Kind{credit.Kind(strings.Repeat("x", 1_000_000))}, false}}
	case credit.AsOf:
		return []value{{"a sequence and a time", credit.AsOf{Sequence: 1, Time: last}, false}, {"-1", credit.AsOf{Sequence: -1}, false}, {"the year 10000", credit.AsOf{Time: last.Add(time.Second)}, false}}
	case uuid.UUID, bool, *credit.Threshold: // any is a good one
		return nil
	}
	require.FailNow(t, "a field of a sort that has no limit", "%s %s", of.Name, of.Type)
	return nil
}

// Every field of everything that a caller can ask comes from reflection, so that a
// new one without a limit fails.
func TestWhatIsWithinTheLimitsPassesAndEverythingElseIsRefusedBeforeAnyWork(t *testing.T) {
	t.Parallel()
	s := &counting{Store: memstore.New()}
	opened, err := store.Open(t.Context(), s, acme, store.Options{Memory: store.NewMemory(10)})
	require.NoError(t, err)
	_, err = opened.Grant(t.Context(), credit.Grant{Amount: amt("1")})
	require.NoError(t, err)
	added, err := opened.AddReseller(t.Context(), credit.NewReseller{ExternalID: "2001", Name: "Nimbus"})
	require.NoError(t, err)
	ledger := opened.On(s) // which remembers nothing

	asked := 0
	methods := reflect.TypeFor[credit.Ledger]()
	for method := range methods.Methods() {
		if method.Type.NumIn() != 2 || method.Type.In(1).Kind() != reflect.Struct || method.Type.In(1) == reflect.TypeFor[credit.Distributor]() {
			continue
		}
		of := method.Type.In(1)
		limits := textLimits
		if of == reflect.TypeFor[credit.ResellerQuery]() { // its remark is the reseller's
			limits = map[string]int{"Name": credit.MaxName, "Mobile": credit.MaxMobile, "Remark": credit.MaxRemark, "Email": credit.MaxEmail, "ExternalID": credit.MaxExternalID}
		}
		for j := range of.NumField() {
			for n, v := range valuesOf(t, of.Field(j), limits) {
				input := reflect.New(of).Elem()
				for name, needed := range map[string]any{"Amount": amt("1"), "ResellerID": added.ResellerID, "ExternalID": fmt.Sprintf("%s/%d/%d", method.Name, j, n), "Name": "N"} {
					if f := input.FieldByName(name); f.IsValid() && f.Type() == reflect.TypeOf(needed) && f.IsZero() && of.Field(j).Name != name && implementsCommand(of) {
						f.Set(reflect.ValueOf(needed))
					}
				}
				if _, updates := reflect.TypeAssert[credit.ProfileUpdate](input); updates {
					input.FieldByName("Name").Set(reflect.ValueOf(new("N")))
				}
				input.Field(j).Set(reflect.ValueOf(v.of))
				before := s.calls.Load()
				answers := reflect.ValueOf(ledger).MethodByName(method.Name).Call([]reflect.Value{reflect.ValueOf(t.Context()), input})
				err, _ := reflect.TypeAssert[error](answers[1])
				if v.good {
					require.NotErrorIs(t, err, credit.ErrInvalid, "%s: %s: %s is within the limit", method.Name, of.Field(j).Name, v.name)
					require.NotEqual(t, before, s.calls.Load(), "%s: %s: %s: nothing was done", method.Name, of.Field(j).Name, v.name)
				} else {
					require.ErrorIs(t, err, credit.ErrInvalid, "%s: %s: %s was taken", method.Name, of.Field(j).Name, v.name)
					require.Equal(t, before, s.calls.Load(), "%s: %s: %s was refused after the store was asked", method.Name, of.Field(j).Name, v.name)
					require.Less(t, len(err.Error()), 400, "%s: %s: %s: the error repeats what was given", method.Name, of.Field(j).Name, v.name)
				}
				asked++
			}
		}
	}
	require.Greater(t, asked, 500, "the test asks next to nothing")
}

func implementsCommand(of reflect.Type) bool { return of.Implements(reflect.TypeFor[credit.Command]()) }

func TestALedgerWithABadNameOrCurrencyIsRefusedBeforeAnyWork(t *testing.T) {
	t.Parallel()
	s := &counting{Store: memstore.New()}
	long := strings.Repeat("x", credit.MaxName)
	_, err := store.Open(t.Context(), s, credit.Distributor{ID: id(2), Name: long, Currency: "USD"}, store.Options{})
	require.NoError(t, err, "a name of the limit")
	before := s.calls.Load()
	for _, d := range []credit.Distributor{{ID: id(3), Name: long + "x", Currency: "USD"}, {ID: id(3), Currency: "USD"}, {Name: "N", Currency: "USD"}, {ID: id(3), Name: "N", Currency: "usd"},
		{ID: id(3), Name: "N", Currency: "USDT"}, {ID: id(3), Name: "N", Currency: "U\x00D"}, {ID: id(3), Name: "N\x00", Currency: "USD"}, {ID: id(3), Name: "N\xff", Currency: "USD"}} {
		_, err := store.Open(t.Context(), s, d, store.Options{})
		require.ErrorIs(t, err, credit.ErrInvalid, "%+v", d)
	}
	require.Equal(t, before, s.calls.Load(), "the store was asked for a ledger that cannot be")
}

func TestABulkCallIsRefusedForItsLengthBeforeAnyWork(t *testing.T) {
	t.Parallel()
	s := &counting{Store: memstore.New()}
	ledger, err := store.Open(t.Context(), s, acme, store.Options{MaxBulk: 3})
	require.NoError(t, err)
	before := s.calls.Load()
	grants := []credit.Command{credit.Grant{Amount: amt("1")}, credit.Grant{Amount: amt("1")}, credit.Grant{Amount: amt("1")}, credit.Grant{Amount: amt("1")}}
	_, err = ledger.Bulk(t.Context(), grants, credit.BulkOptions{})
	require.ErrorIs(t, err, credit.ErrInvalid)
	require.Equal(t, before, s.calls.Load(), "the store was asked for a call that is too long")
	_, err = ledger.Bulk(t.Context(), grants[:3], credit.BulkOptions{})
	require.NoError(t, err, "a call of the limit")
	require.Greater(t, s.calls.Load(), before)
}
