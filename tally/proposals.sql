-- What one person proposes and another settles; proposals.py reads these.

-- name: read_person
-- Who is allowed what is asked in the transaction that uses it, and stays so to its end.
SELECT number, name, shown_as, role, disabled_at IS NULL AS active
FROM staff WHERE number = $1 FOR SHARE;

-- name: are_in_one_hand
-- Whether one of two people had the other's account in hand within $3. A command's actor is a user
-- of the machine, whatever their name.
SELECT EXISTS (
    SELECT FROM audit_log
    WHERE action IN ('staff.add', 'staff.reset', 'staff.enable', 'staff.role')
        AND subject IN ('staff ' || $1::text, 'staff ' || $2::text)
        AND actor IN ($1, $2) AND subject <> 'staff ' || actor
        AND role <> 'command' AND at > clock_timestamp() - $3::interval
);

-- name: add_proposal
-- Open, until somebody else settles it.
INSERT INTO proposals (campaign, kind, content, reason, proposed_by)
VALUES ($1, $2, $3, $4, $5)
RETURNING number;

-- name: count_open_proposals
-- How many of a campaign wait.
SELECT count(*) FROM proposals WHERE campaign = $1 AND state = 'open';

-- name: lock_proposal
-- Whoever else would settle it waits here, and then finds it settled.
SELECT state FROM proposals WHERE number = $1 FOR UPDATE;

-- name: settle_proposal
-- The caller holds the row locked.
UPDATE proposals SET state = $2, settled_by = $3, settled_at = clock_timestamp(), answer = $4
WHERE number = $1;

-- name: read_proposal
-- One, with the people's names.
SELECT p.number, p.at, p.campaign, c.id AS campaign_id, p.kind, p.content, p.reason, p.state,
       p.proposed_by, proposer.name AS proposer_name, proposer.shown_as AS proposer_shown_as,
       p.settled_by, settler.shown_as AS settler_shown_as, p.settled_at, p.answer
FROM proposals AS p
JOIN campaigns AS c ON c.number = p.campaign
JOIN staff AS proposer ON proposer.number = p.proposed_by
LEFT JOIN staff AS settler ON settler.number = p.settled_by
WHERE p.number = $1;

-- name: list_proposals
-- The newest of a campaign (null: of all), open ones alone where $2.
SELECT p.number, p.at, p.campaign, c.id AS campaign_id, p.kind, p.content, p.reason, p.state,
       p.proposed_by, proposer.name AS proposer_name, proposer.shown_as AS proposer_shown_as,
       p.settled_by, settler.shown_as AS settler_shown_as, p.settled_at, p.answer
FROM proposals AS p
JOIN campaigns AS c ON c.number = p.campaign
JOIN staff AS proposer ON proposer.number = p.proposed_by
LEFT JOIN staff AS settler ON settler.number = p.settled_by
WHERE ($1::smallint IS NULL OR p.campaign = $1)
    AND CASE WHEN $2 THEN p.state = 'open' ELSE p.state <> 'open' END
ORDER BY p.number DESC LIMIT $3;

-- name: list_open_about_case
-- Open proposals on one case of a campaign.
SELECT number, content ->> 'action' AS action
FROM proposals
WHERE campaign = $1 AND state = 'open' AND kind = 'decide' AND content -> 'cases' @> to_jsonb($2::int)
ORDER BY number;
