"""What both wires share: how a call becomes bytes and a reply its answer.

`wire_sync.py` borrows a connection for each call, `wire_async.py` puts all calls of an event loop on
one. In both, a reply that comes too late never reaches another call.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from os import register_at_fork
from typing import Any

import hiredis

from tetrad._core.call import Arg, Call
from tetrad._core.refusals import error_from_text
from tetrad._core.scripts import Script
from tetrad.errors import TetradError

pack: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command

Push = hiredis.PushNotification

NOTHING = object()  # what the reader answers while a reply is incomplete

QUIET_SECONDS = 0.01  # a connection unused for this long is looked at before it is used again


class ErrorReply(Exception):
    """An error reply, as the reader hands it over; never raised to a caller."""


def new_reader() -> hiredis.Reader:
    """A parser for one connection: replies as bytes, errors as `ErrorReply` values."""
    return hiredis.Reader(replyError=ErrorReply, notEnoughData=NOTHING)


def pack_call(call: Call[Any]) -> bytes:
    return pack(("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args))


def pack_load(script: Script) -> bytes:
    return pack(("SCRIPT", "LOAD", script.text))


def is_noscript(reply: ErrorReply) -> bool:
    return str(reply).startswith("NOSCRIPT")


def refusal(reply: ErrorReply, call: Call[Any]) -> TetradError:
    return error_from_text(str(reply), call.keys[0] if call.keys else None)


class Forkable:
    """Something whose connections must not be shared with a forked child."""

    def forget(self) -> None:
        """In a child: drop what the parent opened, without a word to the server."""
        raise NotImplementedError


_forkables: weakref.WeakSet[Forkable] = weakref.WeakSet()


def survive_fork(thing: Forkable) -> None:
    """Have ``thing.forget()`` called in every forked child."""
    _forkables.add(thing)


def _forget_all() -> None:
    for thing in list(_forkables):
        thing.forget()


register_at_fork(after_in_child=_forget_all)

__all__ = [
    "NOTHING",
    "QUIET_SECONDS",
    "Arg",
    "ErrorReply",
    "Forkable",
    "Push",
    "is_noscript",
    "new_reader",
    "pack",
    "pack_call",
    "pack_load",
    "refusal",
    "survive_fork",
]
