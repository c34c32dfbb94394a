-- What alerts.py looks at.

-- name: read_flags_of_effect
-- Cases of the last day with so many votes or places on them, that nobody was told of yet. The
-- effect of a flag is that of all votes of its case so far.
WITH young AS (
    SELECT DISTINCT coalesce(continues, number) AS case_number
    FROM flags
    WHERE at > now() - interval '1 day'
), cases AS (
    SELECT case_number, min(f.campaign) AS campaign, max(f.at) AS at, sum(f.votes) AS votes,
        max(f.score) AS score, (array_agg(f.sentence ORDER BY f.number DESC))[1] AS sentence,
        max((SELECT coalesce(max(abs(places::integer)), 0)
             FROM jsonb_each_text(f.effect) AS _ (candidate, places))) AS places
    FROM young JOIN flags AS f ON case_number IN (f.number, f.continues)
    GROUP BY case_number
)
SELECT case_number, cases.at, id AS campaign_id, title, votes, places, sentence
FROM cases JOIN campaigns ON campaigns.number = campaign
WHERE NOT is_test AND (votes >= $1 OR places >= $2)
    AND NOT EXISTS (
        SELECT FROM outbox WHERE event = $3 AND subject = 'flag ' || case_number
    )
ORDER BY case_number
LIMIT 50;

-- name: read_proposals_open
SELECT p.number, p.at, id AS campaign_id, title, kind, reason, shown_as
FROM proposals AS p JOIN campaigns ON campaigns.number = p.campaign
    JOIN staff ON staff.number = proposed_by
WHERE state = 'open' AND p.at > now() - interval '1 day'
    AND NOT EXISTS (
        SELECT FROM outbox WHERE event = $1 AND subject = 'proposal ' || p.number
    )
ORDER BY p.number
LIMIT 50;

-- name: read_objections_new
SELECT o.number, o.at, id AS campaign_id, title
FROM objections AS o JOIN campaigns ON campaigns.number = o.campaign
WHERE o.at > now() - interval '1 day'
    AND NOT EXISTS (
        SELECT FROM outbox WHERE event = $1 AND subject = 'objection ' || o.number
    )
ORDER BY o.number
LIMIT 50;

-- name: read_dead_letters
-- By destination in use; letters about dead letters and tests do not count.
SELECT number, shown_as, count(*) AS letters
FROM outbox JOIN destinations ON number = destination
WHERE given_up_at IS NOT NULL AND disabled_at IS NULL AND event <> ALL ($1::text[])
GROUP BY number, shown_as;

-- name: read_log_lag
-- Seconds since a vote waits that is in the database and in no log; null where none does, or where
-- there never was a log.
SELECT extract(epoch FROM now() - (SELECT max(at) FROM logs WHERE log = 0))::double precision
FROM watermarks LEFT JOIN log_watermarks AS logged USING (shard)
WHERE (watermarks.epoch, watermarks.seq) > (coalesce(logged.epoch, 0), coalesce(logged.seq, 0))
    AND watermarks.seq > 0
LIMIT 1;
