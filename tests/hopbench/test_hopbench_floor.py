"""The floor counts pages that changed, whole, and nothing else."""

from __future__ import annotations

import os

import zstandard

from hopbench.floor import ZstdSize, changed_pages

PAGE = 4096


def pages(*contents: bytes) -> memoryview:
    """Pages filled with these."""
    return memoryview(b"".join(content.ljust(PAGE, b"\0") for content in contents))


def test_only_pages_that_differ_are_yielded() -> None:
    final, shadow = pages(b"same", b"new", b"", b"was there"), pages(b"same", b"old", b"", b"")
    assert [bytes(page[:9]).rstrip(b"\0") for page in changed_pages(final, shadow, PAGE)] == [b"new", b"was there"]


def test_one_bit_at_the_end_of_a_page_is_a_change() -> None:
    final = bytearray(2 * PAGE)
    final[-1] = 1
    (page,) = changed_pages(memoryview(final), memoryview(bytes(2 * PAGE)), PAGE)
    assert page[-1] == 1


def test_the_size_is_that_of_one_frame() -> None:
    content = os.urandom(8 * PAGE) + b"x" * 8 * PAGE
    size = ZstdSize()
    size.add(changed_pages(memoryview(content), memoryview(bytes(len(content))), PAGE))
    assert size.pages == 16
    whole = len(zstandard.ZstdCompressor(level=3).compress(content))
    assert abs(size.finish() - whole) < 64


def test_nothing_changed_is_nothing_to_send() -> None:
    size = ZstdSize()
    size.add(changed_pages(pages(b"a"), pages(b"a"), PAGE))
    assert (size.pages, size.finish()) == (0, 0)
