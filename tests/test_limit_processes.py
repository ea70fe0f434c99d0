"""Limits that several processes, each with several threads, hit at once."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from fractions import Fraction
from typing import Any

import pytest

from tests.servers import Server, wait_until
from tetrad import Limit, Tetrad

PROCESSES = 2  # of four threads each

HITTER = """
    import json, sys, threading, time
    from tetrad import Tetrad

    url, name, algorithm, seconds, *limits = sys.argv[1:]
    admitted = []

    def hit():
        while time.monotonic() < until:
            if limiter.hit("shared"):
                admitted.append(1)

    with Tetrad(url) as t:
        limiter = t.limiter(name, *limits, algorithm=algorithm)
        limiter.peek("somebody else")  # opens the connection
        print("ready", flush=True)
        sys.stdin.readline()
        until = time.monotonic() + float(seconds)
        threads = [threading.Thread(target=hit) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(json.dumps(len(admitted)))
"""


def now(server: Server) -> int:
    """The server's clock in microseconds."""
    seconds, micros = server.cli("TIME")
    return int(seconds) * 1_000_000 + int(micros)


def start(*args: Any) -> subprocess.Popen[str]:
    """A process that hits as soon as it is told to."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HITTER), *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def go(process: subprocess.Popen[str]) -> None:
    """Have *process* begin, once it is ready."""
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    process.stdin.write("go\n")
    process.stdin.flush()


def hit_from_all(*args: Any) -> int:
    """Have all processes hit at once; how many hits were admitted."""
    running = [start(*args) for _ in range(PROCESSES)]
    try:
        for process in running:
            go(process)
        outputs = [process.communicate(timeout=60) for process in running]
    finally:
        for process in running:
            process.kill()
            process.communicate()
    for process, (_, errors) in zip(running, outputs, strict=True):
        assert process.returncode == 0, errors
    return sum(json.loads(output) for output, _ in outputs)


@pytest.mark.parametrize("text", ["200/second; burst=40", "7/30ms", "2000/second; burst=1"])
def test_no_more_than_the_burst_and_the_rate_are_admitted(server: Server, url: str, name: str, text: str) -> None:
    """However many hit at once: at most burst + rate x time get in, and nearly as many do."""
    with Tetrad(url) as t:
        (limit,) = t.limiter(name, text).limits
    begun = now(server)
    admitted = hit_from_all(url, name, "gcra", 1.5, text)
    most = limit.burst + Fraction(limit.count, round(limit.per * 1_000_000)) * (now(server) - begun)

    assert limit.burst < admitted <= most + 1
    if limit.burst == 40:  # it takes 0.2 s to fill, and only a full bucket loses what comes in
        assert admitted >= 0.8 * 1.5 * 200


def test_a_window_never_admits_more_than_its_limit(server: Server, url: str, name: str) -> None:
    """At most the limit in each window that was touched, between processes too."""
    begun = now(server)
    admitted = hit_from_all(url, name, "fixed-window", 1.2, "50/200ms")
    windows = now(server) // 200_000 - begun // 200_000 + 1

    assert 5 * 50 <= admitted <= windows * 50


def test_limits_are_charged_together_by_everybody(server: Server, url: str, name: str) -> None:
    """The tighter limit refuses most hits: none of them is charged to the other one."""
    limits = ("1000/day", "25/week")  # the next permit of either is more than a minute away
    admitted = hit_from_all(url, name, "gcra", 0.7, *limits)
    with Tetrad(url) as t:
        decision = t.limiter(name, *limits).peek("shared")

    assert admitted == 25
    assert not decision
    assert [state.remaining for state in decision.states] == [975, 0]


def test_a_killed_process_leaves_nothing_that_stays(server: Server, url: str, name: str) -> None:
    """Killed while it hits: the key has its time to live, and is gone when all permits are back."""
    process = start(url, name, "gcra", 30, "1000/second; burst=300", "2000/second")
    try:
        go(process)
        key = f"tetrad:limit:{{{name}:shared}}"
        wait_until(lambda: server.cli("EXISTS", key), 10, "the first hit")
    finally:
        process.kill()
        process.communicate()

    assert server.cli("PTTL", key) in {-2, *range(1003)}  # a second fills both; -2: gone, -1 would be for ever
    wait_until(lambda: server.cli("KEYS", f"*{name}*") == [], 5, "the end of the key")


def test_a_limit_object_is_the_same_everywhere(url: str, name: str) -> None:
    """A limit given as text in one place and as a `Limit` in another is one limit."""
    with Tetrad(url) as one, Tetrad(url) as other:
        one.limiter(name, "3/minute").hit("k", cost=2)

        assert other.limiter(name, Limit(3, per=60)).peek("k").remaining == 1
