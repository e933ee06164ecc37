"""The specification's tables, the codec and the golden frames say the same; each is held against the others."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from support.specification import (
    PROTOCOL,
    Field,
    Section,
    WrongError,
    below,
    bounds,
    diagram,
    number,
    sections,
    table,
    tables,
)

from streamhop.content.container_config.networks import NETWORKS_MAX, SUBNETS_MAX
from streamhop.content.image_layers import ImageDescription
from streamhop.content.image_layers.description import NAMES_MAX
from streamhop.content.image_layers.documents import DOCUMENTS_BYTES_MAX, LAYERS_MAX
from streamhop.engine.cpu_features import FEATURES_MAX
from streamhop.handover.manifest import ROOTFS_TREE, SHM_TREE, VOLUMES_MAX, Manifest, tree_of
from streamhop.handover.receiving import IMAGE_FILE_BYTES_MAX, IMAGE_FILES_MAX, MEMORY_ROUNDS_MAX, TREE_ROUNDS_MAX
from streamhop_protocol import codecs, limits, page_batches, session, tree_records
from streamhop_protocol.connection import ALLOWED, Phase
from streamhop_protocol.errors import CODES, ProtocolError
from streamhop_protocol.fields import from_map
from streamhop_protocol.frames import PREAMBLE, FrameReader, FrameType, encode_frame, encode_head, is_message
from streamhop_protocol.messages import MESSAGE_TYPES, StreamKind
from streamhop_protocol.signals import SIGNAL_TYPES
from streamhop_protocol.tree_entries import EntryType
from streamhop_protocol.tree_records import RecordKind
from streamhop_protocol.wirepack import unpack

CLASSES: dict[int, type] = {**MESSAGE_TYPES, **{int(kind): cls for kind, cls in SIGNAL_TYPES.items()}}
SECTIONS = sections()
BY_NUMBER = {section.number: section for section in SECTIONS}

LIMITS = {
    "header of a frame": limits.FRAME_HEADER_BYTES_MAX - 1,
    "header of a frame in the handshake": limits.HELLO_BYTES_MAX,
    "header of a message, before it moves to the payload": limits.MESSAGE_HEADER_BYTES_MAX,
    "payload of a DATA frame": limits.FRAME_PAYLOAD_BYTES_MAX,
    "payload of a message": limits.CONTROL_PAYLOAD_BYTES_MAX,
    "chunk after decompression": limits.CHUNK_RAW_BYTES_MAX,
    "meta of a chunk": limits.META_BYTES_MAX,
    "window of a zstd frame": codecs.ZSTD_WINDOW_BYTES_MAX,
    "credit of a stream": limits.STREAM_WINDOW_BYTES,
    "least credit that a DATA frame takes": limits.FRAME_COST_BYTES_MIN,
    "frames of a stream ahead of the one that is due": limits.REORDER_FRAMES_MAX - 1,
    "streams open at once, each way": limits.STREAMS_OPEN_MAX,
    "DONE and RESET that wait for a peer to read them": session.ANSWERS_WAITING_MAX,
    "connections of a session": limits.CONNECTIONS_MAX,
    "name of a peer": limits.NAME_BYTES_MAX,
    "code": limits.CODE_BYTES_MAX,
    "reason, fix": limits.CONTROL_TEXT_BYTES_MAX,
    "reasons of a refusal besides the first": limits.OTHER_REASONS_MAX,
    "entries of a list in a message": limits.LIST_ITEMS_MAX,
    "arrays and maps nested in one msgpack value": limits.NESTING_MAX,
    "items of arrays and maps in one msgpack value": limits.ITEMS_MAX,
}


def load(name: str) -> list[dict[str, Any]]:
    rows = json.loads((PROTOCOL / "vectors" / name).read_text(encoding="utf-8"))
    assert isinstance(rows, list)
    return rows


def test_every_type_has_a_section_of_the_same_shape() -> None:
    assert [(section.number, section.name) for section in SECTIONS] == [
        (number, cls.__name__.upper()) for number, cls in sorted(CLASSES.items())
    ]
    for section in SECTIONS:
        parts = re.findall(r"^\*(Purpose|Sent|Fields|Errors)\*: ?", section.text, re.MULTILINE)
        assert parts == ["Purpose", "Sent", "Fields", "Errors"], section.name
        assert section.fields or "*Fields*: none." in section.text


def test_sections_have_the_fields_of_the_codec() -> None:
    for section in SECTIONS:
        fields = dataclasses.fields(CLASSES[section.number])
        missing = dataclasses.MISSING
        optional = [item.default is not missing or item.default_factory is not missing for item in fields]
        assert [field.name for field in section.fields] == [item.name for item in fields], section.name
        assert [field.optional for field in section.fields] == optional, section.name


def test_types_are_those_of_the_codec() -> None:
    *known, unknown = table("SPEC.md", "Types")
    assert unknown == ["any other", "unknown", "any", "at most 1 MiB", "any"]
    assert {int(digits, 16): name for digits, name, *_ in known} == {
        kind: cls.__name__.upper() for kind, cls in CLASSES.items()
    }
    for digits, name, stream, payload, phases in known:
        kind = int(digits, 16)
        allowed = {phase.value for phase, types in ALLOWED.items() if kind in types}
        assert set(phases.split(", ")) == (allowed | ({"control"} if is_message(kind) else set())), name
        of_stream, most = stream == "its own", bounds(payload)[1]
        assert prefix_passes(kind, most, int(of_stream)), name
        assert not prefix_passes(kind, most + 1, int(of_stream)), name
        assert not prefix_passes(kind, 0, int(not of_stream)), name


def prefix_passes(kind: int, payload_bytes: int, stream: int) -> bool:
    reader = FrameReader()
    reader.trusted = True
    reader._preamble_seen = True
    reader.feed(encode_head(kind, b"", payload_bytes=payload_bytes, stream=stream))
    try:
        reader.next_frame()
    except ProtocolError:
        return False
    return True


def test_phases_codes_and_codecs_are_those_of_the_codec() -> None:
    assert [row[0] for row in table("SPEC.md", "Phases")] == [phase.value for phase in Phase]
    assert {row[0] for row in table("SPEC.md", "Errors")} == CODES.keys()
    rows = table("SPEC.session.md", "Chunks")
    assert {int(digits): name for digits, name, _ in rows} == {int(each): each.name.lower() for each in codecs.Codec}


def test_limits_are_those_of_the_codec() -> None:
    assert {what: number(limit) for what, limit in table("SPEC.md", "Limits")} == LIMITS


def test_the_prefix_is_laid_out_as_drawn() -> None:
    rows = [(int(offset), int(size), name) for offset, size, name, _ in table("SPEC.md", "Frames")[:5]]
    frame = encode_frame(FrameType.DATA, b"h" * 0x0102, b"p" * 0x0304, flags=2, stream=0xA1A2A3A4)
    values = {"payload_len": 0x0304, "header_len": 0x0102, "type": 0x11, "flags": 2, "stream": 0xA1A2A3A4}
    assert {name: int.from_bytes(frame[at : at + size], "big") for at, size, name in rows} == values
    flags = [("0", 6), ("M", 1), ("R", 1)]
    bits = [[(name, 8 * size)] if name != "flags" else flags for _, size, name in rows]
    assert diagram("SPEC.md", "Frames") == [each for several in bits for each in several]


def test_the_preamble_is_laid_out_as_drawn() -> None:
    assert diagram("SPEC.md", "Connections") == [
        *((char, 8) for char in ("0xF5", "'H'", "'O'", "'P'", "0x0D", "0x0A")),
        ("version of the framing: 1", 16),
    ]
    assert b"\xf5HOP\x0d\x0a" + (1).to_bytes(2, "big") == PREAMBLE


def test_state_diagrams_are_drawn_from_the_tables_of_the_code() -> None:
    script = PROTOCOL.parent / "tools" / "repo" / "draw_states.py"
    done = subprocess.run([sys.executable, str(script), "--check"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_links_between_the_parts_lead_somewhere() -> None:
    for path in PROTOCOL.glob("SPEC*.md"):
        for name, anchor in re.findall(r"\]\(([\w.]*)(?:#([\w-]+))?\)", path.read_text(encoding="utf-8")):
            text = (PROTOCOL / (name or path.name)).read_text(encoding="utf-8")
            headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
            assert not anchor or anchor in slugs, f"{path.name}: {name}#{anchor}"


# -- each field, at its limits and beyond --------------------------------------------------------------------------


def some(field: Field) -> Any:
    """A value that the specification allows."""
    if field.limits.startswith("one of "):
        return field.limits.removeprefix("one of ").split(", ")[0]
    if field.type in ("uint", "text", "bytes"):
        low = max(bounds(field.limits)[0], 1)
        return {"uint": low, "text": "t" * low, "bytes": bytes(low)}[field.type]
    return {"map": {}, "any": None, "list of text": [], "list of pairs": []}[field.type]


def others(field: Field) -> Iterator[Any]:
    """Values of the field's type and of others, inside and outside of its limits."""
    yield from (None, True, 1.5, float("nan"), "", "text", b"", b"bytes", [], {}, {"x": float("inf")}, [[1]], -1)
    if field.type in ("list of text", "list of pairs"):
        entries, size = (int(digits) for digits in re.findall(r"\d+", field.limits))
        entry: Any = "x" if field.type == "list of text" else ["", ""]
        yield from ([entry] * entries, [entry] * (entries + 1))
        for text in ("t" * size, "t" * (size + 1)):
            yield [text] if field.type == "list of text" else [["", text]]
    elif field.type in ("uint", "text", "bytes") and not field.limits.startswith("one of "):
        low, high = bounds(field.limits)
        for size in (low - 1, low, high, high + 1):
            if field.type == "uint":
                yield size
            elif size >= 0:
                yield "t" * size if field.type == "text" else bytes(size)


