package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
)

var update = flag.Bool("update", false, "rewrite testdata/recording.golden.txt")

// The recording is worth what it meets: every kind of command and every way to
// refuse one. With -update it is made anew, on the store in memory.
func TestTheRecordingMeetsEverything(t *testing.T) {
	t.Parallel()
	steps := play(t, memstore.New())
	met := map[string]bool{}
	var golden, all strings.Builder
	for _, s := range steps {
		golden.WriteString(s.digest + "\n")
		all.WriteString(s.text)
		var outcomes []credit.Outcome
		if json.Unmarshal([]byte(s.text), &outcomes) != nil {
			continue // not a step, but what is read in the end
		}
		for _, o := range outcomes {
			met[string(o.Receipt.Kind)] = true
			met[credit.Code(o.Err)] = true
			met["replayed"] = met["replayed"] || o.Receipt.Replayed
			met["dry run"] = met["dry run"] || o.Err == nil && o.Receipt.Hash.IsZero()
			met["used is negative"] = met["used is negative"] || o.Receipt.After.Used.IsNegative()
		}
	}
	for _, kind := range credit.Kinds() {
		require.True(t, met[string(kind)], "no %s is accepted", kind)
	}
	for _, what := range []string{"replayed", "dry run", "used is negative", "invalid", "key_conflict", "not_found", "exists", "not_active", "not_frozen", "not_empty",
		"insufficient_pool", "exceeds_available", "exceeds_used", "out_of_range", "not_applied"} {
		require.True(t, met[what], "%s does not happen; there are %v", what, met)
	}
	for _, text := range []string{"äöÄÖ", "İıIi", "👩", "100%", "a_b", "it''s", `\"`, `\\`, "trailing  ", "999999999999.999999"} {
		require.Contains(t, all.String(), text)
	}
	if *update {
		require.NoError(t, os.WriteFile("testdata/recording.golden.txt", []byte(golden.String()), 0o600))
	}
}

// The rules that failures print are those of the port's own comment.
func TestRulesAreThoseOfThePort(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../store.go")
	require.NoError(t, err)
	comment, _, _ := strings.Cut(string(source), "type Store interface")
	comment = comment[strings.LastIndex(comment, "The rules:"):]
	text := strings.Join(strings.Fields(strings.ReplaceAll(comment, "//", " ")), " ")
	text = strings.NewReplacer("[Retry]", "Retry", "[Reject]", "Reject").Replace(text)
	for i, rule := range rules[1:] {
		require.Contains(t, text, fmt.Sprintf("%d. %s", i+1, rule))
	}
	require.NotContains(t, text, fmt.Sprintf(" %d. ", len(rules)), "every rule of the port is here")
	methods := strings.Join(strings.Fields(strings.ReplaceAll(string(source), "//", " ")), " ")
	for _, sentence := range []string{createSays, loadSays, resellersSays, countSays, recordsSays, latestSays, holdSays} {
		require.Contains(t, methods, sentence)
	}
}

// A model test is worth what it meets: every kind of command must be accepted,
// replayed, and refused by every rule that can refuse it.
func TestTheModelMeetsEveryRule(t *testing.T) {
	t.Parallel()
	met := map[string]int{}
	for i := range uint64(200) {
		rng := newRand(7, i)
		o, issued := newOracle(), map[string]credit.Command{}
		now := time.Unix(1_700_000_000, 0)
		for _, op := range newGenerator(rng).sequence() {
			now = now.Add(op.clock)
			items := op.bulk
			if items == nil {
				items = []operation{op}
			}
			for _, item := range items {
				v := o.decide(item.resolve(o, issued), now)
				what := "accepted"
				switch {
				case v.refusal != nil:
					what = credit.Code(v.refusal)
				case v.replayed:
					what = "replayed"
				default:
					r := v.record
					if r.Kind == credit.KindAdd {
						r.ResellerID = random(rng)
					}
					o.accept(v, r, false)
				}
				kind := credit.Kind("none")
				if v.why != "no command" {
					kind = v.request.kind
				}
				met[string(kind)+" "+what]++
			}
		}
		for _, m := range o.resellers {
			if m.available().Sign() < 0 {
				met["negative available"]++
			}
			if m.used.Sign() < 0 {
				met["negative used"]++
			}
			met["status "+string(m.status)]++
		}
	}
	want := []string{"negative available", "negative used", "status active", "status frozen", "status closed",
		"withdraw insufficient_pool", "allocate insufficient_pool", "allocate not_active", "repossess exceeds_available", "settle exceeds_used", "close not_empty", "close not_active",
		"freeze not_active", "unfreeze not_frozen", "add exists", "grant out_of_range", "usage out_of_range", "correction out_of_range"}
	for _, k := range credit.Kinds() {
		want = append(want, string(k)+" accepted", string(k)+" replayed", string(k)+" invalid", string(k)+" key_conflict")
		if k != credit.KindGrant && k != credit.KindWithdraw && k != credit.KindAdd {
			want = append(want, string(k)+" not_found")
		}
	}
	for _, w := range want {
		require.GreaterOrEqual(t, met[w], 3, "%s, among %v", w, met)
	}
}

