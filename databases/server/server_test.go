package server

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lib/pq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// child makes this test binary a process that starts servers and waits to be killed.
const child = "CREDIT_TEST_CHILD"

func TestMain(m *testing.M) {
	code := Main(m)
	shared.Lock()
	for name, get := range shared.servers {
		if s, err := get(); err == nil {
			if left := leftBy(s); len(left) > 0 {
				fmt.Printf("%s leaves behind: %v\n", name, left)
				code = 1
			}
		}
	}
	os.Exit(code)
}

// processes returns those whose command line or working directory names the folder.
func processes(dir string) []string {
	var found []string
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range all {
		// What cannot be read is gone, or another user's.
		args, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		cwd, _ := os.Readlink(filepath.Join(p, "cwd"))
		if bytes.Contains(args, []byte(dir)) || strings.HasPrefix(cwd, dir) {
			found = append(found, filepath.Base(p)+" "+strings.ReplaceAll(string(args), "\x00", " "))
		}
	}
	return found
}

// leftBy returns what is left of a server: processes, its folder, its mount.
func leftBy(s *Server) []string {
	left := processes(s.dir)
	if _, err := os.Stat(s.dir); err == nil {
		left = append(left, s.dir)
	}
	if mounts, err := os.ReadFile("/proc/mounts"); err != nil || bytes.Contains(mounts, []byte(s.dir)) {
		left = append(left, "mount "+s.dir)
	}
	return left
}

func open(t *testing.T, name, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(Driver(name), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

func ask(t *testing.T, db *sql.DB, query string) string {
	t.Helper()
	var answer string
	require.NoError(t, db.QueryRowContext(t.Context(), query).Scan(&answer), query)
	return answer
}

func run(t *testing.T, db *sql.DB, statement string) error {
	t.Helper()
	_, err := db.ExecContext(t.Context(), statement)
	return err
}

// eventually polls, because it looks at other processes.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(60 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// settings are what a server must answer.
var settings = map[string]map[string]string{
	"pgx": {
		"SELECT 1":                                    "1",
		"SHOW fsync":                                  "on",
		"SHOW synchronous_commit":                     "on",
		"SHOW full_page_writes":                       "on",
		"SHOW listen_addresses":                       "127.0.0.1",
		"SHOW server_encoding":                        "UTF8",
		"SHOW default_transaction_read_only":          "off",
		"SELECT pg_is_in_recovery()":                  "false",
		"SELECT count(*) FROM pg_stat_user_tables":    "0",
		"SELECT current_user":                         "postgres",
		"SELECT current_database() LIKE 'credit\\_%'": "true",
	},
	"mysql": {
		"SELECT 1": "1",
		"SELECT @@innodb_flush_log_at_trx_commit": "1",
		"SELECT @@innodb_doublewrite":             "1",
		"SELECT @@tx_isolation":                   "REPEATABLE-READ",
		"SELECT @@bind_address":                   "127.0.0.1",
		"SELECT @@character_set_server":           "utf8mb4",
		"SELECT @@autocommit":                     "1",
		"SELECT CURRENT_USER()":                   "credit@127.0.0.1",
		"SELECT DATABASE() LIKE 'credit\\_%'":     "1",
	},
}

// special are the settings in which the servers differ.
var special = map[string]map[string]string{
	Postgres15:             {"SHOW server_version": "15.", "SHOW default_transaction_isolation": "read committed"},
	Postgres15Serializable: {"SHOW server_version": "15.", "SHOW default_transaction_isolation": "serializable"},
	Postgres18:             {"SHOW server_version": "18.4", "SHOW default_transaction_isolation": "read committed"},
	PgBouncer:              {"SHOW server_version": "15.", "SHOW default_transaction_isolation": "read committed"},
	MariaDB:                {"SELECT VERSION()": "10.11.", "SELECT @@innodb_snapshot_isolation": "0"},
	MariaDBSnapshot:        {"SELECT VERSION()": "10.11.", "SELECT @@innodb_snapshot_isolation": "1"},
}

func TestEachServer(t *testing.T) {
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			var s *Server
			t.Cleanup(func() { assert.Empty(t, leftBy(s), "a server leaves nothing behind") })
			begun := time.Now()
			s = Private(t, name)
			t.Logf("%s: started with a database in %v", name, time.Since(begun).Round(time.Millisecond))
			db := open(t, name, s.DSN())

			for query, want := range settings[Driver(name)] {
				assert.Equal(t, want, ask(t, db, query), query)
			}
			for query, want := range special[name] {
				got := ask(t, db, query)
				assert.True(t, strings.HasPrefix(got, want), "%s: %s, expected %s…", query, got, want)
			}
			assert.Equal(t, ask(t, db, "SELECT 1"), ask(t, open(t, name, s.Admin()), "SELECT 1"))

			require.NoError(t, run(t, db, "CREATE TABLE kept (n int PRIMARY KEY)"))
			require.NoError(t, run(t, db, "INSERT INTO kept VALUES (1)"))

			s.Kill(t)
			if name != PgBouncer {
				// Of PgBouncer only the pooler was killed.
				require.Len(t, processes(s.dir), 1, "only the supervisor survives: %v", processes(s.dir))
			}
			require.Error(t, db.PingContext(t.Context()), "a killed server does not answer")
			begun = time.Now()
			s.Restart(t)
			t.Logf("%s: restarted after kill -9 in %v", name, time.Since(begun).Round(time.Millisecond))
			assert.Equal(t, "1", ask(t, db, "SELECT count(*) FROM kept"), "a commit survives kill -9")

			s.Restart(t)
			assert.Equal(t, "1", ask(t, db, "SELECT count(*) FROM kept"), "to restart what runs does no harm")

			s.Stop(t)
			require.Error(t, open(t, name, s.DSN()).PingContext(t.Context()), "a stopped server does not answer")
			s.Restart(t)
			fresh := open(t, name, s.DSN())
			assert.Equal(t, "1", ask(t, fresh, "SELECT count(*) FROM kept"), "a commit survives an orderly stop")

			s.ReadOnly(t, true)
			err := run(t, fresh, "INSERT INTO kept VALUES (2)")
			require.Error(t, err, "a read-only server refuses to write")
			assert.Contains(t, err.Error(), map[string]string{"pgx": "25006", "mysql": "1290"}[Driver(name)])
			assert.Equal(t, "1", ask(t, fresh, "SELECT count(*) FROM kept"), "a read-only server can be read")
			s.ReadOnly(t, false)
			assert.NoError(t, run(t, fresh, "INSERT INTO kept VALUES (2)"))
		})
	}
}

