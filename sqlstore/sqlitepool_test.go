package sqlstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/sqlstore"
)

func TestNewNamesTheSettingThatIsWrong(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		without string // taken out of the right data source name
		with    string // and put in
		want    []string
	}{
		{"journal not written ahead", "_pragma=journal_mode(WAL)&", "", []string{`journal_mode is "delete", must be wal`}},
		{"no busy timeout", "_pragma=busy_timeout(5000)&", "", []string{`busy_timeout is "0", must be 1000 or more`}},
		{"busy timeout too short", "busy_timeout(5000)", "busy_timeout(999)", []string{`busy_timeout is "999", must be 1000 or more`}},
		{"not synchronized", "synchronous(FULL)", "synchronous(NORMAL)", []string{`synchronous is "1", must be 2 (FULL) or more`}},
		{"no foreign keys", "_pragma=foreign_keys(1)&", "", []string{`foreign_keys is "0", must be 1 (on)`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "credit.db")
			db, err := sqlx.Open("sqlite", strings.Replace(sqlstore.SQLiteDSN(path), test.without, test.with, 1))
			require.NoError(t, err)
			defer func() { require.NoError(t, db.Close()) }()
			_, err = sqlstore.New(db, sqlstore.SQLite)
			for _, want := range append(test.want, "SQLiteDSN(", sqlstore.SQLiteDSN(path)) {
				require.ErrorContains(t, err, want)
			}
		})
	}
	t.Run("all settings right or better", func(t *testing.T) {
		t.Parallel()
		dsn := strings.Replace(sqlstore.SQLiteDSN(filepath.Join(t.TempDir(), "credit.db")), "synchronous(FULL)", "synchronous(EXTRA)", 1)
		db, err := sqlx.Open("sqlite", strings.Replace(dsn, "5000", "1000", 1))
		require.NoError(t, err)
		defer func() { require.NoError(t, db.Close()) }()
		_, err = sqlstore.New(db, sqlstore.SQLite)
		require.NoError(t, err)
	})
}

func TestNewSeesThatOnlyOneConnectionWasSetByHand(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "credit.db")
	db, err := sqlx.Open("sqlite", strings.Replace(sqlstore.SQLiteDSN(path), "_pragma=busy_timeout(5000)&", "", 1))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	db.MustExec("PRAGMA busy_timeout = 5000")
	_, err = sqlstore.New(db, sqlstore.SQLite)
	require.ErrorContains(t, err, `busy_timeout is "0"`)
	require.ErrorContains(t, err, "on every connection of the pool")
}

func TestNewChangesNothing(t *testing.T) {
	t.Parallel()
	db, err := sqlx.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "credit.db"))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	db.SetMaxOpenConns(1)
	read := func() (settings []string, tables int) {
		for _, name := range []string{"journal_mode", "busy_timeout", "synchronous", "foreign_keys"} {
			var v string
			require.NoError(t, db.Get(&v, "PRAGMA "+name))
			settings = append(settings, v)
		}
		require.NoError(t, db.Get(&tables, "SELECT (SELECT count(*) FROM sqlite_master) + (SELECT count(*) FROM sqlite_temp_master)"))
		return settings, tables
	}
	before, _ := read()
	_, err = sqlstore.New(db, sqlstore.SQLite)
	require.Error(t, err)
	after, tables := read()
	assert.Equal(t, before, after)
	assert.Zero(t, tables)

	_, err = sqlstore.New(openFile(t, filepath.Join(t.TempDir(), "credit.db"), 1), sqlstore.SQLite)
	require.NoError(t, err)
	_, tables = read()
	assert.Zero(t, tables)
}

// Every connection to :memory: is a database of its own.
func TestDatabaseInMemoryIsForOneConnection(t *testing.T) {
	t.Parallel()
	for _, connections := range []int{0, 2} {
		_, err := sqlstore.New(openFile(t, ":memory:", connections), sqlstore.SQLite)
		require.ErrorContains(t, err, "SetMaxOpenConns(1)")
	}
	s, err := sqlstore.New(openFile(t, ":memory:", 1), sqlstore.SQLite)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	b, r := opened(t, s)
	b.write(t, s, credit.Allocation{ResellerID: r.ID, Amount: amount(t, "1"), Key: "po-1"})
	found, err := s.Load(t.Context(), b.ID, credit.ReadSet{Keys: []string{"po-1"}})
	require.NoError(t, err)
	assert.Len(t, found.Records, 1)

	db, err := sqlx.Open("sqlite", "file::memory:")
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	db.SetMaxOpenConns(1)
	_, err = sqlstore.New(db, sqlstore.SQLite)
	require.ErrorContains(t, err, "foreign_keys")
	require.ErrorContains(t, err, `SQLiteDSN(":memory:")`)
}

// Seen with drivers on top of HTTP: Begin and Rollback succeed and do nothing.
func TestElsewhere_RollbackWithoutEffect(t *testing.T) {
	t.Parallel()
	db := openFaulty(t, &faultyDriver{begin: func() (driver.Tx, error) { return idleTx{}, nil }}, filepath.Join(t.TempDir(), "credit.db"))
	_, err := sqlstore.New(db, sqlstore.SQLite)
	require.ErrorContains(t, err, "the driver does not roll back")
	var left int
	require.NoError(t, db.Get(&left, "SELECT count(*) FROM sqlite_temp_master"))
	assert.Zero(t, left)
}

