"""Which moment's counts the public may see: the rule behind every path that shows them.

The edge's board applies it to the counts; whatever has counts of its own (a notice) asks here.
"""

from datetime import datetime, timedelta

from voting.campaign import Campaign, Visibility, microseconds, moment_at


def publication_hours(campaign: Campaign, now_us: int) -> tuple[int, int]:
    """(last, next) moment of the day's publication hour around now, epoch microseconds."""
    zone = campaign.window.zone
    now = moment_at(now_us, zone)
    at = datetime.combine(now.date(), campaign.rules.counts_daily_at, zone)
    last = at if at <= now else at - timedelta(days=1)
    return microseconds(last), microseconds(last + timedelta(days=1))


def public_as_of_us(campaign: Campaign, now_us: int) -> int | None:
    """The moment whose counts the board may show now, epoch microseconds; None where it shows
    none. Never more than the board shows; a second more at the change of an hour or at the close,
    when the board is made anew."""
    match campaign.rules.counts:
        case Visibility.LIVE:
            return now_us
        case Visibility.AFTER_CLOSE:
            return now_us if now_us >= campaign.window.closes_at_us else None
        case Visibility.DAILY:
            last, _ = publication_hours(campaign, now_us)
            return last if last >= campaign.window.opens_at_us else None
        case Visibility.STAFF:
            return None


def is_blind(campaign: Campaign, counts_as_of: datetime | None, now_us: int) -> bool:
    """Whether counts of this moment are hidden from the public now; None = there are none to hide.
    Where counts are shown at once, nothing is: not even where a clock is behind."""
    if counts_as_of is None or campaign.rules.counts is Visibility.LIVE:
        return False
    public = public_as_of_us(campaign, now_us)
    if campaign.rules.counts is Visibility.DAILY and public is not None:
        return public < microseconds(counts_as_of)
    return public is None
