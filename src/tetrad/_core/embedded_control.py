"""What the command line does to an embedded server: keep it up, stop it, tell how it is."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from tetrad._core import embedded_files as files
from tetrad._core.embedded import Embedded, EmbeddedOptions
from tetrad.errors import ServerUnavailable

# The supervisor gives the server a minute to save, and needs a moment itself.
STOP_SECONDS = 65.0
ANSWER_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class EmbeddedStatus:
    """A running embedded server. ``users`` is ``None`` where the system does not tell (only Linux does)."""

    directory: str
    socket: str
    pid: int
    supervisor: int
    version: str
    uptime: int
    """Seconds since the server started."""
    users: list[int] | None
    """Process ids."""
    pinned: bool
    """Whether it stays without users until ``tetrad down``."""
    memory: int
    """Bytes that the data takes in the server."""
    durability: str
    persistence: str
    """``ok``, ``off``, ``loading``, or what failed."""
    unsaved: int | None
    """Changes since the last snapshot, with durability ``snapshot``."""


def up(options: EmbeddedOptions) -> EmbeddedStatus:
    """Start or join the server and pin it: it stays without users until `down`."""
    assert options.directory is not None, "a throwaway cannot be pinned"
    server = Embedded(options)
    server.open()
    try:
        (options.directory / files.PINNED).touch(mode=0o600)
        found = status(options.directory)
    finally:
        server.close()
    if found is None:
        raise ServerUnavailable(f"the embedded server in {options.directory} stopped while it was started")
    return found


def down(directory: Path) -> bool:
    """Stop the server, cleanly, and wait until it has ended; false if none runs.

    Processes that use it start it again when they next call it; afterwards it stops with the last of them.
    """
    with contextlib.suppress(OSError):
        (directory / files.PINNED).unlink()
    pid = files.supervisor(directory)
    if pid is None:
        return False
    if not files.same_namespace(directory):
        raise ServerUnavailable(f"the embedded server in {directory} belongs to another container; stop it from there")
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + STOP_SECONDS
    while files.supervisor(directory) == pid:
        if time.monotonic() > until:
            raise ServerUnavailable(f"the embedded server in {directory} has not stopped within {STOP_SECONDS:g} s")
        time.sleep(0.005)
    return True


def status(directory: Path) -> EmbeddedStatus | None:
    """How the server of *directory* is, or ``None`` if none runs; asking starts nothing and counts as no use."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    socket = str(directory / files.SOCKET)
    until = time.monotonic() + ANSWER_SECONDS
    while True:
        supervisor = files.supervisor(directory)
        if supervisor is None:
            return None
        try:
            # without redis-py's own retries: they would outlast a server that is stopping, and then blame it
            once = Retry(NoBackoff(), 0)
            with redis.Redis(unix_socket_path=socket, socket_timeout=ANSWER_SECONDS, retry=once) as server:
                info = server.info()
            break
        except (redis.RedisError, OSError) as exc:  # it may be stopping, or be starting again
            if time.monotonic() > until and files.supervisor(directory) == supervisor:
                raise ServerUnavailable(
                    f"the embedded server in {directory} (supervisor: process {supervisor}) does not answer: {exc}; "
                    f"see {directory / files.LOG}"
                ) from exc
        time.sleep(0.02)
    valkey = info.get("valkey_version")
    durability = files.running_durability(directory) or "unknown"
    return EmbeddedStatus(
        directory=str(directory),
        socket=socket,
        pid=info["process_id"],
        supervisor=supervisor,
        version=f"Valkey {valkey}" if valkey else f"Redis {info['redis_version']}",
        uptime=info["uptime_in_seconds"],
        users=files.users(directory),
        pinned=(directory / files.PINNED).exists(),
        memory=info["used_memory"],
        durability=durability,
        persistence=_persistence(info, durability),
        unsaved=info["rdb_changes_since_last_save"] if durability == "snapshot" else None,
    )


def _persistence(info: dict[str, object], durability: str) -> str:
    if info["loading"]:
        return "loading"
    if durability == "none":
        return "off"
    watched = {
        "snapshot": {"rdb_last_bgsave_status": "the last snapshot failed"},
        "aof": {
            "aof_last_write_status": "the last write to the AOF failed",
            "aof_last_bgrewrite_status": "the last rewrite of the AOF failed",
        },
    }["snapshot" if durability == "snapshot" else "aof"]
    failed = [text for field, text in watched.items() if info.get(field) != "ok"]
    return "; ".join(failed) or "ok"
