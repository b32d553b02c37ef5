package databases_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jmoiron/sqlx"
	_ "github.com/lib/pq" // the other driver; package server registers pgx
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
	"github.com/resellerkit/credit/store/storetest"
)

// postgresWay is a way to reach PostgreSQL: a server, a driver, and a parameter
// of the data source name.
type postgresWay struct{ name, server, driver, parameter string }

var postgresWays = []postgresWay{
	{"pgx", server.Postgres15, "pgx", ""},
	{"pgx exec", server.Postgres15, "pgx", "default_query_exec_mode=exec"},
	{"pgx simple protocol", server.Postgres15, "pgx", "default_query_exec_mode=simple_protocol"},
	{"pgx cache describe", server.Postgres15, "pgx", "default_query_exec_mode=cache_describe"},
	{"pq", server.Postgres15, "postgres", ""},
	{"pq binary", server.Postgres15, "postgres", "binary_parameters=yes"},
	{"repeatable read", server.Postgres15, "pgx", "default_transaction_isolation=repeatable read"},
	{"serializable", server.Postgres15Serializable, "pgx", ""},
	{"18", server.Postgres18, "pgx", ""},
	{"pgbouncer", server.PgBouncer, "pgx", "default_query_exec_mode=exec"},
	{"pgbouncer cache describe", server.PgBouncer, "pgx", "default_query_exec_mode=cache_describe"},
	{"pgbouncer pq", server.PgBouncer, "postgres", "binary_parameters=yes"},
}

// pooled are those ways that the suite runs through the pooler alone.
var pooled = []string{"pgx exec", "pgx cache describe", "pq binary"}

// TestPostgresConformance runs the suite that defines a correct store, each way.
func TestPostgresConformance(t *testing.T) {
	for _, way := range postgresWays {
		if slices.Contains(pooled, way.name) {
			continue
		}
		t.Run(way.name, func(t *testing.T) {
			p := way.start(t)
			storetest.Run(t, storetest.Harness{Open: p.open, Reopen: p.reopen, Inside: insideOf(p.db)})
		})
	}
}

// postgresDatabase is a database of one test, whose stores differ in their prefix.
type postgresDatabase struct {
	driver, dsn string
	plain       string // the DSN without the parameter, for pgx
	db          *sqlx.DB
	stores      atomic.Int64
	prefixes    sync.Map // of each store
}

func (w postgresWay) start(t testing.TB) *postgresDatabase {
	t.Helper()
	return w.connect(t, server.Start(t, w.server))
}

// connect reaches a database the way of w.
func (w postgresWay) connect(t testing.TB, plain string) *postgresDatabase {
	t.Helper()
	dsn, err := url.Parse(plain)
	require.NoError(t, err)
	parameters := dsn.Query()
	if w.driver == "postgres" {
		parameters.Del("default_query_exec_mode") // a setting of pgx
	}
	if name, value, ok := strings.Cut(w.parameter, "="); ok {
		parameters.Set(name, value)
	}
	dsn.RawQuery = strings.ReplaceAll(parameters.Encode(), "+", "%20")
	p := &postgresDatabase{driver: w.driver, plain: plain, dsn: dsn.String()}
	p.db = p.pool(t)
	return p
}

func (p *postgresDatabase) pool(t testing.TB) *sqlx.DB {
	t.Helper()
	db, err := sqlx.Open(p.driver, p.dsn)
	require.NoError(t, err)
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func (p *postgresDatabase) open(t testing.TB) store.Store {
	t.Helper()
	s := p.on(t, p.db, fmt.Sprintf("t%d_", p.stores.Add(1)))
	require.NoError(t, s.Migrate(t.Context()))
	return s
}

func (p *postgresDatabase) reopen(t testing.TB, s store.Store) store.Store {
	t.Helper()
	return p.on(t, p.pool(t), p.prefixOf(t, s))
}

func (p *postgresDatabase) prefixOf(t testing.TB, s store.Store) string {
	t.Helper()
	prefix, ok := p.prefixes.Load(s)
	require.True(t, ok)
	return prefix.(string)
}

func (p *postgresDatabase) on(t testing.TB, db *sqlx.DB, prefix string) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.New(db, sqlstore.Postgres, sqlstore.WithPrefix(prefix))
	require.NoError(t, err)
	p.prefixes.Store(s, prefix)
	return s
}
