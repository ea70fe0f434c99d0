"""What limiter calls send, refuse to send and make of replies: no server."""

from __future__ import annotations

import math
import pickle
import re
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tetrad._ops.limit import EXACT, LONGEST_FILL, Limiter, identity, parse, scale_gcra, scale_window
from tetrad.errors import ConfigurationError
from tetrad.types import Decision, Limit, LimitState

DAY = 86_400

LIMITS = st.builds(
    lambda count, micros, burst: Limit(count, per=micros / 1_000_000, burst=burst),
    st.one_of(st.integers(1, 1000), st.integers(1, EXACT - 1)),
    st.one_of(st.integers(1, 1000), st.integers(1, 10**7).map(lambda n: n * 1000), st.integers(1, 10**15)),
    st.one_of(st.none(), st.integers(1, 1000), st.integers(1, EXACT - 1)),
)


def limiter(*limits: Any, name: Any = "api", algorithm: Any = "gcra") -> Limiter:
    return Limiter("tetrad", name, limits or ("10/minute",), algorithm)


def decide(calls: Limiter, *reply: int) -> Decision:
    """The decision that *reply* stands for."""
    return calls.hit("k", 1).decode(list(reply))


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("100/minute", Limit(100, per=60)),
        ("10/second; burst=50", Limit(10, per=1, burst=50)),
        ("1000 per 2 hours", Limit(1000, per=7200)),
        ("5/0.5s", Limit(5, per=0.5)),
        ("3 per 0.7 ms", Limit(3, per=0.0007)),
        (" 7 / 3 WEEKS ;burst = 2 ", Limit(7, per=3 * 7 * DAY, burst=2)),
        ("1/us", Limit(1, per=0.000001)),
        ("1 PER day", Limit(1, per=DAY)),
        ("60/min", Limit(60, per=60)),
        ("2/hours", Limit(2, per=3600)),
        (Limit(4, per=timedelta(minutes=2)), Limit(4, per=120.0, burst=4)),
    ],
)
def test_a_limit_has_many_spellings(text: Any, limit: Limit):
    """Counts, periods with units, and bursts; the burst is the count where none is given."""
    assert parse(text) == limit


@pytest.mark.parametrize(
    "text",
    [
        *[
            "",
            "100",
            "100/",
            "/minute",
            "100/fortnight",
            "100/ss",
            "ten/minute",
            "-1/minute",
            "1.5/minute",
            "100//minute",
        ],
        *["100perminute", "100/minute; burst", "100/minute; burst=x", "100/minute, 5/second", "100/minute; burst=5; x"],
        *["١٠/minute", "1e3/minute", "100/-1 s", "9" * 5000 + "/s", "1/1." + "0" * 5000 + "s", "100/ſ"],
    ],
)
def test_what_is_no_limit_is_refused(text: str):
    """The message names the text and shows how to write one."""
    with pytest.raises(ValueError, match=re.escape(repr(text)[:80]) + ".*'100/minute'"):
        parse(text)


@pytest.mark.parametrize("text", ["0/minute", "5/minute; burst=0", f"{2**53}/s", "1/0s", "1/0.5us", "1/99999999 days"])
def test_a_limit_out_of_range_is_refused(text: str):
    """No zeros, nothing below a microsecond or above three decades."""
    with pytest.raises(ValueError, match="must be|no whole number"):
        parse(text)


@pytest.mark.parametrize("limit", [None, 100, 1.5, b"100/minute", ("100/minute",)])
def test_a_limit_of_another_type_is_refused(limit: Any):
    with pytest.raises(TypeError, match=re.escape(f"{limit!r}")):
        limiter(limit)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        *[({"count": count}, TypeError) for count in (True, 1.0, "1", None)],
        *[({"burst": burst}, TypeError) for burst in (True, 1.0, "1")],
        *[({"per": per}, TypeError) for per in (True, "1", None)],
        *[({"per": per}, ValueError) for per in (0, -1, math.nan, math.inf, 1e-7, 2e9, timedelta(0), 1 / 3)],
        *[({"count": count}, ValueError) for count in (0, -1, 2**53)],
        *[({"burst": burst}, ValueError) for burst in (0, -1, 2**53)],
    ],
)
def test_a_limit_checks_its_numbers(arguments: dict[str, Any], error: type[Exception]):
    """A wrong number is named; a bool is none, and a period that has no whole microseconds is never rounded."""
    with pytest.raises(error, match=re.escape(f"{next(iter(arguments.values()))!r}")):
        Limit(**({"count": 1, "per": 1} | arguments))


@given(LIMITS)
@example(Limit(1, per=1234567.0))
@example(Limit(1, per=86400.000001))
def test_the_text_of_a_limit_is_that_limit(limit: Limit):
    """What headers and messages show can be given to a limiter; so can the copy that went through a pickle."""
    assert parse(str(limit)) == limit
    assert pickle.loads(pickle.dumps(limit)) == limit
    assert hash(limit) == hash(parse(str(limit)))


