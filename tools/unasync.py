#!/usr/bin/env python3
"""Generate the blocking flavour from the async one: ``_async/`` is written by hand, ``_sync/`` comes from here.

Works on the text, by words, so that names in docstrings change along with the code; then ruff drops the imports
that are not needed any more and formats. ``--check`` compares whole files, and fails for a file in ``_sync/`` that
neither is generated nor stands in `HAND_WRITTEN`. Every rule has to be used by some file, or it is an error.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

PAIRS = [("src/tetrad/_async", "src/tetrad/_sync"), ("tests/_async", "tests/_sync")]

HAND_WRITTEN = {
    "src/tetrad/_sync/renewal.py": "a thread and an event have other rules than a task",
    "tests/_sync/conftest.py": "fixtures are awaited by the framework, not by us",
    "tests/_sync/together.py": "threads instead of tasks",
}

RULES: list[tuple[str, str]] = [
    (r"\(await ([\w.]+\([^()]*\))\)", r"\1"),
    (r"\bawait\s+", ""),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bAwaitable\[((?:[^\[\]]|\[[^\[\]]*\])*)\]", r"\1"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\b__a(enter|exit|iter|next)__", r"__\1__"),
    (r"\baclose\b", "close"),
    (r"\barun\b", "run"),
    (r"\b_async\b", "_sync"),
    (r"\bwire_async\b", "wire_sync"),
    (r"\bfor asyncio\b", "for threads"),
    (r"\btasks and event loops\b", "threads"),
    (r"\brenewal task\b", "renewal thread"),
]

HEADER = "# Generated from {source} by tools/unasync.py: edit that file, then run `make sync`.\n"


def translate(source: str, used: set[str]) -> str:
    """*source* without the async, by every rule that applies."""
    for pattern, replacement in RULES:
        source, count = re.subn(pattern, replacement, source)
        if count:
            used.add(pattern)
    return source


def ruff(*arguments: str, code: str) -> str:
    """*code* through ruff."""
    beside = Path(sysconfig.get_path("scripts")) / "ruff"
    command = [str(beside) if beside.exists() else "ruff", *arguments, "-"]
    return subprocess.run(command, input=code, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def generate(path: Path, used: set[str]) -> str:
    """The blocking twin of the async module at *path*."""
    code = translate(path.read_text(encoding="utf-8"), used)
    if not code.strip():
        return code
    for node in ast.walk(ast.parse(code, str(path))):
        names = [alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)]
        if isinstance(node, (ast.AsyncFunctionDef, ast.AsyncWith, ast.AsyncFor, ast.Await)) or "asyncio" in names:
            raise SystemExit(f"{path.relative_to(ROOT)}:{node.lineno}: still async after translation")  # type: ignore[attr-defined]
    code = HEADER.format(source=path.relative_to(ROOT).as_posix()) + code
    code = ruff("check", "--quiet", "--fix-only", "--select", "F401,I", "--stdin-filename", "generated.py", code=code)
    return ruff("format", "--quiet", "--stdin-filename", "generated.py", code=code)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the files differ")
    check = parser.parse_args().check
    used: set[str] = set()
    wrong: list[str] = []
    for source_name, target_name in PAIRS:
        source, target = ROOT / source_name, ROOT / target_name
        expected: set[Path] = set()
        for path in sorted(source.rglob("*.py")):
            twin = target / path.relative_to(source)
            expected.add(twin)
            if twin.relative_to(ROOT).as_posix() in HAND_WRITTEN:
                continue
            code = generate(path, used)
            if not twin.exists() or twin.read_text(encoding="utf-8") != code:
                wrong.append(f"{twin.relative_to(ROOT)} differs from what {path.relative_to(ROOT)} gives")
                if not check:
                    twin.parent.mkdir(parents=True, exist_ok=True)
                    twin.write_text(code, encoding="utf-8")
        strangers = sorted(set(target.rglob("*.py")) - expected)
        if strangers:
            names = ", ".join(str(path.relative_to(ROOT)) for path in strangers)
            raise SystemExit(f"no async source: {names}; remove them or list them in HAND_WRITTEN")
    for name in HAND_WRITTEN:
        if not (ROOT / name).exists():
            raise SystemExit(f"{name} is listed as hand-written but not there")
    for pattern, _ in RULES:
        if pattern not in used:
            raise SystemExit(f"rule {pattern!r} applies nowhere: remove it")
    for line in wrong:
        print(line if check else f"wrote {line.partition(' ')[0]}")
    return 1 if check and wrong else 0


if __name__ == "__main__":
    sys.exit(main())
