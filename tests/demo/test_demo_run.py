"""``python -m demo`` as people run it: it stops by itself, reports, checks, and leaves nothing running."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.players import names
from demo.record import Claim, Record
from demo.report import hand_offs
from demo.supervisor import listen
from tests.servers import Server, alive, wait_until

ROOT = Path(__file__).parent.parent.parent
HELD = 7


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The demo with fewer players, in an environment without the caller's settings."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("DEMO_", "TETRAD_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "demo", "--players", "24", *arguments],
        cwd=ROOT, env=clean | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture
def place() -> Iterator[str]:
    """Where a run keeps its files: short, because the path of a unix socket may have 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="tetrad-", dir="/tmp") as directory:
        yield directory


def finish(demo: subprocess.Popen[str]) -> str:
    """The report of a run that must have ended well, with nothing to complain about."""
    output, errors = demo.communicate(timeout=90)
    assert demo.returncode == 0, output + errors
    assert errors == ""
    assert output.count("  held  ") == HELD, output
    assert "VIOLATED" not in output
    return output


def figure(report: str, name: str) -> int:
    """A number of the report."""
    line = next(line for line in report.splitlines() if line.startswith(f"  {name} "))
    return int(line[18:26].replace(",", ""))


def running(text: str, parent: int | None = None) -> list[str]:
    """The processes, of one parent or any, that have *text* in their command: number, parent, command."""
    shown = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    lines = [line for line in shown.splitlines() if text in line]
    return [line for line in lines if parent in (None, int(line.split()[1]))]


def left(place: str) -> list[str]:
    """What a run left behind: files, and processes that name its directory."""
    return [*(path.name for path in Path(place).iterdir()), *running(place)]


def test_a_run_reports_and_holds_its_invariants(place: str) -> None:
    """Six seconds: every figure is there, and everything is gone afterwards."""
    demo = start("--port", "0", DEMO_SECONDS="6", TMPDIR=place)
    assert demo.stdout is not None
    first = demo.stdout.readline()
    report = finish(demo)

    assert first.startswith("Arcade is at http://127.0.0.1:")
    for name in ("requests", "logins", "spins", "refusals", "jackpots paid", "live updates"):
        assert figure(report, name) > 0, name
    assert figure(report, "unavailable") == 0
    assert figure(report, "unanswered") == 0
    for line in ("p50", "lock hand-off", "top 10"):
        assert line in report
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(first.rsplit(":", 1)[1])), timeout=1)
    assert left(place) == []


def test_a_killed_worker_breaks_no_invariant(place: str) -> None:
    """One of two workers is killed with -9 half-way; another takes its place."""
    report = finish(start("--port", "0", DEMO_SECONDS="8", DEMO_KILL="1", TMPDIR=place))

    assert figure(report, "worker killed") > 0
    assert "kill -9, replaced after" in report
    assert left(place) == []


def test_no_worker_outlives_a_killed_demo(place: str) -> None:
    """kill -9 for the demo itself: the workers notice, and the embedded server after them."""
    demo = start("--port", "0", TMPDIR=place)
    assert demo.stdout is not None
    demo.stdout.readline()
    wait_until(lambda: len(running("demo.worker", demo.pid)) == 2, 30, "the start of two workers")
    workers = [int(line.split()[0]) for line in running("demo.worker", demo.pid)]
    demo.kill()
    demo.communicate(timeout=30)

    wait_until(lambda: not any(alive(pid) for pid in workers), 20, "the end of the workers")
    wait_until(lambda: not running(place), 30, "the end of the server")


def test_an_interrupted_run_reports_too(server: Server) -> None:
    """Ctrl-C ends it with the report; another server than the embedded one is left as it was found."""
    demo = start("--port", "0", "--url", server.url())
    assert demo.stdout is not None
    demo.stdout.readline()
    assert "valkey" in demo.stdout.readline()
    wait_until(lambda: server.cli("KEYS", "arcade-*board*"), 30, "the first score")
    demo.send_signal(signal.SIGINT)
    finish(demo)

    assert not server.cli("KEYS", "arcade-*board*")


def test_a_server_that_is_not_there_is_one_line() -> None:
    """No traceback: what can't be reached, and an exit code."""
    demo = start("--url", "unix:///nowhere/at/all.sock", "--seconds", "1")
    output, errors = demo.communicate(timeout=30)

    assert demo.returncode == 2
    assert errors.startswith("demo: ")
    assert len(errors.splitlines()) == 1
    assert "Traceback" not in output + errors


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan"])
def test_seconds_that_make_no_sense_are_refused(seconds: str) -> None:
    """By name, before anything is started."""
    demo = start(DEMO_SECONDS=seconds)
    _, errors = demo.communicate(timeout=30)

    assert demo.returncode != 0
    assert repr(seconds) in errors


def test_a_taken_port_means_a_free_one() -> None:
    """The demo starts beside whatever has the port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with listen("127.0.0.1", port) as free:
            assert free.getsockname()[1] != port


def test_hand_offs_are_measured_between_those_who_waited() -> None:
    """From one holder's leaving to the next one's entry; not when the next came later."""
    record = Record(
        claims=[
            Claim("b", 1, "lost", 0, 2, asked=1.5, acquired=2.25, left=2.5),
            Claim("a", 1, "won", 1, 1, asked=1.0, acquired=1.0, left=2.0),
            Claim("c", 1, "lost", 0, 3, asked=3.0, acquired=3.0, left=3.1),
            Claim("d", 1, "unknown"),
        ]
    )

    assert hand_offs(record) == [0.25]


def test_players_have_different_names() -> None:
    """However many there are."""
    assert len(set(names(150))) == 150
