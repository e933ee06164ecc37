"""The language of filters: what it chooses, and how it says what it does not understand."""

from __future__ import annotations

import contextlib

import pytest
from hopwire_support import a_move, seen
from hypothesis import given
from hypothesis import strategies as st

from hopwire.errors import FilterError
from hopwire.events import FrameSeen
from hopwire.filtering import compile_filter
from hopwire.filtering.fields import FIELDS, Kind, read_value
from hopwire.roster import Roster

EVENTS = [event for event in seen(a_move().finished()) if isinstance(event, FrameSeen)]


def chosen(source: str) -> list[FrameSeen]:
    wanted, roster, found = compile_filter(source), Roster(), []
    for event in EVENTS:
        roster.take(event)
        if wanted.passes(event, roster):
            found.append(event)
    return found


def test_the_example_of_the_help() -> None:
    found = chosen("type == PAGES and stream == 3 and size > 10k")
    assert [(event.prefix.stream, event.prefix.wire_bytes > 10_000) for event in found] == [(3, True), (3, True)]
    assert all(event.type_name == "DATA" for event in found)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("type == HELLO", 1),
        ("type in (JOIN, joined)", 4),
        ("not type in (JOIN, joined)", len(EVENTS) - 4),
        ("type != HELLO", len(EVENTS) - 1),
        ("type == 0x20", 1),
        ("type == 0x7e", 0),
        ("kind == layer and type == DATA", 2),
        ("type == PAGES", 6),
        ("from == acceptor and type == DONE", 5),
        ("session == 1", len(EVENTS)),
        ("connection == 3 or connection == 2", len(EVENTS) - 17),
        ("time >= 80ms and time < 0.0885", 3),
        ("move ~ 0001", 10),
        ('move == "000102030405060708090a0b0c0d0e0f"', 10),
        ("codec == zstd", 1),
        ("raw == 48000", 1),
        ("seq == 2 and kind == memory", 2),
        ("epoch == 1", 9),
        ("more", 3),
        ("more == true", 3),
        ("more and required", 3),
        ("broken", 0),
        ("stream", 24),
        ("(stream == 1 or stream == 3) and type == END", 2),
        ("stream == 1 or stream == 3 and type == END", 6),
        ("not not more", 3),
        ("size > 20Ki and size <= 1Mi", 0),
        ("payload == 8k", 1),
        ("code == nothing", 0),
    ],
)
def test_what_a_filter_chooses(source: str, count: int) -> None:
    assert len(chosen(source)) == count


@pytest.mark.parametrize(
    ("source", "why", "at"),
    [
        ("", "a field is missing", 0),
        ("size >", "a value is missing", 6),
        ("size > k", "'k' is not a number, such as 64k or 1Mi", 7),
        ("colour == red", "'colour' is no field; known are type, stream", 0),
        ("type == PAGE", "'PAGE' is no type of frames; known are HELLO", 8),
        ("type > DATA", "> is for numbers", 5),
        ("stream ~ 3", "~ is for words", 7),
        ("(size > 3", "')' is missing", 9),
        ("size > 3 stream == 1", "'stream' is too much", 9),
        ("and", "'and' is no field", 0),
        ("size = 3", "'=' means nothing here", 5),
        ('code == "flow', "a text that does not end", 8),
        ("type in DATA", "'(' is missing", 8),
        ("more == yes", "'yes' is not true or false", 8),
        ("time > soon", "'soon' is not a time", 7),
        ("not " * 60 + "more", "nested deeper than 50", 204),
        ("(" * 60, "nested deeper than 50", 51),
    ],
)
def test_what_it_does_not_understand_it_shows(source: str, why: str, at: int) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(source)
    told, shown, mark = str(caught.value).split("\n")
    assert told.startswith(why)
    assert shown == f"  {source}"
    assert mark == " " * (2 + at) + "^"


def test_a_filter_is_bounded() -> None:
    with pytest.raises(FilterError, match="4096"):
        compile_filter("more or " * 1000 + "more")


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Kind.NUMBER, "64k", 64_000),
        (Kind.NUMBER, "64Ki", 65_536),
        (Kind.NUMBER, "1.5MiB", 1_572_864),
        (Kind.NUMBER, "7", 7),
        (Kind.SECONDS, "20ms", 0.02),
        (Kind.SECONDS, "2m", 120),
        (Kind.TRUTH, "false", False),
    ],
)
def test_values(kind: Kind, text: str, value: object) -> None:
    assert read_value(kind, text) == value


@given(st.text(alphabet="type size==><!~()and or not in,\"'k36Mi more\\", max_size=60))
def test_any_text_is_a_filter_or_an_error_of_its_own(source: str) -> None:
    with contextlib.suppress(FilterError):
        chosen(source)


def test_every_field_has_an_answer_for_every_frame() -> None:
    for name in FIELDS:
        chosen(name)
