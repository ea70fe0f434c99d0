"""Leaderboards on a real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.servers import Server
from tetrad import AsyncTetrad, ConfigurationError, DataError, Entry, Placement, ServerRefused


def keys(server: Server, name: str) -> list[bytes]:
    """What the server stores of a board."""
    return sorted(server.cli("KEYS", f"tetrad:board:{{{name}}}*"))


def names(entries: list[Entry]) -> list[tuple[Any, int]]:
    return [(entry.member, entry.rank) for entry in entries]


async def test_a_placement_has_the_ranks_after_and_before(t: AsyncTetrad, name: str) -> None:
    """One submission answers all that a game shows: score and rank, now and before."""
    board = t.leaderboard(name)

    assert await board.submit("ada", 100) == Placement("ada", 100.0, 1, None, None, True)
    assert await board.submit("bob", 200) == Placement("bob", 200.0, 1, None, None, True)
    assert await board.submit("ada", 300) == Placement("ada", 300.0, 1, 100.0, 2, True)
    assert await board.submit("ada", 250) == Placement("ada", 300.0, 1, 300.0, 1, False)
    assert await board.rank("bob") == Entry("bob", 200.0, 2)
    assert await board.rank("eve") is None


async def test_the_lowest_score_is_best_in_ascending_order(t: AsyncTetrad, name: str) -> None:
    """An asc board keeps the lower score and ranks it first."""
    board = t.leaderboard(name, order="asc")
    await board.submit("ada", 61.5)
    await board.submit("bob", 60)

    assert await board.submit("ada", 59.25) == Placement("ada", 59.25, 1, 61.5, 2, True)
    assert (await board.submit("ada", 70)).changed is False
    assert names(await board.top()) == [("ada", 1), ("bob", 2)]


async def test_the_last_score_counts_even_if_it_is_worse(t: AsyncTetrad, name: str) -> None:
    """keep="last" replaces."""
    board = t.leaderboard(name, keep="last")
    await board.submit("ada", 10)
    await board.submit("bob", 5)

    assert await board.submit("ada", 1) == Placement("ada", 1.0, 2, 10.0, 1, True)


async def test_scores_add_up(t: AsyncTetrad, name: str) -> None:
    """keep="sum" adds, negative scores too; adding nothing changes nothing."""
    board = t.leaderboard(name, keep="sum")
    await board.submit("ada", 10)

    assert (await board.submit("ada", 0.5)).score == 10.5
    assert (await board.submit("ada", -20)).score == -9.5
    assert await board.submit("ada", 0) == Placement("ada", -9.5, 1, -9.5, 1, False)
    assert (await board.submit("bob", 0)).changed


@pytest.mark.parametrize("order", ["desc", "asc"])
async def test_of_equal_scores_the_first_to_reach_it_is_first(t: AsyncTetrad, name: str, order: Any) -> None:
    """Not the alphabet and not the latest submission decides; giving the same score again loses nothing."""
    board = t.leaderboard(name, order=order, keep="last")
    for member in ("zoe", "bob", "ada"):
        await board.submit(member, 7)
    await board.submit("zoe", 7)

    assert [entry.member for entry in await board.top()] == ["zoe", "bob", "ada"]
    await board.submit("zoe", 9)
    await board.submit("zoe", 7)
    assert [entry.member for entry in await board.top()] == ["bob", "ada", "zoe"]


async def test_competition_ranks_are_shared(t: AsyncTetrad, name: str) -> None:
    """1, 2, 2, 4, in every way of asking, also where the first row asked for is in the middle of equals."""
    board = t.leaderboard(name, ranking="competition")
    placed = [await board.submit(member, score) for member, score in zip("abcde", (9, 7, 7, 5, 5), strict=True)]

    assert [placement.rank for placement in placed] == [1, 2, 2, 4, 4]
    assert [entry.rank for entry in await board.top()] == [1, 2, 2, 4, 4]
    assert names(await board.top(2, offset=2)) == [("c", 2), ("d", 4)]
    assert names(await board.around("d", 1)) == [("c", 2), ("d", 4), ("e", 4)]
    assert names(await board.page(2, 2)) == [("c", 2), ("d", 4)]
    assert (await board.rank("e")).rank == 4
    assert (await board.submit("e", 7)).previous_rank == 4
    assert [entry.rank async for entry in board] == [1, 2, 2, 2, 5]


async def test_the_rank_of_a_hypothetical_score(t: AsyncTetrad, name: str) -> None:
    """What a newcomer would get: behind equals where ranks are ordinal, beside them in a competition."""
    for ranking, expected in (("ordinal", [1, 3, 4]), ("competition", [1, 2, 4])):
        board = t.leaderboard(f"{name}-{ranking}", ranking=ranking)
        for member, score in (("a", 9), ("b", 7), ("c", 5)):
            await board.submit(member, score)

        assert [await board.rank_of(score) for score in (10, 7, 1)] == expected


async def test_around_is_cut_off_at_the_ends(t: AsyncTetrad, name: str) -> None:
    """The best and the worst get fewer neighbours, not others."""
    board = t.leaderboard(name)
    for score in range(10):
        await board.submit(f"m{score}", score)

    assert names(await board.around("m9", 2)) == [("m9", 1), ("m8", 2), ("m7", 3)]
    assert names(await board.around("m0", 1)) == [("m1", 9), ("m0", 10)]
    assert names(await board.around("m5", 0)) == [("m5", 5)]
    assert len(await board.around("m5")) == 10
    assert await board.around("nobody") == []


async def test_pages(t: AsyncTetrad, name: str) -> None:
    """Pages count from 1; behind the last row they are empty."""
    board = t.leaderboard(name)
    for score in range(5):
        await board.submit(f"m{score}", score)

    assert names(await board.page(1, 2)) == [("m4", 1), ("m3", 2)]
    assert names(await board.page(3, 2)) == [("m0", 5)]
    assert await board.page(4, 2) == []
    assert await board.top(3, offset=5) == []
    assert len(await board.page(1)) == 5


async def test_an_empty_board_answers_everything(t: AsyncTetrad, name: str, server: Server) -> None:
    """Reading a board that nobody wrote to finds nothing and stores nothing."""
    board = t.leaderboard(name)

    assert await board.top() == await board.page(1) == await board.around("ada") == []
    assert (await board.count(), await board.rank("ada"), await board.rank_of(1)) == (0, None, 1)
    assert (await board.remove("ada"), await board.clear()) == (False, 0)
    assert [entry async for entry in board] == []
    assert keys(server, name) == []


async def test_infos_come_with_the_rows(t: AsyncTetrad, name: str) -> None:
    """What was stored with a member is in each of its entries."""
    board = t.leaderboard(name)
    await board.submit("ada", 2, info={"country": "GB", "tags": ["x", None, 1.5]})
    await board.submit("bob", 1)
    rows = [Entry("ada", 2.0, 1, {"country": "GB", "tags": ["x", None, 1.5]}), Entry("bob", 1.0, 2)]

    assert await board.top() == await board.page(1) == await board.around("bob") == rows
    assert [entry async for entry in board] == rows
    assert [await board.rank("ada"), await board.rank("bob")] == rows


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("best", ["first", "better", "better", "better"]),
        ("last", ["first", "better", "same", "worse"]),
        ("sum", ["first", "better", "same", "worse"]),
    ],
)
async def test_an_info_is_stored_when_its_submission_counts(
    t: AsyncTetrad, name: str, keep: Any, expected: list[str]
) -> None:
    """With "best" it describes the best score; otherwise the last submission. None leaves it alone."""
    board = t.leaderboard(name, keep=keep)
    same = 0 if keep == "sum" else 9
    seen = []
    for score, info in ((1, "first"), (9, "better"), (same, "same"), (-5, "worse")):
        await board.submit("ada", score, info=info)
        seen.append((await board.rank("ada")).info)
    await board.submit("ada", 100)

    assert seen == expected
    assert (await board.rank("ada")).info == expected[-1]


MEMBERS = ["😀", "\x00", "a\x00b", "", " ", "{x}", "é" * 512, "x" * 1024, "-inf", "\n", b"\xff\x00\xfe", b"\x80" * 1024]


async def test_members_are_kept_byte_by_byte(t: AsyncTetrad, name: str) -> None:
    """Any bytes up to 1 KiB name a member, and come back as they were; none is mistaken for another."""
    board = t.leaderboard(name)
    for score, member in enumerate(MEMBERS):
        await board.submit(member, -score, info=score)

    assert [(entry.member, entry.info) for entry in await board.top(100)] == list(zip(MEMBERS, range(99), strict=False))
    for score, member in enumerate(MEMBERS):
        assert await board.rank(member) == Entry(member, 0.0 - score, score + 1, score)
        assert (await board.around(member, 0))[0].member == member
    assert [await board.remove(member) for member in MEMBERS] == [True] * len(MEMBERS)
    assert await board.count() == 0


async def test_text_and_its_bytes_are_the_same_member(t: AsyncTetrad, name: str) -> None:
    """One entry, which comes back as text."""
    board = t.leaderboard(name)
    await board.submit("é", 1)

    assert (await board.submit("é".encode(), 2)).member == "é"
    assert await board.rank("é".encode()) == Entry("é", 2.0, 1)
    assert await board.count() == 1


@pytest.mark.parametrize("order", ["desc", "asc"])
async def test_extreme_scores_are_exact(t: AsyncTetrad, name: str, order: Any) -> None:
    """From the smallest to the largest float, every score comes back as it went in."""
    board = t.leaderboard(name, order=order, keep="last")
    scores = [1.7976931348623157e308, 1e308, 2**53, 2**53 - 1, 0.1 + 0.2, 0.3, 2.2e-308, 5e-324, 0]
    scores += [-score for score in reversed(scores[:-1])]
    for score in scores:
        await board.submit(repr(score), score)

    best_first = scores if order == "desc" else scores[::-1]
    assert [entry.score for entry in await board.top(100)] == best_first
    assert (await board.submit("0", -0.0)).changed is False
    assert str((await board.rank("0")).score) == "0.0"


async def test_a_sum_that_overflows_changes_nothing(t: AsyncTetrad, name: str) -> None:
    """The score, the info and the place stay as they were."""
    board = t.leaderboard(name, keep="sum")
    for sign, member in ((1, "up"), (-1, "down")):
        await board.submit(member, sign * 1.5e308, info="before")
        with pytest.raises(ValueError, match="is not finite"):
            await board.submit(member, sign * 1e308, info="after")

    assert await board.top() == [Entry("up", 1.5e308, 1, "before"), Entry("down", -1.5e308, 2, "before")]
    assert (await board.submit("up", -1.5e308)).score == 0


async def test_nothing_is_left_of_a_removed_member_or_board(t: AsyncTetrad, name: str, server: Server) -> None:
    """remove takes the companions along, and with the last member everything; so does clear."""
    board = t.leaderboard(name)
    for member in ("ada", "bob"):
        await board.submit(member, 1, info="x")
        await board.submit(member, 2)

    assert await board.remove("ada") is True
    assert await board.remove("ada") is False
    assert await board.rank("ada") is None
    assert server.cli("HLEN", f"tetrad:board:{{{name}}}:members") == server.cli(
        "ZCARD", f"tetrad:board:{{{name}}}:order"
    )
    assert await board.remove("bob") is True
    assert keys(server, name) == []

    for member in range(300):
        await board.submit(str(member), member)
    assert len(keys(server, name)) == 3
    assert await board.clear() == 300
    assert keys(server, name) == []


async def test_the_first_submission_fixes_the_configuration(t: AsyncTetrad, name: str, server: Server) -> None:
    """Another way to open the board is refused by every operation and changes nothing; clear starts anew."""
    await t.leaderboard(name, keep="sum").submit("ada", 5)
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
            await operation()
    with pytest.raises(ConfigurationError):
        [entry async for entry in other]
    assert server.cli("HGETALL", f"tetrad:board:{{{name}}}") == before
    assert await t.leaderboard(name, keep="sum").rank("ada") == Entry("ada", 5.0, 1)
    assert await other.clear() == 1
    assert (await other.submit("ada", 1)).rank == 1


async def test_many_rows_come_in_one_call(t: AsyncTetrad, name: str, server: Server) -> None:
    """The largest request is one command, with the info of every row."""
    board = t.leaderboard(name, keep="last")
    load(server, name, 12_000)

    for entries, first in (
        (await board.top(10_000), 0),
        (await board.page(2, 6_000), 6_000),
        (await board.around("m6000", 5_000), 1_000),
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


async def test_iterating_sees_every_entry_once(t: AsyncTetrad, name: str, server: Server) -> None:
    """Batches join without a gap or a repetition, whatever is removed or entered meanwhile."""
    board = t.leaderboard(name, keep="last")
    load(server, name, 2_000)
    seen = []
    async for entry in board:
        seen.append(entry.member)
        if len(seen) == 500:  # the row that the next batch follows, one before it and one that is still to come
            for member in ("m499", "m3", "m1500"):
                await board.remove(member)
            await board.submit("best", 10**6)

    assert seen == [f"m{number}" for number in range(2_000) if number != 1_500]


async def test_iterating_goes_on_among_equals(t: AsyncTetrad, name: str) -> None:
    """Where the last row seen is gone and all scores are equal, its place among them is found again."""
    board = t.leaderboard(name)
    for number in range(1_100):
        await board.submit(f"m{number}", 7)
    seen = []
    async for entry in board:
        seen.append(entry.member)
        if len(seen) in (500, 1_000):
            await board.remove(entry.member)
            await board.remove("m0")

    assert seen == [f"m{number}" for number in range(1_100)]


async def test_every_operation_is_one_command(t: AsyncTetrad, name: str, server: Server) -> None:
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
        await operation()  # the server knows the scripts from here on

    for operation in operations:
        before = calls(server)
        await operation()
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


async def test_a_full_server_still_lets_boards_shrink(name: str) -> None:
    """Out of memory: submitting is refused, reading, remove and clear work."""
    with Server() as full:
        async with AsyncTetrad(full.url()) as t:
            board = t.leaderboard(name)
            for member in ("ada", "bob"):
                await board.submit(member, 1)
            full.cli("CONFIG", "SET", "maxmemory", "1mb")

            with pytest.raises(ServerRefused, match="out of memory") as error:
                await board.submit("ada", 2)
            assert error.value.code == "OOM"
            assert [entry.member for entry in await board.top()] == ["ada", "bob"]
            assert (await board.rank("ada"), await board.count()) == (Entry("ada", 1.0, 1), 2)
            assert await board.remove("ada") is True
            assert await board.clear() == 1
            full.cli("CONFIG", "SET", "maxmemory", "0")
            assert (await board.submit("ada", 2)).rank == 1


async def test_somebody_elses_key_is_a_data_error(t: AsyncTetrad, name: str, server: Server) -> None:
    """A key of another type in the board's place is reported, not overwritten."""
    server.cli("SET", f"tetrad:board:{{{name}}}", "not a board")

    for operation in (lambda: t.leaderboard(name).submit("ada", 1), lambda: t.leaderboard(name).top()):
        with pytest.raises(DataError, match="not written by Tetrad"):
            await operation()
    assert keys(server, name) == [f"tetrad:board:{{{name}}}".encode()]
