"""The session's flows against scripted answers: what is sent, and what is undone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.flows.playing import Interrupted, Script
from tetrad._core.call import Call
from tetrad._core.codec import encode
from tetrad._ops import session as ops
from tetrad._ops.session_keys import Store
from tetrad._ops.session_state import SessionState, Stored
from tetrad.errors import DataError, ServerRefused, ServerTimeout, ServerUnavailable, SessionGone

STORE = Store("tetrad", "web", 1800, 43200, 1_048_576)


def session(fields: dict[str, Any], user: str | None = None, version: str = "version1") -> SessionState:
    """A session as it was loaded."""
    packed = {name: encode(value, name) for name, value in fields.items()}
    stored = Stored(STORE.mint(user), user, 1_700_000_000_000, b"", version, 1_800_000, packed)
    return SessionState(stored, False, 1000.0)


def raw(fields: dict[str, Any]) -> list[bytes]:
    """Fields as a script answers them."""
    flat = [b"f", b"1", b"v", b"version2version1"]
    for name, value in fields.items():
        flat += [f".{name}".encode(), encode(value, name)]
    return flat


def sent_fields(call: Call[Any]) -> dict[Any, Any]:
    """What a create stores."""
    flat = call.args[6:]
    return dict(zip(flat[::2], flat[1::2], strict=True))


def test_an_unchanged_session_sends_nothing() -> None:
    """Reading is no reason to write."""
    s, script = session({"name": "ada", "cart": [1]}), Script()
    assert s["name"] == "ada"
    assert s["cart"] == [1]

    assert script.play(ops.save(STORE, s)) is False
    assert script.sent == []
    assert not s.modified


def test_save_sends_only_what_has_changed() -> None:
    """One nested change and one removal are what goes over the wire."""
    s, script = session({"name": "ada", "cart": [1], "old": True, "big": "x" * 1000}), Script([1_800_000, b"version1"])
    s["cart"].append(2)
    s["name"] = "ada"
    del s["old"]

    assert s.modified
    assert script.play(ops.save(STORE, s)) is True
    assert script.sent[0].args[1:] == (1, ".cart", encode([1, 2], "cart"), ".old")
    assert not s.modified
    assert script.play(ops.save(STORE, s)) is False


def test_a_failed_save_can_be_repeated() -> None:
    """Nothing counts as saved until the server has said so."""
    s, script = session({}), Script(ServerTimeout("late"), [1_800_000, b"version1"])
    s["a"] = 1
    with pytest.raises(ServerTimeout):
        script.play(ops.save(STORE, s))

    assert s.modified
    assert script.play(ops.save(STORE, s)) is True
    assert script.sent[0].args[2:] == script.sent[1].args[2:]


def test_what_changes_while_a_save_is_on_its_way_stays_to_be_saved() -> None:
    """Only what was sent counts as saved."""
    s, script = session({"cart": [1], "n": 1}), Script([1_800_000, b"version1"])
    s["n"] = 2
    s["cart"].append(2)

    def meanwhile(script: Script) -> None:
        s["n"] = 3
        s["cart"].append(3)

    script.before_reply = meanwhile
    script.play(ops.save(STORE, s))

    assert s._changes().sets == {"n": encode(3, "n"), "cart": encode([1, 2, 3], "cart")}


def test_login_is_two_calls() -> None:
    """The new session first, with everything in it; then the end of the old one, as it was copied."""
    s, script = session({"cart": [1], "n": 1}), Script([5, 1_800_000], 1)
    s["cart"].append(2)
    old = s.id
    script.play(ops.login(STORE, s, "ada"))

    assert script.scripts == ["session_create", "session_kill"]
    assert sent_fields(script.sent[0]) == {".cart": encode([1, 2], "cart"), ".n": encode(1, "n")}
    assert script.sent[1].args[1] == "version1"
    assert (s.user, s.new, s.modified) == ("ada", True, False)
    assert s.id != old
    assert dict(s) == {"cart": [1, 2], "n": 1}


def test_login_carries_over_what_others_saved_meanwhile() -> None:
    """The kill tells what the old session held; our own changes win over it."""
    s = session({"a": 1, "b": 1, "c": 1, "gone": 1})
    assert (s["a"], s["gone"]) == (1, 1)
    s["b"] = "ours"
    script = Script([5, 1_800_000], raw({"a": "theirs", "b": "theirs", "c": 1, "d": "new"}), [1_800_000, b"whatever"])
    script.play(ops.login(STORE, s, "ada"))

    assert script.scripts == ["session_create", "session_kill", "session_save"]
    assert script.sent[2].keys == script.sent[0].keys
    assert dict(s) == {"a": "theirs", "b": "ours", "c": 1, "d": "new"}
    assert not s.modified


def test_login_to_a_session_that_has_ended_leaves_nothing() -> None:
    """A dead session is not brought back through a login."""
    s, script = session({"a": 1}), Script([5, 1_800_000], None, 1)
    old = s.id
    with pytest.raises(SessionGone):
        script.play(ops.login(STORE, s, "ada"))

    assert script.scripts == ["session_create", "session_kill", "session_destroy"]
    assert script.sent[2].keys == script.sent[0].keys
    assert (s.id, s.user) == (old, None)


@pytest.mark.parametrize(
    ("replies", "cleans"),
    [
        ([ServerTimeout("late")], True),
        ([ServerUnavailable("broke")], True),
        ([ServerUnavailable("refused", sent=False)], False),
        ([[5, 1_800_000], ServerUnavailable("refused", sent=False)], True),
        ([[5, 1_800_000], ServerTimeout("late")], True),
        ([ServerRefused("OOM", code="OOM")], True),
    ],
)
def test_a_failed_login_leaves_nothing_new(replies: list[Any], cleans: bool) -> None:
    """What may have been created is destroyed apart from the caller, who gets the error at once."""
    s, script = session({"a": 1}), Script(*replies)
    old = s.id
    with pytest.raises((ServerTimeout, ServerUnavailable, ServerRefused)):
        script.play(ops.login(STORE, s, "ada"))

    assert [call.script.name for call in script.asides] == ["session_destroy"] * cleans
    assert all(call.keys == script.sent[0].keys for call in script.asides)
    assert s.id == old


def test_an_interrupted_login_leaves_nothing_new() -> None:
    """A cancelled caller's new session is destroyed."""
    s, script = session({"a": 1}), Script([5, 1_800_000], Interrupted(), 1)
    with pytest.raises(Interrupted):
        script.play(ops.login(STORE, s, "ada"))

    assert script.scripts == ["session_create", "session_kill", "session_destroy"]
    assert script.sent[2].keys == script.sent[0].keys


