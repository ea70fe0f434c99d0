"""The async wire's own matters: one connection for many tasks, cancellation, loops, pushes, fork."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import random
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from multiprocessing.connection import Connection as Pipe
from typing import Any

import pytest
import uvloop

from tests.proxy import FaultProxy
from tests.servers import Server, wait_until
from tests.wire.rig import NEVER, SAFE, SPIN, count, door, echo
from tetrad._core.call import Call
from tetrad._core.wire_async import AsyncWire
from tetrad.errors import ServerRefused, ServerTimeout, ServerUnavailable

LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
NewLoop = Callable[[], asyncio.AbstractEventLoop]


def clients(server: Server) -> int:
    """The connections of others than the one that asks."""
    return len(server.cli("CLIENT", "LIST").splitlines()) - 1


def run(new_loop: NewLoop, main: Coroutine[Any, Any, Any]) -> Any:
    """Run *main* to its end; complaints to the loop's exception handler fail the test."""
    complaints: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        result = runner.run(main)
        gc.collect()
        runner.run(asyncio.sleep(0))
    assert complaints == []
    return result


@pytest.fixture
async def wire(own_server: Server) -> AsyncIterator[AsyncWire]:
    wire = AsyncWire(door(own_server.url()))
    yield wire
    await wire.aclose()


