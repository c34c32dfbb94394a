"""Counting likes: from the journal to totals that somebody answers for.

migrate.py       numbered SQL files -> the database's schema
flusher.py       journal -> Postgres, exactly once
rows.py          journal entries -> rows and sums, no I/O
store.py         one shard's side of Postgres; every SQL statement of this package is in queries.sql
housekeeping.py  days that the hot state need not keep
tallies.py       Tally: received = counted + held + struck + refused
commands.py      dianzan flush | migrate | tally
"""