func TestPgBouncer(t *testing.T) {
	s := Private(t, PgBouncer)
	direct := open(t, PgBouncer, s.Admin())
	db := open(t, PgBouncer, s.DSN())

	t.Run("a session is not bound to a connection of the server", func(t *testing.T) {
		held, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		defer held.Rollback()
		first := func(q interface {
			QueryRowContext(context.Context, string, ...any) *sql.Row
		}) (pid int) {
			require.NoError(t, q.QueryRowContext(t.Context(), "SELECT pg_backend_pid()").Scan(&pid))
			return pid
		}
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		defer func() { assert.NoError(t, conn.Close()) }()
		idle := first(conn)
		other, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		defer other.Rollback()
		assert.NotEqual(t, first(held), first(other))
		assert.Equal(t, idle, first(other), "an idle session's connection is given to another session")
	})

	t.Run("it stands before the PostgreSQL of the administrator's DSN", func(t *testing.T) {
		assert.Equal(t, ask(t, direct, "SHOW data_directory"), ask(t, db, "SHOW data_directory"))
		assert.NotEqual(t, s.Admin(), s.DSN())
	})

	t.Run("it reconnects when the PostgreSQL behind it is back", func(t *testing.T) {
		s.KillBehind(t)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		require.Error(t, db.PingContext(ctx))
		s.Restart(t)
		eventually(t, "the pooler reaches PostgreSQL again", func() bool { return db.PingContext(t.Context()) == nil })
	})
}

func TestTwoDatabasesOfOneServerAreIndependent(t *testing.T) {
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			one, two := Start(t, name), Start(t, name)
			t.Logf("two databases in %v", time.Since(begun).Round(time.Millisecond))
			require.NotEqual(t, one, two)
			a, b := open(t, name, one), open(t, name, two)
			require.NoError(t, run(t, a, "CREATE TABLE only_here (n int)"))
			require.Error(t, run(t, b, "INSERT INTO only_here VALUES (1)"))
			require.NoError(t, run(t, b, "CREATE TABLE only_here (n int)"))
			require.NoError(t, run(t, b, "INSERT INTO only_here VALUES (1)"))
			assert.Equal(t, "0", ask(t, a, "SELECT count(*) FROM only_here"))
		})
	}
}

