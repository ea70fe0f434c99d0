"""The demo's checks find what they are for: each record here is right except for one falsified line."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from demo.check import busiest, verdicts, within
from demo.ledger import Payment
from demo.record import Claim, Echo, Login, Play, Record
from demo.rules import ADDRESS_LIMIT, MOST_POINTS, PLAYER_LIMIT
from tetrad import Entry


class Story:
    """A small run in which everything was right; tests change one thing."""

    def __init__(self) -> None:
        self.record = Record(
            plays=[
                Play("ada", "127.0.0.10", 1.00, 1.01, "admitted", 5, 5),
                Play("bob", "127.0.0.11", 1.02, 1.03, "admitted", 40, 40),
                Play("ada", "127.0.0.10", 2.00, 2.01, "admitted", 1, 6),
                Play("ada", "127.0.0.10", 2.02, 2.03, "refused"),
            ],
            claims=[
                Claim("ada", 1, "won", 500, 101, asked=3.0, acquired=3.1, left=3.3),
                Claim("bob", 1, "lost", 0, 102, asked=3.1, acquired=3.31, left=3.32),
                Claim("bob", 2, "won", 750, 103, asked=5.0, acquired=5.1, left=5.3),
            ],
            echoes=[
                Echo("ada", "ada", 1, 1, 1),
                Echo("ada", "ada", 2, 2, 2),
                Echo("bob", "bob", 3, 2, 3),
                Echo(None, None),
            ],
            logins=[Login("ada", "s1", None), Login("ada", "s2", "s1"), Login("bob", "s3", None)],
        )
        self.payments = [Payment(1, "ada", 500, 101), Payment(2, "bob", 750, 103)]
        self.refusals: list[str] = []
        self.board = [Entry("bob", 40.0, 1), Entry("ada", 6.0, 2)]

    def violated(self) -> dict[str, list[str]]:
        """The invariants that are violated, each with its violations."""
        found = verdicts(self.record, self.payments, self.refusals, self.board)
        return {verdict.invariant: verdict.violations for verdict in found if verdict.violations}

    def only(self, invariant: str) -> str:
        """The one violation there is, which must be of *invariant*."""
        violated = self.violated()
        assert list(violated) == [invariant]
        assert len(violated[invariant]) == 1, violated
        return violated[invariant][0]


PAID = "every jackpot is paid once, to the holder of the lock"
FENCES = "fences grow from payment to payment"
EXCLUSIVE = "no two hold the lock at once"
PLAYER = "no player is admitted above the limit"
ADDRESS = "no address is admitted above the limit"
SESSIONS = "no session is lost or mixed up"
BOARD = "the board is what the players scored"


def test_a_true_record_violates_nothing() -> None:
    """The story itself is right, as is one in which nothing has happened."""
    assert Story().violated() == {}
    assert not any(verdict.violations for verdict in verdicts(Record(), [], [], []))


def test_a_round_paid_twice_is_found() -> None:
    """Two payments for one round, with growing fences."""
    story = Story()
    story.payments.append(Payment(2, "bob", 750, 104))

    assert "round 2 was paid 2 times" in story.violated()[PAID]


def test_a_promised_prize_that_was_not_paid_is_found() -> None:
    """A player was told of a win that the ledger does not have."""
    story = Story()
    story.payments.pop()

    assert "bob was told of 750 for round 2 with fence 103, which was not paid" in story.only(PAID)


def test_a_payment_to_somebody_who_did_not_win_is_found() -> None:
    """A player who lost, and knows it, was paid."""
    story = Story()
    story.record.claims.pop()

    assert "bob was paid 750 for round 2 with fence 103 without having won it" in story.only(PAID)


def test_a_payment_with_another_fence_than_the_lease_had_is_found() -> None:
    """The fence in the ledger is not the one that the winner's lease had."""
    story = Story()
    story.payments[1] = replace(story.payments[1], fence=105)

    assert len(story.violated()[PAID]) == 2


def test_a_payment_whose_answer_was_lost_is_no_violation() -> None:
    """An unknown claim may have been paid or not."""
    story = Story()
    story.record.claims[-1] = Claim("bob", 2, "unknown")

    assert story.violated() == {}
    story.payments.pop()
    assert story.violated() == {}


def test_a_visitor_may_win() -> None:
    """A person at the page is not in the record."""
    story = Story()
    story.payments.append(Payment(3, "a visitor", 250, 110))

    assert story.violated() == {}


def test_a_skipped_round_is_found() -> None:
    """Rounds are paid one after the other."""
    story = Story()
    story.payments.append(Payment(4, "a visitor", 250, 110))

    assert "one after the other" in story.only(PAID)


def test_a_second_payment_that_only_the_ledger_prevented_is_found() -> None:
    """The lock must keep a round from being paid twice, not the ledger."""
    story = Story()
    story.refusals = ["stale fence", "already paid"]

    assert "only the ledger" in story.only(PAID)


def test_a_fence_that_does_not_grow_is_found() -> None:
    """A payment with a smaller fence than the one before."""
    story = Story()
    story.record.claims[-1] = replace(story.record.claims[-1], fence=100)
    story.payments[1] = replace(story.payments[1], fence=100)

    assert any("fence 100, after 101" in violation for violation in story.violated()[FENCES])


def test_two_holders_at_once_are_found() -> None:
    """One acquired the lock before the other had left."""
    story = Story()
    story.record.claims[1] = replace(story.record.claims[1], acquired=3.25)

    assert "ada and bob both held the lock" in story.only(EXCLUSIVE)


