package sqlstore_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

// BenchmarkAppend appends batches of keyed allocations to 100 resellers, one
// caller, each batch committed durably.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1, 8, 64, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s, _ := newStore(b)
			k, _ := opened(b, s)
			var commands []credit.Command
			for i := range 100 {
				commands = append(commands, credit.NewReseller{Name: "Nimbus", ExternalID: fmt.Sprint(i)})
			}
			added := k.write(b, s, commands...).Added
			n := 0
			for b.Loop() {
				b.StopTimer()
				commands = commands[:0]
				for range size {
					n++
					commands = append(commands, credit.Allocation{ResellerID: added[n%len(added)].ID, Amount: amount(b, "0.01"),
						Operator: "ops@example.com", Key: fmt.Sprintf("po-%d", n)})
				}
				expected, batch := k.draft(b, commands...)
				b.StartTimer()
				require.NoError(b, s.Append(b.Context(), k.ID, expected, batch))
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
