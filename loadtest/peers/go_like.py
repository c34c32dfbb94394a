"""The like as one would build it in Go: net/http, and one function call by redigo for each request.

    python -m loadtest.peers.go_like    (settings: see loadtest.peers.checks)

It does what `redis_py` does, by the same function, like.lua. Its source is in go_peer/.
"""

from pathlib import Path

from loadtest.peers.checks import Setup
from loadtest.peers.go_peer import become

if __name__ == "__main__":
    become(Setup.from_environment(), "call", Path(__file__).with_name("like.lua"))
