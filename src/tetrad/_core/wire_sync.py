"""The blocking wire: a last-in-first-out list of connections, one borrowed by each call.

A connection whose reply did not come, for whatever reason, is closed and never reused, so a late
reply reaches nobody. A waiting flow keeps a connection of its own and reads the server's pushes there.
"""

from __future__ import annotations

import _socket
import select
import socket
import ssl
import struct
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import hiredis

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
    """One connection: send a packed command, receive its reply."""

    __slots__ = ("__weakref__", "_by_kernel", "_opened", "_pushed", "_reader", "_sock", "_timeout", "used_at")

    _sock: socket.socket

    def __init__(self) -> None:
        self._opened: Any = None
        self._reader = wire.new_reader()
        self._timeout = -1.0
        self._by_kernel = False
        self._pushed: deque[list[Any]] = deque()
        self.used_at = 0.0

    def open(self, door: Door, within: float) -> None:
        sock: Any
        sock, self._opened = door.open(within)
        self._sock = sock
        # not where it only looks like one of the kernel's sockets: TLS, or gevent's
        self._by_kernel = isinstance(sock, _socket.socket) and not isinstance(sock, ssl.SSLSocket)
        if self._by_kernel:
            self._sock.settimeout(None)

    def ask(self, packed: bytes, timeout: float) -> Any:
        """The reply to *packed*; an error reply is a value. Raises `ServerTimeout` or `ServerUnavailable`."""
        until = time.monotonic() + timeout
        self.tell(packed, timeout)
        reader, receive = self._reader, self._sock.recv
        try:
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
                left = until - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self._limit(left)
        except _TIMEOUTS as exc:
            raise ServerTimeout(f"no answer from the server within {timeout:g} s") from exc
        except OSError as exc:
            if isinstance(exc, ServerUnavailable):
                raise
            raise ServerUnavailable(f"the connection broke before the answer came: {exc}") from exc
        except hiredis.HiredisError as exc:
            raise ServerUnavailable(f"the server sent something that is no reply: {exc}") from exc

    def push(self, seconds: float) -> list[Any] | None:
        """The next message the server pushes, or ``None`` after *seconds*; `ServerUnavailable` when it is gone."""
        until = time.monotonic() + seconds
        try:
            while True:
                if self._pushed:
                    return self._pushed.popleft()
                reply = self._reader.gets()
                if type(reply) is Push:
                    return reply
                if type(reply) is ErrorReply:
                    raise error_from_text(str(reply))
                left = until - time.monotonic()
                if left <= 0 and self.is_quiet():
                    return None
                self._limit(max(left, 0.001))
                try:
                    data = self._sock.recv(65536)
                except _TIMEOUTS:
                    continue
                if not data:
                    raise ServerUnavailable("the server closed the connection")
                self._reader.feed(data)
        except OSError as exc:
            if isinstance(exc, ServerUnavailable):
                raise
            raise ServerUnavailable(f"the connection broke: {exc}") from exc
        except hiredis.HiredisError as exc:
            raise ServerUnavailable(f"the server sent something that is no push: {exc}") from exc

    def tell(self, packed: bytes, timeout: float) -> None:
        """Send *packed* without awaiting anything. What did not leave whole, the server does not carry out."""
        try:
            self._limit(timeout)
            self._sock.sendall(packed)
        except _TIMEOUTS as exc:
            raise ServerTimeout(f"the server took no more bytes within {timeout:g} s") from exc
        except OSError as exc:
            raise ServerUnavailable(f"the connection had broken: {exc}", sent=False) from exc

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
        if self._opened is not None:
            self._opened.disconnect()


