"""Rate limits on a real server. How many are admitted when is the subject of tests/test_limit_model.py."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest

from tests.servers import Server
from tetrad import AsyncTetrad, DataError, Limit, RateLimited, ServerRefused

ALGORITHMS = pytest.mark.parametrize("algorithm", ["gcra", "fixed-window"])


def key_of(name: str, key: str = "k") -> str:
    """Where the state of a limiter's key is stored."""
    return f"tetrad:limit:{{{name}:{key}}}"


@ALGORITHMS
async def test_a_burst_is_admitted_and_no_more(t: AsyncTetrad, name: str, algorithm: Any) -> None:
    """A refusal says when to come again and takes nothing."""
    limiter = t.limiter(name, "3/hour", algorithm=algorithm)
    decisions = [await limiter.hit("k") for _ in range(5)]

    assert [bool(decision) for decision in decisions] == [True, True, True, False, False]
    assert [decision.remaining for decision in decisions] == [2, 1, 0, 0, 0]
    assert [decision.retry_after == 0 for decision in decisions] == [True, True, True, False, False]
    assert all(0 < decision.retry_after <= decision.reset_after <= 3600 for decision in decisions[3:])
    assert decisions[4].retry_after <= decisions[3].retry_after
    assert decisions[0].limit == 3


async def test_permits_come_back_one_by_one(t: AsyncTetrad, name: str) -> None:
    """Under GCRA the next permit is a third of the period away; what is refused for a moment is admitted after it."""
    limiter = t.limiter(name, "3/hour")
    for _ in range(3):
        await limiter.hit("k")
    refused = await limiter.hit("k")

    assert 1190 < refused.retry_after <= 1200
    assert 3590 < refused.reset_after <= 3600

    quick = t.limiter(name, "100/second; burst=1")
    while await quick.hit("q"):
        pass  # until two come within ten milliseconds
    refused = await quick.peek("q")
    assert refused.retry_after <= 0.01
    while not await quick.hit("q"):
        pass  # ten milliseconds later at the latest


async def test_keys_and_names_have_limits_of_their_own(t: AsyncTetrad, name: str) -> None:
    """What one key has used up, no other key and no other limiter has."""
    first, second = t.limiter(name, "1/hour"), t.limiter(f"{name}:2", "1/hour")

    assert await first.hit("ada")
    assert not await first.hit("ada")
    assert await first.hit("bob")
    assert await second.hit("ada")
    assert await first.hit("ada:2")  # not the second limiter's ada


async def test_a_cost_is_taken_whole_or_not_at_all(t: AsyncTetrad, name: str) -> None:
    """What does not fit takes nothing, so a smaller one still fits."""
    limiter = t.limiter(name, "10/hour")

    assert (await limiter.hit("k", 7)).remaining == 3
    refused = await limiter.hit("k", 4)
    assert not refused
    assert refused.remaining == 3
    assert 350 < refused.retry_after <= 360
    assert (await limiter.hit("k", 3)).remaining == 0


@ALGORITHMS
async def test_a_cost_above_the_burst_never_fits(t: AsyncTetrad, server: Server, name: str, algorithm: Any) -> None:
    """It is refused for ever, takes nothing and leaves no key."""
    limiter = t.limiter(name, "10/hour", algorithm=algorithm)
    for cost in (11, 2**53, 10**30):
        decision = await limiter.hit("k", cost)
        assert not decision
        assert (decision.retry_after, decision.remaining, decision.reset_after) == (math.inf, 10, 0.0)

    assert server.cli("EXISTS", key_of(name)) == 0


async def test_a_cost_of_nothing_takes_nothing(t: AsyncTetrad, server: Server, name: str) -> None:
    """It is admitted even if nothing is left, and leaves no key."""
    limiter = t.limiter(name, "2/hour")

    assert (await limiter.hit("k", 0)).remaining == 2
    assert server.cli("EXISTS", key_of(name)) == 0
    await limiter.hit("k", 2)
    decision = await limiter.hit("k", 0)
    assert decision
    assert (decision.remaining, decision.retry_after) == (0, 0.0)


