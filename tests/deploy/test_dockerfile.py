"""deploy/Dockerfile: what can be known of it where no image can be built."""

import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest

from voting.settings import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy" / "Dockerfile").read_text()
JOINED = TEXT.replace("\\\n", "")
HADOLINT = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed")
def test_hadolint_finds_nothing_wrong():
    ended = subprocess.run(
        (HADOLINT, "deploy/Dockerfile"), check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_copies_our_packages_and_what_the_builder_is_given():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {
        name.removesuffix("*")
        for name in project["tool"]["setuptools"]["packages"]["find"]["include"]
    }
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.+)$", TEXT, re.MULTILINE)
        for name in line.split()[:-1]
    }
    assert copied == packages | {"requirements.txt", "pyproject.toml", "README.md", "LICENSE"}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == copied
    assert "deploy/secrets" in ignored


def test_no_process_of_it_is_root_and_its_user_is_a_number():
    last = TEXT.rsplit("FROM ", 1)[1]
    [user] = re.findall(r"^USER (\S+)$", last, re.MULTILINE)
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)


def test_exposes_the_ports_of_the_settings():
    ports = {
        str(Settings.model_fields[name].default)
        for name in ("edge_port", "console_port", "admin_port")
    }
    assert set(re.findall(r"^EXPOSE (.+)$", TEXT, re.MULTILINE)[0].split()) == ports


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_healthcheck_is_what_metrics_answers(status, code):
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/metrics" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    [command] = re.findall(r"^HEALTHCHECK .*?CMD (\[.+\])$", JOINED, re.MULTILINE)
    program, *words = json.loads(command)
    assert program == "python"
    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ended = subprocess.run(
            (sys.executable, *words),
            env={"DIANZAN_ADMIN_PORT": str(server.server_port)},
            check=False,
        )
        server.shutdown()
    assert ended.returncode == code
