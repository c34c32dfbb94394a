-- What staff.py asks.

-- name: add_staff
INSERT INTO staff (name, shown_as, role, password_hash, oidc_subject)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name) DO NOTHING RETURNING number;

-- name: find_staff_by_name
SELECT number, name, shown_as, role, password_hash, totp_secret, totp_step, oidc_subject, failures,
    locked_until > now() AS locked, locked_until, disabled_at
FROM staff WHERE name = $1;

-- name: find_staff
SELECT number, name, shown_as, role, password_hash, totp_secret, totp_step, oidc_subject, failures,
    locked_until > now() AS locked, locked_until, disabled_at
FROM staff WHERE number = $1;

-- name: hold_staff
SELECT number, name, shown_as, role, password_hash, totp_secret, totp_step, oidc_subject, failures,
    locked_until > now() AS locked, locked_until, disabled_at
FROM staff WHERE number = $1 FOR UPDATE;

-- name: find_staff_by_subject
SELECT number, name, shown_as, role, password_hash, totp_secret, totp_step, oidc_subject, failures,
    locked_until > now() AS locked, locked_until, disabled_at
FROM staff WHERE oidc_subject = $1;

-- name: bind_subject
-- The first sign-in of somebody who was expected under this name.
UPDATE staff SET oidc_subject = $2 WHERE number = $1 AND oidc_subject = $3 RETURNING number;

-- name: list_staff
SELECT number, name, shown_as, role, password_hash IS NOT NULL AS has_password,
    totp_secret IS NOT NULL AS has_totp, oidc_subject, made_at, disabled_at,
    CASE WHEN locked_until > now() THEN locked_until END AS locked_until,
    (SELECT max(seen_at) FROM staff_sessions WHERE staff = staff.number AND complete) AS seen_at
FROM staff ORDER BY disabled_at IS NOT NULL, name;

-- name: lock_staff
-- Changes of accounts go one by one, so that the last admin stays one.
SELECT number, name, shown_as, role, password_hash, totp_secret, totp_step, oidc_subject, failures,
    locked_until > now() AS locked, locked_until, disabled_at
FROM staff ORDER BY number FOR UPDATE;

-- name: set_role
UPDATE staff SET role = $2 WHERE number = $1;

-- name: set_disabled
UPDATE staff SET disabled_at = CASE WHEN $2 THEN now() END, failures = 0, locked_until = NULL
WHERE number = $1;

-- name: reset_staff
-- What is reset is gone at once, and who had it signs in no more. The step moves on, so that a
-- set-up link of before is worth nothing.
UPDATE staff SET failures = 0, locked_until = NULL, totp_step = totp_step + 1,
    password_hash = CASE WHEN $2 THEN NULL ELSE password_hash END,
    totp_secret = CASE WHEN $3 THEN NULL ELSE totp_secret END
WHERE number = $1;

-- name: end_all_sessions
DELETE FROM staff_sessions WHERE staff = $1;

-- name: set_password
-- Only on what was looked at: somebody may have set another one meanwhile.
UPDATE staff SET password_hash = $2, failures = 0, locked_until = NULL
WHERE number = $1 AND password_hash IS NOT DISTINCT FROM $3 AND disabled_at IS NULL
RETURNING number;

-- name: set_totp
UPDATE staff SET totp_secret = $2, totp_step = $3
WHERE number = $1 AND totp_secret IS NOT DISTINCT FROM $4 AND disabled_at IS NULL
RETURNING number;

-- name: use_totp_step
-- Of two requests with one code, one gets a row.
UPDATE staff SET totp_step = $2 WHERE number = $1 AND totp_step < $2 RETURNING number;

-- name: note_success
UPDATE staff SET failures = 0, locked_until = NULL WHERE number = $1;

-- name: note_failure
-- Nothing while it is locked: who goes on guessing does not make it longer. The wait doubles with
-- each failure from the free ones on, to the longest.
UPDATE staff SET failures = failures + 1,
    locked_until = CASE WHEN failures + 1 >= $2
        THEN now() + least($4::interval, $3::interval * power(2, least(failures + 1 - $2, 20))) END
WHERE number = $1 AND (locked_until IS NULL OR locked_until <= now())
RETURNING locked_until;
