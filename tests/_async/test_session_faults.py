"""Sessions whose replies get lost: each operation is carried out, once, and says so, or raises and leaves nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests._async.together import eventually
from tests.proxy import FaultProxy
from tests.servers import Server
from tetrad import AsyncTetrad, ServerTimeout, ServerUnavailable


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(server.path) as proxy:
        yield proxy


@pytest.fixture
async def faulty(proxy: FaultProxy) -> AsyncIterator[AsyncTetrad]:
    """A client whose network may fail."""
    async with AsyncTetrad(proxy.url, timeout=0.5) as faulty:
        yield faulty


async def learn_scripts(t: AsyncTetrad) -> None:
    """Have the server know every script, so that a reply that is cut is the operation's own."""
    store = t.sessions("warm")
    session = await store.create({"n": 1}, user="ada")
    session["n"] = 2
    await session.save()
    await session.rotate()
    await store.load(session.id)
    await session.login("ada")
    await session.logout()
    await store.destroy_all("ada")


async def test_a_lost_reply_is_made_up_for(t: AsyncTetrad, faulty: AsyncTetrad, proxy: FaultProxy, name: str) -> None:
    """The connection breaks in the middle of each reply, after the server has done it."""
    store, there = faulty.sessions(name), t.sessions(name)
    await learn_scripts(t)
    await store.load(other := (await there.create()).id)
    proxy.cut_after(2)
    session = await store.create({"n": 1}, user="ada")
    assert len(await there.list("ada")) == 1

    session["n"] = 2
    proxy.cut_after(2)
    assert await session.save() is True
    proxy.cut_after(2)
    assert await session.rotate() is True
    proxy.cut_after(2)
    loaded = await store.load(session.id)
    assert loaded is not None
    assert dict(loaded) == {"n": 2}
    proxy.cut_after(2)
    await session.login("ada")
    assert len(await there.list("ada")) == 1
    assert await there.load(session.id) is not None
    old = session.id
    proxy.cut_after(2)
    await session.logout()
    assert await there.load(old) is None
    assert await there.load(session.id) is not None
    proxy.cut_after(2)
    assert await store.destroy(other) is True
    assert await there.load(other) is None


async def test_destroy_all_is_not_repeated(t: AsyncTetrad, faulty: AsyncTetrad, proxy: FaultProxy, name: str) -> None:
    """Its count could not be told, so the caller learns that it is not known."""
    store, there = faulty.sessions(name), t.sessions(name)
    await learn_scripts(t)
    await store.create(user="ada")
    assert len(await store.list("ada")) == 1
    proxy.cut_after(2)

    with pytest.raises(ServerUnavailable):
        await store.destroy_all("ada")
    assert await there.list("ada") == []
    assert await store.destroy_all("ada") == 0


async def test_a_login_without_an_answer_leaves_no_session_of_the_user(
    t: AsyncTetrad, faulty: AsyncTetrad, proxy: FaultProxy, name: str
) -> None:
    """What the server may have created unseen is destroyed once it can be reached."""
    store, there = faulty.sessions(name), t.sessions(name)
    session = await store.create({"n": 1})
    old = session.id
    proxy.swallow()
    with pytest.raises((ServerTimeout, ServerUnavailable)):
        await session.login("ada")
    proxy.pass_on()
    proxy.cut()

    async def nobody() -> bool:
        return await there.list("ada") == []

    await eventually(nobody)
    assert session.id == old
    assert await store.load(old) is not None
    await session.login("ada")
    assert dict(session) == {"n": 1}


async def test_a_save_without_an_answer_can_be_repeated(
    t: AsyncTetrad, faulty: AsyncTetrad, proxy: FaultProxy, name: str
) -> None:
    """Nothing counts as saved that was not answered."""
    store, there = faulty.sessions(name), t.sessions(name)
    session = await store.create({"n": 1})
    session["n"] = 2
    proxy.black_hole()
    with pytest.raises((ServerTimeout, ServerUnavailable)):
        await session.save()
    assert session.modified
    proxy.pass_on()
    proxy.cut()

    assert await session.save() is True
    loaded = await there.load(session.id)
    assert loaded is not None
    assert loaded["n"] == 2
