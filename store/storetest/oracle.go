package storetest

import (
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
)

// oracle is a ledger as one would write it on a napkin: maps, fractions, and the
// rules of the domain one after the other. It shares no code with the rules of
// package credit, so the two can be wrong only in the same way by being told the
// same wrong thing. It knows the types of commands and records, and the names of
// the refusals.
type oracle struct {
	granted   *big.Rat
	resellers map[uuid.UUID]*member
	order     []uuid.UUID // as added; those whose id is known
	externals map[string]bool
	keys      map[string]used
	log       []credit.Record
	ids       map[uuid.UUID]bool // every id that was ever seen
}

// member is a reseller.
type member struct {
	external        string
	profile         credit.Profile
	status          credit.Status
	bound           time.Time
	allocated, used *big.Rat
}

// used is what a key was used for.
type used struct {
	content  string
	sequence int64
	kind     credit.Kind
	drawn    bool // only in a dry run
}

func newOracle() *oracle {
	return &oracle{granted: new(big.Rat), resellers: map[uuid.UUID]*member{}, externals: map[string]bool{}, keys: map[string]used{}, ids: map[uuid.UUID]bool{}}
}

// copy is for trying things out.
func (o *oracle) copy() *oracle {
	c := &oracle{granted: new(big.Rat).Set(o.granted), resellers: make(map[uuid.UUID]*member, len(o.resellers)), order: slices.Clone(o.order),
		externals: maps.Clone(o.externals), keys: maps.Clone(o.keys), log: slices.Clip(o.log), ids: maps.Clone(o.ids)}
	for id, m := range o.resellers {
		n := *m
		n.allocated, n.used = new(big.Rat).Set(m.allocated), new(big.Rat).Set(m.used)
		c.resellers[id] = &n
	}
	return c
}

func (o *oracle) allocated() *big.Rat {
	sum := new(big.Rat)
	for _, m := range o.resellers {
		sum.Add(sum, m.allocated)
	}
	return sum
}

// remaining is what can still be allocated.
func (o *oracle) remaining() *big.Rat { return new(big.Rat).Sub(o.granted, o.allocated()) }

func (m *member) available() *big.Rat { return new(big.Rat).Sub(m.allocated, m.used) }

// repossessable is the most that can be taken back: no more than is available,
// no more than was allocated, and not less than nothing.
func (m *member) repossessable() *big.Rat {
	most := m.available()
	if most.Cmp(m.allocated) > 0 {
		most.Set(m.allocated)
	}
	if most.Sign() < 0 {
		most.SetInt64(0)
	}
	return most
}

// request is a command, taken apart.
type request struct {
	kind                             credit.Kind
	reseller                         uuid.UUID
	amount                           decimal.Decimal
	all, signed                      bool // repossess all; the sign of the amount is the direction
	external                         string
	name, email, mobile, note        *string
	customers                        *int
	bound                            time.Time
	customer                         string
	operator, remark, key, reference string
	corrects                         int64
	metadata                         map[string]string
	occurred                         time.Time
}

