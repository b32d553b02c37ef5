-- Ledgers, their resellers and their records.
--
-- Amounts are whole millionths of the currency's unit, times whole microseconds since 1970 UTC, hashes raw bytes; the
-- views at the end show them as people write them. Text is compared byte by byte (COLLATE "C"). An empty text stands
-- for one that was not given.
--
-- There are no foreign keys. The statement that appends takes the ledger from the row that it has just locked, and the
-- records of the keys from those that it has just written, and counts what it changes. Looking each of them up again,
-- row by row, took more than half of its time. What must not be removed is guarded by triggers.
--
-- Before the database has statistics, it takes a ledger to have hardly any rows, and an index that begins with the
-- ledger to be as good as the one for the value that is looked for. So no table has two that begin with the ledger.
--
-- There is no way down: removing a ledger is not a step of a roll-back.

-- +goose Up

-- A ledger and the head of its log. Every append changes its row first, so that the appends of one ledger queue here.
-- Half of each page is left free, and no index has a column that changes: then a new version of the row stays on its
-- page, no index is written, and the old versions are cleared away in passing (a heap-only tuple).
CREATE TABLE {{schema}}{{prefix}}ledgers (
    id          uuid   NOT NULL,
    name        text   COLLATE "C" NOT NULL,
    currency    text   COLLATE "C" NOT NULL,
    sequence    bigint NOT NULL,
    hash        bytea  NOT NULL,
    recorded_at bigint,           -- NULL before the first record
    granted     bigint NOT NULL,
    allocated   bigint NOT NULL,
    CONSTRAINT {{prefix}}ledgers_pkey PRIMARY KEY (id),
    CONSTRAINT {{prefix}}ledgers_currency CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT {{prefix}}ledgers_head CHECK (sequence >= 0 AND (sequence = 0) = (recorded_at IS NULL) AND length(hash) = 32),
    CONSTRAINT {{prefix}}ledgers_pool CHECK (0 <= allocated AND allocated <= granted AND granted < 1000000000000000000)
) WITH (fillfactor = 50);

-- What an append hardly ever changes of a reseller; the rest is in the balances. Nothing of it may be in one row with a
-- figure that an index has: then every change of the figure would write each index of the row again, four times the work
-- that it is now.
CREATE TABLE {{schema}}{{prefix}}resellers (
    ledger        uuid   NOT NULL,
    id            uuid   NOT NULL,
    external_id   text   COLLATE "C" NOT NULL,
    bound_at      bigint NOT NULL,
    name          text   COLLATE "C" NOT NULL,
    email         text   COLLATE "C" NOT NULL,
    mobile        text   COLLATE "C" NOT NULL,
    remark        text   COLLATE "C" NOT NULL,
    customers     bigint NOT NULL,
    status        text   COLLATE "C" NOT NULL,
    -- In letters whose case does not count (credit.Fold), for searching and ordering.
    name_folded   text   COLLATE "C" NOT NULL,
    mobile_folded text   COLLATE "C" NOT NULL,
    remark_folded text   COLLATE "C" NOT NULL,
    CONSTRAINT {{prefix}}resellers_pkey PRIMARY KEY (id, ledger),
    -- No external id is given out twice; also finds resellers by external id.
    CONSTRAINT {{prefix}}resellers_external UNIQUE (external_id, ledger),
    CONSTRAINT {{prefix}}resellers_status CHECK (status IN ('active', 'frozen', 'closed')),
    CONSTRAINT {{prefix}}resellers_customers CHECK (customers >= 0)
);

-- The orders in which the resellers of a status are listed, either way round. With the status in front, the few of a rare
-- one are found without reading the many. Written when a reseller is added, renamed, frozen or closed.
CREATE INDEX {{prefix}}resellers_bound ON {{schema}}{{prefix}}resellers (status, ledger, bound_at, id);
CREATE INDEX {{prefix}}resellers_name ON {{schema}}{{prefix}}resellers (status, ledger, name_folded, id);

-- Finds the resellers with an email address, in the order of their binding. No index finds a part of a name, a mobile
-- number or a remark: that is looked for along the order of the list.
CREATE INDEX {{prefix}}resellers_email ON {{schema}}{{prefix}}resellers (email, ledger, bound_at, id) WHERE email <> '';

-- The figures of each reseller, which appends change. The status is the reseller's.
CREATE TABLE {{schema}}{{prefix}}balances (
    ledger    uuid   NOT NULL,
    id        uuid   NOT NULL,
    status    text   COLLATE "C" NOT NULL,
    allocated bigint NOT NULL,
    used      bigint NOT NULL,
    available bigint NOT NULL GENERATED ALWAYS AS (allocated - used) STORED,
    CONSTRAINT {{prefix}}balances_pkey PRIMARY KEY (id, ledger),
    CONSTRAINT {{prefix}}balances_status CHECK (status IN ('active', 'frozen', 'closed')),
    CONSTRAINT {{prefix}}balances_allocated CHECK (0 <= allocated AND allocated < 1000000000000000000),
    CONSTRAINT {{prefix}}balances_used CHECK (-1000000000000000000 < used AND used < 1000000000000000000)
) WITH (fillfactor = 70);

