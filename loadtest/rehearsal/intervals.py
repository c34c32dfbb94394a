"""Intervals for shares: how far the true one may be from what was counted."""

import math

Z95 = 1.959964
"""Two-sided 95 %."""


def wilson(hits: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Bounds of a share of which `hits` of `trials` were seen; (0, 1) where nothing was tried.

    Wilson's score interval: right where the share is near 0 or 1, where the usual one is not. It
    takes trials for independent. Votes of one attack are not (they are found or missed together),
    so a share over few attacks is less sure than its interval says.
    Source: E. B. Wilson, Journal of the American Statistical Association 22 (1927) 209-212.
    """
    if trials <= 0:
        return 0.0, 1.0
    share = hits / trials
    scale = 1 + z * z / trials
    middle = (share + z * z / (2 * trials)) / scale
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / scale
    low = 0.0 if hits <= 0 else max(0.0, middle - half)
    high = 1.0 if hits >= trials else min(1.0, middle + half)
    return low, high
