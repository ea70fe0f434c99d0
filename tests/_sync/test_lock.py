# Generated from tests/_async/test_lock.py by tools/unasync.py: edit that file, then run `make sync`.
"""The exclusive lock on a real server."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from tests._sync.together import eventually, start
from tetrad import LeaseLost, LockTimeout, Tetrad


def key(name: str) -> str:
    return f"tetrad:lock:{{{name}}}"


def waiters(t: Tetrad, name: str) -> int:
    holder = t.lock(name).holder()
    return holder.waiters if holder else 0


def test_acquire_and_release(t: Tetrad, name: str) -> None:
    """A lease has what its holder needs, and is over when it was given back."""
    lease = t.lock(name, ttl=10).acquire()

    assert lease is not None
    assert (lease.name, lease.ttl, lease.lost) == (name, 10, False)
    assert 9 < lease.expires_in <= 10
    lease.check()
    assert t.lock(name).locked()
    assert lease.release() is True
    assert lease.release() is False
    assert lease.expires_in == 0
    assert not t.lock(name).locked()
    with pytest.raises(LeaseLost, match="given back"):
        lease.check()


def test_a_held_lock_is_none(t: Tetrad, name: str) -> None:
    """No is a value: trying once, or for a while, answers None."""
    with t.lock(name):
        assert t.lock(name).acquire(timeout=0) is None
        assert t.lock(name).acquire(timeout=timedelta()) is None
        start_at = time.monotonic()
        assert t.lock(name).acquire(timeout=0.2) is None
        assert 0.2 <= time.monotonic() - start_at < 2
        assert waiters(t, name) == 0


def test_hold_raises_lock_timeout(t: Tetrad, name: str) -> None:
    """A with block cannot be skipped, so it raises, naming the lock."""
    with t.lock(name).hold():
        with pytest.raises(LockTimeout, match=name) as error:
            with t.lock(name).hold(timeout=0.05):
                pytest.fail("entered a held lock")

    assert error.value.key == name
    assert isinstance(error.value, TimeoutError)


def test_fences_grow(t: Tetrad, name: str) -> None:
    """Each acquisition of a name has a larger fence than all before."""
    fences = []
    for _ in range(20):
        with t.lock(name) as lease:
            fences.append(lease.fence)

    assert fences == sorted(set(fences))


def test_fences_grow_when_the_clock_is_behind_the_counter(t: Tetrad, name: str) -> None:
    """The counter decides when the server's clock has stepped back."""
    ahead = time.time_ns() // 1000 + 3_600_000_000
    t._wire.command("HSET", key(name), "fence", str(ahead))

    with t.lock(name) as lease:
        assert lease.fence == ahead + 1


def test_the_lock_is_handed_over_in_order(t: Tetrad, name: str) -> None:
    """Waiters get the lock in the order of asking, each by one push."""
    order: list[int] = []

    def wait(number: int) -> None:
        with t.lock(name).hold(timeout=10):
            order.append(number)

    running = []
    with t.lock(name):
        for number in range(8):
            running.append(start(wait, number))
            eventually(lambda number=number: reached(t, name, number + 1))
    for one in running:
        one.result()

    assert order == list(range(8))


def reached(t: Tetrad, name: str, count: int) -> bool:
    return waiters(t, name) == count


def test_waiting_does_not_poll(t: Tetrad, name: str) -> None:
    """While twenty wait, the server hears nothing from them."""

    def wait() -> int:
        with t.lock(name).hold(timeout=20) as lease:
            return lease.fence

    with t.lock(name):
        running = [start(wait) for _ in range(20)]
        eventually(lambda: reached(t, name, 20))
        before = calls(t)
        until = time.monotonic() + 0.5
        eventually(lambda: time.monotonic() > until)
        after = calls(t)
    served = [one.result() for one in running]

    assert after - before == 0
    assert len(set(served)) == 20


def calls(t: Tetrad) -> int:
    """How many scripts the server has run."""
    stats = t._wire.command("INFO", "commandstats").decode()
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in stats.splitlines() if "evalsha:" in line)


def test_uncontended_operations_are_one_command_each(t: Tetrad, name: str) -> None:
    """acquire, renew, release, holder: one script call each, nothing else."""
    lock = t.lock(name)
    lease = lock.acquire()
    lease.renew()
    lock.holder()
    lease.release()
    for operation in ("acquire", "renew", "holder", "release"):
        before = commands(t)
        if operation == "acquire":
            lease = lock.acquire(timeout=3)
        elif operation == "holder":
            lock.holder()
        elif operation == "renew":
            lease.renew()
        else:
            lease.release()
        after = commands(t)

        assert after - before == {"cmdstat_evalsha": 1, "cmdstat_info": 1}, operation


class Commands(dict[str, int]):
    def __sub__(self, other: Commands) -> dict[str, int]:
        return {name: count - other.get(name, 0) for name, count in self.items() if count != other.get(name, 0)}


def commands(t: Tetrad) -> Commands:
    """Calls by command, those inside scripts left out."""
    stats = t._wire.command("INFO", "commandstats").decode()
    counts = Commands()
    for line in stats.splitlines():
        name, _, rest = line.partition(":")
        if name in ("cmdstat_evalsha", "cmdstat_info", "cmdstat_ssubscribe", "cmdstat_script|load", "cmdstat_ping"):
            counts[name] = int(rest.split("calls=")[1].split(",")[0])
    return counts


def test_one_instance_many_owners(t: Tetrad, name: str) -> None:
    """A shared instance never releases somebody else's lease."""
    lock = t.lock(name)
    first = lock.acquire()
    waiting = start(lock.acquire, timeout=10)
    eventually(lambda: reached(t, name, 1))
    assert first.release()
    second = waiting.result()

    assert first.release() is False
    assert lock.holder().token == second.token
    assert second.release()


