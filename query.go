package credit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// Page sizes, for every listing.
const (
	DefaultPageSize = 100
	MaxPageSize     = 1000
)

// Cursor marks where the next page begins. It is opaque, bound to its ledger and
// its query, and may be kept as long as one likes. It holds the place of the last
// item that was seen, which is a reseller's name in a listing by name. The empty
// cursor is the beginning.
type Cursor string

// Page is one page of a listing, and the cursor of the next one; Next is empty
// when this page is the last.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  Cursor `json:"next,omitempty"`
	// Total is how many items all pages have, if the query asked for it. It is counted
	// after the page was read, so beside writers it may be of a later moment.
	Total *int `json:"total,omitempty"`
}

// Order is the order of a listing of resellers. Resellers that are equal in it
// are ordered by id, ascending or descending as the rest.
type Order string

// The orders. Those by name compare [Fold] of the names, byte by byte.
const (
	OrderNewest        Order = "newest" // the most recently bound first; the default
	OrderOldest        Order = "oldest"
	OrderName          Order = "name"
	OrderNameDown      Order = "name_down"
	OrderAvailable     Order = "available" // the least available credit first
	OrderAvailableDown Order = "available_down"
)

// Orders returns every order, in the order of the constants.
func Orders() []Order {
	return []Order{OrderNewest, OrderOldest, OrderName, OrderNameDown, OrderAvailable, OrderAvailableDown}
}

// Ascending tells whether what is less comes first.
func (o Order) Ascending() bool {
	return o == OrderOldest || o == OrderName || o == OrderAvailable
}

// AsOf is a point of a ledger's past: after the record with the sequence, or
// after every record with a recorded-at up to the time, inclusive. At most one is
// given; the zero value is now. A sequence beyond the head is an [*InvalidError].
// A time beyond the head's recorded-at is the head: as long as the time has not
// passed on every engine's clock, later records may still get it.
type AsOf struct {
	Sequence int64     `json:"sequence,omitempty"`
	Time     time.Time `json:"time,omitzero"`
}

// IsZero tells whether it is now.
func (a AsOf) IsZero() bool { return a.Sequence == 0 && a.Time.IsZero() }

// Normalize returns it in UTC, truncated to whole microseconds, which changes
// nothing, because records have no others. It is an [*InvalidError] if both are
// given, the sequence is negative or the year is not 1 to 9999.
func (a AsOf) Normalize() (AsOf, error) {
	switch {
	case a.Sequence != 0 && !a.Time.IsZero():
		return a, &InvalidError{"as of", "has a sequence and a time; give one of them"}
	case a.Sequence < 0:
		return a, &InvalidError{"as of", fmt.Sprintf("is sequence %d, must be positive", a.Sequence)}
	}
	given := !a.Time.IsZero()
	if err := checkTime("as of", &a.Time); err != nil {
		return a, err
	}
	if given && a.Time.IsZero() {
		return a, &InvalidError{"as of", "is within the first microsecond of the year 1, before which nothing can be"} // not now
	}
	return a, nil
}

