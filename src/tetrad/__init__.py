"""Tetrad: sessions, locks, rate limits and leaderboards on Valkey or Redis.

>>> from tetrad import Tetrad
>>> with Tetrad("embedded:?memory") as t:
...     with t.lock("nightly").hold() as lease:
...         lease.fence > 0
True
"""

from tetrad._async.client import AsyncTetrad
from tetrad._sync.client import Tetrad
from tetrad.errors import (
    ConfigurationError,
    DataError,
    LeaseLost,
    LockTimeout,
    RateLimited,
    ServerRefused,
    ServerTimeout,
    ServerUnavailable,
    SessionConflict,
    SessionGone,
    SessionTooLarge,
    TetradError,
)
from tetrad.types import Decision, Entry, Holder, Limit, LimitState, Placement, ServerInfo, SessionInfo

__version__ = "0.1.0"

__all__ = [
    "AsyncTetrad",
    "ConfigurationError",
    "DataError",
    "Decision",
    "Entry",
    "Holder",
    "LeaseLost",
    "Limit",
    "LimitState",
    "LockTimeout",
    "Placement",
    "RateLimited",
    "ServerInfo",
    "ServerRefused",
    "ServerTimeout",
    "ServerUnavailable",
    "SessionConflict",
    "SessionGone",
    "SessionInfo",
    "SessionTooLarge",
    "Tetrad",
    "TetradError",
]
