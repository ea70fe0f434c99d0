"""Keeps one embedded server alive for as long as a process uses its directory. A program, not a module to import.

    python -I -S supervisor.py DIRECTORY SERVER DURABILITY GRACE keep|remove

It is started by path and uses the standard library only, so that it stays small: it imports nothing
of Tetrad. Everything happens in DIRECTORY, its working directory, by `flock` on these files:

    start           held by whoever starts or stops the server
    users           held, shared, by each user process; the last one to go lets us have it exclusively
    supervisor.pid  held by us for as long as we live; says our process id, its namespace, the durability
    server.pid      held by the server and its children, which inherit the descriptor; says its process id
    pinned          exists while the server should stay without users (``tetrad up``)

Rules. The server is forked by the main thread, whose end (even by ``kill -9``) ends the server through
PR_SET_PDEATHSIG on Linux; elsewhere our successor ends it by ``server.pid``. No server starts before
the last one, with its children, let go of ``server.pid``: two would destroy the data. The first answer
goes to standard output, for the process that started us: ``ready``, or an error's kind and text.
"""

from __future__ import annotations

import _thread
import contextlib
import fcntl
import os
import select
import signal
import socket
import sys
import time

SOCKET, LOG = "server.sock", "server.log"
MANIFEST = "appendonlydir/appendonly.aof.manifest"

START_SECONDS = 10.0  # for the server to answer at all
LOADING_SECONDS = 1.0  # a server that loads for longer than this is announced as it is
CONVERT_SECONDS = 600.0  # for one kind of persistence to be turned into another
SAVE_SECONDS = 60.0  # for a server to save its snapshot and stop; one that answers again has refused
STOP_SECONDS = 10.0  # for one that has nothing to save: its AOF is complete
QUICK_SECONDS, QUICK_DEATHS = 2.0, 6  # so many deaths in a row, each so soon after the start, and we give up
LOG_BYTES = 1_000_000

# What each durability tells a server that runs: where AOF is on, it is the truth; else it is dump.rdb.
DURABILITY = {
    "always": {"appendonly": "yes", "appendfsync": "always", "save": ""},
    "second": {"appendonly": "yes", "appendfsync": "everysec", "save": ""},
    "snapshot": {"appendonly": "no", "appendfsync": "everysec", "save": "60 1"},
    "none": {"appendonly": "no", "appendfsync": "everysec", "save": ""},
}


class Failed(Exception):
    """The server cannot run; ``kind`` is ``configuration`` or ``unavailable``."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def log(text: str) -> None:
    """A line in the server's log, which is our standard error."""
    stamp = time.strftime("%d %b %Y %H:%M:%S")
    with contextlib.suppress(OSError):  # a full disk must not end us
        os.write(2, f"{os.getpid()}:supervisor {stamp} {text}\n".encode(errors="replace"))


def lock(name: str, seconds: float) -> int | None:
    """A descriptor of the file *name* that holds it exclusively, or None when *seconds* did not suffice."""
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(fd)
                return None
        time.sleep(0.002)


