"""Accounts of staff.

staff.py           made, changed, reset
credentials.py     passwords, codes of an authenticator, one-time links; no I/O
sealing.py         secrets that the database keeps without being able to read them
staff_commands.py  dianzan staff | audit
"""
