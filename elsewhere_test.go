package credit_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

// What went wrong in other systems, as far as rules alone can go wrong. What
// takes a database or concurrent callers is tested with the stores.

// allocated is a ledger with a pool of 100, of which nimbus has 40.
func allocated(t *testing.T) *book {
	b := newBook(t)
	b.do(addNimbus, credit.Grant{Amount: amt("100")}, credit.Allocation{ResellerID: nimbus, Amount: amt("40")})
	return b
}

// OpenXC-Resellers #9: taking back more than available minted credit for the master.
func TestElsewhere_RepossessionNeverTakesMoreThanAvailable(t *testing.T) {
	t.Parallel()
	b := allocated(t)
	b.do(credit.Usage{ResellerID: nimbus, Amount: amt("30")})
	for _, c := range []credit.Command{credit.Repossession{ResellerID: nimbus, Amount: amt("40")}, credit.Allocation{ResellerID: nimbus, Amount: amt("-40")}} {
		_, err := b.try(c)
		require.ErrorIs(t, err, credit.ErrExceedsAvailable)
	}
	b.do(credit.RepossessAll{ResellerID: nimbus})
	assert.Equal(t, "70", b.Head().Pool.Remaining().String(), "the pool gets what was available, and no more")
	assert.Equal(t, "100", b.Head().Pool.Granted.String(), "nothing is minted")
}

// midaz-sdk-golang #236: a reused key with other content returned the old result as success.
func TestElsewhere_ReusedKeyWithOtherContentIsAConflict(t *testing.T) {
	t.Parallel()
	b := allocated(t)
	b.do(credit.Allocation{ResellerID: nimbus, Amount: amt("1"), Key: "po-1"})
	receipt, err := b.try(credit.Allocation{ResellerID: nimbus, Amount: amt("2"), Key: "po-1"})
	require.ErrorIs(t, err, credit.ErrKeyConflict)
	assert.Zero(t, receipt)
}

// flexprice-front #1422: a failed attempt burned the key.
func TestElsewhere_RefusedCommandKeepsItsKeyUnused(t *testing.T) {
	t.Parallel()
	b := allocated(t)
	c := credit.Allocation{ResellerID: nimbus, Amount: amt("61"), Key: "po-1"}
	_, err := b.try(c)
	require.ErrorIs(t, err, credit.ErrInsufficientPool)
	b.do(credit.Grant{Amount: amt("1")})
	receipt, err := b.try(c)
	require.NoError(t, err)
	assert.False(t, receipt.Replayed)
}

// MariaDB's default collation made `PO-1` and `po-1 ` one key.
func TestElsewhere_KeysAreComparedByteByByte(t *testing.T) {
	t.Parallel()
	b := allocated(t)
	for i, key := range []string{"po-1", "PO-1", "po-1 ", "pö-1", "po\u0308-1"} {
		b.do(credit.Grant{Amount: amt("1"), Key: key})
		assert.Len(t, b.log, 4+i)
	}
}

// five-bells-ledger #402: serialization failures were reported as "insufficient funds".
func TestElsewhere_ErrorOfADatabaseIsNoRefusal(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("insufficient pool: %w", errors.New("could not serialize access"))
	assert.Equal(t, "internal", credit.Code(err))
	assert.NotErrorIs(t, err, credit.ErrInsufficientPool)
}

// AutoGPT #13043: refusing after-the-fact usage gave it away free.
func TestElsewhere_UsageIsTakenWithoutCredit(t *testing.T) {
	t.Parallel()
	b := allocated(t)
	b.do(credit.Usage{ResellerID: nimbus, Amount: amt("40")}, credit.Usage{ResellerID: nimbus, Amount: amt("1")},
		credit.Freeze{ResellerID: nimbus}, credit.Usage{ResellerID: nimbus, Amount: amt("1")},
		credit.Close{ResellerID: nimbus}, credit.Usage{ResellerID: nimbus, Amount: amt("1")})
	assert.Equal(t, "3", b.nimbus().Overdraft().String())
}

