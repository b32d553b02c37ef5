package storetest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

var valueClauses = []clause{
	{"a ledger without records", func(h Harness, t *testing.T) {
		s := h.Open(t)
		b := newBook(t, s, h.source(t))
		b.requireStored(t, s, "an empty ledger has sequence 0, the genesis hash, no time and a pool of zero")
	}},
	{"every kind of record", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		id := b.reseller(0)
		for _, c := range everyCommand(id) {
			b.write(t, s, c)
		}
		b.requireStored(t, s, "records of every kind")
		for _, k := range credit.Kinds() {
			require.True(t, slices.ContainsFunc(b.records, func(r credit.Record) bool { return r.Kind == k }), "the test writes a %s", k)
		}
	}},
	{"amounts at their limits", func(h Harness, t *testing.T) {
		const most = 1_000_000_000_000_000_000 - 1 // millionths
		s := h.Open(t)
		b := newBook(t, s, h.source(t))
		full := credit.FromMillionths(most)
		for i := range 2 {
			b.write(t, s, credit.NewReseller{ExternalID: fmt.Sprintf("UIN-%d", i), Name: "N"})
		}
		over, under := b.reseller(0), b.reseller(1)
		b.write(t, s, credit.Grant{Amount: full})
		b.write(t, s, credit.Allocation{ResellerID: over, Amount: full})
		b.write(t, s, credit.Usage{ResellerID: over, Amount: full})
		b.write(t, s, credit.Correction{ResellerID: under, Amount: full})
		b.requireStored(t, s, "granted, allocated and used of 999999999999.999999, and used of -999999999999.999999")
		b.write(t, s, credit.Settlement{ResellerID: over, Amount: full})
		b.write(t, s, credit.RepossessAll{ResellerID: over})
		b.write(t, s, credit.Withdrawal{Amount: full})
		b.requireStored(t, s, "amounts of -999999999999.999999 and figures of zero")
	}},
	{"amounts that a binary fraction or 15 digits cannot hold", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		id := b.reseller(0)
		for _, v := range []int64{1, 10, 100_000, 300_000, 333_333, 1_000_001, 9_007_199_254_740_993, 123_456_789_012_345_679, 99_999_999_999_999_999} {
			b.write(t, s, credit.Grant{Amount: credit.FromMillionths(v)}, credit.Usage{ResellerID: id, Amount: credit.FromMillionths(v)})
		}
		b.requireStored(t, s, "exact amounts")
	}},
	{"negative used and negative available", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		b.write(t, s, credit.Correction{ResellerID: b.reseller(0), Amount: credit.FromMillionths(1)})
		b.write(t, s, credit.Usage{ResellerID: b.reseller(1), Amount: credit.FromMillionths(100_000_001)})
		require.True(t, b.resellers[b.reseller(0)].Used.IsNegative())
		require.True(t, b.resellers[b.reseller(1)].Available().IsNegative())
		b.requireStored(t, s, "a used of -0.000001 and an available of -0.000001")
	}},
	{"times from year 1 to 9999, in microseconds", func(h Harness, t *testing.T) {
		s := h.Open(t)
		b := newBook(t, s, h.source(t))
		// The ledger's own clock goes from before 1970 to the end.
		b.now = time.Date(1901, 12, 13, 20, 45, 51, 999999000, time.UTC)
		zone := time.FixedZone("west", -(3*60+30)*60)
		for i, at := range []time.Time{
			time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC),
			time.Date(999, 12, 31, 23, 59, 59, 999999000, time.UTC),
			time.Date(1582, 10, 10, 0, 0, 0, 0, time.UTC),
			time.Date(1969, 12, 31, 23, 59, 59, 999999000, time.UTC),
			time.Unix(0, 0),
			time.Date(2024, 3, 31, 2, 30, 0, 123456789, zone),
			time.Date(2038, 1, 19, 3, 14, 8, 1000, time.UTC),
			time.Date(2262, 4, 12, 0, 0, 0, 0, time.UTC),
			time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC),
		} {
			if b.now.Before(at) {
				b.now = at.UTC().Truncate(time.Microsecond)
			}
			b.write(t, s, credit.NewReseller{ExternalID: fmt.Sprintf("UIN-%d", i), Name: "N", BoundAt: at, OccurredAt: at})
			b.write(t, s, credit.Grant{Amount: units(1)})
		}
		b.requireStored(t, s, "occurred-at, recorded-at and bound-at")
	}},
	{"every text at its full length, in characters of four bytes", func(h Harness, t *testing.T) {
		s := h.Open(t)
		b := newBook(t, s, h.source(t))
		for _, c := range []string{"n", "ä", "€", "𝄞", "\U0010FFFF"} {
			b.fill(t, s, func(most int) string { return strings.Repeat(c, most/len(c)) + strings.Repeat("z", most%len(c)) })
		}
		b.requireStored(t, s, "texts of the maximal length")
	}},
	{"text of every sort", func(h Harness, t *testing.T) {
		s := h.Open(t)
		b := newBook(t, s, h.source(t))
		for i, text := range oddTexts {
			b.fill(t, s, func(most int) string {
				// Different in each field, so that none can be taken for another, and
				// in each round, because an external id is unique.
				return fmt.Sprintf("%s%d/%d", text, i, most)
			})
		}
		b.requireStored(t, s, "texts with quotes, control characters, blanks and such")
	}},
	{"metadata round trip", func(h Harness, t *testing.T) {
		s := h.Open(t)
		b := newBook(t, s, h.source(t))
		odd := map[string]string{"a": "", "A": "1", "a ": " ", " a": "\t", "ä": "a\u0308", "a\u0308": "ä", "%": "_", "\\": `\"`, "'": "''", "<>&": "</script>",
			"\u2028": "\u2029", "null": "null", "0": "1e999", "{}": "[]", "日本": "語", "\x01": "\x1f\x7f"}
		full := map[string]string{}
		for i := range credit.MaxMetadata {
			full[strings.Repeat("k", credit.MaxMetadataKey-2)+fmt.Sprintf("%02d", i)] = strings.Repeat("𝄞", credit.MaxMetadataValue/4)
		}
		for _, m := range []map[string]string{odd, full, {"one": "pair"}, {}, nil} {
			b.write(t, s, credit.Grant{Amount: units(1), Metadata: m, Key: fmt.Sprintf("m-%d", len(b.records))}, credit.Grant{Amount: units(1), Metadata: m})
		}
		b.requireStored(t, s, "metadata")
	}},
	{"nil for what is empty", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		batch := b.draft(credit.Grant{Amount: units(1), Key: "empty"}, credit.ProfileUpdate{ResellerID: b.reseller(0), Name: new("Reseller 0")})
		b.enter(copyOf(batch))
		for i := range batch.Records {
			require.Nil(t, b.records[len(b.records)-2+i].Changed)
			batch.Records[i].Metadata, batch.Records[i].Changed = map[string]string{}, []string{}
		}
		expected := b.head
		expected.Sequence -= 2
		expected.Hash = b.records[expected.Sequence-1].Hash
		require.NoError(t, s.Append(t.Context(), b.distributor.ID, expected, batch))
		b.requireStored(t, s, "empty metadata and no changed names are read as nil")
	}},
	{"the largest numbers", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		b.write(t, s, credit.ProfileUpdate{ResellerID: b.reseller(0), Customers: new(credit.MaxCustomers)})
		b.write(t, s, credit.Grant{Amount: units(1), Corrects: b.head.Sequence})
		b.requireStored(t, s, "a billion customers, and the sequence that a record corrects")
	}},
}

