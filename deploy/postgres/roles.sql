-- A Postgres role for each process, in the place of one for all. Run it as the owner of the database
-- (who runs `dianzan migrate`), who may make roles, after each `dianzan migrate`:
--     dianzan migrate && psql -X -v ON_ERROR_STOP=1 -1 -f roles.sql "$OWNER_DSN"
-- It may be run again at any time, and sets what each role may do anew. Then give each one a password
-- (\password dianzan_edge in psql), and each process its own DIANZAN_POSTGRES_DSN.
--
-- The owner alone migrates, imports by command, restores, and destroys (`dianzan retain`). No
-- role below may change or delete a vote, a decision, a signed statement or a row of the audit log.

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['dianzan_edge', 'dianzan_flush', 'dianzan_watch',
                                'dianzan_publish', 'dianzan_console'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', role);
        END IF;
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA public FROM %I', role);
        EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO %I', current_database(), role);
        EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', role);
    END LOOP;
END
$$;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- Everybody reads what is voted on and how far the rows are, and says that they live.
GRANT SELECT ON catalog, campaigns, candidates, photos, videos, notices, watermarks
    TO dianzan_edge, dianzan_flush, dianzan_watch, dianzan_publish, dianzan_console;
GRANT SELECT, INSERT, UPDATE, DELETE ON parts
    TO dianzan_edge, dianzan_flush, dianzan_watch, dianzan_publish, dianzan_console;

-- The edge: what the public sees. Of votes it needs which was the last; it never sees whose they
-- are. The keys of pseudonyms are made by it, and read by nobody else but the owner.
GRANT SELECT (day, shard, epoch, seq) ON votes TO dianzan_edge;
GRANT SELECT ON minutes, decisions, decision_votes, campaign_changes,
    checkpoints, log_identity, logs, log_ranges, log_tiles TO dianzan_edge;
GRANT SELECT, INSERT ON pseudonym_keys TO dianzan_edge;

-- The flusher: adds rows and sums.
REVOKE EXECUTE ON FUNCTION make_day_of_votes FROM PUBLIC;
GRANT EXECUTE ON FUNCTION make_day_of_votes TO dianzan_flush;
GRANT SELECT, INSERT ON votes, closings TO dianzan_flush;
GRANT SELECT, INSERT, UPDATE ON tallies, refusals, minutes, minute_totals, watermarks
    TO dianzan_flush;
GRANT SELECT ON decisions, decision_votes, adjudications, vote_state, campaign_changes
    TO dianzan_flush;

-- Watch, publisher (which releases what nobody decided on) and console decide. A decision moves
-- votes from one sum to another.
GRANT SELECT ON votes, refusals, closings, flags, flag_votes, campaign_changes, baselines
    TO dianzan_watch, dianzan_publish, dianzan_console;
GRANT SELECT, INSERT ON decisions, decision_votes, adjudications, audit_log
    TO dianzan_watch, dianzan_publish, dianzan_console;
GRANT SELECT, INSERT, UPDATE ON tallies, minutes, minute_totals, vote_state
    TO dianzan_watch, dianzan_publish, dianzan_console;

-- The watch: flags.
GRANT INSERT ON flags, flag_votes TO dianzan_watch;
GRANT INSERT, UPDATE ON baselines TO dianzan_watch;

-- The publisher: the log, publications, letters. FOR SHARE asks for the right to change some column:
-- this one says nothing to anybody.
GRANT UPDATE (imported_at) ON campaigns TO dianzan_publish;
GRANT SELECT, INSERT ON log_identity, log_ranges, checkpoints TO dianzan_publish;
GRANT SELECT, INSERT, UPDATE ON logs, log_tiles, log_watermarks, hourly_mix, publications
    TO dianzan_publish;
GRANT SELECT, INSERT, UPDATE, DELETE ON outbox TO dianzan_publish;
GRANT SELECT, UPDATE ON destinations, proposals TO dianzan_publish;
GRANT SELECT ON objections TO dianzan_publish;
GRANT SELECT (number, name, shown_as, role, disabled_at, locked_until) ON staff TO dianzan_publish;

-- The console: staff, campaigns, what staff write and receive.
GRANT INSERT, UPDATE ON campaigns, candidates, photos, videos TO dianzan_console;
GRANT UPDATE ON catalog TO dianzan_console;
GRANT INSERT ON campaign_changes TO dianzan_console;
GRANT SELECT, INSERT, UPDATE ON staff, proposals, objections, office_keys, destinations, outbox
    TO dianzan_console;
GRANT SELECT, INSERT, UPDATE, DELETE ON staff_sessions, staged_imports TO dianzan_console;
GRANT SELECT, INSERT ON comments TO dianzan_console;
GRANT INSERT ON notices TO dianzan_console;
GRANT SELECT ON hourly_mix, publications, checkpoints, logs, log_identity, log_ranges, log_tiles,
    log_watermarks TO dianzan_console;
