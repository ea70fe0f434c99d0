"""The tools of the repository refuse what they are there to refuse."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import Server
from tools import check_lua, unasync

ROOT = Path(__file__).parent.parent

# ---------------------------------------------------------------- unasync


@pytest.mark.parametrize(
    ("written", "generated"),
    [
        ("async def f() -> int:\n    return await g(1)\n", "def f() -> int:\n    return g(1)\n"),
        ("async with a as b:\n    pass\n", "with a as b:\n    pass\n"),
        ("x = [y async for y in z]\n", "x = [y for y in z]\n"),
        ("class AsyncLock(AsyncBase): ...\n", "class Lock(Base): ...\n"),
        ("class _AsyncInner: ...\n", "class _Inner: ...\n"),
        ("from tetrad._async.lock import AsyncLock\n", "from tetrad._sync.lock import Lock\n"),
        ("x: Callable[[int], Awaitable[dict[str, int]]]\n", "x: Callable[[int], dict[str, int]]\n"),
        ("x: Coroutine[Any, Any, list[int]]\n", "x: list[int]\n"),
        ("x: AsyncIterator[int]\n", "x: Iterator[int]\n"),
        ("assert (await lock.holder()).token\n", "assert lock.holder().token\n"),
        ("assert not (await f(g(1), (2, 3)))\n", "assert not f(g(1), (2, 3))\n"),
        ("f(await g())\n", "f(g())\n"),
        ("x = (await g(), await h())\n", "x = (g(), h())\n"),
        ("x = (await g()) + 1\n", "x = g() + 1\n"),
        ("await t.aclose()\n", "t.close()\n"),
        ("class A:\n    def __aenter__(self): ...\n", "class A:\n    def __enter__(self): ...\n"),
        ("# An ``async with`` of an `AsyncLock` or an `AsyncEnd`.\n", "# A ``with`` of a `Lock` or an `End`.\n"),
        ('">>> async with AsyncTetrad() as t:\\n...     await t"\n', '">>> with Tetrad() as t:\\n...     t"\n'),
        ('print(f"{await x()}")\n', 'print(f"{x()}")\n'),
    ],
)  # fmt: skip
def test_conversion(written: str, generated: str) -> None:
    """Code, annotations, docstrings and f-strings come out as one would have written them."""
    header, _, text = unasync.convert(written, "_async/x.py").partition("\n")

    assert header.startswith("# Generated from _async/x.py by tools/unasync.py")
    assert text == generated


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ("import asyncio\n", "asyncio"),
        ("from asyncio import sleep\n", "asyncio"),
        ("from anyio.abc import TaskGroup\n", "anyio"),
        ("x = inspect.iscoroutine(await_me, asyncio)\n", "asyncio"),
        ("from contextlib import asynccontextmanager\n", "asynccontextmanager"),
        ("def __adel__(self): ...\n", "__adel__"),
        ("x: Awaitable\n", "Awaitable"),
        ("def async_thing(): ...\n", "async_thing"),
        ("x = anext(y)\n", "anext"),
        ("def f(:\n", "does not parse"),
        ("x: Awaitable[int\n", "never closed"),
    ],
)
def test_what_stays_async_is_refused(written: str, left: str) -> None:
    """A module that a rewriting of words cannot make blocking needs a twin by hand."""
    with pytest.raises(unasync.Refused, match=left):
        unasync.convert(written, "_async/x.py")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of all that the generator reads and writes."""
    for package in unasync.PACKAGES:
        for flavour in ("_async", "_sync"):
            kept = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package / flavour, tmp_path / package / flavour, ignore=kept)
    assert unasync.main([], tmp_path) == 0
    return tmp_path


