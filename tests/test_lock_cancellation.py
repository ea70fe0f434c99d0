"""Cancellation and loss in asyncio: a cancelled caller leaves nothing, and a lost lease cancels its body."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests._async.together import eventually
from tetrad import AsyncTetrad, LeaseLost


def key(name: str) -> str:
    return f"tetrad:lock:{{{name}}}"


@pytest.fixture
async def t(url: str):
    async with AsyncTetrad(url) as t:
        yield t


async def free_and_unqueued(t: AsyncTetrad, name: str) -> bool:
    queue = await t._wire.command("EXISTS", key(name) + ":queue")
    return queue == 0 and not await t.lock(name).locked()


@pytest.mark.parametrize("steps", range(12))
async def test_cancelling_a_free_acquire_anywhere_leaves_it_free(t: AsyncTetrad, name: str, steps: int) -> None:
    """Wherever in acquire the caller is cancelled, the lock is soon free again."""
    await t.ping()
    task = asyncio.create_task(t.lock(name).acquire())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    outcome = (await asyncio.gather(task, return_exceptions=True))[0]
    if not isinstance(outcome, BaseException):
        await outcome.release()

    await eventually(lambda: free_and_unqueued(t, name))


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.002, 0.004, 0.008, 0.03])
async def test_cancelling_a_waiter_anywhere_blocks_nobody(t: AsyncTetrad, name: str, delay: float) -> None:
    """A waiter cancelled before, during or after its grant passes the lock on."""
    lease = await t.lock(name).acquire()
    assert lease is not None
    first = asyncio.create_task(t.lock(name).acquire())
    await eventually(lambda: queued(t, name, 1))
    second = asyncio.create_task(t.lock(name).acquire(timeout=10))
    await eventually(lambda: queued(t, name, 2))
    release = asyncio.create_task(lease.release())
    asyncio.get_running_loop().call_later(delay, first.cancel)
    await release
    outcome = (await asyncio.gather(first, return_exceptions=True))[0]
    if not isinstance(outcome, BaseException):
        await outcome.release()
    start = time.monotonic()
    mine = await second

    assert mine is not None
    assert time.monotonic() - start < 2
    await mine.release()
    await eventually(lambda: free_and_unqueued(t, name))


@pytest.mark.parametrize("steps", range(6))
async def test_cancelling_release_still_releases(t: AsyncTetrad, name: str, steps: int) -> None:
    """A release that was begun is finished, whatever happens to its caller."""
    lease = await t.lock(name).acquire()
    assert lease is not None
    task = asyncio.create_task(lease.release())
    for _ in range(steps + 1):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    await eventually(lambda: free_and_unqueued(t, name))


async def queued(t: AsyncTetrad, name: str, count: int) -> bool:
    holder = await t.lock(name).holder()
    return holder is not None and holder.waiters == count


async def test_a_refused_renewal_cancels_the_body(t: AsyncTetrad, name: str) -> None:
    """The body is cancelled where it awaits, and the block raises LeaseLost instead."""
    seen: list[str] = []
    with pytest.raises(LeaseLost) as error:
        async with t.lock(name, ttl=0.3):
            await t._wire.command("DEL", key(name))
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

    assert seen == ["cancelled"]
    assert error.value.key == name
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # nothing is left over for the next await


async def test_the_validity_bound_cancels_the_body_in_time(t: AsyncTetrad, name: str) -> None:
    """Without a confirmed renewal the body is cancelled within 100 ms of its bound."""
    start = time.monotonic()
    with pytest.raises(LeaseLost):
        async with t.lock(name, ttl=0.3, renew=False):
            await asyncio.sleep(30)

    assert 0.29 <= time.monotonic() - start < 0.42


async def test_a_foreign_cancellation_wins(t: AsyncTetrad, name: str) -> None:
    """Who cancels the task from outside gets a cancelled task, lost lease or not."""
    entered = asyncio.Event()

    async def body() -> None:
        async with t.lock(name, ttl=0.2, renew=False):
            entered.set()
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                raise

    task = asyncio.create_task(body())
    await entered.wait()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_body_that_ends_as_it_is_lost_leaves_no_cancellation(t: AsyncTetrad, name: str) -> None:
    """A loss noticed by check() raises LeaseLost there, and nothing is cancelled afterwards."""
    with pytest.raises(LeaseLost):
        async with t.lock(name, ttl=0.1, renew=False) as lease:
            time.sleep(0.15)  # blocks the loop on purpose: nobody else can notice the loss
            lease.check()
    await asyncio.sleep(0)
    task = asyncio.current_task()

    assert task is not None
    assert task.cancelling() == 0


async def test_a_timeout_around_a_wait_leaves_the_queue(t: AsyncTetrad, name: str) -> None:
    """asyncio.timeout around an acquire cleans up like any cancellation."""
    async with t.lock(name):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await t.lock(name).acquire()
        await eventually(lambda: queued(t, name, 0))
