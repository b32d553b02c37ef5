package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

func (mysql) schema(table string) (database.Store, error) {
	s, err := database.NewStore(goose.DialectMySQL, table)
	return mysqlSchema{s}, err
}

func (mysql) migrationLock() (lock.SessionLocker, error) { return mysqlMigrationLock{}, nil }

// mysqlSchema is the table of applied migrations. It keeps times in UTC, whatever
// the time zones of server and session, and reads them without the driver's help,
// which not every DSN asks for.
type mysqlSchema struct{ database.Store }

// CreateVersionTable implements database.Store. Another node of a cluster may
// have been faster.
func (s mysqlSchema) CreateVersionTable(ctx context.Context, db database.DBTxConn) error {
	_, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS "+s.Tablename()+" (id BIGINT NOT NULL AUTO_INCREMENT, version_id BIGINT NOT NULL,"+
		" is_applied BOOLEAN NOT NULL, tstamp DATETIME(6) NOT NULL, PRIMARY KEY (id)) ENGINE = InnoDB")
	return err
}

// Insert implements database.Store.
func (s mysqlSchema) Insert(ctx context.Context, db database.DBTxConn, r database.InsertRequest) error {
	_, err := db.ExecContext(ctx, "INSERT INTO "+s.Tablename()+" (version_id, is_applied, tstamp) VALUES (?, TRUE, UTC_TIMESTAMP(6))", r.Version)
	return err
}

// GetMigration implements database.Store.
func (s mysqlSchema) GetMigration(ctx context.Context, db database.DBTxConn, version int64) (*database.GetMigrationResult, error) {
	var applied int64
	var found database.GetMigrationResult
	err := db.QueryRowContext(ctx, "SELECT TIMESTAMPDIFF(MICROSECOND, CAST('1970-01-01' AS DATETIME(6)), tstamp), is_applied FROM "+s.Tablename()+
		" WHERE version_id = ? ORDER BY id DESC LIMIT 1", version).Scan(&applied, &found.IsApplied)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("%w: %d", database.ErrVersionNotFound, version)
	}
	if err != nil {
		return nil, fmt.Errorf("read migration %d: %w", version, err)
	}
	found.Timestamp = time.UnixMicro(applied)
	return &found, nil
}

// mysqlMigrationLock lets one migration of a database run at a time. On a
// cluster it excludes only those on the same node, and the others find the
// tables there.
type mysqlMigrationLock struct{}

const (
	mysqlLockName = "CONCAT('credit.', SHA1(DATABASE()))" // such names have a limit
	mysqlLockWait = 10 * time.Second
)

// SessionLock implements lock.SessionLocker.
func (mysqlMigrationLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	for {
		var got sql.NullInt64
		text := "SELECT GET_LOCK(" + mysqlLockName + ", " + strconv.Itoa(int(mysqlLockWait.Seconds())) + ")"
		switch err := conn.QueryRowContext(ctx, text).Scan(&got); {
		case err != nil:
			return fmt.Errorf("wait for another migration: %w", err)
		case !got.Valid:
			return errors.New("wait for another migration: GET_LOCK failed")
		case got.Int64 == 1:
			return nil
		}
	}
}

// SessionUnlock implements lock.SessionLocker.
func (mysqlMigrationLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	if _, err := conn.ExecContext(ctx, "DO RELEASE_LOCK("+mysqlLockName+")"); err != nil {
		return fmt.Errorf("let the next migration begin: %w", err)
	}
	return nil
}
