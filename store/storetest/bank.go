package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// bank is a ledger of many writers and readers. Half of its resellers, the closed
// circle, pass credit on among themselves in all-or-nothing calls, so that what
// they have together never changes; with the others everything happens.
type bank struct {
	ctx     context.Context // ends with the test, or when something is found
	stores  []store.Store
	engines []*store.Ledger
	circle  []uuid.UUID
	others  []uuid.UUID
	found   func(problem string)

	left, accepted, snapshots atomic.Int64    // commands to send, and accepted ones
	news                      []chan struct{} // for each reader: something was written since it began to read
	written                   chan struct{}   // closed when no more is written
}

// The bank: how many resellers there are of each sort, what each of the circle
// begins with, and after how many accepted commands each reader may read again, so
// that readers leave writers the time to write.
const (
	bankResellers = 8
	bankStart     = 100
	bankNews      = 32
)

// bankTest has writers send so many commands, while readers compare all that they
// see: of every snapshot the sums, of every record the one before it.
func bankTest(t *testing.T, rng *rand.Rand, commands int, stores ...store.Store) {
	b := &bank{stores: stores, engines: open(t, rng, store.Options{}, stores...), written: make(chan struct{})}
	l := b.engines[0]
	// A grant that nobody withdraws for what the circle has.
	before := 1 + 2*bankResellers + bankResellers
	must(t, l, credit.Grant{Amount: units(bankResellers * bankStart * 2), Key: "grant"})
	for i := range 2 * bankResellers {
		name, of := "circle", &b.circle
		if i%2 == 1 {
			name, of = "others", &b.others
		}
		id := must(t, l, credit.NewReseller{ExternalID: fmt.Sprint(i), Name: name, Key: fmt.Sprintf("add-%d", i)}).ResellerID
		if *of = append(*of, id); i%2 == 0 {
			must(t, l, credit.Allocation{ResellerID: id, Amount: units(bankStart), Key: fmt.Sprintf("start-%d", i)})
		}
	}

	var cancel context.CancelFunc
	b.ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	problems := make(chan string, 1)
	b.found = func(problem string) {
		select {
		case problems <- problem:
		default: // one is enough
		}
		cancel()
	}
	b.left.Store(int64(commands))
	follower := &follower{figures: map[uuid.UUID]credit.Figures{}}
	readers := []func(int, *rand.Rand) error{b.readSnapshot, b.readCircle, b.readAsOf, b.readOne, b.readHead, func(on int, _ *rand.Rand) error { return b.follow(follower, on) }}
	for range readers {
		b.news = append(b.news, make(chan struct{}, 1))
	}
	var writing, reading sync.WaitGroup
	for i := range goroutines {
		rng := newRand(rng.Uint64(), uint64(i))
		writing.Go(func() { b.write(i, rng) })
	}
	for i, read := range readers {
		rng := newRand(rng.Uint64(), uint64(goroutines+i))
		reading.Go(func() { b.read(i, rng, read) })
	}
	// Far more than a command needs on a database that syncs to disk.
	within(t, 3*time.Minute+time.Duration(commands)*10*time.Millisecond, "the bank", func() {
		writing.Wait()
		close(b.written)
		reading.Wait()
	})
	select {
	case problem := <-problems:
		require.Fail(t, "what a reader or a writer sees does not hold", "%s", problem)
	default:
	}
	require.EqualValues(t, before+int(b.accepted.Load()), follower.last.Sequence, "a record for each accepted command, and no other")
	for _, l := range b.engines {
		_, err := l.Check(t.Context())
		require.NoError(t, err, "the ledger checks")
	}
	t.Logf("%d commands, %d of them accepted; %d snapshots", commands, b.accepted.Load(), b.snapshots.Load())
}

