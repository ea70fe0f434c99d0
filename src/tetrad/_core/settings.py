"""Where the server is: URLs, environment variables and their options, checked before anything is opened."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from tetrad._core.embedded import EmbeddedOptions, default_directory
from tetrad.errors import ConfigurationError

log = logging.getLogger("tetrad")

SCHEMES = "embedded:, redis://, rediss://, valkey://, valkeys:// or unix:///path"

_DURABILITIES = ("always", "second", "snapshot", "none")


def _yes_or_no(text: str) -> bool:
    if text.lower() in ("1", "true", "yes"):
        return True
    if text.lower() in ("0", "false", "no"):
        return False
    raise ValueError(text)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(text)
    return int(text)


def _positive(text: str) -> int:
    number = _number(text)
    if number < 1:
        raise ValueError(text)
    return number


def _some_text(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text


def _one_word(text: str) -> str:
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(text)
    return text


def _requirement(text: str) -> str:
    if text not in ("none", "optional", "required"):
        raise ValueError(text)
    return text


_ANY_SERVER: dict[str, Callable[[str], Any]] = {
    "db": _number,
    "client_name": _one_word,
    "max_connections": _positive,
}
_TLS: dict[str, Callable[[str], Any]] = {
    "ssl_ca_certs": _some_text,
    "ssl_ca_path": _some_text,
    "ssl_ca_data": _some_text,
    "ssl_certfile": _some_text,
    "ssl_keyfile": _some_text,
    "ssl_password": str,
    "ssl_cert_reqs": _requirement,
    "ssl_check_hostname": _yes_or_no,
}

_LONGEST_PATH = 107 if sys.platform == "linux" else 103  # bytes that the address of a unix socket holds


@dataclass(frozen=True, slots=True)
class Settings:
    """One server, fully described. *options* are redis-py's connection arguments."""

    where: str  # for people: no password
    kind: Literal["embedded", "unix", "tcp", "tls"]
    options: dict[str, Any] = field(repr=False)
    embedded: EmbeddedOptions | None = None
    timeout: float = 5.0
    connect_timeout: float = 2.0
    max_connections: int = 1000


