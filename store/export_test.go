package store

// Forgetful returns the same ledger through an engine that remembers nothing, so
// that it always loads.
func (l *Ledger) Forgetful(s Store) *Ledger { return newLedger(s, l.distributor, l.options, nil) }
