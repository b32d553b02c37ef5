package credit_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

// The tests walk commands(), so a new command must be in it.
func TestCommand_theSetIsSealed(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "command.go", nil, 0)
	require.NoError(t, err)
	var declared, walked []string
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "entry" && f.Recv != nil {
			if receiver, ok := f.Recv.List[0].Type.(*ast.Ident); ok && receiver.IsExported() {
				declared = append(declared, receiver.Name)
			}
		}
	}
	for _, c := range commands() {
		walked = append(walked, name(c))
	}
	assert.ElementsMatch(t, declared, walked)
}

func TestCommand_textIsBoundedUTF8WithoutNUL(t *testing.T) {
	t.Parallel()
	limits := map[string]struct {
		called   string
		most     int
		required bool
	}{
		"Operator": {"operator", credit.MaxOperator, false}, "Remark": {"remark", credit.MaxRemark, false},
		"Key": {"key", credit.MaxKey, false}, "Reference": {"reference", credit.MaxReference, false},
		"Customer": {"customer", credit.MaxCustomer, false}, "ExternalID": {"external id", credit.MaxExternalID, true},
		"Name": {"name", credit.MaxName, true}, "Email": {"email", credit.MaxEmail, false},
		"Mobile": {"mobile", credit.MaxMobile, false}, "ResellerRemark": {"reseller remark", credit.MaxRemark, false},
	}
	for i := range commands() {
		for f := range fieldOf(commands()[i], "").NumField() {
			c := commands()[i]
			fill(c)
			v := fieldOf(c, "")
			field := v.Type().Field(f).Name
			if kind := v.Field(f).Type(); kind != reflect.TypeFor[string]() && kind != reflect.TypeFor[*string]() {
				continue
			}
			limit, known := limits[field]
			require.True(t, known, "%s of %s has no limit", field, name(c))
			shape := func(text string) error {
				if v.Field(f).Kind() == reflect.Pointer {
					set(v.Field(f), &text)
				} else {
					set(v.Field(f), text)
				}
				return shapeOf(c)
			}
			assert.NoError(t, shape(strings.Repeat("x", limit.most)), "%s: %d bytes are allowed", field, limit.most)
			assert.EqualError(t, shape(strings.Repeat("x", limit.most+1)),
				fmt.Sprintf("credit: %s: has %d bytes, at most %d are allowed", limit.called, limit.most+1, limit.most), name(c))
			assert.Error(t, shape(strings.Repeat("ö", limit.most/2+1)), "%s: limits are in bytes", field)
			assert.EqualError(t, shape("a\xff"), "credit: "+limit.called+": is not UTF-8", name(c))
			assert.EqualError(t, shape("a\x00b"), "credit: "+limit.called+": contains a NUL character", name(c))
			if limit.required {
				assert.EqualError(t, shape(""), "credit: "+limit.called+": is empty", name(c))
			} else {
				assert.NoError(t, shape(""), "%s of %s may be empty", field, name(c))
			}
		}
	}
}

func TestCommand_aFieldThatIsNotGivenHidesNoneThatIs(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", credit.MaxRemark+1)
	for says, c := range map[string]credit.ProfileUpdate{
		"name": {Name: &long}, "email": {Email: &long}, "mobile": {Mobile: &long}, "reseller remark": {ResellerRemark: &long},
	} {
		assert.ErrorContains(t, credit.Validate(c), "credit: "+says+": has 1001 bytes")
	}
}

