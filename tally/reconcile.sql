-- What is asked of Postgres to hold the hot state against it.

-- name: read_mark
-- How far a shard's journal is here; null before its first flush.
SELECT epoch, entry, seq, at FROM watermarks WHERE shard = $1;

-- name: read_adjudicated
-- How many adjudications of a shard are in the tallies of this moment.
SELECT coalesce(max(number), 0) FROM adjudications WHERE shard = $1;

-- name: read_sums
-- A campaign's votes by candidate.
SELECT candidate, counted, held, struck FROM tallies WHERE campaign = $1;

-- name: read_refusals
-- A campaign's ballots that were turned away.
SELECT candidate, outcome, ballots FROM refusals WHERE campaign = $1;

-- name: read_deltas
-- What the adjudications ($2, $3] of a shard move in a campaign.
SELECT a.candidates, a.counted, a.held, a.struck
FROM adjudications AS a JOIN decisions AS d ON d.number = a.decision
WHERE a.shard = $1 AND a.number > $2 AND a.number <= $3 AND d.campaign = $4;
