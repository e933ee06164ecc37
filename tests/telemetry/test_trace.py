"""The trace's file: what is in it, who may read it, and that a trace that cannot be written harms nobody."""

from __future__ import annotations

import io
import json
import logging
import math
import stat
from pathlib import Path

import pytest

from streamhop.telemetry.trace import Trace, jsonable, traced_to


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_json_object_a_line_behind_one_that_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    with traced_to(path, "edge-a") as trace:
        assert trace is not None
        trace.emit("move:phase", phase="freeze", move=b"\x01\xff", limit=math.inf)
        trace.emit("x:y", text="\x1b[2J\u2028")
        assert len(lines(path)) == 3  # each is there at once
    first, second, third = lines(path)
    assert (first["trace"], first["version"], first["host"]) == ("streamhop", 1, "edge-a")
    assert second["name"] == "move:phase"
    assert second["data"] == {"phase": "freeze", "move": {"hex": "01ff"}, "limit": "inf"}
    assert isinstance(second["time"], float)
    assert third["data"] == {"text": "\x1b[2J\u2028"}
    assert all(byte == 10 or 32 <= byte < 127 for byte in path.read_bytes())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_trace_of_the_daemon_before_is_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    for host in ("first", "second", "third"):
        with traced_to(path, host):
            pass
    assert lines(path)[0]["host"] == "third"
    assert lines(tmp_path / "trace.1")[0]["host"] == "second"
    assert len(list(tmp_path.iterdir())) == 2


def test_the_trace_of_the_daemon_before_is_shut_to_others_too(tmp_path: Path) -> None:
    """P13: it keeps the mode that it was made with."""
    path = tmp_path / "trace"
    path.touch()
    path.chmod(0o644)
    with traced_to(path, "edge-a"):
        assert stat.S_IMODE((tmp_path / "trace.1").stat().st_mode) == 0o600


def test_an_earlier_trace_that_is_a_link_leads_to_nobodys_mode(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.touch()
    theirs.chmod(0o644)
    (tmp_path / "trace").symlink_to(theirs)
    with traced_to(tmp_path / "trace", "edge-a"):
        assert stat.S_IMODE(theirs.stat().st_mode) == 0o644


def test_without_a_path_there_is_none() -> None:
    with traced_to(None, "edge-a") as trace:
        assert trace is None


def test_nobody_can_have_it_written_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "trace").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match="symbolic links"), traced_to(tmp_path / "trace", "edge-a"):
        pass


class Full(io.BytesIO):
    """A disk that is full after one line."""

    def write(self, data: object, /) -> int:
        if self.tell():
            raise OSError(28, "No space left on device")
        return super().write(data)  # type: ignore[arg-type]


def test_a_full_disk_ends_the_trace_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    trace = Trace(Full(), "edge-a")
    with caplog.at_level(logging.WARNING):
        trace.emit("a:b")
        trace.emit("a:c")
    assert [record.getMessage() for record in caplog.records] == [
        "the trace ends, it cannot be written: No space left on device"
    ]


def test_it_ends_at_its_bound(caplog: pytest.LogCaptureFixture) -> None:
    file = io.BytesIO()
    trace = Trace(file, "edge-a", bytes_max=1000)
    for number in range(100):
        trace.emit("a:b", number=number)
    assert 900 < len(file.getvalue()) <= 1000
    assert file.getvalue().endswith(b"}\n")
    assert "bound" in caplog.text


def test_what_json_does_not_have() -> None:
    assert jsonable({1: (b"\x00", [float("nan"), 1.5, None, True])}) == {"1": [{"hex": "00"}, ["nan", 1.5, None, True]]}
