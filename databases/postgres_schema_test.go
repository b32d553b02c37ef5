package databases_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

// New refuses what would lose or change something, and says what to do.
func TestPostgresRefuses(t *testing.T) {
	plain := server.Start(t, server.Postgres15)
	for _, c := range []struct {
		name, parameter string
		says            []string
	}{
		{"commits that a crash loses", "synchronous_commit=off", []string{"synchronous_commit is off", "must be on", "synchronous_commit=on"}},
		{"a read-only session", "default_transaction_read_only=on", []string{"default_transaction_read_only is on"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := sqlstore.New(postgresWay{driver: "pgx", parameter: c.parameter}.connect(t, plain).db, sqlstore.Postgres)
			require.Error(t, err)
			for _, text := range c.says {
				require.ErrorContains(t, err, text)
			}
		})
	}
	for _, commit := range []string{"on", "local", "remote_write", "remote_apply"} {
		_, err := sqlstore.New(postgresWay{driver: "pgx", parameter: "synchronous_commit=" + commit}.connect(t, plain).db, sqlstore.Postgres)
		require.NoError(t, err)
	}
	t.Run("another encoding", func(t *testing.T) {
		admin := postgresWay{driver: "pgx"}.connect(t, plain)
		name := "credit_ascii_" + strings.ReplaceAll(uuid.NewString(), "-", "")
		admin.db.MustExec("CREATE DATABASE " + name + " ENCODING 'SQL_ASCII' TEMPLATE template0")
		config, err := pgx.ParseConfig(plain)
		require.NoError(t, err)
		config.Database = name
		db := sqlx.NewDb(stdlib.OpenDB(*config), "pgx")
		_, err = sqlstore.New(db, sqlstore.Postgres)
		require.ErrorContains(t, err, "encoding SQL_ASCII, must be UTF8")
		require.NoError(t, db.Close())
		admin.db.MustExec("DROP DATABASE " + name)
	})
	t.Run("a driver whose transactions do nothing", func(t *testing.T) {
		config, err := pgx.ParseConfig(plain)
		require.NoError(t, err)
		db := sqlx.NewDb(sql.OpenDB(deafConnector{stdlib.GetConnector(*config)}), "pgx")
		_, err = sqlstore.New(db, sqlstore.Postgres)
		require.ErrorContains(t, err, "does not roll back")
		require.NoError(t, db.Close())
	})
}

// deafConnector is a driver that neither begins nor rolls back.
type deafConnector struct{ driver.Connector }

func (c deafConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	return deafConn{conn}, err
}

type deafConn struct{ driver.Conn }

func (deafConn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) { return deafTx{}, nil }

func (c deafConn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, text, args)
}

type deafTx struct{}

func (deafTx) Commit() error   { return nil }
func (deafTx) Rollback() error { return nil }

// Prepared statements do not survive a pooler in transaction mode, and the error
// says which setting to change.
func TestPostgresPooler(t *testing.T) {
	plain := server.Start(t, server.PgBouncer)
	for _, driver := range []string{"pgx", "postgres"} {
		t.Run(driver, func(t *testing.T) {
			parameter := ""
			if driver == "pgx" {
				parameter = "default_query_exec_mode=cache_statement"
			}
			var all sync.WaitGroup
			errs := make(chan error, 1000)
			for range 20 {
				db := postgresWay{driver: driver, parameter: parameter}.connect(t, plain).db
				all.Go(func() {
					for range 20 {
						if _, err := sqlstore.New(db, sqlstore.Postgres); err != nil {
							errs <- err
						}
					}
				})
			}
			all.Wait()
			close(errs)
			require.NotEmpty(t, errs, "the pooler did no harm")
			for err := range errs {
				require.ErrorContains(t, err, "default_query_exec_mode=exec")
				require.ErrorContains(t, err, "binary_parameters=yes")
			}
		})
	}
}

// switching is a driver whose new connections have one mode, and later another.
type switching struct {
	driver.Connector
	later  driver.Connector
	turned atomic.Bool
}

func (s *switching) Connect(ctx context.Context) (driver.Conn, error) {
	if s.turned.Load() {
		return s.later.Connect(ctx)
	}
	return s.Connector.Connect(ctx)
}