-- Lists the resellers of a status by their available credit, either way round. The one index that costs something with
-- every change of a balance.
CREATE INDEX {{prefix}}balances_available ON {{schema}}{{prefix}}balances (status, ledger, available, id);

-- The log. A row holds all that its hash covers. Ids have no index: nothing is looked for by them, and that none comes
-- twice is for whoever makes them to see to.
CREATE TABLE {{schema}}{{prefix}}records (
    ledger           uuid   NOT NULL,
    sequence         bigint NOT NULL,
    id               uuid   NOT NULL,
    kind             text   COLLATE "C" NOT NULL,
    reseller         uuid,            -- NULL for the pool's own records
    external_id      text   COLLATE "C" NOT NULL,
    amount           bigint NOT NULL,
    allocated_before bigint NOT NULL,
    used_before      bigint NOT NULL,
    allocated_after  bigint NOT NULL,
    used_after       bigint NOT NULL,
    pool_granted     bigint NOT NULL,
    pool_allocated   bigint NOT NULL,
    operator         text   COLLATE "C" NOT NULL,
    remark           text   COLLATE "C" NOT NULL,
    idempotency_key  text   COLLATE "C" NOT NULL,
    fingerprint      bytea,           -- NULL without a key
    reference        text   COLLATE "C" NOT NULL,
    customer         text   COLLATE "C" NOT NULL,
    corrects         bigint NOT NULL, -- 0 for none
    metadata         jsonb,           -- an object of strings, NULL for none
    changed          jsonb,           -- an array of strings, NULL for none
    occurred_at      bigint NOT NULL,
    recorded_at      bigint NOT NULL,
    hash             bytea  NOT NULL,
    CONSTRAINT {{prefix}}records_pkey PRIMARY KEY (ledger, sequence),
    CONSTRAINT {{prefix}}records_sequence CHECK (0 < sequence AND 0 <= corrects AND corrects < sequence),
    CONSTRAINT {{prefix}}records_key CHECK ((idempotency_key = '') = (fingerprint IS NULL)),
    CONSTRAINT {{prefix}}records_hash CHECK (length(hash) = 32)
);

-- Lists one reseller's records by sequence, either way round. With the kind in it, the newest of some kinds is found
-- without reading rows.
CREATE INDEX {{prefix}}records_of_reseller ON {{schema}}{{prefix}}records (reseller, ledger, sequence) INCLUDE (kind) WHERE reseller IS NOT NULL;

-- The same for the records of a kind, an operator, a reference and a customer. What is not given is not indexed, and so
-- costs nothing. When something happened has no index: it is looked for along the log.
CREATE INDEX {{prefix}}records_kind ON {{schema}}{{prefix}}records (kind, ledger, sequence);
CREATE INDEX {{prefix}}records_operator ON {{schema}}{{prefix}}records (operator, ledger, sequence) WHERE operator <> '';
CREATE INDEX {{prefix}}records_reference ON {{schema}}{{prefix}}records (reference, ledger, sequence) WHERE reference <> '';
CREATE INDEX {{prefix}}records_customer ON {{schema}}{{prefix}}records (customer, ledger, sequence) WHERE customer <> '';

-- Which record took a key. A table of its own, because a key is looked up on every append and kept for ever.
CREATE TABLE {{schema}}{{prefix}}keys (
    ledger          uuid   NOT NULL,
    idempotency_key text   COLLATE "C" NOT NULL,
    sequence        bigint NOT NULL,
    CONSTRAINT {{prefix}}keys_pkey PRIMARY KEY (ledger, idempotency_key)
);

-- Whether a row is looked at: always. The planner is told that finding this out is expensive, so that it finds rows by an
-- index also in a table that it takes for small; a plan that reads the whole table stays in use while the table grows.
-- A function in SQL would be seen through.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}{{prefix}}by_index(ledger uuid) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 10000 AS $$
BEGIN
    RETURN true;
END $$;
-- +goose StatementEnd

-- The rows that an append sends, all of them as one parameter. The types are apart from the tables so that a column
-- that a later step adds to a table does not change what a running program must send.
CREATE TYPE {{schema}}{{prefix}}reseller_row AS (
    id            uuid,
    external_id   text,
    bound_at      bigint,
    allocated     bigint,
    used          bigint,
    name          text,
    email         text,
    mobile        text,
    remark        text,
    customers     bigint,
    status        text,
    name_folded   text,
    mobile_folded text,
    remark_folded text
);

