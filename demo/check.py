"""The invariants. Each function compares what the players recorded with one store and returns what is wrong.

They are bounds where a reply was lost, and equalities everywhere else.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from demo.ledger import Payment
from demo.record import Claim, Play, Record
from demo.rules import ADDRESS_LIMIT, MOST_POINTS, PLAYER_LIMIT
from tetrad import Entry, Limit


@dataclass(frozen=True, slots=True)
class Verdict:
    """One invariant: how much evidence there was, and what contradicts it."""

    invariant: str
    evidence: str
    violations: list[str]


def verdicts(record: Record, payments: list[Payment], refusals: list[str], board: list[Entry]) -> list[Verdict]:
    """All invariants, with *payments* and *refusals* from the ledger and the final *board* in rank order."""
    held = [claim for claim in record.claims if claim.outcome != "unknown"]
    admitted = [play for play in record.plays if play.outcome == "admitted"]
    return [
        Verdict(
            "every jackpot is paid once, to the holder of the lock",
            f"{len(payments)} payments, {len(held)} claims",
            paid_once(record, payments, refusals),
        ),
        Verdict("fences grow from payment to payment", f"{len(payments)} fences", fences_grow(payments)),
        Verdict("no two hold the lock at once", f"{len(held)} leases", exclusive(held)),
        Verdict(
            "no player is admitted above the limit", f"{len(admitted)} spins", within(admitted, "player", PLAYER_LIMIT)
        ),
        Verdict(
            "no address is admitted above the limit",
            f"{len({play.address for play in admitted})} addresses",
            within(admitted, "address", ADDRESS_LIMIT),
        ),
        Verdict("no session is lost or mixed up", f"{len(record.echoes)} answers", sessions_kept(record)),
        Verdict("the board is what the players scored", f"{len(board)} rows", board_matches(record, board)),
    ]


def paid_once(record: Record, payments: list[Payment], refusals: list[str]) -> list[str]:
    """Rounds are paid in order and once; who was told of a win was paid, with the lease's fence, and nobody else."""
    wrong = []
    for number, times in Counter(payment.round for payment in payments).items():
        if times > 1:
            wrong.append(f"round {number} was paid {times} times")
    if [payment.round for payment in payments] != list(range(1, len(payments) + 1)) and not wrong:
        wrong.append(f"rounds were not paid one after the other: {[payment.round for payment in payments]}")
    ledger = {(p.round, p.player, p.prize, p.fence) for p in payments}
    told = {(c.round, c.player, c.prize, c.fence) for c in record.claims if c.outcome == "won"}
    maybe = {(claim.round, claim.player) for claim in record.claims if claim.outcome == "unknown"}
    for number, player, prize, fence in sorted(told - ledger):
        wrong.append(f"{player} was told of {prize} for round {number} with fence {fence}, which was not paid")
    ours = record.players()
    for number, player, prize, fence in sorted(ledger - told):
        if player in ours and (number, player) not in maybe:
            wrong.append(f"{player} was paid {prize} for round {number} with fence {fence} without having won it")
    if times := refusals.count("already paid"):
        wrong.append(f"only the ledger kept a round from being paid twice ({times} times), not the lock")
    return wrong


def fences_grow(payments: list[Payment]) -> list[str]:
    """Each payment has a larger fence than the one before."""
    return [
        f"round {later.round} was paid with fence {later.fence}, after {earlier.fence} for round {earlier.round}"
        for earlier, later in zip(payments, payments[1:], strict=False)
        if later.fence <= earlier.fence
    ]


def exclusive(claims: Iterable[Claim]) -> list[str]:
    """The times in which the lock was surely held do not overlap, and are in the order of the fences."""
    wrong = []
    line = sorted(claims, key=lambda claim: claim.acquired)
    for earlier, later in zip(line, line[1:], strict=False):
        if later.acquired < earlier.left:
            seconds = min(earlier.left, later.left) - later.acquired
            wrong.append(f"{earlier.player} and {later.player} both held the lock, for {seconds:.6f} s")
        if later.fence <= earlier.fence:
            wrong.append(
                f"{later.player} held the lock after {earlier.player}, with fence {later.fence} <= {earlier.fence}"
            )
    return wrong


