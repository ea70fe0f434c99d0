"""What the documentation promises of a token bucket, checked on what was admitted and on nothing else.

The scripts are the real ones on a real server, with a clock that is given: see `tests.test_limit_model.World`.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.servers import Server
from tests.test_limit_model import SECOND, START, World, gcra, model_settings
from tetrad import Limit
from tetrad._ops import limit as ops

some = settings(model_settings, max_examples=100)

# How far time goes, in parts of what one permit takes; in milliseconds where counting is in them.
FORWARD = st.sampled_from([0, 0, 0.2, 0.9, 1, 1.1, 2.5, 7, 40])
ANYWHERE = st.one_of(FORWARD, FORWARD, st.sampled_from([-0.3, -1, -3, -100]))
GREED = st.sampled_from(["one", "one", "all", "too much"])


@pytest.fixture(scope="module")
def world(server: Server) -> Iterator[World]:
    world = World(server.url("unix"))
    yield world
    world.redis.close()


class Bucket:
    """One key of a limiter with one limit."""

    def __init__(self, world: World, limit: Limit) -> None:
        self.world = world
        self.calls = ops.Limiter("tetrad", f"promise-{uuid.uuid4().hex}", [limit], "gcra")
        self.tick = ops.scale_gcra(limit)[4]
        self.rate = Fraction(limit.count, ops.micros_of(limit))
        self.fill = math.ceil(limit.burst / self.rate / self.tick) * self.tick

    def hit(self, now: int, greed: str = "one") -> int:
        """The permits that are admitted to somebody who takes one, or all that are left, or asks for more first."""
        left = self.world.ask(self.calls.peek("k", 1), now).remaining
        if greed == "too much":
            assert not self.world.ask(self.calls.hit("k", left + 1), now)
        cost = 1 if greed == "one" else left
        return cost if self.world.ask(self.calls.hit("k", cost), now) else 0

    def after(self, now: int, permits: float) -> int:
        """The time at which about so many *permits* have come back."""
        return now + math.ceil(Fraction(permits) / self.rate)

    def close(self) -> None:
        self.world.redis.delete(*self.calls.hit("k", 1).keys)


@some
@given(limit=gcra(), idle=st.integers(0, 10**15), cost=st.integers(1, 3))
def test_a_burst_at_one_instant_is_admitted_to_the_last(world: World, limit: Limit, idle: int, cost: int) -> None:
    """Where others' floating point refuses the last permit of a burst, or admits one more, this is exact."""
    bucket = Bucket(world, Limit(limit.count, per=limit.per, burst=min(limit.burst, 40)))
    burst = bucket.calls.limits[0].burst
    for now in (START, START + bucket.fill + idle):
        admitted = [bool(world.ask(bucket.calls.hit("k", cost), now)) for _ in range(burst // cost + 2)]
        rest = [bool(world.ask(bucket.calls.hit("k", 1), now)) for _ in range(cost)]

        assert admitted == [True] * (burst // cost) + [False] * 2
        assert rest == [True] * (burst % cost) + [False] * (cost - burst % cost)
    bucket.close()


@some
@given(limit=gcra(), steps=st.lists(st.tuples(FORWARD, GREED), min_size=5, max_size=40))
def test_no_stretch_of_time_sees_more_than_burst_and_rate(world: World, limit: Limit, steps: Any) -> None:
    """Between any two instants: at most burst + rate x time, whatever was asked for and refused."""
    bucket, now, admitted = Bucket(world, limit), START, []
    for part, greed in steps:
        now = bucket.after(now, part)
        admitted.append((now, bucket.hit(now, greed)))
    blur = bucket.tick - 1  # two instants in different milliseconds may be nearly that much closer
    for first, (begin, _) in enumerate(admitted):
        taken = 0
        for end, permits in admitted[first:]:
            taken += permits
            assert taken <= limit.burst + bucket.rate * (end - begin + blur)
    bucket.close()


@some
@given(limit=gcra(), steps=st.lists(st.tuples(FORWARD, st.just("all")), min_size=5, max_size=40))
def test_whoever_takes_all_gets_all(world: World, limit: Limit, steps: Any) -> None:
    """No permit is lost to rounding: who never lets the bucket fill up gets burst + rate x time, rounded down."""
    bucket, now = Bucket(world, limit), START
    taken = bucket.hit(now, "all")
    begin = START - START % bucket.tick
    longest = math.floor((limit.burst - 1) / bucket.rate / bucket.tick) * bucket.tick
    for part, greed in steps:
        now = min(bucket.after(now, part), now + longest)
        taken += bucket.hit(now, greed)

        assert taken == math.floor(limit.burst + bucket.rate * (now - now % bucket.tick - begin))
    bucket.close()


@some
@given(limit=gcra(), steps=st.lists(st.tuples(ANYWHERE, GREED), min_size=5, max_size=40))
def test_a_clock_that_jumps_gives_nothing_away_and_locks_nobody_out(world: World, limit: Limit, steps: Any) -> None:
    """At most what its movements forward pay for; and after a refusal, whoever waits for two fillings is let in."""
    bucket, now, taken, forward, back = Bucket(world, limit), START, 0, 0, 0
    for part, greed in steps:
        before, now = now, bucket.after(now, part)
        forward += max(now - before, 0)
        back += now < before
        taken += bucket.hit(now, greed)

        assert taken <= limit.burst + bucket.rate * (forward + (back + 1) * (bucket.tick - 1))
        decision = world.ask(bucket.calls.hit("k", limit.burst), now)
        if decision:
            taken += limit.burst
        else:
            assert decision.retry_after * SECOND <= 2 * bucket.fill
            assert world.ask(bucket.calls.peek("k", limit.burst), now + 2 * bucket.fill)
    bucket.close()


LIMITS = st.lists(st.builds(Limit, st.integers(1, 50), per=st.integers(1, 10**6)), min_size=2, max_size=6, unique=True)


@some
@given(limits=LIMITS, steps=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 10)), min_size=1, max_size=6))
def test_changing_the_limit_is_no_way_around_it(world: World, limits: list[Limit], steps: Any) -> None:
    """At one instant: no more than the largest burst after any number of changes, and each its own when they return."""
    name = f"change-{uuid.uuid4().hex}"
    calls = [ops.Limiter("tetrad", name, [limit], "gcra") for limit in limits]
    taken = 0
    for turn in range(3):
        for limiter in calls:
            for times, cost in steps:
                for _ in range(times):
                    taken += cost if world.ask(limiter.hit("k", cost), START) else 0
            if turn == 0:
                assert taken <= max(limit.burst for limit in limits)
    assert taken <= sum(limit.burst for limit in limits)
    world.redis.delete(*calls[0].hit("k", 1).keys)
