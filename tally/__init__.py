"""Counting likes: from the journal to totals that somebody answers for.

Counting
    flusher.py       journal -> Postgres, exactly once; rows.py makes rows and sums of entries
    store.py         one shard's side of Postgres; queries.sql
    tallies.py       Tally: received = counted + held + struck + refused
    closing.py       the end of a campaign, as each shard's journal holds it
    give_back.py     what Postgres has and the hot state lost comes back
    reconcile.py     hot sums = stored sums + what the journal holds after them
    housekeeping.py  days that the hot state need not keep
    migrate.py       numbered SQL files -> the database's schema

Suspicion and decisions
    watch.py         the detectors' process: tail.py over the journal, near_line.py over Postgres
    cases.py         sightings that share votes -> flags; case_files.py what staff read of them,
                     case_evidence.py how a case's votes look beside everybody else's
    holds.py         decisions: hold, release, strike; adjudications.py brings them to the hot state
    case_decisions.py  those of staff: previews, and who may take them; comments.py
    proposals.py     what takes two persons; proposal_kinds.py its words
    recount.py       the stored votes judged again under other rules
    fingerprints.py  TLS fingerprints of each kind of user agent, for the edges

Answering for it
    campaigns/       a campaign's life: changes, imports, objections, the public notice
    log/             the Merkle trees: leaves, tiles, checkpoints
    publishing/      publications, and the process that makes them
    verify.py        checks a published folder, and needs nothing else of ours
    delivery/        news, alerts, exports
    accounts/        staff and what they sign in with
    console/         pages for staff, and the selection office's interface
    live_view.py     one campaign's numbers now, polled while somebody looks
    parts.py         how every process and server of the installation does
    audit.py         who did what, as a chain; canonical.py one value, one text

Frames
    lives.py         a process of which an installation has one, and what goes on in it
    disks.py         how full the disk is that a folder is on
    patience.py      waiting servers out, stopping in time; serving.py metrics, logs, exit codes
    translated.py    texts for people: English here, Chinese where they are shown
    hot_functions.py calls of our function libraries in the store
    commands.py      dianzan flush | migrate | tally; *_commands.py the rest
"""
