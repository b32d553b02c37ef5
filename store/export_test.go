package store

import (
	"context"

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

// Standings are what a check remembers.
type Standings struct{ *standings }

// NewStandings returns places for so many.
func NewStandings(places int) Standings { return Standings{newStandings(places)} }

// Get is get.
func (s Standings) Get(id uuid.UUID) (credit.Reseller, bool) { return s.get(id) }

// Put is put.
func (s Standings) Put(r credit.Reseller) error { return s.put(r) }

// Whole tells whether nobody was driven out.
func (s Standings) Whole() bool { return s.whole }
