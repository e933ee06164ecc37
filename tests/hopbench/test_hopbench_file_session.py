"""One file crosses a session whole, with TLS and without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamhop.identity import load_or_create

PROGRAM = [sys.executable, "-m", "hopbench.inside.file_session"]


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("command", ["send", "send-held"])
def test_a_file_arrives_as_it_was(tmp_path: Path, command: str, *, tls: bool) -> None:
    content = os.urandom(3_000_001)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(content)
    words: dict[str, list[str]] = {"send": [], "receive": []}
    if tls:
        certificates = {side: load_or_create(tmp_path / side).certificate for side in words}
        words["send"] = [str(tmp_path / "send"), str(certificates["receive"])]
        words["receive"] = [str(tmp_path / "receive"), str(certificates["send"])]
    with subprocess.Popen([*PROGRAM, "receive", str(target), *words["receive"]], stdout=subprocess.PIPE) as receiver:
        try:
            assert receiver.stdout is not None
            assert receiver.stdout.readline() == b"ready\n"
            sending = [*PROGRAM, command, "127.0.0.1", str(source), *words["send"]]
            said = json.loads(subprocess.run(sending, check=True, capture_output=True, timeout=30).stdout)
        finally:
            receiver.terminate()
    assert target.read_bytes() == content
    assert said["wire_bytes"] >= said["bytes"] == len(content)
    assert said["cpu_s"] > 0
    assert 0 < said["seconds"] < 30