func takeApart(c credit.Command) request {
	switch c := c.(type) {
	case credit.Grant:
		return request{kind: "grant", amount: c.Amount, operator: c.Operator, remark: c.Remark, key: c.Key, reference: c.Reference, corrects: c.Corrects, metadata: c.Metadata, occurred: c.OccurredAt}
	case credit.Withdrawal:
		return request{kind: "withdraw", amount: c.Amount, operator: c.Operator, remark: c.Remark, key: c.Key, reference: c.Reference, corrects: c.Corrects, metadata: c.Metadata, occurred: c.OccurredAt}
	case credit.Allocation:
		return request{kind: "allocate", signed: true, reseller: c.ResellerID, amount: c.Amount, operator: c.Operator, remark: c.Remark, key: c.Key, reference: c.Reference, corrects: c.Corrects, metadata: c.Metadata, occurred: c.OccurredAt}
	case credit.Repossession:
		return request{kind: "repossess", reseller: c.ResellerID, amount: c.Amount, operator: c.Operator, remark: c.Remark, key: c.Key, reference: c.Reference, corrects: c.Corrects, metadata: c.Metadata, occurred: c.OccurredAt}
	case credit.RepossessAll:
		return request{kind: "repossess", all: true, reseller: c.ResellerID, operator: c.Operator, remark: c.Remark, key: c.Key, reference: c.Reference, corrects: c.Corrects, metadata: c.Metadata, occurred: c.OccurredAt}
	case credit.Usage:
		return request{kind: "usage", reseller: c.ResellerID, amount: c.Amount, customer: c.Customer, operator: c.Operator, remark: c.Remark, key: c.Key, reference: c.Reference, corrects: c.Corrects, metadata: c.Metadata, occurred: c.OccurredAt}
	case credit.Correction:
		return request{kind: "correction", reseller: c.ResellerID, amount: c.Amount, customer: c.Customer, operator: c.Operator, remark: c.Remark, key: c.Key, reference: c.Reference, corrects: c.Corrects, metadata: c.Metadata, occurred: c.OccurredAt}
	case credit.Settlement:
		return request{kind: "settle", reseller: c.ResellerID, amount: c.Amount, operator: c.Operator, remark: c.Remark, key: c.Key, reference: c.Reference, corrects: c.Corrects, metadata: c.Metadata, occurred: c.OccurredAt}
	case credit.NewReseller:
		return request{kind: "add", external: c.ExternalID, name: &c.Name, email: &c.Email, mobile: &c.Mobile, note: &c.ResellerRemark, customers: &c.Customers, bound: c.BoundAt, operator: c.Operator, remark: c.Remark, key: c.Key, reference: c.Reference, corrects: c.Corrects, metadata: c.Metadata, occurred: c.OccurredAt}
	case credit.ProfileUpdate:
		return request{kind: "update", reseller: c.ResellerID, name: c.Name, email: c.Email, mobile: c.Mobile, note: c.ResellerRemark, customers: c.Customers, operator: c.Operator, remark: c.Remark, key: c.Key, reference: c.Reference, corrects: c.Corrects, metadata: c.Metadata, occurred: c.OccurredAt}
	case credit.Freeze:
		return request{kind: "freeze", reseller: c.ResellerID, operator: c.Operator, remark: c.Remark, key: c.Key, reference: c.Reference, corrects: c.Corrects, metadata: c.Metadata, occurred: c.OccurredAt}
	case credit.Unfreeze:
		return request{kind: "unfreeze", reseller: c.ResellerID, operator: c.Operator, remark: c.Remark, key: c.Key, reference: c.Reference, corrects: c.Corrects, metadata: c.Metadata, occurred: c.OccurredAt}
	case credit.Close:
		return request{kind: "close", reseller: c.ResellerID, operator: c.Operator, remark: c.Remark, key: c.Key, reference: c.Reference, corrects: c.Corrects, metadata: c.Metadata, occurred: c.OccurredAt}
	}
	panic(fmt.Sprintf("storetest: unknown command %T", c))
}

func (r request) moves() bool {
	switch r.kind {
	case "grant", "withdraw", "allocate", "repossess", "usage", "correction", "settle":
		return !r.all
	default:
		return false
	}
}

// toThousandBillion is the first magnitude that is too large.
var toThousandBillion = big.NewRat(1_000_000_000_000, 1)

// figure is an exact amount, and false if it is too fine or too large.
func figure(d decimal.Decimal) (*big.Rat, bool) {
	if d.IsZero() {
		return new(big.Rat), true
	}
	// So that 1e2000000000 is never written out. Whatever the coefficient, these
	// are too large or have more digits than any amount here.
	if d.Exponent() > 20 || d.Exponent() < -24 || d.NumDigits() > 50 {
		return nil, false
	}
	v := d.Rat()
	fine := new(big.Rat).Mul(v, big.NewRat(1_000_000, 1))
	return v, fine.IsInt() && new(big.Rat).Abs(v).Cmp(toThousandBillion) < 0
}

func toDecimal(v *big.Rat) decimal.Decimal {
	fine := new(big.Rat).Mul(v, big.NewRat(1_000_000, 1))
	if !fine.IsInt() || !fine.Num().IsInt64() {
		panic("storetest: the oracle made a figure that is no amount: " + v.String())
	}
	return credit.FromMillionths(fine.Num().Int64())
}

// change is the signed amount of a request whose shape is good.
func (r request) change() (*big.Rat, credit.Kind) {
	if !r.moves() {
		return new(big.Rat), r.kind
	}
	v, _ := figure(r.amount)
	switch r.kind {
	case "withdraw", "repossess", "correction", "settle":
		return new(big.Rat).Neg(v), r.kind
	case "allocate":
		if v.Sign() < 0 {
			return v, "repossess"
		}
	}
	return v, r.kind
}

