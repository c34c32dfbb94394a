"""A probe that asks a store for a PING each millisecond and tells how long it waited.

    python -m loadtest.pings SOCKET

Prints one line for each wait of 2 ms or more, "<begun> <ms>" with `begun` by the machine's
monotonic clock, which every process shares, and ends when its standard input does.
"""

import select
import socket
import sys
import time

_EVERY_SECONDS = 0.001
_TOLD_FROM_SECONDS = 0.002


def main() -> None:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(sys.argv[1])
        print("ready", flush=True)
        while not select.select([sys.stdin], [], [], _EVERY_SECONDS)[0]:
            begun = time.monotonic()
            line.sendall(b"PING\r\n")
            if not line.recv(64):
                return
            waited = time.monotonic() - begun
            if waited >= _TOLD_FROM_SECONDS:
                print(f"{begun:.6f} {waited * 1e3:.3f}", flush=True)


if __name__ == "__main__":
    main()
