// Package server gives tests databases on real servers: throwaway ones, which
// databases/servers.sh starts on this machine, or those that the environment names.
//
//	func TestMain(m *testing.M) { os.Exit(server.Main(m)) }
//
//	func TestSomething(t *testing.T) {
//		db, err := sql.Open("pgx", server.Start(t, server.Postgres15))
//		…
//
// The servers and the variables that replace them:
//
//	name                     driver  variable                          what it is
//	postgres15               pgx     CREDIT_POSTGRES_DSN               PostgreSQL 15
//	postgres15-serializable  pgx     CREDIT_POSTGRES_SERIALIZABLE_DSN  the same, default_transaction_isolation = serializable
//	postgres18               pgx     CREDIT_POSTGRES18_DSN             PostgreSQL 18
//	pgbouncer                pgx     CREDIT_PGBOUNCER_DSN              PgBouncer in transaction mode before PostgreSQL 15
//	mariadb                  mysql   CREDIT_MARIADB_DSN                MariaDB 10.11, innodb_snapshot_isolation = OFF
//	mariadb-snapshot         mysql   CREDIT_MARIADB_SNAPSHOT_DSN       the same, innodb_snapshot_isolation = ON
//
// A DSN in the environment is a URL for pgx, or the form of go-sql-driver/mysql. It
// names a server, not a database: its user must be able to create databases, and the
// tests create one with a random name that begins with credit_ and drop it.
//
// Every server flushes every commit, as is the database's default. A server that
// cannot be had fails the test and says what to install; nothing is skipped.
//
// A throwaway server ends with the process that started it, however that ends: its
// supervisor waits for the end of a pipe whose other side only this process holds.
package server

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The names of the servers.
const (
	Postgres15             = "postgres15"
	Postgres15Serializable = "postgres15-serializable"
	Postgres18             = "postgres18"
	PgBouncer              = "pgbouncer"
	MariaDB                = "mariadb"
	MariaDBSnapshot        = "mariadb-snapshot"
)

// Names returns the name of every server.
func Names() []string {
	return []string{Postgres15, Postgres15Serializable, Postgres18, PgBouncer, MariaDB, MariaDBSnapshot}
}

// Driver returns the name of the database/sql driver for a server's DSN, which this
// package registers: pgx or mysql.
func Driver(name string) string {
	if strings.HasPrefix(name, MariaDB) {
		return "mysql"
	}
	return "pgx"
}

// variable returns the environment variable that replaces a throwaway server.
func variable(name string) string {
	name = strings.Replace(strings.ToUpper(name), "POSTGRES15", "POSTGRES", 1)
	return "CREDIT_" + strings.ReplaceAll(name, "-", "_") + "_DSN"
}

// shared holds the servers of this process, by name. Each starts when it is first
// asked for.
var shared struct {
	sync.Mutex
	servers map[string]func() (*Server, error)
}

// Main runs the tests, ends the servers that Start started, and returns the exit
// code. Without it they end as well, but somewhat after the process.
func Main(m *testing.M) int {
	code := m.Run()
	if err := Close(); err != nil {
		fmt.Fprintln(os.Stderr, err) //nolint:forbidigo // there is no test left to say it
		code = max(code, 1)
	}
	return code
}

// Close ends the servers that Start and Open started.
func Close() error {
	shared.Lock()
	defer shared.Unlock()
	var errs []error
	for name, get := range shared.servers {
		s, err := get()
		if err != nil {
			continue // those who asked for it have been told
		}
		if err := s.close(); err != nil {
			errs = append(errs, fmt.Errorf("%s did not end: %w", name, err))
		}
	}
	shared.servers = nil
	return errors.Join(errs...)
}

// Start returns the DSN of a new, empty database, which is dropped when the test
// ends; connections must be closed by then. It is on the server of that name which
// the tests of this process share, or on the one in the environment.
func Start(t testing.TB, name string) string {
	t.Helper()
	dsn, drop, err := Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drop(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("is something still open in the database of this test? %v", err)
		}
	})
	return dsn
}

