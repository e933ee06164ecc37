"""``hopwire dump``: what is shown, to people and to programs, and that nothing shown steers a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from hopwire_support import MEMORY, MOVE, Wire, a_move, handshake, saved

from hopwire.cli import main
from hopwire.escaping import printable, shown_value
from streamhop_protocol.frames import encode_frame
from streamhop_protocol.messages import Abort
from streamhop_protocol.signals import Error

EVIL = "\x1b]0;owned\x07\x1b[2J\u202e\r\nnext\x9b"
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2028]")


def dump(*arguments: str) -> list[str]:
    done = CliRunner().invoke(main, ["dump", *arguments])
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


@pytest.fixture
def move(tmp_path: Path) -> str:
    return saved(tmp_path, a_move())


def test_one_line_a_frame(move: str) -> None:
    lines = dump(move)
    assert len([line for line in lines if " * " not in line]) == 40
    said = 'name="edge-a" version_min=1 version_max=1 connections=2'
    assert lines[1] == f"   0.003000 >   1   1      - HELLO             77 R  {said}"
    assert '   0.015000 >   1   2      1 OPEN              61 R  kind="layer" {digest: "sha256:aa", offset: 0}' in lines
    assert "   0.016000 >   1   3      1 DATA           20063 RM layer 1 none of 30000" in lines
    assert "   0.017000 >   1   2      1 DATA           10018 R  layer 2 fragment" in lines
    assert "   0.092000 >   1   1      - RELEASE           90 R  move=00010203 epoch=1" in lines
    assert lines[-1] == "   0.096000 * connection 3 of session 1: the acceptor closed"


def test_a_filter_shows_frames_alone(move: str) -> None:
    lines = dump(move, "-f", "type == END and kind == memory")
    assert [line.split()[3:5] for line in lines] == [["3", "3"], ["2", "7"]]


def test_the_decoded_header(move: str) -> None:
    lines = dump(move, "-v", "-f", "type == PREPARED")
    assert [line.strip() for line in lines[1:]] == [
        "header 109 bytes, payload 0 bytes",
        f"move = {MOVE.hex()}",
        "epoch = 1",
        f"image_digest = {bytes(range(32)).hex()}",
        "attributes = {restore_s: 0.1}",
    ]
    assert any("what is secret was left out" in line for line in dump(move, "-v", "-f", "type == WELCOME"))


def test_hexadecimal(tmp_path: Path, move: str) -> None:
    with_payload = saved(tmp_path, a_move(payload=True), "payload.flow")
    lines = dump(with_payload, "-x", "--hex-bytes", "40", "-f", "stream == 7 and type == DATA")
    assert [line.strip() for line in lines[1:]] == [
        f"000000  {MEMORY[:16].hex(' '):<48} {MEMORY[:16].decode()}".strip(),
        f"000010  {MEMORY[16:32].hex(' '):<48} {MEMORY[16:32].decode()}".strip(),
        f"000020  {MEMORY[32:40].hex(' '):<48} {MEMORY[32:40].decode()}".strip(),
        "... 4056 bytes more",
    ]
    (_, told) = dump(move, "-x", "-f", "stream == 7 and type == DATA")
    assert re.fullmatch(r" +payload not recorded, digest [0-9a-f]{32}", told)


def test_json(move: str) -> None:
    objects = [json.loads(line) for line in dump(move, "--format", "json")]
    frames = [each for each in objects if each["event"] == "frame"]
    assert len(frames) == 40
    (data, *_) = [each for each in frames if each["type"] == "DATA"]
    assert data.pop("digest")
    assert data == {
        "event": "frame", "at_s": 0.016, "from": "dialer", "session": 1, "connection": 3, "stream": 1, "type": "DATA",
        "size": 20063, "header": 51, "payload": 20000, "flags": ["required", "more"], "kind": "layer",
        "fields": {"seq": 1, "codec": 0, "raw_bytes": 30000, "meta": {"o": "pagemap-1", "r": [[0, 1, 0]]}},
    }  # fmt: skip
    assert objects[0]["event"] == "connection"
    assert objects[-1] == {
        "event": "end", "at_s": 0.096, "from": "acceptor", "session": 1, "connection": 3, "unread_bytes": 0,
    }  # fmt: skip


@pytest.mark.parametrize("options", [[], ["-v"], ["-x"], ["--format", "json"]])
def test_whatever_a_peer_says_nothing_steers_the_terminal(tmp_path: Path, options: list[str]) -> None:
    wire = Wire(payload=True)
    handshake(wire)
    wire.say(1, Abort(MOVE, 1, EVIL[:20], EVIL), from_dialer=True)
    wire.say(1, Error("flow", EVIL * 50), from_dialer=False)
    wire.put(2, encode_frame(0x7E, EVIL.encode(), EVIL.encode()), from_dialer=True)
    wire.put(1, encode_frame(0x22, b"\x81\xa4" + b"\x1b[2J" + b"\x01", flags=1), from_dialer=True)
    wire.connect(4)
    wire.recorder.opened(wire.now_ns, 5, (EVIL, EVIL), tls=True)
    text = "\n".join(dump(saved(tmp_path, wire), *options))
    assert "owned" in text
    assert not CONTROL.search(text)


def test_a_file_that_was_cut_off_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "cut.flow"
    path.write_bytes(a_move().finished()[:-100])
    done = CliRunner().invoke(main, ["dump", str(path)])
    assert done.exit_code == 1
    assert "STARTED" in done.stdout
    assert "cut off at byte" in done.stderr


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "it is empty"), (b"PK\x03\x04", "neither a flow file nor a trace"), (None, "No such file")],
)
def test_what_is_no_recording_is_one_line(tmp_path: Path, content: bytes | None, why: str) -> None:
    path = tmp_path / "x"
    if content is not None:
        path.write_bytes(content)
    done = CliRunner().invoke(main, ["dump", str(path)])
    assert done.exit_code == 1
    assert done.stderr == f"hopwire: {path}: {why}\n" or why in done.stderr
    assert done.stdout == ""


def test_a_filter_that_is_none_is_a_usage_error(move: str) -> None:
    done = CliRunner().invoke(main, ["dump", move, "-f", "size >"])
    assert done.exit_code == 2
    assert "a value is missing" in done.output


def test_standard_input_and_a_reader_that_has_seen_enough(move: str) -> None:
    with Path(move).open("rb") as flow:
        command = [sys.executable, "-m", "hopwire", "dump", "-"]
        done = subprocess.run(command, stdin=flow, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == dump(move)
    shell = f"{sys.executable} -m hopwire dump {move} | head -1"
    done = subprocess.run(shell, shell=True, capture_output=True, text=True, check=True)  # noqa: S602 - a pipe is the point
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


def test_following_shows_what_is_written_later(tmp_path: Path) -> None:
    data = a_move().finished()
    path = tmp_path / "growing.flow"
    path.write_bytes(data[:5])
    command = [sys.executable, "-m", "hopwire", "dump", str(path), "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None

        def grow() -> None:
            with path.open("ab") as file:
                for at in range(5, len(data), 700):
                    file.write(data[at : at + 700])
                    file.flush()
                    time.sleep(0.02)  # between two writes of the tap there is always some time

        writer = threading.Thread(target=grow)
        writer.start()
        lines = [following.stdout.readline().rstrip("\n") for _ in range(len(dump(saved(tmp_path, a_move()))))]
        writer.join()
        assert following.wait() == 0  # the file has said that it is complete
    assert lines[-1].endswith("connection 3 of session 1: the acceptor closed")


def test_escapes() -> None:
    assert printable("plain") == "plain"
    assert printable("é\x1b\u202e") == "é\\x1b\\u202e"
    assert shown_value({"a": [1, b"\xff", "x\n"]}) == '{a: [1, ff, "x\\n"]}'
    assert len(shown_value({str(n): "x" * 1000 for n in range(1000)}, 80)) == 80


def test_what_is_shown_of_a_value_takes_no_longer_than_it_is_long() -> None:
    began = time.process_time()
    for _ in range(100):
        shown_value([["x" * 100_000] * 1000] * 100, 80)
    assert time.process_time() - began < 1


def on_a_terminal(*arguments: str, pager: str = "cat") -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "PAGER": pager}
    command = [sys.executable, "-m", "hopwire", *arguments]
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.STDOUT, stdin=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:  # EIO: the other end is closed, pty(7)
            pass
        assert process.wait() == 0
    os.close(ours)
    return shown.decode()


@pytest.mark.parametrize("command", [["dump", "--no-pager"], ["show"]])
def test_on_a_terminal_there_are_colours_and_nothing_else_that_steers(tmp_path: Path, command: list[str]) -> None:
    wire = Wire()
    handshake(wire)
    wire.say(1, Abort(MOVE, 1, EVIL[:20], EVIL), from_dialer=True)
    wire.put(1, encode_frame(0x7E, b"", flags=1), from_dialer=True)
    shown = on_a_terminal(*command, saved(tmp_path, wire))
    colours = re.findall(r"\x1b\[[0-9;]*m", shown)
    assert len(colours) > 4
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown).replace("\r\n", "\n")
    assert not CONTROL.search(plain)
    assert "ABORT" in plain
    assert ("says" in plain) == (command[0] == "dump")  # the heading


def test_on_a_terminal_a_dump_is_paged(tmp_path: Path) -> None:
    (tmp_path / "pager").write_text("#!/bin/sh\nsed 's/^/paged: /'\n")
    (tmp_path / "pager").chmod(0o755)
    shown = on_a_terminal("dump", saved(tmp_path, a_move()), pager=str(tmp_path / "pager"))
    assert len(re.findall(r"^paged: .* DATA ", shown, re.MULTILINE)) == 9
