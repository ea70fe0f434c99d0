"""The distributed lock: what is sent, in which order, and what is undone when it goes wrong.

An acquisition has a token of its own. The script that takes the lock also queues its waiters; the one
that gives it back grants it to the next waiter and pushes the news, which the waiter confirms by
acquiring again with its token. Whoever stops waiting, for whatever reason, gives its token back, after
which the server refuses the token should an older request of it still arrive.
"""

from __future__ import annotations

import secrets
from math import ceil
from typing import Any

from tetrad._core import keys
from tetrad._core.call import Aside, Call, Flow, Interrupted, Pause, Wake
from tetrad._core.scripts import load
from tetrad._core.settings import seconds, seconds_or_zero
from tetrad._core.tenure import Tenure
from tetrad.errors import LeaseLost, ServerTimeout, ServerUnavailable, TetradError
from tetrad.types import Holder

ACQUIRE = load("lock_acquire")
RELEASE = load("lock_release")
RENEW = load("lock_renew")
SHOW = load("lock_show")

GRANT_MS = 4_000  # how long a waiter that was pushed the lock has to confirm
FENCE_MEMORY_MS = 60_000  # how long an unused lock is remembered, so that its fence keeps growing
LONGEST_SILENCE = 10.0  # seconds after which a waiter asks again in any case
QUEUE_STEP = 0.02  # seconds between the questions of one waiter and the next, should all be woken
UNDO_SECONDS = 0.1  # between two attempts to give back what a caller left behind
SHORTEST_TTL = 0.05  # seconds; a renewal has to fit in


def check_ttl(value: object) -> float:
    """*value* as the seconds of a lease."""
    ttl = seconds(value, "ttl")
    if ttl < SHORTEST_TTL:
        raise ValueError(f"ttl must be at least {SHORTEST_TTL} s, got {value!r}")
    return ttl


def check_timeout(value: object) -> float | None:
    """*value* as how long a caller waits: ``None`` for ever, 0 tries once."""
    return None if value is None else seconds_or_zero(value, "timeout")


def milliseconds(ttl: float) -> int:
    """For how long the server shall hold a lease that is relied on for *ttl* seconds.

    One hundredth longer: the two clocks may differ in rate while one of them is being corrected.
    """
    return ceil(ttl * 1010)


class Name:
    """A lock's name, checked, and its key."""

    __slots__ = ("key", "name")

    def __init__(self, prefix: str, name: str) -> None:
        self.name = keys.check_name(name, "lock name")
        self.key = keys.key(prefix, "lock", name)


def new_token() -> str:
    return secrets.token_urlsafe(12)


def take(key: str, token: str, ttl_ms: int, join: bool) -> Call[tuple[int, int, int]]:
    """``(1, fence, 0)`` when it is ours, else ``(0, ms until it may be free, position in the queue)``."""
    return Call(ACQUIRE, (key, key + ":queue"), (token, ttl_ms, int(join), GRANT_MS, FENCE_MEMORY_MS), _taken)


def _taken(reply: Any) -> tuple[int, int, int]:
    return (1, int(reply[1]), 0) if reply[0] == 1 else (0, reply[1], reply[2])


def give_back(key: str, token: str) -> Call[bool]:
    """Release the lease or leave the queue; whether the lease was ours until now."""
    return Call(RELEASE, (key, key + ":queue"), (token, GRANT_MS, FENCE_MEMORY_MS), bool)


def undo(key: str, token: str) -> Flow[None]:
    """Give back what may have been granted, as often as it takes; whoever runs this bounds it."""
    while True:
        try:
            yield from give_back(key, token)
            return
        except (ServerUnavailable, ServerTimeout):
            yield from Pause(UNDO_SECONDS)


def show(name: Name) -> Call[Holder | None]:
    return Call(SHOW, (name.key, name.key + ":queue"), (), _holder)


def _holder(reply: Any) -> Holder | None:
    if reply is None:
        return None
    token, fence, ms, waiters = reply
    return Holder(token=token.decode(), fence=int(fence), expires_in=ms / 1000, waiters=waiters)