// oddTexts are what a careless store or driver changes.
var oddTexts = []string{
	"'; DROP TABLE records; --", `"`, "`", `\`, `\\`, `\n`, "\n", "\r\n", "\t", "\x01", "\x1b[0m", "\x7f", "\u0085", "\u00a0", " leading and trailing ", "%", "_", "%s", "$1", "?", ":name",
	"@p1", "{{.}}", "NULL", "null", "true", "0x41", "1e3", "é", "e\u0301", "ß", "\u202e", "\u200d", "\ufeff", "\ufffd", "\uffff", "🏳️‍🌈", "👩‍👩‍👧‍👦", "日本語", "עברית", "العربية", "𠜎",
}

// fill writes a new reseller, and records with text in every field.
func (b *book) fill(t *testing.T, s store.Store, text func(most int) string) {
	t.Helper()
	added := b.write(t, s, credit.NewReseller{ExternalID: text(credit.MaxExternalID), Name: text(credit.MaxName), Email: text(credit.MaxEmail),
		Mobile: text(credit.MaxMobile), ResellerRemark: text(credit.MaxRemark)})
	id := added[0].ResellerID
	b.write(t, s, credit.Usage{ResellerID: id, Amount: units(1), Customer: text(credit.MaxCustomer), Operator: text(credit.MaxOperator),
		Remark: text(credit.MaxRemark), Key: text(credit.MaxKey), Reference: text(credit.MaxReference),
		Metadata: map[string]string{text(credit.MaxMetadataKey): text(credit.MaxMetadataValue)}})
	b.write(t, s, credit.ProfileUpdate{ResellerID: id, Name: new(text(credit.MaxName - 4)), Email: new(""), Mobile: new(text(credit.MaxMobile - 4))})
}

// everyCommand is one of every kind, in an order in which all are accepted.
func everyCommand(id uuid.UUID) []credit.Command {
	meta := map[string]string{"shop": "17", "note": "first\nsecond"}
	at := time.Date(2023, 2, 28, 23, 59, 59, 999999000, time.UTC)
	return []credit.Command{
		credit.Grant{Amount: units(500), Operator: "o", Remark: "r", Key: "every-1", Reference: "f", Corrects: 1, Metadata: meta, OccurredAt: at},
		credit.Withdrawal{Amount: units(1), Operator: "o", Remark: "r", Key: "every-2", Reference: "f", Corrects: 2, Metadata: meta, OccurredAt: at},
		credit.Allocation{ResellerID: id, Amount: units(50), Operator: "o", Remark: "r", Key: "every-3", Reference: "f", Corrects: 3, Metadata: meta, OccurredAt: at},
		credit.Repossession{ResellerID: id, Amount: units(20), Operator: "o", Remark: "r", Key: "every-4", Reference: "f", Corrects: 4, Metadata: meta, OccurredAt: at},
		credit.Usage{ResellerID: id, Amount: units(30), Customer: "c", Operator: "o", Remark: "r", Key: "every-5", Reference: "f", Corrects: 5, Metadata: meta, OccurredAt: at},
		credit.Correction{ResellerID: id, Amount: units(3), Customer: "c", Operator: "o", Remark: "r", Key: "every-6", Reference: "f", Corrects: 6, Metadata: meta, OccurredAt: at},
		credit.Settlement{ResellerID: id, Amount: units(5), Operator: "o", Remark: "r", Key: "every-7", Reference: "f", Corrects: 7, Metadata: meta, OccurredAt: at},
		credit.NewReseller{ExternalID: "every", Name: "n", Email: "e", Mobile: "m", ResellerRemark: "rr", Customers: 3, BoundAt: at, Operator: "o", Remark: "r", Key: "every-8", Reference: "f", Metadata: meta, OccurredAt: at},
		credit.ProfileUpdate{ResellerID: id, Name: new("n2"), Email: new("e2"), Mobile: new("m2"), ResellerRemark: new("r2"), Customers: new(9), Operator: "o", Remark: "r", Key: "every-9", Reference: "f", Metadata: meta, OccurredAt: at},
		credit.Freeze{ResellerID: id, Operator: "o", Remark: "r", Key: "every-10", Reference: "f", Metadata: meta, OccurredAt: at},
		credit.Unfreeze{ResellerID: id, Operator: "o", Remark: "r", Key: "every-11", Reference: "f", Metadata: meta, OccurredAt: at},
		credit.RepossessAll{ResellerID: id, Operator: "o", Remark: "r", Key: "every-12", Reference: "f", Metadata: meta, OccurredAt: at},
		credit.Close{ResellerID: id, Operator: "o", Remark: "r", Key: "every-13", Reference: "f", Metadata: meta, OccurredAt: at},
	}
}

// distinct are texts that are all different byte by byte, and that one or another
// collation takes for equal.
var distinct = []string{
	"PO-1", "po-1", "Po-1", "po-1 ", " po-1", "po-1  ", "po-1\t", "po-1\n", "po\u20111", "po\u00ad-1", "po-1\u200b", "\ufeffpo-1", "po-1\u0301",
	"ä", "a\u0308", "a", "A", "Ä", "á", "å", "ａ", "ª", "Å", "\u212b", "ss", "ß", "ẞ", "SS", "ſs", "i", "I", "ı", "İ", "K", "\u212a", "ﬁ", "fi",
	"%", "_", "%%", "__", "?", "*", `\`, `\\`, `\%`, "'", "''", `"`, "1", "01", "1.0", "1e0", "+1", "１", "①", "½", "null", "NULL", "0", "00", "-0", "false", "日", "日本", "👍", "👍🏽", "\u200d", "\x01",
}

