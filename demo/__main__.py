"""``python -m demo``: run Arcade with two worker processes and simulated players, then check what happened."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from demo import players
from demo.check import verdicts
from demo.ledger import Ledger
from demo.record import Record
from demo.report import report
from demo.supervisor import StartError, Workers, listen
from tetrad import AsyncTetrad, TetradError


def arguments() -> argparse.Namespace:
    """The command line; the environment gives the defaults."""
    seconds = os.environ.get("DEMO_SECONDS")
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument(
        "--seconds", type=positive, default=positive(seconds) if seconds else None,
        help="stop after so many seconds ($DEMO_SECONDS); without it, at Ctrl-C",
    )  # fmt: skip
    parser.add_argument(
        "--kill-worker", action="store_true", default=os.environ.get("DEMO_KILL", "0") not in ("", "0"),
        help="kill one worker with kill -9 half-way, or after 10 s ($DEMO_KILL=1)",
    )  # fmt: skip
    parser.add_argument("--url", default=os.environ.get("TETRAD_URL"), help="another server ($TETRAD_URL)")
    parser.add_argument("--players", type=int, default=40, help="simulated players (default: 40)")
    parser.add_argument("--workers", type=int, default=2, help="web server processes (default: 2)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port; a free one when taken (default: 8000)")
    options = parser.parse_args()
    if options.players < 0 or options.workers < 1:
        parser.error("--players must be at least 0 and --workers at least 1")
    return options


def positive(text: str) -> float:
    """A number of seconds above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise SystemExit(f"demo: --seconds and DEMO_SECONDS take a number above 0, got {text!r}")
    return number


@contextlib.contextmanager
def interrupts(stop: asyncio.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM set *stop*, so that the run ends with its report."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    yield
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)


async def run(options: argparse.Namespace, directory: Path) -> int:
    """Start, play, stop, check, report. 0 when all invariants held."""
    url = options.url or f"embedded:{server(directory)}"
    prefix = f"arcade-{uuid.uuid4().hex[:8]}"  # nothing of an earlier run, nor of anybody else on that server
    environment = {"TETRAD_URL": url, "ARCADE_PREFIX": prefix, "ARCADE_LEDGER": str(directory / "ledger.sqlite")}
    record, stop = Record(), asyncio.Event()
    async with AsyncTetrad(url, prefix=prefix) as tetrad:
        info = await tetrad.info()
        with listen(options.host, options.port) as listener:
            address = f"http://{options.host}:{listener.getsockname()[1]}"
            print(f"Arcade is at {address}", flush=True)
            print(
                f"{options.workers} workers, {options.players} players, {info.server} {info.version} ({info.topology})"
            )
            with interrupts(stop):
                start = time.monotonic()
                async with Workers(listener, options.workers, environment) as workers:
                    start = time.monotonic()
                    playing = asyncio.create_task(players.play(address, options.players, record, stop))
                    await attend(options, workers, record, stop, playing)
                    stop.set()
                    await playing
                    seconds = time.monotonic() - start
        ledger = Ledger(directory / "ledger.sqlite")
        season = tetrad.leaderboard("season", keep="sum")
        board = [entry async for entry in season]
        payments, refusals = await ledger.payments(), await ledger.refusals()
        ledger.close()
        result = verdicts(record, payments, refusals, board)
        print(report(record, payments, refusals, board, result, workers, seconds))
        await season.clear()
    violated = [verdict.invariant for verdict in result if verdict.violations]
    if violated:
        print(f"demo: VIOLATED: {'; '.join(violated)}", file=sys.stderr)
    return 1 if violated else 0


def server(directory: str | Path) -> str:
    """Where the embedded server is when no other was named."""
    return str(Path(directory) / "server")


async def attend(
    options: argparse.Namespace, workers: Workers, record: Record, stop: asyncio.Event, playing: asyncio.Task[None]
) -> None:
    """Show progress until the time is up, Ctrl-C, or the players fail; kill a worker half-way if asked to."""
    start = time.monotonic()
    half = options.seconds / 2 if options.seconds else 10.0
    while not stop.is_set() and not playing.done():
        passed = time.monotonic() - start
        if options.seconds and passed >= options.seconds:
            break
        if options.kill_worker and not workers.kills and passed >= half:
            say(f"kill -9 {workers.kill_one()}: a worker dies in the middle of its work")
        if sys.stdout.isatty():
            print(f"\r\x1b[K{progress(passed, options.seconds, record)}", end="", flush=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await stop.wait()
    say("stopping")


def progress(passed: float, seconds: float | None, record: Record) -> str:
    """One line: a bar when the end is known, and what has happened so far."""
    done = f"{record.requests:,} requests, {sum(claim.outcome == 'won' for claim in record.claims)} jackpots"
    if not seconds:
        return f"{passed:6.0f} s  {done}  (Ctrl-C ends with a report)"
    filled = int(30 * min(1.0, passed / seconds))
    return f"[{'#' * filled}{'.' * (30 - filled)}] {min(passed, seconds):4.0f}/{seconds:.0f} s  {done}"


def say(text: str) -> None:
    """A line of its own, above the progress."""
    print(f"\r\x1b[K{text}" if sys.stdout.isatty() else text, flush=True)


def main() -> int:
    """Run in a directory of its own that is gone afterwards."""
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="arcade-", ignore_cleanup_errors=True) as directory:
        try:
            return asyncio.run(run(options, Path(directory)))
        except (TetradError, StartError) as error:
            print(f"demo: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:  # before the players came; from then on, Ctrl-C ends with the report
            return 130
        finally:
            if not options.url:  # the server would stop by itself a few seconds later; its directory goes now
                subprocess.run([sys.executable, "-m", "tetrad", "down", server(directory)], capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