def test_check_compares_whole_files(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An extra line at the end, a changed one, or a missing file: each is named, and nothing is written."""
    assert unasync.main(["--check"], tree) == 0

    longer, changed, missing = (tree / "src/tetrad/_sync" / f"{name}.py" for name in ("lock", "board", "client"))
    longer.write_text(longer.read_text() + "\n")
    changed.write_text(changed.read_text().replace("def ", "def  ", 1))
    missing.unlink()
    before = longer.read_text()

    assert unasync.main(["--check"], tree) == 1
    told = capsys.readouterr().err
    assert all(path.name in told for path in (longer, changed, missing))
    assert longer.read_text() == before
    assert not missing.exists()
    assert unasync.main([], tree) == 0
    assert unasync.main(["--check"], tree) == 0


def test_strangers_are_refused(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in _sync that nothing generates and nobody lists is an error, whatever its kind."""
    (tree / "src/tetrad/_sync/orphan.py").write_text("x = 1\n")
    (tree / "tests/_sync/data.json").write_text("{}\n")

    assert unasync.main(["--check"], tree) == 1
    told = capsys.readouterr().err
    assert "orphan.py" in told
    assert "data.json" in told


def test_twins_have_to_exist(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A listed twin that is gone on either side is an error."""
    (tree / "tests/_async/together.py").unlink()

    assert unasync.main(["--check"], tree) == 1
    assert "together.py" in capsys.readouterr().err


def test_unused_rules_are_refused(
    tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule that nothing needs any more would hide a typing error in one that is needed."""
    monkeypatch.setitem(unasync.WORDS, "no_such_word", "x")
    monkeypatch.setitem(unasync.PHRASES, "no such phrase", "x")

    assert unasync.main(["--check"], tree) == 1
    told = capsys.readouterr().err
    assert "no_such_word" in told
    assert "no such phrase" in told


def test_the_generated_files_are_up_to_date() -> None:
    """What is committed is what the generator writes."""
    assert unasync.main(["--check"]) == 0


# ---------------------------------------------------------------- check_lua

GOOD = """#!lua
-- Count a thing.
-- KEYS[1] counter   ARGV[1] by how much
-- returns the new count
-- replay: never, because it would count twice
local key = KEYS[1]
for i = 1, 2 do
  local t = {by = tonumber(ARGV[1])}
  if t.by > 0 then
    redis.call("INCRBY", key .. ":part", t.by)
  elseif t.by == 0 then
    return redis.call("GET", KEYS[1])
  else
    return -1
  end
end
return 1
"""


def scripts(folder: Path, **files: str) -> list[str]:
    """What the checker says about scripts given as texts; ``include_x`` is an include."""
    (folder / "include").mkdir()
    for name, text in files.items():
        path = f"include/{name.removeprefix('include_')}" if name.startswith("include_") else name
        (folder / f"{path}.lua").write_text(text)
    return check_lua.check(folder)


def test_a_good_script_passes(tmp_path: Path) -> None:
    """No complaint without a cause."""
    assert scripts(tmp_path, limit_hit=GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("#!lua\n", "", "first line"),
        ("#!lua\n", "#!lua flags=allow-stale\n", "first line"),
        ("#!lua\n", "#!lua name=x\n", "first line"),
        ("-- Count a thing.\n", "", "says what the script does"),
        ("KEYS[1] counter   ", "", "KEYS"),
        ("   ARGV[1] by how much", "", "ARGV"),
        ("KEYS[1])\n", "KEYS[2])\n", "KEYS[2] is used and not declared"),
        ("-- returns the new count\n", "", "returns"),
        ("-- replay: never, because it would count twice\n", "", "replay"),
        ("replay: never, because it would count twice", "replay: never", "replay"),
        ("replay: never", "replay: perhaps", "replay"),
        ("#!lua\n", "#!lua flags=no-writes\n", "INCRBY writes"),
        ("return 1\n", "return x\n", "x is neither local"),
        ("local key", "key", "key is neither local"),
        ("return 1\n", "return i\n", "i is neither local"),
        ("return 1\n", "return ARGS[1]\n", "ARGS is neither local"),
        ("return 1\n", "return t.by\n", "t is neither local"),
        ('key .. ":part"', '"counter"', "does not come from KEYS"),
        ('key .. ":part"', "ARGV[1]", "does not come from KEYS"),
        ('key .. ":part"', 'redis.call("GET", key)', "does not come from KEYS"),
        ("local key = KEYS[1]", "local key = ARGV[1]", "does not come from KEYS"),
        ("local key = KEYS[1]", 'local key = redis.call("GET", KEYS[1])', "does not come from KEYS"),
        ('"INCRBY"', '"HSETEX"', "HSETEX is not in COMMANDS"),
        ('"INCRBY"', "ARGV[1]", "not written out"),
        ("return 1\n", "return 1\n" + "local x = 1\n" * 60, "more than 60"),
        ("    return -1\n", "    return -1 +\n", "Error compiling script"),
        ("return 1\n", "return 1\nend\n", "Error compiling script"),
    ],
)
def test_a_bad_script_is_refused(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    """Each rule of the contract has a script that breaks it."""
    assert old in GOOD
    wrong = scripts(tmp_path, limit_hit=GOOD.replace(old, new, 1))

    assert any(complaint in line for line in wrong), wrong


def test_names_start_with_a_family(tmp_path: Path) -> None:
    """A script belongs to a primitive."""
    assert "limits_hit.lua: the name starts with none of" in scripts(tmp_path, limits_hit=GOOD)[0]


def test_only_scripts_belong_here(tmp_path: Path) -> None:
    """Whatever else lies in the folder would be shipped."""
    (tmp_path / "notes.txt").write_text("x")

    assert scripts(tmp_path, limit_hit=GOOD) == ["notes.txt: only scripts and include/ belong here"]


def test_includes_are_spliced_before_they_are_judged(tmp_path: Path) -> None:
    """A helper's function is a name; what it writes counts only where it is called."""
    helper = """
-- Helpers.
local function get(key)
  return redis.call("GET", key)
end

local function put(key)
  redis.call("SET", key, 1)
end
"""
    header = "-- Read.\n-- KEYS[1] key\n-- returns it\n-- replay: safe, because it reads\n-- @include h\n"
    reads = f"#!lua flags=no-writes\n{header}"

    assert scripts(tmp_path, include_h=helper, lock_show=reads + "return get(KEYS[1])\n") == []
    shutil.rmtree(tmp_path / "include")
    wrong = scripts(tmp_path, include_h=helper, lock_show=reads + "put(KEYS[1])\n")
    assert wrong == ["lock_show.lua: SET writes, and the script says no-writes"]


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"limit_hit": GOOD + "-- @include nowhere\n"}, "limit_hit.lua: there is no include/nowhere.lua"),
        ({"limit_hit": GOOD, "include_x": "local x = 1\n"}, "include/x.lua: nobody includes it"),
        ({"limit_hit": GOOD + "-- @include x\n", "include_x": "-- @include x\n"}, "go in a circle"),
        (
            {"limit_hit": GOOD + "-- @include x\n", "include_x": "-- @include y\n", "include_y": "-- @include x\n"},
            "go in a circle",
        ),
    ],
)
def test_bad_includes_are_refused(tmp_path: Path, files: dict[str, str], complaint: str) -> None:
    """An include exists, is used, and does not include itself."""
    assert complaint in "\n".join(scripts(tmp_path, **files))


