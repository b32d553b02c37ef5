package storetest

import (
	"context"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"reflect"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
)

// operation is one step of a model test, before it is known which resellers and
// figures it will meet: so that any operation can be left out of a sequence, and
// the rest still makes sense.
type operation struct {
	command credit.Command // all but reseller, amount and key
	slot    int            // which reseller: the n-th that was added, counted round; see nobody
	amount  amountOf
	key     string
	again   bool // send what was last sent with the key, if anything was …
	respell int  // … in other words …
	alter   int  // … or with its n-th field, counted round from 1, a little different
	bulk    []operation
	options credit.BulkOptions
	engine  int           // which engine serves it
	clock   time.Duration // how far the clock goes first; may be negative
}

// Slots that are no reseller.
const (
	nobody = -1 - iota
	noID
)

// amountOf is an amount, perhaps one that stands in relation to a figure.
type amountOf struct {
	figure string          // remaining, repossessable, available, overdraft, used, granted; or "" for none
	plus   int64           // millionths
	plain  decimal.Decimal // if figure is "", or if the sum is zero
}

// generator makes operations.
type generator struct {
	rng *rand.Rand
	// keys and external ids are few, so that they meet again.
	keys, externals []string
	// large is a sequence with amounts near the limits.
	large bool
}

func newGenerator(rng *rand.Rand) *generator {
	g := &generator{rng: rng, large: rng.IntN(8) == 0,
		keys:      []string{"k", "K", "k ", "ä", "a\u0308", "%", "_", "order/1", "order/2", "order/3", strings.Repeat("k", credit.MaxKey)},
		externals: []string{"200012345678", "200012345679", "PO-1", "po-1", "po-1 ", "ä", "a\u0308", "%", "_", "0", "00", strings.Repeat("x", credit.MaxExternalID)},
	}
	for i := range 12 {
		g.externals = append(g.externals, fmt.Sprintf("UIN-%d", i))
	}
	return g
}

// sequence is 8 to 512 operations, short ones more often. The first ones make it
// likely that there is something to work with.
func (g *generator) sequence() []operation {
	n := 8 << g.rng.IntN(6)
	n += g.rng.IntN(n + 1)
	ops := []operation{
		{command: credit.Grant{}, amount: amountOf{plain: g.plain()}},
		{command: credit.NewReseller{ExternalID: "first", Name: "First"}},
		{command: credit.NewReseller{ExternalID: "second", Name: "Second"}},
		{command: credit.Allocation{}, amount: amountOf{plain: g.plain()}},
	}
	for len(ops) < n {
		ops = append(ops, g.operation())
	}
	return ops
}

func (g *generator) chance(percent int) bool { return g.rng.IntN(100) < percent }

