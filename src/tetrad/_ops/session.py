"""Sessions: what is sent for each operation, and what it means when the answer is lost.

Every session operation is one script, whatever the id was rotated to. Login is two, because it moves to
the slot of its user: the new session is created first and the old one then killed, with whatever others saved in it
meanwhile carried over; a login that fails leaves nothing new behind. Logout kills first.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from tetrad._core.call import Arg, Aside, Call, Flow, Interrupted, Pause
from tetrad._core.keys import check_name
from tetrad._core.scripts import Script
from tetrad._core.scripts import load as load_script
from tetrad._core.settings import seconds_or_zero
from tetrad._ops.session_keys import Place, Store, listed_id
from tetrad._ops.session_state import (
    Changes,
    SessionState,
    Stored,
    apply,
    check_size,
    created_at,
    decode_meta,
    pack_fields,
    pack_meta,
)
from tetrad.errors import DataError, ServerUnavailable, SessionGone, TetradError
from tetrad.types import SessionInfo

BEGIN = load_script("session_begin")
CREATE = load_script("session_create")
DESTROY = load_script("session_destroy")
KILL = load_script("session_kill")
LIST = load_script("session_list")
LOAD = load_script("session_load")
ROTATE = load_script("session_rotate")
SAVE = load_script("session_save")
SWEEP = load_script("session_sweep")

FORMAT = b"1"
PAGE = 1000  # sessions that one call lists


def new_request() -> str:
    """What tells one save from another: 8 letters, as the scripts expect."""
    return secrets.token_urlsafe(6)


def create(
    store: Store, data: Mapping[str, Any] | None, user: str | None, meta: Mapping[str, Any] | None
) -> Call[Stored]:
    """Store a new session."""
    return _create(CREATE, store, store.mint(user), pack_fields(data), user, pack_meta(meta))


def _create(
    script: Script, store: Store, place: Place, fields: dict[str, bytes], user: str | None, meta: bytes
) -> Call[Stored]:
    request = new_request()
    check_size(fields, store.max_size, place)
    args: list[Arg] = [request, place.digest, store.idle_ms, store.absolute_ms, user or "", meta]
    for name, packed in fields.items():
        args += (f".{name}", packed)

    def stored(reply: Any) -> Stored:
        if reply is None:
            raise DataError("a new session id was taken already: is the random generator broken?", key=place.key)
        return Stored(place, user, reply[0], meta, request, reply[1], fields)

    return Call(script, (place.key, place.index), tuple(args), stored)


def load(place: Place) -> Call[Stored | None]:
    """The session, or ``None``; its idle time starts again."""
    return Call(LOAD, (place.key, place.index), (), lambda reply: None if reply is None else _stored(place, reply))


def _stored(place: Place, reply: Any) -> Stored:
    """The reply of a load. Damaged fields wait until they are asked for; damage around them raises here."""
    left_ms, flat = reply
    fields: dict[str, bytes] = {}
    about: dict[bytes, bytes] = {}
    try:
        for name, packed in zip(flat[::2], flat[1::2], strict=True):
            if name[:1] == b".":
                fields[name[1:].decode()] = packed
            else:
                about[name] = packed
        if about.get(b"f") != FORMAT:
            raise ValueError(f"its format is {about.get(b'f')!r:.20}, this release knows {FORMAT!r}")
        user = about[b"u"].decode() if b"u" in about else None
        version = about[b"v"][:8].decode()
        return Stored(place, user, int(about[b"c"]), about.get(b"m", b""), version, left_ms, fields)
    except (ValueError, KeyError) as exc:
        raise DataError(f"the stored session is damaged or not ours: {exc}", key=place.key) from exc


def save(store: Store, session: SessionState) -> Flow[bool]:
    """Send what has changed; ``False`` when nothing has. Raises `SessionGone`."""
    changes = session._changes()
    if not (changes.sets or changes.removed):
        return False
    stored = session._stored
    if changes.sets:
        check_size(apply(session._saved, changes), store.max_size, stored.place)
    request = new_request()
    asked_at = yield from Pause(0)
    left_ms, before = yield from _save(stored.place, request, changes)
    # when somebody else has saved since we loaded, the next login must look at what
    session._commit(changes, request if before == stored.version else "", asked_at + left_ms / 1000)
    return True


def _save(place: Place, request: str, changes: Changes) -> Call[tuple[int, str]]:
    args: list[Arg] = [request, len(changes.sets)]
    for name, packed in changes.sets.items():
        args += (f".{name}", packed)
    args += [f".{name}" for name in changes.removed]

    def saved(reply: Any) -> tuple[int, str]:
        if reply is None:
            raise gone(place)
        return reply[0], reply[1].decode()

    return Call(SAVE, (place.key, place.index), tuple(args), saved)


def login(store: Store, session: SessionState, user: str) -> Flow[None]:
    """Move the session, with its unsaved changes, to a new id in the slot of *user*; the old id is dead."""
    check_name(user, "user")
    old = session._stored
    place = store.mint(user)
    changes = session._changes()
    fields = apply(session._saved, changes)
    theirs = Changes({}, [])
    creating = True
    asked_at = yield from Pause(0)
    try:
        stored = yield from _create(CREATE, store, place, fields, user, old.meta)
        creating = False
        reply = yield from Call(KILL, (old.place.key, old.place.index), (new_request(), old.version or "-"), _as_is)
        if isinstance(reply, list):
            theirs = _meanwhile(session._saved, _fields(reply), changes)
            if theirs.sets or theirs.removed:
                request = new_request()
                yield from _save(place, request, theirs)
                stored = stored._replace(version=request, fields=apply(fields, theirs))
    except TetradError as exc:
        if not (creating and isinstance(exc, ServerUnavailable) and not exc.sent):
            yield from Aside(iter(_destroy(place)))
        raise
    except Interrupted:
        yield from _destroy(place)
        raise
    if reply is None:
        yield from _destroy(place)
        raise gone(old.place)
    session._become(stored, theirs, asked_at)


def _as_is(reply: Any) -> Any:
    return reply


def _fields(flat: list[bytes]) -> dict[str, bytes]:
    return {name[1:].decode(): packed for name, packed in zip(flat[::2], flat[1::2], strict=True) if name[:1] == b"."}


def _meanwhile(before: dict[str, bytes], now: dict[str, bytes], ours: Changes) -> Changes:
    """What somebody else has changed, except where we have changed it too."""
    touched = ours.sets.keys() | set(ours.removed)
    return Changes(
        {name: packed for name, packed in now.items() if before.get(name) != packed and name not in touched},
        [name for name in before if name not in now and name not in touched],
    )


def logout(store: Store, session: SessionState) -> Flow[None]:
    """End the session, and go on as an empty one of nobody's. Works when the old one has gone, and without memory."""
    old = session._stored
    yield from destroy(old.place)
    asked_at = yield from Pause(0)
    stored = yield from _create(BEGIN, store, store.mint(None), {}, None, old.meta)
    session._start_over(stored, asked_at)