// Whichever method meets the pooler first, its error names the setting.
func TestPostgresPoolerIsNamedByEveryMethod(t *testing.T) {
	plain := server.Start(t, server.PgBouncer)
	connector := func(mode pgx.QueryExecMode) driver.Connector {
		config, err := pgx.ParseConfig(plain)
		require.NoError(t, err)
		config.DefaultQueryExecMode = mode
		return stdlib.GetConnector(*config)
	}
	modes := &switching{Connector: connector(pgx.QueryExecModeExec), later: connector(pgx.QueryExecModeCacheStatement)}
	db := sqlx.NewDb(sql.OpenDB(modes), "pgx")
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	db.SetMaxIdleConns(-1) // each call meets the connection of a server that another one has used
	s, err := sqlstore.New(db, sqlstore.Postgres)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	b, first, _ := newPgBook(t, s)
	batch := b.draft(t, credit.Usage{ResellerID: first, Amount: decimal.New(1, 0)})
	inside := func(f func(s store.Store) error) error {
		tx, err := db.BeginTxx(t.Context(), nil)
		require.NoError(t, err)
		defer func() { _ = tx.Rollback() }()
		return f(s.WithTx(tx))
	}
	create := func(s store.Store) error { _, err := s.Create(t.Context(), acme()); return err }
	load := func(s store.Store) error { _, err := s.Load(t.Context(), b.ID, credit.ReadSet{}); return err }
	appended := func(s store.Store) error { return s.Append(t.Context(), b.ID, credit.Head{}, batch) }
	modes.turned.Store(true)
	for _, method := range []struct {
		name string
		call func() error
	}{
		{"New", func() error { _, err := sqlstore.New(db, sqlstore.Postgres); return err }},
		{"Migrate", func() error { return s.Migrate(t.Context()) }},
		{"Status", func() error { _, err := s.Status(t.Context()); return err }},
		{"Create", func() error { return create(s) }},
		{"Load", func() error { return load(s) }},
		{"Append", func() error { return appended(s) }},
		{"Resellers", func() error {
			_, err := s.Resellers(t.Context(), b.ID, credit.ResellerQuery{Statuses: []credit.Status{credit.StatusActive}, Limit: 1}, store.ResellerPosition{})
			return err
		}},
		{"Records", func() error { _, err := s.Records(t.Context(), b.ID, credit.RecordQuery{Limit: 1}); return err }},
		{"Create in the caller's transaction", func() error { return inside(create) }},
		{"Load in the caller's transaction", func() error { return inside(load) }},
		{"Append in the caller's transaction", func() error { return inside(appended) }},
	} {
		t.Run(method.name, func(t *testing.T) {
			for range 10 {
				err := method.call()
				if err == nil || errors.Is(err, store.ErrMoved) {
					continue // this was the first to prepare it
				}
				require.ErrorContains(t, err, "pooler in transaction mode")
				require.ErrorContains(t, err, "default_query_exec_mode=exec")
				require.False(t, store.Retryable(err), "it would fail again: %v", err)
				return
			}
			require.Fail(t, "the pooler did no harm")
		})
	}
}

// Without its tables, every method says what to do.
func TestPostgresUnmigrated(t *testing.T) {
	p := postgresWay{server: server.Postgres15, driver: "pgx"}.start(t)
	there, s := p.open(t), p.on(t, p.db, "nowhere_")
	b, first, _ := newPgBook(t, there)
	_, create := s.Create(t.Context(), b.Distributor)
	_, load := s.Load(t.Context(), b.ID, credit.ReadSet{Keys: []string{"k"}})
	_, records := s.Records(t.Context(), b.ID, credit.RecordQuery{Limit: 1})
	_, resellers := s.Resellers(t.Context(), b.ID, credit.ResellerQuery{Statuses: []credit.Status{credit.StatusActive}, Limit: 1}, store.ResellerPosition{})
	appended := s.Append(t.Context(), b.ID, b.state.Head(), b.draft(t, credit.Usage{ResellerID: first, Amount: decimal.New(1, 0)}))
	for _, err := range []error{create, load, records, resellers, appended} {
		requireRejected(t, err)
		require.ErrorContains(t, err, "the tables nowhere_… are missing or of another version, run Migrate")
	}
}

func TestPostgresMigratesAtTheSameTime(t *testing.T) {
	for _, way := range []postgresWay{{server: server.Postgres15, driver: "pgx"}, {server: server.PgBouncer, driver: "pgx"}, {server: server.Postgres15Serializable, driver: "postgres"}} {
		t.Run(way.server, func(t *testing.T) {
			plain := server.Start(t, way.server)
			const processes = 6
			errs := make([]error, processes)
			var all sync.WaitGroup
			for i := range processes {
				p := way.connect(t, plain)
				s := p.on(t, p.db, "together_")
				all.Go(func() { errs[i] = s.Migrate(t.Context()) })
			}
			all.Wait()
			for _, err := range errs {
				require.NoError(t, err)
			}
			p := way.connect(t, plain)
			s := p.on(t, p.db, "together_")
			status, err := s.Status(t.Context())
			require.NoError(t, err)
			for _, m := range status {
				require.True(t, m.Applied, m.File)
			}
			require.NoError(t, s.Migrate(t.Context()))
			b, _, _ := newPgBook(t, s)
			b.requireStored(t, s)
		})
	}
}

