-- Instants become metrics here and nowhere else: a mended formula mends all history.
-- Every grouping and join carries run_id, so that WHERE run_id = … reaches the tables underneath.
-- No row can make a view fail: counts are added as BIGINT, instants subtracted as DOUBLE (exact
-- below 2^53 ns, 104 days), and what is no number of this world is NULL, so that one bad row never
-- hides another.

-- A finite number that sums, differences and ratios can bear; NaN, the infinities and what is
-- beyond any clock or price are NULL.
CREATE OR REPLACE MACRO known(value) AS CASE WHEN abs(value) <= 1e15 THEN value END;

-- Milliseconds between two instants of one session's clock.
CREATE OR REPLACE MACRO ms(from_ns, to_ns) AS (to_ns::DOUBLE - from_ns::DOUBLE) / 1e6;

-- What the phases of a new connection took together: name look-up, TCP and TLS.
CREATE OR REPLACE MACRO dns_ms(call) AS ms(call.started_ns, call.dns_ns);
CREATE OR REPLACE MACRO connect_ms(call) AS
    ms(coalesce(call.dns_ns, call.started_ns), call.connected_ns);
CREATE OR REPLACE MACRO tls_ms(call) AS ms(call.connected_ns, call.tls_ns);
CREATE OR REPLACE MACRO connection_ms(call) AS
    coalesce(dns_ms(call), 0) + coalesce(connect_ms(call), 0) + coalesce(tls_ms(call), 0);

-- One of the server's own timings; NULL where it is no number.
CREATE OR REPLACE MACRO part_ms(server_ms, path) AS
    known(TRY_CAST(TRY(server_ms ->> path) AS DOUBLE));

-- Of the rate-limit headers, how much of `what` was left; NULL where none says it.
CREATE OR REPLACE MACRO headers_left(rate_limits, what) AS
    TRY_CAST(TRY(rate_limits ->> ('$."ratelimit-' || what || '-remaining"')) AS BIGINT);

-- The first generated piece of any block. message_start, headers, ping, signatures and estimates
-- are not tokens. Rows of older labs have the three known kinds alone.
CREATE OR REPLACE MACRO first_token_ns(call) AS coalesce(
    call.first_token_ns,
    least(call.first_thinking_ns, call.first_text_ns, call.first_tool_ns)
);

-- The first sign that the model is at work: a block begins, a signature, an estimate of hidden
-- thinking, or a piece. Rows of older labs have only the kinds of that time.
CREATE OR REPLACE MACRO first_sign_ns(call) AS coalesce(
    call.first_sign_ns,
    least(call.thinking_started_ns, first_token_ns(call))
);

-- Total prompt = uncached + read from the cache + written to it (input_tokens alone leaves the
-- cached part out).
CREATE OR REPLACE MACRO cache_written(call) AS
    coalesce(call.cache_write_5m_tokens, 0)::BIGINT + coalesce(call.cache_write_1h_tokens, 0);
CREATE OR REPLACE MACRO tokens_in(call) AS
    call.input_tokens::BIGINT + coalesce(call.cache_read_tokens, 0) + cache_written(call);

-- The iterations of a call that sampled several times (usage.iterations): compaction, an advisor, a
-- fallback, tools of the server.
CREATE OR REPLACE MACRO iterations_of(call) AS TRY(json_transform(call.iterations, '[{
    "type": "VARCHAR", "input_tokens": "UINTEGER", "output_tokens": "UINTEGER",
    "cache_read_input_tokens": "UINTEGER", "cache_creation_input_tokens": "UINTEGER"}]'));

-- How long the prompt was: of several iterations that of the longest, since each has read its own.
CREATE OR REPLACE MACRO prompt_of(call) AS CASE WHEN call.input_tokens IS NOT NULL THEN coalesce(
    list_max(list_transform(iterations_of(call), lambda part:
        part.input_tokens::BIGINT
        + coalesce(part.cache_read_input_tokens, 0)
        + coalesce(part.cache_creation_input_tokens, 0))),
    tokens_in(call)) END;

-- What the iterations add to the counts at the top, which are those of the answering ones alone; a
-- declined one is not billed.
CREATE OR REPLACE MACRO added(call, count) AS coalesce(list_sum(list_transform(
    list_filter(
        iterations_of(call), lambda part: part.type NOT IN ('message', 'fallback_message')
    ),
    count
)), 0)::BIGINT;
CREATE OR REPLACE MACRO billed_input(call) AS
    call.input_tokens::BIGINT + added(call, lambda part: coalesce(part.input_tokens, 0));
