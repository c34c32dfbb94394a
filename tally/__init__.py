"""Counting likes: from the journal to totals that somebody answers for.

migrate.py   numbered SQL files -> the database's schema
flusher.py   journal -> Postgres, exactly once
store.py     every SQL statement of this package, from queries.sql
tallies.py   Tally: received = counted + held + struck + refused
"""
