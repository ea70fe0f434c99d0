"""The async wire: one connection per event loop, on which all calls of that loop travel together.

Calls made in the same tick of the loop leave in one write; replies resolve their futures in order.
A caller that times out or is cancelled abandons its slot: the reply is discarded when it comes, and
the connection stays. It is closed only when nothing at all has arrived for ``timeout`` while calls
are outstanding. No task is ever cancelled for a deadline: a timer sets the futures' exceptions.
"""

from __future__ import annotations

import asyncio
import copy
import os
import select
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

from tetrad._core import wire
from tetrad._core.call import Arg, Call
from tetrad._core.doors import Door
from tetrad._core.refusals import error_from_text
from tetrad._core.wire import NOTHING, QUIET_SECONDS, ErrorReply, Push
from tetrad.errors import ServerTimeout, ServerUnavailable, TetradError

T = TypeVar("T")

_SUBSCRIPTIONS = (b"ssubscribe", b"sunsubscribe")

_SWEEP_SECONDS = 0.005  # deadlines closer together than this are seen to at once


class Link(asyncio.Protocol):
    """One multiplexed connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        self.alive = False
        self.loop = loop
        self.ears: dict[str, list[AsyncEar]] = {}  # by channel; they outlive the link
        self._timeout = timeout
        self._reader = wire.new_reader()
        self._outgoing: list[bytes] = []
        # what is awaited, in the order of the replies: future, deadline, whether a subscription's push answers it
        self._slots: deque[tuple[asyncio.Future[Any], float, bool]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._sweep_when = 0.0
        self._heard_at = loop.time()
        self._waiting_since = 0.0  # when the first of what is outstanding was sent
        self._opened: Any = None

    async def open(self, door: Door) -> Link:
        transport, self._opened = await door.aopen(self)
        self._transport = transport
        self._fileno = transport.get_extra_info("socket").fileno()
        self._poll = select.poll()
        self._poll.register(self._fileno, select.POLLIN)
        return self

    # -- called by the wire

    def ask(self, packed: bytes, deadline: float, by_push: bool = False) -> asyncio.Future[Any]:
        """The future reply to *packed*, until *deadline*. Leaves with everything else of this tick."""
        future = self.loop.create_future()
        if not self.alive:
            future.set_exception(ServerUnavailable("the connection had broken", sent=False))
            return future
        if not self._outgoing:
            self.loop.call_soon(self._flush)
        self._outgoing.append(packed)
        self._slots.append((future, deadline, by_push))
        if self._sweep is None or deadline < self._sweep_when:
            self._sweep_at(deadline)
        return future

    def close(self, kind: type[TetradError] = ServerUnavailable, text: str = "this Tetrad was closed") -> None:
        """Close the connection; what is outstanding gets an error of *kind*."""
        if self.alive:
            self.alive = False
            self._transport.abort()
        self._fail(kind, text)

    def forget(self) -> None:
        """In a forked child: let go of our copy of the socket.

        Another file takes its number: closing it, now or in the collector, would otherwise take it out of
        the parent's epoll set, which is shared, and leave the parent deaf.
        """
        if self.alive:
            self.alive = False
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, self._fileno)
            os.close(nothing)
            Door.abandon(self._opened)
        self._slots.clear()
        self._outgoing.clear()

    # -- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.alive = True
        self._heard_at = self.loop.time()

    def data_received(self, data: bytes) -> None:
        self._heard_at = self.loop.time()
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
            self.close(ServerUnavailable, f"the server sent something that is no reply: {exc!r}")

    def connection_lost(self, exc: Exception | None) -> None:
        if self.alive:
            self.alive = False
            self._fail(ServerUnavailable, f"the connection broke: {exc or 'closed by the server'}")
        Door.abandon(self._opened)

    # -- inside

    def _flush(self) -> None:
        if not self.alive or self._transport.is_closing():
            return  # what is outgoing certainly did not leave: see _fail
        outgoing = self._outgoing
        if len(self._slots) == len(outgoing):  # nothing was awaited until now
            now = self._waiting_since = self.loop.time()
            if now - self._heard_at > QUIET_SECONDS and self._poll.poll(0):
                # quiet until now, so this is no reply of ours: a push, or the end. Let the loop read it first.
                self._heard_at = now
                self.loop.call_later(0, self._flush)
                return
        self._outgoing = []
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

    def _fail(self, kind: type[TetradError], text: str) -> None:
        """Give everybody who waits an error of their own; to those whose call had not left, one that says so."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        slots, left = self._slots, len(self._slots) - len(self._outgoing)
        self._slots, self._outgoing = deque(), []
        for number, (future, _, _) in enumerate(slots):
            if not future.done():
                future.set_exception(kind(text) if number < left else ServerUnavailable(text, sent=False))
                future.exception()  # an abandoned caller is no unhandled error
        for channel, ears in self.ears.items():
            for ear in ears:
                ear.hear(channel, None)  # whatever is pushed until the connection stands again is lost

    def _sweep_at(self, when: float) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        self._sweep, self._sweep_when = self.loop.call_at(when, self._swept), when

    def _swept(self) -> None:
        """Give up on calls whose deadline has passed, and on a server that says nothing at all."""
        self._sweep = None
        if not self._slots:
            return
        now = self.loop.time()
        silent_since = max(self._heard_at, self._waiting_since) if len(self._slots) > len(self._outgoing) else now
        nearest = silent_at = max(silent_since + self._timeout, self._slots[0][1])
        for future, deadline, _ in self._slots:
            if deadline > now:
                nearest = min(nearest, deadline)
            elif not future.done():
                future.set_exception(ServerTimeout("no answer from the server in time"))
                future.exception()
        if now >= silent_at:
            self.close(ServerTimeout, f"nothing heard from the server for {self._timeout:g} s")
        else:
            self._sweep_at(max(nearest, now + _SWEEP_SECONDS))


