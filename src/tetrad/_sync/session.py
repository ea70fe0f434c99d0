# Generated from src/tetrad/_async/session.py by tools/unasync.py: edit that file, then run `make sync`.
"""`SessionStore` and `Session`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from tetrad._core.drive import run
from tetrad._core.wire_sync import Wire
from tetrad._ops import session as ops
from tetrad._ops.session_keys import Store
from tetrad._ops.session_state import SessionState, Stored
from tetrad.types import SessionInfo


class Session(SessionState):
    """One session: a mapping of str to JSON-like values, kept on the server.

    Reading and writing values is local. `save` sends what has changed, also inside nested lists and dicts, and only
    that, so two requests that change different values both win.

    Values are None, bool, int, float, str, bytes, and lists and dicts of them; tuples, sets, decimals, UUIDs,
    dates and times come back as what they were. Anything else raises when it is saved, naming the place.

    >>> with Tetrad("embedded:?memory") as t:
    ...     session = t.sessions().create({"cart": []})
    ...     session["cart"].append("apple")
    ...     session.save()
    True
    """

    def __init__(self, wire: Wire, store: Store, stored: Stored, new: bool, asked_at: float) -> None:
        super().__init__(stored, new, asked_at)
        self._wire = wire
        self._store = store

    @property
    def expires_in(self) -> float:
        """The seconds after which the session ends if it is not used; 0.0 when it has ended."""
        return max(0.0, self._ends_at - time.monotonic())

    def save(self) -> bool:
        """Store what has changed, in one round trip; ``False``, and nothing sent, when nothing has.

        Raises `SessionGone` when the session was destroyed or has expired meanwhile: it is never brought back.
        `SessionTooLarge`, or `ValueError` and `TypeError` for what cannot be stored, before anything is sent.
        """
        return run(ops.save(self._store, self), self._wire)

    def login(self, user: str) -> None:
        """Make it a session of *user*, with a new id, and the values it has, unsaved ones too.

        The old id is dead at once, so whoever planted or saw it has nothing; the lifetimes start again. Two round
        trips. Raises `SessionGone` when the session has ended meanwhile.
        """
        run(ops.login(self._store, self, user), self._wire)

    def logout(self) -> None:
        """End the session and go on as an empty one of nobody's, with a new id. Two round trips.

        It also works when the session has ended already, and when the server's memory is full.
        """
        run(ops.logout(self._store, self), self._wire)

    def rotate(self, grace: float | timedelta = 10.0) -> bool:
        """Give the session a new id; for *grace* seconds requests that still bring the old one are served.

        Do this from time to time, so that a stolen id does not last. ``False`` when another request has done it
        first: there is exactly one new id, which that request's client gets, and this object goes on with the
        old one while the grace lasts. Raises `SessionGone`.
        """
        return run(ops.rotate(self._store, self, grace), self._wire)

    def destroy(self) -> bool:
        """End the session; ``False`` when it had ended already."""
        return run(ops.destroy(self._stored.place), self._wire)


class SessionStore:
    """Web sessions that live on the server; the client keeps nothing but an id.

    A session ends *idle* seconds after it was last loaded or saved, and in any case *absolute* seconds after it was
    created or its user logged in, both by the server's clock. Names and values of one may have *max_size* bytes.

    >>> with Tetrad("embedded:?memory") as t:
    ...     sessions = t.sessions()
    ...     session = sessions.create({"theme": "dark"})
    ...     session.login("ada")
    ...     sessions.load(session.id)["theme"]
    'dark'
    """

    def __init__(
        self,
        wire: Wire,
        prefix: str,
        name: str,
        *,
        idle: float | timedelta,
        absolute: float | timedelta,
        max_size: int,
    ) -> None:
        self._wire = wire
        self._store = Store(prefix, name, idle, absolute, max_size)

    def __repr__(self) -> str:
        return f"SessionStore({self.name!r})"

    @property
    def name(self) -> str:
        """The name of the store."""
        return self._store.name

    def create(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        user: str | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> Session:
        """Store a new session with the values of *data*, of *user* (``None``: nobody yet).

        *meta* says what `list` should show of it, such as its device and address; it stays with the session over
        login and logout.
        """
        asked_at = time.monotonic()
        stored = self._wire.send(ops.create(self._store, data, user, meta))
        return Session(self._wire, self._store, stored, True, asked_at)

    def load(self, id: str | None) -> Session | None:
        """The session with this id, whose idle time starts again; ``None`` when there is none.

        Whatever a client may send as an id is fine: what the store has not issued is ``None``, as is ``None`` itself.
        Raises `TypeError` for another type, `DataError` if what is stored is damaged.
        """
        place = self._store.find(id)
        if place is None:
            return None
        asked_at = time.monotonic()
        stored = self._wire.send(ops.load(place))
        return None if stored is None else Session(self._wire, self._store, stored, False, asked_at)

    def list(self, user: str) -> list[SessionInfo]:
        """The live sessions of *user*, newest first. Their ids are good for `destroy` and *keep*, not for `load`."""
        return run(ops.list_sessions(self._store, user), self._wire)

    def destroy(self, id: str | None) -> bool:
        """End a session, by its own id or the one in a list; ``False`` when there was none.

        Requests that are at work on it cannot save any more. After a broken connection the answer may be ``True``
        although somebody else was faster.
        """
        return run(ops.destroy(self._store.find_listed(id)), self._wire)

    def destroy_all(self, user: str, keep: str | None = None) -> int:
        """End all sessions of *user*, except the one with the id *keep*; how many there were.

        A session created meanwhile either ends too or was created after.
        """
        return run(ops.destroy_all(self._store, user, keep), self._wire)
