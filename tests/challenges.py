"""Solving challenges, as a client does."""

import base64
import hashlib
import json


def solve(challenge):
    """ALTCHA's payload as an object."""
    parameters = challenge["parameters"]
    begun = hashlib.sha256(bytes.fromhex(parameters["salt"] + parameters["nonce"]))
    prefix = bytes.fromhex(parameters["keyPrefix"])
    for counter in range(1 << 32):
        tried = begun.copy()
        tried.update(counter.to_bytes(4, "big"))
        if (key := tried.digest()).startswith(prefix):
            return {
                "challenge": challenge,
                "solution": {"counter": counter, "derivedKey": key.hex(), "time": 1.5},
            }
    raise AssertionError("there is no solution")


def packed(payload):
    """The payload as the library's widget hands it in."""
    return base64.b64encode(json.dumps(payload).encode()).decode()
