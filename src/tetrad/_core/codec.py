"""Python values as bytes and back: msgpack, with extension types for what it does not know.

Rule of this module: what comes back equals what went in and has the same type, or `encode` raises.
Plain values (None, bool, int, float, str, bytes, and lists and dicts of them) are checked by their exact
types and handed to msgspec as they are; tuples, sets, decimals, UUIDs, dates and HTML-safe strings
become msgpack extension types. Nothing that is decoded can run code: there is no pickle and no class name.

The bytes are canonical: equal values that were built in the same order have equal bytes (sets in any
order), so a change can be detected by comparing them.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from importlib import import_module
from math import isnan
from operator import ne
from typing import Any
from uuid import UUID

import msgspec

from tetrad.errors import DataError

MAX_DEPTH = 100

KNOWN = (
    "None, bool, int, float, str, bytes, list, tuple, dict, set, frozenset, Decimal, UUID, "
    "datetime, date, time and timedelta"
)

_EXACT = frozenset({type(None), bool, int, str, bytes})  # as they are, always
_FLAT = _EXACT | {float}
_KEYS = frozenset({str, int, bytes})
_STR = frozenset({str})

_pack = msgspec.msgpack.Encoder().encode
_Ext = msgspec.msgpack.Ext


def encode(value: Any, path: str) -> bytes:
    """The bytes of *value*; *path* is what messages call it.

    Raises `ValueError` for NaN, an integer beyond 64 bits, text that is no Unicode or a nesting deeper than
    100, `TypeError` for other types (and for subclasses, whose type would be lost), and names the place.

    >>> decode(encode({"seen": {1, 2}, "at": (3, 4)}, "value"))
    {'seen': {1, 2}, 'at': (3, 4)}
    >>> encode({"cart": [1, float("nan")]}, "value")
    Traceback (most recent call last):
    ValueError: value['cart'][1] is NaN, which cannot be stored
    """
    if _is_plain(value, MAX_DEPTH):
        try:
            return _pack(value)
        except (OverflowError, UnicodeEncodeError, RecursionError):
            pass  # the walk below says where
    try:
        return _pack(_tagged(value, path, MAX_DEPTH))
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply to be stored") from None


def decode(data: bytes) -> Any:
    """The value of *data*; raises `DataError` if `encode` did not write it."""
    try:
        return _unpack(data)
    except Exception as exc:  # whatever damaged bytes provoke in the constructors of extension types
        raise DataError(f"a stored value is damaged or was not written by Tetrad: {exc}") from exc


def _is_plain(value: Any, depth: int) -> bool:
    """Whether msgpack keeps *value* as it is. Judges a container by its items' types at once: it runs for each save."""
    kind = type(value)
    if kind in _EXACT:
        return True
    if kind is float:
        return not isnan(value)
    if depth == 0:
        return False
    if kind is list:
        items = value
    elif kind is dict:
        if not _STR.issuperset(map(type, value)) and not _KEYS.issuperset(map(type, value)):
            return False
        items = value.values()
    else:
        return False
    if _EXACT.issuperset(map(type, items)):
        return True
    if _FLAT.issuperset(map(type, items)):
        return not any(map(ne, items, items))  # only NaN differs from itself
    return all(type(item) in _EXACT or _is_plain(item, depth - 1) for item in items)


