-- Notices that were put up; notice_proposals.py reads these.

-- name: count_notices
-- How many a campaign has, and what time it is.
SELECT clock_timestamp() AS now, (SELECT count(*) FROM notices WHERE campaign = $1) AS notices;

-- name: add_notice
-- The caller holds the lock of changes: numbers are given out in turn.
INSERT INTO notices (campaign, number, at, content, published_by, approved_by)
VALUES ($1, $2, clock_timestamp(), $3, $4, $5)
RETURNING at;

-- name: move_catalog
-- Edges load it when this moves.
UPDATE catalog SET version = version + 1;

-- name: list_put_up
-- Of a campaign, the newest first.
SELECT number, at, content ->> 'title' AS title, (content ->> 'withdraws')::integer AS withdraws,
       EXISTS (
           SELECT FROM notices AS later
           WHERE later.campaign = n.campaign AND (later.content ->> 'withdraws')::integer = n.number
       ) AS withdrawn,
       published_by, approved_by
FROM notices AS n
WHERE campaign = $1
ORDER BY number DESC;

-- name: read_notice
-- One of them, as it was put up.
SELECT at, content::text FROM notices WHERE campaign = $1 AND number = $2;
