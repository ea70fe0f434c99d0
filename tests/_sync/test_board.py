# Generated from tests/_async/test_board.py by tools/unasync.py: edit that file, then run `make sync`.
"""Leaderboards on a real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.servers import Server
from tetrad import ConfigurationError, DataError, Entry, Placement, ServerRefused, Tetrad


def keys(server: Server, name: str) -> list[bytes]:
    """What the server stores of a board."""
    return sorted(server.cli("KEYS", f"tetrad:board:{{{name}}}*"))


def names(entries: list[Entry]) -> list[tuple[Any, int]]:
    return [(entry.member, entry.rank) for entry in entries]


def test_a_placement_has_the_ranks_after_and_before(t: Tetrad, name: str) -> None:
    """One submission answers all that a game shows: score and rank, now and before."""
    board = t.leaderboard(name)

    assert board.submit("ada", 100) == Placement("ada", 100.0, 1, None, None, True)
    assert board.submit("bob", 200) == Placement("bob", 200.0, 1, None, None, True)
    assert board.submit("ada", 300) == Placement("ada", 300.0, 1, 100.0, 2, True)
    assert board.submit("ada", 250) == Placement("ada", 300.0, 1, 300.0, 1, False)
    assert board.rank("bob") == Entry("bob", 200.0, 2)
    assert board.rank("eve") is None


def test_the_lowest_score_is_best_in_ascending_order(t: Tetrad, name: str) -> None:
    """An asc board keeps the lower score and ranks it first."""
    board = t.leaderboard(name, order="asc")
    board.submit("ada", 61.5)
    board.submit("bob", 60)

    assert board.submit("ada", 59.25) == Placement("ada", 59.25, 1, 61.5, 2, True)
    assert board.submit("ada", 70).changed is False
    assert names(board.top()) == [("ada", 1), ("bob", 2)]


def test_the_last_score_counts_even_if_it_is_worse(t: Tetrad, name: str) -> None:
    """keep="last" replaces."""
    board = t.leaderboard(name, keep="last")
    board.submit("ada", 10)
    board.submit("bob", 5)

    assert board.submit("ada", 1) == Placement("ada", 1.0, 2, 10.0, 1, True)


def test_scores_add_up(t: Tetrad, name: str) -> None:
    """keep="sum" adds, negative scores too; adding nothing changes nothing."""
    board = t.leaderboard(name, keep="sum")
    board.submit("ada", 10)

    assert board.submit("ada", 0.5).score == 10.5
    assert board.submit("ada", -20).score == -9.5
    assert board.submit("ada", 0) == Placement("ada", -9.5, 1, -9.5, 1, False)
    assert board.submit("bob", 0).changed


@pytest.mark.parametrize("order", ["desc", "asc"])
def test_of_equal_scores_the_first_to_reach_it_is_first(t: Tetrad, name: str, order: Any) -> None:
    """Not the alphabet and not the latest submission decides; giving the same score again loses nothing."""
    board = t.leaderboard(name, order=order, keep="last")
    for member in ("zoe", "bob", "ada"):
        board.submit(member, 7)
    board.submit("zoe", 7)

    assert [entry.member for entry in board.top()] == ["zoe", "bob", "ada"]
    board.submit("zoe", 9)
    board.submit("zoe", 7)
    assert [entry.member for entry in board.top()] == ["bob", "ada", "zoe"]


def test_competition_ranks_are_shared(t: Tetrad, name: str) -> None:
    """1, 2, 2, 4, in every way of asking, also where the first row asked for is in the middle of equals."""
    board = t.leaderboard(name, ranking="competition")
    placed = [board.submit(member, score) for member, score in zip("abcde", (9, 7, 7, 5, 5), strict=True)]

    assert [placement.rank for placement in placed] == [1, 2, 2, 4, 4]
    assert [entry.rank for entry in board.top()] == [1, 2, 2, 4, 4]
    assert names(board.top(2, offset=2)) == [("c", 2), ("d", 4)]
    assert names(board.around("d", 1)) == [("c", 2), ("d", 4), ("e", 4)]
    assert names(board.page(2, 2)) == [("c", 2), ("d", 4)]
    assert board.rank("e").rank == 4
    assert board.submit("e", 7).previous_rank == 4
    assert [entry.rank for entry in board] == [1, 2, 2, 2, 5]


def test_the_rank_of_a_hypothetical_score(t: Tetrad, name: str) -> None:
    """What a newcomer would get: behind equals where ranks are ordinal, beside them in a competition."""
    for ranking, expected in (("ordinal", [1, 3, 4]), ("competition", [1, 2, 4])):
        board = t.leaderboard(f"{name}-{ranking}", ranking=ranking)
        for member, score in (("a", 9), ("b", 7), ("c", 5)):
            board.submit(member, score)

        assert [board.rank_of(score) for score in (10, 7, 1)] == expected


def test_around_is_cut_off_at_the_ends(t: Tetrad, name: str) -> None:
    """The best and the worst get fewer neighbours, not others."""
    board = t.leaderboard(name)
    for score in range(10):
        board.submit(f"m{score}", score)

    assert names(board.around("m9", 2)) == [("m9", 1), ("m8", 2), ("m7", 3)]
    assert names(board.around("m0", 1)) == [("m1", 9), ("m0", 10)]
    assert names(board.around("m5", 0)) == [("m5", 5)]
    assert len(board.around("m5")) == 10
    assert board.around("nobody") == []


def test_pages(t: Tetrad, name: str) -> None:
    """Pages count from 1; behind the last row they are empty."""
    board = t.leaderboard(name)
    for score in range(5):
        board.submit(f"m{score}", score)

    assert names(board.page(1, 2)) == [("m4", 1), ("m3", 2)]
    assert names(board.page(3, 2)) == [("m0", 5)]
    assert board.page(4, 2) == []
    assert board.top(3, offset=5) == []
    assert len(board.page(1)) == 5


def test_an_empty_board_answers_everything(t: Tetrad, name: str, server: Server) -> None:
    """Reading a board that nobody wrote to finds nothing and stores nothing."""
    board = t.leaderboard(name)

    assert board.top() == board.page(1) == board.around("ada") == []
    assert (board.count(), board.rank("ada"), board.rank_of(1)) == (0, None, 1)
    assert (board.remove("ada"), board.clear()) == (False, 0)
    assert [entry for entry in board] == []
    assert keys(server, name) == []


def test_infos_come_with_the_rows(t: Tetrad, name: str) -> None:
    """What was stored with a member is in each of its entries."""
    board = t.leaderboard(name)
    board.submit("ada", 2, info={"country": "GB", "tags": ["x", None, 1.5]})
    board.submit("bob", 1)
    rows = [Entry("ada", 2.0, 1, {"country": "GB", "tags": ["x", None, 1.5]}), Entry("bob", 1.0, 2)]

    assert board.top() == board.page(1) == board.around("bob") == rows
    assert [entry for entry in board] == rows
    assert [board.rank("ada"), board.rank("bob")] == rows


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("best", ["first", "better", "better", "better"]),
        ("last", ["first", "better", "same", "worse"]),
        ("sum", ["first", "better", "same", "worse"]),
    ],
)
def test_an_info_is_stored_when_its_submission_counts(t: Tetrad, name: str, keep: Any, expected: list[str]) -> None:
    """With "best" it describes the best score; otherwise the last submission. None leaves it alone."""
    board = t.leaderboard(name, keep=keep)
    same = 0 if keep == "sum" else 9
    seen = []
    for score, info in ((1, "first"), (9, "better"), (same, "same"), (-5, "worse")):
        board.submit("ada", score, info=info)
        seen.append(board.rank("ada").info)
    board.submit("ada", 100)

    assert seen == expected
    assert board.rank("ada").info == expected[-1]


MEMBERS = ["😀", "\x00", "a\x00b", "", " ", "{x}", "é" * 512, "x" * 1024, "-inf", "\n", b"\xff\x00\xfe", b"\x80" * 1024]


def test_members_are_kept_byte_by_byte(t: Tetrad, name: str) -> None:
    """Any bytes up to 1 KiB name a member, and come back as they were; none is mistaken for another."""
    board = t.leaderboard(name)
    for score, member in enumerate(MEMBERS):
        board.submit(member, -score, info=score)

    assert [(entry.member, entry.info) for entry in board.top(100)] == list(zip(MEMBERS, range(99), strict=False))
    for score, member in enumerate(MEMBERS):
        assert board.rank(member) == Entry(member, 0.0 - score, score + 1, score)
        assert board.around(member, 0)[0].member == member
    assert [board.remove(member) for member in MEMBERS] == [True] * len(MEMBERS)
    assert board.count() == 0


def test_text_and_its_bytes_are_the_same_member(t: Tetrad, name: str) -> None:
    """One entry, which comes back as text."""
    board = t.leaderboard(name)
    board.submit("é", 1)

    assert board.submit("é".encode(), 2).member == "é"
    assert board.rank("é".encode()) == Entry("é", 2.0, 1)
    assert board.count() == 1


@pytest.mark.parametrize("order", ["desc", "asc"])
def test_extreme_scores_are_exact(t: Tetrad, name: str, order: Any) -> None:
    """From the smallest to the largest float, every score comes back as it went in."""
    board = t.leaderboard(name, order=order, keep="last")
    scores = [1.7976931348623157e308, 1e308, 2**53, 2**53 - 1, 0.1 + 0.2, 0.3, 2.2e-308, 5e-324, 0]
    scores += [-score for score in reversed(scores[:-1])]
    for score in scores:
        board.submit(repr(score), score)

    best_first = scores if order == "desc" else scores[::-1]
    assert [entry.score for entry in board.top(100)] == best_first
    assert board.submit("0", -0.0).changed is False
    assert str(board.rank("0").score) == "0.0"


def test_a_sum_that_overflows_changes_nothing(t: Tetrad, name: str) -> None:
    """The score, the info and the place stay as they were."""
    board = t.leaderboard(name, keep="sum")
    for sign, member in ((1, "up"), (-1, "down")):
        board.submit(member, sign * 1.5e308, info="before")
        with pytest.raises(ValueError, match="is not finite"):
            board.submit(member, sign * 1e308, info="after")

    assert board.top() == [Entry("up", 1.5e308, 1, "before"), Entry("down", -1.5e308, 2, "before")]
    assert board.submit("up", -1.5e308).score == 0


def test_nothing_is_left_of_a_removed_member_or_board(t: Tetrad, name: str, server: Server) -> None:
    """remove takes the companions along, and with the last member everything; so does clear."""
    board = t.leaderboard(name)
    for member in ("ada", "bob"):
        board.submit(member, 1, info="x")
        board.submit(member, 2)

    assert board.remove("ada") is True
    assert board.remove("ada") is False
    assert board.rank("ada") is None
    assert server.cli("HLEN", f"tetrad:board:{{{name}}}:members") == server.cli(
        "ZCARD", f"tetrad:board:{{{name}}}:order"
    )
    assert board.remove("bob") is True
    assert keys(server, name) == []

    for member in range(300):
        board.submit(str(member), member)
    assert len(keys(server, name)) == 3
    assert board.clear() == 300
    assert keys(server, name) == []


def test_the_first_submission_fixes_the_configuration(t: Tetrad, name: str, server: Server) -> None:
    """Another way to open the board is refused by every operation and changes nothing; clear starts anew."""
    t.leaderboard(name, keep="sum").submit("ada", 5)
    other = t.leaderboard(name, keep="best", order="asc")
    before = server.cli("HGETALL", f"tetrad:board:{{{name}}}")
    operations: list[Callable[[], Any]] = [
        lambda: other.submit("ada", 1),
        lambda: other.rank("ada"),
        lambda: other.rank_of(1),
        lambda: other.top(),
        lambda: other.page(1),
        lambda: other.around("ada"),
        lambda: other.count(),
        lambda: other.remove("ada"),
    ]

    for operation in operations:
        with pytest.raises(ConfigurationError, match="stored with keep=sum, order=desc, but was opened with keep=best"):
            operation()
    with pytest.raises(ConfigurationError):
        [entry for entry in other]
    assert server.cli("HGETALL", f"tetrad:board:{{{name}}}") == before
    assert t.leaderboard(name, keep="sum").rank("ada") == Entry("ada", 5.0, 1)
    assert other.clear() == 1
    assert other.submit("ada", 1).rank == 1


def test_many_rows_come_in_one_call(t: Tetrad, name: str, server: Server) -> None:
    """The largest request is one command, with the info of every row."""
    board = t.leaderboard(name, keep="last")
    load(server, name, 12_000)

    for entries, first in (
        (board.top(10_000), 0),
        (board.page(2, 6_000), 6_000),
        (board.around("m6000", 5_000), 1_000),
    ):
        assert [entry.rank for entry in entries] == list(range(first + 1, first + 1 + len(entries)))
        assert [entry.info for entry in entries] == list(range(first, first + len(entries)))
    assert len(entries) == 10_001


def load(server: Server, name: str, count: int) -> None:
    """Write a board as the scripts do, faster: m0 to m<count - 1>, each with its number as info."""
    base = f"tetrad:board:{{{name}}}"
    config = b"format=1 keep=last order=desc ranking=ordinal score=float ties=first"
    server.cli("HSET", base, "config", config, "changes", count)
    for start in range(0, count, 1000):
        rows = [(n.to_bytes(8, "big"), b"m%d" % n, n) for n in range(start, start + 1000)]
        server.cli("ZADD", f"{base}:order", *(part for head, m, n in rows for part in (n - count, head + m)))
        packed = ((m, head + (bytes([n]) if n < 128 else b"\xcd" + n.to_bytes(2, "big"))) for head, m, n in rows)
        server.cli("HSET", f"{base}:members", *(part for pair in packed for part in pair))


def test_iterating_sees_every_entry_once(t: Tetrad, name: str, server: Server) -> None:
    """Batches join without a gap or a repetition, whatever is removed or entered meanwhile."""
    board = t.leaderboard(name, keep="last")
    load(server, name, 2_000)
    seen = []
    for entry in board:
        seen.append(entry.member)
        if len(seen) == 500:  # the row that the next batch follows, one before it and one that is still to come
            for member in ("m499", "m3", "m1500"):
                board.remove(member)
            board.submit("best", 10**6)

    assert seen == [f"m{number}" for number in range(2_000) if number != 1_500]


def test_iterating_goes_on_among_equals(t: Tetrad, name: str) -> None:
    """Where the last row seen is gone and all scores are equal, its place among them is found again."""
    board = t.leaderboard(name)
    for number in range(1_100):
        board.submit(f"m{number}", 7)
    seen = []
    for entry in board:
        seen.append(entry.member)
        if len(seen) in (500, 1_000):
            board.remove(entry.member)
            board.remove("m0")

    assert seen == [f"m{number}" for number in range(1_100)]


def test_every_operation_is_one_command(t: Tetrad, name: str, server: Server) -> None:
    """Counted by the server: one EVALSHA each, and nothing else."""
    board = t.leaderboard(name)
    operations: list[Callable[[], Any]] = [
        lambda: board.submit("ada", 5, info={"a": 1}),
        lambda: board.submit("ada", 6),
        lambda: board.rank("ada"),
        lambda: board.rank_of(3),
        lambda: board.top(),
        lambda: board.page(1),
        lambda: board.around("ada"),
        lambda: board.count(),
        lambda: board.remove("ada"),
        lambda: board.clear(),
    ]
    for operation in operations:
        operation()  # the server knows the scripts from here on

    for operation in operations:
        before = calls(server)
        operation()
        after = calls(server)
        grown = {word: after[word] - before.get(word, 0) for word in after if after[word] != before.get(word, 0)}
        assert {word: grown[word] for word in grown.keys() - INSIDE} == {"evalsha": 1, "info": 1}


INSIDE = {"zadd", "zcard", "zcount", "zrange", "zrank", "zrem", "zscore"} | {
    "hdel",
    "hget",
    "hincrby",
    "hmget",
    "hset",
    "exists",
    "unlink",
}


def calls(server: Server) -> dict[str, int]:
    """How often the server has carried out each command; what scripts call counts too."""
    stats = server.info("commandstats")
    return {word.removeprefix("cmdstat_"): int(stats[word].split(",")[0].removeprefix("calls=")) for word in stats}


def test_a_full_server_still_lets_boards_shrink(name: str) -> None:
    """Out of memory: submitting is refused, reading, remove and clear work."""
    with Server() as full:
        with Tetrad(full.url()) as t:
            board = t.leaderboard(name)
            for member in ("ada", "bob"):
                board.submit(member, 1)
            full.cli("CONFIG", "SET", "maxmemory", "1mb")

            with pytest.raises(ServerRefused, match="out of memory") as error:
                board.submit("ada", 2)
            assert error.value.code == "OOM"
            assert [entry.member for entry in board.top()] == ["ada", "bob"]
            assert (board.rank("ada"), board.count()) == (Entry("ada", 1.0, 1), 2)
            assert board.remove("ada") is True
            assert board.clear() == 1
            full.cli("CONFIG", "SET", "maxmemory", "0")
            assert board.submit("ada", 2).rank == 1


def test_somebody_elses_key_is_a_data_error(t: Tetrad, name: str, server: Server) -> None:
    """A key of another type in the board's place is reported, not overwritten."""
    server.cli("SET", f"tetrad:board:{{{name}}}", "not a board")

    for operation in (lambda: t.leaderboard(name).submit("ada", 1), lambda: t.leaderboard(name).top()):
        with pytest.raises(DataError, match="not written by Tetrad"):
            operation()
    assert keys(server, name) == [f"tetrad:board:{{{name}}}".encode()]
