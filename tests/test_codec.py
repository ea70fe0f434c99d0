"""The codec: what goes in comes out, and what cannot is refused by name."""

from __future__ import annotations

import datetime
import enum
import random
from collections import OrderedDict, namedtuple
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tetrad._core.codec import MAX_DEPTH, decode, encode
from tetrad.errors import DataError

texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | texts
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.datetimes()
    | st.datetimes(timezones=st.just(datetime.timezone(datetime.timedelta(hours=5, minutes=45))))
    | st.dates()
    | st.times()
    | st.timedeltas()
)
hashables = st.recursive(scalars, lambda inner: st.tuples(inner) | st.frozensets(inner, max_size=3), max_leaves=5)
keys = texts | st.binary() | st.integers(-(2**63), 2**64 - 1)
values = st.recursive(
    hashables,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.sets(hashables, max_size=4)
    ),
    max_leaves=12,
)


def types(value: Any) -> Any:
    """The types of *value* and of everything in it."""
    if isinstance(value, dict):
        return dict, [(type(key), types(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [types(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(repr(types(item)) for item in value)
    return type(value)


@given(values)
def test_values_come_back_as_they_were(value: Any) -> None:
    """Equal, and of the same types all the way down; encoded again, the bytes are the same."""
    packed = encode(value, "value")
    back = decode(packed)

    assert back == value
    assert types(back) == types(value)
    assert encode(back, "value") == packed


@given(st.sets(texts, min_size=2), st.randoms())
def test_sets_have_the_same_bytes_in_any_order(value: set[str], rng: random.Random) -> None:
    """A change is found by comparing bytes, so the order of a set must not be one."""
    shuffled = list(value)
    rng.shuffle(shuffled)

    assert encode(set(shuffled), "value") == encode(value, "value")


@given(st.binary() | values.map(lambda value: encode(value, "value")), st.integers(0, 200), st.integers(0, 255))
def test_damaged_bytes_are_a_value_or_a_data_error(packed: bytes, at: int, byte: int) -> None:
    """Whatever the server hands back, decoding ends in a value or in DataError."""
    damaged = packed[:at] + bytes([byte]) + packed[at + 1 :]
    for data in (damaged, packed[:at]):
        try:
            decode(data)
        except DataError as exc:
            assert "damaged or was not written by Tetrad" in str(exc)


class Colour(enum.IntEnum):
    RED = 1


class Name(str):
    __slots__ = ()


Point = namedtuple("Point", "x y")
cyclic: list[Any] = []
cyclic.append(cyclic)


@pytest.mark.parametrize(
    ("value", "error", "where"),
    [
        (float("nan"), ValueError, r"^v is NaN"),
        ({"a": [1.0, float("nan")]}, ValueError, r"^v\['a'\]\[1\] is NaN"),
        ([Decimal("nan")], ValueError, r"^v\[0\] is NaN"),
        ({float("nan")}, ValueError, r"is NaN"),
        (2**64, ValueError, r"^v is an integer of 65 bits"),
        ({"n": -(2**63) - 1}, ValueError, r"^v\['n'\] is an integer of 64 bits"),
        ([10**5000], ValueError, r"^v\[0\] is an integer of 16610 bits"),
        ({2**64: 1}, ValueError, r"^the key 18446744073709551616 of v is an integer"),
        ("\ud800", ValueError, r"^v is .* not valid Unicode"),
        ({"\ud800": 1}, ValueError, r"^the key .* of v is .* not valid Unicode"),
        (object(), TypeError, r"^v is of type object"),
        ({"a": {"b": [complex(1)]}}, TypeError, r"^v\['a'\]\['b'\]\[0\] is of type complex"),
        (bytearray(b"x"), TypeError, r"^v is of type bytearray"),
        ([memoryview(b"x")], TypeError, r"^v\[0\] is of type memoryview"),
        ([Colour.RED], TypeError, r"^v\[0\] is of type Colour"),
        (Name("ada"), TypeError, r"^v is of type Name"),
        (OrderedDict(a=1), TypeError, r"^v is of type OrderedDict"),
        (Point(1, 2), TypeError, r"^v is of type Point"),
        (msgspec.msgpack.Ext(1, b""), TypeError, r"^v is of type Ext"),
        ({(1, 2): 3}, TypeError, r"^v has the key \(1, 2\)"),
        ({True: 3}, TypeError, r"^v has the key True"),
        ({"c": cyclic}, ValueError, r"^v.* nested deeper"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(value: Any, error: type[Exception], where: str) -> None:
    """The error names the place of the value that is in the way."""
    with pytest.raises(error, match=where):
        encode(value, "v")


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {"a": v}])
def test_nesting_has_a_limit(wrap: Any) -> None:
    """What is accepted can be read back, and what is deeper is refused."""
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = wrap(value)

    assert decode(encode(value, "v")) == value
    with pytest.raises(ValueError, match="nested deeper"):
        encode(wrap(value), "v")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x91" * 100_000,
        b"\xc1",
        b"\x01\x02",
        msgspec.msgpack.encode(msgspec.msgpack.Ext(99, b"")),
        msgspec.msgpack.encode(msgspec.msgpack.Ext(5, b"short")),
        msgspec.msgpack.encode(msgspec.msgpack.Ext(4, b"1.2.3")),
        msgspec.msgpack.encode(msgspec.msgpack.Ext(6, b"yesterday")),
        msgspec.msgpack.encode(msgspec.msgpack.Ext(2, b"\x91\x80")),
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    ],
)
def test_foreign_bytes_raise_data_error(data: bytes) -> None:
    """Truncated, unknown, malformed or pickled: DataError, and nothing is run."""
    with pytest.raises(DataError):
        decode(data)


def test_markup_keeps_its_type() -> None:
    """HTML-safe strings stay safe, so that a template does not escape them twice."""
    markupsafe = pytest.importorskip("markupsafe")
    value = [markupsafe.Markup("<b>hi</b>"), UUID(int=7)]

    back = decode(encode(value, "v"))

    assert back == value
    assert type(back[0]) is markupsafe.Markup
