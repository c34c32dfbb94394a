"""The console: what staff see and do, and the selection office's interface.

    app.py        the application: its routers as one table, headers, errors
    parts.py      what every page is given: Console, Staff, Role, signed_in
    pages.py      templates and languages

FastAPI and slowapi: few and rich requests, unlike the edge, with which it shares no process, no
port and no credentials.
"""
