"""Real servers for tests: start, stop, kill, pause and question them by process id.

A `Server` listens on a unix socket in a directory of its own and, with ``tcp=True`` or ``tls=True``, on
a free port of 127.0.0.1 too (TLS through a front of our own). Any server option is a keyword::

    with Server(tcp=True, requirepass="secret", maxmemory="5mb") as server:
        Tetrad(server.url("redis"))

It keeps its directory and port over `stop`, `kill` and `start`. Nothing is persisted unless asked for
(``appendonly="yes"``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import hiredis

from tetrad._core.embedded import find_server

T = TypeVar("T")

START_DEADLINE = 15.0


def wait_until(condition: Callable[[], T], deadline: float = 10.0, what: str = "the condition") -> T:
    """The first truthy value of *condition*; fails the test after *deadline* seconds."""
    until = time.monotonic() + deadline
    while True:
        if value := condition():
            return value
        if time.monotonic() > until:
            raise AssertionError(f"{what} was not met within {deadline:g} s")
        time.sleep(0.005)


def alive(pid: int) -> bool:
    """Whether *pid* runs (a zombie that nobody has waited for does not)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def command(sock: socket.socket, *args: object) -> Any:
    """Send one command over a connected socket; raise `hiredis.ReplyError` if the server answers with an error."""
    words: tuple[Any, ...] = tuple(a if isinstance(a, bytes) else str(a).encode() for a in args)
    sock.sendall(hiredis.pack_command(words))
    reader = hiredis.Reader()
    while (reply := reader.gets()) is False:
        data = sock.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        reader.feed(data)
    if isinstance(reply, hiredis.ReplyError):
        raise reply
    return reply


def ask(path: str | Path, *args: object, password: str = "", timeout: float = 5.0) -> Any:
    """One command to the server at the unix socket *path*, over a connection of its own."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout)
        sock.connect(str(path))
        if password:
            command(sock, "AUTH", password)
        return command(sock, *args)


class Server:
    """A private server; see the module's docstring. A context manager that starts and stops it.

    *config* holds server options, underscores for dashes; a sequence gives one option several arguments.
    *binary* is another server program, such as an older Redis.
    """

    def __init__(
        self,
        *,
        tcp: bool = False,
        tls: bool = False,
        binary: str | Path | None = None,
        **config: str | int | Sequence[str],
    ) -> None:
        # Short, because the path of a unix socket may have 107 bytes at most.
        self.directory = Path(tempfile.mkdtemp(prefix="tetrad-", dir="/tmp"))
        self.path = self.directory / "server.sock"
        self.binary = Path(binary) if binary else find_server()
        self.port = free_port() if tcp else 0
        self.password = str(config.get("requirepass", ""))
        self._config = {name.replace("_", "-"): value for name, value in config.items()}
        self._process: subprocess.Popen[bytes] | None = None
        self._front = TlsFront(self.directory, self.path) if tls else None

    @property
    def pid(self) -> int:
        """The server's process id; an `AssertionError` when it was never started."""
        assert self._process is not None
        return self._process.pid

    @property
    def ca(self) -> Path:
        """The certificate that clients of a ``tls=True`` server should trust."""
        return self.directory / "ca.crt"

    def url(self, scheme: str = "unix") -> str:
        """The server's URL for ``unix``, ``redis``, ``valkey``, ``rediss`` or ``valkeys``, password included."""
        credentials = f":{quote(self.password, safe='')}@" if self.password else ""
        if scheme == "unix":
            return f"unix://{credentials}{self.path}"
        if scheme in ("rediss", "valkeys"):
            assert self._front is not None, "start the server with tls=True"
            return f"{scheme}://{credentials}localhost:{self._front.port}?ssl_ca_certs={self.ca}"
        assert self.port, "start the server with tcp=True"
        return f"{scheme}://{credentials}127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start the server and wait until it answers."""
        assert self._process is None or self._process.poll() is not None, "the server runs already"
        arguments: list[str] = []
        for name, value in (self._defaults() | self._config).items():
            arguments.append(f"--{name}")
            arguments.extend([str(value)] if isinstance(value, (str, int)) else value)
        log = self.directory / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(self.binary), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_until(self._answers, START_DEADLINE, "the start of the server")
        return self

    def stop(self) -> None:
        """End the server in good order (SIGTERM: it saves what it is configured to save)."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server with ``kill -9``."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop the server from running at all; connections stay open and get no answer."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        os.kill(self.pid, signal.SIGCONT)

    def cli(self, *args: object) -> Any:
        """One command's reply as hiredis reads it (bytes, int, None, lists); errors raise `hiredis.ReplyError`."""
        return ask(self.path, *args, password=self.password)

    def info(self, section: str) -> dict[str, str]:
        """The fields of one section of INFO."""
        lines = self.cli("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def calls(self, name: str) -> int:
        """How often the server has carried out the command *name* (``"evalsha"``), by INFO commandstats."""
        stats = self.info("commandstats").get(f"cmdstat_{name.lower()}", "calls=0")
        return int(stats.split(",")[0].removeprefix("calls="))

    def close(self) -> None:
        """Kill the server if it runs and remove its directory."""
        if self._process is not None:
            self.kill()
        if self._front is not None:
            self._front.close()
            self._front = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _defaults(self) -> dict[str, str | int | Sequence[str]]:
        return {
            "port": self.port,
            "bind": "127.0.0.1",
            "unixsocket": str(self.path),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "save": "",
            "appendonly": "no",
        }

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the server ended: {(self.directory / 'server.log').read_text()[-2000:]}")
        try:
            return bool(self.cli("PING") == b"PONG")
        except (OSError, hiredis.ReplyError):
            return False

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(how)
            self._process.send_signal(signal.SIGCONT)  # a paused process gets its SIGTERM only once it runs
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise


class TlsFront:
    """A port that speaks TLS and passes everything on to a unix socket: not every server program is built with TLS."""

    def __init__(self, directory: Path, path: Path) -> None:
        import trustme

        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        authority.cert_pem.write_to_path(str(directory / "ca.crt"))
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(self._context)
        self._path = path
        self._transports: set[asyncio.WriteTransport] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Close the port and every connection."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        for transport in self._transports:
            transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(str(self._path))
        except OSError:
            writer.close()  # the server is down: the client sees its connection closed
            return
        await asyncio.gather(self._copy(reader, server_writer), self._copy(server_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._transports.add(writer.transport)
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()  # the other side then ends too, and with it the other direction
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        self._transports.discard(writer.transport)