// wrongLedger is a ledger that breaks one rule.
type wrongLedger struct {
	credit.Ledger
	settle   func(credit.Ledger, context.Context, credit.Settlement) (credit.Receipt, error)
	usage    func(credit.Ledger, context.Context, credit.Usage) (credit.Receipt, error)
	reseller func(credit.Ledger, context.Context, uuid.UUID) (credit.Reseller, error)
	freeze   func(credit.Ledger, context.Context, credit.Freeze) (credit.Receipt, error)
	allocate func(credit.Ledger, context.Context, credit.Allocation) (credit.Receipt, error)

	resellers    func(credit.Ledger, context.Context, credit.ResellerQuery) (credit.Page[credit.Reseller], error)
	records      func(credit.Ledger, context.Context, credit.RecordQuery) (credit.Page[credit.Record], error)
	headAsOf     func(credit.Ledger, context.Context, credit.AsOf) (credit.Head, error)
	resellerAsOf func(credit.Ledger, context.Context, uuid.UUID, credit.AsOf) (credit.Reseller, error)
}

func (w wrongLedger) Resellers(ctx context.Context, q credit.ResellerQuery) (credit.Page[credit.Reseller], error) {
	if w.resellers != nil {
		return w.resellers(w.Ledger, ctx, q)
	}
	return w.Ledger.Resellers(ctx, q)
}

func (w wrongLedger) Records(ctx context.Context, q credit.RecordQuery) (credit.Page[credit.Record], error) {
	if w.records != nil {
		return w.records(w.Ledger, ctx, q)
	}
	return w.Ledger.Records(ctx, q)
}

func (w wrongLedger) HeadAsOf(ctx context.Context, a credit.AsOf) (credit.Head, error) {
	if w.headAsOf != nil {
		return w.headAsOf(w.Ledger, ctx, a)
	}
	return w.Ledger.HeadAsOf(ctx, a)
}

func (w wrongLedger) ResellerAsOf(ctx context.Context, id uuid.UUID, a credit.AsOf) (credit.Reseller, error) {
	if w.resellerAsOf != nil {
		return w.resellerAsOf(w.Ledger, ctx, id, a)
	}
	return w.Ledger.ResellerAsOf(ctx, id, a)
}

func (w wrongLedger) Settle(ctx context.Context, c credit.Settlement) (credit.Receipt, error) {
	if w.settle != nil {
		return w.settle(w.Ledger, ctx, c)
	}
	return w.Ledger.Settle(ctx, c)
}

func (w wrongLedger) RecordUsage(ctx context.Context, c credit.Usage) (credit.Receipt, error) {
	if w.usage != nil {
		return w.usage(w.Ledger, ctx, c)
	}
	return w.Ledger.RecordUsage(ctx, c)
}

func (w wrongLedger) Reseller(ctx context.Context, id uuid.UUID) (credit.Reseller, error) {
	if w.reseller != nil {
		return w.reseller(w.Ledger, ctx, id)
	}
	return w.Ledger.Reseller(ctx, id)
}

func (w wrongLedger) FreezeReseller(ctx context.Context, c credit.Freeze) (credit.Receipt, error) {
	if w.freeze != nil {
		return w.freeze(w.Ledger, ctx, c)
	}
	return w.Ledger.FreezeReseller(ctx, c)
}

func (w wrongLedger) Allocate(ctx context.Context, c credit.Allocation) (credit.Receipt, error) {
	if w.allocate != nil {
		return w.allocate(w.Ledger, ctx, c)
	}
	return w.Ledger.Allocate(ctx, c)
}

