"""What kind of network an autonomous system is: a list of well-known ones, else its owner's name.

`well_known_asns.csv` is ours: number, class, short name, and why where that is not plain. Carriers
that announce phones and homes under one number are MOBILE there: the limits of a crowd are too
soft for a home, those of a home would hold an honest crowd.

The name says what an owner calls itself, not what it does with an address, and anyone may choose
one. Known weakness, therefore: a host that calls itself a school is soft-limited; a mobile carrier
that calls itself "Telecom" counts as HOME; wireless lines of homes count as MOBILE; a name in which
words of a host and of an access provider meet is UNKNOWN, and so is every name without any of these
words. Most addresses of servers that fraud comes from are in the list, not in the names.
"""

import csv
import functools
import importlib.resources
import re

from antifraud.networks import NetworkClass


@functools.cache
def well_known() -> dict[int, NetworkClass]:
    """ASN -> class, out of the package's own list."""
    file = importlib.resources.files("antifraud") / "well_known_asns.csv"
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    return {int(row["asn"]): NetworkClass[row["class"].upper()] for row in rows}


def class_of_asn(asn: int, organisation: str) -> NetworkClass:
    """The class of an autonomous system: of the list if it is there, else by its owner's name."""
    known = well_known().get(asn)
    return class_of_name(organisation) if known is None else known


def class_of_name(organisation: str) -> NetworkClass:
    """The class that a name suggests; UNKNOWN where it suggests none, or two that exclude each
    other."""
    name = organisation[:_NAME_CHARACTERS_MAX].casefold()
    if _SERVER_HALLS.search(name):
        return NetworkClass.DATACENTRE
    if _CARRIERS.search(name):
        return NetworkClass.MOBILE
    if _CAMPUS.search(name):
        return NetworkClass.CAMPUS
    hosts, mobile, home = (
        pattern.search(name) is not None for pattern in (_DATACENTRE, _MOBILE, _HOME)
    )
    if hosts:
        # "Cloud and Fibre Ltd": its lines would suffer for its servers.
        return NetworkClass.UNKNOWN if mobile or home else NetworkClass.DATACENTRE
    if mobile:
        return NetworkClass.MOBILE
    return NetworkClass.HOME if home else NetworkClass.UNKNOWN


_NAME_CHARACTERS_MAX = 256


def _words(*alternatives: str) -> re.Pattern[str]:
    """Any of these as words of their own, in folded case."""
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(alternatives)})(?![^\W_])")


_SERVER_HALLS = _words(
    r"idc\d*", r"internet data cent(?:er|re)", r"cloud base", r"cloud computing", r"vps", r"cdn"
)
"""Words that no access provider has in its name for its lines, whatever else is in it."""

_CARRIERS = _words(
    r"china ?(?:mobile|unicom|telecom)\w*", r"chinanet", r"cncgroup", r"vodafone\w*",
    r"t-mobile", r"jio", r"airtel", r"claro", r"movistar", r"mtn", r"telenor", r"turkcell",
    r"docomo", r"softbank",
)  # fmt: skip
"""Carriers of phones and homes alike."""

_CAMPUS = _words(
    r"\w*universit\w*", r"univ", r"\w*universidad\w*", r"uniwersytet\w*", r"universiteit\w*",
    r"college\w*", r"colleges", r"schools?", r"\w*hochschule\w*", r"\w*schule\w*", r"escolas?",
    r"escuela\w*", r"[eé]cole\w*", r"polytech\w*", r"polit[eé]cn\w*", r"\w*gymnasium",
    r"institutes? of (?:science|technology)", r"education\w*", r"[eé]ducati\w*", r"educa[cç]\w*",
    r"\w*\.edu", r"edu", r"k-?12", r"academ\w*", r"akadem\w*", r"research", r"recherche",
    r"\w*forschung\w*", r"pesquisas?", r"investigaci[oó]n\w*", r"campus", r"faculty", r"student\w*",
    r"cernet\d*", r"cstnet", r"nren",
)  # fmt: skip

_DATACENTRE = _words(
    r"\w*cloud\w*", r"\w*hosting\w*", r"web-?host\w*", r"host(?:s|ed|er)?", r"\w+host",
    r"data-? ?cent(?:er|re|rum|ro)s?", r"datacent\w*", r"servers?", r"\w+servers?", r"serveurs?",
    r"dedicated", r"colo", r"coloc\w*", r"co-location", r"vpn", r"virtual private", r"hetzner",
    r"digital ?ocean", r"amazon", r"alibaba\w*", r"aliyun", r"tencent", r"huawei cloud", r"ucloud",
    r"leaseweb", r"ovh", r"linode", r"vultr", r"contabo", r"m247",
)  # fmt: skip

_MOBILE = _words(
    r"mobile\w*", r"m[oó]vil\w*", r"m[oó]vei[sl]", r"cellular", r"celular\w*",
    r"\w*wireless\w*", r"wifi", r"wi-fi", r"lte", r"[345]g", r"gsm", r"umts", r"cellcom", r"\w+cel",
)  # fmt: skip

_HOME = _words(
    r"\w*tele[ck]om\w*", r"\w*telco\w*", r"\w*tele(?:f|ph)on\w*", r"telef[oô]n\w*", r"tele\d",
    r"\w*broadband\w*", r"breitband\w*", r"banda larga", r"\w*cable\w*", r"kabel\w*", r"catv",
    r"\w*fib(?:er|re|ra)\w*", r"ftt[hx]", r"[av]?dsl", r"\w*glasfaser\w*", r"isp", r"provedor\w*",
    r"internet services?", r"internet providers?", r"\w*communications?", r"comunica\w+",
    r"kommunikation\w*", r"electric coop\w*", r"television", r"televis\w*", r"triple play",
)  # fmt: skip
