"""Sessions between processes: what one of them ends stays dead, and what two of them write is kept."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import pytest

from tests.servers import Server, wait_until
from tetrad import Tetrad
from tetrad._sync.session import Session, SessionStore

# Reads "verb argument" lines and answers each with one line.
WORKER = """
    import sys
    from tetrad import SessionGone, Tetrad

    t = Tetrad(sys.argv[1])
    store = t.sessions(sys.argv[2], idle=float(sys.argv[3]))
    me = sys.argv[4]
    session = None

    def load(id):
        global session
        session = store.load(id)
        return session is not None

    def save(value):
        session[me] = value
        session.setdefault("nested", {})[me] = value
        try:
            return session.save()
        except SessionGone:
            return "gone"

    def rotate(id):
        try:
            won = session.rotate()
        except SessionGone:
            return "gone"
        return session.id if won else "lost"

    def hammer(id):
        # load and save until the session has gone, and then try to bring it back
        saved = 0
        while (mine := store.load(id)) is not None:
            mine[me] = saved
            try:
                mine.save()
            except SessionGone:
                break
            saved += 1
            if saved == 1:
                print("begun", flush=True)
        if mine is not None:
            mine["late"] = True
            try:
                mine.save()
                return "resurrected"
            except SessionGone:
                pass
        return f"gone {saved}"

    def count(id):
        for n in range(100):
            mine = store.load(id)
            mine[me] = mine.get(me, 0) + 1
            mine["list " + me] = mine.get("list " + me, []) + [n]
            mine.save()
        return "counted"

    def logins(user):
        print("begun", flush=True)
        while True:
            mine = store.create({"cart": [1]})
            mine.login(user)
            mine.logout()

    verbs = dict(load=load, save=save, rotate=rotate, hammer=hammer, count=count, logins=logins)
    print("ready", flush=True)
    for line in sys.stdin:
        verb, _, argument = line.strip().partition(" ")
        print(verbs[verb](argument), flush=True)
"""


class Worker:
    """A process that works on the sessions of a store."""

    def __init__(self, url: str, name: str, me: str, idle: float = 1800) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WORKER), url, name, str(idle), me],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, verb: str, argument: str = "-") -> None:
        """Have it begin something."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{verb} {argument}\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        """Its next answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the worker has ended"
        return line.strip()

    def ask(self, verb: str, argument: str = "-") -> str:
        """Have it do something; its answer."""
        self.tell(verb, argument)
        return self.hear()

    def kill(self) -> None:
        """``kill -9``."""
        self._process.kill()
        self._process.wait(10)

    def __enter__(self) -> Self:
        assert self.hear() == "ready"
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def workers(url: str, name: str) -> Iterator[list[Worker]]:
    """Four worker processes."""
    started = [Worker(url, name, f"worker {n}") for n in range(4)]
    try:
        for worker in started:
            worker.__enter__()
        yield started
    finally:
        for worker in started:
            worker.__exit__(None, None, None)


@pytest.fixture
def store(url: str, name: str) -> Iterator[SessionStore]:
    with Tetrad(url) as t:
        yield t.sessions(name)


def keys_of(server: Server, name: str) -> list[bytes]:
    keys: list[bytes] = server.cli("KEYS", f"tetrad:session:{{{name}:*")
    return keys


def load(store: SessionStore, session_id: str) -> Session:
    session = store.load(session_id)
    assert session is not None
    return session


def test_a_logout_beats_a_slow_write(server: Server, store: SessionStore, name: str, workers: list[Worker]) -> None:
    """Requests that loaded before a logout, login or destruction cannot write after it."""
    for end in (Session.logout, Session.destroy, lambda session: session.login("bob")):
        session = store.create({"a": 1}, user="ada")
        old = session.id
        assert [worker.ask("load", old) for worker in workers] == ["True"] * 4
        end(session)

        assert [worker.ask("save", "late") for worker in workers] == ["gone"] * 4
        assert store.load(old) is None
        assert store.list("ada") == []
        assert "late" not in repr(dict(session))


def test_nothing_is_resurrected_under_fire(
    server: Server, store: SessionStore, name: str, workers: list[Worker]
) -> None:
    """Four processes that save as fast as they can lose to one logout, each time."""
    for _ in range(10):
        session = store.create({"a": 1}, user="ada")
        for worker in workers:
            worker.tell("hammer", session.id)
        assert [worker.hear() for worker in workers] == ["begun"] * 4
        session.logout()

        assert all(worker.hear().startswith("gone") for worker in workers)
        session.destroy()
        assert store.list("ada") == []
        assert keys_of(server, name) == []


def test_destroy_all_during_many_saves_leaves_none(
    server: Server, store: SessionStore, name: str, workers: list[Worker]
) -> None:
    """All sessions of a user end in one call, whoever is saving in them."""
    for _ in range(10):
        sessions = [store.create({"a": 1}, user="ada") for _ in range(4)]
        for worker, session in zip(workers, sessions, strict=True):
            worker.tell("hammer", session.id)
        assert [worker.hear() for worker in workers] == ["begun"] * 4

        assert store.destroy_all("ada") == 4
        assert all(worker.hear().startswith("gone") for worker in workers)
        assert store.list("ada") == []
        assert keys_of(server, name) == []


def test_parallel_rotations_have_one_successor(store: SessionStore, workers: list[Worker]) -> None:
    """Of the processes that rotate at the same moment exactly one issues the new id, and nobody loses the session."""
    for n in range(30):
        session = store.create({"n": n}, user="ada")
        old = session.id
        assert [worker.ask("load", old) for worker in workers] == ["True"] * 4
        for worker in workers:
            worker.tell("rotate")
        answers = [worker.hear() for worker in workers]

        winners = [answer for answer in answers if answer != "lost"]
        assert len(winners) == 1
        assert [worker.ask("save", str(n)) for worker in workers] == ["True"] * 4
        for each in (old, *winners):
            loaded = load(store, each)
            assert all(loaded[f"worker {m}"] == str(n) for m in range(4))
        assert len(store.list("ada")) == 1
        assert store.destroy_all("ada") == 1


def test_different_values_changed_by_different_processes_survive(store: SessionStore, workers: list[Worker]) -> None:
    """Four processes change values of their own in one session, a hundred times each: not one change is lost."""
    session = store.create({"mine": "untouched"})
    for worker in workers:
        worker.tell("count", session.id)
    assert [worker.hear() for worker in workers] == ["counted"] * 4

    loaded = load(store, session.id)
    assert loaded["mine"] == "untouched"
    for n in range(4):
        assert loaded[f"worker {n}"] == 100
        assert loaded[f"list worker {n}"] == list(range(100))


def test_a_killed_process_leaves_only_what_expires(server: Server, url: str, name: str) -> None:
    """Killed between the two halves of logins and logouts: within the idle time nothing is left."""
    killed = [Worker(url, name, f"worker {n}", idle=0.5) for n in range(3)]
    for worker in killed:
        with worker:
            worker.tell("logins", "ada")
            assert worker.hear() == "begun"
            wait_until(lambda: keys_of(server, name), what="a login")
            worker.kill()

    wait_until(lambda: not keys_of(server, name), 20, "the end of the killed processes' sessions")
