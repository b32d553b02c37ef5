package credit

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Fold returns the text in which letters that differ in nothing but their case
// are the same: Fold(a) == Fold(b) exactly if strings.EqualFold(a, b). It is what
// searching and ordering names compares, byte by byte and alike on every store.
// It folds letter by letter: ß is not ss, the Turkish dotless ı is not i, and a
// letter with an accent is not one followed by the accent. The text must be valid
// UTF-8, as all text of a ledger is; folding never makes it longer.
func Fold(s string) string { return strings.Map(foldLetter, s) }

// foldLetter returns the least of the letters that are the same but for their
// case, or a to z if it is A to Z.
func foldLetter(r rune) rune {
	if r < utf8.RuneSelf {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}
	least := r
	for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
		least = min(least, other)
	}
	if least < utf8.RuneSelf {
		return foldLetter(least)
	}
	return least
}
