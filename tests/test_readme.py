"""The README is true: its Python blocks run, one after the other, and its links lead somewhere."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from tests.examples import execute

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
