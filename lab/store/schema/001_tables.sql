-- Instants are *_ns: nanoseconds from the session's monotonic origin. Wall clock is only in *_utc.

CREATE TABLE runs (
    run_id        UUID PRIMARY KEY,
    technique     VARCHAR NOT NULL,
    endpoint      VARCHAR NOT NULL,
    endpoint_kind VARCHAR NOT NULL,
    models        JSON NOT NULL,
    settings      JSON NOT NULL,
    seed          BIGINT NOT NULL,
    status        VARCHAR NOT NULL,
    keep_text     BOOLEAN NOT NULL,
    started_utc   TIMESTAMPTZ NOT NULL,
    ended_utc     TIMESTAMPTZ,
    note          VARCHAR,
    name          VARCHAR
);

CREATE TABLE sessions (
    session_id  UUID PRIMARY KEY,
    run_id      UUID NOT NULL,
    worker      VARCHAR NOT NULL,
    host        VARCHAR NOT NULL,
    started_utc TIMESTAMPTZ NOT NULL,
    lab_version VARCHAR NOT NULL,
    commit      VARCHAR,
    machine     JSON NOT NULL,
    instrument  JSON NOT NULL
);

CREATE TABLE trials (
    trial_id    UUID NOT NULL,
    run_id      UUID NOT NULL,
    session_id  UUID NOT NULL,
    technique   VARCHAR NOT NULL,
    arm         VARCHAR NOT NULL,
    block       INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    phase       VARCHAR NOT NULL,
    task_id     VARCHAR,
    started_utc TIMESTAMPTZ NOT NULL,
    started_ns  BIGINT NOT NULL,
    ended_ns    BIGINT,
    deadline_ms DOUBLE,
    outcome     VARCHAR NOT NULL,
    error_kind  VARCHAR,
    error_text  VARCHAR,
    quality     DOUBLE,
    cost_usd    DOUBLE
);

CREATE TABLE calls (
    call_id               UUID NOT NULL,
    trial_id              UUID NOT NULL,
    run_id                UUID NOT NULL,
    session_id            UUID NOT NULL,
    span_id               UUID NOT NULL,
    role                  VARCHAR NOT NULL,
    attempt               INTEGER NOT NULL,
    endpoint              VARCHAR NOT NULL,
    model                 VARCHAR NOT NULL,
    message_id            VARCHAR,
    request_id            VARCHAR,
    intended_cache        VARCHAR NOT NULL,
    started_ns            BIGINT NOT NULL,
    dns_ns                BIGINT,
    connected_ns          BIGINT,
    tls_ns                BIGINT,
    sent_ns               BIGINT,
    headers_ns            BIGINT,
    first_byte_ns         BIGINT,
    message_start_ns      BIGINT,
    thinking_started_ns   BIGINT,
    first_thinking_ns     BIGINT,
    first_text_ns         BIGINT,
    first_sentence_ns     BIGINT,
    first_tool_ns         BIGINT,
    last_text_ns          BIGINT,
    last_token_ns         BIGINT,
    ended_ns              BIGINT,
    input_tokens          INTEGER,
    cache_read_tokens     INTEGER,
    cache_write_5m_tokens INTEGER,
    cache_write_1h_tokens INTEGER,
    physical_cache_tokens INTEGER,
    cache_miss_reason     VARCHAR,
    output_tokens         INTEGER,
    thinking_tokens       INTEGER,
    connection_reused     BOOLEAN,
    http_status           INTEGER,
    stop_reason           VARCHAR,
    speed                 VARCHAR,
    service_tier          VARCHAR,
    error_kind            VARCHAR,
    error_text            VARCHAR,
    loop_lag_ns           BIGINT,
    server_ms             JSON,
    cost_usd              DOUBLE
);

CREATE TABLE spans (
    span_id    UUID NOT NULL,
    trial_id   UUID NOT NULL,
    run_id     UUID NOT NULL,
    session_id UUID NOT NULL,
    parent_id  UUID,
    kind       VARCHAR NOT NULL,
    name       VARCHAR NOT NULL,
    started_ns BIGINT NOT NULL,
    ended_ns   BIGINT
);

CREATE TABLE events (
    call_id    UUID NOT NULL,
    run_id     UUID NOT NULL,
    seq        INTEGER NOT NULL,
    at_ns      BIGINT NOT NULL,
    kind       VARCHAR NOT NULL,
    characters INTEGER NOT NULL,
    text       VARCHAR
);
