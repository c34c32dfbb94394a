"""Function libraries of the store: Lua files of this package, each under a name of its version.

A library's names carry a digest of its text (@VERSION@ in the file), so that processes of two
versions can work on one store during an upgrade, each with its own.
"""

import hashlib
from importlib.resources import files


def read_library(name: str) -> tuple[str, str]:
    """(source to load, version) of `<name>.lua`."""
    source = (files("voting") / f"{name}.lua").read_text()
    version = hashlib.sha256(source.encode()).hexdigest()[:10]
    return source.replace("@VERSION@", version), version
