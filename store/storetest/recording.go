package storetest

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// recorded is what the recording comes to on every store: for each of its steps
// the first bytes of a hash of what was answered, and in the end the hashes of all
// that can be read, and the ledger's head.
//
//go:embed testdata/recording.golden.txt
var recorded string

// recording runs one stream of commands, whose ids and times are always the same,
// and compares every byte of what they come to, as JSON, with what is recorded.
func (h Harness) recording(t *testing.T) {
	t.Parallel()
	first := h.Open(t)
	steps := play(t, first, h.second(t, first))
	want := strings.Split(strings.TrimSpace(recorded), "\n")
	for i, s := range steps {
		require.Less(t, i, len(want), "the recording is shorter")
		require.Equal(t, want[i], s.digest, "step %d of the recording came to something else here: %s", i, s.text)
	}
	require.Len(t, steps, len(want))
}

// step is what one step of the recording came to.
type step struct{ digest, text string }

func stepOf(text string) step {
	sum := sha256.Sum256([]byte(text))
	return step{fmt.Sprintf("%x", sum[:4]), text}
}

// play runs the recording on a ledger of its own, on two engines by turns.
func play(t *testing.T, stores ...store.Store) []step {
	t.Helper()
	ctx := t.Context()
	d := credit.Distributor{ID: uuid.MustParse("0192f0c1-0000-7000-8000-000000000001"), Name: "Recording äİ👩‍👩‍👧‍👦 ", Currency: "EUR"}
	clock := time.Date(2026, 3, 1, 12, 0, 0, 123_456_789, time.FixedZone("", 5*3600+45*60))
	var ids atomic.Uint32
	o := store.Options{Now: func() time.Time { return clock }, NewID: func() uuid.UUID {
		n := ids.Add(1)
		return uuid.UUID{0x01, 0x92, 6: 0x70, 8: 0x80, 12: byte(n >> 24), 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)}
	}}
	var engines []credit.Ledger
	for _, s := range stores {
		l, err := store.Open(ctx, s, d, o)
		require.NoError(t, err)
		engines = append(engines, l)
	}
	var steps []step
	rules, issued := newOracle(), map[string]credit.Command{}
	for i, op := range recordedOperations() {
		clock = clock.Add(op.clock)
		l := engines[op.engine%len(engines)]
		var outcomes []credit.Outcome
		if op.bulk == nil {
			receipt, err := send(ctx, l, op.resolve(rules, issued))
			outcomes = []credit.Outcome{{Receipt: receipt, Err: err}}
		} else {
			commands := make([]credit.Command, len(op.bulk))
			for j, item := range op.bulk {
				commands[j] = item.resolve(rules, issued)
			}
			var err error
			outcomes, err = l.Bulk(ctx, commands, op.options)
			require.NoError(t, err, "step %d", i)
		}
		for _, o := range outcomes {
			require.NotEqual(t, "internal", credit.Code(o.Err), "step %d: %v", i, o.Err)
			if o.Err == nil && !o.Receipt.Replayed && !op.options.DryRun {
				rules.follow(o.Receipt.Record)
			}
		}
		steps = append(steps, stepOf(asJSON(t, outcomes)))
	}
	return append(steps, everything(ctx, t, engines[len(engines)-1])...)
}

// follow takes in a record that was written, with no opinion on it: what the
// recording needs of an oracle is which resellers and figures there are.
func (o *oracle) follow(r credit.Record) {
	o.granted.Set(r.Pool.Granted.Rat())
	if r.Kind == credit.KindAdd {
		o.resellers[r.ResellerID] = &member{allocated: new(big.Rat), used: new(big.Rat)}
		o.order = append(o.order, r.ResellerID)
	}
	if m := o.resellers[r.ResellerID]; m != nil {
		m.allocated.Set(r.After.Allocated.Rat())
		m.used.Set(r.After.Used.Rat())
	}
}

// everything is all that can be read of a ledger.
func everything(ctx context.Context, t *testing.T, l credit.Ledger) []step {
	t.Helper()
	var records, resellers strings.Builder
	for q := (credit.RecordQuery{Limit: 7}); ; {
		page, err := l.Records(ctx, q)
		require.NoError(t, err)
		records.WriteString(asJSON(t, page.Items))
		if q.Cursor = page.Next; q.Cursor == "" {
			break
		}
	}
	for q := (credit.ResellerQuery{Statuses: everyStatus(), Limit: 7}); ; {
		page, err := l.Resellers(ctx, q)
		require.NoError(t, err)
		resellers.WriteString(asJSON(t, page.Items))
		if q.Cursor = page.Next; q.Cursor == "" {
			break
		}
	}
	head, err := l.Head(ctx)
	require.NoError(t, err)
	return []step{stepOf(records.String()), stepOf(resellers.String()), stepOf(asJSON(t, head)), {head.Hash.String(), "the head"}}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}

