"""The server's error replies as our errors: the one place that knows its words."""

from __future__ import annotations

from tetrad.errors import DataError, ServerRefused, ServerUnavailable, TetradError

_NOT_SERVING = {"LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"}

# What NOPERM is called when it happens inside a script: by Redis 7.0, and by Valkey and later Redis.
_NO_RIGHT = ("The user executing the script can't", "ACL failure in script")

_ADVICE = {
    "OOM": "the server is out of memory: raise its maxmemory or free some",
    "READONLY": "this server is a replica; writes go to the primary",
    "NOPERM": "the user may not do this; Tetrad's README says under Servers which rights it needs",
    "NOAUTH": "put the password into the URL",
    "WRONGPASS": "check the user and password in the URL",
    "MISCONF": "the server cannot write its snapshot and refuses writes; see its log",
    "NOREPLICAS": "the server has fewer replicas than min-replicas-to-write",
    "BUSY": "the server is running a long script of somebody's",
}


def error_from_text(text: str, key: str | None = None) -> TetradError:
    """The error for an error reply.

    >>> error_from_text("OOM command not allowed when used memory > 'maxmemory'.")
    ServerRefused("OOM command not allowed when used memory > 'maxmemory'. (the server is out of memory: \
raise its maxmemory or free some)")
    """
    code = text.partition(" ")[0]
    if code in _NOT_SERVING or "max number of clients" in text:
        return ServerUnavailable(f"the server is not serving now: {text}", key=key)
    if code == "WRONGTYPE":
        return DataError(f"the stored value was not written by Tetrad: {text}", key=key)
    return refused(text, code, key, advice_for="NOPERM" if any(words in text for words in _NO_RIGHT) else code)


def refused(text: str, code: str, key: str | None = None, *, advice_for: str = "") -> ServerRefused:
    """The server said no, in the words *text*: the error says what to do about it, where that is known."""
    advice = _ADVICE.get(advice_for or code)
    return ServerRefused(f"{text} ({advice})" if advice else text, key=key, code=code)
