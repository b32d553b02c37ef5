package credit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// The limits on what a command carries, in bytes of UTF-8. They are part of the
// contract of every store.
const (
	MaxKey           = 200
	MaxExternalID    = 100
	MaxName          = 200
	MaxEmail         = 254
	MaxMobile        = 50
	MaxRemark        = 1000
	MaxOperator      = 200
	MaxReference     = 200
	MaxCustomer      = 200
	MaxMetadata      = 16 // entries
	MaxMetadataKey   = 64
	MaxMetadataValue = 500
	MaxCustomers     = 1_000_000_000 // a count, not bytes
)

// Command is a change that somebody asks of a ledger. The set is sealed: [Grant],
// [Withdrawal], [Allocation], [Repossession], [RepossessAll], [Usage],
// [Correction], [Settlement], [NewReseller], [ProfileUpdate], [Freeze],
// [Unfreeze] and [Close] (and what [Prepare] makes of them).
//
// The fields that every command has mean the same everywhere, and each may be
// left zero:
//
//   - Operator is who did it; at most [MaxOperator] bytes.
//   - Remark is why; at most [MaxRemark] bytes.
//   - Key is the idempotency key, scoped to the ledger, compared byte by byte and
//     kept for ever; at most [MaxKey] bytes. The same command with the same key
//     happens once: later calls answer with the original record. Another command
//     with that key is a [*ConflictError]. A refused command does not consume
//     its key (choice).
//   - Reference is an external reference, such as an order number; at most
//     [MaxReference] bytes.
//   - Corrects is the sequence of an earlier record that this one corrects.
//   - Metadata is at most [MaxMetadata] pairs of strings, keys of 1 to
//     [MaxMetadataKey] and values of up to [MaxMetadataValue] bytes.
//   - OccurredAt is when it happened, truncated to microseconds; by default when
//     the ledger recorded it. Years 1 to 9999.
//
// Text must be UTF-8 without NUL. Slices, maps and pointers handed over are not
// kept.
type Command interface{ entry() entry }

// Grant adds Amount > 0 to the pool: the channel manager's approval.
type Grant struct {
	Amount     decimal.Decimal   `json:"amount"`
	Operator   string            `json:"operator,omitempty"`
	Remark     string            `json:"remark,omitempty"`
	Key        string            `json:"key,omitempty"`
	Reference  string            `json:"reference,omitempty"`
	Corrects   int64             `json:"corrects,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	OccurredAt time.Time         `json:"occurred_at,omitzero"`
}

// Withdrawal takes Amount > 0 from the pool, at most [Pool.Remaining]; otherwise
// [ErrInsufficientPool].
type Withdrawal struct {
	Amount     decimal.Decimal   `json:"amount"`
	Operator   string            `json:"operator,omitempty"`
	Remark     string            `json:"remark,omitempty"`
	Key        string            `json:"key,omitempty"`
	Reference  string            `json:"reference,omitempty"`
	Corrects   int64             `json:"corrects,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	OccurredAt time.Time         `json:"occurred_at,omitzero"`
}

// Allocation gives a reseller credit (Amount > 0) or takes it back (Amount < 0),
// as the console's "Allocated amount" does. Giving needs an active reseller
// ([ErrNotActive]) and at most [Pool.Remaining] ([ErrInsufficientPool]); it is
// allowed while the reseller's available credit is negative. Taking back is a
// [Repossession] of −Amount.
type Allocation struct {
	ResellerID uuid.UUID         `json:"reseller_id"`
	Amount     decimal.Decimal   `json:"amount"`
	Operator   string            `json:"operator,omitempty"`
	Remark     string            `json:"remark,omitempty"`
	Key        string            `json:"key,omitempty"`
	Reference  string            `json:"reference,omitempty"`
	Corrects   int64             `json:"corrects,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	OccurredAt time.Time         `json:"occurred_at,omitzero"`
}

// Repossession takes Amount > 0 back into the pool, at most
// [Figures.Repossessable]; otherwise [ErrExceedsAvailable]. It is the same
// command as an [Allocation] of −Amount, also for its idempotency key.
type Repossession struct {
	ResellerID uuid.UUID         `json:"reseller_id"`
	Amount     decimal.Decimal   `json:"amount"`
	Operator   string            `json:"operator,omitempty"`
	Remark     string            `json:"remark,omitempty"`
	Key        string            `json:"key,omitempty"`
	Reference  string            `json:"reference,omitempty"`
	Corrects   int64             `json:"corrects,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	OccurredAt time.Time         `json:"occurred_at,omitzero"`
}

