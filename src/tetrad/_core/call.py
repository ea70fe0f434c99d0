"""What an operation is: a value that says what to send, or a flow that says what to do next.

Rule of this module: nothing here waits, sends or looks at a clock. `Call` is one round trip as a
value. A *flow* is a generator that yields effects and is sent their outcomes; `drive.py` holds the
two loops, one blocking and one async, that carry effects out.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

from tetrad._core.scripts import Script

T = TypeVar("T")

Arg = str | bytes | int


class Call(Generic[T]):
    """One round trip: run *script* on *keys* with *args* and turn the raw reply into a ``T``.

    Raw replies are what the server's Lua returns under RESP2 rules: ``bytes``, ``int``, ``None``
    or a list of these. *timeout* (seconds) overrides the client's own for this call.
    """

    __slots__ = ("args", "decode", "keys", "script", "timeout")

    def __init__(
        self,
        script: Script,
        keys: tuple[str, ...],
        args: tuple[Arg, ...],
        decode: Callable[[Any], T],
        timeout: float | None = None,
    ) -> None:
        self.script = script
        self.keys = keys
        self.args = args
        self.decode = decode
        self.timeout = timeout

    def __iter__(self) -> Flow[T]:
        """``answer = yield from call`` inside a flow."""
        answer: T = yield self
        return answer

    def __repr__(self) -> str:
        return f"Call({self.script.name}, {self.keys}, {self.args})"


class Pause:
    """Wait *seconds*; the answer is the driver's monotonic clock afterwards. ``Pause(0)`` only reads the clock."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __iter__(self) -> Flow[float]:
        now: float = yield self
        return now


class Wake:
    """Wait up to *seconds* for a message that the server pushes on *channel*.

    The answer is the message, or ``None`` when time ran out or the connection was renewed (what
    was pushed meanwhile is lost, so a flow asks the server again after every ``None``). The first
    ``Wake`` of a channel subscribes to it and, with ``seconds=0``, returns once that is confirmed;
    the subscription ends with the flow.
    """

    __slots__ = ("channel", "seconds")

    def __init__(self, channel: str, seconds: float) -> None:
        self.channel = channel
        self.seconds = seconds

    def __iter__(self) -> Flow[bytes | None]:
        message: bytes | None = yield self
        return message


class Ask:
    """Call the caller's function (awaiting what it returns in the async flavour)."""

    __slots__ = ("args", "function")

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function = function
        self.args = args

    def __iter__(self) -> Flow[Any]:
        answer: Any = yield self
        return answer


class Aside:
    """Carry *flow* out apart from the caller, within the five seconds of a clean-up; its outcome reaches nobody.

    For what must be undone although the server does not answer: the caller gets its error at once.
    """

    __slots__ = ("flow",)

    def __init__(self, flow: Flow[Any]) -> None:
        self.flow = flow

    def __iter__(self) -> Flow[None]:
        yield self


Effect = Call[Any] | Pause | Wake | Ask | Aside
Flow = Generator[Effect, Any, T]


class Interrupted(Exception):
    """Thrown into a flow whose caller was cancelled or interrupted.

    What the flow yields from then on is clean-up: it runs apart from the caller, for at most five
    seconds, and its outcome reaches nobody. Flows catch `Interrupted`, never ``BaseException``.
    """
