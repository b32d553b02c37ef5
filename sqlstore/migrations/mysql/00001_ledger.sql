-- Ledgers, their resellers and their records.
--
-- Amounts are whole millionths of the currency's unit, times whole microseconds since 1970 UTC, ids and hashes raw
-- bytes; the views at the end show them as people write them. Text that is compared is raw bytes of UTF-8, because the
-- usual collations take PO-1 and "po-1 " for one key, and some order ä as a. An empty text stands for one
-- that was not given. The lengths are those that the library allows, in bytes.
--
-- A change of the schema commits by itself, so every statement can be repeated.
--
-- Records are never changed or removed. There are no triggers that see to it, because not all servers that speak this
-- dialect have them: grant the application SELECT and INSERT on the table of records, and no more.
--
-- There is no way down: removing a ledger is not a step of a roll-back.

-- +goose NO TRANSACTION
-- +goose Up

-- A ledger and the head of its log. Every append changes its row first, so that the appends of one ledger queue here.
CREATE TABLE IF NOT EXISTS {{prefix}}ledgers (
    id          BINARY(16)   NOT NULL,
    name        VARCHAR(200) NOT NULL,
    currency    VARCHAR(3)   NOT NULL,
    sequence    BIGINT       NOT NULL,
    hash        BINARY(32)   NOT NULL,
    recorded_at BIGINT,                -- NULL before the first record
    granted     BIGINT       NOT NULL,
    allocated   BIGINT       NOT NULL,
    -- Counts how often somebody waited until what was read is on the disk. It means nothing else.
    confirmed   BIGINT       NOT NULL DEFAULT 0,
    PRIMARY KEY (id),
    CONSTRAINT {{prefix}}ledgers_currency CHECK (currency REGEXP '^[A-Z]{3}$'),
    CONSTRAINT {{prefix}}ledgers_head CHECK (sequence >= 0 AND (sequence = 0) = (recorded_at IS NULL)),
    CONSTRAINT {{prefix}}ledgers_pool CHECK (0 <= allocated AND allocated <= granted AND granted < 1000000000000000000)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {{prefix}}resellers (
    ledger        BINARY(16)     NOT NULL,
    id            BINARY(16)     NOT NULL,
    external_id   VARBINARY(100) NOT NULL,
    bound_at      BIGINT         NOT NULL,
    allocated     BIGINT         NOT NULL,
    used          BIGINT         NOT NULL,
    name          VARCHAR(200)   NOT NULL,
    email         VARBINARY(254) NOT NULL,
    mobile        VARCHAR(50)    NOT NULL,
    remark        VARCHAR(1000)  NOT NULL,
    customers     BIGINT         NOT NULL,
    status        VARBINARY(10)  NOT NULL,
    -- In letters whose case does not count (credit.Fold), for searching and ordering.
    name_folded   VARBINARY(200)  NOT NULL,
    mobile_folded VARBINARY(50)   NOT NULL,
    remark_folded VARBINARY(1000) NOT NULL,
    available     BIGINT         GENERATED ALWAYS AS (allocated - used) STORED,
    -- The ledger's sequence when the row was last changed. Being new each time, it makes the server count a row as
    -- affected also if nothing else in it is new; the number of affected rows then tells whether one is missing.
    last_sequence BIGINT         NOT NULL DEFAULT 0,
    PRIMARY KEY (ledger, id),
    -- No external id is given out twice; also finds resellers by external id.
    UNIQUE KEY {{prefix}}resellers_external_id (ledger, external_id),
    -- The orders in which the resellers of a status are listed, either way round. With the status in front, the few of a
    -- rare one are found without reading the many; a status hardly ever changes. Only the last of them is written with
    -- every change of a balance.
    KEY {{prefix}}resellers_bound (ledger, status, bound_at, id),
    KEY {{prefix}}resellers_name (ledger, status, name_folded, id),
    KEY {{prefix}}resellers_available (ledger, status, available, id),
    -- Finds the resellers with an email address, in the order of their binding. No index finds a part of a name, a mobile
    -- number or a remark: that is looked for along the order of the list.
    KEY {{prefix}}resellers_email (ledger, email, bound_at, id),
    CONSTRAINT {{prefix}}resellers_ledger FOREIGN KEY (ledger) REFERENCES {{prefix}}ledgers (id),
    CONSTRAINT {{prefix}}resellers_status CHECK (status IN ('active', 'frozen', 'closed')),
    CONSTRAINT {{prefix}}resellers_customers CHECK (customers >= 0),
    CONSTRAINT {{prefix}}resellers_allocated CHECK (0 <= allocated AND allocated < 1000000000000000000),
    CONSTRAINT {{prefix}}resellers_used CHECK (-1000000000000000000 < used AND used < 1000000000000000000)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The log. A row holds all that its hash covers. Ids have no index: nothing is looked for by them, and that none comes
-- twice is for whoever makes them to see to. It also is what takes a key: a table of keys would be one more
-- statement for the server to wait for, while everybody else waits for the ledger.
CREATE TABLE IF NOT EXISTS {{prefix}}records (
    ledger           BINARY(16)     NOT NULL,
    sequence         BIGINT         NOT NULL,
    id               BINARY(16)     NOT NULL,
    kind             VARBINARY(10)  NOT NULL,
    reseller         BINARY(16),              -- NULL for the pool's own records
    external_id      VARBINARY(100) NOT NULL DEFAULT '',
    amount           BIGINT         NOT NULL,
    allocated_before BIGINT         NOT NULL,
    used_before      BIGINT         NOT NULL,
    allocated_after  BIGINT         NOT NULL,
    used_after       BIGINT         NOT NULL,
    pool_granted     BIGINT         NOT NULL,
    pool_allocated   BIGINT         NOT NULL,
    operator         VARBINARY(200) NOT NULL DEFAULT '',
    remark           VARCHAR(1000)  NOT NULL DEFAULT '',
    idempotency_key  VARBINARY(200) NOT NULL DEFAULT '',
    fingerprint      BINARY(32),              -- NULL without a key
    reference        VARBINARY(200) NOT NULL DEFAULT '',
    customer         VARBINARY(200) NOT NULL DEFAULT '',
    corrects         BIGINT         NOT NULL DEFAULT 0, -- 0 for none
    metadata         TEXT,                    -- a JSON object of strings, NULL for none
    changed          TEXT,                    -- a JSON array of strings, NULL for none
    occurred_at      BIGINT         NOT NULL,
    recorded_at      BIGINT         NOT NULL,
    hash             BINARY(32)     NOT NULL,
    taken_key        VARBINARY(200) GENERATED ALWAYS AS (NULLIF(idempotency_key, '')) STORED,
    PRIMARY KEY (ledger, sequence),
    -- Refuses a key that is taken, and finds the record that took it. NULLs do not collide.
    UNIQUE KEY {{prefix}}records_key (ledger, taken_key),
    -- Lists one reseller's records by sequence, either way round. With the kind in it, the newest of some kinds is found
    -- without reading rows.
    KEY {{prefix}}records_reseller (ledger, reseller, sequence, kind),
    -- The same for the records of a kind, an operator, a reference and a customer. InnoDB has no index without the rows
    -- that give none; the last two cost the server 2 of 20 microseconds a record. When something happened has no index: it
    -- is looked for along the log.
    KEY {{prefix}}records_kind (ledger, kind, sequence),
    KEY {{prefix}}records_operator (ledger, operator, sequence),
    KEY {{prefix}}records_reference (ledger, reference, sequence),
    KEY {{prefix}}records_customer (ledger, customer, sequence),
    -- None for the ledger, whose row every append takes first.
    CONSTRAINT {{prefix}}records_reseller FOREIGN KEY (ledger, reseller) REFERENCES {{prefix}}resellers (ledger, id),
    CONSTRAINT {{prefix}}records_sequence CHECK (0 < sequence AND 0 <= corrects AND corrects < sequence),
    CONSTRAINT {{prefix}}records_amount CHECK (-1000000000000000000 < amount AND amount < 1000000000000000000),
    CONSTRAINT {{prefix}}records_allocated CHECK (0 <= allocated_before AND allocated_before < 1000000000000000000
        AND 0 <= allocated_after AND allocated_after < 1000000000000000000),
    CONSTRAINT {{prefix}}records_used CHECK (-1000000000000000000 < used_before AND used_before < 1000000000000000000
        AND -1000000000000000000 < used_after AND used_after < 1000000000000000000),
    CONSTRAINT {{prefix}}records_pool CHECK (0 <= pool_allocated AND pool_allocated <= pool_granted AND pool_granted < 1000000000000000000),
    CONSTRAINT {{prefix}}records_print CHECK ((idempotency_key = '') = (fingerprint IS NULL))
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Which record took a key.
CREATE OR REPLACE SQL SECURITY INVOKER VIEW {{prefix}}keys AS
SELECT ledger, taken_key AS idempotency_key, sequence FROM {{prefix}}records WHERE taken_key IS NOT NULL;

-- The views are for people: amounts as exact decimals, times in UTC whatever the time zone of the session, ids and
-- hashes in hexadecimal. They multiply, because the digits of a quotient depend on a setting. They are read with the
-- rights of whoever asks.

CREATE OR REPLACE SQL SECURITY INVOKER VIEW {{prefix}}pool_view AS
SELECT
    LOWER(CONCAT_WS('-', SUBSTR(HEX(id), 1, 8), SUBSTR(HEX(id), 9, 4), SUBSTR(HEX(id), 13, 4), SUBSTR(HEX(id), 17, 4), SUBSTR(HEX(id), 21))) AS ledger,
    name,
    currency,
    CAST(granted * 0.000001 AS DECIMAL(18, 6)) AS granted,
    CAST(allocated * 0.000001 AS DECIMAL(18, 6)) AS allocated,
    CAST((granted - allocated) * 0.000001 AS DECIMAL(18, 6)) AS remaining,
    sequence,
    LOWER(HEX(hash)) AS hash,
    CAST('1970-01-01' AS DATETIME(6)) + INTERVAL recorded_at MICROSECOND AS recorded_at
FROM {{prefix}}ledgers;

CREATE OR REPLACE SQL SECURITY INVOKER VIEW {{prefix}}reseller_view AS
SELECT
    LOWER(CONCAT_WS('-', SUBSTR(HEX(ledger), 1, 8), SUBSTR(HEX(ledger), 9, 4), SUBSTR(HEX(ledger), 13, 4), SUBSTR(HEX(ledger), 17, 4), SUBSTR(HEX(ledger), 21))) AS ledger,
    LOWER(CONCAT_WS('-', SUBSTR(HEX(id), 1, 8), SUBSTR(HEX(id), 9, 4), SUBSTR(HEX(id), 13, 4), SUBSTR(HEX(id), 17, 4), SUBSTR(HEX(id), 21))) AS id,
    CONVERT(external_id USING utf8mb4) AS external_id,
    name,
    CONVERT(email USING utf8mb4) AS email,
    mobile,
    remark,
    customers,
    CONVERT(status USING utf8mb4) AS status,
    CAST('1970-01-01' AS DATETIME(6)) + INTERVAL bound_at MICROSECOND AS bound_at,
    CAST(allocated * 0.000001 AS DECIMAL(18, 6)) AS allocated,
    CAST(used * 0.000001 AS DECIMAL(18, 6)) AS used,
    CAST(available * 0.000001 AS DECIMAL(19, 6)) AS available
FROM {{prefix}}resellers;

CREATE OR REPLACE SQL SECURITY INVOKER VIEW {{prefix}}record_view AS
SELECT
    LOWER(CONCAT_WS('-', SUBSTR(HEX(ledger), 1, 8), SUBSTR(HEX(ledger), 9, 4), SUBSTR(HEX(ledger), 13, 4), SUBSTR(HEX(ledger), 17, 4), SUBSTR(HEX(ledger), 21))) AS ledger,
    sequence,
    LOWER(CONCAT_WS('-', SUBSTR(HEX(id), 1, 8), SUBSTR(HEX(id), 9, 4), SUBSTR(HEX(id), 13, 4), SUBSTR(HEX(id), 17, 4), SUBSTR(HEX(id), 21))) AS id,
    CONVERT(kind USING utf8mb4) AS kind,
    IF(reseller IS NULL, NULL, LOWER(CONCAT_WS('-', SUBSTR(HEX(reseller), 1, 8), SUBSTR(HEX(reseller), 9, 4), SUBSTR(HEX(reseller), 13, 4), SUBSTR(HEX(reseller), 17, 4), SUBSTR(HEX(reseller), 21)))) AS reseller,
    CONVERT(external_id USING utf8mb4) AS external_id,
    CAST(amount * 0.000001 AS DECIMAL(18, 6)) AS amount,
    CAST(allocated_before * 0.000001 AS DECIMAL(18, 6)) AS allocated_before,
    CAST(allocated_after * 0.000001 AS DECIMAL(18, 6)) AS allocated_after,
    CAST(used_before * 0.000001 AS DECIMAL(18, 6)) AS used_before,
    CAST(used_after * 0.000001 AS DECIMAL(18, 6)) AS used_after,
    CAST((allocated_before - used_before) * 0.000001 AS DECIMAL(19, 6)) AS available_before,
    CAST((allocated_after - used_after) * 0.000001 AS DECIMAL(19, 6)) AS available_after,
    CAST(pool_granted * 0.000001 AS DECIMAL(18, 6)) AS pool_granted,
    CAST(pool_allocated * 0.000001 AS DECIMAL(18, 6)) AS pool_allocated,
    CAST((pool_granted - pool_allocated) * 0.000001 AS DECIMAL(18, 6)) AS pool_remaining,
    CONVERT(operator USING utf8mb4) AS operator,
    remark,
    CONVERT(idempotency_key USING utf8mb4) AS idempotency_key,
    LOWER(HEX(fingerprint)) AS fingerprint,
    CONVERT(reference USING utf8mb4) AS reference,
    CONVERT(customer USING utf8mb4) AS customer,
    NULLIF(corrects, 0) AS corrects,
    metadata,
    changed,
    CAST('1970-01-01' AS DATETIME(6)) + INTERVAL occurred_at MICROSECOND AS occurred_at,
    CAST('1970-01-01' AS DATETIME(6)) + INTERVAL recorded_at MICROSECOND AS recorded_at,
    LOWER(HEX(hash)) AS hash
FROM {{prefix}}records;
