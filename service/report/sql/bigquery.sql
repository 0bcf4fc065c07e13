-- The same in BigQuery: parsed, not run. Load lines into clerk_logout.lines, one a row, in a column of type STRING:
--   bq load --source_format=CSV --field_delimiter='\x01' --quote='' clerk_logout.lines events.jsonl line:STRING

CREATE TABLE IF NOT EXISTS clerk_logout.lines (line STRING);

CREATE OR REPLACE VIEW clerk_logout.events AS
SELECT
    json_value(event, '$.event') AS event,
    json_value(event, '$.event_id') AS event_id,
    SAFE.parse_timestamp('%Y-%m-%dT%H:%M:%E6SZ', json_value(event, '$.timestamp')) AS timestamp,
    json_value(event, '$.auth') AS auth,
    json_value(event, '$.reason') AS reason,
    json_value(event, '$.user_id') AS user_id,
    json_value(event, '$.session_id') AS session_id,
    json_value(event, '$.org_id') AS org_id,
    json_value(event, '$.actor_id') AS actor_id,
    json_value(event, '$.initiated_by') AS initiated_by,
    json_value(event, '$.origin') AS origin,
    json_value(event, '$.authorized_party') AS authorized_party,
    SAFE.parse_timestamp('%Y-%m-%dT%H:%M:%E6SZ', json_value(event, '$.token_issued_at')) AS token_issued_at,
    SAFE_CAST(json_value(event, '$.count') AS INT64) AS count,
    json_value(event, '$.scope') AS scope,
    SAFE_CAST(json_value(event, '$.revoked_sessions') AS INT64) AS revoked_sessions,
    SAFE_CAST(json_value(event, '$.failed_sessions') AS INT64) AS failed_sessions,
    json_value(event, '$.cause') AS cause,
    SAFE.parse_timestamp('%Y-%m-%dT%H:%M:%E6SZ', json_value(event, '$.ended_at')) AS ended_at,
    SAFE_CAST(json_value(event, '$.issued_after_logout') AS BOOL) AS issued_after_logout
FROM (SELECT SAFE.parse_json(line) AS event FROM clerk_logout.lines) AS parsed
WHERE json_value(event, '$.event_id') <> ''
    AND SAFE.parse_timestamp('%Y-%m-%dT%H:%M:%E6SZ', json_value(event, '$.timestamp')) IS NOT NULL;

-- From here on made from sessions.sql and questions.sql.

-- One row a logout: a session of which a proven call or Clerk's webhook says that it has ended. Repeated lines change nothing.
CREATE OR REPLACE VIEW clerk_logout.sessions AS
SELECT
    session_id,
    user_id,
    org_id,
    actor_id,
    CASE initiator WHEN 3 THEN 'agent' WHEN 2 THEN 'admin' WHEN 1 THEN 'user' END AS initiated_by,
    called_at,
    CASE WHEN called_at IS NOT NULL THEN CASE WHEN verified = 1 THEN 'verified' ELSE 'expired' END END AS verdict,
    origin,
    authorized_party,
    from_everywhere = 1 AS everywhere,
    told_at,
    ended_at,
    cause,
    CASE
        WHEN told_at IS NULL THEN 'call'
        WHEN called_at IS NULL THEN 'webhook'
        ELSE 'both'
    END AS told_by,
    least(coalesce(called_at, ended_at, told_at), coalesce(ended_at, called_at, told_at)) AS logged_out_at
FROM (
    SELECT
        e.session_id AS session_id,
        min(e.user_id) AS user_id,
        array_agg(e.org_id IGNORE NULLS ORDER BY e.timestamp LIMIT 1)[SAFE_OFFSET(0)] AS org_id,
        min(e.actor_id) AS actor_id,
        max(CASE e.initiated_by WHEN 'agent' THEN 3 WHEN 'admin' THEN 2 WHEN 'user' THEN 1 END) AS initiator,
        min(CASE WHEN e.event <> 'session_ended' THEN e.timestamp END) AS called_at,
        max(CASE WHEN e.event <> 'session_ended' AND e.auth = 'verified' THEN 1 ELSE 0 END) AS verified,
        array_agg(e.origin IGNORE NULLS ORDER BY e.timestamp LIMIT 1)[SAFE_OFFSET(0)] AS origin,
        array_agg(e.authorized_party IGNORE NULLS ORDER BY e.timestamp LIMIT 1)[SAFE_OFFSET(0)] AS authorized_party,
        max(CASE WHEN e.event = 'user_logout_everywhere' THEN 1 ELSE 0 END) AS from_everywhere,
        min(CASE WHEN e.event = 'session_ended' THEN e.timestamp END) AS told_at,
        min(e.ended_at) AS ended_at,
        array_agg(e.cause IGNORE NULLS ORDER BY e.ended_at, e.cause LIMIT 1)[SAFE_OFFSET(0)] AS cause
    FROM clerk_logout.events AS e
    WHERE e.session_id IS NOT NULL AND (
        e.event = 'session_ended'
        OR (e.event = 'user_logout' AND e.auth IN ('verified', 'expired'))
        OR (e.event = 'user_logout_everywhere' AND e.scope = 'all')
    )
    GROUP BY e.session_id
) AS evidence;

