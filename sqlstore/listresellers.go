package sqlstore

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// Resellers implements [store.Store].
func (s *Store) Resellers(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery, after store.ResellerPosition) ([]credit.Reseller, error) {
	page, err := s.resellerPage(ledger, q, after)
	var rows []resellerRow
	if err == nil {
		err = s.list(ctx, ledger, &rows, page)
	}
	if err != nil {
		return nil, s.certain(ctx, fmt.Errorf("list resellers of ledger %s: %w", ledger, err))
	}
	resellers := make([]credit.Reseller, len(rows))
	for i, row := range rows {
		resellers[i] = row.reseller()
	}
	return resellers, nil
}

// CountResellers implements [store.Store].
func (s *Store) CountResellers(ctx context.Context, ledger uuid.UUID, q credit.ResellerQuery) (int, error) {
	count, err := s.resellerCount(ledger, q)
	var rows []struct {
		N int `db:"n"`
	}
	if err == nil {
		err = s.list(ctx, ledger, &rows, count)
	}
	if err != nil {
		return 0, s.certain(ctx, fmt.Errorf("count resellers of ledger %s: %w", ledger, err))
	}
	return rows[0].N, nil
}

// resellerOrder is an order of resellers: by a column and the id, as an index
// has it for each status.
type resellerOrder struct {
	column, index string
	ascending     bool
}

func orderOf(o credit.Order) resellerOrder {
	switch o {
	case credit.OrderName, credit.OrderNameDown:
		return resellerOrder{"name_folded", "resellers_name", o.Ascending()}
	case credit.OrderAvailable, credit.OrderAvailableDown:
		return resellerOrder{"available", "resellers_available", o.Ascending()}
	}
	return resellerOrder{"bound_at", "resellers_bound", o.Ascending()}
}

// text is the order of columns of a table.
func (o resellerOrder) text(alias string) string {
	if o.ascending {
		return " ORDER BY " + alias + o.column + ", " + alias + "id"
	}
	return " ORDER BY " + alias + o.column + " DESC, " + alias + "id DESC"
}

// value is that of the column at a position.
func (o resellerOrder) value(p store.ResellerPosition) any {
	switch o.column {
	case "name_folded":
		return p.Name
	case "available":
		return p.Available
	}
	return p.BoundAt.UnixMicro()
}

// resellerPage returns the statement for a page.
//
// What is selected exactly is found by its index, and is few. Otherwise each
// status has a branch of its own, which goes along the index of the order and
// stops at the limit: a status that hardly any reseller has is found as fast as one
// that most of them have. The other filters are looked at along the way.
func (s *Store) resellerPage(ledger uuid.UUID, q credit.ResellerQuery, after store.ResellerPosition) (*listing, error) {
	order := orderOf(q.Order)
	rest, err := s.resellerFilters(q)
	if err != nil {
		return nil, err
	}
	page := &listing{size: len(q.Statuses)}
	beginning := after == store.ResellerPosition{}
	if len(rest.args) == 0 {
		page.name = fmt.Sprintf("list resellers by %s, ascending %t, beginning %t", order.column, order.ascending, beginning)
	}
	if !beginning {
		condition, args := s.dialect.beyond(order.ascending, order.column, order.value(after), s.dialect.id(after.ID))
		rest.add(" AND "+condition, args...)
	}
	switch index := exactReseller(q); {
	case index != "":
		page.add("SELECT "+columnsText("", resellerColumns[1:])+" FROM "+s.dialect.resellers(s.prefix, index, everything)+" WHERE ledger = ?", s.dialect.id(ledger))
		page.add(" AND status IN "+marks(len(q.Statuses)), values(q.Statuses, statusText)...)
		page.add(rest.text.String(), rest.args...)
		if q.ExternalID == "" { // of which there is at most one
			page.add(order.text(""))
		}
		page.add(" LIMIT ?"+s.current(), q.Limit)
	case len(q.Statuses) == 1:
		s.addOfStatus(page, ledger, q.Statuses[0], columnsText("", resellerColumns[1:]), everything, order, rest, q.Limit)
	default:
		branches := make([]*listing, len(q.Statuses))
		for i, status := range q.Statuses {
			branches[i] = new(listing)
			s.addOfStatus(branches[i], ledger, status, "id, "+order.column, partsOf(q), order, rest, q.Limit)
		}
		page.add("SELECT " + columnsText("r", resellerColumns[1:]) + " FROM ")
		page.first("id, "+order.column, branches, order.text(""), q.Limit)
		page.add(s.dialect.join(columnsText("", resellerColumns[1:]), s.dialect.resellers(s.prefix, "", everything), "r.ledger = ? AND r.id = page.id"), s.dialect.id(ledger))
		page.add(order.text("page.") + s.current())
	}
	return page, nil
}

