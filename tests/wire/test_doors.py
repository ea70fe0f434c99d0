"""How connections are opened, for both wires: sockets, TLS, users, and what goes over them first."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
import trustme

from tests.servers import Server, command
from tests.wire.rig import NEVER, Makers, count, door, echo
from tetrad._core.wire_async import AsyncWire
from tetrad._core.wire_sync import Wire
from tetrad.errors import ConfigurationError, ServerUnavailable

ACL = "~tetrad:* &tetrad:* +@read +@write +@scripting +@pubsub +@connection"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    """A server with TCP, TLS, a password, and the user that the documentation describes."""
    with Server(tcp=True, tls=True, requirepass="se/cr@t") as server:
        server.cli("ACL", "SETUSER", "app", "on", ">p@ss", *ACL.split())
        yield server


@pytest.mark.parametrize("scheme", ["unix", "redis", "valkey", "rediss", "valkeys"])
@pytest.mark.parametrize("user", ["default", "app"])
def test_every_kind_of_connection(connect: Makers, guarded: Server, scheme: str, user: str, name: str) -> None:
    """Calls work over unix sockets, TCP and TLS, with the password alone and as the documented user."""
    url = guarded.url(scheme)
    if user == "app":
        url = url.replace(":se%2Fcr%40t@", "app:p%40ss@")
    wire = connect(url)

    assert wire.send(count(NEVER, f"tetrad:{scheme}:{user}:{name}")) == 1
    assert wire.send(echo("x" * 300_000)) == "x" * 300_000
    assert wire.command("PING") == b"PONG"


def test_idle_tls_connection_is_used_again(connect: Makers, guarded: Server, name: str) -> None:
    """What TLS sends of its own accord does not look like a broken connection."""
    wire = connect(guarded.url("rediss"))
    wire.send(echo("first"))
    before = int(guarded.info("stats")["total_connections_received"])
    for _ in range(5):
        time.sleep(0.02)  # longer than a connection is trusted unseen
        wire.send(echo("again"))

    assert int(guarded.info("stats")["total_connections_received"]) == before + 1  # the one that asks here


def test_server_that_tls_does_not_trust(connect: Makers, guarded: Server, tmp_path: Path) -> None:
    """A certificate of another authority is refused at once, without trying for the whole ``connect_timeout``."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.crt"))
    url = guarded.url("rediss").partition("?")[0] + f"?ssl_ca_certs={tmp_path / 'other.crt'}"
    wire = connect(url, connect_timeout=10.0, timeout=10.0)
    start = time.monotonic()

    with pytest.raises(ServerUnavailable, match="(?i)certificate"):
        wire.send(echo("trust me"))
    assert time.monotonic() - start < 5.0


def test_tls_file_that_is_not_there(connect: Makers, guarded: Server) -> None:
    """A missing certificate file is an error of configuration."""
    wire = connect(guarded.url("rediss").partition("?")[0] + "?ssl_ca_certs=/nowhere/ca.crt")

    with pytest.raises(ConfigurationError, match="TLS"):
        wire.send(echo("trust me"))


def test_tls_to_a_server_that_speaks_none(connect: Makers, guarded: Server) -> None:
    """``rediss://`` to a plain port, which waits for more, fails within ``connect_timeout``."""
    wire = connect(guarded.url("redis").replace("redis:", "rediss:"), connect_timeout=0.3)
    start = time.monotonic()

    with pytest.raises(ServerUnavailable, match="does it speak TLS"):
        wire.send(echo("encrypted?"))
    assert time.monotonic() - start < 1.0


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"hello"}),
        ("?db=3", {"hello", "select"}),
        ("?client_name=web", {"hello", "client|setname"}),
    ],
)
def test_what_is_sent_at_connect(connect: Makers, own_server: Server, query: str, expected: set[str]) -> None:
    """Only HELLO, and what the URL asks for: none of redis-py's own announcements."""
    wire = connect(own_server.url() + query)
    own_server.cli("CONFIG", "RESETSTAT")

    wire.send(echo("first"))

    sent = {key.removeprefix("cmdstat_") for key in own_server.info("commandstats") if key.startswith("cmdstat_")}
    assert sent - {"config|resetstat", "evalsha", "script|load", "info"} == expected
    assert own_server.info("errorstats").keys() <= {"errorstat_NOSCRIPT"}


def test_name_and_database_arrive(connect: Makers, own_server: Server, name: str) -> None:
    """``client_name`` shows in CLIENT LIST, ``db`` decides where the keys are."""
    wire = connect(own_server.url() + "?client_name=web&db=3")
    wire.send(count(NEVER, name))

    assert b"name=web" in own_server.cli("CLIENT", "LIST")
    assert own_server.cli("GET", name) is None
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(own_server.path))
        command(sock, "SELECT", 3)
        assert command(sock, "GET", name) == b"1"


def test_redis_py_of_another_make(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """When redis-py keeps its socket elsewhere, the error names its version instead of an attribute."""

    class Connection(redis.connection.UnixDomainSocketConnection):
        def connect(self) -> None:
            super().connect()
            self.elsewhere, self._sock = self._sock, None

        def disconnect(self, *args: Any, **named: Any) -> None:
            self.elsewhere.close()

    monkeypatch.setattr(redis.connection, "UnixDomainSocketConnection", Connection)
    with pytest.raises(ConfigurationError, match=f"redis-py {redis.__version__}"):
        Wire(door(server.url())).send(echo("in vain"))


def test_redis_py_of_another_make_async(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for the async connection."""

    class Connection(redis.asyncio.connection.UnixDomainSocketConnection):
        async def connect(self) -> None:
            await super().connect()
            self.elsewhere, self._writer = self._writer, None

        async def disconnect(self, *args: Any, **named: Any) -> None:
            self.elsewhere.close()

    async def main() -> None:
        with pytest.raises(ConfigurationError, match=f"redis-py {redis.__version__}"):
            await AsyncWire(door(server.url())).send(echo("in vain"))

    monkeypatch.setattr(redis.asyncio.connection, "UnixDomainSocketConnection", Connection)
    asyncio.run(main())
