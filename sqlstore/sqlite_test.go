package sqlstore_test

import (
	"bytes"
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"modernc.org/sqlite"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/sqlstore"
	"github.com/resellerkit/credit/store"
)

// requireRead reads the batch back in every way and compares it to the last bit.
func requireRead(t *testing.T, s store.Store, ledger uuid.UUID, b store.Batch) {
	t.Helper()
	records, err := s.Records(t.Context(), ledger, credit.RecordQuery{After: b.Records[0].Sequence - 1, Limit: credit.MaxPageSize})
	require.NoError(t, err)
	assert.Equal(t, b.Records, records)
	var asked credit.ReadSet
	var keyed []credit.Record
	whole := slices.Concat(b.Added, b.Changed)
	for _, r := range b.Records {
		if r.Key != "" {
			asked.Keys, keyed = append(asked.Keys, r.Key), append(keyed, r)
		}
	}
	for _, m := range b.Moved {
		asked.Resellers = append(asked.Resellers, m.ID)
	}
	for _, r := range whole {
		asked.Resellers, asked.ExternalIDs = append(asked.Resellers, r.ID), append(asked.ExternalIDs, r.ExternalID)
	}
	found, err := s.Load(t.Context(), ledger, asked)
	require.NoError(t, err)
	assert.Equal(t, b.Head(), found.Head)
	var moved []store.Balance
	found.Resellers = slices.DeleteFunc(found.Resellers, func(r credit.Reseller) bool {
		if !slices.ContainsFunc(b.Moved, func(m store.Balance) bool { return m.ID == r.ID }) {
			return false
		}
		moved = append(moved, store.Balance{ID: r.ID, Figures: r.Figures})
		return true
	})
	assert.ElementsMatch(t, whole, found.Resellers)
	assert.ElementsMatch(t, b.Moved, moved)
	assert.ElementsMatch(t, keyed, found.Records)
}

// requireUnchanged checks that nothing is stored beyond the head.
func requireUnchanged(t *testing.T, s *sqlstore.Store, db *sqlx.DB, ledger uuid.UUID, head credit.Head) {
	t.Helper()
	found, err := s.Load(t.Context(), ledger, credit.ReadSet{})
	require.NoError(t, err)
	assert.Equal(t, head, found.Head)
	var beyond int
	require.NoError(t, db.Get(&beyond, "SELECT (SELECT count(*) FROM credit_records WHERE sequence > ?) + (SELECT count(*) FROM credit_keys WHERE sequence > ?)",
		head.Sequence, head.Sequence))
	assert.Zero(t, beyond)
}

func TestAmountsAreExact(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	for _, text := range []string{"12345678901.234567", "999999999999.999999", "0.000001", "1", "100", "0.5", "900719925474.099301"} {
		b := newBook()
		_, err := s.Create(t.Context(), b.Distributor)
		require.NoError(t, err)
		batch := b.write(t, s, credit.Grant{Amount: amount(t, text)}, credit.NewReseller{Name: "Nimbus", ExternalID: "1"})
		requireRead(t, s, b.ID, batch)
		id := batch.Added[0].ID
		batch = b.write(t, s, credit.Allocation{ResellerID: id, Amount: amount(t, text)}, credit.Correction{ResellerID: id, Amount: amount(t, text)})
		requireRead(t, s, b.ID, batch)
		assert.Equal(t, "-"+text, batch.Moved[0].Figures.Used.String(), "a corrected fee makes the used credit negative")
		batch = b.write(t, s, credit.Repossession{ResellerID: id, Amount: amount(t, text)}, credit.Withdrawal{Amount: amount(t, text)})
		requireRead(t, s, b.ID, batch)
		assert.Equal(t, "-"+text, batch.Records[0].Amount.String())
	}
}

