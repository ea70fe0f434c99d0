"""The rules of the game, which the application keeps and the checks hold it to."""

from __future__ import annotations

from tetrad import Limit

THREE_OF_A_KIND = {"seven": 100, "star": 60, "bell": 40, "cherry": 25, "lemon": 15}
REELS = tuple(THREE_OF_A_KIND)
PAIR, NOTHING = 5, 1
MOST_POINTS = max(THREE_OF_A_KIND.values())

PLAYER_LIMIT = Limit(1, per=1, burst=5)
ADDRESS_LIMIT = Limit(4, per=1, burst=20)


def worth(reels: list[str]) -> int:
    """The points of a spin."""
    if len(set(reels)) == 1:
        return THREE_OF_A_KIND[reels[0]]
    return PAIR if len(set(reels)) == 2 else NOTHING