// The views show amounts and times exactly.
func TestPostgresViews(t *testing.T) {
	p := postgresWay{server: server.Postgres15, driver: "pgx"}.start(t)
	s := p.open(t)
	prefix := p.prefixOf(t, s)
	b, first, _ := newPgBook(t, s)
	b.now = b.now.Add(time.Microsecond)
	most := decimal.New(999_999_999_000, 0)
	b.write(t, s, credit.Grant{Amount: most.Sub(decimal.New(1, -6))},
		credit.Allocation{ResellerID: first, Amount: decimal.New(100_000_001, -6), Key: "k"},
		credit.Usage{ResellerID: first, Amount: most.Add(decimal.New(123456, -6)), OccurredAt: time.Date(1969, 12, 31, 23, 59, 58, 999_999_000, time.UTC)},
		credit.Correction{ResellerID: first, Amount: decimal.New(1, -6), Corrects: 6, OccurredAt: time.Date(9998, 12, 31, 23, 59, 59, 999_999_000, time.UTC)})
	row := func(query string, want ...string) {
		t.Helper()
		got := make([]string, len(want))
		into := make([]any, len(want))
		for i := range got {
			into[i] = &got[i]
		}
		require.NoError(t, p.db.QueryRowxContext(t.Context(), query).Scan(into...), query)
		require.Equal(t, want, got, query)
	}
	at := func(column string) string {
		return "to_char(" + column + " AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
	}
	row("SELECT CAST(granted AS text), CAST(allocated AS text), CAST(remaining AS text), hash, "+at("recorded_at")+" FROM "+prefix+"pool_view",
		"999999999999.999999", "100.000001", "999999999899.999998", b.state.Head().Hash.String(), "2026-03-01 12:00:00.123457")
	row("SELECT CAST(allocated AS text), CAST(used AS text), CAST(available AS text), status, "+at("bound_at")+" FROM "+prefix+"reseller_view WHERE external_id = '1'",
		"100.000001", "999999999000.123455", "-999999998900.123454", "active", "2026-03-01 12:00:00.123456")
	row("SELECT CAST(amount AS text), CAST(used_before AS text), CAST(used_after AS text), CAST(available_after AS text), CAST(pool_remaining AS text), "+
		at("occurred_at")+", CAST(corrects IS NULL AS text) FROM "+prefix+"record_view WHERE kind = 'usage'",
		"999999999000.123456", "0.000000", "999999999000.123456", "-999999998900.123455", "999999999899.999998", "1969-12-31 23:59:58.999999", "true")
	row("SELECT CAST(amount AS text), CAST(corrects AS text), "+at("occurred_at")+" FROM "+prefix+"record_view WHERE kind = 'correction'",
		"-0.000001", "6", "9998-12-31 23:59:59.999999")
}

// What a ledger has recorded is not changed or removed by mistake.
func TestPostgresKeepsRecords(t *testing.T) {
	p := postgresWay{server: server.Postgres15, driver: "pgx"}.start(t)
	s := p.open(t)
	b, _, _ := newPgBook(t, s)
	prefix := p.prefixOf(t, s)
	for _, statement := range []string{
		"UPDATE %srecords SET remark = ''", "DELETE FROM %srecords", "TRUNCATE %srecords", "UPDATE %srecords SET remark = '' WHERE false",
		"UPDATE %skeys SET sequence = 2", "DELETE FROM %skeys", "TRUNCATE %skeys",
		"DELETE FROM %sresellers", "TRUNCATE %sresellers", "DELETE FROM %sbalances", "TRUNCATE %sbalances", "DELETE FROM %sledgers", "TRUNCATE %sledgers",
	} {
		_, err := p.db.ExecContext(t.Context(), fmt.Sprintf(statement, prefix))
		require.ErrorContains(t, err, "never changed or removed", statement)
	}
	for _, statement := range []string{
		"UPDATE %sledgers SET allocated = granted + 1", "UPDATE %sledgers SET sequence = -1", "UPDATE %sledgers SET hash = ''", "UPDATE %sledgers SET currency = 'usd'",
		"UPDATE %sbalances SET allocated = -1", "UPDATE %sbalances SET used = 1000000000000000000", "UPDATE %sbalances SET status = 'gone'", "UPDATE %sresellers SET status = 'gone'", "UPDATE %sresellers SET external_id = 'same'",
	} {
		_, err := p.db.ExecContext(t.Context(), fmt.Sprintf(statement, prefix))
		require.Error(t, err, statement)
	}
	b.requireStored(t, s)
}