@given(LIMITS)
def test_a_limit_is_exact_or_refused(limit: Limit):
    """The whole numbers that are sent make exactly the limit's rate, and no sum of them reaches 2^53."""
    micros = round(limit.per * 1_000_000)
    for scale in (scale_gcra, scale_window):
        try:
            id, rate, period, burst, tick = scale(limit)
        except ConfigurationError as exc:
            assert str(limit) in str(exc)
            continue
        assert burst == limit.burst
        assert burst * period < EXACT
        assert rate < EXACT
        assert -(-burst * period // rate) * tick <= max(LONGEST_FILL, micros)
        if scale is scale_gcra:
            assert Fraction(rate, period * tick) == Fraction(limit.count, micros)
            assert 0 < id < EXACT
        else:
            assert (rate, period, tick) == (limit.count, 1, micros)
            assert -EXACT < id < 0


def test_limits_are_told_apart_in_every_process():
    """The number that stands for a limit comes from its text and from nothing else: it is part of what is stored."""
    same = [identity(parse(text)) for text in ("60/minute", "60 per 1 min", "60/60s; burst=60")]
    others = [identity(parse(text)) for text in ("60/minute; burst=59", "61/minute", "60/hour", "1/second")]

    assert same == [47227731942000] * 3
    assert len({same[0], *others}) == 5


def test_a_million_a_day_is_counted_exactly():
    """burst x period in microseconds would be 8.64e16, more than 2^53, without the common divisor."""
    assert scale_gcra(parse("1000000/day"))[1:] == (1, 86_400, 1_000_000, 1)


def test_where_microseconds_do_not_fit_the_tick_is_a_millisecond():
    """A prime count a day, with a burst of its size."""
    assert scale_gcra(parse("999983/day"))[1:] == (999_983, DAY * 1000, 999_983, 1000)


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        ("1000003/52 weeks", "too large"),
        (Limit(999_983, per=DAY + 0.000001), "too large"),  # and its odd microsecond has no place in milliseconds
        ("1/day; burst=9000000000000", "too large"),
        ("1/10000 days; burst=10", "70 years"),
    ],
)
def test_a_limit_that_cannot_be_counted_is_refused_by_name(limit: Any, why: str):
    """At construction, with its text."""
    with pytest.raises(ConfigurationError, match=f"'{re.escape(str(parse(limit)))}' cannot be .*{why}"):
        limiter(limit)


def test_a_fixed_window_has_no_burst():
    """It would mean nothing there, and is not silently ignored."""
    with pytest.raises(ConfigurationError, match="no burst of its own, got '10/1s; burst=50'"):
        limiter("10/second; burst=50", algorithm="fixed-window")


@pytest.mark.parametrize("limits", [(), ["1/s"] * 17])
def test_a_limiter_has_one_to_sixteen_limits(limits: Any):
    with pytest.raises(ValueError, match=f"1-16 limits.*got {len(limits)}"):
        Limiter("tetrad", "api", limits, "gcra")


def test_the_same_limit_twice_is_refused():
    """However it is spelled: it would count nothing that the first does not."""
    with pytest.raises(ValueError, match="'60/60s' is given twice"):
        limiter("60/minute", "1/s", "60 per 60 seconds")


@pytest.mark.parametrize("algorithm", ["GCRA", "sliding-log", "", None, 1])
def test_an_unknown_algorithm_is_refused(algorithm: Any):
    """The message has those that there are."""
    with pytest.raises(ConfigurationError, match=f"gcra, fixed-window, got {algorithm!r}"):
        limiter(algorithm=algorithm)


def test_a_hit_has_its_cost_and_all_limits():
    """One key, in the slot of limiter and key, and five numbers a limit; it is never sent twice."""
    call = limiter("10/second; burst=50", "1000/hour").hit("user:7", 3)

    assert call.keys == ("tetrad:limit:{api:user%3A7}",)
    ids = call.args[1], call.args[6]
    assert call.args == (3, ids[0], "1", "100000", "50", "1", ids[1], "1", "3600000", "1000", "1")
    assert not call.script.replay
    assert limiter().peek("k", 1).script.replay
    assert limiter().reset("k").script.replay


def test_names_and_keys_do_not_run_together():
    """A limiter and a key never meet another pair of them, whatever characters they have."""
    pairs = [("a", "b:c"), ("a:b", "c"), ("a%3Ab", "c"), ("a", "b%3Ac"), ("a}", "b"), ("a", "}b"), ("a", "b")]

    assert len({limiter(name=name).hit(key, 1).keys for name, key in pairs}) == len(pairs)


@pytest.mark.parametrize("bad", ["", "x" * 513, "é" * 257, "a\nb", "\x00", "\ud800"])
def test_a_bad_name_or_key_is_refused(bad: str):
    with pytest.raises(ValueError, match="limiter name must"):
        limiter(name=bad)
    for call in (limiter().hit, limiter().peek):
        with pytest.raises(ValueError, match="limit key must"):
            call(bad, 1)
    with pytest.raises(ValueError, match="limit key must"):
        limiter().reset(bad)


