"""What leaderboard calls send, refuse to send and make of replies: no server."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tetrad._ops.board import Board
from tetrad.errors import ConfigurationError
from tetrad.types import Entry, Placement

HEAD = bytes(7) + b"\x05"
CONFIG = "format=1 keep=best order=desc ranking=ordinal score=float ties=first"


def board(order: Any = "desc", ranking: Any = "ordinal", keep: Any = "best", name: Any = "b") -> Board:
    return Board("tetrad", name, order, ranking, keep)


def test_keys_share_a_slot_and_the_configuration_goes_along():
    """All keys of a board have its name as their hash tag; every argument the script needs is there."""
    call = board().submit("ada", 12, None)

    assert call.keys == ("tetrad:board:{b}", "tetrad:board:{b}:order", "tetrad:board:{b}:members")
    assert call.args == (CONFIG, "ordinal", "best", b"ada", "-12.0")
    assert not call.script.replay


def test_lower_is_better_in_what_is_stored():
    """A desc board stores scores negated, an asc board as they are; zero has one form in both."""
    stored = [board(order).submit("m", score, None).args[-1] for order in ("desc", "asc") for score in (2.5, 0, -0.0)]

    assert stored == ["-2.5", "0.0", "0.0", "2.5", "0.0", "0.0"]


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, True, False, 2**53 + 1, -(2**53) - 1, 10**400])
def test_a_score_that_is_not_finite_and_exact_is_refused(score: Any):
    """NaN, infinities, bools and ints that a float would round raise before anything is sent."""
    for call in (lambda: board().submit("m", score, None), lambda: board().rank_of(score)):
        with pytest.raises(ValueError, match="score must be"):
            call()


@pytest.mark.parametrize("score", ["12", None, 1j, b"1", [1]])
def test_a_score_of_another_type_is_refused(score: Any):
    """Only int and float are scores."""
    with pytest.raises(TypeError, match="score must be an int or a float"):
        board().submit("m", score, None)


@pytest.mark.parametrize(
    ("member", "error"),
    [
        *[(member, ValueError) for member in ("x" * 1025, b"x" * 1025, "é" * 513, "\ud800")],
        *[(member, TypeError) for member in (None, 7, bytearray(b"m"))],
    ],
)
def test_a_bad_member_is_refused(member: Any, error: type[Exception]):
    """Members are str or bytes of up to 1 KiB; the message says so."""
    for call in (board().rank, board().remove, lambda m: board().around(m, 1), lambda m: board().submit(m, 1, None)):
        with pytest.raises(error, match="member must"):
            call(member)


def test_text_and_its_utf8_bytes_are_one_member():
    """What is sent is the same, and it comes back as text."""
    as_text, as_bytes = board().submit("é", 1, None), board().submit("é".encode(), 1, None)

    assert as_text.args == as_bytes.args
    assert as_bytes.decode([1, b"-1", 1, None, None]).member == "é"


def test_an_info_that_is_too_large_or_cannot_be_stored_is_refused():
    """Infos are bounded by their encoded size, and by what the codec keeps exactly."""
    with pytest.raises(ValueError, match="info must have at most 65536 bytes when encoded, got 70005"):
        board().submit("m", 1, "x" * 70_000)
    with pytest.raises(ValueError, match=r"info\['a'\] is NaN"):
        board().submit("m", 1, {"a": math.nan})
    with pytest.raises(TypeError, match="info is of type object"):
        board().submit("m", 1, object())


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda b, n: b.top(n, 0), "n"),
        (lambda b, n: b.page(n, 10), "number"),
        (lambda b, n: b.page(1, n), "size"),
    ],
)
@pytest.mark.parametrize("number", [0, -1, 2**53])
def test_row_counts_are_bounded(ask: Any, what: str, number: int):
    """One request never asks for more rows than the server can give in a moment."""
    with pytest.raises(ValueError, match=f"{what} must be from 1 to"):
        ask(board(), number)
    with pytest.raises(TypeError, match=f"{what} must be an int"):
        ask(board(), True)
    with pytest.raises(TypeError, match=f"{what} must be an int"):
        ask(board(), 1.0)


def test_offset_and_radius_are_bounded():
    """Both may be 0."""
    with pytest.raises(ValueError, match="offset must be from 0 to"):
        board().top(10, -1)
    with pytest.raises(ValueError, match="radius must be from 0 to 5000, got 5001"):
        board().around("m", 5001)

    assert board().top(10, 0).args[-2:] == (0, 9)
    assert board().page(3, 25).args[-2:] == (50, 74)
    assert board().around("m", 0).args[-1] == 0


@pytest.mark.parametrize("option", ["order", "ranking", "keep"])
def test_an_unknown_option_is_a_configuration_error(option: str):
    """The message names the option, what it takes and what it got."""
    with pytest.raises(ConfigurationError, match=f"{option} must be one of .*, got 'dense'"):
        board(**{option: "dense"})


def test_a_bad_name_is_refused():
    """Names are checked when the board is made."""
    with pytest.raises(ValueError, match="leaderboard name must have 1-512 bytes"):
        board(name="")


def test_a_placement_is_decoded():
    """Scores come back in the sign they were given in."""
    call = board().submit("ada", 12, None)

    assert call.decode([1, b"-12", 2, None, None]) == Placement("ada", 12.0, 2, None, None, True)
    assert call.decode([0, b"-15", 1, b"-15", 1]) == Placement("ada", 15.0, 1, 15.0, 1, False)
    assert str(call.decode([0, b"0", 1, b"0", 1]).score) == "0.0"


def test_a_sum_that_overflows_is_a_value_error():
    """The server refused it; the message has both sides."""
    call = board(keep="sum").submit("ada", 1e308, None)

    with pytest.raises(ValueError, match=r"the score 1e\+308 of member 'ada' and 1e\+308 is not finite"):
        call.decode([b"-1e+308"])


def rows(*scores: bytes) -> list[bytes]:
    return [part for at, score in enumerate(scores) for part in (HEAD + b"m%d" % at, score)]


def test_ordinal_ranks_follow_from_the_first():
    """Each row has the next rank, whatever its score."""
    reply = [7, 7, rows(b"-3", b"-3", b"-1"), [HEAD, HEAD + b"\x81\xa1a\x01", None]]

    assert board().top(3, 6).decode(reply) == [
        Entry("m0", 3.0, 7),
        Entry("m1", 3.0, 8, {"a": 1}),
        Entry("m2", 1.0, 9),
    ]


def test_competition_ranks_follow_from_the_first():
    """Equal scores share a rank, also with rows above the first one; the next score has its position as rank."""
    reply = [7, 5, rows(b"3", b"3", b"4", b"4", b"5"), [HEAD] * 5]

    ranks = [entry.rank for entry in board("asc", "competition").top(5, 6).decode(reply)]
    assert ranks == [5, 5, 9, 9, 11]


def test_members_that_are_not_text_come_back_as_bytes():
    """Only those: the others of the same rows are text."""
    reply = [1, 1, [HEAD + b"\xff\x00", b"-2", HEAD + "😀".encode(), b"-1", HEAD, b"0"], [HEAD] * 3]

    assert [entry.member for entry in board().top(3, 0).decode(reply)] == [b"\xff\x00", "😀", ""]


def test_a_board_stored_otherwise_is_named_with_both_sides():
    """Every reply may be the stored configuration instead; the message has what differs, and what to do."""
    ours, theirs = board(keep="sum", ranking="competition"), CONFIG.encode()
    calls = [ours.submit("m", 1, None), ours.remove("m"), ours.rank("m"), ours.top(1, 0), ours.page(1, 1)]
    calls += [ours.around("m", 1), ours.count(), ours.rank_of(1), ours.walk(10, None)]

    for call in calls:
        with pytest.raises(ConfigurationError) as error:
            call.decode(theirs)
        assert "stored with keep=best, ranking=ordinal, but was opened with keep=sum, ranking=comp" in str(error.value)
        assert error.value.key == "tetrad:board:{b}"


def test_an_option_of_a_later_release_is_a_mismatch():
    """A board that has an option which this one lacks ranks differently."""
    with pytest.raises(ConfigurationError, match="stored with decay=60, but was opened with decay=None"):
        board().count().decode(CONFIG.encode() + b" decay=60")


def test_a_later_format_is_named():
    """A format that this release does not know is not guessed at."""
    with pytest.raises(ConfigurationError, match="'b' is stored in format 2, this version of Tetrad reads format 1"):
        board().count().decode(b"format=2 whatever=else")


def test_walking_goes_on_from_the_last_row():
    """A full batch names its last row, a shorter one ends the walk."""
    call = board().walk(2, None)

    _, after = call.decode([1, 1, rows(b"-2", b"-1"), [HEAD] * 2])
    assert after == (HEAD + b"m1", b"-1")
    assert board().walk(2, after).args[-2:] == after
    assert call.decode([1, 1, rows(b"-2"), [HEAD]])[1] is None
    assert call.decode(None) == ([], None)
