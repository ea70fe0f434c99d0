"""The jackpot's own store: an append-only SQLite file that trusts no lock.

It is what a bank would be: it is handed the fence of the lease with each payment and refuses one that is not larger
than the last it has seen. So a claimant who was stopped while it held the lock, and wakes up after somebody else
was paid, is harmless. It knows nothing of Tetrad.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

BREAK = 1.5  # seconds from a payment to the opening of the next round

_SCHEMA = """
CREATE TABLE IF NOT EXISTS payments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    round INTEGER NOT NULL, player TEXT NOT NULL, prize INTEGER NOT NULL, fence INTEGER NOT NULL, paid_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS refusals (round INTEGER, player TEXT, fence INTEGER, reason TEXT);
CREATE TRIGGER IF NOT EXISTS no_update BEFORE UPDATE ON payments BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS no_delete BEFORE DELETE ON payments BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""


class PaymentRefused(Exception):
    """The ledger did not pay; ``reason`` is ``"stale fence"`` or ``"already paid"``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Payment:
    """A line of the ledger."""

    round: int
    player: str
    prize: int
    fence: int


@dataclass(frozen=True, slots=True)
class State:
    """The round that is next to be paid, and who got the one before."""

    round: int
    prize: int
    opens_in: float  # seconds; 0 or less when it is open
    last: Payment | None


class Ledger:
    """The payments; one thread of its own does all the work, so the event loop never waits for the disk."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._db: sqlite3.Connection | None = None

    async def state(self) -> State:
        """The round that is next to be paid."""
        return await self._run(_state)

    async def pay(self, number: int, player: str, prize: int, fence: int) -> None:
        """Pay *player* for the round, once; raise `PaymentRefused` when it is paid, or *fence* is not the newest."""
        reason = await self._run(lambda db: _pay(db, number, player, prize, fence))
        if reason is not None:
            raise PaymentRefused(reason)

    async def payments(self) -> list[Payment]:
        """Everything that was paid, in the order of payment."""
        return await self._run(_payments)

    async def refusals(self) -> list[str]:
        """Why payments were refused, one line each."""
        return await self._run(lambda db: [reason for (reason,) in db.execute("SELECT reason FROM refusals")])

    def close(self) -> None:
        """Finish what is under way and close the file."""
        if self._db is not None:
            self._thread.submit(self._db.close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(self._open()))

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self._path, timeout=10, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.executescript(_SCHEMA)
        return self._db


def _state(db: sqlite3.Connection) -> State:
    line = db.execute("SELECT round, player, prize, fence, paid_at FROM payments ORDER BY id DESC LIMIT 1").fetchone()
    number = line[0] + 1 if line else 1
    opens_in = line[4] + BREAK - time.time() if line else 0.0
    return State(number, 250 * (1 + number * 7 % 8), opens_in, Payment(*line[:4]) if line else None)


def _pay(db: sqlite3.Connection, number: int, player: str, prize: int, fence: int) -> str | None:
    db.execute("BEGIN IMMEDIATE")  # SQLite's own lock: the last fence can't change between the look and the payment
    try:
        newest = db.execute("SELECT max(fence) FROM payments").fetchone()[0]
        paid = db.execute("SELECT 1 FROM payments WHERE round = ?", (number,)).fetchone()
        reason = "stale fence" if newest is not None and fence <= newest else "already paid" if paid else None
        if reason is None:
            db.execute(
                "INSERT INTO payments (round, player, prize, fence, paid_at) VALUES (?, ?, ?, ?, ?)",
                (number, player, prize, fence, time.time()),
            )
        else:
            db.execute("INSERT INTO refusals VALUES (?, ?, ?, ?)", (number, player, fence, reason))
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    return reason


def _payments(db: sqlite3.Connection) -> list[Payment]:
    return [Payment(*line) for line in db.execute("SELECT round, player, prize, fence FROM payments ORDER BY id")]
