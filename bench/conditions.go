package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/resellerkit/credit/databases/server"
)

// Conditions are under which the rows were measured.
type Conditions struct {
	Date       string `json:"date"`
	Commit     string `json:"commit,omitempty"` // of the library
	Processor  string `json:"processor"`
	Processors int    `json:"processors"`
	Memory     string `json:"memory"`
	System     string `json:"system"`
	FileSystem string `json:"file_system"`
	// Flush is how long a write of 4 KiB and its flush take there, the median of 50.
	Flush    string    `json:"flush"`
	Go       string    `json:"go"`
	Versions []Setting `json:"versions"`
	Settings []Setting `json:"settings"`
	// LoadBefore and LoadAfter are the system's load averages of 1, 5 and 15 minutes.
	LoadBefore string `json:"load_before"`
	LoadAfter  string `json:"load_after"`
	Command    string `json:"command"`
}

// Setting is the value of something, by its name.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func newConditions(folder string, arguments []string) Conditions {
	return Conditions{
		Date:       time.Now().UTC().Format(time.DateOnly),
		Commit:     commit(),
		Processor:  fromFile("/proc/cpuinfo", "model name"),
		Processors: runtime.GOMAXPROCS(0),
		Memory:     fromFile("/proc/meminfo", "MemTotal"),
		System:     runtime.GOOS + "/" + runtime.GOARCH + " " + firstLine("/proc/sys/kernel/osrelease"),
		FileSystem: fileSystem(folder),
		Flush:      flush(folder),
		Go:         runtime.Version(),
		Versions:   modules(),
		LoadBefore: load(),
		Command:    command(arguments),
	}
}

// command is what is typed in a shell to run with the arguments.
func command(arguments []string) string {
	words := []string{"go run ."}
	for _, a := range arguments {
		if strings.ContainsAny(a, " !\"#$&'()*;<>?[\\]^`{|}~") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// load is the load averages, empty where the system does not tell.
func load() string {
	fields := strings.Fields(firstLine("/proc/loadavg"))
	return strings.Join(fields[:min(3, len(fields))], " ")
}

// busy tells whether somebody else uses the machine: more than a quarter of its
// processors.
func busy(load string) bool {
	var now float64
	_, err := fmt.Sscan(load, &now)
	return err == nil && now > float64(runtime.NumCPU())/4
}

// commit names the library's version, if git does.
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=12").Output() //nolint:noctx // it answers at once
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func firstLine(path string) string {
	content, err := os.ReadFile(path) //nolint:gosec // the paths are constants
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(content), "\n")
	return line
}

// fromFile returns what follows the name and a colon in a file of the system.
func fromFile(path, name string) string {
	file, err := os.Open(path) //nolint:gosec // the paths are constants
	if err != nil {
		return "unknown"
	}
	defer func() { _ = file.Close() }() // only read
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// fileSystem is the sort that a folder is on.
func fileSystem(folder string) string {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return "unknown"
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "unknown"
	}
	found, longest := "unknown", ""
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) > 2 && (folder+"/" == f[1] || strings.HasPrefix(folder+"/", strings.TrimSuffix(f[1], "/")+"/")) && len(f[1]) >= len(longest) {
			found, longest = f[2], f[1]
		}
	}
	return found
}

func flush(folder string) string {
	file, err := os.CreateTemp(folder, "credit-bench-flush-")
	if err != nil {
		return err.Error()
	}
	defer func() { _ = os.Remove(file.Name()) }() // it is in a temporary folder
	defer func() { _ = file.Close() }()           // and is removed
	var took []float64
	for range 50 {
		begin := time.Now()
		if _, err := file.Write(make([]byte, 4096)); err != nil {
			return err.Error()
		}
		if err := file.Sync(); err != nil {
			return err.Error()
		}
		took = append(took, time.Since(begin).Seconds()*1e3)
	}
	return fmt.Sprintf("%.2f ms", median(took))
}

// modules are the versions of the drivers.
func modules() []Setting {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	var found []Setting
	for _, m := range info.Deps {
		if slices.Contains([]string{"github.com/jackc/pgx/v5", "github.com/go-sql-driver/mysql", "modernc.org/sqlite"}, m.Path) {
			found = append(found, Setting{m.Path, m.Version})
		}
	}
	return found
}

// asked are the queries for each database's version, and for its settings, which
// are those of its installation but for what databases/servers.sh says.
var asked = map[string][]string{
	"sqlite":   {"SELECT 'version', sqlite_version()", "SELECT 'journal_mode', journal_mode FROM pragma_journal_mode", "SELECT 'synchronous', synchronous FROM pragma_synchronous"},
	"postgres": {"SELECT 'version', version()", "SELECT name, current_setting(name) FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'wal_sync_method', 'shared_buffers', 'max_wal_size', 'checkpoint_timeout', 'max_connections') ORDER BY name"},
	"mariadb": {"SELECT 'version', version()", "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('innodb_flush_log_at_trx_commit', 'innodb_doublewrite', 'innodb_buffer_pool_size', 'innodb_log_file_size'," +
		" 'innodb_flush_method', 'innodb_snapshot_isolation', 'sync_binlog', 'log_bin', 'tx_isolation', 'max_connections')"},
}

// ask adds the versions and the settings of the databases.
func (c *Conditions) ask(ctx context.Context, names []string, folder string) error {
	for _, t := range databases() {
		if !slices.Contains(names, t.name) {
			continue
		}
		s := newScope(t, folder)
		found, err := s.settings(ctx)
		if err := errors.Join(err, s.close()); err != nil {
			return err
		}
		for _, v := range found {
			v.Name = t.name + " " + v.Name
			if strings.HasSuffix(v.Name, " version") {
				c.Versions = append(c.Versions, v)
			} else {
				c.Settings = append(c.Settings, v)
			}
		}
	}
	return nil
}

func (s *scope) settings(ctx context.Context) ([]Setting, error) {
	db, err := s.pool(ctx, 1)
	if err != nil {
		return nil, err
	}
	var all []Setting
	for _, query := range asked[s.name] {
		rows, err := db.QueryContext(ctx, query)
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			var v Setting
			if err := rows.Scan(&v.Name, &v.Value); err != nil {
				return nil, errors.Join(err, rows.Close())
			}
			all = append(all, v)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// startServers starts those that are needed, all at the same time.
func startServers(ctx context.Context, names []string) error {
	var all sync.WaitGroup
	failed := make([]error, len(databases()))
	for i, t := range databases() {
		if t.server == "" || !slices.Contains(names, t.name) {
			continue
		}
		all.Go(func() {
			var drop func(context.Context) error
			if _, drop, failed[i] = server.Open(ctx, t.server); failed[i] == nil {
				failed[i] = drop(ctx)
			}
		})
	}
	all.Wait()
	return errors.Join(failed...)
}
