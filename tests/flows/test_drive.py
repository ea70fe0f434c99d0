"""The drivers run flows: every effect, errors thrown in, and clean-ups apart from the caller. No server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from tests.servers import wait_until
from tetrad._core import drive
from tetrad._core.call import Aside, Ask, Call, Flow, Interrupted, Pause, Wake
from tetrad._core.drive import arun, run
from tetrad._core.scripts import Script
from tetrad.errors import ServerUnavailable, TetradError

T = TypeVar("T")

SCRIPT = Script("test", "#!lua\nreturn 1")


def call(name: str, timeout: float | None = None) -> Call[str]:
    return Call(SCRIPT, (name,), (), str, timeout)


class Ears:
    """An ear of either flavour, with scripted messages."""

    def __init__(self, *messages: bytes | None) -> None:
        self.messages = list(messages)
        self.asked: list[tuple[str, float]] = []
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Ear(Ears):
    def wake(self, channel: str, seconds: float) -> bytes | None:
        self.asked.append((channel, seconds))
        return self.messages.pop(0)


class AsyncEar(Ears):
    async def wake(self, channel: str, seconds: float) -> bytes | None:
        self.asked.append((channel, seconds))
        await asyncio.sleep(0)
        return self.messages.pop(0)


class Recorder:
    """What was sent: the first key of each call, and its timeout. An answer that is an exception is raised."""

    timeout = 7.0

    def __init__(self, *messages: bytes | None, **answers: Any) -> None:
        self.answers = answers
        self.sent: list[str] = []
        self.timeouts: list[float | None] = []
        self.kept: list[Any] = []
        self.messages = messages

    def answer(self, call: Call[T]) -> T:
        self.sent.append(call.keys[0])
        self.timeouts.append(call.timeout)
        answer = self.answers.get(call.keys[0], call.keys[0])
        if isinstance(answer, BaseException):
            raise answer
        return call.decode(answer() if callable(answer) else answer)

    def keep(self, work: Any) -> None:
        self.kept.append(work)


class Wire(Recorder):
    def send(self, call: Call[T]) -> T:
        return self.answer(call)

    def listen(self) -> Ear:
        self.ear = Ear(*self.messages)
        return self.ear


class AsyncWire(Recorder):
    async def send(self, call: Call[T]) -> T:
        await asyncio.sleep(0)
        if self.answers.get(call.keys[0]) is HANG:
            self.sent.append(call.keys[0])
            await asyncio.sleep(3600)
        return self.answer(call)

    def listen(self) -> AsyncEar:
        self.ear = AsyncEar(*self.messages)
        return self.ear


HANG = object()  # the answer of a call that never gets one


@pytest.fixture(params=["threads", "asyncio"])
def drive_one(request: pytest.FixtureRequest) -> Callable[..., tuple[Any, Any]]:
    """Runs a flow with scripted outcomes in either driver: its result or error, and the wire."""

    def one(flow: Flow[Any], *messages: bytes | None, **answers: Any) -> tuple[Any, Any]:
        wire: Any
        if request.param == "threads":
            wire = Wire(*messages, **answers)
            try:
                return run(flow, wire), wire
            except Exception as exc:
                return exc, wire
            finally:
                for thread in wire.kept:
                    thread.join()
        wire = AsyncWire(*messages, **answers)

        async def main() -> Any:
            try:
                return await arun(flow, wire)
            except Exception as exc:
                return exc
            finally:
                await asyncio.gather(*wire.kept)

        return asyncio.run(main()), wire

    return one


Driver = Callable[..., tuple[Any, Any]]


def test_calls_are_answered(drive_one: Driver) -> None:
    """Each call is sent in turn and its decoded answer comes back; the flow's value is the result."""

    def flow() -> Flow[list[str]]:
        return [(yield from call("a")), (yield from call("b"))]

    result, wire = drive_one(flow(), a=1)

    assert result == ["1", "b"]
    assert wire.sent == ["a", "b"]