class Wire(wire.Forkable):
    """Sends calls to one server, for any number of threads."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self.timeout = door.settings.timeout
        self._idle: deque[Connection] = deque()
        self._ears: deque[Connection] = deque()  # have heard pushes: for listening only
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._counting = threading.Lock()
        self._clean_ups: set[threading.Thread] = set()
        self._closed = False
        wire.survive_fork(self)

    def send(self, call: Call[T]) -> T:
        """Carry out one call: one round trip, two more when the server does not know the script yet."""
        timeout = call.timeout or self.timeout
        reply = self._ask(wire.pack_call(call), timeout, call.script.replay)
        if type(reply) is ErrorReply:
            if wire.is_noscript(reply):
                reply = self._ask(wire.pack_load(call.script), timeout, True)
                if type(reply) is not ErrorReply:
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

    def keep(self, thread: threading.Thread) -> None:
        """Hold on to a clean-up thread; `close` awaits it."""
        with self._counting:
            self._clean_ups = {thread, *(other for other in self._clean_ups if other.is_alive())}

    def close(self) -> None:
        """Finish the clean-ups and close the idle connections; those in use are closed when they are given back."""
        for thread in self._clean_ups - {threading.current_thread()}:
            thread.join()
        self._closed = True
        for idle in (self._idle, self._ears):
            while idle:
                self.drop(idle.pop())
        self._door.close()

    def forget(self) -> None:
        for connection in list(self._all):
            connection.close()
        self._idle.clear()
        self._ears.clear()
        self._all = weakref.WeakSet()
        self._counting = threading.Lock()
        self._clean_ups = set()

    def _ask(self, packed: bytes, timeout: float, again: bool) -> Any:
        """One reply. What certainly never arrived, or may arrive twice (*again*), is sent a second time."""
        until = time.monotonic() + timeout
        left, trusted, sent = timeout, QUIET_SECONDS, False
        while True:
            try:
                connection = self.borrow(left, trusted)
            except ServerUnavailable as exc:
                exc.sent = exc.sent or sent  # the first time, perhaps
                raise
            try:
                reply = connection.ask(packed, left)
            except ServerUnavailable as exc:
                self.drop(connection)
                sent = exc.sent = exc.sent or sent
                left = until - time.monotonic()
                if not trusted or left <= 0 or (exc.sent and not again):
                    raise
                trusted = 0.0
            except BaseException:
                self.drop(connection)
                raise
            else:
                self.give_back(connection)
                return reply

    def borrow(self, within: float, trusted: float = QUIET_SECONDS) -> Connection:
        """A connection nobody else uses: the one used last, if the server has not closed it meanwhile.

        One that was used within the last *trusted* seconds is not looked at.
        """
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self.connect(within)
            if time.monotonic() - connection.used_at < trusted or connection.is_quiet():
                return connection
            self.drop(connection)

    def connect(self, within: float) -> Connection:
        """A new connection, counted against ``max_connections``."""
        if self._closed:
            raise ServerUnavailable("this Tetrad is closed", sent=False)
        most = self._door.settings.max_connections
        connection = Connection()
        with self._counting:
            if len(self._all) >= most and not self._close_one():
                raise ServerUnavailable(
                    f"all {most} connections to {self._door.settings.where} are in use; "
                    "raise max_connections in the URL or use fewer threads",
                    sent=False,
                )
            self._all.add(connection)
        try:
            connection.open(self._door, within)
        except BaseException:
            self._all.discard(connection)
            raise
        return connection

    def _close_one(self) -> bool:
        """Make room by closing an idle connection; whether there was one."""
        for idle in (self._ears, self._idle):
            try:
                self.drop(idle.popleft())
            except IndexError:
                continue
            return True
        return False

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
        try:
            if len(idle) > 1 and now - idle[0].used_at > IDLE_SECONDS or self._closed:
                self.drop(idle.popleft())
        except IndexError:  # another thread was faster
            pass

    def drop(self, connection: Connection) -> None:
        connection.close()
        self._all.discard(connection)


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
            renewed = self._connection is None and bool(self._channels)
            new = channel not in self._channels
            if new:
                self._channels.append(channel)
            if new or renewed:
                self._listen([channel])
            if renewed:
                return None  # what was pushed meanwhile is lost
            wanted = channel.encode()
            try:
                message = self._until(lambda push: push[0] == b"smessage" and push[1] == wanted, until)
            except ServerUnavailable:
                self._drop()
                return None
            return None if message is None else message[2]
        except BaseException:  # half-read, or half-subscribed: of no use to anybody else
            self._drop()
            raise

    def close(self) -> None:
        """End the subscriptions, without waiting for it: what still arrives is for nobody."""
        if self._connection is not None:
            try:
                self._connection.tell(wire.pack(("SUNSUBSCRIBE", *self._channels)), self._owner.timeout)
            except (ServerUnavailable, ServerTimeout):
                self._drop()
            else:
                self._owner.give_back_ear(self._connection)
                self._connection = None

    def _drop(self) -> None:
        if self._connection is not None:
            self._owner.drop(self._connection)
            self._connection = None

    def _listen(self, channels: list[str]) -> None:
        """Subscribe to *channels*, or on another connection to all: one that had idled too long may be broken."""
        timeout = self._owner.timeout
        if self._connection is None:
            self._connection, channels = self._owner.borrow_ear(), self._channels
        try:
            self._subscribe(channels, timeout)
        except ServerUnavailable:
            self._drop()
            self._connection = self._owner.connect(timeout)
            self._subscribe(self._channels, timeout)

    def _subscribe(self, channels: list[str], timeout: float) -> None:
        assert self._connection is not None
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