CREATE OR REPLACE MACRO billed_output(call) AS
    call.output_tokens::BIGINT + added(call, lambda part: coalesce(part.output_tokens, 0));

-- What the endpoint says the cache did. NULL where a call reported no usage.
-- A few tokens that every prompt begins with (a chat template's) are read on every call by servers
-- that cache by themselves: no hit.
CREATE OR REPLACE MACRO slack_tokens() AS 16;
CREATE OR REPLACE MACRO cache_seen(call) AS CASE
    WHEN call.input_tokens IS NULL                                            THEN NULL
    WHEN call.cache_read_tokens > slack_tokens() AND cache_written(call) > 0  THEN 'partial'
    WHEN call.cache_read_tokens > slack_tokens()                              THEN 'read'
    WHEN cache_written(call) > 0                                              THEN 'write'
    ELSE 'none'
END;

-- Mean time per output token after the first. A chunk is not a token: tokens are those the API
-- counted. Hidden thinking is over before the first token one can see: its tokens are left out.
CREATE OR REPLACE MACRO gap_of(call) AS
    ms(first_token_ns(call), call.last_token_ns)
    / nullif(greatest(
        call.output_tokens::BIGINT
        - CASE WHEN call.first_thinking_ns IS NULL THEN coalesce(call.thinking_tokens, 0) ELSE 0 END
        - 1,
        0
    ), 0);


-- Whether another attempt of the same arm in the same block, in whichever session, stands in a
-- trial's place: the last one that ended well or, where none did, the last one. No request of a
-- load stands in another's.
CREATE OR REPLACE MACRO superseded(trial) AS row_number() OVER (
    PARTITION BY
        trial.run_id,
        trial.block,
        trial.technique,
        trial.arm,
        trial.phase,
        CASE WHEN trial.phase = 'load' THEN trial.trial_id END
    ORDER BY
        trial.outcome = 'ok' DESC,
        trial.attempt DESC,
        trial.started_utc DESC,
        trial.trial_id DESC
) > 1;


-- Whether a trial is of its run's first arm, the one that the others are held against.
CREATE OR REPLACE MACRO is_baseline(run, trial) AS
    trial.technique = TRY(run.settings ->> '$.baseline.technique')
    AND trial.arm = TRY(run.settings ->> '$.baseline.arm');


CREATE OR REPLACE VIEW call_metrics AS
SELECT
    call.call_id,
    call.trial_id,
    call.run_id,
    call.session_id,
    call.span_id,
    trial.technique,
    trial.arm,
    trial.block,
    trial.phase,
    trial.outcome,
    call.role,
    call.attempt,
    call.endpoint,
    run.endpoint_kind,
    call.model,
    call.served_model,
    call.asked,
    trial.task_id,
    call.message_id,
    call.request_id,
    call.thread_id,
    call.error_kind,
    call.error_text,
    call.http_status,
    call.stop_reason,
    call.speed,
    call.service_tier,
    call.inference_geo,
    call.connection_reused,
    call.intended_cache,
    cache_seen(call)                                                   AS observed_cache,
    call.diagnosis,
    call.cache_miss_reason,
    call.missed_cache_tokens,
    call.usage_note,
    -- What the limits still allowed as the answer was sent.
    headers_left(call.rate_limits, 'requests')                         AS requests_left,
    headers_left(call.rate_limits, 'input-tokens')                     AS input_tokens_left,
    headers_left(call.rate_limits, 'output-tokens')                    AS output_tokens_left,
    call.rate_limits,
    -- From the trial's start; a prime comes before it and is negative.
    ms(trial.started_ns, call.started_ns)                              AS started_ms,
    -- Durations of the connection's phases; NULL on a reused connection.
    dns_ms(call)                                                       AS dns_ms,
    connect_ms(call)                                                   AS connect_ms,
    tls_ms(call)                                                       AS tls_ms,
    ms(coalesce(call.tls_ns, call.connected_ns, call.dns_ns, call.started_ns), call.sent_ns)
                                                                       AS send_ms,
    -- Clocks, from the call's start.
    ms(call.started_ns, call.sent_ns)                                  AS sent_at_ms,
    ms(call.started_ns, call.headers_ns)                               AS headers_at_ms,
    ms(call.started_ns, call.first_byte_ns)                            AS first_byte_at_ms,
    ms(call.started_ns, call.message_start_ns)                         AS message_start_at_ms,
    ms(call.started_ns, first_sign_ns(call))                           AS first_sign_at_ms,
    ms(call.started_ns, call.thinking_started_ns)                      AS thinking_started_at_ms,
    ms(call.started_ns, call.first_thinking_ns)                        AS first_thinking_at_ms,
    ms(call.started_ns, call.first_text_ns)                            AS first_text_at_ms,
    ms(call.started_ns, call.first_sentence_ns)                        AS first_sentence_at_ms,
    ms(call.started_ns, call.first_tool_ns)                            AS first_tool_at_ms,
    ms(call.started_ns, call.whole_tool_ns)                            AS whole_tool_at_ms,
    ms(call.started_ns, call.last_text_ns)                             AS last_text_at_ms,
    ms(call.started_ns, call.last_token_ns)                            AS last_token_at_ms,
    ms(call.started_ns, call.ended_ns)                                 AS ended_at_ms,
    -- Time to first token: from the start of the request; NULL where nothing streams.
    ms(call.started_ns, first_token_ns(call))                          AS ttft_ms,
    -- The same without the client's own work: from the moment the request's bytes left.
    ms(call.sent_ns, first_token_ns(call))                             AS ttft_from_sent_ms,
    ms(call.started_ns, call.ended_ns)                                 AS total_ms,
    -- Output tokens per second of the whole call, prefill included: defined alike for whole and
    -- streamed answers.
    call.output_tokens / nullif(ms(call.started_ns, call.ended_ns) / 1e3, 0) AS tokens_per_s,
    gap_of(call)                                                       AS gap_ms,
    call.input_tokens,
    call.cache_read_tokens,
    cache_written(call)                                                AS cache_write_tokens,
    call.cache_write_5m_tokens,
    call.cache_write_1h_tokens,
    call.physical_cache_tokens,
    prompt_of(call)                                                    AS prompt_tokens,
    -- Share of all prompt tokens that was read from the cache: never above 1.
    coalesce(call.cache_read_tokens, 0) / nullif(tokens_in(call), 0)   AS cached_share,
    call.output_tokens,
    call.thinking_tokens,
    billed_input(call)                                                 AS billed_input_tokens,
    billed_output(call)                                                AS billed_output_tokens,
    part_ms(call.server_ms, '$.queue')                                 AS server_queue_ms,
    part_ms(call.server_ms, '$.prefill')                               AS server_prefill_ms,
    part_ms(call.server_ms, '$.decode')                                AS server_decode_ms,
    call.loop_lag_ns / 1e6                                             AS loop_lag_ms,
    known(call.cost_usd)                                               AS cost_usd
FROM calls AS call
JOIN trials AS trial
    ON  trial.run_id = call.run_id
    AND trial.session_id = call.session_id
    AND trial.trial_id = call.trial_id
JOIN runs AS run ON run.run_id = call.run_id;


-- The call whose arrival ends the wait: the first `answer` call that succeeded. The clock runs from
-- the trial's start, failed attempts included. Of equal requests that raced, the one that was
-- cancelled is no answer, though it was first to start: the wait ends with the one that was kept.
CREATE OR REPLACE VIEW first_answers AS
SELECT
    run_id,
    session_id,
    trial_id,
    arg_min(call_id, started_ns) AS call_id
FROM calls
WHERE role = 'answer' AND error_kind IS NULL
GROUP BY ALL;


-- What all calls of a trial add up to. Primes are made outside the trial's clock: they count in its
-- cost alone. A judge's call (check) counts nowhere.
CREATE OR REPLACE MACRO is_timed(role) AS role NOT IN ('prime', 'check');
CREATE OR REPLACE VIEW trial_totals AS
SELECT
    run_id,
    session_id,
    trial_id,
    sum(output_tokens)          FILTER (is_timed(role))::BIGINT     AS output_tokens,
    sum(prompt_of(calls))       FILTER (is_timed(role))::BIGINT     AS prompt_tokens,
    sum(tokens_in(calls))       FILTER (is_timed(role))::BIGINT     AS tokens_in,
    sum(coalesce(cache_read_tokens, 0))
        FILTER (is_timed(role) AND input_tokens IS NOT NULL)::BIGINT AS cache_read_tokens,
    sum(cache_written(calls))   FILTER (is_timed(role))::BIGINT     AS cache_write_tokens,
    count(*)                    FILTER (is_timed(role))             AS calls,
    count(*)                    FILTER (is_timed(role) AND attempt > 1) AS retries,
    count(*)                    FILTER (is_timed(role) AND error_kind IS NOT NULL) AS failed_calls,
    max(loop_lag_ns)            FILTER (is_timed(role)) / 1e6       AS loop_lag_ms,
    bool_and(connection_reused) FILTER (is_timed(role))             AS connection_reused,
    count(*)                    FILTER (is_timed(role) AND error_kind = 'cancelled')
                                                                    AS cancelled_calls,
    arg_min(model, started_ns)                                      AS first_model,
    min(whole_tool_ns)
        FILTER (is_timed(role) AND error_kind IS NULL)              AS whole_tool_ns,
    -- In a struct: arg_max passes over a NULL, such as that of an answer which did not stream.
    (arg_max({'ms': ms(started_ns, first_token_ns(calls))}, started_ns)
        FILTER (role = 'answer' AND error_kind IS NULL)).ms         AS last_ttft_ms,
    -- A sum with an unknown price in it is unknown; a call that was refused, without any usage,
    -- cost nothing.
    CASE
        WHEN count(known(cost_usd)) FILTER (role <> 'check')
            = count(coalesce(cost_usd, input_tokens, output_tokens)) FILTER (role <> 'check')
        THEN sum(known(cost_usd)) FILTER (role <> 'check')
    END                                                             AS cost_usd
FROM calls
GROUP BY ALL;


-- All trials, whatever came of them; what may be compared is where `counts`.
CREATE OR REPLACE VIEW trial_metrics AS
SELECT
    trial.trial_id,
    trial.run_id,
    trial.session_id,
    trial.technique,
    trial.arm,
    trial.block,
    trial.position,
    trial.attempt,
    trial.phase,
    trial.task_id,
    trial.outcome,
    trial.error_kind,
    trial.error_text,
    trial.started_utc,
    run.endpoint,
    run.endpoint_kind,
    coalesce(answer.model, total.first_model)                         AS model,
    answer.call_id                                                    AS answer_call_id,
    -- The perceived wait: first visible text; an answer that does not stream can be read only once
    -- it is whole.
    ms(trial.started_ns, coalesce(answer.first_text_ns, answer.ended_ns)) AS wait_ms,
    ms(trial.started_ns, first_token_ns(answer))                      AS ttft_ms,
    ms(trial.started_ns, trial.ended_ns)                              AS total_ms,
    -- The first answer's other clocks, also from the trial's start.
    ms(trial.started_ns, answer.headers_ns)                           AS headers_ms,
    ms(trial.started_ns, answer.message_start_ns)                     AS message_start_ms,
    ms(trial.started_ns, answer.first_thinking_ns)                    AS first_thinking_ms,
    ms(trial.started_ns, first_sign_ns(answer))                       AS first_sign_ms,
    ms(trial.started_ns, answer.first_text_ns)                        AS first_text_ms,
    ms(trial.started_ns, answer.first_tool_ns)                        AS first_tool_ms,
    ms(trial.started_ns, answer.first_sentence_ns)                    AS first_sentence_ms,
    ms(trial.started_ns, answer.last_token_ns)                        AS last_token_ms,
    -- From then on its tool can run: of whichever call of the trial was the first.
    ms(trial.started_ns, total.whole_tool_ns)                         AS tool_input_ms,
    -- The last turn of a conversation: the last answer's first token, from that call's own start.
    total.last_ttft_ms,
    -- Output tokens of all calls per second of the trial.
    total.output_tokens / nullif(ms(trial.started_ns, trial.ended_ns) / 1e3, 0) AS tokens_per_s,
    gap_of(answer)                                                    AS gap_ms,
    total.output_tokens,
    total.prompt_tokens,
    total.cache_read_tokens,
    total.cache_write_tokens,
    total.cache_read_tokens / nullif(total.tokens_in, 0)              AS cached_share,
    coalesce(total.calls, 0)                                          AS calls,
    coalesce(total.retries, 0)                                        AS retries,
    coalesce(total.failed_calls, 0)                                   AS failed_calls,
    known(trial.quality)                                              AS quality,
    coalesce(known(trial.cost_usd), total.cost_usd)                   AS cost_usd,
    answer.intended_cache,
    cache_seen(answer)                                                AS observed_cache,
    total.loop_lag_ms,
    total.connection_reused,
    -- The client's own doing: a late event loop, or a new connection that nobody meant, where the
    -- session's other trials reuse theirs.
    coalesce(total.loop_lag_ms > 5, FALSE)
    OR coalesce(
        NOT total.connection_reused
        AND total.reused_of_session >= 0.5
        AND coalesce(TRY(answer.asked ->> '$.connection'), 'any') <> 'new'
        -- Whoever cancels a call closes its connection: the next one's is the arm's own doing.
        AND total.cancelled_calls = 0
        AND trial.started_ns > trial.first_of_session_ns,
        FALSE
    )                                                                 AS client_caused,
    trial.superseded,
    -- In the comparison: measured, ended well in the cache state it should have and served as it
    -- was asked, not superseded.
    trial.phase = 'measured' AND trial.outcome = 'ok' AND NOT trial.superseded AS counts,
    -- The worst outcome of its pair, never left out silently: it failed, or its arm did not get
    -- what it is about. It was to read from the cache and did not, or asked for a model, speed or
    -- thread and was given another: whoever takes the arm up meets the same, and the rest alone
    -- would flatter it.
    trial.phase = 'measured' AND NOT trial.superseded AND (
        trial.outcome = 'failed'
        OR (
            trial.outcome = 'mismatch'
            AND (
                coalesce(trial.error_kind = 'served_otherwise', FALSE)
                OR (
                    answer.intended_cache = 'read'
                    AND coalesce(cache_seen(answer) <> 'read', FALSE)
                )
            )
        )
    )                                                                 AS lost
-- Windows first, while rows are narrow: they sort all that goes through them.
FROM (
    SELECT
        trials.*,
        superseded(trials) AS superseded,
        min(started_ns) OVER (PARTITION BY run_id, session_id) AS first_of_session_ns
    FROM trials
) AS trial
JOIN runs AS run ON run.run_id = trial.run_id
LEFT JOIN (
    SELECT
        trial_totals.*,
        avg(connection_reused::INTEGER) OVER (PARTITION BY run_id, session_id) AS reused_of_session
    FROM trial_totals
) AS total
    ON  total.run_id = trial.run_id
    AND total.session_id = trial.session_id
    AND total.trial_id = trial.trial_id
LEFT JOIN (
    -- No SEMI JOIN: through it no run_id reaches the calls underneath.
    SELECT calls.* FROM calls JOIN first_answers USING (run_id, session_id, trial_id, call_id)
) AS answer
    ON  answer.run_id = trial.run_id
    AND answer.session_id = trial.session_id
    AND answer.trial_id = trial.trial_id;


-- What may be compared, and a trial's metrics: this list and lab/metrics.py name the same ones.
CREATE OR REPLACE VIEW compared_trials AS
SELECT
    run_id,
    session_id,
    block,
    technique,
    arm,
    trial_id,
    task_id,
    started_utc,
    wait_ms,
    ttft_ms,
    total_ms,
    headers_ms,
    message_start_ms,
    first_sign_ms,
    first_text_ms,
    first_sentence_ms,
    tool_input_ms,
    last_ttft_ms,
    last_token_ms,
    tokens_per_s,
    gap_ms,
    output_tokens::DOUBLE AS output_tokens,
    prompt_tokens::DOUBLE AS prompt_tokens,
    cached_share,
    cost_usd,
    quality
FROM trial_metrics
WHERE counts;


-- One row per arm and metric. quantile_cont interpolates linearly between the two nearest trials
-- (Hyndman & Fan, type 7). Columns are summed up, then laid in rows: the other way round each trial
-- would first be a row for each metric.
CREATE OR REPLACE VIEW arm_summary AS
SELECT
    run_id,
    technique,
    arm,
    metric,
    measured.n,
    measured.quantiles[1] AS p50,
    measured.quantiles[2] AS p95,
    measured.quantiles[3] AS p99,
    measured.mean,
    measured.low,
    measured.high
FROM (
    UNPIVOT (
        SELECT
            run_id,
            technique,
            arm,
            {
                'n': count(COLUMNS(* EXCLUDE (run_id, technique, arm))),
                'quantiles':
                    quantile_cont(COLUMNS(* EXCLUDE (run_id, technique, arm)), [0.50, 0.95, 0.99]),
                'mean': avg(COLUMNS(* EXCLUDE (run_id, technique, arm))),
                'low': min(COLUMNS(* EXCLUDE (run_id, technique, arm))),
                'high': max(COLUMNS(* EXCLUDE (run_id, technique, arm)))
            }
        FROM (
            SELECT * EXCLUDE (session_id, block, trial_id, task_id, started_utc)
            FROM compared_trials
        )
        GROUP BY run_id, technique, arm
    )
    ON COLUMNS(* EXCLUDE (run_id, technique, arm))
    INTO NAME metric VALUE measured
)
WHERE measured.n > 0;


-- What became of each arm in each block that was begun: of several attempts the one that counts,
-- else the last; so that n + failed + cancelled + mismatched is the number of those blocks.
CREATE OR REPLACE VIEW arm_counts AS
SELECT
    run_id,
    technique,
    arm,
    any_value(endpoint_kind)                AS endpoint_kind,
    count(*) FILTER (counts)                AS n,
    count(*) FILTER (outcome = 'failed')    AS failed,
    count(*) FILTER (outcome = 'cancelled') AS cancelled,
    count(*) FILTER (outcome = 'mismatch')  AS mismatched,
    count(*) FILTER (lost)                  AS lost,
    arg_max(error_text, started_utc) FILTER (outcome IN ('failed', 'mismatch'))
                                            AS left_out_because,
    -- How many were left out for each reason.
    to_json(histogram(error_text) FILTER (outcome = 'mismatch')) AS mismatches,
    count(*) FILTER (counts AND client_caused) AS client_caused,
    sum(retries)::BIGINT                    AS retries,
    avg(quality) FILTER (counts)            AS quality,
    avg(cost_usd) FILTER (counts)           AS cost_usd
FROM trial_metrics
WHERE phase = 'measured' AND NOT superseded
GROUP BY run_id, technique, arm;


-- Each arm's trial beside the baseline's of the same block of one session: their clocks are the
-- same clock, their task the same task. In a block one trial of an arm counts. Every metric stands
-- there twice, the baseline's with baseline_ before it.
CREATE OR REPLACE VIEW paired_trials AS
WITH arms AS (
    SELECT trial.*, is_baseline(run, trial) AS is_baseline
    FROM compared_trials AS trial JOIN runs AS run ON run.run_id = trial.run_id
)
SELECT
    mine.* EXCLUDE (is_baseline),
    base.* EXCLUDE (baseline_run_id, baseline_session_id, baseline_block, baseline_task_id,
        baseline_started_utc)
FROM arms AS mine
JOIN (SELECT COLUMNS(* EXCLUDE (is_baseline)) AS 'baseline_\0' FROM arms WHERE is_baseline) AS base
    ON  base.baseline_run_id = mine.run_id
    AND base.baseline_session_id = mine.session_id
    AND base.baseline_block = mine.block
    AND base.baseline_task_id IS NOT DISTINCT FROM mine.task_id
WHERE NOT mine.is_baseline;


-- The same pairs with a row for each metric that both have.
CREATE OR REPLACE VIEW pair_differences AS
SELECT
    run_id,
    session_id,
    block,
    task_id,
    technique,
    arm,
    baseline_technique,
    baseline,
    metric,
    pair.value,
    pair.baseline_value,
    pair.value - pair.baseline_value AS difference,
    known(pair.value / nullif(pair.baseline_value, 0)) AS ratio,
    trial_id,
    baseline_trial_id,
    started_utc
FROM (
    UNPIVOT (
        SELECT
            run_id,
            session_id,
            block,
            task_id,
            technique,
            arm,
            baseline_technique,
            baseline,
            trial_id,
            any_value(trial_id) FILTER (is_baseline) OVER block_of_session AS baseline_trial_id,
            started_utc,
            is_baseline,
            {
                'value': COLUMNS(* EXCLUDE (run_id, session_id, block, task_id, technique, arm,
                    baseline_technique, baseline, trial_id, started_utc, is_baseline)),
                'baseline_value': any_value(COLUMNS(* EXCLUDE (run_id, session_id, block, task_id,
                    technique, arm, baseline_technique, baseline, trial_id, started_utc,
                    is_baseline))) FILTER (is_baseline) OVER block_of_session
            }
        FROM (
            SELECT
                trial.*,
                TRY(run.settings ->> '$.baseline.technique') AS baseline_technique,
                TRY(run.settings ->> '$.baseline.arm')       AS baseline,
                is_baseline(run, trial)                      AS is_baseline
            FROM compared_trials AS trial JOIN runs AS run ON run.run_id = trial.run_id
        )
        WINDOW block_of_session AS (PARTITION BY run_id, session_id, block, task_id)
    )
    ON COLUMNS(* EXCLUDE (run_id, session_id, block, task_id, technique, arm, baseline_technique,
        baseline, trial_id, baseline_trial_id, started_utc, is_baseline))
    INTO NAME metric VALUE pair
)
WHERE NOT is_baseline AND pair.value IS NOT NULL AND pair.baseline_value IS NOT NULL;


-- Blocks in which an arm or the baseline lost its trial, and the other did not say nothing: with
-- the blocks of pair_differences they are all that can be compared.
CREATE OR REPLACE VIEW pair_losses AS
WITH arms AS (
    SELECT trial.*, is_baseline(run, trial) AS is_baseline
    FROM trial_metrics AS trial JOIN runs AS run ON run.run_id = trial.run_id
    WHERE trial.counts OR trial.lost
)
SELECT
    mine.run_id,
    mine.session_id,
    mine.block,
    mine.task_id,
    mine.technique,
    mine.arm,
    mine.outcome,
    mine.error_kind,
    mine.lost,
    base.lost AS baseline_lost
FROM arms AS mine
JOIN arms AS base
    ON  base.run_id = mine.run_id
    AND base.session_id = mine.session_id
    AND base.block = mine.block
    AND base.task_id IS NOT DISTINCT FROM mine.task_id
WHERE base.is_baseline AND NOT mine.is_baseline AND (mine.lost OR base.lost);


-- Each request of a load. What is called scheduled counts from the instant at which it was due, so
-- that its wait for the client counts too.
CREATE OR REPLACE VIEW load_calls AS
SELECT
    call.run_id,
    call.session_id,
    call.trial_id,
    call.call_id,
    run.endpoint,
    run.endpoint_kind,
    call.model,
    trial.block                                          AS level,
    trial.arm                                            AS label,
    trial.position                                       AS request,
    trial.task_id,
    trial.started_utc,
    call.error_kind IS NULL                              AS ok,
    call.error_kind,
    call.http_status,
    call.attempt,
    call.connection_reused,
    ms(0, call.scheduled_ns)                             AS scheduled_ms,
    ms(0, call.started_ns)                               AS started_ms,
    ms(0, call.ended_ns)                                 AS ended_ms,
    ms(call.scheduled_ns, call.started_ns)               AS dispatch_delay_ms,
    ms(call.started_ns, call.first_token_ns)             AS ttft_ms,
    ms(call.sent_ns, call.first_token_ns)                AS ttft_sent_ms,
    ms(call.scheduled_ns, call.first_token_ns)           AS scheduled_ttft_ms,
    ms(call.first_token_ns, call.second_token_ns)        AS second_token_ms,
    ms(call.started_ns, call.ended_ns)                   AS total_ms,
    ms(call.scheduled_ns, call.ended_ns)                 AS scheduled_latency_ms,
    -- Of its own stream: what came after the first token, in the time that it took to come.
    nullif(greatest(call.output_tokens::BIGINT - 1, 0), 0)
    / nullif(ms(call.first_token_ns, call.last_token_ns) / 1e3, 0) AS tokens_per_s,
    call.input_tokens,
    call.output_tokens,
    known(call.cost_usd)                                 AS cost_usd
FROM calls AS call
JOIN trials AS trial
    ON  trial.run_id = call.run_id
    AND trial.session_id = call.session_id
    AND trial.trial_id = call.trial_id
JOIN runs AS run ON run.run_id = call.run_id
WHERE trial.phase = 'load';
