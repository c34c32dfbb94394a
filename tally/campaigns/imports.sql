-- What imports.py asks of Postgres.

-- name: add_staged
-- What a proposal would bring in.
INSERT INTO staged_imports (campaign, version, content, made_by) VALUES ($1, $2, $3, $4)
RETURNING number;

-- name: read_staged
-- The same when somebody looks at it, or agrees.
SELECT version, content::text FROM staged_imports WHERE number = $1;

-- name: list_people
-- Everybody of a campaign, those who have withdrawn too.
SELECT number, id, name FROM candidates WHERE campaign = $1;
