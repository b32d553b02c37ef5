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
	return canonical(nil).text(genesisVersion).id(d.ID).text(d.Currency).sum()
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
	c := make(canonical, 0, canonicalSize).text(recordVersion).bytes(previous[:]).
		number(r.Sequence).id(r.ID).text(string(r.Kind)).id(r.ResellerID).text(r.ExternalID).
		amount(r.Amount).amount(r.Before.Allocated).amount(r.Before.Used).amount(r.After.Allocated).amount(r.After.Used).
		amount(r.Pool.Granted).amount(r.Pool.Allocated).
		text(r.Operator).text(r.Remark).text(r.Key).hash(r.Fingerprint).text(r.Reference).text(r.Customer).
		number(r.Corrects).pairs(r.Metadata).number(int64(len(r.Changed)))
	for _, name := range r.Changed {
		c = c.text(name)
	}
	return c.time(r.OccurredAt).time(r.RecordedAt).sum()
}

// fingerprint is what makes two commands the same command: the version, the
// kind, the normalised amount and every field the caller gave, before defaults.
func (e *entry) fingerprint() Hash {
	c := make(canonical, 0, canonicalSize).text(fingerprintVersion).text(string(e.kind)).id(e.reseller).text(e.external)
	if e.all {
		c = c.text("all")
	} else {
		c = c.millionths(e.amount)
	}
	c = c.optional(e.profile.name).optional(e.profile.email).optional(e.profile.mobile).optional(e.profile.remark)
	if e.profile.customers == nil {
		c = c.optional(nil)
	} else {
		c = c.optional(new(strconv.Itoa(*e.profile.customers)))
	}
	return c.given(e.boundAt).text(e.customer).text(e.Operator).text(e.Remark).text(e.Reference).
		number(e.Corrects).pairs(e.Metadata).given(e.OccurredAt).sum()
}

// canonical collects length-prefixed fields.
type canonical []byte

// canonicalSize is room for an ordinary record; a larger one takes more.
const canonicalSize = 768

func (c canonical) bytes(b []byte) canonical {
	return append(binary.BigEndian.AppendUint32(c, uint32(len(b))), b...)
}

func (c canonical) text(s string) canonical {
	return append(binary.BigEndian.AppendUint32(c, uint32(len(s))), s...)
}

func (c canonical) number(v int64) canonical {
	var digits [20]byte
	return c.bytes(strconv.AppendInt(digits[:0], v, 10))
}

func (c canonical) millionths(v int64) canonical {
	var digits [20]byte
	return c.bytes(appendMillionths(digits[:0], v))
}

func (c canonical) amount(d decimal.Decimal) canonical {
	v, err := Millionths(d)
	if err != nil { // in no record of a ledger, but anything has a hash
		return c.text(d.String())
	}
	return c.millionths(v)
}

func (c canonical) time(t time.Time) canonical { return c.number(t.UnixMicro()) }

func (c canonical) id(id uuid.UUID) canonical {
	if id == uuid.Nil {
		return c.text("")
	}
	text, _ := id.MarshalText() // never an error
	return c.bytes(text)
}

func (c canonical) hash(h Hash) canonical {
	if h.IsZero() {
		return c.text("")
	}
	var text [2 * sha256.Size]byte
	hex.Encode(text[:], h[:])
	return c.bytes(text[:])
}

// given writes a time, or nothing for one that was not given.
func (c canonical) given(t time.Time) canonical {
	if t.IsZero() {
		return c.text("")
	}
	return c.time(t)
}

// optional tells an absent text from an empty one.
func (c canonical) optional(s *string) canonical {
	if s == nil {
		return c.number(0)
	}
	return c.number(1).text(*s)
}

func (c canonical) pairs(m map[string]string) canonical {
	c = c.number(int64(len(m)))
	for _, k := range sortedKeys(m) {
		c = c.text(k).text(m[k])
	}
	return c
}

func (c canonical) sum() Hash { return sha256.Sum256(c) }
