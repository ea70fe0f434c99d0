"""URLs and options: what is understood, what is refused, and that no password is ever repeated."""

from __future__ import annotations

import pickle
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tetrad._core.settings import hidden, parse, seconds_or_zero
from tetrad.errors import ConfigurationError


@pytest.mark.parametrize(
    ("url", "kind", "options"),
    [
        ("redis://", "tcp", {"host": "localhost", "port": 6379}),
        ("redis://example.org", "tcp", {"host": "example.org", "port": 6379}),
        ("valkey://example.org:7000/3", "tcp", {"host": "example.org", "port": 7000, "db": 3}),
        ("redis://ann:p%40ss%2F@h", "tcp", {"host": "h", "port": 6379, "username": "ann", "password": "p@ss/"}),
        ("redis://:pw@[::1]:6380", "tcp", {"host": "::1", "port": 6380, "password": "pw"}),
        ("redis://h?db=2&client_name=web", "tcp", {"host": "h", "port": 6379, "db": 2, "client_name": "web"}),
        ("rediss://h", "tls", {"host": "h", "port": 6379}),
        (
            "valkeys://h?ssl_ca_certs=/a@b.pem&ssl_check_hostname=no&ssl_cert_reqs=none",
            "tls",
            {
                "host": "h",
                "port": 6379,
                "ssl_ca_certs": "/a@b.pem",
                "ssl_check_hostname": False,
                "ssl_cert_reqs": "none",
            },
        ),
        ("unix:///run/valkey.sock", "unix", {"path": "/run/valkey.sock"}),
        (
            "unix://ann:pw@/run/v.sock?db=1",
            "unix",
            {"path": "/run/v.sock", "username": "ann", "password": "pw", "db": 1},
        ),
        ("unix:///run/a%20b%23.sock", "unix", {"path": "/run/a b#.sock"}),
    ],
)
def test_good_urls(url: str, kind: str, options: dict[str, object]) -> None:
    """Every part of a URL arrives where it belongs."""
    settings = parse(url)

    assert settings.kind == kind
    assert settings.options == options


def test_our_own_options() -> None:
    """``max_connections`` is ours, and timeouts come from the arguments."""
    settings = parse("redis://h?max_connections=7", timeout=3, connect_timeout=0.5)

    assert settings.max_connections == 7
    assert (settings.timeout, settings.connect_timeout) == (3.0, 0.5)
    assert "max_connections" not in settings.options


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("", "''"),
        ("localhost:6379", "localhost:6379"),
        ("http://h", "http://h"),
        ("redis:6379", "redis:6379"),
        ("redis://h:port", "h:port"),
        ("redis://h:0", "h:0"),
        ("redis://h:65536", "65536"),
        ("redis://h:-1", "-1"),
        ("redis://h/x", "h/x"),
        ("redis://h/-1", "h/-1"),
        ("redis://h/1/2", "h/1/2"),
        ("redis://h/1?db=2", "h/1"),
        ("redis://h/٣", "h/٣"),
        ("redis://[::1", "[::1"),
        ("redis://my host", "my host"),
        ("redis://a..b", "a..b"),
        ("redis://" + "a" * 70, "aaa"),
        ("redis://h\n", "h"),
        ("redis://h#1", "h#1"),
        ("redis://h?db=1&db=2", "db"),
        ("redis://h?db=-1", "'-1'"),
        ("redis://h?db=", "db"),
        ("redis://h?db=1_0", "1_0"),
        ("redis://h?max_connections=0", "'0'"),
        ("redis://h?client_name=two%20words", "two words"),
        ("redis://h?client_name=", "client_name"),
        ("redis://h?socket_timeout=1", "socket_timeout"),
        ("redis://h?ssl_ca_certs=/x", "ssl_ca_certs"),
        ("rediss://h?ssl_ca_certs=", "ssl_ca_certs"),
        ("rediss://h?ssl_cert_reqs=maybe", "maybe"),
        ("rediss://h?ssl_check_hostname=maybe", "maybe"),
        ("unix://", "unix://"),
        ("unix:///", "unix:///"),
        ("unix:relative.sock", "relative.sock"),
        ("unix://tmp/x.sock", "tmp/x.sock"),
        ("unix:///a#b", "a#b"),
        ("unix:///" + "x" * 200, "xxx"),
        ("unix:///a%00b", "a\\\\x00b"),
        ("embedded:?durability=never", "never"),
        ("embedded:?memory=perhaps", "perhaps"),
        ("embedded:dir?memory", "dir"),
        ("embedded:?port=1", "port"),
        ("embedded:a%00b", "a%00b"),
        ("embedded:~nobody-of-this-name/x", "nobody-of-this-name"),
    ],
)
def test_bad_urls_are_refused_by_name(url: str, named: str) -> None:
    """A URL that cannot work is a `ConfigurationError`, also a `ValueError`, that names what is wrong with it."""
    with pytest.raises(ConfigurationError) as caught:
        parse(url)

    assert isinstance(caught.value, ValueError)
    assert named.replace("\\\\", "\\") in str(caught.value)


