"""Renewing leases: one flow per Tetrad keeps all of them, in batches, and notices those that are lost."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from tetrad._core.call import Ask, Flow, Pause
from tetrad._core.tenure import Book
from tetrad._ops.lock import prolong
from tetrad.errors import ServerTimeout, TetradError

BATCH = 200
RETRY_SECONDS = 0.1
SHORTEST_CALL = 0.05  # seconds that a renewal may take, however little validity is left
PATIENCE = 5.0  # seconds without any lease after which the flow ends

valid_until = attrgetter("valid_until")


def keep_renewing(book: Book, sleep: Callable[[float], Any], timeout: float) -> Flow[None]:
    """Renew what *book* holds until it is empty. *sleep* waits that long, or less when `Book.add` says so.

    A renewal may take *timeout* seconds, but ends when any lease in the book lapses, so that this is noticed
    in time; where that happens all the time, a renewal that failed gives the next one longer.
    """
    retry_at = 0.0
    at_least = SHORTEST_CALL
    idle = False
    while True:
        now = yield from Pause(0)
        due = book.due(now)
        if due and now >= retry_at:
            idle = False
            batch = sorted(due, key=valid_until)[:BATCH]
            ttls = [tenure.ttl for tenure in batch]
            within = max(at_least, min(map(valid_until, book.all()), default=now) - now)
            within = min(timeout, within, max(SHORTEST_CALL, batch[0].valid_until - now))
            try:
                kept = yield from prolong(batch, ttls, within)
            except TetradError as exc:
                if isinstance(exc, ServerTimeout):
                    at_least *= 2
                retry_at = (yield from Pause(0)) + RETRY_SECONDS
            else:
                at_least = SHORTEST_CALL
                for tenure, ttl, ok in zip(batch, ttls, kept, strict=True):
                    if ok:
                        tenure.prolong(ttl, now)
                    else:
                        tenure.refuse()
        elif len(book):
            idle = False
            next_at = min([book.next_at, *(tenure.valid_until for tenure in due)])
            if due:
                next_at = min(next_at, retry_at)
            yield from Ask(sleep, max(0.0, next_at - now))
        elif idle:
            return
        else:
            idle = True
            yield from Ask(sleep, PATIENCE)
