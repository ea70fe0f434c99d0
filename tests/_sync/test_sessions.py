# Generated from tests/_async/test_sessions.py by tools/unasync.py: edit that file, then run `make sync`.
"""Sessions on a real server."""

from __future__ import annotations

import datetime
import random
import string
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests._sync.together import eventually, start
from tests.servers import Server
from tetrad import DataError, ServerRefused, SessionGone, SessionTooLarge, Tetrad
from tetrad._core.codec import encode
from tetrad._ops.session_keys import Store


def keys_of(server: Server, name: str) -> list[str]:
    """Every key of the store *name*."""
    return sorted(key.decode() for key in server.cli("KEYS", f"tetrad:session:{{{name}:*"))


def key_of(name: str, session_id: str) -> str:
    """Where the session with this id is kept."""
    place = Store("tetrad", name, 1, 1, 1).find(session_id)
    assert place is not None
    return place.key


def commands(server: Server) -> dict[str, int]:
    """How often the server has carried out each command, those of this function left out."""
    stats = server.info("commandstats")
    counts = {name.removeprefix("cmdstat_"): int(text.split(",")[0][6:]) for name, text in stats.items()}
    return {name: count for name, count in counts.items() if name != "info"}


def since(server: Server, before: dict[str, int]) -> dict[str, int]:
    """What was asked from outside since *before*; commands that scripts call are left out."""
    after = commands(server)
    return {name: n - before.get(name, 0) for name, n in after.items() if name == "evalsha" and n > before.get(name, 0)}


def test_what_was_created_can_be_loaded(t: Tetrad, name: str) -> None:
    """Another handle finds the values by the id, and what is known about the session."""
    store = t.sessions(name, idle=60, absolute=600)
    session = store.create({"theme": "dark", "cart": [1, {"a": 2}]}, user="ada", meta={"agent": "firefox"})
    loaded = store.load(session.id)

    assert loaded is not None
    assert dict(loaded) == dict(session) == {"theme": "dark", "cart": [1, {"a": 2}]}
    assert (loaded.id, loaded.user, loaded.meta) == (session.id, "ada", {"agent": "firefox"})
    assert loaded.created_at == session.created_at
    assert abs(loaded.created_at - datetime.datetime.now(datetime.UTC)) < timedelta(seconds=60)
    assert (session.new, loaded.new) == (True, False)
    assert (session.modified, loaded.modified) == (False, False)
    assert 59 < loaded.expires_in <= 60
    assert 59 < session.expires_in <= 60


