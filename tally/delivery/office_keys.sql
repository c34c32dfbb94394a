-- Keys of the office API: see office_keys.py.

-- name: add_key
INSERT INTO office_keys (id, shown_as, key_hash, scopes, made_by) VALUES ($1, $2, $3, $4, $5);

-- name: count_live
SELECT count(*) FROM office_keys WHERE revoked_at IS NULL;

-- name: read_key
SELECT id, shown_as, key_hash, scopes, used_at < now() - interval '1 minute' IS NOT FALSE AS stale
FROM office_keys
WHERE id = $1 AND revoked_at IS NULL;

-- name: say_used
UPDATE office_keys SET used_at = now() WHERE id = $1;

-- name: revoke
UPDATE office_keys SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL RETURNING shown_as;

-- name: list_keys
SELECT id, shown_as, scopes, made_by, made_at, used_at, revoked_at
FROM office_keys
ORDER BY revoked_at IS NOT NULL, made_at DESC
LIMIT 200;