def verdict(section: Section, fields: dict[str, Any]) -> str | None:
    try:
        section.check(fields)
    except WrongError as error:
        return str(error)
    return None


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_codec_takes_what_the_tables_allow_and_nothing_else(section: Section) -> None:
    def decoded(fields: dict[str, Any]) -> str | None:
        try:
            from_map(CLASSES[section.number], fields)
        except ProtocolError as error:
            return error.code
        return None

    fields = {field.name: some(field) for field in section.fields}
    assert (decoded(fields), verdict(section, fields)) == (None, None)
    assert decoded({**fields, "of a later version": 1}) is None
    for field in section.fields:
        without = {name: value for name, value in fields.items() if name != field.name}
        assert decoded(without) == verdict(section, without) == (None if field.optional else "malformed")
        for value in others(field):
            changed = {**fields, field.name: value}
            assert decoded(changed) == verdict(section, changed), f"{field.name} = {value!r:.80}"


# -- the golden frames ---------------------------------------------------------------------------------------------


def map_of(row: dict[str, Any]) -> tuple[Section, dict[str, Any]] | None:
    """The type and the map of a vector's frame; None if it is not whole, or no msgpack map."""
    frame = bytes.fromhex(row["hex"])
    payload_bytes, header_bytes = int.from_bytes(frame[:4], "big"), int.from_bytes(frame[4:6], "big")
    section = BY_NUMBER.get(frame[6])
    if section is None or len(frame) != 12 + header_bytes + payload_bytes:
        return None
    body = frame[12 : 12 + header_bytes] if header_bytes or not is_message(section.number) else frame[12:]
    try:
        value = unpack(body) if body else {}
    except ProtocolError:
        return None
    return (section, value) if isinstance(value, dict) else None


