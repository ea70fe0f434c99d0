"""The exclusive lock on a real server."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from tests._async.together import eventually, start
from tetrad import AsyncTetrad, LeaseLost, LockTimeout


def key(name: str) -> str:
    return f"tetrad:lock:{{{name}}}"


async def waiters(t: AsyncTetrad, name: str) -> int:
    holder = await t.lock(name).holder()
    return holder.waiters if holder else 0


async def test_acquire_and_release(t: AsyncTetrad, name: str) -> None:
    """A lease has what its holder needs, and is over when it was given back."""
    lease = await t.lock(name, ttl=10).acquire()

    assert lease is not None
    assert (lease.name, lease.ttl, lease.lost) == (name, 10, False)
    assert 9 < lease.expires_in <= 10
    lease.check()
    assert await t.lock(name).locked()
    assert await lease.release() is True
    assert await lease.release() is False
    assert lease.expires_in == 0
    assert not await t.lock(name).locked()
    with pytest.raises(LeaseLost, match="given back"):
        lease.check()


async def test_a_held_lock_is_none(t: AsyncTetrad, name: str) -> None:
    """No is a value: trying once, or for a while, answers None."""
    async with t.lock(name):
        assert await t.lock(name).acquire(timeout=0) is None
        assert await t.lock(name).acquire(timeout=timedelta()) is None
        start_at = time.monotonic()
        assert await t.lock(name).acquire(timeout=0.2) is None
        assert 0.2 <= time.monotonic() - start_at < 2
        assert await waiters(t, name) == 0


async def test_hold_raises_lock_timeout(t: AsyncTetrad, name: str) -> None:
    """A with block cannot be skipped, so it raises, naming the lock."""
    async with t.lock(name).hold():
        with pytest.raises(LockTimeout, match=name) as error:
            async with t.lock(name).hold(timeout=0.05):
                pytest.fail("entered a held lock")

    assert error.value.key == name
    assert isinstance(error.value, TimeoutError)


async def test_fences_grow(t: AsyncTetrad, name: str) -> None:
    """Each acquisition of a name has a larger fence than all before."""
    fences = []
    for _ in range(20):
        async with t.lock(name) as lease:
            fences.append(lease.fence)

    assert fences == sorted(set(fences))


async def test_fences_grow_when_the_clock_is_behind_the_counter(t: AsyncTetrad, name: str) -> None:
    """The counter decides when the server's clock has stepped back."""
    ahead = time.time_ns() // 1000 + 3_600_000_000
    await t._wire.command("HSET", key(name), "fence", str(ahead))

    async with t.lock(name) as lease:
        assert lease.fence == ahead + 1


async def test_the_lock_is_handed_over_in_order(t: AsyncTetrad, name: str) -> None:
    """Waiters get the lock in the order of asking, each by one push."""
    order: list[int] = []

    async def wait(number: int) -> None:
        async with t.lock(name).hold(timeout=10):
            order.append(number)

    running = []
    async with t.lock(name):
        for number in range(8):
            running.append(start(wait, number))
            await eventually(lambda number=number: reached(t, name, number + 1))
    for one in running:
        await one.result()

    assert order == list(range(8))


async def reached(t: AsyncTetrad, name: str, count: int) -> bool:
    return await waiters(t, name) == count


async def test_waiting_does_not_poll(t: AsyncTetrad, name: str) -> None:
    """While twenty wait, the server hears nothing from them."""

    async def wait() -> int:
        async with t.lock(name).hold(timeout=20) as lease:
            return lease.fence

    async with t.lock(name):
        running = [start(wait) for _ in range(20)]
        await eventually(lambda: reached(t, name, 20))
        before = await calls(t)
        until = time.monotonic() + 0.5
        await eventually(lambda: time.monotonic() > until)
        after = await calls(t)
    served = [await one.result() for one in running]

    assert after - before == 0
    assert len(set(served)) == 20


