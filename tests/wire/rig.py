"""What the tests of both wires share: small scripts, and one blocking face for either wire."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import uvloop

from tetrad._core import settings
from tetrad._core.call import Call
from tetrad._core.doors import Door
from tetrad._core.scripts import Script
from tetrad._core.wire_async import AsyncWire
from tetrad._core.wire_sync import Wire

T = TypeVar("T")

READ = Script("read", "#!lua flags=no-writes\nreturn redis.call('GET', KEYS[1]) or ARGV[1]")
ECHO = Script("echo", "#!lua flags=no-writes\nreturn ARGV[1]")
SAFE = Script("safe", "#!lua\n-- replay: safe, for the sake of the test\nreturn redis.call('INCR', KEYS[1])")
NEVER = Script("never", "#!lua\n-- replay: never, because it counts\nreturn redis.call('INCR', KEYS[1])")
SPIN = Script(  # for ARGV[1] milliseconds; TIME stands still within a script
    "spin", "#!lua flags=no-writes\nlocal till = os.clock() + ARGV[1] / 1000\nrepeat until os.clock() > till\nreturn 1"
)


def echo(text: str, timeout: float | None = None) -> Call[str]:
    """A call whose answer is *text*."""
    return Call(ECHO, (), (text,), bytes.decode, timeout)


def count(script: Script, key: str, timeout: float | None = None) -> Call[int]:
    """A call that increments *key*, so that a second execution shows."""
    return Call(script, (key,), (), int, timeout)


def door(url: str, timeout: float = 5.0, connect_timeout: float = 2.0) -> Door:
    return Door(settings.parse(url, timeout, connect_timeout))


class AnyWire(Protocol):
    """What the tests ask of a wire, whichever it is."""

    def send(self, call: Call[T]) -> T: ...
    def command(self, *parts: str) -> Any: ...
    def close(self) -> None: ...


class Blocking:
    """An `AsyncWire` in a loop of its own thread, used from the test's."""

    def __init__(self, door: Door, new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop) -> None:
        self.wire = AsyncWire(door)
        self.complaints: list[dict[str, Any]] = []
        self.loop = new_loop()
        self.loop.set_exception_handler(lambda loop, context: self.complaints.append(context))
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def send(self, call: Call[T]) -> T:
        return self.do(self.wire.send(call))

    def command(self, *parts: str) -> Any:
        return self.do(self.wire.command(*parts))

    def close(self) -> None:
        """Close the wire and the loop; nothing may have been complained about."""
        self.do(self.wire.aclose())
        self.do(asyncio.sleep(0))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
        assert self.complaints == []


class Makers:
    """Opens wires of one flavour, and closes them all."""

    def __init__(self, flavour: str) -> None:
        self.flavour = flavour
        self._made: list[AnyWire] = []

    def __call__(self, url: str, timeout: float = 5.0, connect_timeout: float = 2.0) -> AnyWire:
        way = door(url, timeout, connect_timeout)
        made: AnyWire
        if self.flavour == "threads":
            made = Wire(way)
        elif self.flavour == "asyncio":
            made = Blocking(way)
        else:
            made = Blocking(way, uvloop.new_event_loop)
        self._made.append(made)
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        for made in self._made:
            made.close()