def test_valid_frames_stand_the_tables() -> None:
    checked = set()
    for row in load("frames_valid.json"):
        found = map_of(row)
        if found is not None:
            section, fields = found
            assert verdict(section, fields) is None, row["means"]["name"]
            checked.add(section.number)
    assert checked == BY_NUMBER.keys()


def test_invalid_frames_break_the_tables_where_it_is_about_fields() -> None:
    checked = set()
    for row in load("frames_invalid.json"):
        found = map_of(row)
        about_fields = re.fullmatch(r"[A-Z]+: \w+ (is missing|is of another type|out of bounds)", row["why"])
        if about_fields:
            assert found is not None, row["why"]
            assert verdict(*found) == row["error"], row["why"]
            checked.add(found[0].number)
    assert checked == {section.number for section in SECTIONS if section.fields}


# -- what a move carries -------------------------------------------------------------------------------------------


def test_the_manifest_has_the_fields_of_the_tables() -> None:
    manifest, image = (list(tables(below("SPEC.content.md", "Manifest")))[at][1:] for at in (0, 1))
    assert [row[0] for row in manifest] == [item.name for item in dataclasses.fields(Manifest)]
    assert [row[0] for row in image] == [item.name for item in dataclasses.fields(ImageDescription)]
    limits_of = {row[0]: row[2] for row in manifest + image}
    assert limits_of["trees"].startswith(f"each once, out of {ROOTFS_TREE}, {SHM_TREE}, and {tree_of('')} and the")
    assert limits_of["cpu"].startswith(f"at most {FEATURES_MAX} entries")
    assert limits_of["volumes"].startswith(f"at most {VOLUMES_MAX} volumes")
    assert limits_of["networks"] == f"at most {NETWORKS_MAX}"
    assert f"at most\n{SUBNETS_MAX} maps" in below("SPEC.content.md", "Manifest")
    assert number(re.findall(r"at most (\d+)", limits_of["names"])[0]) == NAMES_MAX
    assert number(re.findall(r"at most (\d+)", limits_of["layers"])[0]) == LAYERS_MAX
    assert number(limits_of["config"].removesuffix(" with the next two")) == DOCUMENTS_BYTES_MAX


