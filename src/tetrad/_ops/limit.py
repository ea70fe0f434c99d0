"""Rate limits: what is sent, and what the answer means.

Every limit is a bucket of debt, counted in whole numbers (`lua/include/limit_debt.lua`). For GCRA a limit is ``count``
permits every ``per`` microseconds, both divided by their greatest common divisor: ``rate`` every ``period`` ticks. A
permit costs ``period`` units and every tick pays off ``rate``, so no fraction ever arises. A tick is a microsecond, or
a millisecond where ``burst x period`` would not fit the 53 bits of a Lua number. A fixed window is the bucket whose
tick is the window and whose rate is all of it. (GCRA: ITU-T I.371, as a meter of debt instead of arrival times.)
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from hashlib import blake2b

from tetrad._core.call import Arg, Call
from tetrad._core.keys import check_name, escape
from tetrad._core.scripts import load
from tetrad.errors import ConfigurationError, RateLimited
from tetrad.types import Decision, Limit, LimitState

HIT = load("limit_hit")
PEEK = load("limit_peek")
RESET = load("limit_reset")

ALGORITHMS = ("gcra", "fixed-window")
MOST_LIMITS = 16
EXACT = 2**53  # whole numbers below it are exact in Lua
LONGEST_FILL = 2**51  # microseconds, 71 years: the server's clock and what is added to it stay below EXACT

_UNITS = {
    name: micros
    for micros, names in {
        1: "us microsecond microseconds",
        1_000: "ms millisecond milliseconds",
        1_000_000: "s sec secs second seconds",
        60_000_000: "m min mins minute minutes",
        3_600_000_000: "h hour hours",
        86_400_000_000: "d day days",
        604_800_000_000: "w week weeks",
    }.items()
    for name in names.split()
}
_TEXT = re.compile(
    r"\s*(?P<count>\d{1,16})\s*(?:/|\bper\b)\s*(?:(?P<whole>\d{1,16})(?:\.(?P<part>\d{1,16}))?)?\s*(?P<unit>[a-z]+)\s*"
    r"(?:;\s*burst\s*=\s*(?P<burst>\d{1,16})\s*)?",
    re.ASCII | re.IGNORECASE,
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
    match = _TEXT.fullmatch(limit)
    unit = match and _UNITS.get(match["unit"].lower())
    if not match or not unit:
        raise ValueError(
            f"{limit!r:.80} is no limit; write it like '100/minute', '10/second; burst=50' or '1000 per 2 hours'"
        )
    part = match["part"] or ""
    micros, rest = divmod(int((match["whole"] or "1") + part) * unit, 10 ** len(part))
    if rest:
        raise ValueError(f"{limit!r:.80} is no limit: its period is no whole number of microseconds")
    burst = match["burst"]
    return Limit(int(match["count"]), per=micros / 1_000_000, burst=int(burst) if burst else None)


def check_cost(cost: object) -> int:
    """*cost* if it is a number of permits, else `ValueError` (`TypeError` for what is no number)."""
    if type(cost) is int and cost >= 0:
        return cost
    error = ValueError if isinstance(cost, (int, float)) else TypeError
    raise error(f"cost must be a whole number of permits from 0, got {cost!r:.80}")


def chooser(key: str | Callable[..., str]) -> Callable[..., str]:
    """What makes the key of a decorated call: *key* itself, or a function that always gives this one."""
    if callable(key):
        return key
    check_name(key, "limit key")
    return lambda *args, **kwargs: key


class Limiter:
    """A limiter's limits, ready to be sent, and its keys."""

    __slots__ = ("_args", "_head", "limits", "name")

    def __init__(self, prefix: str, name: str, limits: Sequence[str | Limit], algorithm: str) -> None:
        self.name = check_name(name, "limiter name")
        self._head = f"{prefix}:limit:{{{escape(name)}:"
        if algorithm not in ALGORITHMS:
            raise ConfigurationError(f"algorithm must be one of {', '.join(ALGORITHMS)}, got {algorithm!r:.80}")
        if not 1 <= len(limits) <= MOST_LIMITS:
            raise ValueError(f"a limiter takes 1-{MOST_LIMITS} limits, such as '100/minute'; got {len(limits)}")
        self.limits = tuple(map(parse, limits))
        for at, limit in enumerate(self.limits):
            if limit in self.limits[:at]:
                raise ValueError(f"the limit '{limit}' is given twice")
        scale = scale_gcra if algorithm == "gcra" else scale_window
        self._args = tuple(str(number) for limit in self.limits for number in scale(limit))  # once, not for every hit

    def hit(self, key: str, cost: int) -> Call[Decision]:
        return Call(HIT, (self._key(key),), self._costing(cost), self._decided)

    def peek(self, key: str, cost: int) -> Call[Decision]:
        return Call(PEEK, (self._key(key),), self._costing(cost), self._decided)

    def reset(self, key: str) -> Call[bool]:
        return Call(RESET, (self._key(key),), (), bool)

    def refused(self, key: str, decision: Decision) -> RateLimited:
        """The error of a decorated call."""
        retry = decision.retry_after
        wait = retry if math.isinf(retry) else math.ceil(retry * 100) / 100  # rounded up: nobody should come too early
        advice = "the cost is above the burst" if math.isinf(retry) else f"try again in {wait:.12g} s"
        return RateLimited(
            f"limiter {self.name!r}: too many calls for {key!r:.80}; {advice}", key=key, retry_after=retry
        )

    def _key(self, key: str) -> str:
        return f"{self._head}{escape(check_name(key, 'limit key'))}}}"

    def _costing(self, cost: int) -> tuple[Arg, ...]:
        return min(check_cost(cost), EXACT), *self._args

    def _decided(self, reply: list[int]) -> Decision:
        limits = self.limits
        if len(limits) == 1:  # most limiters
            tightest = _state(limits[0], reply, 1)
            states: tuple[LimitState, ...] = (tightest,)
        else:
            states = tuple([_state(limit, reply, 3 * at + 1) for at, limit in enumerate(limits)])
            tightest = min(states, key=_slack)
        return Decision(
            reply[0] == 1,
            tightest.limit.count,
            tightest.remaining,
            tightest.retry_after,
            tightest.reset_after,
            states,
        )