func pickOne[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

func (g *generator) operation() operation {
	o := operation{engine: g.rng.IntN(4)}
	switch g.rng.IntN(8) {
	case 0:
		o.clock = time.Duration(g.rng.Int64N(int64(48 * time.Hour)))
	case 1:
		o.clock = -time.Duration(g.rng.Int64N(int64(time.Hour)))
	case 2: // the same microsecond
	default:
		o.clock = time.Duration(g.rng.Int64N(int64(5 * time.Microsecond)))
	}
	if !g.chance(8) {
		g.fill(&o)
		return o
	}
	o.options = credit.BulkOptions{AllOrNothing: g.chance(50), DryRun: g.chance(30)}
	for range g.rng.IntN(13) {
		var item operation
		g.fill(&item)
		o.bulk = append(o.bulk, item)
	}
	if o.bulk == nil {
		o.bulk = []operation{} // a bulk call of nothing
	}
	return o
}

// fill makes an operation of one command.
func (g *generator) fill(o *operation) {
	o.command = g.command()
	o.slot = g.rng.IntN(16)
	if g.chance(3) {
		o.slot = nobody
	} else if g.chance(1) {
		o.slot = noID
	}
	o.amount = g.amount(o.command)
	if g.chance(30) {
		o.key = pickOne(g.rng, g.keys)
		o.again, o.respell = g.chance(60), g.rng.IntN(5)
		if g.chance(30) {
			o.alter = 1 + g.rng.IntN(100)
		}
	}
	if g.chance(5) {
		g.spoil(o)
	}
}

func (g *generator) plain() decimal.Decimal {
	v := 1 + g.rng.Int64N(200)
	switch g.rng.IntN(6) {
	case 0:
		return credit.FromMillionths(v*1_000_000 + g.rng.Int64N(1_000_000))
	case 1:
		return credit.FromMillionths(1 + g.rng.Int64N(10))
	case 2:
		return decimal.New(v*100, -2) // zeros at the end
	case 3:
		if g.large {
			return credit.FromMillionths(1 + g.rng.Int64N(999_999_999_999_999_999))
		}
	}
	return decimal.NewFromInt(v)
}

// amount is often exactly at a limit, or next to it.
func (g *generator) amount(c credit.Command) amountOf {
	a := amountOf{plain: g.plain()}
	if allocation, ok := c.(credit.Allocation); ok && allocation.Amount.IsNegative() {
		a.plain = a.plain.Neg()
	}
	if g.chance(55) {
		return a
	}
	figures := []string{"remaining", "repossessable", "available", "overdraft", "used"}
	switch c.(type) {
	case credit.Grant, credit.Withdrawal, credit.Allocation:
		figures = append(figures, "remaining", "remaining", "granted")
	case credit.Repossession:
		figures = append(figures, "repossessable", "repossessable", "repossessable")
	case credit.Settlement:
		figures = append(figures, "used", "used", "used")
	}
	if g.large {
		figures = append(figures, "room used", "room granted", "room used")
	}
	a.figure = pickOne(g.rng, figures)
	a.plus = pickOne(g.rng, []int64{0, 0, 0, 1, -1, 1_000_000})
	return a
}

func (g *generator) text(most int) string {
	switch g.rng.IntN(12) {
	case 0:
		return strings.Repeat("𝄞", most/4)
	case 1:
		return pickOne(g.rng, oddTexts)
	case 2, 3, 4:
		return pickOne(g.rng, []string{"ops@example.com", "Ann", "invoice 7", "späte Gebühr"})
	}
	return ""
}

func (g *generator) moment() time.Time {
	switch g.rng.IntN(20) {
	case 0:
		return time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
	case 1:
		return time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC)
	case 2, 3:
		return time.Unix(g.rng.Int64N(4_000_000_000)-2_000_000_000, g.rng.Int64N(1_000_000_000)).In(time.FixedZone("", int(g.rng.Int64N(28)-14)*1800))
	}
	return time.Time{}
}

func (g *generator) metadata() map[string]string {
	switch g.rng.IntN(12) {
	case 0:
		return map[string]string{}
	case 1:
		return map[string]string{"shop": g.text(60), "Shop": g.text(60), "a ": ""}
	case 2:
		full := map[string]string{}
		for i := range credit.MaxMetadata {
			full[fmt.Sprint(i)] = g.text(credit.MaxMetadataValue)
		}
		return full
	}
	return nil
}

func (g *generator) corrects() int64 {
	if g.chance(90) {
		return 0
	}
	return 1 + g.rng.Int64N(40) // perhaps one that is not there
}