-- The questions a team asks. Over `events` and `sessions`.
-- A comment before each names it; docs/data.md says what it answers.

-- input
SELECT
    event,
    sum(copies) AS lines,
    count(*) AS events,
    sum(copies) - count(*) AS repeated_lines,
    min(earliest) AS first,
    max(latest) AS last
FROM (
    SELECT e.event, e.event_id, count(*) AS copies, min(e.timestamp) AS earliest, max(e.timestamp) AS latest
    FROM clerk_logout.events AS e
    GROUP BY e.event, e.event_id
) AS distinct_events
GROUP BY event
ORDER BY event;

-- logouts
SELECT
    count(*) AS logouts,
    count(DISTINCT user_id) AS people,
    countif(told_by = 'both') AS told_by_both,
    countif(told_by = 'call') AS told_by_call,
    countif(told_by = 'webhook') AS told_by_webhook,
    countif(verdict = 'verified') AS verified,
    countif(verdict = 'expired') AS expired,
    countif(verdict = 'expired' AND told_by = 'call') AS expired_and_unconfirmed,
    countif(everywhere) AS everywhere
FROM clerk_logout.sessions;

-- coverage
SELECT
    count(*) AS logouts,
    countif(told_by = 'webhook') / nullif(1.0 * count(*), 0) AS without_call_share,
    countif(told_by = 'call') / nullif(1.0 * count(*), 0) AS without_webhook_share,
    countif(told_by = 'webhook')
        / nullif(1.0 * countif(told_by <> 'call'), 0) AS calls_missing_share,
    countif(told_by = 'call')
        / nullif(1.0 * countif(told_by <> 'webhook'), 0) AS webhooks_missing_share
FROM clerk_logout.sessions;

-- logouts_by_day
SELECT
    timestamp_trunc(logged_out_at, DAY) AS day,
    count(*) AS logouts,
    count(DISTINCT user_id) AS people,
    countif(told_by = 'both') AS told_by_both,
    countif(told_by = 'call') AS told_by_call,
    countif(told_by = 'webhook') AS told_by_webhook
FROM clerk_logout.sessions
GROUP BY day
ORDER BY day;

-- logouts_by_hour
SELECT
    extract(hour FROM logged_out_at) AS hour,
    count(*) AS logouts
FROM clerk_logout.sessions
GROUP BY hour
ORDER BY hour;

-- logouts_by_origin
SELECT
    origin,
    count(*) AS logouts,
    countif(told_by = 'both') AS told_by_both,
    countif(told_by = 'call') AS told_by_call,
    countif(told_by = 'webhook') AS told_by_webhook
FROM clerk_logout.sessions
GROUP BY origin
ORDER BY logouts DESC, origin;

-- logouts_by_cause
SELECT
    cause,
    count(*) AS logouts,
    countif(told_by = 'both') AS told_by_both,
    countif(told_by = 'call') AS told_by_call,
    countif(told_by = 'webhook') AS told_by_webhook
FROM clerk_logout.sessions
GROUP BY cause
ORDER BY logouts DESC, cause;

-- logouts_by_initiator
SELECT
    initiated_by,
    count(*) AS logouts,
    count(DISTINCT user_id) AS people,
    count(DISTINCT actor_id) AS actors
FROM clerk_logout.sessions
GROUP BY initiated_by
ORDER BY logouts DESC, initiated_by;

-- calls
SELECT
    countif(event = 'user_logout') AS recorded,
    coalesce(sum(stands_for), 0) AS suppressed,
    countif(event = 'user_logout') + coalesce(sum(stands_for), 0) AS calls
FROM (
    SELECT e.event_id, min(e.event) AS event, max(e.count) AS stands_for
    FROM clerk_logout.events AS e
    WHERE e.event IN ('user_logout', 'user_logout_suppressed')
    GROUP BY e.event_id
) AS called;

