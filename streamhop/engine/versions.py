"""Versions of programs as they print them and as Debian packages them, put in order.

What follows the numbers decides only if it marks something that came before the release: ``1.4.0-rc.3``, ``1.4.0~rc3``.
What a distribution adds (``+dfsg4``, ``+ds1-1+deb12u1``, ``-0ubuntu2``) is the same release, perhaps with patches:
that is not to be seen in a version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_VERSION = re.compile(r"(\d{1,9}(?:\.\d{1,9})+)([A-Za-z0-9.+~:_-]{0,80})", re.ASCII)
_BEFORE = re.compile(r"[-~.]?(alpha|beta|rc|pre|dev)[-.~]?(\d{0,9})", re.IGNORECASE | re.ASCII)
_STAGES = ("dev", "pre", "alpha", "beta", "rc")
_RELEASED = (len(_STAGES), 0)

TEXT_CHARACTERS_MAX = 4096
"""Of what a program prints about itself."""


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A version that can be compared. Trailing zeros make no difference: 4.2 is 4.2.0."""

    numbers: tuple[int, ...]
    stage: tuple[int, int] = _RELEASED
    text: str = field(default="", compare=False)
    """As it was printed, the distribution's additions too."""

    def __str__(self) -> str:
        return self.text or ".".join(map(str, self.numbers))


def version_of(text: str) -> Version | None:
    """The first version in ``text``, such as the output of ``runc --version``; None if there is none."""
    match = _VERSION.search(text[:TEXT_CHARACTERS_MAX])
    if match is None:
        return None
    numbers = tuple(int(part) for part in match[1].split("."))
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers = numbers[:-1]
    before = _BEFORE.match(match[2])
    stage = (_STAGES.index(before[1].lower()), int(before[2] or 0)) if before else _RELEASED
    return Version(numbers, stage, match[0].rstrip(".-+~:_"))
