package store

import (
	"context"
	"unsafe"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
)

// Forgetful returns the same ledger through an engine that remembers nothing, so
// that it always loads.
func (l *Ledger) Forgetful(s Store) *Ledger { return newLedger(s, l.distributor, l.options, nil) }

// CheckRemembering is CheckWith, with a memory for so many resellers.
func (l *Ledger) CheckRemembering(ctx context.Context, o CheckOptions, resellers int) (Checked, error) {
	return newChecker(l, o, resellers).run(ctx)
}

// Standings are what a check and a Memory remember.
type Standings struct{ *standings }

// NewStandings returns places for so many.
func NewStandings(places int) Standings { return Standings{newStandings(places)} }

// Get is get.
func (s Standings) Get(id uuid.UUID) (credit.Reseller, bool) {
	if r := s.get(owned{id: id}); r != nil {
		return r.reseller(), true
	}
	return credit.Reseller{}, false
}

// Put is put.
func (s Standings) Put(r credit.Reseller) error {
	standing, err := standingOf(0, 0, r)
	if err == nil {
		s.put(standing)
	}
	return err
}

// Whole tells whether nobody was driven out.
func (s Standings) Whole() bool { return s.whole }

// Places is how many there are now.
func (s Standings) Places() int { return len(s.places) }

// Standings are those of a memory.
func (m *Memory) Standings() Standings { return Standings{m.resellers} }

// StandingSize is how many bytes a place takes.
const StandingSize = unsafe.Sizeof(standing{})

// Turned sets how often one was driven out.
func (s Standings) Turned(n uint) { s.turn = n }

// ComeAgain gives the next engines the numbers of the first ones.
func (m *Memory) ComeAgain() { m.owners = 0 }