class AsyncWire(wire.Forkable):
    """Sends calls to one server, for the tasks of any number of event loops."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self.timeout = door.settings.timeout
        self._link: Link | None = None  # the link used last: the only one, for nearly everybody
        self._homes: dict[asyncio.AbstractEventLoop, _Home] = {}
        self._closed = False
        wire.survive_fork(self)

    async def send(self, call: Call[T]) -> T:
        """Carry out one call: one round trip, two more when the server does not know the script yet."""
        timeout = call.timeout or self.timeout
        packed = wire.pack_call(call)
        link, loop = self._link, asyncio.get_running_loop()
        if link is not None and link.alive and link.loop is loop:
            deadline = loop.time() + timeout
            try:
                reply = await link.ask(packed, deadline)
            except ServerUnavailable as exc:
                if (exc.sent and not call.script.replay) or self._closed or (left := deadline - loop.time()) <= 0:
                    raise
                try:
                    reply = await self._ask(packed, left, call.script.replay)
                except ServerUnavailable as second:
                    second.sent = second.sent or exc.sent
                    raise
        else:
            reply = await self._ask(packed, timeout, call.script.replay)
        if type(reply) is ErrorReply:
            if wire.is_noscript(reply):
                reply = await self._ask(wire.pack_load(call.script), timeout, True)
                if type(reply) is not ErrorReply:
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
        tasks = self.home().tasks
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def aclose(self) -> None:
        """Finish the clean-ups of this loop and close its connection; those of other loops end with their loops."""
        home = self._homes.get(asyncio.get_running_loop())
        try:
            if home is not None and home.tasks:
                await asyncio.wait(list(home.tasks))
        finally:
            self._closed = True
            if home is not None:
                self._leave(home)
            self._door.close()

    def forget(self) -> None:
        for home in self._homes.values():
            if home.link is not None:
                home.link.forget()
        self._homes = {}
        self._link = None

    async def _ask(self, packed: bytes, timeout: float, again: bool = False) -> Any:
        """One reply. What certainly never arrived, or may arrive twice (*again*), is sent a second time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        link = await self.link(timeout)
        try:
            return await link.ask(packed, deadline)
        except ServerUnavailable as exc:
            if (exc.sent and not again) or self._closed or (left := deadline - loop.time()) <= 0:
                raise
            sent = exc.sent
        try:
            link = await self.link(left)
            return await link.ask(packed, deadline)
        except ServerUnavailable as exc:
            exc.sent = exc.sent or sent
            raise

    async def link(self, within: float) -> Link:
        """This loop's connection, opened if need be; all who ask meanwhile share the one attempt."""
        if self._closed:
            raise ServerUnavailable("this Tetrad is closed", sent=False)
        home = self.home()
        link = home.link
        if link is None or not link.alive:
            opening = home.opening
            if opening is None or opening.done():
                opening = home.opening = home.loop.create_task(self._open(home))
                opening.add_done_callback(_look_at)
            done, _ = await asyncio.wait((opening,), timeout=within)
            if not done:
                raise ServerUnavailable(f"no connection to {self._door.settings.where} within {within:g} s", sent=False)
            error = opening.exception()
            if isinstance(error, TetradError):
                raise copy.copy(error) from error.__cause__  # to each an error of its own
            link = opening.result()
        self._link = link
        return link

    async def _open(self, home: _Home) -> Link:
        link = Link(home.loop, self.timeout)
        link.ears = home.ears
        await link.open(self._door)
        if self._closed:
            link.close()
            raise ServerUnavailable("this Tetrad is closed", sent=False)
        home.link = link
        if home.end is None:
            home.end = self._until_the_end(home)
            await anext(home.end)
        for channel in home.ears:
            link.ask(wire.pack(("SSUBSCRIBE", channel)), home.loop.time() + self.timeout, True)
        return link

    async def _until_the_end(self, home: _Home) -> AsyncGenerator[None, None]:
        """A loop that ends closes its asynchronous generators: that is how we learn of it."""
        try:
            yield
        finally:
            self._leave(home)

    def _leave(self, home: _Home) -> None:
        """Close the connection of a loop that ends, or has nothing to do with us any more."""
        if home.link is not None:
            home.link.close()
            if self._link is home.link:
                self._link = None
        self._homes.pop(home.loop, None)

    def home(self) -> _Home:
        """What belongs to the running loop."""
        loop = asyncio.get_running_loop()
        home = self._homes.get(loop)
        if home is None:
            for other in list(self._homes):
                if other.is_closed():
                    self._homes.pop(other, None)
            home = self._homes[loop] = _Home(loop)
        return home


