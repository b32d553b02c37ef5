package credit_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

const most = "999999999999.999999"

func TestDecide_rules(t *testing.T) {
	t.Parallel()
	// What the figures are after the command, or the refusal and its sentence.
	type want struct {
		granted, allocated, used string
		refusal                  error
		says                     string
	}
	allocate := func(s string) credit.Command { return credit.Allocation{ResellerID: nimbus, Amount: amt(s)} }
	repossess := func(s string) credit.Command { return credit.Repossession{ResellerID: nimbus, Amount: amt(s)} }
	usage := func(s string) credit.Command { return credit.Usage{ResellerID: nimbus, Amount: amt(s)} }
	correct := func(s string) credit.Command { return credit.Correction{ResellerID: nimbus, Amount: amt(s)} }
	settle := func(s string) credit.Command { return credit.Settlement{ResellerID: nimbus, Amount: amt(s)} }
	grant := func(s string) credit.Command { return credit.Grant{Amount: amt(s)} }
	withdraw := func(s string) credit.Command { return credit.Withdrawal{Amount: amt(s)} }
	all, closing := credit.RepossessAll{ResellerID: nimbus}, credit.Close{ResellerID: nimbus}

	for _, tt := range []struct {
		rule    string
		given   given
		command credit.Command
		want    want
	}{
		{"a grant adds to the pool", given{granted: "10"}, grant("0.000001"), want{granted: "10.000001"}},
		{"a withdrawal takes from the pool", given{granted: "10"}, withdraw("4"), want{granted: "6"}},
		{"a withdrawal of exactly the remaining is legal", given{granted: "10", allocated: "4"}, withdraw("6"), want{granted: "4", allocated: "4"}},
		{"a withdrawal of a millionth more than the remaining is refused", given{granted: "10", allocated: "4"}, withdraw("6.000001"),
			want{refusal: credit.ErrInsufficientPool, says: "credit: withdraw: 6.000001 exceeds the pool's remaining 6"}},

		{"an allocation gives credit at once", given{granted: "10"}, allocate("4"), want{granted: "10", allocated: "4"}},
		{"an allocation of exactly the remaining is legal", given{granted: "10", allocated: "4"}, allocate("6"), want{granted: "10", allocated: "10"}},
		{"an allocation of a millionth more than the remaining is refused", given{granted: "10", allocated: "4"}, allocate("6.000001"),
			want{refusal: credit.ErrInsufficientPool, says: "credit: allocate: 6.000001 exceeds the pool's remaining 6"}},
		{"an allocation is allowed while available is negative", given{granted: "10", allocated: "4", used: "9"}, allocate("1"), want{granted: "10", allocated: "5", used: "9"}},
		{"an allocation to a frozen reseller is refused", given{granted: "10", status: credit.StatusFrozen}, allocate("1"),
			want{refusal: credit.ErrNotActive, says: "credit: reseller not active: allocate: it is frozen"}},
		{"an allocation to a closed reseller is refused", given{granted: "10", status: credit.StatusClosed}, allocate("1"),
			want{refusal: credit.ErrNotActive, says: "credit: reseller not active: allocate: it is closed"}},
		{"a negative allocation repossesses", given{granted: "10", allocated: "4"}, allocate("-4"), want{granted: "10"}},
		{"a negative allocation is bound by what is repossessable", given{granted: "10", allocated: "4", used: "1"}, allocate("-3.000001"),
			want{refusal: credit.ErrExceedsAvailable, says: "credit: repossess: 3.000001 exceeds the repossessable 3 (allocated 4, used 1)"}},

		{"a repossession of exactly the repossessable is legal", given{granted: "10", allocated: "4", used: "1"}, repossess("3"), want{granted: "10", allocated: "1", used: "1"}},
		{"a repossession of a millionth more than the repossessable is refused", given{granted: "10", allocated: "4", used: "1"}, repossess("3.000001"),
			want{refusal: credit.ErrExceedsAvailable, says: "credit: repossess: 3.000001 exceeds the repossessable 3 (allocated 4, used 1)"}},
		{"a repossession is refused when all is used", given{granted: "10", allocated: "4", used: "4"}, repossess("0.000001"), want{refusal: credit.ErrExceedsAvailable}},
		{"a repossession is refused when available is negative", given{granted: "10", allocated: "4", used: "5"}, repossess("0.000001"), want{refusal: credit.ErrExceedsAvailable}},
		{"a repossession takes no more than was allocated, be available larger", given{granted: "10", allocated: "4", used: "-5"}, repossess("4.000001"),
			want{refusal: credit.ErrExceedsAvailable, says: "credit: repossess: 4.000001 exceeds the repossessable 4 (allocated 4, used -5)"}},
		{"a repossession may take all that was allocated", given{granted: "10", allocated: "4", used: "-5"}, repossess("4"), want{granted: "10", used: "-5"}},
		{"a repossession works on a frozen reseller", given{granted: "10", allocated: "4", status: credit.StatusFrozen}, repossess("4"), want{granted: "10"}},
		{"a repossession works on a closed reseller", given{granted: "10", allocated: "4", status: credit.StatusClosed}, repossess("4"), want{granted: "10"}},
		{"repossess all takes what is repossessable", given{granted: "10", allocated: "4", used: "1.5"}, all, want{granted: "10", allocated: "1.5", used: "1.5"}},
		{"repossess all takes no more than was allocated", given{granted: "10", allocated: "4", used: "-1"}, all, want{granted: "10", used: "-1"}},
		{"repossess all of nothing is refused", given{granted: "10", allocated: "4", used: "4"}, all,
			want{refusal: credit.ErrExceedsAvailable, says: "credit: repossess: all exceeds the repossessable 0 (allocated 4, used 4)"}},
		{"repossess all works on a frozen reseller", given{granted: "10", allocated: "4", status: credit.StatusFrozen}, all, want{granted: "10"}},

		{"usage lowers available", given{granted: "10", allocated: "4"}, usage("1"), want{granted: "10", allocated: "4", used: "1"}},
		{"usage is never refused for lack of credit", given{}, usage("1000000"), want{used: "1000000"}},
		{"usage works on a frozen reseller", given{status: credit.StatusFrozen}, usage("1"), want{used: "1"}},
		{"usage works on a closed reseller, because fees arrive late", given{status: credit.StatusClosed}, usage("1"), want{used: "1"}},
		{"a correction lowers used", given{used: "5"}, correct("2"), want{used: "3"}},
		{"a correction may make used negative", given{used: "5"}, correct("7"), want{used: "-2"}},
		{"a correction works on a frozen reseller", given{status: credit.StatusFrozen}, correct("1"), want{used: "-1"}},
		{"a correction works on a closed reseller", given{status: credit.StatusClosed}, correct("1"), want{used: "-1"}},
		{"a settlement of exactly what was used is legal", given{used: "5"}, settle("5"), want{}},
		{"a settlement of a millionth more than was used is refused", given{used: "5"}, settle("5.000001"),
			want{refusal: credit.ErrExceedsUsed, says: "credit: settle: 5.000001 exceeds the used 5"}},
		{"a settlement of a negative usage is refused", given{used: "-5"}, settle("0.000001"),
			want{refusal: credit.ErrExceedsUsed, says: "credit: settle: 0.000001 exceeds the used 0"}},
		{"a settlement works on a frozen reseller", given{used: "5", status: credit.StatusFrozen}, settle("1"), want{used: "4"}},
		{"a settlement works on a closed reseller", given{used: "5", status: credit.StatusClosed}, settle("1"), want{used: "4"}},

		{"an external id that another reseller has is refused", given{externals: []string{"2002"}}, credit.NewReseller{ExternalID: "2002", Name: "n"},
			want{refusal: credit.ErrExists, says: `credit: external id exists: "2002" belongs to another reseller of this ledger`}},
		{"a freeze of an active reseller is legal", given{}, credit.Freeze{ResellerID: nimbus}, want{}},
		{"a freeze of a frozen reseller is refused", given{status: credit.StatusFrozen}, credit.Freeze{ResellerID: nimbus}, want{refusal: credit.ErrNotActive}},
		{"a freeze of a closed reseller is refused", given{status: credit.StatusClosed}, credit.Freeze{ResellerID: nimbus}, want{refusal: credit.ErrNotActive}},
		{"an unfreeze of a frozen reseller is legal", given{status: credit.StatusFrozen}, credit.Unfreeze{ResellerID: nimbus}, want{}},
		{"an unfreeze of an active reseller is refused", given{}, credit.Unfreeze{ResellerID: nimbus},
			want{refusal: credit.ErrNotFrozen, says: "credit: reseller not frozen: unfreeze: it is active"}},
		{"an unfreeze of a closed reseller is refused, closing is final", given{status: credit.StatusClosed}, credit.Unfreeze{ResellerID: nimbus}, want{refusal: credit.ErrNotFrozen}},
		{"a close needs nothing repossessable", given{granted: "10", allocated: "4", used: "3.999999"}, closing,
			want{refusal: credit.ErrNotEmpty, says: "credit: close: 0.000001 can still be repossessed; repossess it first"}},
		{"a close of an empty reseller is legal", given{}, closing, want{}},
		{"a close of an overdrawn reseller is legal", given{granted: "10", allocated: "4", used: "5"}, closing, want{granted: "10", allocated: "4", used: "5"}},
		{"a close of a frozen reseller is legal", given{status: credit.StatusFrozen}, closing, want{}},
		{"a close of a closed reseller is refused", given{status: credit.StatusClosed}, closing, want{refusal: credit.ErrNotActive}},
		{"a profile changes on a frozen reseller", given{status: credit.StatusFrozen}, credit.ProfileUpdate{ResellerID: nimbus, Email: new("a@b")}, want{}},
		{"a profile changes on a closed reseller", given{status: credit.StatusClosed}, credit.ProfileUpdate{ResellerID: nimbus, Email: new("a@b")}, want{}},

		{"granted stays below 10^12", given{granted: "999999999999"}, grant("0.999999"), want{granted: most}},
		{"granted never reaches 10^12", given{granted: most}, grant("0.000001"),
			want{refusal: credit.ErrOutOfRange, says: "credit: grant: the figure granted would be 1000000000000; its magnitude is at most " + most}},
		{"used stays below 10^12", given{used: "999999999999"}, usage("0.999999"), want{used: most}},
		{"used never reaches 10^12, that alone refuses usage", given{used: most}, usage("0.000001"), want{refusal: credit.ErrOutOfRange}},
		{"used stays above -10^12", given{used: "-999999999999"}, correct("0.999999"), want{used: "-" + most}},
		{"used never reaches -10^12", given{used: "-" + most}, correct("0.000001"),
			want{refusal: credit.ErrOutOfRange, says: "credit: correction: the figure used would be -1000000000000; its magnitude is at most " + most}},
		{"a correction cannot correct a record to come", given{}, credit.Correction{ResellerID: nimbus, Amount: amt("1"), Corrects: 10},
			want{refusal: credit.ErrInvalid, says: "credit: corrects: 10 is not an earlier record; the last one is 9"}},
		{"a correction may correct the last record", given{used: "1"}, credit.Correction{ResellerID: nimbus, Amount: amt("1"), Corrects: 9}, want{}},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			receipt, err := credit.Decide(tt.given.state(tt.command), tt.command, stamp(1))
			if tt.want.refusal != nil {
				require.ErrorIs(t, err, tt.want.refusal, tt.rule)
				assert.Zero(t, receipt, "a refusal comes without a record")
				if tt.want.says != "" {
					assert.EqualError(t, err, tt.want.says)
				}
				return
			}
			require.NoError(t, err, tt.rule)
			assert.Equal(t, amt(tt.want.granted).String(), receipt.Pool.Granted.String(), tt.rule)
			assert.Equal(t, amt(tt.want.allocated).String(), receipt.Pool.Allocated.String(), tt.rule)
			if receipt.ResellerID == nimbus {
				assert.Equal(t, amt(tt.want.allocated).String(), receipt.After.Allocated.String(), tt.rule)
				assert.Equal(t, amt(tt.want.used).String(), receipt.After.Used.String(), tt.rule)
			}
			moved := receipt.After.Allocated.Sub(receipt.Before.Allocated).Add(receipt.After.Used.Sub(receipt.Before.Used)).
				Add(receipt.Pool.Granted.Sub(receipt.PoolBefore().Granted))
			assert.Equal(t, receipt.Amount.String(), moved.String(), "the amount is the signed change of the one figure that the kind moves")
		})
	}
}