var byteClauses = []clause{
	{"keys", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		keys := append(slices.Clone(distinct), strings.Repeat("k", credit.MaxKey), strings.Repeat("k", credit.MaxKey-1), strings.Repeat("k", credit.MaxKey-1)+"K")
		for i, key := range keys {
			if i%2 == 0 {
				b.requireKeyFree(t, s, key)
				b.write(t, s, credit.Grant{Amount: units(int64(1 + i)), Key: key})
			}
		}
		for i, key := range keys {
			if i%2 == 1 {
				b.requireKeyFree(t, s, key)
				b.write(t, s, credit.Grant{Amount: units(int64(1 + i)), Key: key}, credit.Usage{ResellerID: b.reseller(0), Amount: units(1)})
			}
		}
		for _, key := range keys {
			found, err := s.Load(t.Context(), b.distributor.ID, credit.ReadSet{Keys: []string{key}})
			require.NoError(t, err)
			require.Len(t, found.Records, 1, "the key %q leads to its own record only", key)
			requireSame(t, b.records[b.keys[key]-1], found.Records[0], "the record of key %q", key)
		}
		b.requireStored(t, s, "keys that differ in one byte")
	}},
	{"external ids", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		ids := append(slices.Clone(distinct), strings.Repeat("k", credit.MaxExternalID), strings.Repeat("k", credit.MaxExternalID-1), strings.Repeat("k", credit.MaxExternalID-1)+"K")
		var batch []credit.Command
		for i, id := range ids {
			found, err := s.Load(t.Context(), b.distributor.ID, credit.ReadSet{ExternalIDs: []string{id}})
			require.NoError(t, err)
			require.Empty(t, found.Resellers, "the external id %q is not another's", id)
			c := credit.NewReseller{ExternalID: id, Name: fmt.Sprint(i)}
			if i < len(ids)/2 {
				b.write(t, s, c)
			} else {
				batch = append(batch, c)
			}
		}
		b.write(t, s, batch...)
		for _, id := range ids {
			found, err := s.Load(t.Context(), b.distributor.ID, credit.ReadSet{ExternalIDs: []string{id}})
			require.NoError(t, err)
			require.Len(t, found.Resellers, 1, "the external id %q leads to its own reseller only", id)
			requireSame(t, b.resellers[b.externals[id]], found.Resellers[0], "the reseller of external id %q", id)
		}
		b.requireStored(t, s, "external ids that differ in one byte")
	}},
	{"customers and other text are no keys", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		for _, text := range []string{"same", "Same", "same "} {
			b.write(t, s, credit.Usage{ResellerID: b.reseller(0), Amount: units(1), Customer: text, Reference: "same", Operator: "same", Remark: "same"})
		}
		b.requireStored(t, s, "references, operators and customers may repeat")
	}},
}

