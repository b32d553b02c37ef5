package databases_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/archive"
	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

// A ledger is exported from each store and imported into every other one: the
// same head, and the same export to the byte.
func TestExportsMoveBetweenAllStores(t *testing.T) {
	t.Parallel()
	type kept struct {
		name string
		open func() store.Store
	}
	postgres := postgresWay{server: server.Postgres15, driver: "pgx"}.start(t)
	mysql := openMySQL(t, server.Start(t, server.MariaDB))
	tables := 0
	stores := []kept{
		{"memstore", func() store.Store { return memstore.New() }},
		{"SQLite", func() store.Store {
			db, err := sqlx.Open("sqlite", sqlstore.SQLiteDSN(filepath.Join(t.TempDir(), "credit.db")))
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, db.Close()) })
			s, err := sqlstore.New(db, sqlstore.SQLite)
			require.NoError(t, err)
			require.NoError(t, s.Migrate(t.Context()))
			return s
		}},
		{"PostgreSQL", func() store.Store { return postgres.open(t) }},
		{"MariaDB", func() store.Store {
			tables++
			return newMySQL(t, mysql, sqlstore.WithPrefix(fmt.Sprintf("a%d_", tables)))
		}},
	}
	for _, from := range stores {
		d := credit.Distributor{ID: uuid.New(), Name: "Acme <Cloud> & Söhne 𝄞", Currency: "USD"}
		l, err := store.Open(t.Context(), from.open(), d, store.Options{})
		require.NoError(t, err)
		keepBooks(t, l)
		head, err := l.Head(t.Context())
		require.NoError(t, err)
		var export bytes.Buffer
		_, err = archive.Write(t.Context(), l, &export)
		require.NoError(t, err)
		for _, to := range stores {
			why := "from " + from.name + " to " + to.name
			s := to.open()
			imported, err := archive.Import(t.Context(), s, bytes.NewReader(export.Bytes()), head)
			require.NoError(t, err, why)
			require.Equal(t, head, imported.Head, why)
			copied, err := store.Open(t.Context(), s, imported.Distributor, store.Options{})
			require.NoError(t, err, why)
			checked, err := copied.Check(t.Context())
			require.NoError(t, err, why)
			require.Equal(t, head, checked.Head, why)
			var again bytes.Buffer
			_, err = archive.Write(t.Context(), copied, &again)
			require.NoError(t, err, why)
			require.Equal(t, export.String(), again.String(), why)
		}
	}
}

// keepBooks writes some 1,500 records of every kind.
func keepBooks(t *testing.T, l *store.Ledger) {
	t.Helper()
	odd := []string{"", "ops@example.com", "späte 𝄞 Gebühr ", "\"quoted\", \\escaped", "two\nlines\r\n", "<&>\u2028", "\x01\x7f"}
	text := func(i int) string { return odd[i%len(odd)] }
	commands := []credit.Command{credit.Grant{Amount: decimal.New(999_999_999_999, 0), Operator: "channel", Key: "grant"}, credit.Withdrawal{Amount: decimal.New(1, -6)}}
	for i := range 60 {
		commands = append(commands, credit.NewReseller{ExternalID: fmt.Sprintf("%d%s", i, text(i)), Name: "N" + text(i+1), Email: text(i + 2), Mobile: text(i + 3),
			ResellerRemark: text(i + 4), Customers: i, BoundAt: time.Date(1+i*150, 2, 3, 4, 5, 6, (i%3)*1000, time.UTC), Key: fmt.Sprint("add", i)})
	}
	_, err := l.Bulk(t.Context(), commands, credit.BulkOptions{AllOrNothing: true})
	require.NoError(t, err)
	page, err := l.Resellers(t.Context(), credit.ResellerQuery{Limit: credit.MaxPageSize})
	require.NoError(t, err)
	require.Len(t, page.Items, 60)
	commands = nil
	for i, r := range page.Items {
		for n := range 20 {
			commands = append(commands, credit.Allocation{ResellerID: r.ID, Amount: credit.FromMillionths(int64(1_234_567 * (n + 1))), Operator: text(n), Remark: text(i),
				Key: fmt.Sprint("po-", i, "/", n), Reference: text(n + 1), Metadata: map[string]string{"k" + text(n): text(i)}})
		}
		commands = append(commands,
			credit.Repossession{ResellerID: r.ID, Amount: decimal.New(1, 0), Corrects: 3},
			credit.Usage{ResellerID: r.ID, Amount: decimal.New(int64(i), 2).Add(decimal.New(1, -1)), Customer: text(i), OccurredAt: time.Date(1999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)},
			credit.Correction{ResellerID: r.ID, Amount: decimal.New(1, -2)},
			credit.Settlement{ResellerID: r.ID, Amount: decimal.New(1, -2)},
			credit.ProfileUpdate{ResellerID: r.ID, Name: new("U" + text(i)), Email: new(text(i + 1))},
			credit.Freeze{ResellerID: r.ID})
		if i%2 == 0 {
			commands = append(commands, credit.Unfreeze{ResellerID: r.ID})
		}
		if i%3 == 0 {
			commands = append(commands, credit.RepossessAll{ResellerID: r.ID}, credit.Close{ResellerID: r.ID})
		}
	}
	_, err = l.Bulk(t.Context(), commands, credit.BulkOptions{})
	require.NoError(t, err)
}
