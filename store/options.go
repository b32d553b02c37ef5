package store

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
)

// Options adjust an engine. The zero value is the documented default of each.
type Options struct {
	// Now is the clock that stamps records; default time.Now. It must not give the
	// zero time. Many callers may ask it at once.
	Now func() time.Time
	// NewID makes the ids of records and resellers; default UUIDv7, whose order in
	// time keeps indexes compact. Ids must never be nil or repeat. Many callers may
	// ask at once.
	NewID func() uuid.UUID
	// Logger hears of retries, lost answers and panics, with no name, remark,
	// amount or text of a database in it; nil logs nothing.
	Logger *slog.Logger
	// OnCommit hears of every finished batch, for metrics and tracing. It runs
	// after the callers were answered and the next batch may have begun, so
	// several may run at once. It may delay the return of one call, so it should be
	// short. A panic in it is logged and goes no further.
	OnCommit func(Commit)
	// MaxQueue is how many commands may wait; a call that would exceed it is
	// credit.ErrBusy. Default 20,000.
	MaxQueue int
	// MaxBatch is how many commands one Append gathers from several calls;
	// default 1,000. A single bulk call is never split.
	MaxBatch int
	// MaxBulk is how many commands one bulk call may have; default 10,000.
	MaxBulk int
	// CommitTimeout is how long a batch may take in all, retries and finding out
	// about lost answers included; default 10 s.
	CommitTimeout time.Duration
	// Memory is what the engine remembers resellers in; nil shares one of a
	// million resellers among all engines of the process that were given none.
	Memory *Memory
}

func (o Options) withDefaults() (Options, error) {
	for _, limit := range []struct {
		name  string
		value *int
		or    int
	}{{"MaxQueue", &o.MaxQueue, 20_000}, {"MaxBatch", &o.MaxBatch, 1_000}, {"MaxBulk", &o.MaxBulk, 10_000}} {
		if *limit.value < 0 {
			return o, &credit.InvalidError{Field: "option " + limit.name, Problem: fmt.Sprintf("is %d, must be positive (0 means %d)", *limit.value, limit.or)}
		}
		if *limit.value == 0 {
			*limit.value = limit.or
		}
	}
	if o.CommitTimeout < 0 {
		return o, &credit.InvalidError{Field: "option CommitTimeout", Problem: "is negative"}
	}
	if o.CommitTimeout == 0 {
		o.CommitTimeout = 10 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.NewID == nil {
		o.NewID = func() uuid.UUID { return uuid.Must(uuid.NewV7()) }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Memory == nil {
		o.Memory = shared
	}
	return o, nil
}

// Commit tells of one finished batch.
type Commit struct {
	// Ledger is whose batch it was.
	Ledger uuid.UUID
	// Calls and Commands are what was gathered, Records what was written.
	Calls, Commands, Records int
	// Attempts is how often the batch was decided or appended; 1 if nothing came
	// between.
	Attempts int
	// Duration is from the first decision to the answer.
	Duration time.Duration
	// Err is why calls of the batch got no answer from a rule; nil if all did.
	Err error
}