// recordedOperations are the stream: every kind of command with texts that a
// careless store changes, figures at their limits, and then 400 random ones.
func recordedOperations() []operation {
	plain := func(c credit.Command, slot int, amount, key string) operation {
		op := operation{command: c, slot: slot, key: key, clock: time.Microsecond}
		if amount != "" {
			op.amount.plain = decimal.RequireFromString(amount)
		}
		return op
	}
	ops := []operation{plain(credit.Grant{Remark: "first"}, 0, "500000000000.000001", "grant")}
	for i, text := range []string{"äöÄÖ", "İıIi", "ﬁ", "👩‍👩‍👧‍👦", "100%", "a_b", `'it''s'`, `"`, `\`, `\\'`, "trailing  ", "  leading", "\t\n", strings.Repeat("𝄞", credit.MaxKey/4)} {
		exactly := func(most int) string { return strings.Repeat(text, max(1, min(i, 2)*most/len(text)/2)) }
		ops = append(ops,
			plain(credit.NewReseller{ExternalID: text, Name: text, Email: exactly(credit.MaxEmail), Mobile: exactly(credit.MaxMobile), ResellerRemark: exactly(credit.MaxRemark),
				Customers: i, BoundAt: time.Date(2020, 1, 1+i%3, 0, 0, 0, 999_999_999, time.UTC)}, 0, "", fmt.Sprint("add ", i)),
			plain(credit.Usage{Customer: text, Operator: text, Remark: exactly(credit.MaxRemark), Reference: text, Metadata: map[string]string{text: text, "a": "", "A": text}}, i, "0.000001", text),
			plain(credit.Settlement{Operator: text}, i, "0.000001", ""),
			plain(credit.Correction{Customer: text, Corrects: 2, OccurredAt: time.Date(1969, 12, 31, 23, 59, 59, 999_999_999, time.UTC)}, i, "123456.654321", ""), // used is negative now
			plain(credit.Allocation{Remark: text}, i, "1.100000", strings.ToUpper(text)),
			plain(credit.ProfileUpdate{Name: new(text + " "), Email: new(""), Customers: new(0)}, i, "", ""))
	}
	ops = append(ops,
		plain(credit.Allocation{}, 0, "2", "İıIi"), // a conflict
		plain(credit.Allocation{}, 0, "-0.5", ""),
		plain(credit.Repossession{}, 0, "0.600000", "back"),
		operation{command: credit.Repossession{}, key: "back", again: true},
		operation{command: credit.Repossession{}, key: "back", again: true, respell: 4},
		plain(credit.RepossessAll{}, 1, "", ""),
		plain(credit.RepossessAll{}, 1, "", ""),
		plain(credit.Withdrawal{}, 0, "0.000001", ""),
		plain(credit.Withdrawal{}, 0, "999999999999.999999", ""),
		plain(credit.Grant{}, 0, "499999999999.999999", ""),
		plain(credit.Freeze{}, 2, "", ""), plain(credit.Freeze{}, 2, "", ""), plain(credit.Allocation{}, 2, "1", ""), plain(credit.Unfreeze{}, 2, "", ""), plain(credit.Unfreeze{}, 2, "", ""),
		plain(credit.Close{}, 2, "", ""), plain(credit.RepossessAll{}, 2, "", ""), plain(credit.Close{}, 2, "", "closed"),
		plain(credit.Usage{}, 2, "999999999999.999999", ""), plain(credit.Usage{}, 2, "999999999999.999999", ""),
		plain(credit.NewReseller{ExternalID: "ﬁ", Name: "again"}, 0, "", ""))
	for _, id := range []string{"PO-1", "po-1", "po-1 "} {
		ops = append(ops, plain(credit.NewReseller{ExternalID: id, Name: id}, 0, "", "key "+id))
	}
	items := []operation{plain(credit.Grant{}, 0, "0.5", "bulk"), plain(credit.Allocation{}, 3, "0.25", ""), plain(credit.Grant{}, 0, "0.50", "bulk")}
	refused := append(items[:2:2], plain(credit.Allocation{}, 3, "999999999999", ""))
	for _, o := range []credit.BulkOptions{{DryRun: true}, {DryRun: true, AllOrNothing: true}, {AllOrNothing: true}, {}} {
		ops = append(ops, operation{bulk: refused, options: o, clock: time.Second}, operation{bulk: items, options: o, engine: 1})
	}
	g := newGenerator(newRand(20260301, 0))
	g.large = true
	for range 400 {
		ops = append(ops, g.operation())
	}
	for i := range ops {
		ops[i].engine += i / 3
	}
	return ops
}
