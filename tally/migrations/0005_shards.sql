-- Several shards, so that votes outgrow one server.

-- How many shards this installation has had at most: it never has fewer, for votes lie on them.
ALTER TABLE catalog
    ADD COLUMN shards smallint NOT NULL DEFAULT 1 CHECK (shards BETWEEN 1 AND 64);

-- Devices whose id follows from something (a portal's user, a form's click) are spread over so many
-- shards, as there were when the campaign came. It stays: who moved to another shard could like
-- again what they like already.
ALTER TABLE campaigns
    ADD COLUMN derived_shards smallint NOT NULL DEFAULT 1 CHECK (derived_shards BETWEEN 1 AND 64);