async def until(condition: Callable[[], Any], deadline: float = 10.0) -> None:
    """Wait until *condition* holds, letting the loop run."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, "the condition was not met"
        await asyncio.sleep(0.005)


async def test_one_connection_for_all_tasks(wire: AsyncWire, own_server: Server) -> None:
    """A thousand tasks that all start unconnected share one connection and each get their own answer."""
    tags = [str(number) for number in range(1000)]

    assert await asyncio.gather(*(wire.send(echo(tag)) for tag in tags)) == tags
    assert clients(own_server) == 1


async def test_calls_of_a_tick_leave_together(wire: AsyncWire, own_server: Server) -> None:
    """Calls made in the same tick of the loop arrive in one read of the server."""
    await wire.send(echo("open"))
    before = int(own_server.info("stats")["total_reads_processed"])
    await asyncio.gather(*(wire.send(echo("x")) for _ in range(200)))

    assert int(own_server.info("stats")["total_reads_processed"]) - before <= 5


@LOOPS
@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_cancellation_at_any_moment(new_loop: NewLoop, server: Server, tcp: bool) -> None:
    """Calls cancelled, timed out and answered in wild disorder: each gets its own tag or its own error."""

    async def main() -> None:
        with FaultProxy(server.path, tcp=tcp) as proxy:
            wire = AsyncWire(door(proxy.url))
            await wire.send(echo("open"))
            dice = random.Random(3)
            proxy.delay(lambda: dice.choice([0.0, 0.0, 0.001, 0.005]))
            outcomes: dict[str, int] = {"answered": 0, "late": 0, "cancelled": 0}

            async def caller(number: int) -> None:
                for turn in range(60):
                    tag = f"{number}-{turn}"
                    task = asyncio.ensure_future(wire.send(echo(tag, timeout=dice.choice([0.001, 0.01, 5.0]))))
                    if dice.random() < 0.5:
                        asyncio.get_running_loop().call_later(dice.random() * 0.01, task.cancel)
                    try:
                        assert await task == tag
                        outcomes["answered"] += 1
                    except ServerTimeout:
                        outcomes["late"] += 1
                    except asyncio.CancelledError:
                        outcomes["cancelled"] += 1

            await asyncio.gather(*(caller(number) for number in range(100)))
            assert min(outcomes.values()) > 100
            assert proxy.accepted == 1  # none of it was a reason to leave the connection
            await wire.aclose()

    run(new_loop, main())


async def test_cancelled_call_at_each_step(wire: AsyncWire, own_server: Server) -> None:
    """A call cancelled after any number of ticks, from before it is sent to after its answer, disturbs no other."""
    own_server.cli("SCRIPT", "FLUSH")
    for ticks in range(40):
        if ticks % 2:
            own_server.cli("SCRIPT", "FLUSH")
        task = asyncio.ensure_future(wire.send(echo("cancelled")))
        other = asyncio.ensure_future(wire.send(echo(f"other-{ticks}")))
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()

        assert await other == f"other-{ticks}"
        assert await wire.send(echo(f"next-{ticks}")) == f"next-{ticks}"


async def test_cancelled_while_connecting(own_server: Server) -> None:
    """Cancelling the task that started the connection leaves it to the others, and nothing unhandled."""
    with FaultProxy(own_server.path) as proxy:
        proxy.black_hole()
        wire = AsyncWire(door(proxy.url))
        first = asyncio.ensure_future(wire.send(echo("first")))
        second = asyncio.ensure_future(wire.send(echo("second")))
        await until(lambda: proxy.accepted == 1)
        first.cancel()
        proxy.pass_on()

        assert await second == "second"
        assert first.cancelled()
        assert proxy.accepted == 1
        await wire.aclose()


@LOOPS
def test_everybody_gone_while_connecting(new_loop: NewLoop, server: Server) -> None:
    """An attempt to connect whose callers have all left fails in silence."""

    async def main() -> None:
        with FaultProxy(server.path) as proxy:
            proxy.black_hole()
            wire = AsyncWire(door(proxy.url, connect_timeout=0.2))
            task = asyncio.ensure_future(wire.send(echo("x")))
            await until(lambda: proxy.accepted == 1)
            task.cancel()
            await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
            await wire.aclose()

    run(new_loop, main())


async def test_one_hasty_caller_does_not_close_the_connection(own_server: Server) -> None:
    """After a rest, one short deadline that passes leaves the connection, and the others on it, alone."""
    with FaultProxy(own_server.path) as proxy:
        wire = AsyncWire(door(proxy.url, timeout=1.0))
        await wire.send(echo("open"))
        await asyncio.sleep(1.1)  # longer than the timeout: silence without a question is no silence
        proxy.delay(0.2)
        patient = asyncio.ensure_future(wire.send(echo("patient")))

        with pytest.raises(ServerTimeout):
            await wire.send(echo("hasty", timeout=0.05))
        assert await patient == "patient"
        assert proxy.accepted == 1
        await wire.aclose()


async def test_silence_closes_the_connection(own_server: Server) -> None:
    """When nothing at all has come for ``timeout`` while calls are outstanding, the connection is given up."""
    with FaultProxy(own_server.path) as proxy:
        wire = AsyncWire(door(proxy.url, timeout=0.4))
        await wire.send(echo("open"))
        proxy.swallow()
        for _ in range(3):
            with pytest.raises(ServerTimeout):
                await wire.send(echo("mute", timeout=0.05))
        proxy.pass_on()
        assert proxy.accepted == 1
        await asyncio.sleep(0.5)

        assert await wire.send(echo("new")) == "new"
        assert proxy.accepted == 2
        await wire.aclose()


async def test_longer_timeout_than_the_wires(wire: AsyncWire, own_server: Server) -> None:
    """A call that may take longer than the client's timeout does, though the server is silent meanwhile."""
    short = AsyncWire(door(own_server.url(), timeout=0.3))
    await short.send(echo("open"))

    assert await short.send(Call(SPIN, (), (900,), int, 10.0)) == 1
    await short.aclose()


