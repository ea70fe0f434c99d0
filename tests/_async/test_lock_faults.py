"""The lock behind a bad network: lost replies, cut connections, a server that restarts or says nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests._async.together import eventually, start
from tests.proxy import FaultProxy
from tests.servers import Server
from tetrad import AsyncTetrad, LeaseLost, ServerTimeout, ServerUnavailable


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(server.path) as proxy:
        yield proxy


async def is_free(t: AsyncTetrad, name: str) -> bool:
    return not await t.lock(name).locked()


async def waiters(t: AsyncTetrad, name: str, count: int) -> bool:
    holder = await t.lock(name).holder()
    return holder is not None and holder.waiters == count


async def subscriptions(t: AsyncTetrad) -> int:
    """How many subscriptions the server has seen so far."""
    stats = (await t._wire.command("INFO", "commandstats")).decode()
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in stats.splitlines() if "ssubscribe:" in line)


async def subscribed_again(t: AsyncTetrad, before: int) -> bool:
    return await subscriptions(t) > before


async def test_a_cut_reply_is_asked_for_again(t: AsyncTetrad, name: str, proxy: FaultProxy) -> None:
    """The connection breaks behind the acquire: the same token asks again, so the lease is known and is one."""
    async with AsyncTetrad(proxy.url, timeout=2) as far:
        await far.lock(name).locked()
        proxy.cut_after(1)
        lease = await far.lock(name).acquire(timeout=0)

        assert lease is not None
        assert (await t.lock(name).holder()).token == lease.token
        proxy.cut_after(1)
        assert await lease.release() is True
        assert await is_free(t, name)


async def test_an_acquire_without_an_answer_leaves_nothing(t: AsyncTetrad, name: str, proxy: FaultProxy) -> None:
    """No reply in time: the caller is told at once, and what the server granted is given back behind its back."""
    async with AsyncTetrad(proxy.url, timeout=0.3) as far:
        await far.lock(name).locked()
        proxy.swallow()
        begun = time.monotonic()
        with pytest.raises(ServerTimeout):
            await far.lock(name).acquire()

        assert time.monotonic() - begun < 1.5
        assert await t.lock(name).locked()
        proxy.pass_on()
        proxy.cut()
        await eventually(lambda: is_free(t, name))
        lease = await far.lock(name).acquire(timeout=5)
        assert lease is not None
        assert await lease.release()


async def test_a_release_without_an_answer_may_be_repeated(t: AsyncTetrad, name: str, proxy: FaultProxy) -> None:
    """The lease stays ours until the server has said otherwise; the second release gets the first one's answer."""
    async with AsyncTetrad(proxy.url, timeout=0.3) as far:
        lease = await far.lock(name).acquire()
        assert lease is not None
        proxy.swallow()
        with pytest.raises(ServerTimeout):
            await lease.release()
        proxy.pass_on()
        proxy.cut()

        assert await lease.release() is True
        assert await is_free(t, name)


async def test_a_waiter_survives_a_cut_connection(t: AsyncTetrad, name: str, proxy: FaultProxy) -> None:
    """A waiter whose connection breaks keeps its place and hears of its turn on the next one."""
    lease = await t.lock(name).acquire()
    assert lease is not None
    async with AsyncTetrad(proxy.url) as far:
        waiting = start(far.lock(name).acquire, timeout=10)
        await eventually(lambda: waiters(t, name, 1))
        second = start(t.lock(name).acquire, timeout=10)
        await eventually(lambda: waiters(t, name, 2))
        before = await subscriptions(t)
        proxy.cut()
        await eventually(lambda: subscribed_again(t, before))
        assert await waiters(t, name, 2)
        await lease.release()
        mine = await waiting.result()

        assert mine is not None
        assert not second.done()
        await mine.release()
        theirs = await second.result()
        assert theirs is not None
        await theirs.release()


async def test_a_holder_cut_off_knows_it_in_time(t: AsyncTetrad, name: str, proxy: FaultProxy) -> None:
    """No renewal gets through: the lease is lost at its local bound, before the server gives the lock away."""
    async with AsyncTetrad(proxy.url, timeout=0.3) as far:
        lease = await far.lock(name, ttl=0.6).acquire()
        assert lease is not None
        told: list[float] = []
        lease.on_lost(lambda: told.append(time.monotonic()))
        proxy.black_hole()
        next_lease = await t.lock(name).acquire(timeout=5)
        granted_at = time.monotonic()

        assert next_lease is not None
        assert lease.lost
        assert told
        assert told[0] <= granted_at + 0.1
        with pytest.raises(LeaseLost):
            lease.check()
        await next_lease.release()
        proxy.pass_on()
        proxy.cut()


async def test_no_server_is_an_error_in_time(name: str) -> None:
    """With nobody there, acquire says so within the connect timeout, and is good again when the server is."""
    with Server() as own:
        async with AsyncTetrad(own.url("unix"), connect_timeout=0.3) as t:
            await t.ping()
            own.stop()
            begun = time.monotonic()
            with pytest.raises(ServerUnavailable) as error:
                await t.lock(name).acquire()

            assert time.monotonic() - begun < 2
            assert error.value.sent is False
            own.start()
            lease = await t.lock(name).acquire(timeout=5)
            assert lease is not None
            assert await lease.release()
