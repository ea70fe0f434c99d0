"""The Lua scripts: package files, with their includes spliced in, known to the server by SHA1.

A script file is ``lua/<family>_<verb>.lua``. Its header is a contract that ``tools/check_lua.py``
enforces: a ``#!lua`` line with chosen flags, what it does, its KEYS and ARGV, what it returns, and
``replay: safe | never`` with the reason. A script that is safe to replay gives the same answer when
a lost reply makes the client send it again; the others are never sent twice.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_LUA = Path(__file__).parent.parent / "lua"

_INCLUDE = re.compile(r"^-- @include (\w+)\n", re.MULTILINE)
_REPLAY = re.compile(r"^-- replay: (safe|never)\b", re.MULTILINE)


class Script:
    """One server-side script: `text` is what the server compiles, `sha` its name there."""

    __slots__ = ("name", "reads", "replay", "sha", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.sha = hashlib.sha1(text.encode()).hexdigest()
        first = text.partition("\n")[0]
        self.reads = "no-writes" in first
        replay = _REPLAY.search(text)
        self.replay = self.reads or (replay is not None and replay[1] == "safe")

    def __repr__(self) -> str:
        return f"Script({self.name!r})"


def splice(text: str, folder: Path = _LUA) -> str:
    """Replace each ``-- @include name`` line by *folder*'s ``include/name.lua``, once, nested ones too."""
    seen: set[str] = set()

    def include(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return ""
        seen.add(name)
        return _INCLUDE.sub(include, _read(f"include/{name}.lua", folder))

    return _INCLUDE.sub(include, text)


def load(name: str) -> Script:
    """The script in ``lua/<name>.lua``. Modules of ``_ops`` load theirs once, when imported."""
    return Script(name, splice(_read(f"{name}.lua")))


def _read(path: str, folder: Path = _LUA) -> str:
    return (folder / path).read_text(encoding="utf-8")
