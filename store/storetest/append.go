package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// started returns a store with a ledger of some records: a pool of 1,000, and
// three resellers with 100 allocated to each.
func (h Harness) started(t *testing.T) (store.Store, *book) {
	t.Helper()
	s := h.Open(t)
	b := newBook(t, s, h.source(t))
	b.start(t, s)
	return s, b
}

func (b *book) start(t *testing.T, s store.Store) {
	t.Helper()
	b.write(t, s, credit.Grant{Amount: units(1000), Key: "start"})
	for i := range 3 {
		added := b.write(t, s, credit.NewReseller{ExternalID: fmt.Sprintf("UIN-%d", i), Name: fmt.Sprintf("Reseller %d", i), Key: fmt.Sprintf("add-%d", i)})
		b.write(t, s, credit.Allocation{ResellerID: added[0].ResellerID, Amount: units(100), Key: fmt.Sprintf("allocate-%d", i)})
	}
}

// reseller returns the id of the i-th reseller.
func (b *book) reseller(i int) uuid.UUID { return b.externals[fmt.Sprintf("UIN-%d", i)] }

func units(n int64) decimal.Decimal { return credit.FromMillionths(n * 1_000_000) }

// requireUnwritten fails unless Append fails and leaves everything as it was.
func (b *book) requireUnwritten(t *testing.T, s store.Store, batch store.Batch, why string) {
	t.Helper()
	err := s.Append(t.Context(), b.distributor.ID, b.head, batch)
	require.Error(t, err, "Append of %s", why)
	b.requireStored(t, s, "nothing was written of "+why)
}

