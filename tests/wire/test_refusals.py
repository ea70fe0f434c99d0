"""What a server refuses, and the errors that DESIGN promises for it, for both wires."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator

import hiredis
import pytest

from tests.servers import Server, wait_until
from tests.wire.rig import ECHO, NEVER, READ, SAFE, SPIN, Makers, count, echo
from tetrad._core.call import Call
from tetrad._core.scripts import Script
from tetrad.errors import ServerRefused, ServerTimeout, ServerUnavailable

ACL = "~tetrad:* &tetrad:* +@read +@write +@scripting +@pubsub +@connection -@dangerous +time"


@contextlib.contextmanager
def refused(code: str) -> Iterator[None]:
    with pytest.raises(ServerRefused, match=code) as caught:
        yield

    assert caught.value.code == code


def test_replica_refuses_writes(connect: Makers, own_server: Server, name: str) -> None:
    """READONLY names the cure, reads go on, and writing works again once the server is a primary."""
    wire = connect(own_server.url())
    wire.send(count(NEVER, name))

    own_server.cli("REPLICAOF", "127.0.0.1", "1")
    own_server.cli("CONFIG", "SET", "replica-serve-stale-data", "yes")
    with refused("READONLY"):
        wire.send(count(NEVER, name))
    assert wire.send(Call(READ, (name,), (), bytes)) == b"1"
    own_server.cli("REPLICAOF", "NO", "ONE")

    assert wire.send(count(NEVER, name)) == 2


def test_stale_replica_is_unavailable(connect: Makers, own_server: Server, name: str) -> None:
    """A replica without its primary that must not serve stale data (MASTERDOWN) is `ServerUnavailable`."""
    wire = connect(own_server.url())
    wire.send(echo("loaded"))

    own_server.cli("CONFIG", "SET", "replica-serve-stale-data", "no")
    own_server.cli("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(ServerUnavailable, match="MASTERDOWN"):
        wire.send(Call(READ, (name,), ("",), bytes))
    own_server.cli("REPLICAOF", "NO", "ONE")

    assert wire.send(echo("back")) == "back"


def test_full_server_refuses_writes(connect: Makers, own_server: Server, name: str) -> None:
    """OOM is `ServerRefused`; reads still work, and so do writes when there is room again."""
    wire = connect(own_server.url())
    wire.send(count(NEVER, name))

    own_server.cli("CONFIG", "SET", "maxmemory", "1mb")
    with refused("OOM"):
        wire.send(count(NEVER, name))
    assert wire.send(Call(READ, (name,), (), bytes)) == b"1"
    own_server.cli("CONFIG", "SET", "maxmemory", "0")

    assert wire.send(count(NEVER, name)) == 2


def test_user_without_the_right(connect: Makers, own_server: Server) -> None:
    """NOPERM for a key that is not the user's, and for scripts if they are forbidden."""
    own_server.cli("ACL", "SETUSER", "ann", "on", ">pw", *ACL.split())
    own_server.cli("ACL", "SETUSER", "bob", "on", ">pw", "~*", "+@all", "-@scripting")
    ann = connect(f"unix://ann:pw@{own_server.path}")
    bob = connect(f"unix://bob:pw@{own_server.path}")

    with refused("NOPERM"):
        ann.send(count(NEVER, "other:key"))
    assert ann.send(count(NEVER, "tetrad:key")) == 1
    with refused("NOPERM"):
        bob.send(count(NEVER, "tetrad:key"))


@pytest.mark.parametrize("program", [None, "redis-server"], ids=["valkey", "redis"])
def test_user_who_may_not_run_what_a_script_does(connect: Makers, program: str | None) -> None:
    """Servers word this without NOPERM; the error says all the same where the rights are written down."""
    binary = shutil.which(program) if program else None
    if program and not binary:
        pytest.skip(f"there is no {program} here")
    with Server(binary=binary) as server:
        server.cli("ACL", "SETUSER", "ann", "on", ">pw", *ACL.split(), "-time")
        ann = connect(f"unix://ann:pw@{server.path}")

        with pytest.raises(ServerRefused, match="README"):
            ann.send(Call(Script("clock", "#!lua\nreturn redis.call('TIME')"), ("tetrad:key",), (), list))


def test_user_who_may_not_load_scripts(connect: Makers, own_server: Server) -> None:
    """When SCRIPT LOAD is what is forbidden, that is what the error says, not NOSCRIPT."""
    own_server.cli("ACL", "SETUSER", "eve", "on", ">pw", "~*", "+evalsha", "+@connection")
    eve = connect(f"unix://eve:pw@{own_server.path}")

    with refused("NOPERM"):
        eve.send(echo("may I?"))


@pytest.mark.parametrize(
    ("credentials", "code"), [("", "NOAUTH"), (":wrong@", "WRONGPASS"), ("nobody:right@", "WRONGPASS")]
)
def test_wrong_password(connect: Makers, credentials: str, code: str) -> None:
    """A missing or wrong password is refused at once, without being tried again, and is not repeated in the message."""
    with Server(requirepass="right") as server:
        wire = connect(f"unix://{credentials}{server.path}")
        start = time.monotonic()
        with pytest.raises(ServerRefused) as caught:
            wire.send(echo("open"))

        assert time.monotonic() - start < 1.0
        assert caught.value.code == code
        assert "password" in str(caught.value)
        assert "the URL)" in str(caught.value)
        assert "right" not in str(caught.value)
        assert "wrong" not in str(caught.value).lower().replace("wrongpass", "")
        assert connect(f"unix://:right@{server.path}").send(echo("open")) == "open"


