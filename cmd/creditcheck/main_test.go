package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

// kept in a file of SQLite: a ledger of 1,203 records.
type file struct {
	path   string
	db     *sqlx.DB
	ledger *store.Ledger
}

func newFile(t *testing.T) file {
	t.Helper()
	f := file{path: filepath.Join(t.TempDir(), "credit.db")}
	var err error
	f.db, err = sqlx.Open("sqlite", sqlstore.SQLiteDSN(f.path))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, f.db.Close()) })
	s, err := sqlstore.New(f.db, sqlstore.SQLite)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	f.ledger, err = store.Open(t.Context(), s, credit.Distributor{ID: uuid.New(), Name: "Secret Cloud", Currency: "EUR"}, store.Options{})
	require.NoError(t, err)
	_, err = f.ledger.Grant(t.Context(), credit.Grant{Amount: decimal.NewFromInt(31_415)})
	require.NoError(t, err)
	added, err := f.ledger.AddReseller(t.Context(), credit.NewReseller{ExternalID: "1", Name: "Secret Reseller"})
	require.NoError(t, err)
	f.use(t, added.ResellerID, 1201)
	return f
}

func (f file) use(t *testing.T, id uuid.UUID, times int) {
	t.Helper()
	commands := make([]credit.Command, times)
	for i := range commands {
		commands[i] = credit.Usage{ResellerID: id, Amount: decimal.NewFromInt(1)}
	}
	_, err := f.ledger.Bulk(t.Context(), commands, credit.BulkOptions{})
	require.NoError(t, err)
}

// tamper changes a file past the library.
func (f file) tamper(t *testing.T, statement string) {
	t.Helper()
	for _, s := range []string{"DROP TRIGGER IF EXISTS credit_records_no_update", "DROP TRIGGER IF EXISTS credit_records_no_delete", statement} {
		_, err := f.db.ExecContext(t.Context(), s)
		require.NoError(t, err)
	}
}

// check runs the program.
func (f file) check(t *testing.T, more ...string) (status int, stdout, stderr string) {
	t.Helper()
	return program(t, "", append([]string{"-driver", "sqlite", "-dsn", f.path, "-ledger", f.ledger.Distributor().ID.String()}, more...)...)
}

func program(t *testing.T, dsn string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	status = run(t.Context(), args, dsn, &out, &err)
	assert.NotContains(t, out.String()+err.String(), "Secret", "a name is printed")
	assert.NotContains(t, out.String()+err.String(), "31415", "a figure is printed")
	return status, out.String(), err.String()
}

func TestASoundLedgerIsStatus0AndItsHead(t *testing.T) {
	t.Parallel()
	f := newFile(t)
	head, err := f.ledger.Head(t.Context())
	require.NoError(t, err)
	status, stdout, stderr := f.check(t, "-every", "0s")
	require.Equal(t, 0, status, stderr)
	var printed kept
	require.NoError(t, json.Unmarshal([]byte(stdout), &printed))
	assert.Equal(t, kept{head.Sequence, head.Hash}, printed)
	assert.Contains(t, stderr, "record 1000 of 1203, 0 resellers", "there is progress")
	assert.Contains(t, stderr, "sound: 1203 records, 1 resellers")

	status, _, stderr = f.check(t)
	require.Equal(t, 0, status)
	assert.NotContains(t, stderr, "record 1000", "progress is not printed more often than asked for")
	// The environment names the database as well.
	status, _, _ = program(t, f.path, "-driver", "sqlite", "-ledger", f.ledger.Distributor().ID.String())
	require.Equal(t, 0, status)
	status, _, stderr = program(t, sqlstore.SQLiteDSN(f.path), "-driver", "sqlite", "-ledger", f.ledger.Distributor().ID.String())
	require.Equal(t, 0, status, stderr)
}

