"""Leaderboards against a naive model, a sorted Python list, for every combination of options."""

from __future__ import annotations

import itertools
import math
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.servers import Server
from tetrad import Entry, Placement, Tetrad

MEMBERS = st.sampled_from(["a", "b", "ab", "", "ö", "\x00", "😀", b"\xff", b"\xff\x00", "m" * 1024])
SCORES = st.one_of(
    st.integers(-3, 3),  # few values: ties are the point
    st.sampled_from([0.0, -0.0, 0.5, 0.1, 1e308, -1e308, 5e-324, 2**53]),
    st.floats(allow_nan=False, allow_infinity=False),
)
INFOS = st.sampled_from([None, None, 0, "", {"k": [1, None]}, "x" * 300])


class Model:
    """What a board is: rows of (member, score, when it got that score, info), sorted when asked."""

    def __init__(self, order: str, ranking: str, keep: str) -> None:
        self.sign = -1 if order == "desc" else 1
        self.ranking, self.keep = ranking, keep
        self.rows: dict[Any, tuple[float, int, Any]] = {}
        self.time = itertools.count()

    def entries(self) -> list[Entry]:
        rows = sorted((self.sign * score, at, member) for member, (score, at, _) in self.rows.items())
        better = [score for score, _, _ in rows]
        return [
            Entry(member, self.rows[member][0], self.rank_at(better, place), self.rows[member][2])
            for place, (_, _, member) in enumerate(rows)
        ]

    def rank_at(self, better: list[float], place: int) -> int:
        return 1 + (place if self.ranking == "ordinal" else better.index(better[place]))

    def entry(self, member: Any) -> Entry | None:
        return next((entry for entry in self.entries() if entry.member == member), None)

    def submit(self, member: Any, score: float, info: Any) -> Placement | None:
        """The placement; None when the sum overflows."""
        before = self.entry(member)
        old, at, old_info = self.rows.get(member, (None, 0, None))
        new = float(score)
        if old is not None and self.keep == "sum":
            new = old + new
            if not math.isfinite(new):
                return None
        if old is not None and self.keep == "best" and self.sign * new >= self.sign * old:
            new, info = old, None
        changed = old is None or new != old
        self.rows[member] = (new, next(self.time) if changed else at, old_info if info is None else info)
        after = self.entry(member)
        assert after is not None
        previous = (before.score, before.rank) if before else (None, None)
        return Placement(member, after.score, after.rank, *previous, changed)

    def rank_of(self, score: float) -> int:
        scores = [self.sign * other for other, _, _ in self.rows.values()]
        if self.ranking == "ordinal":
            return 1 + sum(other <= self.sign * score for other in scores)
        return 1 + sum(other < self.sign * score for other in scores)


class BoardMachine(RuleBasedStateMachine):
    """Runs the same steps on a real board and on the model."""

    t: Tetrad
    server: Server
    options: dict[str, Any]

    def __init__(self) -> None:
        super().__init__()
        self.name = uuid.uuid4().hex
        self.board = self.t.leaderboard(self.name, **self.options)
        self.model = Model(**self.options)

    @rule(member=MEMBERS, score=SCORES, info=INFOS)
    def submit(self, member: Any, score: float, info: Any) -> None:
        expected = self.model.submit(member, score, info)
        if expected is None:
            with pytest.raises(ValueError, match="not finite"):
                self.board.submit(member, score, info=info)
        else:
            assert self.board.submit(member, score, info=info) == expected

    @rule(member=MEMBERS)
    def submit_the_same_again(self, member: Any) -> None:
        entry = self.model.entry(member)
        if entry is not None:
            again = 0 if self.options["keep"] == "sum" else entry.score
            placement = self.board.submit(member, again)

            assert placement == Placement(member, entry.score, entry.rank, entry.score, entry.rank, False)

    @rule(member=MEMBERS)
    def remove(self, member: Any) -> None:
        assert self.board.remove(member) == (self.model.rows.pop(member, None) is not None)

    @rule(member=MEMBERS)
    def rank(self, member: Any) -> None:
        assert self.board.rank(member) == self.model.entry(member)

    @rule(score=SCORES)
    def rank_of(self, score: float) -> None:
        assert self.board.rank_of(score) == self.model.rank_of(score)

    @rule(n=st.integers(1, 12), offset=st.integers(0, 12))
    def top(self, n: int, offset: int) -> None:
        assert self.board.top(n, offset) == self.model.entries()[offset : offset + n]

    @rule(number=st.integers(1, 6), size=st.integers(1, 4))
    def page(self, number: int, size: int) -> None:
        assert self.board.page(number, size) == self.model.entries()[(number - 1) * size : number * size]

    @rule(member=MEMBERS, radius=st.integers(0, 4))
    def around(self, member: Any, radius: int) -> None:
        entries = self.model.entries()
        place = next((place for place, entry in enumerate(entries) if entry.member == member), None)
        expected = [] if place is None else entries[max(place - radius, 0) : place + radius + 1]

        assert self.board.around(member, radius) == expected

    @precondition(lambda self: self.model.rows)
    @rule()
    def clear(self) -> None:
        assert self.board.clear() == len(self.model.rows)
        self.model.rows.clear()

    @invariant()
    def all_is_as_in_the_model(self) -> None:
        assert self.board.count() == len(self.model.rows)
        assert list(self.board) == self.model.entries()

    @invariant()
    def every_companion_agrees(self) -> None:
        check_companions(self.server, self.name)

    def teardown(self) -> None:
        self.board.clear()


def check_companions(server: Server, name: str) -> None:
    """What is stored has no orphan: the same members in both keys, with the same heads; three keys or none."""
    base = f"tetrad:board:{{{name}}}"
    order = server.cli("ZRANGE", f"{base}:order", 0, -1)
    flat = server.cli("HGETALL", f"{base}:members")
    heads = {member: value[:8] for member, value in zip(flat[::2], flat[1::2], strict=True)}

    assert {placed[8:]: placed[:8] for placed in order} == heads
    assert len(order) == len(heads) == len(set(heads.values()))
    assert server.cli("EXISTS", base, f"{base}:order", f"{base}:members") == (3 if order else 0)
    assert all(int.from_bytes(head, "big") <= int(server.cli("HGET", base, "changes")) for head in heads.values())


@pytest.mark.parametrize("keep", ["best", "last", "sum"])
@pytest.mark.parametrize("ranking", ["ordinal", "competition"])
@pytest.mark.parametrize("order", ["desc", "asc"])
def test_a_board_is_a_sorted_list(server: Server, url: str, order: str, ranking: str, keep: str) -> None:
    """Whatever is submitted, removed and asked for, in whatever order: the answers are those of the model."""
    with Tetrad(url) as tetrad:
        options = {"order": order, "ranking": ranking, "keep": keep}
        run_state_machine_as_test(
            type("Machine", (BoardMachine,), {"t": tetrad, "server": server, "options": options}),
            settings=settings(
                max_examples=25,
                stateful_step_count=40,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
