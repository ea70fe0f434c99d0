"""Fixtures for all tests: one private real server a test process, and names that nobody else uses."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator

import pytest

from tests.servers import Server

# A shell that starts us in the background has SIGINT ignored, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A private server, shared by the tests of this process."""
    with Server() as server:
        yield server


@pytest.fixture
def url(server: Server) -> str:
    return server.url("unix")


@pytest.fixture
def name() -> str:
    """A name for a lock, limiter, store or board of this test alone."""
    return f"test-{uuid.uuid4().hex[:12]}"