async def test_many_calls_into_a_black_hole(own_server: Server) -> None:
    """Ten thousand calls with deadlines of their own all fail in time; the loop is not kept busy by it."""
    with FaultProxy(own_server.path) as proxy:
        wire = AsyncWire(door(proxy.url, timeout=1.0))
        await wire.send(echo("open"))
        proxy.black_hole()
        start = time.monotonic()
        calls = [wire.send(echo("x", timeout=0.3 + number / 50_000)) for number in range(10_000)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        took = time.monotonic() - start

        assert {type(result) for result in results} == {ServerTimeout}
        assert len({id(result) for result in results}) == len(results)  # to each an error of its own
        assert took < 10.0
        proxy.pass_on()
        await wire.aclose()


@LOOPS
def test_loop_that_was_blocked(new_loop: NewLoop, server: Server) -> None:
    """An answer that came in time is an answer, even if the loop was too busy to read it before its deadline."""

    async def main() -> None:
        wire = AsyncWire(door(server.url(), timeout=0.2))
        await wire.send(echo("open"))
        task = asyncio.ensure_future(wire.send(echo("answered")))
        await asyncio.sleep(0.001)
        time.sleep(0.4)

        assert await task == "answered"
        await wire.aclose()

    run(new_loop, main())


async def test_broken_connection_tells_each_call_whether_it_left(
    wire: AsyncWire, own_server: Server, name: str
) -> None:
    """When the server dies unnoticed, what had not left yet is sent to its successor, replay or not."""
    await wire.send(count(NEVER, name))
    own_server.kill()  # the loop does not run meanwhile
    own_server.start()

    assert await asyncio.gather(*(wire.send(count(NEVER, name)) for _ in range(50))) == list(range(1, 51))


async def test_silent_death_with_calls_outstanding(own_server: Server, name: str) -> None:
    """Calls outstanding when the connection is cut: safe ones are answered, the others say what is known."""
    with FaultProxy(own_server.path) as proxy:
        wire = AsyncWire(door(proxy.url))
        await asyncio.gather(wire.send(count(NEVER, name)), wire.send(count(SAFE, name + ":safe")))
        proxy.delay(0.1)
        never = [asyncio.ensure_future(wire.send(count(NEVER, name))) for _ in range(20)]
        safe = [asyncio.ensure_future(wire.send(count(SAFE, name + ":safe"))) for _ in range(20)]
        await until(lambda: int(own_server.cli("GET", name)) == 21)
        proxy.cut()

        assert len(await asyncio.gather(*safe)) == 20
        errors = await asyncio.gather(*never, return_exceptions=True)
        assert all(isinstance(error, ServerUnavailable) and error.sent for error in errors)
        assert int(own_server.cli("GET", name)) == 21
        await wire.aclose()


@LOOPS
def test_loops_one_after_the_other(new_loop: NewLoop, own_server: Server, name: str) -> None:
    """One wire serves several loops in turn; a loop that ends closes its connection, without a warning."""
    wire = AsyncWire(door(own_server.url()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for turn in range(5):
            assert run(new_loop, wire.send(count(NEVER, name))) == turn + 1
            gc.collect()
            wait_until(lambda: clients(own_server) == 0)
    assert wire._homes == {}


@LOOPS
def test_loops_at_once(new_loop: NewLoop, own_server: Server) -> None:
    """Loops in several threads share a wire and never each other's connection."""
    wire = AsyncWire(door(own_server.url()))
    wrong: list[str] = []

    async def main(number: int) -> None:
        async def caller(part: int) -> None:
            for turn in range(100):
                tag = f"{number}-{part}-{turn}"
                if await wire.send(echo(tag)) != tag:
                    wrong.append(tag)

        await asyncio.gather(*(caller(part) for part in range(10)))

    threads = [threading.Thread(target=run, args=(new_loop, main(number))) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    wait_until(lambda: clients(own_server) == 0)


@LOOPS
def test_close_finishes_clean_ups(new_loop: NewLoop, own_server: Server, name: str) -> None:
    """`aclose` awaits the clean-ups, then closes; afterwards nothing is open and nothing pending."""
    wire = AsyncWire(door(own_server.url()))
    results: list[int] = []

    async def clean_up() -> None:
        await asyncio.sleep(0.05)
        results.append(await wire.send(count(NEVER, name)))

    async def main() -> None:
        wire.keep(asyncio.get_running_loop().create_task(clean_up()))
        await wire.aclose()
        assert results == [1]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        with pytest.raises(ServerUnavailable, match="closed"):
            await wire.send(echo("x"))

    run(new_loop, main())
    assert clients(own_server) == 0


@LOOPS
def test_closed_while_connecting(new_loop: NewLoop, server: Server) -> None:
    """A wire closed while it connects does not open afterwards."""

    async def main() -> None:
        with FaultProxy(server.path) as proxy:
            proxy.black_hole()
            wire = AsyncWire(door(proxy.url))
            task = asyncio.ensure_future(wire.send(echo("x")))
            await until(lambda: proxy.accepted == 1)
            await wire.aclose()
            proxy.pass_on()
            with pytest.raises(ServerUnavailable, match="closed"):
                await task
            await until(lambda: proxy.connections == 0)

    run(new_loop, main())


@LOOPS
@pytest.mark.parametrize("connected", [False, True])
def test_loop_that_ends_in_the_middle(new_loop: NewLoop, server: Server, connected: bool) -> None:
    """A loop that ends while calls or connections are under way leaves no warning and nothing open."""

    async def main(proxy: FaultProxy, wire: AsyncWire) -> None:
        if connected:
            await wire.send(echo("open"))
        proxy.black_hole()
        tasks = [asyncio.ensure_future(wire.send(echo("x"))) for _ in range(5)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in tasks)

    with warnings.catch_warnings(), FaultProxy(server.path) as proxy:
        warnings.simplefilter("error")
        run(new_loop, main(proxy, AsyncWire(door(proxy.url))))
        gc.collect()
        proxy.pass_on()
        wait_until(lambda: proxy.connections == 0)


async def test_pushes_come_in_order(wire: AsyncWire, own_server: Server) -> None:
    """Ears get the messages of their channels, in order, while calls go on over the same connection."""
    ears = [wire.listen() for _ in range(3)]
    for number, ear in enumerate(ears):
        assert await ear.wake(f"tetrad:{number % 2}", 0) is None

    for number in range(100):
        own_server.cli("SPUBLISH", "tetrad:0", number)
        await wire.send(echo("meanwhile"))
    expected = [b"%d" % number for number in range(100)]

    assert [await ears[0].wake("tetrad:0", 5.0) for _ in range(100)] == expected
    assert [await ears[2].wake("tetrad:0", 5.0) for _ in range(100)] == expected
    start = time.monotonic()
    assert await ears[1].wake("tetrad:1", 0.05) is None
    assert 0.04 < time.monotonic() - start < 0.5
    for ear in ears:
        ear.close()
    await until(lambda: own_server.cli("PUBSUB", "SHARDCHANNELS") == [])
    assert clients(own_server) == 1


async def test_subscriptions_come_and_go(wire: AsyncWire, own_server: Server) -> None:
    """Ears of one channel that open and close in disorder keep it subscribed as long as one of them listens."""
    first, second = wire.listen(), wire.listen()
    await first.wake("tetrad:a", 0)
    await second.wake("tetrad:a", 0)
    first.close()
    first = wire.listen()
    second.close()
    await first.wake("tetrad:a", 0)
    own_server.cli("SPUBLISH", "tetrad:a", "news")

    assert await first.wake("tetrad:a", 5.0) == b"news"
    first.close()


async def test_ear_survives_a_cut_connection(own_server: Server) -> None:
    """A cut answers ``None`` at once; the next call or wait subscribes again."""
    with FaultProxy(own_server.path) as proxy:
        wire = AsyncWire(door(proxy.url))
        ear = wire.listen()
        await ear.wake("tetrad:a", 0)
        await ear.wake("tetrad:b", 0)
        waiting = asyncio.ensure_future(ear.wake("tetrad:a", 30.0))
        await asyncio.sleep(0)
        proxy.cut()
        assert await asyncio.wait_for(waiting, 5) is None

        assert await wire.send(echo("again")) == "again"
        own_server.cli("SPUBLISH", "tetrad:a", "after")
        assert await ear.wake("tetrad:a", 5.0) == b"after"
        assert await ear.wake("tetrad:b", 0) is None  # it is told, too
        ear.close()
        await wire.aclose()


async def test_ear_reconnects_by_itself(own_server: Server) -> None:
    """A wait on a broken connection renews it, even if nobody calls anything."""
    with FaultProxy(own_server.path) as proxy:
        wire = AsyncWire(door(proxy.url))
        ear = wire.listen()
        await ear.wake("tetrad:a", 0)
        proxy.cut()
        assert await ear.wake("tetrad:a", 30.0) is None
        assert await ear.wake("tetrad:a", 0) is None
        await wire.send(echo("asked again"))  # as a flow does after each None; it comes after the subscription
        own_server.cli("SPUBLISH", "tetrad:a", "after")

        assert await ear.wake("tetrad:a", 5.0) == b"after"
        ear.close()
        await wire.aclose()


async def test_ear_after_a_restart_that_nobody_noticed(wire: AsyncWire, own_server: Server) -> None:
    """A first wait whose SSUBSCRIBE meets a dead connection is subscribed all the same."""
    await wire.send(echo("open"))
    own_server.kill()
    own_server.start()
    ear = wire.listen()
    assert await ear.wake("tetrad:a", 0) is None
    await wire.send(echo("asked again"))
    own_server.cli("SPUBLISH", "tetrad:a", "news")

    messages = [await ear.wake("tetrad:a", 0.5) for _ in range(2)]
    assert b"news" in messages
    ear.close()


async def test_channel_that_the_user_may_not_have(own_server: Server) -> None:
    """SSUBSCRIBE refused by the ACL raises, leaves no trace, and the connection goes on."""
    own_server.cli("ACL", "SETUSER", "app", "on", ">pw", "~*", "&tetrad:*", "+@all")
    wire = AsyncWire(door(f"unix://app:pw@{own_server.path}"))
    ear = wire.listen()

    for _ in range(2):
        with pytest.raises(ServerRefused, match="NOPERM"):
            await ear.wake("other:channel", 0)
    ear.close()
    assert await wire.send(echo("fine")) == "fine"
    assert await ear.wake("tetrad:channel", 0) is None
    ear.close()
    assert clients(own_server) == 1
    await wire.aclose()


async def test_cancelled_ear(wire: AsyncWire, own_server: Server) -> None:
    """A wait that is cancelled, at any moment, leaves no subscription when its ear closes."""
    for ticks in range(20):
        ear = wire.listen()
        task = asyncio.ensure_future(ear.wake("tetrad:a", 10.0))
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ear.close()
        assert await wire.send(echo(str(ticks))) == str(ticks)

    await until(lambda: own_server.cli("PUBSUB", "SHARDCHANNELS") == [])


def _child(wire: AsyncWire, name: str, answers: Pipe) -> None:
    async def main() -> list[int]:
        return [await wire.send(count(NEVER, name)) for _ in range(10)]

    answers.send(asyncio.run(main()))
    answers.close()


@LOOPS
def test_forked_child_opens_its_own(new_loop: NewLoop, own_server: Server, name: str) -> None:
    """A fork in the middle of a running loop: the child uses a loop and a connection of its own, the parent goes on."""
    wire = AsyncWire(door(own_server.url()))

    async def main() -> None:
        await wire.send(count(NEVER, name))
        ear = wire.listen()
        await ear.wake("tetrad:a", 0)
        receiving, sending = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(target=_child, args=(wire, name, sending))
        child.start()
        mine = [await wire.send(count(NEVER, name)) for _ in range(10)]
        theirs = await asyncio.to_thread(receiving.recv)
        await asyncio.to_thread(child.join)

        assert sorted(mine + theirs) == list(range(2, 22))
        own_server.cli("SPUBLISH", "tetrad:a", "still here")
        assert await ear.wake("tetrad:a", 5.0) == b"still here"
        ear.close()
        await wire.aclose()
        sending.close()
        receiving.close()

    run(new_loop, main())


def test_child_that_collects_its_garbage_leaves_the_parent_alone(own_server: Server) -> None:
    """What a child does to its copies of the parent's transports takes nothing out of the shared epoll set."""

    async def main() -> None:
        wire = AsyncWire(door(own_server.url()))
        await wire.send(echo("open"))
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                try:
                    warnings.simplefilter("ignore")
                    link = next(iter(wire._homes.values()), None)
                    transports = [o for o in gc.get_objects() if isinstance(o, asyncio.Transport)]
                    for transport in transports:
                        transport.abort()
                    os._exit(0 if link is None and transports else 1)
                except BaseException:
                    os._exit(2)
            assert os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, pid, 0))[1]) == 0
            assert await wire.send(echo("parent", timeout=2.0)) == "parent"
        assert clients(own_server) == 1
        await wire.aclose()

    asyncio.run(main())