def _tagged(value: Any, path: str, depth: int) -> Any:
    """*value* with extension types in place of what msgpack does not know; raises where nothing fits."""
    kind = type(value)
    if kind is int:
        if not -(2**63) <= value < 2**64:
            raise ValueError(f"{path} is an integer of {value.bit_length()} bits, more than the 64 that can be stored")
        return value
    if kind is str:
        return _text(value, path)
    if kind in _EXACT:
        return value
    if kind is float:
        if isnan(value):
            raise ValueError(f"{path} is NaN, which cannot be stored")
        return value
    if depth == 0:
        raise ValueError(f"{path[:200]}... is nested deeper than {MAX_DEPTH} (or contains itself)")
    if kind is list or kind is tuple:
        items = [_tagged(item, f"{path}[{at}]", depth - 1) for at, item in enumerate(value)]
        return items if kind is list else _Ext(_TUPLE, _pack(items))
    if kind is dict:
        return {_key(key, path): _tagged(item, f"{path}[{key!r:.50}]", depth - 1) for key, item in value.items()}
    if kind is set or kind is frozenset:
        packed = sorted(_pack(_tagged(item, f"{path}{{{item!r:.50}}}", depth - 1)) for item in value)
        return _Ext(_SET if kind is set else _FROZENSET, _pack([msgspec.Raw(item) for item in packed]))
    return _scalar(value, kind, path)


def _scalar(value: Any, kind: type, path: str) -> Any:
    if kind is datetime.datetime or kind is datetime.date or kind is datetime.time:
        return _Ext(_ISO[kind], value.isoformat().encode())
    if kind is datetime.timedelta:
        return _Ext(_TIMEDELTA, _pack([value.days, value.seconds, value.microseconds]))
    if kind is UUID:
        return _Ext(_UUID, value.bytes)
    if kind is Decimal:
        if value.is_nan():
            raise ValueError(f"{path} is NaN, which cannot be stored")
        return _Ext(_DECIMAL, str(value).encode())
    if kind.__name__ == "Markup" and kind.__module__.partition(".")[0] == "markupsafe":
        return _Ext(_MARKUP, str.encode(_text(value, path)))
    raise TypeError(f"{path} is of type {kind.__qualname__}, which cannot be stored; what can is {KNOWN}")


def _key(key: Any, path: str) -> Any:
    if type(key) not in _KEYS:
        raise TypeError(f"{path} has the key {key!r:.80}; keys must be str, int or bytes, not {type(key).__qualname__}")
    return _tagged(key, f"the key {key!r:.50} of {path}", 1)


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{path} is {value!r:.50}, which is not valid Unicode (a lone surrogate)") from None
    return value


# The extension types. These numbers are stored: never reuse one.
_TUPLE, _SET, _FROZENSET, _DECIMAL, _UUID, _DATETIME, _DATE, _TIME, _TIMEDELTA, _MARKUP = range(1, 11)
_ISO = {datetime.datetime: _DATETIME, datetime.date: _DATE, datetime.time: _TIME}


def _timedelta(data: memoryview) -> datetime.timedelta:
    days, seconds, microseconds = _unpack_list(data)
    return datetime.timedelta(days, seconds, microseconds)


def _markup(data: memoryview) -> Any:
    """HTML-safe text; plain text where markupsafe is not installed, which escapes it once more at worst."""
    text = str(data, "utf-8")
    try:
        return import_module("markupsafe").Markup(text)
    except ImportError:
        return text


def _extension(code: int, data: memoryview) -> Any:
    build = _BUILDERS.get(code)
    if build is None:
        raise ValueError(f"unknown extension type {code}")
    return build(data)


_unpack = msgspec.msgpack.Decoder(ext_hook=_extension).decode
_unpack_list = msgspec.msgpack.Decoder(list[Any], ext_hook=_extension).decode

_BUILDERS: dict[int, Callable[[memoryview], Any]] = {
    _TUPLE: lambda data: tuple(_unpack_list(data)),
    _SET: lambda data: set(_unpack_list(data)),
    _FROZENSET: lambda data: frozenset(_unpack_list(data)),
    _DECIMAL: lambda data: Decimal(str(data, "ascii")),
    _UUID: lambda data: UUID(bytes=bytes(data)),
    _DATETIME: lambda data: datetime.datetime.fromisoformat(str(data, "ascii")),
    _DATE: lambda data: datetime.date.fromisoformat(str(data, "ascii")),
    _TIME: lambda data: datetime.time.fromisoformat(str(data, "ascii")),
    _TIMEDELTA: _timedelta,
    _MARKUP: _markup,
}