def test_flow_without_effects(drive_one: Driver) -> None:
    """A flow that decides at once costs nothing."""

    def flow() -> Flow[int]:
        if False:
            yield Pause(0)
        return 5

    assert drive_one(flow())[0] == 5


def test_pause_answers_with_the_clock(drive_one: Driver) -> None:
    """``Pause`` waits and answers with the monotonic clock; ``Pause(0)`` only reads it."""

    def flow() -> Flow[tuple[float, float, float]]:
        first = yield from Pause(0)
        second = yield from Pause(0)
        third = yield from Pause(0.05)
        return first, second, third

    before = time.monotonic()
    (first, second, third), _ = drive_one(flow())

    assert before <= first <= second < first + 0.05 <= third <= time.monotonic()


def test_wakes_share_an_ear_that_is_closed(drive_one: Driver) -> None:
    """All waits of a flow use one ear, which is closed when the flow ends."""

    def flow() -> Flow[list[bytes | None]]:
        return [(yield from Wake("a", 0)), (yield from Wake("a", 1.5)), (yield from Wake("b", 2))]

    result, wire = drive_one(flow(), None, b"x", b"y")

    assert result == [None, b"x", b"y"]
    assert wire.ear.asked == [("a", 0), ("a", 1.5), ("b", 2)]
    assert wire.ear.closed == 1


def test_ear_is_closed_when_the_flow_fails(drive_one: Driver) -> None:
    """The ear is closed whatever happens."""

    def flow() -> Flow[None]:
        yield from Wake("a", 0)
        raise KeyError("bug")

    error, wire = drive_one(flow(), None)

    assert isinstance(error, KeyError)
    assert wire.ear.closed == 1


def test_ask_calls_the_callers_function(drive_one: Driver) -> None:
    """``Ask`` gives the function's arguments to it and its value to the flow."""

    def flow() -> Flow[int]:
        answer: int = yield from Ask(divmod, 17, 5)
        return answer

    assert drive_one(flow())[0] == (3, 2)


def test_ask_awaits_an_awaitable() -> None:
    """In the async flavour the function may be a coroutine function."""

    async def function(value: int) -> int:
        await asyncio.sleep(0)
        return value + 1

    def flow() -> Flow[int]:
        answer: int = yield from Ask(function, 1)
        return answer

    assert asyncio.run(arun(flow(), AsyncWire())) == 2


@pytest.mark.parametrize("error", [ServerUnavailable("gone"), ZeroDivisionError("in the caller's function")])
def test_errors_are_thrown_into_the_flow(drive_one: Driver, error: Exception) -> None:
    """What goes wrong with an effect is raised where the flow yielded it: it may go on."""

    def flow() -> Flow[str]:
        try:
            yield from call("a")
        except type(error) as exc:
            return f"{exc} then {(yield from call('b'))}"
        return "never"

    assert drive_one(flow(), a=error)[0] == f"{error} then b"


def test_errors_that_a_flow_lets_pass_reach_the_caller(drive_one: Driver) -> None:
    """An error that the flow does not catch is the caller's, the same object."""
    error = ServerUnavailable("gone")

    assert drive_one(iter(call("a")), a=error)[0] is error


def test_errors_leave_no_cycles() -> None:
    """An error is gone with its last holder: its traceback is in no cycle with the driver's frame."""
    errors: list[weakref.ref[Exception]] = []

    def new() -> Exception:
        error = ServerUnavailable("gone")
        errors.append(weakref.ref(error))
        return error

    def answer() -> str:
        raise new()

    async def main() -> None:
        with contextlib.suppress(ServerUnavailable):
            await arun(iter(call("a")), AsyncWire(a=answer))

    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(ServerUnavailable):
            run(iter(call("a")), Wire(a=answer))
        asyncio.run(main())
        assert [error() for error in errors] == [None, None]
    finally:
        gc.enable()