def test_kinds_of_streams_and_their_bounds_are_those_of_the_code() -> None:
    rows = table("SPEC.content.md", "Streams")
    assert {row[0] for row in rows} == {kind.value for kind in StreamKind}
    said = re.search(
        r"at most (\S+) rounds of memory, (\S+) of each tree, (\S+) image files and (\S+ MiB)",
        below("SPEC.content.md", "Streams"),
    )
    assert said is not None
    bounds_of_a_move = (MEMORY_ROUNDS_MAX, TREE_ROUNDS_MAX, IMAGE_FILES_MAX, IMAGE_FILE_BYTES_MAX)
    assert tuple(number(text) for text in said.groups()) == bounds_of_a_move


def test_limits_of_page_batches_are_those_of_the_codec() -> None:
    text = (PROTOCOL / "SPEC.page_batches.md").read_text(encoding="utf-8")
    said = dict(re.findall(r"\b([A-Z_]+_MAX) \(([^)]+)\)", text))
    assert {name: number(limit) for name, limit in said.items()} == {
        "CHUNK_RAW_BYTES_MAX": limits.CHUNK_RAW_BYTES_MAX,
        "RUNS_PER_BATCH_MAX": page_batches.RUNS_PER_BATCH_MAX,
        "ZERO_PAGES_PER_BATCH_MAX": page_batches.ZERO_PAGES_PER_BATCH_MAX,
        "LIKE_BYTES_PER_BATCH_MAX": page_batches.LIKE_BYTES_PER_BATCH_MAX,
        "ADDRESS_BITS_MAX": 1 << page_batches.ADDRESS_BITS_MAX,
    }
    kinds = {row[1]: int(row[0]) for row in tables_of_kinds(text)}
    assert kinds == {
        "raw": page_batches.RAW,
        "zero": page_batches.ZERO,
        "difference": page_batches.XOR,
        "like": page_batches.LIKE,
    }


def tables_of_kinds(text: str) -> list[list[str]]:
    (rows,) = [rows[1:] for rows in tables(text) if rows[0][0] == "kind"]
    return [[row[0], re.split(r"[:, ]", row[1])[0]] for row in rows]


def test_tree_records_are_laid_out_as_the_tables_say() -> None:
    stream = {row[0]: row for row in table("SPEC.tree_records.md", "Stream")}
    kinds = dict(re.findall(r"(\d) ([A-Z]+)", stream["kind"][2]))
    assert {int(digits): name for digits, name in kinds.items()} == {int(kind): kind.name for kind in RecordKind}
    assert number(re.findall(r"at most ([\d,]+)", stream["length"][2])[0]) == tree_records.RECORD_BODY_BYTES_MAX
    entry = table("SPEC.tree_records.md", "ENTRY (1)")
    fixed = [sum(int(size) for size in row[1].split(" + ")) for row in entry if row[1][0].isdigit()]
    assert sum(fixed) == tree_records._ENTRY.size
    types = dict(re.findall(r"(\d) ([a-z]+)", entry[0][2]))
    assert {int(digits) for digits in types} == {int(each) for each in EntryType}