// SQLite keeps a DECIMAL column as a float as soon as that seems to fit. Not this
// library's business, were amounts not stored otherwise.
func TestElsewhere_SQLiteRoundsADecimalColumn(t *testing.T) {
	t.Parallel()
	s, db := newStore(t)
	db.MustExec("CREATE TABLE naive (amount DECIMAL(20, 6))")
	db.MustExec("INSERT INTO naive VALUES ('999999999999.999999'), ('12345678901234567.89')")
	var kept []string
	require.NoError(t, db.Select(&kept, "SELECT printf('%.6f', amount) FROM naive"))
	assert.NotContains(t, kept, "999999999999.999999")
	assert.NotContains(t, kept, "12345678901234567.890000")

	b, _ := opened(t, s)
	batch := b.write(t, s, credit.Grant{Amount: amount(t, "999998999999.999999")})
	assert.Equal(t, "999999999999.999999", batch.Records[0].Pool.Granted.String())
	requireRead(t, s, b.ID, batch)
}

func TestTimesBefore1970AndFarAway(t *testing.T) {
	t.Parallel()
	s, db := newStore(t)
	b, r := opened(t, s)
	for text, shown := range map[string]string{
		"1969-12-31T23:59:59.999999Z":      "1969-12-31T23:59:59.999999Z",
		"1969-12-31T23:59:59Z":             "1969-12-31T23:59:59.000000Z",
		"1970-01-01T00:00:00Z":             "1970-01-01T00:00:00.000000Z",
		"0001-01-01T00:00:00.000001Z":      "0001-01-01T00:00:00.000001Z",
		"9999-12-31T23:59:59.999999Z":      "9999-12-31T23:59:59.999999Z",
		"2026-06-30T23:59:59.5+05:45":      "2026-06-30T18:14:59.500000Z",
		"1900-02-28T12:00:00.000001-08:00": "1900-02-28T20:00:00.000001Z",
	} {
		at, err := time.Parse(time.RFC3339Nano, text)
		require.NoError(t, err)
		batch := b.write(t, s, credit.Usage{ResellerID: r.ID, Amount: amount(t, "1"), OccurredAt: at},
			credit.NewReseller{Name: "Old", ExternalID: text, BoundAt: at})
		requireRead(t, s, b.ID, batch)
		var occurred, bound string
		require.NoError(t, db.Get(&occurred, "SELECT occurred_at FROM credit_record_view WHERE sequence = ?", batch.Records[0].Sequence))
		require.NoError(t, db.Get(&bound, "SELECT bound_at FROM credit_reseller_view WHERE external_id = ?", text))
		assert.Equal(t, shown, occurred)
		assert.Equal(t, shown, bound)
	}
}

func TestAnEmptyLedgerHasTheGenesisHead(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	b := newBook()
	created, err := s.Create(t.Context(), b.Distributor)
	require.NoError(t, err)
	assert.Equal(t, b.Distributor, created)
	found, err := s.Load(t.Context(), b.ID, credit.ReadSet{})
	require.NoError(t, err)
	zero := credit.FromMillionths(0)
	assert.Equal(t, credit.Snapshot{Head: credit.Head{Hash: credit.Genesis(b.Distributor), Pool: credit.Pool{Granted: zero, Allocated: zero}}}, found)

	renamed := b.Distributor
	renamed.Name = "Another"
	created, err = s.Create(t.Context(), renamed)
	require.NoError(t, err)
	assert.Equal(t, b.Distributor, created, "the first one stays")
}