def test_password_taken_away(connect: Makers, own_server: Server) -> None:
    """A connection that loses its user is closed by the server; the next call says what is wrong."""
    own_server.cli("ACL", "SETUSER", "ann", "on", ">pw", *ACL.split())
    wire = connect(f"unix://ann:pw@{own_server.path}")
    assert wire.send(count(NEVER, "tetrad:key")) == 1

    own_server.cli("ACL", "DELUSER", "ann")
    time.sleep(0.02)  # longer than a connection is trusted unseen
    with pytest.raises(ServerRefused):
        wire.send(count(NEVER, "tetrad:key"))


def test_long_script_of_somebody_else(connect: Makers, own_server: Server, name: str) -> None:
    """BUSY is `ServerRefused`, or `ServerTimeout` before the server admits it; it passes when the script ends."""
    own_server.cli("CONFIG", "SET", "busy-reply-threshold", "100")
    wire = connect(own_server.url(), timeout=0.3)
    hog = connect(own_server.url(), timeout=20.0)
    wire.send(count(SAFE, name))
    hog.send(Call(SPIN, (), (1,), int))
    working = threading.Thread(target=hog.send, args=(Call(SPIN, (), (1500,), int),))
    working.start()

    seen = set()
    while working.is_alive():
        try:
            wire.send(count(NEVER, name))
        except (ServerRefused, ServerTimeout) as exc:
            seen.add(getattr(exc, "code", "timeout"))
    working.join()

    assert "BUSY" in seen
    assert seen <= {"BUSY", "timeout"}
    wait_until(lambda: wire.send(count(SAFE, name)) > 0)


def test_server_that_loads_its_data(connect: Makers, name: str) -> None:
    """LOADING is `ServerUnavailable`, and passes."""
    with Server(appendonly="yes") as server:
        fill = Script("fill", "#!lua\nfor i = 1, 20000 do redis.call('SET', KEYS[1] .. i, i) end return 1")
        wire = connect(server.url(), connect_timeout=0.2)
        wire.send(Call(fill, (name,), (), int))
        server.stop()
        server._config["key-load-delay"] = "100"  # microseconds a key
        server._answers = lambda: os.path.exists(server.path)  # type: ignore[method-assign]  # do not wait for the end
        server.start()

        def loading() -> bool:
            try:
                wire.send(count(NEVER, name))
            except ServerUnavailable as exc:
                return "load" in str(exc).lower()
            return False

        wait_until(loading, what="LOADING")
        server.cli("CONFIG", "SET", "key-load-delay", "0")
        wait_until(lambda: not loading(), what="the end of loading")
        assert wire.send(count(NEVER, name)) == 2


def test_server_with_no_room_for_clients(connect: Makers, own_server: Server) -> None:
    """MAXCLIENTS is `ServerUnavailable` after ``connect_timeout``, and passes."""
    first = connect(own_server.url())
    first.send(echo("inside"))
    own_server.cli("CONFIG", "SET", "maxclients", "1")
    wire = connect(own_server.url(), connect_timeout=0.3)

    with pytest.raises(ServerUnavailable, match="no connection to"):  # the server hangs up, often before we read why
        wire.send(echo("outside"))
    first.command("CONFIG", "SET", "maxclients", "100")

    assert wire.send(echo("inside")) == "inside"


def test_snapshot_that_fails(connect: Makers, own_server: Server, name: str) -> None:
    """MISCONF is `ServerRefused`."""
    wire = connect(own_server.url())
    wire.send(count(NEVER, name))
    own_server.cli("CONFIG", "SET", "save", "3600 1000000")
    own_server.cli("CONFIG", "SET", "rdbcompression", "no")
    (own_server.directory / "dump.rdb").mkdir()  # no file can take its place
    (own_server.directory / "dump.rdb" / "occupied").touch()

    with contextlib.suppress(hiredis.ReplyError):
        own_server.cli("BGSAVE")
    wait_until(lambda: own_server.info("persistence")["rdb_last_bgsave_status"] == "err")

    with refused("MISCONF"):
        wire.send(count(NEVER, name))


def test_too_few_replicas(connect: Makers, own_server: Server, name: str) -> None:
    """NOREPLICAS is `ServerRefused`, and passes."""
    wire = connect(own_server.url())
    own_server.cli("CONFIG", "SET", "min-replicas-to-write", "1")

    with refused("NOREPLICAS"):
        wire.send(count(NEVER, name))
    own_server.cli("CONFIG", "SET", "min-replicas-to-write", "0")

    assert wire.send(count(NEVER, name)) == 1


def test_database_that_does_not_exist(connect: Makers, own_server: Server) -> None:
    """A database that the server does not have is refused at once, in its words."""
    wire = connect(own_server.url() + "?db=99")
    start = time.monotonic()

    with pytest.raises(ServerRefused):
        wire.send(echo("open"))
    assert time.monotonic() - start < 1.0


def test_error_inside_a_script(connect: Makers, server: Server, name: str) -> None:
    """What goes wrong in a script names the key and reaches only its own caller."""
    wire = connect(server.url())
    broken = Script("broken", "#!lua\nreturn redis.call('LPUSH', KEYS[1])")

    with pytest.raises(ServerRefused) as caught:
        wire.send(Call(broken, (name,), (), int))
    assert caught.value.key == name
    assert wire.send(Call(ECHO, (), ("fine",), bytes)) == b"fine"
