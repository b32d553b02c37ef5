package archive

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
)

// RecordsCSV writes the records that the query selects, up to the head at this
// moment, from the cursor on if it has one, as a table for spreadsheets: RFC 4180
// with a header line, CRLF and UTF-8. It reads pages, whatever the query's limit.
//
// Amounts are plain decimals, times RFC 3339 in UTC with microseconds, metadata a
// JSON object, changed names apart by a blank, and what is empty is an empty cell.
// A text that a spreadsheet could take for a formula gets an apostrophe in front,
// so the table is not for reading back: that is what [Write] is for.
//
// There is no byte-order mark. Excel, which opens a file by double click in UTF-8
// only if it has one, gets it by writing "\ufeff" to w first. A spreadsheet must
// take the comma for the separator, or the guard does not hold.
func RecordsCSV(ctx context.Context, l credit.Ledger, q credit.RecordQuery, w io.Writer) error {
	head, err := l.Head(ctx)
	if err != nil {
		return during("write records", err)
	}
	return writeTable(w, "records", recordColumns, func() (rows []credit.Record, more bool, err error) {
		q.Limit = credit.MaxPageSize
		page, err := l.Records(ctx, q)
		for _, r := range page.Items {
			if r.Sequence <= head.Sequence {
				rows = append(rows, r)
			}
		}
		q.Cursor = page.Next
		return rows, page.Next != "" && (q.NewestFirst || len(rows) == len(page.Items)), err
	})
}

// ResellersCSV writes the resellers that the query selects as [RecordsCSV] writes
// records. Those that change meanwhile are as they were when their page was read;
// [credit.ResellerQuery] says which listings have each reseller once even so.
func ResellersCSV(ctx context.Context, l credit.Ledger, q credit.ResellerQuery, w io.Writer) error {
	return writeTable(w, "resellers", resellerColumns, func() ([]credit.Reseller, bool, error) {
		q.Limit, q.Total = credit.MaxPageSize, false
		page, err := l.Resellers(ctx, q)
		q.Cursor = page.Next
		return page.Items, page.Next != "", err
	})
}

// column is a column of a table: its header, and what a cell holds.
type column[T any] struct {
	name string
	cell func(T) string
}

var recordColumns = []column[credit.Record]{
	{"sequence", func(r credit.Record) string { return strconv.FormatInt(r.Sequence, 10) }},
	{"id", func(r credit.Record) string { return idCell(r.ID) }},
	{"kind", func(r credit.Record) string { return textCell(string(r.Kind)) }},
	{"reseller_id", func(r credit.Record) string { return idCell(r.ResellerID) }},
	{"external_id", func(r credit.Record) string { return textCell(r.ExternalID) }},
	{"amount", func(r credit.Record) string { return r.Amount.String() }},
	{"allocated_before", func(r credit.Record) string { return figureCell(r.ResellerID, r.Before.Allocated) }},
	{"used_before", func(r credit.Record) string { return figureCell(r.ResellerID, r.Before.Used) }},
	{"available_before", func(r credit.Record) string { return figureCell(r.ResellerID, r.Before.Available()) }},
	{"allocated_after", func(r credit.Record) string { return figureCell(r.ResellerID, r.After.Allocated) }},
	{"used_after", func(r credit.Record) string { return figureCell(r.ResellerID, r.After.Used) }},
	{"available_after", func(r credit.Record) string { return figureCell(r.ResellerID, r.After.Available()) }},
	{"pool_granted", func(r credit.Record) string { return r.Pool.Granted.String() }},
	{"pool_allocated", func(r credit.Record) string { return r.Pool.Allocated.String() }},
	{"pool_remaining", func(r credit.Record) string { return r.Pool.Remaining().String() }},
	{"operator", func(r credit.Record) string { return textCell(r.Operator) }},
	{"remark", func(r credit.Record) string { return textCell(r.Remark) }},
	{"key", func(r credit.Record) string { return textCell(r.Key) }},
	{"fingerprint", func(r credit.Record) string { return r.Fingerprint.String() }},
	{"reference", func(r credit.Record) string { return textCell(r.Reference) }},
	{"customer", func(r credit.Record) string { return textCell(r.Customer) }},
	{"corrects", func(r credit.Record) string { return correctsCell(r.Corrects) }},
	{"metadata", func(r credit.Record) string { return metadataCell(r.Metadata) }},
	{"changed", func(r credit.Record) string { return textCell(strings.Join(r.Changed, " ")) }},
	{"occurred_at", func(r credit.Record) string { return timeCell(r.OccurredAt) }},
	{"recorded_at", func(r credit.Record) string { return timeCell(r.RecordedAt) }},
	{"hash", func(r credit.Record) string { return r.Hash.String() }},
}