-- calls_by_verdict
SELECT
    auth,
    reason,
    count(DISTINCT event_id) AS calls
FROM clerk_logout.events
WHERE event = 'user_logout'
GROUP BY auth, reason
ORDER BY calls DESC, auth, reason;

-- suppressed_calls_by_day
SELECT
    timestamp_trunc(timestamp, DAY) AS day,
    count(*) AS events,
    sum(stands_for) AS calls
FROM (
    SELECT e.event_id, min(e.timestamp) AS timestamp, max(e.count) AS stands_for
    FROM clerk_logout.events AS e
    WHERE e.event = 'user_logout_suppressed'
    GROUP BY e.event_id
) AS suppressed
GROUP BY day
ORDER BY day;

-- confirmation
SELECT
    CASE
        WHEN milliseconds < 0 THEN 'before the call'
        WHEN milliseconds < 1000 THEN 'within 1 s'
        WHEN milliseconds < 5000 THEN '1 s to 5 s'
        WHEN milliseconds < 60000 THEN '5 s to 1 min'
        WHEN milliseconds < 3600000 THEN '1 min to 1 h'
        WHEN milliseconds < 86400000 THEN '1 h to 1 day'
        ELSE 'after 1 day'
    END AS ended,
    count(*) AS logouts,
    min(milliseconds) AS min_milliseconds,
    max(milliseconds) AS max_milliseconds
FROM (
    SELECT timestamp_diff(ended_at, called_at, MILLISECOND) AS milliseconds
    FROM clerk_logout.sessions
    WHERE called_at IS NOT NULL AND ended_at IS NOT NULL
) AS confirmed
GROUP BY ended
ORDER BY min_milliseconds;

-- confirmation_percentiles
SELECT
    min(if(place >= 0.5 * places, milliseconds, NULL)) AS p50_milliseconds,
    min(if(place >= 0.9 * places, milliseconds, NULL)) AS p90_milliseconds,
    min(if(place >= 0.99 * places, milliseconds, NULL)) AS p99_milliseconds
FROM (
    SELECT milliseconds, sum(logouts) OVER (ORDER BY milliseconds) AS place, sum(logouts) OVER () AS places
    FROM (
        SELECT timestamp_diff(ended_at, called_at, MILLISECOND) AS milliseconds, count(*) AS logouts
        FROM clerk_logout.sessions
        WHERE called_at IS NOT NULL AND ended_at IS NOT NULL
        GROUP BY milliseconds
    ) AS confirmed
) AS ranked;

-- expired_calls_by_token_age
SELECT
    CASE
        WHEN seconds < 300 THEN 'under 5 min'
        WHEN seconds < 3600 THEN '5 min to 1 h'
        WHEN seconds < 86400 THEN '1 h to 1 day'
        WHEN seconds < 2592000 THEN '1 day to 30 days'
        WHEN seconds >= 2592000 THEN '30 days or more'
        ELSE 'not told'
    END AS token_age,
    count(DISTINCT event_id) AS calls,
    min(seconds) AS min_seconds
FROM (
    SELECT event_id, timestamp_diff(timestamp, token_issued_at, SECOND) AS seconds
    FROM clerk_logout.events
    WHERE event = 'user_logout' AND auth = 'expired'
) AS expired
GROUP BY token_age
ORDER BY min_seconds NULLS LAST;

-- sign_outs_everywhere
SELECT
    scope,
    count(*) AS sign_outs,
    sum(revoked) AS revoked_sessions,
    sum(failed) AS failed_sessions
FROM (
    SELECT event_id, min(scope) AS scope, max(revoked_sessions) AS revoked, max(failed_sessions) AS failed
    FROM clerk_logout.events
    WHERE event = 'user_logout_everywhere'
    GROUP BY event_id
) AS everywhere
GROUP BY scope
ORDER BY scope;

-- used_after_logout
SELECT
    count(DISTINCT session_id) AS sessions,
    count(DISTINCT event_id) AS events,
    count(DISTINCT if(issued_after_logout, event_id, NULL)) AS issued_after_logout
FROM clerk_logout.events
WHERE event = 'session_used_after_logout';

-- used_after_logout_by_day
SELECT
    timestamp_trunc(timestamp, DAY) AS day,
    count(DISTINCT session_id) AS sessions,
    count(DISTINCT event_id) AS events,
    count(DISTINCT if(issued_after_logout, event_id, NULL)) AS issued_after_logout
FROM clerk_logout.events
WHERE event = 'session_used_after_logout'
GROUP BY day
ORDER BY day;
