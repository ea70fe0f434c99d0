"""Imports point one way: errors, types <- _core <- _ops <- _async | _sync <- contrib, cli, console, demo."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tetrad

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "tetrad"

BASE = ("tetrad.errors", "tetrad.types")

# What each part of the package may import of it.
ALLOWED = {
    "errors": (),
    "types": ("tetrad.errors",),
    "_core": (*BASE, "tetrad._core"),
    "_ops": (*BASE, "tetrad._core", "tetrad._ops"),
    "_async": (*BASE, "tetrad._core", "tetrad._ops", "tetrad._async"),
    "_sync": (*BASE, "tetrad._core", "tetrad._ops", "tetrad._sync"),
    "__init__": (*BASE, "tetrad._async", "tetrad._sync"),
    "__main__": ("tetrad.cli",),
    "contrib": (*BASE, "tetrad.contrib"),
    "cli": (*BASE, "tetrad.cli"),
    "console": (*BASE, "tetrad.console"),
}

# Public names only, except for what has no public name yet: part, prefix, reason.
EXCEPTIONS = [
    ("cli", "tetrad._core.embedded", "starting and stopping an embedded server by hand"),
    ("cli", "tetrad._core.settings.parse", "the options of an embedded server are those of its URL"),
]

# What a module without input and output has no use for.
IMPURE = {"asyncio", "hiredis", "redis", "select", "socket", "ssl", "subprocess", "threading", "time"}

# Packages that only adapters and commands may import, and only when they are used.
OPTIONAL = {"django", "fastapi", "flask", "opentelemetry", "rich", "starlette", "uvicorn", "uvloop", "valkey"}


def imports(path: Path) -> Iterator[str]:
    """The modules and names that a file imports, anywhere in it, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inside(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def part_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    """A module imports only from its own part of the package and from those below it."""
    part = part_of(path)
    assert part in ALLOWED, f"say in ALLOWED what {part} may import"
    excepted = tuple(prefix for who, prefix, _ in EXCEPTIONS if who == part)
    public = tuple(f"tetrad.{name}" for name in (*tetrad.__all__, "__version__"))
    for name in imports(path):
        if not inside(name, ("tetrad",)):
            continue
        if part in ("contrib", "cli", "console"):
            fine = name in public or inside(name, ALLOWED[part]) or name.startswith(excepted)
        else:
            fine = inside(name, ALLOWED[part])
        assert fine, f"{part} may not import {name}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "_ops").glob("*.py")), ids=lambda path: path.name)
def test_operations_do_no_io(path: Path) -> None:
    """Semantics neither wait nor send nor look at a clock: the drivers do."""
    assert not {name.partition(".")[0] for name in imports(path)} & IMPURE


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_frameworks_stay_in_their_adapters(path: Path) -> None:
    """Nobody who locks has to install a web framework."""
    if part_of(path) not in ("contrib", "console"):
        assert not {name.partition(".")[0] for name in imports(path)} & OPTIONAL


@pytest.mark.parametrize("path", sorted((ROOT / "demo").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_demo_uses_public_names(path: Path) -> None:
    """The demo is written as a reader of the README would write it."""
    public = {f"tetrad.{name}" for name in tetrad.__all__} | {"tetrad"}
    for name in imports(path):
        assert not inside(name, ("tetrad",)) or name in public, f"{name} is not public"


def test_the_exceptions_are_needed() -> None:
    """An exception that nobody uses any more is removed."""
    for part, prefix, _ in EXCEPTIONS:
        names = [name for path in sorted((PACKAGE / part).rglob("*.py")) for name in imports(path)]

        assert any(prefix in name for name in names), prefix


def test_importing_opens_nothing() -> None:
    """``import tetrad`` starts no thread, opens no file or socket that stays, and imports no optional package."""
    code = f"""
import os, sys, threading
before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
import tetrad
after = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
assert after <= before, after - before
assert threading.active_count() == 1
assert not {OPTIONAL!r} & set(sys.modules), {OPTIONAL!r} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