// The model test finds a ledger that breaks a rule, and shortens the sequence that
// shows it to a few operations.
func TestTheModelFindsWrongLedgers(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]wrongLedger{
		"refuses usage without credit": {usage: func(l credit.Ledger, ctx context.Context, c credit.Usage) (credit.Receipt, error) {
			if r, err := l.Reseller(ctx, c.ResellerID); err == nil && c.Amount.GreaterThan(r.Available()) {
				return credit.Receipt{}, credit.ErrExceedsAvailable
			}
			return l.RecordUsage(ctx, c)
		}},
		"settles as a correction": {settle: func(l credit.Ledger, ctx context.Context, c credit.Settlement) (credit.Receipt, error) {
			return l.CorrectUsage(ctx, credit.Correction{ResellerID: c.ResellerID, Amount: c.Amount, Operator: c.Operator, Remark: c.Remark, Key: c.Key, Reference: c.Reference, Corrects: c.Corrects, Metadata: c.Metadata, OccurredAt: c.OccurredAt})
		}},
		"shows no negative used": {reseller: func(l credit.Ledger, ctx context.Context, id uuid.UUID) (credit.Reseller, error) {
			r, err := l.Reseller(ctx, id)
			r.Used = decimal.Max(r.Used, decimal.Zero)
			return r, err
		}},
		"freezes twice": {freeze: func(l credit.Ledger, ctx context.Context, c credit.Freeze) (credit.Receipt, error) {
			receipt, err := l.FreezeReseller(ctx, c)
			if errors.Is(err, credit.ErrNotActive) {
				return credit.Receipt{}, nil
			}
			return receipt, err
		}},
		"forgets that it replays": {allocate: func(l credit.Ledger, ctx context.Context, c credit.Allocation) (credit.Receipt, error) {
			receipt, err := l.Allocate(ctx, c)
			receipt.Replayed = false
			return receipt, err
		}},
		"burns the key of a refused command": {allocate: func(l credit.Ledger, ctx context.Context, c credit.Allocation) (credit.Receipt, error) {
			receipt, err := l.Allocate(ctx, c)
			if errors.Is(err, credit.ErrInsufficientPool) && c.Key != "" {
				_, _ = l.RecordUsage(ctx, credit.Usage{ResellerID: c.ResellerID, Amount: units(1), Key: c.Key})
			}
			return receipt, err
		}},
		"lists the present for the past": {resellers: func(l credit.Ledger, ctx context.Context, q credit.ResellerQuery) (credit.Page[credit.Reseller], error) {
			q.AsOf = credit.AsOf{}
			q.Cursor = "" // of another query
			q.Limit = credit.MaxPageSize
			return l.Resellers(ctx, q)
		}},
		"forgets who was added at that very record": {resellerAsOf: func(l credit.Ledger, ctx context.Context, id uuid.UUID, a credit.AsOf) (credit.Reseller, error) {
			if a.Sequence > 1 {
				a.Sequence--
			}
			return l.ResellerAsOf(ctx, id, a)
		}},
		"takes a time of the past as excluded": {headAsOf: func(l credit.Ledger, ctx context.Context, a credit.AsOf) (credit.Head, error) {
			if !a.Time.IsZero() {
				a.Time = a.Time.Add(-time.Microsecond)
			}
			return l.HeadAsOf(ctx, a)
		}},
		"takes the end of a range of recorded-at as included": {records: func(l credit.Ledger, ctx context.Context, q credit.RecordQuery) (credit.Page[credit.Record], error) {
			if !q.RecordedUntil.IsZero() {
				q.RecordedUntil = q.RecordedUntil.Add(time.Microsecond)
			}
			return l.Records(ctx, q)
		}},
		"has a total without its filters": {resellers: func(l credit.Ledger, ctx context.Context, q credit.ResellerQuery) (credit.Page[credit.Reseller], error) {
			page, err := l.Resellers(ctx, q)
			if all, allErr := l.Resellers(ctx, credit.ResellerQuery{Statuses: everyStatus(), Total: true}); allErr == nil && page.Total != nil {
				page.Total = all.Total
			}
			return page, err
		}},
		"orders by name with regard to case": {resellers: func(l credit.Ledger, ctx context.Context, q credit.ResellerQuery) (credit.Page[credit.Reseller], error) {
			page, err := l.Resellers(ctx, q)
			if q.Order == credit.OrderName {
				slices.SortStableFunc(page.Items, func(a, b credit.Reseller) int { return strings.Compare(a.Name, b.Name) })
			}
			return page, err
		}},
		"panics": {freeze: func(credit.Ledger, context.Context, credit.Freeze) (credit.Receipt, error) {
			panic("index out of range")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, most := memstore.New(), 8
			if wrong.resellers != nil || wrong.records != nil || wrong.headAsOf != nil || wrong.resellerAsOf != nil {
				most = 40 // what is asked in the end depends on what happened
			}
			for i := range uint64(100) {
				run := func(ops []operation) *failure {
					return runOn(t.Context(), func(ctx context.Context, d credit.Distributor, o store.Options) ([]credit.Ledger, error) {
						l, err := store.Open(ctx, s, d, o)
						wrong.Ledger = l
						return []credit.Ledger{wrong}, err
					}, newRand(3, i), ops)
				}
				ops := newGenerator(newRand(11, i)).sequence()
				if failed := run(ops); failed != nil {
					ops, failed = shrink(ops, failed, run)
					require.NotEmpty(t, failed.problem)
					require.LessOrEqual(t, len(ops), most, "shortened to\n%s%s", failed.trace, failed.problem)
					return
				}
			}
			require.Fail(t, "not found in 100 sequences")
		})
	}
}

