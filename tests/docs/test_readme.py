"""The README in step with what there is."""

import re
import shlex
from pathlib import Path

import pytest

from tests.acceptance.conftest import service  # noqa: F401  # a fixture
from voting.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def settings_table():
    """Name -> (default, meaning) as the README has them."""
    rows = re.findall(r"^\| `(DIANZAN_[A-Z_]+)` \| (.*?) \| (.*?) \|$", README, re.MULTILINE)
    return {name: (default, meaning) for name, default, meaning in rows}


def test_every_setting_stands_in_the_readme_with_its_meaning():
    expected = {
        f"DIANZAN_{name.upper()}": field.description
        for name, field in Settings.model_fields.items()
    }
    assert {name: meaning for name, (_, meaning) in settings_table().items()} == expected


def test_defaults_in_the_readme_are_the_real_ones():
    for name, (default, _) in settings_table().items():
        field = Settings.model_fields[name.removeprefix("DIANZAN_").lower()]
        if field.default_factory is not None:
            assert default == "cores less one"
        elif field.default in (None, ()):
            assert default == "unset"
        else:
            real = str(field.default)
            if isinstance(field.default, bool):
                real = real.lower()
            assert default == f"`{real}`"


def test_every_folder_of_the_map_is_there():
    for folder in re.findall(r"^\| `(\w+/)` \|", README, re.MULTILINE):
        assert (ROOT / folder).is_dir()


def test_every_file_that_is_named_is_there():
    for path in re.findall(
        r"\b((?:voting|antifraud|tally|tests|deploy)/[\w/]+\.(?:py|lua))", README
    ):
        assert (ROOT / path).is_file(), path


def test_gates_are_those_of_make_check():
    makefile = (ROOT / "Makefile").read_text()
    for gate in ("ruff format --check", "ruff check", "mypy", "lint-imports"):
        assert gate in makefile
        assert f"`{gate}`" in README


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"`make ([\w-]+)`", README) + re.findall(r"^make ([\w-]+)", README, re.M)
    assert {"run", "test", "check", "bench"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


COMMANDS = [
    shlex.split(line, comments=True)
    for block in blocks("sh")
    for line in block.splitlines()
    if line.startswith("dianzan")
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_of_the_readme_run(service, command):  # noqa: F811
    if "my-campaign" in command:
        from tests.campaign_folders import write_folder

        write_folder(service.folder / "my-campaign")
    done = service.dianzan(*command[1:])
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr


def test_embedding_lines_name_what_the_edge_serves(service):  # noqa: F811
    import urllib.request

    (block,) = blocks("html")
    path = re.search(r'src="https://[^/]+(/[^"]+)"', block)[1]
    with urllib.request.urlopen(service.ready["edge"] + path) as answer:  # noqa: S310
        script = answer.read().decode()
    assert re.search(r"<([\w-]+) campaign=", block)[1] in script