@pytest.mark.parametrize("bad", [None, 7, b"k", ("a",)])
def test_a_key_of_another_type_is_refused(bad: Any):
    """No address, no user id as a number: different clients must never share a bucket by accident."""
    with pytest.raises(TypeError, match=re.escape(f"{bad!r}")):
        limiter().hit(bad, 1)


@pytest.mark.parametrize("cost", [-1, -(10**30), True, False, 1.0, 0.5, math.nan, math.inf])
def test_a_bad_cost_is_refused(cost: Any):
    """Negative, fractional, a bool: `ValueError` with the value."""
    for call in (limiter().hit, limiter().peek):
        with pytest.raises(ValueError, match=re.escape(f"got {cost!r}")):
            call("k", cost)


@pytest.mark.parametrize("cost", [None, "1", b"1", 1j, [1]])
def test_a_cost_that_is_no_number_is_refused(cost: Any):
    with pytest.raises(TypeError, match=re.escape(f"got {cost!r}")):
        limiter().hit("k", cost)


def test_a_cost_beyond_all_numbers_is_only_too_high():
    """It is sent as one that Lua can compare."""
    assert limiter().hit("k", 10**100).args[0] == EXACT


def test_a_decision_shows_its_tightest_limit():
    """Of those that refuse the one that refuses for longest; else the one with the least left."""
    calls = limiter("10/second", "100/hour")
    allowed = decide(calls, 1, 4, 0, 600_000, 3, 0, 3_000_000)
    refused = decide(calls, 0, 0, 100_000, 1_000_000, 0, 36_000_000, 3_600_000_000)

    assert allowed
    assert (allowed.limit, allowed.remaining, allowed.retry_after, allowed.reset_after) == (100, 3, 0.0, 3.0)
    assert not refused
    assert (refused.limit, refused.remaining, refused.retry_after, refused.reset_after) == (100, 0, 36.0, 3600.0)
    assert refused.states[0] == LimitState(Limit(10, per=1), 0, 0.1, 1.0)


def test_what_never_fits_has_no_time_to_retry():
    """Infinity, and no header that would invite another try."""
    decision = decide(limiter(), 0, 10, -1, 0)

    assert decision.retry_after == math.inf
    assert decision.headers() == {"RateLimit-Policy": '"10/60s";q=10;w=60', "RateLimit": '"10/60s";r=10'}


def test_headers_of_an_allowed_hit():
    """Quota, window, what is left and when all of it is back; a burst above the quota is not more than the quota."""
    decision = decide(limiter("10/second; burst=50", "5/0.5s"), 1, 49, 0, 100_000, 4, 0, 100_000)

    assert decision.headers() == {
        "RateLimit-Policy": '"10/1s; burst=50";q=10;w=1, "5/0.5s";q=5;w=1',
        "RateLimit": '"10/1s; burst=50";r=10;t=1, "5/0.5s";r=4;t=1',
    }


def test_headers_of_a_refusal():
    """Only what refuses has a time, so Retry-After is never before one."""
    decision = decide(limiter("1/second", "100/hour"), 0, 0, 1, 1, 99, 0, 36_000_000)

    assert decision.headers() == {
        "RateLimit-Policy": '"1/1s";q=1;w=1, "100/3600s";q=100;w=3600',
        "RateLimit": '"1/1s";r=0;t=1, "100/3600s";r=99',
        "Retry-After": "1",
    }


MICROS = st.integers(0, 2**51)


@given(st.lists(st.tuples(st.integers(0, 10), st.one_of(st.just(-1), MICROS), MICROS), min_size=1, max_size=3))
def test_retry_after_is_rounded_up_and_never_before_t(rows: list[tuple[int, int, int]]):
    """Nobody who waits as the headers say is too early."""
    assume(any(retry for _, retry, _ in rows))
    calls = limiter("10/s", "10/minute", "10/hour")
    calls = limiter(*calls.limits[: len(rows)])
    decision = decide(calls, 0, *(number for row in rows for number in row))
    headers = decision.headers()
    times = [int(t) for t in re.findall(r";t=(\d+)", headers["RateLimit"])]

    if any(retry < 0 for _, retry, _ in rows):
        assert "Retry-After" not in headers
    else:
        longest = max(retry for _, retry, _ in rows)
        assert int(headers["Retry-After"]) == -(-longest // 1_000_000)
        assert max(times) == int(headers["Retry-After"])


def test_the_error_of_a_decorated_call_tells_when_to_retry():
    """Its data survives a pickle."""
    calls = limiter()
    error = pickle.loads(pickle.dumps(calls.refused("ada", decide(calls, 0, 0, 5_250_000, 60_000_000))))

    assert (error.key, error.retry_after) == ("ada", 5.25)
    assert str(error) == "limiter 'api': too many calls for 'ada'; try again in 5.25 s"
    assert str(calls.refused("ada", decide(calls, 0, 0, 86_400_001_000, 0))).endswith("try again in 86400.01 s")
    assert "above the burst" in str(calls.refused("ada", decide(calls, 0, 10, -1, 0)))
