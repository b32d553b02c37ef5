package sqlstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

// FuzzSQLiteDSN: no path reaches the settings that stand behind it.
func FuzzSQLiteDSN(f *testing.F) {
	for _, path := range []string{"credit.db", "/var/lib/credit.db", ":memory:", "a?b", "a#b", "a b", "a%20b", "a&b=c", "?_pragma=synchronous(OFF)", "//host/x", "", "ä", "a\nb", `C:\credit.db`, "%3f"} {
		f.Add(path)
	}
	_, settings, _ := strings.Cut(SQLiteDSN("x"), "?")
	f.Fuzz(func(t *testing.T, path string) {
		rest, ok := strings.CutPrefix(SQLiteDSN(path), "file:")
		require.True(t, ok)
		name, after, _ := strings.Cut(rest, "?")
		require.Equal(t, settings, after, "what is behind the path of %q", path)
		require.NotContains(t, name, "#")
		back, err := url.PathUnescape(name)
		require.NoError(t, err)
		if strings.HasPrefix(path, "/") {
			path = "//" + path
		}
		require.Equal(t, path, back)
	})
}

// FuzzVersion: whatever a server says that it is, it is old, good, or no version.
func FuzzVersion(f *testing.F) {
	for _, version := range []string{"3.37.0", "3", "", "8.0.36", "5.5.5-10.11.6-MariaDB-1", "8.0.11-TiDB-v7.5.0", "10.6.0-MariaDB", "99999999999999999999.1.1", "-1.-1.-1", "8.0.16-", "..", "5.5.5-"} {
		f.Add(version)
	}
	f.Fuzz(func(t *testing.T, version string) {
		if sqliteAtLeast(version, 3, 37) {
			require.True(t, sqliteAtLeast(version, 3, 36) && sqliteAtLeast(version, 2, 99), "%q is newer than what it is newer than", version)
		}
		if err := checkMySQLVersion(version); err != nil {
			require.ErrorContains(t, err, "or newer")
		}
	})
}

// FuzzRecordRow: a row whose columns somebody else wrote is a record or a corrupt
// one, and says no more than which.
func FuzzRecordRow(f *testing.F) {
	for _, text := range []string{`{}`, `{"a":"b"}`, `[]`, `["name"]`, `null`, `{"a":1}`, `{"a":"b","a":"c"}`, ``, `{"a`, strings.Repeat("[", 100_000)} {
		f.Add(text, []byte(text))
	}
	f.Add("{}", bytes.Repeat([]byte{7}, 32))
	f.Fuzz(func(t *testing.T, text string, hash []byte) {
		var h hashColumn
		err := h.Scan(hash)
		require.Equal(t, hash == nil || len(hash) == len(h), err == nil)
		if err == nil && hash != nil {
			require.Equal(t, hash, h[:])
		}
		require.Error(t, h.Scan(text), "a hash is bytes")
		for _, row := range []recordRow{{Sequence: 7, Metadata: &text}, {Sequence: 7, Changed: &text}} {
			record, err := row.record()
			if err == nil {
				_, err = json.Marshal(record)
				require.NoError(t, err)
				continue
			}
			corrupt, ok := errors.AsType[*credit.CorruptError](err)
			require.True(t, ok)
			require.EqualValues(t, 7, corrupt.Sequence)
			require.Less(t, len(err.Error()), 400, "the error repeats the column")
		}
	})
}