func TestDecide_allocatedStaysInRange(t *testing.T) {
	t.Parallel()
	// The pool bounds what is allocated, so only a state that no log explains gets here.
	s := credit.LoadState(credit.ReadSet{Resellers: []uuid.UUID{nimbus}}, credit.Snapshot{
		Head:      credit.Head{Pool: credit.Pool{Granted: amt("1")}},
		Resellers: []credit.Reseller{{ID: nimbus, Status: credit.StatusActive, Figures: figures(most, "")}}})
	_, err := credit.Decide(s, credit.Allocation{ResellerID: nimbus, Amount: amt("1")}, stamp(1))
	require.ErrorIs(t, err, credit.ErrOutOfRange)
	assert.EqualError(t, err, "credit: allocate: the figure allocated would be 1000000000000.999999; its magnitude is at most "+most)
}

// Shape, key, reseller exists, status, limit, range: for every command and every
// two checks that can fail together, the earlier one is the answer.
func TestDecide_orderOfChecks(t *testing.T) {
	t.Parallel()
	type violation struct {
		check   string
		answer  string
		arrange func(*given, credit.Command)
	}
	figure := func(allocated, used string) func(*given, credit.Command) {
		return func(g *given, _ credit.Command) { g.allocated, g.used = allocated, used }
	}
	status := func(s credit.Status) func(*given, credit.Command) {
		return func(g *given, _ credit.Command) { g.status = s }
	}
	shape := violation{"shape", "invalid operator", func(_ *given, c credit.Command) {
		set(fieldOf(c, "Operator"), strings.Repeat("x", credit.MaxOperator+1))
	}}
	key := violation{"key", "key_conflict", func(g *given, c credit.Command) {
		set(fieldOf(c, "Key"), "key")
		g.earlier = []credit.Record{{Sequence: 3, Key: "key", Kind: credit.KindGrant, Fingerprint: credit.Hash{1}}}
	}}
	absent := violation{"exists", "not_found", func(g *given, _ credit.Command) { g.absent = true }}
	missing := violation{"exists", "not_found", func(_ *given, c credit.Command) { set(fieldOf(c, "ResellerID"), uuid.UUID{}) }}
	taken := violation{"exists", "exists", func(g *given, _ credit.Command) { g.externals = []string{"x"} }}
	frozen := violation{"status", "not_active", status(credit.StatusFrozen)}
	shut := violation{"status", "not_active", status(credit.StatusClosed)}
	thawed := violation{"status", "not_frozen", status(credit.StatusActive)}
	poor := violation{"limit", "insufficient_pool", func(g *given, _ credit.Command) { g.granted = g.allocated }}
	spent := violation{"limit", "exceeds_available", func(g *given, _ credit.Command) { g.used = g.allocated }}
	settled := violation{"limit", "exceeds_used", figure("50", "0")}
	holding := violation{"limit", "not_empty", figure("50", "20")}
	rich := violation{"range", "out_of_range", func(g *given, _ credit.Command) { g.granted = most }}
	worn := violation{"range", "out_of_range", figure("50", most)}
	refunded := violation{"range", "out_of_range", figure("50", "-"+most)}
	future := violation{"corrects", "invalid corrects", func(_ *given, c credit.Command) { set(fieldOf(c, "Corrects"), int64(10)) }}

	violations := map[string][]violation{
		"Grant":         {shape, key, rich, future},
		"Withdrawal":    {shape, key, poor, future},
		"Allocation":    {shape, key, absent, missing, frozen, shut, poor, future},
		"Repossession":  {shape, key, absent, missing, spent, future},
		"RepossessAll":  {shape, key, absent, missing, spent, future},
		"Usage":         {shape, key, absent, missing, worn, future},
		"Correction":    {shape, key, absent, missing, refunded, future},
		"Settlement":    {shape, key, absent, missing, settled, future},
		"NewReseller":   {shape, key, taken, future},
		"ProfileUpdate": {shape, key, absent, missing, future},
		"Freeze":        {shape, key, absent, missing, frozen, shut, future},
		"Unfreeze":      {shape, key, absent, missing, thawed, shut, future},
		"Close":         {shape, key, absent, missing, shut, holding, future},
	}
	violations["Unfreeze"][5].answer = "not_frozen"
	for i := range commands() {
		command := name(commands()[i])
		for j, earlier := range violations[command] {
			for _, later := range violations[command][j:] {
				c := commands()[i]
				fill(c)
				set(fieldOf(c, "Key"), "")
				g := given{granted: "200", allocated: "50", used: "20"}
				switch command {
				case "Unfreeze":
					g.status = credit.StatusFrozen
				case "Close":
					g.used = "50"
				}
				_, err := credit.Decide(g.state(c), c, stamp(1))
				require.NoError(t, err, "%s without a violation", command)
				if earlier.check != later.check {
					later.arrange(&g, c)
				}
				earlier.arrange(&g, c)
				_, err = credit.Decide(g.state(c), c, stamp(1))
				answer := credit.Code(err)
				if invalid, ok := errors.AsType[*credit.InvalidError](err); ok {
					answer += " " + invalid.Field
				}
				assert.Equal(t, earlier.answer, answer, "%s: %s is checked before %s", command, earlier.check, later.check)
			}
		}
	}
}