var atomicClauses = []clause{
	{"all of a batch is written", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		id := b.reseller(1)
		b.write(t, s,
			credit.Grant{Amount: units(5), Key: "a"},
			credit.NewReseller{ExternalID: "new", Name: "New", Key: "b"},
			credit.Usage{ResellerID: id, Amount: units(7)},
			credit.Freeze{ResellerID: id, Key: "c"},
			credit.ProfileUpdate{ResellerID: id, Name: new("Renamed")},
			credit.Repossession{ResellerID: id, Amount: units(3), Key: "d"})
		b.requireStored(t, s, "records, keys, new and changed resellers of one batch")
	}},
	{"a key twice in one batch writes nothing", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		batch := b.draft(credit.Grant{Amount: units(1), Key: "twice"}, credit.NewReseller{ExternalID: "new", Name: "New"},
			credit.Usage{ResellerID: b.reseller(0), Amount: units(1)})
		batch.Records[2].Key = "twice"
		b.requireUnwritten(t, s, batch, "a batch with a key twice")
		b.write(t, s, credit.Grant{Amount: units(1), Key: "twice"})
		b.requireStored(t, s, "the key was not consumed")
	}},
	{"a changed reseller that does not exist writes nothing", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		batch := b.draft(credit.Grant{Amount: units(1), Key: "k"}, credit.NewReseller{ExternalID: "new", Name: "New"},
			credit.Usage{ResellerID: b.reseller(0), Amount: units(1)}, credit.Usage{ResellerID: b.reseller(1), Amount: units(1)})
		batch.Moved[1].ID = random(b.rng)
		b.requireUnwritten(t, s, batch, "a batch that moves a reseller that is not there")
		batch = b.draft(credit.NewReseller{ExternalID: "new", Name: "New"}, credit.Freeze{ResellerID: b.reseller(0)}, credit.Freeze{ResellerID: b.reseller(1)})
		batch.Changed[1].ID = random(b.rng)
		b.requireUnwritten(t, s, batch, "a batch that changes a reseller that is not there")
	}},
	{"a changed reseller of another ledger only writes nothing", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		other := newBook(t, s, b.rng)
		stranger := other.write(t, s, credit.NewReseller{ExternalID: "stranger", Name: "Stranger"})[0].ResellerID
		batch := b.draft(credit.Usage{ResellerID: b.reseller(0), Amount: units(1)}, credit.Grant{Amount: units(1)})
		batch.Moved[0].ID = stranger
		b.requireUnwritten(t, s, batch, "a batch that moves another ledger's reseller")
		batch = b.draft(credit.ProfileUpdate{ResellerID: b.reseller(0), Name: new("Renamed")}, credit.Grant{Amount: units(1)})
		batch.Changed[0].ID = stranger
		b.requireUnwritten(t, s, batch, "a batch that changes another ledger's reseller")
		other.requireStored(t, s, "nor was anything of the other ledger")
	}},
	{"an added reseller that exists writes nothing", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		batch := b.draft(credit.Grant{Amount: units(1), Key: "k"}, credit.NewReseller{ExternalID: "new", Name: "New"})
		batch.Added[0].ID = b.reseller(2)
		b.requireUnwritten(t, s, batch, "a batch that adds a reseller whose id exists")
	}},
	{"an external id that exists writes nothing", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		batch := b.draft(credit.NewReseller{ExternalID: "first", Name: "First"}, credit.Grant{Amount: units(1), Key: "k"},
			credit.NewReseller{ExternalID: "new", Name: "New"})
		batch.Added[1].ExternalID = "UIN-1"
		b.requireUnwritten(t, s, batch, "a batch that adds a reseller whose external id exists")
	}},
	{"an external id twice in one batch writes nothing", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		batch := b.draft(credit.NewReseller{ExternalID: "same", Name: "One"}, credit.NewReseller{ExternalID: "other", Name: "Two"},
			credit.Grant{Amount: units(1), Key: "k"})
		batch.Added[1].ExternalID = "same"
		b.requireUnwritten(t, s, batch, "a batch that adds an external id twice")
	}},
	{"an append that is cancelled meanwhile writes all or nothing", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		for i := range 50 {
			batch := b.draft(credit.Usage{ResellerID: b.reseller(i % 3), Amount: units(1), Key: fmt.Sprintf("cancelled-%d", i)},
				credit.Grant{Amount: units(1)}, credit.NewReseller{ExternalID: fmt.Sprintf("c%d", i), Name: "C"})
			expected, kept := b.head, copyOf(batch)
			ctx, cancel := context.WithCancel(t.Context())
			started, stop := make(chan struct{}), sync.WaitGroup{}
			stop.Go(func() { close(started); cancel() })
			<-started
			err := s.Append(ctx, b.distributor.ID, expected, batch)
			stop.Wait()
			found, loadErr := s.Load(t.Context(), b.distributor.ID, credit.ReadSet{})
			require.NoError(t, loadErr)
			if err == nil {
				require.Equal(t, kept.Head().Sequence, found.Head.Sequence, "an acknowledged append is there")
			}
			if store.Retryable(err) || errors.Is(err, store.ErrMoved) {
				require.Equal(t, expected.Sequence, found.Head.Sequence, "after %v nothing is written, as the error says", err)
			}
			if found.Head.Sequence != expected.Sequence {
				b.enter(kept)
			} else if err != nil && !store.Retryable(err) && !errors.Is(err, store.ErrMoved) {
				// The outcome is unknown and may yet change. Sending the batch again
				// settles it, as the engine does.
				again := s.Append(t.Context(), b.distributor.ID, expected, copyOf(kept))
				require.True(t, again == nil || errors.Is(again, store.ErrMoved), "the same batch again after an unknown outcome: %v", again)
				b.enter(kept)
			}
		}
		b.requireStored(t, s, "each cancelled batch is there as a whole, or not at all")
	}},
	{"a batch of 10,000 records is written and 10,000 keys are loaded at once", func(h Harness, t *testing.T) {
		const n = 10_000
		s := h.Open(t)
		b := newBook(t, s, h.source(t))
		commands := make([]credit.Command, n)
		for i := range commands {
			commands[i] = credit.NewReseller{ExternalID: fmt.Sprintf("UIN-%d", i), Name: strings.Repeat("n", 1+i%50), Key: fmt.Sprintf("add-%d", i)}
		}
		b.write(t, s, commands...)
		for i := range commands {
			commands[i] = credit.Usage{ResellerID: b.reseller(i), Amount: units(int64(1 + i)), Key: fmt.Sprintf("use-%d", i), Metadata: map[string]string{"i": fmt.Sprint(i)}}
		}
		b.write(t, s, commands...)
		b.requireStored(t, s, "a batch of 10,000 new resellers, and one that changes them all")
	}},
}

