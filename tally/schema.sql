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
