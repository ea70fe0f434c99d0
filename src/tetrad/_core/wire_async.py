"""The async wire: one connection per event loop, on which all calls of that loop travel together.

Calls made in the same tick of the loop leave in one write; replies resolve their futures in order.
A caller that times out or is cancelled abandons its slot: the reply is discarded when it comes, and
the connection stays. It is closed only when nothing at all has arrived for ``timeout`` while calls
are outstanding. No task is ever cancelled for a deadline: a timer sets the futures' exceptions.
"""

from __future__ import annotations

import asyncio
import select
import weakref
from collections import deque
from typing import Any, TypeVar

from tetrad._core import wire
from tetrad._core.call import Arg, Call
from tetrad._core.doors import Door
from tetrad._core.refusals import error_from_text
from tetrad._core.wire import NOTHING, QUIET_SECONDS, ErrorReply, Push
from tetrad.errors import ServerTimeout, ServerUnavailable

T = TypeVar("T")

_SUBSCRIPTIONS = (b"ssubscribe", b"sunsubscribe")


class Link(asyncio.Protocol):
    """One multiplexed connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        self.alive = False
        self.ears: dict[str, list[AsyncEar]] = {}  # by channel; they outlive the link
        self._loop = loop
        self._timeout = timeout
        self._reader = wire.new_reader()
        self._outgoing: list[bytes] = []
        # what is awaited, in the order of the replies: future, deadline, whether a subscription's push answers it
        self._slots: deque[tuple[asyncio.Future[Any], float, bool]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._heard_at = loop.time()
        self._opened: Any = None

    async def open(self, door: Door) -> Link:
        transport, self._opened = await door.aopen(self)
        self._transport = transport
        self._poll = select.poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        return self

    # -- called by the wire

    def ask(self, packed: bytes, timeout: float, by_push: bool = False) -> asyncio.Future[Any]:
        """The future reply to *packed*. Leaves with everything else of this tick."""
        future = self._loop.create_future()
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(packed)
        deadline = self._loop.time() + timeout
        self._slots.append((future, deadline, by_push))
        if self._sweep is None or deadline < self._sweep.when():
            self._sweep_at(deadline)
        return future

    def close(self, error: Exception | None = None) -> None:
        """Close the connection; what is outstanding gets *error*."""
        if self.alive:
            self.alive = False
            self._transport.abort()
        self._fail(error or ServerUnavailable("this Tetrad was closed"))

    def forget(self) -> None:
        """In a forked child: close our copy of the socket only."""
        self.alive = False
        self._slots.clear()

    # -- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.alive = True
        self._heard_at = self._loop.time()

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        reader, slots = self._reader, self._slots
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not NOTHING:
                if type(reply) is Push:
                    self._pushed(reply)
                    continue
                future = slots.popleft()[0]
                if not future.done():
                    future.set_result(reply)
        except Exception as exc:  # not RESP, or a reply nobody asked for: nothing after it can be trusted
            self.close(ServerUnavailable(f"the server sent something that is no reply: {exc!r}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
        self._fail(ServerUnavailable(f"the connection broke: {exc or 'closed by the server'}"))
        Door.abandon(self._opened)

    # -- inside

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if not self.alive:
            return
        now = self._loop.time()
        if now - self._heard_at > QUIET_SECONDS and len(self._slots) == len(outgoing) and self._poll.poll(0):
            # quiet until now, so this is no reply of ours: a push, or the end. Let the loop read it first.
            self._outgoing = outgoing
            self._heard_at = now
            self._loop.call_later(0, self._flush)
            return
        self._transport.write(b"".join(outgoing) if len(outgoing) > 1 else outgoing[0])

    def _pushed(self, push: list[Any]) -> None:
        kind = push[0]
        if kind in _SUBSCRIPTIONS:
            if self._slots and self._slots[0][2]:
                future = self._slots.popleft()[0]
                if not future.done():
                    future.set_result(push)
        elif kind == b"smessage":
            for ear in self.ears.get(push[1].decode(), ()):
                ear.hear(push[1].decode(), push[2])

    def _fail(self, error: Exception) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        while self._slots:
            future = self._slots.popleft()[0]
            if not future.done():
                future.set_exception(error)
                future.exception()  # an abandoned caller is no unhandled error
        for ears in list(self.ears.values()):
            for ear in ears:
                ear.missed()

    def _sweep_at(self, when: float) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        self._sweep = self._loop.call_at(when, self._swept)

    def _swept(self) -> None:
        """Give up on calls whose deadline has passed, and on a server that says nothing at all."""
        self._sweep = None
        now = self._loop.time()
        nearest = now + self._timeout
        for future, deadline, _ in self._slots:
            if deadline > now:
                nearest = min(nearest, deadline)
            elif not future.done():
                future.set_exception(ServerTimeout("no answer from the server in time"))
                future.exception()
        if not self._slots:
            return
        if now - max(self._heard_at, self._slots[0][1] - self._timeout) >= self._timeout:
            self.close(ServerTimeout(f"nothing heard from the server for {self._timeout:g} s"))
        else:
            self._sweep_at(nearest)


class AsyncWire(wire.Forkable):
    """Sends calls to one server, for the tasks of any number of event loops."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self.timeout = door.settings.timeout
        self._loop: asyncio.AbstractEventLoop | None = None
        self._link: Link | None = None  # the link of _loop: the only one, for nearly everybody
        self._homes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Home] = weakref.WeakKeyDictionary()
        self._closed = False
        wire.survive_fork(self)

    async def send(self, call: Call[T]) -> T:
        """Carry out one call: one round trip, two more when the server does not know the script yet."""
        timeout = call.timeout or self.timeout
        packed = wire.pack_call(call)
        link = self._link
        if link is not None and link.alive and asyncio.get_running_loop() is self._loop:
            try:
                reply = await link.ask(packed, timeout)
            except ServerUnavailable:
                if not call.script.replay or self._closed:
                    raise
                reply = await self._ask(packed, timeout)
        else:
            reply = await self._ask(packed, timeout, call.script.replay)
        if type(reply) is ErrorReply:
            if wire.is_noscript(reply):
                await self._ask(wire.pack_load(call.script), timeout, True)
                reply = await self._ask(packed, timeout, call.script.replay)
            if type(reply) is ErrorReply:
                raise wire.refusal(reply, call)
        return call.decode(reply)

    async def command(self, *parts: Arg) -> Any:
        """A bare command that may be sent twice, such as PING or INFO."""
        reply = await self._ask(wire.pack(parts), self.timeout, True)
        if type(reply) is ErrorReply:
            raise error_from_text(str(reply))
        return reply

    def listen(self) -> AsyncEar:
        return AsyncEar(self)

    def keep(self, task: asyncio.Task[None]) -> None:
        """Hold on to a clean-up task; `aclose` awaits it."""
        tasks = self._home().tasks
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def aclose(self) -> None:
        """Finish the clean-ups of this loop and close its connection."""
        home = self._homes.get(asyncio.get_running_loop())
        if home is not None:
            if home.tasks:
                await asyncio.wait(list(home.tasks))
            if home.link is not None:
                home.link.close()
        self._closed = True
        self._link = None
        self._door.close()

    def forget(self) -> None:
        for home in self._homes.values():
            if home.link is not None:
                home.link.forget()
        self._homes = weakref.WeakKeyDictionary()
        self._link = self._loop = None

    async def _ask(self, packed: bytes, timeout: float, again: bool = False) -> Any:
        try:
            link = await self.link(timeout)
            return await link.ask(packed, timeout)
        except ServerUnavailable:
            if not again or self._closed:
                raise
            return await self._ask(packed, timeout)

    async def link(self, timeout: float) -> Link:
        """This loop's connection, opened if need be; all who ask meanwhile share the one attempt."""
        if self._closed:
            raise ServerUnavailable("this Tetrad is closed", sent=False)
        home = self._home()
        if home.link is not None and home.link.alive:
            self._loop, self._link = home.loop, home.link
            return home.link
        if home.opening is None or home.opening.done():
            home.opening = home.loop.create_task(self._open(home))
        done, _ = await asyncio.wait((home.opening,), timeout=timeout)
        if not done:
            raise ServerUnavailable(f"no connection to {self._door.settings.where} within {timeout:g} s", sent=False)
        return home.opening.result()

    async def _open(self, home: _Home) -> Link:
        link = Link(home.loop, self.timeout)
        link.ears = home.ears
        await link.open(self._door)
        home.link = self._link = link
        self._loop = home.loop
        if home.ears:
            for channel in home.ears:
                link.ask(wire.pack(("SSUBSCRIBE", channel)), self.timeout, True)
        return link

    def _home(self) -> _Home:
        loop = asyncio.get_running_loop()
        home = self._homes.get(loop)
        if home is None:
            home = self._homes[loop] = _Home(loop)
        return home