func (g *generator) command() credit.Command {
	operator, remark, reference, corrects, metadata, occurred := g.text(credit.MaxOperator), g.text(credit.MaxRemark), g.text(credit.MaxReference), g.corrects(), g.metadata(), g.moment()
	text := func(most int) *string {
		if g.chance(50) {
			return nil
		}
		return new(g.text(most))
	}
	switch n := g.rng.IntN(100); {
	case n < 6:
		return credit.Grant{Operator: operator, Remark: remark, Reference: reference, Corrects: corrects, Metadata: metadata, OccurredAt: occurred}
	case n < 11:
		return credit.Withdrawal{Operator: operator, Remark: remark, Reference: reference, Corrects: corrects, Metadata: metadata, OccurredAt: occurred}
	case n < 33:
		c := credit.Allocation{Operator: operator, Remark: remark, Reference: reference, Corrects: corrects, Metadata: metadata, OccurredAt: occurred}
		if g.chance(30) {
			c.Amount = decimal.NewFromInt(-1) // for g.amount
		}
		return c
	case n < 41:
		return credit.Repossession{Operator: operator, Remark: remark, Reference: reference, Corrects: corrects, Metadata: metadata, OccurredAt: occurred}
	case n < 46:
		return credit.RepossessAll{Operator: operator, Remark: remark, Reference: reference, Corrects: corrects, Metadata: metadata, OccurredAt: occurred}
	case n < 62:
		return credit.Usage{Customer: g.text(credit.MaxCustomer), Operator: operator, Remark: remark, Reference: reference, Corrects: corrects, Metadata: metadata, OccurredAt: occurred}
	case n < 69:
		return credit.Correction{Customer: g.text(credit.MaxCustomer), Operator: operator, Remark: remark, Reference: reference, Corrects: corrects, Metadata: metadata, OccurredAt: occurred}
	case n < 77:
		return credit.Settlement{Operator: operator, Remark: remark, Reference: reference, Corrects: corrects, Metadata: metadata, OccurredAt: occurred}
	case n < 84:
		name := g.text(credit.MaxName)
		if name == "" {
			name = "Nimbus"
		}
		return credit.NewReseller{ExternalID: pickOne(g.rng, g.externals), Name: name, Email: g.text(credit.MaxEmail), Mobile: g.text(credit.MaxMobile), ResellerRemark: g.text(credit.MaxRemark),
			Customers: g.rng.IntN(3), BoundAt: g.moment(), Operator: operator, Remark: remark, Reference: reference, Corrects: corrects, Metadata: metadata, OccurredAt: occurred}
	case n < 88:
		c := credit.ProfileUpdate{Email: text(credit.MaxEmail), Mobile: text(credit.MaxMobile), ResellerRemark: text(credit.MaxRemark), Operator: operator, Remark: remark, Reference: reference, Corrects: corrects, Metadata: metadata, OccurredAt: occurred}
		if g.chance(40) {
			c.Name = new(pickOne(g.rng, []string{"Nimbus", "Cirrus", "nimbus"}))
		}
		if g.chance(40) {
			c.Customers = new(g.rng.IntN(3))
		}
		return c
	case n < 92:
		return credit.Freeze{Operator: operator, Remark: remark, Reference: reference, Corrects: corrects, Metadata: metadata, OccurredAt: occurred}
	case n < 97:
		return credit.Unfreeze{Operator: operator, Remark: remark, Reference: reference, Corrects: corrects, Metadata: metadata, OccurredAt: occurred}
	}
	return credit.Close{Operator: operator, Remark: remark, Reference: reference, Corrects: corrects, Metadata: metadata, OccurredAt: occurred}
}

// spoil makes the shape of a command wrong, in one way that it has or another.
func (g *generator) spoil(o *operation) {
	fixed := func(d decimal.Decimal) { o.amount = amountOf{plain: d} }
	switch g.rng.IntN(10) {
	case 0:
		fixed(decimal.Zero)
	case 1:
		fixed(decimal.NewFromInt(-5))
	case 2:
		fixed(decimal.New(1, -7))
	case 3:
		fixed(decimal.New(1, 12))
	case 4:
		fixed(pickOne(g.rng, []decimal.Decimal{decimal.New(1, 2_000_000_000), decimal.New(1, -2_000_000_000), decimal.New(10_000_001, -7)}))
	case 5:
		o.key = strings.Repeat("k", credit.MaxKey+1)
		o.again = false
	case 6:
		o.key = "\xff"
		o.again = false
	case 7:
		o.key = "nul\x00"
		o.again = false
	case 8:
		switch o.command.(type) {
		case credit.NewReseller:
			o.command = pickOne(g.rng, []credit.NewReseller{{ExternalID: "", Name: "n"}, {ExternalID: "x", Name: ""}, {ExternalID: "x", Name: "n", Customers: -1},
				{ExternalID: strings.Repeat("x", credit.MaxExternalID+1), Name: "n"}, {ExternalID: "x", Name: strings.Repeat("n", credit.MaxName+1)}, {ExternalID: "x", Name: "n", BoundAt: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}})
		case credit.ProfileUpdate:
			o.command = pickOne(g.rng, []credit.ProfileUpdate{{}, {Name: new("")}, {Customers: new(-1)}, {Customers: new(credit.MaxCustomers + 1)}, {Email: new(strings.Repeat("e", credit.MaxEmail+1))}})
		case credit.Usage:
			o.command = credit.Usage{Customer: strings.Repeat("c", credit.MaxCustomer+1)}
		default:
			o.command = credit.Grant{Remark: strings.Repeat("r", credit.MaxRemark+1)}
		}
	default:
		metadata := map[string]string{}
		for i := range credit.MaxMetadata + 1 {
			metadata[fmt.Sprint(i)] = ""
		}
		o.command = pickOne(g.rng, []credit.Command{credit.Grant{Corrects: -1}, credit.Usage{Metadata: metadata}, credit.Usage{Metadata: map[string]string{"": "v"}},
			credit.Settlement{OccurredAt: time.Date(0, 12, 31, 0, 0, 0, 0, time.UTC)}, credit.Freeze{Operator: "\xc3"}, credit.Allocation{Metadata: map[string]string{"k": strings.Repeat("v", credit.MaxMetadataValue+1)}}})
	}
}

