"""The command line: what it prints, and how it says no."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hoplab import Lab, Prepared, residue
from hoplab.cli import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def run_json(*arguments: str) -> Any:
    result = run(*arguments, "--format", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def lab(lab_prepared: Prepared) -> Iterator[str]:
    """A lab made by the command line."""
    yield "hl-cli"
    Lab.forget("hl-cli")
    assert residue("hl-cli") == []


@pytest.mark.lab
@pytest.mark.root
def test_a_lab_from_the_command_line(lab: str) -> None:
    made = run_json("up", "--lab", lab, "--hosts", "", "--clients", "left,right")
    assert [host["name"] for host in made["hosts"]] == ["left", "right"]
    (status,) = run_json("status", "--lab", lab)
    assert status == made
    assert "left" in run("status").stdout

    cut = run_json("link", "left", "right", "--lab", lab, "--down")
    assert cut["up"] is False
    assert run_json("link", "left", "right", "--lab", lab, "--up", "--rtt", "20ms")["backend"] in ("relay", "netem")
    changed = run_json("link", "left", "right", "--lab", lab, "--rtt", "none", "--rate", "50mbit")
    assert changed["rtt_s"] is None
    assert changed["measured"]["bit_per_s"] == pytest.approx(50e6, rel=0.1)

    run_json("power-off", "left", "--lab", lab)
    assert [host["powered"] for host in run_json("status", "--lab", lab)[0]["hosts"]] == [False, True]
    refused = run("exec", "--lab", lab, "left", "--", "true")
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    run_json("power-on", "left", "--lab", lab)

    assert run_json("down", "--lab", lab) == {"removed": [lab], "left": {lab: []}}
    assert run("status", "--lab", lab).exit_code == 1


@pytest.mark.lab
@pytest.mark.root
def test_exec_ends_as_the_command_does(lab: str) -> None:
    run_json("up", "--lab", lab, "--hosts", "", "--clients", "one")
    command = [
        sys.executable,
        "-m",
        "hoplab.cli",
        "exec",
        "--lab",
        lab,
        "one",
        "--",
        "sh",
        "-c",
        'echo "$0"; exit 5',
        "-x",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (5, "-x\n")
    shown = run("exec", "--format", "json", "--lab", lab, "one", "--", "sh", "-c", "echo out; echo err >&2; exit 6")
    assert shown.exit_code == 6
    assert json.loads(shown.stdout) == {"exit_code": 6, "stdout": "out\n", "stderr": "err\n"}
    missing = run("exec", "--lab", lab, "one", "--", "no-such-program")
    assert missing.exit_code == 1
    assert "one has no program no-such-program" in missing.stderr


@pytest.mark.lab
@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("output_format", ["text", "json"])
def test_exec_that_is_ended_ends_the_command(lab: str, output_format: str, number: signal.Signals) -> None:
    host = Lab.up(lab, hosts=[], clients=["one"]).host("one")
    command = [sys.executable, "-m", "hoplab.cli", "exec", "--lab", lab, "--format", output_format, "one", "--"]
    command += ["sh", "-c", "echo begun; sleep 12345; true"]

    def sleeps() -> bool:
        return "sleep 12345" in host.exec(["ps", "-eo", "args="]).stdout.splitlines()

    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        Lab.wait_for(sleeps, "the command runs", 10.0)
        process.send_signal(number)
        out, _ = process.communicate(timeout=10)
    assert process.returncode == 128 + number
    Lab.wait_for(lambda: not sleeps(), "the command has ended", 10.0)
    if output_format == "json":
        assert json.loads(out) == {"exit_code": 128 + number, "stdout": "begun\n", "stderr": ""}
    else:
        assert out == b"begun\n"


@pytest.mark.root
def test_down_removes_what_a_crash_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOPLAB_DATA", str(tmp_path))
    (tmp_path / "hl-no/edge-a/upper").mkdir(parents=True)
    result = run("down", "--lab", "hl-no")
    assert (result.exit_code, result.stdout) == (0, "removed hl-no\n")
    assert list(tmp_path.iterdir()) == []
    assert run("down", "--lab", "hl-no").exit_code == 1


@pytest.mark.root
def test_down_of_all_labs_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoplab.cli.labs_with_residue", list)
    assert run_json("down", "--all") == {"removed": [], "left": {}}
    result = run("down", "--all")
    assert (result.exit_code, result.stdout) == (0, "no lab is up\n")


@pytest.mark.root
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", "--lab", "Bad.Name"], "cannot name a lab"),
        (["up", "--lab", "hl-no", "--rate", "fast"], "not a rate"),
        (["up", "--lab", "hl-no", "--hosts", "a/b"], "cannot name a host"),
        (["status", "--lab", "hl-no"], "there is no lab 'hl-no'"),
        (["exec", "--lab", "hl-no", "a", "true"], "there is no lab 'hl-no'"),
        (["link", "--lab", "hl-no", "a", "b"], "there is no lab 'hl-no'"),
        (["down", "--lab", "../x"], "cannot name a lab"),
        (["down", "--lab", "hl-no"], "there is no lab 'hl-no'"),
        (["down", "--lab", "hl-no", "--format", "json"], "there is no lab 'hl-no'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    result = run("status")
    assert result.exit_code == 1
    assert result.stderr == "Error: the lab needs root: run it with sudo\n"


@pytest.mark.root
def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("HOPLAB_CACHE", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda _name: None)
    result = run("prepare")
    assert result.exit_code == 1
    assert "not installed: debootstrap" in result.stderr