// An allocation beyond the pool that would also leave the range.
func TestDecide_limitBeforeRange(t *testing.T) {
	t.Parallel()
	c := credit.Allocation{ResellerID: nimbus, Amount: amt("1")}
	_, err := credit.Decide(given{granted: most, allocated: most}.state(c), c, stamp(1))
	assert.ErrorIs(t, err, credit.ErrInsufficientPool)
}

func TestDecide_messagesOfMissingResellers(t *testing.T) {
	t.Parallel()
	c := credit.Usage{ResellerID: nimbus, Amount: amt("1")}
	_, err := credit.Decide(given{absent: true}.state(c), c, stamp(1))
	assert.EqualError(t, err, "credit: no such reseller: "+nimbus.String())
	_, err = credit.Decide(given{}.state(), credit.Usage{Amount: amt("1")}, stamp(1))
	assert.EqualError(t, err, "credit: no such reseller: usage needs a reseller id")
}

func TestDecide_limitErrorTellsWhatWouldWork(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		given              given
		command            credit.Command
		kind               credit.Kind
		requested, allowed string
	}{
		{given{granted: "10", allocated: "4"}, credit.Allocation{ResellerID: nimbus, Amount: amt("7")}, credit.KindAllocate, "7", "6"},
		{given{granted: "10", allocated: "4"}, credit.Withdrawal{Amount: amt("7")}, credit.KindWithdraw, "7", "6"},
		{given{granted: "10", allocated: "4", used: "3"}, credit.Allocation{ResellerID: nimbus, Amount: amt("-2")}, credit.KindRepossess, "2", "1"},
		{given{granted: "10", allocated: "4", used: "5"}, credit.RepossessAll{ResellerID: nimbus}, credit.KindRepossess, "0", "0"},
		{given{used: "-3"}, credit.Settlement{ResellerID: nimbus, Amount: amt("2")}, credit.KindSettle, "2", "0"},
		{given{granted: "10", allocated: "4"}, credit.Close{ResellerID: nimbus}, credit.KindClose, "4", "0"},
		{given{used: most}, credit.Usage{ResellerID: nimbus, Amount: amt("2")}, credit.KindUsage, "1000000000001.999999", most},
	} {
		_, err := credit.Decide(tt.given.state(tt.command), tt.command, stamp(1))
		var limit *credit.LimitError
		require.ErrorAs(t, err, &limit)
		assert.Equal(t, tt.kind, limit.Kind)
		assert.Equal(t, tt.requested, limit.Requested.String(), "%v", err)
		assert.Equal(t, tt.allowed, limit.Allowed.String(), "%v", err)
	}
}

