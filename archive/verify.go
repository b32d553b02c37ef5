package archive

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
)

// Verify reads an export and decides again, with no store at hand, everything that
// it says: each line must be as [Write] writes it, each record must follow by the
// rules from those before, hash included, each reseller must have the record that
// added it, and the end must be that of the first line.
//
// The chain has no secret, so a good export may still be an invented one, or one
// of an earlier time. Give the heads that you kept elsewhere (the JSON form of
// credit.Ledger's Head): the log must go through each of them.
//
// The first thing that is wrong is a [*LineError], wrapping a
// [*credit.CorruptError] that names the record; an error of r is neither.
//
// Not verified, because no record holds it: profiles and bound-at, which a sum
// guards against damage but not against design; and what State.Verify does not
// remember: whether a key or a record id was given out twice ([Import] finds the
// key). Verify holds every reseller in memory, and one record at a time. Bound
// the size of input that is not trusted: all of it may be resellers.
func Verify(r io.Reader, kept ...credit.Head) (Summary, error) {
	x, err := open(r, kept)
	for err == nil {
		_, err = x.next()
	}
	if !errors.Is(err, errEnd) {
		return Summary{}, err
	}
	return x.summary(), nil
}

// errEnd is no failure: the export was read to its end and is good.
var errEnd = errors.New("the end of the export")

// reader verifies an export while it is read.
type reader struct {
	in       *bufio.Reader
	line     int64 // its number, and its length
	size     int
	export   exportLine
	kept     []credit.Head // that the log must go through; the first line's, too
	profiles map[uuid.UUID]credit.Reseller
	state    *credit.State
	records  bool // the next line should be a record
	added    int  // how many resellers have their record
}

func (x *reader) summary() Summary {
	return Summary{x.export.Distributor, x.export.Head, len(x.profiles)}
}

// open reads the lines before the records.
func open(in io.Reader, kept []credit.Head) (*reader, error) {
	x := &reader{in: bufio.NewReaderSize(in, maxLine), profiles: map[uuid.UUID]credit.Reseller{}}
	sum := sha256.New()
	line, err := x.read()
	if err != nil {
		return nil, err
	}
	if err := x.begin(line, kept); err != nil {
		return nil, x.wrong(err)
	}
	for last := (credit.Reseller{}); ; {
		sum.Write(line)
		if line, err = x.read(); err != nil {
			return nil, err
		}
		if isLine(line, lineResellers) {
			break
		}
		if last, err = x.reseller(line, last); err != nil {
			return nil, x.wrong(err)
		}
	}
	if err := x.resellers(line, sum); err != nil {
		return nil, x.wrong(err)
	}
	x.records = x.export.Head.Sequence > 0
	return x, nil
}

// next reads a line after the resellers: it returns the next record, verified and
// applied to the state, or errEnd after the last one.
func (x *reader) next() (credit.Record, error) {
	line, err := x.read()
	if err != nil {
		return credit.Record{}, err
	}
	if !x.records {
		if err := x.end(line); err != nil {
			return credit.Record{}, x.wrong(err)
		}
		return credit.Record{}, x.nothing()
	}
	r, err := x.record(line)
	if err != nil {
		return credit.Record{}, x.wrong(err)
	}
	x.records = r.Sequence < x.export.Head.Sequence
	return r, nil
}

// read returns the next line, which is good until the one after is read.
func (x *reader) read() ([]byte, error) {
	x.line++
	line, err := x.in.ReadSlice('\n')
	x.size = len(line)
	switch {
	case errors.Is(err, bufio.ErrBufferFull), len(line) > maxLine:
		return nil, x.wrong(fmt.Errorf("is longer than %d bytes", maxLine))
	case errors.Is(err, io.EOF):
		return nil, x.wrong(errors.New("is missing, or not whole: the export was cut off"))
	case err != nil:
		return nil, x.failed(err)
	}
	return line, nil
}

// wrong says what is wrong with the line that was read last.
func (x *reader) wrong(err error) error {
	if corrupt := (*credit.CorruptError)(nil); x.records && !errors.As(err, &corrupt) {
		err = &credit.CorruptError{Sequence: x.state.Head().Sequence + 1, Problem: err.Error()}
	}
	return &LineError{x.line, err}
}

func (x *reader) begin(line []byte, kept []credit.Head) (err error) {
	if x.export, err = parseLine[exportLine](line, lineExport); err != nil {
		return err
	}
	if x.export.Version != version {
		return fmt.Errorf("its version is %.40q; this package reads %s", x.export.Version, version)
	}
	if err := x.export.Distributor.Validate(); err != nil {
		return err
	}
	x.state = credit.NewState(x.export.Distributor)
	x.kept = append(append(x.kept, kept...), x.export.Head)
	for _, k := range x.kept {
		if last := x.export.Head.Sequence; k.Sequence < 0 || k.Sequence > last {
			return &credit.CorruptError{Sequence: last + 1, Problem: fmt.Sprintf("is missing: the export ends with record %d, the head that was kept is record %d", last, k.Sequence)}
		}
	}
	return x.goesThrough(x.state.Head())
}

