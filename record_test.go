package credit_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/resellerkit/credit"
)

func TestKinds(t *testing.T) {
	t.Parallel()
	told := map[credit.Kind]bool{}
	for _, r := range story(t).log {
		told[r.Kind] = true
	}
	for _, k := range credit.Kinds() {
		assert.True(t, told[k], "some command makes a record of kind %s", k)
	}
	assert.Len(t, credit.Kinds(), len(told))
	assert.Equal(t, []credit.Kind{"allocate", "repossess"}, credit.AllocationKinds(), "allocation records are the allocate and repossess kinds")
}

func TestRecord_PoolBefore(t *testing.T) {
	t.Parallel()
	var before credit.Pool
	for _, r := range story(t).log {
		assert.Equal(t, before.Granted.String(), r.PoolBefore().Granted.String(), "record %d, %s", r.Sequence, r.Kind)
		assert.Equal(t, before.Allocated.String(), r.PoolBefore().Allocated.String(), "record %d, %s", r.Sequence, r.Kind)
		before = r.Pool
	}
}

func TestRecord_Head(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	for _, c := range []credit.Command{addNimbus, credit.Grant{Amount: amt("100")}, credit.Allocation{ResellerID: nimbus, Amount: amt("50")}, credit.Freeze{ResellerID: nimbus}} {
		r := b.do(c)
		assert.Equal(t, b.Head(), r.Head(), "the head after record %d, %s", r.Sequence, r.Kind)
	}
}

func TestRecord_Clone(t *testing.T) {
	t.Parallel()
	r := credit.Record{Metadata: map[string]string{"a": "b"}, Changed: []string{"name"}}
	c := r.Clone()
	assert.Equal(t, r, c)
	c.Metadata["a"], c.Changed[0] = "changed", "changed"
	assert.Equal(t, credit.Record{Metadata: map[string]string{"a": "b"}, Changed: []string{"name"}}, r, "a clone shares nothing")
	assert.Equal(t, credit.Record{}, credit.Record{}.Clone(), "nothing stays nothing")
}
