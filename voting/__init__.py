"""Taking likes: from a tap on a card to a vote in the journal.

The life of one vote, as a map of this package:

    widget/          tap; the card shows the new count at once and rolls back if refused
    edge/fast_lane   the hot requests straight from their bytes; all others go to aiohttp
    edge/likes.py    bytes -> Ballot; token verified
    (antifraud)      Signals -> Verdict: a partial score with reasons
    ballot_box.py    ballots gather into micro-batches, one call of the function each
    ballot_box.lua   window, quota, repeat, limits, verdict, journal, tally: all or nothing
    edge/answers.py  Outcome -> HTTP, one table
    journal.py       the bytes in which the vote waits until Postgres has it (tally.flusher)

and beside it:

    campaign.py      what is voted on, and when
    catalog.py       campaigns and candidates from Postgres, held in memory
    notices.py       public notices (公告) as they were put up
    changes.py       what changes of a campaign after its import, and how it is written down
    intake/          a folder of staff's files -> a checked campaign in Postgres
    media_files.py   videos in the data folder; media_export.py: all media for an object store
    visibility.py    which moment's counts the public may see
    device.py        DeviceToken: mint, verify, promote
    identity.py      what a portal signs about its user -> a device (identity.md is for portals)
    view.py          a signed stamp of when a card was shown
    keys.py          the installation's keys, and their rotation
    pseudonyms.py    keyed hashes that stand for devices and networks
    networks_file.py the table of networks in force
    network_sources.py  files that one is built from
    receipt.py       a vote's position, enciphered
    function_library.py  Lua files of the store, each under a name of its version
    whole_files.py   files that are there whole or not at all
    store_address.py where the store is: one server, a pair that fails over, a Cluster
    store_line.py    the vote path's connection to the store; store_lines.py: by shard
    shards.py        how many shards there are, as the database remembers it
    hot_state.py     the store by shard for everything that is not on the vote path
    process.py       how every long-lived process of ours starts, logs and stops
    heartbeat.py     what each process says of itself every few seconds
    settings.py      every setting
"""
