-- Every SQL statement of this package, each under its name with its purpose; store.py reads them.
-- Those of schema changes are in migrations/, the migrations' own in migrate.py.

-- name: lock_shard
-- One flusher per shard: held by the session, so it ends with the connection, however that ends.
-- The first number tells our locks from others' ("dzfl").
SELECT pg_try_advisory_lock(1685743212, $1);

-- name: unlock_shard
-- At an orderly stop, so that the successor need not wait until the server sees us gone.
SELECT pg_advisory_unlock(1685743212, $1);

-- name: make_commits_durable
-- What is committed gets trimmed from the journal. A server set to `off` would answer earlier.
SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') = 'off';

-- name: make_watermark
-- The row of a shard that was never flushed: before the first entry of the first epoch.
INSERT INTO watermarks (shard, epoch, entry, seq, at)
VALUES ($1, 0, -1, 0, to_timestamp(0))
ON CONFLICT (shard) DO NOTHING;

-- name: read_watermark
-- Where to go on.
SELECT epoch, entry, seq, at FROM watermarks WHERE shard = $1;

-- name: lock_watermark
-- First statement of a batch: whoever else would flush this shard waits here, and then finds the
-- watermark moved. The advisory lock keeps that from happening; this makes it harmless.
SELECT epoch, entry, seq, at FROM watermarks WHERE shard = $1 FOR UPDATE;

-- name: move_watermark
-- Last statement of a batch. The caller holds the row locked.
UPDATE watermarks SET epoch = $2, entry = $3, seq = $4, at = $5 WHERE shard = $1;

-- name: advance_watermark_time
-- The journal was found empty behind the watermark: nothing older than $2 is missing.
UPDATE watermarks SET at = $2 WHERE shard = $1 AND at < $2;

-- name: list_partitions
-- Campaign days that have their table.
SELECT child.relname AS name
FROM pg_inherits
JOIN pg_class child ON child.oid = inhrelid
WHERE inhparent = 'votes'::regclass;

-- name: lock_partitions
-- Partitions are made by one at a time ("dzpt"); to the end of the transaction.
SELECT pg_advisory_xact_lock(1685745780, 0);

-- name: make_partition
-- One campaign day's rows: a table of the owner's, made by the owner's function, for a flusher need
-- not own `votes`.
SELECT make_day_of_votes($1);

-- name: read_votes
-- Rows of one entry's positions, to compare with the journal; columns as rows.py writes them.
SELECT {columns} FROM votes
WHERE day = $1 AND shard = $2 AND epoch = $3 AND seq BETWEEN $4 AND $5;

