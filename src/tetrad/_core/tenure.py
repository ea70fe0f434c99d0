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
    """The life of one lease: held until it is given back ("ending" while that is under way) or lost."""

    __slots__ = ("_listeners", "fence", "key", "name", "renew", "renew_at", "state", "token", "ttl", "valid_until")

    def __init__(self, name: str, key: str, token: str, fence: int, ttl: float, asked_at: float, renew: bool) -> None:
        self.name = name
        self.key = key
        self.token = token
        self.fence = fence
        self.renew = renew
        self.ttl = ttl  # what the next renewal asks for
        self.state: Literal["held", "ending", "released", "lost"] = "held"
        self._listeners: list[Callable[[], object]] = []
        self.valid_until = 0.0
        self.prolong(ttl, asked_at)

    def prolong(self, ttl: float, asked_at: float) -> None:
        """The server confirmed *ttl* seconds, asked at *asked_at*.

        Renewals may overtake each other. None shortens a lease, here or on the server: what any of them
        was confirmed remains true.
        """
        self.valid_until = until = max(self.valid_until, asked_at + ttl)
        self.renew_at = until - self.ttl + self.ttl / RENEWALS_PER_TTL if self.renew else until

    def is_lost(self, now: float) -> bool:
        """Whether the lease is lost, noticing the passing of its validity."""
        if self.state == "held" and now >= self.valid_until:
            self.lose()
        return self.state == "lost"

    def refuse(self) -> None:
        """The server refused to renew it: a loss, unless it is on its way back, which the server saw first."""
        if self.state == "held":
            self.lose()

    def lose(self) -> None:
        """The lease is gone: tell those who asked to know, once."""
        if self.state in ("held", "ending"):
            self.state = "lost"
            self._tell()

    def disown(self) -> None:
        """In a forked child: it is the parent's, who alone would have to be told of a loss."""
        self._listeners = []
        self.state = "lost"

    def on_lost(self, listener: Callable[[], object]) -> None:
        """Have *listener* called when the lease is lost, or now if it is."""
        self._listeners.append(listener)
        if self.state == "lost":
            self._tell()

    def _tell(self) -> None:
        """Call each listener once, whoever else is at it: no lock, which a forked child might find locked."""
        while self._listeners:
            try:
                listener = self._listeners.pop(0)
            except IndexError:
                return
            try:
                listener()
            except KeyboardInterrupt:
                raise
            except BaseException:  # sys.exit(), too, which would end the thread that renews all the others
                log.exception("a callback for the loss of lock %r failed", self.name)


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