def test_holders_in_another_order_than_their_fences_are_found() -> None:
    """A later holder with an equal fence."""
    story = Story()
    story.record.claims[1] = replace(story.record.claims[1], fence=101)

    assert "fence 101 <= 101" in story.only(EXCLUSIVE)


def test_a_player_admitted_above_the_limit_is_found() -> None:
    """One spin more than burst + rate x time + 1."""
    burst = PLAYER_LIMIT.burst
    right = [Play("eve", "127.0.0.12", 10 + i / 1000, 10 + i / 1000, "admitted", 1, i + 1) for i in range(burst + 1)]

    story = Story()
    story.record.plays += right
    story.board.append(Entry("eve", burst + 1.0, 2))
    story.board[1], story.board[2] = story.board[2], story.board[1]
    story.board = [
        replace_rank(entry, rank) for rank, entry in enumerate(sorted(story.board, key=lambda e: -e.score), 1)
    ]
    assert story.violated() == {}
    story.record.plays.append(Play("eve", "127.0.0.12", 10.2, 10.2, "admitted", 0, burst + 1))
    assert f"player eve was admitted {burst + 2} times in 0.200 s" in story.only(PLAYER)


def test_an_address_admitted_above_the_limit_is_found() -> None:
    """Many players of one address, each within the limit of players."""
    burst = ADDRESS_LIMIT.burst
    plays = [Play(f"p{i}", "127.0.0.13", 10.0, 10.5, "admitted", 0, 0) for i in range(burst + 4)]

    assert within(plays[: burst + 3], "address", ADDRESS_LIMIT) == []
    assert "127.0.0.13 was admitted 24 times in 0.500 s" in within(plays, "address", ADDRESS_LIMIT)[0]


def test_a_lost_session_is_found() -> None:
    """An answer 401 to a player who is logged in."""
    story = Story()
    story.record.echoes.append(Echo("ada", None))

    assert story.only(SESSIONS) == "the session of ada was lost"


def test_a_mixed_up_session_is_found() -> None:
    """The server took one player for another."""
    story = Story()
    story.record.echoes.append(Echo("ada", "bob", 3, 3, 3))

    assert story.only(SESSIONS) == "ada was taken for bob"


def test_a_session_that_forgot_is_found() -> None:
    """The session's own count is not what the player counted."""
    story = Story()
    story.record.echoes.append(Echo("ada", "ada", 2, 3, 4))

    assert story.only(SESSIONS) == "the session of ada had 2 spins instead of 3 to 4"


def test_a_session_that_survived_its_logout_is_found() -> None:
    """An id that was given up still named somebody."""
    story = Story()
    story.record.echoes.append(Echo(None, "ada"))

    assert story.only(SESSIONS) == "the session of ada was alive after its end"


def test_a_session_id_that_was_given_twice_or_kept_is_found() -> None:
    """Each login has an id of its own."""
    story = Story()
    story.record.logins.append(Login("eve", "s3", None))
    story.board.append(Entry("eve", 0.0, 3))
    assert "s3... was given out 2 times" in story.only(SESSIONS)

    story = Story()
    story.record.logins.append(Login("ada", "s4", "s4"))
    assert story.only(SESSIONS) == "ada kept the same session id over a login"


def test_a_board_with_another_score_is_found() -> None:
    """One point too many or too few, or no row at all."""
    for score in (5.0, 7.0):
        story = Story()
        story.board[1] = Entry("ada", score, 2)
        assert story.only(BOARD) == f"ada has {score:.0f} on the board, but scored 6"
    story = Story()
    story.board.pop()
    assert story.only(BOARD) == "ada has 0 on the board, but scored 6"


def test_lost_answers_give_bounds() -> None:
    """A spin with no answer may have scored from nothing to all."""
    for score, right in ((6, True), (6 + MOST_POINTS, True), (5, False), (7 + MOST_POINTS, False)):
        story = Story()
        story.record.plays.append(Play("ada", "127.0.0.10", 4.0, 5.0, "unknown"))
        story.board = [Entry("ada", float(score), 1), Entry("bob", 40.0, 2)]
        if score < 40:
            story.board = [Entry("bob", 40.0, 1), Entry("ada", float(score), 2)]
        assert (BOARD not in story.violated()) is right, score


def test_a_score_that_was_wrong_on_the_way_is_found() -> None:
    """Every answer carries the sum so far."""
    story = Story()
    story.record.plays[0] = replace(story.record.plays[0], score=4)

    assert story.only(BOARD) == "ada was told a score of 4, having scored 5"


def test_a_board_out_of_order_is_found() -> None:
    """Ranks are 1, 2, 3, and scores fall."""
    story = Story()
    story.board.reverse()

    assert len(story.violated()[BOARD]) == 2


def replace_rank(entry: Entry, rank: int) -> Entry:
    return Entry(entry.member, entry.score, rank)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 8)), min_size=1, max_size=25),
    st.sampled_from([0.25, 1.0, 4.0]),
)
def test_the_busiest_stretch_is_the_one_that_trying_all_would_find(spans: list[tuple[int, int]], rate: float) -> None:
    """Against the plain definition: every pair of a beginning and an end."""
    plays = [Play("p", "a", float(sent), float(sent + took), "admitted") for sent, took in spans]
    random.Random(1).shuffle(plays)
    excess, count, seconds = busiest(plays, rate)

    plain = max(
        sum(begin.sent <= p.sent and p.received <= end.received for p in plays) - rate * (end.received - begin.sent)
        for begin in plays
        for end in plays
        if begin.sent <= end.received
    )
    assert abs(max(excess, 0.0) - max(plain, 0.0)) < 1e-9  # a stretch without a whole play is nobody's
    assert abs(count - rate * seconds - excess) < 1e-9
