"""What the target holds, as hashes: the source's memory of what it has sent.

Pages are hashed with XXH3-128 under a seed drawn for each move, so content cannot be made to collide by a workload
that does not know the seed. The table only decides what to send: the digest over the final image decides whether the
target starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import xxhash

from .image_digest import BLOCK_PAGES, block_digest

GRANULE_PAGES = BLOCK_PAGES
"""Pages that share one entry, visited as the final image's blocks are. Small enough for scattered memory (2.3 KiB an
entry), large enough that the cost of a visit is hidden behind the hashing of its pages (about 18 bytes a page where
memory is dense)."""

_ENTRY_BYTES = GRANULE_PAGES * 17 + 700
"""Hashes, counters, a digest and the objects around them."""

LIKE_OBJECTS_MAX = 4
"""Other objects that are looked at for the same pages at the same place: a process that was forked has those of its
parent, and the first to be seen there is most likely that."""

Hashes: TypeAlias = npt.NDArray[np.uint64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Slots: TypeAlias = npt.NDArray[np.int64]


class _Granule:
    """Hashes as sent (0 = nothing sent), rounds in a row with another content, hashes as last seen if put off.

    ``whole``: which pages the digest of :mod:`.image_digest` is of, and that digest, if the target holds just that.
    """

    __slots__ = ("changing", "seen", "sent", "streaks", "whole")

    def __init__(self) -> None:
        self.sent: Hashes = np.zeros((GRANULE_PAGES, 2), dtype=np.uint64)
        self.streaks: npt.NDArray[np.uint8] = np.zeros(GRANULE_PAGES, dtype=np.uint8)
        self.changing = False
        self.seen: Hashes | None = None
        self.whole: tuple[bytes, bytes] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about the pages of one visit; masks are over the pages visited, in their order."""

    send: Mask
    zero: Mask
    known: Mask
    """Of which the target holds some earlier content."""
    changed: int
    """Pages whose content is not what the target holds, first sight included."""
    new: int
    """Of these, pages never sent."""
    deferred: int
    """Of these, pages left for the final stage because they change all the time."""
    like: Mask
    """Pages to send of which the target holds the content at the same place in ``like_object``."""
    like_object: str | None


class PageHasher:
    """Hashes pages under the move's seed."""

    def __init__(self, seed: int, page_size: int) -> None:
        self._seed = seed
        self._page_size = page_size
        self.zero: Hashes = np.frombuffer(xxhash.xxh3_128_digest(bytes(page_size), seed), dtype=np.uint64)

    def hashes(self, data: memoryview) -> Hashes:
        """One row for each page of ``data``, whose length is a multiple of the page size."""
        size, seed, digest = self._page_size, self._seed, xxhash.xxh3_128_digest
        joined = b"".join([digest(data[at : at + size], seed) for at in range(0, len(data), size)])
        return as_hashes(joined)


class SentTable:
    """Hashes of the pages the target holds, by object and position.

    :param defer_after: pages that changed in this many rounds in a row are put off to the final stage; 0 = never.
    :param bytes_max: bound of the table; pages beyond it are not tracked, hence left to the final stage.
    """

    def __init__(self, hasher: PageHasher, defer_after: int, bytes_max: int) -> None:
        self._hasher = hasher
        self._defer_after = defer_after
        self._entries_max = bytes_max // _ENTRY_BYTES
        self._granules: dict[tuple[str, int], _Granule] = {}
        self._objects_at: dict[int, tuple[str, ...]] = {}
        """By granule: objects that have one there, the first few."""

    @property
    def size_bytes(self) -> int:
        """Estimate of the memory the table takes."""
        return len(self._granules) * _ENTRY_BYTES

    def learn(self, object_name: str, first: int, hashes: Hashes) -> None:
        """Take pages for held by the target, which has said so; those that find no room in the table will be sent.

        :param first: index of the first page; the others follow it.
        :param hashes: one row for each page.
        """
        while len(hashes):
            number, slot = divmod(first, GRANULE_PAGES)
            count = min(GRANULE_PAGES - slot, len(hashes))
            granule = self._granules.get((object_name, number))
            if granule is None:
                granule = self._new_granule(object_name, number)
                if granule is None:
                    return
            granule.sent[slot : slot + count] = hashes[:count]
            granule.whole = None
            first, hashes = first + count, hashes[count:]

    def visit(self, object_name: str, number: int, slots: Slots, data: memoryview) -> Verdict | None:
        """Judge pages read in a round and take those to send for sent.

        :param number: which granule: page index // :data:`GRANULE_PAGES`.
        :param slots: ascending positions inside the granule of the pages in ``data``.
        :returns: None if nothing is to be done.
        """
        granule = self._granules.get((object_name, number))
        if granule is None:
            granule = self._new_granule(object_name, number)
            if granule is None:
                return None
        hashes = self._hasher.hashes(data)
        differs = _unequal(granule.sent[slots], hashes)
        if not differs.any():
            if granule.changing:
                granule.streaks[slots] = 0
            if granule.whole is None:
                granule.whole = _which(slots), block_digest(data)
            return None
        verdict = self._judge(object_name, number, granule, slots, hashes, differs)
        # So that the dump, of which this digest is taken anyway, need not be looked at page by page.
        granule.whole = None if verdict.deferred else (_which(slots), block_digest(data))
        return verdict

    def _new_granule(self, object_name: str, number: int) -> _Granule | None:
        """None if there is no room for one."""
        if len(self._granules) >= self._entries_max:
            return None
        granule = self._granules[object_name, number] = _Granule()
        objects = self._objects_at.get(number, ())
        if len(objects) < LIKE_OBJECTS_MAX:
            self._objects_at[number] = (*objects, object_name)
        return granule

    def _like(self, object_name: str, number: int, slots: Slots, hashes: Hashes, send: Mask) -> tuple[Mask, str | None]:
        """Pages to send that the target holds at the same place in another object, and in which."""
        best, best_name = np.zeros_like(send), None
        for name in self._objects_at.get(number, ()):
            other = self._granules[name, number]
            if name != object_name:
                like = send & ~_unequal(other.sent[slots], hashes)
                if like.sum() > best.sum():
                    best, best_name = like, name
        return best, best_name

    def _judge(
        self, object_name: str, number: int, granule: _Granule, slots: Slots, hashes: Hashes, differs: Mask
    ) -> Verdict:
        known = _held(granule.sent[slots])
        # A page counts as still changing only if it differs from its last sight, not just from what was sent
        moving = differs & known
        if granule.seen is not None:
            seen = granule.seen[slots]
            moving &= _unequal(seen, hashes) | ~seen.any(axis=1)
        streaks = granule.streaks[slots]
        streaks = np.where(moving, np.minimum(streaks, 254) + 1, 0).astype(np.uint8)
        granule.streaks[slots] = streaks
        granule.changing = bool(granule.streaks.any())
        put_off = moving & (streaks >= self._defer_after) if self._defer_after else np.zeros_like(moving)
        self._note_seen(granule, slots, hashes, put_off)
        send = differs & ~put_off
        like, like_object = self._like(object_name, number, slots, hashes, send)
        granule.sent[slots[send]] = hashes[send]
        return Verdict(
            send=send,
            zero=(hashes == self._hasher.zero).all(axis=1),
            known=known,
            changed=int(differs.sum()),
            new=int((differs & ~known).sum()),
            deferred=int(put_off.sum()),
            like=like,
            like_object=like_object,
        )

    @staticmethod
    def _note_seen(granule: _Granule, slots: Slots, hashes: Hashes, put_off: Mask) -> None:
        if put_off.any():
            if granule.seen is None:
                granule.seen = np.zeros((GRANULE_PAGES, 2), dtype=np.uint64)
            granule.seen[slots] = np.where(put_off[:, None], hashes, 0)
        elif granule.seen is not None:
            granule.seen[slots] = 0
            if not granule.seen.any():
                granule.seen = None

    def compare(self, object_name: str, number: int, slots: Slots, data: memoryview, digest: bytes) -> Verdict | None:
        """Judge pages of the final image. Those to send count as unknown at the target from now on.

        That way a move that fails after this sends them again, whatever became of them.

        :param digest: of ``data``, by :func:`.image_digest.block_digest`.
        """
        granule = self._granules.get((object_name, number))
        if granule is not None and granule.whole == (_which(slots), digest):
            return None
        hashes = self._hasher.hashes(data)
        if granule is None:
            differs = np.ones(len(slots), dtype=np.bool_)
            known = np.zeros(len(slots), dtype=np.bool_)
        else:
            sent = granule.sent[slots]
            differs = _unequal(sent, hashes)
            if not differs.any():
                return None
            known = _held(sent)
            granule.sent[slots[differs]] = 0
            granule.whole = None
        like, like_object = self._like(object_name, number, slots, hashes, differs)
        return Verdict(
            send=differs,
            zero=(hashes == self._hasher.zero).all(axis=1),
            known=known,
            changed=int(differs.sum()),
            new=int((differs & ~known).sum()),
            deferred=0,
            like=like,
            like_object=like_object,
        )


def as_hashes(joined: bytes) -> Hashes:
    """Rows out of 16 bytes for each page, as they are on the wire."""
    return np.frombuffer(joined, dtype=np.uint64).reshape(-1, 2)


def _which(slots: Slots) -> bytes:
    """A set of positions, short."""
    marks = np.zeros(GRANULE_PAGES, dtype=np.bool_)
    marks[slots] = True
    return np.packbits(marks).tobytes()


def _unequal(left: Hashes, right: Hashes) -> Mask:
    """Rows that differ. Column by column: a reduction over an axis of two costs several times as much."""
    result: Mask = (left[:, 0] != right[:, 0]) | (left[:, 1] != right[:, 1])
    return result


def _held(hashes: Hashes) -> Mask:
    """Rows that stand for content: nothing sent is all zeros."""
    result: Mask = (hashes[:, 0] != 0) | (hashes[:, 1] != 0)
    return result