def test_aside_runs_apart(drive_one: Driver) -> None:
    """``Aside`` is carried out without the flow waiting for it, and its errors reach nobody."""

    def aside(name: str) -> Flow[None]:
        yield from call(name)
        yield from call(name + "2")

    def flow() -> Flow[str]:
        yield from Aside(aside("good"))
        yield from Aside(aside("bad"))
        return (yield from call("main"))

    result, wire = drive_one(flow(), bad=ServerUnavailable("gone"))

    assert result == "main"
    assert sorted(wire.sent) == ["bad", "good", "good2", "main"]
    assert len(wire.kept) == 2


def test_aside_that_wants_nothing(drive_one: Driver) -> None:
    """An ``Aside`` whose flow ends at once is no error."""

    def nothing() -> Flow[None]:
        return
        yield Pause(0)

    def flow() -> Flow[str]:
        yield from Aside(nothing())
        return "on"

    result, wire = drive_one(flow())

    assert result == "on"
    assert wire.kept == []


class Lease:
    """A flow as a lock has it: what it takes, it gives back when it is interrupted."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def flow(self) -> Flow[str]:
        try:
            return (yield from call("take"))
        except Interrupted:
            self.seen.append("interrupted")
            yield from Pause(0.01)
            try:
                yield from call("broken")
            except TetradError:
                self.seen.append("error")
            yield from call("give back")
            self.seen.append("done")
            raise


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_interrupted_call(exception: type[BaseException]) -> None:
    """What interrupts a blocking caller goes on at once; the flow's clean-up runs in a thread that the wire keeps."""
    lease, wire = Lease(), Wire(take=exception(), broken=ServerUnavailable("once"))
    with pytest.raises(exception):
        run(lease.flow(), wire)
    (thread,) = wire.kept
    thread.join()

    assert wire.sent == ["take", "broken", "give back"]
    assert lease.seen == ["interrupted", "error", "done"]


def test_interrupted_between_two_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interruption that strikes in the driver itself, after the answer came, is cleaned up after too."""
    lease, wire = Lease(), Wire()

    def flow() -> Flow[None]:
        try:
            yield from call("take")
            yield Strike()  # the driver asks what it is, and is struck
        except Interrupted:
            yield from call("give back")
            raise

    class Strike(Pause):
        def __init__(self) -> None:
            pass

        @property
        def seconds(self) -> float:  # type: ignore[override]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(flow(), wire)
    wire.kept[0].join()

    assert wire.sent == ["take", "give back"]
    assert lease.seen == []


def test_signal_in_a_pause() -> None:
    """Ctrl-C in the middle of a wait: the caller gets it at once, the clean-up happens."""
    wire = Wire()

    def flow() -> Flow[None]:
        try:
            yield from Pause(30)
        except Interrupted:
            yield from call("give back")
            raise

    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(flow(), wire)
    assert time.monotonic() - start < 5
    timer.join()
    wire.kept[0].join()

    assert wire.sent == ["give back"]


def test_cancelled_call() -> None:
    """Cancellation reaches the caller at once; the flow's clean-up runs in a task that the wire keeps."""
    lease, wire = Lease(), AsyncWire(take=HANG, broken=ServerUnavailable("once"))

    async def main() -> None:
        task = asyncio.ensure_future(arun(lease.flow(), wire))
        while not wire.sent:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "give back" not in wire.sent
        await asyncio.gather(*wire.kept)

    asyncio.run(main())

    assert wire.sent == ["take", "broken", "give back"]
    assert lease.seen == ["interrupted", "error", "done"]


def test_clean_up_survives_a_second_cancellation() -> None:
    """A scope that cancels again and again, as anyio's do, does not reach the clean-up."""
    lease, wire = Lease(), AsyncWire(take=HANG)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(arun(lease.flow(), wire))
            while not wire.sent:
                await asyncio.sleep(0)
            for _ in range(5):
                task.cancel()
                await asyncio.sleep(0)
        await asyncio.gather(*wire.kept)

    asyncio.run(main())

    assert lease.seen == ["interrupted", "done"]