// shape tells what is wrong with the request whatever the ledger holds; "" if
// nothing is.
func (r request) shape() string {
	if r.moves() {
		v, ok := figure(r.amount)
		switch {
		case !ok:
			return "too fine or too large an amount"
		case v.Sign() == 0:
			return "an amount of zero"
		case v.Sign() < 0 && !r.signed:
			return "a negative amount"
		}
	}
	text := func(s string, most int, needed bool) bool {
		return len(s) <= most && utf8.ValidString(s) && !strings.Contains(s, "\x00") && (s != "" || !needed)
	}
	optional := func(s *string, most int, needed bool) bool { return s == nil || text(*s, most, needed) }
	switch {
	case r.kind == "add" && !text(r.external, 100, true):
		return "external id"
	case r.kind == "update" && r.name == nil && r.email == nil && r.mobile == nil && r.note == nil && r.customers == nil:
		return "an update of nothing"
	case !optional(r.name, 200, true), !optional(r.email, 254, false), !optional(r.mobile, 50, false), !optional(r.note, 1000, false):
		return "profile"
	case r.customers != nil && (*r.customers < 0 || *r.customers > 1_000_000_000):
		return "number of customers"
	case !text(r.customer, 200, false), !text(r.operator, 200, false), !text(r.remark, 1000, false), !text(r.key, 200, false), !text(r.reference, 200, false):
		return "text"
	case r.corrects < 0:
		return "corrects a negative sequence"
	case len(r.metadata) > 16:
		return "too much metadata"
	}
	for k, v := range r.metadata {
		if !text(k, 64, true) || !text(v, 500, false) {
			return "metadata"
		}
	}
	for _, at := range []time.Time{r.occurred, r.bound} {
		if y := at.UTC().Year(); y < 1 || y > 9999 {
			return "time"
		}
	}
	return ""
}

// content is all that the caller gave, but for the key, in a form in which equal
// commands are equal.
func (r request) content() string {
	change, kind := r.change()
	moment := func(at time.Time) string {
		if at.IsZero() {
			return "none"
		}
		return at.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano)
	}
	optional := func(s *string) string {
		if s == nil {
			return "none"
		}
		return fmt.Sprintf("%q", *s)
	}
	customers := "none"
	if r.customers != nil {
		customers = fmt.Sprint(*r.customers)
	}
	var pairs []string
	for k, v := range r.metadata {
		pairs = append(pairs, fmt.Sprintf("%q=%q", k, v))
	}
	slices.Sort(pairs)
	return fmt.Sprintf("%s %s all=%t %s %q %s %s %s %s %s %s %q %q %q %q %d %v %s", kind, change.RatString(), r.all, r.reseller, r.external,
		optional(r.name), optional(r.email), optional(r.mobile), optional(r.note), customers, moment(r.bound),
		r.customer, r.operator, r.remark, r.reference, r.corrects, pairs, moment(r.occurred))
}

// verdict is what a command must be answered with: a refusal, an earlier record,
// or a new one. In a new one the id, the hash, the fingerprint and a new
// reseller's id are left open.
type verdict struct {
	request  request
	refusal  error
	why      string
	limits   *[2]*big.Rat // requested and allowed
	conflict *used
	replayed bool
	record   credit.Record
}

