// Package archive takes a ledger out of its store and brings it back: [Write] an
// export, [Verify] it with no store at hand, [Import] it into another store with
// the same hashes; and [RecordsCSV] and [ResellersCSV] for spreadsheets.
//
// An export is JSON Lines: first whose ledger it is and where its log ended, then
// the resellers' profiles, then every record in order with its hash, then the end
// of the log once more. docs/archive.md describes each line.
//
// Profiles are personal data and in no record, so nothing proves what they say: a
// profile is exported as it is when Write reads it, which may be a little later
// than the head. Everything else in an export follows from its records.
package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
)

// version is the format of an export; its first line says so.
const version = "credit/export/1"

// maxLine bounds a line, its end included. The longest record, every byte of text
// escaped by six, is well below.
const maxLine = 128 << 10

// Summary is what an export holds.
type Summary struct {
	// Distributor is whose ledger it is: with it, store.Open opens an imported one.
	Distributor credit.Distributor `json:"distributor"`
	// Head is the end of the log; its sequence is the number of records.
	Head credit.Head `json:"head"`
	// Resellers is how many there are, closed ones included.
	Resellers int `json:"resellers"`
}

// LineError is the first thing in an export that is wrong.
type LineError struct {
	// Line counts from 1.
	Line int64
	// Err says what is wrong: a [*credit.CorruptError], which names the record,
	// where a record is or should be.
	Err error
}

func (e *LineError) Error() string {
	return fmt.Sprintf("credit: export: line %d: %s", e.Line, strings.TrimPrefix(e.Err.Error(), "credit: "))
}

// Unwrap returns Err.
func (e *LineError) Unwrap() error { return e.Err }

// The lines of an export are JSON objects of one field, whose name says which line
// it is.
const (
	lineExport    = "export"
	lineReseller  = "reseller"
	lineResellers = "resellers"
	lineRecord    = "record" // a credit.Record
	lineEnd       = "end"
)

type exportLine struct {
	Version     string             `json:"version"`
	Distributor credit.Distributor `json:"distributor"`
	Head        credit.Head        `json:"head"`
}

// resellerLine is what of a reseller the records do not give.
type resellerLine struct {
	ID         uuid.UUID `json:"id"`
	ExternalID string    `json:"external_id"`
	credit.Profile
	BoundAt time.Time `json:"bound_at"`
}

// resellersLine ends the profiles. The sum is over every byte before it: nothing
// else would tell that a profile was damaged.
type resellersLine struct {
	Count int         `json:"count"`
	Sum   credit.Hash `json:"sha256"`
}

type endLine struct {
	Records   int64       `json:"records"`
	Resellers int         `json:"resellers"`
	Head      credit.Head `json:"head"`
}

// writeLine writes a line, and nothing if it would be too long to be read back.
func writeLine(w io.Writer, name string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	line := fmt.Appendf(make([]byte, 0, len(body)+len(name)+6), "{%q:%s}\n", name, body)
	if len(line) > maxLine {
		return fmt.Errorf("a %s line of %d bytes is longer than the %d that can be read", name, len(line), maxLine)
	}
	_, err = w.Write(line)
	return err
}

var errForm = errors.New("is not as Write writes it")

// isLine tells whether the line says that it is of that name.
func isLine(line []byte, name string) bool {
	return bytes.HasPrefix(line, []byte(`{"`+name+`":`))
}

// parseLine reads a line that must be of that name and, to the byte, as writeLine
// writes it: so no field is unknown, twice, in other words, or a derived figure
// that the reader of v would not look at.
func parseLine[T any](line []byte, name string) (T, error) {
	var v T
	if !isLine(line, name) || !bytes.HasSuffix(line, []byte("}\n")) {
		return v, fmt.Errorf("is not a line that begins with {%q: and is whole", name)
	}
	body := line[len(name)+4 : len(line)-2]
	if err := json.Unmarshal(body, &v); err != nil {
		return v, fmt.Errorf("%w: %.200s", errForm, err.Error())
	}
	if again, err := json.Marshal(v); err != nil || !bytes.Equal(body, again) {
		return v, errForm
	}
	return v, nil
}

// during says what was being done when an error came that does not say so itself.
func during(what string, err error) error {
	if credit.Code(err) != "internal" {
		return err
	}
	return fmt.Errorf("credit: %s: %w", what, err)
}

// exact tells whether t is as every store has it: UTC, whole microseconds.
func exact(t time.Time) bool {
	return t.Location() == time.UTC && t.Nanosecond()%int(time.Microsecond) == 0
}
