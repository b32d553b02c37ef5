package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
)

// A cursor is a position and a digest of ledger, query and position, in URL-safe
// base64. The digest tells a cursor that was changed, or that belongs to another
// query, from a good one. It is no secret and need not be: every query is scoped
// to the ledger that runs it, whatever its cursor says.

const (
	cursorVersion = 2
	digestSize    = 16
	fixedPlace    = 8 + 16 // of a reseller: a sequence and an id
	maxPosition   = fixedPlace + credit.MaxName
)

// recordCursor is the place of the last record seen and, unless it is negative, the
// bound where the listing ends, which was found by a time and can change no more.
func (l *Ledger) recordCursor(q credit.RecordQuery, last credit.Record, end int64) credit.Cursor {
	place := binary.BigEndian.AppendUint64(nil, uint64(last.Sequence))
	if end >= 0 {
		place = binary.BigEndian.AppendUint64(place, uint64(end))
	}
	return l.cursor(boundRecords(q), place)
}

// recordsAfter returns the query for what comes after its cursor, without it and
// without those bounds of recorded-at that the cursor stands for.
func (l *Ledger) recordsAfter(q credit.RecordQuery) (credit.RecordQuery, error) {
	if q.Cursor == "" {
		return q, nil
	}
	place, err := l.readCursor(boundRecords(q), q.Cursor)
	if err != nil {
		return q, err
	}
	ends := len(place) == 16
	if len(place) != 8 && !ends {
		return q, badCursor()
	}
	q.Cursor = ""
	sequence := int64(binary.BigEndian.Uint64(place))
	if sequence <= q.After || q.Before > 0 && sequence >= q.Before {
		return q, badCursor() // forged: no record of the query has this sequence
	}
	begin, end, until := &q.After, &q.Before, &q.RecordedUntil
	if q.NewestFirst {
		begin, end, until = end, begin, &q.RecordedFrom
	}
	*begin = sequence
	if ends {
		*end = int64(binary.BigEndian.Uint64(place[8:]))
		if until.IsZero() || q.After < 0 || q.Before <= q.After {
			return q, badCursor() // forged: the query has no such bound
		}
		*until = time.Time{}
	}
	if q.NewestFirst { // what comes after a record of the range is on the same side
		q.RecordedUntil = time.Time{}
	} else {
		q.RecordedFrom = time.Time{}
	}
	return q, nil
}

// boundRecords and boundResellers are what of a query a cursor is bound to.
func boundRecords(q credit.RecordQuery) credit.RecordQuery {
	q.Limit, q.Cursor = 0, ""
	return q
}

func boundResellers(q credit.ResellerQuery) credit.ResellerQuery {
	q.Limit, q.Cursor, q.Total = 0, "", false
	return q
}

// resellerPlace is where a page of resellers begins, and the sequence as of which
// it is.
type resellerPlace struct {
	position ResellerPosition
	asOf     int64
}

func (l *Ledger) resellerCursor(q credit.ResellerQuery, at resellerPlace) credit.Cursor {
	place := binary.BigEndian.AppendUint64(make([]byte, 0, maxPosition), uint64(at.asOf))
	place = append(place, at.position.ID[:]...)
	switch p := at.position; q.Order {
	case credit.OrderName, credit.OrderNameDown:
		place = append(place, p.Name...)
	case credit.OrderAvailable, credit.OrderAvailableDown:
		place = binary.BigEndian.AppendUint64(place, uint64(p.Available))
	default:
		place = binary.BigEndian.AppendUint64(place, uint64(p.BoundAt.UnixMicro()))
	}
	return l.cursor(boundResellers(q), place)
}

// resellerPlace returns where the query's cursor is; the zero place without one.
func (l *Ledger) resellerPlace(q credit.ResellerQuery) (at resellerPlace, err error) {
	if q.Cursor == "" {
		return at, nil
	}
	place, err := l.readCursor(boundResellers(q), q.Cursor)
	if err != nil {
		return at, err
	}
	if len(place) < fixedPlace {
		return at, badCursor()
	}
	at.asOf = int64(binary.BigEndian.Uint64(place))
	p, key := &at.position, place[fixedPlace:]
	p.ID = uuid.UUID(place[8:fixedPlace])
	named := q.Order == credit.OrderName || q.Order == credit.OrderNameDown
	switch {
	case p.ID == uuid.Nil, at.asOf < 0, (at.asOf == 0) != q.AsOf.IsZero(), q.AsOf.Sequence > 0 && at.asOf != q.AsOf.Sequence,
		!named && len(key) != 8, named && (!utf8.Valid(key) || bytes.IndexByte(key, 0) >= 0):
		return at, badCursor() // forged: no page of the query ends there
	case named:
		p.Name = string(key)
	case q.Order == credit.OrderAvailable, q.Order == credit.OrderAvailableDown:
		p.Available = int64(binary.BigEndian.Uint64(key))
	default:
		p.BoundAt = time.UnixMicro(int64(binary.BigEndian.Uint64(key))).UTC()
	}
	return at, nil
}

func (l *Ledger) cursor(query any, position []byte) credit.Cursor {
	c := append([]byte{cursorVersion}, l.digest(query, position)...)
	return credit.Cursor(base64.RawURLEncoding.EncodeToString(append(c, position...)))
}

func (l *Ledger) readCursor(query any, c credit.Cursor) (position []byte, err error) {
	if len(c) > base64.RawURLEncoding.EncodedLen(1+digestSize+maxPosition) {
		return nil, badCursor()
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(string(c))
	// The decoder passes over line ends, so what it gives must be what it was given.
	if err != nil || len(raw) < 1+digestSize || raw[0] != cursorVersion || base64.RawURLEncoding.EncodedLen(len(raw)) != len(c) {
		return nil, badCursor()
	}
	position = raw[1+digestSize:]
	if !bytes.Equal(raw[1:1+digestSize], l.digest(query, position)) {
		return nil, badCursor()
	}
	return position, nil
}

func badCursor() error {
	return &credit.InvalidError{Field: "cursor", Problem: "is not one that this query of this ledger gave; begin again without a cursor"}
}

// digest binds a position to its ledger and its normalized query.
func (l *Ledger) digest(query any, position []byte) []byte {
	text, err := json.Marshal(query)
	if err != nil {
		panic("store: a query has a JSON form: " + err.Error())
	}
	h := sha256.New()
	h.Write(l.distributor.ID[:])
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(position))))
	h.Write(position)
	h.Write(text)
	return h.Sum(nil)[:digestSize]
}