// ResellerQuery selects resellers. The zero value lists all that are not closed,
// the most recently bound first.
//
// A listing by name or by available credit has each reseller once whose name or
// credit stays as it is meanwhile; one that is renamed or whose credit changes
// between two pages may move across the place where the next page begins. A
// listing by bound-at, which never changes, has each once, and so has every
// listing as of a sequence.
type ResellerQuery struct {
	// Name, Mobile and Remark select those that contain the text, whatever the case
	// of the letters (see [Fold]); % and _ mean themselves. At most as long as the
	// field. They look at every reseller; MinAvailable, Low and AsOf say when those by
	// credit and status do. All other filters are found by an index, or along the order.
	Name   string `json:"name,omitempty"`
	Mobile string `json:"mobile,omitempty"`
	Remark string `json:"remark,omitempty"`
	// Email and ExternalID select exactly, byte by byte.
	Email      string `json:"email,omitempty"`
	ExternalID string `json:"external_id,omitempty"`
	// Statuses to list; empty means active and frozen.
	Statuses []Status `json:"statuses,omitempty"`
	// MinAvailable and MaxAvailable bound the available credit, both inclusive; nil
	// is unbounded, 0 is 0. They are amounts, so their magnitude is below 10^12. In
	// the orders by available credit they bound the part of the index that is read; in
	// the others, and so with Low, each reseller along the order is looked at.
	MinAvailable *decimal.Decimal `json:"min_available,omitempty"`
	MaxAvailable *decimal.Decimal `json:"max_available,omitempty"`
	// Low selects those whose available credit is at or below a threshold, exactly
	// as [Record.Warnings] compares it; nil means all. To a percentage, a reseller to
	// whom nothing is allocated is low unless its available credit is above 0; and a
	// percentage is looked at in every order, because no index has it.
	Low *Threshold `json:"low,omitempty"`
	// Order is newest by default.
	Order Order `json:"order,omitempty"`
	// AsOf lists statuses and figures as they were; profiles are as they are now,
	// because records do not hold them. Only the orders newest and oldest can be
	// had, and no total. The filters of status and credit look at every reseller along
	// the order, so where few match, a page may read them all.
	AsOf AsOf `json:"as_of,omitzero"`
	// Total asks for [Page.Total], which looks at all that match.
	Total bool `json:"total,omitempty"`
	// Limit is the page size: 0 means [DefaultPageSize], at most [MaxPageSize].
	Limit int `json:"limit,omitempty"`
	// Cursor is [Page.Next] of the page before; all other fields but Limit and Total
	// must be as they were.
	Cursor Cursor `json:"cursor,omitempty"`
}

// LowCredit lists the resellers whose available credit is at or below a
// threshold, the least available first: those to top up, so closed ones are left
// out, for which [Overdrawn] is.
func LowCredit(t Threshold) ResellerQuery {
	return ResellerQuery{Low: &t, Order: OrderAvailable}
}

// Overdrawn lists the resellers whose available credit is below 0, the largest
// overdraft first. Closed ones are among them: who is closed may owe, and fees
// arrive late.
func Overdrawn() ResellerQuery {
	return ResellerQuery{Statuses: []Status{StatusActive, StatusFrozen, StatusClosed}, MaxAvailable: new(FromMillionths(-1)), Order: OrderAvailable}
}

// Normalize returns the query in its one form, with its defaults filled in and
// sharing nothing with q, or an [*InvalidError]. The cursor is left for the ledger
// to read.
func (q ResellerQuery) Normalize() (ResellerQuery, error) {
	if len(q.Statuses) == 0 {
		q.Statuses = []Status{StatusActive, StatusFrozen}
	}
	var err error
	if q.Statuses, err = normalSet("statuses", q.Statuses, []Status{StatusActive, StatusFrozen, StatusClosed}); err != nil {
		return q, err
	}
	for _, f := range []struct {
		name  string
		value string
		limit int
	}{{"name", q.Name, MaxName}, {"mobile", q.Mobile, MaxMobile}, {"remark", q.Remark, MaxRemark},
		{"email", q.Email, MaxEmail}, {"external id", q.ExternalID, MaxExternalID}} {
		if err := checkText(f.name, f.value, f.limit, false); err != nil {
			return q, err
		}
	}
	if q.MinAvailable, err = normalAmount("min available", q.MinAvailable); err != nil {
		return q, err
	}
	if q.MaxAvailable, err = normalAmount("max available", q.MaxAvailable); err != nil {
		return q, err
	}
	if q.MinAvailable != nil && q.MaxAvailable != nil && q.MinAvailable.GreaterThan(*q.MaxAvailable) {
		return q, &InvalidError{"available range", fmt.Sprintf("from %s to %s leaves nothing; the minimum must not exceed the maximum", q.MinAvailable, q.MaxAvailable)}
	}
	if q.Low != nil {
		q.Low = new(*q.Low)
	}
	if q.Order == "" {
		q.Order = OrderNewest
	}
	if !slices.Contains(Orders(), q.Order) {
		return q, &InvalidError{"order", fmt.Sprintf("%q is unknown; known are %v", excerpt(string(q.Order)), Orders())}
	}
	if q.AsOf, err = q.AsOf.Normalize(); err != nil {
		return q, err
	}
	if !q.AsOf.IsZero() && (q.Total || q.Order != OrderNewest && q.Order != OrderOldest) {
		return q, &InvalidError{"as of", "can be listed newest or oldest first, without a total"}
	}
	q.Limit, err = normalLimit(q.Limit)
	return q, err
}