func (s *Store) addOfStatus(to *listing, ledger uuid.UUID, status credit.Status, columns string, need parts, order resellerOrder, rest *listing, limit int) {
	to.add("SELECT "+columns+" FROM "+s.dialect.resellers(s.prefix, order.index, need)+" WHERE ledger = ? AND status = ?", s.dialect.id(ledger), string(status))
	to.add(rest.text.String(), rest.args...)
	to.add(order.text("")+" LIMIT ?"+s.current(), limit)
}

// resellerCount returns the statement that counts all that match.
func (s *Store) resellerCount(ledger uuid.UUID, q credit.ResellerQuery) (*listing, error) {
	rest, err := s.resellerFilters(q)
	if err != nil {
		return nil, err
	}
	index := exactReseller(q)
	switch {
	case index != "":
	case q.MinAvailable != nil, q.MaxAvailable != nil, q.Low != nil && !q.Low.IsPercent():
		index = "resellers_available"
	default:
		index = "resellers_bound"
	}
	count := new(listing)
	count.add("SELECT count(*) AS n FROM "+s.dialect.resellers(s.prefix, index, partsOf(q))+" WHERE ledger = ?", s.dialect.id(ledger))
	count.add(" AND status IN "+marks(len(q.Statuses)), values(q.Statuses, statusText)...)
	count.add(rest.text.String()+s.current(), rest.args...)
	return count, nil
}

// exactReseller names the index that finds what a query selects exactly, if it
// does.
func exactReseller(q credit.ResellerQuery) (index string) {
	switch {
	case q.ExternalID != "":
		return "resellers_external_id"
	case q.Email != "":
		return "resellers_email"
	}
	return ""
}

var everything = parts{profiles: true, figures: true}

// partsOf are what the filters of a query look at.
func partsOf(q credit.ResellerQuery) parts {
	return parts{
		profiles: q.Name != "" || q.Mobile != "" || q.Remark != "" || q.Email != "" || q.ExternalID != "",
		figures:  q.MinAvailable != nil || q.MaxAvailable != nil || q.Low != nil,
	}
}

// resellerFilters are the conditions of all filters but that of the statuses.
func (s *Store) resellerFilters(q credit.ResellerQuery) (*listing, error) {
	l := new(listing)
	if q.ExternalID != "" {
		l.add(" AND external_id = ?", q.ExternalID)
	}
	if q.Email != "" {
		l.add(" AND email = ? AND email <> ''", q.Email) // the latter, because that is what the index has
	}
	for _, part := range []struct{ column, text string }{{"name_folded", q.Name}, {"mobile_folded", q.Mobile}, {"remark_folded", q.Remark}} {
		if part.text != "" {
			l.add(" AND "+s.dialect.contains(part.column), credit.Fold(part.text))
		}
	}
	var m millionths
	if q.MinAvailable != nil {
		l.add(" AND available >= ?", m.of(*q.MinAvailable))
	}
	if q.MaxAvailable != nil {
		l.add(" AND available <= ?", m.of(*q.MaxAvailable))
	}
	switch {
	case q.Low == nil:
	case q.Low.IsPercent():
		// The share rounded down, which is exact, because available is a whole number.
		// In two parts, neither of which leaves 64 bits.
		share := m.of(q.Low.Value())
		const whole = "100000000" // millionths of a percent
		div := s.dialect.div()
		l.add(" AND available <= (allocated "+div+" "+whole+") * ? + ((allocated % "+whole+") * ?) "+div+" "+whole, share, share)
	default:
		l.add(" AND available <= ?", m.of(q.Low.Value()))
	}
	return l, m.err
}

func statusText(s credit.Status) any { return string(s) }
