package sqlstore_test

import (
	"database/sql"
	"testing"

	"github.com/resellerkit/credit/store"
	"github.com/resellerkit/credit/store/storetest/sqltamper"
)

// Whatever is changed past the library, Check finds it, or it is declared why not.
func TestTampering(t *testing.T) {
	t.Parallel()
	s, db := newStore(t)
	sqltamper.Run(t, sqltamper.Target{Dialect: "sqlite", DB: db.DB, Store: s, Within: func(tx *sql.Tx) store.Store { return s.WithTx(tx) }})
}
