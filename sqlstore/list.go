package sqlstore

import (
	"context"
	"strings"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
)

// listing is a statement that reads a list: its text and its parameters, which
// are added together. The text depends on which filters there are, and not on what
// they ask for.
type listing struct {
	// name and size name the statement if it is kept. Any filter may come with any
	// other, which makes thousands of texts, so only those that are asked for all the
	// time have a name; the others are made each time.
	name string
	size int

	text strings.Builder
	args []any
}

func (l *listing) add(text string, args ...any) {
	l.text.WriteString(text)
	l.args = append(l.args, args...)
}

// first adds a source of rows, page: the first of all that the branches give,
// each of which has these columns, this order and this limit. So an index that has the
// order of each branch serves for all of them, and what is sorted are a few keys.
func (l *listing) first(columns string, branches []*listing, order string, limit int) {
	l.add("(")
	for i, branch := range branches {
		if i > 0 {
			l.add(" UNION ALL ")
		}
		l.add("SELECT "+columns+" FROM ("+branch.text.String()+") AS branch", branch.args...)
	}
	l.add(order+" LIMIT ?) AS page", limit)
}

// list reads the rows of a listing of a ledger into a slice of structs. Where the
// caller's transaction may have begun with an older state, it locks the ledger
// first, as Load does.
func (s *Store) list(ctx context.Context, ledger uuid.UUID, to any, l *listing) error {
	current := s.current()
	if current != "" {
		if _, err := s.lock(ctx, ledger); err != nil {
			return err
		}
	}
	stmt := &statement{}
	if l.name == "" {
		stmt.text = sqlx.Rebind(s.dialect.bind(), l.text.String())
	} else {
		var err error
		if stmt, err = s.statement(ctx, l.name+current, l.size, l.text.String); err != nil {
			return err
		}
	}
	return selectAll(ctx, stmt.on(ctx, s.base()), to, l.args...)
}

// records is the source of rows of records, r, that an index finds; an empty one
// is the primary key.
func (s *Store) records(index string) string {
	if index != "" {
		index = s.prefix + index
	}
	return s.prefix + "records AS r" + s.dialect.using(index)
}