var resellerColumns = []column[credit.Reseller]{
	{"id", func(r credit.Reseller) string { return idCell(r.ID) }},
	{"external_id", func(r credit.Reseller) string { return textCell(r.ExternalID) }},
	{"name", func(r credit.Reseller) string { return textCell(r.Name) }},
	{"email", func(r credit.Reseller) string { return textCell(r.Email) }},
	{"mobile", func(r credit.Reseller) string { return textCell(r.Mobile) }},
	{"remark", func(r credit.Reseller) string { return textCell(r.Remark) }},
	{"customers", func(r credit.Reseller) string { return strconv.Itoa(r.Customers) }},
	{"status", func(r credit.Reseller) string { return textCell(string(r.Status)) }},
	{"bound_at", func(r credit.Reseller) string { return timeCell(r.BoundAt) }},
	{"allocated", func(r credit.Reseller) string { return r.Allocated.String() }},
	{"used", func(r credit.Reseller) string { return r.Used.String() }},
	{"available", func(r credit.Reseller) string { return r.Available().String() }},
	{"repossessable", func(r credit.Reseller) string { return r.Repossessable().String() }},
	{"overdraft", func(r credit.Reseller) string { return r.Overdraft().String() }},
}

// writeTable writes the header and the rows of every page.
func writeTable[T any](w io.Writer, what string, columns []column[T], next func() (rows []T, more bool, err error)) error {
	out := bufio.NewWriterSize(w, 64<<10)
	line := make([]string, len(columns))
	for i, c := range columns {
		line[i] = c.name
	}
	err := writeRow(out, line)
	for more := true; more && err == nil; {
		var rows []T
		if rows, more, err = next(); err != nil {
			break
		}
		for _, row := range rows {
			for i, c := range columns {
				line[i] = c.cell(row)
			}
			if err = writeRow(out, line); err != nil {
				break
			}
		}
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return during("write "+what, err)
	}
	return nil
}

// writeRow writes every byte of the cells. encoding/csv, told to end lines as RFC
// 4180 has it, drops and adds carriage returns inside of cells.
func writeRow(w *bufio.Writer, cells []string) error {
	for i, cell := range cells {
		if i > 0 {
			_ = w.WriteByte(',') // the error of a bufio.Writer stays for the last write
		}
		if strings.ContainsAny(cell, ",;\"\t\r\n ") {
			cell = `"` + strings.ReplaceAll(cell, `"`, `""`) + `"`
		}
		_, _ = w.WriteString(cell)
	}
	_, err := w.WriteString("\r\n")
	return err
}

// textCell guards a text that begins, blanks and invisible characters aside, with
// what makes it a formula somewhere (the list is OWASP's, on CSV injection).
func textCell(s string) string {
	const formula = "=+-@＝＋－＠"
	first, size := utf8.DecodeRuneInString(strings.TrimLeftFunc(s, invisible))
	if size > 0 && strings.ContainsRune(formula, first) || s != "" && strings.ContainsRune("\t\r\n", rune(s[0])) {
		return "'" + s
	}
	return s
}

// invisible is what takes no room of its own, or is blank: marks and fillers, too.
func invisible(c rune) bool {
	const blank = '\u2800' // of the Braille patterns
	return c == blank || unicode.IsSpace(c) || unicode.In(c, unicode.Cc, unicode.Cf, unicode.Mn, unicode.Other_Default_Ignorable_Code_Point)
}

func idCell(id uuid.UUID) string {
	if id == uuid.Nil {
		return ""
	}
	return id.String()
}

// figureCell is empty for a record of the pool.
func figureCell(of uuid.UUID, d decimal.Decimal) string {
	if of == uuid.Nil {
		return ""
	}
	return d.String()
}

func correctsCell(sequence int64) string {
	if sequence == 0 {
		return ""
	}
	return strconv.FormatInt(sequence, 10)
}

func metadataCell(m map[string]string) string {
	if len(m) == 0 {
		return ""
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic("archive: a map of strings has a JSON form: " + err.Error())
	}
	return string(text)
}

func timeCell(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }
