"""Every example in a docstring is executed, and every public name has a docstring."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tetrad
from tests import examples

MODULES = sorted({"tetrad", *(module.name for module in pkgutil.walk_packages(tetrad.__path__, "tetrad."))})


def docs_of(name: str) -> list[doctest.DocTest]:
    """The docstrings of a module that have examples."""
    if name.endswith("__main__"):
        return []
    module = importlib.import_module(name)
    public = {public: getattr(tetrad, public) for public in tetrad.__all__}
    found = doctest.DocTestFinder().find(module, extraglobs=public)
    return [test for test in found if test.examples]


@pytest.mark.parametrize("test", [test for name in MODULES for test in docs_of(name)], ids=lambda test: test.name)
def test_docstring(test: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples give what they say."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TETRAD_HOME", str(tmp_path))

    assert examples.run(test) == []


def test_a_wrong_example_is_noticed() -> None:
    """The runner runs what it is given: wrong values, unexpected and missing errors are all failures."""
    for text, failures in [
        (">>> 1 + 1\n2\n", 0),
        (">>> 1 + 1\n3\n", 1),
        (">>> import asyncio\n>>> await asyncio.sleep(0, 5)\n5\n", 0),
        (">>> import asyncio\n>>> await asyncio.sleep(0, 5)\n6\n", 1),
        (">>> 1 / 0\nTraceback (most recent call last):\nZeroDivisionError: division by zero\n", 0),
        (">>> 1 / 1\nTraceback (most recent call last):\nZeroDivisionError: division by zero\n", 1),
        (">>> 1 / 0\n", 1),
        (">>> 1 / 0  # doctest: +SKIP\n", 1),
    ]:
        test = doctest.DocTestParser().get_doctest(text, {}, "example", None, 0)
        assert len(examples.run(test)) == failures, text


def public_objects() -> Iterator[tuple[str, Any]]:
    for name in tetrad.__all__:
        thing = getattr(tetrad, name)
        yield name, thing
        if inspect.isclass(thing):
            for member, value in vars(thing).items():
                if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                    yield f"{name}.{member}", value


@pytest.mark.parametrize(
    ("name", "thing"), list(public_objects()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_public_names_are_documented(name: str, thing: Any) -> None:
    """Every public class, method and property says what it does, in a docstring of its own."""
    assert (thing.__doc__ or "").strip(), f"{name} has no docstring"
