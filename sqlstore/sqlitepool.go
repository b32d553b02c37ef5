package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/sethvargo/go-retry"
)

// sqliteBusy is how long a connection made by SQLiteDSN waits for a lock, and New
// for a connection, and sqliteLeastBusy what New accepts, in milliseconds.
const (
	sqliteBusy      = 5000
	sqliteLeastBusy = 1000
)

// sqliteCheckpoint is how many pages (16 MB at 4 KB each) the log of a connection
// made by SQLiteDSN gathers before it is copied into the file. Pages that are
// written again and again, as those at the end of an index, are then copied less
// often, and the disk is flushed less often. New does not ask for it: nothing is
// less durable with any number.
const sqliteCheckpoint = 4000

// SQLiteDSN returns the data source name with which the driver
// modernc.org/sqlite opens the file with all that [New] wants, with transactions
// that take the write lock when they begin, and with a log beside the file (-wal)
// of 16 MB instead of 4 before it is copied into it, which is faster. The path may be
// relative and contain any character; the file is created when it is missing, its
// directory is not. The path ":memory:" is a database in memory, for a pool of
// one connection.
func SQLiteDSN(path string) string {
	name := filepath.ToSlash(path)
	if filepath.VolumeName(path) != "" {
		name = "/" + name // C:/credit.db
	}
	if strings.HasPrefix(name, "/") {
		name = "//" + name // an empty host, so that the path cannot be read as one
	}
	// Only what ends or escapes a path in a URI of SQLite is escaped.
	name = strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23", " ", "%20").Replace(name)
	return "file:" + name + "?" + strings.Join([]string{
		"_pragma=busy_timeout(" + strconv.Itoa(sqliteBusy) + ")",
		"_pragma=foreign_keys(1)",
		"_pragma=journal_mode(WAL)",
		"_pragma=synchronous(FULL)",
		"_pragma=wal_autocheckpoint(" + strconv.Itoa(sqliteCheckpoint) + ")",
		"_txlock=immediate",
	}, "&")
}

// check looks at two connections at once where the pool allows it, because the
// settings are those of a connection: one that was set by hand is not the pool's.
func (d sqlite) check(ctx context.Context, db *sqlx.DB) (Dialect, error) {
	most := db.Stats().MaxOpenConnections
	for range 2 {
		conn, err := d.connect(ctx, db)
		if err != nil {
			return nil, fmt.Errorf("get a connection to check: %w", err)
		}
		defer func() { _ = conn.Close() }() // back into the pool
		if err := checkSQLite(ctx, conn, most); err != nil {
			return nil, err
		}
		if most == 1 {
			break
		}
	}
	return d, nil
}

// connect tries again while the file is busy. The connection that turns a new file's
// journal into a write-ahead log has read the file by then, and SQLite lets no
// reader that wants to write wait for another: whatever the busy timeout, all but
// one of those that open a new file together may be turned away.
func (d sqlite) connect(ctx context.Context, db *sqlx.DB) (*sqlx.Conn, error) {
	backoff := retry.WithJitterPercent(50, retry.WithCappedDuration(100*time.Millisecond, retry.NewExponential(time.Millisecond)))
	var busy error
	conn, err := retry.DoValue(ctx, retry.WithMaxDuration(sqliteBusy*time.Millisecond, backoff), func(ctx context.Context) (*sqlx.Conn, error) {
		conn, err := db.Connx(ctx)
		if err != nil && d.class(err) == rolledBack {
			busy = err
			err = retry.RetryableError(err)
		}
		return conn, err
	})
	if ctx.Err() != nil && err != nil {
		err = errors.Join(err, busy)
	}
	return conn, err
}

func checkSQLite(ctx context.Context, conn *sqlx.Conn, most int) error {
	var version, file string
	if err := conn.GetContext(ctx, &version, "SELECT sqlite_version()"); err != nil {
		return fmt.Errorf("ask SQLite for its version: %w", err)
	}
	if err := conn.GetContext(ctx, &file, "SELECT file FROM pragma_database_list WHERE name = 'main'"); err != nil {
		return fmt.Errorf("ask SQLite for its file: %w", err)
	}
	if !sqliteAtLeast(version, 3, 37) {
		return fmt.Errorf("SQLite is %s, must be 3.37 or newer", version)
	}

	path := file
	if file == "" {
		path = ":memory:"
		if most != 1 {
			return fmt.Errorf("SQLite database is in memory and the pool may have several connections, each of which would be a database of its own:"+
				" call SetMaxOpenConns(1), or use a file: %s", sqliteAdvice("credit.db"))
		}
	}
	atLeast := func(least int) func(string) bool {
		return func(found string) bool {
			v, err := strconv.Atoi(found)
			return err == nil && v >= least
		}
	}
	for _, setting := range []struct {
		name, want string
		good       func(found string) bool
		inMemory   bool
	}{
		{"journal_mode", "wal", func(found string) bool { return strings.EqualFold(found, "wal") }, false},
		{"busy_timeout", fmt.Sprintf("%d or more (milliseconds)", sqliteLeastBusy), atLeast(sqliteLeastBusy), false},
		{"synchronous", "2 (FULL) or more", atLeast(2), false},
		{"foreign_keys", "1 (on)", atLeast(1), true},
	} {
		if file == "" && !setting.inMemory {
			continue // nothing outlives the one connection
		}
		var found string
		if err := conn.GetContext(ctx, &found, "PRAGMA "+setting.name); err != nil {
			return fmt.Errorf("ask SQLite for its setting %s: %w", setting.name, err)
		}
		if !setting.good(found) {
			return fmt.Errorf("SQLite setting %s is %q, must be %s on every connection of the pool: %s", setting.name, found, setting.want, sqliteAdvice(path))
		}
	}
	return checkRollback(ctx, conn)
}

func sqliteAdvice(path string) string {
	return fmt.Sprintf("open it with sqlstore.SQLiteDSN(%q), which is %s for the driver modernc.org/sqlite, or with what your driver has for it", path, SQLiteDSN(path))
}

// checkRollback refuses a driver whose transactions do nothing, as there are some
// on top of HTTP, because with it half an append would stay.
func checkRollback(ctx context.Context, conn *sqlx.Conn) error {
	tx, err := conn.BeginTxx(ctx, nil)
	if err != nil {
		return fmt.Errorf("try a transaction: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // the second time does nothing
	if _, err := tx.ExecContext(ctx, "CREATE TEMPORARY TABLE credit_probe (x)"); err != nil {
		return fmt.Errorf("try a transaction: %w", err)
	}
	if err := tx.Rollback(); err != nil {
		return fmt.Errorf("try a transaction: %w", err)
	}
	var left int
	if err := conn.GetContext(ctx, &left, "SELECT count(*) FROM sqlite_temp_master WHERE name = 'credit_probe'"); err != nil {
		return fmt.Errorf("try a transaction: %w", err)
	}
	if left > 0 {
		_, _ = conn.ExecContext(ctx, "DROP TABLE credit_probe") // temporary anyway
		return errors.New("the driver does not roll back: its transactions are without effect, so it must not keep a ledger; use another driver")
	}
	return nil
}

func sqliteAtLeast(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	a, errA := strconv.Atoi(parts[0])
	b, errB := strconv.Atoi(parts[1])
	return errA == nil && errB == nil && (a > major || a == major && b >= minor)
}
