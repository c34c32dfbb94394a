"""Imports by staff: checked, compared, and written at once, or, where the campaign has opened,
proposed to a second person.

What a proposal would bring in waits in `staged_imports` (its pictures in `photos`, by their
digests): it lives longer than the console that took the upload, and is exactly what was checked.
Whoever agrees to it does so to the campaign that it was compared with: where that was changed
meanwhile, it has to be imported anew.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from tally import audit
from tally.campaigns.campaign_changes import FIELD_TITLES, TITLES
from tally.proposal_kinds import ADMINS, CannotBeDone, Content, Kind, Person
from tally.store import read_queries
from tally.translated import N_, Translate
from voting.campaign import VotingWindow
from voting.catalog import (
    limits_from_json,
    limits_to_json,
    page_from_json,
    page_to_json,
    rules_from_json,
    rules_to_json,
)
from voting.changes import Kind as ChangeKind
from voting.intake.folder import Checked
from voting.intake.manifest import Manifest
from voting.intake.problems import Problem, errors_in
from voting.intake.roster import Listed, Roster
from voting.intake.save import Author, Compared, compare, save, write_photos, write_videos

_SQL = read_queries(Path(__file__).with_name("imports.sql"))


_TOLD_CHARACTERS_MAX = 300
"""Of one field; what the campaign says of itself may be pages long."""


class CannotStage(Exception):
    """The campaign is not there, or the folder has errors: nothing to be agreed to."""


async def import_now(
    connection: asyncpg.Connection,
    checked: Checked,
    *,
    accept_changes: bool,
    by: str,
    role: str,
    reason: str,
    approved_by: str | None = None,
) -> list[Problem]:
    """Write it, with its audit entry, in one transaction; what the comparison found. Nothing is
    written where that, or the folder, holds an error. Whether a second person was needed is the
    caller's to say."""
    async with connection.transaction():
        compared = await compare(connection, checked, accept_changes=accept_changes)
        problems = await save(
            connection,
            checked,
            accept_changes=accept_changes,
            write=True,
            author=Author(by, approved_by, reason),
        )
        if compared is None or checked.manifest is None or not checked.ok or errors_in(problems):
            return problems
        await audit.append(
            connection,
            actor=by,
            role=role,
            action="campaign.imported",
            subject=f"campaign {checked.manifest.id}",
            details={
                "changes": summary_of(compared),
                "reason": reason,
                "approved_by": approved_by,
            },
        )
        return problems


def needs_second_person(compared: Compared) -> bool:
    """From the opening on, but in a rehearsal."""
    return compared.has_opened and not compared.is_test


def summary_of(compared: Compared) -> dict[str, int]:
    """How many changes of each kind."""
    return dict(Counter(change.kind.value for change in compared.changes))


async def stage(
    connection: asyncpg.Connection, checked: Checked, *, made_by: str, reason: str
) -> tuple[int, Content]:
    """Put a sound folder aside for a second person: (number of its campaign, content of the
    proposal). `accept_changes` is meant: it is what the second one agrees to. CannotStage."""
    async with connection.transaction():
        compared = await compare(connection, checked, accept_changes=True)
        if compared is None or compared.campaign is None:
            raise CannotStage("there is no such campaign")
        if not checked.ok or errors_in(compared.problems):
            raise CannotStage("the folder has errors")
        await write_photos(connection, checked.cards)
        await write_videos(connection, checked.videos)
        number = await connection.fetchval(
            _SQL["add_staged"],
            compared.campaign,
            compared.version,
            json.dumps(to_json(checked), ensure_ascii=False),
            made_by,
        )
        assert checked.manifest is not None
        return compared.campaign, {
            "staged": number,
            "campaign": checked.manifest.id,
            "changes": summary_of(compared),
            "reason": reason,
        }


async def execute(
    connection: asyncpg.Connection, content: Content, proposed_by: Person, approved_by: Person
) -> str:
    """Bring in what was staged, in the transaction that settles the proposal."""
    checked = await _read(connection, content)
    problems = await import_now(
        connection,
        checked,
        accept_changes=True,
        by=proposed_by.name,
        role=proposed_by.role,
        reason=content["reason"],
        approved_by=approved_by.name,
    )
    if errors_in(problems):
        why = problems[0].message
        raise CannotBeDone(N_("it can be imported no more: {why}"), why=why)
    return f"import {content['staged']} of campaign {content['campaign']}"


async def _look(connection: asyncpg.Connection, content: Content, hold: bool) -> Content:
    checked = await _read(connection, content)
    compared = await compare(connection, checked, accept_changes=True)
    staged = await connection.fetchrow(_SQL["read_staged"], content["staged"])
    if compared is None or compared.version != staged["version"]:
        raise CannotBeDone(N_("the campaign was changed since: import it anew"))
    people = await connection.fetch(_SQL["list_people"], compared.campaign)
    known = {row["number"]: (row["id"], row["name"]) for row in people}
    return {"changes": summary_of(compared)} | _told(compared, known)


