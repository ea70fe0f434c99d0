"""The lock between processes that are killed, frozen and forked, with an append-only log as the oracle.

Each worker appends ``in fence`` and ``out fence`` to one file while it holds the lock; ``O_APPEND`` keeps the
lines whole and in order. Two ``in`` without an ``out`` between, or a fence that does not grow, is an overlap.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import wait_until
from tetrad import Tetrad

WORKER = """
    import os, sys, threading, time
    from tetrad import Tetrad

    url, name, log, threads, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    t = Tetrad(url)
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def work():
        for _ in range(rounds):
            with t.lock(name, ttl=2).hold(timeout=30) as lease:
                os.write(file, f"in {lease.fence}\\n".encode())
                lease.check()
                os.write(file, f"out {lease.fence}\\n".encode())

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    t.close()
"""

HOLDER = """
    import sys, time
    from tetrad import Tetrad

    t = Tetrad(sys.argv[1])
    lease = t.lock(sys.argv[2], ttl=float(sys.argv[3])).acquire(timeout=30)
    print("held", lease.fence, flush=True)
    for line in sys.stdin:
        try:
            lease.check()
            print("ours", flush=True)
        except Exception as error:
            print(type(error).__name__, flush=True)
"""


class Process:
    """A Python program of its own."""

    def __init__(self, program: str, *args: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def ask(self) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self.line()

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        return self._process.wait(timeout)

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def started() -> Iterator[list[Process]]:
    processes: list[Process] = []
    yield processes
    for process in processes:
        process.end()


@pytest.fixture
def t(url: str) -> Iterator[Tetrad]:
    with Tetrad(url) as t:
        yield t


def fences(log: Path) -> list[int]:
    """The fences of *log* in the order of holding, having checked that no two held at once."""
    lines = [line.split() for line in log.read_text().splitlines()]
    entered = [int(fence) for what, fence in lines if what == "in"]
    inside: int | None = None
    for what, text in lines:
        if what == "in":
            assert inside is None, f"{text} entered while {inside} was inside"
            inside = int(text)
        else:
            assert inside == int(text), f"{text} left, but {inside} was inside"
            inside = None
    assert entered == sorted(set(entered)), "fences do not grow"
    return entered


def test_eight_processes_never_overlap(url: str, name: str, tmp_path: Path, started: list[Process]) -> None:
    """Eight processes of two threads take one lock 400 times in turn."""
    log = tmp_path / "log"
    for _ in range(8):
        started.append(Process(WORKER, url, name, log, 2, 25))
    for process in started:
        assert process.wait(60) == 0

    assert len(fences(log)) == 400


def test_a_killed_holder_costs_its_lease(t: Tetrad, url: str, name: str, started: list[Process]) -> None:
    """After kill -9 of the holder the next waiter has the lock when the lease has lapsed, with a larger fence."""
    holder = Process(HOLDER, url, name, 1.0)
    started.append(holder)
    fence = int(holder.line().split()[1])
    holder.signal(signal.SIGKILL)
    lease = t.lock(name).acquire(timeout=5)

    assert lease is not None
    assert lease.fence > fence
    assert lease.release()


def test_a_killed_waiter_is_passed_over_at_once(t: Tetrad, url: str, name: str, started: list[Process]) -> None:
    """A waiter that was killed is no obstacle: its connection is gone, so its grant reaches nobody."""
    lease = t.lock(name).acquire()
    assert lease is not None
    first = Process(HOLDER, url, name, 30)
    started.append(first)
    wait_until(lambda: waiters(t, name) == 1)
    second = Process(HOLDER, url, name, 30)
    started.append(second)
    wait_until(lambda: waiters(t, name) == 2)
    first.signal(signal.SIGKILL)
    first.wait(5)
    at = time.monotonic()
    lease.release()

    assert second.line().startswith("held")
    assert time.monotonic() - at < 2


def test_a_frozen_waiter_is_passed_over_within_five_seconds(
    t: Tetrad, url: str, name: str, started: list[Process]
) -> None:
    """A waiter that is granted the lock but frozen does not confirm; the next one gets it, and FIFO goes on."""
    lease = t.lock(name).acquire()
    assert lease is not None
    frozen = Process(HOLDER, url, name, 30)
    started.append(frozen)
    wait_until(lambda: waiters(t, name) == 1)
    second = Process(HOLDER, url, name, 30)
    started.append(second)
    wait_until(lambda: waiters(t, name) == 2)
    frozen.signal(signal.SIGSTOP)
    at = time.monotonic()
    lease.release()

    assert second.line().startswith("held")
    assert time.monotonic() - at < 5.5
    frozen.signal(signal.SIGCONT)


def test_a_frozen_holder_knows_that_it_is_stale(t: Tetrad, url: str, name: str, started: list[Process]) -> None:
    """After SIGSTOP for longer than the ttl the old holder's next check raises, and somebody else has the lock."""
    holder = Process(HOLDER, url, name, 0.5)
    started.append(holder)
    fence = int(holder.line().split()[1])
    assert holder.ask() == "ours"
    holder.signal(signal.SIGSTOP)
    lease = t.lock(name).acquire(timeout=5)
    assert lease is not None
    holder.signal(signal.SIGCONT)

    assert holder.ask() == "LeaseLost"
    assert lease.fence > fence
    lease.check()
    assert lease.release()


def test_a_forked_child_owns_nothing(t: Tetrad, name: str) -> None:
    """After fork the child's copy of the lease is lost, and its exit takes nothing from the parent."""
    lease = t.lock(name).acquire()
    assert lease is not None
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, f"{lease.lost} {t.lock(name).acquire(timeout=0)} {t.ping() > 0}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    said = os.read(read, 100).decode()
    os.close(read)

    assert said == "True None True"
    lease.check()
    lease.renew()
    assert lease.release()


def waiters(t: Tetrad, name: str) -> int:
    holder = t.lock(name).holder()
    return holder.waiters if holder else 0