// resolve is the command that an operation comes to in the ledger that the oracle
// keeps; issued holds what was last sent with each key.
func (op operation) resolve(o *oracle, issued map[string]credit.Command) credit.Command {
	if op.key != "" && op.again {
		if c, ok := issued[op.key]; ok {
			return altered(respelled(c, op.respell), op.alter)
		}
	}
	id := uuid.Nil
	switch {
	case op.slot == nobody:
		id = uuid.UUID{0xff, 1}
	case op.slot >= 0 && len(o.order) > 0:
		id = o.order[op.slot%len(o.order)]
	}
	c := completed(op.command, id, op.amount.resolve(o, id), op.key)
	if op.key != "" {
		issued[op.key] = c
	}
	return c
}

func (a amountOf) resolve(o *oracle, id uuid.UUID) decimal.Decimal {
	m := o.resellers[id]
	if m == nil {
		m = &member{allocated: new(big.Rat), used: new(big.Rat)}
	}
	v := new(big.Rat)
	most := new(big.Rat).Sub(toThousandBillion, big.NewRat(1, 1_000_000))
	switch a.figure {
	case "":
		return a.plain
	case "remaining":
		v.Set(o.remaining())
	case "granted":
		v.Set(o.granted)
	case "repossessable":
		v.Set(m.repossessable())
	case "available":
		v.Set(m.available())
	case "overdraft":
		v.Neg(m.available())
	case "used":
		v.Set(m.used)
	case "room used":
		v.Sub(most, m.used)
	case "room granted":
		v.Sub(most, o.granted)
	}
	v.Add(v, big.NewRat(a.plus, 1_000_000))
	if a.plain.IsNegative() {
		v.Neg(v)
	}
	if v.Sign() == 0 {
		return a.plain
	}
	d, _ := decimal.NewFromString(v.FloatString(6))
	return d
}

// completed is the command with its reseller, amount and key.
func completed(c credit.Command, id uuid.UUID, amount decimal.Decimal, key string) credit.Command {
	switch c := c.(type) {
	case credit.Grant:
		c.Amount, c.Key = amount, key
		return c
	case credit.Withdrawal:
		c.Amount, c.Key = amount, key
		return c
	case credit.Allocation:
		c.ResellerID, c.Amount, c.Key = id, amount, key
		return c
	case credit.Repossession:
		c.ResellerID, c.Amount, c.Key = id, amount, key
		return c
	case credit.RepossessAll:
		c.ResellerID, c.Key = id, key
		return c
	case credit.Usage:
		c.ResellerID, c.Amount, c.Key = id, amount, key
		return c
	case credit.Correction:
		c.ResellerID, c.Amount, c.Key = id, amount, key
		return c
	case credit.Settlement:
		c.ResellerID, c.Amount, c.Key = id, amount, key
		return c
	case credit.NewReseller:
		c.Key = key
		return c
	case credit.ProfileUpdate:
		c.ResellerID, c.Key = id, key
		return c
	case credit.Freeze:
		c.ResellerID, c.Key = id, key
		return c
	case credit.Unfreeze:
		c.ResellerID, c.Key = id, key
		return c
	case credit.Close:
		c.ResellerID, c.Key = id, key
		return c
	}
	panic(fmt.Sprintf("storetest: unknown command %T", c))
}

