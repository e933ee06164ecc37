"""How each page to send is sent: whole, as a page of zeros, as another, or as the difference to what was sent last."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from streamhop_protocol.page_batches import LIKE, RAW, XOR, ZERO

from .sent_pages import Pages, SentPages, Slots
from .table import Verdict

LEFT_OUT = -1
"""A page that is not sent."""

DIFFERENCE_SHARE_MAX = 0.25
"""A page of which more has changed (share of its words of 64 bits) is sent whole: its content may compress better."""

Kinds: TypeAlias = npt.NDArray[np.int8]


def encode(
    sent: SentPages, object_name: str, block: int, slots: Slots, verdict: Verdict, data: memoryview
) -> tuple[Kinds, memoryview]:
    """How the pages of one visit go: the kind of each (or :data:`LEFT_OUT`), and the bytes of all.

    :param sent: what differences are taken to; not changed.
    :param slots: ascending positions of the pages inside their block.
    :param data: the pages.
    """
    whole = np.where(verdict.zero, ZERO, np.where(verdict.like, LIKE, RAW))
    kinds = np.where(verdict.send, whole, LEFT_OUT).astype(np.int8)
    candidates = np.flatnonzero((kinds == RAW) & verdict.known)
    if not len(candidates):
        return kinds, data
    recalled = sent.recall(object_name, block, slots[candidates])
    if recalled is None:
        return kinds, data
    before, held = recalled
    pages = as_pages(data, len(slots))
    difference = pages[candidates] ^ before
    small = held & (np.count_nonzero(difference, axis=1) <= DIFFERENCE_SHARE_MAX * difference.shape[1])
    if not small.any():
        return kinds, data
    chosen = candidates[small]
    kinds[chosen] = XOR
    pages = pages.copy()
    pages[chosen] = difference[small]
    return kinds, pages.data.cast("B")


def note_sent(
    sent: SentPages, object_name: str, block: int, slots: Slots, verdict: Verdict, data: memoryview, *, keep: bool
) -> None:
    """Remember what the pages of one visit are now at the target.

    :param data: the pages themselves.
    :param keep: False only drops what is no longer so.
    """
    whole = verdict.send & ~verdict.zero
    if keep:
        sent.forget(object_name, block, slots[verdict.send & verdict.zero])
        sent.keep(object_name, block, slots[whole], as_pages(data, len(slots))[whole])
    else:
        sent.forget(object_name, block, slots[verdict.send])


def as_pages(data: memoryview, count: int) -> Pages:
    """A row of words for each of ``count`` pages."""
    return np.frombuffer(data, dtype=np.uint64).reshape(count, -1)
