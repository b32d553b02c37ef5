package store

import "context"

// Forgetful returns the same ledger through an engine that remembers nothing, so
// that it always loads.
func (l *Ledger) Forgetful(s Store) *Ledger { return newLedger(s, l.distributor, l.options, nil) }

// CheckRemembering is CheckWith, with a memory for so many resellers.
func (l *Ledger) CheckRemembering(ctx context.Context, o CheckOptions, resellers int) (Checked, error) {
	return newChecker(l, o, resellers).run(ctx)
}
