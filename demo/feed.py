"""What the page watches: the top of the board and the jackpot, read once per process for all its listeners."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

from demo.ledger import Ledger, State
from tetrad import AsyncLeaderboard, TetradError

QUICK, IDLE = 0.1, 1.0  # seconds between two looks: after a play in this process, and otherwise
HEARTBEAT = 10.0


class Feed:
    """Looks at the board and the ledger, and tells the listeners when something has changed.

    One look serves all pages that are connected to this process, however many. Other processes' plays are seen at
    the next look.
    """

    def __init__(self, board: AsyncLeaderboard, ledger: Ledger) -> None:
        self._board = board
        self._ledger = ledger
        self._state: State | None = None
        self._seen_at = 0.0
        self._message = ""
        self._closed = False
        self._bell = asyncio.Event()
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def hurry(self) -> None:
        """Something was played here: look soon."""
        self._bell.set()

    def jackpot(self) -> dict[str, Any] | None:
        """The jackpot as it was at the last look; ``None`` before the first."""
        if self._state is None:
            return None
        state, last = self._state, self._state.last
        return {
            "round": state.round,
            "prize": state.prize,
            "opens_in": round(state.opens_in - (time.monotonic() - self._seen_at), 3),
            "last": {"round": last.round, "player": last.player, "prize": last.prize} if last else None,
        }

    async def listen(self) -> AsyncIterator[str]:
        """The event stream of one page: the present state at once, then every change, and a sign of life."""
        sent = ""
        while not self._closed:
            if self._message != sent:
                sent = self._message
                yield sent
            else:
                try:
                    async with asyncio.timeout(HEARTBEAT), self._changed:
                        while self._message == sent and not self._closed:
                            await self._changed.wait()
                except TimeoutError:
                    yield ": still here\n\n"

    async def close(self) -> None:
        """End all streams, so that the process can stop; the pages connect to another one."""
        self._closed = True
        async with self._changed:
            self._changed.notify_all()

    async def _watch(self) -> None:
        while True:
            self._bell.clear()
            try:
                message = await self._look()
            except TetradError as error:
                message = _event("trouble", {"error": "The board can't be read at the moment.", "detail": str(error)})
            if message != self._message:
                async with self._changed:
                    self._message = message
                    self._changed.notify_all()
            await asyncio.sleep(QUICK)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE - QUICK):
                    await self._bell.wait()

    async def _look(self) -> str:
        self._state = await self._ledger.state()
        self._seen_at = time.monotonic()
        top, count = await asyncio.gather(self._board.top(10), self._board.count())
        rows = [{"rank": entry.rank, "player": entry.member, "score": int(entry.score)} for entry in top]
        jackpot = self.jackpot()
        assert jackpot is not None
        if jackpot["opens_in"] <= 0:
            jackpot["opens_in"] = 0  # an open round is no news every time
        return _event("board", {"top": rows, "count": count, "jackpot": jackpot})


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
