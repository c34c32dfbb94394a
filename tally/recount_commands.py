"""`dianzan recount`, for `dianzan` to mount."""

import json
from pathlib import Path
from typing import Annotated

import typer

from tally.commands import address_of, answer_to, fail
from tally.recount import RuleSet, read_rules, recount_campaign, write_rules
from voting.settings import load_settings

app = typer.Typer()


@app.callback()
def _recount_commands() -> None:
    """Judging again."""


@app.command()
def recount(
    campaign: Annotated[str | None, typer.Option(help="Id of the campaign.")] = None,
    rules: Annotated[
        Path | None, typer.Option(help="File of the rules to judge by (TOML, see --print-rules).")
    ] = None,
    print_rules: Annotated[
        bool, typer.Option("--print-rules", help="Print the rules in force as such a file.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Judge a campaign's stored votes again under other rules, and print what each candidate's
    count would be. Touches nothing.

    Begin with `dianzan recount --print-rules > rules.toml` and change the file. A vote's stored
    facts are judged anew; where a rule rests on a fact that is not stored, whether it held then is
    taken from the vote's three reasons. Votes that a decision has spoken of stay as decided. It
    cannot admit what was refused: that left a sum and no row, and its number is printed. Who would
    have been challenged stays counted, and is told apart: nobody knows who would have solved it.

    Needs DIANZAN_POSTGRES_DSN, or a running `dianzan up` on the same data folder.
    """
    if print_rules:
        typer.echo(write_rules(RuleSet()), nl=False)
        return
    if campaign is None or rules is None:
        fail("say --campaign ID and --rules FILE, or --print-rules")
    settings = load_settings()
    dsn = address_of(settings, settings.postgres_dsn, "DIANZAN_POSTGRES_DSN")
    report = answer_to(recount_campaign(dsn, campaign, read_rules(rules)))
    if json_:
        typer.echo(json.dumps(report.as_json(), ensure_ascii=False))
    else:
        typer.echo(report.table())
