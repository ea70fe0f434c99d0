"""A proxy in front of a real server that does to a connection what networks do.

A `FaultProxy` passes everything on until it is told otherwise, from any thread and while it runs::

    with FaultProxy(server.path) as proxy:
        wire = Wire(Door(settings.parse(proxy.url)))
        proxy.swallow()

It keeps what TCP keeps: bytes are delayed, or nothing more comes, but none are missing in the middle.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class FaultProxy:
    """Passes connections on to the unix socket *target*; listens on one of its own or, with *tcp*, on 127.0.0.1."""

    def __init__(self, target: Path, *, tcp: bool = False) -> None:
        self._target = target
        self._directory = tempfile.TemporaryDirectory(prefix="tetrad-", dir="/tmp")
        self.path = Path(self._directory.name) / "proxy.sock"
        self._tcp = tcp
        self._port = 0
        self.accepted = 0  # connections so far
        self._passages: set[_Passage] = set()
        self._delay: Callable[[], float] | None = None
        self._swallowing = self._refusing = False
        self._left: int | None = None  # bytes of replies that may pass before everything is cut
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        self._do(self._prepare())

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}" if self._tcp else f"unix://{self.path}"

    @property
    def connections(self) -> int:
        """The connections that are open now."""
        return len(self._passages)

    # -- what it does to connections

    def pass_on(self) -> None:
        """Do no more harm. What a black hole held back goes on its way; a swallowed connection stays mute."""
        self._do(self._switch())

    def delay(self, seconds: float | Callable[[], float]) -> None:
        """Hold every piece of a reply back for *seconds*, a number or what a function says each time."""
        self._do(self._switch(delay=seconds if callable(seconds) else lambda: seconds))

    def swallow(self) -> None:
        """Pass requests on, and nothing back: the server carries them out and nobody hears of it."""
        self._do(self._switch(swallow=True))

    def cut_after(self, count: int) -> None:
        """Let *count* more bytes of replies through, then cut every connection, once."""
        self._do(self._switch(left=count))

    def black_hole(self) -> None:
        """Accept everything and pass nothing on."""
        self._do(self._switch(hole=True))

    def refuse(self) -> None:
        """Refuse new connections; those that stand, stay."""
        self._do(self._switch(refuse=True))

    def cut(self) -> None:
        """Cut every connection that stands."""
        self._do(self._cut())

    def close(self) -> None:
        """Cut everything and end the proxy."""
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._directory.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # -- in the proxy's own thread

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _prepare(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        await self._listen()

    async def _listen(self) -> None:
        if self._tcp:
            self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
            self._port = self._listener.sockets[0].getsockname()[1]
        else:
            self._listener = await asyncio.start_unix_server(self._serve, str(self.path))

    async def _switch(
        self,
        *,
        delay: Callable[[], float] | None = None,
        swallow: bool = False,
        left: int | None = None,
        hole: bool = False,
        refuse: bool = False,
    ) -> None:
        self._delay, self._swallowing, self._left = delay, swallow, left
        (self._open.clear if hole else self._open.set)()
        if refuse and self._listener is not None:
            self._listener.close()
            self._listener = None
            self.path.unlink(missing_ok=True)
        elif not refuse and self._listener is None:
            await self._listen()

    async def _cut(self) -> None:
        for passage in list(self._passages):
            passage.cut()

    async def _stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
        await self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        passage = _Passage(writer)
        self._passages.add(passage)
        try:
            await self._open.wait()
            server_reader, server_writer = await asyncio.open_unix_connection(str(self._target))
            passage.writers.append(server_writer)
            await asyncio.wait(
                {
                    asyncio.ensure_future(self._requests(reader, server_writer)),
                    asyncio.ensure_future(self._replies(server_reader, writer, passage)),
                },
                return_when=asyncio.FIRST_COMPLETED,
            )
        except (OSError, asyncio.CancelledError):
            pass  # the server is down, or the proxy ends
        finally:
            passage.cut()
            self._passages.discard(passage)

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passage: _Passage) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                if self._delay is not None:
                    await asyncio.sleep(self._delay())
                passage.mute = passage.mute or self._swallowing
                if passage.mute:
                    continue
                if self._left is not None:
                    data, self._left = data[: self._left], self._left - len(data)
                writer.write(data)
                await writer.drain()
                if self._left is not None and self._left <= 0:
                    self._left = None
                    await self._cut()


class _Passage:
    """One connection and its continuation."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writers = [writer]
        self.mute = False

    def cut(self) -> None:
        for writer in self.writers:
            writer.close()
