package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// hostileTexts end a literal, a statement or a comment, open one, or stand for
// something, in one or another language that a store may write text into.
var hostileTexts = []string{
	`'`, `''`, `\'`, `\''`, `'''`, `"`, `\"`, `""`, "`", "``", `\`, `\\`, `\\'`, `a\`, `'\`, `\0`, `\Z`, `\x27`, `\u0027`, `\047`, `%27`, "&#39;", "'||'", "' || ''", "'+'", `'"'"'`,
	"' OR '1'='1", "' OR 1=1 --", "' OR 1=1 #", "' OR 1=1 /*", `" OR ""="`, `\' OR 1=1 -- `, "') OR ('1'='1", "1 OR 1=1", "' UNION SELECT id FROM ledgers --", "'; DROP TABLE credit_records; --",
	`\'; DELETE FROM credit_records; -- `, "'); DELETE FROM credit_ledgers; COMMIT; --", "'; ROLLBACK; --", "x' AND sleep(10) AND '", "'||pg_sleep(10)||'",
	"--", "-- ", "#", "/*", "*/", "/*! SELECT 1 */", "/*M! BEGIN NOT ATOMIC */", ";", ";;", "\n--\n", "\r", "\x1a", "\b", "\x1b'",
	"%", "_", "%%", "%_%", `\%`, `\_`, "[a-z]", "*", "?", "??", "?1", "$1", "$2::text", "$$", "$x$", "$$'$$", ":name", "::text", ":1", "@p1", "@@version", "@x:=1", "&x", "^", "~", "{}", "{{prefix}}", "{{.}}", "${x}", "%s%n", "%!s(", "{a,b}", `{"a","b"}`, `{"a":1}`, "[]", "(1,2)", "NULL", `\N`, "DEFAULT", "current_user",
	"E'\\''", "N'x'", "_gbk'x'", "x'27'", "0x27", "U&'\\0027'",
	// What one character of another encoding makes of the byte that ends a literal or escapes it.
	"\u00bf'", "\u00bf\\'", "\u7e17'", "\u8868'", "\u30bd\\", "\u02bc", "\uff07", "\u2019 OR 1=1", "\u0160'", "\u012f\u0027", "\u0161\\",
}

var hostileClauses = []clause{
	{"hostile text in every field", func(h Harness, t *testing.T) {
		s, other := h.started(t)
		b := newBook(t, s, other.rng)
		for i, text := range hostileTexts {
			b.fill(t, s, func(most int) string {
				return fmt.Sprintf("%s%d/%d", text, i, most) // different in each field and round
			})
		}
		for i, text := range hostileTexts {
			b.fill(t, s, func(most int) string {
				return fmt.Sprintf("%d/%d%s", i, most, text) // which the hostile part ends
			})
		}
		b.requireStored(t, s, "hostile texts come back to the byte")
		other.requireStored(t, s, "another ledger beside hostile texts")
	}},
	{"hostile text in every filter", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		for i, text := range hostileTexts {
			added := b.write(t, s, credit.NewReseller{ExternalID: text, Name: text, Email: text, Mobile: text, ResellerRemark: text, BoundAt: time.UnixMicro(int64(i)).UTC()})
			b.write(t, s, credit.Usage{ResellerID: added[0].ResellerID, Amount: units(1), Key: text, Operator: text, Reference: text, Customer: text})
		}
		for _, text := range hostileTexts {
			found, err := s.Load(t.Context(), b.distributor.ID, credit.ReadSet{ExternalIDs: []string{text}, Keys: []string{text}})
			require.NoError(t, err, "load %q", text)
			require.Len(t, found.Resellers, 1, "the external id %q leads to one reseller", text)
			requireSame(t, b.resellers[b.externals[text]], found.Resellers[0], "the reseller of external id %q", text)
			require.Len(t, found.Records, 1, "the key %q leads to one record", text)
			requireSame(t, b.records[b.keys[text]-1], found.Records[0], "the record of key %q", text)
			for _, q := range []credit.RecordQuery{{Key: text}, {Operator: text}, {Reference: text}, {Customer: text}} {
				q.Limit = 10
				b.requireRead(t, s, q)
			}
			for _, q := range []credit.ResellerQuery{{Name: text}, {Mobile: text}, {Remark: text}, {Email: text}, {ExternalID: text}} {
				q.Statuses, q.Limit, q.Order = everyStatus(), credit.MaxPageSize, credit.OrderOldest
				b.requireListing(t, s, q, fmt.Sprintf("filtered by %q", text))
				b.requireCount(t, s, q, fmt.Sprintf("filtered by %q", text))
			}
			// A position comes out of a cursor, which somebody may have made up.
			q := credit.ResellerQuery{Statuses: everyStatus(), Limit: 5, Order: credit.OrderName}
			b.requireAfter(t, s, q, store.ResellerPosition{Name: credit.Fold(text), ID: b.externals[text]})
		}
		b.requireStored(t, s, "after hostile filters")
	}},
	{"hostile names of ledgers", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		for _, text := range hostileTexts {
			d := credit.Distributor{ID: random(b.rng), Name: text, Currency: "CHF"}
			for range 2 {
				got, err := s.Create(t.Context(), d)
				require.NoError(t, err, "name %q", text)
				require.Equal(t, d, got)
			}
		}
		b.requireStored(t, s, "beside ledgers with hostile names")
	}},
	{"hostile kinds, statuses, orders and currencies are refused or harmless", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		for _, text := range hostileTexts {
			// The engine hands on none of these. Whatever a store answers, it must be as before.
			_, _ = s.Records(t.Context(), b.distributor.ID, credit.RecordQuery{Kinds: []credit.Kind{credit.Kind(text)}, Limit: 10})
			_, _ = s.Latest(t.Context(), b.distributor.ID, []uuid.UUID{b.reseller(0)}, []credit.Kind{credit.Kind(text)}, b.head.Sequence)
			_, _ = s.Resellers(t.Context(), b.distributor.ID, credit.ResellerQuery{Statuses: []credit.Status{credit.Status(text)}, Order: credit.OrderName, Limit: 10}, store.ResellerPosition{})
			_, _ = s.Resellers(t.Context(), b.distributor.ID, credit.ResellerQuery{Statuses: everyStatus(), Order: credit.Order(text), Limit: 10}, store.ResellerPosition{})
		}
		b.requireStored(t, s, "after hostile words in place of known ones")
	}},
}
