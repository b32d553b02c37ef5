package credit_test

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

var update = flag.Bool("update", false, "rewrite testdata/*.golden.json")

// acme has two resellers, nimbus and cirrus.
var (
	acme   = credit.Distributor{ID: id(1), Name: "Acme Cloud", Currency: "USD"}
	nimbus = id(11)
	cirrus = id(12)
	nobody = id(99)
	noon   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// id is the n-th id.
func id(n int) uuid.UUID {
	return uuid.UUID{6: 0x40, 8: 0x80, 14: byte(n >> 8), 15: byte(n)}
}

// amt is an amount; "" is zero.
func amt(s string) decimal.Decimal {
	if s == "" {
		return decimal.Zero
	}
	return decimal.RequireFromString(s)
}

// figures are those of a reseller.
func figures(allocated, used string) credit.Figures {
	return credit.Figures{Allocated: amt(allocated), Used: amt(used)}
}

// stamp is that of the n-th command, n seconds after noon.
func stamp(n int) credit.Stamp {
	return credit.Stamp{Time: noon.Add(time.Duration(n) * time.Second), RecordID: id(1000 + n), ResellerID: id(10 + n)}
}

// given is a ledger as a store has it: two resellers, each with these figures.
type given struct {
	granted, allocated, used string
	status                   credit.Status // active if empty
	absent                   bool          // there is neither of them
	externals                []string      // that other resellers have
	earlier                  []credit.Record
}

// state is what a store loads for the commands.
func (g given) state(commands ...credit.Command) *credit.State {
	asked := credit.ReadSetOf(commands...)
	found := credit.Snapshot{
		Head:    credit.Head{Sequence: 9, Hash: credit.Hash{9}, RecordedAt: noon, Pool: credit.Pool{Granted: amt(g.granted), Allocated: amt(g.allocated)}},
		Records: g.earlier,
	}
	if !g.absent {
		status := credit.StatusActive
		if g.status != "" {
			status = g.status
		}
		for _, r := range []uuid.UUID{nimbus, cirrus} {
			found.Resellers = append(found.Resellers, credit.Reseller{ID: r, ExternalID: r.String(),
				Profile: credit.Profile{Name: "Nimbus"}, Status: status, Figures: figures(g.allocated, g.used)})
		}
	}
	for _, external := range g.externals {
		found.Resellers = append(found.Resellers, credit.Reseller{ID: nobody, ExternalID: external})
	}
	return credit.LoadState(asked, found)
}

// book is a whole ledger in memory: its state, and its log.
type book struct {
	*credit.State
	t   testing.TB
	now int
	log []credit.Record
}

// newBook is an empty ledger.
func newBook(t testing.TB) *book { return &book{State: credit.NewState(acme), t: t} }

// try executes a command.
func (b *book) try(c credit.Command) (credit.Receipt, error) {
	b.now++
	receipt, err := b.Execute(c, stamp(b.now))
	if err == nil && !receipt.Replayed {
		b.log = append(b.log, receipt.Record)
	}
	return receipt, err
}

// do executes commands that no rule refuses, and returns the last record.
func (b *book) do(commands ...credit.Command) credit.Record {
	b.t.Helper()
	for _, c := range commands {
		_, err := b.try(c)
		require.NoError(b.t, err)
	}
	return b.log[len(b.log)-1]
}

// nimbus is the reseller of that name.
func (b *book) nimbus() credit.Reseller {
	r, _ := b.Reseller(nimbus)
	return r
}

// addNimbus and addCirrus are a book's first two commands.
var (
	addNimbus = credit.NewReseller{ExternalID: "2001", Name: "Nimbus"}
	addCirrus = credit.NewReseller{ExternalID: "2002", Name: "Cirrus"}
)

// story is a ledger with records of every kind, some with all that a command can
// carry and some with nothing but the figures.
func story(t testing.TB) *book {
	b := newBook(t)
	rich := func(c credit.Command) credit.Command {
		fill(c)
		set(fieldOf(c, "Key"), name(c))
		return c
	}
	b.do(addNimbus, rich(&credit.NewReseller{}),
		credit.Grant{Amount: amt("100")}, rich(&credit.Grant{}), rich(&credit.Withdrawal{}), credit.Withdrawal{Amount: amt("0.000001")},
		credit.Allocation{ResellerID: nimbus, Amount: amt("50")}, rich(&credit.Allocation{}),
		rich(&credit.Usage{}), credit.Usage{ResellerID: nimbus, Amount: amt("60")}, rich(&credit.Correction{}), rich(&credit.Settlement{}),
		credit.Settlement{ResellerID: nimbus, Amount: amt("45.5")}, credit.Correction{ResellerID: nimbus, Amount: amt("30")},
		rich(&credit.Repossession{}), credit.Allocation{ResellerID: nimbus, Amount: amt("-2")},
		rich(&credit.ProfileUpdate{}), credit.Freeze{ResellerID: nimbus}, rich(&credit.RepossessAll{}),
		rich(&credit.Unfreeze{}), rich(&credit.Freeze{}), credit.Unfreeze{ResellerID: nimbus},
		credit.Usage{ResellerID: cirrus, Amount: amt("7")}, rich(&credit.Close{}))
	return b
}

// commands has every command once, without its fields.
func commands() []credit.Command {
	return []credit.Command{&credit.Grant{}, &credit.Withdrawal{}, &credit.Allocation{}, &credit.Repossession{}, &credit.RepossessAll{},
		&credit.Usage{}, &credit.Correction{}, &credit.Settlement{}, &credit.NewReseller{}, &credit.ProfileUpdate{},
		&credit.Freeze{}, &credit.Unfreeze{}, &credit.Close{}}
}

// name is that of a command's type.
func name(c credit.Command) string {
	if c == nil {
		return ""
	}
	return reflect.Indirect(reflect.ValueOf(c)).Type().Name()
}

// fill gives every field of a command a value that no rule refuses.
func fill(c credit.Command) {
	for _, field := range fieldOf(c, "").Fields() {
		vary(field, 0)
	}
}

// fieldOf is a command's field of that name, or all of the command.
func fieldOf(c credit.Command, field string) reflect.Value {
	v := reflect.ValueOf(c).Elem()
	if field == "" {
		return v
	}
	return v.FieldByName(field)
}

// set gives a field a value.
func set(field reflect.Value, value any) { field.Set(reflect.ValueOf(value)) }

// vary sets a field to the n-th of several values, all different and none zero.
func vary(field reflect.Value, n int) {
	letter := string(rune('x' + n))
	set(field, map[reflect.Type]any{
		reflect.TypeFor[uuid.UUID]():         id(11 + n),
		reflect.TypeFor[decimal.Decimal]():   amt("1.5").Add(amt("1").Mul(decimal.NewFromInt(int64(n)))),
		reflect.TypeFor[string]():            letter,
		reflect.TypeFor[*string]():           &letter,
		reflect.TypeFor[int]():               1 + n,
		reflect.TypeFor[*int]():              new(1 + n),
		reflect.TypeFor[int64]():             int64(1 + n),
		reflect.TypeFor[time.Time]():         noon.Add(time.Duration(n) * time.Microsecond),
		reflect.TypeFor[map[string]string](): map[string]string{"a": letter, "b": ""},
	}[field.Type()])
}

// accepting is a state in which the filled command is accepted.
func accepting(c credit.Command) *credit.State {
	g := given{granted: "200", allocated: "50", used: "20"}
	switch name(c) {
	case "Unfreeze":
		g.status = credit.StatusFrozen
	case "Close":
		g.used = "50"
	}
	return g.state(c)
}

// golden compares with a file in testdata, or with -update writes it.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	file = filepath.Join("testdata", file)
	if *update {
		require.NoError(t, os.WriteFile(file, got, 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "the stable form differs from %s", file)
}
