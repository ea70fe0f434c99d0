"""The blocking twin's fixtures; written by hand beside tests/_async/conftest.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tetrad import Tetrad


@pytest.fixture
def t(url: str) -> Iterator[Tetrad]:
    with Tetrad(url) as t:
        yield t