var compareClauses = []clause{
	{"the first record needs the genesis hash", func(h Harness, t *testing.T) {
		s := h.Open(t)
		b := newBook(t, s, h.source(t))
		batch := b.draft(credit.Grant{Amount: units(1), Key: "k"})
		wrong := b.head
		wrong.Hash = credit.Hash{1}
		require.ErrorIs(t, s.Append(t.Context(), b.distributor.ID, wrong, copyOf(batch)), store.ErrMoved, "another genesis hash")
		wrong.Hash = credit.Hash{}
		require.ErrorIs(t, s.Append(t.Context(), b.distributor.ID, wrong, copyOf(batch)), store.ErrMoved, "no genesis hash")
		b.requireStored(t, s, "nothing is written on top of another genesis")
		b.write(t, s, credit.Grant{Amount: units(1), Key: "k"})
		b.requireStored(t, s, "the first record")
	}},
	{"a head that moved on is ErrMoved", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		late := b.fork()
		batch := late.draft(credit.Allocation{ResellerID: b.reseller(0), Amount: units(700), Key: "late"})
		b.write(t, s, credit.Allocation{ResellerID: b.reseller(1), Amount: units(700), Key: "early"})
		require.ErrorIs(t, s.Append(t.Context(), b.distributor.ID, late.head, batch), store.ErrMoved, "append on a head that is no longer the last")
		b.requireStored(t, s, "nothing is written on top of an old head")
	}},
	{"a head that is not there yet is ErrMoved", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		ahead := b.fork()
		ahead.enter(ahead.draft(credit.Grant{Amount: units(1)}))
		batch := ahead.draft(credit.Grant{Amount: units(1), Key: "ahead"})
		require.ErrorIs(t, s.Append(t.Context(), b.distributor.ID, ahead.head, batch), store.ErrMoved, "append ahead of the head")
		b.requireStored(t, s, "nothing is written ahead of the head")
	}},
	{"the same sequence with another hash is ErrMoved", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		other := b.fork()
		other.enter(other.draft(credit.Grant{Amount: units(500)}))
		b.write(t, s, credit.Withdrawal{Amount: units(500)})
		require.Equal(t, b.head.Sequence, other.head.Sequence)
		batch := other.draft(credit.Allocation{ResellerID: b.reseller(0), Amount: units(1000), Key: "unbacked"})
		require.ErrorIs(t, s.Append(t.Context(), b.distributor.ID, other.head, batch), store.ErrMoved, "append with the head's sequence and another hash")
		b.requireStored(t, s, "nothing is written on top of a record that is not there")
	}},
	{"one bit of the hash is enough for ErrMoved", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		batch := b.draft(credit.Grant{Amount: units(1)})
		for _, bit := range []int{0, 7, 128, 255} {
			head := b.head
			head.Hash[bit/8] ^= 1 << (bit % 8)
			require.ErrorIs(t, s.Append(t.Context(), b.distributor.ID, head, copyOf(batch)), store.ErrMoved, "bit %d of the hash differs", bit)
		}
		b.requireStored(t, s, "nothing is written on top of another hash")
	}},
	{"a key that is taken is ErrMoved, though the head is the expected one", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		for _, taken := range []string{"start", "add-1", "allocate-2"} {
			batch := b.draft(credit.Grant{Amount: units(1), Key: "fresh"}, credit.Usage{ResellerID: b.reseller(0), Amount: units(1), Key: "also fresh"},
				credit.NewReseller{ExternalID: "new", Name: "New"})
			batch.Records[1].Key = taken
			require.ErrorIs(t, s.Append(t.Context(), b.distributor.ID, b.head, batch), store.ErrMoved, "one of the batch's keys, %q, is taken", taken)
			b.requireStored(t, s, "nothing is written of a batch with a taken key")
		}
		b.write(t, s, credit.Grant{Amount: units(1), Key: "fresh"}, credit.Usage{ResellerID: b.reseller(0), Amount: units(1), Key: "also fresh"})
		b.requireStored(t, s, "the other keys were not consumed")
	}},
	{"records without a key never collide", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		for range 3 {
			b.write(t, s, credit.Grant{Amount: units(1)}, credit.Grant{Amount: units(1)}, credit.Usage{ResellerID: b.reseller(0), Amount: units(1)})
		}
		b.requireStored(t, s, "records without keys")
	}},
	{"the same batch again is ErrMoved", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		for i, key := range []string{"", "k"} {
			batch := b.draft(credit.Grant{Amount: units(1), Key: key}, credit.NewReseller{ExternalID: fmt.Sprintf("new-%d", i), Name: "New"})
			expected := b.head
			require.NoError(t, s.Append(t.Context(), b.distributor.ID, expected, copyOf(batch)))
			b.enter(copyOf(batch))
			require.ErrorIs(t, s.Append(t.Context(), b.distributor.ID, expected, batch), store.ErrMoved, "a batch that is sent twice")
		}
		b.requireStored(t, s, "a batch that was sent twice is there once")
	}},
	{"of many appends on one head exactly one is written", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		second := h.second(t, s)
		const writers, rounds = 8, 20
		for round := range rounds {
			batches, errs := make([]store.Batch, writers), make([]error, writers)
			for i := range batches {
				batches[i] = b.draft(credit.Allocation{ResellerID: b.reseller(i % 3), Amount: units(1), Key: fmt.Sprintf("round-%d-%d", round, i)},
					credit.NewReseller{ExternalID: fmt.Sprintf("new-%d", round), Name: fmt.Sprint(i)})
			}
			var all sync.WaitGroup
			begin := make(chan struct{})
			for i := range writers {
				all.Go(func() {
					<-begin
					on := s
					if i%2 == 1 {
						on = second
					}
					// A temporary failure, with nothing written, may be tried again.
					for again := true; again; again = store.Retryable(errs[i]) {
						errs[i] = on.Append(t.Context(), b.distributor.ID, b.head, copyOf(batches[i]))
					}
				})
			}
			within(t, time.Minute, "a round of concurrent appends", func() { close(begin); all.Wait() })
			winner := -1
			for i, err := range errs {
				if err == nil {
					require.Equal(t, -1, winner, "two appends on the same head were acknowledged")
					winner = i
					continue
				}
				require.ErrorIs(t, err, store.ErrMoved, "an append on a head that another one took")
			}
			require.NotEqual(t, -1, winner, "one of the appends on the right head is written")
			b.enter(batches[winner])
		}
		b.requireStored(t, s, "the acknowledged batches, and no others")
	}},
}

