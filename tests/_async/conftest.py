"""The async twin's fixtures; tests/_sync/conftest.py has the same ones, blocking."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tetrad import AsyncTetrad


@pytest.fixture
async def t(url: str) -> AsyncIterator[AsyncTetrad]:
    async with AsyncTetrad(url) as t:
        yield t
