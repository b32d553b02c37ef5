package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
	"github.com/resellerkit/credit/store/storetest"
)

// book is a ledger with the resellers of the sample.
type book struct {
	credit.Ledger
	report bytes.Buffer // of the last run
}

func newBook(t *testing.T) *book {
	t.Helper()
	return bookOn(t, memstore.New())
}

func bookOn(t *testing.T, s store.Store) *book {
	t.Helper()
	ledger, err := open(t.Context(), s)
	require.NoError(t, err)
	return &book{Ledger: ledger}
}

func (b *book) post(t *testing.T, text string) error {
	t.Helper()
	b.report.Reset()
	return post(t.Context(), b, &b.report, &bytes.Buffer{}, fstest.MapFS{"bill.csv": {Data: []byte(text)}}, "bill.csv")
}

func (b *book) head(t *testing.T) credit.Head {
	t.Helper()
	head, err := b.Head(t.Context())
	require.NoError(t, err)
	return head
}

// figures are those of every reseller by account number, and how many records
// there are, all of them checked.
func (b *book) figures(t *testing.T) (map[string]string, int64) {
	t.Helper()
	ledger := b.Ledger
	if l, ok := ledger.(*losing); ok {
		ledger = l.Ledger
	}
	checked, err := ledger.(*store.Ledger).Check(t.Context())
	require.NoError(t, err)
	page, err := b.Resellers(t.Context(), credit.ResellerQuery{})
	require.NoError(t, err)
	require.Len(t, page.Items, 12)
	used := map[string]string{}
	for _, r := range page.Items {
		used[r.ExternalID] = r.Used.String()
	}
	return used, checked.Records
}

// july is a bill of four calls.
func july(t *testing.T) string {
	t.Helper()
	return strings.Join(strings.SplitAfterN(sampled(t, "bill-2026-07.csv"), "\n", 3_502)[:3_501], "")
}

func sampled(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	return string(text)
}

// fees adds up bills in whole hundredths of a millionth, with nothing of the
// program or of a decimal library.
func fees(t *testing.T, bills ...string) (used map[string]string, added, dust int64, below int) {
	t.Helper()
	sums := map[string]int64{} // millionths
	for _, bill := range bills {
		rows, err := csv.NewReader(strings.NewReader(bill)).ReadAll()
		require.NoError(t, err)
		for _, row := range rows[1:] {
			whole, fraction, _ := strings.Cut(row[7], ".")
			fee, err := strconv.ParseInt(whole+(fraction + "00000000")[:8], 10, 64)
			require.NoError(t, err)
			rounded, rest := fee/100, fee%100
			if rest > 50 || rest == 50 && rounded%2 == 1 {
				rounded++
			}
			sign := int64(1)
			if row[5] == "correction" {
				sign = -1
			}
			if rounded == 0 {
				below++
				dust += sign * fee
				continue
			}
			sums[row[2]] += sign * rounded
			added += sign * (rounded*100 - fee)
		}
	}
	used = map[string]string{}
	for number, sum := range sums {
		used[number] = decimal.New(sum, -6).String()
	}
	return used, added, dust, below
}

func TestWhatIsPostedIsTheSumOfTheRoundedFees(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	var bills []string
	p, err := begin(t.Context(), b, &b.report, &bytes.Buffer{})
	require.NoError(t, err)
	for _, name := range []string{"bill-2026-07.csv", "bill-2026-08.csv", "bill-2026-09.csv"} {
		bills = append(bills, sampled(t, name))
		require.NoError(t, p.bill(t.Context(), os.DirFS("testdata"), name))
	}
	want, added, dust, below := fees(t, bills...)
	got, _ := b.figures(t)
	require.Equal(t, want, got)
	require.Positive(t, below, "the sample has no fee below a millionth")
	require.Equal(t, []int{20_000 - below, 0, below, 0, 0}, []int{p.posted, p.already, p.below, p.changed, p.refused}, "a line is not accounted for")
	require.Equal(t, decimal.New(added, -8).String(), p.rounding.String(), "what rounding added")
	require.Equal(t, decimal.New(dust, -8).String(), p.dust.String(), "what is below a millionth")
	for _, a := range p.accounts {
		require.Equal(t, a.Available().Sub(a.used).Add(a.corrections).String(), a.after.Available().String(), "before, what was posted, and after do not go together")
	}
}

func TestALineIsPostedWithAllThatItSays(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	before := b.head(t).Sequence
	require.NoError(t, b.post(t, header+"2026-07,A.1,200000010007,100000422528,vm,usage,,1.00000050,2026-07-01T00:06:28.5+02:00\n"+
		"2026-08,2,200000010007,100000422528,vm,correction,2026-07/A.1,0.5,2026-08-01T00:00:00Z\n"))
	page, err := b.Records(t.Context(), credit.RecordQuery{After: before})
	require.NoError(t, err)
	require.Len(t, page.Items, 2)
	usage, correction := page.Items[0], page.Items[1]
	require.Equal(t, "usage 1 100000422528 bill/2026-07/A.1 2026-07 billing 2026-06-30T22:06:28.5Z",
		strings.Join([]string{string(usage.Kind), usage.Amount.String(), usage.Customer, usage.Key, usage.Reference, usage.Operator, usage.OccurredAt.Format(time.RFC3339Nano)}, " "))
	require.Equal(t, map[string]string{"product": "vm", "fee": "1.0000005"}, usage.Metadata)
	require.Equal(t, credit.KindCorrection, correction.Kind)
	require.Equal(t, "-0.5", correction.Amount.String())
	require.Equal(t, map[string]string{"product": "vm", "fee": "0.5", "corrects": "2026-07/A.1"}, correction.Metadata)
}

