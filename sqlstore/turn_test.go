package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

// inTurns runs f on the clock of a bubble, with a store on a new file whose
// connections wait for the lock for as short a time as New accepts.
func inTurns(t *testing.T, connections int, f func(t *testing.T, s *sqlstore.Store, db *sqlx.DB)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		dsn := strings.Replace(sqlstore.SQLiteDSN(filepath.Join(t.TempDir(), "credit.db")), "5000", "1000", 1)
		db, err := sqlx.Open("sqlite", dsn)
		require.NoError(t, err)
		defer func() { require.NoError(t, db.Close()) }()
		db.SetMaxOpenConns(connections)
		s, err := sqlstore.New(db, sqlstore.SQLite)
		require.NoError(t, err)
		require.NoError(t, s.Migrate(t.Context()))
		f(t, s, db)
	})
}

func TestTheWritersOfAStoreQueueForAsLongAsTheirContextsLetThem(t *testing.T) {
	t.Parallel()
	for _, connections := range []int{0, 1, 2} {
		t.Run(fmt.Sprint(connections, " connections"), func(t *testing.T) {
			t.Parallel()
			inTurns(t, connections, func(t *testing.T, s *sqlstore.Store, db *sqlx.DB) {
				const writers = 8
				held, _ := opened(t, s)
				var books []*book
				var heads []credit.Head
				var batches []store.Batch
				for range writers {
					b, _ := opened(t, s)
					head, batch := b.draft(t, credit.Grant{Amount: amount(t, "1")})
					books, heads, batches = append(books, b), append(heads, head), append(batches, batch)
				}
				write := func(ctx context.Context, i int) chan error {
					answer := make(chan error, 1)
					go func() { answer <- s.Append(ctx, books[i].ID, heads[i], batches[i]) }()
					return answer
				}

				release, ended := make(chan struct{}), make(chan error, 1)
				go func() {
					ended <- s.Hold(t.Context(), held.ID, func(store.Store) error {
						<-release
						return nil
					})
				}()
				synctest.Wait()
				var answers []chan error
				for i := range writers - 1 {
					answers = append(answers, write(t.Context(), i))
				}
				brief, cancel := context.WithTimeout(t.Context(), time.Hour) // the clock is the bubble's
				defer cancel()
				late := write(brief, writers-1)
				synctest.Wait()
				assert.Equal(t, 1, db.Stats().InUse, "whoever waits has no connection")

				err := <-late
				require.ErrorIs(t, err, context.DeadlineExceeded)
				assert.True(t, store.Retryable(err), "nothing was written")
				close(release)
				require.NoError(t, <-ended)
				for _, answer := range answers {
					require.NoError(t, <-answer, "a writer met the lock of another one")
				}
				found, err := s.Load(t.Context(), books[writers-1].ID, credit.ReadSet{})
				require.NoError(t, err)
				assert.Equal(t, heads[writers-1], found.Head)
			})
		})
	}
}

func TestATurnIsGivenBackHoweverItEnds(t *testing.T) {
	t.Parallel()
	for _, connections := range []int{0, 1} {
		inTurns(t, connections, func(t *testing.T, s *sqlstore.Store, db *sqlx.DB) {
			b, _ := opened(t, s)
			head, batch := b.draft(t, credit.Grant{Amount: amount(t, "1")})
			canceled, cancel := context.WithCancel(t.Context())
			cancel()
			failed := errors.New("failed")
			for name, end := range map[string]func(){
				"an error": func() {
					require.ErrorIs(t, s.Hold(t.Context(), b.ID, func(store.Store) error { return failed }), failed)
				},
				"a panic": func() {
					assert.Panics(t, func() { _ = s.Hold(t.Context(), b.ID, func(store.Store) error { panic(failed) }) })
				},
				"the caller's context": func() {
					require.ErrorIs(t, s.Append(canceled, b.ID, head, batch), context.Canceled)
				},
				"a head that moved": func() {
					require.ErrorIs(t, s.Append(t.Context(), b.ID, credit.Head{}, batch), store.ErrMoved)
				},
				"a commit": func() {
					require.NoError(t, s.Append(t.Context(), b.ID, head, batch))
					head, batch = b.draft(t, credit.Grant{Amount: amount(t, "1")})
				},
			} {
				end()
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				require.NoError(t, s.Append(ctx, b.ID, head, batch), "after %s the turn was not given back", name)
				cancel()
				head, batch = b.draft(t, credit.Grant{Amount: amount(t, "1")})
			}
			assert.Zero(t, db.Stats().InUse)
		})
	}
}

// The writer has the turn, and waits for what the transaction has.
func TestACallersTransactionTakesNoTurn(t *testing.T) {
	t.Parallel()
	inTurns(t, 1, func(t *testing.T, s *sqlstore.Store, db *sqlx.DB) {
		first, _ := opened(t, s)
		second, _ := opened(t, s)
		tx, err := db.BeginTxx(t.Context(), nil)
		require.NoError(t, err)
		head, batch := second.draft(t, credit.Grant{Amount: amount(t, "1")})
		answer := make(chan error, 1)
		go func() { answer <- s.Append(t.Context(), second.ID, head, batch) }()
		synctest.Wait()

		inside := s.WithTx(tx)
		head, batch = first.draft(t, credit.Grant{Amount: amount(t, "1")})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		require.NoError(t, inside.Append(ctx, first.ID, head, batch))
		require.NoError(t, tx.Commit())
		require.NoError(t, <-answer)
	})
}
