"""The public edge: aiohttp over uvloop, one process per core.

app.py           its routes, its parts, its life
protocol.py      connections, and how long one may take; fast_lane.py and heads.py: the hot
                 requests straight from their bytes
sender.py        what a request says of who sent it; client_address.py, client_facts.py: what is
                 believed of it

likes.py         POST /v1/likes: parse, judge, cast, answer
devices.py       tokens; issuing.py: what a new one must solve; vouching.py: whom portals vouch for
campaigns.py     rules and candidates; counts.py, count_images.py: the counts; photos.py, videos.py
cards.py         the card as a page, for frames and without scripts
widget.py        the widget's frozen builds
receipts.py      receipts; logs.py: the log's tiles and checkpoints
site/            the pages that people read

answers.py       Outcome -> HTTP, and all other refusals; errors of pages: site/errors.py
board.py         what the public may see of the counts; encoded.py, compressed.py: as bytes
live_catalog.py  campaigns and pictures in memory; media.py: their addresses
origins.py       which pages may hand in likes
key_watch.py, store_watch.py, known_*.py, loop_lag.py, log_desk.py, metrics.py, parts.py: what works
                 beside
"""