func (b *book) requireKeyFree(t *testing.T, s store.Store, key string) {
	t.Helper()
	found, err := s.Load(t.Context(), b.distributor.ID, credit.ReadSet{Keys: []string{key}})
	require.NoError(t, err)
	require.Empty(t, found.Records, "the key %q is free", key)
}

var ownershipClauses = []clause{
	{"a batch that was handed over is the caller's again", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		batch := b.draft(credit.Usage{ResellerID: b.reseller(0), Amount: units(1), Key: "k", Metadata: map[string]string{"a": "b"}},
			credit.ProfileUpdate{ResellerID: b.reseller(1), Name: new("New name"), Email: new("new@example.com")},
			credit.NewReseller{ExternalID: "new", Name: "New"})
		expected := b.head
		b.enter(copyOf(batch))
		require.NoError(t, s.Append(t.Context(), b.distributor.ID, expected, batch))
		batch.Records[0].Metadata["a"], batch.Records[0].Metadata["c"] = "changed", "added"
		batch.Records[1].Changed[0] = "changed"
		for i := range batch.Records {
			batch.Records[i].Remark, batch.Records[i].Amount, batch.Records[i].Key = "changed", units(99), "changed"
		}
		for _, some := range [][]credit.Reseller{batch.Added, batch.Changed} {
			for i := range some {
				some[i].Name, some[i].Allocated, some[i].ExternalID, some[i].ID = "changed", units(99), "changed", uuid.Nil
			}
		}
		batch.Moved[0] = store.Balance{}
		b.requireStored(t, s, "what the caller did to its batch afterwards changed nothing")
	}},
	{"a batch that was handed over is not changed", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		batch := b.draft(credit.Usage{ResellerID: b.reseller(0), Amount: units(1), Key: "k", Metadata: map[string]string{"a": "b"}},
			credit.ProfileUpdate{ResellerID: b.reseller(1), Name: new("New name")}, credit.NewReseller{ExternalID: "new", Name: "New"})
		kept := copyOf(batch)
		require.NoError(t, s.Append(t.Context(), b.distributor.ID, b.head, batch))
		requireSame(t, kept, batch, "the batch after Append")
	}},
	{"a read set and a query that were handed over are not changed", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		asked := credit.ReadSet{Resellers: []uuid.UUID{b.reseller(2), b.reseller(0), random(b.rng)}, ExternalIDs: []string{"UIN-2", "none", "UIN-1"}, Keys: []string{"start", "none", "add-1"}}
		kept := credit.ReadSet{Resellers: slices.Clone(asked.Resellers), ExternalIDs: slices.Clone(asked.ExternalIDs), Keys: slices.Clone(asked.Keys)}
		_, err := s.Load(t.Context(), b.distributor.ID, asked)
		require.NoError(t, err)
		requireSame(t, kept, asked, "the read set after Load")
		records := credit.RecordQuery{Kinds: []credit.Kind{credit.KindAdd, credit.KindAllocate}, Limit: 10}
		_, err = s.Records(t.Context(), b.distributor.ID, records)
		require.NoError(t, err)
		require.Equal(t, []credit.Kind{credit.KindAdd, credit.KindAllocate}, records.Kinds)
		resellers := credit.ResellerQuery{Statuses: everyStatus(), Order: credit.OrderNewest, Limit: 10}
		_, err = s.Resellers(t.Context(), b.distributor.ID, resellers, store.ResellerPosition{})
		require.NoError(t, err)
		require.Equal(t, everyStatus(), resellers.Statuses)
		filtered := credit.ResellerQuery{Statuses: []credit.Status{credit.StatusFrozen, credit.StatusActive}, Name: "Res", MinAvailable: new(units(-5)), MaxAvailable: new(units(5)), Low: threshold("25%"), Order: credit.OrderName, Limit: 10}
		keptQuery := show(filtered)
		_, err = s.Resellers(t.Context(), b.distributor.ID, filtered, store.ResellerPosition{})
		require.NoError(t, err)
		_, err = s.CountResellers(t.Context(), b.distributor.ID, filtered)
		require.NoError(t, err)
		require.Equal(t, keptQuery, show(filtered), "the query after Resellers and CountResellers")
		ids, kinds := slices.Clone(kept.Resellers), []credit.Kind{credit.KindUsage, credit.KindAdd, credit.KindAllocate}
		slices.SortFunc(ids, func(x, y uuid.UUID) int { return bytes.Compare(y[:], x[:]) })
		asked.Resellers = slices.Clone(ids)
		_, err = s.Latest(t.Context(), b.distributor.ID, ids, kinds, b.head.Sequence)
		require.NoError(t, err)
		require.Equal(t, asked.Resellers, ids, "the resellers after Latest")
		require.Equal(t, []credit.Kind{credit.KindUsage, credit.KindAdd, credit.KindAllocate}, kinds, "the kinds after Latest")
	}},
	{"what was returned is the caller's", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		b.write(t, s, credit.Usage{ResellerID: b.reseller(0), Amount: units(1), Key: "k", Metadata: map[string]string{"a": "b"}})
		b.write(t, s, credit.ProfileUpdate{ResellerID: b.reseller(1), Name: new("New name"), Key: "u", Metadata: map[string]string{"a": "b"}})
		for range 2 {
			found, err := s.Load(t.Context(), b.distributor.ID, credit.ReadSet{Resellers: slices.Collect(maps.Keys(b.resellers)), Keys: []string{"k", "u"}})
			require.NoError(t, err)
			log, err := s.Records(t.Context(), b.distributor.ID, credit.RecordQuery{Limit: credit.MaxPageSize})
			require.NoError(t, err)
			latest, err := s.Latest(t.Context(), b.distributor.ID, slices.Collect(maps.Keys(b.resellers)), nil, b.head.Sequence)
			require.NoError(t, err)
			for _, records := range [][]credit.Record{found.Records, log, latest} {
				for i := range records {
					if records[i].Metadata != nil {
						records[i].Metadata["a"] = "changed"
						clear(records[i].Metadata)
					}
					for j := range records[i].Changed {
						records[i].Changed[j] = "changed"
					}
					records[i].Remark = "changed"
				}
			}
			listed, err := s.Resellers(t.Context(), b.distributor.ID, credit.ResellerQuery{Statuses: everyStatus(), Order: credit.OrderNewest, Limit: credit.MaxPageSize}, store.ResellerPosition{})
			require.NoError(t, err)
			for _, resellers := range [][]credit.Reseller{found.Resellers, listed} {
				for i := range resellers {
					resellers[i].Name, resellers[i].Status = "changed", credit.StatusClosed
				}
				slices.Reverse(resellers)
			}
			b.requireStored(t, s, "what the caller did to what it got changed nothing")
		}
	}},
}
