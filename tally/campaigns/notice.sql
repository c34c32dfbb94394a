-- What the public notice is made of; notice.py reads these.

-- name: read_sums
-- Of each candidate.
SELECT c.number, c.name, c.organisation, c.withdrawn_at IS NOT NULL AS withdrawn,
       coalesce(t.counted, 0) AS counted, coalesce(t.held, 0) AS held,
       coalesce(t.struck, 0) AS struck
FROM candidates AS c
LEFT JOIN tallies AS t ON t.campaign = c.campaign AND t.candidate = c.number
WHERE c.campaign = $1
ORDER BY c.place, c.number;

-- name: read_strikes
-- Decisions whose word is the last one on votes that are struck now.
SELECT d.number, d.at, d.rules, d.decided_by, coalesce(f.continues, f.number) AS case_of, count(*) AS votes
FROM vote_state AS s
JOIN decisions AS d ON d.number = s.decision
LEFT JOIN flags AS f ON f.number = d.flag
WHERE d.campaign = $1 AND s.state = 4
GROUP BY d.number, d.at, d.rules, d.decided_by, f.continues, f.number
ORDER BY d.number;

-- name: read_kinds
-- Families of evidence, and versions of the detectors, in these cases.
SELECT kinds, version FROM flags
WHERE campaign = $1 AND coalesce(continues, number) = ANY($2);

-- name: read_list_key
-- The list below is another one only after the next decision.
SELECT (SELECT oid::bigint FROM pg_database WHERE datname = current_database()) AS database,
       coalesce(max(number), 0) AS decision, coalesce(max(at), to_timestamp(0)) AS at
FROM decisions WHERE campaign = $1;

-- name: count_objections
-- How many were received, and how many of them were answered.
SELECT count(*) AS received, count(answer) AS answered FROM objections WHERE campaign = $1;

-- name: copy_struck
-- The votes that are struck now, by their place in the journal, with the decision that says so.
SELECT s.day, s.shard, s.epoch, s.seq, v.candidate, s.decision
FROM vote_state AS s
JOIN decisions AS d ON d.number = s.decision
JOIN votes AS v USING (day, shard, epoch, seq)
WHERE d.campaign = $1 AND s.state = 4
ORDER BY s.day, s.shard, s.epoch, s.seq;

-- name: read_last_publication
-- What was published last, if anything.
SELECT number, at, manifest_hash FROM publications
WHERE campaign = $1 AND manifest_hash IS NOT NULL
ORDER BY number DESC LIMIT 1;
