-- What the public pages show, and which portals vouch for whom.

ALTER TABLE campaigns
    -- voting.campaign.Page by field name; a field that is missing takes its default.
    ADD COLUMN page jsonb NOT NULL DEFAULT '{}',
    -- Origin of a portal -> the public key (Ed25519, base64 of its 32 bytes) that its assertions of
    -- identity are checked with.
    ADD COLUMN portal_keys jsonb NOT NULL DEFAULT '{}';

-- The large size of a picture; null for one that was made before there was one.
ALTER TABLE photos
    ADD COLUMN large_width smallint,
    ADD COLUMN large_height smallint,
    ADD COLUMN large_webp bytea,
    ADD COLUMN large_jpeg bytea,
    ADD CHECK (num_nulls(large_width, large_height, large_webp, large_jpeg) IN (0, 4));

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

ALTER TABLE candidates
    ADD COLUMN story text NOT NULL DEFAULT '',        -- paragraphs between line breaks
    ADD COLUMN more_photos text[] NOT NULL DEFAULT '{}',  -- ids of photos, in the order of the page
    ADD COLUMN video text REFERENCES videos (id);

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
