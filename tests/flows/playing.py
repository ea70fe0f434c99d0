"""Play a flow against scripted outcomes: no server, no clock, no waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tetrad._core.call import Aside, Call, Flow, Interrupted, Pause, Wake


class Script:
    """What the world answers to a flow, and what the flow asked of it.

    *replies* are the raw replies to its calls in order; an exception among them is thrown into the flow. *messages* are
    the outcomes of its waits for a push: a message, ``None`` (time ran out: the clock moves) or an exception.
    """

    def __init__(self, *replies: Any, messages: tuple[Any, ...] = ()) -> None:
        self.replies = list(replies)
        self.messages = list(messages)
        self.now = 1000.0
        self.sent: list[Call[Any]] = []
        self.waits: list[Wake] = []
        self.asides: list[Call[Any]] = []
        self.asked: list[tuple[Any, ...]] = []
        self.before_reply: Callable[[Script], None] = lambda script: None

    @property
    def scripts(self) -> list[str]:
        """The names of the scripts that were called."""
        return [call.script.name for call in self.sent]

    def play(self, flow: Flow[Any]) -> Any:
        """Run *flow* to its end; its result."""
        step: Any = flow.send
        value: Any = None
        while True:
            try:
                effect = step(value)
            except StopIteration as done:
                return done.value
            step = flow.send
            value = self._answer(effect)
            if isinstance(value, Exception):
                step = flow.throw

    def _answer(self, effect: Any) -> Any:
        if isinstance(effect, Pause):
            self.now += effect.seconds
            return self.now
        if isinstance(effect, Call):
            self.sent.append(effect)
            self.before_reply(self)
            reply = self.replies.pop(0)
            return reply if isinstance(reply, Exception) else effect.decode(reply)
        if isinstance(effect, Wake):
            self.waits.append(effect)
            if effect.seconds == 0:
                return None
            message = self.messages.pop(0)
            if message is None:
                self.now += effect.seconds
            return message
        if isinstance(effect, Aside):
            self.asides.append(next(effect.flow))  # type: ignore[arg-type]  # clean-ups start with a call
            return None
        self.asked.append(effect.args)
        return effect.function(*effect.args)


__all__ = ["Interrupted", "Script"]
