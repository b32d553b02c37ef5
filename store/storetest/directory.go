package storetest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

const mostMillionths = 1_000_000_000_000_000_000 - 1

// What the resellers of a directory are called: names that differ in case only,
// share their beginning, or hold what a pattern, a quote or a collation would
// take for something else.
var (
	directoryNames = []string{
		"Nimbus", "nimbus", "NIMBUS", "Nimbus Ltd", "Nimbus LTD.", "Nim", "nimbus\t", "Nimbus  Ltd", "100% Cloud", "100 Cloud", "a_b", "axb", "A_B", `a\b`, `a\\b`, `a\_b`, "ab",
		"O'Neil", "O''Neil", `"quoted"`, "`tick`", "[bracket]", "{brace}", "^a", "%", "_", `\`, "'; --", "*", "?",
		"äöü GmbH", "ÄÖÜ GMBH", "aou gmbh", "a\u0308o\u0308u\u0308 gmbh", "Straße", "STRASSE", "STRAẞE", "strasse",
		"İstanbul", "istanbul", "Istanbul", "ıstanbul", "i\u0307stanbul", "Kelvin", "\u212aelvin", "kelvin", "ſharp", "Sharp", "Σίσυφος", "ΣΊΣΥΦΟΣ", "σίσυφοσ",
		"🏳️‍🌈 Cloud", "🏳 Cloud", "👩‍👩‍👧‍👦", "日本語", "日本", "ǅ", "Ǆ", "ǆ", "\u00a0", "  ", "\ufffd", "\uffee", "\ue000", "\U00010400", "\U00010428", "\U0010FFFF", "Z", "z", "a", "A", "é", "e\u0301", "E",
		strings.Repeat("x", credit.MaxName), strings.Repeat("x", credit.MaxName-1) + "X", strings.Repeat("Ä", credit.MaxName/2), strings.Repeat("𝄞", credit.MaxName/4),
	}
	directoryMobiles = []string{"", "", "+49 30 1234", "+49 30 1235", "0049301234", "%", "1_2", `1\2`, "ext. A", "EXT. a", strings.Repeat("9", credit.MaxMobile)}
	directoryRemarks = []string{"", "", "VIP", "vip 100%", "line one\nline two", "it's", `\%`, "Größe ß", "GRÖẞE", strings.Repeat("ß", credit.MaxRemark/2), "🏳️‍🌈"}
	directoryEmails  = []string{"", "ops@example.com", "Ops@example.com", "ops@example.com ", "o'neil@example.com", "öps@example.com", "OPS@EXAMPLE.COM", "%@example.com"}
)

// directoryFigures are allocated and used in millionths, at and next to the levels
// that are asked for, where a binary fraction or 64 bits no longer hold them.
var directoryFigures = [][2]int64{
	{0, 0}, {0, 1}, {0, -1}, {100_000_000, 0}, {100_000_000, 75_000_000}, {100_000_000, 74_999_999}, {100_000_000, 75_000_001}, {100_000_000, 100_000_000}, {100_000_000, 100_000_001},
	{300_000_000, 200_000_001}, {300_000_000, 200_000_000}, {3, 2}, {3, 1}, {1, 0}, {7, 3},
	{mostMillionths, 0}, {mostMillionths, mostMillionths}, {mostMillionths, mostMillionths - 1}, {mostMillionths, -mostMillionths}, {0, mostMillionths}, {0, -mostMillionths},
	{mostMillionths, 750_000_000_000_000_000}, {mostMillionths, 749_999_999_999_999_999}, {mostMillionths, 666_666_669_999_999_999}, {mostMillionths, 666_666_670_000_000_000},
	{9_007_199_254_740_993, 1}, {9_007_199_254_740_993, 0}, {9_007_199_254_740_992, 0},
}

// directoryLows are thresholds, many of them exactly at some of the figures.
var directoryLows = []string{"0%", "25%", "24.999999%", "25.000001%", "33.333333%", "33.333334%", "100%", "99.999999%", "0.000001%", "42.857142%", "66.666666%", "66.666667%",
	"0", "-0.000001", "0.000001", "25", "9007199254.740992", "9007199254.740993", "999999999999.999999", "-999999999999.999999"}

// directory returns a ledger with a reseller of each name, in random order and
// with random other fields; bound-at, mobile, remark, e-mail and figures repeat.
func (h Harness) directory(t *testing.T) (store.Store, *book) {
	t.Helper()
	s := h.Open(t)
	b := newBook(t, s, h.source(t))
	var some []credit.Reseller
	for i, n := range b.rng.Perm(len(directoryNames)) {
		f := directoryFigures[i%len(directoryFigures)]
		some = append(some, credit.Reseller{ExternalID: fmt.Sprintf("UIN-%d", i), BoundAt: time.UnixMicro(int64(b.rng.IntN(40) - 20)).UTC(),
			Profile: credit.Profile{Name: directoryNames[n], Mobile: pickOne(b.rng, directoryMobiles), Remark: pickOne(b.rng, directoryRemarks), Email: pickOne(b.rng, directoryEmails)},
			Status:  pickOne(b.rng, append(everyStatus(), credit.StatusActive, credit.StatusActive)),
			Figures: credit.Figures{Allocated: credit.FromMillionths(f[0]), Used: credit.FromMillionths(f[1])}})
	}
	b.place(t, s, some)
	return s, b
}

// place adds resellers as they are, whatever figures a rule would allow them: a
// store knows no rule. The ids are drawn.
func (b *book) place(t *testing.T, s store.Store, some []credit.Reseller) {
	t.Helper()
	commands := make([]credit.Command, len(some))
	for i, r := range some {
		commands[i] = credit.NewReseller{ExternalID: r.ExternalID, Name: r.Name, Email: r.Email, Mobile: r.Mobile, ResellerRemark: r.Remark, BoundAt: r.BoundAt}
	}
	batch := b.draft(commands...)
	before := b.head.Hash
	for i := range batch.Records {
		r := &batch.Records[i]
		batch.Added[i].Status, batch.Added[i].Figures = some[i].Status, some[i].Figures
		r.After, r.Hash = some[i].Figures, credit.Hash{}
		r.Hash = r.ChainHash(before)
		before = r.Hash
	}
	b.append(t, s, batch)
}

// part is a piece of a text, whole letters of it, perhaps with their case turned.
func part(rng *rand.Rand, text string) string {
	letters := []rune(text)
	from := rng.IntN(len(letters) + 1)
	letters = letters[from : from+rng.IntN(len(letters)-from+1)]
	if rng.IntN(3) > 0 {
		for i, r := range letters {
			letters[i] = unicode.SimpleFold(r)
		}
	}
	for len(string(letters)) > min(len(text), credit.MaxMobile) {
		letters = letters[:len(letters)-1]
	}
	return string(letters)
}

// around is an amount of available credit that is there, or next to one.
func around(rng *rand.Rand) *decimal.Decimal {
	f := pickOne(rng, directoryFigures)
	v := f[0] - f[1] + int64(rng.IntN(3)-1)
	return new(credit.FromMillionths(max(-mostMillionths, min(mostMillionths, v))))
}

func threshold(text string) *credit.Threshold {
	var th credit.Threshold
	if err := th.UnmarshalText([]byte(text)); err != nil {
		panic(err)
	}
	return &th
}

// question is a query of the directory with some filters, at times none. It is
// normalized.
func question(rng *rand.Rand) credit.ResellerQuery {
	q := credit.ResellerQuery{Order: pickOne(rng, credit.Orders()), Limit: 1 + rng.IntN(40)}
	for i, p := range everyStatus() {
		if rng.IntN(2) == 0 || i == 2 && q.Statuses == nil {
			q.Statuses = append(q.Statuses, p)
		}
	}
	few := func(n int) bool { return rng.IntN(n) == 0 }
	if few(3) {
		q.Name = part(rng, pickOne(rng, directoryNames))
	}
	if few(6) {
		q.Mobile = part(rng, pickOne(rng, directoryMobiles))
	}
	if few(6) {
		q.Remark = part(rng, pickOne(rng, directoryRemarks))
	}
	if few(8) {
		q.Email = pickOne(rng, directoryEmails)
	}
	if few(16) {
		q.ExternalID = pickOne(rng, []string{"UIN-1", "UIN-2", "uin-1", "UIN-", "UIN-1 ", "none"})
	}
	if few(3) {
		q.MinAvailable = around(rng)
	}
	if few(3) {
		q.MaxAvailable = around(rng)
	}
	if few(4) {
		q.Low = threshold(pickOne(rng, directoryLows))
	}
	if q.MinAvailable != nil && q.MaxAvailable != nil && q.MinAvailable.GreaterThan(*q.MaxAvailable) {
		q.MinAvailable, q.MaxAvailable = q.MaxAvailable, q.MinAvailable
	}
	return q
}
