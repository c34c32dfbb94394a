-- Votes of one campaign day, for people outside of the database: see exports.py.

-- name: coarse_votes
-- In numbers, as both files are made from. Ordered by what is shown and by nothing else: the order
-- of the rows must not say in which order votes came within a second. $1 campaign, $2 day, $3 and
-- $4 lower bounds of the steps of token age (seconds) and dwell (centiseconds), ascending from 0.
SELECT extract(epoch FROM date_trunc('second', at))::bigint AS second,
    v.candidate,
    coalesce(s.state, v.verdict)::smallint AS state,
    v.verdict,
    v.score,
    v.reasons,
    v.rules,
    v.network_class,
    v.user_agent_class,
    v.token_level,
    ($3::integer[])[width_bucket(v.token_age_seconds, $3::bigint[])] AS token_age,
    ($4::integer[])[width_bucket(v.dwell_centiseconds, $4::integer[])] AS dwell
FROM votes AS v LEFT JOIN vote_state AS s
    ON (s.day, s.shard, s.epoch, s.seq) = (v.day, v.shard, v.epoch, v.seq)
WHERE v.day = $2 AND v.campaign = $1
ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12

-- name: named_votes
-- The same in words, as a sheet has them. $5 zone; $6 to $11 texts by number, from 0 on: states,
-- reasons, networks, agents, candidates' ids and names.
SELECT to_char(to_timestamp(second) AT TIME ZONE $5, 'YYYY-MM-DD HH24:MI:SS') AS at,
    candidate AS candidate_number,
    ($10::text[])[candidate + 1] AS candidate,
    ($11::text[])[candidate + 1] AS name,
    ($6::text[])[state + 1] AS state,
    ($6::text[])[verdict + 1] AS verdict,
    score AS score_millinats,
    concat_ws(' ', ($7::text[])[(reasons >> 16 & 255) + 1], ($7::text[])[(reasons >> 8 & 255) + 1],
        ($7::text[])[(reasons & 255) + 1]) AS reasons,
    rules AS rules_version,
    ($8::text[])[network_class + 1] AS network_class,
    ($9::text[])[user_agent_class + 1] AS user_agent_class,
    token_level & 15 AS token_level,
    token_level >> 4 & 1 AS challenge_solved,
    token_age AS token_age_from_seconds,
    nullif(dwell, 0) * 10 AS dwell_from_ms
FROM ({coarse}) AS coarse

-- name: list_days
-- Days that have votes of a campaign, by the minutes' sums, newest first. $2 zone.
SELECT (minute AT TIME ZONE $2)::date AS day, sum(counted) AS counted, sum(held) AS held
FROM minute_totals
WHERE campaign = $1
GROUP BY 1
ORDER BY 1 DESC;
