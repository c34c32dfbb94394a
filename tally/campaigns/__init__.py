"""A campaign's life: what staff change of it, and what the public may hold against it.

campaign_changes.py  what may be changed when, and by how many persons
imports.py           imports by staff; uploads.py takes their zips apart
objections.py        what somebody outside holds against a result or a case
notice.py            the public notice (公告) as a draft
notice_proposals.py  putting it up, and taking it back, which takes two persons
"""
