"""The README is true: its Python blocks run, one after the other, and its links lead somewhere."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path
from typing import Any

import hiredis
import pytest

from tests.examples import execute
from tests.servers import Server
from tetrad import Tetrad

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

BLOCK = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^]]*\]\((?P<target>[^)\s]+)\)")


def blocks(path: Path) -> list[str]:
    return [
        match["text"] for match in BLOCK.finditer(path.read_text(encoding="utf-8")) if match["language"] == "python"
    ]


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if blocks(path)], ids=lambda path: path.name)
def test_the_examples_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python blocks of a document, in their order and in one namespace, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TETRAD_HOME", str(tmp_path))
    monkeypatch.delenv("TETRAD_URL", raising=False)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, block in enumerate(blocks(path), 1):
        with asyncio.Runner() as runner:
            _, error = execute(block, namespace, runner)
        if error is not None:
            raise AssertionError(f"Python block {number} of {path.name} failed:\n{block}") from error


def acl() -> list[str]:
    """The rights that the README wants for a user."""
    found = re.search(r"A user for Tetrad\s+needs\s+`([^`]+)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert found is not None
    return found[1].split()


def verdict(server: Server, command: str) -> str:
    """What the server says to *command* by the user ``ann``, given as many arguments as the command wants."""
    for count in range(8):
        try:
            answer: bytes = server.cli("ACL", "DRYRUN", "ann", command, *["tetrad:key"] * count)
        except hiredis.ReplyError as exc:
            assert "number of arguments" in str(exc)
        else:
            return answer.decode()
    raise AssertionError(f"{command} takes more arguments")


@pytest.mark.parametrize("program", [None, "redis-server"], ids=["valkey", "redis"])
def test_the_acl_is_enough_and_not_too_much(program: str | None) -> None:
    """A user with the README's rights may run its examples and all that the scripts do, and cannot empty the server."""
    binary = shutil.which(program) if program else None
    if program and not binary:
        pytest.skip(f"there is no {program} here")
    scripts = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/tetrad/lua").rglob("*.lua"))
    commands = set(re.findall(r"redis\.p?call\(\"(\w+)\"", scripts))
    assert len(commands) > 20
    with Server(binary=binary) as server:
        server.cli("ACL", "SETUSER", "ann", "on", ">pw", *acl())
        url = f"unix://ann:pw@{server.path}"

        namespace: dict[str, Any] = {"__name__": "__main__"}
        for block in blocks(ROOT / "README.md"):
            with asyncio.Runner() as runner:
                _, error = execute(block.replace("embedded:./data", url), namespace, runner)
            if error is not None:
                raise AssertionError(f"the user may not run this:\n{block}") from error
        assert {command: verdict(server, command) for command in commands} == dict.fromkeys(commands, "OK")
        assert "no permissions" in verdict(server, "FLUSHALL")

        server.cli("ACL", "SETUSER", "ann", "+info")
        with Tetrad(url) as t:
            assert t.info().version


def test_every_python_block_is_found() -> None:
    """A block whose fence is written in another way would be left out."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")

        assert len(re.findall(r"^\s*(?:```+|~~~+)\s*(?:python|py|pycon)", text, re.MULTILINE)) == len(blocks(path)), (
            path
        )


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_links_lead_somewhere(path: Path) -> None:
    """A link to a file of this repository names one that exists."""
    for match in LINK.finditer(path.read_text(encoding="utf-8")):
        target = match["target"].partition("#")[0]
        if target and "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_make_targets_exist() -> None:
    """Each ``make target`` that a document names is in the Makefile."""
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        named = set(re.findall(r"^(?:\w+=\w+ )*make (\w+)", text, re.MULTILINE)) | set(
            re.findall(r"`(?:\w+=\w+ )*make (\w+)", text)
        )

        assert named <= targets, path.name
