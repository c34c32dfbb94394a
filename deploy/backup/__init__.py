"""Back up and come back.

    backup.py    everything that was acknowledged before it began, as a folder with a manifest
    restore.py   such a folder into a fresh data folder, or an empty database
    retain.py    what is to be destroyed after its time
    programs.py  Postgres' own programs, and a data folder's files
    commands.py  dianzan backup | restore | retain

A backup is Postgres and files; the hot state is not in it. Before Postgres is copied, the flusher
has brought it whatever the journal held when the backup began; and a store that begins empty gets
today's likes and all sums back from Postgres (tally/give_back.py). So what comes back is one thing,
and not two that were copied at two moments.

    OUT/
      manifest.json    when, of what, and the SHA-256 of every other file
      database.dump    pg_dump, custom format
      files/           last-signed.json, publications/, media/; with --with-keys secrets/

last-signed.json is copied before the database, so the copy bears it out, and signing goes on. Known
weakness, which no backup can mend: what was signed after it is not known to what comes back, so a
log may be signed a second time with the same size. Whoever holds a newer checkpoint has to be told.
"""