func TestACheckGoesOnFromTheHeadOfTheLastOne(t *testing.T) {
	t.Parallel()
	f := newFile(t)
	_, first, _ := f.check(t)
	page, err := f.ledger.Resellers(t.Context(), credit.ResellerQuery{})
	require.NoError(t, err)
	f.use(t, page.Items[0].ID, 5)
	status, second, stderr := f.check(t, "-after", first)
	require.Equal(t, 0, status, stderr)
	assert.Contains(t, stderr, "sound: 5 records, 1 resellers")
	// What Ledger.Head gives is a head, too.
	head, err := f.ledger.Head(t.Context())
	require.NoError(t, err)
	whole, err := json.Marshal(head)
	require.NoError(t, err)
	status, _, stderr = f.check(t, "-after", string(whole))
	require.Equal(t, 0, status, stderr)

	// Only the head tells that the tail was cut, and everything else made to fit.
	f.tamper(t, "DELETE FROM credit_records WHERE sequence > 1203")
	f.tamper(t, `UPDATE credit_ledgers SET (sequence, hash, recorded_at) = (SELECT sequence, hash, recorded_at FROM credit_records ORDER BY sequence DESC LIMIT 1)`)
	f.tamper(t, "UPDATE credit_resellers SET used = used - 5000000")
	status, _, stderr = f.check(t)
	require.Equal(t, 0, status, stderr)
	status, stdout, stderr := f.check(t, "-after", second)
	require.Equal(t, 1, status)
	assert.Contains(t, stderr, "FINDING: credit: corrupt ledger: record 1204: is missing")
	assert.Empty(t, stdout, "the head of a ledger that is not sound is none to keep")
}

func TestAFindingIsStatus1(t *testing.T) {
	t.Parallel()
	f := newFile(t)
	f.tamper(t, "UPDATE credit_records SET remark = 'changed' WHERE sequence = 700")
	status, stdout, stderr := f.check(t)
	require.Equal(t, 1, status)
	assert.Contains(t, stderr, "FINDING: credit: corrupt ledger: record 700: ")
	assert.Empty(t, stdout)
}

func TestWhatCannotBeCheckedIsStatus2(t *testing.T) {
	t.Parallel()
	f := newFile(t)
	id := f.ledger.Distributor().ID.String()
	absent := filepath.Join(t.TempDir(), "absent.db")
	for name, args := range map[string][]string{
		"no ledger":        {"-driver", "sqlite", "-dsn", f.path},
		"another ledger":   {"-driver", "sqlite", "-dsn", f.path, "-ledger", uuid.NewString()},
		"no id":            {"-driver", "sqlite", "-dsn", f.path, "-ledger", "x"},
		"no database":      {"-driver", "sqlite", "-ledger", id},
		"no file":          {"-driver", "sqlite", "-dsn", absent, "-ledger", id},
		"no tables":        {"-driver", "sqlite", "-dsn", f.path, "-ledger", id, "-prefix", "other_"},
		"no prefix":        {"-driver", "sqlite", "-dsn", f.path, "-ledger", id, "-prefix", "'; DROP"},
		"no schemas there": {"-driver", "sqlite", "-dsn", f.path, "-ledger", id, "-schema", "s"},
		"no driver":        {"-driver", "oracle", "-dsn", f.path, "-ledger", id},
		"no server":        {"-driver", "postgres", "-dsn", "postgres://u:hidden@127.0.0.1:1/d", "-ledger", id},
		"no mysql server":  {"-driver", "mysql", "-dsn", "u:hidden@tcp(127.0.0.1:1)/d", "-ledger", id},
		"no head":          {"-driver", "sqlite", "-dsn", f.path, "-ledger", id, "-after", "{}"},
		"no JSON":          {"-driver", "sqlite", "-dsn", f.path, "-ledger", id, "-after", "1203"},
		"an argument":      {"-driver", "sqlite", "-dsn", f.path, "-ledger", id, "x"},
		"a lost head":      {"-driver", "sqlite", "-dsn", f.path, "-ledger", id, "-after", ""},
		"an unknown flag":  {"-x"},
	} {
		status, stdout, stderr := program(t, "", args...)
		assert.Equal(t, 2, status, "%s: %s", name, stderr)
		assert.Empty(t, stdout, name)
		assert.NotEmpty(t, stderr, "%s: it does not say what is wrong", name)
		assert.NotContains(t, stderr, "hidden", "a password is printed")
	}
	status, _, stderr := program(t, "", "-h")
	assert.Equal(t, 0, status)
	assert.Contains(t, stderr, "-ledger")
	_, err := os.Stat(absent)
	require.ErrorIs(t, err, os.ErrNotExist, "a file was created")
	var ledgers int
	require.NoError(t, f.db.Get(&ledgers, "SELECT count(*) FROM credit_ledgers"))
	assert.Equal(t, 1, ledgers, "a ledger was created")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, said bytes.Buffer
	status = run(ctx, []string{"-driver", "sqlite", "-dsn", f.path, "-ledger", id}, "", &out, &said)
	assert.Equal(t, 2, status, "a check that was interrupted says nothing about the ledger")
}
