package storetest

import (
	"bytes"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// What a listing must have, from the domain's words and in the simplest way. It
// shares no code with credit.ResellerQuery.Matches, credit.Fold, the thresholds
// or store.PositionOf, so that a mistake in these is found.

// selects tells whether a query asks for a reseller.
func selects(q credit.ResellerQuery, r credit.Reseller) bool {
	available := new(big.Rat).Sub(r.Allocated.Rat(), r.Used.Rat())
	shown := r.Status != credit.StatusClosed
	if len(q.Statuses) > 0 {
		shown = slices.Contains(q.Statuses, r.Status)
	}
	switch {
	case !shown,
		q.Email != "" && q.Email != r.Email,
		q.ExternalID != "" && q.ExternalID != r.ExternalID,
		q.MinAvailable != nil && available.Cmp(q.MinAvailable.Rat()) < 0,
		q.MaxAvailable != nil && available.Cmp(q.MaxAvailable.Rat()) > 0,
		!contains(r.Name, q.Name), !contains(r.Mobile, q.Mobile), !contains(r.Remark, q.Remark):
		return false
	case q.Low != nil:
		level := q.Low.Value().Rat()
		if q.Low.IsPercent() {
			level = new(big.Rat).Mul(level, r.Allocated.Rat())
			level.Quo(level, big.NewRat(100, 1))
		}
		return available.Cmp(level) <= 0
	}
	return true
}

// contains looks for the part at every letter of the text, whatever the case.
func contains(text, part string) bool {
	letters, n := []rune(text), len([]rune(part))
	for i := 0; i+n <= len(letters); i++ {
		if strings.EqualFold(string(letters[i:i+n]), part) {
			return true
		}
	}
	return false
}

// leastLetters are the letters found by [leastLetter] so far.
var leastLetters sync.Map

// leastLetter is the one by which a letter is ordered: the small letter, of those
// of ASCII; else the first in Unicode that differs in case only.
func leastLetter(r rune) rune {
	if unicode.SimpleFold(r) == r {
		return r // has no case
	}
	if known, ok := leastLetters.Load(r); ok {
		least, _ := known.(rune)
		return least
	}
	least := 'a'
	for !strings.EqualFold(string(least), string(r)) {
		if least++; least == 'z'+1 {
			least = '\u0080'
		}
	}
	leastLetters.Store(r, least)
	return least
}

// ordered are the letters by which a text is ordered.
func ordered(text string) []rune {
	letters := []rune(text)
	for i, r := range letters {
		letters[i] = leastLetter(r)
	}
	return letters
}

// compare orders two resellers, ascending.
func compare(o credit.Order, x, y credit.Reseller) int {
	c := 0
	switch o {
	case credit.OrderNewest, credit.OrderOldest:
		c = x.BoundAt.Compare(y.BoundAt)
	case credit.OrderName, credit.OrderNameDown:
		c = slices.Compare(ordered(x.Name), ordered(y.Name)) // UTF-8 orders as the letters do
	case credit.OrderAvailable, credit.OrderAvailableDown:
		c = new(big.Rat).Sub(x.Allocated.Rat(), x.Used.Rat()).Cmp(new(big.Rat).Sub(y.Allocated.Rat(), y.Used.Rat()))
	}
	if c == 0 {
		c = bytes.Compare(x.ID[:], y.ID[:])
	}
	return c
}

func descending(o credit.Order) bool {
	return o == credit.OrderNewest || o == credit.OrderNameDown || o == credit.OrderAvailableDown
}

// listing is what all pages of a query have together.
func listing(q credit.ResellerQuery, all []credit.Reseller) []credit.Reseller {
	var list []credit.Reseller
	for _, r := range all {
		if selects(q, r) {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(x, y credit.Reseller) int { return compare(q.Order, x, y) })
	if descending(q.Order) {
		slices.Reverse(list)
	}
	return list
}

// placed is the position of a reseller in an order.
func placed(o credit.Order, r credit.Reseller) store.ResellerPosition {
	p := store.ResellerPosition{ID: r.ID}
	switch o {
	case credit.OrderNewest, credit.OrderOldest:
		p.BoundAt = r.BoundAt
	case credit.OrderName, credit.OrderNameDown:
		p.Name = string(ordered(r.Name))
	case credit.OrderAvailable, credit.OrderAvailableDown:
		fine := new(big.Rat).Sub(r.Allocated.Rat(), r.Used.Rat())
		p.Available = fine.Mul(fine, big.NewRat(1_000_000, 1)).Num().Int64()
	}
	return p
}

// selectsRecord tells whether a query asks for a record.
func selectsRecord(q credit.RecordQuery, r credit.Record) bool {
	exactly := func(asked, has string) bool { return asked == "" || asked == has }
	inside := func(at, from, until time.Time) bool {
		return (from.IsZero() || at.UnixMicro() >= from.UnixMicro()) && (until.IsZero() || at.UnixMicro() < until.UnixMicro())
	}
	return (q.ResellerID == uuid.Nil || r.ResellerID == q.ResellerID) &&
		(len(q.Kinds) == 0 || slices.Contains(q.Kinds, r.Kind)) &&
		exactly(q.Operator, r.Operator) && exactly(q.Key, r.Key) && exactly(q.Reference, r.Reference) && exactly(q.Customer, r.Customer) &&
		inside(r.RecordedAt, q.RecordedFrom, q.RecordedUntil) && inside(r.OccurredAt, q.OccurredFrom, q.OccurredUntil) &&
		r.Sequence > q.After && (q.Before == 0 || r.Sequence < q.Before)
}

// newest is the last record of a reseller, of some kinds and up to a sequence.
func newest(log []credit.Record, reseller uuid.UUID, kinds []credit.Kind, until int64) (credit.Record, bool) {
	for _, r := range slices.Backward(log) {
		if r.ResellerID == reseller && r.Sequence <= until && (len(kinds) == 0 || slices.Contains(kinds, r.Kind)) {
			return r, true
		}
	}
	return credit.Record{}, false
}
