-- The table `events` in ClickHouse, typed. Then run sessions.sql, and any of questions.sql, with these settings:
--   SET join_use_nulls = 1, cast_keep_nullable = 1, session_timezone = 'UTC';
-- Repeated lines may stay until ClickHouse merges them: the questions count each event_id once, and need no FINAL.

CREATE TABLE IF NOT EXISTS events (
    event LowCardinality(String),
    event_id String,
    timestamp DateTime64(6),
    auth LowCardinality(Nullable(String)),
    reason LowCardinality(Nullable(String)),
    user_id Nullable(String),
    session_id Nullable(String),
    org_id Nullable(String),
    actor_id Nullable(String),
    initiated_by LowCardinality(Nullable(String)),
    origin LowCardinality(Nullable(String)),
    authorized_party LowCardinality(Nullable(String)),
    token_issued_at Nullable(DateTime64(6)),
    count Nullable(Int64),
    scope LowCardinality(Nullable(String)),
    revoked_sessions Nullable(Int64),
    failed_sessions Nullable(Int64),
    cause LowCardinality(Nullable(String)),
    ended_at Nullable(DateTime64(6)),
    issued_after_logout Nullable(Bool)
)
ENGINE = ReplacingMergeTree
ORDER BY event_id;