// goesThrough compares a point of the log with the heads that it should have there.
func (x *reader) goesThrough(at credit.Head) error {
	for _, k := range x.kept {
		if k.Sequence == at.Sequence && k.Hash != at.Hash {
			return &credit.CorruptError{Sequence: at.Sequence, Problem: fmt.Sprintf("its hash is %s, that of the head is %s", at.Hash, k.Hash)}
		}
	}
	return nil
}

// reseller takes in a profile, which must come after the last one in the order
// that they have.
func (x *reader) reseller(line []byte, last credit.Reseller) (credit.Reseller, error) {
	p, err := parseLine[resellerLine](line, lineReseller)
	if err != nil {
		return last, err
	}
	if err := credit.Validate(credit.NewReseller{ExternalID: p.ExternalID, Name: p.Name, Email: p.Email, Mobile: p.Mobile,
		ResellerRemark: p.Remark, Customers: p.Customers, BoundAt: p.BoundAt}); err != nil {
		return last, err
	}
	switch _, twice := x.profiles[p.ID]; {
	case p.BoundAt.IsZero() || !exact(p.BoundAt):
		return last, fmt.Errorf("its bound_at %w", errForm)
	case twice:
		return last, fmt.Errorf("reseller %s is there twice", p.ID)
	case len(x.profiles) > 0 && cmp.Or(last.BoundAt.Compare(p.BoundAt), bytes.Compare(last.ID[:], p.ID[:])) > 0:
		return last, fmt.Errorf("reseller %s is out of order", p.ID)
	}
	r := credit.Reseller{ID: p.ID, ExternalID: p.ExternalID, Profile: p.Profile, BoundAt: p.BoundAt}
	x.profiles[r.ID] = r
	return r, nil
}

func (x *reader) resellers(line []byte, sum hash.Hash) error {
	l, err := parseLine[resellersLine](line, lineResellers)
	switch {
	case err != nil:
		return err
	case l.Count != len(x.profiles):
		return fmt.Errorf("says %d resellers; there are %d", l.Count, len(x.profiles))
	case l.Sum != credit.Hash(sum.Sum(nil)):
		return errors.New("its sum is not that of the lines before it: one of them, or the sum, was changed")
	}
	return nil
}

func (x *reader) record(line []byte) (credit.Record, error) {
	r, err := parseLine[credit.Record](line, lineRecord)
	switch {
	case err != nil:
		return r, err
	case r.Sequence != x.state.Head().Sequence+1:
		return r, fmt.Errorf("is missing: record %d is in its place", r.Sequence)
	case !exact(r.OccurredAt) || !exact(r.RecordedAt):
		return r, fmt.Errorf("a time %w", errForm)
	}
	if err := x.state.Verify(r); err != nil {
		return r, err
	}
	if r.Kind == credit.KindAdd {
		if p, ok := x.profiles[r.ResellerID]; !ok || p.ExternalID != r.ExternalID {
			return r, &credit.CorruptError{Sequence: r.Sequence, Problem: fmt.Sprintf("the reseller %s that it adds is not among the resellers, or has another external id", r.ResellerID)}
		}
		x.added++
	}
	return r, x.goesThrough(x.state.Head())
}

// end checks the last line.
func (x *reader) end(line []byte) error {
	head := x.state.Head()
	if isLine(line, lineRecord) {
		return &credit.CorruptError{Sequence: head.Sequence + 1, Problem: fmt.Sprintf("is there, although the first line says that there are %d", head.Sequence)}
	}
	for _, h := range []credit.Head{head, x.export.Head} {
		var want bytes.Buffer
		if err := writeLine(&want, lineEnd, endLine{h.Sequence, len(x.profiles), h}); err != nil || !bytes.Equal(line, want.Bytes()) {
			return errors.New("is not the end that the first line and the records give")
		}
	}
	if x.added != len(x.profiles) {
		return fmt.Errorf("there are %d resellers, records add %d", len(x.profiles), x.added)
	}
	return nil
}

// nothing is errEnd if nothing follows.
func (x *reader) nothing() error {
	switch _, err := x.in.ReadByte(); {
	case errors.Is(err, io.EOF):
		return errEnd
	case err != nil:
		return x.failed(err)
	}
	x.line++
	return x.wrong(errors.New("is after the end of the export"))
}

func (x *reader) failed(err error) error {
	return fmt.Errorf("credit: read export, line %d: %w", x.line, err)
}
