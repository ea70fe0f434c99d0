"""What networks and servers do to a call, for both wires: each test runs blocking, on asyncio and on uvloop."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.proxy import FaultProxy
from tests.servers import Server, wait_until
from tests.wire.rig import NEVER, READ, SAFE, Makers, count, echo
from tetrad._core.call import Call
from tetrad.errors import ServerRefused, ServerTimeout, ServerUnavailable, TetradError


@contextmanager
def lasting(least: float, most: float) -> Iterator[None]:
    """The body takes at least *least* and at most *most* seconds; a busy machine is given half a second more."""
    start = time.monotonic()
    yield
    took = time.monotonic() - start

    assert least <= took < most + 0.5


def value(server: Server, key: str) -> int:
    return int(server.cli("GET", key) or 0)


def test_lost_reply_is_a_timeout_and_nothing_is_sent_twice(
    connect: Makers, server: Server, proxy: FaultProxy, name: str
) -> None:
    """A script that may not be replayed has run exactly once when its reply is lost, and the caller knows in time."""
    wire = connect(proxy.url, timeout=0.3)
    assert wire.send(count(NEVER, name)) == 1

    proxy.swallow()
    with lasting(0.25, 0.4), pytest.raises(ServerTimeout):
        wire.send(count(NEVER, name))
    proxy.pass_on()

    assert value(server, name) == 2
    wait_until(lambda: _answers(wire), what="the recovery")


@pytest.mark.parametrize("bytes_of_reply", [0, 1, 3, 1000])
def test_connection_cut_in_mid_reply(
    connect: Makers, server: Server, proxy: FaultProxy, name: str, bytes_of_reply: int
) -> None:
    """A safe script is answered by a second attempt, the other raises and has run once."""
    wire = connect(proxy.url)
    server.cli("SET", name + ":text", "x" * 5000)
    read = Call(READ, (name + ":text",), (), bytes)
    assert wire.send(read) == b"x" * 5000
    wire.send(count(NEVER, name))

    proxy.cut_after(bytes_of_reply)
    assert wire.send(read) == b"x" * 5000
    proxy.cut_after(min(bytes_of_reply, 2))
    with pytest.raises(ServerUnavailable) as caught:
        wire.send(count(NEVER, name))

    assert caught.value.sent
    assert value(server, name) == 2
    assert wire.send(count(NEVER, name)) == 3


def test_black_hole_is_an_error_in_time_and_passes_by_itself(
    connect: Makers, server: Server, proxy: FaultProxy, name: str
) -> None:
    """Every call fails within its timeout while nothing comes back; afterwards calls work again without help."""
    wire = connect(proxy.url, timeout=0.3, connect_timeout=0.3)
    assert wire.send(echo("before")) == "before"

    proxy.black_hole()
    for _ in range(4):
        with lasting(0.0, 0.7), pytest.raises(TetradError) as caught:
            wire.send(count(NEVER, name))
        assert isinstance(caught.value, (ServerTimeout, ServerUnavailable))
    proxy.pass_on()

    wait_until(lambda: _answers(wire), what="the recovery")
    assert value(server, name) <= 4


def test_short_timeout_of_one_call(connect: Makers, proxy: FaultProxy) -> None:
    """A call's own timeout holds for it alone."""
    wire = connect(proxy.url)
    wire.send(echo("open"))

    proxy.delay(0.3)
    with lasting(0.05, 0.15), pytest.raises(ServerTimeout):
        wire.send(echo("hasty", timeout=0.05))
    assert wire.send(echo("patient")) == "patient"


def test_late_reply_never_reaches_another_call(connect: Makers, proxy: FaultProxy) -> None:
    """Thousands of tagged calls with random delays and deadlines: each gets its own tag or its own error."""
    wire = connect(proxy.url, timeout=2.0)
    dice = random.Random(7)
    proxy.delay(lambda: dice.choice([0.0, 0.0, 0.0, 0.002, 0.01, 0.03]))
    wrong: list[tuple[str, str]] = []
    answered = [0] * 8

    def caller(number: int) -> None:
        chance = random.Random(number)
        for turn in range(300):
            tag = f"{number}-{turn}"
            try:
                answer = wire.send(echo(tag, timeout=chance.choice([0.002, 0.01, 0.05, 1.0])))
            except (ServerTimeout, ServerUnavailable):
                continue
            answered[number] += 1
            if answer != tag:
                wrong.append((tag, answer))

    callers = [threading.Thread(target=caller, args=(n,)) for n in range(len(answered))]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()

    assert wrong == []
    assert sum(answered) > 100


def test_server_killed_and_restarted_between_two_calls(connect: Makers, own_server: Server, name: str) -> None:
    """The second call surfaces no error, even one that may not be replayed and comes right after the restart."""
    wire = connect(own_server.url())
    for _ in range(3):
        assert wire.send(count(NEVER, name)) == 1

        own_server.kill()
        own_server.start()


def test_server_killed_and_restarted_over_tcp(connect: Makers, name: str) -> None:
    """The same over TCP, where sending into a closed connection seems to work."""
    with Server(tcp=True) as server:
        wire = connect(server.url("redis"))
        for _ in range(3):
            assert wire.send(count(NEVER, name)) == 1

            server.kill()
            server.start()


def test_call_while_the_server_restarts_waits_for_it(connect: Makers, own_server: Server, name: str) -> None:
    """A call that finds no server gets its answer when the server is back within ``connect_timeout``."""
    wire = connect(own_server.url(), connect_timeout=10.0, timeout=10.0)
    wire.send(count(SAFE, name))

    own_server.kill()
    back = threading.Timer(0.2, own_server.start)
    back.start()

    assert wire.send(count(NEVER, name)) == 1
    back.join()