def namespace() -> str:
    """What tells process ids of one container from those of another."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return "-"


def sign(fd: int, *words: str) -> None:
    """Write our process id and *words* into the locked file *fd*."""
    os.ftruncate(fd, 0)
    os.pwrite(fd, " ".join([str(os.getpid()), namespace(), *words]).encode() + b"\n", 0)


def unlink(name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name)


def ask(*words: str) -> str:
    """One command to the server: the reply as text, without its type; `OSError` if there is no answer."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(CONVERT_SECONDS if words[0] == "SAVE" else 2.0)
        sock.connect(SOCKET)
        parts = [f"*{len(words)}\r\n"] + [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
        sock.sendall("".join(parts).encode())
        with sock.makefile("rb") as stream:
            line = stream.readline()
            if line.startswith(b"$"):
                return stream.read(int(line[1:])).decode(errors="replace")
            if not line.endswith(b"\r\n"):
                raise ConnectionError("the server closed the connection")
            return line[1:-2].decode(errors="replace")


def field(section: str, name: str) -> str:
    """One field of the server's INFO."""
    for line in ask("INFO", section).splitlines():
        if line.startswith(name + ":"):
            return line.partition(":")[2]
    return ""


class Server:
    """The child process."""

    def __init__(self, binary: str, durability: str) -> None:
        self.binary, self.durability = binary, durability
        self.pid = 0
        self.status: int | None = None
        self.started = 0.0
        self.prctl = None
        if sys.platform == "linux":
            import ctypes

            self.prctl = ctypes.CDLL(None).prctl

    def start(self) -> None:
        """Start it and wait until it answers; `Failed` says why it does not."""
        held = lock("server.pid", 0.5) or self._end_predecessor()
        offset = os.fstat(2).st_size
        wanted = DURABILITY[self.durability]
        before = dict(wanted)
        # What is there decides how it is loaded; it is turned into what is wanted afterwards.
        if os.path.exists(MANIFEST):
            before["appendonly"] = "yes"
        elif os.path.exists("dump.rdb"):
            before["appendonly"] = "no"
        self._fork(held, before)
        os.close(held)  # from here on it is the server's alone
        convert = before["appendonly"] != wanted["appendonly"]
        self._wait_for_answer(offset, CONVERT_SECONDS if convert else LOADING_SECONDS)
        if convert:
            self._convert(wanted)

    def _fork(self, held: int, options: dict[str, str]) -> None:
        arguments = [
            *("--port", "0", "--unixsocket", os.path.join(os.getcwd(), SOCKET), "--unixsocketperm", "700"),
            *("--dir", os.getcwd(), "--daemonize", "no", "--maxmemory-policy", "noeviction", "--loglevel", "warning"),
        ]
        for name, value in options.items():
            arguments += [f"--{name}", value]
        unlink(SOCKET)
        parent = os.getpid()
        self.status, self.started = None, time.monotonic()
        self.pid = os.fork()
        if self.pid:
            return
        try:
            os.setpgid(0, 0)  # with its children it can be ended as a group
            if self.prctl is not None:
                self.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
                if os.getppid() != parent:
                    os._exit(1)
            sign(held)
            os.set_inheritable(held, True)
            os.dup2(2, 1)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            os.execv(self.binary, [self.binary, *arguments])
        except BaseException as exc:
            log(f"{self.binary} cannot be run: {exc}")
        finally:
            os._exit(127)

    def _wait_for_answer(self, offset: int, loading_seconds: float) -> None:
        answered = 0.0
        while True:
            now = time.monotonic()
            if self.ended():
                raise self._failure(offset)
            try:
                answer = ask("PING")
            except OSError:
                answer = ""
            if answer == "PONG":
                return
            if answer.startswith("LOADING"):
                answered = answered or now
                if now - answered > loading_seconds:
                    return
            elif now - self.started > START_SECONDS and not answered:
                self.kill()
                raise Failed("unavailable", f"the server did not answer within {START_SECONDS:g} s")
            time.sleep(0.001)

    def _failure(self, offset: int) -> Failed:
        """Why it ended by itself, from what it wrote to the log since *offset*."""
        with open(LOG, "rb") as stream:
            stream.seek(offset)
            text = stream.read()[-4000:].decode(errors="replace").strip()
        if writer := self._newer_writer(text):
            return Failed(
                "configuration",
                f"{os.getcwd()} was written by {writer}, which {self.binary} cannot read; "
                "use that server again, or another directory",
            )
        status = self.status or 0
        how = f"exit status {status}" if status >= 0 else f"signal {-status}"
        space = os.statvfs(".")
        if space.f_bavail == 0 or "No space left on device" in text:
            return Failed("unavailable", f"no space left on the disk of {os.getcwd()}: the server cannot start")
        tail = "\n  ".join(text.splitlines()[-6:]) or "(empty)"
        return Failed("unavailable", f"{self.binary} did not start in {os.getcwd()} ({how}). Its log:\n  {tail}")

    def _newer_writer(self, text: str) -> str | None:
        """The server that wrote the files, if it is newer than ours, or another product."""
        if os.path.exists("version"):
            with open("version") as stream:
                writer = stream.read(100).split()
            import shlex

            with os.popen(f"{shlex.quote(self.binary)} --version") as stream:
                ours = stream.read().replace(" server v=", " ").split()
            if len(writer) == 2 and len(ours) > 1 and ours[0] in ("Valkey", "Redis"):
                if writer[0] != ours[0]:
                    return " ".join(writer)
                if [int(n) for n in writer[1].split(".")] > [int(n) for n in ours[1].split(".")]:
                    return f"the newer {' '.join(writer)}"
        if "Can't handle RDB format version" in text:
            return "a newer server"
        return None

    def _convert(self, wanted: dict[str, str]) -> None:
        """From a snapshot to AOF or back, so that no choice of durability ever hides what another one stored."""
        log(f"turning the data into durability {self.durability}")
        if wanted["appendonly"] == "yes":
            self._must(ask("CONFIG", "SET", "appendonly", "yes"))
            until = time.monotonic() + CONVERT_SECONDS
            while not os.path.exists(MANIFEST) or field("persistence", "aof_rewrite_in_progress") != "0":
                self._must(field("persistence", "aof_last_bgrewrite_status"), "ok")
                if time.monotonic() > until:
                    self._must(f"not done after {CONVERT_SECONDS:g} s")
                time.sleep(0.002)
            unlink("dump.rdb")
            return
        if self.durability == "snapshot":
            self._must(ask("SAVE"))
        self._must(ask("CONFIG", "SET", "appendonly", "no"))
        if self.durability == "snapshot":
            unlink(MANIFEST)  # first: without it the other files mean nothing
            for name in os.listdir("appendonlydir"):
                unlink(f"appendonlydir/{name}")
            os.rmdir("appendonlydir")

    def _must(self, answer: str, expected: str = "OK") -> None:
        if answer != expected:
            what = f"the data in {os.getcwd()} could not be turned into durability {self.durability}"
            raise Failed("unavailable", f"{what}: {answer}")

    def ended(self) -> bool:
        """Whether it ended; ``status`` is its exit status then, or minus a signal."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
                self._kill_group(self.pid)  # its children: a save that goes on would overwrite newer data
        return self.status is not None

    def stop(self) -> None:
        """Let it save and end."""
        if self.ended():
            return
        os.kill(self.pid, signal.SIGTERM)
        until = time.monotonic() + (SAVE_SECONDS if self.durability == "snapshot" else STOP_SECONDS)
        refused = time.monotonic() + 2.0
        while not self.ended():
            now = time.monotonic()
            if (now > refused and self._answers()) or now > until:
                log("the server refused to stop, see above: ending it by force")
                self.kill()
            time.sleep(0.005 if now < refused else 0.1)

    def kill(self) -> None:
        if not self.ended():
            self._kill_group(self.pid)
            _, status = os.waitpid(self.pid, 0)
            self.status = os.waitstatus_to_exitcode(status)

    @staticmethod
    def _answers() -> bool:
        try:
            return ask("PING") == "PONG"
        except OSError:
            return False

    @staticmethod
    def _kill_group(pid: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: the latter of a group of zombies
            os.killpg(pid, signal.SIGKILL)

    def _end_predecessor(self) -> int:
        """End a server whose supervisor is gone, and take over its lock."""
        with open("server.pid") as stream:
            words = stream.read(200).split()
        if len(words) != 2 or not words[0].isdecimal():
            raise Failed("unavailable", f"{os.getcwd()}/server.pid is held by a process that it does not name")
        if words[1] != namespace():
            raise Failed("unavailable", f"a server in another container, process {words[0]} there, uses {os.getcwd()}")
        log(f"ending the server {words[0]}, which has no supervisor")
        self._kill_group(int(words[0]))
        held = lock("server.pid", 3.0)
        if held is None:
            raise Failed("unavailable", f"the server of process {words[0]} in {os.getcwd()} does not end")
        return held


class Supervisor:
    """The loop: waits for the server's end, the last user's exit and SIGTERM, whichever comes first."""

    def __init__(self, server: Server, grace: float) -> None:
        self.server, self.grace = server, grace
        self.waker, self.wake = os.pipe()
        for fd in (self.waker, self.wake):
            os.set_blocking(fd, False)
        self.terminated = False
        self.idle_at: float | None = None  # when to see whether the server is still unused
        self.deaths = 0
        signal.set_wakeup_fd(self.wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._terminate)

    def _terminate(self, *_: object) -> None:
        self.terminated = True

    def run(self) -> None:
        """Return when the server should stop: on SIGTERM, or unused, with newcomers locked out until we exit."""
        self._watch_users()
        while not self.terminated:
            timeout = None if self.idle_at is None else max(0.0, self.idle_at - time.monotonic())
            select.select([self.waker], [], [], timeout)
            if b"u" in self._drain():
                self.idle_at = time.monotonic() + self.grace
            if self.terminated:
                break
            if self.server.ended():
                self._restart()
            if self.idle_at is not None and time.monotonic() >= self.idle_at and self._unused():
                break

    def _drain(self) -> bytes:
        try:
            return os.read(self.waker, 4096)
        except BlockingIOError:
            return b""

    def _watch_users(self) -> None:
        """Have a thread wait for the last user's exit: it takes the lock exclusively, and lets go at once."""
        self.idle_at = None

        def wait() -> None:
            # An error: the directory is gone, or the kernel is out of locks. Look again after the grace.
            with contextlib.suppress(OSError):
                fd = os.open("users", os.O_RDWR | os.O_CLOEXEC)
                fcntl.flock(fd, fcntl.LOCK_EX)
                os.close(fd)
            os.write(self.wake, b"u")

        _thread.start_new_thread(wait, ())

    def _unused(self) -> bool:
        """Whether nobody came back; if so, newcomers wait for the two locks until we have ended."""
        if os.path.exists("pinned"):
            self.idle_at = time.monotonic() + max(self.grace, 1.0)
            return False
        try:
            start = lock("start", 0)
            users = lock("users", 0) if start is not None else None
        except OSError:
            return True  # the directory is gone, and with it every way to the server
        if users is None:
            if start is not None:
                os.close(start)
            self._watch_users()
        return users is not None

    def _restart(self) -> None:
        quick = time.monotonic() - self.server.started < QUICK_SECONDS
        self.deaths = self.deaths + 1 if quick else 0
        log(f"the server ended ({self.server.status}): starting it again")
        if self.deaths >= QUICK_DEATHS:
            raise Failed("unavailable", "the server ended too often")
        if self.deaths:
            time.sleep(0.05 * 2**self.deaths)
        self.server.start()


def detach() -> None:
    """Leave the process that started us: its children, terminal, signals and directory are not ours."""
    if os.fork():
        os._exit(0)
    os.umask(0o077)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)


