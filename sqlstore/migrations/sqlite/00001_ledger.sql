-- Ledgers, their resellers and their records.
--
-- Amounts are whole millionths of the currency's unit, times whole microseconds since 1970 UTC, ids and hashes raw
-- bytes; the views at the end show them as people write them. Text is compared byte by byte. An empty text stands for
-- one that was not given.
--
-- There is no way down: removing a ledger is not a step of a roll-back.

-- +goose Up

-- A ledger and the head of its log. Every append changes its row first, so that the appends of one ledger queue here.
CREATE TABLE {{prefix}}ledgers (
    id          BLOB    NOT NULL,
    name        TEXT    NOT NULL,
    currency    TEXT    NOT NULL,
    sequence    INTEGER NOT NULL,
    hash        BLOB    NOT NULL,
    recorded_at INTEGER,          -- NULL before the first record
    granted     INTEGER NOT NULL,
    allocated   INTEGER NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT {{prefix}}ledgers_id CHECK (length(id) = 16),
    CONSTRAINT {{prefix}}ledgers_currency CHECK (currency GLOB '[A-Z][A-Z][A-Z]'),
    CONSTRAINT {{prefix}}ledgers_head CHECK (sequence >= 0 AND (sequence = 0) = (recorded_at IS NULL) AND length(hash) = 32),
    CONSTRAINT {{prefix}}ledgers_pool CHECK (0 <= allocated AND allocated <= granted AND granted < 1000000000000000000)
) STRICT, WITHOUT ROWID;

CREATE TABLE {{prefix}}resellers (
    ledger      BLOB    NOT NULL,
    id          BLOB    NOT NULL,
    external_id TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    email       TEXT    NOT NULL,
    mobile      TEXT    NOT NULL,
    remark      TEXT    NOT NULL,
    customers   INTEGER NOT NULL,
    status      TEXT    NOT NULL,
    bound_at    INTEGER NOT NULL,
    allocated   INTEGER NOT NULL,
    used        INTEGER NOT NULL,
    available   INTEGER NOT NULL GENERATED ALWAYS AS (allocated - used) VIRTUAL,
    -- In letters whose case does not count (credit.Fold), for searching and ordering.
    name_folded   TEXT  NOT NULL,
    mobile_folded TEXT  NOT NULL,
    remark_folded TEXT  NOT NULL,
    PRIMARY KEY (ledger, id),
    FOREIGN KEY (ledger) REFERENCES {{prefix}}ledgers (id),
    CONSTRAINT {{prefix}}resellers_id CHECK (length(id) = 16),
    CONSTRAINT {{prefix}}resellers_status CHECK (status IN ('active', 'frozen', 'closed')),
    CONSTRAINT {{prefix}}resellers_customers CHECK (customers >= 0),
    CONSTRAINT {{prefix}}resellers_allocated CHECK (0 <= allocated AND allocated < 1000000000000000000),
    CONSTRAINT {{prefix}}resellers_used CHECK (-1000000000000000000 < used AND used < 1000000000000000000)
) STRICT, WITHOUT ROWID;

-- No external id is given out twice; also finds resellers by external id.
CREATE UNIQUE INDEX {{prefix}}resellers_external_id ON {{prefix}}resellers (ledger, external_id);

-- The orders in which the resellers of a status are listed, either way round. With the status in front, the few of a rare
-- one are found without reading the many; a status hardly ever changes. Only the last of them is written with every
-- change of a balance.
CREATE INDEX {{prefix}}resellers_bound ON {{prefix}}resellers (ledger, status, bound_at, id);
CREATE INDEX {{prefix}}resellers_name ON {{prefix}}resellers (ledger, status, name_folded, id);
CREATE INDEX {{prefix}}resellers_available ON {{prefix}}resellers (ledger, status, available, id);

