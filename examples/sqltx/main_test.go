package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnOrderAndItsCreditAreThereTogetherOrNotAtAll(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out, filepath.Join(t.TempDir(), "shop.db")))
	require.Equal(t, `order po-1 of 600: done
order po-2 of 600: credit: allocate: 600 exceeds the pool's remaining 400
order po-1 of 200: the order number is taken
order po-3 of 400: done
2 orders, 1000 allocated
`, out.String())
}