def test_after_somebody_elses_save_the_next_login_looks() -> None:
    """A save that was not the next one after ours makes the copy incomplete: no version fits it any more."""
    s, script = session({}), Script([1_800_000, b"version9"], [5, 1_800_000], 1)
    s["a"] = 1
    script.play(ops.save(STORE, s))
    script.play(ops.login(STORE, s, "ada"))

    assert script.sent[2].args[1] == "-"


def test_logout_kills_first() -> None:
    """Whatever fails afterwards, the old session is dead."""
    s, script = session({"a": 1}, "ada"), Script(1, [5, 1_800_000])
    script.play(ops.logout(STORE, s))

    assert script.scripts == ["session_destroy", "session_begin"]
    assert (dict(s), s.user, s.new, s.modified) == ({}, None, True, False)


def test_destroy_is_repeated_after_a_broken_connection() -> None:
    """A logout must not depend on a connection: the session is dead, whichever request did it."""
    script = Script(ServerUnavailable("broke"), 0)

    assert script.play(ops.destroy(STORE.mint(None))) is True
    assert script.scripts == ["session_destroy", "session_destroy"]


def test_destroy_is_not_repeated_when_nothing_was_sent() -> None:
    """The wire has tried a new connection already."""
    script = Script(ServerUnavailable("refused", sent=False))
    with pytest.raises(ServerUnavailable):
        script.play(ops.destroy(STORE.mint(None)))

    assert script.scripts == ["session_destroy"]


def test_destroy_all_goes_on_while_there_are_more() -> None:
    """A thousand at a time, all in all."""
    script = Script([1000, 1], [1000, 1], [7, 0])

    assert script.play(ops.destroy_all(STORE, "ada", None)) == 2007


def test_list_asks_for_pages() -> None:
    """A full page is followed by the next one."""
    place = STORE.mint("ada")
    page = [1000, place.digest.encode(), b"1700000000000", b"", 1000]
    script = Script(page, [0])

    (info,) = script.play(ops.list_sessions(STORE, "ada"))
    assert (info.id, info.user, info.expires_in) == (f"{place.tag}~{place.digest}", "ada", 1.0)
    assert [call.args[1] for call in script.sent] == [0, 1000]


def test_lost_rotations_keep_the_old_id() -> None:
    """Only the call that made the successor knows it."""
    s, script = session({}), Script(0)
    old = s.id

    assert script.play(ops.rotate(STORE, s, 10)) is False
    assert (s.id, s.new) == (old, False)


def test_a_taken_id_is_never_adopted() -> None:
    """A new id that exists is nobody's data to take over."""
    with pytest.raises(DataError, match="taken"):
        Script(None).play(iter(ops.create(STORE, None, None, None)))


@pytest.mark.parametrize(
    "flat",
    [
        [],
        [b"f", b"1"],
        [b"f", b"2", b"c", b"1", b"v", b"x"],
        [b"f", b"1", b"c", b"yesterday", b"v", b"x"],
        [b"f", b"1", b"c", b"1", b"v", b"\xff"],
        [b"f", b"1", b"c", b"1", b"v", b"x", b"u", b"\xff"],
        [b"f", b"1", b"c", b"1", b"v", b"x", b".\xff", b"\x01"],
    ],
)
def test_a_damaged_session_raises_data_error(flat: list[bytes]) -> None:
    """What is around the values is checked when the session is loaded."""
    with pytest.raises(DataError):
        Script([1000, flat]).play(iter(ops.load(STORE.mint(None))))