func TestDecide_anExternalIDIsNeverReused(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	b.do(addNimbus, credit.Close{ResellerID: nimbus})
	_, err := b.try(credit.NewReseller{ExternalID: addNimbus.ExternalID, Name: "Another"})
	require.ErrorIs(t, err, credit.ErrExists, "never reused, also not after closing")
	for _, other := range []string{"2001 ", " 2001", "02001", "２００１"} {
		_, err = b.try(credit.NewReseller{ExternalID: other, Name: "Another"})
		require.NoError(t, err, "external ids are compared byte by byte")
	}
}

func TestDecide_changesNothing(t *testing.T) {
	t.Parallel()
	for _, c := range commands() {
		fill(c)
		s := accepting(c)
		first, err := credit.Decide(s, c, stamp(1))
		require.NoError(t, err, name(c))
		assert.Equal(t, accepting(c), s, "%s: Decide changes nothing", name(c))
		second, err := credit.Decide(s, c, stamp(1))
		require.NoError(t, err)
		assert.Equal(t, first, second, "%s: the same inputs give the same output", name(c))

		b := newBook(t)
		_, err = b.try(c)
		if err != nil {
			b.now = 0
			assert.Equal(t, newBook(t), b, "%s: a refused command changes nothing", name(c))
		}
	}
}

