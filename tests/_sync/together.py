"""Things at once, and waiting for them; written by hand beside tests/_async/together.py."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any


class Running:
    """A call that runs beside the test."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as exc:
            self._error = exc

    def result(self, timeout: float = 10.0) -> Any:
        """What the call returned; raises what it raised."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError(f"still running after {timeout:g} s")
        if self._error is not None:
            raise self._error
        return self._value

    def done(self) -> bool:
        return not self._thread.is_alive()


def start(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Running:
    """Begin ``function(*args, **kwargs)`` in a thread."""
    return Running(lambda: function(*args, **kwargs))


def eventually(condition: Callable[[], Any], timeout: float = 10.0) -> Any:
    """Ask until *condition* is true; fails the test after *timeout* seconds."""
    until = time.monotonic() + timeout
    while True:
        if answer := condition():
            return answer
        if time.monotonic() > until:
            raise AssertionError(f"not true within {timeout:g} s")
        time.sleep(0.002)
