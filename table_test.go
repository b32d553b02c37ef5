package credit_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

// A state knows few things in one way and many in another, and joins one to the
// other.
func TestState_knowsAsManyAsThereAre(t *testing.T) {
	t.Parallel()
	for _, before := range []int{0, 1, 7, 8, 9, 20} {
		for _, after := range []int{0, 1, 7, 8, 9, 20} {
			b := newBook(t)
			b.do(credit.Grant{Amount: amt("1000")})
			add := func(s *credit.State, from, to int) {
				for n := from; n < to; n++ {
					_, err := s.Execute(credit.NewReseller{ExternalID: fmt.Sprint(n), Name: "Reseller", Key: fmt.Sprint("key ", n)}, stamp(n))
					require.NoError(t, err)
				}
			}
			add(b.State, 0, before)
			fork := b.Fork()
			add(fork, before, before+after)
			if before > 0 {
				_, err := fork.Execute(credit.Allocation{ResellerID: id(10), Amount: amt("5")}, stamp(50))
				require.NoError(t, err)
				was, _ := b.Reseller(id(10))
				require.True(t, was.Allocated.IsZero(), "a fork changed what it was made from")
			}
			b.Join(fork)
			for n := range before + after {
				_, known := b.Reseller(id(10 + n))
				require.True(t, known, "reseller %d of %d and %d is forgotten", n, before, after)
				_, err := b.Execute(credit.NewReseller{ExternalID: fmt.Sprint(n), Name: "Again"}, stamp(99))
				require.ErrorIs(t, err, credit.ErrExists)
				replay, err := b.Execute(credit.NewReseller{ExternalID: fmt.Sprint(n), Name: "Reseller", Key: fmt.Sprint("key ", n)}, stamp(99))
				require.NoError(t, err)
				require.True(t, replay.Replayed)
			}
			if before > 0 {
				now, _ := b.Reseller(id(10))
				assert.Equal(t, "5", now.Allocated.String(), "what happened on the fork is lost")
			}
			for i, r := range b.Executed() {
				require.EqualValues(t, i+1, r.Sequence, "what was executed is not in order")
			}
			assert.Len(t, b.Executed(), int(b.Head().Sequence), "not all that was executed is there")
		}
	}
}

func TestState_executedRecordsAreItsOwn(t *testing.T) {
	t.Parallel()
	s := credit.NewState(acme)
	c := credit.Grant{Amount: amt("1"), Key: "k", Metadata: map[string]string{"a": "b"}}
	receipt, err := s.Execute(c, stamp(1))
	require.NoError(t, err)
	receipt.Metadata["a"] = "changed"
	assert.Equal(t, "b", s.Executed()[0].Metadata["a"], "a receipt shares its metadata with the state")
	replay, err := s.Execute(c, stamp(2))
	require.NoError(t, err)
	assert.Equal(t, "b", replay.Metadata["a"])
	assert.Len(t, s.Executed(), 1, "a replay is no new record")
}

func TestLoadState_ofManyThings(t *testing.T) {
	t.Parallel()
	var asked credit.ReadSet
	var found credit.Snapshot
	for n := range 20 {
		asked.Resellers, asked.ExternalIDs, asked.Keys = append(asked.Resellers, id(n)), append(asked.ExternalIDs, fmt.Sprint(n)), append(asked.Keys, fmt.Sprint(n))
		if n%2 == 0 {
			found.Resellers = append(found.Resellers, credit.Reseller{ID: id(n), ExternalID: fmt.Sprint(n)})
		}
	}
	s := credit.LoadState(asked, found)
	for n := range 20 {
		_, known := s.Reseller(id(n))
		assert.Equal(t, n%2 == 0, known, "whether there is a reseller %d", n)
	}
	assert.Panics(t, func() { s.Reseller(id(20)) }, "what was not loaded is taken for what does not exist")
}

// A map costs more than a short list, and a long list is slow. Which of them there
// is shows in what is allocated, so the test is not parallel.
func TestLoadState_makesAListOfFewThingsAndAMapOfMany(t *testing.T) {
	var kept any // what is not kept may take no allocation
	load := func(asked, others int) int {
		var set credit.ReadSet
		var found credit.Snapshot
		for n := range asked {
			set.Resellers = append(set.Resellers, id(n))
		}
		for n := range others { // a store finds these by external ids
			found.Resellers = append(found.Resellers, credit.Reseller{ID: id(asked + n)})
		}
		return int(testing.AllocsPerRun(100, func() { kept = credit.LoadState(set, found) }))
	}
	mapOf := func(things, expected int) int {
		return int(testing.AllocsPerRun(100, func() {
			m := make(map[uuid.UUID]*credit.Reseller, expected)
			for n := range things {
				m[id(n)] = nil
			}
			kept = m
		}))
	}
	const list = 1
	nothing := load(0, 0)
	for n := 1; n <= 8; n++ {
		assert.Equal(t, nothing+list, load(n, 0), "a list of %d", n)
	}
	assert.Equal(t, nothing+mapOf(9, 9), load(9, 0), "a map from the beginning")
	assert.Equal(t, nothing+list+mapOf(20, 0), load(8, 20), "a list that is full is left for a map")
	runtime.KeepAlive(kept)
}