def within(admitted: Iterable[Play], by: str, limit: Limit) -> list[str]:
    """In no stretch of time more than ``burst + rate * seconds + 1`` plays were surely admitted.

    A play was decided somewhere between sent and received, so only one that lies wholly inside a stretch counts.
    """
    rate = limit.count / limit.per
    plays: dict[str, list[Play]] = defaultdict(list)
    for play in admitted:
        plays[getattr(play, by)].append(play)
    wrong = []
    for who, theirs in sorted(plays.items()):
        excess, count, seconds = busiest(theirs, rate)
        if excess > limit.burst + 1:
            allowed = limit.burst + rate * seconds + 1
            wrong.append(f"{by} {who} was admitted {count} times in {seconds:.3f} s; at most {allowed:.1f} are allowed")
    return wrong


def busiest(plays: list[Play], rate: float) -> tuple[float, int, float]:
    """The stretch with the largest ``plays - rate * seconds``: that excess, its plays and its seconds.

    It begins where one play was sent and ends where another was received. Ends are tried in the order of time, all
    beginnings at once: a tree over the beginnings keeps, for each part of them, how many of its plays were received
    so far, and its best beginning. That is O(n log n), for demos that run all day.
    """
    by_start = sorted(range(len(plays)), key=lambda i: plays[i].sent)
    size = 1 << (len(plays) - 1).bit_length()
    received = [0] * (2 * size)
    best = [(float("-inf"), 0.0)] * (2 * size)  # (plays received since a beginning + rate * beginning, beginning)
    leaf = {index: size + at for at, index in enumerate(by_start)}
    found = (float("-inf"), 0.0, 0.0)
    for index in sorted(range(len(plays)), key=lambda i: plays[i].received):
        node, start, end = leaf[index], plays[index].sent, plays[index].received
        received[node], best[node] = 1, (1 + rate * start, start)
        while node := node >> 1:
            left, right = 2 * node, 2 * node + 1
            received[node] = received[left] + received[right]
            best[node] = max(best[right], (best[left][0] + received[right], best[left][1]))
        value, beginning = best[1]
        found = max(found, (value - rate * end, beginning, end))
    excess, beginning, end = found
    return excess, round(excess + rate * (end - beginning)), end - beginning


def sessions_kept(record: Record) -> list[str]:
    """Every answer was for who asked, with the session's own count of spins; every login gave an id of its own."""
    wrong = []
    for echo in record.echoes:
        if echo.expected is None:
            if echo.answered is not None:
                wrong.append(f"the session of {echo.answered} was alive after its end")
        elif echo.answered is None:
            wrong.append(f"the session of {echo.expected} was lost")
        elif echo.answered != echo.expected:
            wrong.append(f"{echo.expected} was taken for {echo.answered}")
        elif not echo.at_least <= echo.spins <= echo.at_most:
            expected = f"{echo.at_least} to {echo.at_most}" if echo.at_least < echo.at_most else str(echo.at_least)
            wrong.append(f"the session of {echo.expected} had {echo.spins} spins instead of {expected}")
    for session, times in Counter(login.session for login in record.logins).items():
        if times > 1:
            wrong.append(f"the session id {session[:6]}... was given out {times} times")
    return wrong + [
        f"{login.player} kept the same session id over a login"
        for login in record.logins
        if login.session == login.previous
    ]


def board_matches(record: Record, board: list[Entry]) -> list[str]:
    """The final board has every player with exactly the points that the answers added up to, in order.

    So had every answer on the way. Spins whose answer was lost may each have scored up to `MOST_POINTS`. Rows of
    visitors are only checked for their order.
    """
    wrong = []
    rows = {str(entry.member): int(entry.score) for entry in board}
    known: Counter[str] = Counter()
    unseen: Counter[str] = Counter()
    for play in record.plays:
        known[play.player] += play.points
        unseen[play.player] += play.outcome == "unknown"
        if play.outcome == "admitted" and not reachable(play.score, known[play.player], unseen[play.player]):
            wrong.append(f"{play.player} was told a score of {play.score}, having scored {known[play.player]}")
    for player in sorted(record.players()):
        score = rows.get(player, 0)
        if not reachable(score, known[player], unseen[player]):
            more = f" and up to {unseen[player] * MOST_POINTS} more" if unseen[player] else ""
            wrong.append(f"{player} has {score} on the board, but scored {known[player]}{more}")
    if [entry.rank for entry in board] != list(range(1, len(board) + 1)):
        wrong.append("the ranks are not 1, 2, 3, ...")
    for above, below in zip(board, board[1:], strict=False):
        if below.score > above.score:
            wrong.append(f"{below.member!s} with {below.score:g} is ranked below {above.member!s} with {above.score:g}")
    return wrong


def reachable(score: int, known: int, unseen: int) -> bool:
    """Whether *score* can come from *known* points and *unseen* spins with any result."""
    return known <= score <= known + unseen * MOST_POINTS