// decide says what the command must be answered with at that time.
func (o *oracle) decide(c credit.Command, now time.Time) verdict {
	if c == nil {
		return verdict{refusal: credit.ErrInvalid, why: "no command"}
	}
	r := takeApart(c)
	v := verdict{request: r}
	refuse := func(refusal error, why string) verdict { v.refusal, v.why = refusal, why; return v }
	limit := func(refusal error, requested, allowed *big.Rat) verdict {
		v.limits = &[2]*big.Rat{requested, allowed}
		return refuse(refusal, fmt.Sprintf("asked %s, allowed %s", requested.FloatString(6), allowed.FloatString(6)))
	}

	// Shape.
	if wrong := r.shape(); wrong != "" {
		return refuse(credit.ErrInvalid, wrong)
	}
	change, kind := r.change()
	// Key.
	if earlier, known := o.keys[r.key]; known && r.key != "" {
		if earlier.content != r.content() {
			v.conflict = &earlier
			return refuse(credit.ErrKeyConflict, "the key is that of another command")
		}
		v.replayed = true
		v.record = o.log[earlier.sequence-1]
		return v
	}
	// Reseller.
	m := &member{allocated: new(big.Rat), used: new(big.Rat)} // that of nobody
	switch kind {
	case "grant", "withdraw":
	case "add":
		if o.externals[r.external] {
			return refuse(credit.ErrExists, "the external id was given out before")
		}
	default:
		if m = o.resellers[r.reseller]; m == nil {
			return refuse(credit.ErrNotFound, "no such reseller")
		}
	}
	// Status.
	switch kind {
	case "allocate", "freeze":
		if m.status != "active" {
			return refuse(credit.ErrNotActive, string(m.status))
		}
	case "unfreeze":
		if m.status != "frozen" {
			return refuse(credit.ErrNotFrozen, string(m.status))
		}
	case "close":
		if m.status == "closed" {
			return refuse(credit.ErrNotActive, "closed already")
		}
	}
	// Limit.
	magnitude := new(big.Rat).Abs(change)
	switch kind {
	case "withdraw", "allocate":
		if most := o.remaining(); magnitude.Cmp(most) > 0 {
			return limit(credit.ErrInsufficientPool, magnitude, most)
		}
	case "repossess":
		most := m.repossessable()
		if r.all {
			magnitude = most
			change = new(big.Rat).Neg(most)
		}
		if most.Sign() == 0 || magnitude.Cmp(most) > 0 {
			return limit(credit.ErrExceedsAvailable, magnitude, most)
		}
	case "settle":
		most := new(big.Rat)
		if m.used.Sign() > 0 {
			most.Set(m.used)
		}
		if magnitude.Cmp(most) > 0 {
			return limit(credit.ErrExceedsUsed, magnitude, most)
		}
	case "close":
		if left := m.repossessable(); left.Sign() > 0 {
			return limit(credit.ErrNotEmpty, left, new(big.Rat))
		}
	}
	// Range.
	granted, poolAllocated := new(big.Rat).Set(o.granted), o.allocated()
	allocated, usage := new(big.Rat).Set(m.allocated), new(big.Rat).Set(m.used)
	moved := new(big.Rat)
	switch kind {
	case "grant", "withdraw":
		moved = granted.Add(granted, change)
	case "allocate", "repossess":
		moved = allocated.Add(allocated, change)
		poolAllocated.Add(poolAllocated, change)
	case "usage", "correction", "settle":
		moved = usage.Add(usage, change)
	}
	if new(big.Rat).Abs(moved).Cmp(toThousandBillion) >= 0 {
		most := new(big.Rat).Sub(toThousandBillion, big.NewRat(1, 1_000_000))
		return limit(credit.ErrOutOfRange, moved, most)
	}
	if r.corrects > int64(len(o.log)) {
		return refuse(credit.ErrInvalid, "corrects a record that is not there")
	}

	at := now.UTC().Truncate(time.Microsecond)
	if n := len(o.log); n > 0 && at.Before(o.log[n-1].RecordedAt) {
		at = o.log[n-1].RecordedAt
	}
	v.record = credit.Record{
		Sequence: int64(len(o.log)) + 1, Kind: kind, ResellerID: r.reseller, ExternalID: r.external, Amount: toDecimal(change),
		Before:   credit.Figures{Allocated: toDecimal(m.allocated), Used: toDecimal(m.used)},
		After:    credit.Figures{Allocated: toDecimal(allocated), Used: toDecimal(usage)},
		Pool:     credit.Pool{Granted: toDecimal(granted), Allocated: toDecimal(poolAllocated)},
		Operator: r.operator, Remark: r.remark, Key: r.key, Reference: r.reference, Customer: r.customer, Corrects: r.corrects,
		OccurredAt: at, RecordedAt: at,
	}
	if len(r.metadata) > 0 {
		v.record.Metadata = maps.Clone(r.metadata)
	}
	if !r.occurred.IsZero() {
		v.record.OccurredAt = r.occurred.UTC().Truncate(time.Microsecond)
	}
	if kind == "update" {
		_, v.record.Changed = r.patch(m.profile)
	}
	return v
}