// The check for linearizability accepts what happened, and nothing that did not.
func TestTheHistoryCheckFindsViolations(t *testing.T) {
	t.Parallel()
	type noSuchCall struct{} // in this history; the next one may have one
	find := func(h *history, which func(input, output) bool) int {
		for i := range slices.Backward(h.operations) {
			in, _ := h.operations[i].Input.(numbered)
			if out, _ := h.operations[i].Output.(output); !out.lost && which(in.input, out) {
				return i
			}
		}
		panic(noSuchCall{})
	}
	accepted := func(in input, out output) bool {
		return len(in.commands) == 1 && out.outcomes[0].Err == nil && !out.outcomes[0].Receipt.Replayed
	}
	set := func(h *history, i int, change func(*output)) {
		out, _ := h.operations[i].Output.(output)
		out.outcomes = slices.Clone(out.outcomes)
		change(&out)
		h.operations[i].Output = out
		h.possible[i] = map[int]bool{}
	}
	for name, tamper := range map[string]func(*history){
		"a read of an older pool": func(h *history) {
			i := find(h, func(in input, out output) bool { return in.read == "pool" })
			set(h, i, func(out *output) { out.pool = h.heads[0].Pool })
		},
		"a read between two records of one call": func(h *history) {
			i := find(h, func(in input, out output) bool {
				return in.bulk && out.outcomes[0].Err == nil && out.outcomes[1].Err == nil
			})
			between := h.heads[receiptOf(h, i).Sequence]
			j := find(h, func(in input, out output) bool { return in.read == "head" })
			set(h, j, func(out *output) { out.head = between })
			h.operations[j].Call, h.operations[j].Return = 0, h.operations[len(h.operations)-1].Call
		},
		"a read of a pool that never was": func(h *history) {
			i := find(h, func(in input, out output) bool { return in.read == "pool" })
			set(h, i, func(out *output) { out.pool.Granted = units(1_000_000) })
		},
		"a read of an older reseller": func(h *history) {
			i := find(h, func(in input, out output) bool { return in.read == "reseller" && len(h.members[in.id]) > 3 })
			in, _ := h.operations[i].Input.(numbered)
			set(h, i, func(out *output) { out.reseller = h.members[in.input.id][0].reseller })
		},
		"a listing of two moments": func(h *history) {
			i := find(h, func(in input, out output) bool { return in.read == "resellers" })
			set(h, i, func(out *output) {
				out.resellers = slices.Clone(out.resellers)
				last := len(out.resellers) - 1
				out.resellers[last] = h.members[out.resellers[last].ID][0].reseller
				out.resellers[last].Used = units(12345)
			})
		},
		"a record missing from a page": func(h *history) {
			i := find(h, func(in input, out output) bool { return in.read == "records" && len(out.records) > 1 })
			set(h, i, func(out *output) { out.records = out.records[1:] })
		},
		"an acknowledged record that is not in the log": func(h *history) {
			set(h, find(h, accepted), func(out *output) { out.outcomes[0].Receipt.ID = uuid.New() })
		},
		"a record with another figure": func(h *history) {
			set(h, find(h, accepted), func(out *output) { out.outcomes[0].Receipt.Pool.Granted = units(3) })
		},
		"a refusal that says another limit": func(h *history) {
			i := find(h, func(in input, out output) bool {
				return len(in.commands) == 1 && errors.Is(out.outcomes[0].Err, credit.ErrInsufficientPool)
			})
			set(h, i, func(out *output) {
				limit, _ := errors.AsType[*credit.LimitError](out.outcomes[0].Err)
				other := *limit
				other.Allowed = units(777_777)
				out.outcomes[0].Err = &other
			})
		},
		"a refusal of what was possible": func(h *history) {
			i := find(h, func(in input, out output) bool {
				_, is := firstCommand(in).(credit.Grant)
				return is && accepted(in, out)
			})
			h.unowned = append(h.unowned, int(receiptOf(h, i).Sequence)-1)
			set(h, i, func(out *output) { out.outcomes[0] = credit.Outcome{Err: credit.ErrNotActive} })
		},
		"a record that nobody asked for": func(h *history) {
			i := find(h, accepted)
			h.unowned = append(h.unowned, int(receiptOf(h, i).Sequence)-1)
			h.operations = slices.Delete(h.operations, i, i+1)
			h.possible = slices.Delete(h.possible, i, i+1)
			for j := range h.operations {
				in, _ := h.operations[j].Input.(numbered)
				in.operation = j
				h.operations[j].Input = in
			}
		},
		"an effect before the call": func(h *history) {
			// The second call of all is now the last one.
			end := h.operations[find(h, accepted)].Return
			h.operations[1].Call, h.operations[1].Return = end+1, end+2
		},
		"an effect after the answer": func(h *history) {
			i := find(h, accepted)
			h.operations[i].Call, h.operations[i].Return = 0, 1
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var h *history
			tampered := func(seed uint64) (done bool) {
				var problem string
				h, problem = runHistory(t.Context(), setting{stores: []store.Store{memstore.New()}}, newRand(5, seed))
				require.Empty(t, problem)
				require.Empty(t, h.check(), "what happened is accepted")
				defer func() {
					switch p := recover().(type) {
					case nil, noSuchCall:
					default:
						panic(p)
					}
				}()
				tamper(h)
				return true
			}
			seed := uint64(0)
			for !tampered(seed) {
				seed++
				require.Less(t, seed, uint64(50), "histories have such calls")
			}
			problem := h.check()
			require.NotEmpty(t, problem, "what did not happen is not accepted")
			require.NotContains(t, problem, "the test itself is wrong")
			if h.undecided {
				t.Log("porcupine ran out of time; the direct check decided")
			}
		})
	}
}