async def calls(t: AsyncTetrad) -> int:
    """How many scripts the server has run."""
    stats = (await t._wire.command("INFO", "commandstats")).decode()
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in stats.splitlines() if "evalsha:" in line)


async def test_uncontended_operations_are_one_command_each(t: AsyncTetrad, name: str) -> None:
    """acquire, renew, release, holder: one script call each, nothing else."""
    lock = t.lock(name)
    lease = await lock.acquire()
    await lease.renew()
    await lock.holder()
    await lease.release()
    for operation in ("acquire", "renew", "holder", "release"):
        before = await commands(t)
        if operation == "acquire":
            lease = await lock.acquire(timeout=3)
        elif operation == "holder":
            await lock.holder()
        elif operation == "renew":
            await lease.renew()
        else:
            await lease.release()
        after = await commands(t)

        assert after - before == {"cmdstat_evalsha": 1, "cmdstat_info": 1}, operation


class Commands(dict[str, int]):
    def __sub__(self, other: Commands) -> dict[str, int]:
        return {name: count - other.get(name, 0) for name, count in self.items() if count != other.get(name, 0)}


async def commands(t: AsyncTetrad) -> Commands:
    """Calls by command, those inside scripts left out."""
    stats = (await t._wire.command("INFO", "commandstats")).decode()
    counts = Commands()
    for line in stats.splitlines():
        name, _, rest = line.partition(":")
        if name in ("cmdstat_evalsha", "cmdstat_info", "cmdstat_ssubscribe", "cmdstat_script|load", "cmdstat_ping"):
            counts[name] = int(rest.split("calls=")[1].split(",")[0])
    return counts


async def test_one_instance_many_owners(t: AsyncTetrad, name: str) -> None:
    """A shared instance never releases somebody else's lease."""
    lock = t.lock(name)
    first = await lock.acquire()
    waiting = start(lock.acquire, timeout=10)
    await eventually(lambda: reached(t, name, 1))
    assert await first.release()
    second = await waiting.result()

    assert await first.release() is False
    assert (await lock.holder()).token == second.token
    assert await second.release()


async def test_a_deleted_key_is_a_loss(t: AsyncTetrad, name: str) -> None:
    """A lease whose key is gone is lost: renew says so, and nothing is created."""
    lease = await t.lock(name).acquire()
    await t._wire.command("DEL", key(name))
    told: list[str] = []
    lease.on_lost(lambda: told.append(lease.name))

    with pytest.raises(LeaseLost) as error:
        await lease.renew()
    assert error.value.fence == lease.fence
    assert (lease.lost, told) == (True, [name])
    assert await lease.release() is False
    assert not await t.lock(name).locked()


async def test_leases_are_renewed_in_the_background(t: AsyncTetrad, name: str) -> None:
    """A lease outlives its ttl while it is held, and lapses when it is not renewed."""
    kept = await t.lock(name, ttl=0.3).acquire()
    left = await t.lock(name + "-left", ttl=0.3, renew=False).acquire()
    until = time.monotonic() + 0.9
    await eventually(lambda: time.monotonic() > until)

    kept.check()
    assert await t.lock(name).locked()
    assert left.lost
    assert not await t.lock(name + "-left").locked()
    assert await kept.release()


async def test_a_waiter_gets_a_lapsed_lock(t: AsyncTetrad, name: str) -> None:
    """A holder that vanished blocks its waiters no longer than its lease."""
    await t.lock(name, ttl=0.4, renew=False).acquire()
    start_at = time.monotonic()
    lease = await t.lock(name).acquire(timeout=5)

    assert lease is not None
    assert 0.2 < time.monotonic() - start_at < 1.5
    assert await lease.release()


async def test_a_dead_waiter_is_passed_over(t: AsyncTetrad, name: str) -> None:
    """A queue entry that nobody listens for gets no grant."""
    async with t.lock(name):
        await t._wire.command("ZADD", key(name) + ":queue", "1", "nobody-is-there-")
        waiting = start(t.lock(name).acquire, timeout=5)
        await eventually(lambda: reached(t, name, 2))
    lease = await waiting.result()

    assert lease is not None
    assert await lease.release()
    assert await waiters(t, name) == 0


