"""Publication: a campaign's tally at one moment as a signed folder, for the selection office.

publisher.py          the process: the log, closings, publications, news and alerts
publication.py        what is published at one moment, and how it survives a crash
publication_files.py  its files, manifest, signature and archive
final_seal.py         the last one, which takes two persons
publish_commands.py   dianzan publish | verify

What checks a folder is tally/verify.py, which needs nothing of ours.
"""
