"""What the simulated players saw, in their own words: the evidence that the invariants are checked against.

Nothing here comes from the server's memory of events: only what was asked, when, and what was answered. A request
whose answer was lost (a killed worker) is ``"unknown"``: it may have been carried out or not, and the checks allow
for both. Times are of this process's monotonic clock.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Play:
    """One spin that was asked for, from *address*, between *sent* and *received*."""

    player: str
    address: str
    sent: float
    received: float
    outcome: Literal["admitted", "refused", "unknown"]
    points: int = 0
    score: int = 0  # the player's whole score, as the answer had it


@dataclass(frozen=True, slots=True)
class Claim:
    """One attempt at a jackpot. *asked*, *acquired* and *left* are the worker's monotonic times around the lock."""

    player: str
    round: int
    outcome: Literal["won", "lost", "unknown"]
    prize: int = 0
    fence: int = 0
    asked: float = 0.0
    acquired: float = 0.0
    left: float = 0.0


@dataclass(frozen=True, slots=True)
class Echo:
    """Who the server said was asking, and how many spins the session had, next to what the player knows of itself.

    *expected* ``None`` means that the id was logged out before: nobody may be behind it any more.
    """

    expected: str | None
    answered: str | None
    spins: int = 0
    at_least: int = 0
    at_most: int = 0


@dataclass(frozen=True, slots=True)
class Login:
    """A login and the session id it gave; *previous* is the id that the player had come with."""

    player: str
    session: str
    previous: str | None


@dataclass(slots=True)
class Record:
    """Everything that all players saw."""

    plays: list[Play] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    echoes: list[Echo] = field(default_factory=list)
    logins: list[Login] = field(default_factory=list)
    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    answers: dict[int, int] = field(default_factory=lambda: defaultdict(int))  # by HTTP status; 0: none came
    workers: dict[int, int] = field(default_factory=lambda: defaultdict(int))  # answers by process id
    events: int = 0  # server-sent events seen by the spectators
    logouts: int = 0

    @property
    def requests(self) -> int:
        """How many requests were made, answered or not."""
        return sum(self.answers.values())

    def players(self) -> set[str]:
        """Everybody who logged in or tried to play."""
        return {play.player for play in self.plays} | {login.player for login in self.logins}