func TestDecide_theRecordHoldsWhatTheCommandGave(t *testing.T) {
	t.Parallel()
	for _, c := range commands() {
		fill(c)
		receipt, err := credit.Decide(accepting(c), c, stamp(1))
		require.NoError(t, err, name(c))
		assert.False(t, receipt.Replayed)
		assert.Equal(t, id(1001), receipt.ID)
		assert.EqualValues(t, 10, receipt.Sequence)
		given, got := reflect.ValueOf(c).Elem(), reflect.ValueOf(receipt.Record)
		for i := range given.NumField() {
			field := given.Type().Field(i).Name
			switch field {
			case "Amount", "Name", "Email", "Mobile", "ResellerRemark", "Customers", "BoundAt":
				continue // signed in a record; in no record
			}
			assert.Equal(t, given.Field(i).Interface(), got.FieldByName(field).Interface(), "%s: the record holds %s", name(c), field)
		}
	}
}

func TestDecide_theRecordHasOneFormOfWhatWasGivenInMany(t *testing.T) {
	t.Parallel()
	receipt, err := credit.Decide(given{granted: "1000"}.state(), credit.Grant{Amount: amt("1"), Metadata: map[string]string{}}, stamp(1))
	require.NoError(t, err)
	assert.Nil(t, receipt.Metadata, "no metadata is nil")

	zero := amt("5.000000").Sub(amt("5.000000")) // deeply unequal to other zeros
	for _, million := range []decimal.Decimal{decimal.New(1_000_000, 0), decimal.New(10, 5), decimal.New(1, 6), amt("1000000.000000"), amt("1000000.00000000")} {
		c := credit.Usage{ResellerID: nimbus, Amount: million}
		s := credit.LoadState(credit.ReadSetOf(c), credit.Snapshot{Head: credit.Head{Pool: credit.Pool{Granted: million, Allocated: zero}},
			Resellers: []credit.Reseller{{ID: nimbus, Status: credit.StatusActive, Figures: credit.Figures{Allocated: zero, Used: million}}}})
		receipt, err := credit.Decide(s, c, stamp(1))
		require.NoError(t, err)
		nothing, full := credit.FromMillionths(0), credit.FromMillionths(1_000_000_000_000)
		assert.Equal(t, credit.Pool{Granted: full, Allocated: nothing}, receipt.Pool)
		assert.Equal(t, credit.Figures{Allocated: nothing, Used: full}, receipt.Before)
		assert.Equal(t, credit.Figures{Allocated: nothing, Used: credit.FromMillionths(2_000_000_000_000)}, receipt.After)
	}
}

