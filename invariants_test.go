package credit_test

import (
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

// command makes one of all possible commands; choose answers a number below n.
func command(b *book, choose func(n int) int) credit.Command {
	resellers := []uuid.UUID{nobody}
	for _, r := range b.log {
		if r.Kind == credit.KindAdd {
			resellers = append(resellers, r.ResellerID)
		}
	}
	reseller := resellers[choose(len(resellers))]
	is, _ := b.Reseller(reseller)
	pick := func() decimal.Decimal {
		exact := []decimal.Decimal{is.Repossessable(), is.Used, is.Available(), b.Head().Pool.Remaining(), amt("0.000001"), amt(most), amt("0.0000001"), amt("0"), amt("-1")}
		if n := choose(2 * len(exact)); n < len(exact) {
			return exact[n].Add(credit.FromMillionths(int64(choose(3)) - 1))
		}
		return credit.FromMillionths(int64(choose(256)) * int64(choose(256)) * 10_000)
	}
	key := ""
	if n := choose(50); n < 5 {
		key = string(rune('a' + n))
	}
	switch choose(16) {
	case 0:
		return credit.NewReseller{ExternalID: []string{"1", "2", "3", "4", ""}[choose(5)], Name: "n", Key: key}
	case 1, 2:
		return credit.Grant{Amount: pick(), Key: key}
	case 3:
		return credit.Withdrawal{Amount: pick(), Key: key}
	case 4, 5, 6:
		return credit.Allocation{ResellerID: reseller, Amount: pick(), Key: key}
	case 7:
		return credit.Allocation{ResellerID: reseller, Amount: pick().Neg(), Key: key}
	case 8:
		return credit.Repossession{ResellerID: reseller, Amount: pick(), Key: key}
	case 9:
		return credit.RepossessAll{ResellerID: reseller, Key: key}
	case 10, 11:
		return credit.Usage{ResellerID: reseller, Amount: pick(), Key: key}
	case 12:
		return credit.Correction{ResellerID: reseller, Amount: pick(), Key: key, Corrects: int64(choose(9))}
	case 13:
		return credit.Settlement{ResellerID: reseller, Amount: pick(), Key: key}
	case 14:
		return credit.ProfileUpdate{ResellerID: reseller, Name: new("m"), Key: key}
	default:
		return []credit.Command{credit.Freeze{ResellerID: reseller, Key: key}, credit.Unfreeze{ResellerID: reseller, Key: key}, credit.Close{ResellerID: reseller, Key: key}}[choose(3)]
	}
}

// checkStream executes n commands and checks the invariants after every one.
func checkStream(t testing.TB, n int, choose func(n int) int) {
	b := newBook(t)
	granted, allocated, used := decimal.Zero, map[uuid.UUID]decimal.Decimal{}, map[uuid.UUID]decimal.Decimal{}
	for range n {
		head := b.Head()
		receipt, err := b.try(command(b, choose))
		if err != nil || receipt.Replayed {
			require.Equal(t, head, b.Head(), "a refusal and a replay write nothing")
			continue
		}
		r := receipt.Record
		switch r.Kind { //nolint:exhaustive // the others move no figure
		case credit.KindGrant, credit.KindWithdraw:
			granted = granted.Add(r.Amount)
		case credit.KindAllocate, credit.KindRepossess:
			allocated[r.ResellerID] = allocated[r.ResellerID].Add(r.Amount)
		case credit.KindUsage, credit.KindCorrection, credit.KindSettle:
			used[r.ResellerID] = used[r.ResellerID].Add(r.Amount)
		}
		sum := decimal.Zero
		for _, a := range allocated {
			sum = sum.Add(a)
			require.False(t, a.IsNegative(), "Allocated is never negative")
		}
		equal := func(want, got decimal.Decimal, rule string) {
			if !want.Equal(got) {
				require.Failf(t, rule, "%s, not %s, after %+v", want, got, r)
			}
		}
		require.Equal(t, head.Sequence+1, r.Sequence, "invariant 6: the sequence has no gap")
		require.False(t, r.Pool.Remaining().IsNegative(), "invariant 1: Pool.Remaining ≥ 0, always")
		if r.Kind == credit.KindRepossess {
			require.False(t, r.After.Available().IsNegative() || r.After.Allocated.IsNegative(), "invariant 2: a repossession never leaves Available, nor Allocated, below 0")
		}
		if r.Kind != credit.KindUsage && !r.Before.Available().IsNegative() {
			require.False(t, r.After.Available().IsNegative(), "invariant 3: only usage makes Available negative, not %s", r.Kind)
		}
		equal(granted, r.Pool.Granted, "granted is grants − withdrawals")
		equal(granted, r.Pool.Remaining().Add(sum), "invariant 4: Granted = Remaining + Σ Allocated")
		equal(allocated[r.ResellerID], r.After.Allocated, "allocated is the sum of the signed amounts")
		equal(used[r.ResellerID], r.After.Used, "used is usage − corrections − settlements")
		if is, ok := b.Reseller(r.ResellerID); ok {
			require.Equal(t, is.Figures, r.After)
		}
	}
	replayed, verified := credit.NewState(acme), credit.NewState(acme)
	for _, r := range b.log {
		replayed.Apply(r)
		require.NoError(t, verified.Verify(r))
	}
	for _, s := range []*credit.State{replayed, verified} {
		require.Equal(t, b.Head(), s.Head(), "invariant 6: replaying the records gives every figure and status")
		for id := range allocated {
			want, _ := b.Reseller(id)
			got, _ := s.Reseller(id)
			require.Equal(t, want.Figures, got.Figures, "invariant 6: replaying the records gives every figure and status")
			require.Equal(t, want.Status, got.Status, "invariant 6: replaying the records gives every figure and status")
		}
	}
}

func TestInvariants_holdForEveryStreamOfCommands(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		checkStream(t, 1+random.IntN(200), random.IntN)
	}
}
