package credit_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

func TestLedger_hasOneMethodForEveryCommand(t *testing.T) {
	t.Parallel()
	var want, got []string
	for _, c := range commands() {
		want = append(want, name(c))
	}
	for m := range reflect.TypeFor[credit.Ledger]().Methods() {
		f := m.Type
		if f.NumIn() == 2 && f.In(1).Implements(reflect.TypeFor[credit.Command]()) {
			got = append(got, f.In(1).Name())
			assert.Equal(t, reflect.TypeFor[context.Context](), f.In(0), m.Name)
			assert.Equal(t, reflect.TypeFor[credit.Receipt](), f.Out(0), m.Name)
		}
	}
	assert.ElementsMatch(t, want, got)
}

// paged is a ledger that lists sequences 1 to 7 in pages, and fails after so many.
type paged struct {
	credit.Ledger
	calls, good int
	totals      int // how often a total was asked for
}

var errListing = errors.New("connection reset by peer")

func (p *paged) next(at credit.Cursor, limit int) (sequences []int64, next credit.Cursor, err error) {
	if p.calls++; p.calls > p.good {
		return nil, "", errListing
	}
	first := int64(1)
	if at != "" {
		_, err = fmt.Sscanf(string(at), "from %d", &first)
	}
	for s := first; s <= 7; s++ {
		if len(sequences) == limit {
			return sequences, credit.Cursor(fmt.Sprintf("from %d", s)), err
		}
		sequences = append(sequences, s)
	}
	return sequences, "", err
}

func (p *paged) Records(_ context.Context, q credit.RecordQuery) (page credit.Page[credit.Record], err error) {
	sequences, next, err := p.next(q.Cursor, q.Limit)
	for _, s := range sequences {
		page.Items = append(page.Items, credit.Record{Sequence: s})
	}
	page.Next = next
	return page, err
}

func (p *paged) Resellers(_ context.Context, q credit.ResellerQuery) (page credit.Page[credit.Reseller], err error) {
	sequences, next, err := p.next(q.Cursor, q.Limit)
	for _, s := range sequences {
		page.Items = append(page.Items, credit.Reseller{ID: id(int(s))})
	}
	if q.Total {
		p.totals++
	}
	page.Next = next
	return page, err
}

func TestAllRecords(t *testing.T) {
	t.Parallel()
	read := func(p *paged, q credit.RecordQuery, most int) (got []int64, err error) {
		for r, err := range credit.AllRecords(t.Context(), p, q) {
			if err != nil {
				assert.Equal(t, credit.Record{}, r, "an error comes with a zero record")
				return got, err
			}
			if got = append(got, r.Sequence); len(got) == most {
				break
			}
		}
		return got, nil
	}
	for _, tt := range []struct {
		rule  string
		q     credit.RecordQuery
		good  int
		most  int
		want  []int64
		calls int
		err   error
	}{
		{"all pages, in order", credit.RecordQuery{Limit: 3}, 9, 0, []int64{1, 2, 3, 4, 5, 6, 7}, 3, nil},
		{"it begins at the cursor", credit.RecordQuery{Limit: 2, Cursor: "from 4"}, 9, 0, []int64{4, 5, 6, 7}, 2, nil},
		{"a page is read when the one before has been yielded", credit.RecordQuery{Limit: 3}, 9, 3, []int64{1, 2, 3}, 1, nil},
		{"a caller who stops is not called again", credit.RecordQuery{Limit: 3}, 9, 4, []int64{1, 2, 3, 4}, 2, nil},
		{"an error ends it", credit.RecordQuery{Limit: 3}, 1, 0, []int64{1, 2, 3}, 2, errListing},
		{"an error at once", credit.RecordQuery{Limit: 3}, 0, 0, nil, 1, errListing},
	} {
		p := &paged{good: tt.good}
		got, err := read(p, tt.q, tt.most)
		require.ErrorIs(t, err, tt.err, tt.rule)
		assert.Equal(t, tt.want, got, tt.rule)
		assert.Equal(t, tt.calls, p.calls, tt.rule)
	}
}

func TestAllResellers(t *testing.T) {
	t.Parallel()
	p := &paged{good: 4}
	all := credit.AllResellers(t.Context(), p, credit.ResellerQuery{Limit: 4, Total: true})
	for range 2 {
		var got []credit.Reseller
		for r, err := range all {
			require.NoError(t, err)
			got = append(got, r)
		}
		require.Len(t, got, 7, "it may be ranged over again")
		assert.Equal(t, id(7), got[6].ID)
	}
	assert.Zero(t, p.totals, "nobody sees a total, so it is not counted")
	for r, err := range all {
		require.ErrorIs(t, err, errListing)
		assert.Equal(t, credit.Reseller{}, r)
	}
}

// A round does not change where another one is, though both began at one call.
func TestAllRecords_roundsAreIndependent(t *testing.T) {
	t.Parallel()
	all := credit.AllRecords(t.Context(), &paged{good: 99}, credit.RecordQuery{Limit: 2})
	var got []int64
	for outer, err := range all {
		require.NoError(t, err)
		for inner, err := range all {
			require.NoError(t, err)
			assert.Positive(t, inner.Sequence)
		}
		got = append(got, outer.Sequence)
	}
	assert.Equal(t, []int64{1, 2, 3, 4, 5, 6, 7}, got)
}
