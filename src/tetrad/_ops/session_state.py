"""What a loaded session knows: whose it is and its values, of which it tells the changes.

The values stay as the bytes the server has until they are asked for. A value that was handed out and can
be changed in place (a list, a dict) is encoded again when changes are wanted and compared with those bytes;
nothing has to be wrapped or marked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tetrad._core import codec
from tetrad._ops.session_keys import Place
from tetrad.errors import DataError, SessionTooLarge

_UNREAD = object()
_CONSTANT = frozenset({type(None), bool, int, float, str, bytes})


class Stored(NamedTuple):
    """A session as the server has it. *version* is the request of the last save that *fields* contain."""

    place: Place
    user: str | None
    created_ms: int
    meta: bytes
    version: str
    left_ms: int
    fields: dict[str, bytes]


class Changes(NamedTuple):
    """What to send: fields to set, and fields to remove."""

    sets: dict[str, bytes]
    removed: list[str]


class SessionState(MutableMapping[str, Any]):
    """The mapping of a session's values, with what is known about the session.

    Values are JSON-like: None, bool, int, float, str, bytes, lists and dicts; tuples, sets, decimals, UUIDs and dates
    too. What cannot be stored raises at ``save()``, naming the place.
    """

    def __init__(self, stored: Stored, new: bool, asked_at: float) -> None:
        self._stored = stored
        self._new = new
        self._ends_at = asked_at + stored.left_ms / 1000  # by the driver's monotonic clock
        self._saved = stored.fields  # as the server has them, by all we know
        self._values: dict[str, Any] = dict.fromkeys(stored.fields, _UNREAD)
        self._written: set[str] = set()

    # -- the mapping

    def __getitem__(self, name: str) -> Any:
        value = self._values[name]
        if value is _UNREAD:
            try:
                value = self._values[name] = codec.decode(self._saved[name])
            except DataError as exc:
                raise DataError(f"session[{name!r:.80}]: {exc}", key=self._stored.place.key) from exc
        return value

    def __setitem__(self, name: str, value: Any) -> None:
        check_field(name)
        self._values[name] = value
        self._written.add(name)

    def __delitem__(self, name: str) -> None:
        del self._values[name]

    def clear(self) -> None:
        self._values.clear()  # without decoding them one by one

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        # without the id, which is a secret, and without the values, which would have to be decoded
        return f"{type(self).__name__}(user={self.user!r}, names={list(self._values)!r:.200}, new={self._new})"

    # -- what is known

    @property
    def id(self) -> str:
        """The secret that the client keeps, for its cookie; `load` finds the session by it."""
        return self._stored.place.id

    @property
    def user(self) -> str | None:
        """Whose session it is; ``None`` when nobody has logged in."""
        return self._stored.user

    @property
    def created_at(self) -> datetime:
        """When the session was created or its user logged in, by the server's clock, in UTC."""
        return created_at(self._stored.created_ms)

    @property
    def meta(self) -> dict[str, Any]:
        """What was given as *meta* when the session was created; a copy each time."""
        return decode_meta(self._stored.meta)

    @property
    def new(self) -> bool:
        """Whether the id was issued through this object, so that the client has yet to be told."""
        return self._new

    @property
    def modified(self) -> bool:
        """Whether there is something to save, in nested values too."""
        sets, removed = self._changes()
        return bool(sets or removed)

    # -- for the flows

    def _changes(self) -> Changes:
        sets: dict[str, bytes] = {}
        saved, written = self._saved, self._written
        for name, value in self._values.items():
            if value is _UNREAD or (type(value) in _CONSTANT and name not in written):
                continue
            packed = codec.encode(value, f"session[{name!r:.80}]")
            if saved.get(name) != packed:
                sets[name] = packed
        return Changes(sets, [name for name in saved if name not in self._values])

    def _commit(self, changes: Changes, version: str, ends_at: float) -> None:
        """The server has stored *changes*; what was changed since they were taken is still to be saved."""
        self._saved = apply(self._saved, changes)
        self._stored = self._stored._replace(version=version)
        self._ends_at = ends_at

    def _rename(self, place: Place) -> None:
        """The session goes on under a new id."""
        self._stored = self._stored._replace(place=place)
        self._new = True

    def _become(self, stored: Stored, theirs: Changes, asked_at: float) -> None:
        """The session goes on as *stored*, in which *theirs* are somebody else's changes."""
        self._stored = stored
        self._saved = stored.fields
        self._ends_at = asked_at + stored.left_ms / 1000
        self._new = True
        for name in theirs.sets:
            self._values[name] = _UNREAD
        for name in theirs.removed:
            self._values.pop(name, None)

    def _start_over(self, stored: Stored, asked_at: float) -> None:
        """The session goes on as an empty one."""
        self._values.clear()
        self._written.clear()
        self._become(stored, Changes({}, []), asked_at)


def apply(fields: dict[str, bytes], changes: Changes) -> dict[str, bytes]:
    """*fields* after *changes*."""
    after = fields | changes.sets
    for name in changes.removed:
        after.pop(name, None)
    return after


def check_size(fields: dict[str, bytes], max_size: int, place: Place) -> None:
    """Raise `SessionTooLarge` when the names and values of *fields* have more than *max_size* bytes."""
    size = sum(map(len, fields.values())) + sum(map(len, map(str.encode, fields)))
    if size > max_size:
        raise SessionTooLarge(
            f"the session would have {size} bytes, more than the {max_size} allowed; nothing was stored",
            key=place.key,
            size=size,
            max_size=max_size,
        )


def check_field(name: object) -> str:
    """Return *name* if it can name a value of a session."""
    if type(name) is not str:
        raise TypeError(f"the names of session values are str, not {type(name).__name__} {name!r:.80}")
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(f"the names of session values must be valid Unicode, got {name!r:.80}") from None
    return name


def pack_fields(data: Mapping[str, Any] | None) -> dict[str, bytes]:
    """The first fields of a session."""
    if data is not None and not isinstance(data, Mapping):
        raise TypeError(f"data must be a mapping of values, not {type(data).__name__} {data!r:.80}")
    return {check_field(name): codec.encode(value, f"session[{name!r:.80}]") for name, value in (data or {}).items()}


def pack_meta(meta: Mapping[str, Any] | None) -> bytes:
    """*meta* as it is stored; empty for none."""
    if meta is not None and not isinstance(meta, Mapping):
        raise TypeError(f"meta must be a dict, not {type(meta).__name__} {meta!r:.80}")
    return codec.encode(dict(meta), "meta") if meta else b""


def decode_meta(packed: bytes) -> dict[str, Any]:
    meta = codec.decode(packed) if packed else {}
    if not isinstance(meta, dict):
        raise DataError(f"the meta of a session must be a dict, found {meta!r:.80}")
    return meta


def created_at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