// Open is Start for a program, which drops the database itself, and ends with
// [Close].
func Open(ctx context.Context, name string) (dsn string, drop func(context.Context) error, err error) {
	server := os.Getenv(variable(name))
	if server == "" {
		shared.Lock()
		get, ok := shared.servers[name]
		if !ok {
			get = sync.OnceValues(func() (*Server, error) { return begin(name, "", "") })
			if shared.servers == nil {
				shared.servers = make(map[string]func() (*Server, error))
			}
			shared.servers[name] = get
		}
		shared.Unlock()
		s, err := get()
		if err != nil {
			return "", nil, missing(name, err)
		}
		server = s.server
	}
	database, dsn, err := createDatabase(ctx, name, server)
	if err != nil {
		return "", nil, missing(name, err)
	}
	return dsn, func(ctx context.Context) error { return dropDatabase(ctx, name, server, database) }, nil
}

func missing(name string, err error) error {
	return fmt.Errorf("no server %s: %w\nInstall the servers with: bash databases/servers.sh install\n"+
		"or have %s name a server on which databases may be created", name, err, variable(name))
}

// Server is a throwaway server of one test. Its methods are not to be called at the
// same time.
type Server struct {
	name, dir string
	// server and admin are DSNs that name no database of the tests.
	server, admin string
	database, dsn string

	supervisor *exec.Cmd
	lifeline   io.WriteCloser
	answers    *bufio.Reader
}

// Private starts a server for this test alone, to be killed and restarted. It is
// removed when the test ends, and is never one of the environment.
func Private(t testing.TB, name string) *Server {
	t.Helper()
	return private(t, name, "", "")
}

// OnDisk is Private in /var/tmp, which by custom is on a disk, wherever the folder of
// temporary files is. In memory MariaDB maps its log, and kill -9 would lose nothing
// of it, be it flushed or not.
func OnDisk(t testing.TB, name string) *Server {
	t.Helper()
	return private(t, name, "/var/tmp", "")
}

// smallDisk is the size of a disk that a test may fill.
const smallDisk = 256 << 20

// OnSmallDisk is Private on a disk of 256 MiB, which FillDisk can fill. Root mounts
// one in memory. Others need CREDIT_SMALL_DISK, a folder on a small file system.
func OnSmallDisk(t testing.TB, name string) *Server {
	t.Helper()
	if parent := os.Getenv("CREDIT_SMALL_DISK"); parent != "" {
		return private(t, name, parent, "")
	}
	if os.Geteuid() != 0 {
		t.Fatal("no small disk: only root can mount one; have CREDIT_SMALL_DISK name a folder on a file system that may be filled")
	}
	return private(t, name, "", fmt.Sprint(smallDisk))
}

func private(t testing.TB, name, parent, size string) *Server {
	t.Helper()
	s, err := begin(name, parent, size)
	if err != nil {
		t.Fatal(missing(name, err))
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Errorf("%s did not end: %v", name, err)
		}
	})
	if s.database, s.dsn, err = createDatabase(t.Context(), name, s.server); err != nil {
		t.Fatal(missing(name, err))
	}
	return s
}

// DSN returns the DSN of the server's one database. It stays the same over restarts.
func (s *Server) DSN() string { return s.dsn }

// Admin returns the DSN of the same database for an administrator: past the pooler
// if there is one, and not bound by ReadOnly on MariaDB.
func (s *Server) Admin() string {
	dsn, err := withDatabase(s.name, s.admin, s.database)
	if err != nil {
		panic(err) // it comes from servers.sh
	}
	return dsn
}

// Kill ends the processes of the server with kill -9. Of PgBouncer it is the pooler
// alone.
func (s *Server) Kill(t testing.TB) { t.Helper(); s.must(t, "kill") }

// KillBehind kills the PostgreSQL behind a PgBouncer.
func (s *Server) KillBehind(t testing.TB) { t.Helper(); s.must(t, "kill-behind") }

// Stop shuts the server down in order: who is connected is disconnected.
func (s *Server) Stop(t testing.TB) { t.Helper(); s.must(t, "stop") }

// Restart starts what was killed or stopped, on the same port, and waits until it
// has recovered. What still runs is left alone.
func (s *Server) Restart(t testing.TB) { t.Helper(); s.must(t, "start") }

// ReadOnly makes the server refuse writes, or accept them again: PostgreSQL answers
// 25006, MariaDB 1290. PostgreSQL remembers it over a restart, MariaDB does not.
func (s *Server) ReadOnly(t testing.TB, on bool) {
	t.Helper()
	value := map[bool]string{true: "on", false: "off"}[on]
	statements := []string{"SET GLOBAL read_only = " + value}
	if Driver(s.name) == "pgx" {
		statements = []string{"ALTER SYSTEM SET default_transaction_read_only = " + value, "SELECT pg_reload_conf()"}
	}
	if err := execute(t.Context(), s.name, s.admin, statements...); err != nil {
		t.Fatalf("read-only %s: %v", value, err)
	}
	if Driver(s.name) == "pgx" {
		s.awaitReload(t, value)
	}
}