func TestTestsShareOneServer(t *testing.T) {
	port := func(t *testing.T) string {
		return ask(t, open(t, Postgres15, Start(t, Postgres15)), "SELECT setting FROM pg_settings WHERE name = 'port'")
	}
	var first, second string
	t.Run("first", func(t *testing.T) { first = port(t) })
	t.Run("second", func(t *testing.T) { second = port(t) })
	assert.Equal(t, first, second)
}

func TestADatabaseEndsWithItsTest(t *testing.T) {
	for _, name := range []string{Postgres15, PgBouncer, MariaDB} {
		t.Run(name, func(t *testing.T) {
			var database string
			names := map[string]string{"pgx": "SELECT current_database()", "mysql": "SELECT DATABASE()"}[Driver(name)]
			t.Run("test", func(t *testing.T) { database = ask(t, open(t, name, Start(t, name)), names) })
			all := map[string]string{"pgx": "pg_database WHERE datname", "mysql": "information_schema.schemata WHERE schema_name"}[Driver(name)]
			assert.Equal(t, "0", ask(t, open(t, name, Start(t, name)), "SELECT count(*) FROM "+all+" = '"+database+"'"))
		})
	}
}

func TestTheEnvironmentNamesAServer(t *testing.T) {
	variables := map[string]string{
		Postgres15:             "CREDIT_POSTGRES_DSN",
		Postgres15Serializable: "CREDIT_POSTGRES_SERIALIZABLE_DSN",
		Postgres18:             "CREDIT_POSTGRES18_DSN",
		PgBouncer:              "CREDIT_PGBOUNCER_DSN",
		MariaDB:                "CREDIT_MARIADB_DSN",
		MariaDBSnapshot:        "CREDIT_MARIADB_SNAPSHOT_DSN",
	}
	for _, name := range Names() {
		assert.Equal(t, variables[name], variable(name))
	}
	for _, name := range []string{Postgres15, MariaDB} {
		t.Run(name, func(t *testing.T) {
			s := Private(t, name)
			t.Setenv(variable(name), s.server)
			db := open(t, name, Start(t, name))
			where := map[string]string{"pgx": "SHOW data_directory", "mysql": "SELECT @@datadir"}[Driver(name)]
			assert.True(t, strings.HasPrefix(ask(t, db, where), s.dir), "the database is on the server of the environment")
		})
	}
}

// failing is a test that a fatal failure ends without failing this one.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Fatal(args ...any)                 { f.said = fmt.Sprint(args...); runtime.Goexit() }
func (f *failing) Fatalf(format string, args ...any) { f.Fatal(fmt.Sprintf(format, args...)) }

func fatal(t *testing.T, f func(testing.TB)) string {
	tb := &failing{TB: t}
	done := make(chan struct{})
	go func() { defer close(done); f(tb) }()
	<-done
	return tb.said
}

func TestAServerThatCannotBeHadFailsTheTest(t *testing.T) {
	t.Run("because it is not installed", func(t *testing.T) {
		t.Setenv("CREDIT_DATABASES_CACHE", t.TempDir())
		said := fatal(t, func(tb testing.TB) { Private(tb, Postgres18) })
		assert.Contains(t, said, "native/bin/postgres, which is not there")
		assert.Contains(t, said, "bash databases/servers.sh install")
		assert.Contains(t, said, "CREDIT_POSTGRES18_DSN")
	})
	t.Run("because the one in the environment does not answer", func(t *testing.T) {
		t.Setenv("CREDIT_POSTGRES_DSN", "postgres://nobody@127.0.0.1:1/")
		said := fatal(t, func(tb testing.TB) { Start(tb, Postgres15) })
		assert.Contains(t, said, "connection refused")
		assert.Contains(t, said, "CREDIT_POSTGRES_DSN")
	})
	t.Run("because the environment does not name it by a URL", func(t *testing.T) {
		t.Setenv("CREDIT_POSTGRES_DSN", "host=127.0.0.1 port=1")
		assert.Contains(t, fatal(t, func(tb testing.TB) { Start(tb, Postgres15) }), "not a URL")
	})
	t.Run("because there is none of that name", func(t *testing.T) {
		assert.Contains(t, fatal(t, func(tb testing.TB) { Start(tb, "oracle") }), "no server oracle")
	})
}

