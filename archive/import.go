package archive

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// What one Append of an import holds at most: so many records, or so many bytes
// of their lines.
const (
	batchRecords = 1000
	batchBytes   = 4 << 20
)

// ErrDiffers is a ledger in the store whose records are not the first ones of the
// export. Import into a store that does not have the ledger.
var ErrDiffers = errors.New("credit: the ledger has records that are not those of the export")

// Import rebuilds a ledger in a store from its export, hash for hash: with the
// same ids, heads, resellers and keys, under the same distributor. The export is
// verified on the way, as by [Verify] with the heads that were kept, and holds as
// much memory. A reseller is stored with its last profile from the beginning.
//
// A ledger that has records already must have those that the export begins with,
// otherwise the error is [ErrDiffers]; Import goes on after them, and takes what is
// stored of them as it is (store.Ledger's Check does not). So after an error, of
// the store, of r, or a lost connection, what is written is a beginning of the
// ledger, and the same import again completes it. That holds for a [*LineError],
// too: the records before the bad one may have been written. If there is none, a
// ledger without records may be left behind.
//
// Nobody should write to the ledger meanwhile: store.ErrMoved is somebody who did.
// A key that the export has twice is refused by the store, in the words of the
// store, or as store.ErrMoved.
func Import(ctx context.Context, s store.Store, r io.Reader, kept ...credit.Head) (Summary, error) {
	x, err := open(r, kept)
	if err != nil {
		return Summary{}, err
	}
	i := &importer{reader: x, store: s}
	if err := i.run(ctx); err != nil {
		return Summary{}, err
	}
	return x.summary(), nil
}

type importer struct {
	*reader
	store store.Store
	head  credit.Head // of what is stored
	batch []credit.Record
	bytes int
}

func (i *importer) run(ctx context.Context) error {
	d := i.export.Distributor
	stored, err := i.store.Create(ctx, d)
	if err != nil {
		return i.failed(err)
	}
	if stored.Currency != d.Currency {
		return fmt.Errorf("%w: ledger %s is kept in %s, the export in %s", credit.ErrMismatch, d.ID, stored.Currency, d.Currency)
	}
	found, err := i.store.Load(ctx, d.ID, credit.ReadSet{})
	if err != nil {
		return i.failed(err)
	}
	i.head = found.Head
	there := i.head.Sequence
	if there > i.export.Head.Sequence {
		return fmt.Errorf("%w: ledger %s has %d, the export %d", ErrDiffers, d.ID, there, i.export.Head.Sequence)
	}
	for {
		r, err := i.next()
		switch {
		case errors.Is(err, errEnd):
			return i.flush(ctx)
		case err != nil:
			return err
		case r.Sequence == there && r.Hash != i.head.Hash:
			return fmt.Errorf("%w: record %d of ledger %s is another one", ErrDiffers, there, d.ID)
		case r.Sequence <= there:
			continue
		}
		i.batch, i.bytes = append(i.batch, r), i.bytes+i.size
		if len(i.batch) == batchRecords || i.bytes >= batchBytes {
			if err := i.flush(ctx); err != nil {
				return err
			}
		}
	}
}

// flush appends the batch, the last record of which was the last one read: so
// resellers are as they are after it.
func (i *importer) flush(ctx context.Context) error {
	if len(i.batch) == 0 {
		return nil
	}
	b := store.BatchOf(i.batch, i.current)
	if err := i.store.Append(ctx, i.export.Distributor.ID, i.head, b); err != nil {
		return i.failed(err)
	}
	i.head, i.batch, i.bytes = b.Head(), i.batch[:0], 0
	return nil
}

// current is a reseller as it is after the last record, with its profile.
func (i *importer) current(id uuid.UUID) (credit.Reseller, bool) {
	r := i.profiles[id]
	figures, known := i.state.Reseller(id)
	r.Status, r.Figures = figures.Status, figures.Figures
	return r, known
}

// failed says how far the import came.
func (i *importer) failed(err error) error {
	return during(fmt.Sprintf("import ledger %s, after record %d", i.export.Distributor.ID, i.head.Sequence), err)
}
