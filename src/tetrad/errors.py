"""Every exception that Tetrad raises.

"No" is a return value (a held lock, a refused hit, an absent member); "broken" is an exception::

    TetradError
    ├── ServerUnavailable   (also ConnectionError)  no connection, or it broke; LOADING, MAXCLIENTS
    ├── ServerTimeout       (also TimeoutError)     no answer in time; whether it was carried out is unknown
    ├── ServerRefused                               the server said no: READONLY, OOM, NOPERM, ...
    ├── LockTimeout         (also TimeoutError)     the lock was not ours in time
    ├── LeaseLost                                   a lease ended before its holder gave it back
    ├── RateLimited                                 a decorated call was over its limit
    ├── SessionGone                                 the session was destroyed or expired meanwhile
    ├── SessionConflict                             somebody else saved first (``save(check=True)``)
    ├── SessionTooLarge     (also ValueError)       the session would exceed ``max_size``
    ├── DataError                                   a stored value that Tetrad did not write
    └── ConfigurationError  (also ValueError)       a URL, option or stored configuration that cannot work

``ServerUnavailable`` is an ``OSError`` too, as ``ConnectionError`` always is: a broad
``suppress(OSError)`` would hide it. All of them survive pickling with their data.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ConfigurationError",
    "DataError",
    "LeaseLost",
    "LockTimeout",
    "RateLimited",
    "ServerRefused",
    "ServerTimeout",
    "ServerUnavailable",
    "SessionConflict",
    "SessionGone",
    "SessionTooLarge",
    "TetradError",
]


def _restore(cls: type[TetradError], message: str, data: dict[str, Any]) -> TetradError:
    error = cls(message)
    error.__dict__.update(data)
    return error


class TetradError(Exception):
    """The root of the tree; ``key`` names the object concerned, where there is one."""

    key: str | None

    def __init__(self, message: str = "", *, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key

    @property
    def message(self) -> str:
        """What happened and what to do about it."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.message, self.__dict__)


class ServerUnavailable(TetradError, ConnectionError):
    """No connection could be made, it broke, or the server is not serving yet (LOADING, MAXCLIENTS).

    ``sent`` is whether the command may have reached the server; ``False`` means it certainly did not.
    """

    sent: bool

    def __init__(self, message: str = "", *, key: str | None = None, sent: bool = True) -> None:
        super().__init__(message, key=key)
        self.sent = sent


class ServerTimeout(TetradError, TimeoutError):
    """No answer came in time. Whether the server carried the command out is not known."""


class ServerRefused(TetradError):
    """The server answered with an error; ``code`` is its first word (``"OOM"``, ``"READONLY"``, ...)."""

    code: str

    def __init__(self, message: str = "", *, key: str | None = None, code: str = "ERR") -> None:
        super().__init__(message, key=key)
        self.code = code


class LockTimeout(TetradError, TimeoutError):
    """The lock was not ours within *timeout*."""


class LeaseLost(TetradError):
    """The lease ended before its holder gave it back; ``fence`` is the number it had."""

    fence: int

    def __init__(self, message: str = "", *, key: str | None = None, fence: int = 0) -> None:
        super().__init__(message, key=key)
        self.fence = fence


class RateLimited(TetradError):
    """A call was over its limit; it may be tried again after ``retry_after`` seconds."""

    retry_after: float

    def __init__(self, message: str = "", *, key: str | None = None, retry_after: float = 0.0) -> None:
        super().__init__(message, key=key)
        self.retry_after = retry_after


class SessionGone(TetradError):
    """The session was destroyed or has expired since it was loaded; nothing was stored."""


class SessionConflict(TetradError):
    """Somebody else saved the session since it was loaded; nothing was stored."""


class SessionTooLarge(TetradError, ValueError):
    """The session would hold ``size`` bytes, more than ``max_size``; the old state is intact."""

    size: int
    max_size: int

    def __init__(self, message: str = "", *, key: str | None = None, size: int = 0, max_size: int = 0) -> None:
        super().__init__(message, key=key)
        self.size = size
        self.max_size = max_size


class DataError(TetradError):
    """A stored value is damaged or was not written by Tetrad."""


class ConfigurationError(TetradError, ValueError):
    """A URL, an option or a stored configuration that cannot work; the message says what would."""
