"""How people name moves: by the ID, 32 hexadecimal digits, or by any beginning of it that stands for one move."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable

from streamhop_protocol.messages import MOVE_ID_BYTES

PREFIX_DIGITS_MIN = 4
"""Shorter beginnings are refused: what stands for one move now may stand for two soon."""

_DIGITS = re.compile(rf"[0-9a-f]{{1,{2 * MOVE_ID_BYTES}}}")


class UnknownMoveError(Exception):
    """What a user wrote stands for no move, or for more than one."""


def new_move_id() -> bytes:
    """The ID of a move that is about to begin."""
    return secrets.token_bytes(MOVE_ID_BYTES)


def find_move(text: str, known: Iterable[bytes]) -> bytes:
    """The one move of ``known`` whose ID begins with ``text``.

    :raises UnknownMoveError: there is none, or more than one, or ``text`` is no beginning of an ID.
    """
    digits = text.lower()
    if not _DIGITS.fullmatch(digits):
        raise UnknownMoveError(f"{text!r} is no move's ID")
    if len(digits) < PREFIX_DIGITS_MIN:
        raise UnknownMoveError(f"{text!r} is too short: give at least {PREFIX_DIGITS_MIN} digits of the ID")
    found = {move for move in known if move.hex().startswith(digits)}
    if not found:
        raise UnknownMoveError(f"there is no move {text}")
    if len(found) > 1:
        some = ", ".join(sorted(move.hex()[:12] for move in found)[:4])
        raise UnknownMoveError(f"{text} stands for {len(found)} moves: {some}")
    return found.pop()
