package credit

// table is a map that is a list as long as it is short: a state for one command
// has an entry or two.
type table[K comparable, V any] struct {
	short []row[K, V]
	long  map[K]V
}

type row[K comparable, V any] struct {
	key   K
	value V
}

const shortTable = 8

// newTable returns a table for so many entries.
func newTable[K comparable, V any](entries int) table[K, V] {
	if entries > shortTable {
		return table[K, V]{long: make(map[K]V, entries)}
	}
	return table[K, V]{short: make([]row[K, V], 0, entries)}
}

func (t *table[K, V]) get(key K) (V, bool) {
	for i := range t.short {
		if r := &t.short[i]; r.key == key {
			return r.value, true
		}
	}
	v, ok := t.long[key]
	return v, ok
}

func (t *table[K, V]) set(key K, value V) {
	for i := range t.short {
		if r := &t.short[i]; r.key == key {
			r.value = value
			return
		}
	}
	if t.long == nil && len(t.short) < shortTable {
		t.short = append(t.short, row[K, V]{key, value})
		return
	}
	if t.long == nil {
		t.long = map[K]V{}
	}
	t.long[key] = value
}

func (t *table[K, V]) join(other table[K, V]) {
	for _, r := range other.short {
		t.set(r.key, r.value)
	}
	for key, value := range other.long {
		t.set(key, value)
	}
}
