package store

import (
	"hash/maphash"
	"slices"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
)

// standing is what records give of a reseller, in a few bytes and without a
// pointer. The zero value is a free place.
type standing struct {
	id              uuid.UUID
	allocated, used int64 // millionths
	status          uint8 // of which standingStatuses
}

// standingStatuses begin with that of a free place.
var standingStatuses = []credit.Status{"", credit.StatusActive, credit.StatusFrozen, credit.StatusClosed}

// standings remember some resellers: a hash table that never grows. A reseller is in
// one of a few places in a row, the first of which its id gives; one that finds all of
// them taken drives another one out, in turns and not the oldest, so that a log that
// goes round more resellers than there are places finds some of them.
type standings struct {
	places []standing
	seed   maphash.Seed
	turn   int
	// whole: none was driven out.
	whole bool
}

// standingReach is how far a reseller may be from its first place: far enough that
// nearly all places are taken before one is driven out.
const standingReach = 256

func newStandings(places int) *standings {
	return &standings{places: make([]standing, places), seed: maphash.MakeSeed(), whole: true}
}

// place is that of the reseller or, if it is not there, where it is to go.
func (s *standings) place(id uuid.UUID) (_ *standing, there bool) {
	first, reach := int(maphash.Bytes(s.seed, id[:])%uint64(len(s.places))), min(standingReach, len(s.places))
	for i := range reach {
		switch p := &s.places[(first+i)%len(s.places)]; {
		case p.status == 0:
			return p, false // no place becomes free, so it is not behind this one
		case p.id == id:
			return p, true
		}
	}
	s.turn++
	return &s.places[(first+s.turn%reach)%len(s.places)], false
}

// get returns a reseller without its external id and its profile, and whether it is
// remembered.
func (s *standings) get(id uuid.UUID) (credit.Reseller, bool) {
	p, there := s.place(id)
	if !there {
		return credit.Reseller{}, false
	}
	return credit.Reseller{ID: id, Status: standingStatuses[p.status],
		Figures: credit.Figures{Allocated: credit.FromMillionths(p.allocated), Used: credit.FromMillionths(p.used)}}, true
}

// put remembers a reseller. An error is that of a figure that no record may have.
func (s *standings) put(r credit.Reseller) error {
	allocated, err := credit.Millionths(r.Allocated)
	if err != nil {
		return err
	}
	used, err := credit.Millionths(r.Used)
	if err != nil {
		return err
	}
	p, there := s.place(r.ID)
	if !there && p.status != 0 {
		s.whole = false
	}
	*p = standing{r.ID, allocated, used, uint8(slices.Index(standingStatuses, r.Status))}
	return nil
}
