-- Load: when a request was due, and when its second generated piece arrived.
ALTER TABLE calls ADD COLUMN scheduled_ns BIGINT;
ALTER TABLE calls ADD COLUMN second_token_ns BIGINT;

-- One steady load, as one session measured it.
CREATE TABLE load_levels (
    run_id     UUID NOT NULL,
    session_id UUID NOT NULL,
    level      INTEGER NOT NULL,
    label      VARCHAR NOT NULL,
    mode       VARCHAR NOT NULL,
    target     DOUBLE NOT NULL,
    started_ns BIGINT NOT NULL,
    ended_ns   BIGINT,
    planned    INTEGER NOT NULL,
    not_begun  INTEGER,
    reason     VARCHAR,
    client     JSON,
    PRIMARY KEY (session_id, level)
);