-- Finds the resellers with an email address, in the order of their binding.
CREATE INDEX {{prefix}}resellers_email ON {{prefix}}resellers (ledger, email, bound_at, id) WHERE email <> '';

-- No index finds a part of a name, a mobile number or a remark: that is looked for along the order of the list.

-- The log. A row holds all that its hash covers. Ids have no index: nothing is looked for by them, and that none comes
-- twice is for whoever makes them to see to.
CREATE TABLE {{prefix}}records (
    ledger           BLOB    NOT NULL,
    sequence         INTEGER NOT NULL,
    id               BLOB    NOT NULL,
    kind             TEXT    NOT NULL,
    reseller         BLOB,             -- NULL for the pool's own records
    external_id      TEXT    NOT NULL,
    amount           INTEGER NOT NULL,
    allocated_before INTEGER NOT NULL,
    used_before      INTEGER NOT NULL,
    allocated_after  INTEGER NOT NULL,
    used_after       INTEGER NOT NULL,
    pool_granted     INTEGER NOT NULL,
    pool_allocated   INTEGER NOT NULL,
    operator         TEXT    NOT NULL,
    remark           TEXT    NOT NULL,
    idempotency_key  TEXT    NOT NULL,
    fingerprint      BLOB,             -- NULL without a key
    reference        TEXT    NOT NULL,
    customer         TEXT    NOT NULL,
    corrects         INTEGER NOT NULL, -- 0 for none
    metadata         TEXT,             -- a JSON object of strings, NULL for none
    changed          TEXT,             -- a JSON array of strings, NULL for none
    occurred_at      INTEGER NOT NULL,
    recorded_at      INTEGER NOT NULL,
    hash             BLOB    NOT NULL,
    PRIMARY KEY (ledger, sequence),
    FOREIGN KEY (ledger) REFERENCES {{prefix}}ledgers (id),
    FOREIGN KEY (ledger, reseller) REFERENCES {{prefix}}resellers (ledger, id),
    CONSTRAINT {{prefix}}records_id CHECK (length(id) = 16),
    CONSTRAINT {{prefix}}records_sequence CHECK (0 < sequence AND 0 <= corrects AND corrects < sequence),
    CONSTRAINT {{prefix}}records_amount CHECK (-1000000000000000000 < amount AND amount < 1000000000000000000),
    CONSTRAINT {{prefix}}records_allocated CHECK (0 <= allocated_before AND allocated_before < 1000000000000000000
        AND 0 <= allocated_after AND allocated_after < 1000000000000000000),
    CONSTRAINT {{prefix}}records_used CHECK (-1000000000000000000 < used_before AND used_before < 1000000000000000000
        AND -1000000000000000000 < used_after AND used_after < 1000000000000000000),
    CONSTRAINT {{prefix}}records_pool CHECK (0 <= pool_allocated AND pool_allocated <= pool_granted AND pool_granted < 1000000000000000000),
    CONSTRAINT {{prefix}}records_key CHECK ((idempotency_key = '') = (fingerprint IS NULL)),
    CONSTRAINT {{prefix}}records_hash CHECK (length(hash) = 32)
) STRICT, WITHOUT ROWID;

-- Lists one reseller's records by sequence, either way round. With the kind in it, the newest of some kinds is found
-- without reading rows.
CREATE INDEX {{prefix}}records_reseller ON {{prefix}}records (ledger, reseller, sequence, kind);

-- The same for the records of a kind, an operator, a reference and a customer. What is not given is not indexed, and so
-- costs nothing. When something happened has no index: it is looked for along the log.
CREATE INDEX {{prefix}}records_kind ON {{prefix}}records (ledger, kind, sequence);
CREATE INDEX {{prefix}}records_operator ON {{prefix}}records (ledger, operator, sequence) WHERE operator <> '';
CREATE INDEX {{prefix}}records_reference ON {{prefix}}records (ledger, reference, sequence) WHERE reference <> '';
CREATE INDEX {{prefix}}records_customer ON {{prefix}}records (ledger, customer, sequence) WHERE customer <> '';

