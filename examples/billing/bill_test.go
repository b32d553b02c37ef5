package main

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

const (
	header = "bill_month,line_id,reseller_uin,customer_uin,product,type,corrects_line,fee,occurred_at\n"
	good   = "2026-07,1,200000010007,100000422528,vm,usage,,1.5,2026-07-01T00:06:28Z"
)

func TestALineThatIsWrongIsReportedWithItsPlaceAndTheOthersGoOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, column, problem string }{
		{"a column is missing", "2026-07,2,200000010007,100000422528,vm,usage,,2026-07-01T00:06:28Z", ":1:", "has 8 columns, not 9"},
		{"a column too many", strings.Replace(good, "vm", "vm,vm", 1), ":1:", "has 10 columns, not 9"},
		{"the line was cut off", strings.TrimSuffix(good, ":28Z"), ":51:", `occurred_at: "2026-07-01T00:06" is not a time`},
		{"no such day", strings.Replace(good, "07-01T", "07-32T", 1), ":51:", `occurred_at: "2026-07-32T00:06:28Z" is not a time`},
		{"a month without its zero", strings.Replace(good, "2026-07,", "2026-7,", 1), ":1:", `bill_month: "2026-7" is not a month`},
		{"a line without an id", strings.Replace(good, ",1,", ",,", 1), ":9:", `line_id: "" is not`},
		{"not UTF-8", strings.Replace(good, "vm", "v\xff", 1), ":37:", `product: "v\xff" is not`},
		{"NUL", strings.Replace(good, "vm", "v\x00", 1), ":37:", `product: "v\x00" is not`},
		{"a formula for a product", strings.Replace(good, "vm", "=SUM(A1)", 1), ":37:", `product: "=SUM(A1)" is not`},
		{"a formula for a fee", strings.Replace(good, "1.5", "=1+1", 1), ":47:", `fee: "=1+1" is not plain digits`},
		{"nine decimals", strings.Replace(good, "1.5", "0.000000001", 1), ":47:", `fee: "0.000000001" is not plain digits`},
		{"a negative fee", strings.Replace(good, "1.5", "-1.5", 1), ":47:", `fee: "-1.5" is not plain digits`},
		{"an exponent", strings.Replace(good, "1.5", "1e9", 1), ":47:", `fee: "1e9" is not plain digits`},
		{"no fee", strings.Replace(good, "1.5", "", 1), ":47:", `fee: "" is not plain digits`},
		{"a blank", strings.Replace(good, "1.5", " 1.5", 1), ":47:", `fee: " 1.5" is not plain digits`},
		{"digits of another script", strings.Replace(good, "1.5", "١", 1), ":47:", `fee: "١" is not plain digits`},
		{"more than can be", strings.Replace(good, "1.5", "1000000000000", 1), ":47:", `fee: "1000000000000" is not plain digits`},
		{"an account number with letters", strings.Replace(good, "200000010007", "2000O0010007", 1), ":11:", `reseller_uin: "2000O0010007" is not an account`},
		{"a kind that is unknown", strings.Replace(good, "usage", "credit", 1), ":40:", `type: "credit" is not usage or correction`},
		{"a correction of nothing", strings.Replace(good, "usage", "correction", 1), ":51:", `corrects_line: "" does not go with the type correction`},
		{"usage that corrects", strings.Replace(good, "usage,", "usage,2026-07/1", 1), ":46:", `corrects_line: "2026-07/1" does not go with the type usage`},
		{"a correction of a line without month", strings.Replace(good, "usage,", "correction,1", 1), ":51:", `corrects_line: "1" is not empty, or month and line id`},
		{"a quote that is not closed", strings.Replace(good, "vm", `"vm`, 1), ":", `quoted-field`},
		{"a quote in the middle", strings.Replace(good, "vm", `v"m`, 1), ":38:", `bare " in non-quoted-field`},
		{"a newline in quotes", strings.Replace(good, "vm", "\"v\nm\"", 1), ":", `quoted-field`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBook(t)
			err := b.post(t, header+good+"\n"+c.text+"\n"+strings.Replace(good, ",1,", ",3,", 1)+"\n")
			require.ErrorIs(t, err, errLeftOut)
			require.Contains(t, b.report.String(), "bill.csv:3"+c.column)
			require.Contains(t, b.report.String(), " refused: ")
			require.Contains(t, b.report.String(), c.problem)
			require.Contains(t, b.report.String(), ": 2 posted, ", "the lines around it are not posted")
		})
	}
}