// patch is a profile after the request, and the names of what is different.
func (r request) patch(p credit.Profile) (credit.Profile, []string) {
	var changed []string
	if r.name != nil && *r.name != p.Name {
		p.Name, changed = *r.name, append(changed, "name")
	}
	if r.email != nil && *r.email != p.Email {
		p.Email, changed = *r.email, append(changed, "email")
	}
	if r.mobile != nil && *r.mobile != p.Mobile {
		p.Mobile, changed = *r.mobile, append(changed, "mobile")
	}
	if r.note != nil && *r.note != p.Remark {
		p.Remark, changed = *r.note, append(changed, "remark")
	}
	if r.customers != nil && *r.customers != p.Customers {
		p.Customers, changed = *r.customers, append(changed, "customers")
	}
	return p, changed
}

// accept makes a new record happen. The id of a reseller that a dry run adds is
// nobody's.
func (o *oracle) accept(v verdict, r credit.Record, dry bool) {
	q := v.request
	o.log = append(o.log, r)
	if r.Key != "" {
		o.keys[r.Key] = used{content: q.content(), sequence: r.Sequence, kind: r.Kind, drawn: dry}
	}
	change, _ := new(big.Rat).SetString(r.Amount.String())
	m := o.resellers[q.reseller]
	switch r.Kind {
	case "grant", "withdraw":
		o.granted.Add(o.granted, change)
	case "allocate", "repossess":
		m.allocated.Add(m.allocated, change)
	case "usage", "correction", "settle":
		m.used.Add(m.used, change)
	case "add":
		o.externals[q.external] = true
		profile, _ := q.patch(credit.Profile{})
		n := &member{external: q.external, profile: profile, status: "active", bound: r.RecordedAt, allocated: new(big.Rat), used: new(big.Rat)}
		if !q.bound.IsZero() {
			n.bound = q.bound.UTC().Truncate(time.Microsecond)
		}
		if !dry {
			o.resellers[r.ResellerID] = n
			o.order = append(o.order, r.ResellerID)
		}
	case "update":
		m.profile, _ = q.patch(m.profile)
	case "freeze":
		m.status = "frozen"
	case "unfreeze":
		m.status = "active"
	case "close":
		m.status = "closed"
	}
}

// reseller is what a read of it must give.
func (o *oracle) reseller(id uuid.UUID) (credit.Reseller, bool) {
	m, ok := o.resellers[id]
	if !ok {
		return credit.Reseller{}, false
	}
	return credit.Reseller{ID: id, ExternalID: m.external, Profile: m.profile, Status: m.status, BoundAt: m.bound,
		Figures: credit.Figures{Allocated: toDecimal(m.allocated), Used: toDecimal(m.used)}}, true
}

// asOf are the resellers as they were after the first n records, which are
// replayed; bound-at and profile are as they are now.
func (o *oracle) asOf(n int64) []credit.Reseller {
	past := newOracle()
	for _, r := range o.log[:n] {
		change, _ := new(big.Rat).SetString(r.Amount.String())
		m := past.resellers[r.ResellerID]
		switch r.Kind {
		case "add":
			now := o.resellers[r.ResellerID]
			past.resellers[r.ResellerID] = &member{external: now.external, profile: now.profile, status: "active", bound: now.bound, allocated: new(big.Rat), used: new(big.Rat)}
			past.order = append(past.order, r.ResellerID)
		case "allocate", "repossess":
			m.allocated.Add(m.allocated, change)
		case "usage", "correction", "settle":
			m.used.Add(m.used, change)
		case "freeze":
			m.status = "frozen"
		case "unfreeze":
			m.status = "active"
		case "close":
			m.status = "closed"
		}
	}
	return past.all()
}

// all are the resellers, as added.
func (o *oracle) all() []credit.Reseller {
	var all []credit.Reseller
	for _, id := range o.order {
		r, _ := o.reseller(id)
		all = append(all, r)
	}
	return all
}

// upTo is how many records were taken no later than that.
func (o *oracle) upTo(at time.Time) int64 {
	n := int64(0)
	for _, r := range o.log {
		if r.RecordedAt.UnixMicro() <= at.UnixMicro() {
			n++
		}
	}
	return n
}

func (o *oracle) pool() credit.Pool {
	return credit.Pool{Granted: toDecimal(o.granted), Allocated: toDecimal(o.allocated())}
}
