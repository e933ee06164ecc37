"""Every scenario has its workload, and what rivals make of it is what Docker would run."""

from __future__ import annotations

from typing import Any

import pytest

from hopbench.movers.checkpoint_rsync import bundle_spec
from hopbench.scenarios import BY_NAME, SCENARIOS, Family, Scenario
from hopbench.workloads import workload_of

SPEC: dict[str, Any] = {
    "process": {"terminal": True, "args": ["sh"], "env": [], "cwd": "/"},
    "root": {"path": "rootfs", "readonly": True},
    "linux": {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")]},
}


@pytest.mark.parametrize("scenario", [each for each in SCENARIOS if each.family is not Family.WIRE], ids=str)
def test_each_scenario_that_moves_a_container_has_one(scenario: Scenario) -> None:
    workload = workload_of(scenario)
    assert workload.port == workload.service.port
    for path in workload.service.contents():
        assert path.startswith("/")


def test_wire_has_none() -> None:
    with pytest.raises(ValueError, match="wire"):
        workload_of(BY_NAME["wire"])


def test_redis_is_filled_to_its_size_and_written_at_its_rate() -> None:
    workload = workload_of(BY_NAME["redis-write-4"])
    assert workload.records == 300_000
    assert workload.asked[-1] == f"{4e6 / 4096:.3f}"


def test_a_bundle_runs_the_service_on_the_host_s_network() -> None:
    workload = workload_of(BY_NAME["idle-64m"])
    made: Any = bundle_spec(SPEC, workload, "/lab/edge-a")
    assert made["process"]["args"] == list(workload.service.command)
    assert "COUNTER_BALLAST_MIB=64" in made["process"]["env"]
    assert made["process"]["terminal"] is made["root"]["readonly"] is False
    assert [each["type"] for each in made["linux"]["namespaces"]] == ["pid", "ipc", "uts", "mount"]
    assert made["linux"]["cgroupsPath"].startswith("/lab/edge-a/")
    assert SPEC["process"]["terminal"] is True
