package credit

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// Head is the end of a ledger's log: all it takes to append the next record, to
// prove where the log ended, and to know the pool.
type Head struct {
	// Sequence is that of the last record; 0 for an empty ledger.
	Sequence int64 `json:"sequence"`
	// Hash is that of the last record; [Genesis] for an empty ledger.
	Hash Hash `json:"hash"`
	// RecordedAt is that of the last record; zero for an empty ledger.
	RecordedAt time.Time `json:"recorded_at,omitzero"`
	// Pool is the pool after the last record.
	Pool Pool `json:"pool"`
}

// ReadSet names what deciding some commands may look at, besides the head.
type ReadSet struct {
	// Resellers by id, by external id, and earlier records by idempotency key.
	Resellers   []uuid.UUID
	ExternalIDs []string
	Keys        []string
}

// ReadSetOf returns the read set of the commands, without repetitions. A command
// whose shape is wrong, or that is nil, needs nothing, because nothing will be looked at.
func ReadSetOf(commands ...Command) ReadSet {
	var set ReadSet
	resellers, externals, keys := map[uuid.UUID]bool{}, map[string]bool{}, map[string]bool{}
	for _, c := range commands {
		e, err := check(c)
		if err != nil {
			continue
		}
		set.Resellers = appendNew(set.Resellers, resellers, e.reseller)
		set.ExternalIDs = appendNew(set.ExternalIDs, externals, e.external)
		set.Keys = appendNew(set.Keys, keys, e.Key)
	}
	return set
}

// appendNew appends v unless it is zero or was seen before.
func appendNew[T comparable](to []T, seen map[T]bool, v T) []T {
	var zero T
	if v == zero || seen[v] {
		return to
	}
	seen[v] = true
	return append(to, v)
}

// Snapshot is what a store found of a [ReadSet], all at one [Head]. What was
// asked for and is not here does not exist.
type Snapshot struct {
	Head      Head
	Resellers []Reseller
	// Records are the earlier records of the keys.
	Records []Record
}

// Stamp is what a decision takes from outside: the time and the ids that its
// record will have. The engine makes one for each command. The zero value is enough
// to try a rule, but a record without time or id is none that [State.Verify] takes.
type Stamp struct {
	// Time is cut to microseconds; the record is never stamped earlier than the
	// one before it.
	Time time.Time
	// RecordID is the record's id; ResellerID that of a reseller that is added, which
	// must have one.
	RecordID, ResellerID uuid.UUID
}

// State is what a decision may look at: the head, the loaded resellers and the
// loaded earlier records. Asking it for what was not loaded is a bug in the
// caller and panics. It is not safe for concurrent use.
type State struct {
	head      Head
	whole     bool   // everything is loaded: what is not here does not exist
	parent    *State // of a fork: where to look for what is not here
	resellers table[uuid.UUID, *Reseller]
	externals table[string, bool]
	keys      table[string, *Record]
	executed  []Record
}

// NewState returns the whole state of an empty ledger. With [State.Execute] it
// is a ledger in itself, enough to test a rule with no store.
func NewState(d Distributor) *State {
	return &State{head: Head{Hash: Genesis(d), Pool: Pool{FromMillionths(0), FromMillionths(0)}}, whole: true}
}

// LoadState returns the part of a ledger's state that was asked for and found. It
// takes over what was found.
func LoadState(asked ReadSet, found Snapshot) *State {
	s := &State{head: found.Head,
		resellers: newTable[uuid.UUID, *Reseller](len(asked.Resellers)),
		externals: newTable[string, bool](len(asked.ExternalIDs)),
		keys:      newTable[string, *Record](len(asked.Keys)),
		executed:  make([]Record, 0, len(asked.Keys))}
	for _, id := range asked.Resellers {
		s.resellers.set(id, nil)
	}
	for _, id := range asked.ExternalIDs {
		s.externals.set(id, false)
	}
	for _, key := range asked.Keys {
		s.keys.set(key, nil)
	}
	for i := range found.Resellers {
		r := &found.Resellers[i]
		s.resellers.set(r.ID, r)
		if len(asked.ExternalIDs) > 0 {
			s.externals.set(r.ExternalID, true)
		}
	}
	for i := range found.Records {
		s.keys.set(found.Records[i].Key, &found.Records[i])
	}
	return s
}