var historyClauses = []clause{
	{"later batches leave earlier records as they are", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		id := b.reseller(0)
		b.write(t, s, credit.Usage{ResellerID: id, Amount: units(150), Customer: "c", Key: "first", Remark: "as it was", Metadata: map[string]string{"a": "b"}})
		b.write(t, s, credit.Correction{ResellerID: id, Amount: units(150), Customer: "c", Corrects: b.head.Sequence})
		b.write(t, s, credit.ProfileUpdate{ResellerID: id, Name: new("Another name"), Customers: new(7)})
		b.write(t, s, credit.RepossessAll{ResellerID: id})
		b.write(t, s, credit.Freeze{ResellerID: id})
		b.write(t, s, credit.Unfreeze{ResellerID: id})
		b.write(t, s, credit.Close{ResellerID: id})
		for range 20 {
			b.write(t, s, credit.Grant{Amount: units(1)}, credit.Usage{ResellerID: id, Amount: units(1)})
		}
		b.requireStored(t, s, "every record is as it was written")
	}},
	{"an append on an old head overwrites nothing", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		old := b.fork()
		for range 5 {
			b.write(t, s, credit.Grant{Amount: units(1)})
		}
		for range 5 {
			batch := old.draft(credit.Withdrawal{Amount: units(1)})
			require.ErrorIs(t, s.Append(t.Context(), b.distributor.ID, old.head, copyOf(batch)), store.ErrMoved)
			old.enter(batch)
			b.requireStored(t, s, "the records are those that were written first")
		}
	}},
}

