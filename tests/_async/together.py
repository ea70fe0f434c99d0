"""Things at once, and waiting for them, in tests that are written once for tasks and for threads."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any


class Running:
    """A call that runs beside the test."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task

    async def result(self, timeout: float = 10.0) -> Any:
        """What the call returned; raises what it raised."""
        return await asyncio.wait_for(asyncio.shield(self._task), timeout)

    def done(self) -> bool:
        return self._task.done()


def start(function: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Running:
    """Begin ``function(*args, **kwargs)`` in a task."""

    async def call() -> Any:
        return await function(*args, **kwargs)

    return Running(asyncio.get_running_loop().create_task(call()))


async def eventually(condition: Callable[[], Any], timeout: float = 10.0) -> Any:
    """Ask until *condition* (sync or async) is true; fails the test after *timeout* seconds."""
    until = time.monotonic() + timeout
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        if time.monotonic() > until:
            raise AssertionError(f"not true within {timeout:g} s")
        await asyncio.sleep(0.002)