// awaitReload waits until new connections have the value. By then the others have
// been told, and look before their next statement.
func (s *Server) awaitReload(t testing.TB, value string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		db, err := sql.Open("pgx", s.admin)
		if err != nil {
			t.Fatal(err)
		}
		var now string
		err = errors.Join(db.QueryRowContext(t.Context(), "SHOW default_transaction_read_only").Scan(&now), db.Close())
		if err != nil {
			t.Fatalf("read-only %s: %v", value, err)
		}
		if now == value {
			return
		}
		<-tick.C
	}
}

func (s *Server) ballast() string { return filepath.Join(s.dir, "ballast") }

// FillDisk leaves so many bytes on the disk of a server that OnSmallDisk started.
func (s *Server) FillDisk(t testing.TB, spare int64) {
	t.Helper()
	file, err := os.OpenFile(s.ballast(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(fill(file, spare), file.Close()); err != nil {
		s.FreeDisk(t)
		t.Fatal(err)
	}
}

func fill(file *os.File, spare int64) error {
	written, block := int64(0), make([]byte, 1<<20)
	for len(block) > 0 {
		n, err := file.Write(block)
		written += int64(n)
		switch {
		case errors.Is(err, syscall.ENOSPC):
			block = block[:len(block)/2]
		case err != nil:
			return err
		case written > 2*smallDisk:
			return fmt.Errorf("the disk of %s is not small", file.Name())
		}
	}
	return file.Truncate(max(0, written-spare))
}

// FreeDisk gives the space back. A server that could not write may have died; Restart
// makes sure that it runs.
func (s *Server) FreeDisk(t testing.TB) {
	t.Helper()
	if err := os.Remove(s.ballast()); err != nil {
		t.Fatal(err)
	}
}

// begin starts a server with a supervisor, in a new folder of the parent, which is by
// default where temporary files are.
func begin(name, parent, size string) (*Server, error) {
	if !slices.Contains(Names(), name) {
		return nil, fmt.Errorf("the servers are %s", strings.Join(Names(), ", "))
	}
	_, here, _, _ := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(filepath.Dir(here)), "servers.sh")
	if _, err := os.Stat(script); err != nil {
		return nil, fmt.Errorf("the script is not where the compiler saw this package (-trimpath?): %w", err)
	}
	dir, err := os.MkdirTemp(parent, "credit-"+name+"-")
	if err != nil {
		return nil, err
	}
	s := &Server{name: name, dir: dir}
	//nolint:gosec // the arguments are this package's, and those who may set TMPDIR may do anything
	s.supervisor = exec.CommandContext(context.Background(), "bash", script, "serve", name, dir, size)
	// In a session of its own, a signal to this process's group does not reach it.
	s.supervisor.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if s.lifeline, err = s.supervisor.StdinPipe(); err != nil {
		return nil, err
	}
	answers, err := s.supervisor.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.answers = bufio.NewReader(answers)
	if err := s.supervisor.Start(); err != nil {
		return nil, err
	}
	answer, err := s.do("start")
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	for line := range strings.Lines(answer) {
		if n, err := fmt.Sscanf(line, "dsn=%s admin=%s", &s.server, &s.admin); n == 2 && err == nil {
			return s, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("servers.sh names no DSN: %s", answer), s.close())
}

// do has the supervisor run one verb and returns what was printed.
func (s *Server) do(verb string) (string, error) {
	if _, err := io.WriteString(s.lifeline, verb+"\n"); err != nil {
		return "", fmt.Errorf("the supervisor is gone: %w", err)
	}
	var said strings.Builder
	for {
		line, err := s.answers.ReadString('\n')
		switch {
		case err != nil:
			return "", fmt.Errorf("the supervisor is gone: %w: %s", err, said.String())
		case line == "ok\n":
			return said.String(), nil
		case line == "failed\n":
			return "", errors.New(strings.TrimSpace(said.String()))
		}
		said.WriteString(line)
	}
}

func (s *Server) must(t testing.TB, verb string) {
	t.Helper()
	if _, err := s.do(verb); err != nil {
		t.Fatalf("%s %s: %v", verb, s.name, err)
	}
}

// close ends the server and waits until its folder is gone.
func (s *Server) close() error {
	return errors.Join(s.lifeline.Close(), s.supervisor.Wait())
}
