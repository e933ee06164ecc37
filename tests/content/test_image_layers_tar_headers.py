"""Headers of tar archives: what other tars write is read, what is written others read, and junk is refused."""

from __future__ import annotations

import io
import tarfile

import pytest

from streamhop.content.image_layers.tar_headers import (
    BLOCK_BYTES,
    END_OF_ARCHIVE,
    EXTENSION_BYTES_MAX,
    SIZE_MAX,
    TarHeader,
    check_extension,
    encode_header,
    padding,
    parse_header,
    parse_pax,
)
from streamhop_protocol.errors import LimitError, MalformedError


def changed(block: bytes, start: int, content: bytes) -> bytes:
    """``block`` with ``content`` at ``start`` and a checksum that is right."""
    result = bytearray(block)
    result[start : start + len(content)] = content
    result[148:156] = b" " * 8
    result[148:156] = b"%06o\0 " % sum(result)
    return bytes(result)


FILE = encode_header("blobs/sha256/x", 7)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 8**11 - 1, 8**11, 1 << 44, SIZE_MAX])
def test_what_is_written_is_read_back_here_and_by_another_tar(size: int) -> None:
    block = encode_header("blobs/sha256/abc", size)
    assert parse_header(block) == TarHeader("blobs/sha256/abc", size, b"0")
    other = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    assert (other.name, other.size, other.isreg(), other.uid, other.mode) == ("blobs/sha256/abc", size, True, 0, 0o644)


def test_a_directory_is_written_as_one() -> None:
    other = tarfile.TarInfo.frombuf(encode_header("blobs/", 0, directory=True), "utf-8", "strict")
    assert (other.isdir(), other.mode) == (True, 0o755)


@pytest.mark.parametrize(("name", "size"), [("n" * 101, 0), ("n", -1), ("n", SIZE_MAX + 1), ("\u00e9", 0)])
def test_what_fits_no_header_is_not_written(name: str, size: int) -> None:
    with pytest.raises(ValueError, match=r".+"):
        encode_header(name, size)


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_of_other_tars_are_read(tar_format: int) -> None:
    info = tarfile.TarInfo("a/b")
    info.size = 1234
    header = parse_header(info.tobuf(tar_format))
    assert header == TarHeader("a/b", 1234, b"0")
    assert header.is_file


def test_a_long_name_in_two_parts_is_put_together() -> None:
    info = tarfile.TarInfo("d" * 80 + "/" + "f" * 80)
    header = parse_header(info.tobuf(tarfile.USTAR_FORMAT))
    assert header is not None
    assert header.name == info.name


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513])
def test_padding_fills_the_last_block(size: int) -> None:
    assert (size + padding(size)) % BLOCK_BYTES == 0
    assert 0 <= padding(size) < BLOCK_BYTES


def test_zeros_end_an_archive() -> None:
    assert parse_header(bytes(BLOCK_BYTES)) is None
    assert bytes(1024) == END_OF_ARCHIVE


@pytest.mark.parametrize("length", range(BLOCK_BYTES))
def test_a_header_cut_anywhere_is_refused(length: int) -> None:
    with pytest.raises(MalformedError):
        parse_header(FILE[:length])


def test_a_flipped_bit_anywhere_is_noticed() -> None:
    for position in range(BLOCK_BYTES):
        block = bytearray(FILE)
        block[position] ^= 1
        try:
            header = parse_header(bytes(block))
        except MalformedError:
            continue
        # The rest of the checksum's own field says nothing: spaces and zeros around the digits.
        assert header == parse_header(FILE)
        assert position in range(148, 156)


@pytest.mark.parametrize(
    "field",
    [
        b"\xff" * 12,
        b"\xc0" + bytes(11),
        b"\x80" + b"\xff" * 11,
        b"\x80" + bytes(3) + b"\x80" + bytes(7),
        b"-0000000001\0",
        b"+0000000001\0",
        b"00000000008\0",
        b"00000000009\0",
        b"0x000000001\0",
        b"000000 0001\0",
        b"0000\x000001\0\0\0",
        b"1_0\0\0\0\0\0\0\0\0\0",
        "\u0661".encode() + bytes(10),
    ],
    ids=repr,
)
def test_sizes_that_are_none_are_refused(field: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_header(changed(FILE, 124, field))


def test_the_largest_sizes_are_read_as_they_are() -> None:
    assert parse_header(changed(FILE, 124, b"7" * 12)) == TarHeader("blobs/sha256/x", 8**12 - 1, b"0")
    assert parse_header(changed(FILE, 124, b"\x80" + SIZE_MAX.to_bytes(11, "big"))) == TarHeader(
        "blobs/sha256/x", SIZE_MAX, b"0"
    )


@pytest.mark.parametrize(("kind", "is_file"), [(b"0", True), (b"\0", True), (b"7", True), (b"5", False), (b"2", False)])
def test_kinds_are_told_apart(kind: bytes, is_file: bool) -> None:
    header = parse_header(changed(FILE, 156, kind))
    assert header is not None
    assert header.is_file is is_file


def test_records_of_an_extended_header_are_read() -> None:
    info = tarfile.TarInfo("x/" * 90 + "\u00e9")
    info.size = 1 << 40
    written = info.tobuf(tarfile.PAX_FORMAT)
    header = parse_header(written[:BLOCK_BYTES])
    assert header is not None
    assert header.kind == b"x"
    records = parse_pax(written[BLOCK_BYTES : BLOCK_BYTES + header.size])
    assert records == {"path": info.name, "size": str(info.size)}


GOOD_PAX = b"12 path=abc\n11 size=12\n"


def test_a_record_may_hold_an_equals_sign_and_a_line_end() -> None:
    assert parse_pax(b"12 path=a=b\n13 x=\n\n\n\n\n\n\n\n") == {"path": "a=b", "x": "\n" * 7}


def test_an_extended_header_cut_inside_a_record_is_refused() -> None:
    assert parse_pax(GOOD_PAX) == {"path": "abc", "size": "12"}
    for length in set(range(1, len(GOOD_PAX))) - {12}:
        with pytest.raises(MalformedError):
            parse_pax(GOOD_PAX[:length])


@pytest.mark.parametrize(
    "content",
    [
        b"\0" * 20,
        b"0 a=b\n",
        b"-6 a=b\n",
        b" 6 a=b\n",
        b"6 a=b\0",
        b"7 a=b\n",
        b"5 a=b\n",
        b"6 acb\n",
        b"999999999999999999999 a=b\n",
        b"18446744073709551616 a=b\n",
        b"6  a=b\n",
    ],
    ids=repr,
)
def test_records_that_are_none_are_refused(content: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_pax(content)


def test_an_extended_header_of_a_gigabyte_is_refused_before_it_is_read() -> None:
    check_extension(TarHeader("x", EXTENSION_BYTES_MAX, b"x"))
    with pytest.raises(LimitError):
        check_extension(TarHeader("x", 1 << 30, b"x"))


def test_a_whole_archive_written_here_is_read_by_another_tar() -> None:
    content = encode_header("a", 3) + b"abc" + bytes(padding(3)) + END_OF_ARCHIVE
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        reader = archive.extractfile("a")
        assert reader is not None
        assert reader.read() == b"abc"
