-- A recording: calls of the user's own application. Structure, never text, unless its run keeps text.
CREATE TABLE recorded_calls (
    call_id          UUID NOT NULL,
    trial_id         UUID NOT NULL,
    run_id           UUID NOT NULL,
    session_id       UUID NOT NULL,
    source           VARCHAR NOT NULL,
    started_utc      TIMESTAMPTZ NOT NULL,
    conversation     VARCHAR,
    agent            VARCHAR,
    follows          UUID,
    shared_blocks    INTEGER,
    blocks           JSON,
    marks            JSON,
    settings         JSON,
    reply            JSON,
    arrived_ns       BIGINT,
    asked_ns         BIGINT,
    told_ns          BIGINT,
    closed_ns        BIGINT,
    added_request_ns BIGINT,
    added_reply_ns   BIGINT,
    note             VARCHAR,
    body             JSON,
    answer           JSON
);

-- The pieces of each distinct block, as hashes with their lengths, to say where two blocks differ.
CREATE TABLE recorded_blocks (
    call_id    UUID NOT NULL,
    trial_id   UUID NOT NULL,
    run_id     UUID NOT NULL,
    hash       VARCHAR NOT NULL,
    pieces     VARCHAR NOT NULL
);