// write sends commands until enough were sent.
func (b *bank) write(writer int, rng *rand.Rand) {
	for n := 0; b.ctx.Err() == nil && b.left.Add(-1) >= 0; n++ {
		l := b.engines[rng.IntN(len(b.engines))]
		key := fmt.Sprintf("%d/%d", writer, n)
		amount := credit.FromMillionths(1 + rng.Int64N(30_000_000))
		if rng.IntN(8) == 0 {
			b.left.Add(-1) // it is two commands
			from, to := pickOne(rng, b.circle), pickOne(rng, b.circle)
			both := []credit.Command{credit.Repossession{ResellerID: from, Amount: amount, Key: key + "/from"}, credit.Allocation{ResellerID: to, Amount: amount, Key: key + "/to"}}
			done, err := b.transfer(l, both)
			switch {
			case err != nil:
				b.found(fmt.Sprintf("a transfer: %v", err))
				return
			case done:
				b.accept(2)
			}
			continue
		}
		c := b.command(rng, amount, key)
		receipt, err := insist(b.ctx, l, c)
		switch code := credit.Code(err); {
		case err == nil:
			b.accept(1)
			if rng.IntN(8) == 0 {
				b.look(receipt, b.engines[rng.IntN(len(b.engines))])
			}
		case code != "insufficient_pool" && code != "exceeds_available" && code != "exceeds_used" && b.ctx.Err() == nil:
			b.found(fmt.Sprintf("%s: %v", described{c}, err))
		}
	}
}

// accept counts accepted commands, and tells the readers of them.
func (b *bank) accept(commands int64) {
	if now := b.accepted.Add(commands); now/bankNews == (now-commands)/bankNews {
		return
	}
	for _, news := range b.news {
		select {
		case news <- struct{}{}:
		default: // it has not looked yet
		}
	}
}

// look has an engine see a record that was acknowledged.
func (b *bank) look(receipt credit.Receipt, l *store.Ledger) {
	switch head, err := l.Head(b.ctx); {
	case err == nil && head.Sequence < receipt.Sequence:
		b.found(fmt.Sprintf("a read that began after record %d was acknowledged sees %d", receipt.Sequence, head.Sequence))
	case err != nil && !store.Retryable(err) && b.ctx.Err() == nil:
		b.found(fmt.Sprintf("head: %v", err))
	}
}

// command is one that leaves the circle alone.
func (b *bank) command(rng *rand.Rand, amount decimal.Decimal, key string) credit.Command {
	id := pickOne(rng, b.others)
	switch n := rng.IntN(20); {
	case n < 7:
		return credit.Allocation{ResellerID: id, Amount: amount, Key: key}
	case n < 11:
		return credit.Repossession{ResellerID: id, Amount: amount, Key: key}
	case n < 12:
		return credit.RepossessAll{ResellerID: id, Key: key}
	case n < 15:
		return credit.Usage{ResellerID: id, Amount: amount, Key: key}
	case n < 16:
		return credit.Correction{ResellerID: id, Amount: amount, Key: key}
	case n < 17:
		return credit.Settlement{ResellerID: id, Amount: amount, Key: key}
	case n < 18:
		return credit.Withdrawal{Amount: amount, Key: key}
	}
	return credit.Grant{Amount: amount, Key: key}
}

// transfer tells whether it was done; if not, the circle had too little, or the
// pool had less than would come back.
func (b *bank) transfer(l *store.Ledger, both []credit.Command) (bool, error) {
	for {
		outcomes, err := l.Bulk(b.ctx, both, credit.BulkOptions{AllOrNothing: true})
		switch {
		case uncertain(err) && b.ctx.Err() == nil:
			continue
		case err != nil:
			return false, err
		case outcomes[0].Err == nil && outcomes[1].Err == nil:
			if outcomes[0].Receipt.Sequence+1 != outcomes[1].Receipt.Sequence {
				return false, fmt.Errorf("something came between records %d and %d of one call", outcomes[0].Receipt.Sequence, outcomes[1].Receipt.Sequence)
			}
			return true, nil
		}
		for _, o := range outcomes {
			if code := credit.Code(o.Err); code != "exceeds_available" && code != "not_applied" && code != "insufficient_pool" {
				return false, fmt.Errorf("outcomes %w and %w", outcomes[0].Err, outcomes[1].Err)
			}
		}
		return false, nil
	}
}

