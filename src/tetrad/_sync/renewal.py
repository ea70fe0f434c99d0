"""The background thread that renews leases: one per `Tetrad`, only while there are any.

Written by hand beside its async twin: a thread and a condition have other rules than a task.
"""

from __future__ import annotations

import threading

from tetrad._core.drive import run
from tetrad._core.tenure import Book, Tenure
from tetrad._core.wire import Forkable, survive_fork
from tetrad._core.wire_sync import Wire
from tetrad._ops.renewal import keep_renewing


class Renewal(Forkable):
    """Keeps leases alive and notices those that are lost."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._thread: threading.Thread | None
        self.forget()
        survive_fork(self)

    def add(self, tenure: Tenure) -> None:
        """Take charge of a lease."""
        with self._changing:
            sooner = self._book.add(tenure)
            if self._thread is None:
                thread = threading.Thread(target=self._renew, name="tetrad-renewal", daemon=True)
                try:
                    thread.start()
                except BaseException:  # no more threads, or Ctrl-C while this one starts: the lease lapses by itself
                    self._book.remove(tenure)
                    raise
                self._thread = thread
            elif sooner:
                self._bell.set()

    def remove(self, tenure: Tenure) -> None:
        """The lease was given back."""
        self._book.remove(tenure)

    def tenures(self) -> list[Tenure]:
        """The leases held."""
        return self._book.all()

    def stop(self) -> None:
        """End the thread as soon as nothing is held."""
        self._stopped = True
        self._bell.set()

    def forget(self) -> None:
        """In a forked child: it holds nothing, and the thread is not there."""
        for tenure in getattr(self, "_book", Book()).all():
            tenure.disown()
        self._book = Book()
        self._bell = threading.Event()
        self._changing = threading.Lock()
        self._thread = None
        self._stopped = False

    def _renew(self) -> None:
        try:
            while True:
                run(keep_renewing(self._book, self._sleep, self._wire.timeout), self._wire)
                with self._changing:
                    if not len(self._book):  # add() sees no thread from here on
                        self._thread = None
                        return
        except BaseException:
            self._thread = None  # whatever it was: the next lease starts another
            raise

    def _sleep(self, seconds: float) -> None:
        if not self._stopped or len(self._book):
            self._bell.wait(seconds)
        self._bell.clear()
