"""One bad input and what it must meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

FILE_BYTES_MAX = 8 * 1024
"""Larger inputs are no files: their builders are enough."""


@dataclass(frozen=True)
class Case:
    """An input of a target.

    :param target: whose.
    :param name: what is wrong with it; the name of its file.
    :param make: builds it; called for each test, so that large ones take no room.
    :param error: what must be raised; None if the target must take it without harm.
    :param says: part of the error's text.
    :param kept: whether it is small enough for a file.
    """

    target: str
    name: str
    make: Callable[[], bytes]
    error: type[Exception] | None
    says: str = ""
    kept: bool = True

    def __str__(self) -> str:
        return f"{self.target}-{self.name}"


def case(
    target: str, name: str, data: bytes, error: type[Exception] | None, says: str = "", *, kept: bool = True
) -> Case:
    """A case whose input is made already."""
    return Case(target, name, lambda: data, error, says, kept and len(data) <= FILE_BYTES_MAX)
