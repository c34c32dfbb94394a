"""The log: each campaign's votes as a Merkle tree that anybody can mirror, and what takes votes out
and back in as a second one.

integrator.py   votes -> leaves, decisions -> rulings, heads -> signed checkpoints
store.py        the trees in Postgres; merkle.py grows them
leaves.py       the bytes of leaves, openings and rulings
keys.py         what logs are signed and salted with; signed_note.py the form of a signature
last_signed.py  by which a database is known that was put back
key_commands.py dianzan keys

What the edge needs of it (proofs, checkpoints, reading) is in voting/.
"""
