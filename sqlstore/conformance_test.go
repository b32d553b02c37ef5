package sqlstore_test

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
	"github.com/resellerkit/credit/store/storetest"
)

// Each store has a file of its own; another handle is another pool on it.
func TestConformanceSQLite(t *testing.T) {
	t.Parallel()
	var files sync.Map
	open := func(t testing.TB, path string) store.Store {
		s, err := sqlstore.New(openFile(t, path, 0), sqlstore.SQLite)
		require.NoError(t, err)
		files.Store(s, path)
		return s
	}
	storetest.Run(t, storetest.Harness{
		Open: func(t testing.TB) store.Store {
			path := filepath.Join(t.TempDir(), "credit.db")
			s := open(t, path)
			require.NoError(t, s.(*sqlstore.Store).Migrate(t.Context()))
			return s
		},
		Reopen: func(t testing.TB, s store.Store) store.Store {
			path, _ := files.Load(s)
			return open(t, path.(string))
		},
		Inside: func(t testing.TB, s store.Store, f func(store.Store)) {
			path, _ := files.Load(s)
			tx, err := openFile(t, path.(string), 0).BeginTxx(t.Context(), nil)
			require.NoError(t, err)
			f(s.(*sqlstore.Store).WithTx(tx))
			require.NoError(t, tx.Commit())
		},
		Sequences: 20, Histories: 5,
	})
}
