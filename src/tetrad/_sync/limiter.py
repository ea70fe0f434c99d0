# Generated from src/tetrad/_async/limiter.py by tools/unasync.py: edit that file, then run `make sync`.
"""`Limiter`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Literal, ParamSpec, TypeVar

from tetrad._core.wire_sync import Wire
from tetrad._ops.limit import Limiter as LimiterCalls
from tetrad._ops.limit import check_cost, chooser
from tetrad.types import Decision, Limit

P = ParamSpec("P")
T = TypeVar("T")


class Limiter:
    """Decides, by the server's clock and in one round trip, whether a key may go on.

    *limits* are texts such as ``"100/minute"``, ``"10/second; burst=50"``, ``"1000 per 2 hours"``, or `Limit` values.
    Several are decided together and atomically: a refusal consumes from none of them.

    - ``"gcra"``: a token bucket. In any stretch of time a key is admitted at most ``burst + rate x time``, so up to
      twice the limit in one period after a pause when burst equals it; permits come back one by one.
    - ``"fixed-window"``: at most the limit in each window, aligned to the epoch; at the edge of two, up to twice.

    A limit that replaces another takes over what is owed, up to its burst. A key that is not used leaves nothing
    behind. After a step of the server's clock nobody waits for longer than two fillings of a bucket.

    >>> with Tetrad("embedded:?memory") as t:
    ...     limiter = t.limiter("login", "2/minute")
    ...     [bool(limiter.hit("ada")) for _ in range(3)]
    [True, True, False]
    """

    def __init__(
        self,
        wire: Wire,
        prefix: str,
        name: str,
        limits: Sequence[str | Limit],
        *,
        algorithm: Literal["gcra", "fixed-window"],
    ) -> None:
        self._wire = wire
        self._calls = LimiterCalls(prefix, name, limits, algorithm)

    def __repr__(self) -> str:
        return f"Limiter({self.name!r}, {', '.join(repr(str(limit)) for limit in self.limits)})"

    @property
    def name(self) -> str:
        """The limiter's name."""
        return self._calls.name

    @property
    def limits(self) -> tuple[Limit, ...]:
        """What is decided together."""
        return self._calls.limits

    def hit(self, key: str, cost: int = 1) -> Decision:
        """Take *cost* permits of *key* if all limits have them. A refusal takes none.

        A cost above the burst can never be allowed: it is refused with ``retry_after=inf``. A cost of 0 takes nothing.
        Never sent twice: an error leaves open whether it counted. `ValueError` for a negative or fractional cost.
        """
        return self._wire.send(self._calls.hit(key, cost))

    def peek(self, key: str, cost: int = 1) -> Decision:
        """What `hit` would answer now, with the permits left as they are. Takes nothing."""
        return self._wire.send(self._calls.peek(key, cost))

    def reset(self, key: str) -> bool:
        """Give *key* all its permits back; ``False`` when it had them. Works when the server's memory is full."""
        return self._wire.send(self._calls.reset(key))

    def limit(self, *, key: str | Callable[..., str], cost: int = 1) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """Decorate a function to take *cost* permits before each call, or raise `RateLimited` with ``retry_after``.

        *key* is a str, or a function of the call's arguments that returns one.

        >>> with Tetrad("embedded:?memory") as t:
        ...     @t.limiter("greetings", "10/minute").limit(key=lambda user: user)
        ...     def greet(user):
        ...         return f"hello {user}"
        ...
        ...     greet("ada")
        'hello ada'
        """

        choose = chooser(key)
        check_cost(cost)

        def decorate(function: Callable[P, T]) -> Callable[P, T]:
            @functools.wraps(function)
            def limited(*args: P.args, **kwargs: P.kwargs) -> T:
                name = choose(*args, **kwargs)
                decision = self.hit(name, cost)
                if not decision:
                    raise self._calls.refused(name, decision)
                return function(*args, **kwargs)

            return limited

        return decorate