async def test_a_hold_decorates(t: AsyncTetrad, name: str) -> None:
    """Each call of a decorated function holds the lock."""

    @t.lock(name).hold(timeout=0)
    async def nightly(x: int) -> tuple[int, bool]:
        return x, await t.lock(name).locked()

    assert await nightly(3) == (3, True)
    assert await nightly(4) == (4, True)
    assert not await t.lock(name).locked()
    async with t.lock(name):
        with pytest.raises(LockTimeout):
            await nightly(5)


async def test_a_block_whose_lease_was_lost_raises(t: AsyncTetrad, name: str) -> None:
    """Leaving a block whose lease was lost raises LeaseLost unless another exception is on its way."""
    with pytest.raises(LeaseLost):
        async with t.lock(name, renew=False) as lease:
            await t._wire.command("DEL", key(name))
    assert lease.lost
    with pytest.raises(ZeroDivisionError):
        async with t.lock(name, renew=False):
            await t._wire.command("DEL", key(name))
            raise ZeroDivisionError


async def test_releasing_inside_the_block_is_fine(t: AsyncTetrad, name: str) -> None:
    """The body may give the lease back early."""
    async with t.lock(name) as lease:
        assert await lease.release()
    assert not await t.lock(name).locked()


async def test_an_acquire_after_giving_up_takes_nothing(t: AsyncTetrad, name: str) -> None:
    """A request that reaches the server after its caller gave its token back is refused."""
    from tetrad._ops import lock as ops

    await t._wire.send(ops.give_back(key(name), "t" * 16))

    assert await t._wire.send(ops.take(key(name), "t" * 16, 30_000, False)) == (0, 0, 0)
    assert not await t.lock(name).locked()


async def test_the_same_token_gets_the_same_answer(t: AsyncTetrad, name: str) -> None:
    """Replays of acquire and of release answer what the first one did."""
    from tetrad._ops import lock as ops

    first = await t._wire.send(ops.take(key(name), "t" * 16, 30_000, False))
    assert await t._wire.send(ops.take(key(name), "t" * 16, 30_000, False)) == first
    assert await t._wire.send(ops.give_back(key(name), "t" * 16)) is True
    async with t.lock(name):
        assert await t._wire.send(ops.give_back(key(name), "t" * 16)) is True


async def test_nothing_is_left_for_ever(t: AsyncTetrad, name: str) -> None:
    """Every key of a lock expires, within a minute of its last use."""
    async with t.lock(name):
        waiting = start(t.lock(name).acquire, timeout=5)
        await eventually(lambda: reached(t, name, 1))
        assert 0 < await t._wire.command("PTTL", key(name) + ":queue") <= 60_000
    lease = await waiting.result()
    await lease.release()

    assert 0 < await t._wire.command("PTTL", key(name)) <= 60_000
    assert await t._wire.command("EXISTS", key(name) + ":queue") == 0


async def test_closing_gives_leases_back(t: AsyncTetrad, name: str, url: str) -> None:
    """What a closed Tetrad still held is free for others at once."""
    async with AsyncTetrad(url) as other:
        await other.lock(name).acquire()

    assert await t.lock(name).acquire(timeout=0) is not None


@pytest.mark.parametrize("bad", ["", "a\nb", "x" * 513, "\ud800"])
async def test_bad_names_are_refused(t: AsyncTetrad, bad: str) -> None:
    """A name that cannot be one is a ValueError before anything is sent."""
    with pytest.raises(ValueError, match="lock name"):
        t.lock(bad)


@pytest.mark.parametrize("good", ["a b", "ü{x}:%", "x" * 512, "{}{}"])
async def test_any_readable_name_works(t: AsyncTetrad, good: str) -> None:
    """Braces, colons, percent signs and other scripts are names like any other."""
    async with t.lock(good) as lease:
        assert lease.name == good
        assert await t.lock(good).acquire(timeout=0) is None
