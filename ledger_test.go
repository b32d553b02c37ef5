package credit_test

import (
	"context"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"

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