// blnk #181: two balance checks disagreed.
func TestElsewhere_ThePreviewIsTheRule(t *testing.T) {
	t.Parallel()
	for _, used := range []string{"0", "39.999999", "40", "41", "-5"} {
		g := given{granted: "100", allocated: "40", used: used}
		left := figures(g.allocated, g.used).Repossessable()
		for amount, allowed := range map[string]bool{left.String(): left.IsPositive(), left.Add(amt("0.000001")).String(): false} {
			if amount == "0" {
				continue
			}
			c := credit.Repossession{ResellerID: nimbus, Amount: amt(amount)}
			_, err := credit.Decide(g.state(c), c, stamp(1))
			assert.Equal(t, allowed, err == nil, "%s of %s", amount, left)
		}
	}
}

// bike4mind #890: adjustments lost their operator and reason.
func TestElsewhere_EveryRecordKeepsItsOperatorAndReason(t *testing.T) {
	t.Parallel()
	for _, c := range commands() {
		fill(c)
		receipt, err := credit.Decide(accepting(c), c, stamp(1))
		require.NoError(t, err)
		assert.Equal(t, "x", receipt.Operator, name(c))
		assert.Equal(t, "x", receipt.Remark, name(c))
	}
}

// elizaOS #22681: a price of −1 minted 31,348.80 credits.
func TestElsewhere_NegativeAmountMintsNothing(t *testing.T) {
	t.Parallel()
	b := allocated(t)
	for _, c := range []credit.Command{
		credit.Grant{Amount: amt("-1")}, credit.Withdrawal{Amount: amt("-1")}, credit.Repossession{ResellerID: nimbus, Amount: amt("-1")},
		credit.Usage{ResellerID: nimbus, Amount: amt("-1")}, credit.Correction{ResellerID: nimbus, Amount: amt("-1")}, credit.Settlement{ResellerID: nimbus, Amount: amt("-1")},
	} {
		_, err := b.try(c)
		assert.ErrorIs(t, err, credit.ErrInvalid, name(c))
	}
	assert.Len(t, b.log, 3)
}

// playsms #533: a low-credit alert was skipped at a balance of 0, and an explicit limit of 0 was read as "unset".
func TestElsewhere_AlertAtABalanceOfZero(t *testing.T) {
	t.Parallel()
	b := allocated(t)
	r := b.do(credit.Usage{ResellerID: nimbus, Amount: amt("40")})
	assert.Equal(t, []string{"reseller low 0", "reseller low 0%"}, tell(r.Warnings(thresholds(t, "0", "0%"))))
	assert.Len(t, r.Warnings([]credit.Threshold{{}}), 1, "the zero value is a threshold")
}

// Containarium #1326: a hash chain never verified, because nanoseconds were hashed and microseconds kept.
func TestElsewhere_TheChainVerifiesAfterADatabaseCutTheNanoseconds(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	at := stamp(1)
	at.Time = at.Time.Add(123_456_789)
	receipt, err := b.Execute(credit.Grant{Amount: amt("1"), OccurredAt: at.Time}, at)
	require.NoError(t, err)
	kept := receipt.Record
	kept.OccurredAt, kept.RecordedAt = kept.OccurredAt.Truncate(1000), kept.RecordedAt.Truncate(1000)
	assert.NoError(t, verify([]credit.Record{kept}))
}

// shopspring/decimal #427: 1e20000000 is read in a microsecond, and one addition to it takes seconds.
func TestElsewhere_HugeExponentIsRefusedBeforeArithmetic(t *testing.T) {
	t.Parallel()
	b := allocated(t)
	for _, amount := range []decimal.Decimal{decimal.New(1, 20_000_000), decimal.New(-1, 20_000_000), decimal.New(1, -20_000_000), amt(strings.Repeat("9", 200_000))} {
		for _, c := range []credit.Command{credit.Grant{Amount: amount}, credit.Allocation{ResellerID: nimbus, Amount: amount}, credit.Usage{ResellerID: nimbus, Amount: amount}} {
			_, err := b.try(c)
			assert.ErrorIs(t, err, credit.ErrInvalid)
		}
	}
}

// A database column of approximate numbers turned 12345678901234567.89 into
// 12345678901234568; what has no exact form everywhere is refused.
func TestElsewhere_LargeAmountIsExactOrRefused(t *testing.T) {
	t.Parallel()
	_, err := credit.Millionths(amt("12345678901234567.89"))
	require.ErrorIs(t, err, credit.ErrInvalid)
	v, err := credit.Millionths(amt("123456789012.345678"))
	require.NoError(t, err)
	assert.Equal(t, int64(123_456_789_012_345_678), v)
}
