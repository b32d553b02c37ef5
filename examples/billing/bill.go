package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
)

// columns are those of a bill, each with the form of its cells. What does not
// have it is refused before anything is made of it: exponents, signs, formulas,
// text that is not UTF-8. The time is last, because its form tells that a line
// was cut off.
var columns = []struct {
	name  string
	fits  func(string) bool
	wants string
}{
	{"bill_month", form(month), "a month like 2026-07"},
	{"line_id", form(lineID), "1 to 50 letters, digits, points and hyphens"},
	{"reseller_uin", form(`\d{1,20}`), "an account number of 1 to 20 digits"},
	{"customer_uin", form(`\d{1,20}`), "an account number of 1 to 20 digits"},
	{"product", form(`[\p{L}\p{N}][\p{L}\p{N} ._/()-]{0,99}`), "1 to 100 letters, digits, blanks and ._/()-, the first a letter or digit"},
	{"type", form(`usage|correction`), "usage or correction"},
	{"corrects_line", form(`(` + month + `/` + lineID + `)?`), "empty, or month and line id of an earlier line, like 2026-07/000123"},
	{"fee", form(`\d{1,12}(\.\d{1,8})?`), "plain digits, at most 12 before and 8 after the point"},
	{"occurred_at", isTime, "a time like 2026-07-31T23:59:59Z"},
}

const (
	month  = `\d{4}-(0[1-9]|1[0-2])`
	lineID = `[0-9A-Za-z.-]{1,50}`

	maxLine = 4096 // bytes, with the line end
)

func form(expression string) func(string) bool {
	return regexp.MustCompile(`^(` + expression + `)$`).MatchString
}

func isTime(s string) bool {
	_, err := time.Parse(time.RFC3339, s)
	return err == nil
}

// line is one line of a bill.
type line struct {
	number int   // in the file, from 1; the header is line 1
	end    int64 // where it ends: bytes from the beginning of the file
	// err is why the line cannot be posted, and column the byte where that is;
	// all that follows is zero then.
	err    error
	column int

	// id is month and line id, like 2026-07/000123; corrects is the id of the line
	// that a correction is about, and empty for usage.
	month, id, corrects         string
	reseller, customer, product string
	fee                         decimal.Decimal // as billed, never negative
	occurredAt                  time.Time
}

// lines reads a bill and holds one line of it at a time. A line that is wrong
// comes with its err, and the next one follows; an error beside the line ends the
// bill. Empty lines are passed over.
//
// A line of the file is a line of the bill, so a quote that is not closed where it
// was opened spoils its own line and not the rest of the file.
func lines(bill io.Reader) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		in := bufio.NewReaderSize(bill, maxLine)
		text, size, err := readLine(in)
		if header := header(); strings.TrimPrefix(text, "\uFEFF") != header && (err == nil || errors.Is(err, io.EOF)) {
			err = fmt.Errorf("the header is %.200q, not %q", text, header)
		}
		l := line{number: 1, end: size}
		for err == nil {
			if text, size, err = readLine(in); err != nil {
				break
			}
			l = line{number: l.number + 1, end: l.end + size, column: 1}
			if l.err = l.parse(text); text != "" && !yield(l, nil) {
				return
			}
		}
		if !errors.Is(err, io.EOF) {
			yield(line{}, fmt.Errorf("after line %d: %w", l.number, err))
		}
	}
}

// readLine returns a line without its end, maxLine bytes of it if it is too long,
// and how many bytes it has in the file. The error is io.EOF after the last line.
func readLine(in *bufio.Reader) (text string, size int64, err error) {
	b, err := in.ReadSlice('\n')
	text, size = strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), int64(len(b))
	for errors.Is(err, bufio.ErrBufferFull) {
		b, err = in.ReadSlice('\n')
		size += int64(len(b))
	}
	if errors.Is(err, io.EOF) && size > 0 {
		err = nil
	}
	return text, size, err
}

func header() string {
	var names []string
	for _, c := range columns {
		names = append(names, c.name)
	}
	return strings.Join(names, ",")
}

// parse fills in what the text says, or returns what is wrong with it.
func (l *line) parse(text string) error {
	if len(text) == maxLine {
		return fmt.Errorf("is longer than %d bytes", maxLine)
	}
	r := csv.NewReader(strings.NewReader(text))
	r.FieldsPerRecord = -1
	cells, err := r.Read()
	if wrong, ok := errors.AsType[*csv.ParseError](err); ok {
		l.column, err = wrong.Column, wrong.Err
	}
	if err != nil {
		return err
	}
	if len(cells) != len(columns) {
		return fmt.Errorf("has %d columns, not %d", len(cells), len(columns))
	}
	for i, c := range columns {
		if !c.fits(cells[i]) {
			_, l.column = r.FieldPos(i)
			return fmt.Errorf("%s: %.40q is not %s", c.name, cells[i], c.wants)
		}
	}
	if (cells[5] == "correction") != (cells[6] != "") {
		_, l.column = r.FieldPos(6)
		return fmt.Errorf("corrects_line: %q does not go with the type %s", cells[6], cells[5])
	}
	fee, err := decimal.NewFromString(cells[7])
	if err != nil {
		return err
	}
	at, err := time.Parse(time.RFC3339, cells[8])
	if err != nil {
		return err
	}
	l.month, l.id, l.corrects = cells[0], cells[0]+"/"+cells[1], cells[6]
	l.reseller, l.customer, l.product = cells[2], cells[3], cells[4]
	l.fee, l.occurredAt = fee, at
	return nil
}

// amount is the fee in the ledger's precision: rounded by itself to 6 decimals,
// half to even. Halves go up as often as down, so many fees gain nothing by it,
// and a correction of a whole fee takes back exactly what was posted.
func (l line) amount() decimal.Decimal { return l.fee.RoundBank(credit.FractionalDigits) }

// signed is what d of this line does to usage.
func (l line) signed(d decimal.Decimal) decimal.Decimal {
	if l.kind() == credit.KindCorrection {
		return d.Neg()
	}
	return d
}

func (l line) kind() credit.Kind {
	if l.corrects != "" {
		return credit.KindCorrection
	}
	return credit.KindUsage
}

// key makes the line one and the same command for ever.
func (l line) key() string { return "bill/" + l.id }

// command is made of nothing but the line (a reseller's id never changes), because
// only the same command is known again in a later run. So a correction names the
// line that it corrects by its id in the bill; the command's field Corrects would
// take the sequence of a record, which depends on what was posted before.
//
// The exact fee is in the metadata, so that nothing is lost by rounding and a fee
// that changes in its eighth decimal is another command.
func (l line) command(reseller uuid.UUID) credit.Command {
	metadata := map[string]string{"product": l.product, "fee": l.fee.String()}
	if l.kind() == credit.KindCorrection {
		metadata["corrects"] = l.corrects
		return credit.Correction{ResellerID: reseller, Amount: l.amount(), Customer: l.customer, Operator: operator,
			Key: l.key(), Reference: l.month, Metadata: metadata, OccurredAt: l.occurredAt}
	}
	return credit.Usage{ResellerID: reseller, Amount: l.amount(), Customer: l.customer, Operator: operator,
		Key: l.key(), Reference: l.month, Metadata: metadata, OccurredAt: l.occurredAt}
}
