"""Page batches: which pages of which memory object a chunk carries.

A *memory object* is named as CRIU names its image: ``pagemap-<pid>`` for the private pages of a process (the pid is
the one inside the container; a page's index is address / page size) and ``pagemap-shmem-<shmid>`` for a shared
anonymous mapping (index is offset / page size). A batch is a small map, carried in msgpack, and the raw pages, carried
outside of it::

    {"o": "pagemap-1", "r": [[first_page, count, kind], ...]}

``kind`` is :data:`RAW` (the pages' bytes are in the data, in this order), :data:`ZERO` (all bytes are zero, nothing
is in the data), :data:`XOR` (in the data is the exclusive or of the pages' bytes and of those sent last for them) or
:data:`LIKE` (nothing is in the data: they are as those of the same indices in another object, which ``f`` names).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from .errors import LimitError, MalformedError
from .limits import CHUNK_RAW_BYTES_MAX, MIB, NAME_BYTES_MAX

RAW = 0
ZERO = 1
XOR = 2
LIKE = 3

WITH_DATA = frozenset({RAW, XOR})
"""Kinds whose pages have bytes in the data."""

RUNS_PER_BATCH_MAX = 2048
"""The encoded map stays under half of a frame header."""

ZERO_PAGES_PER_BATCH_MAX = 1 << 18
"""Zero pages cost no data: without a bound one batch could claim the whole address space."""

LIKE_BYTES_PER_BATCH_MAX = 8 * MIB
"""Pages like others cost no data either, but have to be copied."""

ADDRESS_BITS_MAX = 57
"""Largest user address space there is: x86-64 with five page-table levels."""

PAGE_SIZES = (4096, 16384, 65536)
"""What Linux runs with on x86-64 and arm64."""

_OBJECT_NAME = re.compile(r"pagemap-(?:[1-9][0-9]{0,6}|shmem-(?:0|[1-9][0-9]{0,19}))", re.ASCII)
_IMAGE_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.img", re.ASCII)
_IMAGE_FILES_BESIDE = frozenset({"descriptors.json"})


class PageRun(NamedTuple):
    """``pages`` pages from page index ``first``, all of one kind (:data:`RAW`, :data:`ZERO`, ...)."""

    first: int
    pages: int
    kind: int


@dataclass(frozen=True, slots=True)
class PageMeta:
    """A checked batch description. Runs ascend and do not overlap."""

    object_name: str
    runs: tuple[PageRun, ...]
    data_pages: int
    """Pages that have their bytes in the data."""
    zero_pages: int
    like_pages: int
    like_object: str | None
    """The object that these are like; None if there are none."""


def check_object_name(name: object) -> str:
    """Return ``name`` if it names a memory object.

    :raises MalformedError: anything else.
    """
    if not isinstance(name, str) or _OBJECT_NAME.fullmatch(name) is None:
        raise MalformedError(f"{_shown(name)} does not name a memory object (pagemap-PID or pagemap-shmem-ID)")
    return name


def check_image_file_name(name: object) -> str:
    """Return ``name`` if a file of that name may travel as part of a checkpoint image.

    These are CRIU's ``*.img`` files but for ``pages-*``, whose content travels in batches, and runc's
    ``descriptors.json``. No name that passes can leave a directory.

    :raises MalformedError: anything else.
    """
    if (
        not isinstance(name, str)
        or len(name) > NAME_BYTES_MAX
        or name.startswith("pages-")
        or (_IMAGE_FILE_NAME.fullmatch(name) is None and name not in _IMAGE_FILES_BESIDE)
    ):
        raise MalformedError(f"{_shown(name)} may not be a file of a checkpoint image")
    return name


def encode_meta(
    object_name: str, runs: list[PageRun] | tuple[PageRun, ...], like_object: str | None = None
) -> dict[str, object]:
    """The map that describes a batch, ready for msgpack.

    :param like_object: what pages of kind :data:`LIKE` are like; None if there are none.
    """
    meta: dict[str, object] = {"o": object_name, "r": [list(run) for run in runs]}
    return meta if like_object is None else {**meta, "f": like_object}


def decode_meta(value: object, data_bytes: int, page_size: int) -> PageMeta:
    """Check a peer's batch description against the length of the data that came with it.

    :param value: the decoded msgpack value.
    :param data_bytes: length of the data that belongs to it, after decompression.
    :param page_size: bytes of a page in this move, one of :data:`PAGE_SIZES`.
    :raises MalformedError: wrong shape or types, runs out of order or overlapping, an empty run, a sum of pages that
        is not the length of the data.
    :raises LimitError: too many runs or pages, or pages beyond the address space.
    """
    if page_size not in PAGE_SIZES:
        raise MalformedError(f"page size {page_size} is none of {PAGE_SIZES}")
    if data_bytes > CHUNK_RAW_BYTES_MAX:
        raise LimitError(f"page batch holds {data_bytes} bytes, at most {CHUNK_RAW_BYTES_MAX} allowed")
    if not isinstance(value, dict) or value.keys() - {"f"} != {"o", "r"}:
        raise MalformedError("page batch is not a map of exactly o and r, or of these and f")
    object_name = check_object_name(value["o"])
    items = value["r"]
    if not isinstance(items, list) or not items:
        raise MalformedError("runs of a page batch are not a list with entries")
    if len(items) > RUNS_PER_BATCH_MAX:
        raise LimitError(f"page batch has {len(items)} runs, at most {RUNS_PER_BATCH_MAX} allowed")
    runs = _decode_runs(items, page_limit=(1 << ADDRESS_BITS_MAX) // page_size)
    data_pages = sum(run.pages for run in runs if run.kind in WITH_DATA)
    zero_pages = sum(run.pages for run in runs if run.kind == ZERO)
    like_pages = sum(run.pages for run in runs if run.kind == LIKE)
    if zero_pages > ZERO_PAGES_PER_BATCH_MAX:
        raise LimitError(f"page batch has {zero_pages} zero pages, at most {ZERO_PAGES_PER_BATCH_MAX} allowed")
    if like_pages * page_size > LIKE_BYTES_PER_BATCH_MAX:
        raise LimitError(f"page batch has {like_pages} pages like others, {LIKE_BYTES_PER_BATCH_MAX} bytes allowed")
    if data_pages * page_size != data_bytes:
        raise MalformedError(f"page batch announces {data_pages} pages of {page_size} but holds {data_bytes} bytes")
    like_object = check_object_name(value["f"]) if "f" in value else None
    if (like_object is None) != (like_pages == 0) or like_object == object_name:
        raise MalformedError("page batch names another object, and has no pages like those, or the other way round")
    return PageMeta(object_name, runs, data_pages, zero_pages, like_pages, like_object)


def _decode_runs(items: list[object], page_limit: int) -> tuple[PageRun, ...]:
    runs: list[PageRun] = []
    end = 0
    for item in items:
        # bool is an int in Python, but not on this wire
        if not isinstance(item, list) or len(item) != 3 or any(type(number) is not int for number in item):
            raise MalformedError("run of a page batch is not three integers")
        run = PageRun(*item)
        if run.kind not in (RAW, ZERO, XOR, LIKE):
            raise MalformedError(f"unknown kind {_shown(run.kind)} of pages")
        if run.pages < 1:
            raise MalformedError("run of a page batch has no pages")
        if run.first < end:
            raise MalformedError(f"run at page {_shown(run.first)} overlaps or is out of order")
        end = run.first + run.pages
        if end > page_limit:
            raise LimitError(f"pages {_shown(run.first)} and on are beyond the address space")
        runs.append(run)
    return tuple(runs)


def _shown(value: object) -> str:
    """A peer's value for a message: short whatever it is."""
    return repr(value)[:64] if isinstance(value, str | int) else f"a {type(value).__name__}"
