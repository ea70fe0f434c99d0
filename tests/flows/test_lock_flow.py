"""What the lock sends, in which order, and what it undoes: no server, no clock."""

from __future__ import annotations

from contextlib import suppress

import pytest

from tests.flows.playing import Interrupted, Script
from tetrad._core.tenure import Book, Tenure
from tetrad._ops import lock as ops
from tetrad._ops.renewal import keep_renewing
from tetrad.errors import LeaseLost, ServerTimeout, ServerUnavailable

NAME = ops.Name("tetrad", "job")


def acquire(timeout: float | None = None):
    return ops.acquire(NAME, 30.0, timeout, True)


def tenure(ttl: float = 30.0, asked_at: float = 1000.0, renew: bool = True, token: str = "a" * 16) -> Tenure:
    return Tenure("job", "tetrad:lock:{job}", token, 7, ttl, asked_at, renew)


def test_a_free_lock_takes_one_call():
    """Uncontended, acquiring is one script."""
    world = Script([1, b"7"])

    held = world.play(acquire())

    assert (held.fence, world.scripts, world.waits) == (7, ["lock_acquire"], [])


def test_validity_counts_from_before_the_request():
    """However late the reply comes, the lease is not believed longer than the server holds it."""
    world = Script([1, b"7"])

    def slow(world: Script) -> None:
        world.now += 12.0

    world.before_reply = slow
    held = world.play(acquire())

    assert held.valid_until == 1030.0
    assert held.is_lost(1030.0)


def test_trying_once_does_not_queue():
    """timeout=0 asks once, joins no queue and leaves nothing to undo."""
    world = Script([0, 900, 0])

    assert world.play(acquire(0)) is None
    assert world.scripts == ["lock_acquire"]
    assert world.sent[0].args[2] == 0


def test_a_waiter_subscribes_before_it_queues():
    """Whoever is in the queue already listens: a grant cannot fall between."""
    world = Script([0, 900, 0], [0, 900, 1], [1, b"8"], messages=(b"grant",))

    held = world.play(acquire())

    assert held.fence == 8
    assert [wait.seconds for wait in world.waits] == [0, pytest.approx(0.9)]
    assert [call.args[2] for call in world.sent] == [0, 1, 1]
    assert world.waits[0].channel == f"tetrad:lock:{{job}}:wake:{world.sent[0].args[0]}"


def test_the_second_in_the_queue_lets_the_first_ask():
    """Only the head of the queue asks when the lease in the way lapses; the others later, in their order."""
    world = Script([0, 100, 0], [0, 100, 3], [1, b"8"], messages=(None,))
    world.play(acquire())

    assert world.waits[1].seconds == pytest.approx(4.06)


def test_a_number_tells_a_new_head_when_to_look():
    """A waiter that became the head waits for what the message says, without asking anything."""
    world = Script([0, 100, 0], [0, 30_000, 2], [1, b"8"], messages=(b"4000", None))
    world.play(acquire())

    assert world.waits[2].seconds == pytest.approx(4.0)
    assert len(world.sent) == 3


def test_out_of_time_leaves_the_queue():
    """A waiter whose time ran out gives its token back and answers None."""
    world = Script([0, 30_000, 0], [0, 30_000, 1], 0, messages=(None,))

    assert world.play(acquire(2.5)) is None
    assert world.scripts == ["lock_acquire", "lock_acquire", "lock_release"]
    assert world.waits[1].seconds == pytest.approx(2.5)


def test_a_lost_connection_asks_again():
    """None without time having run out means that a push may be lost: the server is asked."""
    world = Script([0, 900, 0], [0, 900, 1], [1, b"9"], messages=(b"",))

    assert world.play(acquire(60)).fence == 9


@pytest.mark.parametrize("error", [ServerTimeout("late"), ServerUnavailable("cut")])
def test_an_unknown_outcome_is_undone_apart(error: Exception):
    """A lost reply may have been a grant: the token is given back, and the caller does not wait for that."""
    world = Script(error)

    with pytest.raises(type(error)):
        world.play(acquire())
    assert [call.script.name for call in world.asides] == ["lock_release"]
    assert world.asides[0].args[0] == world.sent[0].args[0]


def test_a_request_that_never_left_needs_no_undoing():
    """No connection, no clean-up."""
    world = Script(ServerUnavailable("refused", sent=False))

    with pytest.raises(ServerUnavailable):
        world.play(acquire())
    assert world.asides == []


