"""Leaderboards written by several processes at once."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from tests.servers import Server, wait_until
from tests.test_board_model import check_companions
from tetrad import Tetrad

PROCESSES = 4

ADDER = """
    import sys
    from tetrad import Tetrad

    url, name, me, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    with Tetrad(url) as t:
        board = t.leaderboard(name, keep="sum", ranking="competition")
        for turn in range(rounds):
            board.submit(f"player-{turn % 7}", 1, info={"by": me})
"""

MIXER = """
    import random, sys
    from tetrad import Tetrad

    url, name, me, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    choose = random.Random(me)
    with Tetrad(url) as t:
        board = t.leaderboard(name, keep="last")
        for turn in range(rounds):
            member = f"player-{choose.randrange(12)}"
            if choose.random() < 0.3:
                board.remove(member)
            else:
                board.submit(member, choose.randrange(5), info=turn)
            rows = board.top(20)
            scores = [row.score for row in rows]
            assert scores == sorted(scores, reverse=True), scores
            assert len({row.member for row in rows}) == len(rows), rows
            assert [row.rank for row in rows] == list(range(1, len(rows) + 1)), rows
            assert all(type(row.info) is int for row in rows), rows
"""

RACER = """
    import json, sys
    from tetrad import Tetrad

    url, name, me, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    with Tetrad(url) as t:
        board = t.leaderboard(name)
        print(json.dumps([[f"{me}-{turn}", board.submit(f"{me}-{turn}", 100).rank] for turn in range(rounds)]))
"""


def run_all(program: str, url: str, name: str, rounds: int) -> list[str]:
    """Run *program* in several processes at once; what each printed. Fails the test with what it said if one fails."""
    command = [sys.executable, "-c", textwrap.dedent(program), url, name]
    running = [
        subprocess.Popen([*command, str(me), str(rounds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for me in range(PROCESSES)
    ]
    try:
        outputs = [process.communicate(timeout=60) for process in running]
    finally:
        for process in running:
            process.kill()
    for process, (_, errors) in zip(running, outputs, strict=True):
        assert process.returncode == 0, errors
    return [output for output, _ in outputs]


def test_no_increment_is_lost(server: Server, url: str, name: str) -> None:
    """Processes that add to the same members at once: every addition is in the sum."""
    run_all(ADDER, url, name, 700)

    with Tetrad(url) as t:
        rows = t.leaderboard(name, keep="sum", ranking="competition").top()
    assert [(row.score, row.rank) for row in rows] == [(PROCESSES * 100.0, 1)] * 7
    assert {row.info["by"] for row in rows} <= {str(me) for me in range(PROCESSES)}
    check_companions(server, name)


def test_rows_are_whole_while_others_write(server: Server, url: str, name: str) -> None:
    """Members come and go under several writers: whoever reads sees a consistent board, and no orphan is left."""
    run_all(MIXER, url, name, 300)

    check_companions(server, name)
    with Tetrad(url) as t:
        board = t.leaderboard(name, keep="last")
        for row in board.top(20):
            assert board.remove(row.member)
        assert board.count() == 0
    assert server.cli("KEYS", f"*{name}*") == []


def test_of_equals_the_first_is_first_across_processes(server: Server, url: str, name: str) -> None:
    """Everybody reaches the same score at once: the rank that each was told is the rank that remains."""
    told = [tuple(pair) for output in run_all(RACER, url, name, 250) for pair in json.loads(output)]

    with Tetrad(url) as t:
        rows = t.leaderboard(name).top(2_000)
    assert [(row.member, row.rank) for row in rows] == sorted(told, key=lambda pair: pair[1])
    assert [row.rank for row in rows] == list(range(1, PROCESSES * 250 + 1))


@pytest.mark.parametrize("killed", [1, 3])
def test_a_killed_writer_leaves_no_orphan(server: Server, url: str, name: str, killed: int) -> None:
    """Processes killed in the middle of writing: each submission is there whole, or not at all."""
    before = clients(server)
    command = [sys.executable, "-c", textwrap.dedent(MIXER), url, name]
    running = [subprocess.Popen([*command, str(me), "1000000"], stderr=subprocess.DEVNULL) for me in range(killed)]
    try:
        wait_until(lambda: server.cli("ZCARD", f"tetrad:board:{{{name}}}:order") >= 6, 20, "a board with members")
        assert [process.poll() for process in running] == [None] * killed
    finally:
        for process in running:
            process.kill()
            process.wait()
    wait_until(lambda: clients(server) <= before, what="the end of the killed connections")

    check_companions(server, name)


def clients(server: Server) -> int:
    return int(server.info("clients")["connected_clients"])
