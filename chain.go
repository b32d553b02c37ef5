package credit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// Hash is a SHA-256 value. Its text and JSON form is 64 lower-case hexadecimal
// digits; the zero value, "none", is the empty text.
type Hash [sha256.Size]byte

// IsZero tells whether h is the zero value: no hash.
func (h Hash) IsZero() bool { return h == Hash{} }

// String returns the text form.
func (h Hash) String() string {
	if h.IsZero() {
		return ""
	}
	return hex.EncodeToString(h[:])
}

// MarshalText returns the text form.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads the text form; anything else is an [*InvalidError].
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*h = Hash{}
		return nil
	}
	if len(text) == hex.EncodedLen(len(h)) {
		if _, err := hex.Decode(h[:], text); err == nil && h.String() == string(text) {
			return nil
		}
	}
	return &InvalidError{"hash", "is not 64 hexadecimal digits"}
}

// The versions of what is hashed; part of every hash.
const (
	genesisVersion     = "credit/genesis/1"
	recordVersion      = "credit/record/1"
	fingerprintVersion = "credit/fingerprint/1"
)

// Genesis is the hash before the first record: SHA-256 over the version
// "credit/genesis/1", the ledger's id and its currency. Every hashed field, here
// and below, is written as its length in four bytes (big-endian) and its bytes.
func Genesis(d Distributor) Hash {
	var c canonical
	c.text(genesisVersion)
	c.id(d.ID)
	c.text(d.Currency)
	return c.sum()
}

// ChainHash is the hash that chains r to the record before it, whose hash is
// previous ([Genesis] for the first): SHA-256 over the version
// "credit/record/1", the 32 bytes of previous, and every field of r in the order
// of the struct, except Hash; the fields of [Figures] and [Pool] likewise. Ids
// are in their 36-character form (nil is empty), the fingerprint in its text
// form, amounts plain decimals without trailing zeros, counts and sequences
// plain digits, times microseconds since 1970 UTC, and a map or a list is
// preceded by its number of entries, a map sorted by the bytes of its keys.
//
// The chain is evident against a head kept elsewhere ([Head]). It has no secret,
// so alone it does not stop someone who rewrites all of it, or cuts its tail.
func (r Record) ChainHash(previous Hash) Hash {
	c := canonical{make([]byte, 0, canonicalSize)}
	c.text(recordVersion)
	c.bytes(previous[:])
	c.number(r.Sequence)
	c.id(r.ID)
	c.text(string(r.Kind))
	c.id(r.ResellerID)
	c.text(r.ExternalID)
	c.amount(r.Amount)
	c.amount(r.Before.Allocated)
	c.amount(r.Before.Used)
	c.amount(r.After.Allocated)
	c.amount(r.After.Used)
	c.amount(r.Pool.Granted)
	c.amount(r.Pool.Allocated)
	c.text(r.Operator)
	c.text(r.Remark)
	c.text(r.Key)
	c.hash(r.Fingerprint)
	c.text(r.Reference)
	c.text(r.Customer)
	c.number(r.Corrects)
	c.pairs(r.Metadata)
	c.number(int64(len(r.Changed)))
	for _, name := range r.Changed {
		c.text(name)
	}
	c.time(r.OccurredAt)
	c.time(r.RecordedAt)
	return c.sum()
}

// fingerprint is what makes two commands the same command: the version, the
// kind, the normalised amount and every field the caller gave, before defaults.
func (e *entry) fingerprint() Hash {
	c := canonical{make([]byte, 0, canonicalSize)}
	c.text(fingerprintVersion)
	c.text(string(e.kind))
	c.id(e.reseller)
	c.text(e.external)
	if e.all {
		c.text("all")
	} else {
		c.millionths(e.amount)
	}
	for _, s := range []*string{e.profile.name, e.profile.email, e.profile.mobile, e.profile.remark} {
		c.optional(s)
	}
	if e.profile.customers == nil {
		c.optional(nil)
	} else {
		c.optional(new(strconv.Itoa(*e.profile.customers)))
	}
	c.given(e.boundAt)
	c.text(e.customer)
	c.text(e.Operator)
	c.text(e.Remark)
	c.text(e.Reference)
	c.number(e.Corrects)
	c.pairs(e.Metadata)
	c.given(e.OccurredAt)
	return c.sum()
}

// canonical collects length-prefixed fields.
type canonical struct{ buf []byte }

// canonicalSize is room for an ordinary record; a larger one takes more.
const canonicalSize = 1024

func (c *canonical) bytes(b []byte) {
	c.buf = binary.BigEndian.AppendUint32(c.buf, uint32(len(b)))
	c.buf = append(c.buf, b...)
}

func (c *canonical) text(s string) {
	c.buf = binary.BigEndian.AppendUint32(c.buf, uint32(len(s)))
	c.buf = append(c.buf, s...)
}

func (c *canonical) number(v int64) {
	var digits [20]byte
	c.bytes(strconv.AppendInt(digits[:0], v, 10))
}

func (c *canonical) millionths(v int64) {
	var digits [20]byte
	c.bytes(appendMillionths(digits[:0], v))
}

func (c *canonical) amount(d decimal.Decimal) {
	v, err := Millionths(d)
	if err != nil { // not a record of a ledger, but it has a hash
		c.text(d.String())
		return
	}
	c.millionths(v)
}

func (c *canonical) time(t time.Time) { c.number(t.UnixMicro()) }

func (c *canonical) id(id uuid.UUID) {
	if id == uuid.Nil {
		c.text("")
		return
	}
	text, _ := id.MarshalText() // never an error
	c.bytes(text)
}

func (c *canonical) hash(h Hash) {
	if h.IsZero() {
		c.text("")
		return
	}
	var text [2 * sha256.Size]byte
	hex.Encode(text[:], h[:])
	c.bytes(text[:])
}

// given writes a time, or nothing for one that was not given.
func (c *canonical) given(t time.Time) {
	if t.IsZero() {
		c.text("")
		return
	}
	c.time(t)
}

// optional tells an absent text from an empty one.
func (c *canonical) optional(s *string) {
	if s == nil {
		c.number(0)
		return
	}
	c.number(1)
	c.text(*s)
}

func (c *canonical) pairs(m map[string]string) {
	c.number(int64(len(m)))
	for _, k := range sortedKeys(m) {
		c.text(k)
		c.text(m[k])
	}
}

func (c *canonical) sum() Hash { return sha256.Sum256(c.buf) }
