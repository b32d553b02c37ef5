package cluster_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/databases/server"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

// measure measures allocations: one caller, and 64 that are spread over the outlets.
// Calls that failed for the time that they may take are made again, and counted.
func measure(b *testing.B, name string, outlets ...outlet) {
	b.Helper()
	resellers := map[credit.Distributor]credit.Allocation{}
	for i, o := range outlets {
		if _, ok := resellers[o.ledger.Distributor()]; !ok {
			b := newBook(b, outlets[i])
			resellers[o.ledger.Distributor()] = credit.Allocation{ResellerID: b.resellers[0], Amount: decimal.New(1, -6)}
		}
	}
	var failures atomic.Int64
	allocate := func(b *testing.B, o outlet) {
		for {
			_, err := o.ledger.Allocate(b.Context(), resellers[o.ledger.Distributor()])
			if err == nil {
				return
			}
			require.True(b, store.Retryable(err) || errors.Is(err, credit.ErrOutcomeUnknown), "%v", err)
			failures.Add(1)
		}
	}
	report := func(b *testing.B) {
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		b.ReportMetric(float64(failures.Swap(0))/float64(b.N), "failures/op")
	}
	b.Run(name+"/1 caller", func(b *testing.B) {
		for b.Loop() {
			allocate(b, outlets[0])
		}
		report(b)
	})
	b.Run(name+"/64 callers", func(b *testing.B) {
		callers := make(chan outlet, 64)
		for i := range cap(callers) {
			callers <- outlets[i%len(outlets)]
		}
		b.SetParallelism(cap(callers)) // so many at least, whatever the number of cores
		b.RunParallel(func(more *testing.PB) {
			for more.Next() {
				o := <-callers
				allocate(b, o)
				callers <- o
			}
		})
		report(b)
	})
}

func BenchmarkGalera(b *testing.B) {
	n := startNodes(b, "galera")
	c, err := mysql.ParseDSN(server.Start(b, server.MariaDB))
	require.NoError(b, err)
	measure(b, "one server", newOutlet(b, "mysql", c.FormatDSN(), sqlstore.MySQL, acme(), commitTimeout))
	measure(b, "one ledger, written on one node", galeraOutlets(b, n, 1, acme())[0])
	measure(b, "one ledger, written on three nodes", galeraOutlets(b, n, 1, acme())...)
	var spread []outlet
	for node := range n.node {
		spread = append(spread, galeraOutlets(b, n, 1, acme())[node])
	}
	measure(b, "three ledgers, each written on a node of its own", spread...)
}

func BenchmarkPostgres(b *testing.B) {
	n := startNodes(b, "postgres")
	for _, way := range []struct{ name, dsn string }{
		{"one server", server.Start(b, server.Postgres15)},
		{"a synchronous standby", n.cluster},
		{"a synchronous standby, exec mode", n.cluster + "&default_query_exec_mode=exec"},
		{"a synchronous standby, exec mode through PgBouncer", n.pooler},
	} {
		measure(b, way.name, newOutlet(b, "pgx", way.dsn, sqlstore.Postgres, acme(), commitTimeout))
	}
}
