-- What is to be sent: see outbox.py. Times are the database's.

-- name: add_news
-- One letter for each destination that wants it; none for one that was made after it happened, and
-- none where there is one already.
INSERT INTO outbox (destination, event, subject, content)
SELECT number, $1, $2, $3::jsonb
FROM destinations
WHERE disabled_at IS NULL AND $1 = ANY (events) AND made_at <= coalesce($4, now())
    AND number <> coalesce($5, 0)
ON CONFLICT (destination, event, subject) DO NOTHING;

-- name: add_end
-- For those who were told of its beginning.
INSERT INTO outbox (destination, event, subject, content)
SELECT begun.destination, $2, $3, $4::jsonb
FROM outbox AS begun JOIN destinations ON number = begun.destination AND disabled_at IS NULL
WHERE begun.event = $1 AND begun.subject = $3
ON CONFLICT (destination, event, subject) DO NOTHING;

-- name: add_test
INSERT INTO outbox (destination, event, subject, content)
VALUES ($1, $2, $3, $4::jsonb)
RETURNING id;

-- name: read_unended
-- What began and, for somebody who was told, has not ended.
SELECT DISTINCT begun.subject
FROM outbox AS begun JOIN destinations ON number = begun.destination AND disabled_at IS NULL
WHERE begun.event = $1 AND NOT EXISTS (
    SELECT FROM outbox AS ended
    WHERE ended.destination = begun.destination AND ended.event = $2
        AND ended.subject = begun.subject
);

-- name: claim_due
-- Letters whose time has come, at most $1, at most $2 of one destination, none of those in $3. They
-- are ours for $4: who dies with them lets them come again after that.
WITH due AS (
    SELECT letter.id, number, form, shown_as, address, secret
    FROM destinations CROSS JOIN LATERAL (
        SELECT id
        FROM outbox
        WHERE destination = number AND sent_at IS NULL AND given_up_at IS NULL
            AND next_try_at <= now()
        ORDER BY next_try_at, made_at, id
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    ) AS letter
    WHERE disabled_at IS NULL AND number <> ALL ($3::integer[])
    LIMIT $1
)
UPDATE outbox
SET tries = tries + 1, next_try_at = now() + $4
FROM due
WHERE outbox.id = due.id
RETURNING outbox.id, event, subject, content::text, made_at, tries,
    number, form, shown_as, address, secret;

-- name: say_sent
UPDATE outbox
SET sent_at = now(), last_error = NULL
WHERE id = $1 AND sent_at IS NULL;

-- name: say_failed
-- Only where nobody else took it since. What was given up meanwhile, with its destination, stays so.
UPDATE outbox
SET last_error = $3, next_try_at = now() + $4, given_up_at = CASE WHEN $5 THEN now() END
WHERE id = $1 AND tries = $2 AND sent_at IS NULL AND given_up_at IS NULL
RETURNING given_up_at IS NOT NULL;

-- name: send_again
-- Not for a destination that is switched off: it would wait unseen.
UPDATE outbox
SET given_up_at = NULL, tries = 0, next_try_at = now()
WHERE id = $1 AND given_up_at IS NOT NULL AND sent_at IS NULL
    AND destination IN (SELECT number FROM destinations WHERE disabled_at IS NULL)
RETURNING destination, event, subject;

-- name: waits_for_switch
-- A dead letter that cannot go again, because its destination is switched off.
SELECT EXISTS (
    SELECT FROM outbox JOIN destinations ON number = destination
    WHERE id = $1 AND given_up_at IS NOT NULL AND sent_at IS NULL AND disabled_at IS NOT NULL
);

-- name: give_up_disabled
UPDATE outbox
SET given_up_at = now(), last_error = 'the destination was switched off'
WHERE destination = $1 AND sent_at IS NULL AND given_up_at IS NULL;

-- name: forget_old
-- Sent longer ago than $1, but those of $2. Of $3 and $4, what begins and what ends it, only both of
-- them together: a beginning without its end would be on again, and told to be over again.
WITH old AS (
    SELECT id, destination, event, subject FROM outbox WHERE sent_at < now() - $1::interval
), over AS (
    SELECT begun.id AS begun_id, ended.id AS ended_id
    FROM unnest($3::text[], $4::text[]) AS pair (begins, ends)
    JOIN old AS begun ON begun.event = pair.begins
    JOIN old AS ended ON ended.event = pair.ends
        AND (ended.destination, ended.subject) = (begun.destination, begun.subject)
)
DELETE FROM outbox
WHERE id IN (SELECT begun_id FROM over UNION ALL SELECT ended_id FROM over)
    OR id IN (SELECT id FROM old WHERE event <> ALL ($2::text[] || $3::text[] || $4::text[]));

-- name: list_letters
-- Dead letters first, then what waits, then what was sent, each newest first.
SELECT id, outbox.destination, shown_as, form, event, subject, outbox.made_at, tries, next_try_at,
    sent_at, given_up_at, last_error
FROM outbox JOIN destinations ON number = outbox.destination
WHERE CASE $1
    WHEN 'dead' THEN given_up_at IS NOT NULL
    WHEN 'waiting' THEN sent_at IS NULL AND given_up_at IS NULL
    ELSE sent_at IS NOT NULL
END
ORDER BY coalesce(sent_at, given_up_at, outbox.made_at) DESC, id
LIMIT $2;

-- name: count_letters
SELECT count(*) FILTER (WHERE given_up_at IS NOT NULL) AS dead,
    count(*) FILTER (WHERE sent_at IS NULL AND given_up_at IS NULL) AS waiting,
    count(*) FILTER (WHERE sent_at IS NOT NULL) AS sent
FROM outbox;

-- name: list_destinations
SELECT number, shown_as, form, address, secret IS NOT NULL AS has_secret, events, made_by, made_at,
    disabled_at,
    (SELECT count(*) FROM outbox WHERE destination = number AND given_up_at IS NOT NULL) AS dead,
    (SELECT count(*) FROM outbox
     WHERE destination = number AND sent_at IS NULL AND given_up_at IS NULL) AS waiting,
    (SELECT max(sent_at) FROM outbox WHERE destination = number) AS last_sent_at
FROM destinations
ORDER BY disabled_at IS NOT NULL, number;

-- name: count_destinations
SELECT count(*) FROM destinations WHERE disabled_at IS NULL;

-- name: add_destination
INSERT INTO destinations (shown_as, form, address, secret, events, made_by)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING number;

-- name: set_disabled
UPDATE destinations
SET disabled_at = CASE WHEN $2 THEN now() END
WHERE number = $1 AND (disabled_at IS NULL) = $2
RETURNING shown_as;

-- name: find_destination
SELECT shown_as FROM destinations WHERE number = $1;
