package storetest

import (
	"fmt"
	"slices"
	"testing"
)

// rules are the numbered rules of the port, printed when a clause of theirs fails.
var rules = [...]string{
	1:  "Everything is scoped to one ledger; no call reads or writes another one.",
	2:  "What a successful Append wrote is seen by every later read, from every process.",
	3:  "Append writes all of its batch or nothing: nothing, if any of it does not fit what is there (a key twice, an added id or external id that exists, a changed or moved reseller that does not).",
	4:  "Append writes only if the ledger's head is still the expected one, by sequence and by hash, and none of the batch's keys is taken. Otherwise it answers ErrMoved.",
	5:  "Records are never changed or removed.",
	6:  "What is read equals what was written, to the last bit: amounts through credit.FromMillionths, times in UTC with microseconds, nil for an empty map or slice.",
	7:  "Keys and external ids are compared byte by byte.",
	8:  "Slices and maps handed over are not kept; those returned are the caller's.",
	9:  "An error of Append or Create says what it knows about the outcome: see ErrMoved, Retry and Reject. Any other error means that the outcome is unknown.",
	10: "Every method is safe for concurrent use and ends soon after its context does.",
}

// The sentences of the port's methods, for what the rules leave to them.
const (
	createSays    = "Create creates a ledger without records, or returns the distributor of the one that is there, whatever its name and currency."
	loadSays      = "Load returns the head and what exists of the read set, as one consistent snapshot of committed state. The head of a ledger without records is that of credit.NewState. A ledger that was never created is ErrNoLedger."
	resellersSays = "Resellers returns at most q.Limit resellers that match the normalized query, in its order, strictly after the position; the zero position is the beginning. q.AsOf is zero; q.Cursor and q.Total are to be ignored."
	countSays     = "CountResellers counts all that match the query, whatever its limit and its order."
	recordsSays   = "Records returns at most q.Limit records that match the normalized query, in its order. The range of recorded-at is unbounded, because the engine has made one of sequences of it; q.Cursor is to be ignored."
	latestSays    = "Latest returns, of each reseller that has one, the newest record of the kinds whose sequence is at most until, in any order; no kinds are all. Resellers come once each, and are at most credit.MaxPageSize."
	holdSays      = "Hold runs f with a store whose first Load waits until nobody else writes to the ledger, and keeps it so until Hold returns. What f appends is written when Hold returns nil. An error of f is returned as it is, and nothing is written; any other error says what it knows, as one of Append does."
)

// clause is one thing that a rule or a method's sentence means.
type clause struct {
	name string
	run  func(Harness, *testing.T)
}

func (h Harness) port(t *testing.T) {
	for _, part := range []struct {
		name, sentence string
		clauses        []clause
	}{
		{"Create", createSays, createClauses},
		{"Load", loadSays, loadClauses},
		{"Resellers", resellersSays, resellersClauses},
		{"CountResellers", countSays, countClauses},
		{"Records", recordsSays, recordsClauses},
		{"Latest", latestSays, latestClauses},
		{"Hold", holdSays, holdClauses},
		{"rule 1", rules[1], slices.Concat(scopeClauses, neighbourClauses)},
		{"rule 2", rules[2], visibilityClauses},
		{"rule 3", rules[3], atomicClauses},
		{"rule 4", rules[4], compareClauses},
		{"rule 5", rules[5], historyClauses},
		{"rule 6", rules[6], slices.Concat(valueClauses, hostileClauses)},
		{"rule 7", rules[7], byteClauses},
		{"rule 8", rules[8], ownershipClauses},
		{"rule 9", rules[9], slices.Concat(errorClauses, secretClauses)},
		{"rule 10", rules[10], concurrencyClauses},
	} {
		t.Run(part.name, func(t *testing.T) {
			for _, c := range part.clauses {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					t.Cleanup(func() {
						if t.Failed() {
							t.Log(broken(part.name, part.sentence))
						}
					})
					c.run(h, t)
				})
			}
		})
	}
}

func broken(name, sentence string) string { return fmt.Sprintf("BROKEN, %s: %s", name, sentence) }
