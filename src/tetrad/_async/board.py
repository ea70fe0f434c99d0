"""Leaderboards, for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from tetrad._core.wire_async import AsyncWire
from tetrad._ops.board import Board, Cursor, Keep, Order, Ranking
from tetrad.types import Entry, Placement

_BATCH = 500  # rows a round trip when walking a whole board


class AsyncLeaderboard:
    """A ranking of members by score, always up to date, however many there are.

    - *order*: ``"desc"``, the highest score first, or ``"asc"``, the lowest (lap times).
    - *ranking*: members with equal scores have different ranks (``"ordinal"``: 1, 2, 3, 4) or share the best of
      theirs (``"competition"``: 1, 2, 2, 4). In both, they stand in the order in which they reached that score,
      by the server's own count, not by anybody's clock. Submitting the same score again never loses a place.
    - *keep*: of several submissions of a member the board keeps the ``"best"`` score, the ``"last"``, or the ``"sum"``.

    Members are str or bytes of up to 1 KiB and compared byte by byte: ``"a"`` and ``b"a"`` are the same member.
    They come back as str where the bytes are UTF-8, else as bytes. Scores are finite numbers, kept as float: an int
    beyond 2**53, NaN, an infinity or a bool raises `ValueError`, a sum that would be infinite too, and the board
    stays as it was. A sum is rounded as floats are.

    The first submission fixes the three options; opening the board with other ones raises `ConfigurationError` when
    it is used. A board has no time to live; `clear`, or removing its last member, leaves nothing behind.

    Every method is one round trip, and atomic; iterating takes one for every 500 rows. Writes are never sent twice:
    a `ServerUnavailable` or `ServerTimeout` leaves open whether a submission arrived, and submitting again is harmless
    unless *keep* is ``"sum"``.

    >>> t = AsyncTetrad("embedded:?memory")
    >>> board = t.leaderboard("arcade", ranking="competition")
    >>> await board.submit("ada", 300, info={"level": 7})
    Placement(member='ada', score=300.0, rank=1, previous_score=None, previous_rank=None, changed=True)
    >>> (await board.submit("bob", 300)).rank, (await board.submit("eve", 120)).rank
    (1, 3)
    >>> await board.rank("ada")
    Entry(member='ada', score=300.0, rank=1, info={'level': 7})
    >>> [entry.member for entry in await board.around("eve", 1)]
    ['bob', 'eve']
    >>> [entry.member async for entry in board], await board.rank_of(299)
    (['ada', 'bob', 'eve'], 3)
    >>> await board.remove("bob"), await board.remove("bob"), await board.clear()
    (True, False, 2)
    >>> await t.aclose()
    """

    def __init__(
        self,
        wire: AsyncWire,
        prefix: str,
        name: str,
        *,
        order: Order = "desc",
        ranking: Ranking = "ordinal",
        keep: Keep = "best",
    ) -> None:
        self._wire = wire
        self._board = Board(prefix, name, order, ranking, keep)

    def __repr__(self) -> str:
        return f"AsyncLeaderboard({self._board})"

    @property
    def name(self) -> str:
        """The board's name."""
        return self._board.name

    async def submit(self, member: str | bytes, score: float, *, info: Any = None) -> Placement:
        """Enter a score and return where that puts *member*, and where it was before.

        *info* is a JSON-like value (dates, decimals and sets may be in it) of up to 64 KiB when encoded, stored with
        the member and returned in its `Entry`. It is stored when the submission counts: with ``keep="best"`` only for
        a newcomer or a better score, so it describes that score. ``None`` leaves what is stored as it is.
        """
        return await self._wire.send(self._board.submit(member, score, info))

    async def rank(self, member: str | bytes) -> Entry | None:
        """The member's score, rank and info; ``None`` when it is not on the board."""
        return await self._wire.send(self._board.rank(member))

    async def rank_of(self, score: float) -> int:
        """The rank that a new member with *score* would have now."""
        return await self._wire.send(self._board.rank_of(score))

    async def top(self, n: int = 10, offset: int = 0) -> list[Entry]:
        """The best *n* (1 to 10,000), after skipping *offset*; fewer where the board ends."""
        return await self._wire.send(self._board.top(n, offset))

    async def page(self, number: int, size: int = 25) -> list[Entry]:
        """Page *number*, from 1, of *size* rows (1 to 10,000); empty behind the end of the board."""
        return await self._wire.send(self._board.page(number, size))

    async def around(self, member: str | bytes, radius: int = 5) -> list[Entry]:
        """The member with up to *radius* (0 to 5,000) neighbours on each side; empty when it is not on the board.

        The list is cut off at the ends of the board, not shifted: the best member gets only those behind it.
        """
        return await self._wire.send(self._board.around(member, radius))

    async def count(self) -> int:
        """How many members are on the board."""
        return await self._wire.send(self._board.count())

    async def remove(self, member: str | bytes) -> bool:
        """Take *member* off the board with its info; return whether it was there."""
        return await self._wire.send(self._board.remove(member))

    async def clear(self) -> int:
        """Remove the whole board and return how many members it had.

        Its configuration goes too, and is not looked at: this is how a board gets other options.
        """
        return await self._wire.send(self._board.clear())

    async def __aiter__(self) -> AsyncIterator[Entry]:
        """All entries in rank order, in batches: however large the board is, the server is never busy for long.

        A member that is on the board all the while, with the same score, is seen exactly once; one whose score
        changes meanwhile may be seen twice or not at all.
        """
        after: Cursor | None = None
        while True:
            entries, after = await self._wire.send(self._board.walk(_BATCH, after))
            for entry in entries:
                yield entry
            if after is None:
                return
