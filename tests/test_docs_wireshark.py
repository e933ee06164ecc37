"""What docs/wireshark.md shows is what one sees."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.captures import Capture, TcpConnection

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "wireshark.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```console\n\$ ([^\n]+)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


@pytest.fixture(name="directory", scope="module")
def _directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where ``move.pcap`` is, a whole session in the clear, and a user's plugin folder with the dissector."""
    directory = tmp_path_factory.mktemp("docs")
    capture, connections = Capture(), dict[str, TcpConnection]()
    rows = json.loads((ROOT / "protocol" / "vectors" / "transcripts.json").read_text(encoding="utf-8"))
    for row in rows:
        if row["on"] not in connections:
            connections[row["on"]] = TcpConnection(capture, 40000 + len(connections))
        connections[row["on"]].send(row["by"], bytes.fromhex(row["hex"]))
    capture.write(directory / "move.pcap")
    return directory


def run(directory: Path, *command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    done = subprocess.run(
        command,
        cwd=directory,
        env={**environment, "HOME": str(directory), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def test_there_are_examples_of_both_ways() -> None:
    assert [command.split()[0] for command, _ in EXAMPLES] == ["tshark", "hopwire"]


@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=lambda text: text.split()[0])
def test_examples_show_what_one_sees(directory: Path, command: str, shown: str) -> None:
    (installed,) = run(directory, "hopwire", "install-dissector").splitlines()
    assert Path(installed).is_relative_to(directory)
    printed = run(directory, *shlex.split(command))
    assert printed == shown


def test_every_filter_is_one(directory: Path) -> None:
    """tshark refuses a filter with a field that there is not."""
    run(directory, "hopwire", "install-dissector")
    table = TEXT.partition("| filter | frames |\n|---|---|\n")[2].partition("\n\n")[0]
    filters = [each for row in table.splitlines() for each in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert len(filters) > 10
    together = " or ".join(f"({each.replace(':...', '')})" for each in filters)
    assert "OFFER" in run(directory, "tshark", "-r", "move.pcap", "-Y", together)