class _Home:
    """What belongs to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self.link: Link | None = None
        self.opening: asyncio.Task[Link] | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.ears: dict[str, list[AsyncEar]] = {}

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop()
        assert loop is not None  # only ever used from inside it
        return loop


class AsyncEar:
    """The subscriptions of one waiting flow, on the connection that everything uses."""

    def __init__(self, owner: AsyncWire) -> None:
        self._owner = owner
        self._home = owner._home()
        self._heard: dict[str, deque[bytes | None]] = {}
        self._bell: asyncio.Future[None] | None = None

    async def wake(self, channel: str, seconds: float) -> bytes | None:
        """See `tetrad._core.call.Wake`."""
        heard = self._heard.get(channel)
        if heard is None:
            heard = await self._subscribe(channel)
        if not heard and seconds > 0:
            loop = self._home.loop
            self._bell = loop.create_future()
            timer = loop.call_later(seconds, self._ring)
            try:
                await self._bell
            finally:
                timer.cancel()
                self._bell = None
        return heard.popleft() if heard else None

    def hear(self, channel: str, message: bytes) -> None:
        self._heard[channel].append(message)
        self._ring()

    def missed(self) -> None:
        """The connection broke: whatever is pushed until it stands again is lost."""
        for heard in self._heard.values():
            heard.append(None)
        self._ring()

    def close(self) -> None:
        """End the subscriptions, without waiting for it."""
        link = self._home.link
        for channel in self._heard:
            others = self._home.ears.get(channel, [])
            if self in others:
                others.remove(self)
            if not others and self._home.ears.pop(channel, None) is not None and link is not None and link.alive:
                link.ask(wire.pack(("SUNSUBSCRIBE", channel)), self._owner.timeout, True)

    async def _subscribe(self, channel: str) -> deque[bytes | None]:
        timeout = self._owner.timeout
        heard = self._heard[channel] = deque()
        link = await self._owner.link(timeout)
        ears = self._home.ears.setdefault(channel, [])
        ears.append(self)
        if len(ears) == 1:
            reply = await link.ask(wire.pack(("SSUBSCRIBE", channel)), timeout, True)
            if type(reply) is ErrorReply:
                raise error_from_text(str(reply), channel)
        return heard

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)
