package credit_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
)

func TestCode(t *testing.T) {
	t.Parallel()
	codes := map[string]error{
		"invalid": credit.ErrInvalid, "key_conflict": credit.ErrKeyConflict, "not_found": credit.ErrNotFound, "exists": credit.ErrExists,
		"not_active": credit.ErrNotActive, "not_frozen": credit.ErrNotFrozen, "not_empty": credit.ErrNotEmpty,
		"insufficient_pool": credit.ErrInsufficientPool, "exceeds_available": credit.ErrExceedsAvailable, "exceeds_used": credit.ErrExceedsUsed,
		"out_of_range": credit.ErrOutOfRange, "not_applied": credit.ErrNotApplied, "outcome_unknown": credit.ErrOutcomeUnknown,
		"busy": credit.ErrBusy, "mismatch": credit.ErrMismatch, "corrupt": credit.ErrCorrupt,
	}
	for code, err := range codes {
		assert.Equal(t, code, credit.Code(err))
		assert.Equal(t, code, credit.Code(fmt.Errorf("wrapped: %w", err)))
		assert.True(t, strings.HasPrefix(err.Error(), "credit: "), err)
		for other, sentinel := range codes {
			assert.Equal(t, code == other, errors.Is(err, sentinel), "%s is no %s", code, other)
		}
	}
	assert.Empty(t, credit.Code(nil))
	assert.Equal(t, "internal", credit.Code(context.Canceled))
	assert.Equal(t, "internal", credit.Code(errors.New("credit: insufficient pool")), "the text is not the error")

	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	require.NoError(t, err)
	declared := 0
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, "Err") {
			declared += len(v.Names)
		}
		return true
	})
	assert.Equal(t, declared, len(codes), "every error has a code of its own") //nolint:testifylint // two lengths
}

func TestErrors_unwrapToTheirSentinel(t *testing.T) {
	t.Parallel()
	assert.ErrorIs(t, &credit.InvalidError{}, credit.ErrInvalid)
	assert.ErrorIs(t, &credit.ConflictError{}, credit.ErrKeyConflict)
	assert.EqualError(t, &credit.ConflictError{Key: "po-1", Kind: credit.KindGrant, EarlierKind: credit.KindAllocate},
		`credit: grant: key "po-1" belongs to a different allocate (of the same call); use a new key for a new command`)
	assert.ErrorIs(t, &credit.CorruptError{}, credit.ErrCorrupt)
	assert.EqualError(t, &credit.CorruptError{Sequence: 3, Problem: "follows record 1"}, "credit: corrupt ledger: record 3: follows record 1")
	assert.EqualError(t, &credit.InvalidError{Field: "cursor", Problem: "is torn"}, "credit: cursor: is torn")
}