// RepossessAll takes back all that is repossessable when the command is decided;
// when that is nothing, [ErrExceedsAvailable].
type RepossessAll struct {
	ResellerID uuid.UUID         `json:"reseller_id"`
	Operator   string            `json:"operator,omitempty"`
	Remark     string            `json:"remark,omitempty"`
	Key        string            `json:"key,omitempty"`
	Reference  string            `json:"reference,omitempty"`
	Corrects   int64             `json:"corrects,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	OccurredAt time.Time         `json:"occurred_at,omitzero"`
}

// Usage records Amount > 0 of fees that a reseller's customers incurred. It is
// never refused for lack of credit: available may become negative, and nothing
// is blocked.
type Usage struct {
	ResellerID uuid.UUID       `json:"reseller_id"`
	Amount     decimal.Decimal `json:"amount"`
	// Customer is a label: whose fee it is; at most [MaxCustomer] bytes.
	Customer   string            `json:"customer,omitempty"`
	Operator   string            `json:"operator,omitempty"`
	Remark     string            `json:"remark,omitempty"`
	Key        string            `json:"key,omitempty"`
	Reference  string            `json:"reference,omitempty"`
	Corrects   int64             `json:"corrects,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	OccurredAt time.Time         `json:"occurred_at,omitzero"`
}

// Correction records that fees were lowered or refunded by Amount > 0. It is a
// fact and never refused for lack of usage: Used may become negative.
type Correction struct {
	ResellerID uuid.UUID       `json:"reseller_id"`
	Amount     decimal.Decimal `json:"amount"`
	// Customer is a label: whose fee it was; at most [MaxCustomer] bytes.
	Customer   string            `json:"customer,omitempty"`
	Operator   string            `json:"operator,omitempty"`
	Remark     string            `json:"remark,omitempty"`
	Key        string            `json:"key,omitempty"`
	Reference  string            `json:"reference,omitempty"`
	Corrects   int64             `json:"corrects,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	OccurredAt time.Time         `json:"occurred_at,omitzero"`
}

// Settlement records that a bill of Amount > 0 was confirmed as paid, at most
// max(0, Used); otherwise [ErrExceedsUsed].
type Settlement struct {
	ResellerID uuid.UUID         `json:"reseller_id"`
	Amount     decimal.Decimal   `json:"amount"`
	Operator   string            `json:"operator,omitempty"`
	Remark     string            `json:"remark,omitempty"`
	Key        string            `json:"key,omitempty"`
	Reference  string            `json:"reference,omitempty"`
	Corrects   int64             `json:"corrects,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	OccurredAt time.Time         `json:"occurred_at,omitzero"`
}

// NewReseller adds a reseller, active and without credit. The receipt's
// ResellerID is its id. An external id that was ever given out in this ledger is
// [ErrExists].
type NewReseller struct {
	// ExternalID is required: 1 to [MaxExternalID] bytes, see [Reseller].
	ExternalID string `json:"external_id"`
	// Name is required; see [Profile] for it and the next four.
	Name           string `json:"name"`
	Email          string `json:"email,omitempty"`
	Mobile         string `json:"mobile,omitempty"`
	ResellerRemark string `json:"reseller_remark,omitempty"`
	Customers      int    `json:"customers,omitempty"`
	// BoundAt is when the reseller was bound to the distributor; by default when
	// the ledger recorded it. Years 1 to 9999, truncated to microseconds.
	BoundAt    time.Time         `json:"bound_at,omitzero"`
	Operator   string            `json:"operator,omitempty"`
	Remark     string            `json:"remark,omitempty"`
	Key        string            `json:"key,omitempty"`
	Reference  string            `json:"reference,omitempty"`
	Corrects   int64             `json:"corrects,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	OccurredAt time.Time         `json:"occurred_at,omitzero"`
}

// ProfileUpdate changes a reseller's [Profile], whatever its status. A nil field
// stays as it is; at least one must be given. The record names the fields that
// changed and holds none of their contents.
type ProfileUpdate struct {
	ResellerID     uuid.UUID         `json:"reseller_id"`
	Name           *string           `json:"name,omitempty"`
	Email          *string           `json:"email,omitempty"`
	Mobile         *string           `json:"mobile,omitempty"`
	ResellerRemark *string           `json:"reseller_remark,omitempty"`
	Customers      *int              `json:"customers,omitempty"`
	Operator       string            `json:"operator,omitempty"`
	Remark         string            `json:"remark,omitempty"`
	Key            string            `json:"key,omitempty"`
	Reference      string            `json:"reference,omitempty"`
	Corrects       int64             `json:"corrects,omitempty"`
	Metadata       map[string]string `json:"metadata,omitempty"`
	OccurredAt     time.Time         `json:"occurred_at,omitzero"`
}

// Freeze stops allocations to an active reseller; otherwise [ErrNotActive].
type Freeze struct {
	ResellerID uuid.UUID         `json:"reseller_id"`
	Operator   string            `json:"operator,omitempty"`
	Remark     string            `json:"remark,omitempty"`
	Key        string            `json:"key,omitempty"`
	Reference  string            `json:"reference,omitempty"`
	Corrects   int64             `json:"corrects,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	OccurredAt time.Time         `json:"occurred_at,omitzero"`
}

