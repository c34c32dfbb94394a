"""`dianzan rehearse`: the labelled crowd that the rules are held against.

    ballots     a crowd as columns, and as a Parquet file (columns.md)
    population  the country: candidates, networks, phones, hours
    crowd       honest people and the crowds that look like cheating and are not
    attackers   A1 to A13
    judging     what the service makes of each ballot: screen(), limits, live cells
    nearline    the passes of the near-line detectors
    baselines   the plain burst rule and MIDAS-R on the same crowd
    intervals   Wilson's bounds
    costs       what a stuffed vote that counts costs its buyer
    evaluate    a run from the draw to the document
    report      targets, tables
    page        one HTML page with pictures
    live        the same through HTTP against a running service, smaller

The only part of `loadtest` that knows `antifraud`: what is rehearsed are the very rules that serve,
called as they are, because a copy of them would be rehearsed instead.
"""
