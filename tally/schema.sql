-- The whole database of a campaign service, as the migrations leave it.
-- A test compares a database built from this file with one built from migrations/.

-- What is voted on. Written by the import, read by every edge.

-- One row: moves with every change that edges must see.
CREATE TABLE catalog (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version bigint NOT NULL DEFAULT 0,
    -- How many shards this installation has had at most: it never has fewer, for votes lie on them.
    shards smallint NOT NULL DEFAULT 1 CHECK (shards BETWEEN 1 AND 64)
);
INSERT INTO catalog DEFAULT VALUES;

CREATE TABLE campaigns (
    number smallint PRIMARY KEY CHECK (number > 0),
    id text NOT NULL UNIQUE,
    title text NOT NULL,
    time_zone text NOT NULL,
    opens_at timestamptz NOT NULL,
    closes_at timestamptz NOT NULL CHECK (closes_at > opens_at),
    rules jsonb NOT NULL,     -- voting.campaign.Rules by field name
    limits jsonb NOT NULL,    -- voting.campaign.Limits by field name, rates as "30/minute"
    origins text[] NOT NULL,
    channels jsonb NOT NULL,  -- channel -> most candidates per recommending unit
    paused_because text,
    imported_at timestamptz NOT NULL DEFAULT now(),
    -- A rehearsal: likes are taken and shown, nothing of it is published or sent to the office.
    is_test boolean NOT NULL DEFAULT false,
    -- Portals (entries of `origins`) whose cards are switched off.
    origins_off text[] NOT NULL DEFAULT '{}',
    -- voting.campaign.Page by field name; a field that is missing takes its default.
    page jsonb NOT NULL DEFAULT '{}',
    -- Origin of a portal -> the public key (Ed25519, base64 of its 32 bytes) that its assertions of
    -- identity are checked with.
    portal_keys jsonb NOT NULL DEFAULT '{}',
    -- Devices whose id follows from something (a portal's user, a form's click) are spread over so
    -- many shards, as there were when the campaign came. It stays: who moved to another shard could
    -- like again what they like already.
    derived_shards smallint NOT NULL DEFAULT 1 CHECK (derived_shards BETWEEN 1 AND 64),
    -- While the checks themselves are in trouble: every like is held, for this reason.
    holds_all_because text CHECK (holds_all_because <> '')
);

-- Pictures in card size and, but for the oldest, in large; id = digest of the source and of how
-- the two were made.
CREATE TABLE photos (
    id text PRIMARY KEY,
    width smallint NOT NULL,
    height smallint NOT NULL,
    webp bytea NOT NULL,
    jpeg bytea NOT NULL,
    large_width smallint,
    large_height smallint,
    large_webp bytea,
    large_jpeg bytea,
    CHECK (num_nulls(large_width, large_height, large_webp, large_jpeg) IN (0, 4))
);

-- What is known of a video; its bytes are a file, media/videos/<id>.<kind> in the data folder or
-- under DIANZAN_MEDIA_URL. id = digest of the file.
CREATE TABLE videos (
    id text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('mp4', 'mov')),
    bytes bigint NOT NULL CHECK (bytes > 0),
    seconds real NOT NULL CHECK (seconds > 0),
    width integer,            -- null where the file does not say
    height integer
);

-- A number is given once and never reused: votes refer to it.
CREATE TABLE candidates (
    campaign smallint NOT NULL REFERENCES campaigns (number),
    number integer NOT NULL CHECK (number BETWEEN 1 AND 65535),
    id text NOT NULL,
    place integer NOT NULL,   -- order in the list
    name text NOT NULL,
    organisation text NOT NULL,
    unit text NOT NULL,
    channel text NOT NULL,
    title text NOT NULL,
    summary text NOT NULL,
    photo text REFERENCES photos (id),
    withdrawn_at timestamptz,
    story text NOT NULL DEFAULT '',        -- paragraphs between line breaks
    more_photos text[] NOT NULL DEFAULT '{}',  -- ids of photos, in the order of the page
    video text REFERENCES videos (id),
    PRIMARY KEY (campaign, number),
    UNIQUE (campaign, id)
);

