-- One row a logout: a session of which a proven call or Clerk's webhook says that it has ended. Repeated lines change nothing.
CREATE VIEW sessions AS
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
        min_by(e.org_id, e.timestamp) AS org_id,
        min(e.actor_id) AS actor_id,
        max(CASE e.initiated_by WHEN 'agent' THEN 3 WHEN 'admin' THEN 2 WHEN 'user' THEN 1 END) AS initiator,
        min(CASE WHEN e.event <> 'session_ended' THEN e.timestamp END) AS called_at,
        max(CASE WHEN e.event <> 'session_ended' AND e.auth = 'verified' THEN 1 ELSE 0 END) AS verified,
        min_by(e.origin, e.timestamp) AS origin,
        min_by(e.authorized_party, e.timestamp) AS authorized_party,
        max(CASE WHEN e.event = 'user_logout_everywhere' THEN 1 ELSE 0 END) AS from_everywhere,
        min(CASE WHEN e.event = 'session_ended' THEN e.timestamp END) AS told_at,
        min(e.ended_at) AS ended_at,
        min_by(e.cause, (e.ended_at, e.cause)) AS cause
    FROM events AS e
    WHERE e.session_id IS NOT NULL AND (
        e.event = 'session_ended'
        OR (e.event = 'user_logout' AND e.auth IN ('verified', 'expired'))
        OR (e.event = 'user_logout_everywhere' AND e.scope = 'all')
    )
    GROUP BY e.session_id
) AS evidence;
