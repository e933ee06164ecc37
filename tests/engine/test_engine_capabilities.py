"""Versions are compared as numbers, and what is missing is named with its fix."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from streamhop.engine.capabilities import (
    HostCapabilities,
    capabilities_from,
    has_soft_dirty,
    image_store,
    parse_version,
    problems,
    version_text,
)

GOOD = HostCapabilities(
    docker="28.5.2",
    containerd="2.1.9",
    runc="1.3.6",
    criu="4.2.1",
    kernel="6.18.1",
    architecture="x86_64",
    docker_api="1.51",
    image_store="classic",
    cgroup_version="2",
    soft_dirty=False,
)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("runc version 1.3.6+ds1\ncommit: 1.3.6", "1.3.6"),
        ("Version: 4.2\nGitID: v4.2", "4.2"),
        ("28.5.2+dfsg4", "28.5.2"),
        ("6.18.44-generic", "6.18.44"),
        ("", ""),
        ("dev", ""),
    ],
)
def test_version_text(text: str, version: str) -> None:
    assert version_text(text) == version


def test_versions_compare_as_numbers() -> None:
    assert parse_version("1.10") > parse_version("1.9.9")
    assert parse_version("") < parse_version("0.1")


def test_a_good_host_has_no_problems() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"criu": "3.15"}, "criu 3.15 is too old"),
        ({"criu": ""}, "criu is not installed"),
        ({"runc": ""}, "runc is not installed"),
        ({"runc": "1.0.3"}, "runc 1.0.3 is too old"),
        ({"docker_api": "1.40", "docker": "19.03.1"}, "Docker 19.03.1 is too old (API 1.40, 1.41 needed)"),
    ],
)
def test_each_floor(changes: dict[str, Any], reason: str) -> None:
    (problem,) = problems(replace(GOOD, **changes))
    assert problem.reason == reason
    assert problem.fix


def test_puts_together_what_engine_and_programs_say() -> None:
    version = {"Version": "28.5.2+x", "ApiVersion": "1.51", "Components": [{"Name": "containerd", "Version": "v2.1.9"}]}
    info = {
        "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
        "CgroupVersion": "2",
        "Runtimes": {"runc": {"path": "runc"}, "io.containerd.runc.v2": {}},
    }
    found = capabilities_from(version, info, "runc version 1.3.6\n", "", soft_dirty=True)
    assert (found.docker, found.containerd, found.runc, found.criu) == ("28.5.2", "2.1.9", "1.3.6", "")
    assert found.image_store == "containerd"
    assert found.runtimes == {"runc": "runc", "io.containerd.runc.v2": ""}


@pytest.mark.parametrize("info", [{}, {"DriverStatus": None}, {"DriverStatus": [["Backing Filesystem", "extfs"]]}])
def test_everything_else_is_the_classic_store(info: dict[str, Any]) -> None:
    assert image_store(info) == "classic"


def test_soft_dirty_is_a_question_this_kernel_answers() -> None:
    assert has_soft_dirty() in (True, False)
