package credit_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

func TestResellerQuery_Normalize(t *testing.T) {
	t.Parallel()
	q, err := credit.ResellerQuery{Cursor: "c", Order: "oldest"}.Normalize()
	require.NoError(t, err)
	assert.Equal(t, credit.ResellerQuery{Statuses: []credit.Status{"active", "frozen"}, Order: credit.OrderOldest, Limit: credit.DefaultPageSize, Cursor: "c"}, q,
		"closed resellers are hidden from the default listing")

	asked := []credit.Status{"frozen", "closed", "frozen", "active"}
	q, err = credit.ResellerQuery{Statuses: asked, Limit: credit.MaxPageSize}.Normalize()
	require.NoError(t, err)
	assert.Equal(t, credit.ResellerQuery{Statuses: []credit.Status{"active", "closed", "frozen"}, Order: credit.OrderNewest, Limit: credit.MaxPageSize}, q, "one form for one question")
	assert.Equal(t, []credit.Status{"frozen", "closed", "frozen", "active"}, asked, "a slice handed over is not changed")

	_, err = credit.ResellerQuery{Statuses: []credit.Status{"active", "gone"}}.Normalize()
	require.EqualError(t, err, `credit: statuses: "gone" is unknown; known are [active frozen closed]`)
	_, err = credit.ResellerQuery{Limit: -1}.Normalize()
	assert.EqualError(t, err, "credit: limit: is -1, must be 1 to 1000 (0 means 100)")
}

func TestRecordQuery_Normalize(t *testing.T) {
	t.Parallel()
	q, err := credit.RecordQuery{}.Normalize()
	require.NoError(t, err)
	assert.Equal(t, credit.RecordQuery{Limit: credit.DefaultPageSize}, q, "the zero value reads the whole log")
	q, err = credit.RecordQuery{ResellerID: nimbus, Kinds: []credit.Kind{"repossess", "allocate", "allocate"}, After: 3, Before: 4, NewestFirst: true, Limit: 1, Cursor: "c"}.Normalize()
	require.NoError(t, err)
	assert.Equal(t, credit.RecordQuery{ResellerID: nimbus, Kinds: credit.AllocationKinds(), After: 3, Before: 4, NewestFirst: true, Limit: 1, Cursor: "c"}, q)

	for says, q := range map[string]credit.RecordQuery{
		"credit: sequence range: after -1 and before 0 leave nothing; after must be below before, and neither negative": {After: -1},
		"credit: sequence range: after 0 and before -1 leave nothing; after must be below before, and neither negative": {Before: -1},
		"credit: sequence range: after 4 and before 4 leave nothing; after must be below before, and neither negative":  {After: 4, Before: 4},
		"credit: limit: is 1001, must be 1 to 1000 (0 means 100)":                                                       {Limit: credit.MaxPageSize + 1},
	} {
		_, err := q.Normalize()
		assert.EqualError(t, err, says)
	}
	_, err = credit.RecordQuery{Kinds: []credit.Kind{credit.Kind(strings.Repeat("ö", 50))}}.Normalize()
	assert.ErrorContains(t, err, `credit: kinds: "`+strings.Repeat("ö", 20)+`…" is unknown; known are [grant withdraw allocate `)
}
