-- What the integrator and whoever reads the logs ask of Postgres; store.py reads them. What the
-- edge reads too is in voting/log_reader.py.

-- name: lock_logs
-- One integrator at a time ("dzlg"), waited for. Taken outside the transaction, so that the snapshot
-- of the transaction is taken after it, and sees all that the one before committed.
SELECT pg_advisory_lock(1685744743, 0);

-- name: unlock_logs
-- After the commit; where the connection is lost, the server does it.
SELECT pg_advisory_unlock(1685744743, 0);

-- name: make_this_commit_durable
-- A root that was signed must never be forgotten: another one would take its place.
SET LOCAL synchronous_commit = on;

-- name: add_identity
-- The keys that the logs are begun with.
INSERT INTO log_identity (verifier_key, salts_check) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- name: read_identity
-- The keys that the logs were begun with.
SELECT verifier_key, salts_check FROM log_identity;

-- name: make_logs
-- The two logs of every campaign, and of those of $2, where they are not there yet.
INSERT INTO logs (campaign, log, size, root, at)
SELECT campaign, log, 0, $1, to_timestamp(0)
FROM (SELECT number FROM campaigns UNION SELECT unnest($2::smallint[])) AS _ (campaign)
CROSS JOIN (VALUES (0), (1)) AS trees (log)
ORDER BY campaign, log
ON CONFLICT DO NOTHING;

-- name: read_log
-- One log's head.
SELECT size, root, at, decision, checkpoint FROM logs WHERE campaign = $1 AND log = $2;

-- name: lock_log
-- The same for whoever signs it: two signers go one by one. With what the origin is made from.
SELECT l.size, l.root, l.at, l.checkpoint, c.id
FROM logs AS l JOIN campaigns AS c ON c.number = l.campaign
WHERE l.campaign = $1 AND l.log = $2
FOR UPDATE OF l;

-- name: list_logs
-- All of them that have a campaign, each with when a checkpoint of it was kept last.
SELECT l.campaign, c.id, l.log, l.size, l.root, l.at, l.checkpoint,
       (SELECT max(k.at) FROM checkpoints AS k WHERE (k.campaign, k.log) = (l.campaign, l.log))
       AS kept_at
FROM logs AS l JOIN campaigns AS c ON c.number = l.campaign
ORDER BY l.campaign, l.log;

-- name: read_progress
-- How far each shard's votes are in the database and in the logs.
SELECT w.shard, w.epoch, w.seq, w.at, coalesce(l.epoch, 0) AS logged_epoch,
       coalesce(l.seq, 0) AS logged_seq
FROM watermarks AS w LEFT JOIN log_watermarks AS l USING (shard)
ORDER BY w.shard;

-- name: list_vote_days
-- Campaign days that have a table of votes: from what each takes, whatever it is called.
SELECT generate_series(bounds[1]::date, bounds[2]::date - 1, interval '1 day')::date AS day
FROM pg_inherits
JOIN pg_class AS child ON child.oid = inhrelid,
regexp_match(pg_get_expr(child.relpartbound, child.oid),
             $$FROM \('([0-9-]+)'\) TO \('([0-9-]+)'\)$$) AS bounds
WHERE inhparent = 'votes'::regclass
ORDER BY day;

-- name: find_first_after
-- A shard's next vote after a position, on whichever of these days: one look into each day's index,
-- so that old days cost nothing.
SELECT first.epoch, first.seq
FROM unnest($1::date[]) AS d (day)
CROSS JOIN LATERAL (
    SELECT v.epoch, v.seq FROM votes AS v
    WHERE v.day = d.day AND v.shard = $2 AND (v.epoch, v.seq) > ($3, $4)
    ORDER BY v.epoch, v.seq LIMIT 1
) AS first
ORDER BY first.epoch, first.seq LIMIT 1;

-- name: find_days_between
-- Which of these days have votes of a shard and epoch between two seqs, by one look into each index.
SELECT d.day
FROM unnest($1::date[]) AS d (day)
CROSS JOIN LATERAL (
    SELECT FROM votes AS v
    WHERE v.day = d.day AND v.shard = $2 AND v.epoch = $3 AND v.seq BETWEEN $4 AND $5
    LIMIT 1
) AS found
ORDER BY d.day;