// respelled is the same command in other words: a repossession as a negative
// allocation and the reverse, an amount with more zeros, a moment in another time
// zone, no metadata as an empty map.
func respelled(c credit.Command, how int) credit.Command {
	zone := time.FixedZone("", 5*3600+45*60)
	zeros := func(d decimal.Decimal) decimal.Decimal {
		if how < 3 || d.Exponent() < -10 || d.Exponent() > 10 {
			return d
		}
		return decimal.NewFromBigInt(new(big.Int).Mul(d.Coefficient(), big.NewInt(1000)), d.Exponent()-3)
	}
	elsewhere := func(at time.Time) time.Time {
		if how < 2 || at.IsZero() {
			return at
		}
		return at.In(zone)
	}
	empty := func(m map[string]string) map[string]string {
		if how < 2 || len(m) > 0 {
			return m
		}
		return map[string]string{}
	}
	switch c := c.(type) {
	case credit.Repossession:
		if how > 0 && c.Amount.IsPositive() {
			return credit.Allocation{ResellerID: c.ResellerID, Amount: zeros(c.Amount.Neg()), Operator: c.Operator, Remark: c.Remark, Key: c.Key, Reference: c.Reference,
				Corrects: c.Corrects, Metadata: empty(c.Metadata), OccurredAt: elsewhere(c.OccurredAt)}
		}
	case credit.Allocation:
		if how > 0 && c.Amount.IsNegative() {
			return credit.Repossession{ResellerID: c.ResellerID, Amount: zeros(c.Amount.Neg()), Operator: c.Operator, Remark: c.Remark, Key: c.Key, Reference: c.Reference,
				Corrects: c.Corrects, Metadata: empty(c.Metadata), OccurredAt: elsewhere(c.OccurredAt)}
		}
		c.Amount, c.OccurredAt, c.Metadata = zeros(c.Amount), elsewhere(c.OccurredAt), empty(c.Metadata)
		return c
	case credit.Usage:
		c.Amount, c.OccurredAt, c.Metadata = zeros(c.Amount), elsewhere(c.OccurredAt), empty(c.Metadata)
		return c
	case credit.NewReseller:
		c.BoundAt, c.OccurredAt, c.Metadata = elsewhere(c.BoundAt), elsewhere(c.OccurredAt), empty(c.Metadata)
		return c
	}
	return c
}

// altered is almost the same command, which is another one. Only the key stays.
func altered(c credit.Command, field int) credit.Command {
	if field == 0 {
		return c
	}
	v := reflect.New(reflect.TypeOf(c)).Elem()
	v.Set(reflect.ValueOf(c))
	f := v.Field(field % v.NumField())
	if v.Type().Field(field%v.NumField()).Name == "Key" {
		return c
	}
	switch old := f.Interface().(type) {
	case string:
		f.SetString(old + "~")
	case uuid.UUID:
		old[0] ^= 1
		f.Set(reflect.ValueOf(old))
	case int:
		f.SetInt(int64(old) + 1)
	case int64:
		f.SetInt(old + 1)
	case decimal.Decimal:
		if old.Exponent() < -20 || old.Exponent() > 20 {
			return c // never written out
		}
		f.Set(reflect.ValueOf(old.Add(decimal.New(1, -credit.FractionalDigits))))
	case time.Time:
		f.Set(reflect.ValueOf(old.Add(time.Microsecond)))
	case map[string]string:
		m := map[string]string{"~": ""}
		maps.Copy(m, old)
		f.Set(reflect.ValueOf(m))
	case *string: // what is not given is not what is empty
		if old == nil || *old != "" {
			f.Set(reflect.ValueOf(new("")))
		} else {
			f.Set(reflect.ValueOf(new("~")))
		}
	case *int:
		if old == nil {
			f.Set(reflect.ValueOf(new(0)))
		} else {
			f.Set(reflect.ValueOf(new(*old + 1)))
		}
	}
	c, _ = reflect.TypeAssert[credit.Command](v)
	return c
}

// send calls the method of the ledger that the command belongs to.
func send(ctx context.Context, l credit.Ledger, c credit.Command) (credit.Receipt, error) {
	switch c := c.(type) {
	case credit.Grant:
		return l.Grant(ctx, c)
	case credit.Withdrawal:
		return l.Withdraw(ctx, c)
	case credit.Allocation:
		return l.Allocate(ctx, c)
	case credit.Repossession:
		return l.Repossess(ctx, c)
	case credit.RepossessAll:
		return l.RepossessAll(ctx, c)
	case credit.Usage:
		return l.RecordUsage(ctx, c)
	case credit.Correction:
		return l.CorrectUsage(ctx, c)
	case credit.Settlement:
		return l.Settle(ctx, c)
	case credit.NewReseller:
		return l.AddReseller(ctx, c)
	case credit.ProfileUpdate:
		return l.UpdateReseller(ctx, c)
	case credit.Freeze:
		return l.FreezeReseller(ctx, c)
	case credit.Unfreeze:
		return l.UnfreezeReseller(ctx, c)
	case credit.Close:
		return l.CloseReseller(ctx, c)
	}
	panic(fmt.Sprintf("storetest: unknown command %T", c))
}
