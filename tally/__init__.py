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
closing.py       the end of a campaign, as each shard's journal holds it
campaign_changes.py  what staff change of a campaign, when, and by how many persons
imports.py       imports by staff; uploads.py takes their zips apart
hot_functions.py calls of our function libraries in the store
fingerprints.py  TLS fingerprints of each kind of user agent, for the edges
recount.py       the stored votes judged again under other rules
housekeeping.py  days that the hot state need not keep
tallies.py       Tally: received = counted + held + struck + refused
live_view.py     one campaign's numbers now, polled while somebody looks
parts.py         how every process and server of the installation does
reconcile.py     hot sums = stored sums + what the journal holds after them
outbox.py        news for others, sent after the commit, at least once; to whom: destinations.py,
                 how: couriers.py, what it says: messages.py
alerts.py        what somebody should know now: told when it begins and when it ends
exports.py       a day's votes as CSV and Parquet, without personal data
office_keys.py   keys of the office API
commands.py      dianzan flush | migrate | tally; watch_commands.py, recount_commands.py the rest
"""
