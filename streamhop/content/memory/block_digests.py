"""Which blocks of a segment were hashed ahead of the final image, and which changed since. Pure."""

from __future__ import annotations

from .image_digest import BLOCK_PAGES


class BlockDigests:
    """Digests of blocks by number (page index // :data:`BLOCK_PAGES`), each with the pages that it covers.

    A block takes some 320 bytes; that there are not too many is up to who bounds the pages.
    """

    def __init__(self) -> None:
        self._fresh: set[int] = set()
        self._taken: dict[int, tuple[int, bytes]] = {}

    def changed(self, first: int, count: int) -> None:
        """The ``count`` pages from ``first`` have another content now."""
        blocks = range(first // BLOCK_PAGES, (first + count - 1) // BLOCK_PAGES + 1)
        self._fresh.update(blocks)
        if self._taken:
            for block in blocks:
                self._taken.pop(block, None)

    def next_fresh(self) -> int | None:
        """A block that changed and was not hashed since, or None; it counts as hashed from now on."""
        return self._fresh.pop() if self._fresh else None

    def take(self, block: int, pages: int, digest: bytes) -> None:
        """Note the digest of a block.

        :param pages: which of its pages it covers, bit 0 for the first.
        """
        self._taken[block] = (pages, digest)

    def of(self, block: int, pages: int) -> bytes | None:
        """The digest of exactly these pages of a block, if it was taken since they changed."""
        known = self._taken.get(block)
        return known[1] if known is not None and known[0] == pages else None
