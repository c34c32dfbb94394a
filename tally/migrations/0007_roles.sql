-- A role of its own for each process (deploy/postgres/roles.sql).

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
