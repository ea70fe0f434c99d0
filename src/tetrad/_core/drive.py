"""The two drivers: what carries a flow's effects out, blocking (`run`) and async (`arun`).

They alone wait and send. A flow is interrupted when its caller is cancelled (async) or hit by
``KeyboardInterrupt`` and its like (sync): the driver throws `Interrupted` into it and carries out
what it still yields apart from the caller, within `CLEAN_UP_SECONDS`; the caller's own exception
goes on at once. (Inside a cancelled anyio scope,
hence in Starlette, every awaited clean-up would be cancelled again, shielded or not.)
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from typing import Any, Protocol, TypeVar

from tetrad._core.call import Aside, Call, Effect, Flow, Interrupted, Pause, Wake
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
    """What `run` needs of a wire; it waits for the clean-up threads when it closes."""

    timeout: float

    def send(self, call: Call[T]) -> T: ...
    def listen(self) -> Ear: ...
    def keep(self, thread: threading.Thread) -> None: ...


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
                    answer = _blocking(effect, wire)
            except Exception as exc:
                error = exc  # the flow decides: retry, compensate or raise
    except StopIteration as done:
        result: T = done.value
        return result
    except Exception:
        raise
    except BaseException:  # wherever it struck: between two effects, too
        if (wish := interrupt(flow)) is not None:
            _apart(flow, wish, wire)
        raise
    finally:
        error = None  # its traceback holds this frame: no cycle for the collector
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
                    answer = await _awaiting(effect, wire)
            except Exception as exc:
                error = exc  # the flow decides: retry, compensate or raise
    except StopIteration as done:
        result: T = done.value
        return result
    except Exception:
        raise
    except GeneratorExit:  # the loop is gone, and with it whatever could carry out a clean-up
        flow.close()
        raise
    except BaseException:  # wherever it struck: between two effects, too
        if (wish := interrupt(flow)) is not None:
            _aapart(flow, wish, wire)
        raise
    finally:
        error = None  # its traceback holds this frame: no cycle for the collector
        if ear is not None:
            ear.close()


def _blocking(effect: Effect, wire: Transport) -> Any:
    if isinstance(effect, Pause):
        if effect.seconds > 0:
            time.sleep(effect.seconds)
        return time.monotonic()
    if isinstance(effect, Aside):
        if (wish := next(effect.flow, None)) is not None:
            _apart(effect.flow, wish, wire)
        return None
    return effect.function(*effect.args)  # type: ignore[union-attr]  # Ask is what is left


async def _awaiting(effect: Effect, wire: AsyncTransport) -> Any:
    if isinstance(effect, Pause):
        if effect.seconds > 0:
            await asyncio.sleep(effect.seconds)
        return time.monotonic()
    if isinstance(effect, Aside):
        if (wish := next(effect.flow, None)) is not None:
            _aapart(effect.flow, wish, wire)
        return None
    answer = effect.function(*effect.args)  # type: ignore[union-attr]  # Ask is what is left
    return await answer if inspect.isawaitable(answer) else answer


def interrupt(flow: Flow[Any]) -> Effect | None:
    """Tell *flow* that its caller is gone; return the first effect of its clean-up, if it wants any."""
    try:
        return flow.throw(Interrupted())
    except (StopIteration, Interrupted, TetradError):
        return None


def _apart(flow: Flow[Any], effect: Effect, wire: Transport) -> None:
    """Finish *flow* in a thread of its own. It is no daemon: an interpreter that exits waits for it, bounded."""
    thread = threading.Thread(target=_finish, args=(flow, effect, wire), name="tetrad-clean-up")
    try:
        thread.start()
    except RuntimeError:  # the interpreter is on its way out and starts nothing any more
        flow.close()
    else:
        wire.keep(thread)


def _finish(flow: Flow[Any], effect: Effect, wire: Transport) -> None:
    until = time.monotonic() + CLEAN_UP_SECONDS
    try:
        while (left := until - time.monotonic()) > 0:
            try:
                if isinstance(effect, Call):
                    timeout = min(left, effect.timeout or wire.timeout)
                    answer = wire.send(Call(effect.script, effect.keys, effect.args, effect.decode, timeout))
                elif isinstance(effect, Pause):
                    answer = _blocking(Pause(min(left, effect.seconds)), wire)
                else:
                    answer = _blocking(effect, wire)
            except Exception as exc:
                effect = flow.throw(exc)
            else:
                effect = flow.send(answer)
    except (StopIteration, Interrupted, TetradError):
        pass  # whatever came of it, there is nobody left to tell
    finally:
        flow.close()


def _aapart(flow: Flow[Any], effect: Effect, wire: AsyncTransport) -> None:
    """Finish *flow* in a task of its own, which the wire keeps."""
    wire.keep(asyncio.get_running_loop().create_task(_afinish(flow, effect, wire)))


async def _afinish(flow: Flow[Any], effect: Effect, wire: AsyncTransport) -> None:
    try:
        async with asyncio.timeout(CLEAN_UP_SECONDS):
            while True:
                answer: Any = None
                error: Exception | None = None
                try:
                    answer = await wire.send(effect) if isinstance(effect, Call) else await _awaiting(effect, wire)
                except Exception as exc:
                    error = exc
                try:
                    effect = flow.send(answer) if error is None else flow.throw(error)
                except StopIteration:  # not left to a coroutine's own: it would become a RuntimeError
                    return
    except (Interrupted, TetradError, TimeoutError):
        pass  # whatever came of it, there is nobody left to tell
    finally:
        flow.close()