def test_all_kinds_of_values_come_back(t: Tetrad, name: str) -> None:
    """JSON-like values and those that JSON does not know keep their types."""
    values: dict[str, Any] = {
        "": None,
        "größe": 1.5,
        "a:b.c": [True, -1, 2**63, "x", b"\x00\xff", {"k": []}],
        "tuple": (1, (2, {3})),
        "money": Decimal("1.10"),
        "when": datetime.datetime(2026, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001  (naive is what is tested)
        "day": datetime.date(2026, 1, 2),
        "x" * 5000: "y" * 50_000,
    }
    session = t.sessions(name).create(values)
    loaded = t.sessions(name).load(session.id)

    assert loaded is not None
    assert dict(loaded) == values
    assert not loaded.modified


def test_changes_of_different_values_both_win(t: Tetrad, name: str) -> None:
    """Two requests at work on one session do not overwrite each other's fields."""
    store = t.sessions(name)
    session = store.create({"a": 1, "b": 1, "gone": 1, "nested": {"x": [1]}})
    one, two = store.load(session.id), store.load(session.id)
    assert one is not None
    assert two is not None
    one["a"] = 2
    one["nested"]["x"].append(2)
    del one["gone"]
    two["b"] = 2
    two["new"] = "two"

    assert one.modified
    assert two.modified
    assert two.save() is True
    assert one.save() is True
    loaded = store.load(session.id)
    assert loaded is not None
    assert dict(loaded) == {"a": 2, "b": 2, "new": "two", "nested": {"x": [1, 2]}}


def test_thousands_of_values(t: Tetrad, name: str) -> None:
    """More fields than a Lua call takes arguments are created, saved and removed."""
    store = t.sessions(name)
    values = {f"field {n}": n for n in range(9_000)}
    session = store.create(values)
    for field in values:
        session[field] = -1
    session.save()
    loaded = store.load(session.id)
    assert loaded is not None
    assert dict(loaded) == dict.fromkeys(values, -1)
    loaded.clear()
    loaded.save()

    empty = store.load(session.id)
    assert empty is not None
    assert dict(empty) == {}


def test_a_session_too_large_is_refused(t: Tetrad, name: str) -> None:
    """Neither created nor saved, and the old state is intact."""
    store = t.sessions(name, max_size=1000)
    session = store.create({"a": "x" * 900})
    session["b"] = "y" * 200

    with pytest.raises(SessionTooLarge) as error:
        session.save()
    assert error.value.size > error.value.max_size == 1000
    with pytest.raises(SessionTooLarge):
        store.create({"a": "x" * 1000})
    loaded = store.load(session.id)
    assert loaded is not None
    assert dict(loaded) == {"a": "x" * 900}
    del session["b"]
    session["a"] = ""
    assert session.save() is True


def test_a_destroyed_session_stays_dead(t: Tetrad, name: str, server: Server) -> None:
    """A request that was at work on it cannot bring it back, by no operation."""
    store = t.sessions(name)
    session = store.create({"a": 1}, user="ada")
    late = store.load(session.id)
    assert late is not None

    assert session.destroy() is True
    assert session.destroy() is False
    assert keys_of(server, name) == []
    late["a"] = 2
    for call in (late.save, late.rotate, lambda: late.login("eve")):
        with pytest.raises(SessionGone):
            call()
    assert keys_of(server, name) == []
    assert store.load(session.id) is None
    assert store.destroy(session.id) is False


def test_login_changes_the_id(t: Tetrad, name: str, server: Server) -> None:
    """The id from before the login is worth nothing afterwards; values and meta are kept, unsaved ones too."""
    store = t.sessions(name)
    session = store.create({"cart": [1]}, meta={"agent": "x"})
    fixed = session.id
    other = store.load(fixed)
    assert other is not None
    session["cart"].append(2)
    session.login("ada")

    assert session.id != fixed
    assert (session.user, session.meta, session.new, session.modified) == ("ada", {"agent": "x"}, True, False)
    assert store.load(fixed) is None
    loaded = store.load(session.id)
    assert loaded is not None
    assert (loaded.user, dict(loaded)) == ("ada", {"cart": [1, 2]})
    assert [info.meta for info in store.list("ada")] == [{"agent": "x"}]
    other["cart"] = []
    with pytest.raises(SessionGone):
        other.save()
    session["more"] = 1
    assert session.save() is True


def test_login_keeps_what_others_saved_meanwhile(t: Tetrad, name: str) -> None:
    """A save that was finished before the login is not lost with the old session."""
    store = t.sessions(name)
    session = store.create({"a": 1, "b": 1})
    other = store.load(session.id)
    assert other is not None
    other["a"] = "theirs"
    other["b"] = "theirs"
    other.save()
    session["b"] = "ours"
    session.login("ada")

    loaded = store.load(session.id)
    assert loaded is not None
    assert dict(loaded) == dict(session) == {"a": "theirs", "b": "ours"}


def test_logging_in_twice(t: Tetrad, name: str) -> None:
    """A second login, by the same or another user, kills the session of the first."""
    store = t.sessions(name)
    session = store.create()
    session.login("ada")
    first = session.id
    session.login("ada")
    second = session.id
    session.login("bob")

    assert store.load(first) is None
    assert store.load(second) is None
    assert store.list("ada") == []
    assert len(store.list("bob")) == 1


def test_logout_leaves_an_empty_session(t: Tetrad, name: str, server: Server) -> None:
    """The id is new, nobody's, and has nothing of what was; the old one is dead."""
    store = t.sessions(name)
    session = store.create({"secret": 1}, user="ada", meta={"agent": "x"})
    late = store.load(session.id)
    assert late is not None
    old = session.id
    session.logout()

    assert session.id != old
    assert (session.user, dict(session), session.meta, session.modified) == (None, {}, {"agent": "x"}, False)
    assert store.load(old) is None
    assert store.list("ada") == []
    late["secret"] = 2
    with pytest.raises(SessionGone):
        late.save()
    session["theme"] = "dark"
    session.save()
    loaded = store.load(session.id)
    assert loaded is not None
    assert (dict(loaded), loaded.user) == ({"theme": "dark"}, None)
    assert len(keys_of(server, name)) == 1


def test_logout_of_a_session_that_has_ended(t: Tetrad, name: str) -> None:
    """It is what was wanted: no error, and a new session to go on with."""
    store = t.sessions(name)
    session = store.create({"a": 1}, user="ada")
    store.destroy_all("ada")
    session.logout()

    loaded = store.load(session.id)
    assert loaded is not None
    assert dict(loaded) == {}


def test_rotation_serves_the_old_id_for_a_while(t: Tetrad, name: str) -> None:
    """During the grace the old id leads to the session, for loads, saves and the end of it; then it is dead."""
    store = t.sessions(name)
    session = store.create({"a": 1}, user="ada")
    old = session.id
    late = store.load(old)
    assert late is not None
    assert session.rotate(grace=0.4) is True

    assert session.id != old
    assert session.new
    late["late"] = True
    assert late.save() is True
    through = store.load(old)
    assert through is not None
    assert (dict(through), through.user, through.id) == ({"a": 1, "late": True}, "ada", old)
    assert through.rotate() is False
    assert through.id == old
    session["b"] = 2
    session.save()
    assert len(store.list("ada")) == 1

    def forgotten() -> bool:
        return store.load(old) is None

    eventually(forgotten, 5)
    with pytest.raises(SessionGone):
        late.rotate()
    loaded = store.load(session.id)
    assert loaded is not None
    assert dict(loaded) == {"a": 1, "late": True, "b": 2}


@pytest.mark.parametrize("none", [0, 0.0, timedelta()])
def test_rotation_without_grace(t: Tetrad, name: str, server: Server, none: float | timedelta) -> None:
    """The old id is dead at once."""
    store = t.sessions(name)
    session = store.create({"a": 1})
    old = session.id

    assert session.rotate(grace=none) is True
    assert store.load(old) is None
    assert len(keys_of(server, name)) == 1


def test_several_rotations_within_the_grace(t: Tetrad, name: str, server: Server) -> None:
    """Every id of the chain leads to the last one, and none survives its end."""
    store = t.sessions(name)
    session = store.create({"a": 1}, user="ada")
    ids = [session.id]
    for _ in range(5):
        assert session.rotate()
        ids.append(session.id)

    assert len(set(ids)) == 6
    for each in ids:
        loaded = store.load(each)
        assert loaded is not None
        assert dict(loaded) == {"a": 1}
    assert store.destroy(ids[0]) is True
    for each in ids:
        assert store.load(each) is None
        assert store.destroy(each) is False
    assert store.list("ada") == []


def test_parallel_rotations_have_one_successor(t: Tetrad, name: str) -> None:
    """Of ten rotations at once one wins; the others go on with the old id."""
    store = t.sessions(name)
    session = store.create({"a": 1}, user="ada")
    handles = [store.load(session.id) for _ in range(10)]
    running = [start(handle.rotate) for handle in handles if handle is not None]
    answers = [each.result() for each in running]

    assert sorted(answers) == [False] * 9 + [True]
    assert len({handle.id for handle in handles if handle is not None}) == 2
    assert len(store.list("ada")) == 1


def test_a_login_is_not_followed(t: Tetrad, name: str) -> None:
    """An id that a rotation still serves is dead after a login: it must not lead into the user's session."""
    store = t.sessions(name)
    session = store.create()
    planted = session.id
    session.rotate(grace=10)
    session.login("ada")

    assert store.load(planted) is None


def test_login_through_an_old_id(t: Tetrad, name: str) -> None:
    """A request that was overtaken by a rotation logs in the session, not a ghost of it."""
    store = t.sessions(name)
    session = store.create({"a": 1})
    late = store.load(session.id)
    assert late is not None
    session.rotate()
    late.login("ada")

    assert store.load(session.id) is None
    loaded = store.load(late.id)
    assert loaded is not None
    assert (loaded.user, dict(loaded)) == ("ada", {"a": 1})


def test_list_and_destroy_all(t: Tetrad, name: str, server: Server) -> None:
    """A user's sessions, newest first, can be ended one by one or together, except one."""
    store = t.sessions(name)
    sessions = [store.create(user="ada", meta={"n": n}) for n in range(5)]
    other = store.create(user="bob")
    infos = store.list("ada")

    assert sorted(info.meta["n"] for info in infos) == [0, 1, 2, 3, 4]
    assert all(info.user == "ada" and 1790 < info.expires_in <= 1800 for info in infos)
    assert [info.created_at for info in infos] == sorted((s.created_at for s in sessions), reverse=True)
    first = next(info for info in infos if info.meta["n"] == 0)
    assert store.load(first.id) is None
    assert store.destroy(first.id) is True
    assert store.load(sessions[0].id) is None
    assert store.destroy_all("ada", keep=sessions[1].id) == 3
    assert [info.meta["n"] for info in store.list("ada")] == [1]
    listed = store.list("ada")[0].id
    assert store.destroy_all("ada", keep=listed) == 0
    assert store.load(sessions[1].id) is not None
    assert store.destroy_all("ada") == 1
    assert store.destroy_all("ada") == 0
    assert store.list("ada") == []
    assert store.list("nobody") == []
    assert store.load(other.id) is not None
    assert len(keys_of(server, name)) == 2


def test_destroy_all_keeps_what_was_rotated(t: Tetrad, name: str) -> None:
    """The caller may still have the id from before the rotation."""
    store = t.sessions(name)
    session = store.create(user="ada")
    old = session.id
    session.rotate()
    store.create(user="ada")

    assert store.destroy_all("ada", keep=old) == 1
    assert store.load(session.id) is not None
    assert store.load(old) is not None


def test_more_sessions_than_one_script_handles(t: Tetrad, name: str, server: Server) -> None:
    """Listing and ending go in batches."""
    store = t.sessions(name)
    sessions = [store.create(user="ada") for _ in range(2100)]

    assert len(store.list("ada")) == 2100
    assert store.destroy_all("ada", keep=sessions[5].id) == 2099
    assert len(store.list("ada")) == 1
    assert store.destroy_all("ada") == 1
    assert keys_of(server, name) == []


def test_idle_sessions_end(t: Tetrad, name: str, server: Server) -> None:
    """Use keeps a session alive beyond its idle time, and without use it ends and leaves nothing, the index too."""
    store = t.sessions(name, idle=0.5, absolute=600)
    session = store.create({"a": 1}, user="ada")
    start_at = session.created_at

    def old_enough() -> bool:
        loaded = store.load(session.id)
        assert loaded is not None
        assert 0.4 < loaded.expires_in <= 0.5
        return datetime.datetime.now(datetime.UTC) - start_at > timedelta(seconds=1.2)

    eventually(old_enough)
    assert len(store.list("ada")) == 1
    eventually(lambda: not keys_of(server, name), 5)
    assert session.expires_in == 0.0
    assert store.load(session.id) is None
    session["a"] = 2
    with pytest.raises(SessionGone):
        session.save()
    assert keys_of(server, name) == []


def test_saving_is_use(t: Tetrad, name: str) -> None:
    """A save starts the idle time again."""
    store = t.sessions(name, idle=0.5, absolute=600)
    session = store.create({"n": 0})
    start_at = session.created_at

    def old_enough() -> bool:
        session["n"] += 1
        return session.save() and datetime.datetime.now(datetime.UTC) - start_at > timedelta(seconds=1)

    eventually(old_enough)
    assert 0.4 < session.expires_in <= 0.5


def test_no_session_outlives_its_absolute_time(t: Tetrad, name: str, server: Server) -> None:
    """However busy it is, saved or rotated."""
    store = t.sessions(name, idle=10, absolute=0.8)
    session = store.create({"n": 0}, user="ada")
    assert session.expires_in <= 0.8
    session.rotate()

    def ended() -> bool:
        session["n"] += 1
        try:
            session.save()
        except SessionGone:
            return True
        assert session.expires_in <= 0.8
        return False

    eventually(ended, 5)
    assert store.load(session.id) is None
    eventually(lambda: not keys_of(server, name), 5)


def test_everything_expires(t: Tetrad, name: str, server: Server) -> None:
    """Whatever was done, no key is without an end."""
    store = t.sessions(name, idle=0.5, absolute=1)
    session = store.create({"a": 1}, user="ada")
    session.rotate()
    session.login("bob")
    session["b"] = 1
    session.save()
    session.rotate()
    session.logout()
    store.create(user="ada").rotate(grace=3600)
    store.destroy_all("bob")

    assert keys_of(server, name) != []
    assert all(server.cli("PTTL", key) > 0 for key in keys_of(server, name))
    eventually(lambda: not keys_of(server, name), 15)


def test_the_index_forgets_what_has_ended(t: Tetrad, name: str, server: Server) -> None:
    """A user who comes back every now and then does not fill the index with dead sessions."""
    short, long = t.sessions(name, idle=0.05), t.sessions(name, idle=600)
    for _ in range(20):
        short.create(user="ada")
    kept = long.create(user="ada")

    def alone() -> bool:
        return len(long.list("ada")) == 1

    eventually(alone)
    long.create(user="ada")
    index = key_of(name, kept.id).rpartition(":")[0] + ":index"
    assert server.cli("ZCARD", index) == 2


def test_each_operation_is_one_command(t: Tetrad, name: str, server: Server) -> None:
    """Login and logout are two; what changes nothing is none."""
    store = t.sessions(name)
    warm = store.create({"a": 1}, user="ada")
    warm.rotate()
    warm.login("ada")
    warm["a"] = 2
    warm.save()
    store.load(warm.id)
    store.list("ada")
    store.destroy_all("ada")
    warm.logout()
    session = store.create({"a": [1]}, user="ada")

    def saved() -> None:
        session["a"].append(1)
        session.save()

    def foreign() -> None:
        store.load("nonsense")
        store.destroy(None)

    operations: list[tuple[Callable[[], Any], int]] = [
        (lambda: store.create(user="bob"), 1),
        (lambda: store.load(session.id), 1),
        (session.save, 0),
        (saved, 1),
        (foreign, 0),
        (session.rotate, 1),
        (lambda: store.list("ada"), 1),
        (lambda: session.login("ada"), 2),
        (session.logout, 2),
        (session.destroy, 1),
        (lambda: store.destroy_all("ada"), 1),
    ]
    for operation, expected in operations:
        before = commands(server)
        operation()
        assert sum(since(server, before).values()) == expected


def test_a_load_soon_after_another_writes_nothing(t: Tetrad, name: str, server: Server) -> None:
    """The idle time is started again in steps, so a busy page does not write at each request."""
    store = t.sessions(name)
    session = store.create({"a": 1}, user="ada")

    def dirty() -> int:
        return int(server.info("persistence")["rdb_changes_since_last_save"])

    before = dirty()
    for _ in range(20):
        assert store.load(session.id) is not None
    assert dirty() == before


def test_only_a_hash_of_the_id_is_stored(t: Tetrad, name: str, server: Server) -> None:
    """Who reads the server's memory cannot act as anybody."""
    session = t.sessions(name).create({"a": 1}, user="ada")
    secret = session.id.partition(".")[2]
    seen = repr([(key, server.cli("DUMP", key)) for key in keys_of(server, name)])

    assert len(keys_of(server, name)) == 2
    assert secret not in seen
    assert secret not in repr(session)
    for key in keys_of(server, name):
        digest = key.rpartition(":")[2]
        assert t.sessions(name).load(f"{session.id.partition('.')[0]}.{digest}") is None


def test_foreign_ids_are_none(t: Tetrad, name: str, server: Server) -> None:
    """Whatever a cookie may contain: None, nothing stored, nobody's data."""
    store = t.sessions(name)
    session = store.create({"a": 1}, user="ada")
    elsewhere = t.sessions(name + "-other").create({"a": 2}, user="ada")
    tag, _, secret = session.id.partition(".")
    rng = random.Random(7)
    letters = string.ascii_letters + string.digits + "-_"
    foreign: list[str | None] = [None, "", ".", tag, secret, f"{tag}.", f".{secret}", f"{tag}..{secret}", "x" * 8192]
    foreign += [session.id + "\n", "\n" + session.id, session.id + "=", session.id * 120, "\0" * 66, "ß" * 66]
    foreign += [f"{tag}.{secret[:-1]}\0", f"{secret}.{tag}", session.id.upper(), session.id.swapcase(), "*" * 66]
    foreign += [f"{{{tag}}}.{secret}", "a" * 22 + "." + "é" * 43, "٣" * 22 + "." + "٣" * 43, "\ud800" * 66]
    foreign += [elsewhere.id, "A" * 22 + "." + "A" * 43]
    for _ in range(50):
        at = rng.randrange(len(session.id))
        flipped = rng.choice(letters.replace(session.id[at], ""))
        foreign.append(session.id[:at] + flipped + session.id[at + 1 :])
    before = keys_of(server, name)

    for each in foreign:
        assert store.load(each) is None, each
        assert store.destroy(each) is False, each
    assert keys_of(server, name) == before
    assert store.load(session.id) is not None
    for wrong in (7, b"x" * 66, [], object()):
        with pytest.raises(TypeError, match="session id"):
            store.load(wrong)  # type: ignore[arg-type]


def test_stores_are_apart(t: Tetrad, name: str, url: str) -> None:
    """Neither another store nor another prefix sees a session."""
    session = t.sessions(name).create({"a": 1}, user="ada")

    assert t.sessions(name + "x").load(session.id) is None
    assert t.sessions(name + "x").list("ada") == []
    with Tetrad(url, prefix="other") as other:
        assert other.sessions(name).load(session.id) is None


def test_bad_arguments_send_nothing(t: Tetrad, name: str, server: Server) -> None:
    """Each error names what was wrong."""
    store = t.sessions(name)
    session = store.create({"a": 1})
    before = commands(server)
    bad: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: store.create([1]), TypeError, "data must be a mapping"),  # type: ignore[arg-type]
        (lambda: store.create({1: 2}), TypeError, "names of session values"),  # type: ignore[dict-item]
        (lambda: store.create({"\ud800": 2}), ValueError, "valid Unicode"),
        (lambda: store.create({"a": {"b": object()}}), TypeError, r"session\['a'\]\['b'\] is of type object"),
        (lambda: store.create(user=""), ValueError, "user"),
        (lambda: store.create(user=7), TypeError, "user"),  # type: ignore[arg-type]
        (lambda: store.create(user="a\nb"), ValueError, "control"),
        (lambda: store.create(meta=[1]), TypeError, "meta"),  # type: ignore[arg-type]
        (lambda: store.create(meta={"x": float("nan")}), ValueError, r"meta\['x'\] is NaN"),
        (lambda: session.login(""), ValueError, "user"),
        (lambda: session.login(None), TypeError, "user"),  # type: ignore[arg-type]
        (lambda: session.rotate(-1), ValueError, "grace"),
        (lambda: session.rotate("x"), TypeError, "grace"),  # type: ignore[arg-type]
        (lambda: session.rotate(False), TypeError, "grace"),
        (lambda: store.list(7), TypeError, "user"),  # type: ignore[arg-type]
        (lambda: store.destroy_all(""), ValueError, "user"),
        (lambda: store.destroy_all("ada", keep="nonsense"), ValueError, "keep"),
    ]

    for call, error, match in bad:
        with pytest.raises(error, match=match):
            call()
    session["n"] = [1, float("nan")]
    with pytest.raises(ValueError, match=r"session\['n'\]\[1\] is NaN"):
        session.save()
    with pytest.raises(TypeError, match="names of session values"):
        session[1] = 2  # type: ignore[index]
    for option in ({"idle": 0}, {"idle": -1}, {"absolute": float("inf")}, {"idle": 0.0001}, {"max_size": 0}):
        with pytest.raises(ValueError, match=next(iter(option))):
            t.sessions(name, **option)  # type: ignore[arg-type]
    for option in ({"idle": "1"}, {"absolute": True}, {"max_size": 1.5}):
        with pytest.raises(TypeError, match=next(iter(option))):
            t.sessions(name, **option)  # type: ignore[arg-type]
    assert since(server, before) == {}


