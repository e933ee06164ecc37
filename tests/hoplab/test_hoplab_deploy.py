"""A checkout's packages get into a host, and its commands run there."""

from __future__ import annotations

from pathlib import Path

import pytest

from hoplab import Lab, LabError
from hoplab.deploy import deploy

pytestmark = [pytest.mark.lab, pytest.mark.root]

PROGRAM = (
    "import lz4, sys, streamhop_protocol\n\n\ndef main() -> int:\n    print({name!r}, *sys.argv[1:])\n    return 7\n"
)
WHERE = "['/opt/streamhop/streamhop']\n"


def _checkout(top: Path) -> Path:
    for folder in ("streamhop/engine", "streamhop", "protocol/streamhop_protocol"):
        (top / folder).mkdir(parents=True, exist_ok=True)
        (top / folder / "__init__.py").touch()
    (top / "streamhop/cli.py").write_text(PROGRAM.format(name="cli"))
    (top / "streamhop/engine/runtime.py").write_text(PROGRAM.format(name="runtime"))
    return top


def test_commands_of_a_checkout_run_in_a_host(
    two_clients: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOPLAB_CHECKOUT", str(_checkout(tmp_path)))
    host = two_clients.host("left")
    deploy(host)
    for command, name in (("streamhop", "cli"), ("streamhop-runtime", "runtime")):
        ended = host.exec([command, "a", "b c"], check=False)
        assert (ended.returncode, ended.stdout) == (7, f"{name} a b c\n")
    assert host.exec(["python3", "-c", "import streamhop; print(streamhop.__file__)"]).stdout.startswith(
        "/opt/streamhop/"
    )


def test_deploying_again_leaves_nothing_of_the_former(
    two_clients: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOPLAB_CHECKOUT", str(_checkout(tmp_path)))
    (tmp_path / "streamhop/old.py").touch()
    host = two_clients.host("left")
    deploy(host)
    (tmp_path / "streamhop/old.py").unlink()
    deploy(host)
    assert host.exec("find /opt/streamhop -name 'old*'").stdout == ""


def test_what_is_no_checkout(two_clients: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOPLAB_CHECKOUT", str(tmp_path))
    with pytest.raises(LabError, match="is no checkout of streamhop"):
        deploy(two_clients.host("left"))