// Every query of the port finds its rows by an index, also with a plan that was
// made before the database had statistics, and in the order that is asked for.
func TestPostgresPlans(t *testing.T) {
	p := postgresWay{server: server.Postgres15, driver: "pgx"}.start(t)
	s := p.open(t)
	prefix := p.prefixOf(t, s)
	p.db.SetMaxOpenConns(1) // prepared statements are those of a session
	b, first, second := newPgBook(t, s)
	for _, keys := range [][]string{nil, {"k", "grant"}} {
		for _, resellers := range [][]uuid.UUID{nil, {first, second}} {
			for _, ids := range [][]string{nil, {"1"}} {
				_, err := s.Load(t.Context(), b.ID, credit.ReadSet{Resellers: resellers, ExternalIDs: ids, Keys: keys})
				require.NoError(t, err)
			}
		}
	}
	b.write(t, s, credit.Grant{Amount: decimal.New(1, 0)})
	b.write(t, s, credit.Allocation{ResellerID: first, Amount: decimal.New(1, 0), Key: "a"})
	b.write(t, s, credit.Usage{ResellerID: first, Amount: decimal.New(1, 0)}, credit.NewReseller{Name: "n", ExternalID: "n", Key: "n"})
	everyListing(t, s, b.Distributor.ID, credit.Reseller{ID: first, BoundAt: b.now, Profile: credit.Profile{Name: "n"}})

	var prepared []struct {
		Name      string `db:"name"`
		Statement string `db:"statement"`
		Count     int    `db:"count"`
	}
	require.NoError(t, p.db.SelectContext(t.Context(), &prepared,
		"SELECT name, statement, coalesce(cardinality(parameter_types), 0) AS count FROM pg_prepared_statements WHERE statement LIKE '%'||$1||'%' AND statement !~ '(CREATE|schema)'", prefix))
	require.Greater(t, len(prepared), 25, "the statements of the port are prepared")
	require.Contains(t, fmt.Sprint(prepared), "head AS (UPDATE")

	// The few with one email address, in an order that is not that of its index.
	fewSorted := regexp.MustCompile(`email = .* ORDER BY (name|available)`)
	// Without statistics, the planner takes the index of the kinds for as good as
	// that of the reseller, and expects that hardly anything happened in any time.
	unknown := regexp.MustCompile(`kind IN .* AND reseller =|occurred_at [<>]`)
	plans := func(state string, statistics bool) {
		for _, statement := range prepared {
			nulls := strings.TrimSuffix(strings.Repeat("NULL, ", statement.Count), ", ")
			var lines []string
			require.NoError(t, p.db.SelectContext(t.Context(), &lines, "EXPLAIN EXECUTE "+statement.Name+"("+nulls+")"))
			plan := strings.Join(lines, "\n")
			said := state + "\n" + statement.Statement + "\n" + plan
			for _, table := range []string{"resellers", "balances", "records", "keys"} {
				if !strings.HasPrefix(statement.Statement, "SELECT count(*)") { // which may well be of most
					require.NotContains(t, plan, "Seq Scan on "+prefix+table, said)
				}
			}
			if !fewSorted.MatchString(statement.Statement) && (statistics || !unknown.MatchString(statement.Statement)) {
				require.NotContains(t, plan, "Sort  (", said)
			}
			// An index is used for its whole key, not for the ledger alone.
			for _, index := range regexp.MustCompile(`(?:using|Bitmap Index Scan on) (\S+) .*\n\s*Index Cond: (.*)`).FindAllStringSubmatch(plan, -1) {
				name := strings.TrimPrefix(index[1], prefix)
				want, known := map[string]string{"ledgers_pkey": "(id = ", "resellers_pkey": "(id = ", "resellers_external": "(external_id = ", "keys_pkey": "(idempotency_key = ",
					"resellers_bound": "(status = ", "resellers_name": "(status = ", "resellers_email": "(email = ",
					"balances_pkey": "(id = ", "balances_available": "(status = ",
					"records_pkey": "(sequence ", "records_of_reseller": "(reseller = ", "records_kind": "(kind = ",
					"records_operator": "(operator = ", "records_reference": "(reference = ", "records_customer": "(customer = "}[name]
				require.True(t, known, "%s: %s", name, said)
				require.Contains(t, index[2], want, said)
			}
		}
	}
	p.db.MustExec("SET plan_cache_mode = force_generic_plan")
	plans("without rows or statistics", false)

	fill := func(rows int) {
		for _, statement := range []string{
			"INSERT INTO %[1]sledgers SELECT gen_random_uuid(), name, currency, 0, hash, NULL, 0, 0 FROM %[1]sledgers, generate_series(1, %[2]d)",
			"INSERT INTO %[1]sresellers SELECT (jsonb_populate_record(r, jsonb_build_object('id', gen_random_uuid(), 'external_id', gen_random_uuid(), 'bound_at', bound_at + n, 'name_folded', n))).*" +
				" FROM %[1]sresellers AS r, generate_series(1, %[2]d) AS n",
			"INSERT INTO %[1]sbalances SELECT ledger, id, status, bound_at %% 1000, 0 FROM %[1]sresellers ON CONFLICT DO NOTHING",
			"INSERT INTO %[1]srecords SELECT (jsonb_populate_record(r, jsonb_build_object('sequence', (SELECT max(sequence) FROM %[1]srecords) + row_number() OVER (), 'id', gen_random_uuid()))).* FROM %[1]srecords AS r, generate_series(1, %[2]d)",
			"INSERT INTO %[1]skeys SELECT ledger, gen_random_uuid(), sequence FROM %[1]srecords",
		} {
			p.db.MustExec(fmt.Sprintf(statement, prefix, rows))
		}
		p.db.MustExec("DISCARD PLANS")
	}
	fill(30)
	plans("with some rows and without statistics", false)
	fill(30)
	plans("with many rows and without statistics", false)
	p.db.MustExec("ANALYZE")
	plans("with many rows and statistics", true)
}

