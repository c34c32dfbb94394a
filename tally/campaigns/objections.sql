-- Objections of the public notice period; objections.py reads these.

-- name: add_objection
-- As it was received.
INSERT INTO objections (campaign, candidate, flag, received_from, text, entered_by)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING number;

-- name: count_objections
-- How many a campaign has, and how many of them wait for an answer.
SELECT count(*) AS all_of_them, count(*) FILTER (WHERE answer IS NULL) AS open
FROM objections WHERE campaign = $1;

-- name: list_objections
-- Of a campaign, the oldest first where they wait ($2 = false), the newest first where answered.
SELECT number, at, campaign, candidate, flag, received_from, text, entered_by, answer, answered_by,
       answered_at
FROM objections
WHERE campaign = $1 AND (answer IS NOT NULL) = $2
ORDER BY CASE WHEN $2 THEN -number ELSE number END LIMIT $3 OFFSET $4;

-- name: list_objections_to_case
-- Those that name a flag of this case.
SELECT o.number, o.answer IS NOT NULL AS answered
FROM objections AS o JOIN flags AS f ON f.number = o.flag
WHERE o.campaign = $1 AND coalesce(f.continues, f.number) = $2
ORDER BY o.number LIMIT 50;

-- name: read_objection
-- One of a campaign's.
SELECT number, at, campaign, candidate, flag, received_from, text, entered_by, answer, answered_by,
       answered_at
FROM objections WHERE campaign = $1 AND number = $2;

-- name: lock_objection
-- Whoever else would answer it waits, and adds theirs below.
SELECT answer FROM objections WHERE campaign = $1 AND number = $2 FOR UPDATE;

-- name: answer_objection
-- The caller holds the row locked.
UPDATE objections SET answer = $2, answered_by = $3, answered_at = clock_timestamp()
WHERE number = $1;

-- name: forget_objector
-- The name alone: what was objected to and answered stays.
UPDATE objections SET received_from = ''
WHERE campaign = $1 AND number = $2 AND answer IS NOT NULL AND received_from <> ''
RETURNING number;

-- name: is_flag_of
-- Whether the campaign has this flag.
SELECT EXISTS (SELECT FROM flags WHERE number = $1 AND campaign = $2);

-- name: find_campaign_of_objection
-- The id of the campaign that it is of.
SELECT c.id FROM objections AS o JOIN campaigns AS c ON c.number = o.campaign WHERE o.number = $1;
