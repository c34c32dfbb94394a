-- What the office API and the pages of publications read: see office.py and delivery.py.

-- name: list_campaigns
-- Rehearsals are nobody's business but ours.
SELECT c.id, c.title, c.time_zone, c.opens_at, c.closes_at,
    (SELECT count(*) FROM candidates WHERE campaign = c.number AND withdrawn_at IS NULL)
        AS candidates,
    (SELECT max(p.number) FROM publications AS p
     WHERE p.campaign = c.number AND p.manifest_hash IS NOT NULL) AS latest
FROM campaigns AS c
WHERE NOT c.is_test
ORDER BY c.number;

-- name: find_campaign
SELECT number, id, title, time_zone FROM campaigns WHERE id = $1 AND NOT is_test;

-- name: list_publications
-- Those whose files are made, newest first. $2: below this number; $3: of this kind, null = of all.
-- The content is unpacked once for each (half a millisecond for 750 candidates), not once for each
-- thing that is taken out of it.
SELECT listed.number, at, kind, as_of, asked_by, approved_by, manifest_hash, archive_bytes,
    listed.previous->>'manifest' AS previous, sums.received, sums.counted, sums.held, sums.struck,
    sums.refused, jsonb_array_length(sums.reopened_after_seal) AS reopened
FROM (
    SELECT publications.*, octet_length(archive) AS archive_bytes, parts.tally, parts.previous
    FROM publications
        CROSS JOIN LATERAL jsonb_to_record(content) AS parts (tally jsonb, previous jsonb)
    WHERE campaign = $1 AND manifest_hash IS NOT NULL AND number < coalesce($2, 2147483647)
        AND ($3::text IS NULL OR kind = $3)
    ORDER BY number DESC
    LIMIT $4
) AS listed
    CROSS JOIN LATERAL jsonb_to_record(listed.tally) AS sums (received bigint, counted bigint,
        held bigint, struck bigint, refused bigint, reopened_after_seal jsonb)
ORDER BY listed.number DESC;

-- name: read_part_of_archive
-- So many bytes from there on (from 1): an archive is never here whole.
SELECT substring(archive FROM $3 FOR $4) FROM publications WHERE campaign = $1 AND number = $2;

-- name: list_checkpoints
-- Newest first, below this size.
SELECT log, size, root, at, note
FROM checkpoints
WHERE campaign = $1 AND log = $2 AND size < coalesce($3, 9223372036854775807)
ORDER BY size DESC
LIMIT $4;
