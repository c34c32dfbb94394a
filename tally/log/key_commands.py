"""`dianzan keys`: those of device tokens (voting/key_commands.py), and the log's."""

from typing import Annotated

import typer

from tally.log.keys import LogKeys
from voting.key_commands import keys
from voting.settings import load_settings

app = typer.Typer()
app.add_typer(
    keys,
    name="keys",
    help="Keys that sign device tokens, and the key that signs logs and publications.",
)


@app.callback()
def _key_commands() -> None:
    """Keys of the installation."""


@keys.command("publishing")
def publishing(
    make: Annotated[
        bool, typer.Option("--make", help="Make the keys where there are none.")
    ] = False,
) -> None:
    """Print the verifier key: what checkpoints and publications are checked with. Never a secret.

    One line, as C2SP signed-note has it: name, key id, public key. Give it to the selection office
    and show it where the public can compare it, before the campaign opens. It is made once, by the
    first `dianzan publish` or here with --make, and there is no other one after it: keep a copy of
    the file off the machine.
    """
    path = load_settings().log_keys_path
    made = make and not path.exists()
    held = LogKeys.load_or_make(path) if make else LogKeys.load(path)
    if made:
        typer.echo(f"Made the keys of the log: {path} (keep a copy)", err=True)
    typer.echo(str(held.signer.verifier))