-- name: add_minutes
-- One flusher batch, per minute and in total; the caller holds the shard's watermark row locked.
-- Columns come as text of arrays, which costs the driver a tenth of arrays. Rows are locked in one
-- order (tallies, which is the statement's own table, before all others), so that shards that flush
-- at once wait for each other and never in a circle.
WITH batch AS (
    SELECT campaign, timestamptz 'epoch' + minute * interval '1 minute' AS minute, candidate,
           counted, held
    FROM unnest($1::text::smallint[], $2::text::integer[], $3::text::integer[],
                $4::text::integer[], $5::text::integer[])
         AS _ (campaign, minute, candidate, counted, held)
), per_minute AS (
    INSERT INTO minutes AS t (campaign, minute, candidate, counted, held)
    SELECT * FROM batch ORDER BY campaign, minute, candidate
    ON CONFLICT (campaign, minute, candidate) DO UPDATE
    SET counted = t.counted + excluded.counted, held = t.held + excluded.held
), per_minute_in_all AS (
    INSERT INTO minute_totals AS t (campaign, minute, counted, held)
    SELECT campaign, minute, sum(counted), sum(held)
    FROM batch GROUP BY campaign, minute ORDER BY campaign, minute
    ON CONFLICT (campaign, minute) DO UPDATE
    SET counted = t.counted + excluded.counted, held = t.held + excluded.held
)
INSERT INTO tallies AS t (campaign, candidate, counted, held)
SELECT campaign, candidate, sum(counted), sum(held)
FROM batch GROUP BY campaign, candidate ORDER BY campaign, candidate
ON CONFLICT (campaign, candidate) DO UPDATE
SET counted = t.counted + excluded.counted, held = t.held + excluded.held;

-- name: add_refusals
-- One flusher batch; the caller holds the shard's watermark row locked.
INSERT INTO refusals AS t (campaign, candidate, outcome, ballots)
SELECT * FROM unnest($1::text::smallint[], $2::text::integer[], $3::text::smallint[],
                     $4::text::bigint[]) AS _ (campaign, candidate, outcome, ballots)
ORDER BY campaign, candidate, outcome
ON CONFLICT (campaign, candidate, outcome) DO UPDATE
SET ballots = t.ballots + excluded.ballots;

-- name: add_closing
-- Of a flusher batch; the caller holds the shard's watermark row locked.
INSERT INTO closings (campaign, shard, epoch, entry, seq, at, closed)
VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: has_closing
-- Whether it is there, and as the journal has it.
SELECT EXISTS (
    SELECT FROM closings WHERE (campaign, shard, epoch, entry, seq, at, closed)
        = ($1::smallint, $2::smallint, $3::integer, $4::bigint, $5::bigint, $6::timestamptz, $7)
);

-- name: read_tallies
-- Totals of one campaign.
SELECT candidate, counted, held, struck FROM tallies WHERE campaign = $1;

-- name: read_refused
-- All ballots of one campaign that were turned away.
SELECT coalesce(sum(ballots), 0)::bigint FROM refusals WHERE campaign = $1;

-- name: read_as_of
-- The moment up to which nothing is missing on any shard; null before the first flush.
SELECT min(at) FROM watermarks HAVING count(*) >= (SELECT shards FROM catalog);

-- name: lock_decisions
-- Decisions are taken by one at a time ("dzdc"); to the end of the transaction.
SELECT pg_advisory_xact_lock(1685742691, 0);

-- name: make_this_commit_durable
-- What is committed reaches the hot state, which does not forget it.
SET LOCAL synchronous_commit = on;

-- name: read_flag_campaign
-- Whose votes a flag is about; no row where there is no such flag.
SELECT campaign FROM flags WHERE number = $1;

-- name: make_decision_tables
-- For the decisions of one transaction: the votes that one was about, those that it speaks of, and
-- what all of them move.
CREATE TEMP TABLE chosen (day date, shard smallint, epoch integer, seq bigint) ON COMMIT DROP;
CREATE TEMP TABLE spoken (
    day date, shard smallint, epoch integer, seq bigint,
    candidate integer, minute timestamptz, from_state smallint
) ON COMMIT DROP;
CREATE TEMP TABLE moves (
    decision integer, shard smallint, candidate integer, minute timestamptz,
    counted integer, held integer, struck integer
) ON COMMIT DROP;

-- name: clear_chosen
-- For the next decision of the same transaction; what moves stays.
TRUNCATE chosen, spoken;

-- name: drop_decision_tables
-- The caller's transaction goes on, and may decide once more.
DROP TABLE chosen, spoken, moves;

-- name: choose_case
-- The votes of a flag and of all flags of its case.
INSERT INTO chosen
SELECT listed.day, listed.shard, listed.epoch, seq
FROM flags AS one
JOIN flags AS of_case
    ON coalesce(of_case.continues, of_case.number) = coalesce(one.continues, one.number)
JOIN flag_votes AS listed ON listed.flag = of_case.number, unnest(listed.seqs) AS seq
WHERE one.number = $1;

-- name: choose_flag
-- The votes of one flag.
INSERT INTO chosen
SELECT day, shard, epoch, seq FROM flag_votes, unnest(seqs) AS seq WHERE flag = $1;

-- name: choose_held_at_once
-- Votes held by their own verdict that no decision has spoken of. By the partial index on them.
INSERT INTO chosen
SELECT day, shard, epoch, seq FROM votes AS v
WHERE verdict = 2 AND campaign = $1 AND at <= $2 AND score < $3
    AND NOT EXISTS (
        SELECT FROM vote_state AS s
        WHERE (s.day, s.shard, s.epoch, s.seq) = (v.day, v.shard, v.epoch, v.seq)
    )
LIMIT $4;

-- name: analyze_chosen
-- Without it the planner takes a table that was just filled for a small one.
ANALYZE chosen;

-- name: speak_of_votes
-- Of the chosen votes those that the decision takes in, each in the state that it leaves: its last
-- decision's, else its verdict's. What `watch` ($3) may not speak of is left out, see holds.py.
INSERT INTO spoken
SELECT v.day, v.shard, v.epoch, v.seq, v.candidate, date_bin('1 minute', v.at, 'epoch'),
       coalesce(s.state, v.verdict)
FROM (SELECT DISTINCT day, shard, epoch, seq FROM chosen) AS c
JOIN votes AS v USING (day, shard, epoch, seq)
LEFT JOIN vote_state AS s USING (day, shard, epoch, seq)
LEFT JOIN decisions AS d ON d.number = s.decision
WHERE v.campaign = $1 AND coalesce(s.state, v.verdict) = ANY($2)
    AND NOT ($3 AND coalesce(d.decided_by <> $4, false));

-- name: count_spoken
-- How many, and how many of them are not in the wanted state yet.
SELECT count(*) AS votes, count(*) FILTER (WHERE from_state <> $1) AS moved FROM spoken;

-- name: add_decision
-- Numbered without a gap: the caller holds the decisions' lock. The time is after the lock was
-- given, so that whoever takes it later and sees no decision before a moment never will.
INSERT INTO decisions
    (number, at, campaign, action, flag, reason, rules, decided_by, votes, moved)
SELECT coalesce(max(number), 0) + 1, clock_timestamp(), $1, $2, $3, $4, $5, $6, $7, $8
FROM decisions
RETURNING number;

-- name: add_decision_votes
-- Which votes, from which state to which.
INSERT INTO decision_votes (decision, day, shard, epoch, from_state, to_state, seqs)
SELECT $1, day, shard, epoch, from_state, $2, array_agg(seq ORDER BY seq)
FROM spoken GROUP BY day, shard, epoch, from_state;

-- name: move_vote_state
-- The new state of each, under the decision that speaks last.
INSERT INTO vote_state (day, shard, epoch, seq, state, decision)
SELECT day, shard, epoch, seq, $2, $1 FROM spoken ORDER BY day, shard, epoch, seq
ON CONFLICT (day, shard, epoch, seq) DO UPDATE
SET state = excluded.state, decision = excluded.decision;

-- name: sum_moves
-- What a decision moves, from states that really change ($1 = the one that they get).
INSERT INTO moves
SELECT $2, shard, candidate, minute,
       sum(($1 = 0)::int - (from_state = 0)::int),
       sum(($1 = 2)::int - (from_state = 2)::int),
       sum(($1 = 4)::int - (from_state = 4)::int)
FROM spoken WHERE from_state <> $1
GROUP BY shard, candidate, minute;

-- name: add_adjudications
-- What each shard's tally is to apply; the next number of the shard, under the decisions' lock.
INSERT INTO adjudications (shard, number, decision, candidates, counted, held, struck)
SELECT shard,
       (SELECT coalesce(max(number), 0) + 1 FROM adjudications AS a WHERE a.shard = m.shard),
       $1,
       array_agg(candidate ORDER BY candidate), array_agg(counted ORDER BY candidate),
       array_agg(held ORDER BY candidate), array_agg(struck ORDER BY candidate)
FROM (
    SELECT shard, candidate, sum(counted)::int AS counted, sum(held)::int AS held,
           sum(struck)::int AS struck
    FROM moves WHERE decision = $1 GROUP BY shard, candidate
) AS m
GROUP BY shard;

-- name: move_tallies
-- Rows are locked by their key, tallies before minutes, as a flusher's batch does.
INSERT INTO tallies AS t (campaign, candidate, counted, held, struck)
SELECT $1, candidate, sum(counted), sum(held), sum(struck)
FROM moves GROUP BY candidate ORDER BY candidate
ON CONFLICT (campaign, candidate) DO UPDATE
SET counted = t.counted + excluded.counted, held = t.held + excluded.held,
    struck = t.struck + excluded.struck;

-- name: move_minutes
-- The same per minute of the votes, of each candidate and of all; what is struck is in neither sum.
WITH per_minute AS (
    INSERT INTO minutes AS t (campaign, minute, candidate, counted, held)
    SELECT $1::smallint, minute, candidate, sum(counted), sum(held)
    FROM moves GROUP BY minute, candidate ORDER BY minute, candidate
    ON CONFLICT (campaign, minute, candidate) DO UPDATE
    SET counted = t.counted + excluded.counted, held = t.held + excluded.held
)
INSERT INTO minute_totals AS t (campaign, minute, counted, held)
SELECT $1::smallint, minute, sum(counted), sum(held)
FROM moves GROUP BY minute ORDER BY minute
ON CONFLICT (campaign, minute) DO UPDATE
SET counted = t.counted + excluded.counted, held = t.held + excluded.held;

-- name: read_moves
-- What each decision moved, per candidate.
SELECT decision, candidate, sum(counted)::int, sum(held)::int, sum(struck)::int
FROM moves GROUP BY decision, candidate ORDER BY decision, candidate;

-- name: list_undecided_flags
-- Flags whose votes `watch` ($4) held before $2, below a score, and nobody decided since: no person
-- on any flag of the case, and we have not released this one already.
SELECT f.number
FROM flags AS f
JOIN decisions AS d ON d.flag = f.number
WHERE f.campaign = $1 AND f.score < $3
    AND d.action = 'hold' AND d.decided_by = $4 AND d.at <= $2
    AND NOT EXISTS (
        SELECT FROM decisions AS later
        JOIN flags AS g ON g.number = later.flag
        WHERE later.number > d.number
            AND coalesce(g.continues, g.number) = coalesce(f.continues, f.number)
            AND (later.decided_by <> $4 OR (later.flag = f.number AND later.action = 'release'))
    )
ORDER BY f.number;

-- name: last_adjudication
-- How many adjudications a shard has; they are numbered without a gap.
SELECT coalesce(max(number), 0) FROM adjudications WHERE shard = $1;

-- name: read_adjudications
-- The next ones after $2, each with the campaign that its tally belongs to.
SELECT a.shard, a.number, a.decision, d.campaign, c.id AS campaign_id,
       a.candidates, a.counted, a.held, a.struck
FROM adjudications AS a
JOIN decisions AS d ON d.number = a.decision
JOIN campaigns AS c ON c.number = d.campaign
WHERE a.shard = $1 AND a.number > $2
ORDER BY a.number LIMIT $3;

-- name: highest_epoch
-- A store that lost its head starts above it.
SELECT coalesce(max(epoch), 0) FROM watermarks;

-- name: group_votes_for_recount
-- One campaign's votes, those that are judged alike together. $2 and $3 are where rules on token age
-- and dwell change their minds; of an agent's class only its kind is asked (0, 1, or any other).
SELECT v.candidate, v.network_class, least(v.user_agent_class, 2)::smallint AS user_agent_class,
       width_bucket(v.token_age_seconds, $2::bigint[]) AS token_age_step, v.token_level,
       width_bucket(v.dwell_centiseconds, $3::integer[]) AS dwell_step,
       v.rules, v.score, v.reasons, v.verdict, s.state, count(*) AS votes
FROM votes AS v
LEFT JOIN vote_state AS s USING (day, shard, epoch, seq)
WHERE v.campaign = $1
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11;

-- name: read_all_votes
-- Votes per candidate whatever their state: what a place would be with all of them.
SELECT candidate, (counted + held)::bigint FROM tallies WHERE campaign = $1;

-- name: add_flag
-- Numbered without a gap: the caller holds the decisions' lock.
INSERT INTO flags (number, at, campaign, continues, rules, version, kinds, evidence, sentence,
                   score, automatic, votes, candidates, effect)
SELECT coalesce(max(number), 0) + 1, clock_timestamp(), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10,
       $11, $12
FROM flags
RETURNING number;

-- name: add_flag_votes
-- The votes of a flag, by where they lie.
INSERT INTO flag_votes (flag, day, shard, epoch, seqs) VALUES ($1, $2, $3, $4, $5);

-- name: read_flag_votes
-- What is listed of these days already, and in which case.
SELECT coalesce(f.continues, f.number) AS case_of, l.shard, l.epoch, l.seqs
FROM flags AS f JOIN flag_votes AS l ON l.flag = f.number
WHERE f.campaign = $1 AND l.day = ANY($2);

-- name: read_case_of_flag
-- The first flag of a flag's case.
SELECT coalesce(continues, number) FROM flags WHERE number = $1 AND campaign = $2;

-- name: read_flags
-- A campaign's flags, or those of some cases, oldest first.
SELECT coalesce(continues, number) AS case_of, number, at, rules, version, kinds, evidence,
       sentence, score, automatic, votes, candidates
FROM flags
WHERE campaign = $1 AND ($2::integer[] IS NULL OR coalesce(continues, number) = ANY($2))
ORDER BY number;

-- name: read_case_decisions
-- What was decided on a campaign's cases, or on some of them, oldest first.
SELECT coalesce(f.continues, f.number) AS case_of, d.number, d.at, d.flag, d.action, d.reason, d.rules,
       d.decided_by, d.votes, d.moved
FROM decisions AS d JOIN flags AS f ON f.number = d.flag
WHERE f.campaign = $1 AND ($2::integer[] IS NULL OR coalesce(f.continues, f.number) = ANY($2))
ORDER BY d.number;

-- name: sum_flags_by_verdict
-- The votes of these flags by candidate and verdict. By whole arrays: a quarter of what looking
-- each vote up costs.
SELECT l.flag, v.candidate, v.verdict, count(*) AS votes
FROM flag_votes AS l
JOIN votes AS v
    ON (v.day, v.shard, v.epoch) = (l.day, l.shard, l.epoch) AND v.seq = ANY(l.seqs)
WHERE l.flag = ANY($1)
GROUP BY 1, 2, 3;

-- name: sum_spoken_of_flags
-- Those of them that a decision has spoken of, which are where it left them.
SELECT l.flag, v.candidate, v.verdict, s.state, count(*) AS votes
FROM flag_votes AS l
JOIN vote_state AS s
    ON (s.day, s.shard, s.epoch) = (l.day, l.shard, l.epoch) AND s.seq = ANY(l.seqs)
JOIN votes AS v ON (v.day, v.shard, v.epoch, v.seq) = (s.day, s.shard, s.epoch, s.seq)
WHERE l.flag = ANY($1)
GROUP BY 1, 2, 3, 4;

-- name: read_counted
-- Votes per candidate that count.
SELECT candidate, counted FROM tallies WHERE campaign = $1;

-- name: read_watermarks
-- How far every shard's votes are here, and up to when.
SELECT shard, epoch, seq, at FROM watermarks ORDER BY shard;

-- name: copy_recent_votes
-- A shard's votes of one campaign day after a position, none older than $5. Within a day the unique
-- index leads to the position.
SELECT {columns} FROM votes
WHERE day = $1 AND shard = $2 AND (epoch, seq) > ($3, $4) AND at >= $5;

-- name: copy_day_votes
-- A whole campaign day.
SELECT {columns} FROM votes WHERE day = $1;

-- name: lock_watch
-- One watch per installation ("dzwt"); held by the session, so it ends with the connection.
SELECT pg_try_advisory_lock(1685747572, 0);

-- name: unlock_watch
-- At an orderly stop, so that the successor need not wait until the server sees us gone.
SELECT pg_advisory_unlock(1685747572, 0);

-- name: list_campaigns
-- All of them.
SELECT number FROM campaigns ORDER BY number;

-- name: list_flags_to_hold
-- Flags with evidence enough to be held at once, on which nothing was decided yet: those that were
-- written just now, and what a crash left. Not where a person ($2 is none) has decided on the case
-- since, or has released it before: then it is for people to say.
SELECT f.number
FROM flags AS f
LEFT JOIN LATERAL (
    SELECT d.action, d.at
    FROM decisions AS d JOIN flags AS g ON g.number = d.flag
    WHERE coalesce(g.continues, g.number) = coalesce(f.continues, f.number)
        AND d.decided_by <> $2
    ORDER BY d.number DESC LIMIT 1
) AS word ON true
WHERE f.campaign = $1 AND f.automatic
    AND NOT EXISTS (SELECT FROM decisions AS d WHERE d.flag = f.number)
    AND coalesce(word.action <> 'release' AND word.at < f.at, true)
ORDER BY f.number;

-- name: read_baselines
-- What a campaign's crowd looked like on the last day that taught it.
SELECT learned FROM baselines WHERE campaign = $1;

-- name: keep_baselines
-- One day's take the place of the day's before.
INSERT INTO baselines (campaign, day, learned) VALUES ($1, $2, $3)
ON CONFLICT (campaign) DO UPDATE SET day = excluded.day, learned = excluded.learned;

-- name: read_flag_campaign_id
-- The id of the campaign that a flag belongs to.
SELECT c.id FROM flags AS f JOIN campaigns AS c ON c.number = f.campaign WHERE f.number = $1;

-- name: count_fingerprints
-- Agents and TLS fingerprints of the votes that count, over the last $1, and over the last $2.
SELECT v.user_agent_class, v.tls_hash, count(*) AS votes,
       count(*) FILTER (WHERE v.at > now() - $2::interval) AS lately
FROM votes AS v
LEFT JOIN vote_state AS s USING (day, shard, epoch, seq)
WHERE v.at > now() - $1::interval AND v.day > current_date - 4
    AND v.tls_hash <> 0 AND v.user_agent_class > 1 AND coalesce(s.state, v.verdict) = 0
GROUP BY v.user_agent_class, v.tls_hash;

-- name: set_holds_all
-- From now on every like of the campaign is held, for this reason; null = no longer.
UPDATE campaigns SET holds_all_because = $2 WHERE number = $1;

-- name: move_catalog
-- Edges load what changed.
UPDATE catalog SET version = version + 1;
