-- What publication.py asks of Postgres.

-- name: lock_publications
-- A campaign's publications are made by one at a time ("dzpb", the campaign's number; 0 is the
-- publisher's own). Held by the session, outside of transactions, so that what is read after it is
-- what the one before committed.
SELECT pg_advisory_lock(1685745762, $1);

-- name: unlock_publications
SELECT pg_advisory_unlock(1685745762, $1);

-- name: lock_publisher
-- One publisher per installation; held by the session, so it ends with the connection.
SELECT pg_try_advisory_lock(1685745762, 0);

-- name: unlock_publisher
-- At an orderly stop, so that the successor need not wait until the server sees us gone.
SELECT pg_advisory_unlock(1685745762, 0);

-- name: read_published_campaign
-- Everything about a campaign that is published with its tally.
SELECT number, id, title, time_zone, opens_at, closes_at, rules::text, limits::text, origins, is_test
FROM campaigns WHERE number = $1;

-- name: read_candidate_tallies
-- Every candidate, votes or not, and whatever sums there are for others.
SELECT coalesce(c.number, t.candidate) AS number, c.id, c.name, c.organisation, c.unit, c.channel,
       c.withdrawn_at IS NOT NULL AS withdrawn, coalesce(t.counted, 0) AS counted,
       coalesce(t.held, 0) AS held, coalesce(t.struck, 0) AS struck
FROM (SELECT * FROM candidates WHERE campaign = $1) AS c
FULL JOIN (SELECT * FROM tallies WHERE campaign = $1) AS t ON t.candidate = c.number
ORDER BY 1;

-- name: read_refusals_by_reason
-- Ballots that were turned away, per candidate and reason.
SELECT candidate, outcome, ballots FROM refusals WHERE campaign = $1 AND ballots > 0;

-- name: read_as_of
-- The moment up to which nothing is missing on any shard; null before the first flush.
SELECT min(at) FROM watermarks HAVING count(*) >= (SELECT shards FROM catalog);

-- name: list_decisions
-- All decisions on a campaign's votes.
SELECT number, at, action, reason, rules, decided_by, votes, moved
FROM decisions WHERE campaign = $1 ORDER BY number;

-- name: list_decision_moves
-- What each of them moved, per candidate.
SELECT a.decision, m.candidate, sum(m.counted)::bigint AS counted, sum(m.held)::bigint AS held,
       sum(m.struck)::bigint AS struck
FROM decisions AS d
JOIN adjudications AS a ON a.decision = d.number
CROSS JOIN unnest(a.candidates, a.counted, a.held, a.struck)
    AS m (candidate, counted, held, struck)
WHERE d.campaign = $1
GROUP BY 1, 2 ORDER BY 1, 2;

-- name: list_changes
-- What was changed of the campaign, with the candidate that it concerns.
SELECT h.number, h.at, h.kind, c.id AS candidate, h.was::text, h.became::text, h.reason,
       h.approved_by IS NOT NULL AS two_persons
FROM campaign_changes AS h
LEFT JOIN candidates AS c ON (c.campaign, c.number) = (h.campaign, h.candidate)
WHERE h.campaign = $1 ORDER BY h.number;

-- name: list_detectors_versions
-- Of the detectors that flagged anything of it.
SELECT coalesce(array_agg(DISTINCT version ORDER BY version), '{}') FROM flags WHERE campaign = $1;

-- name: list_reopenings
-- Where a closed campaign was opened again.
SELECT shard, epoch, entry, at FROM closings
WHERE campaign = $1 AND NOT closed ORDER BY at, shard;

-- name: list_seals
-- What was sealed of it so far: the closings that each seal goes up to.
SELECT number, kind, content->'tally'->>'closings' AS closings FROM publications
WHERE campaign = $1 AND kind IN ('close', 'final') ORDER BY number;

-- name: read_last_publication
-- The one before; without a hash it is not finished.
SELECT number, manifest_hash FROM publications WHERE campaign = $1 ORDER BY number DESC LIMIT 1;

-- name: add_publication
-- Its numbers are fixed from here on. The caller is in the snapshot that they are of.
INSERT INTO publications (campaign, number, at, kind, as_of, content, asked_by, approved_by)
VALUES ($1, $2, clock_timestamp(), $3, $4, $5, $6, $7);

-- name: list_last_publications
-- Of each campaign the last one: of all of them the only one whose files may not be made yet.
SELECT DISTINCT ON (campaign) campaign, number, manifest_hash IS NULL AS unfinished
FROM publications ORDER BY campaign, number DESC;

-- name: read_publication
-- One of them, but for its archive.
SELECT campaign, number, at, kind, as_of, content::text, asked_by, approved_by, manifest_hash
FROM publications WHERE campaign = $1 AND number = $2;

-- name: read_manifest_hash
SELECT manifest_hash FROM publications WHERE campaign = $1 AND number = $2;

-- name: read_archive
SELECT archive FROM publications WHERE campaign = $1 AND number = $2;

-- name: list_checkpoints
-- Those that were kept up to the sizes of a publication, whenever this is asked.
SELECT log, size, note FROM checkpoints
WHERE campaign = $1 AND size <= CASE log WHEN 0 THEN $2::bigint ELSE $3::bigint END
ORDER BY log, size;

-- name: finish_publication
-- Its files are made. No row where somebody finished it before.
UPDATE publications SET manifest_hash = $3, archive = $4
WHERE campaign = $1 AND number = $2 AND manifest_hash IS NULL
RETURNING asked_by, approved_by;

-- name: list_finished
-- All that are made, for whoever keeps their folders.
SELECT p.campaign, c.id AS campaign_id, p.number, p.manifest_hash
FROM publications AS p JOIN campaigns AS c ON c.number = p.campaign
WHERE p.manifest_hash IS NOT NULL ORDER BY p.campaign, p.number;

-- name: list_for_publishing
-- Campaigns of which anything is published, with when the last one by the clock was made.
SELECT c.number, c.id, c.time_zone, c.opens_at, c.closes_at, c.rules::text, c.imported_at,
       clock_timestamp() AS now,
       (SELECT max(p.at) FROM publications AS p
        WHERE p.campaign = c.number AND p.kind = 'scheduled') AS scheduled_at
FROM campaigns AS c WHERE NOT c.is_test ORDER BY c.number;

-- name: list_approved_finals
-- What two persons agreed on and is to be made now.
SELECT p.number, p.campaign, p.content::text, one.name AS proposed_by, two.name AS approved_by
FROM proposals AS p
JOIN staff AS one ON one.number = p.proposed_by
JOIN staff AS two ON two.number = p.settled_by
WHERE p.kind = 'publish' AND p.state = 'approved' AND p.answer = $1
ORDER BY p.number;

-- name: answer_final
-- What became of it, in the transaction that does it.
UPDATE proposals SET answer = $3 WHERE number = $1 AND answer = $2;

-- name: read_sums
-- What would be published now, in a few numbers.
SELECT coalesce(sum(counted), 0)::bigint AS counted, coalesce(sum(held), 0)::bigint AS held,
       coalesce(sum(struck), 0)::bigint AS struck
FROM tallies WHERE campaign = $1;

-- name: read_last_decision
SELECT coalesce(max(number), 0) FROM decisions WHERE campaign = $1;

-- name: read_last_change
SELECT coalesce(max(number), 0) FROM campaign_changes WHERE campaign = $1;

-- name: find_campaign
SELECT number FROM campaigns WHERE id = $1;

-- name: read_watermarks
SELECT shard, epoch, entry FROM watermarks;
