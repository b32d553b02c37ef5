package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jmoiron/sqlx"
)

const mysqlAdvice = "for example credit:secret@tcp(db.example.com:3306)/credit?interpolateParams=true&timeout=5s"

// check looks at two connections at once where the pool allows it, because the
// settings are those of a connection.
func (d mysql) check(ctx context.Context, db *sqlx.DB) (Dialect, error) {
	most := db.Stats().MaxOpenConnections
	for range 2 {
		conn, err := db.Connx(ctx)
		if err != nil {
			return nil, fmt.Errorf("get a connection to check: %w", err)
		}
		defer func() { _ = conn.Close() }() // back into the pool
		var version string
		if err := conn.GetContext(ctx, &version, "SELECT VERSION()"); err != nil {
			return nil, fmt.Errorf("ask the server for its version: %w", err)
		}
		if err := checkMySQLVersion(version); err != nil {
			return nil, err
		}
		d.blocks = isMariaDB(version)
		for _, check := range []func(context.Context, *sqlx.Conn) error{checkMySQLSettings, checkMySQLText, checkMySQLRollback} {
			if err := check(ctx, conn); err != nil {
				return nil, err
			}
		}
		if most == 1 {
			break
		}
	}
	return d, nil
}

// mysqlSettings are the settings that must be right, under their names in all
// versions. A server without a setting is not asked for it.
var mysqlSettings = []struct {
	name   string
	good   func(found string) bool
	advice string
}{
	{"sql_mode", func(found string) bool {
		return hasMode(found, "STRICT_TRANS_TABLES") || hasMode(found, "STRICT_ALL_TABLES")
	},
		"must have STRICT_TRANS_TABLES, or what does not fit is cut silently: set it in the server, or in the DSN with sql_mode=%27STRICT_TRANS_TABLES%27"},
	{"sql_mode", func(found string) bool { return !hasMode(found, "EMPTY_STRING_IS_NULL") },
		"must not have EMPTY_STRING_IS_NULL, because an empty text is a value"},
	{"character_set_client", isUTF8, "must be utf8mb4: leave charset out of the DSN, or set charset=utf8mb4"},
	{"character_set_connection", isUTF8, "must be utf8mb4: leave charset out of the DSN, or set charset=utf8mb4"},
	{"character_set_results", isUTF8, "must be utf8mb4: leave charset out of the DSN, or set charset=utf8mb4"},
	{"autocommit", isOn, "must be ON, or what is read once is read for ever: leave it out of the DSN"},
	{"tx_isolation", isCommitted, "must be READ-COMMITTED or stricter: set it in the DSN with tx_isolation=%27READ-COMMITTED%27"},
	{"transaction_isolation", isCommitted, "must be READ-COMMITTED or stricter: set it in the DSN with transaction_isolation=%27READ-COMMITTED%27"},
	{"max_allowed_packet", func(found string) bool {
		n, err := strconv.ParseInt(found, 10, 64)
		return err == nil && n >= mysqlMaxText+mysqlMaxRow
	}, fmt.Sprintf("must be %d or more (bytes): set it in the server", mysqlMaxText+mysqlMaxRow)},
	{"read_only", isOff, "must be OFF: connect to the server that takes the writes"},
	{"super_read_only", isOff, "must be OFF: connect to the server that takes the writes"},
	{"innodb_read_only", isOff, "must be OFF: connect to the server that takes the writes"},
	{"tx_read_only", isOff, "must be OFF: leave it out of the DSN"},
	{"transaction_read_only", isOff, "must be OFF: leave it out of the DSN"},
}

func hasMode(modes, mode string) bool { return strings.Contains(","+modes+",", ","+mode+",") }
func isUTF8(found string) bool        { return found == "utf8mb4" }
func isOn(found string) bool          { return found == "ON" || found == "1" }
func isOff(found string) bool         { return found == "OFF" || found == "0" || found == "" }
func isCommitted(found string) bool   { return found != "READ-UNCOMMITTED" }

func checkMySQLSettings(ctx context.Context, conn *sqlx.Conn) error {
	var database sql.NullString
	if err := conn.GetContext(ctx, &database, "SELECT DATABASE()"); err != nil {
		return fmt.Errorf("ask the server for the database: %w", err)
	}
	if !database.Valid {
		return errors.New("no database is selected: name one in the DSN, " + mysqlAdvice)
	}

	found, err := mysqlVariables(ctx, conn)
	if err != nil {
		return err
	}
	for _, setting := range mysqlSettings {
		if value, ok := found[setting.name]; ok && !setting.good(value) {
			return fmt.Errorf("server setting %s is %q, %s", setting.name, value, setting.advice)
		}
	}
	// Bit 1 is for reading.
	if wait, err := strconv.Atoi(found["wsrep_sync_wait"]); found["wsrep_on"] == "ON" && (err != nil || wait&1 == 0) {
		return fmt.Errorf("server setting wsrep_sync_wait is %q, must have bit 1 set, or what was written on another node of the cluster is not seen: set it in the DSN with wsrep_sync_wait=7",
			found["wsrep_sync_wait"])
	}
	return nil
}

