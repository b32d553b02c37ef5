-- Of a row that is changed a thousand times while a snapshot is open (a dump, a report), a thousand versions stay, each with
-- an entry in the primary key that is like all the others: whoever looks for the row visits them, and so does the check that
-- the key is unique, for each new one. With the sequence of the change in the key no two are alike, the newest comes first,
-- and nobody looks at the others.
--
-- Nobody can write until the new key is there, for about a second with a million resellers.
--
-- That a reseller has one balance follows from the reseller being one: both rows are inserted by one statement.

-- +goose Up

-- Whoever wants the table waits behind this step, and this step behind whoever has read the table in a transaction that is
-- still open. So it does not wait for long, but fails: then try again once that transaction has ended.
SET LOCAL lock_timeout = '500ms';

-- The sequence of the head with which the row was written; 0 in rows that were written before there was this column.
ALTER TABLE {{schema}}{{prefix}}balances ADD COLUMN sequence bigint NOT NULL DEFAULT 0;
ALTER TABLE {{schema}}{{prefix}}balances
    DROP CONSTRAINT {{prefix}}balances_pkey,
    ADD CONSTRAINT {{prefix}}balances_pkey PRIMARY KEY (id, ledger, sequence);
