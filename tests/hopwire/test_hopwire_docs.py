"""Every example of docs/hopwire.md, run as it is written, shows what is written there."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hopwire_support import HELLO, a_move, saved
from support.net_helpers import DEADLINE_S
from test_hopwire_attack import MOVE, listening
from test_hopwire_attack import recording as recording
from test_hopwire_tap import _free_port

from hopwire.filtering import compile_filter
from streamhop.config import Address
from streamhop.net import NetConfig, dial
from streamhop_protocol.connection import encode_body
from streamhop_protocol.fields import to_map
from streamhop_protocol.messages import Query

DOCS = Path(__file__).parents[2] / "docs" / "hopwire.md"
COMMANDS = {"tap", "dump", "show", "replay", "send"}


@dataclass(frozen=True)
class Example:
    """A command and what it prints."""

    command: str
    expected: str

    def __str__(self) -> str:
        return self.command


def blocks(language: str) -> Iterator[str]:
    yield from re.findall(rf"^```{language}\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)


def examples() -> list[Example]:
    found = []
    for block in blocks("console"):
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            found.append(Example(command, expected))
    return found


def pattern(expected: str) -> str:
    """A regular expression for what is written: ``...`` is anything within a line, or any lines where it is alone."""
    return "".join(
        r"(?:.*\n)*?" if line == "..." else r"[^\n]*".join(map(re.escape, line.split("..."))) + r"\n"
        for line in expected.splitlines()
    )


def trace() -> str:
    """The trace of the example: the beginning of a session, and a phase."""
    made = {"connection": 1, "role": "dialer", "here": "10.0.0.1:40000", "peer": "10.0.0.2:4711", "tls": True}
    header = len(encode_body(HELLO)) - 12
    frame = {"connection": 1, "type": "HELLO", "stream": 0, "header": header, "payload": 0, "flags": 1}
    events = [
        (0.004, "wire:connection_made", made),
        (0.005, "wire:frame_sent", {**frame, "fields": to_map(HELLO)}),
        (1.25, "move:phase", {"phase": "freeze"}),
    ]
    lines = [{"trace": "streamhop", "version": 1, "host": "edge-a", "began_at": "2026-01-01T00:00:00.000+00:00"}]
    lines += [{"time": at_s, "name": name, "data": data} for at_s, name, data in events]
    return "".join(json.dumps(line) + "\n" for line in lines)


async def run(command: str, directory: Path, daemon: Address, listen: int) -> str:
    """What a command prints, its errors among it, with the addresses that the document has."""
    places = {"edge-b:4711": str(daemon), "127.0.0.1:4712": f"127.0.0.1:{listen}"}
    for written, real in places.items():
        command = command.replace(written, real)
    arguments = shlex.split(command)
    assert arguments[0] == "hopwire"
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hopwire", *arguments[1:], cwd=directory, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, env={"PATH": "", "PYTHONUNBUFFERED": "1", "COLUMNS": "80"},
    )  # fmt: skip
    assert running.stdout is not None
    printed = ""
    if arguments[1] == "tap":
        printed = (await running.stdout.readline()).decode()
        async with await dial("127.0.0.1", listen, NetConfig(), name="edge-a") as session:
            await session.send(Query(MOVE))
            await session.receive()
        while printed.count("\n") < 3:
            printed += (await running.stdout.readline()).decode()
        running.send_signal(signal.SIGINT)
    printed += (await running.stdout.read()).decode()
    await running.wait()
    for written, real in places.items():
        printed = printed.replace(real, written)
    return printed.replace("python -m hopwire", "hopwire")


@pytest.mark.parametrize("example", examples(), ids=str)
async def test_an_example_shows_what_is_written(example: Example, tmp_path: Path, recording: str) -> None:
    if " tap " not in example.command:
        saved(tmp_path, a_move())
    (tmp_path / "session.flow").write_bytes(Path(recording).read_bytes())
    (tmp_path / "source.jsonl").write_text(trace())
    (tmp_path / "twice.json").write_text(next(blocks("json")))
    async with asyncio.timeout(DEADLINE_S), listening() as (_, address):
        printed = await run(example.command, tmp_path, address, _free_port())
    assert re.fullmatch(pattern(example.expected), printed), f"\n{printed}"
    if "--html" in example.command:
        assert "<svg" in (tmp_path / "move.html").read_text()
    if " -w " in example.command:
        assert (tmp_path / "move.flow").stat().st_size > 500


def test_every_command_has_an_example_and_the_check_can_fail() -> None:
    assert {example.command.split()[1] for example in examples()} == COMMANDS
    assert not re.fullmatch(pattern("a ... c\n"), "a b d\n")
    assert re.fullmatch(pattern("a ... c\n...\nz\n"), "a b c\n1\n2\nz\n")


def test_the_filters_of_the_document_are_filters() -> None:
    listed = re.search(r"^```\n(kind == .*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    assert listed is not None
    for line in listed.group(1).splitlines():
        assert compile_filter(line)
