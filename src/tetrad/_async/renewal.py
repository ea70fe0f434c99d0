"""The background task that renews leases: one per `AsyncTetrad` and event loop, only while there are any."""

from __future__ import annotations

import asyncio

from tetrad._core.drive import arun
from tetrad._core.tenure import Book, Tenure
from tetrad._core.wire import Forkable, survive_fork
from tetrad._core.wire_async import AsyncWire
from tetrad._ops.renewal import keep_renewing


class _Shift:
    """The renewal of one event loop."""

    def __init__(self) -> None:
        self.book = Book()
        self.bell = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def sleep(self, seconds: float) -> None:
        self.bell.clear()
        try:
            async with asyncio.timeout(seconds):
                await self.bell.wait()
        except TimeoutError:
            pass


class AsyncRenewal(Forkable):
    """Keeps leases alive and notices those that are lost."""

    def __init__(self, wire: AsyncWire) -> None:
        self._wire = wire
        self._shifts: dict[asyncio.AbstractEventLoop, _Shift] = {}
        survive_fork(self)

    def add(self, tenure: Tenure) -> None:
        """Take charge of a lease held in the running loop."""
        loop = asyncio.get_running_loop()
        shift = self._shifts.get(loop)
        if shift is None:
            for other in list(self._shifts):
                if other.is_closed():
                    self._shifts.pop(other, None)
            shift = self._shifts[loop] = _Shift()
        sooner = shift.book.add(tenure)
        if shift.task is None or shift.task.done():
            shift.task = loop.create_task(arun(keep_renewing(shift.book, shift.sleep, self._wire.timeout), self._wire))
        elif sooner:
            shift.bell.set()

    def remove(self, tenure: Tenure) -> None:
        """The lease was given back."""
        shift = self._shifts.get(asyncio.get_running_loop())
        if shift is not None:
            shift.book.remove(tenure)

    def tenures(self) -> list[Tenure]:
        """The leases held in the running loop."""
        shift = self._shifts.get(asyncio.get_running_loop())
        return shift.book.all() if shift is not None else []

    def stop(self) -> None:
        """End the task of the running loop."""
        shift = self._shifts.pop(asyncio.get_running_loop(), None)
        if shift is not None and shift.task is not None:
            shift.task.cancel()

    def forget(self) -> None:
        """In a forked child: it holds nothing."""
        for shift in self._shifts.values():
            for tenure in shift.book.all():
                tenure.disown()
        self._shifts = {}
