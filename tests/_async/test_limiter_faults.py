"""Limiters whose replies get lost: a hit is counted once at most, and what may be repeated is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.proxy import FaultProxy
from tests.servers import Server
from tetrad import AsyncTetrad, ServerTimeout, ServerUnavailable


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(server.path) as proxy:
        yield proxy


@pytest.fixture
async def faulty(proxy: FaultProxy) -> AsyncIterator[AsyncTetrad]:
    """A client whose network may fail."""
    async with AsyncTetrad(proxy.url, timeout=0.5) as faulty:
        yield faulty


async def test_a_hit_whose_reply_is_lost_is_not_repeated(
    t: AsyncTetrad, faulty: AsyncTetrad, proxy: FaultProxy, name: str
) -> None:
    """It was counted, the caller learns that this is not known, and nothing sends it again."""
    limiter, there = faulty.limiter(name, "10/hour"), t.limiter(name, "10/hour")
    assert (await limiter.hit("k")).remaining == 9
    proxy.cut_after(2)

    with pytest.raises(ServerUnavailable):
        await limiter.hit("k", 3)
    assert (await there.peek("k")).remaining == 6
    assert (await limiter.hit("k")).remaining == 5


async def test_a_hit_without_an_answer_in_time_is_not_repeated(
    t: AsyncTetrad, faulty: AsyncTetrad, proxy: FaultProxy, name: str
) -> None:
    """The answer that comes late reaches nobody: the next hit has its own."""
    limiter, there = faulty.limiter(name, "10/hour"), t.limiter(name, "10/hour")
    await limiter.hit("k")
    proxy.swallow()
    with pytest.raises((ServerTimeout, ServerUnavailable)):
        await limiter.hit("k", 3)
    proxy.pass_on()
    proxy.cut()

    counted = (await there.peek("k")).remaining
    assert counted in (9, 6)
    assert (await limiter.hit("k", 2)).remaining == counted - 2


async def test_a_peek_and_a_reset_are_asked_again(
    t: AsyncTetrad, faulty: AsyncTetrad, proxy: FaultProxy, name: str
) -> None:
    """The connection breaks in the middle of the reply: the caller sees nothing of it."""
    limiter, there = faulty.limiter(name, "10/hour"), t.limiter(name, "10/hour")
    await limiter.hit("k")
    assert await limiter.peek("k")
    assert await limiter.reset("nobody") is False
    proxy.cut_after(2)
    assert (await limiter.peek("k")).remaining == 9

    proxy.cut_after(2)
    await limiter.reset("k")
    assert (await there.peek("k")).remaining == 10


async def test_a_connection_that_died_while_idle_costs_no_hit(
    t: AsyncTetrad, faulty: AsyncTetrad, proxy: FaultProxy, name: str
) -> None:
    """It is noticed before the hit is sent, so the hit is sent, once."""
    limiter, there = faulty.limiter(name, "10/hour"), t.limiter(name, "10/hour")
    await limiter.hit("k")
    proxy.cut()
    assert (await there.peek("k")).remaining == 9

    assert (await limiter.hit("k")).remaining == 8
    assert (await there.peek("k")).remaining == 8


async def test_a_server_that_forgot_the_script_is_told_it_again(t: AsyncTetrad, server: Server, name: str) -> None:
    """A hit that the server did not know how to do was not done, so it is sent again and counted once."""
    limiter = t.limiter(name, "10/hour")
    await limiter.hit("k")
    server.cli("SCRIPT", "FLUSH")

    assert (await limiter.hit("k")).remaining == 8