// Unfreeze makes a frozen reseller active again; otherwise [ErrNotFrozen].
type Unfreeze Freeze

// Close ends a reseller for good. It must not be closed already ([ErrNotActive])
// and nothing may be repossessable ([ErrNotEmpty]).
type Close Freeze

// Prepare returns the command as it is now, sharing nothing with c: later changes
// to its map or pointers do not reach it. Its shape is checked and its
// fingerprint made once, here; [Decide] answers for it as for c. A nil pointer
// panics, as any nil pointer does.
func Prepare(c Command) Command {
	p := prepare(c)
	if c != p {
		p.checked.Metadata = maps.Clone(p.checked.Metadata)
		p.checked.profile = p.checked.profile.clone()
	}
	return p
}

// Validate checks the shape of a command, the first of the ordered checks, which
// needs no state: amounts, lengths, UTF-8, times. The error is an
// [*InvalidError].
func Validate(c Command) error {
	_, err := check(c)
	return err
}

// prepared is a command whose shape has been checked.
type prepared struct {
	checked entry
	err     error
}

func (p *prepared) entry() entry { return p.checked } // of one that is embedded

// details are what every command can carry.
type details struct {
	Operator, Remark, Key, Reference string
	Corrects                         int64
	Metadata                         map[string]string
	OccurredAt                       time.Time
}

// entry is a command in its one normal form: the kind of record it asks for, and
// every field the caller gave.
type entry struct {
	kind     Kind
	reseller uuid.UUID
	given    decimal.Decimal // as the caller wrote it
	negative bool            // the caller wrote the magnitude of a negative amount
	amount   int64           // signed millionths, set by check
	all      bool            // repossess whatever is repossessable
	customer string
	external string
	profile  profilePatch
	boundAt  time.Time
	details
	print Hash // set by check if there is a key
}

type profilePatch struct {
	name, email, mobile, remark *string
	customers                   *int
}

func (c Grant) entry() entry {
	return entry{kind: KindGrant, given: c.Amount,
		details: details{c.Operator, c.Remark, c.Key, c.Reference, c.Corrects, c.Metadata, c.OccurredAt}}
}

func (c Withdrawal) entry() entry {
	return entry{kind: KindWithdraw, given: c.Amount, negative: true,
		details: details{c.Operator, c.Remark, c.Key, c.Reference, c.Corrects, c.Metadata, c.OccurredAt}}
}

func (c Allocation) entry() entry {
	e := entry{kind: KindAllocate, reseller: c.ResellerID, given: c.Amount,
		details: details{c.Operator, c.Remark, c.Key, c.Reference, c.Corrects, c.Metadata, c.OccurredAt}}
	if c.Amount.Sign() < 0 {
		e.kind = KindRepossess
	}
	return e
}

func (c Repossession) entry() entry {
	return entry{kind: KindRepossess, reseller: c.ResellerID, given: c.Amount, negative: true,
		details: details{c.Operator, c.Remark, c.Key, c.Reference, c.Corrects, c.Metadata, c.OccurredAt}}
}

