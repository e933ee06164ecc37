"""Images: descriptions, documents, archives, layers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

from fuzz.target import Target, slices
from fuzz.targets.scratch import scratch
from streamhop.content.image_layers import ImageAssembler, ImageDescription, LayerDescription
from streamhop.content.image_layers.archive import ArchiveReader
from streamhop.content.image_layers.documents import (
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    build_index,
    build_manifest,
    diff_ids_of,
    media_type_of,
    parse_index,
    parse_manifest,
)
from streamhop.content.image_layers.errors import ImageError
from streamhop.content.image_layers.tar_headers import END_OF_ARCHIVE, encode_header, padding, parse_header, parse_pax
from streamhop_protocol.errors import LimitError, MalformedError, ProtocolError
from streamhop_protocol.wirepack import pack, unpack

LAYER = b"one layer of an image"


def digest(data: bytes) -> str:
    """As Docker names a blob."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


CONFIG = json.dumps({"architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [digest(LAYER)]}}).encode()
CLASSIC = ImageDescription(
    digest(CONFIG), "classic", ("web:1",), (LayerDescription(digest(LAYER), digest(LAYER), len(LAYER)),), CONFIG
)
MANIFEST = build_manifest(CONFIG, [Descriptor(OCI_LAYER, digest(LAYER), len(LAYER))])
INDEX = build_index(OCI_MANIFEST, MANIFEST)
CONTAINERD = ImageDescription(digest(INDEX), "containerd", ("web:1",), CLASSIC.layers, CONFIG, MANIFEST, INDEX)


def run_image_description(data: bytes) -> None:
    """A description as it stands in a manifest."""
    image = ImageDescription.from_wire(unpack(data))
    assert ImageDescription.from_wire(image.to_wire()) == image


def run_image_document(data: bytes) -> None:
    """First byte: which document."""
    match data[0] % 4 if data else 0:
        case 0:
            diff_ids_of(data[1:])
        case 1:
            parse_manifest(data[1:])
        case 2:
            parse_index(data[1:])
        case _:
            media_type_of(data[1:], OCI_INDEX)


def run_archive(data: bytes) -> None:
    """First byte: size of the pieces, see :func:`slices`. What is left is also read as an extended header."""

    async def read() -> None:
        reader = ArchiveReader(_later(slices(data)))
        while (found := await reader.next_entry()) is not None:
            if found.size % 2:
                await reader.read(4096)

    try:
        _to_the_end(read())
    finally:
        for parse in (parse_pax, lambda block: parse_header(block[:512])):
            _but_for_refusals(parse, data[1:])


def _but_for_refusals(parse: Any, data: bytes) -> None:
    try:
        parse(data)
    except (MalformedError, LimitError):
        return


async def _later(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Run what waits for nothing; an event loop for each input would take most of the time."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("the reader waits for something")


def run_layer_blob(data: bytes) -> None:
    """A byte says what is done: begin, write the bytes whose number follows, commit, abort."""
    with scratch() as directory:
        image = ImageAssembler(directory / "layers", CLASSIC)
        writer, at = None, 0
        while at < len(data):
            what, at = data[at] % 5, at + 1
            if what == 0:
                writer = image.blob_writer(digest(LAYER))
            elif what == 1 and writer is not None:
                length = data[at] if at < len(data) else 0
                writer.write(data[at + 1 : at + 1 + length])
                at += 1 + length
            elif what == 2 and writer is not None:
                writer.commit()
            elif what == 3 and writer is not None:
                writer.abort()
            elif what == 4:
                length = data[at] if at < len(data) else 0
                image.blob_writer(data[at + 1 : at + 1 + length].decode("utf-8", "replace"))
                at += 1 + length
        for path in (directory / "layers").iterdir():
            assert path.suffix == ".partial" or path.read_bytes() == LAYER, "a layer was kept that is another"


def tar_entry(name: str, data: bytes, kind: bytes = b"0", size: int | None = None) -> bytes:
    """An entry of an archive of another kind, or with another size, than it has."""
    block = bytearray(encode_header(name, len(data) if size is None else size))
    block[156:157] = kind
    return resealed(bytes(block)) + data + bytes(padding(len(data)))


def resealed(block: bytes) -> bytes:
    """A header with a checksum that fits."""
    changed = bytearray(block)
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed)
    return bytes(changed)


def _description_seeds() -> Iterator[bytes]:
    yield pack(CLASSIC.to_wire())
    yield pack(CONTAINERD.to_wire())


def _document_seeds() -> Iterator[bytes]:
    for number, document in enumerate((CONFIG, MANIFEST, INDEX, INDEX)):
        yield bytes([number]) + document


def _archive_seeds() -> Iterator[bytes]:
    entries = tar_entry("blobs/sha256/" + "a" * 64, b"blob") + tar_entry("index.json", b"{}")
    yield b"\0" + entries + END_OF_ARCHIVE
    pax = b"30 path=blobs/sha256/a longer\n"
    yield b"\x63" + tar_entry("x", pax, b"x") + entries + END_OF_ARCHIVE
    yield b"\0" + tar_entry("l", b"a/long/name\0", b"L") + entries + END_OF_ARCHIVE
    yield b"\0" + pax


def _blob_seeds() -> Iterator[bytes]:
    yield b"\0\1" + bytes([len(LAYER)]) + LAYER + b"\2"
    yield b"\0\1\3one\3\0"
    yield b"\4\x47" + digest(LAYER).encode()


TARGETS = {
    "image_description": Target(run_image_description, _description_seeds),
    "image_document": Target(run_image_document, _document_seeds),
    "archive": Target(run_archive, _archive_seeds, (ImageError,)),
    "layer_blob": Target(run_layer_blob, _blob_seeds, (ProtocolError,)),
}