// Executed returns the records that [State.Execute] has added, those of joined
// forks included. They are the state's own.
func (s *State) Executed() []Record { return s.executed }

// Head returns the head after the records applied so far.
func (s *State) Head() Head { return s.head }

// Reseller returns a reseller, and false if the ledger has none with this id. It
// panics if the id was not loaded.
func (s *State) Reseller(id uuid.UUID) (Reseller, bool) {
	r := s.reseller(id)
	if r == nil {
		return Reseller{}, false
	}
	return *r, true
}

// Fork returns a state that begins as s and leaves s alone: commands executed on
// it change s only when it is joined. While a fork is in use, s must not change.
func (s *State) Fork() *State {
	return &State{head: s.head, parent: s}
}

// Join brings what happened on a fork of s into s.
func (s *State) Join(fork *State) {
	s.head = fork.head
	s.resellers.join(fork.resellers)
	s.externals.join(fork.externals)
	s.keys.join(fork.keys)
	s.executed = append(s.executed, fork.executed...)
}

func (s *State) reseller(id uuid.UUID) *Reseller {
	for t := s; ; t = t.parent {
		if r, loaded := t.resellers.get(id); loaded || t.ends("reseller", id) {
			return r
		}
	}
}

func (s *State) hasExternal(id string) bool {
	for t := s; ; t = t.parent {
		if exists, loaded := t.externals.get(id); loaded || t.ends("external id", id) {
			return exists
		}
	}
}

func (s *State) earlier(key string) *Record {
	for t := s; ; t = t.parent {
		if r, loaded := t.keys.get(key); loaded || t.ends("key", key) {
			return r
		}
	}
}

// ends tells whether what is not in s does not exist; it panics if that is not
// known, and is false if the parent knows.
func (s *State) ends(what string, id any) bool {
	if s.parent == nil && !s.whole {
		panic(fmt.Sprintf("credit: the state was asked for %s %v, which was not loaded", what, id))
	}
	return s.whole
}

// Apply folds a record into the state: head, pool, figures and status. Replaying
// every record from [NewState] gives every figure and status. A profile is not
// in a record, so a reseller added by Apply has none. Apply trusts the record;
// [State.Verify] does not.
func (s *State) Apply(r Record) {
	s.head = r.Head()
	switch r.Kind {
	case KindGrant, KindWithdraw:
		return
	case KindAdd:
		s.resellers.set(r.ResellerID, &Reseller{ID: r.ResellerID, ExternalID: r.ExternalID, Status: StatusActive,
			BoundAt: r.RecordedAt, Figures: r.After})
		s.externals.set(r.ExternalID, true)
		return
	}
	reseller, _ := s.resellers.get(r.ResellerID)
	if reseller == nil { // the parent's is to stay as it is
		reseller = new(*s.reseller(r.ResellerID))
		s.resellers.set(r.ResellerID, reseller)
	}
	reseller.Figures = r.After
	switch r.Kind {
	case KindFreeze:
		reseller.Status = StatusFrozen
	case KindUnfreeze:
		reseller.Status = StatusActive
	case KindClose:
		reseller.Status = StatusClosed
	}
}

// Execute decides a command and, unless it is refused or replayed, applies it to
// the state, profile and key included.
func (s *State) Execute(c Command, at Stamp) (Receipt, error) {
	e, receipt, err := decide(s, c, at)
	if err != nil || receipt.Replayed {
		return receipt, err
	}
	s.Apply(receipt.Record)
	s.executed = append(s.executed, receipt.Clone()) // the receipt is the caller's
	if e.kind == KindAdd || e.kind == KindUpdate {
		reseller := s.reseller(receipt.ResellerID) // not the parent's, after Apply
		reseller.Profile, _ = e.profile.apply(reseller.Profile)
		if !e.boundAt.IsZero() {
			reseller.BoundAt = e.boundAt
		}
	}
	if e.Key != "" {
		s.keys.set(e.Key, &s.executed[len(s.executed)-1])
	}
	return receipt, nil
}