def seconds(value: object, what: str) -> float:
    """A duration in seconds from a positive finite number or a `timedelta`; `ValueError` names anything else."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} must be a number of seconds or a timedelta, got {value!r:.80}")
    if not 0 < value < 1e10:
        raise ValueError(f"{what} must be more than 0 and less than 1e10 seconds, got {value!r:.80}")
    return float(value)


def seconds_or_zero(value: object, what: str) -> float:
    """As `seconds`, where 0 has a meaning of its own."""
    if value in (0, timedelta()) and not isinstance(value, bool):
        return 0.0
    return seconds(value, f"{what}, unless 0,")


def parse(url: str | None, timeout: object = 5.0, connect_timeout: object = 2.0) -> Settings:
    """Settings for *url*; ``None`` means ``$TETRAD_URL``, else the embedded server."""
    limits = {"timeout": seconds(timeout, "timeout"), "connect_timeout": seconds(connect_timeout, "connect_timeout")}
    by_default = False
    if url is None:
        url = os.environ.get("TETRAD_URL") or None
        by_default = url is None
        url = url or "embedded:"
    if not isinstance(url, str):
        value = "" if isinstance(url, (bytes, bytearray)) else f" {url!r:.80}"  # bytes may hold a password
        raise TypeError(f"url must be a str, got {type(url).__name__}{value}")
    if not url.isprintable():
        raise ConfigurationError(f"{hidden(url)!r} has characters in it that no URL has")
    scheme, colon, _ = url.partition(":")
    if colon and scheme == "embedded":
        return _embedded(url, by_default, limits)
    if colon and scheme == "unix":
        return _unix(url, limits)
    if colon and scheme in ("redis", "valkey", "rediss", "valkeys"):
        return _tcp(url, limits)
    raise ConfigurationError(f"{hidden(url)!r} is no URL that Tetrad knows; it takes {SCHEMES}")


def hidden(url: str) -> str:
    """*url* for messages: without what is or might be a password, and without its query, which may hold another one."""
    before, _, query = url.partition("?")
    scheme, slashes, rest = before.partition("://")
    if "@" in before:
        credentials, _, host = (rest if slashes else before).rpartition("@")
        return f"{scheme if slashes else ''}{slashes}{credentials.partition(':')[0]}:***@{host}"
    if "@" in query or rest.startswith(":"):  # a password with a ? in it; one without a host
        return f"{scheme}{slashes}***"
    return before


def _embedded(url: str, by_default: bool, limits: dict[str, Any]) -> Settings:
    where, _, query = url.removeprefix("embedded:").partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=False))
    try:
        memory = "memory" in options and _yes_or_no(options.pop("memory") or "yes")
    except ValueError as exc:
        raise ConfigurationError(f"option memory in {url!r} cannot be {str(exc)!r}") from None
    durability = options.pop("durability", "second")
    if options:
        raise ConfigurationError(f"unknown option {min(options)!r} in {url!r}; embedded: takes durability and memory")
    if durability not in _DURABILITIES:
        raise ConfigurationError(f"durability must be one of {', '.join(_DURABILITIES)}, got {durability!r} in {url!r}")
    if memory and where:
        raise ConfigurationError(f"{url!r} names a directory and asks for memory; a throwaway is embedded:?memory")
    if os.environ.get("TETRAD_EMBEDDED") == "never":
        raise ConfigurationError(
            "the embedded server is switched off here (TETRAD_EMBEDDED=never); give a URL or set TETRAD_URL"
        )
    try:
        directory = None if memory else Path(unquote(where)).expanduser().absolute() if where else default_directory()
    except RuntimeError as exc:
        raise ConfigurationError(f"{url!r} names a home directory that does not exist: {exc}") from None
    if not str(directory).isprintable():
        raise ConfigurationError(f"{url!r} has characters in it that no directory should have")
    if by_default:
        log.warning("no URL given: using the embedded server in %s, not shared with other machines", directory)
    return Settings(
        where=f"embedded:{directory or '?memory'}",
        kind="embedded",
        options={},
        embedded=EmbeddedOptions(directory=directory, durability=durability),  # type: ignore[arg-type]  # checked above
        **limits,
    )


def _unix(url: str, limits: dict[str, Any]) -> Settings:
    parts = _split(url)
    path = unquote(parts.path)
    credentials, at, host = parts.netloc.rpartition("@")
    if host or credentials and not at or not path.startswith("/") or path == "/":
        raise ConfigurationError(f"{hidden(url)!r} names no socket; write unix:///path/to/server.sock")
    if not path.isprintable() or len(os.fsencode(path)) > _LONGEST_PATH:
        raise ConfigurationError(f"{path!r} cannot be a socket: a path of {_LONGEST_PATH} bytes at most, all printable")
    options, bound = _options(url, parts.query, _ANY_SERVER)
    options["path"] = path
    _credentials(parts, options)
    return Settings(where=f"unix://{path}", kind="unix", options=options, **limits, **bound)


def _tcp(url: str, limits: dict[str, Any]) -> Settings:
    parts = _split(url)
    if "//" not in url:
        raise ConfigurationError(f"{hidden(url)!r} names no host; write {parts.scheme}://host:port")
    if "@" in parts.path:
        raise ConfigurationError(f"a user or password in {hidden(url)!r} must be percent-encoded, / as %2F")
    try:
        host, port = parts.hostname or "localhost", 6379 if parts.port is None else parts.port
        host.encode("idna")
        if not port or " " in host:
            raise ValueError(port)
    except ValueError:  # and UnicodeError: no name that could be looked up
        raise ConfigurationError(
            f"the address in {hidden(url)!r} must be a host name and a port from 1 to 65535"
        ) from None
    tls = parts.scheme in ("rediss", "valkeys")
    options, bound = _options(url, parts.query, _ANY_SERVER | _TLS if tls else _ANY_SERVER)
    if path := parts.path.strip("/"):
        try:
            path_db = _number(path)
        except ValueError:
            path_db = None
        if path_db is None or "db" in options:
            raise ConfigurationError(f"the path of {hidden(url)!r} must be one database number, such as /0")
        options["db"] = path_db
    options["host"], options["port"] = host, port
    _credentials(parts, options)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    where = f"{parts.scheme}://{address}"
    return Settings(where=where, kind="tls" if tls else "tcp", options=options, **limits, **bound)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:  # its message may hold the password
        raise ConfigurationError(f"{hidden(url)!r} is no URL") from None
    if "#" in url:
        raise ConfigurationError(f"a # in {hidden(url)!r} must be written as %23")
    return parts


def _credentials(parts: SplitResult, options: dict[str, Any]) -> None:
    if parts.username:
        options["username"] = unquote(parts.username)
    if parts.password:
        options["password"] = unquote(parts.password)


def _options(url: str, query: str, known: dict[str, Callable[[str], Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The connection options of *query* and, apart, those that are ours."""
    options: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        convert = known.get(name)
        if convert is None:
            shown = "***" if "@" in name else name
            raise ConfigurationError(f"unknown option {shown!r} in {hidden(url)!r}; known here: {', '.join(known)}")
        if name in options:
            raise ConfigurationError(f"option {name} is given twice in {hidden(url)!r}")
        try:
            options[name] = convert(text)
        except ValueError:
            raise ConfigurationError(f"option {name} in {hidden(url)!r} cannot be {text!r}") from None
    bound = {"max_connections": options.pop("max_connections")} if "max_connections" in options else {}
    return options, bound
