"""`AsyncTetrad`: the door to everything, for asyncio."""

from __future__ import annotations

import time
from datetime import timedelta
from types import TracebackType
from typing import Literal

from tetrad._async.board import AsyncLeaderboard
from tetrad._async.limiter import AsyncLimiter
from tetrad._async.lock import AsyncLock
from tetrad._async.renewal import AsyncRenewal
from tetrad._async.session import AsyncSessionStore
from tetrad._core import settings
from tetrad._core.doors import Door
from tetrad._core.drive import arun
from tetrad._core.keys import check_prefix
from tetrad._core.wire_async import AsyncWire
from tetrad._ops.info import server_info
from tetrad._ops.lock import release_all
from tetrad.types import Limit, ServerInfo


class AsyncTetrad:
    """Locks, rate limits, sessions and leaderboards on one Valkey or Redis server.

    *url* is ``redis://``, ``rediss://`` (TLS), ``valkey://``, ``valkeys://``, ``unix:///path`` or ``embedded:DIR``;
    ``None`` means ``$TETRAD_URL``, else ``embedded:``, a server that all processes of this machine share.
    *prefix* starts every key. *timeout* is how long an answer may take, *connect_timeout* a connection, in seconds.

    Nothing is opened until it is used, and everything may be shared between tasks and event loops.

    >>> async with AsyncTetrad("embedded:?memory") as t:
    ...     await t.ping() < 1.0
    True
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        prefix: str = "tetrad",
        timeout: float | timedelta = 5.0,
        connect_timeout: float | timedelta = 2.0,
    ) -> None:
        self._prefix = check_prefix(prefix)
        self._settings = settings.parse(url, timeout, connect_timeout)
        self._wire = AsyncWire(Door(self._settings))
        self._renewal = AsyncRenewal(self._wire)

    def __repr__(self) -> str:
        return f"AsyncTetrad({self._settings.where!r}, prefix={self._prefix!r})"

    async def __aenter__(self) -> AsyncTetrad:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. Leases still held are given back; using this Tetrad again raises.

        A process that ends without this leaves its leases to their *ttl*.
        """
        await arun(release_all(self._renewal.tenures()), self._wire)
        self._renewal.stop()
        await self._wire.aclose()

    async def ping(self) -> float:
        """The seconds that one round trip takes now."""
        start = time.perf_counter()
        await self._wire.command("PING")
        return time.perf_counter() - start

    async def info(self) -> ServerInfo:
        """What this is connected to: server, version, topology, persistence, replicas."""
        return server_info(self._settings.kind, await self._wire.command("INFO"))

    def lock(self, name: str, *, ttl: float | timedelta = 30.0, renew: bool = True) -> AsyncLock:
        """A distributed lock on *name*: see `AsyncLock`."""
        return AsyncLock(self._wire, self._renewal, self._prefix, name, ttl=ttl, renew=renew)

    def limiter(
        self,
        name: str,
        *limits: str | Limit,
        algorithm: Literal["gcra", "fixed-window"] = "gcra",
    ) -> AsyncLimiter:
        """A rate limiter that decides *limits* together: see `AsyncLimiter`."""
        return AsyncLimiter(self._wire, self._prefix, name, limits, algorithm=algorithm)

    def sessions(
        self,
        name: str = "default",
        *,
        idle: float | timedelta = 1800.0,
        absolute: float | timedelta = 43200.0,
        max_size: int = 1_048_576,
    ) -> AsyncSessionStore:
        """A store of web sessions: see `AsyncSessionStore`."""
        return AsyncSessionStore(self._wire, self._prefix, name, idle=idle, absolute=absolute, max_size=max_size)

    def leaderboard(
        self,
        name: str,
        *,
        order: Literal["desc", "asc"] = "desc",
        ranking: Literal["ordinal", "competition"] = "ordinal",
        keep: Literal["best", "last", "sum"] = "best",
    ) -> AsyncLeaderboard:
        """A leaderboard: see `AsyncLeaderboard`."""
        return AsyncLeaderboard(self._wire, self._prefix, name, order=order, ranking=ranking, keep=keep)
