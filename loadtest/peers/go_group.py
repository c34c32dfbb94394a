"""Our own way to cast a like, in Go: net/http, and a call of the service's own function by redigo
for each batch of ballots that gathered while the one before was in flight.

    python -m loadtest.peers.go_group    (settings: see loadtest.peers.checks)

What it costs less than our edge is what Python costs. Its source is in go_peer/; it seals no
receipt and publishes no more than the number that it answers with.
"""

from pathlib import Path

from loadtest.peers.checks import Setup
from loadtest.peers.go_peer import become

if __name__ == "__main__":
    setup = Setup.from_environment()
    become(setup, "group", Path(setup.library_file))
