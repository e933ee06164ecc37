"""P16: what a move left behind is found, and what belongs there is not taken for it."""

from __future__ import annotations

import pytest

from faults.inventory import Inventory, parse, residue

IMAGE = "web:1"


def host(text: str = "") -> Inventory:
    """``section: line; line`` a line."""
    rows = (line.partition(": ") for line in text.splitlines() if line)
    return parse("\n".join(f"== {name}\n" + "\n".join(rest.split("; ")) for name, _, rest in rows))


BEFORE = {"a": host("containers: /counter running no\nimages: 1 web:1; 2 base:1"), "b": host("images: 2 base:1")}
MOVED = {
    "a": host("images: 1 web:1; 2 base:1"),
    "b": host("containers: /counter running no\nimages: 1 web:1; 2 base:1"),
}


def test_sections_and_lines() -> None:
    found = parse("== containers\n/counter paused always\n\n== files\n  /b\n/a\n== gates\n")
    assert found.of("files") == ("/a", "/b")
    assert found.of("gates") == found.of("nothing") == ()
    assert found.counter() == "paused"
    assert parse("== containers\n/streamhop-1 created no\n").counter() is None


def test_nothing_is_left_of_a_move_or_of_none() -> None:
    assert residue(BEFORE, BEFORE, "a", "no", IMAGE) == []
    assert residue(BEFORE, MOVED, "b", "no", IMAGE) == []


@pytest.mark.parametrize(
    ("a", "b", "holder", "found"),
    [
        ("containers: /counter paused no", "", "a", "a: container /counter paused no"),
        ("containers: /counter running always", "", "a", "a: container /counter running always"),
        ("containers: /counter running no", "containers: /streamhop-1 created no", "a", "b: container /streamhop-1"),
        ("containers: /counter running no", "containers: /counter created no", "a", "b: container /counter created"),
        ("containers: /counter running no", "images: 1 web:1; 2 base:1", "a", "b: image 1 web:1"),
        ("containers: /counter running no", "files: /var/lib/streamhop/spool/1", "a", "b: files: /var/lib/"),
        ("containers: /counter running no\nprocesses: python3 guard_process", "", "a", "a: processes: python3"),
        ("containers: /counter running no\ngates: table inet streamhop_gate", "", "a", "a: gates: table inet"),
        ("containers: /counter running no\nvolumes: v", "", "a", "a: volumes: v"),
    ],
)
def test_what_is_left_is_told(a: str, b: str, holder: str, found: str) -> None:
    images = {"a": "\nimages: 1 web:1; 2 base:1", "b": "" if "images" in b else "\nimages: 2 base:1"}
    after = {"a": host(a + images["a"]), "b": host(b + images["b"])}
    (told,) = residue(BEFORE, after, holder, "no", IMAGE)
    assert told.startswith(found)


def test_an_image_that_was_there_must_stay() -> None:
    after = {"a": host("containers: /counter running no\nimages: 2 base:1"), "b": BEFORE["b"]}
    assert residue(BEFORE, after, "a", "no", IMAGE) == ["a: image 1 web:1 is gone"]
