"""What CRIU says to a page server, as played by the tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from memory_support import PAGE, PlayedCriu, page

from streamhop.content.memory.criu_page_stream import CriuPageStream
from streamhop.content.memory.criu_pagemap import LAZY, PRESENT, PagemapEntry
from streamhop_protocol.errors import MalformedError

PAGES = 6 | PRESENT << 16


def heard(criu: PlayedCriu) -> tuple[list[str | PagemapEntry], CriuPageStream]:
    stream = CriuPageStream(criu.connection, PAGE)
    try:
        return list(stream), stream
    finally:
        criu.connection.close()
        criu.join()


@pytest.mark.parametrize("header_bytes", [24, 32])
def test_places_come_in_order_and_pages_can_be_read_or_left(header_bytes: int) -> None:
    objects = {"pagemap-1": {5: page(5), 6: page(6), 9: page(9)}, "pagemap-7": {}, "pagemap-shmem-3": {0: page(1)}}
    criu = PlayedCriu(lambda own: own.objects(objects), header_bytes)
    stream = CriuPageStream(criu.connection, PAGE)
    seen: list[str | PagemapEntry] = []
    read: list[bytes] = []
    for found in stream:
        seen.append(found)
        if isinstance(found, PagemapEntry) and found.first != 9:
            buffer = memoryview(bytearray(PAGE))
            assert stream.read_into(buffer)
            read.append(bytes(buffer))
    assert seen == [
        "pagemap-1",
        PagemapEntry(5, 2, PRESENT | LAZY),
        PagemapEntry(9, 1, PRESENT | LAZY),
        "pagemap-7",
        "pagemap-shmem-3",
        PagemapEntry(0, 1, PRESENT | LAZY),
    ]
    assert read == [page(5), page(1)]
    assert stream.complete
    criu.join()
    assert criu.error is None
    criu.connection.close()


def test_a_question_for_a_parent_is_answered_with_no() -> None:
    answers: list[bytes] = []

    def play(own: PlayedCriu) -> None:
        own.command(5, number=0x101)
        answers.append(own.answer(4))
        own.objects({})

    seen, stream = heard(PlayedCriu(play))
    assert (seen, answers, stream.complete) == ([], [bytes(4)], True)


@pytest.mark.parametrize(
    "play",
    [
        lambda own: own.raw(b""),
        lambda own: own.objects({"pagemap-1": {1: page(1)}}, closes=False),
        lambda own: (own.open("pagemap-1"), own.raw(bytes(31))),
        lambda own: (own.command(PAGES, 2, 4096, own.open("pagemap-1")), own.raw(page(1))),
    ],
)
def test_a_criu_that_goes_away_has_not_sent_all(play: Callable[[PlayedCriu], None]) -> None:
    _, stream = heard(PlayedCriu(play))
    assert not stream.complete


def test_reading_tells_that_criu_went_away() -> None:
    criu = PlayedCriu(lambda own: (own.command(PAGES, 2, 4096, own.open("pagemap-1")), own.raw(page(1))))  # type: ignore[arg-type, func-returns-value]
    stream = CriuPageStream(criu.connection, PAGE)
    found = iter(stream)
    assert next(found) == "pagemap-1"
    assert next(found) == PagemapEntry(1, 2, PRESENT)
    assert not stream.read_into(memoryview(bytearray(2 * PAGE)))
    assert list(found) == []
    criu.connection.close()
    criu.join()


@pytest.mark.parametrize(
    "play",
    [
        lambda own: own.raw(b"GET / HTTP/1.1"),
        lambda own: own.command(4, number=0x109),
        lambda own: own.command(7),
        lambda own: own.command(PAGES, 1, 4096, 0x101),
        lambda own: own.command(PAGES, 1, 4096, own.open("pagemap-1") + 256),
        lambda own: own.command(PAGES, 1, 4097, own.open("pagemap-1")),
        lambda own: own.command(PAGES, 0, 4096, own.open("pagemap-1")),
        lambda own: own.command(6 | 1 << 16, 1, 4096, own.open("pagemap-1")),
        lambda own: own.command(6 | (PRESENT | 1) << 16, 1, 4096, own.open("pagemap-1")),
    ],
)
def test_what_criu_would_not_send(play: Callable[[PlayedCriu], None]) -> None:
    with pytest.raises(MalformedError, match="CRIU"):
        heard(PlayedCriu(play))


def test_a_criu_that_nobody_listens_to_any_more_comes_to_its_end() -> None:
    many = {index: page(index) for index in range(2000)}
    criu = PlayedCriu(lambda own: own.objects({"pagemap-1": many, "pagemap-2": many}))
    stream = CriuPageStream(criu.connection, PAGE)
    found = iter(stream)
    assert next(found) == "pagemap-1"
    assert isinstance(next(found), PagemapEntry)
    stream.drain()
    criu.join()
    assert criu.error is None
    assert stream.complete
    criu.connection.close()


def test_a_criu_that_is_not_understood_is_hung_up_on() -> None:
    def play(own: PlayedCriu) -> None:
        own.command(7)
        own.answer(1)

    criu = PlayedCriu(play)
    CriuPageStream(criu.connection, PAGE).drain()
    criu.join()
    assert isinstance(criu.error, ConnectionResetError)