-- Which record took a key. A table of its own, because a key is looked up on every append and kept for ever.
CREATE TABLE {{prefix}}keys (
    ledger          BLOB    NOT NULL,
    idempotency_key TEXT    NOT NULL,
    sequence        INTEGER NOT NULL,
    PRIMARY KEY (ledger, idempotency_key),
    FOREIGN KEY (ledger, sequence) REFERENCES {{prefix}}records (ledger, sequence)
) STRICT, WITHOUT ROWID;

-- +goose StatementBegin
CREATE TRIGGER {{prefix}}records_no_update BEFORE UPDATE ON {{prefix}}records BEGIN
    SELECT RAISE(ABORT, 'records of a ledger are never changed; record a correction');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER {{prefix}}records_no_delete BEFORE DELETE ON {{prefix}}records BEGIN
    SELECT RAISE(ABORT, 'records of a ledger are never removed; record a correction');
END;
-- +goose StatementEnd

-- The views are for people: amounts as exact decimals (text, so that nothing rounds them; add up the columns of the
-- tables instead), times as ISO 8601 in UTC, ids and hashes in hexadecimal. Division in SQLite truncates towards zero,
-- hence the care with negative numbers.

-- +goose StatementBegin
CREATE VIEW {{prefix}}pool_view AS
SELECT
    lower(substr(hex(id), 1, 8) || '-' || substr(hex(id), 9, 4) || '-' || substr(hex(id), 13, 4) || '-' || substr(hex(id), 17, 4) || '-' || substr(hex(id), 21)) AS ledger,
    name,
    currency,
    rtrim(rtrim(printf('%d.%06d', granted / 1000000, granted % 1000000), '0'), '.') AS granted,
    rtrim(rtrim(printf('%d.%06d', allocated / 1000000, allocated % 1000000), '0'), '.') AS allocated,
    rtrim(rtrim(printf('%d.%06d', remaining / 1000000, remaining % 1000000), '0'), '.') AS remaining,
    sequence,
    lower(hex(hash)) AS hash,
    strftime('%Y-%m-%dT%H:%M:%S', recorded_at / 1000000 - (recorded_at % 1000000 < 0), 'unixepoch')
        || printf('.%06dZ', (recorded_at % 1000000 + 1000000) % 1000000) AS recorded_at
FROM (SELECT *, granted - allocated AS remaining FROM {{prefix}}ledgers);
-- +goose StatementEnd

-- +goose StatementBegin
CREATE VIEW {{prefix}}reseller_view AS
SELECT
    lower(substr(hex(ledger), 1, 8) || '-' || substr(hex(ledger), 9, 4) || '-' || substr(hex(ledger), 13, 4) || '-' || substr(hex(ledger), 17, 4) || '-' || substr(hex(ledger), 21)) AS ledger,
    lower(substr(hex(id), 1, 8) || '-' || substr(hex(id), 9, 4) || '-' || substr(hex(id), 13, 4) || '-' || substr(hex(id), 17, 4) || '-' || substr(hex(id), 21)) AS id,
    external_id,
    name,
    email,
    mobile,
    remark,
    customers,
    status,
    strftime('%Y-%m-%dT%H:%M:%S', bound_at / 1000000 - (bound_at % 1000000 < 0), 'unixepoch')
        || printf('.%06dZ', (bound_at % 1000000 + 1000000) % 1000000) AS bound_at,
    rtrim(rtrim(printf('%d.%06d', allocated / 1000000, allocated % 1000000), '0'), '.') AS allocated,
    rtrim(rtrim(printf('%s%d.%06d', iif(used < 0, '-', ''), abs(used / 1000000), abs(used % 1000000)), '0'), '.') AS used,
    rtrim(rtrim(printf('%s%d.%06d', iif(available < 0, '-', ''), abs(available / 1000000), abs(available % 1000000)), '0'), '.') AS available
