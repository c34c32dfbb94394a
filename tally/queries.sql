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
-- One campaign day's rows. Made beside the parent and then attached: that takes SHARE UPDATE
-- EXCLUSIVE on it, so neither reads nor COPY wait, where CREATE ... PARTITION OF would stop both.
-- A parent's statement triggers do not fire for its partitions: each gets its own.
-- {name}, {day} and {next_day} are ours, made from a date.
CREATE TABLE {name} (LIKE votes INCLUDING ALL);
CREATE TRIGGER votes_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON {name}
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE votes ATTACH PARTITION {name} FOR VALUES FROM ('{day}') TO ('{next_day}');

-- name: read_votes
-- Rows of one entry's positions, to compare with the journal; columns as rows.py writes them.
SELECT {columns} FROM votes
WHERE day = $1 AND shard = $2 AND epoch = $3 AND seq BETWEEN $4 AND $5;

-- name: add_minutes
-- One flusher batch, per minute and in total; the caller holds the shard's watermark row locked.
-- Columns come as text of arrays, which costs the driver a tenth of arrays. Rows are locked in one
-- order, so that shards that flush at once wait for each other and never in a circle.
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

-- name: read_tallies
-- Totals of one campaign.
SELECT candidate, counted, held, struck FROM tallies WHERE campaign = $1;

-- name: read_refused
-- All ballots of one campaign that were turned away.
SELECT coalesce(sum(ballots), 0)::bigint FROM refusals WHERE campaign = $1;

-- name: read_as_of
-- The moment up to which nothing is missing on any shard; null before the first flush.
SELECT min(at) FROM watermarks;