func TestDecide_stamps(t *testing.T) {
	t.Parallel()
	usage := credit.Usage{ResellerID: nimbus, Amount: amt("1")}
	decide := func(t *testing.T, c credit.Command, at credit.Stamp) credit.Record {
		t.Helper()
		receipt, err := credit.Decide(given{}.state(c), c, at)
		require.NoError(t, err)
		return receipt.Record
	}
	t.Run("recorded-at is never earlier than the record before", func(t *testing.T) {
		t.Parallel()
		r := decide(t, usage, stamp(-1))
		assert.Equal(t, noon, r.RecordedAt)
		assert.Equal(t, noon, r.OccurredAt, "occurred-at is by default recorded-at")
	})
	t.Run("nanoseconds are cut to microseconds", func(t *testing.T) {
		t.Parallel()
		at := stamp(1)
		at.Time = at.Time.Add(1999)
		r := decide(t, usage, at)
		assert.Equal(t, noon.Add(1_000_001_000), r.RecordedAt)
		whole := stamp(1)
		whole.Time = whole.Time.Add(1000)
		assert.Equal(t, decide(t, usage, whole), r)
	})
	t.Run("a time means the same in every zone", func(t *testing.T) {
		t.Parallel()
		zone := time.FixedZone("UTC+5:45", 20700)
		at, given := stamp(1), usage
		given.OccurredAt = noon
		want := decide(t, given, at)
		at.Time, given.OccurredAt = at.Time.In(zone), given.OccurredAt.In(zone)
		assert.Equal(t, want, decide(t, given, at), "not even the hash differs")
	})
	t.Run("occurred-at is as given, in microseconds, and may be before or after recorded-at", func(t *testing.T) {
		t.Parallel()
		c := usage
		for _, c.OccurredAt = range []time.Time{noon.AddDate(-1, 0, 0), noon.AddDate(1, 0, 0)} {
			given := c
			given.OccurredAt = given.OccurredAt.Add(999)
			r := decide(t, given, stamp(1))
			assert.Equal(t, c.OccurredAt, r.OccurredAt)
			assert.Equal(t, noon.Add(1e9), r.RecordedAt)
		}
	})
}

