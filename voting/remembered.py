"""What was worked out lately, in plain dictionaries of bounded size.

functools.lru_cache keeps an order of use, for which each hit writes to four other entries: cold
memory on a path that meets thousands of devices. A dictionary's hit reads one.
"""

from itertools import islice
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def remember(held: dict[Key, Value], key: Key, value: Value, most: int) -> Value:
    """Keep one more; where there are `most`, the eighth that came first is let go. Weakness: what
    is asked for all the time is let go as well, and worked out once more."""
    if len(held) >= most:
        for old in list(islice(held, most // 8 + 1)):
            del held[old]
    held[key] = value
    return value
