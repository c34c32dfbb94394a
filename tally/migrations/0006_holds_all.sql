-- While the checks themselves are in trouble, a campaign can take every like and count none yet.

ALTER TABLE campaigns
    ADD COLUMN holds_all_because text CHECK (holds_all_because <> '');