def rotate(store: Store, session: SessionState, grace: float | timedelta) -> Flow[bool]:
    """Give the session a new id; whether it was this call. Raises `SessionGone`."""
    grace_ms = round(seconds_or_zero(grace, "grace") * 1000)
    stored = session._stored
    old = stored.place
    place = store.mint(stored.user, old.tag)
    moved = yield from Call(ROTATE, (old.key, place.key, old.index), (place.digest, grace_ms), _as_is)
    if moved is None:
        raise gone(old)
    if moved:
        session._rename(place)
    return bool(moved)


def destroy(place: Place | None) -> Flow[bool]:
    """End the session; whether there was one. Sent again when the connection broke: dead is what it must be."""
    if place is None:
        return False
    try:
        ended = yield from _destroy(place)
    except ServerUnavailable as exc:
        if not exc.sent:
            raise
        yield from _destroy(place)
        return True  # by the lost request or by this one
    return ended


def _destroy(place: Place) -> Call[bool]:
    return Call(DESTROY, (place.key, place.index), (), bool)


def destroy_all(store: Store, user: str, keep: str | None) -> Flow[int]:
    """End all sessions of *user* but *keep*; how many there were."""
    kept = store.find_listed(keep)
    if keep is not None and kept is None:
        raise ValueError("keep must be the id of a session, from Session.id or SessionInfo.id, and is none")
    home = store.home(store.tag_of(user))
    ended, more = 0, 1
    while more:
        count, more = yield from Call(SWEEP, (f"{home}:index",), (f"{home}:", kept.digest if kept else ""), _as_is)
        ended += count
    return ended


def list_sessions(store: Store, user: str) -> Flow[list[SessionInfo]]:
    """The live sessions of *user*, the newest first."""
    tag = store.tag_of(user)
    home = store.home(tag)
    found: dict[bytes, SessionInfo] = {}
    skip = 0
    while True:
        count, *flat = yield from Call(LIST, (f"{home}:index",), (f"{home}:", skip), _as_is)
        for digest, created, meta, left_ms in zip(*[iter(flat)] * 4, strict=True):
            found[digest] = SessionInfo(
                id=listed_id(tag, digest.decode()),
                user=user,
                created_at=created_at(int(created)),
                expires_in=max(0, left_ms) / 1000,
                meta=decode_meta(meta),
            )
        skip += count
        if count < PAGE:
            return sorted(found.values(), key=lambda info: info.created_at, reverse=True)


def gone(place: Place) -> SessionGone:
    return SessionGone(
        "the session was destroyed or has expired since it was loaded; nothing was stored", key=place.key
    )
