# Generated from src/tetrad/_async/client.py by tools/unasync.py: edit that file, then run `make sync`.
"""`Tetrad`: the door to everything, for threads."""

from __future__ import annotations

import time
from datetime import timedelta
from types import TracebackType
from typing import Literal

from tetrad._core import settings
from tetrad._core.doors import Door
from tetrad._core.drive import run
from tetrad._core.keys import check_prefix
from tetrad._core.wire_sync import Wire
from tetrad._ops.info import server_info
from tetrad._ops.lock import release_all
from tetrad._sync.board import Leaderboard
from tetrad._sync.limiter import Limiter
from tetrad._sync.lock import Lock
from tetrad._sync.renewal import Renewal
from tetrad._sync.session import SessionStore
from tetrad.types import Limit, ServerInfo


class Tetrad:
    """Locks, rate limits, sessions and leaderboards on one Valkey or Redis server.

    *url* is ``redis://``, ``rediss://`` (TLS), ``valkey://``, ``valkeys://``, ``unix:///path`` or ``embedded:DIR``;
    ``None`` means ``$TETRAD_URL``, else ``embedded:``, a server that all processes of this machine share.
    *prefix* starts every key. *timeout* is how long an answer may take, *connect_timeout* a connection, in seconds.

    Nothing is opened until it is used, and everything may be shared between threads.

    >>> with Tetrad("embedded:?memory") as t:
    ...     t.ping() < 1.0
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
        self._wire = Wire(Door(self._settings))
        self._renewal = Renewal(self._wire)

    def __repr__(self) -> str:
        return f"Tetrad({self._settings.where!r}, prefix={self._prefix!r})"

    def __enter__(self) -> Tetrad:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Leases still held are given back; using this Tetrad again raises.

        A process that ends without this leaves its leases to their *ttl*.
        """
        run(release_all(self._renewal.tenures()), self._wire)
        self._renewal.stop()
        self._wire.close()

    def ping(self) -> float:
        """The seconds that one round trip takes now."""
        start = time.perf_counter()
        self._wire.command("PING")
        return time.perf_counter() - start

    def info(self) -> ServerInfo:
        """What this is connected to: server, version, topology, persistence, replicas."""
        return server_info(self._settings.kind, self._wire.command("INFO"))

    def lock(self, name: str, *, ttl: float | timedelta = 30.0, renew: bool = True) -> Lock:
        """A distributed lock on *name*: see `Lock`."""
        return Lock(self._wire, self._renewal, self._prefix, name, ttl=ttl, renew=renew)

    def limiter(
        self,
        name: str,
        *limits: str | Limit,
        algorithm: Literal["gcra", "fixed-window"] = "gcra",
    ) -> Limiter:
        """A rate limiter that decides *limits* together: see `Limiter`."""
        return Limiter(self._wire, self._prefix, name, limits, algorithm=algorithm)

    def sessions(
        self,
        name: str = "default",
        *,
        idle: float | timedelta = 1800.0,
        absolute: float | timedelta = 43200.0,
        max_size: int = 1_048_576,
    ) -> SessionStore:
        """A store of web sessions: see `SessionStore`."""
        return SessionStore(self._wire, self._prefix, name, idle=idle, absolute=absolute, max_size=max_size)

    def leaderboard(
        self,
        name: str,
        *,
        order: Literal["desc", "asc"] = "desc",
        ranking: Literal["ordinal", "competition"] = "ordinal",
        keep: Literal["best", "last", "sum"] = "best",
    ) -> Leaderboard:
        """A leaderboard: see `Leaderboard`."""
        return Leaderboard(self._wire, self._prefix, name, order=order, ranking=ranking, keep=keep)
