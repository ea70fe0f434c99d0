"""Names and keys: ``prefix:kind:{name}`` plus ``:part``, so that all keys of one object share a slot.

Names are checked here, before anything is sent. Characters that would change the meaning of a key
(braces, and the colon between two names) are percent-escaped, so distinct names stay distinct.
"""

from __future__ import annotations

import re

from tetrad.errors import ConfigurationError

MAX_NAME_BYTES = 512

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PREFIX = re.compile(r"[A-Za-z0-9_.\-/]+(:[A-Za-z0-9_.\-/]+)*")


def check_name(name: object, what: str = "name") -> str:
    """Return *name* if it can name an object, else raise `ValueError` (`TypeError` for another type).

    >>> check_name("nightly report")
    'nightly report'
    """
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a str of 1-{MAX_NAME_BYTES} bytes, not {type(name).__name__} {name!r:.80}")
    if name.isascii() and name.isprintable() and 0 < len(name) <= MAX_NAME_BYTES:
        return name  # nearly all of them, in one look
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{what} must be valid UTF-8, got {name!r:.80}") from None
    if not 0 < size <= MAX_NAME_BYTES:
        raise ValueError(f"{what} must have 1-{MAX_NAME_BYTES} bytes, got {size}: {name!r:.80}")
    if _CONTROL.search(name):
        raise ValueError(f"{what} must have no control characters, got {name!r:.80}")
    return name


def check_prefix(prefix: object) -> str:
    """Return *prefix* if it can start every key, else raise `ConfigurationError`."""
    if not isinstance(prefix, str) or len(prefix) > 128 or not _PREFIX.fullmatch(prefix):
        raise ConfigurationError(
            f"prefix must be 1-128 letters, digits or any of _ . - / with single colons between, got {prefix!r:.80}"
        )
    return prefix


def escape(name: str) -> str:
    """*name* as it stands inside a key."""
    return name.replace("%", "%25").replace("{", "%7B").replace("}", "%7D").replace(":", "%3A")


def unescape(text: str) -> str:
    """The name that `escape` turned into *text*."""
    return re.sub("%(25|7B|7D|3A)", lambda match: chr(int(match[1], 16)), text)


def key(prefix: str, kind: str, *names: str) -> str:
    """The key of the object that *names* (checked before) identify; append ``":part"`` for its companions.

    >>> key("tetrad", "lock", "nightly")
    'tetrad:lock:{nightly}'
    >>> key("tetrad", "limit", "login", "user:7")
    'tetrad:limit:{login:user%3A7}'
    """
    return f"{prefix}:{kind}:{{{':'.join(map(escape, names))}}}"