func (c RepossessAll) entry() entry {
	return entry{kind: KindRepossess, reseller: c.ResellerID, all: true,
		details: details{c.Operator, c.Remark, c.Key, c.Reference, c.Corrects, c.Metadata, c.OccurredAt}}
}

func (c Usage) entry() entry {
	return entry{kind: KindUsage, reseller: c.ResellerID, given: c.Amount, customer: c.Customer,
		details: details{c.Operator, c.Remark, c.Key, c.Reference, c.Corrects, c.Metadata, c.OccurredAt}}
}

func (c Correction) entry() entry {
	return entry{kind: KindCorrection, reseller: c.ResellerID, given: c.Amount, negative: true, customer: c.Customer,
		details: details{c.Operator, c.Remark, c.Key, c.Reference, c.Corrects, c.Metadata, c.OccurredAt}}
}

func (c Settlement) entry() entry {
	return entry{kind: KindSettle, reseller: c.ResellerID, given: c.Amount, negative: true,
		details: details{c.Operator, c.Remark, c.Key, c.Reference, c.Corrects, c.Metadata, c.OccurredAt}}
}

func (c NewReseller) entry() entry {
	return entry{kind: KindAdd, external: c.ExternalID, boundAt: c.BoundAt,
		profile: profilePatch{&c.Name, &c.Email, &c.Mobile, &c.ResellerRemark, &c.Customers},
		details: details{c.Operator, c.Remark, c.Key, c.Reference, c.Corrects, c.Metadata, c.OccurredAt}}
}

func (c ProfileUpdate) entry() entry {
	return entry{kind: KindUpdate, reseller: c.ResellerID,
		profile: profilePatch{c.Name, c.Email, c.Mobile, c.ResellerRemark, c.Customers},
		details: details{c.Operator, c.Remark, c.Key, c.Reference, c.Corrects, c.Metadata, c.OccurredAt}}
}

func (c Freeze) entry() entry {
	return entry{kind: KindFreeze, reseller: c.ResellerID,
		details: details{c.Operator, c.Remark, c.Key, c.Reference, c.Corrects, c.Metadata, c.OccurredAt}}
}

func (c Unfreeze) entry() entry {
	e := Freeze(c).entry()
	e.kind = KindUnfreeze
	return e
}

func (c Close) entry() entry {
	e := Freeze(c).entry()
	e.kind = KindClose
	return e
}

// check is the first of the ordered checks: the shape of a command. Without an
// error, what it returns holds only good values; it is not to be changed.
func check(c Command) (*entry, error) {
	p := prepare(c)
	return &p.checked, p.err
}

func prepare(c Command) *prepared {
	if c == nil {
		return &prepared{err: &InvalidError{"command", "is nil"}}
	}
	if p, ok := c.(*prepared); ok {
		return p
	}
	p := &prepared{checked: c.entry()}
	p.err = p.checked.check()
	return p
}

// check checks the entry, and makes what follows from what the caller gave.
func (e *entry) check() error {
	if e.kind.sign() != 0 && !e.all {
		v, err := Millionths(e.given)
		switch {
		case err != nil:
			return err
		case v == 0:
			return &InvalidError{"amount", "is zero; a change of nothing is an error"}
		case v < 0 && e.negative, v < 0 && e.kind != KindRepossess:
			return &InvalidError{"amount", fmt.Sprintf("of %s must be positive; the method gives the direction", e.kind)}
		}
		if e.amount = v; e.negative {
			e.amount = -v
		}
	}
	if err := e.profile.check(e.kind); err != nil {
		return err
	}
	if err := e.checkLabels(); err != nil {
		return err
	}
	if e.Key != "" {
		e.print = e.fingerprint()
	}
	return nil
}