def test_scripts_that_nobody_loads_are_refused(tmp_path: Path) -> None:
    """A script without a caller is dead."""
    (tmp_path / "lock_take.lua").write_text(GOOD)
    (tmp_path / "lock.py").write_text('TAKE = load("lock_give")\n')

    assert check_lua.unused(tmp_path, tmp_path) == ["lock_take.lua: no module of _ops loads it"]


def test_our_scripts_pass() -> None:
    """What is committed keeps the contract."""
    assert check_lua.main([]) == 0


def test_hashes_are_the_servers(server: Server) -> None:
    """A script's name at the server is the SHA1 that we computed."""
    from tetrad._core.scripts import load

    for path in sorted((ROOT / "src/tetrad/lua").glob("*.lua")):
        script = load(path.stem)

        assert server.cli("SCRIPT", "LOAD", script.text).decode() == script.sha


# ---------------------------------------------------------------- the package


def test_the_wheel_is_complete(tmp_path: Path) -> None:
    """What is installed has the scripts, the marker for type checkers, the licence and the command, and no tests."""
    import zipfile

    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(pip, check=True, timeout=180)
    (wheel,) = tmp_path.glob("tetrad-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    folder = ROOT / "src" / "tetrad"
    wanted = {
        f"tetrad/{path.relative_to(folder).as_posix()}" for path in folder.rglob("*") if path.suffix in (".py", ".lua")
    }

    assert wanted | {"tetrad/py.typed"} <= names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"tetrad"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("entry_points.txt") for name in names)