func firstCommand(in input) credit.Command {
	if len(in.commands) == 0 {
		return nil
	}
	return in.commands[0]
}

func receiptOf(h *history, i int) credit.Receipt {
	out, _ := h.operations[i].Output.(output)
	return out.outcomes[0].Receipt
}

func TestFaulty(t *testing.T) {
	t.Parallel()
	for _, fault := range append(Faults(), NoFault) {
		t.Run(fault.String(), func(t *testing.T) {
			t.Parallel()
			inner := memstore.New()
			f := NewFaulty(inner, Script(map[string][]Fault{"Append": {fault}}))
			b := newBook(t, f, newRand(1, 1))
			batch := b.draft(credit.Grant{Amount: units(1), Key: "k", Metadata: map[string]string{"a": "b"}})
			var err error
			panicked := func() (p any) {
				defer func() { p = recover() }()
				err = f.Append(t.Context(), b.distributor.ID, b.head, batch)
				return nil
			}()
			require.Equal(t, fault == Panic || fault == PanicAfter, panicked != nil)
			require.Equal(t, fault != NoFault && panicked == nil, err != nil)
			require.Equal(t, fault == Moved, errors.Is(err, store.ErrMoved))
			require.Equal(t, fault == Temporary, store.Retryable(err))
			clear(batch.Records[0].Metadata) // what is held back is a copy
			written := func() bool {
				found, err := inner.Load(t.Context(), b.distributor.ID, credit.ReadSet{})
				require.NoError(t, err)
				return found.Head.Sequence == 1
			}
			require.Equal(t, fault == NoFault || fault == LostAfter || fault == PanicAfter, written(), "at once")
			found, err := f.Load(t.Context(), b.distributor.ID, credit.ReadSet{})
			require.NoError(t, err)
			if fault == Late {
				require.Zero(t, found.Head.Sequence, "who looks does not see it yet")
				require.True(t, written(), "and then it is there")
			}
			require.Equal(t, fault == Stranded, f.Release() == 1)
			if fault == Stranded {
				require.True(t, written(), "in the end")
				log, err := f.Records(t.Context(), b.distributor.ID, credit.RecordQuery{Limit: 1})
				require.NoError(t, err)
				require.Equal(t, map[string]string{"a": "b"}, log[0].Metadata)
			}
			require.Zero(t, f.Release(), "nothing is left")
		})
	}
}

