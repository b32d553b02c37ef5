package archive_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/resellerkit/credit"
	"github.com/resellerkit/credit/archive"
	"github.com/resellerkit/credit/memstore"
	"github.com/resellerkit/credit/store"
)

// example is a ledger of three records, the same ones in every run.
func example() *store.Ledger {
	ids, now := byte(0), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ctx := context.Background()
	l, err := store.Open(ctx, memstore.New(), credit.Distributor{ID: uuid.UUID{6: 0x40, 8: 0x80, 15: 1}, Name: "Acme Cloud", Currency: "USD"}, store.Options{
		Now:   func() time.Time { now = now.Add(time.Second); return now },
		NewID: func() uuid.UUID { ids++; return uuid.UUID{6: 0x40, 8: 0x80, 14: 1, 15: ids} },
	})
	if err != nil {
		panic(err)
	}
	_, errGrant := l.Grant(ctx, credit.Grant{Amount: decimal.NewFromInt(50_000), Operator: "channel@example.com", Key: "contract-2026"})
	nimbus, errAdd := l.AddReseller(ctx, credit.NewReseller{ExternalID: "200012345678", Name: "Nimbus", Mobile: "+49 151 1234567"})
	_, errAllocate := l.Allocate(ctx, credit.Allocation{ResellerID: nimbus.ResellerID, Amount: decimal.NewFromInt(1_200), Operator: "ops@example.com", Key: "po-4711"})
	if err := errors.Join(errGrant, errAdd, errAllocate); err != nil {
		panic(err)
	}
	return l
}

func ExampleWrite() {
	ctx, ledger := context.Background(), example()
	var file bytes.Buffer // a file, a pipe into a compressor, an upload …
	written, err := archive.Write(ctx, ledger, &file)
	fmt.Println(written.Head.Sequence, "records,", written.Resellers, "reseller,", bytes.Count(file.Bytes(), []byte("\n")), "lines,", err)
	// Output: 3 records, 1 reseller, 7 lines, <nil>
}

// The head, kept somewhere that whoever writes the ledger cannot reach, is what
// tells a true export from one that was cut off or written anew.
func ExampleVerify() {
	ctx, ledger := context.Background(), example()
	head, _ := ledger.Head(ctx)
	kept, _ := json.Marshal(head) // to a file of its own

	_, _ = ledger.Grant(ctx, credit.Grant{Amount: decimal.NewFromInt(1_000)})
	var file bytes.Buffer
	_, _ = archive.Write(ctx, ledger, &file)

	var then credit.Head
	_ = json.Unmarshal(kept, &then)
	found, err := archive.Verify(bytes.NewReader(file.Bytes()), then)
	fmt.Println("record", found.Head.Sequence, "goes on from record", then.Sequence, err)

	forged := bytes.Replace(file.Bytes(), []byte(`"operator":"ops@`), []byte(`"operator":"cio@`), 1)
	_, err = archive.Verify(bytes.NewReader(forged), then)
	var corrupt *credit.CorruptError
	fmt.Println(errors.As(err, &corrupt), "record", corrupt.Sequence)
	_, err = archive.Verify(bytes.NewReader(file.Bytes()[:2000]))
	fmt.Println(err)
	// Output:
	// record 4 goes on from record 3 <nil>
	// true record 3
	// credit: export: line 6: corrupt ledger: record 3: is missing, or not whole: the export was cut off
}

func ExampleImport() {
	ctx, ledger := context.Background(), example()
	var file bytes.Buffer
	written, _ := archive.Write(ctx, ledger, &file)

	another := memstore.New() // or any other store
	imported, err := archive.Import(ctx, another, &file, written.Head)
	if err != nil {
		fmt.Println(err) // run it again: it goes on where it stopped
		return
	}
	copied, err := store.Open(ctx, another, imported.Distributor, store.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	head, _ := copied.Head(ctx)
	fmt.Println("same head:", head.Hash == written.Head.Hash)
	again, _ := copied.Grant(ctx, credit.Grant{Amount: decimal.NewFromInt(50_000), Operator: "channel@example.com", Key: "contract-2026"})
	fmt.Println("replayed:", again.Replayed)
	// Output:
	// same head: true
	// replayed: true
}

func ExampleRecordsCSV() {
	ctx, ledger := context.Background(), example()
	var table bytes.Buffer // write "\ufeff" first if Excel shall open it by double click
	q := credit.RecordQuery{Kinds: credit.AllocationKinds()}
	if err := archive.RecordsCSV(ctx, ledger, q, &table); err != nil {
		fmt.Println(err)
		return
	}
	for line := range bytes.Lines(table.Bytes()) {
		cells := bytes.Split(line, []byte(","))
		fmt.Printf("%s %s %s %s\n", cells[0], cells[2], cells[5], cells[17])
	}
	// Output:
	// sequence kind amount key
	// 3 allocate 1200 po-4711
}

func ExampleResellersCSV() {
	ctx, ledger := context.Background(), example()
	var table bytes.Buffer
	err := archive.ResellersCSV(ctx, ledger, credit.ResellerQuery{}, &table)
	fmt.Print(strings.ReplaceAll(table.String(), "\r", ""), err)
	// Output:
	// id,external_id,name,email,mobile,remark,customers,status,bound_at,allocated,used,available,repossessable,overdraft
	// 00000000-0000-4000-8000-000000000103,200012345678,Nimbus,,"'+49 151 1234567",,0,active,2026-03-01T12:00:02.000000Z,1200,0,1200,1200,0
	// <nil>
}
