package report

import (
	"encoding/json"

	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
)

// sum is the JSON form of a sum of amounts, which may be larger than an amount: a
// string, whatever decimal.MarshalJSONWithoutQuotes says.
type sum decimal.Decimal

func (s sum) MarshalJSON() ([]byte, error) {
	return []byte(`"` + decimal.Decimal(s).String() + `"`), nil
}

// MarshalJSON writes kind, count and amount, a string.
func (t Total) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Kind   credit.Kind `json:"kind"`
		Count  int         `json:"count"`
		Amount sum         `json:"amount"`
	}{t.Kind, t.Count, sum(t.Amount)})
}

// MarshalJSON writes head, resellers, overdrawn, and the sums as strings.
func (e Exposure) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Head      credit.Head `json:"head"`
		Resellers int         `json:"resellers"`
		Overdrawn int         `json:"overdrawn"`
		Allocated sum         `json:"allocated"`
		Used      sum         `json:"used"`
		Owed      sum         `json:"owed"`
		Overdraft sum         `json:"overdraft"`
	}{e.Head, e.Resellers, e.Overdrawn, sum(e.Allocated), sum(e.Used), sum(e.Owed), sum(e.Overdraft)})
}
