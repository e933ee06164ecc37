"""IDs as people write them."""

from __future__ import annotations

import pytest

from streamhop.handover.move_ids import UnknownMoveError, find_move, new_move_id

KNOWN = [bytes.fromhex(text.ljust(32, "0")) for text in ("5f3a1", "5f3a2", "beef")]


@pytest.mark.parametrize(("text", "number"), [("5f3a1", 0), ("5F3A2", 1), ("beef", 2), (KNOWN[2].hex(), 2)])
def test_any_beginning_that_stands_for_one_move_will_do(text: str, number: int) -> None:
    assert find_move(text, KNOWN) == KNOWN[number]
    assert find_move(text, KNOWN * 2) == KNOWN[number]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5f3a", "stands for 2 moves"),
        ("bee", "too short"),
        ("dead", "no move dead"),
        ("", "no move's ID"),
        ("../..", "no move's ID"),
        ("\x1b[31m", "no move's ID"),
        ("0" * 33, "no move's ID"),
    ],
)
def test_what_stands_for_none_or_for_several_is_refused(text: str, said: str) -> None:
    with pytest.raises(UnknownMoveError, match=said):
        find_move(text, KNOWN)


def test_new_ids_differ() -> None:
    assert len({new_move_id() for _ in range(100)}) == 100
