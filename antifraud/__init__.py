"""Judging, without I/O.

What is here takes facts and gives judgements: no clock, no socket, no store. The same rules can
therefore run while a like waits for its answer, near-line over the journal, or on last month's
votes. Whoever calls brings the time along.

    limits      Rate, and the GCRA rule that every limit follows
    networks    what an IP address stands for: its prefixes and its class
    network_claims, organisations: how a table of networks is made, and who is what in it
    capacity    what a network of each class may do
    challenge   work that a device does once, by the scheme of ALTCHA
    user_agents a User-Agent as one byte
    signals     Signals: the facts about one request that the edge knows
    heuristics  the table of signals and weights
    screen      Signals -> Verdict (partial: the store adds what only the store knows)
    base64url   how what we sign is written, and read strictly
    detectors/  near-line: many votes at once -> Sightings -> Flags; live.py while they come
    flags       Flag: what a detector claims, with evidence
"""
