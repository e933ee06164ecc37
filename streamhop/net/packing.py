"""Compression off the event loop: a few threads for each session. The compressors release the GIL."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from streamhop_protocol.codecs import Codec, CodecChoice, choose_codec, compress, looks_compressible

T = TypeVar("T")
Packed = tuple[Codec, bytes | memoryview]

INLINE_BYTES_MAX = 8 * 1024
"""Work on less than this takes less time than handing it to a thread."""


UNSEEN_CHUNKS_MAX = 16
"""So many chunks of a stream go as they are, at most, before one is looked at again."""


def pack_chunk(data: bytes | memoryview, choice: CodecChoice) -> Packed:
    """Compress one chunk, unless a look at it says that it is not worth it."""
    if choice.codec is not Codec.NONE and not looks_compressible(data):
        choice = CodecChoice(Codec.NONE)
    return compress(data, choice)


class ContentHabit:
    """What the chunks of one stream were like, and so which of the next are to be looked at.

    A look at a chunk, with handing it to a thread and back, costs a fast link more than it can save while the content
    does not shrink. So each chunk that did not lets twice as many pass as the one before. A link that is slow enough
    for more than LZ4 gains by every chunk that shrinks, and waits for nobody: there all are looked at.
    """

    def __init__(self) -> None:
        self._passing = 0
        self._passed = 0

    @property
    def passing(self) -> int:
        """Chunks that go as they are before one is looked at again, on a fast link."""
        return self._passing

    def choose(self, link_bytes_per_s: float | None) -> CodecChoice:
        """The codec to try on the next chunk."""
        choice = choose_codec(link_bytes_per_s, compressible=True)
        if choice.codec is Codec.LZ4 and self._passed < self._passing:
            self._passed += 1
            return CodecChoice(Codec.NONE)
        return choice

    def learn(self, codec: Codec) -> None:
        """A codec was tried on a chunk, and this is what became of it: NONE if it did not shrink."""
        self._passing = min(UNSEEN_CHUNKS_MAX, 2 * self._passing + 1) if codec is Codec.NONE else 0
        self._passed = 0


def stable(data: bytes | bytearray | memoryview) -> bytes | memoryview:
    """``data`` such that the caller may reuse its buffer: a copy, unless nobody can change it."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, memoryview) and isinstance(data.obj, bytes) and data.c_contiguous:
        return data.cast("B")
    return bytes(data)


class CodecThreads:
    """Runs work in a bounded number of threads, which end with the session."""

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="streamhop-codec")
        self._loop = asyncio.get_running_loop()
        self._threads = threads
        self._packing_s = 0.0
        self._counting = threading.Lock()
        self._asked_at = time.monotonic()

    def submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Start ``work`` in a thread; not after :meth:`close`."""
        return asyncio.ensure_future(self._loop.run_in_executor(self._executor, work))

    def pack(self, data: bytes | memoryview, choice: CodecChoice) -> asyncio.Future[Packed]:
        """:func:`pack_chunk` in a thread; counts for :meth:`packing_share`."""

        def timed() -> Packed:
            began = time.monotonic()
            packed = pack_chunk(data, choice)
            with self._counting:
                self._packing_s += time.monotonic() - began
            return packed

        return self.submit(timed)

    def packing_share(self) -> float:
        """Which part of their time, since this was last asked, the threads have packed chunks."""
        now = time.monotonic()
        available_s = self._threads * (now - self._asked_at)
        share = self._packing_s / available_s if available_s > 0 else 0.0
        with self._counting:
            self._packing_s = 0.0
        self._asked_at = now
        return share

    def close(self) -> None:
        """Let the threads go; what has not begun is cancelled."""
        self._executor.shutdown(wait=False, cancel_futures=True)
