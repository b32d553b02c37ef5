package sqlstore_test

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/sqlstore"
)

// FuzzPrefix: what becomes part of SQL text is letters, digits and underscores,
// and everything else is refused.
func FuzzPrefix(f *testing.F) {
	for _, prefix := range []string{"credit_", "a", "abcdefghij0123456789", "", "_a", "1a", "Credit_", "a-b", "a b", "a;", "a\"", "a'", "a.", "ä",
		"a\x00", "abcdefghij01234567890", "{{prefix}}", "a\n", "a--"} {
		f.Add(prefix)
	}
	db := openFile(f, ":memory:", 1)
	good := regexp.MustCompile(`\A[a-z][a-z0-9_]{0,19}\z`)
	f.Fuzz(func(t *testing.T, prefix string) {
		_, err := sqlstore.New(db, sqlstore.SQLite, sqlstore.WithSchema(prefix))
		if good.MatchString(prefix) {
			require.ErrorContains(t, err, "PostgreSQL only", "a good name of a schema")
		} else {
			require.ErrorContains(t, err, "schema: must be a lower-case letter")
		}
		s, err := sqlstore.New(db, sqlstore.SQLite, sqlstore.WithPrefix(prefix))
		if !good.MatchString(prefix) {
			var invalid *credit.InvalidError
			require.ErrorAs(t, err, &invalid)
			require.Equal(t, "table prefix", invalid.Field)
			require.Nil(t, s)
			return
		}
		require.NoError(t, err)
		text, err := fs.ReadFile(s.Migrations(), "00001_ledger.sql")
		require.NoError(t, err)
		require.NotContains(t, string(text), "{{")
		require.Equal(t, 1, strings.Count(string(text), "CREATE TABLE "+prefix+"ledgers ("))
	})
}
