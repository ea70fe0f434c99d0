"""Tetrad: sessions, locks, rate limits and leaderboards on Valkey or Redis.

>>> from tetrad import Tetrad
>>> with Tetrad("embedded:?memory") as t:
...     with t.lock("nightly").hold() as lease:
...         lease.fence > 0
True
"""

from tetrad._async.board import AsyncLeaderboard
from tetrad._async.client import AsyncTetrad
from tetrad._async.limiter import AsyncLimiter
from tetrad._async.lock import AsyncLease, AsyncLock
from tetrad._async.session import AsyncSession, AsyncSessionStore
from tetrad._sync.board import Leaderboard
from tetrad._sync.client import Tetrad
from tetrad._sync.limiter import Limiter
from tetrad._sync.lock import Lease, Lock
from tetrad._sync.session import Session, SessionStore
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
    "AsyncLeaderboard",
    "AsyncLease",
    "AsyncLimiter",
    "AsyncLock",
    "AsyncSession",
    "AsyncSessionStore",
    "AsyncTetrad",
    "ConfigurationError",
    "DataError",
    "Decision",
    "Entry",
    "Holder",
    "Leaderboard",
    "Lease",
    "LeaseLost",
    "Limit",
    "LimitState",
    "Limiter",
    "Lock",
    "LockTimeout",
    "Placement",
    "RateLimited",
    "ServerInfo",
    "ServerRefused",
    "ServerTimeout",
    "ServerUnavailable",
    "Session",
    "SessionConflict",
    "SessionGone",
    "SessionInfo",
    "SessionStore",
    "SessionTooLarge",
    "Tetrad",
    "TetradError",
]