func TestALineThatChangedIsAConflictAndTheOthersGoOn(t *testing.T) {
	t.Parallel()
	correction := strings.Replace(good, "usage,", "correction,2026-06/7", 1)
	for _, c := range []struct{ name, posted, from, to, difference string }{
		{"another fee", good, "1.5", "1.6", `fee was "1.5" and is "1.6"`},
		{"a fee that rounds to the same", good, "1.5", "1.50000001", `fee was "1.5" and is "1.50000001"`},
		{"a fee that rounds to nothing now", good, "1.5", "0.0000001", `fee was "1.5" and is "0.0000001"`},
		{"no fee any more", good, "1.5", "0", `fee was "1.5" and is "0"`},
		{"another reseller", good, "200000010007", "200000020014", `reseller_uin was "200000010007" and is "200000020014"`},
		{"an unknown reseller", good, "200000010007", "299999999999", `reseller_uin was "200000010007" and is "299999999999"`},
		{"another customer", good, "100000422528", "100000422529", `customer_uin was "100000422528" and is "100000422529"`},
		{"another product", good, "vm", "gpu", `product was "vm" and is "gpu"`},
		{"another time", good, "06:28Z", "06:29Z", `occurred_at was "2026-07-01T00:06:28Z" and is "2026-07-01T00:06:29Z"`},
		{"usage became a correction", good, "usage,", "correction,2026-06/7", `type was "usage" and is "correction", corrects_line was "" and is "2026-06/7"`},
		{"a correction of something else", correction, "06/7", "06/8", `corrects_line was "2026-06/7" and is "2026-06/8"`},
		{"a correction of another fee", correction, "1.5", "1.4", `fee was "1.5" and is "1.4"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBook(t)
			require.NoError(t, b.post(t, header+c.posted+"\n"))
			head := b.head(t)
			err := b.post(t, header+strings.Replace(c.posted, c.from, c.to, 1)+"\n"+strings.Replace(good, ",1,", ",2,", 1)+"\n")
			require.ErrorIs(t, err, errLeftOut)
			require.Contains(t, b.report.String(), "bill.csv:2:1: changed since it was posted as record "+strconv.FormatInt(head.Sequence, 10)+": "+c.difference+"\n")
			require.Contains(t, b.report.String(), "\n2 lines: 1 posted, 0 posted already, 0 below a millionth, 1 changed, 0 refused\n")
			require.Equal(t, head.Sequence+1, b.head(t).Sequence)
		})
	}
}

func TestALineThatTheBillRepeatsIsPostedOnce(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	require.NoError(t, b.post(t, header+good+"\n"+good+"\n"))
	require.Contains(t, b.report.String(), "\n2 lines: 1 posted, 1 posted already, ")
}

func TestAFeeOfAnUnknownResellerOrBelowAMillionthIsToldAndWritesNothing(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	head := b.head(t)
	text := header + strings.Replace(good, "200000010007", "299999999999", 1) + "\n" +
		strings.NewReplacer(",1,", ",2,", "1.5", "0.0000005").Replace(good) + "\n" +
		strings.NewReplacer(",1,", ",3,", "200000010007", "299999999999", "1.5", "0").Replace(good) + "\n"
	require.ErrorIs(t, b.post(t, text), errLeftOut)
	require.Contains(t, b.report.String(), "bill.csv:2:1: refused: no reseller has the account number 299999999999\n")
	require.Contains(t, b.report.String(), "bill.csv:4:1: refused: no reseller has the account number 299999999999\n")
	require.Contains(t, b.report.String(), "\n3 lines: 0 posted, 0 posted already, 1 below a millionth, 0 changed, 2 refused\n")
	require.Contains(t, b.report.String(), "they come to 0.0000005\n")
	require.Equal(t, head, b.head(t))
}

func TestAFeeThatTheLedgerRefusesIsToldAndTheOthersGoOn(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	require.ErrorIs(t, b.post(t, header+strings.Replace(good, "1.5", "999999999999.9999999", 1)+"\n"+strings.Replace(good, ",1,", ",2,", 1)+"\n"), errLeftOut)
	require.Contains(t, b.report.String(), "bill.csv:2:1: refused: credit: amount: has more than 12 digits before")
	require.Contains(t, b.report.String(), "\n2 lines: 1 posted, ")
}

func TestAClosedResellersLateFeesArePosted(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	page, err := b.Resellers(t.Context(), credit.ResellerQuery{})
	require.NoError(t, err)
	for _, r := range page.Items {
		if r.ExternalID == "200000010007" {
			_, err := b.RepossessAll(t.Context(), credit.RepossessAll{ResellerID: r.ID})
			require.NoError(t, err)
			_, err = b.CloseReseller(t.Context(), credit.Close{ResellerID: r.ID})
			require.NoError(t, err)
		}
	}
	require.NoError(t, b.post(t, header+good+"\n"))
	require.Contains(t, b.report.String(), "warning: Altocumulus Ltd: overdrawn: -1.5 of 0 available\n")
}

func TestEveryResellerIsFoundHoweverManyThereAre(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	for i := range credit.DefaultPageSize { // those bound last are listed first
		number := strconv.Itoa(300_000_000_000 + i)
		_, err := b.AddReseller(t.Context(), credit.NewReseller{ExternalID: number, Name: number})
		require.NoError(t, err)
	}
	require.NoError(t, b.post(t, header+good+"\n"), b.report)
}

func TestAnInterruptedRunIsCompletedByTheNext(t *testing.T) {
	t.Parallel()
	whole := newBook(t)
	text := july(t)
	require.NoError(t, whole.post(t, text))
	want, records := whole.figures(t)

	for _, fault := range []storetest.Fault{storetest.NoFault, storetest.LostBefore, storetest.LostAfter, storetest.Late} {
		t.Run(fault.String(), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			opened, appends := false, 0
			s := storetest.NewFaulty(memstore.New(), func(c storetest.FaultyCall) storetest.Fault {
				if !opened || c.Method != "Append" {
					return storetest.NoFault
				}
				if appends++; appends == 3 {
					cancel()
					return fault
				}
				return storetest.NoFault
			})
			b := bookOn(t, s)
			opened = true
			files := fstest.MapFS{"bill.csv": {Data: []byte(text)}}
			err := post(ctx, b, &b.report, &bytes.Buffer{}, files, "bill.csv")
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorContains(t, err, "post it again")
			require.Regexp(t, `\n[23]000 lines: `, b.report.String(), "there is no summary of what was done")
			_, soFar := b.figures(t)
			require.Less(t, soFar, records, "it was not interrupted")

			require.NoError(t, b.post(t, text))
			got, gotRecords := b.figures(t)
			require.Equal(t, want, got)
			require.Equal(t, records, gotRecords, "a line was lost or posted twice")
		})
	}
}

// losing counts the bulk calls, and the answers that the ledger itself could not
// find out about.
type losing struct {
	credit.Ledger
	calls, unknown int
}

func (l *losing) Bulk(ctx context.Context, commands []credit.Command, o credit.BulkOptions) ([]credit.Outcome, error) {
	outcomes, err := l.Ledger.Bulk(ctx, commands, o)
	l.calls++
	if errors.Is(err, credit.ErrOutcomeUnknown) {
		l.unknown++
	}
	return outcomes, err
}

func TestLostAnswersPostNothingTwiceAndAreCountedAsPosted(t *testing.T) {
	t.Parallel()
	text := july(t)
	want, _, _, below := fees(t, text)
	for _, fault := range []storetest.Fault{storetest.LostBefore, storetest.LostAfter, storetest.Late, storetest.PanicAfter} {
		t.Run(fault.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var dark time.Time // the store cannot be read before
				opened, appends := false, 0
				s := storetest.NewFaulty(memstore.New(), func(c storetest.FaultyCall) storetest.Fault {
					if !opened {
						return storetest.NoFault
					}
					if c.Method == "Append" {
						if appends++; appends == 2 || appends == 4 {
							dark = time.Now().Add(10500 * time.Millisecond)
							return fault
						}
					}
					if time.Now().Before(dark) {
						return storetest.Temporary
					}
					return storetest.NoFault
				})
				b := bookOn(t, s)
				opened = true
				counted := &losing{Ledger: b.Ledger}
				b.Ledger = counted
				before := b.head(t).Sequence
				require.NoError(t, b.post(t, text), "%s", fault)
				require.Positive(t, counted.unknown, "no answer was lost")
				got, _ := b.figures(t)
				require.Equal(t, want, got)
				count := strconv.Itoa(strings.Count(text, "\n") - 1 - below)
				require.Contains(t, b.report.String(), ": "+count+" posted, 0 posted already, ")
				require.Equal(t, count, strconv.FormatInt(b.head(t).Sequence-before, 10))
			})
		})
	}
}

func TestAStoreThatStaysAwayEndsTheRunAfterFiveTries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		away := false
		s := storetest.NewFaulty(memstore.New(), func(c storetest.FaultyCall) storetest.Fault {
			if away && c.Method == "Append" {
				return storetest.Temporary
			}
			return storetest.NoFault
		})
		b := bookOn(t, s)
		away = true
		counted := &losing{Ledger: b.Ledger}
		b.Ledger = counted
		err := b.post(t, header+good+"\n")
		require.True(t, store.Retryable(err), "%v", err)
		require.ErrorContains(t, err, "post it again")
		require.Equal(t, 5, counted.calls)
		away = false
		require.NoError(t, b.post(t, header+good+"\n"))
		require.Contains(t, b.report.String(), "\n1 lines: 1 posted, ")
	})
}
