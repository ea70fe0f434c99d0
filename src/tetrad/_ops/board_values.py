"""What a leaderboard takes and gives back: members, scores and infos, checked here before anything is sent."""

from __future__ import annotations

from math import isfinite
from typing import Any

from tetrad._core import codec

MAX_MEMBER_BYTES = 1024
MAX_INFO_BYTES = 65536
MAX_ROWS = 10_000

_EXACT_INT = 2**53


def member_bytes(member: object) -> bytes:
    """The bytes that identify *member*: text counts as its UTF-8, so ``"a"`` and ``b"a"`` are one member."""
    if isinstance(member, str):
        try:
            raw = member.encode()
        except UnicodeEncodeError:
            raise ValueError(f"member must be valid Unicode, got {member!r:.80}") from None
    elif isinstance(member, bytes):
        raw = member
    else:
        raise TypeError(f"member must be str or bytes, not {type(member).__name__} {member!r:.80}")
    if len(raw) > MAX_MEMBER_BYTES:
        raise ValueError(f"member must have at most {MAX_MEMBER_BYTES} bytes, got {len(raw)}: {member!r:.80}")
    return raw


def member_value(raw: bytes) -> str | bytes:
    """A member as it is given back: str where its bytes are UTF-8, else bytes."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def member_values(raws: list[bytes], skip: int) -> list[str | bytes]:
    """`member_value` of many, without the first *skip* bytes of each."""
    try:
        return [raw[skip:].decode() for raw in raws]
    except UnicodeDecodeError:
        return [member_value(raw[skip:]) for raw in raws]


def score_value(score: object) -> float:
    """*score* as the float that is stored; ``-0.0`` is 0. `ValueError` unless it is finite and exact."""
    if isinstance(score, bool):
        raise ValueError(f"score must be a number, not the bool {score!r}")
    if isinstance(score, int):
        if not -_EXACT_INT <= score <= _EXACT_INT:
            raise ValueError(f"score must be exact as a float, so an int up to 2**53 in magnitude, got {score!r:.80}")
    elif not isinstance(score, float):
        raise TypeError(f"score must be an int or a float, not {type(score).__name__} {score!r:.80}")
    elif not isfinite(score):
        raise ValueError(f"score must be finite, got {score!r}")
    return float(score) + 0.0


def info_bytes(info: Any) -> bytes:
    """The encoded *info*; `ValueError` when it is too large."""
    data = codec.encode(info, "info")
    if len(data) > MAX_INFO_BYTES:
        raise ValueError(f"info must have at most {MAX_INFO_BYTES} bytes when encoded, got {len(data)}")
    return data


def whole(value: object, what: str, low: int, high: int) -> int:
    """*value* if it is an int from *low* to *high*; `TypeError` or `ValueError` names it otherwise."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {type(value).__name__} {value!r:.80}")
    if not low <= value <= high:
        raise ValueError(f"{what} must be from {low} to {high}, got {value!r:.80}")
    return value
