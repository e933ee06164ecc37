"""Codecs: the choice, and what a hostile chunk can do: nothing but a ProtocolError of bounded cost."""

from __future__ import annotations

import random
import tracemalloc

import lz4.block
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from streamhop_protocol.codecs import (
    Codec,
    CodecChoice,
    check_codec,
    choose_codec,
    compress,
    decompress,
    looks_compressible,
)
from streamhop_protocol.errors import LimitError, MalformedError, ProtocolError
from streamhop_protocol.limits import CHUNK_RAW_BYTES_MAX

MBIT = 125_000
NOISE = random.Random(1).randbytes(CHUNK_RAW_BYTES_MAX)  # noqa: S311 - the same in each run
CHOICES = [CodecChoice(Codec.NONE), CodecChoice(Codec.LZ4), CodecChoice(Codec.ZSTD, 1), CodecChoice(Codec.ZSTD, 3)]


@pytest.mark.parametrize(
    ("link", "choice"),
    [
        (None, CodecChoice(Codec.ZSTD, 3)),
        (20 * MBIT, CodecChoice(Codec.ZSTD, 3)),
        (100 * MBIT, CodecChoice(Codec.ZSTD, 1)),
        (999 * MBIT, CodecChoice(Codec.ZSTD, 1)),
        (1000 * MBIT, CodecChoice(Codec.LZ4)),
        (5001 * MBIT, CodecChoice(Codec.NONE)),
    ],
)
def test_choice(link: float | None, choice: CodecChoice) -> None:
    assert choose_codec(link, compressible=True) == choice
    assert choose_codec(link, compressible=False) == CodecChoice(Codec.NONE)


def test_samples_tell_noise_from_content() -> None:
    assert not looks_compressible(NOISE)
    assert not looks_compressible(b"tiny")
    assert looks_compressible(bytes(4096))
    assert looks_compressible(memoryview(b"some text, " * 10_000))


def test_compression_that_does_not_help_is_undone() -> None:
    for choice in CHOICES:
        codec, data = compress(NOISE, choice)
        assert codec is Codec.NONE
        assert data is NOISE


@given(st.binary(max_size=300), st.integers(1, 50), st.sampled_from(CHOICES))
def test_there_and_back(seed: bytes, times: int, choice: CodecChoice) -> None:
    raw = seed * times
    codec, packed = compress(memoryview(raw), choice)
    assert decompress(codec, bytes(packed), len(raw)) == raw


@given(st.sampled_from(CHOICES[1:]), st.data())
def test_damage_raises_nothing_else(choice: CodecChoice, data: st.DataObject) -> None:
    raw = b"streamhop " * 40
    codec, packed = compress(raw, choice)
    damaged = bytearray(packed)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    try:
        assert len(decompress(codec, bytes(damaged[:cut]), len(raw))) == len(raw)
    except ProtocolError:
        return


def zstd_claiming(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=19).compress(content)


@pytest.mark.parametrize("codec", [Codec.LZ4, Codec.ZSTD])
def test_a_bomb_is_refused_without_its_memory(codec: Codec) -> None:
    content = bytes(64 * CHUNK_RAW_BYTES_MAX)
    bomb = zstd_claiming(content) if codec is Codec.ZSTD else lz4.block.compress(content, store_size=False)
    del content
    tracemalloc.start()
    with pytest.raises(ProtocolError):
        decompress(codec, bomb[: CHUNK_RAW_BYTES_MAX // 2], CHUNK_RAW_BYTES_MAX)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * CHUNK_RAW_BYTES_MAX


@pytest.mark.parametrize("size", [-1, CHUNK_RAW_BYTES_MAX + 1, 1 << 31, 1 << 62])
@pytest.mark.parametrize("codec", list(Codec))
def test_declared_sizes_are_bounded(codec: Codec, size: int) -> None:
    with pytest.raises(LimitError):
        decompress(codec, b"x", size)


def test_trailing_bytes_are_refused() -> None:
    raw = bytes(1000)
    for choice in CHOICES[1:]:
        codec, packed = compress(raw, choice)
        for more in (b"\x00", bytes(packed), b"\x50\x2a\x4d\x18\x00\x00\x00\x00"):
            with pytest.raises(ProtocolError):
                decompress(codec, bytes(packed) + more, len(raw))


def test_a_zstd_frame_that_wants_a_huge_window_is_refused() -> None:
    content = bytes(1000)
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=27, write_content_size=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    stream = compressor.compressobj()  # not of one segment: the frame names its window
    frame = stream.compress(content) + stream.flush()
    with pytest.raises(ProtocolError):
        decompress(Codec.ZSTD, frame, len(content))


def test_unknown_codecs_are_refused() -> None:
    with pytest.raises(MalformedError):
        check_codec(3)
