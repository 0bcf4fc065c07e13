-- The questions a team asks. Each runs unchanged in DuckDB and ClickHouse, over `events` and `sessions`.
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
    FROM events AS e
    GROUP BY e.event, e.event_id
) AS distinct_events
GROUP BY event
ORDER BY event;

-- logouts
SELECT
    count(*) AS logouts,
    count(DISTINCT user_id) AS people,
    count(*) FILTER (WHERE told_by = 'both') AS told_by_both,
    count(*) FILTER (WHERE told_by = 'call') AS told_by_call,
    count(*) FILTER (WHERE told_by = 'webhook') AS told_by_webhook,
    count(*) FILTER (WHERE verdict = 'verified') AS verified,
    count(*) FILTER (WHERE verdict = 'expired') AS expired,
    count(*) FILTER (WHERE verdict = 'expired' AND told_by = 'call') AS expired_and_unconfirmed,
    count(*) FILTER (WHERE everywhere) AS everywhere
FROM sessions;

-- coverage
SELECT
    count(*) AS logouts,
    count(*) FILTER (WHERE told_by = 'webhook') / nullif(1.0 * count(*), 0) AS without_call_share,
    count(*) FILTER (WHERE told_by = 'call') / nullif(1.0 * count(*), 0) AS without_webhook_share,
    count(*) FILTER (WHERE told_by = 'webhook')
        / nullif(1.0 * count(*) FILTER (WHERE told_by <> 'call'), 0) AS calls_missing_share,
    count(*) FILTER (WHERE told_by = 'call')
        / nullif(1.0 * count(*) FILTER (WHERE told_by <> 'webhook'), 0) AS webhooks_missing_share
FROM sessions;

-- logouts_by_day
SELECT
    date_trunc('day', logged_out_at) AS day,
    count(*) AS logouts,
    count(DISTINCT user_id) AS people,
    count(*) FILTER (WHERE told_by = 'both') AS told_by_both,
    count(*) FILTER (WHERE told_by = 'call') AS told_by_call,
    count(*) FILTER (WHERE told_by = 'webhook') AS told_by_webhook
FROM sessions
GROUP BY day
ORDER BY day;

-- logouts_by_hour
SELECT
    extract(hour FROM logged_out_at) AS hour,
    count(*) AS logouts
FROM sessions
GROUP BY hour
ORDER BY hour;

-- logouts_by_origin
SELECT
    origin,
    count(*) AS logouts,
    count(*) FILTER (WHERE told_by = 'both') AS told_by_both,
    count(*) FILTER (WHERE told_by = 'call') AS told_by_call,
    count(*) FILTER (WHERE told_by = 'webhook') AS told_by_webhook
FROM sessions
GROUP BY origin
ORDER BY logouts DESC, origin;

-- logouts_by_cause
SELECT
    cause,
    count(*) AS logouts,
    count(*) FILTER (WHERE told_by = 'both') AS told_by_both,
    count(*) FILTER (WHERE told_by = 'call') AS told_by_call,
    count(*) FILTER (WHERE told_by = 'webhook') AS told_by_webhook
FROM sessions
GROUP BY cause
ORDER BY logouts DESC, cause;

-- logouts_by_initiator
SELECT
    initiated_by,
    count(*) AS logouts,
    count(DISTINCT user_id) AS people,
    count(DISTINCT actor_id) AS actors
FROM sessions
GROUP BY initiated_by
ORDER BY logouts DESC, initiated_by;

-- calls
SELECT
    count(*) FILTER (WHERE event = 'user_logout') AS recorded,
    coalesce(sum(stands_for), 0) AS suppressed,
    count(*) FILTER (WHERE event = 'user_logout') + coalesce(sum(stands_for), 0) AS calls
FROM (
    SELECT e.event_id, min(e.event) AS event, max(e.count) AS stands_for
    FROM events AS e
    WHERE e.event IN ('user_logout', 'user_logout_suppressed')
    GROUP BY e.event_id
) AS called;

-- calls_by_verdict
SELECT
    auth,
    reason,
    count(DISTINCT event_id) AS calls
FROM events
WHERE event = 'user_logout'
GROUP BY auth, reason
ORDER BY calls DESC, auth, reason;

-- suppressed_calls_by_day
SELECT
    date_trunc('day', timestamp) AS day,
    count(*) AS events,
    sum(stands_for) AS calls
FROM (
    SELECT e.event_id, min(e.timestamp) AS timestamp, max(e.count) AS stands_for
    FROM events AS e
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
    SELECT date_diff('millisecond', called_at, ended_at) AS milliseconds
    FROM sessions
    WHERE called_at IS NOT NULL AND ended_at IS NOT NULL
) AS confirmed
GROUP BY ended
ORDER BY min_milliseconds;

-- confirmation_percentiles
SELECT
    min(milliseconds) FILTER (WHERE place >= 0.5 * places) AS p50_milliseconds,
    min(milliseconds) FILTER (WHERE place >= 0.9 * places) AS p90_milliseconds,
    min(milliseconds) FILTER (WHERE place >= 0.99 * places) AS p99_milliseconds
FROM (
    SELECT milliseconds, sum(logouts) OVER (ORDER BY milliseconds) AS place, sum(logouts) OVER () AS places
    FROM (
        SELECT date_diff('millisecond', called_at, ended_at) AS milliseconds, count(*) AS logouts
        FROM sessions
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
    SELECT event_id, date_diff('second', token_issued_at, timestamp) AS seconds
    FROM events
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
    FROM events
    WHERE event = 'user_logout_everywhere'
    GROUP BY event_id
) AS everywhere
GROUP BY scope
ORDER BY scope;

-- used_after_logout
SELECT
    count(DISTINCT session_id) AS sessions,
    count(DISTINCT event_id) AS events,
    count(DISTINCT event_id) FILTER (WHERE issued_after_logout) AS issued_after_logout
FROM events
WHERE event = 'session_used_after_logout';

-- used_after_logout_by_day
SELECT
    date_trunc('day', timestamp) AS day,
    count(DISTINCT session_id) AS sessions,
    count(DISTINCT event_id) AS events,
    count(DISTINCT event_id) FILTER (WHERE issued_after_logout) AS issued_after_logout
FROM events
WHERE event = 'session_used_after_logout'
GROUP BY day
ORDER BY day;
