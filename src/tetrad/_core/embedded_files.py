"""The directory of an embedded server, seen from outside: whether it will do, and who holds its locks.

`supervisor.py` describes the files. Nothing here starts, joins or changes a server.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

from tetrad.errors import ConfigurationError, ServerUnavailable

if sys.platform != "win32":
    import fcntl

SOCKET, LOG = "server.sock", "server.log"
PINNED = "pinned"

# struct sockaddr_un holds 108 bytes on Linux, 104 on the BSDs and macOS, with a closing zero.
MAX_SOCKET_PATH = 107 if sys.platform == "linux" else 103

ANSWER_SECONDS = 0.5

_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|afpfs|webdav|9p|afs|ceph|lustre|gpfs|beegfs|ocfs2|gfs2|glusterfs|(osx)?fuse\.?(sshfs|s3fs|glusterfs|\w*nfs)"
)
_MOUNT_LINE = re.compile(r"\S+ \S+ \S+ \S+ (?P<point>\S+) .*? - (?P<type>\S+) |.* on (?P<path>.+?) \((?P<kind>[\w.]+)")


_guard = threading.Lock()  # so that no fork happens between the opening of a descriptor and its listing
_descriptors: set[int] = set()


def open_lock(path: Path) -> int:
    """A descriptor of *path* (created if need be) to `flock`; a forked child gets no part in its lock."""
    with _guard:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _descriptors.add(fd)
        return fd


def close_lock(fd: int) -> None:
    """Close what `open_lock` opened, and with it the lock. LOCK_UN would take it from whoever shares it, too."""
    with _guard:
        if fd in _descriptors:
            _descriptors.remove(fd)
            os.close(fd)


def _leave_to_parent() -> None:
    for fd in _descriptors:
        os.close(fd)
    _descriptors.clear()
    _guard.release()


if sys.platform != "win32":
    os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_leave_to_parent)


def try_lock(fd: int, *, exclusive: bool) -> bool:
    """Take the lock on *fd*, without waiting; whether that was possible."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def prepare(directory: Path) -> None:
    """Create *directory* (0700) if need be; `ConfigurationError` if no server can live in it."""
    size = len(os.fsencode(directory / SOCKET))
    if size > MAX_SOCKET_PATH:
        raise ConfigurationError(
            f"the socket path {directory / SOCKET} has {size} bytes and this platform allows {MAX_SOCKET_PATH}; "
            "choose a directory with a shorter path"
        )
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        close_lock(open_lock(directory / "users"))
    except (FileExistsError, NotADirectoryError):
        raise ConfigurationError(f"{directory} cannot hold the embedded server: it is, or is below, a file") from None
    except OSError as exc:
        raise _refusal(directory, exc) from exc
    if kind := network_file_system(os.path.realpath(directory), _mounts()):
        raise ConfigurationError(
            f"{directory} is on a network file system ({kind}), where locks and durability cannot be trusted; "
            "choose a local directory, or run a server and give its URL"
        )


def _refusal(directory: Path, exc: OSError) -> ConfigurationError | ServerUnavailable:
    if isinstance(exc, PermissionError) or exc.errno == errno.EROFS:
        return ConfigurationError(f"{directory} cannot hold the embedded server: this user may not write there ({exc})")
    return ServerUnavailable(f"{directory} cannot hold the embedded server now: {exc}")


def network_file_system(path: str, mounts: str) -> str | None:
    """The type of the network file system that *path* is on, or ``None``.

    *mounts* is ``/proc/self/mountinfo``, or what the ``mount`` program of macOS and the BSDs prints.

    >>> network_file_system("/home/ann/data", "20 1 0:9 / / rw - ext4 /dev/sda rw\\n21 20 0:8 / /home rw - nfs4 nas rw")
    'nfs4'
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        if match := _MOUNT_LINE.match(line):
            point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), match["point"] or match["path"])
            # The last of several mounts on one point is the one that is seen.
            if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
                best, kind = point, match["type"] or match["kind"]
    return kind if _NETWORK.fullmatch(kind) else None


def _mounts() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(["/sbin/mount"], capture_output=True, text=True, timeout=5, check=False).stdout
    return ""


def held(path: Path) -> bool:
    """Whether some process holds the lock on *path* exclusively."""
    return not _lockable(path, exclusive=False)


def in_use(directory: Path) -> bool:
    """Whether some process uses the server of *directory* (this one counts)."""
    return not _lockable(directory / "users", exclusive=True)


def _lockable(path: Path, exclusive: bool) -> bool:
    with _guard:  # no child may inherit even this
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return True
        try:
            return try_lock(fd, exclusive=exclusive)
        finally:
            os.close(fd)


def holder(path: Path) -> list[str]:
    """What the holder of *path* wrote into it: its process id, its namespace, and more; empty if nobody holds it."""
    if not held(path):
        return []
    with contextlib.suppress(OSError):
        return path.read_text().split()
    return []


def supervisor(directory: Path) -> int | None:
    """The process id of the supervisor of *directory*, or ``None`` when no server is kept there."""
    words = holder(directory / "supervisor.pid")
    return int(words[0]) if words else None


def same_namespace(directory: Path) -> bool:
    """Whether the supervisor's process id means the same process here: containers may share a directory."""
    try:
        ours = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        ours = "-"
    return holder(directory / "supervisor.pid")[1:2] == [ours]


def running_durability(directory: Path) -> str | None:
    """The durability that the running server was started with."""
    words = holder(directory / "supervisor.pid")
    return words[2] if len(words) > 2 else None


def users(directory: Path) -> list[int] | None:
    """The process ids of the users of *directory*; ``None`` where the system does not tell (only Linux does)."""
    try:
        inode = (directory / "users").stat().st_ino
        table = Path("/proc/locks").read_text()
    except OSError:
        return None
    return sorted(
        {
            int(words[4])
            for line in table.splitlines()
            if (words := line.split())[1:2] == ["FLOCK"] and words[3] == "READ" and words[5].endswith(f":{inode}")
        }
    )


def answer(path: str) -> str:
    """What the server on the unix socket *path* says to PING: ``+PONG``, ``-LOADING ...``; empty if there is none.

    A server that listens but is too busy to say anything soon counts as one that said ``+PONG``.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.settimeout(ANSWER_SECONDS)
            probe.connect(path)
            probe.sendall(b"PING\r\n")
            return probe.recv(512).decode(errors="replace")
        except (TimeoutError, BlockingIOError):  # the latter: a full backlog
            return "+PONG"
        except OSError:
            return ""