@pytest.mark.parametrize("at", range(3))
def test_an_interrupted_caller_leaves_nothing(at: int):
    """Wherever the caller is cancelled, the token is given back."""
    replies = [[0, 900, 0], [0, 900, 1], [1, b"9"]]
    world = Script(*replies[:at], Interrupted(), 0, messages=(b"grant",))

    with pytest.raises(Interrupted):
        world.play(acquire())
    assert world.scripts[-1] == "lock_release"


def test_an_interrupted_wait_leaves_the_queue():
    """Cancelled while waiting for the push: the place in the queue is given up."""
    world = Script([0, 900, 0], [0, 900, 1], 0, messages=(Interrupted(),))

    with pytest.raises(Interrupted):
        world.play(acquire())
    assert world.scripts[-1] == "lock_release"


def test_an_interrupted_release_is_finished():
    """A cancelled release is sent again; its script gives the same answer twice."""
    world = Script(Interrupted(), 1)

    with pytest.raises(Interrupted):
        world.play(ops.release(tenure()))
    assert world.scripts == ["lock_release", "lock_release"]


def test_release_says_whether_it_was_held():
    """True once; False for a lease that the server had given up, which is then known to be lost."""
    kept, gone = tenure(), tenure()

    assert Script(1).play(ops.release(kept)) is True
    assert Script().play(ops.release(kept)) is False
    assert Script(0).play(ops.release(gone)) is False
    assert (kept.state, gone.state) == ("released", "lost")


def test_renewing_a_lost_lease_raises():
    """renew() never creates: refused by the server, or lapsed here, it is LeaseLost with the fence."""
    refused, lapsed = tenure(), tenure(asked_at=900.0)

    with pytest.raises(LeaseLost) as error:
        Script([0]).play(ops.renew(refused, 30.0))
    assert (error.value.fence, refused.state) == (7, "lost")
    with pytest.raises(LeaseLost):
        Script().play(ops.renew(lapsed, 30.0))


class Renewing:
    """A renewal flow with a book and a clock that only sleeping moves; it ends when *until* is reached."""

    def __init__(self, *tenures: Tenure, replies: list[object], until: float) -> None:
        self.world = Script(*replies)
        book = Book()
        for one in tenures:
            book.add(one)

        def sleep(seconds: float) -> None:
            self.world.now += seconds
            if self.world.now >= until:
                raise Interrupted

        with suppress(Interrupted):
            self.world.play(keep_renewing(book, sleep, 5.0))


def test_leases_taken_together_are_renewed_together():
    """One call renews the whole batch, a third of the ttl after it was taken."""
    several = [tenure(token=str(n) * 16, asked_at=1000.0 + n / 100) for n in range(5)]
    renewing = Renewing(*several, replies=[[1] * 5], until=1012.0)

    assert [len(call.keys) for call in renewing.world.sent] == [5]
    assert {one.valid_until for one in several} == {1040.0}


def test_a_refused_renewal_loses_only_that_lease():
    """The server's 0 is a loss, and its listeners hear of it."""
    kept, gone = tenure(token="k" * 16), tenure(token="g" * 16)
    heard = []
    gone.on_lost(lambda: heard.append("gone"))
    Renewing(kept, gone, replies=[[1, 0]], until=1011.0)

    assert (kept.state, gone.state, heard) == ("held", "lost", ["gone"])


def test_without_an_answer_the_lease_is_lost_at_its_bound():
    """Renewals that fail are tried again until the local validity has passed, then the lease is lost."""
    one = tenure(ttl=1.0)
    renewing = Renewing(one, replies=[ServerUnavailable("down")] * 50, until=1010.0)

    assert one.state == "lost"
    assert 5 <= len(renewing.world.sent) <= 10
    assert all(call.timeout <= 1.0 for call in renewing.world.sent)


def test_a_lease_without_renewal_is_lost_at_its_end():
    """renew=False sends nothing, and the loss is still an event."""
    one = tenure(ttl=5.0, renew=False)
    renewing = Renewing(one, replies=[], until=1006.0)

    assert (one.state, renewing.world.sent) == ("lost", [])


@pytest.mark.parametrize("ttl", [0, -1, 0.01, float("nan"), float("inf"), True, "30", None])
def test_bad_ttls_are_named(ttl: object):
    """A ttl that cannot work is refused before anything is sent."""
    with pytest.raises((ValueError, TypeError), match="ttl"):
        ops.check_ttl(ttl)


@pytest.mark.parametrize("timeout", [-1, float("nan"), True, "5"])
def test_bad_timeouts_are_named(timeout: object):
    """A timeout is None, 0 or positive seconds."""
    with pytest.raises((ValueError, TypeError), match="timeout"):
        ops.check_timeout(timeout)
