"""Generate the blocking twin of every async module: ``_async/`` is written, ``_sync/`` is generated.

    python tools/unasync.py            write what has changed
    python tools/unasync.py --check    change nothing; fail unless every file is what it would be

A file is rewritten by words (`WORDS`), by phrases of its texts (`PHRASES`) and by a few rules (``await``,
``async with``, ``AsyncX``, ``Awaitable[X]``), in code, docstrings and comments alike; ruff then formats it.
The result must be free of anything async, or the file is refused: what a rewriting of words cannot
express is a twin written by hand, listed in `TWINS` with the reason. Every word, phrase and twin listed
must be in use, and every file in a ``_sync`` directory must be generated or listed.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent

PACKAGES = ("src/tetrad", "tests")  # each with an _async and a _sync

# Written by hand on both sides, with the same names: path behind _async/ and _sync/, and why.
TWINS = {
    "src/tetrad/renewal.py": "a thread and a condition have other rules than a task",
    "tests/conftest.py": "the fixture opens the flavour's own client",
    "tests/together.py": "running beside the test is a task here and a thread there",
}

WORDS = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "_async": "_sync",
    "aclose": "close",
    "arun": "run",
    "wire_async": "wire_sync",
}

# Texts that would be wrong about the blocking flavour.
PHRASES = {
    "between tasks and event loops": "between threads",
    "for asyncio": "for threads",
    "from the renewal task": "from the renewal thread",
}

_ARTICLE = re.compile(r"\b([Aa])n (`*)(Async(?=[A-Z])|async (?=with|for|def))(\w)")
_ASYNC = re.compile(r"\basync (?=(?:with|for|def)\b)")
_CLASS = re.compile(r"\b(_?)Async(?=[A-Z])")
_GROUP = re.compile(r"(?<![\w)\]])\((?=await )")
_AWAIT = re.compile(r"\bawait\s+")
_LEFT_OVER = re.compile(
    r"^_?Async[A-Z]|^async|async$|^a(?:iter|next|nyio)$|^__a\w+__$|^(?:Awaitable|Coroutine)$|^StopAsync"
)


class Refused(Exception):
    """A file that cannot be generated, or should not be there."""


def convert(source: str, origin: str) -> str:
    """The blocking twin of *source*, unformatted; raises `Refused` when something async would be left."""
    text = source
    for phrase, instead in PHRASES.items():
        text = text.replace(phrase, instead)
    text = _without_awaitables(text)
    text = _ARTICLE.sub(_article, text)
    text = _without_groups(text)
    text = _AWAIT.sub("", text)
    text = _ASYNC.sub("", text)
    text = _CLASS.sub(r"\1", text)
    text = _WORD.sub(lambda match: WORDS[match[0]], text)
    left = sorted(set(_left_over(text, origin)))
    if left:
        raise Refused(f"{origin}: {', '.join(left)} cannot be made blocking; see {Path(__file__).name}")
    return (
        f"# Generated from {origin} by tools/unasync.py: edit that file, then run `make sync`.\n{text}" if text else ""
    )


_WORD = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, sorted(WORDS, key=len, reverse=True))) + r")(?!\w)")


def _article(match: re.Match[str]) -> str:
    """ "An ``async with``" is "a ``with``", but "an `AsyncEntry`" is "an `Entry`"."""
    n = "n" if match[4] in "AEIOaeio" else ""
    return f"{match[1]}{n} {match[2]}{match[3]}{match[4]}"


def _without_awaitables(text: str) -> str:
    """``Awaitable[X]`` and ``Coroutine[Any, Any, X]`` are ``X``."""
    for opening in ("Awaitable[", "Coroutine[Any, Any, "):
        while (at := text.find(opening)) >= 0:
            end = _closing(text, at + opening.index("["))
            text = text[:at] + text[at + len(opening) : end] + text[end + 1 :]
    return text


def _without_groups(text: str) -> str:
    """``(await x()).y`` is ``x().y``: the brackets were there for the await."""
    at = 0
    while match := _GROUP.search(text, at):
        start, at = match.start(), match.end()
        end = _closing(text, start)
        inner = text[at:end]
        try:
            alone = isinstance(ast.parse(f"({inner})", mode="eval").body, ast.Await)
        except SyntaxError:
            continue  # part of a text
        if alone:
            text = text[:start] + inner + text[end + 1 :]
            at = start
    return text


def _closing(text: str, at: int) -> int:
    """Where the bracket that opens at *at* is closed. Brackets in strings are rare, and the parser would notice."""
    depth = 0
    for i in range(at, len(text)):
        depth += (text[i] in "([{") - (text[i] in ")]}")
        if depth == 0:
            return i
    raise Refused(f"a bracket is never closed: {text[at : at + 40]!r}")


def _left_over(text: str, origin: str) -> Iterator[str]:
    """Names and constructs of *text* that have no place in a blocking module; unused imports ruff removes."""
    try:
        tree = ast.parse(text)
    except SyntaxError as exc:
        raise Refused(f"{origin}: the blocking twin does not parse: {exc}") from exc
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.AsyncWith | ast.AsyncFor | ast.Await):
            yield type(node).__name__
        names = {
            ast.Name: "id",
            ast.Attribute: "attr",
            ast.ImportFrom: "module",
            ast.FunctionDef: "name",
            ast.ClassDef: "name",
            ast.arg: "arg",
        }
        if isinstance(node, ast.Import | ast.ImportFrom):
            found = [alias.name for alias in node.names if alias.name not in ("Awaitable", "Coroutine")]
        else:
            found = []
        found.append(getattr(node, names.get(type(node), ""), None) or "")
        for part in ".".join(found).split("."):
            if _LEFT_OVER.search(part):
                yield part


def plan(root: Path) -> dict[Path, Path]:
    """Which file each generated file comes from; raises `Refused` for what is in a ``_sync`` without being listed."""
    pairs: dict[Path, Path] = {}
    wrong: list[str] = []
    for package in PACKAGES:
        written, generated = root / package / "_async", root / package / "_sync"
        for source in sorted(written.rglob("*.py")):
            if f"{package}/{source.relative_to(written)}" not in TWINS:
                pairs[generated / source.relative_to(written)] = source
        for target in sorted(generated.rglob("*")):
            twin = f"{package}/{target.relative_to(generated)}"
            if target.is_file() and "__pycache__" not in target.parts and target not in pairs and twin not in TWINS:
                wrong.append(f"{target.relative_to(root)} has no source in _async and is no listed twin: remove it")
    for twin in TWINS:
        package, _, name = twin.rpartition("/")
        for flavour in ("_async", "_sync"):
            if not (root / package / flavour / name).is_file():
                wrong.append(f"{package}/{flavour}/{name} is listed as a twin and does not exist")
    if wrong:
        raise Refused("\n".join(wrong))
    return pairs


def generate(root: Path = ROOT) -> dict[Path, str]:
    """The text of every generated file, formatted. Raises `Refused` with all complaints at once."""
    pairs = plan(root)
    sources = {source: source.read_text(encoding="utf-8") for source in pairs.values()}
    texts: dict[Path, str] = {}
    wrong: list[str] = []
    for target, source in pairs.items():
        try:
            texts[target] = convert(sources[source], source.relative_to(root).as_posix())
        except Refused as exc:
            wrong.append(str(exc))
    everything = "\n".join(sources.values())
    wrong += [
        f"no async module has the word {word!r}: remove it"
        for word in WORDS
        if not re.search(rf"\b{word}\b", everything)
    ]
    wrong += [f"no async module has the phrase {text!r}: remove it" for text in PHRASES if text not in everything]
    if wrong:
        raise Refused("\n".join(wrong))
    return formatted(texts, root)


def formatted(texts: dict[Path, str], root: Path) -> dict[Path, str]:
    """*texts* as ruff formats them: names sort and lines break differently without their ``Async`` and ``await``."""
    with tempfile.TemporaryDirectory() as directory:
        copies = {target: Path(directory, target.relative_to(root)) for target in texts}
        for target, copy in copies.items():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(texts[target], encoding="utf-8")
        ruff = [sys.executable, "-m", "ruff"]
        config = ["--config", str(ROOT / "pyproject.toml"), "--no-cache", "--quiet", directory]
        subprocess.run([*ruff, "check", "--select", "F401,I001", "--fix", *config], check=True)
        subprocess.run([*ruff, "format", *config], check=True)
        return {target: copy.read_text(encoding="utf-8") for target, copy in copies.items()}


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail unless everything is up to date")
    check = parser.parse_args(arguments).check
    try:
        texts = generate(root)
    except Refused as exc:
        print(exc, file=sys.stderr)
        return 1
    stale = [t for t, text in texts.items() if not t.is_file() or t.read_bytes() != text.encode()]
    for target in stale:
        if check:
            print(f"{target.relative_to(root)} is not what its source gives: run make sync", file=sys.stderr)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(texts[target], encoding="utf-8")
            print(f"wrote {target.relative_to(root)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
