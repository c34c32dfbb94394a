-- What one case's votes look like; case_evidence.py reads these.

-- name: read_case_lists
-- Where the votes of a case lie.
SELECT l.day, l.shard, l.epoch, l.seqs
FROM flags AS f JOIN flag_votes AS l ON l.flag = f.number
WHERE f.campaign = $1 AND coalesce(f.continues, f.number) = $2
ORDER BY l.day, l.shard, l.epoch;

-- name: read_facts
-- Facts of the votes at these places, as arrays: of the n-th place (day, shard, epoch), the seqs that
-- have its number. Nothing that names a device, a network or a click.
WITH places AS (
    SELECT day, shard, epoch, array_agg(chosen.seq) AS seqs
    FROM unnest($2::date[], $3::smallint[], $4::integer[]) WITH ORDINALITY
        AS place (day, shard, epoch, number)
    JOIN unnest($5::integer[], $6::bigint[]) AS chosen (place, seq) ON chosen.place = place.number
    GROUP BY day, shard, epoch
)
SELECT array_agg(date_part('epoch', v.at)) AS at,
       array_agg(v.network_class) AS network_class,
       array_agg(v.user_agent_class) AS user_agent_class,
       array_agg(v.token_age_seconds) AS token_age_seconds,
       array_agg(v.token_level) AS token_level,
       array_agg(v.dwell_centiseconds) AS dwell_centiseconds
FROM places AS p
JOIN votes AS v ON (v.day, v.shard, v.epoch) = (p.day, p.shard, p.epoch) AND v.seq = ANY(p.seqs)
WHERE v.campaign = $1;

-- name: read_sample
-- The same votes one by one, for people to look at, with the state that each is in now.
SELECT v.shard, v.epoch, v.seq, v.at, v.candidate, v.network_class, v.user_agent_class,
       v.token_level, v.token_age_seconds, v.dwell_centiseconds, v.score, v.reasons,
       coalesce(s.state, v.verdict) AS state
FROM unnest($2::date[], $3::smallint[], $4::integer[], $5::bigint[])
    AS chosen (day, shard, epoch, seq)
JOIN votes AS v USING (day, shard, epoch, seq)
LEFT JOIN vote_state AS s USING (day, shard, epoch, seq)
WHERE v.campaign = $1
ORDER BY v.at, v.shard, v.epoch, v.seq;

-- name: read_learned
-- What the campaign's crowd looked like on the day that taught it; the tables of TLS stacks, the
-- most of it, are left where they are.
SELECT day, (learned ->> 'votes')::bigint AS votes, learned -> 'agent' AS agent,
       learned -> 'dwell' AS dwell, learned -> 'age' AS age
FROM baselines WHERE campaign = $1;

-- name: sum_course
-- Votes of the whole campaign, counted or held, in steps from $4 on.
SELECT date_bin($5::interval, minute, $4) AS at, sum(counted + held)::bigint AS votes
FROM minute_totals
WHERE campaign = $1 AND minute >= $2 AND minute < $3
GROUP BY 1 ORDER BY 1;

-- name: sum_hours
-- The same by the hour of the day, in the campaign's zone.
SELECT extract(hour FROM minute AT TIME ZONE $4)::int AS hour, sum(counted + held)::bigint AS votes
FROM minute_totals
WHERE campaign = $1 AND minute >= $2 AND minute < $3
GROUP BY 1;
