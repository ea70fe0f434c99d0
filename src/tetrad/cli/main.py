"""The ``tetrad`` command: arguments, words and exit codes. What it does stands elsewhere.

Exit codes: 0 done, 1 not running or failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from tetrad import __version__
from tetrad.errors import ConfigurationError, TetradError

if TYPE_CHECKING:
    from tetrad._core.embedded_control import EmbeddedStatus


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with *argv* (``None``: the process's own) and return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.run is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        code: int = arguments.run(arguments)
        return code
    except (TetradError, OSError) as exc:
        print(f"tetrad: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tetrad", description="Tetrad's servers, from the command line.")
    parser.add_argument("--version", action="version", version=f"tetrad {__version__}")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    up = commands.add_parser("up", help="start the embedded server and keep it running until `tetrad down`")
    up.add_argument(
        "--durability",
        choices=("always", "second", "snapshot", "none"),
        default="second",
        help="what a crash of the machine may cost: nothing, the last second (default), the last minutes, everything",
    )
    up.set_defaults(run=_up)
    down = commands.add_parser("down", help="stop the embedded server")
    down.set_defaults(run=_down)
    status = commands.add_parser("status", help="say how the embedded server is")
    status.add_argument("--json", action="store_true", help="one JSON object, for programs")
    status.set_defaults(run=_status)
    for command in (up, down, status):
        command.add_argument(
            "directory",
            nargs="?",
            metavar="DIR",
            help="the server's directory, or embedded:DIR (default: what embedded: alone means)",
        )
    return parser


def _up(arguments: argparse.Namespace) -> int:
    from tetrad._core import embedded_control as control
    from tetrad._core.embedded import EmbeddedOptions

    found = control.up(EmbeddedOptions(_directory(arguments.directory), arguments.durability))
    stays = f"it stays until {_down_of(found.directory)}"
    print(f"up: {found.version}, process {found.pid}, durability {found.durability}; {stays}")
    print(f"  embedded:{quote(found.directory)}\n  unix://{quote(found.socket)}")
    return 0


def _down(arguments: argparse.Namespace) -> int:
    from tetrad._core import embedded_control as control
    from tetrad._core import embedded_files as files

    directory = _directory(arguments.directory)
    users = files.users(directory)
    used = bool(users) if users is not None else files.in_use(directory)
    if not control.down(directory):
        print(f"not running: {directory}", file=sys.stderr)
        return 1
    print(f"down: {directory}")
    if used:
        print(f"{_processes(users)} still used it; when they next do, they start it again", file=sys.stderr)
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from tetrad._core import embedded_control as control

    directory = _directory(arguments.directory)
    found = control.status(directory)
    if arguments.json:
        print(json.dumps({"running": found is not None, "directory": str(directory), **_as_dict(found)}))
    elif found is None:
        print(f"not running: {directory}", file=sys.stderr)
    else:
        pinned = f"; it stays without users until {_down_of(found.directory)}" if found.pinned else ""
        unsaved = "" if found.unsaved is None else f", {found.unsaved} changes since the last snapshot"
        print(f"directory    {found.directory}")
        print(f"server       {found.version}, process {found.pid}, supervised by process {found.supervisor}")
        print(f"uptime       {_duration(found.uptime)}")
        print(f"users        {_processes(found.users)}{pinned}")
        print(f"memory       {found.memory / 1e6:.1f} MB")
        print(f"durability   {found.durability}")
        print(f"persistence  {found.persistence}{unsaved}")
    return 0 if found is not None else 1


def _directory(text: str | None) -> Path:
    from tetrad._core.embedded import default_directory
    from tetrad._core.settings import parse

    if text is None:
        return default_directory()
    if not text or "://" in text:
        got = f"the URL {text.partition('://')[0]}://..." if text else "nothing"  # a URL may hold a password
        raise ConfigurationError(f"DIR must be a directory or embedded:DIR, got {got}")
    if not text.startswith("embedded:"):
        return Path(text).expanduser().absolute()
    options = parse(text).embedded
    if options is None or options.directory is None:
        raise ConfigurationError(f"{text!r} names no directory; a throwaway server lives and ends with its process")
    return options.directory


def _down_of(directory: str) -> str:
    """The command that stops this server, to be pasted into a shell."""
    from tetrad._core.embedded import default_directory

    where = "" if Path(directory) == default_directory() else f" {shlex.quote(directory)}"
    return f"`tetrad down{where}`"


def _as_dict(found: EmbeddedStatus | None) -> dict[str, object]:
    return {} if found is None else dataclasses.asdict(found)


def _processes(pids: list[int] | None) -> str:
    """For people: how many, and which."""
    if pids is None:
        return "an unknown number of processes"
    if not pids:
        return "none"
    count = "1 process" if len(pids) == 1 else f"{len(pids)} processes"
    return f"{count} ({', '.join(map(str, pids[:8]))}{', ...' if len(pids) > 8 else ''})"


def _duration(seconds: int) -> str:
    """For people: the two largest units.

    >>> _duration(93784)
    '1 d 2 h'
    """
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    parts = []
    for name, size in units:
        count, seconds = divmod(seconds, size)
        parts.append((count, name))
    while len(parts) > 1 and not parts[0][0]:
        parts.pop(0)
    return " ".join(f"{count} {name}" for count, name in parts[:2])
