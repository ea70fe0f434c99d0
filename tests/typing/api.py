"""What users see: checked by mypy and pyright, never run."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, assert_type

from tetrad import (
    AsyncLeaderboard,
    AsyncLease,
    AsyncLimiter,
    AsyncLock,
    AsyncSession,
    AsyncSessionStore,
    AsyncTetrad,
    Decision,
    Entry,
    Holder,
    Leaderboard,
    Lease,
    Limit,
    Limiter,
    Lock,
    Placement,
    ServerInfo,
    Session,
    SessionInfo,
    SessionStore,
    Tetrad,
)


def clients() -> None:
    assert_type(Tetrad(), Tetrad)
    Tetrad("redis://localhost", prefix="app", timeout=1, connect_timeout=timedelta(seconds=1))
    Tetrad(None, timeout="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with Tetrad("embedded:?memory") as t:
        assert_type(t, Tetrad)
        assert_type(t.ping(), float)
        info = t.info()
        assert_type(info, ServerInfo)
        assert_type(info.persistence, tuple[str, ...])
        info.version = "1"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def locks(t: Tetrad) -> None:
    lock = t.lock("name", ttl=timedelta(seconds=10), renew=False)
    assert_type(lock, Lock)
    lease = lock.acquire(timeout=1)
    assert_type(lease, Lease | None)
    lease.release()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    if lease:
        assert_type(lease.fence, int)
        assert_type(lease.token, str)
        assert_type(lease.expires_in, float)
        assert_type(lease.lost, bool)
        assert_type(lease.release(), bool)
        lease.on_lost(lambda: None)
    assert_type(lock.holder(), Holder | None)
    assert_type(lock.locked(), bool)
    with lock as held:
        assert_type(held, Lease)
    with lock.hold(timeout=None) as held:
        assert_type(held, Lease)

    @lock.hold()
    def work(x: int) -> str:
        return str(x)

    assert_type(work(1), str)
    work("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def async_locks(t: AsyncTetrad) -> None:
    lock = t.lock("name")
    assert_type(lock, AsyncLock)
    assert_type(await lock.acquire(timeout=0), AsyncLease | None)
    async with lock as held:
        assert_type(held, AsyncLease)
        assert_type(await held.release(), bool)
    async with lock.hold() as held:
        assert_type(held, AsyncLease)

    @lock.hold()
    async def work(x: int) -> str:
        return str(x)

    assert_type(await work(1), str)
    with lock:  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        pass


def limits(t: Tetrad) -> None:
    limiter = t.limiter("name", "10/second; burst=20", Limit(100, per=60), algorithm="fixed-window")
    assert_type(limiter, Limiter)
    t.limiter("name", "1/s", algorithm="leaky")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    decision = limiter.hit("key", cost=2)
    assert_type(decision, Decision)
    assert_type(limiter.peek("key"), Decision)
    assert_type(decision.allowed, bool)
    assert_type(decision.remaining, int)
    assert_type(decision.retry_after, float)
    assert_type(decision.reset_after, float)
    assert_type(decision.headers(), dict[str, str])
    limiter.reset("key")


async def async_limits(t: AsyncTetrad) -> None:
    limiter = t.limiter("name", "10/second")
    assert_type(limiter, AsyncLimiter)
    assert_type(await limiter.hit("key"), Decision)
    assert_type(await limiter.peek("key"), Decision)


def sessions(t: Tetrad) -> None:
    store = t.sessions("web", idle=timedelta(minutes=30))
    assert_type(store, SessionStore)
    session = store.create({"a": 1}, user="ada", meta={"ip": "::1"})
    assert_type(session, Session)
    session["b"] = [1, 2]
    value: Any = session["b"]
    del value
    assert_type(session.user, str | None)
    assert_type(session.created_at, datetime)
    assert_type(store.load("id"), Session | None)
    assert_type(store.list("ada"), list[SessionInfo])
    assert_type(store.destroy_all("ada", keep=None), int)
    session.save()
    session.login("ada")
    session.logout()


async def async_sessions(t: AsyncTetrad) -> None:
    store = t.sessions()
    assert_type(store, AsyncSessionStore)
    session = await store.load("id")
    assert_type(session, AsyncSession | None)
    await store.create()


def boards(t: Tetrad) -> None:
    board = t.leaderboard("season", order="asc", ranking="competition", keep="sum")
    assert_type(board, Leaderboard)
    placement = board.submit("ada", 1.5, info={"any": "thing"})
    assert_type(placement, Placement)
    assert_type(placement.rank, int)
    assert_type(placement.previous_rank, int | None)
    assert_type(board.rank("ada"), Entry | None)
    assert_type(board.top(10), list[Entry])
    assert_type(board.around(b"ada", radius=2), list[Entry])
    assert_type(board.page(1), list[Entry])
    assert_type(board.count(), int)
    assert_type(board.remove("ada"), bool)
    board.submit("ada", "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for entry in board:
        assert_type(entry, Entry)


async def async_boards(t: AsyncTetrad) -> None:
    board = t.leaderboard("season")
    assert_type(board, AsyncLeaderboard)
    assert_type(await board.submit("ada", 1), Placement)
    assert_type(await board.top(), list[Entry])
    async for entry in board:
        assert_type(entry, Entry)