def _state(limit: Limit, reply: list[int], at: int) -> LimitState:
    retry_us = reply[at + 1]
    return LimitState(limit, reply[at], retry_us / 1e6 if retry_us >= 0 else math.inf, reply[at + 2] / 1e6)


def _slack(state: LimitState) -> tuple[float, int]:
    return -state.retry_after, state.remaining


def micros_of(limit: Limit) -> int:
    """The period of *limit* in microseconds: a whole number, `Limit` has seen to that."""
    return round(limit.per * 1_000_000)


def identity(limit: Limit) -> int:
    """The number that stands for *limit* in what is stored: 48 bits of its text's hash."""
    return int.from_bytes(blake2b(str(limit).encode(), digest_size=6).digest())


def scale_gcra(limit: Limit) -> tuple[int, int, int, int, int]:
    """id, rate, period, burst, tick: the limit in whole numbers, or `ConfigurationError` where it does not fit them."""
    micros = micros_of(limit)
    for tick in (1, 1000):
        ticks, odd = divmod(micros, tick)
        common = math.gcd(limit.count, ticks)
        rate, period = limit.count // common, ticks // common
        if odd or limit.burst * period >= EXACT:
            continue
        if -(-limit.burst * period // rate) * tick > LONGEST_FILL:
            raise ConfigurationError(f"the limit '{limit}' cannot be kept: to give its burst back takes over 70 years")
        return identity(limit), rate, period, limit.burst, tick
    raise ConfigurationError(
        f"the limit '{limit}' cannot be counted exactly: its burst x period is too large; "
        "take a smaller burst, a shorter period or rounder numbers"
    )


def scale_window(limit: Limit) -> tuple[int, int, int, int, int]:
    """The same for a fixed window, which has no burst of its own."""
    if limit.burst != limit.count:
        raise ConfigurationError(f"a fixed window has no burst of its own, got '{limit}'")
    return -identity(limit), limit.count, 1, limit.count, micros_of(limit)
