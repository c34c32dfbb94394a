"""The console: what staff see and do, and the selection office's interface.

    app.py             the application: its routers as one table, its process
    guard.py           first and last of every request: whose it is, CSRF, headers
    wire.py            deadlines of heads and bodies
    limits.py          slowapi, and what it leaves to its users
    problems.py        what went wrong, as pages and as problem+json
    parts.py           what every page is given: Console, Staff, Role, SignedIn and the like
    pages.py           templates, languages, navigation, messages
    sessions.py        who is signed in
    sign_in.py         password, code, enrolment, set-up links; oidc.py by an identity provider
    known_browsers.py  for whom a lock of the account does not hold; hashing.py bounds its cost
    accounts.py        one's own account, and everybody's for admins
    audit_pages.py     the audit log
    live.py            a campaign's numbers, its candidates, the hall, the parts; charts.py draws,
                       costs.py measures
    control.py         a campaign's life: state, changes, candidates; control_import.py imports
    problem_words.py   what is wrong with a campaign folder, in Chinese
    flags.py           the queue and the cases; case_words.py, case_charts.py what one shows
    proposal_pages.py  what waits for a second person
    objections.py      of the public notice period; notice.py the notice itself, and putting it up
    delivery.py        publications, destinations of news, the outbox, keys of the office API
    exports.py         votes by day
    office.py          the office API

FastAPI and slowapi: few and rich requests, unlike the edge, with which it shares no process, no
port and no credentials.
"""
