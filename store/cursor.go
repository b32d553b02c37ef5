package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
)

// A cursor is a position and a digest of ledger, query and position, in URL-safe
// base64. The digest tells a cursor that was changed, or that belongs to another
// query, from a good one. It is no secret and need not be: every query is scoped
// to the ledger that runs it, whatever its cursor says.

const (
	cursorVersion = 1
	digestSize    = 16
)

func recordCursor(ledger uuid.UUID, q credit.RecordQuery, last credit.Record) credit.Cursor {
	return newCursor(ledger, q, binary.BigEndian.AppendUint64(nil, uint64(last.Sequence)))
}

// recordsAfter returns the query for what comes after the cursor.
func recordsAfter(ledger uuid.UUID, q credit.RecordQuery, c credit.Cursor) (credit.RecordQuery, error) {
	position, err := readCursor(ledger, q, c, 8)
	if err != nil {
		return q, err
	}
	sequence := int64(binary.BigEndian.Uint64(position))
	if sequence <= q.After || q.Before > 0 && sequence >= q.Before {
		return q, badCursor() // forged: no record of the query has this sequence
	}
	if q.NewestFirst {
		q.Before = sequence
	} else {
		q.After = sequence
	}
	return q, nil
}

func resellerCursor(ledger uuid.UUID, q credit.ResellerQuery, last credit.Reseller) credit.Cursor {
	position := binary.BigEndian.AppendUint64(nil, uint64(last.BoundAt.UnixMicro()))
	return newCursor(ledger, q, append(position, last.ID[:]...))
}

func resellerPosition(ledger uuid.UUID, q credit.ResellerQuery, c credit.Cursor) (ResellerPosition, error) {
	position, err := readCursor(ledger, q, c, 8+len(uuid.UUID{}))
	if err != nil {
		return ResellerPosition{}, err
	}
	return ResellerPosition{
		BoundAt: time.UnixMicro(int64(binary.BigEndian.Uint64(position))).UTC(),
		ID:      uuid.UUID(position[8:]),
	}, nil
}

func newCursor(ledger uuid.UUID, query any, position []byte) credit.Cursor {
	c := append([]byte{cursorVersion}, position...)
	return credit.Cursor(base64.RawURLEncoding.EncodeToString(append(c, digest(ledger, query, position)...)))
}

func readCursor(ledger uuid.UUID, query any, c credit.Cursor, size int) ([]byte, error) {
	if len(c) != base64.RawURLEncoding.EncodedLen(1+size+digestSize) {
		return nil, badCursor()
	}
	// The decoder passes over line ends, so there may be less than the length says.
	raw, err := base64.RawURLEncoding.Strict().DecodeString(string(c))
	if err != nil || len(raw) != 1+size+digestSize || raw[0] != cursorVersion {
		return nil, badCursor()
	}
	position := raw[1 : 1+size]
	if !bytes.Equal(raw[1+size:], digest(ledger, query, position)) {
		return nil, badCursor()
	}
	return position, nil
}

func badCursor() error {
	return &credit.InvalidError{Field: "cursor", Problem: "is not one that this query of this ledger gave; begin again without a cursor"}
}

// digest binds a position to its ledger and its normalized query.
func digest(ledger uuid.UUID, query any, position []byte) []byte {
	text, err := json.Marshal(query)
	if err != nil {
		panic("store: a query has a JSON form: " + err.Error())
	}
	h := sha256.New()
	h.Write(ledger[:])
	h.Write(position)
	h.Write(text)
	return h.Sum(nil)[:digestSize]
}
