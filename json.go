package credit

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// The JSON forms. Amounts are strings of plain decimals, as [ParseAmount] reads
// them, whatever decimal.MarshalJSONWithoutQuotes says; times are RFC 3339 in
// UTC; ids and hashes are text; what is empty and optional is left out. Figures
// that follow from others (remaining, available, repossessable, overdraft) are
// written for the reader's convenience and ignored when read.

// amount is the JSON form of an amount. Reading checks the length first.
type amount decimal.Decimal

func (a amount) MarshalJSON() ([]byte, error) {
	v, err := Millionths(decimal.Decimal(a))
	if err != nil {
		return nil, err
	}
	return []byte(`"` + FromMillionths(v).String() + `"`), nil
}

func (a *amount) UnmarshalJSON(text []byte) error {
	n := len(text)
	if n < 2 || text[0] != '"' {
		return &InvalidError{"amount", "must be a JSON string, so that no reader takes it for a float"}
	}
	d, err := ParseAmount(string(text[1 : n-1]))
	*a = amount(d)
	return err
}

// balance is the JSON form of a figure that follows from two others, which may
// be larger than an amount. It is only written.
type balance decimal.Decimal

func (b balance) MarshalJSON() ([]byte, error) {
	return []byte(`"` + decimal.Decimal(b).String() + `"`), nil
}

func (b *balance) UnmarshalJSON([]byte) error { return nil }

type poolJSON struct {
	Granted   amount  `json:"granted"`
	Allocated amount  `json:"allocated"`
	Remaining balance `json:"remaining"`
}

// MarshalJSON writes granted, allocated and remaining.
func (p Pool) MarshalJSON() ([]byte, error) {
	return json.Marshal(poolJSON{amount(p.Granted), amount(p.Allocated), balance(p.Remaining())})
}

// UnmarshalJSON reads granted and allocated.
func (p *Pool) UnmarshalJSON(text []byte) error {
	var v poolJSON
	err := json.Unmarshal(text, &v)
	*p = Pool{decimal.Decimal(v.Granted), decimal.Decimal(v.Allocated)}
	return err
}

type figuresJSON struct {
	Allocated     amount  `json:"allocated"`
	Used          amount  `json:"used"`
	Available     balance `json:"available"`
	Repossessable balance `json:"repossessable"`
	Overdraft     balance `json:"overdraft"`
}

func (f Figures) wire() figuresJSON {
	return figuresJSON{amount(f.Allocated), amount(f.Used), balance(f.Available()), balance(f.Repossessable()), balance(f.Overdraft())}
}

func (f figuresJSON) figures() Figures {
	return Figures{decimal.Decimal(f.Allocated), decimal.Decimal(f.Used)}
}

// MarshalJSON writes allocated, used, available, repossessable and overdraft.
func (f Figures) MarshalJSON() ([]byte, error) { return json.Marshal(f.wire()) }

// UnmarshalJSON reads allocated and used.
func (f *Figures) UnmarshalJSON(text []byte) error {
	var v figuresJSON
	err := json.Unmarshal(text, &v)
	*f = v.figures()
	return err
}

type resellerJSON struct {
	ID         uuid.UUID `json:"id"`
	ExternalID string    `json:"external_id"`
	Profile
	Status  Status    `json:"status"`
	BoundAt time.Time `json:"bound_at"`
	figuresJSON
}

