"""The blocking wire: a last-in-first-out list of connections, one borrowed by each call.

A connection whose reply did not come, for whatever reason, is closed and never reused, so a late
reply reaches nobody. A waiting flow keeps a connection of its own and reads the server's pushes there.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from tetrad._core import wire
from tetrad._core.call import Arg, Call
from tetrad._core.doors import Door
from tetrad._core.refusals import error_from_text
from tetrad._core.wire import NOTHING, QUIET_SECONDS, ErrorReply, Push
from tetrad.errors import ServerTimeout, ServerUnavailable

T = TypeVar("T")

_TIMEVAL = struct.Struct("@ll")
_TIMEOUTS = (TimeoutError, BlockingIOError)  # Python's own, and the kernel's EAGAIN on a blocking socket

IDLE_SECONDS = 30.0  # a connection unused for this long is closed


class Connection:
    """One open connection: send a packed command, receive its reply."""

    __slots__ = ("_by_kernel", "_opened", "_pushed", "_reader", "_sock", "_timeout", "used_at")

    def __init__(self, door: Door, within: float) -> None:
        self._sock, self._opened = door.open(within)
        self._reader = wire.new_reader()
        self._timeout = -1.0
        self._by_kernel = not isinstance(self._sock, ssl.SSLSocket)
        if self._by_kernel:
            self._sock.settimeout(None)
        self._pushed: deque[list[Any]] = deque()
        self.used_at = time.monotonic()

    def ask(self, packed: bytes, timeout: float) -> Any:
        """The reply to *packed*; an error reply is a value. Raises `ServerTimeout` or `ServerUnavailable`."""
        self._limit(timeout)
        try:
            self._sock.sendall(packed)
        except BrokenPipeError as exc:  # the other side is closed: it reads nothing any more
            raise ServerUnavailable(f"the connection had broken: {exc}", sent=False) from exc
        except _TIMEOUTS as exc:
            raise ServerTimeout(f"the server took no more bytes within {timeout:g} s") from exc
        except OSError as exc:
            raise ServerUnavailable(f"the connection broke: {exc}") from exc
        try:
            reader = self._reader
            receive = self._sock.recv
            until = None
            while True:
                data = receive(65536)
                if not data:
                    raise ServerUnavailable("the server closed the connection before it answered")
                reader.feed(data)
                reply = reader.gets()
                while type(reply) is Push:
                    self._pushed.append(reply)
                    reply = reader.gets()
                if reply is not NOTHING:
                    return reply
                now = time.monotonic()
                until = until or now + timeout
                if now > until:
                    raise TimeoutError
        except _TIMEOUTS as exc:
            raise ServerTimeout(f"no answer from the server within {timeout:g} s") from exc
        except OSError as exc:
            if isinstance(exc, ServerUnavailable):
                raise
            raise ServerUnavailable(f"the connection broke before the answer came: {exc}") from exc

    def push(self, seconds: float) -> list[Any] | None:
        """The next message the server pushes, or ``None`` after *seconds*; `ServerUnavailable` when it is gone."""
        until = time.monotonic() + seconds
        while True:
            if self._pushed:
                return self._pushed.popleft()
            reply = self._reader.gets()
            if type(reply) is Push:
                return reply
            if type(reply) is ErrorReply:
                raise error_from_text(str(reply))
            left = until - time.monotonic()
            if left <= 0:
                return None
            self._limit(left)
            try:
                data = self._sock.recv(65536)
            except _TIMEOUTS:
                continue
            except OSError as exc:
                raise ServerUnavailable(f"the connection broke: {exc}") from exc
            if not data:
                raise ServerUnavailable("the server closed the connection")
            self._reader.feed(data)

    def tell(self, packed: bytes, timeout: float) -> None:
        """Send *packed* without awaiting anything."""
        self._limit(timeout)
        try:
            self._sock.sendall(packed)
        except OSError as exc:
            raise ServerUnavailable(f"the connection broke: {exc}") from exc

    def _limit(self, timeout: float) -> None:
        """Let every send and receive take *timeout* seconds at most.

        By the kernel where possible: Python's own timeout polls before each of them, which doubles the
        system calls, and with them the switches between threads.
        """
        if timeout == self._timeout:
            return
        self._timeout = timeout
        if self._by_kernel:
            whole = int(timeout)
            limit = _TIMEVAL.pack(whole, max(1, int((timeout - whole) * 1e6)))
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        else:
            self._sock.settimeout(timeout)

    def is_quiet(self) -> bool:
        """Whether the connection is still open and nothing unasked for has arrived."""
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        return not poller.poll(0)

    def close(self) -> None:
        self._opened.disconnect()


class Wire(wire.Forkable):
    """Sends calls to one server, for any number of threads."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self.timeout = door.settings.timeout
        self._idle: deque[Connection] = deque()
        self._ears: deque[Connection] = deque()  # have heard pushes: for listening only
        self._open = 0
        self._counting = threading.Lock()
        self._closed = False
        wire.survive_fork(self)

    def send(self, call: Call[T]) -> T:
        """Carry out one call: one round trip, two more when the server does not know the script yet."""
        timeout = call.timeout or self.timeout
        reply = self._ask(wire.pack_call(call), timeout, call.script.replay)
        if type(reply) is ErrorReply:
            if wire.is_noscript(reply):
                self._ask(wire.pack_load(call.script), timeout, True)
                reply = self._ask(wire.pack_call(call), timeout, call.script.replay)
            if type(reply) is ErrorReply:
                raise wire.refusal(reply, call)
        return call.decode(reply)

    def command(self, *parts: Arg) -> Any:
        """A bare command that may be sent twice, such as PING or INFO."""
        reply = self._ask(wire.pack(parts), self.timeout, True)
        if type(reply) is ErrorReply:
            raise error_from_text(str(reply))
        return reply

    def listen(self) -> Ear:
        return Ear(self)

    def close(self) -> None:
        self._closed = True
        for idle in (self._idle, self._ears):
            while idle:
                self.drop(idle.pop())
        self._door.close()

    def forget(self) -> None:
        for idle in (self._idle, self._ears):
            while idle:
                idle.pop().close()
        self._open = 0
        self._counting = threading.Lock()

    def _ask(self, packed: bytes, timeout: float, again: bool) -> Any:
        """One reply. What certainly never arrived, or may arrive twice (*again*), is sent a second time."""
        for last in (False, True):
            connection = self.borrow(timeout)
            try:
                reply = connection.ask(packed, timeout)
            except ServerUnavailable as exc:
                self.drop(connection)
                if last or (exc.sent and not again):
                    raise
            except BaseException:
                self.drop(connection)
                raise
            else:
                self.give_back(connection)
                return reply
        raise AssertionError("unreachable")

    def borrow(self, within: float) -> Connection:
        """A connection nobody else uses: the one used last, if the server has not closed it meanwhile."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self.connect(within)
            if time.monotonic() - connection.used_at < QUIET_SECONDS or connection.is_quiet():
                return connection
            self.drop(connection)

    def connect(self, within: float) -> Connection:
        """A new connection, counted against ``max_connections``."""
        if self._closed:
            raise ServerUnavailable("this Tetrad is closed", sent=False)
        most = self._door.settings.max_connections
        with self._counting:
            if self._open >= most:
                raise ServerUnavailable(
                    f"all {most} connections to {self._door.settings.where} are in use; "
                    "raise max_connections in the URL or use fewer threads",
                    sent=False,
                )
            self._open += 1
        try:
            return Connection(self._door, within)
        except BaseException:
            with self._counting:
                self._open -= 1
            raise

    def borrow_ear(self) -> Connection:
        """A connection for listening."""
        try:
            return self._ears.pop()
        except IndexError:
            return self.connect(self.timeout)

    def give_back_ear(self, connection: Connection) -> None:
        self.give_back(connection, self._ears)

    def give_back(self, connection: Connection, idle: deque[Connection] | None = None) -> None:
        """Keep *connection* for the next caller, and close one that has been idle for too long."""
        now = connection.used_at = time.monotonic()
        idle = self._idle if idle is None else idle
        idle.append(connection)
        if len(idle) > 1 and now - idle[0].used_at > IDLE_SECONDS or self._closed:
            try:
                self.drop(idle.popleft())
            except IndexError:  # another thread was faster
                pass

    def drop(self, connection: Connection) -> None:
        connection.close()
        with self._counting:
            self._open = max(0, self._open - 1)


class Ear:
    """The subscriptions of one waiting flow, on a connection of their own."""

    def __init__(self, owner: Wire) -> None:
        self._owner = owner
        self._connection: Connection | None = None
        self._channels: list[str] = []

    def wake(self, channel: str, seconds: float) -> bytes | None:
        """See `tetrad._core.call.Wake`."""
        until = time.monotonic() + seconds
        try:
            if self._connection is None and self._channels:
                self._listen(self._channels)
                return None  # what was pushed meanwhile is lost
            if channel not in self._channels:
                self._channels.append(channel)
                try:
                    self._listen([channel])
                except ServerUnavailable:  # one that had idled too long: a new one, once
                    self._drop()
                    self._listen(self._channels)
            wanted = channel.encode()
            message = self._until(lambda push: push[0] == b"smessage" and push[1] == wanted, until)
            return None if message is None else message[2]
        except ServerUnavailable:
            self._drop()
            return None

    def close(self) -> None:
        """End the subscriptions, without waiting for it: what still arrives is for nobody."""
        if self._connection is not None:
            try:
                self._connection.tell(wire.pack(("SUNSUBSCRIBE", *self._channels)), self._owner.timeout)
                self._owner.give_back_ear(self._connection)
                self._connection = None
            except ServerUnavailable:
                self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._owner.drop(self._connection)
            self._connection = None

    def _listen(self, channels: list[str]) -> None:
        if self._connection is None:
            self._connection = self._owner.borrow_ear()
        timeout = self._owner.timeout
        for channel in channels:
            wanted = channel.encode()
            self._connection.tell(wire.pack(("SSUBSCRIBE", channel)), timeout)
            until = time.monotonic() + timeout
            if self._until(lambda push: push[0] == b"ssubscribe" and push[1] == wanted, until) is None:  # noqa: B023
                raise ServerTimeout(f"no answer to SSUBSCRIBE within {timeout:g} s", key=channel)

    def _until(self, wanted: Callable[[list[Any]], bool], until: float) -> list[Any] | None:
        connection = self._connection
        assert connection is not None
        while True:
            push = connection.push(max(0.0, until - time.monotonic()))
            if push is None or wanted(push):
                return push
