-- Comments of the staff on cases; comments.py reads these.

-- name: add_comment
-- On a case, by its first flag.
INSERT INTO comments (flag, staff, text)
SELECT number, $3, $4 FROM flags WHERE campaign = $1 AND number = $2 AND continues IS NULL
RETURNING number;

-- name: count_comments
-- Of one case.
SELECT count(*) FROM comments WHERE flag = $1;

-- name: list_comments
-- Of one case, oldest first.
SELECT c.number, c.at, s.shown_as AS by, c.text
FROM comments AS c JOIN staff AS s ON s.number = c.staff
WHERE c.flag = $1 ORDER BY c.number LIMIT $2;
