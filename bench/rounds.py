"""The harness: contestants take turns in short rounds, so that whatever else the machine does hits all alike.

A figure is the median over rounds of each contestant's rate divided by the baseline's in the same round.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Contestant:
    """An operation, and how many of it make a round of about *seconds* (found by warming up)."""

    name: str
    operation: Callable[[], object]


@dataclass(frozen=True)
class Result:
    name: str
    rate: float  # operations a second, median
    ratio: float  # to the baseline, median of paired rounds
    spread: float  # half the range between the quartiles of those ratios


def compare(rates: dict[str, list[float]], baseline: str) -> list[Result]:
    """Paired ratios of *rates* (operations a second, by round) to *baseline*."""
    results = []
    for name, own in rates.items():
        ratios = sorted(mine / base for mine, base in zip(own, rates[baseline], strict=True))
        low, _, high = statistics.quantiles(ratios, n=4)
        results.append(Result(name, statistics.median(own), statistics.median(ratios), (high - low) / 2))
    return results


def in_threads(contestants: list[Contestant], threads: int, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Rates of blocking operations called by *threads* threads at once."""

    def one_round(operation: Callable[[], object], count: int) -> float:
        def work() -> None:
            for _ in range(count):
                operation()

        workers = [threading.Thread(target=work) for _ in range(threads)]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return count * threads / (time.perf_counter() - start)

    counts = {}
    for contestant in contestants:
        one_round(contestant.operation, 10)
        counts[contestant.name] = max(10, int(one_round(contestant.operation, 100) * seconds / threads))
    rates: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for _ in range(rounds):
        for contestant in contestants:
            rates[contestant.name].append(one_round(contestant.operation, counts[contestant.name]))
    return rates


async def in_tasks(
    contestants: list[tuple[str, Callable[[], Awaitable[object]]]], tasks: int, rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Rates of async operations awaited by *tasks* tasks at once."""

    async def one_round(operation: Callable[[], Awaitable[object]], count: int) -> float:
        async def work() -> None:
            for _ in range(count):
                await operation()

        start = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(tasks)))
        return count * tasks / (time.perf_counter() - start)

    counts = {}
    for name, operation in contestants:
        await one_round(operation, 10)
        counts[name] = max(10, int(await one_round(operation, 50) * seconds / tasks))
    rates: dict[str, list[float]] = {name: [] for name, _ in contestants}
    for _ in range(rounds):
        for name, operation in contestants:
            rates[name].append(await one_round(operation, counts[name]))
    return rates