-- Makes the pseudonyms of networks on one campaign day (its date). Whoever deletes a row cuts that day's votes
-- off from every address for good.
CREATE TABLE pseudonym_keys (
    day date PRIMARY KEY,
    key bytea NOT NULL CHECK (length(key) = 32)
);

-- What the flusher brings. The columns of votes are the fields of voting.journal.Vote; pseudonyms
-- and clicks are their bytes read as big-endian integers.

CREATE TABLE votes (
    day date NOT NULL,        -- campaign day
    shard smallint NOT NULL,
    epoch integer NOT NULL,
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    campaign smallint NOT NULL,
    candidate integer NOT NULL,
    device bigint NOT NULL,
    click bigint NOT NULL,
    network bigint NOT NULL,
    network_wide bigint NOT NULL,
    asn bigint NOT NULL,
    network_class smallint NOT NULL,
    user_agent_class smallint NOT NULL,
    tls_hash bigint NOT NULL,
    token_age_seconds bigint NOT NULL,
    token_level smallint NOT NULL,
    dwell_centiseconds integer NOT NULL,
    rules integer NOT NULL,
    score smallint NOT NULL,
    reasons integer NOT NULL, -- three codes of 8 bits, the weightiest highest
    verdict smallint NOT NULL,
    UNIQUE (day, shard, epoch, seq)
) PARTITION BY RANGE (day);

