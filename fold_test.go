package credit_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

func TestFold(t *testing.T) {
	t.Parallel()
	for text, folded := range map[string]string{
		"":                    "",
		"Nimbus GmbH & Co.":   "nimbus gmbh & co.",
		"[@`{]^_~ 0123456789": "[@`{]^_~ 0123456789",
		"ÄÖÜ äöü":             "ÄÖÜ ÄÖÜ",
		"\u212a\u017f":        "ks", // the Kelvin sign and the long s are k and s
		"ΣσςΩ\u2126":          "ΣΣΣΩΩ",
		"日本 🏳️‍🌈":             "日本 🏳️‍🌈",
		"A\u0308":             "a\u0308",
		"\u01c5\u01c6":        "\u01c4\u01c4", // three cases of one letter
	} {
		assert.Equal(t, folded, credit.Fold(text), "%q", text)
	}
	for _, pair := range [][2]string{{"ß", "ss"}, {"ß", "SS"}, {"ı", "i"}, {"İ", "i"}, {"İ", "I"}, {"ä", "a\u0308"}, {"ﬁ", "fi"}, {"é", "e"}, {"ａ", "a"}} {
		assert.NotEqual(t, credit.Fold(pair[0]), credit.Fold(pair[1]), "%q and %q are different letters", pair[0], pair[1])
	}
	assert.Equal(t, credit.Fold("ß"), credit.Fold("ẞ"), "the sharp s has a capital")
}

// For each letter there is, and all that differ from it in case only.
func TestFold_everyLetter(t *testing.T) {
	t.Parallel()
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		text := string(r)
		folded := credit.Fold(text)
		if len(folded) > len(text) || credit.Fold(folded) != folded || utf8.RuneCountInString(folded) != 1 || !strings.EqualFold(text, folded) {
			require.Fail(t, "folding one letter gives one, not longer, that folds to itself and differs in case only", "%U gives %q", r, folded)
		}
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			require.Equal(t, folded, credit.Fold(string(other)), "%U and %U differ in case only", r, other)
		}
	}
}

// Two texts fold to the same exactly if they differ in case only.
func FuzzFold(f *testing.F) {
	for _, pair := range [][2]string{{"", ""}, {"Nimbus", "nIMBUS"}, {"ß", "ẞ"}, {"ß", "ss"}, {"i", "İ"}, {"I", "ı"}, {"k", "\u212a"}, {"ς", "Σ"}, {"a", "a "},
		{"ä", "a\u0308"}, {"\ufffd", "\ufffd"}, {"\U0001e900", "\U0001e922"}, {"[", "{"}, {"@", "`"}, {"ǅ", "ǆ"}} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if !utf8.ValidString(a) || !utf8.ValidString(b) {
			return
		}
		require.Equal(t, strings.EqualFold(a, b), credit.Fold(a) == credit.Fold(b), "%q and %q", a, b)
		require.LessOrEqual(t, len(credit.Fold(a)), len(a), "%q", a)
		require.Equal(t, credit.Fold(a), credit.Fold(credit.Fold(a)), "%q", a)
		require.Equal(t, credit.Fold(a+b), credit.Fold(a)+credit.Fold(b), "letter by letter")
		require.Equal(t, credit.Fold(a), credit.Fold(swapCase(a)), "%q", a)
	})
}

// swapCase turns each letter to another one that differs from it in case only.
func swapCase(s string) string { return strings.Map(unicode.SimpleFold, s) }
