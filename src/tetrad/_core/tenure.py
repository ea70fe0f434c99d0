"""What one process knows about a lease it took: who, which fence, and until when it may rely on it.

Validity is counted on the local monotonic clock from before the request was sent, so it ends no
later than the server's own bound, whatever happens to this process. *now* is always an argument.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Literal

log = logging.getLogger("tetrad")

RENEWALS_PER_TTL = 3


class Tenure:
    """The life of one lease: held until released or lost, whichever comes first."""

    __slots__ = ("_listeners", "fence", "key", "name", "renew", "renew_at", "state", "token", "ttl", "valid_until")

    def __init__(self, name: str, key: str, token: str, fence: int, ttl: float, asked_at: float, renew: bool) -> None:
        self.name = name
        self.key = key
        self.token = token
        self.fence = fence
        self.renew = renew
        self.state: Literal["held", "released", "lost"] = "held"
        self._listeners: list[Callable[[], object]] = []
        self.prolong(ttl, asked_at)

    def prolong(self, ttl: float, asked_at: float) -> None:
        """The server confirmed the lease, asked at *asked_at*."""
        self.ttl = ttl
        self.valid_until = asked_at + ttl
        self.renew_at = asked_at + ttl / RENEWALS_PER_TTL if self.renew else self.valid_until

    def is_lost(self, now: float) -> bool:
        """Whether the lease is lost, noticing the passing of its validity."""
        if self.state == "held" and now >= self.valid_until:
            self.lose()
        return self.state == "lost"

    def lose(self) -> None:
        """The lease is gone: tell those who asked to know, once."""
        if self.state == "held":
            self.state = "lost"
            with _telling:
                listeners, self._listeners = self._listeners, []
            for listener in listeners:
                _tell(listener, self.name)

    def on_lost(self, listener: Callable[[], object]) -> None:
        """Have *listener* called when the lease is lost, or now if it is."""
        with _telling:
            if self.state != "lost":
                self._listeners.append(listener)
                return
        _tell(listener, self.name)


_telling = threading.Lock()


def _tell(listener: Callable[[], object], name: str) -> None:
    try:
        listener()
    except Exception:
        log.exception("a callback for the loss of lock %r failed", name)


class Book:
    """The tenures of one Tetrad (in one event loop), for whoever renews them."""

    def __init__(self) -> None:
        self._tenures: dict[str, Tenure] = {}
        self._changing = threading.Lock()  # next_at must not miss a tenure that is entered meanwhile
        self.next_at = float("inf")  # no tenure wants anything before

    def add(self, tenure: Tenure) -> bool:
        """Enter *tenure*; return whether it wants something sooner than any other did."""
        with self._changing:
            self._tenures[tenure.token] = tenure
            if tenure.renew_at < self.next_at:
                self.next_at = tenure.renew_at
                return True
            return False

    def remove(self, tenure: Tenure) -> None:
        self._tenures.pop(tenure.token, None)

    def __len__(self) -> int:
        return len(self._tenures)

    def all(self) -> list[Tenure]:
        return list(self._tenures.values())

    def due(self, now: float) -> list[Tenure]:
        """The leases to renew now, having noticed those that are lost, and with `next_at` put right.

        Whatever falls due soon comes along, so that leases taken together are renewed together.
        """
        lapsed: list[Tenure] = []
        due: list[Tenure] = []
        next_at = float("inf")
        with self._changing:
            for tenure in self.all():
                if tenure.state != "held" or now >= tenure.valid_until:
                    lapsed.append(tenure)
                elif tenure.renew and tenure.renew_at - 0.2 * tenure.ttl / RENEWALS_PER_TTL <= now:
                    due.append(tenure)
                else:
                    next_at = min(next_at, tenure.renew_at, tenure.valid_until)
            if not any(tenure.renew_at <= now for tenure in due):
                next_at = min([next_at, *(tenure.renew_at for tenure in due)])
                due = []
            self.next_at = next_at
        for tenure in lapsed:  # outside the lock: this calls the caller's functions
            tenure.is_lost(now)
            self.remove(tenure)
        return due