// read repeats a reader as long as there are news, and once more in the end.
func (b *bank) read(reader int, rng *rand.Rand, read func(int, *rand.Rand) error) {
	for n, more := reader, true; more; n++ {
		select {
		case <-b.news[reader]:
		case <-b.written:
			more = false
		case <-b.ctx.Done():
			return
		}
		err := read(n%len(b.engines), rng)
		for ; store.Retryable(err) && b.ctx.Err() == nil; err = read(n%len(b.engines), rng) {
			continue
		}
		if err != nil && b.ctx.Err() == nil {
			b.found(err.Error())
		}
		b.snapshots.Add(1)
	}
}

// readSnapshot loads head and resellers at once.
func (b *bank) readSnapshot(on int, _ *rand.Rand) error {
	found, err := b.stores[on].Load(b.ctx, b.engines[on].Distributor().ID, credit.ReadSet{Resellers: append(append([]uuid.UUID{}, b.circle...), b.others...)})
	if err != nil {
		return err
	}
	return balanced("a snapshot", found.Head, found.Resellers)
}

// balanced is an error unless what was granted is what remains and what the
// resellers have.
func balanced(what string, head credit.Head, resellers []credit.Reseller) error {
	sum := decimal.Zero
	for _, r := range resellers {
		if r.Allocated.IsNegative() {
			return fmt.Errorf("%s of record %d: a reseller has %s", what, head.Sequence, r.Allocated)
		}
		sum = sum.Add(r.Allocated)
	}
	if remaining := head.Pool.Remaining(); len(resellers) != 2*bankResellers || remaining.IsNegative() || !head.Pool.Granted.Equal(remaining.Add(sum)) {
		return fmt.Errorf("%s of record %d: %s were granted, %s remain, and %d resellers have %s together", what, head.Sequence, head.Pool.Granted, remaining, len(resellers), sum)
	}
	return nil
}

// readCircle lists the circle as it is now, all in one page.
func (b *bank) readCircle(on int, _ *rand.Rand) error {
	page, err := b.engines[on].Resellers(b.ctx, credit.ResellerQuery{Name: "circle"})
	if err != nil {
		return err
	}
	sum, said := decimal.Zero, []string{}
	for _, r := range page.Items {
		sum = sum.Add(r.Allocated)
		said = append(said, r.Allocated.String())
	}
	if !sum.Equal(units(bankResellers * bankStart)) {
		return fmt.Errorf("a listing has %s of those who only pass credit on, together %s instead of %d", strings.Join(said, " + "), sum, bankResellers*bankStart)
	}
	return nil
}

// readAsOf lists everybody as of a head.
func (b *bank) readAsOf(on int, rng *rand.Rand) error {
	now, err := b.engines[on].Head(b.ctx)
	if err != nil {
		return err
	}
	asOf := credit.AsOf{Sequence: max(3*bankResellers+1, now.Sequence-rng.Int64N(100))}
	head, err := b.engines[on].HeadAsOf(b.ctx, asOf)
	if err != nil {
		return err
	}
	page, err := b.engines[on].Resellers(b.ctx, credit.ResellerQuery{AsOf: asOf, Limit: credit.MaxPageSize})
	if err != nil {
		return err
	}
	return balanced("the listing as of a head", head, page.Items)
}

