"""The frozen values that operations return. Times are seconds, ranks start at 1."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

__all__ = ["Entry", "Holder", "Placement", "ServerInfo", "SessionInfo"]


class Value(msgspec.Struct, frozen=True):
    """The base of all results: immutable, comparable, cheap to make."""


class ServerInfo(Value, frozen=True):
    """What a Tetrad is connected to.

    ``server`` is ``"valkey"`` or ``"redis"``; ``persistence`` lists what is switched on (``"aof"``, ``"rdb"``).
    """

    server: str
    version: str
    topology: Literal["single", "embedded", "sentinel", "cluster"]
    persistence: tuple[str, ...]
    replicas: int


class Holder(Value, frozen=True):
    """Who holds a lock: the acquisition's token and fence, the seconds left of its lease, and how many wait."""

    token: str
    fence: int
    expires_in: float
    waiters: int


class SessionInfo(Value, frozen=True):
    """One of a user's sessions, as ``list(user)`` shows it; ``id`` is good for ``destroy`` but not for ``load``."""

    id: str
    user: str
    created_at: datetime
    expires_in: float
    meta: dict[str, Any]


class Entry(Value, frozen=True):
    """A member's place on a leaderboard; ``info`` is what was stored with its score.

    ``member`` is a str where its bytes are UTF-8, else bytes.
    """

    member: str | bytes
    score: float
    rank: int
    info: Any = None


class Placement(Value, frozen=True):
    """What a submission did: the member's score and rank after it, and before it (``None`` for a newcomer).

    ``changed`` is whether the stored score changed (a newcomer's always does).
    """

    member: str | bytes
    score: float
    rank: int
    previous_score: float | None = None
    previous_rank: int | None = None
    changed: bool = True
