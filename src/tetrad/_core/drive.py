"""The two drivers: what carries a flow's effects out, blocking (`run`) and async (`arun`).

They alone wait and send. A flow is interrupted when its caller is cancelled (async) or hit by
``KeyboardInterrupt`` and its like (sync): the driver hands the flow to `clean_up`, which throws
`Interrupted` into it and carries out what it still yields, apart from the caller, within
`CLEAN_UP_SECONDS`; the caller's own exception goes on at once. (Inside a cancelled anyio scope,
hence in Starlette, every awaited clean-up would be cancelled again, shielded or not.)
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from typing import Any, Protocol, TypeVar

from tetrad._core.call import Call, Effect, Flow, Interrupted, Pause, Wake
from tetrad.errors import TetradError

T = TypeVar("T")

CLEAN_UP_SECONDS = 5.0


class Ear(Protocol):
    """The subscriptions of one blocking flow."""

    def wake(self, channel: str, seconds: float) -> bytes | None: ...
    def close(self) -> None: ...


class AsyncEar(Protocol):
    """The subscriptions of one async flow."""

    async def wake(self, channel: str, seconds: float) -> bytes | None: ...
    def close(self) -> None: ...


class Transport(Protocol):
    """What `run` needs of a wire."""

    def send(self, call: Call[T]) -> T: ...
    def listen(self) -> Ear: ...


class AsyncTransport(Protocol):
    """What `arun` needs of a wire; it keeps the clean-up tasks alive and awaits them when it closes."""

    async def send(self, call: Call[T]) -> T: ...
    def listen(self) -> AsyncEar: ...
    def keep(self, task: asyncio.Task[None]) -> None: ...


def run(flow: Flow[T], wire: Transport) -> T:
    """Run *flow* to its end, blocking, and return its result."""
    answer: Any = None
    error: Exception | None = None
    ear: Ear | None = None
    try:
        while True:
            effect = flow.send(answer) if error is None else flow.throw(error)
            answer = error = None
            try:
                kind = type(effect)
                if kind is Call:
                    answer = wire.send(effect)  # type: ignore[arg-type]  # pinned by kind
                elif kind is Wake:
                    ear = ear or wire.listen()
                    answer = ear.wake(effect.channel, effect.seconds)  # type: ignore[union-attr]
                else:
                    answer = _blocking(effect)
            except Exception as exc:
                error = exc  # the flow decides: retry, compensate or raise
            except BaseException:
                threading.Thread(target=_clean_up, args=(flow, wire), name="tetrad-clean-up").start()
                raise
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        if ear is not None:
            ear.close()


async def arun(flow: Flow[T], wire: AsyncTransport) -> T:
    """Run *flow* to its end and return its result; `run` without blocking."""
    answer: Any = None
    error: Exception | None = None
    ear: AsyncEar | None = None
    try:
        while True:
            effect = flow.send(answer) if error is None else flow.throw(error)
            answer = error = None
            try:
                kind = type(effect)
                if kind is Call:
                    answer = await wire.send(effect)  # type: ignore[arg-type]  # pinned by kind
                elif kind is Wake:
                    ear = ear or wire.listen()
                    answer = await ear.wake(effect.channel, effect.seconds)  # type: ignore[union-attr]
                else:
                    answer = await _awaiting(effect)
            except Exception as exc:
                error = exc  # the flow decides: retry, compensate or raise
            except BaseException:
                wire.keep(asyncio.get_running_loop().create_task(_aclean_up(flow, wire)))
                raise
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        if ear is not None:
            ear.close()


def _blocking(effect: Effect) -> Any:
    if isinstance(effect, Pause):
        if effect.seconds > 0:
            time.sleep(effect.seconds)
        return time.monotonic()
    return effect.function(*effect.args)  # type: ignore[union-attr]  # Ask is what is left


async def _awaiting(effect: Effect) -> Any:
    if isinstance(effect, Pause):
        if effect.seconds > 0:
            await asyncio.sleep(effect.seconds)
        return time.monotonic()
    answer = effect.function(*effect.args)  # type: ignore[union-attr]  # Ask is what is left
    return await answer if inspect.isawaitable(answer) else answer


def _clean_up(flow: Flow[Any], wire: Transport) -> None:
    """Finish an interrupted flow. Whatever comes of it, there is nobody left to tell."""
    until = time.monotonic() + CLEAN_UP_SECONDS
    step: Any = flow.throw
    value: Any = Interrupted()
    try:
        while time.monotonic() < until:
            effect = step(value)
            step = flow.send
            try:
                value = wire.send(effect) if isinstance(effect, Call) else _blocking(effect)
            except TetradError as exc:
                step, value = flow.throw, exc
    except (StopIteration, Interrupted, TetradError):
        pass


async def _aclean_up(flow: Flow[Any], wire: AsyncTransport) -> None:
    """`_clean_up` without blocking."""
    step: Any = flow.throw
    value: Any = Interrupted()
    try:
        async with asyncio.timeout(CLEAN_UP_SECONDS):
            while True:
                effect = step(value)
                step = flow.send
                try:
                    value = await wire.send(effect) if isinstance(effect, Call) else await _awaiting(effect)
                except TetradError as exc:
                    step, value = flow.throw, exc
    except (StopIteration, StopAsyncIteration, Interrupted, TetradError, TimeoutError):
        pass