def test_foreign_data_under_our_key(t: Tetrad, name: str, server: Server) -> None:
    """What Tetrad did not write is None or DataError, and is left alone."""
    store = t.sessions(name)
    session = store.create({"a": [1], "b": 2})
    key = key_of(name, session.id)
    server.cli("HSET", key, ".a", b"\xc1damaged")
    loaded = store.load(session.id)
    assert loaded is not None
    assert loaded["b"] == 2
    with pytest.raises(DataError, match="'a'"):
        loaded["a"]
    loaded["a"] = [2]
    loaded.save()
    again = store.load(session.id)
    assert again is not None
    assert dict(again) == {"a": [2], "b": 2}

    server.cli("HSET", key, "f", "99")
    with pytest.raises(DataError, match="format"):
        store.load(session.id)
    server.cli("DEL", key)
    server.cli("HSET", key, "foreign", "x")
    assert store.load(session.id) is None
    session["a"] = 5
    with pytest.raises(SessionGone):
        session.save()
    server.cli("DEL", key)
    server.cli("SET", key, "a string")
    for call in (lambda: store.load(session.id), session.save, lambda: store.destroy(session.id)):
        with pytest.raises(DataError):
            call()
    assert server.cli("GET", key) == b"a string"


def test_repeated_requests_change_nothing(t: Tetrad, name: str, server: Server) -> None:
    """A create, save, kill or rotation that arrives twice answers the same and is done once."""
    from tetrad._ops import session as ops

    wire = t._wire
    store = Store("tetrad", name, 1800, 43200, 1_048_576)
    create = ops.create(store, {"n": 1}, "ada", None)
    stored = wire.send(create)
    place = stored.place
    assert wire.send(create).created_ms == stored.created_ms

    old = ops._save(place, "request1", ops.Changes({"n": encode("first", "n")}, []))
    new = ops._save(place, "request2", ops.Changes({"n": encode("second", "n")}, []))
    first = wire.send(old)
    second = wire.send(new)
    assert (first[1], second[1]) == (stored.version, "request1")
    assert wire.send(old)[1] == first[1]
    assert wire.send(new)[1] == second[1]
    session = t.sessions(name).load(place.id)
    assert session is not None
    assert session["n"] == "second"

    successor = store.mint("ada")
    rotate = ops.Call(ops.ROTATE, (place.key, successor.key, place.index), (successor.digest, 10_000), ops._as_is)
    assert wire.send(rotate) == 1
    assert wire.send(rotate) == 1
    kill = ops.Call(ops.KILL, (place.key, place.index), ("request3", "request1"), ops._as_is)
    held = ops._fields(wire.send(kill))
    assert held == ops._fields(wire.send(kill)) == {"n": encode("second", "n")}
    other = ops.Call(ops.KILL, (place.key, place.index), ("request4", "request1"), ops._as_is)
    assert wire.send(other) is None
    assert t.sessions(name).load(successor.id) is None
    assert t.sessions(name).list("ada") == []
    with pytest.raises(DataError, match="taken"):
        wire.send(ops._create(ops.CREATE, store, successor, {}, "ada", b""))


def test_a_full_server_can_be_logged_out_of(name: str) -> None:
    """Loading, ending and logging out work when memory is full; what grows is refused and changes nothing."""
    with Server(maxmemory_policy="noeviction") as server:
        with Tetrad(server.url()) as t:
            store = t.sessions(name)
            sessions = [store.create({"a": "x" * 1000}, user="ada") for _ in range(4)]
            sessions[0].save()
            store.create().logout()
            store.list("ada")
            server.cli("CONFIG", "SET", "maxmemory", "1")
            full: list[Callable[[], Any]] = [
                lambda: store.create({"a": 1}),
                lambda: sessions[0].login("bob"),
                lambda: sessions[0].rotate(),
            ]

            for call in full:
                with pytest.raises(ServerRefused, match="OOM"):
                    call()
            loaded = store.load(sessions[0].id)
            assert loaded is not None
            loaded["b"] = 1
            with pytest.raises(ServerRefused, match="OOM"):
                loaded.save()
            assert len(store.list("ada")) == 4
            old = sessions[0].id
            sessions[0].logout()
            assert store.load(old) is None
            assert store.load(sessions[0].id) is not None
            assert sessions[1].destroy() is True
            assert store.destroy_all("ada") == 2
