-- The whole database of a campaign service, as the migrations leave it.
-- A test compares a database built from this file with one built from migrations/.

-- What is voted on. Written by the import, read by every edge.

-- One row: moves with every change that edges must see.
CREATE TABLE catalog (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version bigint NOT NULL DEFAULT 0
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
    imported_at timestamptz NOT NULL DEFAULT now()
);

-- Card-size pictures; id = digest of the source and of how it was made card-size.
CREATE TABLE photos (
    id text PRIMARY KEY,
    width smallint NOT NULL,
    height smallint NOT NULL,
    webp bytea NOT NULL,
    jpeg bytea NOT NULL
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
