"""Makes the newest build in `dist/` out of `src/`: `python voting/widget/build.py`.

Comments and indentation go, which are an eighth of what a visitor would have to fetch. `{{name}}`
becomes the integrity hash of that file of the same build: who pins like.js by its hash pins what it
loads. No Node, no minifier: what is served can be read. A test holds `dist/` to be what this makes.
"""

import base64
import hashlib
import re
from pathlib import Path

HERE = Path(__file__).parent
BUILD = "v1.0"
"""The one that may still change; all others in `dist/` are frozen."""

_FILES = ("like-work.js", "like.js", "like.css")
"""Whatever is pinned by another one comes before it."""
_COMMENT = re.compile(r"(^|\s)// [^'\"`]*$")
_PINNED = re.compile(r"\{\{([\w.-]+)\}\}")


def built() -> dict[str, bytes]:
    """File name -> content of the newest build."""
    made: dict[str, bytes] = {}

    def integrity(found: re.Match[str]) -> str:
        return "sha256-" + base64.b64encode(hashlib.sha256(made[found[1]]).digest()).decode()

    for name in _FILES:
        text = (HERE / "src" / name).read_text(encoding="utf-8")
        if name.endswith(".js"):
            text = _PINNED.sub(integrity, _stripped(text))
        made[name] = text.encode()
    return made


def _stripped(script: str) -> str:
    """The script without comments and indentation; its first line, the licence, stays. Knows no
    strings of several lines, and none that ends like a comment."""
    first, *lines = script.splitlines()
    shorter = (_COMMENT.sub("", line).strip() for line in lines)
    return "\n".join([first, *filter(None, shorter)]) + "\n"


if __name__ == "__main__":
    folder = HERE / "dist" / BUILD
    for name, content in built().items():
        (folder / name).write_bytes(content)
