package store_test

import (
	"math"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

func TestStandingsReturnWhatWasPutOrNothing(t *testing.T) {
	t.Parallel()
	statuses := []credit.Status{credit.StatusActive, credit.StatusFrozen, credit.StatusClosed}
	for _, places := range []int{1, 2, 255, 256, 257, 1000} {
		s := store.NewStandings(places)
		last := map[uuid.UUID]credit.Reseller{}
		for n := range 5 * places {
			r := credit.Reseller{ID: id(n % (2 * places)), Status: statuses[n%3], Figures: credit.Figures{Allocated: amt("1.000001"), Used: credit.FromMillionths(int64(-n))}}
			require.NoError(t, s.Put(r))
			last[r.ID] = r
			got, there := s.Get(r.ID)
			require.True(t, there, "what was put last is there")
			require.True(t, got.Allocated.Equal(r.Allocated) && got.Used.Equal(r.Used) && got.Status == r.Status && got.ID == r.ID, "%+v", got)
		}
		there := 0
		for id, r := range last {
			if got, ok := s.Get(id); ok {
				there++
				assert.True(t, got.Used.Equal(r.Used), "what is remembered is what was put last")
			}
		}
		assert.LessOrEqual(t, there, places)
		assert.Greater(t, there, places*9/10, "places stay free although some were driven out")
		assert.False(t, s.Whole(), "more than there are places for, and none was driven out")
	}
}

func TestStandingsAreWholeUntilOneIsDrivenOut(t *testing.T) {
	t.Parallel()
	s := store.NewStandings(1000)
	for range 3 {
		for n := range 500 {
			require.NoError(t, s.Put(credit.Reseller{ID: id(n), Status: credit.StatusActive}))
		}
	}
	assert.True(t, s.Whole(), "one was driven out of a table with free places within reach")
	for n := range 500 {
		_, there := s.Get(id(n))
		require.True(t, there)
	}
	_, there := s.Get(id(500))
	assert.False(t, there)
}

// Those who go round find some of what they left.
func TestStandingsKeepSomeOfALogThatGoesRound(t *testing.T) {
	t.Parallel()
	s := store.NewStandings(1000)
	found := 0
	for range 10 {
		for n := range 1500 {
			if _, there := s.Get(id(n)); there {
				found++
			}
			require.NoError(t, s.Put(credit.Reseller{ID: id(n), Status: credit.StatusActive}))
		}
	}
	assert.Greater(t, found, 10*1500/4)
}

// What is remembered is still there when the table has grown to take more.
func TestStandingsGrowAndKeepWhatTheyHave(t *testing.T) {
	t.Parallel()
	const most = 5000 // not a power of two
	s := store.NewStandings(most)
	for n := range most {
		require.NoError(t, s.Put(credit.Reseller{ID: id(n), Status: credit.StatusFrozen, Figures: credit.Figures{Allocated: amt("3"), Used: credit.FromMillionths(int64(n))}}))
		if n%97 == 0 {
			for earlier := 0; earlier <= n; earlier += 13 {
				r, there := s.Get(id(earlier))
				require.True(t, there || !s.Whole(), "reseller %d of %d is lost", earlier, n)
				require.True(t, !there || r.Used.Equal(credit.FromMillionths(int64(earlier))) && r.Status == credit.StatusFrozen && r.ID == id(earlier))
			}
		}
		require.True(t, s.Whole() || n > most*3/4, "one was driven out of a table of %d at the %dth", most, n)
	}
}

func TestATableGrowsWhenMoreThanThreeQuartersOfItAreTaken(t *testing.T) {
	t.Parallel()
	s := store.NewStandings(5000)
	for n := range 3072 {
		require.NoError(t, s.Put(credit.Reseller{ID: id(n), Status: credit.StatusActive}))
		want := 1024
		for taken := n + 1; taken > want*3/4; want *= 2 {
		}
		require.Equal(t, min(want, 5000), s.Places(), "places for %d", n+1)
	}
}

func TestAStandingHasAStatusThatIsKnown(t *testing.T) {
	t.Parallel()
	s := store.NewStandings(10)
	for _, status := range []credit.Status{"", "gone"} {
		require.Error(t, s.Put(credit.Reseller{ID: id(1), Status: status}))
		_, there := s.Get(id(1))
		require.False(t, there)
	}
}

func TestAMemoryTakes64BytesForEachReseller(t *testing.T) {
	t.Parallel()
	const resellers = 3000
	s := store.NewMemory(resellers).Standings()
	for n := range 10 * resellers {
		require.NoError(t, s.Put(credit.Reseller{ID: id(n), Status: credit.StatusActive}))
	}
	assert.LessOrEqual(t, uint64(s.Places())*uint64(store.StandingSize), uint64(64*resellers))
}

// On a machine of 32 bits that is so after a few days.
func TestStandingsDriveOutForEver(t *testing.T) {
	t.Parallel()
	for _, turned := range []uint{math.MaxInt, math.MaxUint} {
		s := store.NewStandings(3)
		s.Turned(turned - 5)
		for n := range 20 {
			require.NoError(t, s.Put(credit.Reseller{ID: id(n), Status: credit.StatusActive}))
			_, there := s.Get(id(n))
			require.True(t, there)
		}
	}
}
