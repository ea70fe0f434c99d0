"""The report at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence

from demo.check import Verdict
from demo.ledger import Payment
from demo.record import Record
from demo.supervisor import Workers
from tetrad import Entry


def report(
    record: Record,
    payments: list[Payment],
    refusals: list[str],
    board: list[Entry],
    verdicts: list[Verdict],
    workers: Workers,
    seconds: float,
) -> str:
    """All of it, as text."""
    spins = [play.outcome for play in record.plays]
    unknown = record.answers.get(0, 0)
    lines = [
        "",
        f"Arcade ran for {seconds:.1f} s",
        "",
        figure("requests", f"{record.requests:,}", f"{record.requests / seconds:,.0f}/s, by {shares(record)}"),
        figure("logins", f"{len(record.logins):,}", f"{record.logouts:,} logouts"),
        figure("spins", f"{spins.count('admitted'):,}", "admitted"),
        figure("refusals", f"{spins.count('refused'):,}", "spins over a limit (429)"),
        figure("jackpots paid", f"{len(payments):,}", f"{len(record.claims):,} claims; ledger refused {len(refusals)}"),
        figure("live updates", f"{record.events:,}", "events seen by 2 spectators"),
        figure("unavailable", f"{record.answers.get(503, 0):,}", "answers 503"),
        figure("unanswered", f"{unknown:,}", "connections cut: such requests count as maybe"),
    ]
    for kill in workers.kills:
        after = f"replaced after {kill.replaced_after:.2f} s" if kill.replaced_after else "not replaced yet"
        lines.append(figure("worker killed", str(kill.pid), f"kill -9, {after}"))
    if workers.deaths:
        lines.append(figure("workers died", str(workers.deaths), "by themselves; see above"))
    lines += ["", f"  {'milliseconds':<16}{'count':>8}{'p50':>9}{'p90':>9}{'p99':>9}{'max':>9}"]
    for kind, values in sorted(record.latencies.items()):
        lines.append(quantiles(kind, values))
    lines += [quantiles("lock hand-off", hand_offs(record)), "", "  top 10"]
    lines += [f"  {entry.rank:>4}  {entry.member!s:<22}{entry.score:>8,.0f}" for entry in board[:10]]
    lines += ["", "  invariants"]
    for verdict in verdicts:
        lines.append(f"  {'VIOLATED' if verdict.violations else 'held':>8}  {verdict.invariant} ({verdict.evidence})")
        lines += [f"            - {violation}" for violation in verdict.violations[:10]]
        if len(verdict.violations) > 10:
            lines.append(f"            - and {len(verdict.violations) - 10} more")
    return "\n".join([*lines, ""])


def hand_offs(record: Record) -> list[float]:
    """Seconds from one holder's leaving to the next one's entry, where the next was waiting already."""
    line = sorted((c for c in record.claims if c.outcome != "unknown"), key=lambda claim: claim.acquired)
    pairs = zip(line, line[1:], strict=False)
    return [later.acquired - earlier.left for earlier, later in pairs if later.asked < earlier.left]


def figure(name: str, value: str, note: str) -> str:
    return f"  {name:<16}{value:>8}  {note}"


def quantiles(name: str, seconds: Sequence[float]) -> str:
    """One line of the table: count, median, 90th and 99th percentile, maximum."""
    if not seconds:
        return f"  {name:<16}{0:>8,}"
    line = sorted(seconds)
    points = (line[min(len(line) - 1, int(len(line) * q))] for q in (0.5, 0.9, 0.99, 1.0))
    return f"  {name:<16}{len(line):>8,}" + "".join(f"{1000 * point:>9.1f}" for point in points)


def shares(record: Record) -> str:
    """Which process answered how much."""
    total = sum(record.workers.values()) or 1
    return ", ".join(f"worker {pid} {100 * n / total:.0f} %" for pid, n in sorted(record.workers.items())) or "nobody"
