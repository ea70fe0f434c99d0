"""Fixtures for all tests: one private real server a test process, and names that nobody else uses."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.servers import Server


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
