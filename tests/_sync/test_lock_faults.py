# Generated from tests/_async/test_lock_faults.py by tools/unasync.py: edit that file, then run `make sync`.
"""The lock behind a bad network: lost replies, cut connections, a server that restarts or says nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests._sync.together import eventually, start
from tests.proxy import FaultProxy
from tests.servers import Server
from tetrad import LeaseLost, ServerTimeout, ServerUnavailable, Tetrad


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(server.path) as proxy:
        yield proxy


def is_free(t: Tetrad, name: str) -> bool:
    return not t.lock(name).locked()


def waiters(t: Tetrad, name: str, count: int) -> bool:
    holder = t.lock(name).holder()
    return holder is not None and holder.waiters == count


def subscriptions(t: Tetrad) -> int:
    """How many subscriptions the server has seen so far."""
    stats = t._wire.command("INFO", "commandstats").decode()
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in stats.splitlines() if "ssubscribe:" in line)


def subscribed_again(t: Tetrad, before: int) -> bool:
    return subscriptions(t) > before


def test_a_cut_reply_is_asked_for_again(t: Tetrad, name: str, proxy: FaultProxy) -> None:
    """The connection breaks behind the acquire: the same token asks again, so the lease is known and is one."""
    with Tetrad(proxy.url, timeout=2) as far:
        far.lock(name).locked()
        proxy.cut_after(1)
        lease = far.lock(name).acquire(timeout=0)

        assert lease is not None
        assert t.lock(name).holder().token == lease.token
        proxy.cut_after(1)
        assert lease.release() is True
        assert is_free(t, name)


def test_an_acquire_without_an_answer_leaves_nothing(t: Tetrad, name: str, proxy: FaultProxy) -> None:
    """No reply in time: the caller is told at once, and what the server granted is given back behind its back."""
    with Tetrad(proxy.url, timeout=0.3) as far:
        far.lock(name).locked()
        proxy.swallow()
        begun = time.monotonic()
        with pytest.raises(ServerTimeout):
            far.lock(name).acquire()

        assert time.monotonic() - begun < 1.5
        assert t.lock(name).locked()
        proxy.pass_on()
        proxy.cut()
        eventually(lambda: is_free(t, name))
        lease = far.lock(name).acquire(timeout=5)
        assert lease is not None
        assert lease.release()


def test_a_release_without_an_answer_may_be_repeated(t: Tetrad, name: str, proxy: FaultProxy) -> None:
    """The lease stays ours until the server has said otherwise; the second release gets the first one's answer."""
    with Tetrad(proxy.url, timeout=0.3) as far:
        lease = far.lock(name).acquire()
        assert lease is not None
        proxy.swallow()
        with pytest.raises(ServerTimeout):
            lease.release()
        proxy.pass_on()
        proxy.cut()

        assert lease.release() is True
        assert is_free(t, name)


def test_a_waiter_survives_a_cut_connection(t: Tetrad, name: str, proxy: FaultProxy) -> None:
    """A waiter whose connection breaks keeps its place and hears of its turn on the next one."""
    lease = t.lock(name).acquire()
    assert lease is not None
    with Tetrad(proxy.url) as far:
        waiting = start(far.lock(name).acquire, timeout=10)
        eventually(lambda: waiters(t, name, 1))
        second = start(t.lock(name).acquire, timeout=10)
        eventually(lambda: waiters(t, name, 2))
        before = subscriptions(t)
        proxy.cut()
        eventually(lambda: subscribed_again(t, before))
        assert waiters(t, name, 2)
        lease.release()
        mine = waiting.result()

        assert mine is not None
        assert not second.done()
        mine.release()
        theirs = second.result()
        assert theirs is not None
        theirs.release()


def test_a_holder_cut_off_knows_it_in_time(t: Tetrad, name: str, proxy: FaultProxy) -> None:
    """No renewal gets through: the lease is lost at its local bound, before the server gives the lock away."""
    with Tetrad(proxy.url, timeout=0.3) as far:
        lease = far.lock(name, ttl=0.6).acquire()
        assert lease is not None
        told: list[float] = []
        lease.on_lost(lambda: told.append(time.monotonic()))
        proxy.black_hole()
        next_lease = t.lock(name).acquire(timeout=5)
        granted_at = time.monotonic()

        assert next_lease is not None
        assert lease.lost
        assert told
        assert told[0] <= granted_at + 0.1
        with pytest.raises(LeaseLost):
            lease.check()
        next_lease.release()
        proxy.pass_on()
        proxy.cut()


def test_no_server_is_an_error_in_time(name: str) -> None:
    """With nobody there, acquire says so within the connect timeout, and is good again when the server is."""
    with Server() as own:
        with Tetrad(own.url("unix"), connect_timeout=0.3) as t:
            t.ping()
            own.stop()
            begun = time.monotonic()
            with pytest.raises(ServerUnavailable) as error:
                t.lock(name).acquire()

            assert time.monotonic() - begun < 2
            assert error.value.sent is False
            own.start()
            lease = t.lock(name).acquire(timeout=5)
            assert lease is not None
            assert lease.release()