func TestNewNeedsADatabase(t *testing.T) {
	t.Parallel()
	_, err := sqlstore.New(nil, sqlstore.SQLite)
	require.Error(t, err)
	db := openFile(t, filepath.Join(t.TempDir(), "credit.db"), 0)
	_, err = sqlstore.New(db, nil)
	require.Error(t, err)
	_, err = sqlstore.New(openFile(t, filepath.Join(t.TempDir(), "missing", "credit.db"), 0), sqlstore.SQLite)
	require.ErrorContains(t, err, "get a connection to check")
}

func TestNewGivesUpOnADatabaseThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := sqlx.NewDb(sql.OpenDB(silent{}), "sqlite")
		defer func() { require.NoError(t, db.Close()) }()
		_, err := sqlstore.New(db, sqlstore.SQLite)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// silent never connects.
type silent struct{}

func (silent) Driver() driver.Driver { return nil }
func (silent) Connect(ctx context.Context) (driver.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestSQLiteDSNOpensTheVeryFile(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	require.NoError(t, os.Mkdir("a b?c", 0o700))
	for _, path := range []string{
		"credit.db",
		"./credit2.db",
		"a b?c/credit.db",
		"100% #1?mode=memory&x=y.db",
		"%41%00.db",
		`back\slash'quote"semi;plus+.db`,
		"http:name@host.db",
		"käse 信用.db",
		filepath.Join(dir, "absolute.db"),
		filepath.Join(dir, "absolute ?#%25&_pragma=synchronous(OFF).db"),
		"/" + filepath.Join(dir, "two slashes.db"),
	} {
		t.Run(path, func(t *testing.T) {
			before, err := filepath.Glob(filepath.Join(dir, "*.db"))
			require.NoError(t, err)
			db := openFile(t, path, 0)
			s, err := sqlstore.New(db, sqlstore.SQLite)
			require.NoError(t, err)
			require.NoError(t, s.Migrate(t.Context()))
			info, err := os.Stat(path)
			require.NoError(t, err, "the file has exactly the name that was given")
			assert.Positive(t, info.Size())
			after, err := filepath.Glob(filepath.Join(dir, "*.db"))
			require.NoError(t, err)
			assert.LessOrEqual(t, len(after), len(before)+1, "and there is no other")
		})
	}
}

func TestSQLiteDSNIsAURI(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(sqlstore.SQLiteDSN("/var/lib/a b?c#d%e.db"))
	require.NoError(t, err)
	assert.Equal(t, "file", u.Scheme)
	assert.Empty(t, u.Host)
	assert.Equal(t, "/var/lib/a b?c#d%e.db", u.Path)
	assert.Equal(t, "immediate", u.Query().Get("_txlock"))
	assert.Equal(t, []string{"busy_timeout(5000)", "foreign_keys(1)", "journal_mode(WAL)", "synchronous(FULL)", "wal_autocheckpoint(4000)"}, u.Query()["_pragma"])
}

// SQLite turns away connections that make the log of a new file together, without
// regard to the busy timeout.
func TestNewTriesAgainWhileTheFileIsBusy(t *testing.T) {
	t.Parallel()
	refused := 0
	busy := &faultyDriver{connect: func() error {
		if refused++; refused <= 3 {
			return codedError(5)
		}
		return nil
	}}
	_, err := sqlstore.New(openFaulty(t, busy, filepath.Join(t.TempDir(), "credit.db")), sqlstore.SQLite)
	require.NoError(t, err)

	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		never := &faultyDriver{connect: func() error { return codedError(5) }}
		_, err := sqlstore.New(openFaulty(t, never, "credit.db"), sqlstore.SQLite)
		require.ErrorIs(t, err, codedError(5), "what SQLite says, not that time is up")
		assert.InDelta(t, 5, time.Since(begun).Seconds(), 0.5)

		slow := true
		late := &faultyDriver{connect: func() error {
			if slow {
				slow = false
				time.Sleep(7 * time.Second)
				return nil
			}
			time.Sleep(time.Second)
			return codedError(5)
		}}
		_, err = sqlstore.New(openFaulty(t, late, "credit.db"), sqlstore.SQLite)
		require.ErrorIs(t, err, codedError(5), "what SQLite says, though time is up as well")
		require.ErrorIs(t, err, context.DeadlineExceeded)

		begun = time.Now()
		broken := &faultyDriver{connect: func() error { return codedError(11) }}
		_, err = sqlstore.New(openFaulty(t, broken, "credit.db"), sqlstore.SQLite)
		require.ErrorIs(t, err, codedError(11))
		assert.Zero(t, time.Since(begun), "a file that is no database will be none later")
	})
}

// Many processes may start at once on a file that is not there yet.
func TestPoolsOpenANewFileTogether(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "credit.db")
	together(t, 16, func() error {
		db, err := sqlx.Open("sqlite", sqlstore.SQLiteDSN(path))
		if err != nil {
			return err
		}
		defer func() { _ = db.Close() }()
		_, err = sqlstore.New(db, sqlstore.SQLite)
		return err
	})
}
