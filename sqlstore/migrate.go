package sqlstore

import (
	"archive/zip"
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

//go:embed migrations
var migrations embed.FS

// The marks stand for the prefix and for the schema that qualifies a name in the
// migrations, and for nothing else.
const (
	prefixMark = "{{prefix}}"
	schemaMark = "{{schema}}"
)

// Migration is one step of the schema and whether a database has it.
type Migration struct {
	// Version counts the steps from 1.
	Version int64
	// File is its name in [Store.Migrations].
	File string
	// Applied tells whether the database has it; AppliedAt since when, by the
	// database's clock, in UTC; zero for a pending one.
	Applied   bool
	AppliedAt time.Time
}

// Migrate brings the schema up to date; there is nothing to do when it is.
// Several processes may migrate at the same time. Every step is done as a whole
// or not at all where the database can do that (SQLite, PostgreSQL). What was
// applied is kept in the table <prefix>schema.
func (s *Store) Migrate(ctx context.Context) error {
	for before := -1; ; {
		err := s.migrate(ctx)
		if err == nil {
			return nil
		}
		// Another process may have been faster, then its steps are in the way of
		// ours. Trying again ends, because each time there are fewer left.
		status, statusErr := s.Status(ctx)
		if statusErr != nil {
			return errors.Join(s.explained(fmt.Errorf("migrate: %w", err)), statusErr)
		}
		applied := 0
		for _, m := range status {
			if m.Applied {
				applied++
			}
		}
		if applied == before || applied == 0 {
			return fmt.Errorf("sqlstore: migrate: %w", s.dialect.advised(err))
		}
		before = applied
	}
}

func (s *Store) migrate(ctx context.Context) error {
	table, err := s.dialect.schema(s.schemaTable())
	if err != nil {
		return err
	}
	options := []goose.ProviderOption{goose.WithStore(table), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger())}
	lock, err := s.dialect.migrationLock()
	if err != nil {
		return err
	}
	if lock != nil {
		options = append(options, goose.WithSessionLocker(lock))
	}
	provider, err := goose.NewProvider(goose.DialectCustom, s.db.DB, s.Migrations(), options...)
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

func (s *Store) schemaTable() string { return s.prefix + "schema" }

// Status tells which steps of the schema the database has, in their order. It
// changes nothing.
func (s *Store) Status(ctx context.Context) ([]Migration, error) {
	files, err := fs.Glob(s.Migrations(), "*.sql")
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	table, err := s.dialect.schema(s.schemaTable())
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	all := make([]Migration, len(files))
	for i, file := range files {
		m := &all[i]
		m.File = file
		if m.Version, err = goose.NumericComponent(file); err != nil {
			return nil, fmt.Errorf("sqlstore: %w", err)
		}
		found, err := table.GetMigration(ctx, s.db, m.Version)
		switch {
		case err == nil:
			m.Applied, m.AppliedAt = found.IsApplied, found.Timestamp.UTC()
		case errors.Is(err, database.ErrVersionNotFound), s.dialect.unmigrated(err): // pending
		default:
			return nil, fmt.Errorf("sqlstore: migration status: %w", s.dialect.advised(err))
		}
	}
	return all, nil
}

// Migrations returns the schema as SQL files with the prefix filled in, for those
// who migrate with a tool of their own. They carry the annotations of
// github.com/pressly/goose; other tools read them as comments. What such a tool has
// applied, [Store.Status] does not know and [Store.Migrate] would try again: use one
// or the other.
func (s *Store) Migrations() fs.FS {
	var buf bytes.Buffer
	archive := zip.NewWriter(&buf) // the shortest way to a file system in memory
	folder := path.Join("migrations", s.dialect.folder())
	files, err := migrations.ReadDir(folder)
	must(err)
	for _, file := range files {
		text, err := migrations.ReadFile(path.Join(folder, file.Name()))
		must(err)
		to, err := archive.Create(file.Name())
		must(err)
		_, err = to.Write([]byte(strings.NewReplacer(prefixMark, s.names, schemaMark, s.schema).Replace(string(text))))
		must(err)
	}
	must(archive.Close())
	reader, err := zip.NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	must(err)
	return reader
}

// must is for what cannot fail, because all of it is part of the program.
func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("sqlstore: migrations: %v", err))
	}
}
