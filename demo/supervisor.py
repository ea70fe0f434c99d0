"""Starts the worker processes on one listening socket, replaces those that die, and ends them all."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parent.parent
START, STOP = 30.0, 10.0  # seconds for a worker to be ready, and to end


class StartError(Exception):
    """A worker process ended, or said nothing, instead of serving."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket on *port*, or on a free one when that is taken."""
    for choice in (port, 0):
        try:
            return socket.create_server((host, choice), backlog=512)
        except OSError:
            if choice == 0:
                raise
    raise AssertionError("unreachable")


@dataclass(slots=True)
class Kill:
    """A worker that was killed on purpose: when, and how long until another served in its place."""

    pid: int
    at: float
    replaced_after: float | None = None


@dataclass(slots=True)
class Workers:
    """*count* worker processes that accept from *listener*. What one can't take any more, the others do."""

    listener: socket.socket
    count: int
    environment: dict[str, str]
    kills: list[Kill] = field(default_factory=list)
    deaths: int = 0  # those that nobody had asked for
    _processes: list[Process] = field(default_factory=list)
    _guards: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        started = await asyncio.gather(*(self._start() for _ in range(self.count)), return_exceptions=True)
        self._processes = [process for process in started if isinstance(process, Process)]
        if len(self._processes) < self.count:
            await self.__aexit__(None, None, None)
            raise StartError("a worker did not start; what it said is above")
        self._guards = [asyncio.create_task(self._guard(place)) for place in range(self.count)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for guard in self._guards:
            guard.cancel()
        await asyncio.gather(*self._guards, return_exceptions=True)
        await asyncio.gather(*(self._stop(process) for process in self._processes))

    def kill_one(self) -> int:
        """``kill -9`` for the first worker, in the middle of whatever it does; its process id."""
        process = self._processes[0]
        self.kills.append(Kill(process.pid, time.monotonic()))
        process.kill()
        return process.pid

    async def _start(self) -> Process:
        # A session of its own: Ctrl-C in the terminal is for us, who stop the players before the workers.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "demo.worker", str(self.listener.fileno()),
            cwd=ROOT, env=os.environ | self.environment, pass_fds=(self.listener.fileno(),),
            stdin=PIPE, stdout=PIPE, start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START):
                if await process.stdout.readline() == b"ready\n":
                    return process
        except TimeoutError:
            pass
        await self._stop(process)
        raise StartError(f"worker {process.pid} did not start within {START:g} s")

    async def _stop(self, process: Process) -> None:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _guard(self, place: int) -> None:
        while True:
            pid = self._processes[place].pid
            await self._processes[place].wait()
            self._processes[place] = await self._start()
            ours = [kill for kill in self.kills if kill.pid == pid]
            for kill in ours:
                kill.replaced_after = time.monotonic() - kill.at
            self.deaths += not ours
