package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
)

// columns are those of a bill, each with the form of its cells. What does not
// have it is refused before anything is made of it: exponents, signs, formulas,
// text that is not UTF-8. The time is last, because its form tells a line that
// was cut off.
var columns = []column{
	{"bill_month", form(month), "a month like 2026-07"},
	{"line_id", form(lineID), "1 to 50 letters, digits, points and hyphens"},
	{"reseller_uin", form(`\d{1,20}`), "an account number of 1 to 20 digits"},
	{"customer_uin", form(`\d{1,20}`), "an account number of 1 to 20 digits"},
	{"product", form(`[\p{L}\p{N}][\p{L}\p{N} ._/()-]{0,99}`), "1 to 100 letters, digits, blanks and ._/()-, the first a letter or digit"},
	{"type", form(`usage|correction`), "usage or correction"},
	{"corrects_line", form(`(` + month + `/` + lineID + `)?`), "empty, or month and line id of an earlier line, like 2026-07/000123"},
	{"fee", form(`\d{1,12}(\.\d{1,8})?`), "plain digits, at most 12 before and 8 after the point"},
	{"occurred_at", form(`[\d-]{10}T[\d:]{8}(\.\d{1,6})?(Z|[+-]\d\d:\d\d)`), "a time like 2026-07-31T23:59:59Z"},
}

type column struct {
	name  string
	form  *regexp.Regexp
	wants string
}

const (
	month  = `\d{4}-(0[1-9]|1[0-2])`
	lineID = `[0-9A-Za-z.-]{1,50}`

	maxLine = 64 << 10 // bytes
)

func form(expression string) *regexp.Regexp { return regexp.MustCompile(`^(` + expression + `)$`) }

// line is one line of a bill.
type line struct {
	number int   // in the file, from 1; the header is line 1
	end    int64 // about how many bytes of the file there are up to its end
	// err is why the line cannot be read, and column the byte where that is; all
	// that follows is zero then.
	err    error
	column int

	key                                string // bill/month/line id; makes the line one and the same command for ever
	month, reseller, customer, product string
	kind                               credit.Kind     // usage or correction
	corrects                           string          // month/line id of what a correction is about
	fee                                decimal.Decimal // as billed, never negative
	occurredAt                         time.Time
}

// lines reads a bill and holds one line of it at a time. A line that is wrong
// comes with its err, and the next one follows; an error beside the line ends the
// bill. Empty lines are passed over.
//
// A line of the file is a line of the bill, so a quote that is not closed where it
// was opened spoils its own line and not the rest of the file.
func lines(bill io.Reader) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		in := bufio.NewScanner(bill)
		in.Buffer(nil, maxLine)
		var l line
		for in.Scan() {
			text := in.Text()
			l = line{number: l.number + 1, end: l.end + int64(len(text)) + 1, column: 1}
			if l.number == 1 {
				names := strings.Split(strings.TrimPrefix(text, "\uFEFF"), ",")
				if !slices.EqualFunc(names, columns, func(name string, c column) bool { return name == c.name }) {
					yield(l, fmt.Errorf("line 1 is not the header of a bill: %.200q", text))
					return
				}
			} else if l.err = l.parse(text); text != "" && !yield(l, nil) {
				return
			}
		}
		if err := in.Err(); err != nil {
			yield(l, fmt.Errorf("after line %d: %w", l.number, err))
		} else if l.number == 0 {
			yield(l, errors.New("is empty, without even a header"))
		}
	}
}

// parse fills in what the text says, or returns what is wrong with it.
func (l *line) parse(text string) error {
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
	at, err := time.Parse(time.RFC3339, cells[8])
	for i, c := range columns {
		_, l.column = r.FieldPos(i)
		switch {
		case !c.form.MatchString(cells[i]), c.name == "occurred_at" && err != nil:
			return fmt.Errorf("%s: %.40q is not %s", c.name, cells[i], c.wants)
		case c.name == "corrects_line" && (cells[5] == "correction") != (cells[6] != ""):
			return fmt.Errorf("%s: %q does not go with the type %s", c.name, cells[6], cells[5])
		}
	}
	*l = line{number: l.number, end: l.end, column: 1, key: "bill/" + cells[0] + "/" + cells[1], month: cells[0],
		reseller: cells[2], customer: cells[3], product: cells[4], kind: credit.Kind(cells[5]), corrects: cells[6],
		fee: decimal.RequireFromString(cells[7]), occurredAt: at.UTC()}
	return nil
}

// amount is the fee in the ledger's precision: rounded by itself to 6 decimals,
// half to even. Halves go up as often as down, so many fees gain nothing by it,
// and a correction of a whole fee takes back exactly what was posted.
func (l line) amount() decimal.Decimal { return l.fee.RoundBank(credit.FractionalDigits) }

// billed is the fee as it changes usage, below 0 for a correction.
func (l line) billed() decimal.Decimal {
	if l.kind == credit.KindCorrection {
		return l.fee.Neg()
	}
	return l.fee
}

// command is made of nothing but the line (a reseller's id never changes), because
// only the same command is known again in a later run. So a correction names the
// line that it corrects by its id in the bill; the command's field Corrects would
// take the sequence of a record, which depends on what was posted before.
//
// The exact fee is in the metadata, so that nothing is lost by rounding and a fee
// that changes in its eighth decimal is another command.
func (l line) command(reseller uuid.UUID) credit.Command {
	usage := credit.Usage{ResellerID: reseller, Amount: l.amount(), Customer: l.customer, Operator: operator, Key: l.key, Reference: l.month,
		Metadata: map[string]string{"product": l.product, "fee": l.fee.String()}, OccurredAt: l.occurredAt}
	if l.kind == credit.KindUsage {
		return usage
	}
	usage.Metadata["corrects"] = l.corrects
	return credit.Correction(usage)
}
