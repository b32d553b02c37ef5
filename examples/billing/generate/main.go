// Generate writes the sample data of examples/billing: the bills of three months,
// the resellers that they are about, and some changed lines. The same bytes come out every time.
package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const seed = 20260701

// The sizes of the sample.
const (
	customers = 300
	lines     = 20_000
)

var (
	months    = []time.Month{time.July, time.August, time.September}
	resellers = []string{
		"Altocumulus Ltd", "Altostratus AG", "Cirrocumulus BV", "Cirrostratus SA", "Cirrus GmbH", "Cumulonimbus Inc",
		"Cumulus Oy", "Nimbostratus SpA", "Nimbus Ltd", "Stratocumulus KK", "Stratus AB", "Virga Pte",
	}
	products = []string{"vm", "disk", "snapshot", "object-storage", "database", "cache", "load-balancer", "cdn", "traffic", "sms", "logs", "gpu"}
)

func main() {
	for name, content := range sample() {
		if err := os.WriteFile(filepath.Join("testdata", name), content, 0o600); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// fee is one fee of a bill, as a correction needs it. Fees count in hundredths of
// a millionth.
type fee struct {
	month, id string
	customer  int
	product   string
	fee       int64
}

// sample returns the files by name.
func sample() map[string][]byte {
	rng := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // the same numbers every time are what is wanted
	files := map[string][]byte{"resellers.csv": resellersCSV(rng)}
	var correctable []fee
	for i, month := range months {
		count := lines*(i+1)/len(months) - lines*i/len(months)
		begin := time.Date(2026, month, 1, 0, 0, 0, 0, time.UTC)
		step := begin.AddDate(0, 1, 0).Sub(begin) / time.Duration(count)
		var b bytes.Buffer
		b.WriteString("bill_month,line_id,reseller_uin,customer_uin,product,type,corrects_line,fee,occurred_at\n")
		for n := range count {
			f := fee{month: begin.Format("2006-01"), id: fmt.Sprintf("%06d", n+1), customer: rng.IntN(customers), product: products[rng.IntN(len(products))], fee: amount(rng)}
			kind, corrects := "usage", ""
			if len(correctable) > 0 && rng.IntN(40) == 0 {
				at := rng.IntN(len(correctable))
				earlier := correctable[at]
				correctable = slices.Delete(correctable, at, at+1)
				kind, corrects = "correction", earlier.month+"/"+earlier.id
				f.customer, f.product, f.fee = earlier.customer, earlier.product, earlier.fee
				if rng.IntN(2) == 0 { // lowered, not waived
					f.fee = 1 + rng.Int64N(earlier.fee)
				}
			} else if f.fee >= 1_000_000 && rng.IntN(10) == 0 {
				correctable = append(correctable, f)
			}
			occurred := begin.Add(step*time.Duration(n) + time.Duration(rng.Int64N(int64(step)))).Truncate(time.Second)
			fmt.Fprintf(&b, "%s,%s,%s,%s,%s,%s,%s,%d.%08d,%s\n", f.month, f.id, reseller(f.customer%len(resellers)), customer(f.customer), f.product,
				kind, corrects, f.fee/100_000_000, f.fee%100_000_000, occurred.Format(time.RFC3339))
		}
		files["bill-"+begin.Format("2006-01")+".csv"] = b.Bytes()
	}
	files["changed-2026-07.csv"] = changed(files["bill-2026-07.csv"])
	return files
}

// changed is the beginning of a bill, in which most lines say something else.
func changed(bill []byte) []byte {
	rows := strings.SplitN(string(bill), "\n", 8)[:7]
	for i, change := range []struct {
		column int
		to     string
	}{{7, "9.75"}, {7, "0.00000049"}, {4, "gpu"}, {2, "299999999999"}, {7, "1e9"}} {
		cells := strings.Split(rows[i+1], ",")
		cells[change.column] = change.to
		rows[i+1] = strings.Join(cells, ",")
	}
	return []byte(strings.Join(rows, "\n") + "\n")
}

// resellersCSV gives everyone an allocation; some will not be enough.
func resellersCSV(rng *rand.Rand) []byte {
	var b bytes.Buffer
	b.WriteString("reseller_uin,name,allocated\n")
	for i, name := range resellers {
		fmt.Fprintf(&b, "%s,%s,%d\n", reseller(i), name, 1_000+125*rng.IntN(12))
	}
	return b.Bytes()
}

func reseller(i int) string { return fmt.Sprintf("2000%08d", 10_007*(i+1)) }
func customer(i int) string { return fmt.Sprintf("1000%08d", 3_301*(i+1)) }

// amount is a fee of any size below 10, and now and then one below a millionth.
func amount(rng *rand.Rand) int64 {
	most := int64(10_000)
	for range rng.IntN(6) {
		most *= 10
	}
	if rng.IntN(500) == 0 {
		most = 50
	}
	return 1 + rng.Int64N(most-1)
}
