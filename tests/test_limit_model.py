"""Limits against models in exact fractions. The scripts are the real ones on a real server; only their clock is given.

What a script stores is stripped of its time to live in the transaction that ran it, after a look at it: the model has
days pass that the server's clock does not see.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.servers import Server
from tetrad import Decision, Limit
from tetrad._core.scripts import Script, splice
from tetrad._ops import limit as ops

CLOCK = splice("-- @include clock\n")
GIVEN = "local function clock()\n  return tonumber(table.remove(ARGV))\nend\n"

SECOND, MINUTE, HOUR, DAY = 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000
START = 1_700_000_000_000_000  # microseconds; nothing is special about it

model_settings = settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))


class World:
    """A server whose limiter scripts take the time from us."""

    def __init__(self, url: str) -> None:
        self.redis = redis.Redis(unix_socket_path=url.removeprefix("unix://"))
        self.scripts = {script.name: self.with_clock(script) for script in (ops.HIT, ops.PEEK)}

    def with_clock(self, script: Script) -> str:
        assert script.text.count(CLOCK) == 1, "the scripts have another clock than the test replaces"
        sha: str = self.redis.script_load(script.text.replace(CLOCK, GIVEN))
        return sha

    def ask(self, call: Any, now: int) -> Decision:
        """The answer to *call* at *now*, in microseconds."""
        with self.redis.pipeline(transaction=True) as pipe:
            pipe.evalsha(self.scripts[call.script.name], 1, *call.keys, *call.args, now)
            pipe.pttl(*call.keys)
            pipe.persist(*call.keys)
            reply, self.ttl, _ = pipe.execute()
        decision: Decision = call.decode(reply)
        return decision


@pytest.fixture(scope="module")
def world(server: Server) -> Iterator[World]:
    world = World(server.url("unix"))
    yield world
    world.redis.close()


class Bucket:
    """A token bucket, as its definition says: a debt in permits that is paid off at an even pace."""

    def __init__(self, limit: Limit) -> None:
        self.burst = limit.burst
        self.micros = round(limit.per * SECOND)
        self.rate = Fraction(limit.count, self.micros)
        self.tick = ops.scale_gcra(limit)[4]
        self.fill = math.ceil(limit.burst / self.rate / self.tick) * self.tick
        self.debt, self.last = Fraction(0), 0

    def settle(self, now: int) -> tuple[Fraction, int]:
        """What is owed at *now*, and since when."""
        if self.last > now:
            return self.debt, now if self.last - now > self.fill else self.last
        elapsed = (now // self.tick - self.last // self.tick) * self.tick
        return max(Fraction(0), self.debt - elapsed * self.rate), now

    def free(self, debt: Fraction, last: int) -> int:
        """When *debt* is paid off."""
        return (last // self.tick + math.ceil(debt / self.rate / self.tick)) * self.tick


class Window(Bucket):
    """A fixed window, as its definition says: a count that starts again with each period since the epoch."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(limit)
        self.tick = self.fill = self.micros

    def settle(self, now: int) -> tuple[Fraction, int]:
        if self.last > now:
            return self.debt, now if self.last - now > self.fill else self.last
        return (self.debt if now // self.micros == self.last // self.micros else Fraction(0)), now

    def free(self, debt: Fraction, last: int) -> int:
        return (last // self.micros + 1) * self.micros if debt > 0 else last


class Model:
    """Limits that are decided together."""

    def __init__(self, limits: list[Limit], algorithm: str) -> None:
        self.buckets = [Bucket(limit) if algorithm == "gcra" else Window(limit) for limit in limits]

    def decide(self, now: int, cost: int, charge: bool) -> tuple[bool, list[tuple[int, float, float]], bool]:
        """Allowed; each limit's (remaining, retry_us, reset_us); whether the state was written."""
        settled = [bucket.settle(now) for bucket in self.buckets]
        over = [debt + cost - bucket.burst for bucket, (debt, _) in zip(self.buckets, settled, strict=True)]
        allowed = max(over) <= 0
        corrected = any(last < bucket.last for bucket, (_, last) in zip(self.buckets, settled, strict=True))
        paid = cost if charge and allowed else 0
        states = []
        for bucket, (debt, last), excess in zip(self.buckets, settled, over, strict=True):
            retry = 0.0 if excess <= 0 else math.inf if cost > bucket.burst else bucket.free(excess, last) - now
            debt += paid
            reset = bucket.free(debt, last) - now if debt > 0 else 0
            states.append((math.floor(bucket.burst - debt), retry, reset))
        written = charge and (paid > 0 or corrected)
        if written:
            for bucket, (debt, last) in zip(self.buckets, settled, strict=True):
                bucket.debt, bucket.last = debt + paid, last
        return allowed, states, written


def micros(seconds: float) -> float:
    return seconds if math.isinf(seconds) else round(seconds * SECOND)


def seen(decision: Decision) -> tuple[bool, list[tuple[int, float, float]]]:
    return decision.allowed, [
        (state.remaining, micros(state.retry_after), micros(state.reset_after)) for state in decision.states
    ]


PERIODS = st.sampled_from([1, 3, 1_000, 999_983, SECOND, 7 * SECOND, MINUTE, HOUR, DAY, 30 * DAY])
COUNTS = st.one_of(st.integers(1, 12), st.sampled_from([97, 1000, 1_000_000, 1_000_003]))
FEW = st.one_of(st.none(), st.integers(1, 15))


@st.composite
def gcra(draw: st.DrawFn) -> Limit:
    """A limit that can be counted; some in milliseconds."""
    limit = Limit(draw(COUNTS), per=draw(PERIODS) / SECOND, burst=draw(FEW))
    try:
        ops.scale_gcra(limit)
    except ValueError:
        assume(False)
    return limit


ALGORITHMS = st.tuples(*[st.sampled_from(["gcra", "fixed-window"])] * 2)


def windows() -> st.SearchStrategy[Limit]:
    return st.builds(lambda count, period: Limit(count, per=period / SECOND), st.integers(1, 15), PERIODS)


# A step: how far time goes (parts of the first period, and microseconds); the cost; 0 asks and anything else hits.
PARTS = st.sampled_from([0, 0, 0, 0.01, 0.1, 0.5, 0.999, 1, 1.3, 5, 20, -0.01, -0.4, -1, -1.5, -3, -40])
STEPS = st.lists(
    st.tuples(PARTS, st.integers(-3, 3), st.sampled_from([0, 1, 1, 1, 1, 2, 3, 7, 16, 10**6]), st.integers(0, 5)),
    min_size=5,
    max_size=60,
)


def play(world: World, limits: list[Limit], algorithm: str, steps: Any) -> None:
    limiter = ops.Limiter("tetrad", f"model-{uuid.uuid4().hex}", limits, algorithm)
    model = Model(limits, algorithm)
    now = START
    for part, odd, cost, kind in steps:
        now += round(part * limits[0].per * SECOND) + odd
        cost = max(limit.burst for limit in limits) if cost == 10**6 else cost
        call = limiter.peek("k", cost) if kind == 0 else limiter.hit("k", cost)
        allowed, states, written = model.decide(now, cost, kind != 0)
        decision = world.ask(call, now)

        assert seen(decision) == (allowed, states)
        if written:
            free = max(max(reset for *_, reset in states), *(bucket.last - now for bucket in model.buckets), 0)
            assert free / 1000 <= world.ttl <= free / 1000 + 2
        if kind != 0:  # what is asked corrects no clock that stepped back, and promises nothing
            check_promises(world, limiter, decision, now, cost, model.buckets)
    world.redis.delete(*limiter.hit("k", 1).keys)


def check_promises(world: World, limiter: Any, decision: Decision, now: int, cost: int, buckets: list[Bucket]) -> None:
    """The times in an answer are true: whoever comes then is let in, and nobody a tick earlier."""
    if not decision and not math.isinf(decision.retry_after):
        retry = int(micros(decision.retry_after))
        tick = max(1000 if bucket.tick == 1000 else 1 for bucket in buckets)

        assert 0 < retry <= 2 * max(bucket.fill for bucket in buckets)
        assert world.ask(limiter.peek("k", cost), now + retry)
        assert retry <= tick or not world.ask(limiter.peek("k", cost), now + retry - tick)
    for at, state in enumerate(decision.states):
        reset = int(micros(state.reset_after))

        assert world.ask(limiter.peek("k", 1), now + reset).states[at].remaining == state.limit.burst


@model_settings
@given(limits=st.lists(gcra(), min_size=1, max_size=1), steps=STEPS)
def test_one_limit_is_a_token_bucket(world: World, limits: list[Limit], steps: Any) -> None:
    """Whatever is hit and asked, and however the clock goes: every number is that of the model in fractions."""
    play(world, limits, "gcra", steps)


@model_settings
@given(limits=st.lists(windows(), min_size=1, max_size=1), steps=STEPS)
def test_one_fixed_window_is_a_count(world: World, limits: list[Limit], steps: Any) -> None:
    """The same for a window aligned to the epoch."""
    play(world, limits, "fixed-window", steps)


@model_settings
@given(limits=st.lists(gcra(), min_size=2, max_size=4, unique=True), steps=STEPS)
def test_limits_together_are_all_or_nothing(world: World, limits: list[Limit], steps: Any) -> None:
    """What one limit refuses, no other is charged for."""
    play(world, limits, "gcra", steps)


@model_settings
@given(limits=st.lists(windows(), min_size=2, max_size=4, unique=True), steps=STEPS)
def test_windows_together_are_all_or_nothing(world: World, limits: list[Limit], steps: Any) -> None:
    """The same for windows."""
    play(world, limits, "fixed-window", steps)


@model_settings
@given(first=gcra(), second=gcra(), algorithms=ALGORITHMS, cost=st.integers(1, 15), parts=st.floats(0, 1.5))
def test_another_limit_takes_the_debt_over(
    world: World, first: Limit, second: Limit, algorithms: tuple[str, str], cost: int, parts: float
) -> None:
    """As far as its burst goes: what was not paid off by the old rate is owed to the new limit, to a whole permit."""
    assume(first != second)
    old, new = (
        limit if algorithm == "gcra" else Limit(limit.count, per=limit.per)
        for limit, algorithm in zip((first, second), algorithms, strict=True)
    )
    cost = min(cost, old.burst)
    name = f"model-{uuid.uuid4().hex}"
    before, after = (
        ops.Limiter("tetrad", name, [limit], algorithm) for limit, algorithm in zip((old, new), algorithms, strict=True)
    )
    model = Model([old], algorithms[0])
    now = START + round(parts * old.per * SECOND)
    assert world.ask(before.hit("k", cost), START)
    model.decide(START, cost, True)
    owed = min(model.buckets[0].settle(now)[0], Fraction(new.burst))

    taken = new.burst - world.ask(after.peek("k", 1), now).remaining

    assert math.ceil(owed) <= taken <= math.ceil(owed * (1 + Fraction(1, 10**9)))
    decision = world.ask(after.hit("k", 0), now)  # stores what it took over
    assert decision.remaining == new.burst - taken
    paid = now + int(micros(decision.reset_after))
    assert world.ask(after.peek("k", 1), paid).remaining == new.burst  # by the new rate, however slow the old one was
    world.redis.delete(*after.hit("k", 1).keys)


@model_settings
@given(
    limits=st.lists(gcra(), min_size=2, max_size=4, unique=True), order=st.randoms(use_true_random=False), steps=STEPS
)
def test_the_order_of_limits_does_not_matter(world: World, limits: list[Limit], order: Any, steps: Any) -> None:
    """Processes that name the same limits in another order count the same."""
    name = f"model-{uuid.uuid4().hex}"
    model, now = Model(limits, "gcra"), START
    for part, odd, cost, kind in steps:
        now += round(part * limits[0].per * SECOND) + odd
        order.shuffle(mixed := list(limits))
        limiter = ops.Limiter("tetrad", name, mixed, "gcra")
        allowed, states, _ = model.decide(now, cost, kind != 0)
        decision = world.ask(limiter.hit("k", cost) if kind else limiter.peek("k", cost), now)

        found = {
            state.limit: (state.remaining, micros(state.retry_after), micros(state.reset_after))
            for state in decision.states
        }
        assert (decision.allowed, [found[limit] for limit in limits]) == (allowed, states)
    world.redis.delete(*limiter.hit("k", 1).keys)