def acquire(name: Name, ttl: float, timeout: float | None, renew: bool) -> Flow[Tenure | None]:
    """Take the lock, waiting up to *timeout* seconds (``None``: for ever); ``None`` when time ran out."""
    key, token, ttl_ms = name.key, new_token(), milliseconds(ttl)
    asked_at = yield from Pause(0)
    give_up_at = None if timeout is None else asked_at + timeout
    known = False  # to the server
    try:
        taken, number, _ = yield from take(key, token, ttl_ms, False)
        known = True
        if not taken and timeout != 0:
            channel = f"{key}:wake:{token}"
            yield from Wake(channel, 0)
            while True:
                asked_at = yield from Pause(0)
                taken, number, place = yield from take(key, token, ttl_ms, True)
                if taken or not (yield from _turn(channel, number, place, asked_at, give_up_at)):
                    break
            if not taken:
                yield from give_back(key, token)
    except TetradError as exc:
        if known or not isinstance(exc, ServerUnavailable) or exc.sent:
            yield from Aside(undo(key, token))
        raise
    except Interrupted:
        yield from undo(key, token)
        raise
    return Tenure(name.name, key, token, number, ttl, asked_at, renew) if taken else None


def _turn(channel: str, ms: int, place: int, now: float, give_up_at: float | None) -> Flow[bool]:
    """Wait until it is worth asking again; ``False`` when time ran out.

    The first in the queue asks when the lease in the way may have lapsed, the others somewhat later, in
    their order; a message that is a number tells that we are first now, and when to ask.
    """
    look_at = now + (ms / 1000 if place == 1 else max(ms / 1000, GRANT_MS / 1000) + place * QUEUE_STEP)
    while True:
        until = min(look_at, now + LONGEST_SILENCE)
        if give_up_at is not None:
            until = min(until, give_up_at)
        message = yield from Wake(channel, max(0.0, until - now))
        now = yield from Pause(0)
        if message is not None and message.isdigit():
            look_at = now + int(message) / 1000
        elif message is None and give_up_at is not None and now >= give_up_at:
            return False
        else:
            return True


def release(tenure: Tenure) -> Flow[bool]:
    """Give the lease back; whether it was still ours. Finished even if the caller is interrupted.

    From the request on nobody may rely on the lease, whatever comes of it: the server may have given it away.
    """
    if tenure.state == "released":
        return False
    if tenure.state == "held":
        tenure.state = "ending"
    try:
        held = yield from give_back(tenure.key, tenure.token)
    except Interrupted:
        yield from undo(tenure.key, tenure.token)
        raise
    if not held:
        tenure.lose()
    if tenure.state == "lost":
        return False
    tenure.state = "released"
    return True


def release_all(tenures: list[Tenure]) -> Flow[None]:
    """Give back what is still held; what the server does not confirm lapses by itself."""
    for tenure in tenures:
        try:
            yield from release(tenure)
        except TetradError:
            return


def prolong(tenures: list[Tenure], ttls: list[float], timeout: float | None = None) -> Call[list[int]]:
    """Renew leases together; a number each: 1 prolonged, 0 lost."""
    args: list[str | int] = [FENCE_MEMORY_MS]
    for tenure, ttl in zip(tenures, ttls, strict=True):
        args += (tenure.token, milliseconds(ttl))
    return Call(RENEW, tuple(tenure.key for tenure in tenures), tuple(args), list, timeout)


def renew(tenure: Tenure, ttl: float) -> Flow[None]:
    """Prolong one lease to *ttl* seconds from now; raises `LeaseLost` when it is not ours any more."""
    asked_at = yield from Pause(0)
    check(tenure, asked_at)
    (kept,) = yield from prolong([tenure], [ttl])
    if not kept:
        tenure.refuse()
        raise lost(tenure)
    tenure.ttl = ttl
    tenure.prolong(ttl, asked_at)


def check(tenure: Tenure, now: float) -> None:
    """Raise `LeaseLost` unless the lease is certainly ours."""
    if tenure.is_lost(now) or tenure.state != "held":
        raise lost(tenure)


def lost(tenure: Tenure) -> LeaseLost:
    what = {"released": "was given back", "ending": "is being given back"}.get(tenure.state, "was lost")
    return LeaseLost(
        f"the lease on {tenure.name!r} (fence {tenure.fence}) {what}; stop writing, or let the fence be checked",
        key=tenure.name,
        fence=tenure.fence,
    )