// readOne reads one reseller between two heads: its figures are those of a record
// of that time.
func (b *bank) readOne(on int, rng *rand.Rand) error {
	l, id := b.engines[on], pickOne(rng, b.others)
	before, err := l.Head(b.ctx)
	if err != nil {
		return err
	}
	r, err := l.Reseller(b.ctx, id)
	if err != nil {
		return err
	}
	after, err := l.Head(b.ctx)
	if err != nil {
		return err
	}
	was, err := l.ResellerAsOf(b.ctx, id, credit.AsOf{Sequence: before.Sequence})
	if err != nil {
		return err
	}
	possible := []credit.Figures{was.Figures}
	changes, err := pages(credit.MaxPageSize, func(c credit.Cursor) (credit.Page[credit.Record], error) {
		return l.Records(b.ctx, credit.RecordQuery{ResellerID: id, After: before.Sequence, Before: after.Sequence + 1, Limit: credit.MaxPageSize, Cursor: c})
	})
	if err != nil {
		return err
	}
	for _, c := range changes {
		possible = append(possible, c.After)
	}
	for _, f := range possible {
		if f.Allocated.Equal(r.Allocated) && f.Used.Equal(r.Used) {
			return nil
		}
	}
	return fmt.Errorf("between records %d and %d a reseller has allocated %s, used %s; it never had: %s", before.Sequence, after.Sequence, r.Allocated, r.Used, show(possible))
}

// readHead reads the pool between two heads.
func (b *bank) readHead(on int, _ *rand.Rand) error {
	before, err := b.engines[on].Head(b.ctx)
	if err != nil {
		return err
	}
	pool, err := b.engines[on].Pool(b.ctx)
	if err != nil {
		return err
	}
	after, err := b.engines[(on+1)%len(b.engines)].Head(b.ctx)
	switch {
	case err != nil:
		return err
	case after.Sequence < before.Sequence:
		return fmt.Errorf("record %d is the head after record %d was", after.Sequence, before.Sequence)
	case pool.Remaining().IsNegative() || pool.Allocated.LessThan(units(bankResellers*bankStart)):
		return fmt.Errorf("the pool is %s", show(pool))
	}
	return nil
}

// follower has read the log up to a record, and keeps what that gives.
type follower struct {
	last    credit.Record
	figures map[uuid.UUID]credit.Figures
}

// follow reads what was written since, to the end.
func (b *bank) follow(f *follower, on int) error {
	for {
		page, err := b.engines[on].Records(b.ctx, credit.RecordQuery{After: f.last.Sequence, Limit: credit.MaxPageSize})
		if err != nil {
			return err
		}
		for _, r := range page.Items {
			if err := f.next(r); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
	}
}

// next is an error unless a record begins where the one before it has ended.
func (f *follower) next(r credit.Record) error {
	sum := decimal.Zero
	had := f.figures[r.ResellerID]
	if r.ResellerID != uuid.Nil {
		f.figures[r.ResellerID] = r.After
	}
	for _, figures := range f.figures {
		sum = sum.Add(figures.Allocated)
	}
	before := r.PoolBefore()
	switch {
	case r.Sequence != f.last.Sequence+1:
		return fmt.Errorf("record %d follows record %d", r.Sequence, f.last.Sequence)
	case r.RecordedAt.Before(f.last.RecordedAt):
		return fmt.Errorf("record %d is earlier than the one before it", r.Sequence)
	case !r.Before.Allocated.Equal(had.Allocated) || !r.Before.Used.Equal(had.Used):
		return fmt.Errorf("record %d begins with %s, and the one before it has ended with %s", r.Sequence, show(r.Before), show(had))
	case !before.Granted.Equal(f.last.Pool.Granted) || !before.Allocated.Equal(f.last.Pool.Allocated):
		return fmt.Errorf("record %d begins with the pool %s, and the one before it has ended with %s", r.Sequence, show(before), show(f.last.Pool))
	case !r.Pool.Allocated.Equal(sum):
		return fmt.Errorf("after record %d the pool has given out %s, and the resellers have %s", r.Sequence, r.Pool.Allocated, sum)
	}
	f.last = r
	return nil
}
