package server

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
)

// createDatabase creates a database on the server and returns its name and DSN.
func createDatabase(ctx context.Context, name, server string) (database, dsn string, err error) {
	database = "credit_" + strings.ToLower(rand.Text())
	if dsn, err = withDatabase(name, server, database); err != nil {
		return "", "", err
	}
	return database, dsn, execute(ctx, name, server, "CREATE DATABASE "+database)
}

// dropDatabase drops a database. What is open in it hinders that for some seconds, and
// is an error then.
func dropDatabase(ctx context.Context, name, server, database string) error {
	statement := "DROP DATABASE " + database
	if name == PgBouncer {
		statement += " WITH (FORCE)" // the pooler keeps its connections
	}
	return execute(ctx, name, server, statement)
}

// withDatabase returns the server's DSN for a database.
func withDatabase(name, server, database string) (string, error) {
	if Driver(name) == "mysql" {
		config, err := mysql.ParseDSN(server)
		if err != nil {
			return "", err
		}
		config.DBName = database
		return config.FormatDSN(), nil
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("not a URL as postgres://user@host:port/: %q", server)
	}
	u.Path = "/" + database
	return u.String(), nil
}

// execute runs statements on a connection of their own.
func execute(ctx context.Context, name, dsn string, statements ...string) (err error) {
	if Driver(name) == "mysql" {
		config, err := mysql.ParseDSN(dsn)
		if err != nil {
			return err
		}
		config.Params = map[string]string{"lock_wait_timeout": "10"}
		dsn = config.FormatDSN()
	}
	db, err := sql.Open(Driver(name), dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	for _, statement := range statements {
		if _, err := db.ExecContext(ctx, statement); err != nil { //nolint:gosec // the name of a database cannot be an argument
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}
