"""The frozen values that operations return. Times are seconds, ranks start at 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

__all__ = ["Decision", "Entry", "Holder", "Limit", "LimitState", "Placement", "ServerInfo", "SessionInfo"]


class Value(msgspec.Struct, frozen=True):
    """The base of all results: immutable, comparable, cheap to make."""


class ServerInfo(Value, frozen=True):
    """What a Tetrad is connected to.

    ``server`` is ``"valkey"`` or ``"redis"``; ``persistence`` lists ``"aof"`` where it is switched on and ``"rdb"``
    where a snapshot has been taken since the start.
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


@dataclass(frozen=True, slots=True, init=False)
class Limit:
    """*count* permits every *per* seconds (or a timedelta), of which *burst* may be taken at once (default: *count*).

    *per* is a whole number of microseconds, up to 1e9 seconds; anything else is a `ValueError`, never rounded.

    >>> Limit(100, per=60, burst=20)
    Limit(100, per=60.0, burst=20)
    """

    count: int
    per: float
    burst: int

    def __init__(self, count: int, *, per: float | timedelta, burst: int | None = None) -> None:
        for what, number in (("count", count), ("burst", count if burst is None else burst)):
            if type(number) is not int:
                raise TypeError(f"the {what} of a limit must be an int, got {number!r:.80}")
            if not 1 <= number < 2**53:
                raise ValueError(f"the {what} of a limit must be from 1 to 2**53 - 1, got {number!r:.80}")
        seconds = per.total_seconds() if isinstance(per, timedelta) else per
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise TypeError(f"per must be a number of seconds or a timedelta, got {per!r:.80}")
        if not 1e-6 <= seconds <= 1e9:
            raise ValueError(f"per must be from a millionth of a second to 1e9 seconds, got {per!r:.80}")
        if round(seconds * 1_000_000) / 1_000_000 != seconds:
            raise ValueError(f"per must be a whole number of microseconds, got {per!r:.80}")
        object.__setattr__(self, "count", count)
        object.__setattr__(self, "per", float(seconds))
        object.__setattr__(self, "burst", count if burst is None else burst)

    def __repr__(self) -> str:
        return f"Limit({self.count}, per={self.per}, burst={self.burst})"

    def __str__(self) -> str:
        """The limit as text that a limiter takes.

        >>> str(Limit(100, per=60)), str(Limit(10, per=1, burst=50))
        ('100/60s', '10/1s; burst=50')
        """
        burst = "" if self.burst == self.count else f"; burst={self.burst}"
        per = f"{self.per:.6f}".rstrip("0").rstrip(".")
        return f"{self.count}/{per}s{burst}"


class LimitState(Value, frozen=True):
    """One limit after a decision: permits left now, and the seconds until the cost would fit and until all are back.

    ``retry_after`` is 0 where the cost fits and infinite where it never can.
    """

    limit: Limit
    remaining: int
    retry_after: float
    reset_after: float


class Decision(Value, frozen=True):
    """The answer to a hit: true when it was allowed.

    ``states`` has each limit; ``limit``, ``remaining`` and ``reset_after`` are those of the tightest: the one that
    refuses for longest, else the one with the least left. ``retry_after`` is 0 for an allowed hit.
    """

    allowed: bool
    limit: int
    remaining: int
    retry_after: float
    reset_after: float
    states: tuple[LimitState, ...]

    def __bool__(self) -> bool:
        return self.allowed

    def headers(self) -> dict[str, str]:
        """HTTP response fields: ``RateLimit`` and ``RateLimit-Policy`` (IETF draft 10), ``Retry-After`` on a refusal.

        All times are whole seconds, rounded up, so nobody who waits as told comes too early. On a refusal only the
        limits that refuse have a ``t``, so that ``Retry-After`` is never before one. A hit that can never be allowed
        has no ``Retry-After``.

        >>> state = LimitState(Limit(10, per=60), remaining=0, retry_after=5.2, reset_after=59.2)
        >>> Decision(False, 10, 0, 5.2, 59.2, (state,)).headers()
        {'RateLimit-Policy': '"10/60s";q=10;w=60', 'RateLimit': '"10/60s";r=0;t=6', 'Retry-After': '6'}
        """
        policies, items = [], []
        for state in self.states:
            name = f'"{state.limit}"'
            policies.append(f"{name};q={state.limit.count};w={math.ceil(state.limit.per)}")
            wait = state.reset_after if self.allowed else state.retry_after
            until = "" if math.isinf(wait) or (not self.allowed and not wait) else f";t={math.ceil(wait)}"
            items.append(f"{name};r={min(state.remaining, state.limit.count)}{until}")
        fields = {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(items)}
        if not self.allowed and not math.isinf(self.retry_after):
            fields["Retry-After"] = str(math.ceil(self.retry_after))
        return fields


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
