"""A session with several handles at once behaves like plain dicts whose changes are merged."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tetrad import SessionGone, Tetrad
from tetrad._sync.session import Session, SessionStore

names = st.sampled_from(["a", "b", "c", "größe", ""])
values = st.recursive(
    st.none() | st.integers(-5, 5) | st.text("xy", max_size=2) | st.tuples(st.integers(0, 3)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xy", max_size=1), inner, max_size=3),
    max_leaves=5,
)
which = st.integers(0, 3)


class Handle:
    """A session object, and the two dicts that it should be like: what it shows, and what it knows to be stored."""

    def __init__(self, session: Session, stored: dict[str, Any]) -> None:
        self.session = session
        self.shown = copy.deepcopy(stored)
        self.known = copy.deepcopy(stored)
        self.alive = True

    def changes(self) -> tuple[dict[str, Any], list[str]]:
        sets = {
            name: copy.deepcopy(value)
            for name, value in self.shown.items()
            if name not in self.known
            or repr(self.known[name]) != repr(value)  # {"x": 1, "y": 2} is not {"y": 2, "x": 1}
        }
        return sets, [name for name in self.known if name not in self.shown]


def merge(into: dict[str, Any], changes: tuple[dict[str, Any], list[str]]) -> None:
    sets, removed = changes
    into.update(copy.deepcopy(sets))
    for name in removed:
        into.pop(name, None)


def machine(store: SessionStore) -> type[RuleBasedStateMachine]:
    class Sessions(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            first = store.create({"a": 1, "b": [1, [2]]})
            self.stored: dict[str, Any] = {"a": 1, "b": [1, [2]]}
            self.ids = [first.id]  # those that lead to the session
            self.saves = 0  # since the last login
            self.handles = [Handle(first, self.stored)]

        def handle(self, at: int) -> Handle:
            return self.handles[at % len(self.handles)]

        @rule(at=which)
        def load(self, at: int) -> None:
            """Another request. What it shows is looked at later, so that values stay unread for a while."""
            session = store.load(self.ids[at % len(self.ids)])
            assert session is not None
            self.handles = [Handle(session, self.stored), *self.handles[:3]]

        @rule(at=which, name=names, value=values)
        def assign(self, at: int, name: str, value: Any) -> None:
            handle = self.handle(at)
            handle.session[name] = copy.deepcopy(value)
            handle.shown[name] = value

        @rule(at=which, name=names, value=values)
        def change_inside(self, at: int, name: str, value: Any) -> None:
            """Appending to a list, or to one inside it, is a change like any other."""
            handle = self.handle(at)
            for mapping in (handle.session, handle.shown):
                found: Any = mapping.get(name)
                while isinstance(found, list):
                    inside = found[-1] if found else None
                    if not isinstance(inside, list):
                        found.append(copy.deepcopy(value))
                    found = inside

        @rule(at=which, name=names)
        def remove(self, at: int, name: str) -> None:
            handle = self.handle(at)
            assert (handle.session.pop(name, None) is None) == (handle.shown.pop(name, None) is None)

        @rule(at=which)
        def clear(self, at: int) -> None:
            handle = self.handle(at)
            handle.session.clear()
            handle.shown.clear()

        @rule(at=which)
        def save(self, at: int) -> None:
            handle = self.handle(at)
            changes = handle.changes()
            changed = bool(changes[0] or changes[1])
            assert handle.session.modified == changed
            if changed and not handle.alive:
                with pytest.raises(SessionGone):
                    handle.session.save()
                return
            assert handle.session.save() == changed
            if changed:
                merge(handle.known, changes)
                merge(self.stored, changes)
                self.saves += 1

        @rule(at=which, name=names, value=values)
        def assign_and_save(self, at: int, name: str, value: Any) -> None:
            self.assign(at, name, value)
            self.save(at)

        @rule(at=which)
        def rotate(self, at: int) -> None:
            handle = self.handle(at)
            if not handle.alive:
                with pytest.raises(SessionGone):
                    handle.session.rotate(3600)
                return
            newest = handle.session.id == self.ids[-1]
            assert handle.session.rotate(3600) == newest
            if newest:
                self.ids.append(handle.session.id)

        @precondition(lambda self: self.saves >= 2)  # a login ends the other handles: let there be something to end
        @rule(at=which)
        def login(self, at: int) -> None:
            """All stored changes and the handle's own are carried over; all other handles are dead."""
            handle = self.handle(at)
            if not handle.alive:
                with pytest.raises(SessionGone):
                    handle.session.login("ada")
                return
            self.saves = 0
            merge(self.stored, handle.changes())
            handle.session.login("ada")
            for each in self.handles:
                each.alive = each is handle
            for dead in self.ids:
                assert store.load(dead) is None
            self.ids = [handle.session.id]
            handle.shown = copy.deepcopy(self.stored)
            handle.known = copy.deepcopy(self.stored)

        @rule(at=which)
        def look(self, at: int) -> None:
            handle = self.handle(at)
            assert set(handle.session) == set(handle.shown)
            assert dict(handle.session) == handle.shown

        def teardown(self) -> None:
            for at in range(len(self.handles)):
                self.look(at)
            last = store.load(self.ids[-1])
            assert last is not None
            assert dict(last) == self.stored
            assert last.destroy()

    return Sessions


def test_handles_behave_like_merged_dicts(url: str, name: str) -> None:
    """Whatever is assigned, changed inside, removed, saved, rotated and logged in, through up to four handles."""
    with Tetrad(url) as t:
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            machine(t.sessions(name)),
            settings=settings(
                max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
            ),
        )