// Matches tells whether a normalized query selects the reseller: the meaning of
// every filter.
func (q ResellerQuery) Matches(r Reseller) bool {
	return slices.Contains(q.Statuses, r.Status) &&
		(q.Email == "" || q.Email == r.Email) &&
		(q.ExternalID == "" || q.ExternalID == r.ExternalID) &&
		(q.MinAvailable == nil || r.Available().GreaterThanOrEqual(*q.MinAvailable)) &&
		(q.MaxAvailable == nil || r.Available().LessThanOrEqual(*q.MaxAvailable)) &&
		(q.Low == nil || !q.Low.above(r.Available(), r.Allocated)) &&
		contains(r.Name, q.Name) && contains(r.Mobile, q.Mobile) && contains(r.Remark, q.Remark)
}

func contains(text, part string) bool {
	return part == "" || strings.Contains(Fold(text), Fold(part))
}

// RecordQuery selects records by sequence, oldest first. The zero value reads
// the whole log. Filters narrow each other down; an empty one selects all.
//
// One index is used, that of the first given of key, reference, customer, reseller,
// operator and kinds; without any, the log itself. The others are looked at along
// the way. Bounds of the sequence and of recorded-at narrow what is read with any.
type RecordQuery struct {
	// ResellerID selects one reseller's records; [uuid.Nil] means all, those of
	// the pool included.
	ResellerID uuid.UUID `json:"reseller_id,omitzero"`
	// Kinds to read, for example [AllocationKinds]; empty means all.
	Kinds []Kind `json:"kinds,omitempty"`
	// Operator, Key, Reference and Customer select exactly, byte by byte.
	Operator  string `json:"operator,omitempty"`
	Key       string `json:"key,omitempty"`
	Reference string `json:"reference,omitempty"`
	Customer  string `json:"customer,omitempty"`
	// RecordedFrom and RecordedUntil bound when the ledger took a record: from is
	// inclusive, until exclusive; zero is unbounded.
	RecordedFrom  time.Time `json:"recorded_from,omitzero"`
	RecordedUntil time.Time `json:"recorded_until,omitzero"`
	// OccurredFrom and OccurredUntil bound when it happened, in the same way. The
	// log is not ordered by it, so all that the other filters leave is looked at.
	OccurredFrom  time.Time `json:"occurred_from,omitzero"`
	OccurredUntil time.Time `json:"occurred_until,omitzero"`
	// After and Before bound the sequence, both exclusive; 0 means unbounded. With
	// After as the last sequence seen, the log is followed without a cursor.
	After  int64 `json:"after,omitempty"`
	Before int64 `json:"before,omitempty"`
	// NewestFirst turns the order round.
	NewestFirst bool `json:"newest_first,omitempty"`
	// Limit is the page size: 0 means [DefaultPageSize], at most [MaxPageSize].
	Limit int `json:"limit,omitempty"`
	// Cursor is [Page.Next] of the page before; all other fields but Limit must
	// be as they were.
	Cursor Cursor `json:"cursor,omitempty"`
}

