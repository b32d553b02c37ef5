package storetest

import (
	"reflect"
	"slices"
	"time"

	"github.com/resellerkit/credit"
)

// shrink leaves out operations for as long as what is left still fails, and there
// is patience left.
func shrink(ops []operation, failed *failure, run func([]operation) *failure) ([]operation, *failure) {
	keep := func(shorter []operation) bool {
		f := run(shorter)
		if f == nil {
			return false
		}
		ops, failed = shorter[:min(len(shorter), f.at+1)], f
		return true
	}
	const patience = 20 * time.Second
	start, most := time.Now(), 1000
	more := func() bool { most--; return most > 0 && time.Since(start) < patience }
	keep(ops[:min(len(ops), failed.at+1)])
	leaveOut := func() {
		for size := max(1, len(ops)/2); size > 0; size /= 2 {
			for from := 0; from+size <= len(ops) && more(); {
				if !keep(append(slices.Clone(ops[:from]), ops[from+size:]...)) {
					from += size
				}
			}
		}
	}
	leaveOut()
	for i := range ops {
		for j := 0; i < len(ops) && j < len(ops[i].bulk) && more(); {
			shorter := slices.Clone(ops)
			shorter[i].bulk = slices.Delete(slices.Clone(shorter[i].bulk), j, j+1)
			if !keep(shorter) {
				j++
			}
		}
	}
	// Simpler operations, which may need fewer others before them.
	for i := range ops {
		for j := -1; i < len(ops) && j < len(ops[i].bulk); j++ {
			for _, simpler := range []func(*operation){
				func(o *operation) { o.command = bare(o.command) },
				func(o *operation) { o.slot = min(o.slot, 0) },
				func(o *operation) { o.engine = 0 },
			} {
				shorter := slices.Clone(ops)
				if j < 0 {
					simpler(&shorter[i])
				} else {
					shorter[i].bulk = slices.Clone(ops[i].bulk)
					simpler(&shorter[i].bulk[j])
				}
				if more() {
					keep(shorter)
				}
				if i >= len(ops) || j >= len(ops[i].bulk) {
					break
				}
			}
		}
	}
	leaveOut()
	return ops, failed
}

// bare is a command without what is hardly ever needed to make a test fail.
func bare(c credit.Command) credit.Command {
	if c == nil {
		return nil
	}
	v := reflect.New(reflect.TypeOf(c)).Elem()
	v.Set(reflect.ValueOf(c))
	for _, name := range []string{"Operator", "Remark", "Reference", "Corrects", "Metadata", "OccurredAt", "Customer", "Email", "Mobile", "ResellerRemark"} {
		if f := v.FieldByName(name); f.IsValid() {
			f.SetZero()
		}
	}
	c, _ = reflect.TypeAssert[credit.Command](v)
	return c
}
