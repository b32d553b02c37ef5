package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

// Postgres is the dialect of PostgreSQL, 15 or newer, for the drivers
// github.com/jackc/pgx/v5/stdlib and github.com/lib/pq.
//
// An append is one statement, one round trip: it holds the lock on its ledger's
// row no longer than the database takes to run and commit it. Any isolation level
// is right; READ COMMITTED, which is PostgreSQL's default, is the fastest,
// because under the others an append that waited for another one fails with a
// serialization failure and is tried again.
//
// Where commits wait for synchronous standbys, a command that comes again with its
// key is answered once a standby has the record that it finds.
//
// Through PgBouncer in transaction mode, pgx needs
// default_query_exec_mode=exec or cache_describe in its data source name (or
// prepared statements allowed in PgBouncer 1.21 and newer), and lib/pq needs
// binary_parameters=yes. There the search path is to be set for the role or the
// database, or not to be used: see [WithSchema].
var Postgres Dialect = postgres{}

type postgres struct{}

func (postgres) folder() string { return "postgres" }

func (postgres) schema(table string) (database.Store, error) {
	return database.NewStore(goose.DialectPostgres, table)
}

// migrationLock is none: every step is a transaction that takes its version in
// the end, and of two that create the same table the second waits for the first.
// A lock of a session would not survive a pooler in transaction mode.
func (postgres) migrationLock() (lock.SessionLocker, error) { return nil, nil }

func (postgres) bind() int           { return sqlx.DOLLAR }
func (postgres) id(id uuid.UUID) any { return id }

func (postgres) snapshot() *sql.TxOptions {
	return &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
}

func (postgres) create(prefix string) string {
	return insertText(prefix+"ledgers", ledgerColumns, 1) + " ON CONFLICT (id) DO NOTHING"
}

func (postgres) beyond(ascending bool, column string, value, id any) (condition string, args []any) {
	return beyondRow(ascending, column, value, id)
}

func (postgres) contains(column string) string { return "strpos(" + column + ", ?) > 0" }
func (postgres) div() string                   { return "/" }

// A reseller has a row in each of two tables.
var (
	pgProfileColumns  = slices.Concat(resellerColumns[2:fixedColumns], resellerColumns[profileColumns:len(resellerColumns)-1], foldedColumns)
	pgResellerColumns = slices.Concat(resellerColumns[:fixedColumns], resellerColumns[profileColumns:], foldedColumns)
	pgBalanceColumns  = []string{"ledger", "id", "status", "allocated", "used"}
	pgFigureColumns   = []string{"allocated", "used", "available"}
)

// resellers joins the two tables in the order of the one that has the index, row by
// row; see pgLookup.
func (postgres) resellers(prefix, index string, p parts) string {
	resellers, balances := prefix+"resellers", prefix+"balances"
	if index == "resellers_available" {
		if !p.profiles {
			return balances + " AS r"
		}
		return balances + " AS r CROSS JOIN " + pgLookup(prefix, "profile", pgProfileColumns, resellers, "ledger = r.ledger AND id = r.id")
	}
	if !p.figures {
		return resellers + " AS r"
	}
	return resellers + " AS r CROSS JOIN " + pgLookup(prefix, "figures", pgFigureColumns, balances, "ledger = r.ledger AND id = r.id")
}

// join is of the sort of pgLookup.
func (postgres) join(columns, source, key string) string {
	return " CROSS JOIN LATERAL (SELECT " + columns + " FROM " + source + " WHERE " + key + " OFFSET 0) AS r"
}

func (postgres) prepares() bool { return false }

func (postgres) transaction() (begin, commit string) {
	return "START TRANSACTION ISOLATION LEVEL READ COMMITTED", "COMMIT"
}

func (postgres) using(string) string { return "" }

func (postgres) current() string { return "" }

func (postgres) begun(context.Context, executor) error { return nil }

// lock waits for its turn first; see pgTurn.
func (d postgres) lock(prefix string, ledger uuid.UUID) (text string, args []any) {
	return "WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock(CAST(? AS bigint)))" +
		" SELECT " + columnsText("l", distributorColumns) + " FROM " + prefix + "ledgers AS l CROSS JOIN turn WHERE l.id = ? FOR NO KEY UPDATE OF l", []any{pgTurn(ledger), d.id(ledger)}
}

