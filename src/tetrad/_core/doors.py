"""Opening connections: all that Tetrad uses of redis-py's inside stands in this file.

redis-py makes the connection (address, TLS, AUTH, RESP3 HELLO, database); the socket or transport
it opened then belongs to the wire. A server that refuses connections or is still loading is tried
again, with jittered backoff, until ``connect_timeout`` has passed.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import random
import socket
import ssl
import time
from typing import Any

import redis.asyncio.connection
import redis.connection
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from tetrad._core.embedded import Embedded
from tetrad._core.refusals import refused
from tetrad._core.settings import Settings
from tetrad.errors import ConfigurationError, ServerRefused, ServerUnavailable, TetradError

_FIRST_BACKOFF, _LAST_BACKOFF = 0.01, 0.25


class Door:
    """The way to one server. Opens connections; keeps none."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._embedded = Embedded(settings.embedded) if settings.embedded else None

    def open(self, within: float) -> tuple[socket.socket, Any]:
        """A connected, authenticated socket speaking RESP3, and the object that must outlive its use.

        Takes ``connect_timeout`` or *within* seconds, whichever is less, besides the start of an embedded server.
        """
        address = self._address()
        until = time.monotonic() + min(within, self.settings.connect_timeout)
        backoff = _FIRST_BACKOFF
        while True:
            opened = self._connection(redis, address, until - time.monotonic())
            try:
                opened.connect()
                sock: socket.socket = _inside(opened, "_sock")
                return sock, opened
            except Exception as exc:  # redis-py lets errors of its own making through, too
                opened.disconnect()
                pause = backoff * random.uniform(0.5, 1.0)
                error = self._judge(exc)
                if not _may_pass(error, exc) or time.monotonic() + pause >= until:
                    raise error from exc
            except BaseException:
                opened.disconnect()
                raise
            time.sleep(pause)
            backoff = min(2 * backoff, _LAST_BACKOFF)
            address = self._address()

    async def aopen(self, protocol: asyncio.Protocol) -> tuple[asyncio.Transport, Any]:
        """Like `open`, for *protocol* on the running loop."""
        loop = asyncio.get_running_loop()
        address = await self._aaddress()
        until = loop.time() + self.settings.connect_timeout
        backoff = _FIRST_BACKOFF
        while True:
            opened = self._connection(redis.asyncio, address, until - loop.time())
            try:
                async with asyncio.timeout_at(until):
                    await opened.connect()
                transport: asyncio.Transport = _inside(opened, "_writer", "transport")
                transport.set_protocol(protocol)
                protocol.connection_made(transport)
                return transport, opened
            except Exception as exc:  # redis-py lets errors of its own making through, too
                await opened.disconnect(nowait=True)
                pause = backoff * random.uniform(0.5, 1.0)
                error = self._judge(exc)
                if not _may_pass(error, exc) or loop.time() + pause >= until:
                    raise error from exc
            except BaseException:
                await opened.disconnect(nowait=True)
                raise
            await asyncio.sleep(pause)
            backoff = min(2 * backoff, _LAST_BACKOFF)
            address = await self._aaddress()

    @staticmethod
    def abandon(opened: Any) -> None:
        """Let go of an async connection whose transport the wire has closed."""
        opened._writer = opened._reader = None

    def close(self) -> None:
        if self._embedded is not None:
            self._embedded.close()

    def _address(self) -> dict[str, Any]:
        return {"path": self._embedded.open()} if self._embedded is not None else {}

    async def _aaddress(self) -> dict[str, Any]:
        if self._embedded is None:
            return {}
        return await asyncio.get_running_loop().run_in_executor(None, self._address)

    def _connection(self, flavour: Any, address: dict[str, Any], within: float) -> Any:
        within = max(within, 0.001)
        settings = self.settings
        classes = flavour.connection if flavour is redis.asyncio else redis.connection
        cls = {"tls": classes.SSLConnection, "tcp": classes.Connection}.get(
            settings.kind, classes.UnixDomainSocketConnection
        )
        options = {
            **settings.options,
            **address,
            "protocol": 3,
            "socket_timeout": within,
            "socket_connect_timeout": within,
            "retry": Retry(NoBackoff(), 0),
            **_quiet(),
        }
        if settings.kind in ("tcp", "tls"):
            options["socket_keepalive"] = True
        return cls(**options)

    def _judge(self, error: Exception) -> TetradError:
        """Our error for what went wrong while connecting: the server's own words decide, where there are any."""
        where = self.settings.where
        while isinstance(error.__cause__, redis.RedisError):  # redis.asyncio wraps its own errors
            error = error.__cause__
        cause = error.__context__
        if isinstance(error, TetradError):
            return error
        if isinstance(error, redis.AuthenticationError):
            if "HELLO must be called" in str(error):  # redis-py has cut the code off
                return refused(f"{where} wants a password", "NOAUTH")
            return refused(f"{where} refused the connection: {error}", "WRONGPASS")
        if isinstance(error, redis.exceptions.NoPermissionError):
            return ServerRefused(f"{where} refused the connection: {error}", code="NOPERM")
        if isinstance(error, redis.BusyLoadingError):
            return ServerUnavailable(f"{where} is still loading its data: {error}", sent=False)
        if isinstance(error, (redis.TimeoutError, TimeoutError)):
            hint = "; does it speak TLS there?" if self.settings.kind == "tls" else ""
            return ServerUnavailable(
                f"no connection to {where} within {self.settings.connect_timeout:g} s{hint}", sent=False
            )
        if isinstance(error, redis.ResponseError):
            if "unknown command" in str(error).lower() or "NOPROTO" in str(error):
                return ConfigurationError(
                    f"{where} does not speak RESP3; Tetrad needs Valkey 7.2 or Redis 7.0 and later"
                )
            return ServerRefused(f"{where} refused the connection: {error}")
        if self.settings.kind == "tls" and isinstance(cause, (FileNotFoundError, PermissionError)):
            return ConfigurationError(f"a file that the URL names for TLS with {where} cannot be read: {cause}")
        return ServerUnavailable(f"no connection to {where}: {error}", sent=False)


def _may_pass(error: TetradError, cause: Exception) -> bool:
    """Whether another attempt may go better. A certificate that is not trusted will not be so a moment later."""
    return isinstance(error, ServerUnavailable) and not isinstance(cause.__context__, ssl.SSLError)


def _inside(opened: Any, *path: str) -> Any:
    """What redis-py keeps in private in *opened*; `ConfigurationError` where this version of it does not."""
    for name in path:
        opened = getattr(opened, name, None)
    if opened is None:
        raise ConfigurationError(
            f"redis-py {redis.__version__} keeps its connections in another way than Tetrad knows "
            f"(no {'.'.join(path)}); install one from 5.2 to 8.1"
        )
    return opened


@functools.cache
def _quiet() -> dict[str, Any]:
    """Options that keep redis-py from sending commands of its own at connect, as this version names them."""
    known = inspect.signature(redis.asyncio.connection.AbstractConnection.__init__).parameters
    if "driver_info" in known:
        return {"driver_info": None}
    return {"lib_name": None, "lib_version": None}