-- name: copy_votes_to_log
-- A shard's votes of one day, between two seqs.
SELECT seq, at, campaign, candidate, click, network_class, rules, verdict FROM votes
WHERE day = $1 AND shard = $2 AND epoch = $3 AND seq BETWEEN $4 AND $5
ORDER BY seq;

-- name: copy_votes_to_open
-- The same of one campaign, as far as openings need it.
SELECT seq, at, candidate, click FROM votes
WHERE day = $1 AND shard = $2 AND epoch = $3 AND seq BETWEEN $4 AND $5 AND campaign = $6
ORDER BY seq;

-- name: add_range
-- Votes that became leaves.
INSERT INTO log_ranges (campaign, start, shard, epoch, from_seq, to_seq, leaves, run_seqs,
                        run_leaves)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: move_log_watermark
-- The next votes of the shard come after these.
INSERT INTO log_watermarks (shard, epoch, seq) VALUES ($1, $2, $3)
ON CONFLICT (shard) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq;

-- name: add_tiles
-- New tiles, and those that grew.
INSERT INTO log_tiles AS t (campaign, log, level, number, width, content)
SELECT $1, $2, * FROM unnest($3::smallint[], $4::bigint[], $5::smallint[], $6::bytea[])
ON CONFLICT (campaign, log, level, number) DO UPDATE
SET width = excluded.width, content = excluded.content WHERE t.width < excluded.width;

-- name: grow_log
-- The head after a step; $6 = the size before it, which must be the one that the step began with.
UPDATE logs SET size = $3, root = $4, decision = $5
WHERE campaign = $1 AND log = $2 AND size = $6;

-- name: advance_logs
-- Nothing older than $1 is missing; $2 = the logs that this holds for.
UPDATE logs SET at = $1 WHERE at < $1 AND log = ANY($2);

-- name: add_hourly_mix
-- The votes of a step, by campaign, hour and kind of network.
INSERT INTO hourly_mix AS t (campaign, hour, network_class, votes, held)
SELECT campaign, timestamptz 'epoch' + hour * interval '1 hour', network_class, votes, held
FROM unnest($1::smallint[], $2::integer[], $3::smallint[], $4::bigint[], $5::bigint[])
     AS _ (campaign, hour, network_class, votes, held)
ON CONFLICT (campaign, hour, network_class) DO UPDATE
SET votes = t.votes + excluded.votes, held = t.held + excluded.held;

-- name: list_decisions_to_log
-- The next decisions that are not in their campaign's log.
SELECT d.campaign, d.number, d.at, d.rules, d.decided_by, d.moved
FROM decisions AS d JOIN logs AS l ON l.campaign = d.campaign AND l.log = 1
WHERE d.number > l.decision
ORDER BY d.number LIMIT $1;

-- name: read_moved_votes
-- The votes that a decision moved, where they lie.
SELECT shard, epoch, to_state, seqs FROM decision_votes
WHERE decision = $1 AND from_state <> to_state
ORDER BY shard, epoch, day, from_state;

-- name: read_ranges_between
-- The ranges of a campaign that hold seqs between these two.
SELECT start, from_seq, to_seq, run_seqs, run_leaves FROM log_ranges
WHERE campaign = $1 AND shard = $2 AND epoch = $3 AND from_seq <= $5
    AND from_seq >= coalesce(
        (SELECT max(from_seq) FROM log_ranges
         WHERE campaign = $1 AND shard = $2 AND epoch = $3 AND from_seq <= $4), $4)
ORDER BY from_seq;

-- name: list_ranges_before
-- Which votes the first $2 leaves are, in order of leaves, some at a time.
SELECT start, shard, epoch, from_seq, to_seq, leaves FROM log_ranges
WHERE campaign = $1 AND start >= $3 AND start < $2
ORDER BY start LIMIT $4;

-- name: read_bundles
-- Entries of a log, 256 a row.
SELECT number, content FROM log_tiles
WHERE campaign = $1 AND log = $2 AND level = -1 AND number >= $3 AND number < $4
ORDER BY number;

-- name: read_root_of_size
-- What was signed and kept for a size.
SELECT root FROM checkpoints WHERE campaign = $1 AND log = $2 AND size = $3;

-- name: add_checkpoint
-- Kept for ever; the first one of a size.
INSERT INTO checkpoints (campaign, log, size, root, at, note) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING;

-- name: show_checkpoint
-- The one that is handed out.
UPDATE logs SET checkpoint = $3 WHERE campaign = $1 AND log = $2;