def test_a_deleted_key_is_a_loss(t: Tetrad, name: str) -> None:
    """A lease whose key is gone is lost: renew says so, and nothing is created."""
    lease = t.lock(name).acquire()
    t._wire.command("DEL", key(name))
    told: list[str] = []
    lease.on_lost(lambda: told.append(lease.name))

    with pytest.raises(LeaseLost) as error:
        lease.renew()
    assert error.value.fence == lease.fence
    assert (lease.lost, told) == (True, [name])
    assert lease.release() is False
    assert not t.lock(name).locked()


def test_leases_are_renewed_in_the_background(t: Tetrad, name: str) -> None:
    """A lease outlives its ttl while it is held, and lapses when it is not renewed."""
    kept = t.lock(name, ttl=0.3).acquire()
    left = t.lock(name + "-left", ttl=0.3, renew=False).acquire()
    until = time.monotonic() + 0.9
    eventually(lambda: time.monotonic() > until)

    kept.check()
    assert t.lock(name).locked()
    assert left.lost
    assert not t.lock(name + "-left").locked()
    assert kept.release()


def test_a_waiter_gets_a_lapsed_lock(t: Tetrad, name: str) -> None:
    """A holder that vanished blocks its waiters no longer than its lease."""
    t.lock(name, ttl=0.4, renew=False).acquire()
    start_at = time.monotonic()
    lease = t.lock(name).acquire(timeout=5)

    assert lease is not None
    assert 0.2 < time.monotonic() - start_at < 1.5
    assert lease.release()


def test_a_dead_waiter_is_passed_over(t: Tetrad, name: str) -> None:
    """A queue entry that nobody listens for gets no grant."""
    with t.lock(name):
        t._wire.command("ZADD", key(name) + ":queue", "1", "nobody-is-there-")
        waiting = start(t.lock(name).acquire, timeout=5)
        eventually(lambda: reached(t, name, 2))
    lease = waiting.result()

    assert lease is not None
    assert lease.release()
    assert waiters(t, name) == 0


def test_a_hold_decorates(t: Tetrad, name: str) -> None:
    """Each call of a decorated function holds the lock."""

    @t.lock(name).hold(timeout=0)
    def nightly(x: int) -> tuple[int, bool]:
        return x, t.lock(name).locked()

    assert nightly(3) == (3, True)
    assert nightly(4) == (4, True)
    assert not t.lock(name).locked()
    with t.lock(name):
        with pytest.raises(LockTimeout):
            nightly(5)


def test_a_block_whose_lease_was_lost_raises(t: Tetrad, name: str) -> None:
    """Leaving a block whose lease was lost raises LeaseLost unless another exception is on its way."""
    with pytest.raises(LeaseLost):
        with t.lock(name, renew=False) as lease:
            t._wire.command("DEL", key(name))
    assert lease.lost
    with pytest.raises(ZeroDivisionError):
        with t.lock(name, renew=False):
            t._wire.command("DEL", key(name))
            raise ZeroDivisionError


def test_releasing_inside_the_block_is_fine(t: Tetrad, name: str) -> None:
    """The body may give the lease back early."""
    with t.lock(name) as lease:
        assert lease.release()
    assert not t.lock(name).locked()


def test_an_acquire_after_giving_up_takes_nothing(t: Tetrad, name: str) -> None:
    """A request that reaches the server after its caller gave its token back is refused."""
    from tetrad._ops import lock as ops

    t._wire.send(ops.give_back(key(name), "t" * 16))

    assert t._wire.send(ops.take(key(name), "t" * 16, 30_000, False)) == (0, 0, 0)
    assert not t.lock(name).locked()


def test_the_same_token_gets_the_same_answer(t: Tetrad, name: str) -> None:
    """Replays of acquire and of release answer what the first one did."""
    from tetrad._ops import lock as ops

    first = t._wire.send(ops.take(key(name), "t" * 16, 30_000, False))
    assert t._wire.send(ops.take(key(name), "t" * 16, 30_000, False)) == first
    assert t._wire.send(ops.give_back(key(name), "t" * 16)) is True
    with t.lock(name):
        assert t._wire.send(ops.give_back(key(name), "t" * 16)) is True


def test_nothing_is_left_for_ever(t: Tetrad, name: str) -> None:
    """Every key of a lock expires, within a minute of its last use."""
    with t.lock(name):
        waiting = start(t.lock(name).acquire, timeout=5)
        eventually(lambda: reached(t, name, 1))
        assert 0 < t._wire.command("PTTL", key(name) + ":queue") <= 60_000
    lease = waiting.result()
    lease.release()

    assert 0 < t._wire.command("PTTL", key(name)) <= 60_000
    assert t._wire.command("EXISTS", key(name) + ":queue") == 0


def test_closing_gives_leases_back(t: Tetrad, name: str, url: str) -> None:
    """What a closed Tetrad still held is free for others at once."""
    with Tetrad(url) as other:
        other.lock(name).acquire()

    assert t.lock(name).acquire(timeout=0) is not None


@pytest.mark.parametrize("bad", ["", "a\nb", "x" * 513, "\ud800"])
def test_bad_names_are_refused(t: Tetrad, bad: str) -> None:
    """A name that cannot be one is a ValueError before anything is sent."""
    with pytest.raises(ValueError, match="lock name"):
        t.lock(bad)


@pytest.mark.parametrize("good", ["a b", "ü{x}:%", "x" * 512, "{}{}"])
def test_any_readable_name_works(t: Tetrad, good: str) -> None:
    """Braces, colons, percent signs and other scripts are names like any other."""
    with t.lock(good) as lease:
        assert lease.name == good
        assert t.lock(good).acquire(timeout=0) is None
