"""Fixtures for the tests of the wires."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.proxy import FaultProxy
from tests.servers import Server
from tests.wire.rig import Makers


@pytest.fixture(params=["threads", "asyncio", "uvloop"])
def connect(request: pytest.FixtureRequest) -> Iterator[Makers]:
    """Opens wires: blocking ones, or async ones behind a blocking face. ``connect(url, timeout=, connect_timeout=)``"""
    with Makers(request.param) as makers:
        yield makers


@pytest.fixture(params=["unix", "tcp"])
def proxy(request: pytest.FixtureRequest, server: Server) -> Iterator[FaultProxy]:
    """A fault proxy in front of the shared server, over either kind of socket."""
    with FaultProxy(server.path, tcp=request.param == "tcp") as proxy:
        yield proxy


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server of the test's own, which it may kill."""
    with Server() as server:
        yield server
