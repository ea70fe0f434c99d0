"""Rate limits: what is sent, and what the answer means.

GCRA counts in whole numbers: a limit of ``count`` permits every ``per`` is, with both divided by their greatest
common divisor, ``rate`` permits every ``period`` ticks; a permit costs ``period``, and every tick pays off ``rate``. A
tick is a microsecond, or a millisecond where ``burst x period`` would not fit the 53 bits of a Lua number.
(The algorithm: ITU-T I.371, as a meter of debt instead of arrival times.)
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from tetrad._core.call import Arg, Call
from tetrad._core.keys import check_name, escape
from tetrad._core.scripts import load
from tetrad.errors import ConfigurationError, RateLimited
from tetrad.types import Decision, Limit, LimitState

HIT = load("limit_hit")
PEEK = load("limit_peek")
RESET = load("limit_reset")

MOST_LIMITS = 16
EXACT = 2**53  # whole numbers below it are exact in Lua

ALGORITHMS = ("gcra", "fixed-window")

_UNITS: dict[str, float] = {"s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600}
_UNITS |= {"d": 86400, "day": 86400, "w": 604800, "week": 604800, "ms": 0.001, "millisecond": 0.001}
_TEXT = re.compile(
    r"\s*(?P<count>\d+)\s*(?:/|\bper\b)\s*(?P<number>\d+(?:\.\d+)?)?\s*(?P<unit>[a-z]+)\s*"
    r"(?:;\s*burst\s*=\s*(?P<burst>\d+)\s*)?"
)


def parse(limit: str | Limit) -> Limit:
    """A limit from its text.

    >>> parse("10/second; burst=50"), parse("1000 per 2 hours")
    (Limit(10, per=1.0, burst=50), Limit(1000, per=7200.0, burst=1000))
    """
    if isinstance(limit, Limit):
        return limit
    if not isinstance(limit, str):
        raise TypeError(f"a limit must be a str or a Limit, got {type(limit).__name__} {limit!r:.80}")
    match = _TEXT.fullmatch(limit.lower())
    unit = match and (_UNITS.get(match["unit"]) or _UNITS.get(match["unit"].removesuffix("s")))
    if not match or not unit:
        raise ValueError(
            f"{limit!r:.80} is no limit; write it like '100/minute', '10/second; burst=50' or '1000 per 2 hours'"
        )
    burst = match["burst"]
    return Limit(int(match["count"]), per=float(match["number"] or 1) * unit, burst=int(burst) if burst else None)


class Limiter:
    """A limiter's limits, ready to be sent, and its keys."""

    __slots__ = ("_head", "args", "limits", "name")

    def __init__(self, prefix: str, name: str, limits: Sequence[str | Limit], algorithm: str) -> None:
        self.name = check_name(name, "limiter name")
        self._head = f"{prefix}:limit:{{{escape(name)}:"
        if algorithm not in ALGORITHMS:
            raise ConfigurationError(f"algorithm must be one of {', '.join(ALGORITHMS)}, got {algorithm!r:.80}")
        if not 1 <= len(limits) <= MOST_LIMITS:
            raise ValueError(f"a limiter takes 1-{MOST_LIMITS} limits, such as '100/minute'; got {len(limits)}")
        self.limits = tuple(map(parse, limits))
        args: list[Arg] = []
        for limit in self.limits:
            prepared = _gcra(limit) if algorithm == "gcra" else _fixed(limit)
            name_of_state = str(prepared[0])
            while name_of_state in args:  # two limits of the same period
                name_of_state += "+"
            args += (name_of_state, *prepared[1:])
        self.args = tuple(args)

    def hit(self, key: str, cost: int) -> Call[Decision]:
        return self._decide(HIT, key, cost)

    def peek(self, key: str, cost: int) -> Call[Decision]:
        return self._decide(PEEK, key, cost)

    def reset(self, key: str) -> Call[bool]:
        return Call(RESET, (self._key(key),), (), bool)

    def refused(self, key: str, decision: Decision) -> RateLimited:
        retry = "never" if math.isinf(decision.retry_after) else f"in {decision.retry_after:.3g} s"
        return RateLimited(
            f"limiter {self.name!r}: too many calls for {key!r:.80}; try again {retry}",
            key=key,
            retry_after=decision.retry_after,
        )

    def _key(self, key: str) -> str:
        return f"{self._head}{escape(check_name(key, 'limit key'))}}}"

    def _decide(self, script: Any, key: str, cost: int) -> Call[Decision]:
        if type(cost) is not int:
            raise (TypeError if isinstance(cost, bool) or not isinstance(cost, float) else ValueError)(
                f"cost must be an int, got {cost!r:.80}"
            )
        if cost < 0:
            raise ValueError(f"cost must not be negative, got {cost}")
        return Call(script, (self._key(key),), (min(cost, EXACT), *self.args), self._decided)

    def _decided(self, reply: list[int]) -> Decision:
        limits = self.limits
        if len(limits) == 1:
            allowed, remaining, retry_us, reset_us = reply
            retry = retry_us / 1e6 if retry_us >= 0 else math.inf
            reset = reset_us / 1e6
            state = LimitState(limits[0], remaining, retry, reset)
            return Decision(allowed == 1, limits[0].count, remaining, retry, reset, (state,))
        states = tuple(
            LimitState(limit, reply[at], reply[at + 1] / 1e6 if reply[at + 1] >= 0 else math.inf, reply[at + 2] / 1e6)
            for limit, at in zip(limits, range(1, len(reply), 3), strict=True)
        )
        tightest = min(states, key=lambda state: (-state.retry_after, state.remaining))
        return Decision(
            reply[0] == 1, tightest.limit.count, tightest.remaining, tightest.retry_after, tightest.reset_after, states
        )


def _micros(limit: Limit) -> int:
    return round(limit.per * 1_000_000)


def _gcra(limit: Limit) -> tuple[Arg, ...]:
    """name, rate, period, burst, tick"""
    for tick in (1, 1000):
        ticks = max(1, _micros(limit) // tick)
        if tick > 1 and ticks * tick != _micros(limit):
            break  # a period of odd microseconds cannot be counted in milliseconds
        common = math.gcd(limit.count, ticks)
        rate, period = limit.count // common, ticks // common
        if limit.burst * period < EXACT and rate < EXACT:
            return f"g{_micros(limit)}", rate, period, limit.burst, tick
    raise ConfigurationError(
        f"the limit {str(limit)!r} cannot be counted exactly: burst x period is too large; "
        "take a shorter period, a smaller burst or rounder numbers"
    )


def _fixed(limit: Limit) -> tuple[Arg, ...]:
    if limit.burst != limit.count:
        raise ConfigurationError(f"a fixed window has no burst of its own, got {str(limit)!r}")
    return f"f{_micros(limit)}", limit.count, _micros(limit), limit.count, 1


def key_of(key: str | Callable[..., str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The key of a decorated call: a fixed one, or what a function makes of the call's arguments."""
    return key(*args, **kwargs) if callable(key) else key
