"""Commands `dianzan publish` and `dianzan verify`, for `dianzan` to mount.

Exit codes: 0 done; 1 it could not be published now (publish), something does not hold (verify);
2 cannot run, or asked for what there is not. What any command may meet is left to `dianzan` to say.
"""

import getpass
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import asyncpg
import typer

from tally.commands import address_of, answer_to, fail
from voting.settings import Settings, load_settings

if TYPE_CHECKING:
    from tally.publishing.publication import Published

app = typer.Typer()


@app.callback()
def _publish_commands() -> None:
    """What goes out, and whether it holds."""


@app.command()
def publish(
    campaign: Annotated[str | None, typer.Option(help="Id of the campaign.")] = None,
    now: Annotated[bool, typer.Option("--now", help="Publish it now, by hand.")] = False,
    number: Annotated[
        int | None, typer.Option(min=1, help="Write a publication that is there already.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write: a new name, or an empty folder.")
    ] = None,
    with_log: Annotated[
        bool, typer.Option("--with-log", help="With every leaf; only after the close.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    ready_fd: Annotated[
        int | None, typer.Option(hidden=True, help="Where `dianzan up` hears that we are ready.")
    ] = None,
    lifeline_fd: Annotated[
        int | None, typer.Option(hidden=True, help="Ends when `dianzan up` does.")
    ] = None,
) -> None:
    """Without options, run the publisher until SIGTERM or Ctrl-C: votes become leaves of the log,
    logs are signed, campaigns sealed when they close, publications made daily at the campaign's
    hour (where the public sees counts while it is open) and when two persons agreed on the final
    one; news and alerts are sent.

    `--campaign ID --now --out FOLDER` publishes by hand all that was acknowledged before it began,
    beside a running publisher or without one, and writes the folder: tally.json, .csv and .xlsx,
    decisions, rules, checkpoints, manifest and signature (README.txt in it says more). It is marked
    "provisional": one person's doing. `--with-log` adds what opens every leaf, so that `dianzan
    verify` recounts every candidate; it is refused before the close, for it tells whom each receipt
    is for. `--number N` in the place of --now writes publication N again, say the final one with
    its log.

    Makes the signing key where there is none: secrets/log.json in the data folder, or
    DIANZAN_LOG_KEYS_FILE; keep a copy. What was signed last is in last-signed.json in the data
    folder: nothing is signed for a database that was put back to an older copy. Needs
    DIANZAN_VALKEY_URL and DIANZAN_POSTGRES_DSN, or a running `dianzan up` on the same data folder.
    """
    if campaign is None and out is None and number is None and not now and not with_log:
        # The other commands need none of these.
        from tally.publishing.publisher import run_publisher
        from tally.serving import serve

        serve(
            "publish",
            run_publisher,
            "publisher-failed",
            ready_fd=ready_fd,
            lifeline_fd=lifeline_fd,
        )
        return
    if campaign is None or out is None or now == (number is not None):
        fail("say --campaign ID, --out FOLDER, and either --now or --number N")
    _write(campaign, number, out, with_log=with_log, as_json=json_)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="A published folder.")],
    key: Annotated[
        str | None, typer.Option(help="The verifier key that must have signed, or its file.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Check a published folder, without network or database.

    Every signature, hash and sum must hold, and no file be missing or not in the manifest; with the
    log every candidate is counted again from the leaves (about 2 s a million votes and core). Says
    which check does not hold. Without --key the folder's own key is taken, and shown, to be
    compared with the one that you know.

    Exit code 0: everything holds; 1: something does not; 2: it is no published folder, or cannot be
    read. The same check is one file, tally/verify.py, which needs nothing else of ours.
    """
    from tally.verify import run

    raise typer.Exit(run(folder, key, json_))


def _write(
    campaign_id: str, number: int | None, out: Path, *, with_log: bool, as_json: bool
) -> None:
    """What `publish` does by hand."""
    from tally.closing import ClosingError
    from tally.log.keys import LogKeysError
    from tally.log.store import LogConflict
    from tally.publishing.publication import PublicationError
    from tally.publishing.publication_files import FolderInUse, check_free
    from tally.tallies import TallyError

    settings = load_settings()
    try:
        # Before anything is published that then could not be written.
        check_free(out.absolute())
        published, key = answer_to(_publish(settings, campaign_id, number, out, with_log))
    except (FolderInUse, LogKeysError) as why:
        fail(str(why))
    except (PublicationError, TallyError, LogConflict, ClosingError) as why:
        typer.echo(f"dianzan: {why}", err=True)
        raise typer.Exit(1) from None
    content, tally = published.content, published.content.tally
    told = {
        "campaign": content.campaign,
        "number": content.number,
        "kind": content.kind,
        "as_of": tally["as_of"],
        **{kind: tally[kind] for kind in ("received", "counted", "held", "struck", "refused")},
        "folder": str(out.absolute()),
        "log": with_log,
        "manifest_sha256": published.made.manifest_hash.hex(),
        "key": key,
    }
    typer.echo(json.dumps(told, ensure_ascii=False) if as_json else _for_eyes(told))


async def _publish(
    settings: Settings, campaign_id: str, number: int | None, out: Path, with_log: bool
) -> tuple["Published", str]:
    """What was published, and the verifier key of it."""
    from tally.publishing.publication import (
        Asked,
        Kind,
        PublicationError,
        journal_ends,
        publish,
        read_published,
        until_flushed,
        write_folder,
    )

    dsn = address_of(settings, settings.postgres_dsn, "DIANZAN_POSTGRES_DSN")
    valkey_url = address_of(settings, settings.valkey_url, "DIANZAN_VALKEY_URL")
    connection = await asyncpg.connect(dsn)
    try:
        from tally.closing import flushed_closings, keep_closings
        from tally.log.integrator import load_or_make_keys
        from tally.tallies import read_campaign
        from voting.hot_state import HotState
        from voting.shards import check_shards

        keys = await load_or_make_keys(connection, settings)
        campaign = await read_campaign(connection, campaign_id)
        if number is not None:
            published = await read_published(connection, campaign.number, number)
            if published is None:
                raise PublicationError(f"campaign {campaign_id} has no publication {number}")
        else:
            await check_shards(connection, settings.shards)
            async with HotState(valkey_url, settings.shards) as hot:
                # Whoever closes a campaign first: the publisher may not run.
                await keep_closings(connection, hot)
                ends = await journal_ends(hot)
            await until_flushed(connection, ends)
            if with_log and await flushed_closings(connection, campaign.number) is None:
                raise PublicationError(
                    f"campaign {campaign_id} has not closed yet: its log stays shut until then"
                )
            asked = Asked(Kind.PROVISIONAL, _login())
            made = await publish(connection, keys, campaign.number, asked)
            assert made is not None, "nobody had to agree"
            published = made
        await write_folder(connection, keys, published, out, with_log=with_log)
    finally:
        await connection.close()
    return published, str(keys.signer.verifier)


def _login() -> str:
    """Who sits at the machine, for the record."""
    from tally.publishing.publication import PUBLISHER

    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = ""
    # The clock's name is nobody's.
    return name if name not in ("", PUBLISHER) else "operator"


def _for_eyes(told: dict[str, Any]) -> str:
    return "\n".join(
        (
            f"Publication {told['number']} of {told['campaign']} ({told['kind']}), "
            f"as of {told['as_of']}: {told['folder']}",
            f"received {told['received']:,} = counted {told['counted']:,} + held {told['held']:,} "
            f"+ struck {told['struck']:,} + refused {told['refused']:,}",
            f"key       {told['key']}",
            f"manifest  {told['manifest_sha256']}",
        )
    )
