"""Kernel features are found by trying."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from streamhop.engine import kernel_probes
from streamhop.engine.kernel_probes import criu_check, kernel_findings
from streamhop.engine.nftgate import GateError


@pytest.mark.root
def test_this_kernel_has_what_the_tests_on_real_hosts_need() -> None:
    assert kernel_findings() == []


def test_each_thing_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_nftables() -> None:
        raise GateError("this kernel has no nftables for the inet family")

    def denied(*_: object) -> Any:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(kernel_probes, "check_nftables", no_nftables)
    monkeypatch.setattr(kernel_probes, "_KCMP", {kernel_probes.platform.machine(): 99999})
    monkeypatch.setattr(kernel_probes, "Path", lambda _: tmp_path / "missing")
    monkeypatch.setattr(kernel_probes.os, "scandir", denied)
    monkeypatch.setattr(kernel_probes, "_DIAG_QUESTIONS", {"TCP": kernel_probes._diag_question(b"\xfe" + bytes(55))})
    found = {finding.id: finding for finding in kernel_findings()}
    assert set(found) == {
        "kernel.checkpoint-restore",
        "kernel.children",
        "kernel.map-files",
        "kernel.nftables",
        "kernel.sock-diag",
    }
    assert all(finding.fix for finding in found.values())
    assert not found["kernel.sock-diag"].refuses
    assert found["kernel.nftables"].refuses


def program(directory: Path, text: str) -> None:
    path = directory / "criu"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


async def test_criu_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program(tmp_path, "echo Looks good.")
    assert await criu_check() == []
    program(tmp_path, "echo 'Error (criu/cr-check.c:929): TCP_REPAIR cannot be enabled'; exit 1")
    (finding,) = await criu_check()
    assert "TCP_REPAIR cannot be enabled" in finding.reason
    assert not finding.refuses
    program(tmp_path, "echo something else; exit 1")
    assert "something else" in (await criu_check())[0].reason
    program(tmp_path, "exit 1")
    assert "no reason given" in (await criu_check())[0].reason


async def test_a_criu_that_hangs_or_is_missing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await criu_check() == []
    monkeypatch.setattr(kernel_probes, "CRIU_CHECK_S_MAX", 0.2)
    program(tmp_path, "while :; do :; done")
    (finding,) = await criu_check()
    assert "no answer" in finding.reason
