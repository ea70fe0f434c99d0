"""Leaderboards: one sorted set in rank order, one hash that finds a member in it, one hash for the board itself.

Rule of this module: *lower is better* in everything stored. A ``desc`` board stores its scores negated (which is
exact), so the scripts rank every board with the same commands and know nothing of its order.

Three keys, in one slot:

- the board: ``config`` (the format and the options, as text) and ``changes`` (a counter of score changes);
- ``:order``: a sorted set of ``head + member``, where the head is the 8-byte number of the change that gave the
  member its score. The server compares equal scores by these bytes: the first to reach a score stands first,
  exactly and by no clock. A member whose score stays the same keeps its head;
- ``:members``: a hash from each member to ``head + info``.

The config lists an option only where a board uses it, so boards written before an option existed stay valid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from tetrad._core import codec, scripts
from tetrad._core.call import Arg, Call
from tetrad._core.keys import check_name, key
from tetrad._ops.board_values import (
    MAX_ROWS,
    info_bytes,
    member_bytes,
    member_value,
    member_values,
    score_value,
    whole,
)
from tetrad.errors import ConfigurationError
from tetrad.types import Entry, Placement

Order = Literal["desc", "asc"]
Ranking = Literal["ordinal", "competition"]
Keep = Literal["best", "last", "sum"]

Cursor = tuple[bytes, bytes]  # head + member and score of the last row seen

FORMAT = 1
HEAD = 8  # bytes before a member in :order and before its info in :members
MAX_POSITION = 2**53 - MAX_ROWS  # positions stay exact in the scripts

_around = scripts.load("board_around")
_clear = scripts.load("board_clear")
_count = scripts.load("board_count")
_range = scripts.load("board_range")
_rank = scripts.load("board_rank")
_remove = scripts.load("board_remove")
_submit = scripts.load("board_submit")
_walk = scripts.load("board_walk")

_CHOICES = {"order": ("desc", "asc"), "ranking": ("ordinal", "competition"), "keep": ("best", "last", "sum")}


class Board:
    """One leaderboard and how it ranks. Each method is one round trip to it, as a value."""

    __slots__ = ("_competes", "_config", "_descends", "_keys", "_options", "_some_keys", "keep", "name", "ranking")

    def __init__(self, prefix: str, name: str, order: Order, ranking: Ranking, keep: Keep) -> None:
        self.name = check_name(name, "leaderboard name")
        for option, value in (("order", order), ("ranking", ranking), ("keep", keep)):
            if value not in _CHOICES[option]:
                raise ConfigurationError(f"{option} must be one of {', '.join(_CHOICES[option])}, got {value!r:.80}")
        base = key(prefix, "board", name)
        self._keys = (base, f"{base}:order", f"{base}:members")
        self._some_keys = self._keys[:2]
        self._options = {"format": str(FORMAT), "keep": keep, "order": order, "ranking": ranking}
        self._options |= {"score": "float", "ties": "first"}
        self._config = " ".join(f"{option}={value}" for option, value in self._options.items())
        self.ranking, self.keep = ranking, keep
        self._competes = ranking == "competition"
        self._descends = order == "desc"

    def __repr__(self) -> str:
        options = (f"{option}={self._options[option]!r}" for option in _CHOICES)
        return f"{self.name!r}, {', '.join(options)}"

    # -- writing

    def submit(self, member: str | bytes, score: float, info: Any) -> Call[Placement]:
        raw = member_bytes(member)
        number = score_value(score)
        shown = member if type(member) is str else member_value(raw)
        args: tuple[Arg, ...] = (self._config, self.ranking, self.keep, raw, self._stored(number))
        if info is not None:
            args += (info_bytes(info),)

        def decode(reply: Any) -> Placement:
            reply = self._checked(reply)
            if len(reply) == 1:
                raise ValueError(
                    f"the sum of the score {self._score(reply[0])!r} of member {shown!r:.80} and {number!r} "
                    "is not finite; the score was left as it was"
                )
            changed, now, rank, before, rank_before = reply
            previous = None if before is None else self._score(before)
            return Placement(shown, self._score(now), rank, previous, rank_before, changed == 1)

        return Call(_submit, self._keys, args, decode)

    def remove(self, member: str | bytes) -> Call[bool]:
        return Call(_remove, self._keys, (self._config, member_bytes(member)), self._removed)

    def clear(self) -> Call[int]:
        return Call(_clear, self._keys, (), int)

    # -- reading

    def rank(self, member: str | bytes) -> Call[Entry | None]:
        raw = member_bytes(member)

        def decode(reply: Any) -> Entry | None:
            if reply is None:
                return None
            score, rank, info = self._checked(reply)
            return Entry(member_value(raw), self._score(score), rank, codec.decode(info) if info else None)

        return Call(_rank, self._keys, (self._config, self.ranking, raw), decode)

    def top(self, n: int, offset: int) -> Call[list[Entry]]:
        return self._rows(whole(offset, "offset", 0, MAX_POSITION), whole(n, "n", 1, MAX_ROWS))

    def page(self, number: int, size: int) -> Call[list[Entry]]:
        whole(size, "size", 1, MAX_ROWS)
        return self._rows((whole(number, "number", 1, MAX_POSITION // size) - 1) * size, size)

    def around(self, member: str | bytes, radius: int) -> Call[list[Entry]]:
        args = (self._config, self.ranking, member_bytes(member), whole(radius, "radius", 0, MAX_ROWS // 2))
        return Call(_around, self._keys, args, self._entries)

    def count(self) -> Call[int]:
        return Call(_count, self._some_keys, (self._config,), self._number)

    def rank_of(self, score: float) -> Call[int]:
        # A newcomer stands behind those who reached the same score before, which shares its rank in a competition.
        bound = ("(" if self._competes else "") + self._stored(score_value(score))
        return Call(_count, self._some_keys, (self._config, bound), lambda reply: self._number(reply) + 1)

    def walk(self, size: int, after: Cursor | None) -> Call[tuple[list[Entry], Cursor | None]]:
        """Up to *size* rows after the row that *after* names, and what names the last of them (``None`` at the end)."""

        def decode(reply: Any) -> tuple[list[Entry], Cursor | None]:
            entries = self._entries(reply)
            return entries, (reply[2][-2], reply[2][-1]) if len(entries) == size else None

        return Call(_walk, self._keys, (self._config, self.ranking, size, *(after or ())), decode)

    # -- inside

    def _rows(self, start: int, count: int) -> Call[list[Entry]]:
        args: tuple[Arg, ...] = (self._config, self.ranking, start, start + count - 1)
        return Call(_range, self._keys, args, self._entries)

    def _stored(self, score: float) -> str:
        return repr(0.0 - score if self._descends else score)  # a subtraction, because negating 0.0 gives -0.0

    def _score(self, stored: bytes) -> float:
        return 0.0 - float(stored) if self._descends else float(stored)

    def _entries(self, reply: Any) -> list[Entry]:
        """The rows of a reply; the ranks follow from the first one's."""
        if reply is None:
            return []
        position, rank, flat, heads = self._checked(reply)
        stored = flat[1::2]
        ranks: Sequence[int] = range(position, position + len(stored))
        if self._competes:
            ranks, last = [], stored[0]
            for at, score in enumerate(stored, position):
                if score != last:
                    rank, last = at, score
                ranks.append(rank)
        scores = [0.0 - float(score) for score in stored] if self._descends else [float(score) for score in stored]
        infos = [codec.decode(head[HEAD:]) if head and len(head) > HEAD else None for head in heads]
        return [Entry(*row) for row in zip(member_values(flat[::2], HEAD), scores, ranks, infos, strict=True)]

    def _number(self, reply: Any) -> int:
        number: int = self._checked(reply)
        return number

    def _removed(self, reply: Any) -> bool:
        return self._number(reply) == 1

    def _checked(self, reply: Any) -> Any:
        """*reply*, unless it is the configuration of a board that was made otherwise."""
        if type(reply) is bytes:
            raise self._mismatch(reply.decode())
        return reply

    def _mismatch(self, config: str) -> ConfigurationError:
        theirs: dict[str, str] = dict(pair.split("=", 1) for pair in config.split(" "))
        if theirs.get("format") != self._options["format"]:
            return ConfigurationError(
                f"leaderboard {self.name!r} is stored in format {theirs.get('format')}, "
                f"this version of Tetrad reads format {FORMAT}",
                key=self._keys[0],
            )
        differing = [o for o in sorted(theirs | self._options) if theirs.get(o) != self._options.get(o)]
        stored, here = (", ".join(f"{o}={options.get(o)}" for o in differing) for options in (theirs, self._options))
        return ConfigurationError(
            f"leaderboard {self.name!r} is stored with {stored}, but was opened with {here}; "
            "open it as it is stored, or clear() it first",
            key=self._keys[0],
        )
