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
