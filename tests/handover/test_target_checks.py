"""What the target checks about a container before it takes anything."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from hopsim.content import manifest
from streamhop.engine.capabilities import HostCapabilities
from streamhop.handover import target_checks
from streamhop.handover.manifest import Manifest
from streamhop.handover.target_checks import _check_kernel, _check_processor

OFFERED = manifest("web", None, {"Name": "no"})


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(machine="x86_64"))
    monkeypatch.setattr("os.sysconf", lambda _: 4096)
    monkeypatch.setattr(target_checks, "own_features", lambda: ("fpu", "sse2", "avx", "avx2"))


def of(**more: Any) -> Manifest:
    return replace(OFFERED, architecture="x86_64", page_size=4096, **more)


@pytest.mark.usefixtures("here")
def test_a_processor_that_has_all_is_no_finding() -> None:
    assert list(_check_processor(of(cpu=("fpu", "sse2", "avx", "smep")))) == []
    assert list(_check_processor(of(cpu=()))) == [], "a source that does not tell"


@pytest.mark.usefixtures("here")
def test_missing_instructions_are_named_a_few_of_them() -> None:
    (finding,) = _check_processor(of(cpu=("avx", "avx512f", "vaes")))
    assert (finding.id, finding.refuses) == ("target.cpu", True)
    assert "avx512f, vaes, which the source's has" in finding.reason
    many = ("avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl", "vaes", "gfni", "sha_ni", "rdseed", "adx")
    (finding,) = _check_processor(of(cpu=("avx", *many)))
    assert "sha_ni and 2 more" in finding.reason


@pytest.mark.usefixtures("here")
def test_more_registers_are_only_warned_of() -> None:
    (finding,) = _check_processor(of(cpu=("fpu", "sse2")))
    assert (finding.id, finding.refuses) == ("target.cpu-state", False)
    assert "(avx)" in finding.reason


@pytest.mark.usefixtures("here")
def test_of_another_architecture_nothing_else_is_said() -> None:
    (finding,) = _check_processor(replace(of(cpu=("sve",)), architecture="aarch64", page_size=65536))
    assert finding.id == "target.architecture"


@pytest.mark.usefixtures("here")
def test_pages_of_another_size() -> None:
    (finding,) = _check_processor(replace(of(), page_size=16384))
    assert (finding.id, finding.refuses) == ("target.page-size", True)


@pytest.mark.parametrize(
    ("theirs", "own", "older"),
    [
        ("6.18.1", "6.18.0", False),
        ("6.18", "6.17.9", True),
        ("5.10", "6.1", False),
        ("", "6.1", False),
        ("6.1", "", False),
        ("6.1\x1b[2J", "5.4", True),
    ],
)
def test_an_older_kernel_is_warned_of(theirs: str, own: str, older: bool) -> None:
    capabilities: Any = SimpleNamespace(kernel=own)
    here: HostCapabilities = capabilities
    found = list(_check_kernel(of(versions={"kernel": theirs}), here))
    assert [finding.id for finding in found] == (["kernel.older"] if older else [])
    assert all(finding.reason.isprintable() and not finding.refuses for finding in found)