// Verify decides again what r did, against the state before it, and applies r if
// the answer is r to the last bit: figures, order, rules and hash. Otherwise it
// returns a [*CorruptError] and leaves the state as it was.
//
// What a record does not hold it cannot check: whether an update changed the fields
// that it names, what a fingerprint was made of, and whether an id or a key was
// given out before. The chain covers them all.
func (s *State) Verify(r Record) error {
	if r.Sequence != s.head.Sequence+1 {
		return &CorruptError{r.Sequence, fmt.Sprintf("follows record %d", s.head.Sequence)}
	}
	for _, d := range []decimal.Decimal{r.Amount, r.Before.Allocated, r.Before.Used, r.After.Allocated, r.After.Used, r.Pool.Granted, r.Pool.Allocated} {
		if _, err := Millionths(d); err != nil {
			return &CorruptError{r.Sequence, reason(err)}
		}
	}
	if want := r.ChainHash(s.head.Hash); r.Hash != want {
		return &CorruptError{r.Sequence, fmt.Sprintf("its hash is %s, its content and the record before it give %s", r.Hash, want)}
	}
	e := &entry{kind: r.Kind, amount: millionths(r.Amount), print: r.Fingerprint,
		details: details{r.Operator, r.Remark, r.Key, r.Reference, r.Corrects, r.Metadata, r.OccurredAt}}
	switch r.Kind { // what a command of this kind can carry, and no more
	case KindGrant, KindWithdraw:
	case KindAdd:
		e.external = r.ExternalID
	case KindUsage, KindCorrection:
		e.reseller, e.customer = r.ResellerID, r.Customer
	default:
		e.reseller = r.ResellerID
	}
	switch {
	case !slices.Contains(Kinds(), r.Kind):
		return &CorruptError{r.Sequence, fmt.Sprintf("its kind %q is unknown", excerpt(string(r.Kind)))}
	case r.Amount.Sign() != r.Kind.sign():
		return &CorruptError{r.Sequence, fmt.Sprintf("its amount %s has the wrong sign for %s", r.Amount, r.Kind)}
	case r.ID == uuid.Nil:
		return &CorruptError{r.Sequence, "it has no id"}
	case r.RecordedAt.IsZero():
		return &CorruptError{r.Sequence, "it has no time at which it was recorded"}
	case r.Kind == KindUpdate && !namesFields(r.Changed):
		return &CorruptError{r.Sequence, fmt.Sprintf("%s are not names of changed fields in their order", excerpt(fmt.Sprintf("%q", r.Changed)))}
	case (r.Key == "") != r.Fingerprint.IsZero():
		return &CorruptError{r.Sequence, "a key and a fingerprint go together"}
	case r.Kind == KindAdd && (r.ResellerID == uuid.Nil || s.reseller(r.ResellerID) != nil):
		return &CorruptError{r.Sequence, fmt.Sprintf("the id %s cannot be that of a new reseller", r.ResellerID)}
	}
	if err := e.checkLabels(); err != nil {
		return &CorruptError{r.Sequence, "no rule allows it: " + reason(err)}
	}
	want, err := s.next(e, Stamp{Time: r.RecordedAt, RecordID: r.ID, ResellerID: r.ResellerID})
	if err != nil {
		return &CorruptError{r.Sequence, "no rule allows it: " + reason(err)}
	}
	if r.Kind == KindUpdate {
		want.Changed = r.Changed
	}
	if want.ChainHash(s.head.Hash) != r.Hash {
		return &CorruptError{r.Sequence, fmt.Sprintf("the rules give %s, not %s%s", outcome(want), outcome(r), otherTexts(want, r))}
	}
	s.Apply(r)
	return nil
}

// outcome is what of a record the rules determine, without texts, for an error.
func outcome(r Record) string {
	return fmt.Sprintf("amount %s, allocated %s to %s, used %s to %s, pool %s of %s, reseller %s, occurred %s, at %s",
		r.Amount, r.Before.Allocated, r.After.Allocated, r.Before.Used, r.After.Used, r.Pool.Allocated, r.Pool.Granted,
		r.ResellerID, r.OccurredAt.Format(time.RFC3339Nano), r.RecordedAt.Format(time.RFC3339Nano))
}

// otherTexts names the texts that the rules determine and that differ, which may
// be about people and are not for an error.
func otherTexts(want, r Record) (names string) {
	for _, text := range []struct {
		name string
		same bool
	}{
		{"external id", want.ExternalID == r.ExternalID},
		{"customer", want.Customer == r.Customer},
		{"list of changed fields", slices.Equal(want.Changed, r.Changed)},
	} {
		if !text.same {
			names += ", and another " + text.name
		}
	}
	return names
}