def test_server_gone(connect: Makers, own_server: Server, name: str) -> None:
    """Without a server each call raises `ServerUnavailable` within ``connect_timeout``; nothing was sent."""
    wire = connect(own_server.url(), connect_timeout=0.3)
    wire.send(echo("before"))

    own_server.kill()
    for call in (count(SAFE, name), count(NEVER, name)):
        with lasting(0.1, 0.4), pytest.raises(ServerUnavailable, match=str(own_server.path)) as caught:
            wire.send(call)
        assert not caught.value.sent
    own_server.start()

    assert wire.send(count(NEVER, name)) == 1


def test_server_that_refuses_connections(connect: Makers, proxy: FaultProxy) -> None:
    """Refused connections are tried again for ``connect_timeout``; then the error says where."""
    proxy.refuse()
    wire = connect(proxy.url, connect_timeout=0.3)

    with lasting(0.1, 0.4), pytest.raises(ServerUnavailable, match="no connection to"):
        wire.send(echo("anybody?"))
    proxy.pass_on()
    assert wire.send(echo("there")) == "there"


def test_server_that_accepts_and_says_nothing(connect: Makers, proxy: FaultProxy) -> None:
    """A connection that is accepted and then ignored costs ``connect_timeout``, not for ever."""
    proxy.black_hole()
    wire = connect(proxy.url, connect_timeout=0.3)

    with lasting(0.2, 0.6), pytest.raises(ServerUnavailable, match="within"):
        wire.send(echo("anybody?"))
    proxy.pass_on()
    assert wire.send(echo("there")) == "there"


def test_something_that_is_no_server(connect: Makers) -> None:
    """A program that speaks another language is an error of ours, not one of the parser's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.recv(1000)
                    client.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        threading.Thread(target=serve, daemon=True).start()
        wire = connect(f"redis://127.0.0.1:{listener.getsockname()[1]}", connect_timeout=0.3)

        with pytest.raises(ServerUnavailable):
            wire.send(echo("redis?"))
        listener.shutdown(socket.SHUT_RDWR)


def test_paused_server_goes_on(connect: Makers, own_server: Server, name: str) -> None:
    """A server that stops running is a timeout; when it runs again so do we, and nothing has run twice."""
    wire = connect(own_server.url(), timeout=0.3, connect_timeout=0.3)
    assert wire.send(count(NEVER, name)) == 1

    own_server.pause()
    with lasting(0.2, 0.7), pytest.raises(ServerTimeout):
        wire.send(count(NEVER, name))
    own_server.resume()

    wait_until(lambda: _answers(wire), what="the recovery")
    assert value(own_server, name) in (1, 2)


def test_forgotten_scripts_are_loaded_again(connect: Makers, server: Server, name: str) -> None:
    """After SCRIPT FLUSH a call costs two more commands and surfaces nothing."""
    wire = connect(server.url())
    assert wire.send(count(NEVER, name)) == 1

    server.cli("SCRIPT", "FLUSH", "SYNC")

    assert wire.send(count(NEVER, name)) == 2
    assert wire.send(count(NEVER, name)) == 3


def test_scripts_forgotten_all_the_time(connect: Makers, server: Server) -> None:
    """Eight callers go on while somebody flushes the scripts again and again; the rare error is the server's own."""
    wire = connect(server.url())
    stop = threading.Event()
    results: list[object] = []

    def caller(number: int) -> None:
        while not stop.is_set():
            try:
                results.append(wire.send(echo(f"{number}")) == f"{number}")
            except ServerRefused as exc:
                results.append(exc.code == "NOSCRIPT")

    callers = [threading.Thread(target=caller, args=(n,)) for n in range(8)]
    for thread in callers:
        thread.start()
    for _ in range(30):
        server.cli("SCRIPT", "FLUSH", "SYNC")
    stop.set()
    for thread in callers:
        thread.join()

    assert all(results)


def test_closed_wire_says_so(connect: Makers, server: Server) -> None:
    """After closing, calls raise at once; closing again is no error."""
    wire = connect(server.url())
    wire.send(echo("open"))
    inner = getattr(wire, "wire", wire)
    inner.close() if connect.flavour == "threads" else wire.do(inner.aclose())  # type: ignore[attr-defined]

    with lasting(0.0, 0.1), pytest.raises(ServerUnavailable, match="closed"):
        wire.send(echo("closed"))


def test_nothing_stays_open(connect: Makers, own_server: Server, name: str) -> None:
    """When the wires are closed the server has no connection of theirs left, whatever happened to them."""
    with FaultProxy(own_server.path) as proxy:
        wire = connect(proxy.url, timeout=0.2)
        for trouble in (lambda: proxy.cut_after(2), proxy.swallow, proxy.pass_on):
            trouble()
            try:
                wire.send(count(SAFE, name))
            except (ServerTimeout, ServerUnavailable):
                pass
        proxy.pass_on()
        wait_until(lambda: _answers(wire))
        inner = getattr(wire, "wire", wire)
        inner.close() if connect.flavour == "threads" else wire.do(inner.aclose())  # type: ignore[attr-defined]

        wait_until(lambda: proxy.connections == 0, what="the end of every connection")
        wait_until(lambda: len(own_server.cli("CLIENT", "LIST").splitlines()) == 1, what="an empty server")


def _answers(wire: object) -> bool:
    try:
        return wire.send(echo("again", timeout=1.0)) == "again"  # type: ignore[attr-defined, no-any-return]
    except (ServerTimeout, ServerUnavailable):
        return False
