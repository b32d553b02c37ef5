package databases_test

import (
	"database/sql"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

// Processes that migrate at the same time all find the schema in order.
func TestMySQLMigratesAtTheSameTime(t *testing.T) {
	dsn := server.Start(t, server.MariaDB)
	var all sync.WaitGroup
	for range 6 {
		s, err := sqlstore.New(openMySQL(t, dsn), sqlstore.MySQL)
		require.NoError(t, err)
		all.Go(func() {
			if err := s.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	db := openMySQL(t, dsn, session("time_zone", "'+05:45'"))
	s, err := sqlstore.New(db, sqlstore.MySQL)
	require.NoError(t, err)
	status, err := s.Status(t.Context())
	require.NoError(t, err)
	for _, m := range status {
		require.True(t, m.Applied, m.File)
		require.WithinDuration(t, time.Now(), m.AppliedAt, time.Minute, "in UTC, whatever the session's time zone")
		var times int
		require.NoError(t, db.GetContext(t.Context(), &times, "SELECT count(*) FROM credit_schema WHERE version_id = ?", m.Version))
		require.Equal(t, 1, times, "%s is applied once", m.File)
	}
}

// A migration that was cut off is finished by the next one, at whatever statement
// that was.
func TestMySQLFinishesAMigration(t *testing.T) {
	dsn := server.Start(t, server.MariaDB)
	db := openMySQL(t, dsn)
	for done := 1; ; done++ {
		s, err := sqlstore.New(db, sqlstore.MySQL, sqlstore.WithPrefix(fmt.Sprintf("m%d_", done)))
		require.NoError(t, err)
		text, err := fs.ReadFile(s.Migrations(), "00001_ledger.sql")
		require.NoError(t, err)
		statements := mysqlStatements(string(text))
		for _, statement := range statements[:done] {
			_, err := db.ExecContext(t.Context(), statement)
			require.NoError(t, err)
		}
		require.NoError(t, s.Migrate(t.Context()), "after %d of %d statements", done, len(statements))
		require.NoError(t, s.Migrate(t.Context()))
		b, _ := newDraftBook(t, s, 1)
		requireHead(t, s, b.ID, b.state.Head(), "it works")
		if done == len(statements) {
			return
		}
	}
}

// mysqlStatements cuts a migration, whose texts have no semicolon, into its statements.
func mysqlStatements(text string) []string {
	var all []string
	var kept strings.Builder
	for line := range strings.Lines(text) {
		before, _, comment := strings.Cut(line, "--")
		kept.WriteString(before)
		if comment {
			kept.WriteString("\n")
		}
	}
	for statement := range strings.SplitSeq(kept.String(), ";") {
		if statement = strings.TrimSpace(statement); statement != "" {
			all = append(all, statement)
		}
	}
	return all
}

// The views show exact amounts and times in UTC, whatever the session has set.
func TestMySQLViews(t *testing.T) {
	dsn := server.Start(t, server.MariaDB)
	s := newMySQL(t, openMySQL(t, dsn))
	b, resellers := newDraftBook(t, s, 1)
	most := decimal.RequireFromString("999999999999.999999")
	id := resellers[0].ID
	bound := time.Date(1969, 7, 20, 20, 17, 39, 999999000, time.UTC)
	added := b.write(t, s,
		credit.Grant{Amount: most.Sub(decimal.New(1, 6))},
		credit.Allocation{ResellerID: id, Amount: decimal.RequireFromString("0.000001"), Key: "ключ", Operator: "op"},
		credit.Usage{ResellerID: id, Amount: most, OccurredAt: time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)},
		credit.NewReseller{Name: "Old", ExternalID: "Öl-1", BoundAt: bound}).Added[0]
	db := openMySQL(t, dsn, session("time_zone", "'-09:30'"), session("div_precision_increment", "0"))

	var pool struct{ Ledger, Granted, Allocated, Remaining, Sequence, RecordedAt string }
	row := db.QueryRowContext(t.Context(), "SELECT ledger, granted, allocated, remaining, sequence, recorded_at FROM credit_pool_view WHERE ledger = ?", b.ID.String())
	require.NoError(t, row.Scan(&pool.Ledger, &pool.Granted, &pool.Allocated, &pool.Remaining, &pool.Sequence, &pool.RecordedAt))
	require.Equal(t, "999999999999.999999", pool.Granted)
	require.Equal(t, "0.000001", pool.Allocated)
	require.Equal(t, "999999999999.999998", pool.Remaining)
	require.Equal(t, b.now.Format("2006-01-02 15:04:05.000000"), pool.RecordedAt)

	var reseller struct{ ExternalID, Used, Available, BoundAt string }
	row = db.QueryRowContext(t.Context(), "SELECT external_id, used, available, bound_at FROM credit_reseller_view WHERE id = ?", id.String())
	require.NoError(t, row.Scan(&reseller.ExternalID, &reseller.Used, &reseller.Available, &reseller.BoundAt))
	require.Equal(t, "999999999999.999999", reseller.Used)
	require.Equal(t, "-999999999999.999998", reseller.Available)
	row = db.QueryRowContext(t.Context(), "SELECT external_id, used, available, bound_at FROM credit_reseller_view WHERE id = ?", added.ID.String())
	require.NoError(t, row.Scan(&reseller.ExternalID, &reseller.Used, &reseller.Available, &reseller.BoundAt))
	require.Equal(t, "Öl-1", reseller.ExternalID)
	require.Equal(t, "1969-07-20 20:17:39.999999", reseller.BoundAt)

	var record struct{ Amount, Before, After, Key, OccurredAt string }
	row = db.QueryRowContext(t.Context(), "SELECT amount, available_before, available_after, idempotency_key, occurred_at FROM credit_record_view WHERE ledger = ? AND kind = 'usage'", b.ID.String())
	require.NoError(t, row.Scan(&record.Amount, &record.Before, &record.After, &record.Key, &record.OccurredAt))
	require.Equal(t, "999999999999.999999", record.Amount)
	require.Equal(t, "0.000001", record.Before)
	require.Equal(t, "-999999999999.999998", record.After)
	require.Equal(t, "9999-12-31 23:59:59.999999", record.OccurredAt)
	row = db.QueryRowContext(t.Context(), "SELECT idempotency_key FROM credit_record_view WHERE ledger = ? AND kind = 'allocate'", b.ID.String())
	require.NoError(t, row.Scan(&record.Key))
	require.Equal(t, "ключ", record.Key)
}

// The database refuses figures that no rule allows, whoever writes them.
func TestMySQLConstraints(t *testing.T) {
	dsn := server.Start(t, server.MariaDB)
	db := openMySQL(t, dsn)
	s := newMySQL(t, db)
	b, _ := newDraftBook(t, s, 1)
	for _, statement := range []string{
		"UPDATE credit_ledgers SET allocated = granted + 1",
		"UPDATE credit_ledgers SET granted = 1000000000000000000",
		"UPDATE credit_ledgers SET currency = 'usd'",
		"UPDATE credit_ledgers SET recorded_at = NULL",
		"UPDATE credit_resellers SET allocated = -1",
		"UPDATE credit_resellers SET status = 'Active'",
		"UPDATE credit_resellers SET customers = -1",
		"UPDATE credit_records SET corrects = sequence",
		"UPDATE credit_records SET idempotency_key = 'k'",
		"UPDATE credit_records SET amount = 1000000000000000000",
		"DELETE FROM credit_ledgers",
		"UPDATE credit_resellers SET id = REVERSE(id)",
	} {
		_, err := db.ExecContext(t.Context(), statement)
		require.Error(t, err, statement)
	}
	requireHead(t, s, b.ID, b.state.Head(), "nothing changed")
}

// Every query of the port finds its rows by an index, in the order of the answer:
// no scan of a table, nothing sorted afterwards, with and without statistics.
func TestMySQLQueriesUseAnIndex(t *testing.T) {
	rec := &recorder{}
	dsn := server.Start(t, server.MariaDB)
	db := openHooked(t, dsn, &hooks{after: rec.after, rewrite: asMySQL})
	s := newMySQL(t, db)
	explain := openMySQL(t, dsn)
	explain.SetMaxOpenConns(1)
	in := func(text string) {
		_, err := explain.ExecContext(t.Context(), text)
		require.NoError(t, err)
	}
	// The few with one email address, in an order that is not that of its index.
	fewSorted := regexp.MustCompile(`email = .* ORDER BY (name|available)`)
	look := func(when string, ledgers, size, records int) {
		var b *draftBook
		var resellers []credit.Reseller
		for range ledgers {
			b, resellers = newDraftBook(t, s, size)
			var commands []credit.Command
			for i := range records {
				commands = append(commands, usage(resellers[i%size], fmt.Sprint(i)))
			}
			b.write(t, s, commands...)
		}
		rec.take()
		load := func(asked credit.ReadSet) {
			_, err := s.Load(t.Context(), b.ID, asked)
			require.NoError(t, err)
		}
		load(credit.ReadSet{})
		for _, n := range []int{1, 3, size} {
			var asked credit.ReadSet
			for i, r := range resellers[:n] {
				asked.Resellers, asked.ExternalIDs, asked.Keys = append(asked.Resellers, r.ID), append(asked.ExternalIDs, r.ExternalID), append(asked.Keys, fmt.Sprint(i))
			}
			load(asked)
			tx, err := db.BeginTxx(t.Context(), nil)
			require.NoError(t, err)
			_, err = s.WithTx(tx).Load(t.Context(), b.ID, asked)
			require.NoError(t, err)
			require.NoError(t, tx.Rollback())
		}
		everyListing(t, s, b.ID, resellers[size/2])
		b.write(t, s, usage(resellers[0], "one"), credit.NewReseller{Name: "New", ExternalID: "new " + when})
		b.write(t, s, usage(resellers[0], "two"), usage(resellers[1], "three"), usage(resellers[2], ""))
		head, batch := b.draft(t, usage(resellers[0], "four"))
		require.ErrorIs(t, s.Append(t.Context(), b.ID, credit.Head{Sequence: head.Sequence}, batch), store.ErrMoved)
		batch.Records[0].Key = "one"
		require.ErrorIs(t, s.Append(t.Context(), b.ID, head, batch), store.ErrMoved)
		looked, updates := 0, 0
		in("START TRANSACTION") // outside, a write finds nothing
		for _, sent := range rec.take() {
			if !strings.HasPrefix(sent.text, "SELECT") && !strings.HasPrefix(sent.text, "UPDATE") {
				continue
			}
			looked++
			if strings.HasPrefix(sent.text, "UPDATE") {
				updates++
			}
			for _, step := range plan(t, explain, sent) {
				if strings.HasPrefix(step["table"], "<") || strings.HasPrefix(step["Extra"], "No tables used") {
					continue // the values that are sent, or what another step has found
				}
				if strings.HasPrefix(step["Extra"], "Impossible WHERE") || strings.HasPrefix(step["Extra"], "no matching row in const table") {
					continue // a row was looked up by a unique key already, and is not there or does not match
				}
				said := fmt.Sprintf("%s\n%s\n%v", when, sent.text, step)
				if !fewSorted.MatchString(sent.text) {
					require.NotContains(t, step["Extra"], "filesort", said)
				}
				require.NotContains(t, step["Extra"], "temporary", said)
				require.NotContains(t, []string{"ALL", "index", ""}, step["type"], said)
				require.NotEmpty(t, step["key"], said)
			}
		}
		in("ROLLBACK")
		require.Greater(t, looked, 100)
		require.Greater(t, updates, 5)
	}
	look("a few rows", 1, 3, 5)
	look("without statistics", 3, 40, 500)
	in("ANALYZE TABLE credit_ledgers, credit_resellers, credit_records")
	look("with statistics", 1, 40, 500)
}

// plan returns the rows of EXPLAIN.
func plan(t *testing.T, db *sqlx.DB, s recorded) []map[string]string {
	t.Helper()
	rows, err := db.QueryxContext(t.Context(), "EXPLAIN "+s.text, s.args...)
	require.NoError(t, err, s.text)
	defer func() { _ = rows.Close() }() // the second time does nothing
	names, err := rows.Columns()
	require.NoError(t, err)
	var steps []map[string]string
	for rows.Next() {
		values := make([]sql.NullString, len(names))
		to := make([]any, len(names))
		for i := range values {
			to[i] = &values[i]
		}
		require.NoError(t, rows.Scan(to...))
		step := map[string]string{}
		for i, name := range names {
			step[name] = values[i].String
		}
		steps = append(steps, step)
	}
	require.NoError(t, rows.Err())
	return steps
}
