-- Raw lines in, typed events out. Insert each line of the event log into `lines`, however often it comes:
-- `events` keeps one row for each event_id, `bad` what is no event (a torn line), an empty line goes nowhere.
-- Copies are merged in the background, and the earliest stays: read with FINAL, or count each event_id once.
-- Then sessions.sql and any of questions.sql in ../sql, with these settings:
--   SET join_use_nulls = 1, cast_keep_nullable = 1, session_timezone = 'UTC';
-- A key that a later version adds: ALTER TABLE events ADD COLUMN, with a DEFAULT like the others; old rows have it, too.

CREATE TABLE IF NOT EXISTS lines (line String) ENGINE = Null;

CREATE TABLE IF NOT EXISTS events
(
    line String CODEC(ZSTD),
    event LowCardinality(String) DEFAULT JSONExtract(line, 'event', 'String'),
    schema_version UInt16 DEFAULT JSONExtract(line, 'schema_version', 'UInt16'),
    event_id String DEFAULT JSONExtract(line, 'event_id', 'String'),
    dedupe_key String DEFAULT JSONExtract(line, 'dedupe_key', 'String'),
    timestamp DateTime64(6) DEFAULT JSONExtract(line, 'timestamp', 'DateTime64(6, \'UTC\')'),
    auth LowCardinality(Nullable(String)) DEFAULT JSONExtract(line, 'auth', 'Nullable(String)'),
    reason LowCardinality(Nullable(String)) DEFAULT JSONExtract(line, 'reason', 'Nullable(String)'),
    user_id Nullable(String) DEFAULT JSONExtract(line, 'user_id', 'Nullable(String)'),
    session_id Nullable(String) DEFAULT JSONExtract(line, 'session_id', 'Nullable(String)'),
    org_id Nullable(String) DEFAULT JSONExtract(line, 'org_id', 'Nullable(String)'),
    actor_id Nullable(String) DEFAULT JSONExtract(line, 'actor_id', 'Nullable(String)'),
    initiated_by LowCardinality(Nullable(String)) DEFAULT JSONExtract(line, 'initiated_by', 'Nullable(String)'),
    authorized_party LowCardinality(Nullable(String)) DEFAULT JSONExtract(line, 'authorized_party', 'Nullable(String)'),
    token_issued_at Nullable(DateTime64(6)) DEFAULT JSONExtract(line, 'token_issued_at', 'Nullable(DateTime64(6, \'UTC\'))'),
    source LowCardinality(String) DEFAULT JSONExtract(line, 'source', 'String'),
    request_id Nullable(String) DEFAULT JSONExtract(line, 'request_id', 'Nullable(String)'),
    trace_id Nullable(String) DEFAULT JSONExtract(line, 'trace_id', 'Nullable(String)'),
    origin LowCardinality(Nullable(String)) DEFAULT JSONExtract(line, 'origin', 'Nullable(String)'),
    client_ip Nullable(String) DEFAULT JSONExtract(line, 'client_ip', 'Nullable(String)'),
    user_agent Nullable(String) DEFAULT JSONExtract(line, 'user_agent', 'Nullable(String)'),
    count Nullable(Int64) DEFAULT JSONExtract(line, 'count', 'Nullable(Int64)'),
    window_start Nullable(DateTime64(6)) DEFAULT JSONExtract(line, 'window_start', 'Nullable(DateTime64(6, \'UTC\'))'),
    window_end Nullable(DateTime64(6)) DEFAULT JSONExtract(line, 'window_end', 'Nullable(DateTime64(6, \'UTC\'))'),
    scope LowCardinality(Nullable(String)) DEFAULT JSONExtract(line, 'scope', 'Nullable(String)'),
    revoked_sessions Nullable(Int64) DEFAULT JSONExtract(line, 'revoked_sessions', 'Nullable(Int64)'),
    failed_sessions Nullable(Int64) DEFAULT JSONExtract(line, 'failed_sessions', 'Nullable(Int64)'),
    cause LowCardinality(Nullable(String)) DEFAULT JSONExtract(line, 'cause', 'Nullable(String)'),
    ended_at Nullable(DateTime64(6)) DEFAULT JSONExtract(line, 'ended_at', 'Nullable(DateTime64(6, \'UTC\'))'),
    logged_out_at Nullable(DateTime64(6)) DEFAULT JSONExtract(line, 'logged_out_at', 'Nullable(DateTime64(6, \'UTC\'))'),
    issued_after_logout Nullable(Bool) DEFAULT JSONExtract(line, 'issued_after_logout', 'Nullable(Bool)'),
    service LowCardinality(String) DEFAULT JSONExtract(line, 'service', 'String'),
    service_version LowCardinality(String) DEFAULT JSONExtract(line, 'service_version', 'String'),
    earliness UInt64 MATERIALIZED bitNot(toUInt64(toUnixTimestamp64Micro(timestamp)))
)
-- No partitions: Clerk may deliver a webhook again in the next month, and the event_id is the same.
ENGINE = ReplacingMergeTree(earliness)
ORDER BY event_id;

CREATE TABLE IF NOT EXISTS bad (line String) ENGINE = ReplacingMergeTree ORDER BY line;

CREATE MATERIALIZED VIEW IF NOT EXISTS lines_to_events TO events AS
SELECT line
FROM lines
WHERE isValidJSON(line)
    AND JSONExtractString(line, 'event_id') != ''
    AND JSONExtractString(line, 'timestamp') LIKE '____-__-__T__:__:__.______Z'
    AND JSONExtract(line, 'timestamp', 'Nullable(DateTime64(6))') IS NOT NULL;

CREATE MATERIALIZED VIEW IF NOT EXISTS lines_to_bad TO bad AS
SELECT line
FROM lines
WHERE line != ''
    AND NOT (
        isValidJSON(line)
        AND JSONExtractString(line, 'event_id') != ''
        AND JSONExtractString(line, 'timestamp') LIKE '____-__-__T__:__:__.______Z'
        AND JSONExtract(line, 'timestamp', 'Nullable(DateTime64(6))') IS NOT NULL
    );