var errorClauses = []clause{
	{"what was refused as ErrMoved is not written later", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		late := b.fork()
		for i := range 10 {
			batch := late.draft(credit.Grant{Amount: units(1), Key: fmt.Sprintf("late-%d", i)})
			b.write(t, s, credit.Grant{Amount: units(2)})
			require.ErrorIs(t, s.Append(t.Context(), b.distributor.ID, late.head, batch), store.ErrMoved)
		}
		b.requireStored(t, s, "only the acknowledged batches")
	}},
	{"ErrMoved is not a temporary failure of the same call", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		head := b.head
		head.Sequence++
		err := s.Append(t.Context(), b.distributor.ID, head, b.draft(credit.Grant{Amount: units(1)}))
		require.ErrorIs(t, err, store.ErrMoved)
		require.False(t, store.Retryable(err), "Retry means that the same call may succeed later, and this one may not: %v", err)
	}},
	{"an append to a ledger that was never created is certain to write nothing", func(h Harness, t *testing.T) {
		s := h.Open(t)
		rng := h.source(t)
		b := blankBook(rng, newDistributor(rng))
		err := s.Append(t.Context(), b.distributor.ID, b.head, b.draft(credit.Grant{Amount: units(1)}))
		require.True(t, errors.Is(err, store.ErrNoLedger) || errors.Is(err, store.ErrMoved), "ErrNoLedger, or ErrMoved because there is no such head: %v", err)
		_, err = s.Load(t.Context(), b.distributor.ID, credit.ReadSet{})
		require.ErrorIs(t, err, store.ErrNoLedger, "a failed append creates no ledger")
	}},
	{"with a context that is over, the error says whether something was written", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		batch := b.draft(credit.Grant{Amount: units(1), Key: "k"})
		expected, kept := b.head, copyOf(batch)
		err := s.Append(cancelled(t), b.distributor.ID, expected, batch)
		found, loadErr := s.Load(t.Context(), b.distributor.ID, credit.ReadSet{})
		require.NoError(t, loadErr)
		require.NotErrorIs(t, err, store.ErrMoved, "the head is the expected one and the key is free")
		switch {
		case err == nil:
			require.Equal(t, kept.Head().Sequence, found.Head.Sequence, "an acknowledged append is there")
		case store.Retryable(err):
			require.Equal(t, expected.Sequence, found.Head.Sequence, "after an error marked by Retry nothing is written")
		}
	}},
	{"a create with a context that is over creates at most the ledger that was asked for", func(h Harness, t *testing.T) {
		s := h.Open(t)
		d := newDistributor(h.source(t))
		got, err := s.Create(cancelled(t), d)
		if err == nil {
			require.Equal(t, d, got)
		}
		got, err = s.Create(t.Context(), d)
		require.NoError(t, err, "the same create again")
		require.Equal(t, d, got)
	}},
}