@ALGORITHMS
async def test_a_peek_takes_nothing(t: AsyncTetrad, server: Server, name: str, algorithm: Any) -> None:
    """It tells what a hit would be told; the permits left are as they stand."""
    limiter = t.limiter(name, "2/hour", algorithm=algorithm)

    assert [(await limiter.peek("k")).remaining for _ in range(3)] == [2, 2, 2]
    assert server.cli("EXISTS", key_of(name)) == 0
    await limiter.hit("k")
    assert (await limiter.peek("k")).remaining == 1
    assert await limiter.peek("k")
    assert not await limiter.peek("k", 2)
    assert (await limiter.peek("k", 3)).retry_after == math.inf
    await limiter.hit("k")
    refused = await limiter.peek("k")
    assert not refused
    assert refused.retry_after > 0


@ALGORITHMS
async def test_a_reset_gives_all_back(t: AsyncTetrad, server: Server, name: str, algorithm: Any) -> None:
    """Of this key only; it says whether there was something."""
    limiter = t.limiter(name, "1/hour", "5/day", algorithm=algorithm)
    await limiter.hit("ada")
    await limiter.hit("bob")

    assert await limiter.reset("ada") is True
    assert await limiter.reset("ada") is False
    assert await limiter.hit("ada")
    assert not await limiter.hit("bob")


@ALGORITHMS
async def test_a_refusal_consumes_from_none(t: AsyncTetrad, name: str, algorithm: Any) -> None:
    """Several limits are decided together: the ones that would admit lose nothing to the one that refuses."""
    limiter = t.limiter(name, "10/day", "2/hour", "1000/week", algorithm=algorithm)
    for _ in range(2):
        assert await limiter.hit("k")
    for _ in range(20):
        assert not await limiter.hit("k")

    decision = await limiter.hit("k")
    assert [state.remaining for state in decision.states] == [8, 0, 998]
    assert [state.retry_after > 0 for state in decision.states] == [False, True, False]
    assert (decision.limit, decision.remaining) == (2, 0)
    assert [state.limit for state in decision.states] == list(limiter.limits)


async def test_limits_of_one_period_are_kept_apart(t: AsyncTetrad, name: str) -> None:
    """A small burst at a high rate and a large one at a low rate, both by the hour."""
    limiter = t.limiter(name, "100/hour; burst=2", "10/hour; burst=5")
    decision = await limiter.hit("k", 2)

    assert [state.remaining for state in decision.states] == [0, 3]
    assert [state.remaining for state in (await limiter.hit("k")).states] == [0, 3]


async def test_an_operation_is_one_command(t: AsyncTetrad, server: Server, name: str) -> None:
    """With several limits too, admitted or refused, by the server's own count."""
    limiter = t.limiter(name, "2/hour", "5/day", "10/week")
    for warm_up in (limiter.hit, limiter.peek, limiter.reset):
        await warm_up("k")
    before = server.calls("evalsha"), server.calls("eval"), server.calls("script|load")
    for operation in (limiter.hit, limiter.hit, limiter.hit, limiter.peek, limiter.reset):
        await operation("k")

    assert (server.calls("evalsha"), server.calls("eval"), server.calls("script|load")) == (before[0] + 5, *before[1:])


@ALGORITHMS
@pytest.mark.parametrize(
    ("limits", "longest"), [(["1000000/second"], 1), (["5/minute"], 60), (["2/second", "3/day"], 86_400)]
)
async def test_every_key_expires(
    t: AsyncTetrad, server: Server, name: str, algorithm: Any, limits: list[str], longest: int
) -> None:
    """No sooner than all is given back, and not much later than the longest period."""
    limiter = t.limiter(name, *limits, algorithm=algorithm)
    for _ in range(5):
        decision = await limiter.hit("k")
        left = server.cli("PTTL", key_of(name))
        assert left <= longest * 1000 + 2
        assert left == -2 or left >= 0  # gone, or soon; never -1
        if longest > 1:
            assert left >= max(state.reset_after for state in decision.states) * 1000 - 5_000


