"""The blocking wire's own matters: threads, interruption, the number of connections, pushes, fork."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import pytest

from tests.proxy import FaultProxy
from tests.servers import Server, wait_until
from tests.wire.rig import NEVER, SPIN, count, door, echo
from tetrad._core import wire_sync
from tetrad._core.call import Call
from tetrad._core.wire_sync import Wire
from tetrad.errors import ServerRefused, ServerTimeout, ServerUnavailable


def clients(server: Server) -> int:
    """The connections of others than the one that asks."""
    return len(server.cli("CLIENT", "LIST").splitlines()) - 1


@pytest.fixture
def wire(own_server: Server) -> Iterator[Wire]:
    wire = Wire(door(own_server.url()))
    yield wire
    wire.close()


def test_connections_are_shared_by_threads(wire: Wire, own_server: Server) -> None:
    """A hundred threads, one after the other, use one connection; sixteen at once at most sixteen."""
    for _ in range(100):
        thread = threading.Thread(target=wire.send, args=(echo("x"),))
        thread.start()
        thread.join()
    assert clients(own_server) == 1

    def often() -> None:
        for _ in range(100):
            wire.send(echo("x"))

    threads = [threading.Thread(target=often) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clients(own_server) <= 16


def test_idle_connections_are_closed(wire: Wire, own_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that nobody has used for a while are closed, one with each call."""
    barrier = threading.Barrier(8)

    def together() -> None:
        barrier.wait()
        wire.send(Call(SPIN, (), (20,), int))

    threads = [threading.Thread(target=together) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clients(own_server) > 2

    monkeypatch.setattr(wire_sync, "IDLE_SECONDS", 0.0)
    for _ in range(10):
        wire.send(echo("x"))

    wait_until(lambda: clients(own_server) == 1)


def test_too_many_connections(own_server: Server) -> None:
    """The error names the option; a connection that only idles makes room."""
    wire = Wire(door(own_server.url() + "?max_connections=2"))
    ear = wire.listen()
    ear.wake("tetrad:a", 0)
    ear.close()
    wire.send(echo("x"))
    first, second = wire.listen(), wire.listen()
    first.wake("tetrad:a", 0)
    second.wake("tetrad:b", 0)

    with pytest.raises(ServerUnavailable, match="max_connections") as caught:
        wire.send(echo("one too many"))
    assert not caught.value.sent
    first.close()

    assert wire.send(echo("room")) == "room"
    assert clients(own_server) == 2
    second.close()
    wire.close()


def test_interrupted_call_leaves_no_reply_behind(wire: Wire, own_server: Server) -> None:
    """KeyboardInterrupt in a blocking call closes its connection; the next call gets its own reply."""
    wire.send(Call(SPIN, (), (1,), int))
    main = threading.main_thread().ident
    assert main is not None

    for offset in range(10):
        timer = threading.Timer(0.01 + offset * 0.001, signal.pthread_kill, (main, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            wire.send(Call(SPIN, (), (40,), int))
            time.sleep(1)  # in case the call was over first
        timer.join()

        assert wire.send(echo(str(offset))) == str(offset)
    wait_until(lambda: clients(own_server) == 1)


def test_signals_do_not_disturb_a_call(wire: Wire) -> None:
    """A handled signal in the middle of a call changes nothing."""
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    main = threading.main_thread().ident
    assert main is not None
    try:
        for _ in range(5):
            timer = threading.Timer(0.01, signal.pthread_kill, (main, signal.SIGUSR1))
            timer.start()
            assert wire.send(Call(SPIN, (), (50,), int)) == 1
            timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert len(heard) == 5


def test_pushes_come_in_order(wire: Wire, own_server: Server) -> None:
    """An ear gets the messages of its channel, in order; another channel's wait for their own turn in vain."""
    ear = wire.listen()
    assert ear.wake("tetrad:news", 0) is None

    for number in range(100):
        own_server.cli("SPUBLISH", "tetrad:news", number)
        own_server.cli("SPUBLISH", "tetrad:other", number)

    assert [ear.wake("tetrad:news", 5.0) for _ in range(100)] == [b"%d" % number for number in range(100)]
    start = time.monotonic()
    assert ear.wake("tetrad:news", 0.05) is None
    assert 0.04 < time.monotonic() - start < 0.5
    ear.close()


def test_wake_of_no_time_sees_what_has_arrived(wire: Wire, own_server: Server) -> None:
    """``Wake(channel, 0)`` takes a message that is already here."""
    ear = wire.listen()
    ear.wake("tetrad:news", 0)
    own_server.cli("SPUBLISH", "tetrad:news", "here")

    assert wait_until(lambda: ear.wake("tetrad:news", 0)) == b"here"
    ear.close()


def test_connection_that_listened_is_used_again(wire: Wire, own_server: Server) -> None:
    """The next ear takes over the connection of the last, without its messages."""
    for number in range(5):
        ear = wire.listen()
        assert ear.wake("tetrad:news", 0) is None
        own_server.cli("SPUBLISH", "tetrad:news", number)
        if number % 2:
            assert ear.wake("tetrad:news", 5.0) == b"%d" % number
        ear.close()

    assert clients(own_server) == 1
    wait_until(lambda: own_server.cli("PUBSUB", "SHARDCHANNELS") == [])


def test_ear_survives_a_cut_connection(own_server: Server) -> None:
    """A cut answers ``None``, the next wait subscribes again, to all channels."""
    with FaultProxy(own_server.path) as proxy:
        wire = Wire(door(proxy.url))
        ear = wire.listen()
        ear.wake("tetrad:a", 0)
        ear.wake("tetrad:b", 0)

        proxy.cut()
        assert ear.wake("tetrad:a", 5.0) is None
        assert ear.wake("tetrad:a", 5.0) is None  # subscribed again
        own_server.cli("SPUBLISH", "tetrad:b", "after")

        assert ear.wake("tetrad:b", 5.0) == b"after"
        ear.close()
        wire.close()


def test_ear_of_a_new_channel_after_a_cut(own_server: Server) -> None:
    """A first ``Wake`` of a channel has subscribed to it, even if the connection had to be renewed for it."""
    with FaultProxy(own_server.path) as proxy:
        wire = Wire(door(proxy.url))
        ear = wire.listen()
        ear.wake("tetrad:a", 0)

        proxy.cut()
        ear.wake("tetrad:b", 0)
        own_server.cli("SPUBLISH", "tetrad:b", "heard")

        assert ear.wake("tetrad:b", 5.0) == b"heard"
        ear.close()
        wire.close()


def test_ears_after_a_restart_of_the_server(wire: Wire, own_server: Server) -> None:
    """Connections that listened before a restart are replaced without an error."""
    ears = [wire.listen() for _ in range(3)]
    for ear in ears:
        ear.wake("tetrad:a", 0)
    for ear in ears:
        ear.close()
    own_server.kill()
    own_server.start()

    ear = wire.listen()
    assert ear.wake("tetrad:a", 0) is None
    own_server.cli("SPUBLISH", "tetrad:a", "news")
    assert ear.wake("tetrad:a", 5.0) == b"news"
    ear.close()


def test_ear_without_a_server(own_server: Server) -> None:
    """An ear that cannot subscribe says so, rather than answering ``None`` again and again."""
    wire = Wire(door(own_server.url(), connect_timeout=0.2))
    ear = wire.listen()
    ear.wake("tetrad:a", 0)

    own_server.kill()
    assert ear.wake("tetrad:a", 5.0) is None
    with pytest.raises(ServerUnavailable):
        ear.wake("tetrad:a", 5.0)
    ear.close()
    wire.close()


def test_channel_that_the_user_may_not_have(own_server: Server) -> None:
    """SSUBSCRIBE refused by the ACL raises, and the connection goes."""
    own_server.cli("ACL", "SETUSER", "app", "on", ">pw", "~*", "&tetrad:*", "+@all")
    wire = Wire(door(f"unix://app:pw@{own_server.path}"))
    ear = wire.listen()

    with pytest.raises(ServerRefused, match="NOPERM"):
        ear.wake("other:channel", 0)
    ear.close()
    wire.close()

    wait_until(lambda: clients(own_server) == 0)


def test_interrupted_ear_leaves_nothing(wire: Wire, own_server: Server) -> None:
    """KeyboardInterrupt while waiting for a push closes that connection."""
    ear = wire.listen()
    ear.wake("tetrad:a", 0)
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()

    with pytest.raises(KeyboardInterrupt):
        ear.wake("tetrad:a", 10.0)
    ear.close()

    wait_until(lambda: clients(own_server) == 0)
    timer.join()


def test_mute_subscription_is_a_timeout(own_server: Server) -> None:
    """A subscription that nobody confirms raises in time, and its connection is not used again."""
    with FaultProxy(own_server.path) as proxy:
        wire = Wire(door(proxy.url, timeout=0.2))
        ear = wire.listen()
        ear.wake("tetrad:a", 0)

        proxy.swallow()
        with pytest.raises(ServerTimeout):
            ear.wake("tetrad:b", 0)
        proxy.pass_on()
        ear.close()

        assert wire.send(echo("on")) == "on"
        wait_until(lambda: proxy.connections == 1)
        wire.close()


def _child(wire: Wire, name: str, answers: Pipe) -> None:
    answers.send([wire.send(count(NEVER, name)) for _ in range(10)])
    answers.close()


def test_forked_child_opens_its_own(wire: Wire, own_server: Server, name: str) -> None:
    """After `fork` parent and child use connections of their own and get their own answers."""
    wire.send(count(NEVER, name))
    ear = wire.listen()
    ear.wake("tetrad:a", 0)
    receiving, sending = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_child, args=(wire, name, sending))
    child.start()
    mine = [wire.send(count(NEVER, name)) for _ in range(10)]
    theirs = receiving.recv()
    child.join()

    assert sorted(mine + theirs) == list(range(2, 22))
    own_server.cli("SPUBLISH", "tetrad:a", "still here")
    assert ear.wake("tetrad:a", 5.0) == b"still here"
    ear.close()
    sending.close()
    receiving.close()


def sockets() -> set[str]:
    """The sockets that this process has open."""
    links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return {link for link in links if link.startswith("socket:")}


def test_fork_in_the_middle_of_calls(wire: Wire, own_server: Server) -> None:
    """Forks while other threads call disturb nobody, and the child holds no connection of theirs."""
    before = sockets()
    stop = threading.Event()
    turns = [0] * 4
    wrong: list[str] = []

    def busy(number: int) -> None:
        while not stop.is_set():
            tag = f"{number}-{turns[number]}"
            if wire.send(echo(tag)) != tag:
                wrong.append(tag)
            turns[number] += 1

    threads = [threading.Thread(target=busy, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: min(turns) > 10)
    codes = []
    for _ in range(10):
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(0 if sockets() <= before and wire.send(echo("child")) == "child" else 1)
            except BaseException:
                os._exit(2)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    stop.set()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert codes == [0] * 10


def test_close_waits_for_clean_ups(wire: Wire, own_server: Server, name: str) -> None:
    """What is still being cleaned up when the wire is closed gets its connection."""
    results: list[int] = []

    def clean_up() -> None:
        time.sleep(0.1)
        results.append(wire.send(count(NEVER, name)))

    thread = threading.Thread(target=clean_up)
    thread.start()
    wire.keep(thread)
    wire.close()

    assert results == [1]
    assert clients(own_server) == 0