// Normalize returns the query in its one form, with its defaults filled in and
// sharing nothing with q, or an [*InvalidError]. The cursor is left for the ledger
// to read. Times become UTC and are rounded up to whole microseconds, which
// changes no bound, because records have no others.
func (q RecordQuery) Normalize() (RecordQuery, error) {
	var err error
	if q.Kinds, err = normalSet("kinds", q.Kinds, Kinds()); err != nil {
		return q, err
	}
	for _, f := range []struct {
		name  string
		value string
		limit int
	}{{"operator", q.Operator, MaxOperator}, {"key", q.Key, MaxKey}, {"reference", q.Reference, MaxReference}, {"customer", q.Customer, MaxCustomer}} {
		if err := checkText(f.name, f.value, f.limit, false); err != nil {
			return q, err
		}
	}
	if err := normalRange("recorded", &q.RecordedFrom, &q.RecordedUntil); err != nil {
		return q, err
	}
	if err := normalRange("occurred", &q.OccurredFrom, &q.OccurredUntil); err != nil {
		return q, err
	}
	if q.After < 0 || q.Before < 0 || q.Before > 0 && q.Before <= q.After {
		return q, &InvalidError{"sequence range", fmt.Sprintf("after %d and before %d leave nothing; after must be below before, and neither negative", q.After, q.Before)}
	}
	q.Limit, err = normalLimit(q.Limit)
	return q, err
}

// Matches tells whether a normalized query selects the record: the meaning of
// every filter.
func (q RecordQuery) Matches(r Record) bool {
	return (q.ResellerID == uuid.Nil || q.ResellerID == r.ResellerID) &&
		(len(q.Kinds) == 0 || slices.Contains(q.Kinds, r.Kind)) &&
		(q.Operator == "" || q.Operator == r.Operator) &&
		(q.Key == "" || q.Key == r.Key) &&
		(q.Reference == "" || q.Reference == r.Reference) &&
		(q.Customer == "" || q.Customer == r.Customer) &&
		within(r.RecordedAt, q.RecordedFrom, q.RecordedUntil) &&
		within(r.OccurredAt, q.OccurredFrom, q.OccurredUntil) &&
		r.Sequence > q.After && (q.Before == 0 || r.Sequence < q.Before)
}

func within(t, from, until time.Time) bool {
	return !t.Before(from) && (until.IsZero() || t.Before(until))
}

// normalSet returns the members in a fixed order and once each.
func normalSet[T ~string](field string, given, known []T) ([]T, error) {
	for _, v := range given {
		if !slices.Contains(known, v) {
			return given, &InvalidError{field, fmt.Sprintf("%q is unknown; known are %v", excerpt(string(v)), known)}
		}
	}
	given = slices.Clone(given)
	slices.Sort(given)
	return slices.Compact(given), nil
}

func normalAmount(field string, given *decimal.Decimal) (*decimal.Decimal, error) {
	if given == nil {
		return nil, nil
	}
	v, err := Millionths(*given)
	if err != nil {
		return nil, &InvalidError{field, strings.TrimPrefix(reason(err), "amount: ")}
	}
	return new(FromMillionths(v)), nil
}

func normalRange(what string, from, until *time.Time) error {
	for _, t := range []*time.Time{from, until} {
		given := *t
		if err := checkTime(what+" range", t); err != nil {
			return err
		}
		if t.Before(given) {
			*t = t.Add(time.Microsecond) // up, because no time of a record lies between
		}
	}
	if from.Year() > 9999 {
		return &InvalidError{what + " range", "begins after the last microsecond of the year 9999 and leaves nothing"}
	}
	if until.Year() > 9999 {
		*until = time.Time{} // after every time of a record
	}
	if !until.IsZero() && !from.Before(*until) {
		return &InvalidError{what + " range", fmt.Sprintf("from %s until %s leaves nothing; from must be before until", from.Format(time.RFC3339Nano), until.Format(time.RFC3339Nano))}
	}
	return nil
}

func normalLimit(limit int) (int, error) {
	switch {
	case limit < 0 || limit > MaxPageSize:
		return limit, &InvalidError{"limit", fmt.Sprintf("is %d, must be 1 to %d (0 means %d)", limit, MaxPageSize, DefaultPageSize)}
	case limit == 0:
		return DefaultPageSize, nil
	}
	return limit, nil
}
