package sqlstore_test

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

// together runs f in n goroutines at once; every one must succeed.
func together(t *testing.T, n int, f func() error) {
	t.Helper()
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range n {
		wg.Go(func() {
			<-start
			assert.NoError(t, f())
		})
	}
	close(start)
	wg.Wait()
}

var update = flag.Bool("update", false, "rewrite testdata/migrations.sha256")

// A database that has a step never runs it again, so a step that is edited makes two
// sorts of databases. New steps are entered with -update.
func TestNoMigrationIsEverEdited(t *testing.T) {
	t.Parallel()
	const pins = "testdata/migrations.sha256"
	var now strings.Builder
	files, err := filepath.Glob("migrations/*/*.sql")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 3, "one for each database")
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		fmt.Fprintf(&now, "%x  %s\n", sha256.Sum256(text), filepath.ToSlash(file))
	}
	if *update {
		require.NoError(t, os.WriteFile(pins, []byte(now.String()), 0o600))
	}
	was, err := os.ReadFile(pins)
	require.NoError(t, err)
	for line := range strings.Lines(string(was)) {
		require.Contains(t, now.String(), line, "a migration was edited or removed, and databases that have it will not notice: put it back and add a new version instead")
	}
	require.Equal(t, string(was), now.String(), "a migration is new: enter it with go test ./sqlstore -run NoMigration -update")
}

func TestMigrateAFreshDatabase(t *testing.T) {
	t.Parallel()
	db := openFile(t, filepath.Join(t.TempDir(), "credit.db"), 1)
	s, err := sqlstore.New(db, sqlstore.SQLite)
	require.NoError(t, err)

	status, err := s.Status(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []sqlstore.Migration{{Version: 1, File: "00001_ledger.sql"}}, status)
	var tables int
	require.NoError(t, db.Get(&tables, "SELECT count(*) FROM sqlite_master"))
	assert.Zero(t, tables, "asking for the status changes nothing")

	for range 2 { // the second time there is nothing to do
		require.NoError(t, s.Migrate(t.Context()))
		status, err = s.Status(t.Context())
		require.NoError(t, err)
		require.Len(t, status, 1)
		assert.True(t, status[0].Applied)
		assert.WithinDuration(t, time.Now(), status[0].AppliedAt, time.Hour)
		assert.Equal(t, time.UTC, status[0].AppliedAt.Location())
	}
	opened(t, s)

	var names []string
	require.NoError(t, db.Select(&names, "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"))
	for _, name := range names {
		assert.True(t, strings.HasPrefix(name, "credit_"), "everything begins with the prefix: %s", name)
	}
}

func TestMigrateConcurrently(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "credit.db")
	stores := make(chan *sqlstore.Store, 6)
	for range cap(stores) {
		s, err := sqlstore.New(openFile(t, path, 0), sqlstore.SQLite)
		require.NoError(t, err)
		stores <- s
	}
	together(t, cap(stores), func() error { return (<-stores).Migrate(context.WithoutCancel(t.Context())) })
	s, err := sqlstore.New(openFile(t, path, 0), sqlstore.SQLite)
	require.NoError(t, err)
	opened(t, s)
}

func TestMigrateFailsWhole(t *testing.T) {
	t.Parallel()
	db := openFile(t, filepath.Join(t.TempDir(), "credit.db"), 0)
	db.MustExec("CREATE TABLE credit_keys (mine)")
	s, err := sqlstore.New(db, sqlstore.SQLite)
	require.NoError(t, err)
	require.ErrorContains(t, s.Migrate(t.Context()), "credit_keys already exists")
	var left []string
	require.NoError(t, db.Select(&left, "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'credit%' ORDER BY name"))
	assert.Equal(t, []string{"credit_keys", "credit_schema"}, left)
}

func TestMigrationsForAnotherTool(t *testing.T) {
	t.Parallel()
	db := openFile(t, filepath.Join(t.TempDir(), "credit.db"), 0)
	s, err := sqlstore.New(db, sqlstore.SQLite, sqlstore.WithPrefix("billing_"))
	require.NoError(t, err)
	files := s.Migrations()
	require.NoError(t, fstest.TestFS(files, "00001_ledger.sql"))
	text, err := fs.ReadFile(files, "00001_ledger.sql")
	require.NoError(t, err)
	assert.NotContains(t, string(text), "{{")
	assert.NotContains(t, string(text), "credit_")
	assert.Contains(t, string(text), "CREATE TABLE billing_ledgers (")

	tool, err := goose.NewProvider(goose.DialectSQLite3, db.DB, files)
	require.NoError(t, err)
	_, err = tool.Up(t.Context())
	require.NoError(t, err)
	opened(t, s)
}

func TestUnmigratedDatabaseSaysSo(t *testing.T) {
	t.Parallel()
	s, err := sqlstore.New(openFile(t, filepath.Join(t.TempDir(), "credit.db"), 0), sqlstore.SQLite)
	require.NoError(t, err)
	b := newBook()
	expected, batch := b.draft(t, credit.Grant{Amount: amount(t, "1")})
	ctx, ledger := t.Context(), uuid.New()
	for name, call := range map[string]func() error{
		"Create": func() error { _, err := s.Create(ctx, b.Distributor); return err },
		"Load":   func() error { _, err := s.Load(ctx, ledger, credit.ReadSet{}); return err },
		"Append": func() error { return s.Append(ctx, ledger, expected, batch) },
		"Resellers": func() error {
			_, err := s.Resellers(ctx, ledger, credit.ResellerQuery{Statuses: []credit.Status{credit.StatusActive}}, store.ResellerPosition{})
			return err
		},
		"CountResellers": func() error {
			_, err := s.CountResellers(ctx, ledger, credit.ResellerQuery{Statuses: []credit.Status{credit.StatusActive}})
			return err
		},
		"Latest":  func() error { _, err := s.Latest(ctx, ledger, []uuid.UUID{ledger}, nil, 1); return err },
		"Records": func() error { _, err := s.Records(ctx, ledger, credit.RecordQuery{}); return err },
	} {
		err := call()
		require.ErrorContains(t, err, "run Migrate", name)
		assert.NotErrorIs(t, err, store.ErrNoLedger, name)
		assert.False(t, store.Retryable(err), name)
	}
}

func TestTwoStoresInOneDatabase(t *testing.T) {
	t.Parallel()
	first, db := newStore(t)
	second, err := sqlstore.New(db, sqlstore.SQLite, sqlstore.WithPrefix("other_"))
	require.NoError(t, err)
	require.NoError(t, second.Migrate(t.Context()))

	// The same ledger, the same records: a collision of any kind would show.
	b := newBook()
	expected, batch := b.draft(t, credit.Grant{Amount: amount(t, "1"), Key: "same"}, credit.NewReseller{Name: "Nimbus", ExternalID: "1"})
	for _, s := range []*sqlstore.Store{first, second} {
		_, err := s.Create(t.Context(), b.Distributor)
		require.NoError(t, err)
		require.NoError(t, s.Append(t.Context(), b.ID, expected, batch))
	}
	more, next := b.draft(t, credit.Grant{Amount: amount(t, "1")})
	require.NoError(t, second.Append(t.Context(), b.ID, more, next))
	one, err := first.Load(t.Context(), b.ID, credit.ReadSet{})
	require.NoError(t, err)
	other, err := second.Load(t.Context(), b.ID, credit.ReadSet{})
	require.NoError(t, err)
	assert.Equal(t, more, one.Head)
	assert.Equal(t, next.Head(), other.Head)
}
