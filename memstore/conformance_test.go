package memstore_test

import (
	"testing"

	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
	"github.com/resellerkit/credit/store/storetest"
)

// Two engines on one Store are like two processes on one database, so a second
// handle is the store itself.
func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Harness{
		Open:   func(testing.TB) store.Store { return memstore.New() },
		Reopen: func(_ testing.TB, s store.Store) store.Store { return s },
	})
}
