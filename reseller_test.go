package credit_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/resellerkit/credit"
)

func TestFigures(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ rule, allocated, used, available, repossessable, overdraft string }{
		{"the zero value has nothing", "", "", "0", "0", "0"},
		{"available is allocated − used", "10", "4", "6", "6", "0"},
		{"available may be zero", "10", "10", "0", "0", "0"},
		{"available may be negative, and is the overdraft then", "10", "10.5", "-0.5", "0", "0.5"},
		{"an overdraft needs no allocation", "", "3", "-3", "0", "3"},
		{"repossessable is no more than allocated, when used is negative", "10", "-4", "14", "10", "0"},
		{"nothing is repossessable where nothing is allocated", "", "-4", "4", "0", "0"},
		{"the largest figures are exact", most, "-" + most, "1999999999999.999998", most, "0"},
	} {
		f := figures(tt.allocated, tt.used)
		assert.Equal(t, tt.available, f.Available().String(), tt.rule)
		assert.Equal(t, tt.repossessable, f.Repossessable().String(), tt.rule)
		assert.Equal(t, tt.overdraft, f.Overdraft().String(), tt.rule)
		assert.Equal(t, f, credit.Reseller{Figures: f}.Figures)
	}
}
