package store

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
)

// plan is what a batch of calls comes to on one state.
type plan struct {
	expected credit.Head
	batch    Batch
	outcomes [][]credit.Outcome // of each call
	// unverified: an answer rests on what was only remembered or taken for
	// granted, and nothing that will be appended proves it.
	unverified bool
}

// decide folds the calls in order into the state: a refused command is refused
// alone, an all-or-nothing call as one, and a dry run leaves nothing behind. Now is
// when the ledger takes them.
func decide(state *credit.State, calls []*call, now time.Time) plan {
	p := plan{expected: state.Head(), outcomes: make([][]credit.Outcome, len(calls))}
	for i, c := range calls {
		on, head := state, state.Head().Sequence
		if c.options.AllOrNothing || c.options.DryRun {
			on = state.Fork()
		}
		outcomes, refused := execute(on, c, now)
		p.outcomes[i] = outcomes
		failed := c.options.AllOrNothing && refused
		if c.options.DryRun || failed {
			for j := range outcomes {
				outcomes[j] = draft(outcomes[j], head)
				if failed && outcomes[j].Err == nil {
					outcomes[j] = credit.Outcome{Err: credit.ErrNotApplied}
				}
			}
		} else if on != state {
			state.Join(on)
		}
		// A refused command may have a key that is known in truth, and a dry run
		// appends nothing that would tell.
		p.unverified = p.unverified || c.options.DryRun || refused && len(c.asked.Keys) > 0
	}
	p.batch = BatchOf(state.Executed(), state.Reseller)
	// A profile is not remembered.
	p.unverified = p.unverified || len(p.batch.Records) == 0 || len(p.batch.Changed) > 0
	return p
}

func execute(on *credit.State, c *call, now time.Time) (outcomes []credit.Outcome, refused bool) {
	outcomes = make([]credit.Outcome, len(c.commands))
	for j := range c.commands {
		o, at := &outcomes[j], c.stamps[j]
		at.Time = now
		o.Receipt, o.Err = on.Execute(c.commands[j], at)
		refused = refused || o.Err != nil
	}
	return outcomes, refused
}

// draft takes from the outcome of a call that writes nothing what only a written
// record has; head is what the call began on, and what lies before it was written.
func draft(o credit.Outcome, head int64) credit.Outcome {
	if conflict, ok := errors.AsType[*credit.ConflictError](o.Err); ok && conflict.EarlierSequence > head {
		conflict.EarlierSequence = 0
	}
	if r := &o.Receipt; r.Sequence > head {
		r.Sequence, r.ID, r.Hash = 0, uuid.Nil, credit.Hash{}
		if r.Kind == credit.KindAdd {
			r.ResellerID = uuid.Nil
		}
	}
	return o
}
