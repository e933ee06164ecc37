"""A real move, captured on the link between two hosts: both decoders read the same of it, frame by frame."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.lab_captures import captured
from support.lab_fixtures import LabFactory
from support.tshark import Shown, dissect, value_like

from hoplab.edge import EdgeDaemon, pair
from hoplab.processes import wait_for
from hopwire.cli import main

pytestmark = [pytest.mark.lab, pytest.mark.root]

KEYLOG = "/run/keys"
PROGRAM = (
    "import os, time\n"
    "memory = [os.urandom(1 << 20) for _ in range(4)] + [b'compressible ' * 100_000]\n"
    "print('ready', flush=True)\n"
    "while True: time.sleep(0.1)\n"
)
Key = tuple[int, str]
"""A direction of a connection: the dialer's port, and who sends."""


@pytest.fixture(scope="module")
def edges(make_lab: LabFactory) -> Iterator[tuple[EdgeDaemon, EdgeDaemon]]:
    """Two hosts that are paired; the source writes its sessions' secrets."""
    lab = make_lab(f"captures-{os.getpid()}", hosts=["edge-a", "edge-b"], clients=[], image_store="classic")
    with (
        EdgeDaemon(lab.host("edge-a"), ["edge-b"], {"lab_keylog": f'"{KEYLOG}"'}) as a,
        EdgeDaemon(lab.host("edge-b"), ["edge-a"]) as b,
    ):
        pair(a, b)
        yield a, b


def read(path: Path, keylog: Path) -> tuple[list[dict[str, Any]], str]:
    """What ``hopwire read-pcap`` tells, and what it says about the capture."""
    result = CliRunner().invoke(main, ["read-pcap", str(path), "--keylog", str(keylog), "--format", "json"])
    return [json.loads(line) for line in result.stdout.splitlines()], result.stderr


def has_bye(path: Path, keylog: Path) -> bool:
    """Whether the end is captured; the last packet may not be written whole."""
    events, _ = read(path, keylog)
    return any(each.get("type") == "BYE" for each in events)


def of_hopwire(events: list[dict[str, Any]]) -> dict[Key, list[dict[str, Any]]]:
    """Its frames by direction."""
    ports = {each["connection"]: int(each["dialer"].rpartition(":")[2]) for each in events if "dialer" in each}
    found = defaultdict(list)
    for event in events:
        assert event["event"] != "violation", event
        if event["event"] == "frame":
            found[ports[event["connection"]], event["from"]].append(event)
    return found


def of_dissector(shown: list[Shown]) -> dict[Key, list[Shown]]:
    """Its frames by direction."""
    found = defaultdict(list)
    for each in shown:
        assert "violation" not in each.fields, each
        if each.name is not None:
            found[each.dialer_port, str(each.fields["by"])].append(each)
    return found


def check_same(event: dict[str, Any], shown: Shown) -> None:
    """Type, stream, lengths, flags and every field."""
    flags = [name for name in ("required", "more") if shown.fields[f"flags.{name}"] == "1"]
    lengths = int(shown.fields["header_len"]), int(shown.fields["payload_len"])
    assert (event["type"], event["stream"]) == (shown.name, int(shown.fields["stream"]))
    assert ((event["header"], event["payload"]), event["flags"]) == (lengths, flags)
    for name, value in event["fields"].items():
        text = shown.fields.get(name)
        if text is None:
            assert value in ({}, None), f"{event['type']} lacks {name}"
        elif not text.endswith(" (cut)"):
            assert value_like(value, text) == value, f"{name} of {event['type']}"


def test_a_real_move_is_the_same_to_both_decoders(edges: tuple[EdgeDaemon, EdgeDaemon], tmp_path: Path) -> None:
    a, b = edges
    image = a.host.load("python")
    path, keylog = tmp_path / "move.pcapng", tmp_path / "keys"
    a.host.docker("run", "--detach", "--name", "seen", "--entrypoint", "python3", image, "-c", PROGRAM)
    wait_for(lambda: "ready" in a.host.docker("logs", "seen"), "the service is there", 30.0)
    with captured(a.host, b.host, path):
        moved = a.migrate("seen", "edge-b")
        assert moved.exit_code == 0, moved.remarks
        keylog.write_bytes(a.host.read(KEYLOG))
        wait_for(lambda: has_bye(path, keylog), "all is captured", 30.0)
    assert "LAB ONLY" in a.log()
    assert KEYLOG not in b.log()
    events, remarks = read(path, keylog)
    assert remarks == ""
    by_hopwire = of_hopwire(events)
    by_dissector = of_dissector(dissect(path, tmp_path, "-o", f"tls.keylog_file:{keylog}"))
    assert {key: len(frames) for key, frames in by_dissector.items()} == {
        key: len(frames) for key, frames in by_hopwire.items()
    }
    for key, frames in by_hopwire.items():
        for event, shown in zip(frames, by_dissector[key], strict=True):
            check_same(event, shown)
    said = {event["type"] for frames in by_hopwire.values() for event in frames}
    assert said >= {
        *("HELLO", "WELCOME", "JOIN", "JOINED", "OPEN", "DATA", "END", "DONE", "OFFER", "ACCEPT", "READY"),
        *("PREPARE", "PREPARED", "RELEASE", "STARTED", "FINISH", "BYE"),
    }
    sent = sum(event["payload"] for frames in by_hopwire.values() for event in frames if event["type"] == "DATA")
    assert sent > 4 << 20  # what does not compress
