package credit

import (
	"fmt"
	"maps"

	"github.com/google/uuid"
)

// Decide answers what a command does to a state: the record to append, the
// original record if the command's key is known, or the refusal of the first
// check that fails. It changes nothing, and the same inputs give the same output.
func Decide(s *State, c Command, at Stamp) (Receipt, error) {
	_, receipt, err := decide(s, c, at)
	return receipt, err
}

func decide(s *State, c Command, at Stamp) (*entry, Receipt, error) {
	e, err := check(c)
	if err != nil {
		return e, Receipt{}, err
	}
	if e.Key != "" {
		if earlier := s.earlier(e.Key); earlier != nil {
			if earlier.Fingerprint != e.print {
				return e, Receipt{}, &ConflictError{Key: e.Key, Kind: e.kind, EarlierKind: earlier.Kind, EarlierSequence: earlier.Sequence}
			}
			return e, Receipt{Record: earlier.Clone(), Replayed: true}, nil
		}
	}
	r, err := s.next(e, at)
	if err != nil {
		return e, Receipt{}, err
	}
	r.Hash = r.ChainHash(s.head.Hash)
	return e, Receipt{Record: r}, nil
}

// next is the rest of the ordered checks (exists, status, limit, range) and the
// record that results, without its hash.
func (s *State) next(e *entry, at Stamp) (Record, error) {
	reseller, err := s.existing(e)
	if err != nil {
		return Record{}, err
	}
	if err := checkStatus(e.kind, reseller); err != nil {
		return Record{}, err
	}
	amount, err := limited(e, s.head.Pool, reseller.Figures)
	if err != nil {
		return Record{}, err
	}
	r := Record{
		Sequence: s.head.Sequence + 1, ID: at.RecordID, Kind: e.kind, ResellerID: e.reseller, ExternalID: e.external,
		Amount: FromMillionths(amount), Operator: e.Operator, Remark: e.Remark, Key: e.Key, Fingerprint: e.print,
		Reference: e.Reference, Customer: e.customer, Corrects: e.Corrects,
		OccurredAt: e.OccurredAt, RecordedAt: normalTime(at.Time),
	}
	if len(e.Metadata) > 0 {
		r.Metadata = maps.Clone(e.Metadata)
	}
	if e.kind == KindAdd {
		if r.ResellerID = at.ResellerID; r.ResellerID == uuid.Nil {
			return Record{}, &InvalidError{"stamp", "has no id for the new reseller"}
		}
	}
	if e.kind == KindUpdate {
		_, r.Changed = e.profile.apply(reseller.Profile)
	}
	if err := r.move(amount, s.head.Pool, reseller.Figures); err != nil {
		return Record{}, err
	}
	if e.Corrects > s.head.Sequence {
		return Record{}, &InvalidError{"corrects", fmt.Sprintf("%d is not an earlier record; the last one is %d", e.Corrects, s.head.Sequence)}
	}
	if r.RecordedAt.Before(s.head.RecordedAt) {
		r.RecordedAt = s.head.RecordedAt
	}
	if r.OccurredAt.IsZero() {
		r.OccurredAt = r.RecordedAt
	}
	return r, nil
}

// existing returns the reseller that a command is about; none for grant,
// withdraw and add.
func (s *State) existing(e *entry) (Reseller, error) {
	switch e.kind {
	case KindGrant, KindWithdraw:
		return Reseller{}, nil
	case KindAdd:
		if s.hasExternal(e.external) {
			return Reseller{}, fmt.Errorf("%w: %q belongs to another reseller of this ledger", ErrExists, e.external)
		}
		return Reseller{}, nil
	}
	if e.reseller == uuid.Nil {
		return Reseller{}, fmt.Errorf("%w: %s needs a reseller id", ErrNotFound, e.kind)
	}
	r := s.reseller(e.reseller)
	if r == nil {
		return Reseller{}, fmt.Errorf("%w: %s", ErrNotFound, e.reseller)
	}
	return *r, nil
}

func checkStatus(k Kind, r Reseller) error {
	var refusal error
	switch {
	case k == KindAllocate && r.Status != StatusActive,
		k == KindFreeze && r.Status != StatusActive,
		k == KindClose && r.Status == StatusClosed:
		refusal = ErrNotActive
	case k == KindUnfreeze && r.Status != StatusFrozen:
		refusal = ErrNotFrozen
	default:
		return nil
	}
	return fmt.Errorf("%w: %s: it is %s", refusal, k, r.Status)
}

// limited checks a command's limit and returns its amount, which for RepossessAll
// is only known here.
func limited(e *entry, p Pool, f Figures) (int64, error) {
	refuse := func(requested, allowed int64, refusal error, format string, args ...any) (int64, error) {
		return 0, &LimitError{Kind: e.kind, Requested: FromMillionths(requested), Allowed: FromMillionths(allowed),
			problem: fmt.Sprintf(format, args...), refusal: refusal}
	}
	switch e.kind {
	case KindWithdraw, KindAllocate:
		if asked, most := abs(e.amount), millionths(p.Remaining()); asked > most {
			return refuse(asked, most, ErrInsufficientPool, "%s exceeds the pool's remaining %s", FromMillionths(asked), p.Remaining())
		}
	case KindRepossess:
		asked, most := -e.amount, millionths(f.Repossessable())
		if e.all {
			asked = most
		}
		if asked > most || most == 0 {
			return refuse(asked, most, ErrExceedsAvailable, "%s exceeds the repossessable %s (allocated %s, used %s)",
				e.wanted(), f.Repossessable(), f.Allocated, f.Used)
		}
		return -asked, nil
	case KindSettle:
		if asked, most := -e.amount, max(0, millionths(f.Used)); asked > most {
			return refuse(asked, most, ErrExceedsUsed, "%s exceeds the used %s", FromMillionths(asked), FromMillionths(most))
		}
	case KindClose:
		if left := millionths(f.Repossessable()); left > 0 {
			return refuse(left, 0, ErrNotEmpty, "%s can still be repossessed; repossess it first", f.Repossessable())
		}
	}
	return e.amount, nil
}

// wanted is the amount of a repossession, for people.
func (e *entry) wanted() string {
	if e.all {
		return "all"
	}
	return FromMillionths(-e.amount).String()
}

// move sets the figures around the record, and refuses one that leaves the range.
func (r *Record) move(amount int64, p Pool, f Figures) error {
	var granted, allotted, allocated, used int64
	granted, r.Pool.Granted = normal(p.Granted)
	allotted, r.Pool.Allocated = normal(p.Allocated)
	allocated, r.Before.Allocated = normal(f.Allocated)
	used, r.Before.Used = normal(f.Used)
	r.After = r.Before
	v, after, figure := used, &r.After.Used, "used"
	switch r.Kind {
	case KindGrant, KindWithdraw:
		v, after, figure = granted, &r.Pool.Granted, "granted"
	case KindAllocate, KindRepossess:
		v, after, figure = allocated, &r.After.Allocated, "allocated"
		r.Pool.Allocated = FromMillionths(allotted + amount)
	}
	v += amount
	if *after = FromMillionths(v); abs(v) >= amountLimit {
		return &LimitError{Kind: r.Kind, Requested: *after, Allowed: maxFigure, refusal: ErrOutOfRange,
			problem: fmt.Sprintf("the figure %s would be %s; its magnitude is at most %s", figure, *after, maxFigure)}
	}
	return nil
}

func abs(v int64) int64 { return max(v, -v) }