@pytest.mark.parametrize("url", [b"redis://:hunter2@h", 6379, True, Path("/run/x.sock"), ["redis://h"]])
def test_urls_of_other_types(url: object) -> None:
    """A URL is a str; anything else is a `TypeError` that does not repeat bytes."""
    with pytest.raises(TypeError, match="url must be a str") as caught:
        parse(url)  # type: ignore[arg-type]

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 1e11, 10**400])
def test_bad_timeouts(value: float) -> None:
    """A timeout is positive and finite."""
    with pytest.raises(ValueError, match="timeout must be"):
        parse("redis://", timeout=value)
    with pytest.raises(ValueError, match="connect_timeout must be"):
        parse("redis://", connect_timeout=value)


@pytest.mark.parametrize("value", [None, True, "5", 5j])
def test_timeouts_of_other_types(value: object) -> None:
    """A timeout is a number or a timedelta; a bool is not a number."""
    with pytest.raises(TypeError, match="timeout must be"):
        parse("redis://", timeout=value)


@pytest.mark.parametrize("value", [0, 0.0, timedelta()])
def test_durations_that_may_be_zero(value: float | timedelta) -> None:
    """0 of any kind is allowed where it means something, and an error says so; False is still no number."""
    assert seconds_or_zero(value, "grace") == 0.0
    assert seconds_or_zero(1.5, "grace") == 1.5
    with pytest.raises(ValueError, match=r"^grace, unless 0, must be more than 0 and less than 1e10 seconds, got -1$"):
        seconds_or_zero(-1, "grace")
    with pytest.raises(TypeError, match="grace"):
        seconds_or_zero(False, "grace")


def test_url_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No URL means ``$TETRAD_URL``."""
    monkeypatch.setenv("TETRAD_URL", "redis://from-the-environment")

    assert parse(None).options["host"] == "from-the-environment"


def test_embedded_server_can_be_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """``TETRAD_EMBEDDED=never`` turns the default into an error that says what to do."""
    monkeypatch.delenv("TETRAD_URL", raising=False)
    monkeypatch.setenv("TETRAD_EMBEDDED", "never")

    with pytest.raises(ConfigurationError, match="TETRAD_URL"):
        parse(None)


SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}@h:port",
        f"redis://:{SECRET}@h?nonsense=1",
        f"redis://ann:{SECRET}@h/x",
        f"redis://ann:{SECRET}@h:0",
        f"redis://ann:x@{SECRET}@h:0",
        f"redis://ann:pa/{SECRET}@h",
        f"redis://ann:pa?{SECRET}@h",
        f"redis://ann:1?{SECRET}@h",
        f"redis://ann:1?{SECRET}@h?x=y",
        f"redis://ann:pa#{SECRET}@h",
        f"redis://ann:1#{SECRET}@h",
        f"redis://ann:[{SECRET}@h",
        f"redis://ann:\u2100{SECRET}@h",
        f"redis://ann:\n{SECRET}@h",
        f"redis://:{SECRET}",
        f"redis://h?password={SECRET}",
        f"rediss://h?ssl_password={SECRET}&ssl_check_hostname=maybe",
        f"rediss://h?ssl_password={SECRET}&nonsense=1",
        f"http://ann:{SECRET}@h",
        f"unix://ann:{SECRET}@",
        f"unix://:{SECRET}@host/path.sock",
        f"unix://:{SECRET}/path.sock",
        f"ann:{SECRET}@h",
    ],
)
def test_no_message_repeats_a_password(url: str) -> None:
    """However a URL is mistaken, the error does not show its password."""
    with pytest.raises(ConfigurationError) as caught:
        parse(url)

    assert SECRET not in str(caught.value) + repr(caught.value)
    assert SECRET.encode() not in pickle.dumps(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "url", [f"redis://ann:{SECRET}@h", f"unix://:{SECRET}@/s", f"rediss://h?ssl_password={SECRET}"]
)
def test_no_repr_shows_a_password(url: str) -> None:
    """Settings may be logged."""
    assert SECRET not in repr(parse(url))
    assert SECRET not in hidden(url)


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(["redis://", "rediss://", "unix://", "valkey://ann:", "embedded:", ""]),
)
def test_whatever_is_written(text: str, scheme: str) -> None:
    """Any text is understood or refused with our own error, never another."""
    try:
        parse(scheme + text)
    except ConfigurationError:
        pass


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), st.sampled_from(["h", "h:x", "h?y=1"]))
def test_any_password_stays_secret(secret: str, rest: str) -> None:
    """Any password that is percent-encoded arrives unchanged or, if the rest is wrong, is not shown."""
    secret = "hunter" + secret
    encoded = quote(secret, safe="")
    if rest == "h":
        assert parse(f"redis://u:{encoded}@{rest}").options["password"] == secret
        return
    with pytest.raises(ConfigurationError) as caught:
        parse(f"redis://u:{encoded}@{rest}")
    assert encoded not in str(caught.value)
