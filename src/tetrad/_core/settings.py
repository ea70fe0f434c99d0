"""Where the server is: URLs, environment variables and their options, checked before anything is opened."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

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


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


_ANY_SERVER: dict[str, Callable[[str], Any]] = {"db": int, "client_name": str, "max_connections": _positive}
_TLS: dict[str, Callable[[str], Any]] = {
    "ssl_ca_certs": str,
    "ssl_ca_path": str,
    "ssl_ca_data": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_password": str,
    "ssl_cert_reqs": str,
    "ssl_check_hostname": _yes_or_no,
}


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
        raise ValueError(f"{what} must be more than 0 and finite, in seconds, got {value!r:.80}")
    return float(value)


def parse(url: str | None, timeout: object = 5.0, connect_timeout: object = 2.0) -> Settings:
    """Settings for *url*; ``None`` means ``$TETRAD_URL``, else the embedded server."""
    limits = {"timeout": seconds(timeout, "timeout"), "connect_timeout": seconds(connect_timeout, "connect_timeout")}
    by_default = False
    if url is None:
        url = os.environ.get("TETRAD_URL") or None
        by_default = url is None
        url = url or "embedded:"
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, got {type(url).__name__} {url!r:.80}")
    scheme, colon, _ = url.partition(":")
    if colon and scheme == "embedded":
        return _embedded(url, by_default, limits)
    if colon and scheme == "unix":
        return _unix(url, limits)
    if colon and scheme in ("redis", "valkey", "rediss", "valkeys"):
        return _tcp(url, limits)
    raise ConfigurationError(f"{hidden(url)!r} is no URL that Tetrad knows; it takes {SCHEMES}")


def hidden(url: str) -> str:
    """*url* without its password, for messages."""
    head, at, tail = url.rpartition("@")
    if not at:
        return url
    scheme, slashes, credentials = head.partition("://")
    return f"{scheme}{slashes}{credentials.partition(':')[0]}:***@{tail}"


def _embedded(url: str, by_default: bool, limits: dict[str, Any]) -> Settings:
    where, _, query = url.removeprefix("embedded:").partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=False))
    memory = options.pop("memory", None) is not None
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
    directory = None if memory else Path(unquote(where)).expanduser().absolute() if where else default_directory()
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
    parts = urlsplit(url)
    if not parts.path or parts.path == "/":
        raise ConfigurationError(f"{hidden(url)!r} names no socket; write unix:///path/to/server.sock")
    options, bound = _options(url, parts.query, _ANY_SERVER)
    options["path"] = unquote(parts.path)
    _credentials(url, options)
    return Settings(where=f"unix://{parts.path}", kind="unix", options=options, **limits, **bound)


def _tcp(url: str, limits: dict[str, Any]) -> Settings:
    parts = urlsplit(url)
    tls = parts.scheme in ("rediss", "valkeys")
    options, bound = _options(url, parts.query, _ANY_SERVER | _TLS if tls else _ANY_SERVER)
    try:
        options["host"], options["port"] = parts.hostname or "localhost", parts.port or 6379
    except ValueError:
        raise ConfigurationError(f"the port in {hidden(url)!r} must be a number from 1 to 65535") from None
    if path := parts.path.strip("/"):
        if "db" in options or not path.isdecimal():
            raise ConfigurationError(f"the path of {hidden(url)!r} must be one database number, such as /0")
        options["db"] = int(path)
    _credentials(url, options)
    where = f"{parts.scheme}://{options['host']}:{options['port']}"
    return Settings(where=where, kind="tls" if tls else "tcp", options=options, **limits, **bound)


def _credentials(url: str, options: dict[str, Any]) -> None:
    parts = urlsplit(url)
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
            raise ConfigurationError(f"unknown option {name!r} in {hidden(url)!r}; known here: {', '.join(known)}")
        try:
            options[name] = convert(text)
        except ValueError:
            raise ConfigurationError(f"option {name} in {hidden(url)!r} cannot be {text!r}") from None
    bound = {"max_connections": options.pop("max_connections")} if "max_connections" in options else {}
    return options, bound
