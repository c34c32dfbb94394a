-- What is asked of Postgres to tell how the installation's parts do.

-- name: read_beats
-- What each process said of itself last, and the database's own time.
SELECT name, instance, at, clock_timestamp() - at AS silent, facts::text AS facts
FROM parts ORDER BY name, instance;

-- name: read_server
-- The database about itself.
SELECT clock_timestamp() AS now, pg_postmaster_start_time() AS started_at,
       pg_is_in_recovery() AS is_standby;

-- name: read_marks
-- How far every shard's journal is here.
SELECT shard, epoch, seq, at FROM watermarks ORDER BY shard;