func TestChanceIsRepeatable(t *testing.T) {
	t.Parallel()
	pick := func(seed uint64) []Fault {
		choose, picked := Chance(seed, 50, Faults()...), []Fault(nil)
		for i := range 100 {
			picked = append(picked, choose(FaultyCall{Method: "Append", Number: i + 1}))
		}
		return picked
	}
	first, again := pick(1), pick(1)
	require.Equal(t, first, again)
	require.NotEqual(t, pick(1), pick(2))
	require.Contains(t, pick(1), NoFault)
	for _, f := range Faults() {
		require.Regexp(t, `^[A-Z][A-Za-z]+$`, f.String())
	}
	require.Equal(t, "Fault(99)", Fault(99).String())
}

func TestEnvironment(t *testing.T) {
	t.Setenv(sequencesVariable, "5")
	t.Setenv(seedVariable, "")
	require.EqualValues(t, 5, fromEnvironment(t, sequencesVariable, 7, 9), "the environment comes first")
	require.EqualValues(t, 7, fromEnvironment(t, seedVariable, 7, 9), "then the harness")
	require.EqualValues(t, 9, fromEnvironment(t, seedVariable, 0, 9), "then the default")
}

// The oracle knows nothing of the rules of package credit: it uses its types and
// errors, and what makes a decimal of millionths.
func TestTheOracleIsIndependent(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("oracle.go")
	require.NoError(t, err)
	used := map[string]bool{}
	for _, m := range regexp.MustCompile(`\bcredit\.([A-Z]\w*)`).FindAllStringSubmatch(string(source), -1) {
		used[m[1]] = true
	}
	for _, command := range []string{"Grant", "Withdrawal", "Allocation", "Repossession", "RepossessAll", "Usage", "Correction", "Settlement", "NewReseller", "ProfileUpdate", "Freeze", "Unfreeze", "Close", "Command"} {
		delete(used, command)
	}
	maps.DeleteFunc(used, func(name string, _ bool) bool { return strings.HasPrefix(name, "Err") })
	require.ElementsMatch(t, []string{"Record", "Reseller", "Profile", "Figures", "Pool", "Kind", "Status", "FromMillionths"}, slices.Collect(maps.Keys(used)))
	require.NotRegexp(t, `\.(Available|Repossessable|Overdraft|Remaining|PoolBefore)\(\)`, string(source))
	source, err = os.ReadFile("selection.go")
	require.NoError(t, err)
	_, source, _ = bytes.Cut(source, []byte("\nfunc selects"))
	require.NotRegexp(t, `\.(Matches|Fold|PositionOf|Ascending|Available|Warnings)\(|(after|position|p)\.Compare`, string(source))
}

// Filters of the oracle find what a careful reader would find, and nothing else.
func TestTheOracleOfListings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text, part string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"Ab", "aB", true}, {"xAbx", "aB", true}, {"ab", "abc", false}, {"a_b", "_", true}, {"axb", "_", false}, {"50 %", "%", true},
		{"Straße", "SS", false}, {"STRAẞE", "ß", true}, {"\u212a", "k", true}, {"İ", "i", false}, {"ı", "I", false}, {"ΣΊ", "ςί", true}, {"A\u0308", "ä", false}, {"aab", "ab", true},
	} {
		require.Equal(t, tt.want, contains(tt.text, tt.part), "%q in %q", tt.part, tt.text)
	}
	for text, want := range map[string]string{"": "", "aZ[": "az[", "\u212aſ": "ks", "äÄ": "ÄÄ", "ςΣ": "ΣΣ", "ßẞ": "ßß", "\U00010428": "\U00010400"} {
		require.Equal(t, want, string(ordered(text)), "%q", text)
	}
}
