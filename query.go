package credit

import (
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// Page sizes, for every listing.
const (
	DefaultPageSize = 100
	MaxPageSize     = 1000
)

// Cursor marks where the next page begins. It is opaque, bound to its ledger and
// its query, and may be kept as long as one likes. The empty cursor is the
// beginning.
type Cursor string

// Page is one page of a listing, and the cursor of the next one; Next is empty
// when this page is the last.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  Cursor `json:"next,omitempty"`
}

// ResellerQuery selects resellers, the most recently bound first, those bound at
// the same time by descending id. The zero value lists all that are not closed.
type ResellerQuery struct {
	// Statuses to list; empty means active and frozen.
	Statuses []Status `json:"statuses,omitempty"`
	// OldestFirst turns the order round, that of the ids too.
	OldestFirst bool `json:"oldest_first,omitempty"`
	// Limit is the page size: 0 means [DefaultPageSize], at most [MaxPageSize].
	Limit int `json:"limit,omitempty"`
	// Cursor is [Page.Next] of the page before; all other fields but Limit must
	// be as they were.
	Cursor Cursor `json:"cursor,omitempty"`
}

// Normalize returns the query with its defaults filled in, or an
// [*InvalidError]. The cursor is left for the ledger to read.
func (q ResellerQuery) Normalize() (ResellerQuery, error) {
	if len(q.Statuses) == 0 {
		q.Statuses = []Status{StatusActive, StatusFrozen}
	}
	var err error
	if q.Statuses, err = normalSet("statuses", q.Statuses, []Status{StatusActive, StatusFrozen, StatusClosed}); err != nil {
		return q, err
	}
	q.Limit, err = normalLimit(q.Limit)
	return q, err
}

// RecordQuery selects records by sequence, oldest first. The zero value reads
// the whole log.
type RecordQuery struct {
	// ResellerID selects one reseller's records; [uuid.Nil] means all, those of
	// the pool included.
	ResellerID uuid.UUID `json:"reseller_id,omitzero"`
	// Kinds to read, for example [AllocationKinds]; empty means all.
	Kinds []Kind `json:"kinds,omitempty"`
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

// Normalize returns the query with its defaults filled in, or an
// [*InvalidError]. The cursor is left for the ledger to read.
func (q RecordQuery) Normalize() (RecordQuery, error) {
	var err error
	if q.Kinds, err = normalSet("kinds", q.Kinds, Kinds()); err != nil {
		return q, err
	}
	if q.After < 0 || q.Before < 0 || q.Before > 0 && q.Before <= q.After {
		return q, &InvalidError{"sequence range", fmt.Sprintf("after %d and before %d leave nothing; after must be below before, and neither negative", q.After, q.Before)}
	}
	q.Limit, err = normalLimit(q.Limit)
	return q, err
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

func normalLimit(limit int) (int, error) {
	switch {
	case limit == 0:
		return DefaultPageSize, nil
	case limit < 0 || limit > MaxPageSize:
		return limit, &InvalidError{"limit", fmt.Sprintf("is %d, must be 1 to %d (0 means %d)", limit, MaxPageSize, DefaultPageSize)}
	}
	return limit, nil
}
