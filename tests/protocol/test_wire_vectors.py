"""The golden frames: this implementation says what they say, in both directions."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from streamhop_protocol.codecs import Codec, decompress
from streamhop_protocol.connection import Connection, Phase
from streamhop_protocol.errors import CODES
from streamhop_protocol.frames import PREAMBLE
from streamhop_protocol.messages import MESSAGE_TYPES
from streamhop_protocol.signals import SIGNAL_TYPES, Hello, Join

VECTORS = Path(__file__).parents[2] / "protocol" / "vectors"
FIRST = {Phase.AWAIT_WELCOME: Hello("edge-a", 1, 1, 2, 32), Phase.AWAIT_JOINED: Join(bytes(16), bytes(32))}


def load(name: str) -> list[dict[str, Any]]:
    rows = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    assert isinstance(rows, list)
    return rows


@pytest.fixture(name="generator")
def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_vectors", VECTORS / "make_vectors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def connection_in(phase: Phase) -> Connection:
    connection = Connection(phase, FIRST.get(phase))
    connection._reader.trusted = phase in (Phase.CONTROL, Phase.PAYLOAD)
    connection.receive_data(PREAMBLE)
    return connection


def test_the_specification_names_every_type_and_field() -> None:
    spec = (VECTORS.parent / "SPEC.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### (\w+ \(0x[0-9A-F]{2}\))\n(.*?)(?=^#|\Z)", spec, re.DOTALL | re.MULTILINE))
    expected = {f"{cls.__name__.upper()} (0x{number:02X})": cls for number, cls in MESSAGE_TYPES.items()}
    expected |= {f"{cls.__name__.upper()} (0x{number:02X})": cls for number, cls in SIGNAL_TYPES.items()}
    assert sections.keys() == expected.keys()
    for title, cls in expected.items():
        assert "*Purpose*" in sections[title]
        assert "*Errors*" in sections[title]
        for field in dataclasses.fields(cls):
            # move and epoch are explained once for all messages
            assert field.name in sections[title] or field.name in ("move", "epoch"), f"{title} lacks {field.name}"


@pytest.mark.parametrize("name", ["preambles.json", "frames_valid.json", "frames_invalid.json", "transcripts.json"])
def test_files_are_what_the_generator_writes(generator: ModuleType, name: str) -> None:
    assert (VECTORS / name).read_text(encoding="utf-8") == generator.files()[name]


@pytest.mark.parametrize("row", load("frames_valid.json"), ids=lambda row: str((row["means"] or {}).get("name")))
def test_valid_frame_is_understood(generator: ModuleType, row: dict[str, Any]) -> None:
    connection = connection_in(Phase(row["phase"]))
    connection.receive_data(bytes.fromhex(row["hex"]))
    assert connection.error is None
    if row["means"] is None:
        assert connection.events() == []
        return
    (received,) = connection.events()
    more = {"stream": received.stream, "payload": generator.shown(received.payload), "more": received.more}
    expected = row["means"]
    assert generator.meaning(received.body) | {key: more[key] for key in expected.keys() & more.keys()} == expected


@pytest.mark.parametrize("row", load("frames_invalid.json"), ids=lambda row: row["why"])
def test_invalid_frame_ends_the_connection(row: dict[str, Any]) -> None:
    connection = connection_in(Phase(row["phase"]))
    connection.receive_data(bytes.fromhex(row["hex"]))
    assert connection.error is not None
    assert connection.error.code == row["error"], connection.error
    assert connection.events() == []


@pytest.mark.parametrize("row", load("preambles.json"), ids=lambda row: row["hex"])
def test_preamble(row: dict[str, Any]) -> None:
    connection = Connection.accepted()
    connection.receive_data(bytes.fromhex(row["hex"]))
    assert (connection.error and connection.error.code) == row["error"]


@pytest.mark.parametrize("row", load("chunks.json"))
def test_chunk(row: dict[str, Any]) -> None:
    codec, data = Codec(row["codec"]), bytes.fromhex(row["hex"])
    if "error" in row:
        with pytest.raises(CODES[row["error"]]):
            decompress(codec, data, row["raw_bytes"])
    else:
        assert decompress(codec, data, row["raw_bytes"]).hex() == row["raw"]