def open_log() -> None:
    if os.path.exists(LOG) and os.path.getsize(LOG) > LOG_BYTES:
        os.replace(LOG, LOG + ".old")
    fd = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(fd, 2)
    os.close(fd)


def tell(fd: int, text: str) -> None:
    """Answer the process that started us, once."""
    with contextlib.suppress(OSError):  # it is gone; there may be other users
        os.write(fd, text.encode(errors="surrogateescape") + b"\0")
    os.close(fd)


def main(directory: str, binary: str, durability: str, grace: str, after: str) -> None:
    detach()
    answer = os.dup(1)
    with open(os.devnull, "r+b") as null:
        os.dup2(null.fileno(), 0)
        os.dup2(null.fileno(), 1)
        os.dup2(null.fileno(), 2)  # until the log is open
    server = Server(binary, durability)
    ready = False
    try:
        os.chdir(directory)
        open_log()
        ours = lock("supervisor.pid", 1.0)
        if ours is None:
            raise Failed("unavailable", f"another supervisor serves {directory}")
        sign(ours, durability)
        supervisor = Supervisor(server, float(grace))
        server.start()
        write_version()
        ready = True
        tell(answer, "ready")
        supervisor.run()
    except (Failed, OSError) as exc:
        log(str(exc))
        if not ready:
            tell(answer, f"{getattr(exc, 'kind', 'unavailable')} {exc}")
    if server.pid:
        server.stop()
    unlink(SOCKET)
    if after == "remove":
        remove(directory)


def remove(directory: str) -> None:
    """Remove a throwaway's directory, out of the way of whoever makes it anew meanwhile."""
    import shutil

    aside = f"{directory}-gone"
    shutil.rmtree(aside, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.rename(directory, aside)
    shutil.rmtree(aside, ignore_errors=True)


def write_version() -> None:
    """Note which server wrote here, for the message when an older one is refused."""
    valkey = field("server", "valkey_version")
    with open("version", "w") as stream:
        stream.write(f"Valkey {valkey}\n" if valkey else f"Redis {field('server', 'redis_version')}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # without waiting for the thread that waits for users