// Databases that fold case, trim blanks or normalize would find the wrong ones.
func TestKeysAndExternalIDsAreBytes(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	b, _ := opened(t, s)
	texts := []string{"PO-1", "po-1", "po-1 ", " po-1", "Po-1", "PO-1\t", "PO-1\u00a0", "PO-1\u200b", "é", "e\u0301", "ß", "ss", "SS", "ﬁ", "fi",
		"Ä", "ä", "I", "ı", "İ", "%", "_", "'", `"`, `\`, "?", ":x", "$1", "{{prefix}}", "1", "01", "1.0", "NULL", strings.Repeat("k", credit.MaxExternalID)}
	var commands []credit.Command
	for _, text := range texts {
		commands = append(commands, credit.NewReseller{Name: text, ExternalID: text, Key: text})
	}
	batch := b.write(t, s, commands...)
	requireRead(t, s, b.ID, batch)
	for i, text := range texts {
		found, err := s.Load(t.Context(), b.ID, credit.ReadSet{ExternalIDs: []string{text}, Keys: []string{text}})
		require.NoError(t, err)
		require.Len(t, found.Resellers, 1, "%q", text)
		assert.Equal(t, text, found.Resellers[0].ExternalID)
		assert.Equal(t, batch.Records[i:i+1], found.Records, "%q", text)
	}
	found, err := s.Load(t.Context(), b.ID, credit.ReadSet{ExternalIDs: []string{"pO-1", "PO-1 ", ""}, Keys: []string{"pO-1", "E\u0301", ""}})
	require.NoError(t, err)
	assert.Empty(t, found.Resellers)
	assert.Empty(t, found.Records)
}

func TestTextsAndMetadataComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	b, r := opened(t, s)
	awkward := "<a href=\"x\">&amp;</a> \u2028 \\u0041 \x01 \x7f 信用 𝛑 '; DROP TABLE credit_records; --"
	batch := b.write(t, s,
		credit.Allocation{ResellerID: r.ID, Amount: amount(t, "1"), Operator: awkward, Remark: awkward, Reference: awkward, Key: awkward,
			Corrects: 1, Metadata: map[string]string{awkward[:27]: awkward, "empty": "", "NULL": "null", "a": "1"}},
		credit.Allocation{ResellerID: r.ID, Amount: amount(t, "1"), Metadata: map[string]string{}},
		credit.ProfileUpdate{ResellerID: r.ID, Name: &awkward, Email: &awkward, ResellerRemark: &awkward},
		credit.ProfileUpdate{ResellerID: r.ID, Name: &awkward},
	)
	assert.Nil(t, batch.Records[1].Metadata)
	assert.Equal(t, []string{"name", "email", "remark"}, batch.Records[2].Changed)
	assert.Nil(t, batch.Records[3].Changed)
	requireRead(t, s, b.ID, batch)
}

func TestListsOfEveryLength(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	b, _ := opened(t, s)
	const most = 1100
	var commands []credit.Command
	for i := range most {
		commands = append(commands, credit.NewReseller{Name: "Nimbus", ExternalID: fmt.Sprint(i), Key: fmt.Sprint(i)})
	}
	batch := b.write(t, s, commands...)
	byExternalID := map[string]credit.Reseller{}
	for _, r := range batch.Added {
		byExternalID[r.ExternalID] = r
	}
	for _, n := range []int{1, 2, 7, 8, 9, 63, 64, 65, 511, 512, 513, 1024, 1025, most} {
		var asked credit.ReadSet
		var resellers []credit.Reseller
		for i := range n {
			asked.ExternalIDs, asked.Keys = append(asked.ExternalIDs, fmt.Sprint(i)), append(asked.Keys, fmt.Sprint(i))
			r := byExternalID[fmt.Sprint(i)]
			asked.Resellers, resellers = append(asked.Resellers, r.ID), append(resellers, r)
		}
		// What is asked for twice, or does not exist, does not matter.
		asked.ExternalIDs = append(asked.ExternalIDs, "0", "absent")
		asked.Keys = append(asked.Keys, "0", "absent")
		asked.Resellers = append(asked.Resellers, asked.Resellers[0], uuid.New())
		found, err := s.Load(t.Context(), b.ID, asked)
		require.NoError(t, err)
		byID := func(x, y credit.Reseller) int { return bytes.Compare(x.ID[:], y.ID[:]) }
		slices.SortFunc(resellers, byID)
		slices.SortFunc(found.Resellers, byID)
		slices.SortFunc(found.Records, func(x, y credit.Record) int { return cmp.Compare(x.Sequence, y.Sequence) })
		assert.True(t, reflect.DeepEqual(resellers, found.Resellers), "%d resellers", n)
		assert.True(t, reflect.DeepEqual(batch.Records[:n], found.Records), "%d records", n)
	}
}

func TestHeadMovedWritesNothing(t *testing.T) {
	t.Parallel()
	s, db := newStore(t)
	b, r := opened(t, s)
	stale := b.state.Head()
	b.write(t, s, credit.Grant{Amount: amount(t, "1")})
	head, batch := b.draft(t, credit.Allocation{ResellerID: r.ID, Amount: amount(t, "1"), Key: "k"}, credit.NewReseller{Name: "Nimbus", ExternalID: "2"})

	require.ErrorIs(t, s.Append(t.Context(), b.ID, stale, batch), store.ErrMoved)
	other := head
	other.Hash[0]++ // the same sequence after a restore or a fail-over
	require.ErrorIs(t, s.Append(t.Context(), b.ID, other, batch), store.ErrMoved)
	other = head
	other.Sequence++
	require.ErrorIs(t, s.Append(t.Context(), b.ID, other, batch), store.ErrMoved)
	requireUnchanged(t, s, db, b.ID, head)
	require.ErrorIs(t, s.Append(t.Context(), uuid.New(), head, batch), store.ErrNoLedger)
	_, err := s.Load(t.Context(), uuid.New(), credit.ReadSet{Keys: []string{"k"}})
	require.ErrorIs(t, err, store.ErrNoLedger)

	require.NoError(t, s.Append(t.Context(), b.ID, head, batch))
	require.ErrorIs(t, s.Append(t.Context(), b.ID, head, batch), store.ErrMoved, "the second time it is not the head")
}

func TestATakenKeyIsMovedAlsoOnTheSameHead(t *testing.T) {
	t.Parallel()
	s, db := newStore(t)
	b, r := opened(t, s)
	taken := b.write(t, s, credit.Grant{Amount: amount(t, "1"), Key: "taken"})
	head := taken.Head()
	for _, n := range []int{1, 100, 1000} {
		fork := *b
		commands := make([]credit.Command, n)
		for i := range commands {
			commands[i] = credit.Usage{ResellerID: r.ID, Amount: amount(t, "1"), Key: fmt.Sprint(n, " ", i)}
		}
		// Somebody who does not know the records decides with the key once more.
		found, err := s.Load(t.Context(), b.ID, credit.ReadSet{Resellers: []uuid.UUID{r.ID}})
		require.NoError(t, err)
		commands[n-1] = credit.Usage{ResellerID: r.ID, Amount: amount(t, "1"), Key: "taken"}
		asked := credit.ReadSetOf(commands...)
		fork.state = credit.LoadState(asked, found)
		expected, batch := fork.draft(t, commands...)
		require.ErrorIs(t, s.Append(t.Context(), b.ID, expected, batch), store.ErrMoved)
		requireUnchanged(t, s, db, b.ID, head)
	}
}

// A failure in the middle leaves nothing of the batch, is final, and names what
// went wrong.
func TestAFailingStatementLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, trigger, want string }{
		{"reseller added", "BEFORE INSERT ON credit_resellers BEGIN SELECT RAISE(ABORT, 'broken'); END", "add a reseller: broken"},
		{"reseller changed", "BEFORE UPDATE ON credit_resellers BEGIN SELECT RAISE(ABORT, 'broken'); END", "move a reseller: broken"},
		{"third record", "BEFORE INSERT ON credit_records WHEN new.sequence = 5 BEGIN SELECT RAISE(ABORT, 'broken'); END", "insert a record: broken"},
		{"key", "AFTER INSERT ON credit_keys BEGIN SELECT RAISE(FAIL, 'broken'); END", "insert a key: broken"},
		{"key, rolled back by itself", "AFTER INSERT ON credit_keys BEGIN SELECT RAISE(ROLLBACK, 'broken'); END", "insert a key: broken"},
		{"record silently dropped", "BEFORE INSERT ON credit_records WHEN new.sequence = 4 BEGIN SELECT RAISE(IGNORE); END", "insert a record: 0 rows changed instead of 1"},
		{"change silently dropped", "BEFORE UPDATE ON credit_resellers BEGIN SELECT RAISE(IGNORE); END", "move a reseller: 0 rows changed instead of 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, db := newStore(t)
			b, r := opened(t, s)
			head, batch := b.draft(t, credit.Grant{Amount: amount(t, "1"), Key: "k"}, credit.Usage{ResellerID: r.ID, Amount: amount(t, "1")},
				credit.NewReseller{Name: "Nimbus", ExternalID: "2"})
			db.MustExec("CREATE TRIGGER broken " + test.trigger)
			err := s.Append(t.Context(), b.ID, head, batch)
			require.ErrorContains(t, err, strings.SplitN(test.want, ": ", 2)[0])
			require.ErrorContains(t, err, strings.SplitN(test.want, ": ", 2)[1])
			assert.False(t, store.Retryable(err))
			assert.NotErrorIs(t, err, store.ErrMoved)
			requireUnchanged(t, s, db, b.ID, head)
			var resellers []credit.Reseller
			resellers, err = s.Resellers(t.Context(), b.ID, credit.ResellerQuery{Statuses: []credit.Status{credit.StatusActive}, Limit: 10}, store.ResellerPosition{})
			require.NoError(t, err)
			assert.Equal(t, []credit.Reseller{r}, resellers)

			// The engine passes it on as it is, certain that nothing happened.
			ledger, err := store.Open(t.Context(), s, b.Distributor, store.Options{})
			require.NoError(t, err)
			_, err = ledger.Bulk(t.Context(), []credit.Command{credit.Grant{Amount: amount(t, "1"), Key: "k"}, credit.Usage{ResellerID: r.ID, Amount: amount(t, "1")},
				credit.NewReseller{Name: "Nimbus", ExternalID: "2"}}, credit.BulkOptions{AllOrNothing: true})
			require.Error(t, err)
			assert.NotErrorIs(t, err, credit.ErrOutcomeUnknown)

			db.MustExec("DROP TRIGGER broken")
			require.NoError(t, s.Append(t.Context(), b.ID, head, batch))
			requireRead(t, s, b.ID, batch)
		})
	}
}

// The database knows the invariants too, and says which one a row breaks.
func TestConstraintsHaveNames(t *testing.T) {
	t.Parallel()
	s, db := newStore(t)
	b, r := opened(t, s)
	head, good := b.draft(t, credit.NewReseller{Name: "Nimbus", ExternalID: "2"}, credit.Usage{ResellerID: r.ID, Amount: amount(t, "1"), Key: "k"})
	minus := amount(t, "-1")
	for _, test := range []struct {
		want  string
		spoil func(*store.Batch)
	}{
		{"credit_ledgers_pool", func(b *store.Batch) { b.Records[1].Pool.Granted = minus }},
		{"credit_resellers_allocated", func(b *store.Batch) { b.Moved[0].Figures.Allocated = minus }},
		{"credit_resellers_status", func(b *store.Batch) { b.Added[0].Status = "dormant" }},
		{"credit_resellers_customers", func(b *store.Batch) { b.Added[0].Customers = -1 }},
		{"credit_resellers.ledger, credit_resellers.external_id", func(b *store.Batch) { b.Added[0].ExternalID = r.ExternalID }},
		{"credit_records_allocated", func(b *store.Batch) { b.Records[0].After.Allocated = minus }},
		{"credit_records_pool", func(b *store.Batch) { b.Records[0].Pool.Allocated = minus }},
		{"credit_records_sequence", func(b *store.Batch) { b.Records[0].Corrects = b.Records[0].Sequence }},
		{"credit_records_key", func(b *store.Batch) { b.Records[1].Fingerprint = credit.Hash{} }},
		{"credit_records.ledger, credit_records.sequence", func(b *store.Batch) { b.Records[0].Sequence = 1 }},
		{"FOREIGN KEY constraint failed", func(b *store.Batch) { b.Records[1].ResellerID = uuid.New() }},
		{"move a reseller: 0 rows changed", func(b *store.Batch) { b.Moved[0].ID = uuid.New() }},
		{"insert a record: record 3: credit: amount", func(b *store.Batch) { b.Records[0].Amount = decimal.New(1, 12) }},
		{"move the head: credit: amount", func(b *store.Batch) { b.Records[1].Pool.Granted = decimal.New(1, 12) }},
		{"add a reseller: reseller", func(b *store.Batch) { b.Added[0].Used = decimal.New(1, -7) }},
	} {
		bad := store.Batch{Records: slices.Clone(good.Records), Added: slices.Clone(good.Added), Moved: slices.Clone(good.Moved)}
		test.spoil(&bad)
		err := s.Append(t.Context(), b.ID, head, bad)
		require.ErrorContains(t, err, test.want)
		assert.False(t, store.Retryable(err), test.want)
		requireUnchanged(t, s, db, b.ID, head)
	}
	require.NoError(t, s.Append(t.Context(), b.ID, head, good))
}

func TestRecordsCannotBeChangedWithSQLEither(t *testing.T) {
	t.Parallel()
	s, db := newStore(t)
	b, _ := opened(t, s)
	_, err := db.Exec("UPDATE credit_records SET remark = 'never happened'")
	require.ErrorContains(t, err, "never changed")
	_, err = db.Exec("DELETE FROM credit_records")
	require.ErrorContains(t, err, "never removed")
	records, err := s.Records(t.Context(), b.ID, credit.RecordQuery{Limit: 10})
	require.NoError(t, err)
	assert.Len(t, records, 2)
}

// locked takes the write lock of a file, through another pool.
func locked(t *testing.T, path string) (release func()) {
	t.Helper()
	other := openFile(t, path, 1)
	tx, err := other.Beginx() // immediate, by its data source name
	require.NoError(t, err)
	return func() { require.NoError(t, tx.Rollback()) }
}

func TestABusyDatabaseIsTemporary(t *testing.T) {
	t.Parallel()
	for _, lock := range []string{"immediate", "deferred"} {
		path := filepath.Join(t.TempDir(), "credit.db")
		db, err := sqlx.Open("sqlite", strings.Replace(sqlstore.SQLiteDSN(path), "immediate", lock, 1))
		require.NoError(t, err)
		defer func() { require.NoError(t, db.Close()) }()
		db.SetMaxOpenConns(1)
		s, err := sqlstore.New(db, sqlstore.SQLite)
		require.NoError(t, err)
		require.NoError(t, s.Migrate(t.Context()))
		b, r := opened(t, s)
		head, batch := b.draft(t, credit.Usage{ResellerID: r.ID, Amount: amount(t, "1"), Key: "k"})

		release := locked(t, path)
		db.MustExec("PRAGMA busy_timeout = 0") // by hand, so that the test need not wait
		err = s.Append(t.Context(), b.ID, head, batch)
		require.Error(t, err)
		assert.True(t, store.Retryable(err), "%v", err)
		_, err = s.Create(t.Context(), newBook().Distributor)
		require.Error(t, err)
		assert.True(t, store.Retryable(err), "%v", err)

		// A writer waits as long as it may, and no longer than its context.
		db.MustExec("PRAGMA busy_timeout = 600000")
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err = s.Append(ctx, b.ID, head, batch)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.True(t, store.Retryable(err), "%v", err)

		// Readers do not wait, and take no lock.
		requireUnchanged(t, s, db, b.ID, head)
		found, err := s.Load(t.Context(), b.ID, credit.ReadSet{Resellers: []uuid.UUID{r.ID}, Keys: []string{"k"}})
		require.NoError(t, err)
		assert.Equal(t, []credit.Reseller{r}, found.Resellers)
		assert.Empty(t, found.Records)

		release()
		require.NoError(t, s.Append(t.Context(), b.ID, head, batch))
	}
}

func TestAnEndedContextWritesNothing(t *testing.T) {
	t.Parallel()
	s, db := newStore(t)
	b, r := opened(t, s)
	head, batch := b.draft(t, credit.Usage{ResellerID: r.ID, Amount: amount(t, "1"), Key: "k"}, credit.Grant{Amount: amount(t, "1")})

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range []error{
		s.Append(ctx, b.ID, head, batch),
		errorOf(s.Load(ctx, b.ID, credit.ReadSet{Keys: []string{"k"}})),
		errorOf(s.Create(ctx, newBook().Distributor)),
		errorOf(s.Records(ctx, b.ID, credit.RecordQuery{Limit: 1})),
		errorOf(s.Resellers(ctx, b.ID, credit.ResellerQuery{Limit: 1}, store.ResellerPosition{})),
	} {
		require.ErrorIs(t, err, context.Canceled)
		assert.True(t, store.Retryable(err))
	}

	// It ends while the first of two records is being written.
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	name := "credit_test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	sqlite.MustRegisterScalarFunction(name, 0, func(*sqlite.FunctionContext, []driver.Value) (driver.Value, error) {
		cancel()
		return int64(0), nil
	})
	path := databasePath(t, db)
	db2 := openFile(t, path, 1) // functions are those of new connections
	s2, err := sqlstore.New(db2, sqlstore.SQLite)
	require.NoError(t, err)
	db2.MustExec("CREATE TEMPORARY TRIGGER interrupt BEFORE INSERT ON credit_records BEGIN SELECT " + name + "(); END")
	err = s2.Append(ctx, b.ID, head, batch)
	require.ErrorIs(t, err, context.Canceled)
	assert.True(t, store.Retryable(err))
	db2.MustExec("DROP TRIGGER interrupt")
	requireUnchanged(t, s2, db2, b.ID, head)
	require.NoError(t, s.Append(t.Context(), b.ID, head, batch), "the lock was given back")
}

func errorOf[T any](_ T, err error) error { return err }

func databasePath(t *testing.T, db *sqlx.DB) string {
	t.Helper()
	var path string
	require.NoError(t, db.Get(&path, "SELECT file FROM pragma_database_list WHERE name = 'main'"))
	return path
}

// From the moment of the commit on, only the database's own word is certain.
func TestAnErrorFromCommit(t *testing.T) {
	t.Parallel()
	lost := errors.New("connection reset by peer")
	for _, test := range []struct {
		name      string
		commit    func(commit func() error) error
		retryable bool
		written   bool
	}{
		{"busy: nothing was written", func(func() error) error { return codedError(5) }, true, false},
		{"lost before it arrived", func(func() error) error { return lost }, false, false},
		{"lost after it was done", func(commit func() error) error { return errors.Join(commit(), lost) }, false, true},
		{"bad connection", func(commit func() error) error { return errors.Join(commit(), driver.ErrBadConn) }, false, true},
		{"context", func(commit func() error) error { return errors.Join(commit(), context.DeadlineExceeded) }, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var faulty bool
			d := &faultyDriver{}
			d.commit = func(commit func() error) error {
				if !faulty {
					return commit()
				}
				faulty = false
				return test.commit(commit)
			}
			db := openFaulty(t, d, filepath.Join(t.TempDir(), "credit.db"))
			db.SetMaxOpenConns(1)
			s, err := sqlstore.New(db, sqlstore.SQLite)
			require.NoError(t, err)
			require.NoError(t, s.Migrate(t.Context()))
			b, _ := opened(t, s)
			head, batch := b.draft(t, credit.Grant{Amount: amount(t, "1")})
			faulty = true
			err = s.Append(t.Context(), b.ID, head, batch)
			require.Error(t, err)
			assert.Equal(t, test.retryable, store.Retryable(err), "%v", err)
			db.SetMaxIdleConns(0) // what a lost commit leaves open ends with its connection
			found, err := s.Load(t.Context(), b.ID, credit.ReadSet{})
			require.NoError(t, err)
			if test.written {
				assert.Equal(t, batch.Head(), found.Head)
			} else {
				assert.Equal(t, head, found.Head)
			}

			// The engine finds out, or does it again: the grant happens once.
			ledger, err := store.Open(t.Context(), s, b.Distributor, store.Options{})
			require.NoError(t, err)
			before, err := ledger.Head(t.Context())
			require.NoError(t, err)
			faulty = true
			receipt, err := ledger.Grant(t.Context(), credit.Grant{Amount: amount(t, "5")})
			require.NoError(t, err)
			assert.Equal(t, before.Sequence+1, receipt.Sequence)
			after, err := ledger.Pool(t.Context())
			require.NoError(t, err)
			assert.Equal(t, "5", after.Granted.Sub(before.Pool.Granted).String())
		})
	}
}

func TestBadConnectionBeforeTheTransaction(t *testing.T) {
	t.Parallel()
	d := &faultyDriver{}
	db := openFaulty(t, d, filepath.Join(t.TempDir(), "credit.db"))
	s, err := sqlstore.New(db, sqlstore.SQLite)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	b, _ := opened(t, s)
	head, batch := b.draft(t, credit.Grant{Amount: amount(t, "1")})
	d.begin = func() (driver.Tx, error) { return nil, driver.ErrBadConn }
	err = s.Append(t.Context(), b.ID, head, batch)
	require.ErrorIs(t, err, driver.ErrBadConn)
	assert.True(t, store.Retryable(err))
}

// Two pools on one file, one of them of a single connection, and two engines.
func TestManyCallersOnOneFile(t *testing.T) {
	t.Parallel()
	s, db := newStore(t)
	one, err := sqlstore.New(openFile(t, databasePath(t, db), 1), sqlstore.SQLite)
	require.NoError(t, err)
	d := newBook().Distributor
	const callers, calls = 8, 10
	done := make(chan int, 2*callers)
	var ledgers []credit.Ledger
	for _, s := range []*sqlstore.Store{s, one} {
		ledger, err := store.Open(t.Context(), s, d, store.Options{})
		require.NoError(t, err)
		ledgers = append(ledgers, ledger)
	}
	for i := range 2 * callers {
		done <- i
	}
	together(t, 2*callers, func() error {
		i := <-done
		ledger := ledgers[i%2]
		for j := range calls {
			if _, err := ledger.Grant(t.Context(), credit.Grant{Amount: credit.FromMillionths(1 + rand.Int64N(5)), Key: fmt.Sprint(i, " ", j)}); err != nil {
				return err
			}
			if _, err := ledger.Records(t.Context(), credit.RecordQuery{NewestFirst: true, Limit: 3}); err != nil {
				return err
			}
		}
		return nil
	})
	head, err := ledgers[0].Head(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 2*callers*calls, head.Sequence)
	var keys int
	require.NoError(t, db.Get(&keys, "SELECT count(DISTINCT idempotency_key) FROM credit_keys"))
	assert.Equal(t, 2*callers*calls, keys)
}

func TestARecordThatCannotBeReadIsCorrupt(t *testing.T) {
	t.Parallel()
	s, db := newStore(t)
	ledger, _ := opening(t, s)
	var triggers []string
	require.NoError(t, db.SelectContext(t.Context(), &triggers, "SELECT name FROM sqlite_master WHERE type = 'trigger'"))
	for _, name := range triggers {
		_, err := db.ExecContext(t.Context(), "DROP TRIGGER "+name)
		require.NoError(t, err)
	}
	_, err := db.ExecContext(t.Context(), "UPDATE credit_records SET metadata = 'x' WHERE sequence = 1")
	require.NoError(t, err)

	_, err = ledger.Check(t.Context())
	var corrupt *credit.CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.EqualValues(t, 1, corrupt.Sequence, "the first bad record is not named")
}