// MarshalJSON writes one flat object: id, external_id, the profile, status,
// bound_at, and the figures.
func (r Reseller) MarshalJSON() ([]byte, error) {
	return json.Marshal(resellerJSON{r.ID, r.ExternalID, r.Profile, r.Status, r.BoundAt, r.Figures.wire()})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (r *Reseller) UnmarshalJSON(text []byte) error {
	var v resellerJSON
	err := json.Unmarshal(text, &v)
	*r = Reseller{v.ID, v.ExternalID, v.Profile, v.Status, v.BoundAt, v.figures()}
	return err
}

type recordJSON struct {
	Sequence    int64             `json:"sequence"`
	ID          uuid.UUID         `json:"id"`
	Kind        Kind              `json:"kind"`
	ResellerID  uuid.UUID         `json:"reseller_id,omitzero"`
	ExternalID  string            `json:"external_id,omitempty"`
	Amount      amount            `json:"amount"`
	Before      Figures           `json:"before"`
	After       Figures           `json:"after"`
	Pool        Pool              `json:"pool"`
	Operator    string            `json:"operator,omitempty"`
	Remark      string            `json:"remark,omitempty"`
	Key         string            `json:"key,omitempty"`
	Fingerprint Hash              `json:"fingerprint,omitzero"`
	Reference   string            `json:"reference,omitempty"`
	Customer    string            `json:"customer,omitempty"`
	Corrects    int64             `json:"corrects,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	Changed     []string          `json:"changed,omitempty"`
	OccurredAt  time.Time         `json:"occurred_at"`
	RecordedAt  time.Time         `json:"recorded_at"`
	Hash        Hash              `json:"hash,omitzero"`
}

// MarshalJSON writes every field, those that are empty and optional left out.
func (r Record) MarshalJSON() ([]byte, error) {
	return json.Marshal(recordJSON{r.Sequence, r.ID, r.Kind, r.ResellerID, r.ExternalID, amount(r.Amount), r.Before, r.After, r.Pool,
		r.Operator, r.Remark, r.Key, r.Fingerprint, r.Reference, r.Customer, r.Corrects, r.Metadata, r.Changed, r.OccurredAt, r.RecordedAt, r.Hash})
}

// UnmarshalJSON reads what MarshalJSON writes, to the same hash.
func (r *Record) UnmarshalJSON(text []byte) error {
	var v recordJSON
	err := json.Unmarshal(text, &v)
	*r = Record{v.Sequence, v.ID, v.Kind, v.ResellerID, v.ExternalID, decimal.Decimal(v.Amount), v.Before, v.After, v.Pool,
		v.Operator, v.Remark, v.Key, v.Fingerprint, v.Reference, v.Customer, v.Corrects, v.Metadata, v.Changed, v.OccurredAt, v.RecordedAt, v.Hash}
	return err
}

type receiptJSON struct {
	Record   Record `json:"record"`
	Replayed bool   `json:"replayed"`
}

// MarshalJSON writes record and replayed.
func (r Receipt) MarshalJSON() ([]byte, error) {
	return json.Marshal(receiptJSON{r.Record, r.Replayed})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (r *Receipt) UnmarshalJSON(text []byte) error {
	var v receiptJSON
	err := json.Unmarshal(text, &v)
	*r = Receipt{v.Record, v.Replayed}
	return err
}

type outcomeJSON struct {
	Receipt *Receipt     `json:"receipt,omitempty"`
	Error   *failureJSON `json:"error,omitempty"`
}

type failureJSON struct {
	Code      string  `json:"code"`
	Message   string  `json:"message"`
	Requested *amount `json:"requested,omitempty"`
	Allowed   *amount `json:"allowed,omitempty"`
}

// MarshalJSON writes either receipt or error; the error has code (see [Code]),
// message and, if it is a [*LimitError], requested and allowed. Errors that are
// not of this package say no more than "internal".
func (o Outcome) MarshalJSON() ([]byte, error) {
	if o.Err == nil {
		return json.Marshal(outcomeJSON{Receipt: &o.Receipt})
	}
	f := failureJSON{Code: Code(o.Err), Message: o.Err.Error()}
	if f.Code == "internal" {
		f.Message = "internal error"
	}
	if limit, ok := errors.AsType[*LimitError](o.Err); ok && !errors.Is(limit, ErrOutOfRange) {
		f.Requested, f.Allowed = (*amount)(&limit.Requested), (*amount)(&limit.Allowed)
	}
	return json.Marshal(outcomeJSON{Error: &f})
}

// UnmarshalJSON reads what MarshalJSON writes. The error has the message and
// matches the sentinel of its code; it is none of the typed errors.
func (o *Outcome) UnmarshalJSON(text []byte) error {
	var v outcomeJSON
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	switch {
	case (v.Receipt == nil) == (v.Error == nil):
		return &InvalidError{"outcome", "must have either a receipt or an error"}
	case v.Receipt != nil:
		*o = Outcome{Receipt: *v.Receipt}
	default:
		*o = Outcome{Err: &toldError{v.Error.Message, sentinel(v.Error.Code)}}
	}
	return nil
}

// toldError is an error that was read from JSON.
type toldError struct {
	message string
	is      error
}

func (e *toldError) Error() string { return e.message }
func (e *toldError) Unwrap() error { return e.is }

// sentinel is the error of a code; nil for those that are not of this package.
func sentinel(code string) error {
	for _, c := range codes {
		if c.code == code {
			return c.err
		}
	}
	return nil
}

type warningJSON struct {
	Sequence   int64      `json:"sequence"`
	Kind       Kind       `json:"kind"`
	RecordedAt time.Time  `json:"recorded_at"`
	ResellerID uuid.UUID  `json:"reseller_id,omitzero"`
	Crossing   Crossing   `json:"crossing"`
	Threshold  *Threshold `json:"threshold,omitempty"`
	Before     told       `json:"before"`
	After      told       `json:"after"`
}

// told is a balance that is read as well. It may be twice as large as an amount.
type told decimal.Decimal

func (t told) MarshalJSON() ([]byte, error) { return balance(t).MarshalJSON() }

func (t *told) UnmarshalJSON(text []byte) error {
	const longest = 2 + 1 + IntegerDigits + 1 + 1 + FractionalDigits // quotes, sign, one more digit, point
	if len(text) <= longest && !bytes.ContainsAny(text, "eE") {
		if err := (*decimal.Decimal)(t).UnmarshalJSON(text); err == nil {
			return nil
		}
	}
	return &InvalidError{"balance", "is not a string of plain digits"}
}

// MarshalJSON writes every field; reseller_id is left out for the pool, and
// threshold unless crossing is low.
func (w Warning) MarshalJSON() ([]byte, error) {
	v := warningJSON{w.Sequence, w.Kind, w.RecordedAt, w.ResellerID, w.Crossing, nil, told(w.Before), told(w.After)}
	if w.Crossing == CrossingLow {
		v.Threshold = &w.Threshold
	}
	return json.Marshal(v)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (w *Warning) UnmarshalJSON(text []byte) error {
	var v warningJSON
	err := json.Unmarshal(text, &v)
	*w = Warning{Sequence: v.Sequence, Kind: v.Kind, RecordedAt: v.RecordedAt, ResellerID: v.ResellerID, Crossing: v.Crossing,
		Before: decimal.Decimal(v.Before), After: decimal.Decimal(v.After)}
	if v.Threshold != nil {
		w.Threshold = *v.Threshold
	}
	return err
}

type plainResellerQuery ResellerQuery

type resellerQueryJSON struct {
	plainResellerQuery
	MinAvailable *amount `json:"min_available,omitempty"`
	MaxAvailable *amount `json:"max_available,omitempty"`
}

// MarshalJSON writes amounts as strings.
func (q ResellerQuery) MarshalJSON() ([]byte, error) {
	return json.Marshal(resellerQueryJSON{plainResellerQuery(q), (*amount)(q.MinAvailable), (*amount)(q.MaxAvailable)})
}

// UnmarshalJSON reads what MarshalJSON writes. A field that a query does not have
// is refused, because a filter that is misspelt shows everything.
func (q *ResellerQuery) UnmarshalJSON(text []byte) error {
	var v resellerQueryJSON
	err := readStrictly("query", text, &v)
	*q = ResellerQuery(v.plainResellerQuery)
	q.MinAvailable, q.MaxAvailable = (*decimal.Decimal)(v.MinAvailable), (*decimal.Decimal)(v.MaxAvailable)
	return err
}

type plainRecordQuery RecordQuery

// UnmarshalJSON reads a query; a field that it does not have is refused.
func (q *RecordQuery) UnmarshalJSON(text []byte) error {
	var v plainRecordQuery
	err := readStrictly("query", text, &v)
	*q = RecordQuery(v)
	return err
}

// The commands are written and read by their field tags; only their amounts need
// the form above, and a type parameter cannot be embedded. A field that a command
// does not have is refused, because a key that is misspelt is a payment made
// twice. A struct that embeds a command has its methods: give it its own.

func readCommand(text []byte, to any) error { return readStrictly("command", text, to) }

func readStrictly(what string, text []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(to)
	if err != nil && !errors.Is(err, ErrInvalid) {
		return &InvalidError{what, cut(err.Error(), 200)} // it repeats names and numbers of the input
	}
	return err
}

// MarshalJSON writes the amount as a string.
func (c Grant) MarshalJSON() ([]byte, error) {
	type plain Grant
	return json.Marshal(struct {
		plain
		Amount amount `json:"amount"`
	}{plain(c), amount(c.Amount)})
}

// UnmarshalJSON reads what MarshalJSON writes; the amount by [ParseAmount].
func (c *Grant) UnmarshalJSON(text []byte) error {
	type plain Grant
	return readCommand(text, &struct {
		*plain
		Amount *amount `json:"amount"`
	}{(*plain)(c), (*amount)(&c.Amount)})
}

// MarshalJSON writes the amount as a string.
func (c Withdrawal) MarshalJSON() ([]byte, error) {
	type plain Withdrawal
	return json.Marshal(struct {
		plain
		Amount amount `json:"amount"`
	}{plain(c), amount(c.Amount)})
}

// UnmarshalJSON reads what MarshalJSON writes; the amount by [ParseAmount].
func (c *Withdrawal) UnmarshalJSON(text []byte) error {
	type plain Withdrawal
	return readCommand(text, &struct {
		*plain
		Amount *amount `json:"amount"`
	}{(*plain)(c), (*amount)(&c.Amount)})
}

// MarshalJSON writes the amount as a string.
func (c Allocation) MarshalJSON() ([]byte, error) {
	type plain Allocation
	return json.Marshal(struct {
		plain
		Amount amount `json:"amount"`
	}{plain(c), amount(c.Amount)})
}

// UnmarshalJSON reads what MarshalJSON writes; the amount by [ParseAmount].
func (c *Allocation) UnmarshalJSON(text []byte) error {
	type plain Allocation
	return readCommand(text, &struct {
		*plain
		Amount *amount `json:"amount"`
	}{(*plain)(c), (*amount)(&c.Amount)})
}

// MarshalJSON writes the amount as a string.
func (c Repossession) MarshalJSON() ([]byte, error) {
	type plain Repossession
	return json.Marshal(struct {
		plain
		Amount amount `json:"amount"`
	}{plain(c), amount(c.Amount)})
}

// UnmarshalJSON reads what MarshalJSON writes; the amount by [ParseAmount].
func (c *Repossession) UnmarshalJSON(text []byte) error {
	type plain Repossession
	return readCommand(text, &struct {
		*plain
		Amount *amount `json:"amount"`
	}{(*plain)(c), (*amount)(&c.Amount)})
}

// MarshalJSON writes the amount as a string.
func (c Usage) MarshalJSON() ([]byte, error) {
	type plain Usage
	return json.Marshal(struct {
		plain
		Amount amount `json:"amount"`
	}{plain(c), amount(c.Amount)})
}

// UnmarshalJSON reads what MarshalJSON writes; the amount by [ParseAmount].
func (c *Usage) UnmarshalJSON(text []byte) error {
	type plain Usage
	return readCommand(text, &struct {
		*plain
		Amount *amount `json:"amount"`
	}{(*plain)(c), (*amount)(&c.Amount)})
}

// MarshalJSON writes the amount as a string.
func (c Correction) MarshalJSON() ([]byte, error) {
	type plain Correction
	return json.Marshal(struct {
		plain
		Amount amount `json:"amount"`
	}{plain(c), amount(c.Amount)})
}

// UnmarshalJSON reads what MarshalJSON writes; the amount by [ParseAmount].
func (c *Correction) UnmarshalJSON(text []byte) error {
	type plain Correction
	return readCommand(text, &struct {
		*plain
		Amount *amount `json:"amount"`
	}{(*plain)(c), (*amount)(&c.Amount)})
}

// MarshalJSON writes the amount as a string.
func (c Settlement) MarshalJSON() ([]byte, error) {
	type plain Settlement
	return json.Marshal(struct {
		plain
		Amount amount `json:"amount"`
	}{plain(c), amount(c.Amount)})
}

// UnmarshalJSON reads what MarshalJSON writes; the amount by [ParseAmount].
func (c *Settlement) UnmarshalJSON(text []byte) error {
	type plain Settlement
	return readCommand(text, &struct {
		*plain
		Amount *amount `json:"amount"`
	}{(*plain)(c), (*amount)(&c.Amount)})
}

// UnmarshalJSON reads the fields by their tags, and refuses others.
func (c *RepossessAll) UnmarshalJSON(text []byte) error {
	type plain RepossessAll
	return readCommand(text, (*plain)(c))
}

// UnmarshalJSON reads the fields by their tags, and refuses others.
func (c *NewReseller) UnmarshalJSON(text []byte) error {
	type plain NewReseller
	return readCommand(text, (*plain)(c))
}

// UnmarshalJSON reads the fields by their tags, and refuses others.
func (c *ProfileUpdate) UnmarshalJSON(text []byte) error {
	type plain ProfileUpdate
	return readCommand(text, (*plain)(c))
}

// UnmarshalJSON reads the fields by their tags, and refuses others.
func (c *Freeze) UnmarshalJSON(text []byte) error {
	type plain Freeze
	return readCommand(text, (*plain)(c))
}

// UnmarshalJSON reads the fields by their tags, and refuses others.
func (c *Unfreeze) UnmarshalJSON(text []byte) error {
	type plain Unfreeze
	return readCommand(text, (*plain)(c))
}

// UnmarshalJSON reads the fields by their tags, and refuses others.
func (c *Close) UnmarshalJSON(text []byte) error {
	type plain Close
	return readCommand(text, (*plain)(c))
}
