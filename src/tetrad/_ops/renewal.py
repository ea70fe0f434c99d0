"""Renewing leases: one flow per Tetrad keeps all of them, in batches, and notices those that are lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tetrad._core.call import Ask, Flow, Pause
from tetrad._core.tenure import Book
from tetrad._ops.lock import prolong
from tetrad.errors import TetradError

BATCH = 200
RETRY_SECONDS = 0.1
SHORTEST_CALL = 0.05  # seconds that a renewal may take, however little validity is left
PATIENCE = 5.0  # seconds without any lease after which the flow ends


def keep_renewing(book: Book, sleep: Callable[[float], Any]) -> Flow[None]:
    """Renew what *book* holds until it is empty. *sleep* waits that long, or less when `Book.add` says so."""
    retry_at = 0.0
    idle = False
    while True:
        now = yield from Pause(0)
        due = book.due(now)
        if due and now >= retry_at:
            idle = False
            batch = due[:BATCH]
            least = min(tenure.valid_until for tenure in batch) - now
            try:
                kept = yield from prolong(batch, [round(t.ttl * 1000) for t in batch], max(SHORTEST_CALL, least))
            except TetradError:
                retry_at = (yield from Pause(0)) + RETRY_SECONDS
            else:
                for tenure, ok in zip(batch, kept, strict=True):
                    if ok:
                        tenure.prolong(tenure.ttl, now)
                    else:
                        tenure.lose()
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
