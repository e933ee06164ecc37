"""The end of a lab takes with it what is frozen, what strayed into its cgroups, and what is mounted in it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hoplab import Lab, Prepared, residue
from hoplab.cgroups import CGROUP_MOUNT, cgroup_processes, hierarchies, kill_cgroups, remove_cgroups
from hoplab.namespaces import MS_BIND, mount, mount_points, unmount_below
from hoplab.processes import ProcessId, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root]

STRAY = "hoplab.hl-stray.edge"


@pytest.fixture
def stray() -> Iterator[ProcessId]:
    """A process that is in a cgroup of a lab, and in nothing else of it."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        for root in hierarchies():
            below = root / STRAY / "below"
            below.mkdir(parents=True)
            for directory in (below.parent, below):
                for name in ("cpus", "mems"):  # version 1 lets nobody in before these are set
                    if (directory / f"cpuset.{name}").exists() and not (root / "cgroup.controllers").exists():
                        (directory / f"cpuset.{name}").write_text((root / f"cpuset.{name}").read_text())
            (below / "cgroup.procs").write_text(str(process.pid))
        yield ProcessId.of(process.pid)
        process.kill()
        if process.poll() is None and any((root / STRAY).exists() for root in hierarchies()):
            freezer(STRAY, on=False)
    remove_cgroups(STRAY)


def freezer(cgroup: str, *, on: bool) -> None:
    """Freeze a cgroup, or let it go, with the freezer this machine has."""
    first, second = CGROUP_MOUNT / "freezer" / cgroup, CGROUP_MOUNT / cgroup
    if first.is_dir():
        state = "FROZEN" if on else "THAWED"
        (first / "freezer.state").write_text(state)
        wait_for(lambda: (first / "freezer.state").read_text().strip() == state, state, 5.0)
    else:
        (second / "cgroup.freeze").write_text(f"{on:d}")
        wait_for(lambda: f"frozen {on:d}" in (second / "cgroup.events").read_text(), f"frozen {on:d}", 5.0)


def test_a_stray_process_is_found_and_killed_frozen_or_not(stray: ProcessId) -> None:
    assert f"process {stray.pid}" in residue("hl-stray")
    freezer(STRAY, on=True)
    Lab.forget("hl-stray")
    assert not stray.alive()
    assert residue("hl-stray") == []


def test_a_kernel_without_cgroup_kill(stray: ProcessId, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_text

    def refuse(path: Path, text: str) -> int:
        if path.name == "cgroup.kill":
            raise PermissionError(path)
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", refuse)
    tops = [root / STRAY for root in hierarchies()]
    assert all(cgroup_processes(top) == {stray.pid} for top in tops)
    freezer(STRAY, on=True)
    kill_cgroups(STRAY)
    wait_for(lambda: not stray.alive(), "it dies", 10.0)


def test_a_cgroup_that_is_not_there() -> None:
    kill_cgroups("hoplab.hl-none.edge")
    remove_cgroups("hoplab.hl-none.edge")


def test_a_frozen_container_dies_with_its_host(lab_prepared: Prepared) -> None:
    with Lab.up("hl-frozen", hosts=["edge"]) as lab:
        edge = lab.host("edge")
        lab.service("edge", "redis")
        edge.docker("pause", "redis")
        edge.power_off()
        assert not any("process" in line or "cgroup" in line for line in residue("hl-frozen"))
        edge.power_on()
        edge.docker("start", "redis")
        edge.docker("pause", "redis")
    assert residue("hl-frozen") == []


# Mounts


def test_what_is_mounted_in_a_lab_is_unmounted_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    monkeypatch.setenv("HOPLAB_DATA", str(tmp_path / "link"))
    monkeypatch.setenv("HOPLAB_RUN", str(tmp_path / "run"))
    outer = tmp_path / "data/hl-mounts/edge-a/a b"
    outer.mkdir(parents=True)
    try:
        mount("tmpfs", outer, "tmpfs")
        (outer / "inner").mkdir()
        mount(precious, outer / "inner", flags=MS_BIND)
        mount("tmpfs", outer, "tmpfs")  # hides both
        assert mount_points().count(outer) == 2
        assert f"mount {outer}" in residue("hl-mounts")
        with (outer / "open").open("w"):
            Lab.forget("hl-mounts")
        assert residue("hl-mounts") == []
        assert list((tmp_path / "data").iterdir()) == []
        assert (precious / "file").read_text() == "kept"
    finally:
        unmount_below(tmp_path)
