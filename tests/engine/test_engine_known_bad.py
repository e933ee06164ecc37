"""Known bad releases: found by range, on the side where they matter, with the release that mends them."""

from __future__ import annotations

import pytest

from streamhop.engine.known_bad import KNOWN_BAD, PROGRAMS, known_bad
from streamhop.engine.versions import version_of
from streamhop.findings import Severity

GOOD = {"docker": "29.7.0", "containerd": "v2.3.5", "runc": "1.5.3", "criu": "4.2", "kernel": "6.18.1"}


def test_good_ones_have_nothing_to_say() -> None:
    assert known_bad(GOOD, side="source") == []
    assert known_bad(GOOD, side="target") == []


def ids(side: str, **versions: str) -> set[str]:
    return {finding.id for finding in known_bad(GOOD | versions, side=side)}


CRIU, MOUNTS, PROC, LEAK = (
    "version.criu.kernel-6.16",
    "version.runc.cve-2026-119101",
    "version.runc.cve-2025-31133",
    "version.runc.cve-2024-21626",
)
DOCKER, CONTAINERD = "version.docker.cve-2026-41567", "version.containerd.cve-2026-53492"


@pytest.mark.parametrize(
    ("versions", "at_source", "at_target"),
    [
        ({"criu": "4.1.1", "kernel": "6.18.1"}, {CRIU}, {CRIU}),
        ({"criu": "4.1.1-1+b2", "kernel": "6.16.0-rc1"}, set(), set()),
        ({"criu": "4.1.1", "kernel": "6.16.0"}, {CRIU}, {CRIU}),
        ({"criu": "4.1.1", "kernel": "6.15.9-amd64"}, set(), set()),
        ({"criu": "4.1.1", "kernel": ""}, set(), set()),
        ({"runc": "1.3.6+ds1"}, {MOUNTS}, {MOUNTS}),
        ({"runc": "1.3.7"}, set(), set()),
        ({"runc": "1.4.3"}, {MOUNTS}, {MOUNTS}),
        ({"runc": "1.4.4"}, set(), set()),
        ({"runc": "1.5.2"}, {MOUNTS}, {MOUNTS}),
        ({"runc": "1.6.0"}, set(), set()),
        ({"runc": "1.3.2"}, {MOUNTS}, {MOUNTS, PROC}),
        ({"runc": "1.4.0-rc.2"}, {MOUNTS}, {MOUNTS, PROC}),
        ({"runc": "1.4.0-rc.3"}, {MOUNTS}, {MOUNTS}),
        ({"runc": "1.2.8"}, set(), set()),
        ({"runc": "1.1.5+ds1-1+deb12u1"}, set(), {PROC, LEAK}),
        ({"docker": "28.5.2+dfsg4"}, set(), {DOCKER}),
        ({"docker": "29.5.1"}, set(), set()),
        ({"containerd": "2.1.8"}, set(), {CONTAINERD}),
        ({"containerd": "2.1.9"}, set(), set()),
        ({"containerd": "1.7.34"}, set(), set()),
        ({"runc": "", "criu": "who knows"}, set(), set()),
    ],
)
def test_each_range_has_its_ends(versions: dict[str, str], at_source: set[str], at_target: set[str]) -> None:
    assert ids("source", **versions) == at_source
    assert ids("target", **versions) == at_target


def test_the_fix_is_the_release_that_mends_the_line_in_use() -> None:
    (finding,) = known_bad({"runc": "1.4.3"}, side="source")
    assert "runc 1.4.3 at the source" in finding.reason
    assert "runc 1.4.4 or later" in finding.fix
    assert "distribution" in finding.fix


def test_only_what_cannot_work_refuses() -> None:
    assert {entry.id for entry in KNOWN_BAD if entry.severity is Severity.REFUSES} == {CRIU}


def test_the_table_is_well_formed() -> None:
    """Every entry has a release that mends it, and says where that is written."""
    assert len({entry.id for entry in KNOWN_BAD}) == len(KNOWN_BAD)
    for entry in KNOWN_BAD:
        assert entry.program in PROGRAMS
        assert entry.side in ("", "source", "target")
        assert entry.reference.startswith("https://")
        assert entry.ranges
        for bad in entry.ranges:
            since, fixed = version_of(bad.since), version_of(bad.fixed)
            assert since is not None
            assert fixed is not None
            assert since < fixed