async def test_no_key_expires_before_its_debt_is_paid(t: AsyncTetrad, server: Server, name: str) -> None:
    """Not by a part of a millisecond: the server's expiry counts in whole ones."""
    limiter = t.limiter(name, "7/minute", "999983/day")
    for key in map(str, range(50)):
        await limiter.hit(key)
        state = server.cli("GET", key_of(name, key))
        free = max(struct.unpack(f"<{len(state) // 8}d", state[1:])[4::5])

        assert free <= server.cli("PEXPIRETIME", key_of(name, key)) * 1000 <= free + 2_000


async def test_when_memory_is_full_limits_can_be_lifted(t: AsyncTetrad, server: Server, name: str) -> None:
    """A hit is refused by the server, by name; peek and reset still work."""
    limiter = t.limiter(name, "2/hour")
    await limiter.hit("k", 2)
    await limiter.reset("nobody")
    server.cli("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(ServerRefused, match="OOM") as caught:
            await limiter.hit("k")
        assert caught.value.code == "OOM"
        assert not await limiter.peek("k")
        assert await limiter.reset("k")
        assert await limiter.peek("k")
    finally:
        server.cli("CONFIG", "SET", "maxmemory", "0")
    assert await limiter.hit("k")


async def test_a_changed_limit_keeps_what_is_owed(t: AsyncTetrad, name: str) -> None:
    """As far as the new burst goes: a change is no reset, and nobody waits for longer than the new burst takes."""
    await t.limiter(name, "100/hour").hit("k", 30)

    assert (await t.limiter(name, "50/hour").peek("k")).remaining == 20
    assert (await t.limiter(name, "7/hour").peek("k")).remaining == 0
    assert (await t.limiter(name, "100/hour; burst=40").hit("k")).remaining == 9
    larger = await t.limiter(name, "1000/hour").hit("k", 0)
    assert larger.remaining == 1000 - 31
    smaller = await t.limiter(name, "4/hour").hit("k")
    assert not smaller
    assert smaller.reset_after <= 3600


@ALGORITHMS
async def test_another_period_keeps_what_is_owed(t: AsyncTetrad, name: str, algorithm: Any) -> None:
    """The limit that takes another's place takes over its debt, even if that first refuses."""
    await t.limiter(name, "10/hour", algorithm=algorithm).hit("k", 7)
    daily = t.limiter(name, "5/day", algorithm=algorithm)

    refused = await daily.hit("k")
    assert not refused
    assert refused.remaining == 0
    assert (await daily.peek("k")).remaining == 0
    assert (await t.limiter(name, "20/week", algorithm=algorithm).peek("k")).remaining == 13


async def test_another_algorithm_keeps_what_is_owed(t: AsyncTetrad, name: str) -> None:
    """From a bucket to windows and back."""
    await t.limiter(name, "10/hour").hit("k", 7)
    windows = t.limiter(name, "10/hour", algorithm="fixed-window")

    assert (await windows.hit("k")).remaining == 2
    assert (await t.limiter(name, "10/hour").peek("k")).remaining == 3  # its own entry was kept
    other = t.limiter(name, "20/day")
    assert (await other.hit("k", 0)).remaining == 12


async def test_a_new_limit_beside_the_others_owes_nothing(t: AsyncTetrad, name: str) -> None:
    """A limit that was added, and took nobody's place, starts afresh."""
    await t.limiter(name, "10/hour").hit("k", 7)
    both = t.limiter(name, "20/day", "10/hour")

    assert [state.remaining for state in (await both.hit("k")).states] == [19, 2]


async def test_two_releases_side_by_side_keep_their_entries(t: AsyncTetrad, server: Server, name: str) -> None:
    """While processes with old and new limits run beside each other, none erases what the other has counted."""
    old = t.limiter(name, "10/hour", "20/day", "30/week")
    new = t.limiter(name, "1000/minute", "10/hour")
    for _ in range(3):
        await old.hit("k")
        await new.hit("k")

    assert [state.remaining for state in (await old.peek("k")).states] == [4, 17, 27]
    assert [state.remaining for state in (await new.peek("k")).states][1] == 4
    assert server.cli("STRLEN", key_of(name)) == 1 + 4 * 40
    assert server.cli("PTTL", key_of(name)) > 3600_000  # what the week owes is not forgotten with the hour


async def test_two_limiters_of_one_name_do_not_slow_each_other(t: AsyncTetrad, server: Server, name: str) -> None:
    """A debt is taken over once. From then on each counts on its own, even if it owed nothing for a while."""
    slow, quick = t.limiter(name, "100/day"), t.limiter(name, "100/second; burst=1")
    await slow.hit("k", 50)
    assert not await quick.hit("k")
    while not await quick.peek("k"):
        pass  # what it took over, at most its burst, is paid off in ten milliseconds

    await slow.hit("k")
    assert await quick.hit("k")
    while not await quick.peek("k"):
        pass
    assert (await slow.hit("k")).remaining == 48
    assert (await quick.hit("k")).reset_after <= 0.01


async def test_limits_of_one_period_side_by_side(t: AsyncTetrad, name: str) -> None:
    """The smaller one does not cut down what the larger one has counted."""
    small, large = t.limiter(name, "2/hour"), t.limiter(name, "10/hour")
    await large.hit("k", 9)
    for _ in range(3):
        assert not await small.hit("k")
    assert await large.hit("k")
    for _ in range(3):
        assert not await small.hit("k")
        assert not await large.hit("k")


async def test_entries_do_not_grow_without_bound(t: AsyncTetrad, server: Server, name: str) -> None:
    """However often limits change: at most sixteen entries of others are kept."""
    for days in range(1, 40):
        await t.limiter(name, Limit(1000, per=86_400 * days)).hit("k")

    assert server.cli("STRLEN", key_of(name)) == 1 + 17 * 40


def entry(*numbers: float) -> bytes:
    """A stored entry: the id of a limit, last, debt, period, free."""
    return struct.pack("<5d", *numbers)


HOUR = 3_600_000_000.0
DAMAGED = {
    "text": b"hello",
    "empty": b"",
    "another format": b"2" + entry(HOUR, 0, 0, HOUR, 0),
    "cut short": b"1" + entry(HOUR, 0, 0, HOUR, 0)[:-1],
    "a negative debt": b"1" + entry(HOUR, 0, -HOUR, HOUR, 0),
    "a debt that is no number": b"1" + entry(HOUR, 0, math.nan, HOUR, 0),
    "a time that is no number": b"1" + entry(HOUR, math.nan, 0, HOUR, 0),
    "a scale of zero": b"1" + entry(HOUR, 0, 1, 0, 0),
    "an id that is no number": b"1" + entry(math.nan, 0, 0, HOUR, 0),
    "for ever": b"1" + entry(HOUR * 2, 0, 1, HOUR, math.inf),
}


@pytest.mark.parametrize("value", DAMAGED.values(), ids=DAMAGED)
async def test_damaged_state_is_an_error(t: AsyncTetrad, server: Server, name: str, value: bytes) -> None:
    """Nobody is admitted by what Tetrad did not write; a reset makes the key usable again."""
    limiter = t.limiter(name, "2/hour")
    server.cli("SET", key_of(name), value)

    for operation in (limiter.hit, limiter.peek):
        with pytest.raises(DataError) as caught:
            await operation("k")
        assert caught.value.key == key_of(name)
    assert server.cli("GET", key_of(name)) == value
    assert await limiter.reset("k")
    assert await limiter.hit("k")


async def test_a_value_of_another_type_is_an_error(t: AsyncTetrad, server: Server, name: str) -> None:
    """A list where a string is expected; reset removes it."""
    limiter = t.limiter(name, "2/hour")
    server.cli("RPUSH", key_of(name), "x")

    for operation in (limiter.hit, limiter.peek):
        with pytest.raises(DataError, match="not written by Tetrad"):
            await operation("k")
    assert await limiter.reset("k")


@pytest.mark.parametrize("number", [2.0**52, 1e300, math.inf])
async def test_absurd_numbers_lock_nobody_out(t: AsyncTetrad, server: Server, name: str, number: float) -> None:
    """A debt is never above the burst and a time in the far future is not believed."""
    limiter = t.limiter(name, "2/hour")
    await limiter.hit("k")
    (id,) = struct.unpack_from("<d", server.cli("GET", key_of(name)), 1)
    server.cli("SET", key_of(name), b"1" + entry(id, number, number, HOUR / 2, 2.0**52))

    decision = await limiter.hit("k")
    assert not decision
    assert decision.reset_after <= 3600
    assert (await limiter.hit("k")).retry_after <= 1800


async def test_a_decorated_function_is_limited(t: AsyncTetrad, name: str) -> None:
    """By a key made of the call's arguments; the error says when to come again, and the function is not called."""
    called = []

    @t.limiter(name, "2/hour").limit(key=lambda user, **_: f"user:{user}")
    async def greet(user: str, *, loud: bool = False) -> str:
        """Say hello."""
        called.append(user)
        return f"HELLO {user}" if loud else f"hello {user}"

    assert (greet.__name__, greet.__doc__) == ("greet", "Say hello.")
    assert await greet("ada") == "hello ada"
    assert await greet("ada", loud=True) == "HELLO ada"
    with pytest.raises(RateLimited, match=r"too many calls for 'user:ada'; try again in .* s") as caught:
        await greet("ada")
    assert caught.value.key == "user:ada"
    assert 0 < caught.value.retry_after <= 1800
    assert await greet("bob") == "hello bob"
    assert called == ["ada", "ada", "bob"]


async def test_a_decorated_function_has_a_cost_and_keeps_its_errors(t: AsyncTetrad, name: str) -> None:
    """A fixed key for all calls; a permit is taken even if the function then fails."""
    limiter = t.limiter(name, "5/hour")

    @limiter.limit(key="all", cost=2)
    async def fail() -> None:
        raise LookupError("nothing there")

    for _ in range(2):
        with pytest.raises(LookupError):
            await fail()
    with pytest.raises(RateLimited):
        await fail()
    assert (await limiter.peek("all")).remaining == 1


async def test_a_decorator_with_bad_arguments_is_refused_at_once(t: AsyncTetrad, name: str) -> None:
    """Not at the first call; only what a key function returns has to wait for it."""
    limiter = t.limiter(name, "5/hour")
    for key, cost, error in [(None, 1, TypeError), (7, 1, TypeError), ("", 1, ValueError), ("k", -1, ValueError)]:
        with pytest.raises(error):
            limiter.limit(key=key, cost=cost)

    @limiter.limit(key=lambda user: user)
    async def greet(user: Any) -> str:
        return f"hello {user}"

    with pytest.raises(TypeError, match="limit key must be a str"):
        await greet(7)


async def test_bad_input_sends_nothing(t: AsyncTetrad, server: Server, name: str) -> None:
    """It is refused here; the server sees no command."""
    limiter = t.limiter(name, "5/hour")
    before = server.calls("evalsha")
    for key, cost in [("", 1), ("k", -1), ("k", True), ("k", 1.5), ("x" * 513, 1)]:
        with pytest.raises(ValueError, match="must"):
            await limiter.hit(key, cost)

    assert server.calls("evalsha") == before


async def test_a_limiter_shows_what_it_is(t: AsyncTetrad, name: str) -> None:
    limiter = t.limiter(name, "10/second; burst=50", Limit(100, per=60))

    assert repr(limiter).endswith(f"Limiter({name!r}, '10/1s; burst=50', '100/60s')")
    assert (limiter.name, limiter.limits) == (name, (Limit(10, per=1, burst=50), Limit(100, per=60)))