func TestCommand_shape(t *testing.T) {
	t.Parallel()
	metadata := func(entries int) map[string]string {
		m := map[string]string{}
		for i := range entries {
			m[fmt.Sprint(i)] = ""
		}
		return m
	}
	year := func(y int) time.Time { return time.Date(y, 6, 1, 0, 0, 0, 0, time.UTC) }
	for _, tt := range []struct {
		rule, field string
		value       any
		says        string // nothing: it is allowed
	}{
		{"corrects names no record below 1", "Corrects", int64(-1), "credit: corrects: must be the sequence of an earlier record"},
		{"metadata has at most 16 entries", "Metadata", metadata(credit.MaxMetadata), ""},
		{"metadata has no more than 16 entries", "Metadata", metadata(credit.MaxMetadata + 1), "credit: metadata: has 17 entries, at most 16 are allowed"},
		{"a metadata key is not empty", "Metadata", map[string]string{"": "v"}, "credit: metadata key: is empty"},
		{"a metadata key has up to 64 bytes", "Metadata", map[string]string{strings.Repeat("k", credit.MaxMetadataKey): strings.Repeat("v", credit.MaxMetadataValue)}, ""},
		{"a metadata key has no more than 64 bytes", "Metadata", map[string]string{strings.Repeat("k", credit.MaxMetadataKey+1): ""}, "credit: metadata key: has 65 bytes, at most 64 are allowed"},
		{"a metadata value has no more than 500 bytes", "Metadata", map[string]string{"k": strings.Repeat("v", credit.MaxMetadataValue+1)}, "credit: metadata value: has 501 bytes, at most 500 are allowed"},
		{"a metadata value is UTF-8", "Metadata", map[string]string{"k": "\xff"}, "credit: metadata value: is not UTF-8"},
		{"the first bad metadata key is always the same", "Metadata", map[string]string{"a\x00": "", "b\xff": ""}, "credit: metadata key: contains a NUL character"},
		{"occurred-at is after the year 0", "OccurredAt", year(0), "credit: occurred at: must be in the years 1 to 9999"},
		{"occurred-at may be in the year 1", "OccurredAt", year(1), ""},
		{"occurred-at may be in the year 9999", "OccurredAt", year(9999), ""},
		{"occurred-at is before the year 10000", "OccurredAt", year(10000), "credit: occurred at: must be in the years 1 to 9999"},
		{"the year is that of UTC", "OccurredAt", time.Date(10000, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3600)), ""},
		{"bound-at has a year, too", "BoundAt", year(10000), "credit: bound at: must be in the years 1 to 9999"},
		{"customers are a count", "Customers", -1, "credit: customers: is -1, must be 0 to 1000000000"},
		{"customers may be 10^9", "Customers", credit.MaxCustomers, ""},
		{"customers are at most 10^9", "Customers", credit.MaxCustomers + 1, "credit: customers: is 1000000001, must be 0 to 1000000000"},
	} {
		for _, c := range commands() {
			fill(c)
			field := fieldOf(c, tt.field)
			if !field.IsValid() {
				continue
			}
			if n, ok := tt.value.(int); ok && field.Kind() == reflect.Pointer {
				set(field, &n)
			} else {
				set(field, tt.value)
			}
			if tt.says == "" {
				assert.NoError(t, shapeOf(c), "%s: %s", name(c), tt.rule)
			} else {
				assert.EqualError(t, shapeOf(c), tt.says, "%s: %s", name(c), tt.rule)
			}
		}
	}
	assert.EqualError(t, shapeOf(nil), "credit: command: is nil")
	assert.EqualError(t, shapeOf(credit.ProfileUpdate{ResellerID: nimbus}), "credit: profile: no field is given; set at least one")
}

// shapeOf decides a command where nothing but its shape can be refused.
func shapeOf(c credit.Command) error {
	_, err := credit.Decide(accepting(c), credit.Prepare(c), stamp(1))
	_, direct := credit.Decide(accepting(c), c, stamp(1))
	if fmt.Sprint(err) != fmt.Sprint(direct) {
		return fmt.Errorf("a prepared command is answered %w, the command itself %w", err, direct)
	}
	return err
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	for i := range commands() {
		c, again := commands()[i], commands()[i]
		fill(c)
		fill(again)
		want, err := credit.Decide(accepting(c), c, stamp(1))
		require.NoError(t, err)
		prepared := credit.Prepare(c)
		fieldOf(c, "Metadata").SetMapIndex(reflect.ValueOf("a"), reflect.ValueOf("changed"))
		for _, field := range fieldOf(c, "").Fields() {
			if field.Kind() == reflect.Pointer {
				field.Elem().SetZero()
			}
		}
		for _, p := range []credit.Command{prepared, credit.Prepare(prepared)} {
			got, err := credit.Decide(accepting(again), p, stamp(1))
			require.NoError(t, err)
			assert.Equal(t, want, got, "%s: prepared is as it was, whatever the caller changes afterwards", name(c))
		}
		assert.Equal(t, credit.ReadSetOf(again), credit.ReadSetOf(prepared))
	}
}

func TestValidateChecksTheShapeAndNothingElse(t *testing.T) {
	t.Parallel()
	require.NoError(t, credit.Validate(credit.Allocation{Amount: amt("1")}), "whether the reseller exists is no matter of shape")
	for _, c := range []credit.Command{nil, credit.Grant{}, credit.Prepare(credit.Grant{})} {
		require.ErrorIs(t, credit.Validate(c), credit.ErrInvalid)
	}
}

// A command is the same inside a type of the caller's, prepared or not.
func TestCommand_embedded(t *testing.T) {
	t.Parallel()
	type own struct{ credit.Command }
	for _, c := range commands() {
		fill(c)
		want, errWant := credit.Decide(accepting(c), c, stamp(1))
		for _, embedded := range []credit.Command{own{c}, own{credit.Prepare(c)}, credit.Prepare(own{credit.Prepare(c)})} {
			got, err := credit.Decide(accepting(c), embedded, stamp(1))
			require.Equal(t, errWant, err, name(c))
			require.Equal(t, want, got, name(c))
		}
	}
	_, err := credit.Decide(credit.NewState(acme), own{credit.Prepare(credit.Grant{})}, stamp(1))
	require.ErrorIs(t, err, credit.ErrInvalid)
}
