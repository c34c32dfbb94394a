-- What audit.py asks.

-- name: lock_audit
-- The last lock that a transaction takes, held to its end: rows get their numbers in the order in
-- which they commit. The number is ASCII "dzau".
SELECT pg_advisory_xact_lock(1685741941, 0);

-- name: read_audit_head
SELECT number, hash, clock_timestamp() AS now FROM audit_log ORDER BY number DESC LIMIT 1;

-- name: read_audit_clock
SELECT clock_timestamp();

-- name: add_audit
INSERT INTO audit_log (number, at, actor, role, action, subject, details, previous, hash)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: read_audit
SELECT number, at, actor, role, action, subject, details, previous, hash
FROM audit_log ORDER BY number;

-- name: list_published_heads
-- The head of each publication's moment, as it was signed with it.
SELECT (content->'tally'->'audit'->>'number')::bigint AS number,
       content->'tally'->'audit'->>'hash' AS hash
FROM publications WHERE content->'tally' ? 'audit';

-- name: find_audit
-- A page of it, newest first; each condition that is null is none.
SELECT number, at, actor, role, action, subject, details, hash
FROM audit_log
WHERE ($1::text IS NULL OR actor = $1)
    AND ($2::text IS NULL OR starts_with(action, $2))
    AND ($3::text IS NULL OR strpos(lower(subject), lower($3)) > 0)
    AND ($4::timestamptz IS NULL OR at >= $4)
    AND ($5::timestamptz IS NULL OR at < $5)
    AND ($6::bigint IS NULL OR number < $6)
ORDER BY number DESC LIMIT $7;
