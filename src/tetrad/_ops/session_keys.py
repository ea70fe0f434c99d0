"""Session ids, and where the server keeps what they name.

An id is ``tag.secret``. The tag decides the slot: it is computed from the store's and the user's name, so that all
sessions of a user share one, and random for nobody's. The secret has 256 bits. The server is only
ever told a SHA-256 hash of the id, and no id that a client brings is ever taken over.
"""

from __future__ import annotations

import re
import secrets
from base64 import urlsafe_b64encode
from datetime import timedelta
from hashlib import blake2b, sha256

from tetrad._core import keys
from tetrad._core.settings import seconds

TAG_BYTES, SECRET_BYTES = 16, 32

# 16 bytes are 22 letters of URL-safe base64, 32 bytes are 43; an id has 66
_ID = re.compile(r"([A-Za-z0-9_-]{22})\.[A-Za-z0-9_-]{43}", re.ASCII)
_LISTED = re.compile(r"([A-Za-z0-9_-]{22})~([A-Za-z0-9_-]{43})", re.ASCII)


class Place:
    """Where one session is kept. *id* is empty when only its hash is known."""

    __slots__ = ("digest", "id", "index", "key", "tag")

    def __init__(self, store: Store, tag: str, digest: str, session_id: str) -> None:
        self.id = session_id
        self.tag = tag
        self.digest = digest
        home = store.home(tag)
        self.key = f"{home}:{digest}"
        self.index = f"{home}:index"

    def __repr__(self) -> str:
        return f"Place({self.key!r})"


class Store:
    """The settings of a session store: its name, and the lifetimes that it gives."""

    __slots__ = ("_head", "absolute_ms", "idle_ms", "max_size", "name")

    def __init__(
        self, prefix: str, name: str, idle: float | timedelta, absolute: float | timedelta, max_size: int
    ) -> None:
        self.name = keys.check_name(name, "session store name")
        self._head = keys.key(prefix, "session", name, "")[:-1]
        self.idle_ms = _milliseconds(idle, "idle")
        self.absolute_ms = _milliseconds(absolute, "absolute")
        if isinstance(max_size, bool) or not isinstance(max_size, int):
            raise TypeError(f"max_size must be a number of bytes, got {max_size!r:.80}")
        if max_size < 1:
            raise ValueError(f"max_size must be at least 1 byte, got {max_size!r:.80}")
        self.max_size = max_size

    def home(self, tag: str) -> str:
        """What the keys of all sessions with this tag start with."""
        return f"{self._head}{tag}}}"

    def tag_of(self, user: str) -> str:
        """The tag of all sessions of *user*."""
        keys.check_name(user, "user")
        who = blake2b(f"{self.name}\0{user}".encode(), digest_size=TAG_BYTES, person=b"tetrad-session")
        return _base64(who.digest())

    def mint(self, user: str | None, tag: str | None = None) -> Place:
        """A place that nobody has or can guess."""
        if tag is None:
            tag = _base64(secrets.token_bytes(TAG_BYTES)) if user is None else self.tag_of(user)
        session_id = f"{tag}.{secrets.token_urlsafe(SECRET_BYTES)}"
        return Place(self, tag, _base64(sha256(session_id.encode()).digest()), session_id)

    def find(self, session_id: object) -> Place | None:
        """The place that an id names; ``None`` for ``None`` and for what is no id. `TypeError` for no str."""
        if session_id is None:
            return None
        if not isinstance(session_id, str):
            raise TypeError(f"a session id is a str, not {type(session_id).__name__}")
        match = _ID.fullmatch(session_id)
        if match is None:
            return None
        return Place(self, match[1], _base64(sha256(session_id.encode()).digest()), session_id)

    def find_listed(self, session_id: object) -> Place | None:
        """As `find`, for the ids in `list` too."""
        match = _LISTED.fullmatch(session_id) if isinstance(session_id, str) else None
        return self.find(session_id) if match is None else Place(self, match[1], match[2], "")


def listed_id(tag: str, digest: str) -> str:
    """The id by which a session in a list can be destroyed or kept, but not loaded."""
    return f"{tag}~{digest}"


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _milliseconds(value: float | timedelta, what: str) -> int:
    ms = round(seconds(value, what) * 1000)
    if ms < 1:
        raise ValueError(f"{what} must be at least 0.001 s, got {value!r}")
    return ms
