package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

type panicking struct{ slog.Handler }

func (panicking) Handle(context.Context, slog.Record) error { panic("the disk is full") }

func panickingLogger() *slog.Logger {
	return slog.New(panicking{slog.NewTextHandler(&bytes.Buffer{}, nil)})
}

func TestTheLogHoldsNothingOfTheContent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		b := newBook(t, store.Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			OnCommit: func(c store.Commit) {
				if c.Err != nil {
					panic("canary of the hook")
				}
			}})
		for _, fail := range []func(next func() error) error{
			func(func() error) error { return errors.New("canary of the database: INSERT 77.77") },
			func(func() error) error { return store.Retry(errors.New("canary of the database")) },
			func(func() error) error { return store.Reject(errors.New("canary of the database")) },
			func(func() error) error { return store.ErrMoved },
			func(func() error) error { panic("canary of the database") },
			func(next func() error) error { _ = next(); return errors.New("canary of the database") },
		} {
			b.store.append = func(_ context.Context, _ credit.Head, _ store.Batch, next func() error) error { return fail(next) }
			commands := []credit.Command{
				credit.NewReseller{ExternalID: "canary-" + t.Name(), Name: "canary", Email: "canary@example.com", Mobile: "canary"},
				credit.Allocation{ResellerID: b.nimbus, Amount: amt("77.77"), Key: "canary", Remark: "canary", Operator: "canary",
					Reference: "canary", Metadata: map[string]string{"canary": "canary"}},
			}
			_, _ = b.Bulk(t.Context(), commands, credit.BulkOptions{})
		}
		synctest.Wait() // a commit that panicked says so after its answer
		require.Contains(t, log.String(), acme.ID.String(), "nothing was logged")
		assert.NotContains(t, log.String(), "canary", "the log tells names, remarks, keys or the text of a database")
		assert.NotContains(t, log.String(), "77.77", "the log tells amounts")
		for _, event := range []string{"answer to a commit was lost", "commit failed", "commit panicked", "OnCommit panicked"} {
			assert.Contains(t, log.String(), event)
		}
	})
}

func TestTheLogTellsWhichRecordsFateIsUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		b := newBook(t, store.Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), OnCommit: func(store.Commit) {}})
		synctest.Wait()
		require.Empty(t, log.String(), "it is logged that nothing went wrong")
		b.store.append = new(sent).answer(writtenButLost)
		r := b.allocate("5")
		assert.Contains(t, log.String(), fmt.Sprintf(" sequence=%d ", r.Sequence))
	})
}
