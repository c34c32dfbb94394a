"""base64url without padding, read strictly: each text that is taken is the only one of its bytes.

Python's own decoders skip foreign characters, which makes many spellings of one token: whoever
remembers what was seen would not know it again.
"""

import base64
import binascii

_FROM_URL = bytes.maketrans(b"-_+/", b"+/!!")


def encode(raw: bytes) -> str:
    """The text of these bytes; a multiple of three, so that nothing is padded."""
    return base64.urlsafe_b64encode(raw).decode()


def decode(text: str) -> bytes | None:
    """The bytes of a text, or None where it is none of ours."""
    try:
        return binascii.a2b_base64(text.encode("ascii").translate(_FROM_URL), strict_mode=True)
    except ValueError:
        return None
