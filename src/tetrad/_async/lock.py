"""`AsyncLock` and `AsyncLease`."""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from types import TracebackType
from typing import ParamSpec, TypeVar

from tetrad._async.renewal import AsyncRenewal
from tetrad._core.drive import arun
from tetrad._core.guard import AsyncGuard
from tetrad._core.tenure import Tenure
from tetrad._core.wire_async import AsyncWire
from tetrad._ops import lock as ops
from tetrad.errors import LockTimeout, TetradError
from tetrad.types import Holder

P = ParamSpec("P")
T = TypeVar("T")


class AsyncLease:
    """A lock that is ours for a while: what `AsyncLock.acquire` returns.

    ``fence`` grows with every acquisition of the name. Send it along with what the lock protects and
    let the receiver refuse a smaller one than it has seen: that is what makes a late writer harmless.
    """

    __slots__ = ("_renewal", "_tenure", "_wire")

    def __init__(self, wire: AsyncWire, renewal: AsyncRenewal, tenure: Tenure) -> None:
        self._wire = wire
        self._renewal = renewal
        self._tenure = tenure

    def __repr__(self) -> str:
        return f"AsyncLease({self.name!r}, fence={self.fence}, {self._tenure.state})"

    @property
    def name(self) -> str:
        """The name of the lock."""
        return self._tenure.name

    @property
    def fence(self) -> int:
        """The fencing number of this acquisition."""
        return self._tenure.fence

    @property
    def token(self) -> str:
        """What identifies this acquisition to the server; secret to its holder."""
        return self._tenure.token

    @property
    def ttl(self) -> float:
        """For how many seconds each renewal holds."""
        return self._tenure.ttl

    @property
    def expires_in(self) -> float:
        """The seconds for which the lease is certain without another renewal; 0 when it is over."""
        if self._tenure.state != "held":
            return 0.0
        return max(0.0, self._tenure.valid_until - time.monotonic())

    @property
    def lost(self) -> bool:
        """Whether the lease ended before it was released. Asks no server."""
        return self._tenure.is_lost(time.monotonic())

    def check(self) -> None:
        """Raise `LeaseLost` unless the lease is certainly ours now. Asks no server."""
        ops.check(self._tenure, time.monotonic())

    def on_lost(self, callback: Callable[[], object]) -> None:
        """Have *callback* called once when the lease is lost, from the renewal task; at once if it is lost."""
        self._tenure.on_lost(callback)

    async def renew(self, ttl: float | timedelta | None = None) -> None:
        """Hold on for at least *ttl* seconds from now (default: as before), in every later renewal, too.

        Raises `LeaseLost` when the lease is not ours any more.
        """
        await arun(ops.renew(self._tenure, self.ttl if ttl is None else ops.check_ttl(ttl)), self._wire)

    async def release(self) -> bool:
        """Give the lock to the next in the queue. ``False`` when the lease was lost or released before.

        If the server does not answer, this may be called again; `check` raises, because the lease may be gone.
        """
        held = await arun(ops.release(self._tenure), self._wire)
        self._renewal.remove(self._tenure)
        return held


class AsyncHold:
    """What ``async with`` enters, or a decorator applies, to hold a lock; from `AsyncLock.hold`."""

    def __init__(self, lock: AsyncLock, timeout: float | None) -> None:
        self._lock = lock
        self._timeout = timeout
        self._held: dict[int, list[tuple[AsyncLease, AsyncGuard]]] = {}  # by body: a hold may be shared

    async def __aenter__(self) -> AsyncLease:
        lease = await self._lock.acquire(timeout=self._timeout)
        if lease is None:
            raise LockTimeout(
                f"lock {self._lock.name!r} was held by others for {self._timeout:g} s; wait longer or do without",
                key=self._lock.name,
            )
        self._held.setdefault(AsyncGuard.body(), []).append((lease, AsyncGuard(lease._tenure)))
        return lease

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        body = AsyncGuard.body()
        if body not in self._held:  # a framework leaves in another thread than it entered
            body = next(iter(self._held))
        mine = self._held[body]
        lease, guard = mine.pop()
        if not mine:
            del self._held[body]
        guard.leave()
        tenure = lease._tenure
        if tenure.state == "released":  # by the body itself
            return
        try:
            if not lease.lost and await lease.release():
                return
        except TetradError:
            if error is None:
                raise  # else what went wrong in the body matters more; the lease lapses by itself
        finally:
            self._lock._renewal.remove(tenure)
        if await guard.settle(error) and tenure.state == "lost":
            raise ops.lost(tenure) from error

    def __call__(self, function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """Decorate *function* to run while the lock is held, acquired anew for each call."""

        @functools.wraps(function)
        async def held(*args: P.args, **kwargs: P.kwargs) -> T:
            async with self:
                return await function(*args, **kwargs)

        return held


class AsyncLock:
    """A distributed lock: exclusive, fenced, handed over in the order of asking.

    A lock is a name with options; each acquisition is a lease of its own, so one instance may be shared.
    The lease lasts *ttl* seconds and is renewed in the background while *renew* is true. Waiters are
    queued by the server, which hands the lock on by a push: nobody polls.

    >>> async with AsyncTetrad("embedded:?memory") as t:
    ...     async with t.lock("nightly").hold(timeout=5) as lease:
    ...         lease.expires_in > 29
    True
    """

    def __init__(
        self,
        wire: AsyncWire,
        renewal: AsyncRenewal,
        prefix: str,
        name: str,
        *,
        ttl: float | timedelta,
        renew: bool,
    ) -> None:
        self._wire = wire
        self._renewal = renewal
        self._name = ops.Name(prefix, name)
        self._ttl = ops.check_ttl(ttl)
        self._renew = bool(renew)
        self._hold = AsyncHold(self, None)

    def __repr__(self) -> str:
        return f"AsyncLock({self.name!r}, ttl={self._ttl:g})"

    @property
    def name(self) -> str:
        """The name of the lock."""
        return self._name.name

    async def acquire(self, *, timeout: float | timedelta | None = None) -> AsyncLease | None:
        """Wait up to *timeout* seconds for the lock (``None``: for ever, 0: try once); ``None`` when time ran out.

        The lease is renewed until `AsyncLease.release`, even if nothing refers to it any more: `hold` cannot forget.
        A caller that is cancelled, or gets an error, leaves no lease behind: what the server may have
        granted meanwhile is given back.
        """
        patience = ops.check_timeout(timeout)
        tenure = await arun(ops.acquire(self._name, self._ttl, patience, self._renew), self._wire)
        if tenure is None:
            return None
        self._renewal.add(tenure)
        return AsyncLease(self._wire, self._renewal, tenure)

    def hold(self, *, timeout: float | timedelta | None = None) -> AsyncHold:
        """For ``async with``, or as a decorator: acquire within *timeout* or raise `LockTimeout`, and release.

        If the lease is lost meanwhile, the block raises `LeaseLost` at its end; an async body is cancelled at once.
        """
        return AsyncHold(self, ops.check_timeout(timeout))

    async def __aenter__(self) -> AsyncLease:
        return await self._hold.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._hold.__aexit__(kind, error, trace)

    async def locked(self) -> bool:
        """Whether anybody holds the lock now."""
        return await self.holder() is not None

    async def holder(self) -> Holder | None:
        """Who holds the lock now, or ``None``."""
        return await self._wire.send(ops.show(self._name))