// check looks at one connection, because a pool's connections have the settings
// of its data source name in common.
func (d postgres) check(ctx context.Context, db *sqlx.DB) (Dialect, error) {
	conn, err := db.Connx(ctx)
	if err != nil {
		return nil, fmt.Errorf("get a connection to check: %w", err)
	}
	defer func() { _ = conn.Close() }() // back into the pool
	var found struct {
		Version  int    `db:"version"`
		Encoding string `db:"encoding"`
		Standby  bool   `db:"standby"`
		ReadOnly string `db:"read_only"`
		Commit   string `db:"synchronous_commit"`
	}
	if err := conn.GetContext(ctx, &found, "SELECT CAST(current_setting('server_version_num') AS integer) AS version,"+
		" current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS standby,"+
		" current_setting('transaction_read_only') AS read_only, current_setting('synchronous_commit') AS synchronous_commit"); err != nil {
		return nil, fmt.Errorf("ask PostgreSQL for its settings: %w", err)
	}
	switch {
	case found.Version < 15_00_00:
		return nil, fmt.Errorf("PostgreSQL is %d.%d, must be 15 or newer", found.Version/1_00_00, found.Version%1_00_00)
	case found.Encoding != "UTF8":
		return nil, fmt.Errorf("PostgreSQL database has the encoding %s, must be UTF8: create it with ENCODING 'UTF8' TEMPLATE template0", found.Encoding)
	case found.Standby:
		return nil, errors.New("PostgreSQL server is a standby, which only reads: name the primary," +
			" or all servers and target_session_attrs=read-write, in the data source name")
	case found.ReadOnly != "off":
		return nil, errors.New("PostgreSQL setting default_transaction_read_only is on, must be off" +
			" for the user and the database of this pool")
	case found.Commit == "off":
		return nil, errors.New("PostgreSQL setting synchronous_commit is off, must be on (or local, remote_write, remote_apply)," +
			" so that an answered commit survives a crash: add synchronous_commit=on to the data source name," +
			" or ALTER ROLE … SET synchronous_commit = on")
	}
	return d, checkPostgresRollback(ctx, conn)
}

// checkPostgresRollback refuses a driver or a pooler whose transactions do
// nothing. It needs no right to create anything.
func checkPostgresRollback(ctx context.Context, conn *sqlx.Conn) error {
	tx, err := conn.BeginTxx(ctx, nil)
	if err != nil {
		return fmt.Errorf("try a transaction: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // the second time does nothing
	var id, status string
	if err := tx.GetContext(ctx, &id, "SELECT CAST(pg_current_xact_id() AS text)"); err != nil {
		return fmt.Errorf("try a transaction: %w", err)
	}
	if err := tx.Rollback(); err != nil {
		return fmt.Errorf("try a transaction: %w", err)
	}
	if err := conn.GetContext(ctx, &status, "SELECT pg_xact_status(CAST($1 AS xid8))", id); err != nil {
		return fmt.Errorf("try a transaction: %w", err)
	}
	if status != "aborted" {
		return fmt.Errorf("the driver or the pooler does not roll back (a transaction that was is %q):"+
			" its transactions are without effect, so it must not keep a ledger; use another one", status)
	}
	return nil
}

// The SQLSTATEs that say more than "the statement failed", by code or by class:
// https://www.postgresql.org/docs/current/errcodes-appendix.html.
var postgresClasses = map[string]class{
	"40001": rolledBack, // serialization_failure
	"40P01": rolledBack, // deadlock_detected
	"55P03": rolledBack, // lock_not_available: lock_timeout
	"57014": rolledBack, // query_canceled: statement_timeout
	"25006": rolledBack, // read_only_sql_transaction: the other server is the primary now
	"0A000": rolledBack, // feature_not_supported: a cached plan met a migration
	"25P03": temporary,  // idle_in_transaction_session_timeout
	"25P04": temporary,  // transaction_timeout
	"40003": temporary,  // statement_completion_unknown
	"08":    temporary,  // connection exception
	"53":    temporary,  // insufficient resources: connections, memory, disk
	"57":    temporary,  // operator intervention: shutdown, starting up
	"58":    temporary,  // system error
	"XX":    temporary,  // internal error
}

func (postgres) class(err error) class {
	state := sqlState(err)
	if state == "" && lostConnection(err) {
		return temporary
	}
	if c, ok := postgresClasses[state]; ok || len(state) < 2 {
		return c
	}
	return postgresClasses[state[:2]]
}

// lostConnection tells whether nobody answered.
func lostConnection(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// unmigrated: undefined_table, undefined_column, undefined_object (a type).
func (postgres) unmigrated(err error) bool {
	state := sqlState(err)
	return state == "42P01" || state == "42703" || state == "42704"
}

// sqlState finds the SQLSTATE in an error of any driver; it is empty if the
// error did not come from the server.
func sqlState(err error) string {
	if e, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		return e.SQLState()
	}
	return ""
}

func (postgres) advised(err error) error {
	switch sqlState(err) {
	case "42P05", "26000": // duplicate_prepared_statement, invalid_sql_statement_name
		return fmt.Errorf("%w (a pooler in transaction mode hands the connection's prepared statements around:"+
			" with pgx add default_query_exec_mode=exec or cache_describe to the data source name, with lib/pq binary_parameters=yes)", err)
	case "25006":
		return fmt.Errorf("%w (the server is a standby or was set to read-only: name all servers and target_session_attrs=read-write in the data source name)", err)
	case "22P02":
		if strings.Contains(err.Error(), pgMiscount) {
			return fmt.Errorf("%w (not as many as were sent: a reseller is missing, or a trigger or a rule of the database drops or adds rows)", err)
		}
	case "25P02":
		return fmt.Errorf("%w (an earlier statement of the caller's transaction failed; roll it back)", err)
	}
	return err
}
