"""The console: what staff see and do, and the selection office's interface.

    app.py             the application: its routers as one table, its process
    guard.py           first and last of every request: whose it is, CSRF, headers
    limits.py          slowapi, and what it leaves to its users
    problems.py        what went wrong, as pages and as problem+json
    parts.py           what every page is given: Console, Staff, Role, SignedIn and the like
    pages.py           templates, languages, navigation, messages
    sessions.py        who is signed in
    sign_in.py         password, code, enrolment, set-up links; oidc.py by an identity provider
    known_browsers.py  for whom a lock of the account does not hold; hashing.py bounds its cost
    accounts.py        one's own account, and everybody's for admins
    audit_pages.py     the audit log

FastAPI and slowapi: few and rich requests, unlike the edge, with which it shares no process, no
port and no credentials.
"""
