-- What sessions.py asks. All times are the database's: consoles' clocks may differ.

-- name: begin_session
INSERT INTO staff_sessions (id, staff, begun_at, seen_at, complete)
SELECT $1, number, now(), now(), $3 FROM staff WHERE number = $2 AND disabled_at IS NULL
RETURNING staff;

-- name: find_session
-- Only of those who may still sign in, and as they are now: a role that changed counts at once.
SELECT number, name, shown_as, role, complete,
    seen_at < now() - $4::interval AS unseen
FROM staff_sessions JOIN staff ON staff.number = staff_sessions.staff
WHERE id = $1 AND disabled_at IS NULL
    AND seen_at > now() - $2::interval AND begun_at > now() - $3::interval;

-- name: see_session
UPDATE staff_sessions SET seen_at = now() WHERE id = $1;

-- name: end_session
DELETE FROM staff_sessions WHERE id = $1;

-- name: end_sessions_of
DELETE FROM staff_sessions WHERE staff = $1 AND id <> $2;

-- name: count_sessions_of
SELECT count(*) FROM staff_sessions
WHERE staff = $1 AND complete AND seen_at > now() - $2::interval AND begun_at > now() - $3::interval;

-- name: drop_old_sessions
-- Those that no cookie opens any more, and the oldest of somebody who has too many.
DELETE FROM staff_sessions
WHERE seen_at <= now() - $2::interval OR begun_at <= now() - $3::interval
    OR (staff = $1 AND id IN (
        SELECT id FROM staff_sessions WHERE staff = $1 ORDER BY begun_at DESC OFFSET $4));
