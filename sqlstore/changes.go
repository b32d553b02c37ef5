package sqlstore

import (
	"github.com/google/uuid"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// changes divides the changed resellers of a batch: a record of it changed the
// profile or the status of the updated ones, and nothing but the figures of the
// moved ones, as nearly all do. Their records say which; a profile that no record
// changed is not written, nor are its texts folded.
func changes(b store.Batch) (moved, updated []credit.Reseller) {
	touched := map[uuid.UUID]bool{}
	for i := range b.Records {
		switch r := &b.Records[i]; r.Kind {
		case credit.KindUpdate, credit.KindFreeze, credit.KindUnfreeze, credit.KindClose:
			touched[r.ResellerID] = true
		}
	}
	if len(touched) == 0 {
		return b.Changed, nil
	}
	for _, r := range b.Changed {
		if touched[r.ID] {
			updated = append(updated, r)
		} else {
			moved = append(moved, r)
		}
	}
	return moved, updated
}
