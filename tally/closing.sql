-- What closing.py asks of Postgres.

-- name: list_closing_times
-- When each campaign closes; what each shard is to know of it follows from that.
SELECT number, closes_at FROM campaigns ORDER BY number;

-- name: lock_closing_time
-- One of them, that nobody moves until our transaction ends: its shards learn what is in force.
SELECT id, closes_at, is_test,
       (SELECT coalesce(max(number), 0) FROM campaign_changes AS h WHERE h.campaign = c.number)
           AS version
FROM campaigns AS c WHERE number = $1 FOR SHARE;

-- name: read_closings
-- The last word of each shard's journal on a campaign, as far as it was flushed.
SELECT DISTINCT ON (shard) shard, epoch, entry, seq, at, closed
FROM closings WHERE campaign = $1
ORDER BY shard, epoch DESC, entry DESC;

-- name: highest_epoch
-- A store that lost its head starts above it.
SELECT coalesce(max(epoch), 0) FROM watermarks;

-- name: count_shards
-- Of the installation; a shard that no flusher has seen yet is among them.
SELECT shards FROM catalog;
