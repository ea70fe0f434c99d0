"""What stands between a lease and the body it protects: who the body is, and how it learns of a loss.

An async body is cancelled when its lease is lost, the way `asyncio.timeout` does it; a thread cannot
be interrupted safely, so a blocking body has to ask (``lease.check()``) or to be told (``on_lost``).
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from tetrad._core.tenure import Tenure


class Guard:
    """A blocking body."""

    def __init__(self, tenure: Tenure) -> None:
        pass

    @staticmethod
    def body() -> int:
        """Names the running body: this thread."""
        return threading.get_ident()

    def leave(self) -> None:
        """The body is over."""

    def settle(self, error: BaseException | None) -> bool:
        """Whether to raise `LeaseLost` in place of *error*: only when there is none."""
        return error is None


class AsyncGuard:
    """The body of an ``async with``, in the task that entered it."""

    def __init__(self, tenure: Tenure) -> None:
        task = asyncio.current_task()
        assert task is not None  # coroutines run in tasks
        self._task = task
        self._loop = task.get_loop()
        self._cancelling = task.cancelling()
        self._cancelled = False
        self._left = False
        tenure.on_lost(self._lost)

    @staticmethod
    def body() -> int:
        """Names the running body: this task."""
        return id(asyncio.current_task())

    def _lost(self) -> None:
        if self._left:
            return
        if asyncio._get_running_loop() is not self._loop:  # noticed by another thread, which may not cancel
            with suppress(RuntimeError):  # the loop has ended meanwhile, and the body with it
                self._loop.call_soon_threadsafe(self._lost)
            return
        self._cancelled = True
        self._task.cancel()

    def leave(self) -> None:
        """The body is over: no cancellation from now on."""
        self._left = True

    async def settle(self, error: BaseException | None) -> bool:
        """Whether to raise `LeaseLost` in place of *error*: when there is none or it is our own cancellation.

        A cancellation of ours that is still pending is absorbed here, before ``uncancel()``: Python 3.11
        would otherwise raise it at the task's next await. A cancellation by somebody else wins.
        """
        if not self._cancelled:
            return error is None
        pending: asyncio.CancelledError | None = None
        if not isinstance(error, asyncio.CancelledError):
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as exc:
                pending = exc
        foreign = self._task.uncancel() > self._cancelling
        if foreign and pending is not None:
            raise pending  # not another one: anyio knows its own by their message
        return not foreign and (error is None or isinstance(error, asyncio.CancelledError))
