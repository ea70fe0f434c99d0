"""The public names, pinned: what is here is kept, and both flavours have it."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

import tetrad

NAMES = """
AsyncLeaderboard AsyncLease AsyncLimiter AsyncLock AsyncSession AsyncSessionStore AsyncTetrad ConfigurationError
DataError Decision Entry Holder Leaderboard Lease LeaseLost Limit LimitState Limiter Lock LockTimeout Placement
RateLimited ServerInfo ServerRefused ServerTimeout ServerUnavailable Session SessionConflict SessionGone SessionInfo
SessionStore SessionTooLarge Tetrad TetradError
""".split()

FLAVOURS = sorted(name for name in tetrad.__all__ if name.startswith("Async"))


def test_the_names_are_these() -> None:
    """A public name is a promise: adding or removing one is a decision, made here too."""
    assert tetrad.__all__ == sorted(tetrad.__all__)
    assert tetrad.__all__ == sorted(NAMES)
    assert all(hasattr(tetrad, name) for name in tetrad.__all__)


def test_every_public_object_that_operations_return_is_exported() -> None:
    """What a user gets hold of has a name to annotate it with."""
    for name in FLAVOURS:
        for member, value in vars(getattr(tetrad, name)).items():
            if member.startswith("_") or not inspect.isfunction(value):
                continue
            annotation = str(inspect.signature(value).return_annotation)
            for word in re.findall(r"\b[A-Z]\w+", annotation):
                thing = value.__globals__.get(word)
                if inspect.isclass(thing) and thing.__module__.startswith("tetrad."):
                    assert word in tetrad.__all__ or word in INTERNAL, f"{name}.{member} returns {word}"


# What a with block enters: used, never named.
INTERNAL = {"AsyncHold"}


def surface(cls: type) -> dict[str, Any]:
    """The public members of a class, and the special methods that users call by syntax."""
    dull = {"__init__", "__module__", "__doc__", "__slots__", "__dict__", "__weakref__", "__annotations__"}
    members = {
        name: value
        for parent in reversed(cls.__mro__)
        if parent.__module__.startswith("tetrad.")
        for name, value in vars(parent).items()
    }
    return {
        blocking(name): value
        for name, value in members.items()
        if (not name.startswith("_") or (name.startswith("__") and callable(value))) and name not in dull
    }


def blocking(text: str) -> str:
    """A name or signature of the async flavour as the blocking one has it."""
    text = re.sub(r"\b(?:\w+\.)*(?:Awaitable|AsyncIterator)\b", lambda m: m[0].replace("Async", ""), text)
    text = re.sub(r"Awaitable\[((?:[^][]|\[[^][]*\])*)\]", r"\1", text)
    text = re.sub(r"\bAsync(?=[A-Z])", "", text)
    return re.sub(r"^__a(enter|exit|iter|next)__$", r"__\1__", text.replace("aclose", "close"))


@pytest.mark.parametrize("name", FLAVOURS)
def test_both_flavours_have_the_same_surface(name: str) -> None:
    """X has what AsyncX has, with the same signatures; what is awaited there is called here."""
    theirs, ours = getattr(tetrad, name), getattr(tetrad, name.removeprefix("Async"))

    assert set(surface(theirs)) == set(surface(ours))
    assert blocking(str(inspect.signature(theirs))) == str(inspect.signature(ours))
    for member, value in surface(theirs).items():
        if inspect.isfunction(value):
            twin = surface(ours)[member]
            assert blocking(str(inspect.signature(value))) == str(inspect.signature(twin)), member
            assert not inspect.iscoroutinefunction(twin), member


def test_there_is_one_version() -> None:
    """The version of the package is the version of the code."""
    from importlib.metadata import version

    assert version("tetrad") == tetrad.__version__