class _Home:
    """What belongs to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.link: Link | None = None
        self.opening: asyncio.Task[Link] | None = None
        self.end: AsyncGenerator[None, None] | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.ears: dict[str, list[AsyncEar]] = {}


def _look_at(opening: asyncio.Task[Link]) -> None:
    """An attempt to connect that failed after everybody had given up on it is no unhandled error."""
    if not opening.cancelled():
        opening.exception()


class AsyncEar:
    """The subscriptions of one waiting flow, on the connection that everything uses."""

    def __init__(self, owner: AsyncWire) -> None:
        self._owner = owner
        self._home = owner.home()
        self._heard: dict[str, deque[bytes | None]] = {}
        self._bell: asyncio.Future[None] | None = None

    async def wake(self, channel: str, seconds: float) -> bytes | None:
        """See `tetrad._core.call.Wake`."""
        heard = self._heard.get(channel)
        if heard is None:
            heard = await self._subscribe(channel)
        if heard:
            return heard.popleft()
        if self._home.link is None or not self._home.link.alive:
            await self._owner.link(self._owner.timeout)  # subscribes again
            return None
        if seconds > 0:
            loop = self._home.loop
            self._bell = loop.create_future()
            timer = loop.call_later(seconds, self._ring)
            try:
                await self._bell
            finally:
                timer.cancel()
                self._bell = None
        return heard.popleft() if heard else None

    def hear(self, channel: str, message: bytes | None) -> None:
        self._heard[channel].append(message)
        self._ring()

    def close(self) -> None:
        """End the subscriptions, without waiting for it."""
        for channel in list(self._heard):
            self._unsubscribe(channel)

    async def _subscribe(self, channel: str) -> deque[bytes | None]:
        timeout = self._owner.timeout
        link = await self._owner.link(timeout)
        heard = self._heard[channel] = deque()
        ears = self._home.ears.setdefault(channel, [])
        ears.append(self)
        try:
            reply = None
            if len(ears) == 1:
                try:
                    reply = await link.ask(wire.pack(("SSUBSCRIBE", channel)), self._home.loop.time() + timeout, True)
                except ServerUnavailable:  # the next connection subscribes to it by itself
                    await self._owner.link(timeout)
            if type(reply) is ErrorReply:
                raise error_from_text(str(reply), channel)
        except BaseException:
            self._unsubscribe(channel)
            raise
        return heard

    def _unsubscribe(self, channel: str) -> None:
        del self._heard[channel]
        link, ears = self._home.link, self._home.ears
        ears[channel].remove(self)
        if not ears[channel]:
            del ears[channel]
            if link is not None and link.alive and not self._home.loop.is_closed():
                link.ask(wire.pack(("SUNSUBSCRIBE", channel)), self._home.loop.time() + self._owner.timeout, True)

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)