def test_flow_that_wants_no_clean_up(drive_one: Driver) -> None:
    """A flow that does not catch `Interrupted`, or ends on it, starts nothing."""

    def ends() -> Flow[None]:
        try:
            yield from call("a")
        except Interrupted:
            return

    for flow in (ends(), iter(call("a"))):
        wire = Wire(a=KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run(flow, wire)
        assert wire.kept == []


def test_flow_that_is_not_finished_when_its_coroutine_is_thrown_away() -> None:
    """A coroutine closed without a running loop closes its flow, and sends nothing."""
    wire = AsyncWire()
    steps: list[str] = []

    def flow() -> Flow[None]:
        try:
            yield from Pause(10)
        except Interrupted:
            yield from call("too late")
        finally:
            steps.append("closed")

    coroutine = arun(flow(), wire)
    loop = asyncio.new_event_loop()
    task = loop.create_task(coroutine)
    loop.run_until_complete(asyncio.sleep(0))
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # that it is thrown away is the point
    del task
    loop.close()
    coroutine.close()

    assert steps == ["closed"]
    assert wire.sent == []


@pytest.fixture
def short_clean_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drive, "CLEAN_UP_SECONDS", 0.2)


@pytest.mark.usefixtures("short_clean_ups")
def test_clean_up_is_bounded() -> None:
    """A clean-up that would never end is ended; each of its calls and pauses gets only the time that is left."""
    wire = Wire(take=KeyboardInterrupt(), again=lambda: time.sleep(0.03))
    ended: list[bool] = []

    def flow() -> Flow[None]:
        try:
            yield from call("take")
        except Interrupted:
            try:
                while True:
                    yield from call("again", timeout=100.0)
                    yield from Pause(0.01)
            finally:
                ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        run(flow(), wire)
    start = time.monotonic()
    wire.kept[0].join()

    assert 0.1 < time.monotonic() - start < 1.0
    assert ended == [True]
    limits = [limit for limit in wire.timeouts[1:] if limit is not None]
    assert len(limits) == len(wire.timeouts) - 1
    assert max(limits) <= 0.2
    assert limits == sorted(limits, reverse=True)


@pytest.mark.usefixtures("short_clean_ups")
def test_long_pause_of_a_clean_up_is_cut_short() -> None:
    """So is a pause."""

    def flow() -> Flow[None]:
        try:
            yield from call("take")
        except Interrupted:
            yield from Pause(100)

    wire = Wire(take=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(flow(), wire)

    wait_until(lambda: not wire.kept[0].is_alive(), deadline=2.0)


@pytest.mark.usefixtures("short_clean_ups")
def test_async_clean_up_is_bounded() -> None:
    """A server that does not answer holds an async clean-up no longer."""
    wire = AsyncWire(take=HANG, **{"give back": HANG})
    lease = Lease()

    async def main() -> None:
        task = asyncio.ensure_future(arun(lease.flow(), wire))
        while not wire.sent:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        start = time.monotonic()
        await asyncio.gather(*wire.kept)
        assert 0.1 < time.monotonic() - start < 1.0

    asyncio.run(main())

    assert lease.seen == ["interrupted"]


def test_clean_up_may_ask_the_caller(drive_one: Driver) -> None:
    """A clean-up calls the caller's functions; their errors are thrown into the flow, as ever."""
    seen: list[str] = []

    def broken() -> None:
        raise ZeroDivisionError

    def aside() -> Flow[None]:
        try:
            yield from Ask(broken)
        except ZeroDivisionError:
            yield from call("compensated")
            yield from Aside(iter(call("nested")))
            seen.append("done")

    def flow() -> Flow[None]:
        yield from Aside(aside())

    _, wire = drive_one(flow())
    wait_until(lambda: seen == ["done"])

    assert wire.sent[0] == "compensated"


def test_interpreter_that_starts_no_threads_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the interpreter is ending, a clean-up is given up rather than hiding what interrupted the caller."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(KeyboardInterrupt):
        run(Lease().flow(), Wire(take=KeyboardInterrupt()))
