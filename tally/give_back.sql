-- What give_back.py asks of Postgres.

-- name: read_lost
-- A campaign day's votes on a shard that came after a position of the hot state, and are here.
SELECT device, candidate, click, epoch, seq FROM votes
WHERE day = $1 AND shard = $2 AND campaign = $3 AND (epoch > $4 OR seq > $5)
    AND (epoch, seq) <= ($6, $7)
ORDER BY epoch, seq;

-- name: read_lives
-- Likes of each device of a shard in a campaign before a day.
SELECT device, count(*) AS likes FROM votes
WHERE campaign = $1 AND shard = $2 AND day < $3 AND (epoch, seq) <= ($4, $5)
GROUP BY device;

-- name: lock_sums
-- One mends sums at a time ("dzgb"); to the end of the session or the unlock.
SELECT pg_advisory_lock(1685743458, 0);

-- name: unlock_sums
SELECT pg_advisory_unlock(1685743458, 0);
