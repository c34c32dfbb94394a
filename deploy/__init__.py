"""Getting the service to run.

cli.py   the program `dianzan`
local/   everything on one machine
plan/    how much a campaign of a given size needs
backup/  backing up, coming back, and what is destroyed after its time

and for servers of one's own: nginx/, valkey/, prometheus/; runbooks/ say what to do when.
"""