func mysqlVariables(ctx context.Context, conn *sqlx.Conn) (map[string]string, error) {
	names := []string{"wsrep_on", "wsrep_sync_wait"}
	for _, setting := range mysqlSettings {
		names = append(names, setting.name)
	}
	var rows []struct {
		Name  string `db:"Variable_name"`
		Value string `db:"Value"`
	}
	if err := conn.SelectContext(ctx, &rows, "SHOW SESSION VARIABLES WHERE Variable_name IN ('"+strings.Join(names, "', '")+"')"); err != nil {
		return nil, fmt.Errorf("ask the server for its settings: %w", err)
	}
	found := make(map[string]string, len(rows))
	for _, row := range rows {
		found[row.Name] = row.Value
	}
	return found, nil
}

func isMariaDB(version string) bool { return strings.Contains(version, "-MariaDB") }

// checkMySQLVersion refuses what has no, or does not enforce, CHECK constraints,
// and what nobody maintains.
func checkMySQLVersion(version string) error {
	number, rest, _ := strings.Cut(strings.TrimPrefix(version, "5.5.5-"), "-")
	name, least := "MySQL", [3]int{8, 0, 16}
	switch {
	case isMariaDB(version):
		name, least = "MariaDB", [3]int{10, 6, 0}
	case strings.Contains(rest, "TiDB"):
		return nil // its number is that of the MySQL it speaks
	}
	var have [3]int
	for i, part := range strings.SplitN(number, ".", 3) {
		have[i], _ = strconv.Atoi(part) // 0 is old enough to be refused
	}
	for i := range have {
		if have[i] != least[i] {
			if have[i] < least[i] {
				return fmt.Errorf("%s is %s, must be %d.%d.%d or newer", name, version, least[0], least[1], least[2])
			}
			break
		}
	}
	return nil
}

// checkMySQLText refuses a driver that prepares statements in the server when
// they have parameters, for the largest statement that the store sends.
func checkMySQLText(ctx context.Context, conn *sqlx.Conn) error {
	prepared := func() (n int64, err error) {
		var name string
		err = conn.QueryRowxContext(ctx, "SHOW SESSION STATUS LIKE 'Com_stmt_prepare'").Scan(&name, &n)
		if errors.Is(err, sql.ErrNoRows) {
			err = nil // a server that does not count
		}
		return n, err
	}
	before, err := prepared()
	if err != nil {
		return fmt.Errorf("ask the server for its prepared statements: %w", err)
	}
	var length int
	text := strings.Repeat("x", mysqlMaxText+mysqlMaxRow-mysqlMaxRow/4)
	if err := conn.QueryRowxContext(ctx, "SELECT OCTET_LENGTH(?)", text).Scan(&length); err != nil {
		return fmt.Errorf("try a statement with a parameter of %d bytes: %w", len(text), err)
	}
	after, err := prepared()
	if err != nil {
		return fmt.Errorf("ask the server for its prepared statements: %w", err)
	}
	if after != before || length != len(text) {
		return fmt.Errorf("the driver prepares statements in the server: the DSN must have interpolateParams=true (%s), and maxAllowedPacket, if it has it, must be %d or more",
			mysqlAdvice, mysqlMaxText+mysqlMaxRow)
	}
	return nil
}

// checkMySQLRollback refuses a driver or a proxy whose transactions do nothing,
// because with it half an append would stay. A savepoint lives as long as its
// transaction, so nothing has to be written.
func checkMySQLRollback(ctx context.Context, conn *sqlx.Conn) error {
	const setPoint, toPoint, noPoint = "SAVEPOINT credit_probe", "ROLLBACK TO SAVEPOINT credit_probe", 1305
	tx, err := conn.BeginTxx(ctx, nil)
	if err != nil {
		return fmt.Errorf("try a transaction: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // the second time does nothing
	for _, text := range []string{setPoint, toPoint} {
		if _, err := tx.ExecContext(ctx, text); mysqlIs(err, noPoint) {
			return errors.New("the driver does not begin transactions, so it must not keep a ledger; use another driver")
		} else if err != nil {
			return fmt.Errorf("try a transaction: %w", err)
		}
	}
	if err := tx.Rollback(); err != nil {
		return fmt.Errorf("try a transaction: %w", err)
	}
	switch _, err := conn.ExecContext(ctx, toPoint); {
	case err == nil:
		_, _ = conn.ExecContext(ctx, "ROLLBACK") // it holds nothing
		return errors.New("the driver does not roll back: its transactions are without effect, so it must not keep a ledger; use another driver")
	case !mysqlIs(err, noPoint):
		return fmt.Errorf("try a transaction: %w", err)
	}
	return nil
}
