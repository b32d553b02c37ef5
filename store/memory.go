package store

import (
	"fmt"
	"math"
	"sync"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
)

// Memory remembers the figures and the status of resellers that engines saw, so that
// deciding need not read them. It takes 64 bytes for each that it may have, and up to as
// much again for a moment while it grows to that, by doubling. It may be shared by any
// number of engines.
type Memory struct {
	mu        sync.Mutex
	resellers *standings
	owners    uint32
	// generations counts those of all engines. Each has its own, so that what another one
	// left there counts for none, even if owners ever come again.
	generations uint64
}

// shared is the memory of engines that were given none.
var shared = NewMemory(1_000_000)

// NewMemory returns a memory for so many resellers; when it is full, a new one takes the
// place of another one, which need not be the least recently used. It panics unless
// resellers is positive.
func NewMemory(resellers int) *Memory {
	if resellers <= 0 {
		panic(fmt.Sprintf("store: NewMemory(%d): must be positive", resellers))
	}
	// A batch is read as a whole if one of its resellers is not there; so there are more
	// places, for hardly any to be driven out of a table that is only just large enough.
	return &Memory{resellers: newStandings(resellers + min(resellers/3, math.MaxInt-resellers))}
}

// memory is what an engine knows of its ledger from its last commit or load. It
// is only looked at with the token in hand.
type memory struct {
	of    *Memory // nil: nothing is ever remembered
	owner uint32
	// generation is what counts of that which the engine has put there. Forgetting
	// everything is going on to the next one.
	generation uint64
	known      bool
	head       credit.Head
	// rivals is how many commits are to hold the ledger, because others were seen to
	// write.
	rivals int
}

// rivalry is for how many commits others that were seen to write are expected to
// do so again.
const rivalry = 16

// newMemory is that of an engine which remembers in m; nil is nothing.
func newMemory(m *Memory) memory {
	if m == nil {
		return memory{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.owners++
	return memory{of: m, owner: m.owners}
}

func (m *memory) forget() { m.known = false }

// recall returns the asked-for part of the state if all of it is remembered, the
// resellers without external ids and profiles. Keys are never remembered: that they
// are free is taken for granted here, and Append finds out.
func (m *memory) recall(asked credit.ReadSet) (*credit.State, bool) {
	if !m.known || len(asked.ExternalIDs) > 0 {
		return nil, false
	}
	found := credit.Snapshot{Head: m.head, Resellers: make([]credit.Reseller, 0, len(asked.Resellers))}
	m.of.mu.Lock()
	defer m.of.mu.Unlock()
	for _, id := range asked.Resellers {
		r := m.recalled(id)
		if r == nil {
			return nil, false
		}
		found.Resellers = append(found.Resellers, r.reseller())
	}
	return credit.LoadState(asked, found), true
}

// learn takes in a head that was read, and resellers as they are at it. If it is not
// the head known so far, all else is forgotten.
func (m *memory) learn(head credit.Head, resellers []credit.Reseller) {
	if m.of == nil {
		return
	}
	others := m.known && head.Hash != m.head.Hash // which the whole log behind it gives
	if others {
		m.rivals = rivalry
	}
	m.of.mu.Lock()
	defer m.of.mu.Unlock()
	if !m.known || others {
		m.begin()
	}
	m.known, m.head = true, head
	m.put(resellers)
}

// follow takes in what the engine has written itself, on top of the head known if it
// is not forgotten.
func (m *memory) follow(b Batch) {
	if m.of == nil {
		return
	}
	m.of.mu.Lock()
	defer m.of.mu.Unlock()
	if !m.known {
		m.begin()
	}
	m.known, m.head = true, b.Head()
	m.put(b.Added)
	m.put(b.Changed)
	for i := range b.Moved {
		// Who is not there was driven out meanwhile, or forgotten, and its status with it.
		if r := m.recalled(b.Moved[i].ID); r != nil && r.move(b.Moved[i].Figures) != nil {
			m.drop(r.id)
		}
	}
}

// begin begins the next generation.
func (m *memory) begin() {
	m.of.generations++
	m.generation = m.of.generations
}

// put remembers the resellers, but not what no record may have, which the store must
// show again.
func (m *memory) put(resellers []credit.Reseller) {
	for _, r := range resellers {
		if s, err := standingOf(m.owner, m.generation, r); err == nil {
			m.of.resellers.put(s)
		} else {
			m.drop(r.ID)
		}
	}
}

// drop forgets one reseller.
func (m *memory) drop(id uuid.UUID) {
	if r := m.recalled(id); r != nil {
		r.generation = 0
	}
}

// recalled is what is remembered of a reseller, or nil.
func (m *memory) recalled(id uuid.UUID) *standing {
	if r := m.of.resellers.get(owned{id, m.owner}); r != nil && r.generation == m.generation {
		return r
	}
	return nil
}
