-- What the live console reads of Postgres: roll-ups alone, never votes.

-- name: read_complete_until
-- The moment up to which nothing is missing on any shard; null before the first flush.
SELECT min(at) FROM watermarks HAVING count(*) >= (SELECT shards FROM catalog);

-- name: read_sums
-- Totals by candidate, where the hot state is away.
SELECT candidate, counted, held, struck FROM tallies WHERE campaign = $1;

-- name: read_refusals
-- The same of what was turned away.
SELECT candidate, outcome, ballots FROM refusals WHERE campaign = $1;

-- name: read_trend
-- Each candidate's votes of the hour before $2, and of the hour before that.
SELECT candidate,
       coalesce(sum(counted) FILTER (WHERE minute >= $2::timestamptz - interval '1 hour'), 0)
           AS last_hour,
       coalesce(sum(counted) FILTER (WHERE minute < $2::timestamptz - interval '1 hour'), 0)
           AS hour_before
FROM minutes
WHERE campaign = $1 AND minute >= $2::timestamptz - interval '2 hours' AND minute < $2
GROUP BY candidate;

-- name: read_course
-- A campaign's votes from $2 to $3 in steps of $4; steps without any are left out.
SELECT date_bin($4::interval, minute, $2) AS at, sum(counted)::bigint AS counted,
       sum(held)::bigint AS held
FROM minute_totals
WHERE campaign = $1 AND minute >= $2 AND minute < $3
GROUP BY 1 ORDER BY 1;

-- name: read_candidate_course
-- The same of one candidate ($5). Minute by minute through the key, which begins with the minute:
-- 45,000 looks for a month, where reading the month would be 30 million rows.
SELECT date_bin($4::interval, at, $2) AS at, sum(m.counted)::bigint AS counted,
       sum(m.held)::bigint AS held
FROM generate_series($2::timestamptz, $3::timestamptz - interval '1 microsecond',
                     interval '1 minute') AS at
CROSS JOIN LATERAL (
    SELECT counted, held FROM minutes
    WHERE campaign = $1 AND minute = at AND candidate = $5
    OFFSET 0
) AS m
GROUP BY 1 ORDER BY 1;

-- name: read_networks
-- Kinds of networks among the votes since $2.
SELECT network_class, sum(votes)::bigint AS votes, sum(held)::bigint AS held
FROM hourly_mix WHERE campaign = $1 AND hour >= $2
GROUP BY network_class;

-- name: read_candidate_flags
-- Cases with votes of one candidate, each by its newest flag, newest first.
SELECT case_of, at, sentence, score, votes FROM (
    SELECT coalesce(continues, number) AS case_of, number, at, sentence, score,
           sum((candidates ->> $2::text)::integer) OVER of_case AS votes,
           row_number() OVER (of_case ORDER BY number DESC) AS nth
    FROM flags
    WHERE campaign = $1 AND candidates ? $2::text
    WINDOW of_case AS (PARTITION BY coalesce(continues, number))
) AS flagged
WHERE nth = 1
ORDER BY number DESC LIMIT 50;