def _told(compared: Compared, known: Mapping[int, tuple[str, str]]) -> dict[str, str]:
    """Each change in a line, for whoever is to agree: rules by their field as it was and becomes,
    people under "candidate <id>" (`known`: those who are there, by number). Of somebody who is
    corrected the name in full, of what else changes what it is: all of a list has to fit."""
    lines: dict[str, str] = {}
    for change in compared.changes:
        if change.candidate is None:
            for name, becomes in change.became.items():
                lines[name] = f"{_short(change.was.get(name))} → {_short(becomes)}"
            continue
        new = (str(change.became.get("id")), str(change.became.get("name")))
        id_, name = known.get(change.candidate, new)
        if change.kind is ChangeKind.CANDIDATE_CORRECTED:
            name = f"{name} → {change.became['name']}" if "name" in change.became else name
            name += f" ({', '.join(change.became)})"
        line = f"{change.kind.value}: {name}"
        # Somebody may come back and be corrected at once.
        key = f"candidate {id_}"
        lines[key] = f"{lines[key]}; {line}" if key in lines else line
    return lines


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _TOLD_CHARACTERS_MAX else text[: _TOLD_CHARACTERS_MAX - 1] + "…"


def describe(content: Content, translate: Translate) -> str:
    """One line for whoever is to agree."""
    changes = content.get("changes", {})
    parts = [
        f"{translate(TITLES[ChangeKind(kind)])} × {number}" for kind, number in changes.items()
    ] or [translate("nothing changes")]
    parts += [
        f"{translate(FIELD_TITLES.get(name, name))}: {told}"
        for name, told in content.get("ground", {}).items()
        # What is named by a portal is its key.
        if name in FIELD_TITLES or name.startswith("http")
    ]
    return f"{content['campaign']}: {translate('Import')} · " + " · ".join(parts)


async def _read(connection: asyncpg.Connection, content: Content) -> Checked:
    row = await connection.fetchrow(_SQL["read_staged"], content["staged"])
    if row is None:
        raise CannotBeDone(N_("what was to be imported is not there any more"))
    return from_json(json.loads(row["content"]))


KIND = Kind(execute=execute, describe=describe, roles=ADMINS, look=_look)
"""Proposals of kind "import"."""


# A checked folder as it waits: everything but the pictures' bytes.


def to_json(checked: Checked) -> dict[str, Any]:
    """`from_json` gives it back; its problems, new pictures and videos, and the name of the cover's
    file are left out."""
    manifest, roster = checked.manifest, checked.roster
    assert manifest is not None
    assert roster is not None
    window = manifest.window
    return {
        "manifest": {
            "id": manifest.id,
            "title": manifest.title,
            "time_zone": window.zone.key,
            "opens_at": window.opens_at.isoformat(),
            "closes_at": window.closes_at.isoformat(),
            "rules": rules_to_json(manifest.rules),
            "limits": limits_to_json(manifest.limits),
            "origins": list(manifest.origins),
            "channels": manifest.channels,
            "page": page_to_json(manifest.page),
            "portal_keys": dict(manifest.portal_keys),
        },
        "roster": {
            "file": roster.file,
            "id_column": roster.id_column,
            "candidates": [dataclasses.asdict(one) for one in roster.candidates],
        },
        "photo_ids": checked.photo_ids,
        "more_photo_ids": checked.more_photo_ids,
        "cover": checked.cover,
        "video_ids": checked.video_ids,
    }


def from_json(stored: Mapping[str, Any]) -> Checked:
    manifest, roster = stored["manifest"], stored["roster"]
    zone = ZoneInfo(manifest["time_zone"])
    opens_at, closes_at = (
        datetime.fromisoformat(manifest[name]).astimezone(zone)
        for name in ("opens_at", "closes_at")
    )
    return Checked(
        Manifest(
            manifest["id"],
            manifest["title"],
            VotingWindow(opens_at, closes_at, zone),
            rules_from_json(manifest["rules"]),
            limits_from_json(manifest["limits"]),
            tuple(manifest["origins"]),
            manifest["channels"],
            page_from_json(manifest.get("page", "{}")),
            portal_keys=manifest.get("portal_keys", {}),
        ),
        Roster(
            roster["file"],
            roster["id_column"],
            tuple(Listed(**one) for one in roster["candidates"]),
        ),
        stored["photo_ids"],
        (),
        (),
        # What was staged before there were these has none of them.
        {id_: tuple(ids) for id_, ids in stored.get("more_photo_ids", {}).items()},
        stored.get("cover"),
        stored.get("video_ids", {}),
    )