func TestADiskCanBeFilled(t *testing.T) {
	for _, name := range []string{Postgres15, Postgres18, MariaDB} {
		t.Run(name, func(t *testing.T) {
			var s *Server
			t.Cleanup(func() { assert.Empty(t, leftBy(s), "a server leaves nothing behind") })
			s = OnSmallDisk(t, name)
			db := open(t, name, s.DSN())
			require.NoError(t, run(t, db, "CREATE TABLE big (n int PRIMARY KEY, s text)"))
			s.FillDisk(t, 1<<20)
			kept, value := 0, strings.Repeat("0123456789", 1000)
			insert := func(n int) error {
				return run(t, db, fmt.Sprintf("INSERT INTO big VALUES (%d, '%s')", n, value))
			}
			var err error
			for ; err == nil; kept++ {
				require.Less(t, kept, 100_000, "the disk does not get full")
				err = insert(kept)
			}
			kept--
			t.Logf("full after %d rows: %v", kept, err)
			s.FreeDisk(t)
			s.Restart(t)
			eventually(t, "the server writes again", func() bool { return insert(1_000_000) == nil })
			assert.Equal(t, strconv.Itoa(kept), ask(t, db, "SELECT count(*) FROM big WHERE n < "+strconv.Itoa(kept)))
		})
	}
}

// lib/pq is the other driver for PostgreSQL that users of sqlx have.
func TestLibPQTakesTheDSNs(t *testing.T) {
	for _, name := range []string{Postgres15, Postgres15Serializable, Postgres18} {
		connector, err := pq.NewConnector(Start(t, name))
		require.NoError(t, err)
		db := sql.OpenDB(connector)
		assert.Equal(t, "1", ask(t, db, "SELECT 1"), name)
		assert.NoError(t, db.Close())
	}
}

// TestChild is not a test: it is what TestServersEndWithTheirProcess kills.
func TestChild(t *testing.T) {
	names := os.Getenv(child)
	if names == "" {
		return
	}
	for name := range strings.SplitSeq(names, " ") {
		s := Private(t, name)
		fmt.Printf("child started %s\n", s.dir)
	}
	fmt.Println("child ready")
	select {}
}

// startChild starts servers in another process, with a temporary folder of its own.
func startChild(t *testing.T, names ...string) (cmd *exec.Cmd, dir string, out *bufio.Scanner) {
	t.Helper()
	// Not t.TempDir, which only this user can enter.
	dir, err := os.MkdirTemp("", "credit-test-") //nolint:usetesting // see above
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o711))
	t.Cleanup(func() { assert.NoError(t, os.Remove(dir)) })
	cmd = exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), child+"="+strings.Join(names, " "), "TMPDIR="+dir)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return cmd, dir, bufio.NewScanner(stdout)
}

// nothingLeft waits until neither a process nor a file of the folder is there.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	begun := time.Now()
	eventually(t, "nothing is left of the servers of a process that was killed", func() bool {
		files, err := os.ReadDir(dir)
		return err == nil && len(files) == 0 && len(processes(dir)) == 0
	})
	t.Logf("nothing left %v after kill -9", time.Since(begun).Round(time.Millisecond))
}

func TestServersEndWithTheirProcess(t *testing.T) {
	t.Run("when they run", func(t *testing.T) {
		cmd, dir, out := startChild(t, Names()...)
		var servers []string
		for out.Scan() && out.Text() != "child ready" {
			if s, ok := strings.CutPrefix(out.Text(), "child started "); ok {
				servers = append(servers, s)
			}
		}
		require.Len(t, servers, len(Names()), "the child did not start its servers")
		for _, s := range servers {
			require.GreaterOrEqual(t, len(processes(s)), 2, "a server and its supervisor run in %s", s)
		}
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
		nothingLeft(t, dir)
	})
	for _, name := range Names() {
		t.Run("when they are starting: "+name, func(t *testing.T) {
			cmd, dir, _ := startChild(t, name)
			// Kill it at the first file of the server's data.
			eventually(t, "the server is created", func() bool {
				found, err := filepath.Glob(filepath.Join(dir, "credit-*", "create.log"))
				behind, _ := filepath.Glob(filepath.Join(dir, "credit-*", "postgres", "create.log"))
				return err == nil && len(slices.Concat(found, behind)) > 0
			})
			require.NoError(t, cmd.Process.Kill())
			require.Error(t, cmd.Wait())
			nothingLeft(t, dir)
		})
	}
}
