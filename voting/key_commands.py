"""Commands `dianzan keys`: what signs device tokens, and for how long yet."""

import math
import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from voting.keys import Keys
from voting.keys import rotate as rotate_file
from voting.settings import load_settings

keys = typer.Typer(no_args_is_help=True, help="Keys that sign device tokens.")


@keys.command("show")
def show() -> None:
    """Say which device keys there are, how old they are, and which one signs. Never a key.

    One line each: id, since when it signs, its age. Old keys do not sign any more; tokens that
    they signed are still taken.
    """
    _print(Keys.load(load_settings().keys_path), time.time())


@keys.command("make")
def make() -> None:
    """Make the key file of a new installation, where there is none: for edges that no `dianzan up`
    runs. It is DIANZAN_KEYS_FILE, or secrets/keys.json in the data folder, for its owner alone.

    Keep a copy off the machine: without it no token and no receipt is known any more. Then says
    what `keys show` says. A file that is there stays as it is.
    """
    path = load_settings().keys_path
    made = not path.exists()
    held = Keys.load_or_make(path)
    if made:
        typer.echo(f"Made the keys of this installation: {path} (keep a copy)", err=True)
    _print(held, time.time())


@keys.command("rotate")
def rotate(
    leaked: Annotated[
        bool, typer.Option("--leaked", help="A key became known: drop all old ones at once.")
    ] = False,
) -> None:
    """Add a device key and drop all but the one that signed until now.

    Devices keep their tokens through one rotation: the key that signed them stays. With the next
    one those that were not signed anew in between are lost, and are new devices then. The new key
    signs a minute from now; edges read the file every ten seconds, and need no restart. Where edges
    run on other machines, copy the file to them within that minute.

    That does not help against somebody who has a key: with it tokens are made as long as it is
    taken, and those are signed anew for who asks, like any other. Then use --leaked: no old key is
    taken any more, and the new one signs at once. It costs every device its token, so that all are
    new ones and may like again what they liked today, and open pages their begun challenges; for
    ten seconds, or until the file is copied to all machines, edges do not take each other's tokens.
    """
    path = load_settings().keys_path
    now = time.time()
    _print(rotate_file(path, now, leaked=leaked), now)


def _print(held: Keys, now: float) -> None:
    signing = held.signing(now)
    for key_id, starts in sorted(
        ((key_id, held.signs_from.get(key_id)) for key_id in held.device),
        key=lambda key: key[1] or 0,
    ):
        if key_id == signing:
            state = "signs"
        elif starts is not None and starts > now:
            state = f"signs in {math.ceil(starts - now)} s"
        else:
            state = "old"
        typer.echo(f"{key_id}\t{state}\t{_since(starts, now)}")


def _since(starts: int | None, now: float) -> str:
    if starts is None:
        return "from the beginning"
    moment = datetime.fromtimestamp(starts, UTC).isoformat(timespec="seconds")
    days = (now - starts) / 86_400
    return f"from {moment}" + (f", {days:.1f} days" if days >= 0 else "")
