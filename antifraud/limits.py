"""Rate limits by GCRA, the generic cell rate algorithm.

A limit is one number per key, `next_free`: the moment at which the key's budget will be full
again. It needs no window, no timer and no clean-up, and refills evenly.

Source: ITU-T I.371, annex A (the "virtual scheduling" form).
"""

import re
from dataclasses import dataclass

PERIODS_US = {"second": 1_000_000, "minute": 60_000_000, "hour": 3_600_000_000}
_RATE = re.compile(r"([1-9][0-9]{0,5})/(second|minute|hour)")


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` at once, refilled evenly over `period_us` microseconds.

    Someone who waits a whole period may spend the whole burst in one instant, and again one
    period later: over any stretch of time t at most burst * (1 + t / period) are admitted.
    """

    burst: int
    period_us: int

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """ "30/minute" -> 30 at once, one more every 2 s. ValueError says what is expected."""
        found = _RATE.fullmatch(text)
        if not found:
            raise ValueError(
                f"{text!r} is no rate: write a whole number from 1 to 999999 and a period, "
                'as in "30/minute" (second, minute or hour)'
            )
        return cls(int(found[1]), PERIODS_US[found[2]])

    def __str__(self) -> str:
        period = next(name for name, us in PERIODS_US.items() if us == self.period_us)
        return f"{self.burst}/{period}"

    @property
    def interval_us(self) -> int:
        """Time in which one unit comes back."""
        return max(1, self.period_us // self.burst)

    @property
    def window_us(self) -> int:
        """Time in which an empty budget is full again."""
        return self.interval_us * self.burst

    def times(self, factor: int) -> "Rate":
        """The same window, `factor` times as much in it."""
        return Rate(self.burst * factor, self.period_us)


def take(rate: Rate, next_free_us: int, now_us: int) -> tuple[bool, int]:
    """One unit out of the budget: (admitted, next_free_us after it).

    Where it is not admitted, next_free_us comes back as the rule sees it and nothing is spent.
    `next_free_us` in the far future (the clock went back) counts as a budget just emptied, so a
    clock jump costs a key one window at most.
    """
    start = min(max(next_free_us, now_us), now_us + rate.window_us)
    if start + rate.interval_us > now_us + rate.window_us:
        return False, start
    return True, start + rate.interval_us


def wait_us(rate: Rate, next_free_us: int, now_us: int) -> int:
    """How long until `take` admits again; 0 when it would admit now."""
    start = min(max(next_free_us, now_us), now_us + rate.window_us)
    return max(0, start + rate.interval_us - now_us - rate.window_us)
