-- Event lines in DuckDB, typed: table `lines`, view `events`. The report runs this text; so can you:
--   SET VARIABLE files = ['events.jsonl', 'events.jsonl.1'];  SET VARIABLE compression = 'none';  -- or 'gzip'
-- Then run sessions.sql, and any of questions.sql. The last statement alone adds more files.

SET TimeZone = 'UTC';

CREATE TABLE IF NOT EXISTS lines (
    event VARCHAR,
    event_id VARCHAR,
    "timestamp" TIMESTAMPTZ,
    auth VARCHAR,
    reason VARCHAR,
    user_id VARCHAR,
    session_id VARCHAR,
    org_id VARCHAR,
    actor_id VARCHAR,
    initiated_by VARCHAR,
    origin VARCHAR,
    authorized_party VARCHAR,
    token_issued_at TIMESTAMPTZ,
    "count" BIGINT,
    scope VARCHAR,
    revoked_sessions BIGINT,
    failed_sessions BIGINT,
    cause VARCHAR,
    ended_at TIMESTAMPTZ,
    issued_after_logout BOOLEAN
);

-- A good line is a JSON object with an event_id, and a timestamp in the form that the service writes. Others are all NULL here.
CREATE OR REPLACE VIEW events AS
SELECT * FROM lines WHERE event_id <> '' AND "timestamp" IS NOT NULL;

INSERT INTO lines
SELECT
    event,
    event_id,
    CASE WHEN "timestamp" LIKE '____-__-__T__:__:__.______Z' THEN try_cast("timestamp" AS TIMESTAMPTZ) END,
    auth,
    reason,
    user_id,
    session_id,
    org_id,
    actor_id,
    initiated_by,
    origin,
    authorized_party,
    try_cast(token_issued_at AS TIMESTAMPTZ),
    "count",
    scope,
    revoked_sessions,
    failed_sessions,
    cause,
    try_cast(ended_at AS TIMESTAMPTZ),
    issued_after_logout
FROM read_json(
    getvariable('files'),
    format = 'newline_delimited',
    compression = getvariable('compression'),
    ignore_errors = true,
    columns = {
        event: 'VARCHAR', event_id: 'VARCHAR', "timestamp": 'VARCHAR', auth: 'VARCHAR', reason: 'VARCHAR',
        user_id: 'VARCHAR', session_id: 'VARCHAR', org_id: 'VARCHAR', actor_id: 'VARCHAR', initiated_by: 'VARCHAR',
        origin: 'VARCHAR', authorized_party: 'VARCHAR', token_issued_at: 'VARCHAR', "count": 'BIGINT', scope: 'VARCHAR',
        revoked_sessions: 'BIGINT', failed_sessions: 'BIGINT', cause: 'VARCHAR', ended_at: 'VARCHAR',
        issued_after_logout: 'BOOLEAN'
    }
);
