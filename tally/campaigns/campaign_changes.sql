-- What campaign_changes.py asks of Postgres.

-- name: lock_campaign
-- One campaign, that stays so to the end of the transaction, and the moment that it is changed at.
SELECT number, id, title, time_zone, opens_at, closes_at, rules::text, limits::text, origins,
       origins_off, portal_keys::text, channels::text, paused_because, is_test, clock_timestamp() AS now,
       (SELECT coalesce(max(number), 0) FROM campaign_changes AS h WHERE h.campaign = c.number)
           AS version
FROM campaigns AS c WHERE id = $1 FOR UPDATE;

-- name: read_campaign
-- The same to look at.
SELECT number, id, title, time_zone, opens_at, closes_at, rules::text, limits::text, origins,
       origins_off, portal_keys::text, channels::text, paused_because, is_test, clock_timestamp() AS now,
       (SELECT coalesce(max(number), 0) FROM campaign_changes AS h WHERE h.campaign = c.number)
           AS version
FROM campaigns AS c WHERE id = $1;

-- name: list_campaigns
-- All of them, the newest first.
SELECT number, id, title, time_zone, opens_at, closes_at, rules::text, limits::text, origins,
       origins_off, portal_keys::text, channels::text, paused_because, is_test, clock_timestamp() AS now,
       (SELECT coalesce(max(number), 0) FROM campaign_changes AS h WHERE h.campaign = c.number)
           AS version
FROM campaigns AS c ORDER BY number DESC;

-- name: write_campaign
-- Whatever may be changed of it without an import.
UPDATE campaigns SET opens_at = $2, closes_at = $3, rules = $4, limits = $5, origins_off = $6,
                     paused_because = $7, is_test = $8
WHERE number = $1;

-- name: was_open
-- Whether it was opened at some time, wherever its opening was moved to since.
SELECT EXISTS (
    SELECT FROM campaign_changes
    WHERE campaign = $1 AND (
        kind = 'opened' OR kind = 'window' AND (was ->> 'opens_at')::timestamptz <= at));

-- name: read_candidate
-- One of them; the caller holds the lock of changes.
SELECT number, id, place, name, organisation, unit, channel, title, summary, photo, withdrawn_at,
       story, more_photos, video
FROM candidates WHERE campaign = $1 AND id = $2;

-- name: list_candidates
-- All of a campaign, withdrawn ones included.
SELECT number, id, place, name, organisation, unit, channel, title, summary, photo, withdrawn_at,
       story, more_photos, video
FROM candidates WHERE campaign = $1 ORDER BY place, number;

-- name: find_same_person
-- Somebody else of this name at this organisation, with this title, who is in the campaign.
SELECT id FROM candidates
WHERE campaign = $1 AND name = $2 AND organisation = $3 AND title = $4 AND id <> $5
    AND withdrawn_at IS NULL
ORDER BY number LIMIT 1;

-- name: add_candidate
-- Under the next number that nobody ever had, at the end of the list.
INSERT INTO candidates (campaign, number, id, place, name, organisation, unit, channel, title,
                        summary, photo, story, more_photos, video)
SELECT $1, coalesce(max(number), 0) + 1, $2, coalesce(max(place), 0) + 1, $3, $4, $5, $6, $7, $8,
       $9, $10, $11, $12
FROM candidates WHERE campaign = $1
RETURNING number;

-- name: correct_candidate
-- Number, id and place stay.
UPDATE candidates SET name = $3, organisation = $4, unit = $5, channel = $6, title = $7,
                      summary = $8, photo = $9, story = $10, more_photos = $11, video = $12
WHERE campaign = $1 AND number = $2;

-- name: withdraw_candidate
-- Votes stay.
UPDATE candidates SET withdrawn_at = clock_timestamp() WHERE campaign = $1 AND number = $2;

-- name: return_candidate
-- With all votes.
UPDATE candidates SET withdrawn_at = NULL WHERE campaign = $1 AND number = $2;

-- name: has_photo
-- Whether there is such a picture.
SELECT EXISTS (SELECT FROM photos WHERE id = $1);

-- name: read_changes
-- A campaign's changes after a number, of one candidate (null: of all and of the campaign), those
-- that are shown in public alone ($4) or all; the newest first.
SELECT h.number, h.at, h.kind, c.id AS candidate, c.name AS candidate_name, h.was::text,
       h.became::text, h.reason, h.changed_by, h.approved_by, h.in_public
FROM campaign_changes AS h
LEFT JOIN candidates AS c ON (c.campaign, c.number) = (h.campaign, h.candidate)
WHERE h.campaign = $1 AND h.number > $2 AND ($3::integer IS NULL OR h.candidate = $3)
    AND (h.in_public OR NOT $4)
ORDER BY h.number DESC LIMIT $5;