func TestDecide_idempotency(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T) *book {
		b := newBook(t)
		b.do(addNimbus, credit.Grant{Amount: amt("100")})
		return b
	}
	order := credit.Allocation{ResellerID: nimbus, Amount: amt("10"), Key: "po-1", Operator: "ops", Metadata: map[string]string{"a": "b"}}

	t.Run("the same key and content happen once", func(t *testing.T) {
		t.Parallel()
		b := start(t)
		original := b.do(order)
		receipt, err := b.try(order)
		require.NoError(t, err)
		assert.True(t, receipt.Replayed)
		assert.Equal(t, original, receipt.Record, "the original record comes back")
		assert.Equal(t, "10", b.nimbus().Allocated.String())
	})
	t.Run("the same key and other content are a conflict that names both kinds and the sequence", func(t *testing.T) {
		t.Parallel()
		b := start(t)
		b.do(order)
		_, err := b.try(credit.Repossession{ResellerID: nimbus, Amount: amt("10"), Key: "po-1"})
		require.ErrorIs(t, err, credit.ErrKeyConflict)
		require.EqualError(t, err, `credit: repossess: key "po-1" belongs to a different allocate (record 3); use a new key for a new command`)
		assert.Equal(t, &credit.ConflictError{Key: "po-1", Kind: credit.KindRepossess, EarlierKind: credit.KindAllocate, EarlierSequence: 3}, err)
	})
	t.Run("a negative allocation and its repossession are one command", func(t *testing.T) {
		t.Parallel()
		b := start(t)
		b.do(order)
		taken := b.do(credit.Allocation{ResellerID: nimbus, Amount: amt("-4.50"), Key: "back"})
		receipt, err := b.try(credit.Repossession{ResellerID: nimbus, Amount: amt("4.5"), Key: "back"})
		require.NoError(t, err)
		assert.True(t, receipt.Replayed)
		assert.Equal(t, taken, receipt.Record)
	})
	t.Run("a known key answers at once, whatever has happened since", func(t *testing.T) {
		t.Parallel()
		b := start(t)
		original := b.do(order)
		b.do(credit.RepossessAll{ResellerID: nimbus}, credit.Withdrawal{Amount: amt("100")}, credit.Close{ResellerID: nimbus})
		receipt, err := b.try(order)
		require.NoError(t, err)
		assert.True(t, receipt.Replayed)
		assert.Equal(t, original, receipt.Record)
	})
	t.Run("a replay needs no reseller, no status and no limit", func(t *testing.T) {
		t.Parallel()
		original := start(t).do(order)
		receipt, err := credit.Decide(given{absent: true, earlier: []credit.Record{original}}.state(order), order, stamp(1))
		require.NoError(t, err)
		assert.True(t, receipt.Replayed)
	})
	t.Run("a refused command does not consume its key", func(t *testing.T) {
		t.Parallel()
		b := start(t)
		large := order
		large.Amount = amt("101")
		_, err := b.try(large)
		require.ErrorIs(t, err, credit.ErrInsufficientPool)
		b.do(credit.Grant{Amount: amt("1")}, large)
		assert.Equal(t, "101", b.nimbus().Allocated.String(), "after the pool is topped up the same request succeeds")
	})
	t.Run("without a key the same command happens again", func(t *testing.T) {
		t.Parallel()
		b := start(t)
		keyless := order
		keyless.Key = ""
		b.do(keyless, keyless)
		assert.Equal(t, "20", b.nimbus().Allocated.String())
		assert.True(t, b.log[2].Fingerprint.IsZero())
	})
	t.Run("maps handed over are not kept and returned ones are the caller's", func(t *testing.T) {
		t.Parallel()
		b := start(t)
		c := order
		c.Metadata = map[string]string{"a": "b"}
		first, err := b.try(c)
		require.NoError(t, err)
		c.Metadata["a"] = "changed"
		assert.Equal(t, "b", first.Metadata["a"])
		first.Metadata["a"] = "changed"
		for range 2 {
			replay, err := b.try(order)
			require.NoError(t, err, "neither map is part of the ledger")
			assert.Equal(t, "b", replay.Metadata["a"])
			replay.Metadata["a"] = "changed"
		}
	})
}

