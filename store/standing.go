package store

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
)

// standing is what records give of a reseller, in 48 bytes and without a pointer. The
// zero value is a free place.
type standing struct {
	owned
	status          uint8  // of which standingStatuses
	allocated, used int64  // millionths
	generation      uint64 // see memory
}

// owned is a reseller of one of those who share a table.
type owned struct {
	id    uuid.UUID
	owner uint32
}

// standingStatuses begin with that of a free place.
var standingStatuses = []credit.Status{"", credit.StatusActive, credit.StatusFrozen, credit.StatusClosed}

// standingOf is an error for a figure or a status that no record may have.
func standingOf(owner uint32, generation uint64, r credit.Reseller) (standing, error) {
	status := slices.Index(standingStatuses, r.Status)
	if status <= 0 {
		return standing{}, errors.New("its status is unknown")
	}
	s := standing{owned: owned{r.ID, owner}, generation: generation, status: uint8(status)}
	err := s.move(r.Figures)
	return s, err
}

// move sets the figures.
func (s *standing) move(f credit.Figures) error {
	allocated, err := credit.Millionths(f.Allocated)
	if err != nil {
		return err
	}
	used, err := credit.Millionths(f.Used)
	if err != nil {
		return err
	}
	s.allocated, s.used = allocated, used
	return nil
}

// reseller is without its external id, its profile and the time it was bound.
func (s *standing) reseller() credit.Reseller {
	return credit.Reseller{ID: s.id, Status: standingStatuses[s.status],
		Figures: credit.Figures{Allocated: credit.FromMillionths(s.allocated), Used: credit.FromMillionths(s.used)}}
}

// standings remember some resellers: a hash table that grows up to a size. A reseller is
// in one of a few places in a row, the first of which its id gives; one that finds all of
// them taken drives another one out, in turns and not the oldest, so that who goes round
// more resellers than there are places finds some of them. The same calls leave the same
// ones, and ids that were chosen to meet make no call longer than its few places.
type standings struct {
	places []standing
	taken  int
	most   int
	turn   uint // which may go round
	// whole: none was driven out.
	whole bool
}

const (
	// standingReach is how far a reseller may be from its first place: far enough that
	// nearly all places are taken before one is driven out.
	standingReach = 256
	// standingsBegin is how many places there are at first.
	standingsBegin = 1024
)

func newStandings(most int) *standings {
	return &standings{places: make([]standing, min(most, standingsBegin)), most: most, whole: true}
}

// place is that of the reseller or, if it is not there, where it is to go.
func (s *standings) place(of owned) (_ *standing, there bool) {
	// An owner is spread, lest its bits be those in which ids differ that are counted up.
	owner := uint64(of.owner) * 0xbf58476d1ce4e5b9
	high, low := bits.Mul64(binary.BigEndian.Uint64(of.id[:8])^0x9e3779b97f4a7c15, binary.BigEndian.Uint64(of.id[8:])^0xd1b54a32d192ed03^owner)
	first, reach := int((high^low)%uint64(len(s.places))), min(standingReach, len(s.places))
	for i := range reach {
		switch p := &s.places[(first+i)%len(s.places)]; {
		case p.status == 0:
			return p, false // no place becomes free, so it is not behind this one
		case p.owned == of:
			return p, true
		}
	}
	s.turn++
	return &s.places[(first+int(s.turn%uint(reach)))%len(s.places)], false
}

// get returns what is remembered of a reseller, or nil.
func (s *standings) get(of owned) *standing {
	if p, there := s.place(of); there {
		return p
	}
	return nil
}

// put remembers a reseller.
func (s *standings) put(r standing) {
	p, there := s.place(r.owned)
	switch {
	case there:
	case p.status != 0:
		s.whole = false
	default:
		s.taken++
	}
	*p = r
	if len(s.places) < s.most && s.taken > len(s.places)*3/4 {
		s.grow()
	}
}

func (s *standings) grow() {
	before := s.places
	s.places, s.taken = make([]standing, min(2*len(before), s.most)), 0
	for i := range before {
		if before[i].status != 0 {
			s.put(before[i])
		}
	}
}
