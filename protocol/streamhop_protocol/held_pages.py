"""What a target says that it holds from an earlier attempt, so that it need not come again.

A stream of kind ``held`` carries chunks, each a small map in msgpack and, outside of it, 16 bytes for each page or for
each block of a file::

    {"o": "pagemap-1", "r": [[first_page, count], ...]}
    {"b": count}

For pages the bytes are XXH3-128 of the content, big-endian, under the seed that OFFER named; for blocks they are the
beginning of BLAKE3. They decide only what is sent: whether the container starts is decided by other digests.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import LimitError, MalformedError
from .limits import CHUNK_RAW_BYTES_MAX
from .page_batches import ADDRESS_BITS_MAX, PAGE_SIZES, RUNS_PER_BATCH_MAX, check_object_name

HASH_BYTES = 16
HASH_SEED_BYTES = 8

PAGES_PER_CHUNK_MAX = 4096
"""64 KiB of hashes."""

Run = tuple[int, int]
"""First page index, number of pages."""


@dataclass(frozen=True, slots=True)
class HeldPages:
    """Pages of one object; runs ascend and do not overlap, ``hashes`` has 16 bytes for each page in their order."""

    object_name: str
    runs: tuple[Run, ...]
    hashes: bytes


@dataclass(frozen=True, slots=True)
class HeldBlocks:
    """Hashes of blocks of files, wherever they came from."""

    hashes: tuple[bytes, ...]


def encode_held_blocks(count: int) -> dict[str, object]:
    """The map that describes a chunk of hashes of blocks, ready for msgpack."""
    return {"b": count}


def encode_held(object_name: str, runs: list[Run]) -> dict[str, object]:
    """The map that describes a chunk of hashes, ready for msgpack."""
    return {"o": object_name, "r": [list(run) for run in runs]}


def decode_held(value: object, hashes: bytes | memoryview, page_size: int) -> HeldPages | HeldBlocks:
    """Check a peer's chunk of a ``held`` stream.

    :param value: the decoded msgpack value.
    :param hashes: what came with it.
    :param page_size: bytes of a page in this move, one of :data:`.page_batches.PAGE_SIZES`.
    :raises MalformedError: wrong shape or types, runs out of order or empty, or not as many hashes as pages.
    :raises LimitError: too many runs, or pages beyond the address space.
    """
    if page_size not in PAGE_SIZES:
        raise MalformedError(f"page size {page_size} is none of {PAGE_SIZES}")
    if isinstance(value, dict) and value.keys() == {"b"}:
        return _decode_blocks(value["b"], bytes(hashes))
    if not isinstance(value, dict) or value.keys() != {"o", "r"}:
        raise MalformedError("what is held is not a map of exactly o and r, or b")
    object_name = check_object_name(value["o"])
    items = value["r"]
    if not isinstance(items, list) or not items:
        raise MalformedError("runs of held pages are not a list with entries")
    if len(items) > RUNS_PER_BATCH_MAX or len(hashes) > CHUNK_RAW_BYTES_MAX:
        raise LimitError(f"held pages come in at most {RUNS_PER_BATCH_MAX} runs at a time")
    runs: list[Run] = []
    end = pages = 0
    for item in items:
        # bool is an int in Python, but not on this wire
        if not isinstance(item, list) or len(item) != 2 or any(type(number) is not int for number in item):
            raise MalformedError("run of held pages is not two integers")
        first, count = item
        if count < 1 or first < end:
            raise MalformedError("runs of held pages are empty or out of order")
        end, pages = first + count, pages + count
        if end > (1 << ADDRESS_BITS_MAX) // page_size:
            raise LimitError("held pages are beyond the address space")
        runs.append((first, count))
    if pages * HASH_BYTES != len(hashes):
        raise MalformedError(f"{pages} held pages, but {len(hashes)} bytes of hashes")
    return HeldPages(object_name, tuple(runs), bytes(hashes))


def _decode_blocks(count: object, hashes: bytes) -> HeldBlocks:
    if type(count) is not int or count < 1 or count * HASH_BYTES != len(hashes):
        raise MalformedError(f"held blocks without as many hashes: {len(hashes)} bytes")
    if len(hashes) > CHUNK_RAW_BYTES_MAX:
        raise LimitError("too many held blocks in one chunk")
    return HeldBlocks(tuple(hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)))
