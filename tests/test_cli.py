"""The ``tetrad`` command, as a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import tetrad
from tests.servers import alive, ask, wait_until
from tetrad._core.embedded import Embedded, EmbeddedOptions

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no embedded server on Windows")


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers stop soon after their last user."""
    monkeypatch.setenv("TETRAD_EMBEDDED_GRACE", "0.2")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory for one embedded server, which is down afterwards."""
    with tempfile.TemporaryDirectory(prefix="tetrad-", dir="/tmp", ignore_cleanup_errors=True) as parent:
        yield Path(parent, "my data")
        cli("down", Path(parent, "my data"))


def cli(*args: object) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-m", "tetrad", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def status(directory: Path) -> dict[str, object]:
    found = cli("status", directory, "--json")
    answer: dict[str, object] = json.loads(found.stdout)
    assert found.returncode == (0 if answer["running"] else 1)
    return answer


def test_up_status_down(directory: Path) -> None:
    """`up` starts a server that stays without users, `status` describes it, `down` stops it; data stays."""
    up = cli("up", directory)
    assert (up.returncode, up.stderr) == (0, "")
    assert up.stdout.splitlines()[0].endswith(f"; it stays until `tetrad down '{directory}'`")
    quoted = str(directory).replace(" ", "%20")
    assert up.stdout.splitlines()[1:] == [f"  embedded:{quoted}", f"  unix://{quoted}/server.sock"]
    ask(directory / "server.sock", "SET", "key", "value")

    # Longer than the grace, and still there.
    pid = status(directory)["pid"]
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        assert ask(directory / "server.sock", "GET", "key") == b"value"
        time.sleep(0.05)

    text = cli("status", directory)
    assert text.returncode == 0
    for line in (
        rf"directory +{directory}",
        rf"server +(Valkey|Redis) [\d.]+, process {pid}, supervised by process \d+",
        r"uptime +\d+ s",
        rf"users +.+; it stays without users until `tetrad down '{directory}'`",
        r"memory +[\d.]+ MB",
        r"durability +second",
        r"persistence +ok",
    ):
        assert re.search(f"^{line}$", text.stdout, re.MULTILINE), line

    down = cli("down", directory)
    assert (down.returncode, down.stdout, down.stderr) == (0, f"down: {directory}\n", "")
    assert isinstance(pid, int)
    assert not alive(pid)
    assert not (directory / "server.sock").exists()
    assert status(directory) == {"running": False, "directory": str(directory)}

    assert cli("up", f"embedded:{directory}".replace(" ", "%20")).returncode == 0
    assert ask(directory / "server.sock", "GET", "key") == b"value"


def test_status_says_everything_to_programs(directory: Path) -> None:
    """The fields of ``--json``; looking does not make one a user."""
    assert cli("up", directory, "--durability", "snapshot").returncode == 0
    server = Embedded(EmbeddedOptions(directory, "snapshot"))
    server.open()
    try:
        found = status(directory)
    finally:
        server.close()

    assert set(found) == {
        *("running", "directory", "socket", "pid", "supervisor", "version", "uptime", "users", "pinned"),
        *("memory", "durability", "persistence", "unsaved"),
    }
    assert found["users"] in ([os.getpid()], None)
    assert (found["running"], found["pinned"], found["durability"]) == (True, True, "snapshot")
    assert (found["persistence"], found["unsaved"]) == ("ok", 0)


def test_down_says_who_still_uses_it(directory: Path) -> None:
    """`down` stops the server under its users and names them; they bring it back, without the pin."""
    cli("up", directory)
    server = Embedded(EmbeddedOptions(directory))
    server.open()
    try:
        down = cli("down", directory)
        assert (down.returncode, down.stdout) == (0, f"down: {directory}\n")
        assert "still used it; when they next do, they start it again" in down.stderr
        if sys.platform == "linux":
            assert down.stderr.startswith(f"1 process ({os.getpid()})")
        assert not status(directory)["running"]
        server.open()
        assert status(directory)["pinned"] is False
    finally:
        server.close()

    wait_until(lambda: not status(directory)["running"], 20.0, "its stop after the last user")


def test_up_of_another_durability_warns(directory: Path) -> None:
    """The running server keeps its durability, and `up` says so."""
    cli("up", directory, "--durability", "none")
    up = cli("up", directory, "--durability", "always")

    assert up.returncode == 0
    assert "runs with durability none" in up.stderr
    assert "durability none" in up.stdout
    assert status(directory)["persistence"] == "off"


def test_not_running_is_exit_code_1(directory: Path) -> None:
    """`down` and `status` of what does not run say so in one line, and make nothing."""
    for command in ("down", "status"):
        answer = cli(command, directory)
        assert (answer.returncode, answer.stdout) == (1, "")
        assert answer.stderr == f"not running: {directory}\n"
    assert not directory.exists()


def test_failures_are_one_line(directory: Path) -> None:
    """An error is its message, without a traceback, and exit code 1."""
    answer = cli("up", "/dev/null")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == "tetrad: /dev/null cannot hold the embedded server: it is, or is below, a file\n"

    answer = cli("up", "embedded:?memory")
    assert answer.returncode == 1
    assert re.fullmatch(r"tetrad: 'embedded:\?memory' names no directory.*\n", answer.stderr)

    answer = cli("up", directory / ("x" * 100))
    assert answer.returncode == 1
    assert re.fullmatch(r"tetrad: the socket path .* choose a directory with a shorter path\n", answer.stderr)


@pytest.mark.parametrize("text", ["", "redis://:secret@localhost:6379", "unix:///run/valkey.sock"])
@pytest.mark.parametrize("command", ["up", "status", "down"])
def test_what_is_no_directory(command: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL, or nothing because a variable was unset, puts no server into the working directory."""
    monkeypatch.chdir(tmp_path)
    answer = cli(command, text)

    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith("tetrad: DIR must be a directory or embedded:DIR, got ")
    assert "secret" not in answer.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments", [[], ["begin"], ["up", "a", "b"], ["up", "--durability", "some"], ["status", "--yaml"]]
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    """Wrong usage shows the usage."""
    answer = cli(*arguments)

    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith("usage: tetrad ")


def test_version() -> None:
    """``--version`` is the package's."""
    answer = cli("--version")

    assert (answer.returncode, answer.stdout) == (0, f"tetrad {tetrad.__version__}\n")
