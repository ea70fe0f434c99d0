# Generated from tests/_async/test_session_faults.py by tools/unasync.py: edit that file, then run `make sync`.
"""Sessions whose replies get lost: each operation is carried out, once, and says so, or raises and leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests._sync.together import eventually
from tests.proxy import FaultProxy
from tests.servers import Server
from tetrad import ServerTimeout, ServerUnavailable, Tetrad


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(server.path) as proxy:
        yield proxy


@pytest.fixture
def faulty(proxy: FaultProxy) -> Iterator[Tetrad]:
    """A client whose network may fail."""
    with Tetrad(proxy.url, timeout=0.5) as faulty:
        yield faulty


def learn_scripts(t: Tetrad) -> None:
    """Have the server know every script, so that a reply that is cut is the operation's own."""
    store = t.sessions("warm")
    session = store.create({"n": 1}, user="ada")
    session["n"] = 2
    session.save()
    session.rotate()
    store.load(session.id)
    session.login("ada")
    session.logout()
    store.destroy_all("ada")


def test_a_lost_reply_is_made_up_for(t: Tetrad, faulty: Tetrad, proxy: FaultProxy, name: str) -> None:
    """The connection breaks in the middle of each reply, after the server has done it."""
    store, there = faulty.sessions(name), t.sessions(name)
    learn_scripts(t)
    store.load(other := there.create().id)
    proxy.cut_after(2)
    session = store.create({"n": 1}, user="ada")
    assert len(there.list("ada")) == 1

    session["n"] = 2
    proxy.cut_after(2)
    assert session.save() is True
    proxy.cut_after(2)
    assert session.rotate() is True
    proxy.cut_after(2)
    loaded = store.load(session.id)
    assert loaded is not None
    assert dict(loaded) == {"n": 2}
    proxy.cut_after(2)
    session.login("ada")
    assert len(there.list("ada")) == 1
    assert there.load(session.id) is not None
    old = session.id
    proxy.cut_after(2)
    session.logout()
    assert there.load(old) is None
    assert there.load(session.id) is not None
    proxy.cut_after(2)
    assert store.destroy(other) is True
    assert there.load(other) is None


def test_destroy_all_is_not_repeated(t: Tetrad, faulty: Tetrad, proxy: FaultProxy, name: str) -> None:
    """Its count could not be told, so the caller learns that it is not known."""
    store, there = faulty.sessions(name), t.sessions(name)
    learn_scripts(t)
    store.create(user="ada")
    assert len(store.list("ada")) == 1
    proxy.cut_after(2)

    with pytest.raises(ServerUnavailable):
        store.destroy_all("ada")
    assert there.list("ada") == []
    assert store.destroy_all("ada") == 0


def test_a_login_without_an_answer_leaves_no_session_of_the_user(
    t: Tetrad, faulty: Tetrad, proxy: FaultProxy, name: str
) -> None:
    """What the server may have created unseen is destroyed once it can be reached."""
    store, there = faulty.sessions(name), t.sessions(name)
    session = store.create({"n": 1})
    old = session.id
    proxy.swallow()
    with pytest.raises((ServerTimeout, ServerUnavailable)):
        session.login("ada")
    proxy.pass_on()
    proxy.cut()

    def nobody() -> bool:
        return there.list("ada") == []

    eventually(nobody)
    assert session.id == old
    assert store.load(old) is not None
    session.login("ada")
    assert dict(session) == {"n": 1}


def test_a_save_without_an_answer_can_be_repeated(t: Tetrad, faulty: Tetrad, proxy: FaultProxy, name: str) -> None:
    """Nothing counts as saved that was not answered."""
    store, there = faulty.sessions(name), t.sessions(name)
    session = store.create({"n": 1})
    session["n"] = 2
    proxy.black_hole()
    with pytest.raises((ServerTimeout, ServerUnavailable)):
        session.save()
    assert session.modified
    proxy.pass_on()
    proxy.cut()

    assert session.save() is True
    loaded = there.load(session.id)
    assert loaded is not None
    assert loaded["n"] == 2
