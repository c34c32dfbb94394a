"""Counting likes: from the journal to totals that somebody answers for.

migrate.py       numbered SQL files -> the database's schema
flusher.py       journal -> Postgres, exactly once
rows.py          journal entries -> rows and sums, no I/O
patience.py      what flusher and watch share: waiting servers out, stopping in time
serving.py       what their commands share: metrics, logs, exit codes
store.py         one shard's side of Postgres; every SQL statement of this package is in queries.sql
watch.py         the detectors' process: tail.py over the journal, near_line.py over Postgres
cases.py         Sightings that share votes -> flags; case_files.py what staff read of them
holds.py         decisions: hold, release, strike; adjudications.py brings them to the hot state
fingerprints.py  TLS fingerprints of each kind of user agent, for the edges
recount.py       the stored votes judged again under other rules
housekeeping.py  days that the hot state need not keep
tallies.py       Tally: received = counted + held + struck + refused
commands.py      dianzan flush | migrate | tally; watch_commands.py, recount_commands.py the rest
"""