FROM (SELECT *, allocated - used AS available FROM {{prefix}}resellers);
-- +goose StatementEnd

-- +goose StatementBegin
CREATE VIEW {{prefix}}record_view AS
SELECT
    lower(substr(hex(ledger), 1, 8) || '-' || substr(hex(ledger), 9, 4) || '-' || substr(hex(ledger), 13, 4) || '-' || substr(hex(ledger), 17, 4) || '-' || substr(hex(ledger), 21)) AS ledger,
    sequence,
    lower(substr(hex(id), 1, 8) || '-' || substr(hex(id), 9, 4) || '-' || substr(hex(id), 13, 4) || '-' || substr(hex(id), 17, 4) || '-' || substr(hex(id), 21)) AS id,
    kind,
    iif(reseller IS NULL, NULL, lower(substr(hex(reseller), 1, 8) || '-' || substr(hex(reseller), 9, 4) || '-' || substr(hex(reseller), 13, 4) || '-' || substr(hex(reseller), 17, 4) || '-' || substr(hex(reseller), 21))) AS reseller,
    external_id,
    rtrim(rtrim(printf('%s%d.%06d', iif(amount < 0, '-', ''), abs(amount / 1000000), abs(amount % 1000000)), '0'), '.') AS amount,
    rtrim(rtrim(printf('%d.%06d', allocated_before / 1000000, allocated_before % 1000000), '0'), '.') AS allocated_before,
    rtrim(rtrim(printf('%d.%06d', allocated_after / 1000000, allocated_after % 1000000), '0'), '.') AS allocated_after,
    rtrim(rtrim(printf('%s%d.%06d', iif(used_before < 0, '-', ''), abs(used_before / 1000000), abs(used_before % 1000000)), '0'), '.') AS used_before,
    rtrim(rtrim(printf('%s%d.%06d', iif(used_after < 0, '-', ''), abs(used_after / 1000000), abs(used_after % 1000000)), '0'), '.') AS used_after,
    rtrim(rtrim(printf('%s%d.%06d', iif(available_before < 0, '-', ''), abs(available_before / 1000000), abs(available_before % 1000000)), '0'), '.') AS available_before,
    rtrim(rtrim(printf('%s%d.%06d', iif(available_after < 0, '-', ''), abs(available_after / 1000000), abs(available_after % 1000000)), '0'), '.') AS available_after,
    rtrim(rtrim(printf('%d.%06d', pool_granted / 1000000, pool_granted % 1000000), '0'), '.') AS pool_granted,
    rtrim(rtrim(printf('%d.%06d', pool_allocated / 1000000, pool_allocated % 1000000), '0'), '.') AS pool_allocated,
    rtrim(rtrim(printf('%d.%06d', pool_remaining / 1000000, pool_remaining % 1000000), '0'), '.') AS pool_remaining,
    operator,
    remark,
    idempotency_key,
    lower(hex(fingerprint)) AS fingerprint,
    reference,
    customer,
    nullif(corrects, 0) AS corrects,
    metadata,
    changed,
    strftime('%Y-%m-%dT%H:%M:%S', occurred_at / 1000000 - (occurred_at % 1000000 < 0), 'unixepoch')
        || printf('.%06dZ', (occurred_at % 1000000 + 1000000) % 1000000) AS occurred_at,
    strftime('%Y-%m-%dT%H:%M:%S', recorded_at / 1000000 - (recorded_at % 1000000 < 0), 'unixepoch')
        || printf('.%06dZ', (recorded_at % 1000000 + 1000000) % 1000000) AS recorded_at,
    lower(hex(hash)) AS hash
FROM (SELECT *, allocated_before - used_before AS available_before, allocated_after - used_after AS available_after,
    pool_granted - pool_allocated AS pool_remaining FROM {{prefix}}records);
-- +goose StatementEnd
