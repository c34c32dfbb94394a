"""Counting likes: from the journal to totals that somebody answers for.

Counting
    flusher.py       journal -> Postgres, exactly once; rows.py makes rows and sums of entries
    store.py         one shard's side of Postgres; queries.sql
    tallies.py       Tally: received = counted + held + struck + refused
    closing.py       the end of a campaign, as each shard's journal holds it
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

Campaigns
    campaign_changes.py  what staff change of a campaign, when, and by how many persons
    imports.py       imports by staff; uploads.py takes their zips apart
    objections.py    what somebody outside holds against a result; notice.py the public notice

The log
    integrator.py    votes -> leaves, decisions -> rulings, heads -> signed checkpoints
    log_store.py     the trees in Postgres; merkle.py grows them, leaves.py has the bytes
    log_keys.py      what they are signed and salted with; signed_note.py the form of a signature
    last_signed.py   by which a database is known that was put back

Publication
    publisher.py     the process: the log, closings, publications, news and alerts
    publication.py   what is published at one moment, and how it survives a crash
    publication_files.py  its files; canonical.py their form; final_seal.py the one of two persons
    verify.py        checks a published folder, and needs nothing else of ours

Staff and others
    console/         pages for staff, and the selection office's interface
    live_view.py     one campaign's numbers now, polled while somebody looks
    parts.py         how every process and server of the installation does
    staff.py         accounts; credentials.py what they sign in with, sealing.py secrets at rest
    audit.py         who did what, as a chain
    outbox.py        news for others, sent after the commit, at least once; destinations.py to whom,
                     couriers.py how, messages.py what it says
    alerts.py        what somebody should know now: told when it begins and when it ends
    exports.py       a day's votes as CSV and Parquet, without personal data
    office_keys.py   keys of the office API

Frames
    lives.py         a process of which an installation has one, and what goes on in it
    patience.py      waiting servers out, stopping in time; serving.py metrics, logs, exit codes
    hot_functions.py calls of our function libraries in the store
    commands.py      dianzan flush | migrate | tally; *_commands.py the rest
"""
