"""The runtime understands runc's command line, and what goes into a restore."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamhop.engine.runtime import find_runc, parse
from streamhop.engine.runtime_create import CreateError, prepared_config, read_order
from streamhop.engine.supervisor import Order, RestoreError, criu_config, restore_command

CREATE = [
    "--root",
    "/run/docker/runtime-runc/moby",
    "--log",
    "/b/log.json",
    "--log-format",
    "json",
    "--systemd-cgroup",
    "create",
    "--bundle",
    "/b",
    "--pid-file",
    "/b/init.pid",
    "--console-socket",
    "/run/pty/s",
    "--no-new-keyring",
    "abc123",
]

ORDER = Order("/images", "/work", "close", "/launchers")


def test_takes_create_apart() -> None:
    call = parse(CREATE)
    assert call.command == "create"
    assert call.id == "abc123"
    assert call.global_arguments == CREATE[:7]
    assert call.options["--bundle"] == "/b"
    assert call.options["--log"] == "/b/log.json"
    assert call.flags == {"--no-new-keyring"}


@pytest.mark.parametrize(
    ("line", "command", "identifier", "operands"),
    [
        ("start abc", "start", "abc", ["abc"]),
        ("--root=/r kill --all abc 9", "kill", "abc", ["abc", "9"]),
        ("--debug delete --force abc", "delete", "abc", ["abc"]),
        ("--version", "", "", []),
        ("create --bundle=/b --pid-file=/p abc", "create", "abc", ["abc"]),
        ("start ../etc", "start", "", ["../etc"]),
        ("start ..", "start", "", [".."]),
        ("create --bundle", "create", "", []),
        ("", "", "", []),
    ],
)
def test_takes_calls_apart(line: str, command: str, identifier: str, operands: list[str]) -> None:
    call = parse(line.split())
    assert (call.command, call.id, call.operands) == (command, identifier, operands)


def test_finds_runc_in_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMHOP_RUNC", raising=False)
    monkeypatch.setenv("PATH", f"/nowhere::{tmp_path}")
    with pytest.raises(FileNotFoundError):
        find_runc()
    (tmp_path / "runc").touch(mode=0o755)
    assert find_runc() == str(tmp_path / "runc")
    monkeypatch.setenv("STREAMHOP_RUNC", "/opt/runc")
    assert find_runc() == "/opt/runc"


def test_the_restore_takes_over_what_create_was_given() -> None:
    command = restore_command("/sbin/runc", parse(CREATE), Path("/b"), ORDER)
    assert command[: len(CREATE[:7]) + 2] == ["/sbin/runc", *CREATE[:7], "restore"]
    assert command[-3:] == ["--console-socket", "/run/pty/s", "abc123"]
    assert "--no-new-keyring" not in command
    assert "--tcp-established" not in command
    established = restore_command("runc", parse(CREATE), Path("/b"), Order("/i", "/w", "established", "/l"))
    assert "--tcp-established" in established


def test_criu_leaves_every_task_stopped() -> None:
    assert criu_config(ORDER).splitlines() == ["leave-stopped", "network-lock skip", "tcp-close"]
    assert "tcp-close" not in criu_config(Order("/i", "/w", "established", "/l"))
    with pytest.raises(RestoreError):
        criu_config(Order("/i", "/w", "x\nexec-cmd evil", "/l"))


def _config(**changes: Any) -> dict[str, Any]:
    return {"linux": {"namespaces": [{"type": "pid"}, {"type": "network"}]}, **changes}


def test_adds_the_hook_behind_others_and_takes_criu_options_away() -> None:
    before = _config(
        hooks={"createRuntime": [{"path": "/x"}], "poststop": [{"path": "/y"}]},
        annotations={"org.criu.config": "/evil", "a": "b"},
    )
    kept = json.dumps(before)
    after = prepared_config(before, ["/bin/sh", "-c", "cat", "x"])
    assert json.dumps(before) == kept
    first, ours = after["hooks"]["createRuntime"]
    assert first == {"path": "/x"}
    assert (ours["path"], ours["args"]) == ("/bin/sh", ["sh", "-c", "cat", "x"])
    assert ours["timeout"] > 0
    assert after["hooks"]["poststop"] == [{"path": "/y"}]
    assert after["annotations"] == {"org.criu.config": "", "a": "b"}


@pytest.mark.parametrize("namespaces", [[], None, [{"type": "pid"}], [{"type": "network", "path": "/proc/7/ns/net"}]])
def test_a_shared_network_cannot_be_gated(namespaces: Any) -> None:
    with pytest.raises(CreateError, match="network"):
        prepared_config({"linux": {"namespaces": namespaces}}, ["/bin/sh"])


def test_orders() -> None:
    line = b'{"restore": {"image": "/i", "work": "/w", "tcp": "close", "launchers": "/l"}}\n'
    assert read_order(line) == Order("/i", "/w", "close", "/l")
    with pytest.raises(CreateError, match="not today"):
        read_order(b'{"refuse": "not today"}\n')
    with pytest.raises(CreateError, match="went away"):
        read_order(b"")