func TestAnyWayToWriteTheSameBillIsReadTheSame(t *testing.T) {
	t.Parallel()
	other := strings.Replace(good, ",1,", ",2,", 1)
	plain := header + good + "\n" + other + "\n"
	for _, c := range []struct{ name, text string }{
		{"as it should be", plain},
		{"a byte order mark", "\uFEFF" + plain},
		{"CRLF", strings.ReplaceAll(plain, "\n", "\r\n")},
		{"no newline at the end", strings.TrimSuffix(plain, "\n")},
		{"empty lines", strings.ReplaceAll(plain, "\n", "\n\n")},
		{"quotes", header + strings.ReplaceAll(good, "vm", `"vm"`) + "\n" + other},
		{"zeros at the end of a fee", strings.ReplaceAll(plain, "1.5,", "1.50000000,")},
		{"another time zone", strings.ReplaceAll(plain, "2026-07-01T00:06:28Z", "2026-06-30T22:06:28-02:00")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBook(t)
			require.NoError(t, b.post(t, plain))
			head := b.head(t)
			require.NoError(t, b.post(t, c.text), b.report)
			require.Contains(t, b.report.String(), "2 lines: 0 posted, 2 posted already, ")
			require.Equal(t, head, b.head(t))
		})
	}
}

func TestWhatIsNotABillEndsTheRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, problem string }{
		{"an empty file", "", "bill.csv: is empty"},
		{"no header", good + "\n", "bill.csv: line 1 is not the header of a bill"},
		{"another header", strings.Replace(header, "fee", "cost", 1), "bill.csv: line 1 is not the header of a bill"},
		{"a line without end", header + good + "\n" + strings.Repeat("1", maxLine), "bill.csv: after line 2: bufio.Scanner: token too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBook(t)
			require.ErrorContains(t, b.post(t, c.text), c.problem)
		})
	}
}

func TestABillOfNothingButAHeaderIsPosted(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	require.NoError(t, b.post(t, header))
	require.Contains(t, b.report.String(), "\n0 lines: 0 posted, ")
}

// failing is a file that cannot be read to its end.
type failing struct{ io.Reader }

var errDisk = errors.New("the disk is gone")

func (f failing) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = errDisk
	}
	return n, err
}

func TestAFileThatCannotBeReadToItsEndIsNotTakenForAWholeOne(t *testing.T) {
	t.Parallel()
	var last error
	for _, err := range lines(failing{strings.NewReader(header + good + "\n")}) {
		last = err
	}
	require.ErrorIs(t, last, errDisk)
}

func TestABillIsReadAsItIsPosted(t *testing.T) {
	t.Parallel()
	rest := strings.NewReader(header + strings.Repeat(good+"\n", 10_000))
	size := rest.Len()
	for l := range lines(rest) {
		if l.number == 100 {
			break
		}
	}
	require.Less(t, size-rest.Len(), 2*maxLine, "a long bill is held in memory")
}

func TestFeesAreRoundedHalfToEven(t *testing.T) {
	t.Parallel()
	for fee, want := range map[string]string{
		"1.12345649": "1.123456", "1.1234565": "1.123456", "1.12345651": "1.123457", "1.1234575": "1.123458",
		"0.0000005": "0", "0.00000051": "0.000001", "0.0000015": "0.000002", "0.12345678": "0.123457", "7": "7", "0": "0",
	} {
		l := line{fee: decimal.RequireFromString(fee)}
		require.Equal(t, want, l.amount().String(), "%s rounded", fee)
	}
}

func FuzzLines(f *testing.F) {
	f.Add(header + good + "\n")
	f.Add("\uFEFF" + header + "\"\n" + good + "\r\n\r\n,,,,,,,,\n")
	f.Fuzz(func(t *testing.T, bill string) {
		read := 0
		for l, err := range lines(strings.NewReader(bill)) {
			if err != nil {
				return
			}
			read++
			if l.err != nil || l.amount().IsZero() || l.amount().GreaterThanOrEqual(decimal.New(1, credit.IntegerDigits)) {
				continue
			}
			require.NoError(t, credit.Validate(l.command(uuid.Max)), "a line that was read is not a command")
		}
		want := 0
		for _, text := range strings.Split(bill, "\n")[1:] {
			if strings.TrimSuffix(text, "\r") != "" {
				want++
			}
		}
		require.Equal(t, want, read, "lines were lost, or made up")
	})
}