// In a transaction that has read before others wrote, the ledger is seen as it is
// now, or the transaction fails and says so. A refusal leaves it usable.
func TestPostgresCallersTransaction(t *testing.T) {
	for _, level := range []sql.IsolationLevel{sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable} {
		t.Run(level.String(), func(t *testing.T) {
			p := postgresWay{server: server.Postgres15, driver: "pgx"}.start(t)
			s := p.open(t).(*sqlstore.Store)
			b, first, _ := newPgBook(t, s)
			p.db.MustExec("CREATE TABLE orders (id text PRIMARY KEY)")
			tx, err := p.db.BeginTxx(t.Context(), &sql.TxOptions{Isolation: level})
			require.NoError(t, err)
			defer func() { _ = tx.Rollback() }()
			var n int
			require.NoError(t, tx.GetContext(t.Context(), &n, "SELECT count(*) FROM "+p.prefixOf(t, s)+"records"))
			_, err = tx.ExecContext(t.Context(), "INSERT INTO orders VALUES ('first')")
			require.NoError(t, err)

			stale := b.state.Head()
			late := b.draft(t, credit.Allocation{ResellerID: first, Amount: decimal.New(900, 0), Key: "late"})
			b.write(t, s, credit.Allocation{ResellerID: first, Amount: decimal.New(800, 0), Key: "early"})

			inside := s.WithTx(tx)
			if level == sql.LevelReadCommitted {
				require.ErrorIs(t, inside.Append(t.Context(), b.ID, stale, late), store.ErrMoved)
				b.requireStored(t, inside)
				batch := b.draft(t, credit.Allocation{ResellerID: first, Amount: decimal.New(100, 0), Key: "late"})
				require.NoError(t, inside.Append(t.Context(), b.ID, b.state.Head(), batch))
				b.enter(batch)
				b.requireStored(t, inside)
				require.ErrorIs(t, inside.Append(t.Context(), b.ID, b.state.Head(), batch), store.ErrMoved, "its key is taken")
				require.NoError(t, tx.Commit())
				require.NoError(t, p.db.GetContext(t.Context(), &n, "SELECT count(*) FROM orders"))
				require.Equal(t, 1, n)
			} else {
				_, err := inside.Load(t.Context(), b.ID, credit.ReadSet{})
				failure := new(sqlstore.TxError)
				require.ErrorAs(t, err, &failure)
				require.True(t, failure.Temporary)
				require.NoError(t, tx.Rollback())
			}
			b.requireStored(t, s)
		})
	}
}
