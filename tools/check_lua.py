"""Check the Lua scripts against their contract (see ``tetrad._core.scripts``), and compile them with a real server.

    python tools/check_lua.py [FOLDER]

A server finds syntax errors when a script is loaded, but an undefined global, an undeclared key or a write in a
read-only script only when that very branch runs. So they are looked for here, by reading the tokens: a key argument
has to come from KEYS, a command has to be in `COMMANDS`, a name has to be local or Lua's own.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import redis

from tetrad._core.embedded import find_server
from tetrad._core.scripts import splice

ROOT = Path(__file__).parent.parent

FAMILIES = {"board", "limit", "lock", "session"}
FLAGS = [set(), {"no-writes"}, {"allow-oom"}, {"no-writes", "allow-oom"}]
MAX_LINES = 60

# The commands that scripts may use, all of them in Redis 7.0, by what they do: read, write, or neither.
COMMANDS = {
    "read": "EXISTS HEXISTS HGET HGETALL HLEN HMGET PTTL ZCARD ZCOUNT ZMSCORE ZRANGE ZRANGEBYSCORE ZRANK ZREVRANGE "
    "ZREVRANK ZSCORE GET MGET STRLEN",
    "write": "DEL HDEL HINCRBY HSET INCR INCRBY PEXPIRE PEXPIREAT RENAME SET UNLINK ZADD ZINCRBY ZPOPMIN ZREM "
    "ZREMRANGEBYRANK ZREMRANGEBYSCORE SPUBLISH",
    "keyless": "TIME",
}
KINDS = {command: kind for kind, commands in COMMANDS.items() for command in commands.split()}

# Scripts that reach keys which are not in KEYS, and why that is right in a cluster too.
COMPUTED = {
    "session_list": "as session_sweep",
    "session_sweep": "the sessions of a user are known to the index only and share its slot",
}

KEYWORDS = set(
    "and break do else elseif end false for function if in local nil not or repeat return then true until while".split()
)
GLOBALS = set(
    "KEYS ARGV redis cjson cmsgpack struct bit math string table assert error ipairs next pairs pcall select tonumber "
    "tostring type unpack".split()
)

_TOKEN = re.compile(
    r"""(?P<comment>--\[\[.*?\]\]|--[^\n]*)|(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\[\[.*?\]\])"""
    r"""|(?P<name>[A-Za-z_]\w*)|(?P<number>\d[\w.]*)|(?P<op>\.\.\.|\.\.|[=~<>]=|\S)""",
    re.DOTALL,
)
_INCLUDE = re.compile(r"^-- @include (\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str


def tokens(text: str) -> list[Token]:
    """The tokens of a Lua text, comments left out."""
    found = [Token(match.lastgroup or "op", match[0]) for match in _TOKEN.finditer(text)]
    return [token for token in found if token.kind != "comment"]


def check_header(name: str, text: str) -> Iterator[str]:
    """What the first comment says: flags, purpose, KEYS and ARGV, the answer, and whether it may be sent again."""
    first, _, rest = text.partition("\n")
    match = re.fullmatch(r"#!lua(?: flags=([a-z,-]+))?", first)
    if match is None or set((match[1] or "").split(",")) - {""} not in FLAGS:
        yield "the first line is #!lua, alone or with flags=no-writes, flags=allow-oom or both"
    header: list[str] = []
    for line in rest.splitlines():
        if not line.startswith("--"):
            break
        header.append(line)
    if not header or re.match(r"-- *(KEYS|ARGV|returns|replay|@include|$)", header[0]):
        yield "the second line says what the script does"
    comment = "\n".join(header)
    body = "\n".join(rest.splitlines()[len(header) :])
    for words in ("KEYS", "ARGV"):
        if re.search(rf"\b{words}\b", body) and not re.search(rf"^-- .*{words}\b", comment, re.MULTILINE):
            yield f"the header does not say what {words} holds"
    for number in sorted(set(re.findall(r"\bKEYS\[(\d+)\]", body))):
        if f"KEYS[{number}]" not in comment:
            yield f"KEYS[{number}] is used and not declared in the header"
    if not re.search(r"^-- returns \S", comment, re.MULTILINE):
        yield "the header has no 'returns' line"
    if not re.search(r"^-- replay: (safe|never), because \S", comment, re.MULTILINE):
        yield "the header has no line 'replay: safe, because ...' or 'replay: never, because ...'"
    if name.partition("_")[0] not in FAMILIES:
        yield f"the name starts with none of {', '.join(sorted(FAMILIES))}"
    lines = sum(1 for line in text.splitlines() if line.strip())
    if lines > MAX_LINES:
        yield f"{lines} lines, more than {MAX_LINES}"


def check_includes(folder: Path) -> Iterator[str]:
    """Includes that do not exist, go in circles or are used by nobody."""
    includes = {path.stem: path for path in sorted((folder / "include").glob("*.lua"))}
    wanted = {
        path: _INCLUDE.findall(path.read_text(encoding="utf-8"))
        for path in [*sorted(folder.glob("*.lua")), *includes.values()]
    }
    for path, names in wanted.items():
        for name in names:
            if name not in includes:
                yield f"{path.name}: there is no include/{name}.lua"

    def circle(name: str, above: tuple[str, ...]) -> bool:
        return name in above or any(circle(n, (*above, name)) for n in wanted.get(includes.get(name, folder), []))

    for name, path in includes.items():
        if circle(name, ()):
            yield f"include/{path.name}: its includes go in a circle"
        if not any(name in names for names in wanted.values()):
            yield f"include/{path.name}: nobody includes it"


class Reader:
    """One walk over a spliced script: scopes, names, and what goes into each ``redis.call``."""

    def __init__(self, text: str, writes: bool) -> None:
        self.found = tokens(text.partition("\n")[2])
        self.writes = writes
        # What each of the script's functions ("": none) writes and names: an include may hold more than is called.
        self.written: dict[str, list[str]] = {"": []}
        self.named: dict[str, set[str]] = {"": set()}
        self.function = ""
        # A scope maps a local name to whether it may be a key: it comes from KEYS, or is a function's parameter.
        self.scopes: list[dict[str, bool]] = [dict.fromkeys(GLOBALS, False) | {"KEYS": True}]
        self.undeclared = False

    def complaints(self) -> Iterator[str]:
        at, braces = 0, 0
        while at < len(self.found):
            token = self.found[at]
            braces += (token.text == "{") - (token.text == "}")
            if token.kind != "name":
                at += 1
            elif token.text == "local" and self.text(at + 1) != "function":
                at = self._local(at + 1)
            elif token.text == "for":
                at = self._for(at + 1)
            elif token.text == "function" or (token.text == "local" and self.text(at + 1) == "function"):
                at = self._function(at + (2 if token.text == "local" else 1), token.text == "local")
            else:
                yield from self._word(at, braces)
                at += 1
        if not self.writes:
            for command in self._reached(""):
                yield f"{command} writes, and the script says no-writes"

    def _reached(self, function: str) -> list[str]:
        """The write commands of *function* and of all that it names."""
        if function not in self.named:
            return []  # been there
        names = sorted(self.named.pop(function))
        return self.written[function] + [command for name in names for command in self._reached(name)]

    def _word(self, at: int, braces: int) -> Iterator[str]:
        word = self.found[at].text
        if word in ("do", "then", "repeat"):
            self.scopes.append({})
        elif word == "else":
            self.scopes[-1] = {}
        elif word in ("end", "until", "elseif"):
            self.scopes.pop()
            if len(self.scopes) == 1:
                self.function = ""
        elif word in KEYWORDS or self.text(at - 1) in (".", ":"):
            pass
        elif braces and self.text(at + 1) == "=":
            pass  # a table's field
        elif self._key(word) is None:
            yield f"{word} is neither local nor one of Lua's globals"
        elif word in self.written:
            self.named[self.function].add(word)
        elif word == "redis" and self.text(at + 2) in ("call", "pcall"):
            yield from self._call(at + 4)

    def _call(self, at: int) -> Iterator[str]:
        """``redis.call("COMMAND", key, ...)`` from its first argument."""
        command = self.found[at].text.strip("\"'").upper()
        kind = KINDS.get(command)
        if self.found[at].kind != "string":
            yield "the command of a redis.call is not written out"
        elif kind is None:
            yield f"{command} is not in COMMANDS: is it old enough, and does it read or write?"
        elif kind == "write" and command != "SPUBLISH":
            self.written[self.function].append(command)
        if kind in ("read", "write") and self.text(at + 1) == ",":
            end = self._end(at + 2)
            if not self._mentions_key(at + 2, end):
                self.undeclared = True
                key = " ".join(token.text for token in self.found[at + 2 : end])
                yield f"the key {key} of {command} does not come from KEYS"

    def _local(self, at: int) -> int:
        """``local a, b = x, y``: each name may be a key if its value mentions one. Goes on with the values."""
        names, at = self._names(at)
        flags = [False]
        if self.text(at) == "=":
            start = at = at + 1
            flags = []
            while True:
                end = self._end(start)
                flags.append(self._mentions_key(start, end))
                if self.text(end) != ",":
                    break
                start = end + 1
        for i, name in enumerate(names):
            self.scopes[-1][name] = flags[min(i, len(flags) - 1)]
        return at

    def _for(self, at: int) -> int:
        """``for i, key in ipairs(KEYS) do``; goes on behind ``do``."""
        names, at = self._names(at)
        end = at
        while self.text(end) != "do":
            end += 1
        flag = self._mentions_key(at, end)
        self.scopes.append(dict.fromkeys(names, flag))
        return end + 1

    def _function(self, at: int, local: bool) -> int:
        if self.found[at].kind == "name":
            name = self.found[at].text
            if local:
                self.scopes[-1][name] = False
            if len(self.scopes) == 1:
                self.function = name
                self.written[name], self.named[name] = [], set()
            at += 1
        names, at = self._names(at + 1)
        self.scopes.append(dict.fromkeys(names, True))
        return at

    def _names(self, at: int) -> tuple[list[str], int]:
        """A list of names and where it ends."""
        names = []
        while self.found[at].kind == "name" or self.text(at) in (",", "..."):
            if self.text(at) in KEYWORDS:
                break
            names += [self.text(at)] if self.found[at].kind == "name" else []
            at += 1
        return names, at

    def _end(self, at: int) -> int:
        """Where the expression that starts at *at* ends: a comma or bracket of its own level, or another statement."""
        depth = 0
        start = at
        while at < len(self.found):
            text = self.text(at)
            if depth == 0 and (
                text in (",", ")", "}", ";") or (self.found[at].kind == "name" and at > start and self._begins(at))
            ):
                break
            depth += (text in ("(", "{", "[", "function")) - (text in (")", "}", "]", "end"))
            at += 1
        return at

    def _begins(self, at: int) -> bool:
        """Whether a new statement begins at the name *at*: two operands never follow each other."""
        text, before = self.found[at].text, self.found[at - 1]
        if text in KEYWORDS - {"and", "or", "not", "nil", "true", "false", "function"}:
            return True
        if text in ("and", "or"):
            return False
        return (
            before.kind in ("string", "number")
            or before.text in (")", "]", "}")
            or (before.kind == "name" and before.text not in ("and", "or", "not", "return"))
        )

    def _mentions_key(self, start: int, end: int) -> bool:
        """Whether the expression is made from a key; what a command answers is data and no key."""
        mentioned = False
        for at in range(start, end):
            token = self.found[at]
            if token.text == "redis":
                return False
            if token.kind == "name" and self.text(at - 1) not in (".", ":"):
                mentioned = mentioned or bool(self._key(token.text))
        return mentioned

    def _key(self, name: str) -> bool | None:
        """Whether *name* may be a key; ``None`` when there is no such name."""
        return next((scope[name] for scope in reversed(self.scopes) if name in scope), None)

    def text(self, at: int) -> str:
        """The token at *at*; "" behind the last one."""
        return self.found[at].text if 0 <= at < len(self.found) else ""


def check_body(name: str, text: str, computed: Sequence[str]) -> Iterator[str]:
    """Names, commands and keys of a spliced script."""
    reader = Reader(text, writes="no-writes" not in text.partition("\n")[0])
    for complaint in dict.fromkeys(reader.complaints()):
        if not (name in computed and "does not come from KEYS" in complaint):
            yield complaint
    if name in computed and not reader.undeclared:
        yield "all its keys come from KEYS: remove it from COMPUTED"


def compile_all(texts: dict[str, str]) -> dict[str, str]:
    """What a real server has against the scripts that it does not accept."""
    refused: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="tetrad-") as folder:
        path = f"{folder}/lua.sock"
        options = ["--port", "0", "--unixsocket", path, "--dir", folder, "--save", ""]
        with subprocess.Popen([str(find_server()), *options], stdout=subprocess.DEVNULL) as server:
            try:
                client = redis.Redis(unix_socket_path=path)
                until = time.monotonic() + 15
                while not Path(path).exists() and time.monotonic() < until:
                    time.sleep(0.01)  # it listens as soon as the socket is there
                for name, text in texts.items():
                    try:
                        client.script_load(text)
                    except redis.ResponseError as exc:
                        refused[name] = str(exc)
                client.close()
            finally:
                server.terminate()
    return refused


def check(folder: Path, computed: Sequence[str] = ()) -> list[str]:
    """All complaints about the scripts in *folder*."""
    wrong = [
        f"{path.name}: only scripts and include/ belong here"
        for path in folder.iterdir()
        if not (path.suffix == ".lua" or path.name == "include")
    ]
    includes = list(check_includes(folder))
    if includes:
        return wrong + includes  # they cannot be spliced
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.lua"))}
    spliced = {name: splice(text, folder) for name, text in texts.items()}
    refused = compile_all(spliced)
    for name, text in texts.items():
        complaints = list(check_header(name, text))
        if name in refused:
            complaints.append(refused[name])  # and its blocks may not even be balanced
        else:
            complaints += check_body(name, spliced[name], computed)
        wrong += [f"{name}.lua: {complaint}" for complaint in complaints]
    return wrong


def unused(folder: Path, modules: Path) -> list[str]:
    """Scripts that no module loads."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in sorted(modules.glob("*.py")))
    loaded = set(re.findall(r'\bload\w*\("(\w+)"\)', code))
    return [
        f"{path.name}: no module of _ops loads it" for path in sorted(folder.glob("*.lua")) if path.stem not in loaded
    ]


def main(arguments: Sequence[str]) -> int:
    package = ROOT / "src" / "tetrad"
    folder = Path(arguments[0]) if arguments else package / "lua"
    wrong = check(folder, tuple(COMPUTED)) + unused(folder, package / "_ops")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