// checkLabels checks what takes part in no figure, and normalises its times. A
// record is verified by it too.
func (e *entry) checkLabels() error {
	if e.kind == KindAdd {
		if err := checkText("external id", e.external, MaxExternalID, true); err != nil {
			return err
		}
	}
	for _, t := range []struct {
		field, value string
		most         int
	}{
		{"customer", e.customer, MaxCustomer}, {"operator", e.Operator, MaxOperator}, {"remark", e.Remark, MaxRemark},
		{"key", e.Key, MaxKey}, {"reference", e.Reference, MaxReference},
	} {
		if err := checkText(t.field, t.value, t.most, false); err != nil {
			return err
		}
	}
	if e.Corrects < 0 {
		return &InvalidError{"corrects", "must be the sequence of an earlier record"}
	}
	if len(e.Metadata) > MaxMetadata {
		return &InvalidError{"metadata", fmt.Sprintf("has %d entries, at most %d are allowed", len(e.Metadata), MaxMetadata)}
	}
	for _, k := range sortedKeys(e.Metadata) {
		if err := checkText("metadata key", k, MaxMetadataKey, true); err != nil {
			return err
		}
		if err := checkText("metadata value", e.Metadata[k], MaxMetadataValue, false); err != nil {
			return err
		}
	}
	if err := checkTime("occurred at", &e.OccurredAt); err != nil {
		return err
	}
	return checkTime("bound at", &e.boundAt)
}

func (p profilePatch) check(k Kind) error {
	if k == KindUpdate && p == (profilePatch{}) {
		return &InvalidError{"profile", "no field is given; set at least one"}
	}
	for _, t := range []struct {
		field    string
		value    *string
		most     int
		required bool
	}{{"name", p.name, MaxName, true}, {"email", p.email, MaxEmail, false}, {"mobile", p.mobile, MaxMobile, false}, {"reseller remark", p.remark, MaxRemark, false}} {
		if t.value == nil {
			continue
		}
		if err := checkText(t.field, *t.value, t.most, t.required); err != nil {
			return err
		}
	}
	if p.customers != nil && (*p.customers < 0 || *p.customers > MaxCustomers) {
		return &InvalidError{"customers", fmt.Sprintf("is %d, must be 0 to %d", *p.customers, MaxCustomers)}
	}
	return nil
}

func (p profilePatch) clone() profilePatch {
	return profilePatch{clone(p.name), clone(p.email), clone(p.mobile), clone(p.remark), clone(p.customers)}
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

// apply returns the profile after the patch and the names of what it changed.
func (p profilePatch) apply(to Profile) (Profile, []string) {
	var changed []string
	set := func(name string, field, value *string) {
		if value != nil && *value != *field {
			*field, changed = *value, append(changed, name)
		}
	}
	set("name", &to.Name, p.name)
	set("email", &to.Email, p.email)
	set("mobile", &to.Mobile, p.mobile)
	set("remark", &to.Remark, p.remark)
	if p.customers != nil && *p.customers != to.Customers {
		to.Customers, changed = *p.customers, append(changed, "customers")
	}
	return to, changed
}

// profileFields are the names of a profile's fields, in the order of apply.
var profileFields = []string{"name", "email", "mobile", "remark", "customers"}

// namesFields tells whether apply can have returned the names.
func namesFields(changed []string) bool {
	rest := profileFields
	for _, name := range changed {
		i := slices.Index(rest, name)
		if i < 0 {
			return false
		}
		rest = rest[i+1:]
	}
	return true
}

// sortedKeys makes errors and hashes the same every time.
func sortedKeys(m map[string]string) []string {
	if len(m) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(m))
}

func checkText(field, s string, most int, required bool) error {
	switch {
	case required && s == "":
		return &InvalidError{field, "is empty"}
	case len(s) > most:
		return &InvalidError{field, fmt.Sprintf("has %d bytes, at most %d are allowed", len(s), most)}
	case !utf8.ValidString(s):
		return &InvalidError{field, "is not UTF-8"}
	case strings.IndexByte(s, 0) >= 0:
		return &InvalidError{field, "contains a NUL character"}
	}
	return nil
}

// checkTime normalises a time that was given to UTC microseconds.
func checkTime(field string, t *time.Time) error {
	if t.IsZero() {
		*t = time.Time{}
		return nil
	}
	if y := t.UTC().Year(); y < 1 || y > 9999 {
		return &InvalidError{field, "must be in the years 1 to 9999"}
	}
	*t = normalTime(*t)
	return nil
}

// normalTime is t as every store and every hash has it: UTC, whole microseconds,
// no monotonic clock.
func normalTime(t time.Time) time.Time { return time.UnixMicro(t.UnixMicro()).UTC() }