CREATE TYPE {{schema}}{{prefix}}balance_row AS (
    id        uuid,
    status    text,
    allocated bigint,
    used      bigint
);

CREATE TYPE {{schema}}{{prefix}}record_row AS (
    sequence         bigint,
    id               uuid,
    kind             text,
    reseller         uuid,
    external_id      text,
    amount           bigint,
    allocated_before bigint,
    used_before      bigint,
    allocated_after  bigint,
    used_after       bigint,
    pool_granted     bigint,
    pool_allocated   bigint,
    operator         text,
    remark           text,
    idempotency_key  text,
    fingerprint      bytea,
    reference        text,
    customer         text,
    corrects         bigint,
    metadata         jsonb,
    changed          jsonb,
    occurred_at      bigint,
    recorded_at      bigint,
    hash             bytea
);

-- +goose StatementBegin
CREATE FUNCTION {{schema}}{{prefix}}refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on %: what a ledger has recorded is never changed or removed; record a correction', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;
-- +goose StatementEnd

-- Once for each statement, and never for an append.
CREATE TRIGGER {{prefix}}records_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON {{schema}}{{prefix}}records
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}{{prefix}}refuse();
CREATE TRIGGER {{prefix}}keys_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON {{schema}}{{prefix}}keys
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}{{prefix}}refuse();
CREATE TRIGGER {{prefix}}resellers_kept BEFORE DELETE OR TRUNCATE ON {{schema}}{{prefix}}resellers
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}{{prefix}}refuse();
CREATE TRIGGER {{prefix}}balances_kept BEFORE DELETE OR TRUNCATE ON {{schema}}{{prefix}}balances
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}{{prefix}}refuse();
CREATE TRIGGER {{prefix}}ledgers_kept BEFORE DELETE OR TRUNCATE ON {{schema}}{{prefix}}ledgers
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}{{prefix}}refuse();

-- The views are for people: amounts as exact decimals, times with their zone, hashes in hexadecimal. Times are added
-- up from seconds and the rest, because a number of microseconds may not fit the factor of an interval exactly.

CREATE VIEW {{schema}}{{prefix}}pool_view AS
SELECT
    id AS ledger,
    name,
    currency,
    granted * 0.000001 AS granted,
    allocated * 0.000001 AS allocated,
    (granted - allocated) * 0.000001 AS remaining,
    sequence,
    encode(hash, 'hex') AS hash,
    TIMESTAMPTZ 'epoch' + recorded_at / 1000000 * INTERVAL '1 second' + recorded_at % 1000000 * INTERVAL '1 microsecond' AS recorded_at
FROM {{schema}}{{prefix}}ledgers;

CREATE VIEW {{schema}}{{prefix}}reseller_view AS
SELECT
    ledger,
    id,
    external_id,
    name,
    email,
    mobile,
    remark,
    customers,
    r.status,
    TIMESTAMPTZ 'epoch' + bound_at / 1000000 * INTERVAL '1 second' + bound_at % 1000000 * INTERVAL '1 microsecond' AS bound_at,
    allocated * 0.000001 AS allocated,
    used * 0.000001 AS used,
    available * 0.000001 AS available
FROM {{schema}}{{prefix}}resellers AS r JOIN {{schema}}{{prefix}}balances USING (ledger, id);

CREATE VIEW {{schema}}{{prefix}}record_view AS
SELECT
    ledger,
    sequence,
    id,
    kind,
    reseller,
    external_id,
    amount * 0.000001 AS amount,
    allocated_before * 0.000001 AS allocated_before,
    allocated_after * 0.000001 AS allocated_after,
    used_before * 0.000001 AS used_before,
    used_after * 0.000001 AS used_after,
    (allocated_before - used_before) * 0.000001 AS available_before,
    (allocated_after - used_after) * 0.000001 AS available_after,
    pool_granted * 0.000001 AS pool_granted,
    pool_allocated * 0.000001 AS pool_allocated,
    (pool_granted - pool_allocated) * 0.000001 AS pool_remaining,
    operator,
    remark,
    idempotency_key,
    encode(fingerprint, 'hex') AS fingerprint,
    reference,
    customer,
    nullif(corrects, 0) AS corrects,
    metadata,
    changed,
    TIMESTAMPTZ 'epoch' + occurred_at / 1000000 * INTERVAL '1 second' + occurred_at % 1000000 * INTERVAL '1 microsecond' AS occurred_at,
    TIMESTAMPTZ 'epoch' + recorded_at / 1000000 * INTERVAL '1 second' + recorded_at % 1000000 * INTERVAL '1 microsecond' AS recorded_at,
    encode(hash, 'hex') AS hash
FROM {{schema}}{{prefix}}records;
