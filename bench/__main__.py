"""``make bench``: Tetrad's operations beside bare redis-py commands, on one private server, in one run.

Every figure is a ratio to redis-py's EVALSHA of a script that does nothing, in the same rounds: 1.00 is as
fast as redis-py can call an empty script. Absolute rates are printed only to show what was compared.
"""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import redis
import redis.asyncio

from bench.rounds import Contestant, Result, compare, in_tasks, in_threads
from tetrad import AsyncTetrad, Tetrad
from tetrad._core.call import Call
from tetrad._core.embedded import Embedded, EmbeddedOptions
from tetrad._core.scripts import Script

EMPTY = "#!lua flags=no-writes\nreturn 1"
EMPTY_CALL = Call(Script("empty", EMPTY), ("k",), ("a", "b"), int)
BASELINE = "redis-py EVALSHA, empty script"
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "7"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "0.3"))


def main() -> None:
    server = Embedded(EmbeddedOptions(directory=None))
    url = f"unix://{server.open()}"
    try:
        with redis.Redis.from_url(url) as bare:
            about = bare.info("server")
            server_name = (
                f"Valkey {about['valkey_version']}" if "valkey_version" in about else f"Redis {about['redis_version']}"
            )
            print(f"{_machine()}; {server_name}, unix socket")
            print(f"{ROUNDS} interleaved rounds of about {SECONDS:g} s; ratio: median of paired rounds\n")
        _show("sync, 1 thread", _sync(url, 1))
        _show("sync, 16 threads", _sync(url, 16))
        _show("asyncio, 1 task", asyncio.run(_async(url, 1)))
        _show("asyncio, 100 tasks", asyncio.run(_async(url, 100)))
    finally:
        server.close()


def _sync(url: str, threads: int) -> list[Result]:
    numbers = count()
    with Tetrad(url, prefix=f"bench-{threads}") as t, redis.Redis.from_url(url) as bare:
        sha = bare.script_load(EMPTY)
        limiter = t.limiter("api", "1000000000/minute")
        store = t.sessions()
        session_id = store.create({"user": "ada", "cart": [1, 2, 3]}).id
        board = t.leaderboard("arcade")
        for member in range(1000):
            board.submit(f"player-{member}", member)

        def pair() -> None:
            lease = t.lock(f"job-{next(numbers) % 1000}", renew=False).acquire(timeout=0)
            if lease is not None:
                lease.release()

        def save() -> None:
            session = store.load(session_id)
            assert session is not None
            session["seen"] = next(numbers)
            session.save()

        contestants: dict[str, Callable[[], Any]] = {
            BASELINE: lambda: bare.evalsha(sha, 1, "k", "a", "b"),
            "redis-py PING": bare.ping,
            "Tetrad, the same empty script": lambda: t._wire.send(EMPTY_CALL),
            "limiter.hit": lambda: limiter.hit("ada"),
            "lock acquire + release (2 trips)": pair,
            "session load": lambda: store.load(session_id),
            "session load + save (2 trips)": save,
            "board.submit": lambda: board.submit(f"player-{next(numbers) % 1000}", next(numbers)),
            "board.top(10)": lambda: board.top(10),
        }
        rates = in_threads([Contestant(*pair) for pair in contestants.items()], threads, ROUNDS, SECONDS)
    return compare(rates, BASELINE)


async def _async(url: str, tasks: int) -> list[Result]:
    numbers = count()
    async with AsyncTetrad(url, prefix=f"abench-{tasks}") as t, redis.asyncio.Redis.from_url(url) as bare:
        sha = await bare.script_load(EMPTY)
        limiter = t.limiter("api", "1000000000/minute")
        store = t.sessions()
        session_id = (await store.create({"user": "ada", "cart": [1, 2, 3]})).id
        board = t.leaderboard("arcade")
        for member in range(1000):
            await board.submit(f"player-{member}", member)

        async def pair() -> None:
            lease = await t.lock(f"job-{next(numbers) % 1000}", renew=False).acquire(timeout=0)
            if lease is not None:
                await lease.release()

        async def save() -> None:
            session = await store.load(session_id)
            assert session is not None
            session["seen"] = next(numbers)
            await session.save()

        contestants: list[tuple[str, Callable[[], Awaitable[Any]]]] = [
            (BASELINE, lambda: bare.evalsha(sha, 1, "k", "a", "b")),
            ("redis-py PING", bare.ping),
            ("Tetrad, the same empty script", lambda: t._wire.send(EMPTY_CALL)),
            ("limiter.hit", lambda: limiter.hit("ada")),
            ("lock acquire + release (2 trips)", pair),
            ("session load", lambda: store.load(session_id)),
            ("session load + save (2 trips)", save),
            ("board.submit", lambda: board.submit(f"player-{next(numbers) % 1000}", next(numbers))),
            ("board.top(10)", lambda: board.top(10)),
        ]
        rates = await in_tasks(contestants, tasks, ROUNDS, SECONDS)
    return compare(rates, BASELINE)


def _show(title: str, results: list[Result]) -> None:
    print(f"{title:<34} {'ratio':>6} {'±':>5} {'op/s':>9}")
    for result in results:
        print(f"  {result.name:<32} {result.ratio:6.2f} {result.spread:5.2f} {result.rate:9,.0f}")
    print(flush=True)


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, redis-py {redis.__version__}"


if __name__ == "__main__":
    main()
