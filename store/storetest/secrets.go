package storetest

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/store"
)

// secrets are in fields that no error may repeat: a log holds errors.
const (
	secret       = "canary"
	secretAmount = "73.190357"
)

// secretive is a batch with a new reseller and a record of another, full of
// secrets; external id and key are not.
func (b *book) secretive() store.Batch {
	return b.draft(credit.NewReseller{ExternalID: "new", Name: secret, Email: secret + "@example.com", Mobile: secret, ResellerRemark: secret},
		credit.Usage{ResellerID: b.reseller(0), Amount: decimal.RequireFromString(secretAmount), Key: "new", Remark: secret, Operator: secret, Reference: secret, Customer: secret, Metadata: map[string]string{secret: secret}},
		credit.ProfileUpdate{ResellerID: b.reseller(1), Name: new(secret), Email: new(secret), Mobile: new(secret), ResellerRemark: new(secret)})
}

var secretClauses = []clause{
	{"an error holds nothing of what was to be written", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		tell := func(what string, err error) {
			t.Helper()
			if err == nil {
				return // not every store looks at everything; what it writes is another clause's
			}
			require.NotContains(t, err.Error(), secret, "the error for %s repeats a text", what)
			require.NotContains(t, err.Error(), strings.TrimLeft(strings.ReplaceAll(secretAmount, ".", ""), "0"), "the error for %s repeats an amount", what)
			require.NotContains(t, err.Error(), secretAmount, "the error for %s repeats an amount", what)
		}
		must := func(what string, change func(*store.Batch)) {
			t.Helper()
			batch := b.secretive()
			change(&batch)
			err := s.Append(t.Context(), b.distributor.ID, b.head, batch)
			require.Error(t, err, "%s", what)
			tell(what, err)
		}
		must("an external id that is taken", func(x *store.Batch) { x.Added[0].ExternalID = "UIN-0" })
		must("a reseller that is there", func(x *store.Batch) { x.Added[0].ID = b.reseller(2) })
		must("a reseller that is not there", func(x *store.Batch) { x.Moved[0].ID = random(b.rng) })
		must("a key that is taken", func(x *store.Batch) { x.Records[1].Key = "start" })
		must("a key that is there twice", func(x *store.Batch) { x.Records[2].Key = "new" })
		stale := b.fork()
		b.write(t, s, credit.Grant{Amount: units(1)})
		tell("a head that moved on", s.Append(t.Context(), b.distributor.ID, stale.head, stale.secretive()))
		tell("a ledger that was never created", s.Append(t.Context(), random(b.rng), b.head, b.secretive()))
		tell("a context that is over", s.Append(cancelled(t), b.distributor.ID, stale.head, stale.secretive()))
		b.requireStored(t, s, "after appends that failed")

		// What the engine never hands on, and a database may refuse in its own words.
		for what, change := range map[string]func(*store.Batch){
			"an unknown status":         func(x *store.Batch) { x.Added[0].Status = secret },
			"an unknown kind":           func(x *store.Batch) { x.Records[1].Kind = secret },
			"a negative allocated":      func(x *store.Batch) { x.Added[0].Allocated = decimal.RequireFromString("-" + secretAmount) },
			"text that is no UTF-8":     func(x *store.Batch) { x.Added[0].Name = secret + "\xff" + secret },
			"text with NUL":             func(x *store.Batch) { x.Records[1].Remark = secret + "\x00" + secret },
			"a text that is too long":   func(x *store.Batch) { x.Added[0].Name = strings.Repeat(secret, 100_000) },
			"a key that is too long":    func(x *store.Batch) { x.Records[1].Key = strings.Repeat(secret, 1000) },
			"a count that is too large": func(x *store.Batch) { x.Added[0].Customers = -1 },
		} {
			on := newBook(t, s, b.rng)
			on.start(t, s)
			batch := on.secretive()
			change(&batch)
			tell(what, s.Append(t.Context(), on.distributor.ID, on.head, batch))
		}
	}},
	{"a refusal holds nothing of a profile, nor of what comes with a command", func(h Harness, t *testing.T) {
		s, b := h.started(t)
		l, err := store.Open(t.Context(), s, b.distributor, store.Options{Memory: store.NewMemory(10)})
		require.NoError(t, err)
		added, err := l.AddReseller(t.Context(), credit.NewReseller{ExternalID: "uin", Name: secret, Email: secret, Mobile: secret, ResellerRemark: secret})
		require.NoError(t, err)
		refused := 0
		for _, id := range []uuid.UUID{added.ResellerID, random(b.rng)} {
			for _, c := range everyCommand(id) {
				for _, key := range []string{"start", ""} { // a conflict; or the rule itself, with nothing to take from a reseller without credit
					of := secretly(c, key)
					outcomes, err := l.Bulk(t.Context(), []credit.Command{of}, credit.BulkOptions{})
					require.NoError(t, err)
					require.Error(t, outcomes[0].Err, "%T", of)
					require.NotContains(t, outcomes[0].Err.Error(), secret, "%T", of)
					refused++
				}
			}
		}
		require.Greater(t, refused, 40)
		_, err = l.AddReseller(t.Context(), credit.NewReseller{ExternalID: "uin", Name: secret, Email: secret})
		require.ErrorIs(t, err, credit.ErrExists)
		require.NotContains(t, err.Error(), secret)
		for _, bad := range []string{strings.Repeat(secret, 1000), secret + "\x00", secret + "\xff"} {
			_, err = l.UpdateReseller(t.Context(), credit.ProfileUpdate{ResellerID: added.ResellerID, Email: &bad})
			require.ErrorIs(t, err, credit.ErrInvalid)
			require.NotContains(t, err.Error(), secret)
			_, err = l.Resellers(t.Context(), credit.ResellerQuery{Name: bad})
			require.ErrorIs(t, err, credit.ErrInvalid)
			require.NotContains(t, err.Error(), secret)
		}
	}},
}

// secretly is the command with a secret in every text that it can carry, and with
// a sequence to correct that does not exist.
func secretly(c credit.Command, key string) credit.Command {
	v := reflect.New(reflect.TypeOf(c)).Elem()
	v.Set(reflect.ValueOf(c))
	for _, f := range v.Fields() {
		switch f.Interface().(type) {
		case string:
			f.SetString(secret)
		case map[string]string:
			f.Set(reflect.ValueOf(map[string]string{secret: secret}))
		}
	}
	v.FieldByName("Key").SetString(key)
	v.FieldByName("Corrects").SetInt(1 << 40)
	if f := v.FieldByName("ExternalID"); f.IsValid() {
		f.SetString("uin")
	}
	of, _ := reflect.TypeAssert[credit.Command](v)
	return of
}
