"""How Postgres' own programs are called."""

import pytest

from deploy.backup import programs
from deploy.backup.programs import BackupError, run_program, without_password


@pytest.mark.parametrize(
    ("dsn", "address", "password"),
    [
        ("postgresql://u:s%40me@h:5432/db?sslmode=require",
         "postgresql://u@h:5432/db?sslmode=require", "s@me"),
        ("postgres://u@/db?host=/run/s&password=a%20b&port=5432",
         "postgres://u@/db?host=/run/s&port=5432", "a b"),
        ("postgresql:///db?password=only", "postgresql:///db", "only"),
        ("postgresql://u:first@h/db?password=second", "postgresql://u@h/db", "first"),
        ("postgresql://u@h:5432/db", "postgresql://u@h:5432/db", None),
        ("postgresql://h1:5432,h2:5433/db", "postgresql://h1:5432,h2:5433/db", None),
        ("postgresql://u@/db?host=/run/a:b", "postgresql://u@/db?host=/run/a:b", None),
    ],
)  # fmt: skip
def test_an_address_is_told_apart_from_its_password(dsn, address, password):
    assert without_password(dsn) == (address, password)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Stands for a program of Postgres': writes down what it was given, and fails if told to."""
    folder = tmp_path / "pginstall" / "bin"
    folder.mkdir(parents=True)
    said = tmp_path / "said"
    (folder / "pg_dump").write_text(
        f'#!/bin/sh\necho "$*" > "{said}"\nenv >> "{said}"\n'
        'case "$*" in *--fail*) printf "it\\nfailed" >&2; exit 1;; esac\n'
    )
    (folder / "pg_dump").chmod(0o700)
    monkeypatch.setattr(programs, "package_folder", lambda _: tmp_path)
    return said


def test_a_password_is_in_no_process_list(program, monkeypatch):
    monkeypatch.setenv("PGHOST", "elsewhere")
    monkeypatch.setenv("PGPASSWORD", "of-the-environment")
    run_program("pg_dump", "postgresql://u:secret@h/db", "--format=custom")
    arguments, *environment = program.read_text().splitlines()
    assert arguments == "--dbname=postgresql://u@h/db --format=custom"
    assert "PGPASSWORD=secret" in environment
    assert not any(line.startswith("PGHOST=") for line in environment)
    run_program("pg_dump", "postgresql://u@h/db")
    assert "PGPASSWORD=of-the-environment" in program.read_text().splitlines()


def test_what_a_program_said_is_one_line(program):
    with pytest.raises(BackupError, match=r"^pg_dump failed: it failed$"):
        run_program("pg_dump", "postgresql://u:secret@h/db", "--fail")