-- Rows of votes never change: a hold, release or strike is a decision beside them.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% only grows: % is refused', TG_TABLE_NAME, TG_OP;
END
$$;
CREATE TRIGGER votes_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON votes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- One campaign day's rows, by whoever may call this: only the owner of votes may attach a table to
-- it, and a flusher that owns it could change votes. Made beside the parent and then attached: that
-- takes SHARE UPDATE EXCLUSIVE on it, so neither reads nor COPY wait, where CREATE ... PARTITION OF
-- would stop both. A parent's statement triggers do not fire for its partitions: each gets its own.
CREATE FUNCTION make_day_of_votes(day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    name text := 'votes_' || to_char(day, 'YYYYMMDD');
BEGIN
    EXECUTE format('CREATE TABLE %I (LIKE votes INCLUDING ALL)', name);
    EXECUTE format('CREATE TRIGGER votes_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON %I'
                   ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name);
    EXECUTE format('ALTER TABLE votes ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   name, day, day + 1);
END
$$;
REVOKE EXECUTE ON FUNCTION make_day_of_votes FROM PUBLIC;

CREATE TABLE tallies (
    campaign smallint NOT NULL,
    candidate integer NOT NULL,
    counted bigint NOT NULL DEFAULT 0,
    held bigint NOT NULL DEFAULT 0,
    struck bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (campaign, candidate)
) WITH (fillfactor = 70);

-- outcome = voting.ballot.Outcome
CREATE TABLE refusals (
    campaign smallint NOT NULL,
    candidate integer NOT NULL,
    outcome smallint NOT NULL,
    ballots bigint NOT NULL,
    PRIMARY KEY (campaign, candidate, outcome)
) WITH (fillfactor = 70);

CREATE TABLE minutes (
    campaign smallint NOT NULL,
    minute timestamptz NOT NULL,
    candidate integer NOT NULL,
    counted integer NOT NULL DEFAULT 0,
    held integer NOT NULL DEFAULT 0,
    PRIMARY KEY (campaign, minute, candidate)
) WITH (fillfactor = 70);

-- How far each shard's journal is in the database; moves in the transaction of the rows.
CREATE TABLE watermarks (
    shard smallint PRIMARY KEY,
    epoch integer NOT NULL,
    entry bigint NOT NULL,    -- number of the last entry flushed, -1 = none
    seq bigint NOT NULL,      -- seq of the last vote flushed, 0 = none
    at timestamptz NOT NULL   -- store's time up to which nothing is missing here
);

-- What is claimed about votes, and what was decided on it.

-- Lists of votes are kept by (day, shard, epoch) as arrays of seq, ascending: 8 bytes a vote and
-- less, where a row for each would take a hundred.

-- What a detector claims about a set of votes. A flag that `continues` another is the same case,
-- seen again with more votes: those of the flags before it are not listed once more.
CREATE TABLE flags (
    number integer PRIMARY KEY CHECK (number > 0),
    at timestamptz NOT NULL,
    campaign smallint NOT NULL,
    continues integer REFERENCES flags (number),  -- the first flag of the case
    rules text[] NOT NULL,
    version integer NOT NULL,
    kinds text[] NOT NULL,
    evidence jsonb NOT NULL,  -- figures by name
    sentence text NOT NULL,   -- the same for people
    score real NOT NULL,      -- nats, prior included
    automatic boolean NOT NULL,
    votes integer NOT NULL CHECK (votes > 0),
    candidates jsonb NOT NULL,  -- candidate -> how many of the votes are theirs
    effect jsonb NOT NULL       -- candidate -> places gained where the case's votes are left out
);
CREATE INDEX flags_continues ON flags (continues) WHERE continues IS NOT NULL;
CREATE TRIGGER flags_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON flags
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE flag_votes (
    flag integer NOT NULL REFERENCES flags (number),
    day date NOT NULL,
    shard smallint NOT NULL,
    epoch integer NOT NULL,
    seqs bigint[] NOT NULL,
    PRIMARY KEY (flag, day, shard, epoch)
);
CREATE TRIGGER flag_votes_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON flag_votes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What was decided, by whom and why. Undoing a decision is another decision.
CREATE TABLE decisions (
    number integer PRIMARY KEY CHECK (number > 0),
    at timestamptz NOT NULL,
    campaign smallint NOT NULL,
    action text NOT NULL CHECK (action IN ('hold', 'release', 'strike')),
    flag integer REFERENCES flags (number),
    reason text NOT NULL CHECK (reason <> ''),
    rules integer NOT NULL,     -- version of the rules in force
    decided_by text NOT NULL CHECK (decided_by <> ''),  -- 'watch' = nobody, by the rules alone
    votes integer NOT NULL,     -- how many it speaks of
    moved integer NOT NULL      -- how many of them it moved
);
CREATE INDEX decisions_flag ON decisions (flag) WHERE flag IS NOT NULL;
CREATE INDEX decisions_at ON decisions (campaign, at);
CREATE TRIGGER decisions_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON decisions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- States: 0 counted, 2 held (both as votes.verdict has them), 4 struck. A vote that was in the
-- wanted state already is listed as well (from_state = to_state): the decision speaks of it.
CREATE TABLE decision_votes (
    decision integer NOT NULL REFERENCES decisions (number),
    day date NOT NULL,
    shard smallint NOT NULL,
    epoch integer NOT NULL,
    from_state smallint NOT NULL,
    to_state smallint NOT NULL,
    seqs bigint[] NOT NULL,
    PRIMARY KEY (decision, day, shard, epoch, from_state)
);
CREATE TRIGGER decision_votes_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON decision_votes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The votes that a decision spoke of, as the last one left them; a vote that is not here is in the
-- state of its verdict. Follows from the tables above.
CREATE TABLE vote_state (
    seq bigint NOT NULL,
    day date NOT NULL,
    epoch integer NOT NULL,
    decision integer NOT NULL,
    shard smallint NOT NULL,
    state smallint NOT NULL,
    PRIMARY KEY (day, shard, epoch, seq)
);

-- What each decision moves in one shard's tally, numbered without a gap: the hot state applies
-- them in this order. Arrays of one length, an element per candidate.
CREATE TABLE adjudications (
    shard smallint NOT NULL,
    number integer NOT NULL CHECK (number > 0),
    decision integer NOT NULL REFERENCES decisions (number),
    candidates integer[] NOT NULL,
    counted integer[] NOT NULL,
    held integer[] NOT NULL,
    struck integer[] NOT NULL,
    PRIMARY KEY (shard, number)
);
CREATE TRIGGER adjudications_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON adjudications
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What an honest crowd of each campaign looks like, learned from a whole day without the votes that
-- were flagged: antifraud.detectors.Baselines.
CREATE TABLE baselines (
    campaign smallint PRIMARY KEY,
    day date NOT NULL,
    learned json NOT NULL
);

-- Few votes are held when they come; they are looked for when their time is over.
CREATE INDEX votes_held ON votes (at) WHERE verdict = 2;

-- Staff, what they change of campaigns, the verifiable log, publications, and what is sent out.

-- What changed of a campaign and its candidates, by whom and why; a candidate's history is here.
CREATE TABLE campaign_changes (
    number integer PRIMARY KEY CHECK (number > 0),
    at timestamptz NOT NULL,
    campaign smallint NOT NULL REFERENCES campaigns (number),
    kind text NOT NULL,       -- voting.changes.Kind
    candidate integer,        -- whom it concerns; null = the whole campaign
    was jsonb NOT NULL,       -- what it was, by field name
    became jsonb NOT NULL,
    reason text NOT NULL CHECK (reason <> ''),
    changed_by text NOT NULL CHECK (changed_by <> ''),
    approved_by text,         -- the second person, where one was needed
    in_public boolean NOT NULL  -- whether the public rules page shows it
);
CREATE INDEX campaign_changes_campaign ON campaign_changes (campaign, number);
CREATE TRIGGER campaign_changes_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON campaign_changes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- `close` entries of the journal: after one, its shard takes no like of the campaign until it is
-- opened again. Written by the flusher, in the order of the journal.
CREATE TABLE closings (
    campaign smallint NOT NULL,
    shard smallint NOT NULL,
    epoch integer NOT NULL,
    entry bigint NOT NULL,
    seq bigint NOT NULL,      -- of the last vote before it
    at timestamptz NOT NULL,
    closed boolean NOT NULL,  -- false: opened again
    PRIMARY KEY (campaign, shard, epoch, entry)
);
CREATE TRIGGER closings_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON closings
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Sums of `minutes` over a campaign's candidates, so that a month's course is read at once. Moves
-- with them: flusher and decisions.
CREATE TABLE minute_totals (
    campaign smallint NOT NULL,
    minute timestamptz NOT NULL,
    counted integer NOT NULL DEFAULT 0,
    held integer NOT NULL DEFAULT 0,
    PRIMARY KEY (campaign, minute)
) WITH (fillfactor = 70);

-- Processes of the installation, as they said of themselves last: who is silent is down.
CREATE TABLE parts (
    name text NOT NULL,       -- edge, flush, watch, publish, console
    instance text NOT NULL,   -- host and worker
    at timestamptz NOT NULL,
    facts jsonb NOT NULL,
    PRIMARY KEY (name, instance)
);

-- Who may sign in, and what was done.

CREATE TABLE staff (
    number integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,31}$'),
    shown_as text NOT NULL CHECK (shown_as <> ''),
    role text NOT NULL CHECK (role IN ('viewer', 'reviewer', 'admin', 'office')),
    password_hash text,       -- argon2id; null: by OIDC alone
    totp_secret bytea,        -- sealed with the console's key; null: not enrolled yet
    totp_step bigint NOT NULL DEFAULT 0,  -- the last one used: no earlier one is taken again
    oidc_subject text UNIQUE,
    failures integer NOT NULL DEFAULT 0,  -- wrong passwords or codes since the last right ones
    locked_until timestamptz,
    made_at timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz
);

CREATE TABLE staff_sessions (
    id bytea PRIMARY KEY,     -- SHA-256 of the cookie's value
    staff integer NOT NULL REFERENCES staff (number),
    begun_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    complete boolean NOT NULL -- false: the password was right, the code is awaited
);
CREATE INDEX staff_sessions_staff ON staff_sessions (staff);

-- What was done, by whom: each row's hash covers the one before (tally/audit.py).
CREATE TABLE audit_log (
    number bigint PRIMARY KEY CHECK (number > 0),
    at timestamptz NOT NULL,
    actor text NOT NULL,      -- a person's name, or a part's
    role text NOT NULL,       -- at that time
    action text NOT NULL,
    subject text NOT NULL,    -- what it was done to
    details text NOT NULL,    -- canonical JSON: hashed as it stands
    previous bytea NOT NULL CHECK (length(previous) = 32),
    hash bytea NOT NULL CHECK (length(hash) = 32)
);
-- Who had whose account in hand (proposals.sql).
CREATE INDEX audit_log_accounts ON audit_log (subject)
    WHERE action IN ('staff.add', 'staff.reset', 'staff.enable', 'staff.role');
CREATE TRIGGER audit_log_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What one person proposed and another has to settle.
CREATE TABLE proposals (
    number integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT now(),
    campaign smallint NOT NULL REFERENCES campaigns (number),
    kind text NOT NULL,       -- tally.proposals.Kind
    content jsonb NOT NULL,
    reason text NOT NULL CHECK (reason <> ''),
    proposed_by integer NOT NULL REFERENCES staff (number),
    state text NOT NULL DEFAULT 'open'
        CHECK (state IN ('open', 'approved', 'rejected', 'withdrawn')),
    settled_by integer REFERENCES staff (number),
    settled_at timestamptz,
    answer text,              -- why it was rejected, or what came of it
    CHECK (state IN ('open', 'withdrawn') OR settled_by <> proposed_by)
);
CREATE INDEX proposals_open ON proposals (campaign) WHERE state = 'open';

-- Checked imports over a campaign that has opened: what their proposals would bring in.
CREATE TABLE staged_imports (
    number integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT now(),
    campaign smallint NOT NULL REFERENCES campaigns (number),
    version integer NOT NULL, -- number of the campaign's last change when it was compared
    content jsonb NOT NULL,   -- manifest and list (tally/campaigns/imports.py); pictures are in photos
    made_by text NOT NULL
);

-- Comments on a case, by its first flag.
CREATE TABLE comments (
    number integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT now(),
    flag integer NOT NULL REFERENCES flags (number),
    staff integer NOT NULL REFERENCES staff (number),
    text text NOT NULL CHECK (text <> '')
);
CREATE TRIGGER comments_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON comments
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Objections received during the public notice period, and their answers.
CREATE TABLE objections (
    number integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT now(),
    campaign smallint NOT NULL REFERENCES campaigns (number),
    candidate integer,
    flag integer REFERENCES flags (number),
    received_from text NOT NULL,  -- as they name themselves
    text text NOT NULL CHECK (text <> ''),
    entered_by text NOT NULL,
    answer text,
    answered_by text,
    answered_at timestamptz
);

-- The verifiable log: of each campaign one Merkle tree of its votes (log 0), and one of what takes
-- votes out and back in (log 1). See tally/log/store.py.

CREATE TABLE logs (
    campaign smallint NOT NULL,
    log smallint NOT NULL,
    size bigint NOT NULL,     -- leaves
    root bytea NOT NULL CHECK (length(root) = 32),
    at timestamptz NOT NULL,  -- up to when nothing is missing
    decision integer NOT NULL DEFAULT 0,  -- log 1: the last decision that is whole in it
    checkpoint text,          -- the last signed one, whose size may be smaller
    PRIMARY KEY (campaign, log)
);

-- Which keys the logs were begun with: no others are taken (tally/log/keys.py).
CREATE TABLE log_identity (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    verifier_key text NOT NULL,  -- as C2SP signed-note writes it, name included
    salts_check bytea NOT NULL
);
CREATE TRIGGER log_identity_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON log_identity
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Which votes became which leaves: those of the range, in order of (shard, epoch, seq), begin at
-- leaf `start`. Runs: where in the range this campaign's seqs are dense.
CREATE TABLE log_ranges (
    campaign smallint NOT NULL,
    start bigint NOT NULL,
    shard smallint NOT NULL,
    epoch integer NOT NULL,
    from_seq bigint NOT NULL,
    to_seq bigint NOT NULL,   -- inclusive
    leaves integer NOT NULL CHECK (leaves > 0),
    run_seqs bigint[] NOT NULL,     -- where each run begins
    run_leaves integer[] NOT NULL,  -- how long it is
    PRIMARY KEY (campaign, start),
    UNIQUE (campaign, shard, epoch, from_seq)
);
CREATE TRIGGER log_ranges_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON log_ranges
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- How far each shard's votes are in the logs, whatever campaign they are of.
CREATE TABLE log_watermarks (
    shard smallint PRIMARY KEY,
    epoch integer NOT NULL,
    seq bigint NOT NULL
);

-- As in C2SP tlog-tiles: level 0 = leaf hashes, each level above of subtrees of 256; level -1 = the
-- entries themselves. The last one of a level grows until it has 256.
CREATE TABLE log_tiles (
    campaign smallint NOT NULL,
    log smallint NOT NULL,
    level smallint NOT NULL,
    number bigint NOT NULL,
    width smallint NOT NULL CHECK (width BETWEEN 1 AND 256),
    content bytea NOT NULL,
    PRIMARY KEY (campaign, log, level, number)
);
-- Hashes do not shrink: no time is lost on trying.
ALTER TABLE log_tiles ALTER COLUMN content SET STORAGE EXTERNAL;

-- Signed statements of a log's size and root: hourly, at each publication and at the close. A size
-- has one root for ever.
CREATE TABLE checkpoints (
    campaign smallint NOT NULL,
    log smallint NOT NULL,
    size bigint NOT NULL,
    root bytea NOT NULL CHECK (length(root) = 32),
    at timestamptz NOT NULL,
    note text NOT NULL,
    PRIMARY KEY (campaign, log, size)
);
CREATE TRIGGER checkpoints_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Kinds of networks among a campaign's votes by hour, as their verdicts left them; the integrator
-- counts them as it reads the votes.
CREATE TABLE hourly_mix (
    campaign smallint NOT NULL,
    hour timestamptz NOT NULL,
    network_class smallint NOT NULL,
    votes bigint NOT NULL,
    held bigint NOT NULL,
    PRIMARY KEY (campaign, hour, network_class)
);

-- What was published: the numbers are fixed in one transaction, the files follow from them.
CREATE TABLE publications (
    campaign smallint NOT NULL REFERENCES campaigns (number),
    number integer NOT NULL CHECK (number > 0),
    at timestamptz NOT NULL,
    kind text NOT NULL CHECK (kind IN ('scheduled', 'provisional', 'close', 'final')),
    as_of timestamptz NOT NULL,
    content jsonb NOT NULL,   -- everything that the files are made from (tally/publishing/publication.py)
    asked_by text NOT NULL,   -- 'publish' = the clock
    approved_by text,
    manifest_hash bytea,      -- SHA-256 of manifest.json; null until the files are made
    archive bytea,            -- the folder as a zip
    PRIMARY KEY (campaign, number)
);

-- Keys of the office API. The key itself is shown once and not kept.
CREATE TABLE office_keys (
    id text PRIMARY KEY,
    shown_as text NOT NULL CHECK (shown_as <> ''),
    key_hash bytea NOT NULL,  -- SHA-256: the key has 256 random bits
    scopes text[] NOT NULL,
    made_by text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz,
    revoked_at timestamptz
);

-- Where news is sent.
CREATE TABLE destinations (
    number integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    shown_as text NOT NULL CHECK (shown_as <> ''),
    form text NOT NULL CHECK (form IN ('webhook', 'wecom', 'dingtalk', 'mail')),
    address text NOT NULL,    -- URL or mail address
    secret bytea,             -- what webhooks are signed with; sealed with the console's key
    events text[] NOT NULL,   -- tally.delivery.outbox.Event
    made_by text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz
);

-- What is to be sent, written in the transaction of what it tells of; once sent, it is kept for
-- 90 days, and what campaigns are about for ever. At least once: who receives it knows it by its id.
CREATE TABLE outbox (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    destination integer NOT NULL REFERENCES destinations (number),
    event text NOT NULL,
    subject text NOT NULL,    -- the same event of the same subject is sent once
    content jsonb NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    tries integer NOT NULL DEFAULT 0,
    next_try_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz,
    given_up_at timestamptz,  -- a dead letter
    last_error text,
    UNIQUE (destination, event, subject)
);
CREATE INDEX outbox_due ON outbox (next_try_at) WHERE sent_at IS NULL AND given_up_at IS NULL;

-- Public notices (公告) as they were put up; the newest stands, those before it stay readable.
CREATE TABLE notices (
    campaign smallint NOT NULL REFERENCES campaigns (number),
    number integer NOT NULL CHECK (number > 0),
    at timestamptz NOT NULL,
    content jsonb NOT NULL,   -- tally.campaigns.notice.Notice by field name
    published_by text NOT NULL CHECK (published_by <> ''),
    approved_by text NOT NULL CHECK (approved_by <> ''),
    PRIMARY KEY (campaign, number)
);
CREATE TRIGGER notices_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON notices
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