func TestDecide_profileUpdates(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	b.do(credit.NewReseller{ExternalID: "2001", Name: "Nimbus", Email: "a@b", Mobile: "1", ResellerRemark: "r", Customers: 3})
	r := b.do(credit.ProfileUpdate{ResellerID: nimbus, Email: new(""), Mobile: new("1"), Customers: new(0)})
	assert.Equal(t, []string{"email", "customers"}, r.Changed, "the record names what changed: empty is not nil, and the same is no change")
	assert.Equal(t, credit.Profile{Name: "Nimbus", Mobile: "1", Remark: "r"}, b.nimbus().Profile)
	r = b.do(credit.ProfileUpdate{ResellerID: nimbus, Name: new("N"), Mobile: new("2"), ResellerRemark: new("s")})
	assert.Equal(t, []string{"name", "mobile", "remark"}, r.Changed)
	assert.Equal(t, credit.Profile{Name: "N", Mobile: "2", Remark: "s"}, b.nimbus().Profile)
	assert.Empty(t, b.do(credit.ProfileUpdate{ResellerID: nimbus, Name: new("N")}).Changed, "an update that changes nothing is recorded as such")
}

func TestDecide_aNewResellerNeedsAnID(t *testing.T) {
	t.Parallel()
	state := credit.NewState(credit.Distributor{ID: uuid.UUID{1}, Name: "Acme", Currency: "USD"})
	_, err := credit.Decide(state, credit.NewReseller{Name: "Nimbus", ExternalID: "1"}, credit.Stamp{})
	require.EqualError(t, err, "credit: stamp: has no id for the new reseller")
}
